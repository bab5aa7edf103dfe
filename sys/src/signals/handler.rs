//! The signal handler and the memory it may touch.
//!
//! A handler interrupts its thread anywhere, even inside the allocator or while it holds a lock, so
//! it may use neither. It reads a fixed table of atomics, one slot for each receiver, and writes a
//! record of fixed size into the pipe of every receiver that wants the signal. It uses only
//! `write`, `getpid` and atomics, and restores `errno` before it returns.
//!
//! Two hazards:
//! - A receiver that is dropped must not close its pipe while a handler on another thread is about
//!   to write into it: by then the number could belong to another file. The handler counts itself
//!   in the slot (`running`) before it reads the slot's mask a second time; the receiver clears the
//!   mask, then waits until the count is zero. All of it is `SeqCst`, so one of the two sees the
//!   other.
//! - A child made by `fork` inherits handler and pipe. It must not write into its parent's pipe, so
//!   the slot has the process id of its owner.

use super::Signal;
use crate::fd::write;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};

/// The greatest number of receivers at a time.
pub(super) const SLOTS_LEN: usize = 64;

static SLOTS: [Slot; SLOTS_LEN] = [const { Slot::new() }; SLOTS_LEN];

/// One receiver, as the handler sees it.
#[derive(Debug)]
struct Slot {
    /// The signals it wants, one bit each.
    mask: AtomicU64,
    /// Signals whose record did not fit into the pipe.
    missed: AtomicU64,
    /// The pipe's writing end; -1 when the slot is free.
    pipe: AtomicI32,
    /// The process that the receiver belongs to.
    process: AtomicU32,
    /// The number of handlers that are using this slot.
    running: AtomicUsize,
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            mask: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            pipe: AtomicI32::new(-1),
            process: AtomicU32::new(0),
            running: AtomicUsize::new(0),
        }
    }

    /// Runs in the handler.
    fn deliver(&self, signal: Signal, record: &[u8; RECORD_LEN]) {
        if self.mask.load(SeqCst) & signal.bit() == 0 {
            return;
        }
        self.running.fetch_add(1, SeqCst);
        if self.mask.load(SeqCst) & signal.bit() != 0
            && self.process.load(SeqCst) == std::process::id()
        {
            self.write(signal, record);
        }
        self.running.fetch_sub(1, SeqCst);
    }

    fn write(&self, signal: Signal, record: &[u8; RECORD_LEN]) {
        // SAFETY: the receiver keeps its pipe open while its mask has bits and a handler is
        // counted in `running`.
        let pipe = unsafe { BorrowedFd::borrow_raw(self.pipe.load(SeqCst)) };
        if write(pipe, record).is_err() {
            // The pipe is full: mark the signal as missed. The reader may have emptied the pipe and
            // looked at `missed` just before, so write a record that makes it look again. If that
            // does not fit either, the pipe is not empty, and the reader will come back.
            self.missed.fetch_or(signal.bit(), SeqCst);
            let _ = write(pipe, &[0; RECORD_LEN]);
        }
    }
}

/// A slot that a receiver owns. Dropping it frees the slot, once no handler uses its pipe.
#[derive(Debug)]
pub(super) struct SlotGuard {
    slot: &'static Slot,
}

impl SlotGuard {
    /// Takes a slot; `None` if all are taken. The caller holds the registry's lock, so that no two
    /// calls meet.
    pub(super) fn new(pipe: BorrowedFd<'_>, signals: &[Signal]) -> Option<SlotGuard> {
        let slot = SLOTS.iter().find(|slot| slot.pipe.load(SeqCst) == -1)?;
        slot.missed.store(0, SeqCst);
        slot.process.store(std::process::id(), SeqCst);
        slot.pipe.store(pipe.as_raw_fd(), SeqCst);
        slot.mask.store(signals.iter().fold(0, |mask, signal| mask | signal.bit()), SeqCst);
        Some(SlotGuard { slot })
    }

    /// Takes one of the signals that did not fit into the pipe.
    pub(super) fn take_missed(&self) -> Option<Signal> {
        let missed = self.slot.missed.load(SeqCst);
        let signal =
            Signal::from_number(missed.trailing_zeros() as i32 + 1).filter(|_| missed != 0)?;
        // Another reader may have taken it first; then there is none for this one.
        let before = self.slot.missed.fetch_and(!signal.bit(), SeqCst);
        (before & signal.bit() != 0).then_some(signal)
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.slot.mask.store(0, SeqCst);
        if self.slot.process.load(SeqCst) == std::process::id() {
            while self.slot.running.load(SeqCst) != 0 {
                std::thread::yield_now();
            }
        } else {
            // A forked child has none of its parent's other threads, so a handler that was counted
            // will never finish here.
            self.slot.running.store(0, SeqCst);
        }
        self.slot.pipe.store(-1, SeqCst);
    }
}

/// The size of a record: number, which fields are known, process, user, four bytes each. The
/// number 0 means only that `missed` has signals.
pub(super) const RECORD_LEN: usize = 16;

/// POSIX promises that writes of up to 512 bytes to a pipe are atomic.
const _: () = assert!(RECORD_LEN <= 512);

pub(super) fn encode(number: u32, sender: Sender) -> [u8; RECORD_LEN] {
    let known = u32::from(sender.pid.is_some()) | u32::from(sender.uid.is_some()) << 1;
    let words = [number, known, sender.pid.unwrap_or(0), sender.uid.unwrap_or(0)];
    let mut record = [0; RECORD_LEN];
    for (field, word) in record.chunks_exact_mut(4).zip(words) {
        field.copy_from_slice(&word.to_ne_bytes());
    }
    record
}

/// The number and the sender of a record.
pub(super) fn decode(record: &[u8; RECORD_LEN]) -> (u32, Sender) {
    let word =
        |index: usize| u32::from_ne_bytes(std::array::from_fn(|byte| record[index * 4 + byte]));
    let (pid, uid) =
        (Some(word(2)).filter(|_| word(1) & 1 != 0), Some(word(3)).filter(|_| word(1) & 2 != 0));
    (word(0), Sender { pid, uid })
}

/// The sender of a signal, as far as the kernel reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sender {
    pub(super) pid: Option<u32>,
    pub(super) uid: Option<u32>,
}

/// The handler that is installed with `sigaction`.
pub(super) extern "C" fn handle_signal(
    number: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    let errno = errno_location();
    // SAFETY: the C library's location for this thread's errno is valid for as long as the thread
    // is.
    let saved = unsafe { *errno };
    // SAFETY: with SA_SIGINFO the kernel passes a siginfo that lives until the handler returns.
    let info = unsafe { info.as_ref() };
    if let Some(signal) = Signal::from_number(number) {
        let record =
            encode(number as u32, info.map_or_else(Sender::default, |info| sender(signal, info)));
        for slot in &SLOTS {
            slot.deliver(signal, &record);
        }
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
}

fn sender(signal: Signal, info: &libc::siginfo_t) -> Sender {
    if !has_sender(signal, info.si_code) {
        return Sender::default();
    }
    // SAFETY: the signal's code says that this member was filled in; any bits are a valid number.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let uid = unsafe { info.si_uid() };
    // Process 0 is the kernel, or on Linux a process outside of this one's namespace.
    let pid = u32::try_from(pid).ok().filter(|pid| *pid != 0);
    let uid_known = pid.is_some() || cfg!(any(target_os = "linux", target_os = "android"));
    Sender { pid, uid: uid_known.then_some(uid) }
}

/// Whether process and user are filled in. On Linux, NetBSD and OpenBSD they share memory with the
/// fields of other codes.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn has_sender(signal: Signal, code: libc::c_int) -> bool {
    const MESSAGE_QUEUE: libc::c_int = -3; // SI_MESGQ
    let sent = matches!(code, libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL | MESSAGE_QUEUE);
    sent || (signal == Signal::CHLD && code > 0)
}

#[cfg(any(target_os = "netbsd", target_os = "openbsd"))]
fn has_sender(signal: Signal, code: libc::c_int) -> bool {
    const USER: libc::c_int = 0; // SI_USER on both
    #[cfg(target_os = "netbsd")]
    const OTHERS: [libc::c_int; 2] = [-1, -5]; // SI_QUEUE, SI_LWP
    #[cfg(target_os = "openbsd")]
    const OTHERS: [libc::c_int; 2] = [-2, -1]; // SI_QUEUE, SI_LWP
    code == USER || OTHERS.contains(&code) || (signal == Signal::CHLD && code > 0)
}

/// On other systems the two fields are zero unless filled in.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
fn has_sender(_signal: Signal, _code: libc::c_int) -> bool {
    true
}

fn errno_location() -> *mut libc::c_int {
    cfg_select! {
        any(target_vendor = "apple", target_os = "freebsd") => { use libc::__error as location; }
        any(target_os = "netbsd", target_os = "openbsd", target_os = "android") => {
            use libc::__errno as location;
        }
        _ => { use libc::__errno_location as location; }
    }
    // SAFETY: takes nothing and gives the address of this thread's errno.
    unsafe { location() }
}

/// Reads one record; `None` if the pipe is empty.
pub(super) fn read_record(pipe: BorrowedFd<'_>) -> io::Result<Option<[u8; RECORD_LEN]>> {
    let mut record = [0; RECORD_LEN];
    match crate::fd::retry(|| crate::fd::read(pipe, &mut record)) {
        Ok(len) => {
            assert_eq!(len, RECORD_LEN, "records are written and read whole");
            Ok(Some(record))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
