//! The epoll backend (Linux, Android). `mod.rs` lists what is promised here.
//!
//! Waits go through `epoll_pwait2` (Linux 5.11), which takes nanoseconds. Where it is missing (`ENOSYS`) or a sandbox
//! refuses it (`EPERM`) the selector notes that once and uses `epoll_wait`, with milliseconds rounded **up** and, since its
//! timeout is an `int`, in pieces of at most 24 days.

use super::Event;
use crate::fd::check;
use crate::{Interest, Readiness, Trigger};
use libc::{EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLPRI, EPOLLRDHUP};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Selector {
    epoll: OwnedFd,
    /// Set for good when `epoll_pwait2` turns out to be missing or refused. Relaxed everywhere: it guards no other memory.
    millis_only: AtomicBool,
}

impl Selector {
    pub(crate) fn new() -> io::Result<Selector> {
        // SAFETY: no pointers; the answer is a new descriptor or -1.
        let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `raw` was just opened and nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Selector { epoll, millis_only: AtomicBool::new(false) })
    }

    pub(crate) fn add(&self, source: BorrowedFd<'_>, key: u64, want: Interest, trigger: Trigger) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, source.as_raw_fd(), key, flags(want, trigger)).map_err(name_the_limit)
    }

    pub(crate) fn modify(&self, source: RawFd, key: u64, want: Interest, trigger: Trigger) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, source, key, flags(want, trigger))
    }

    pub(crate) fn remove(&self, source: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, source, 0, 0)
    }

    fn control(&self, operation: libc::c_int, source: RawFd, key: u64, flags: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: flags, u64: key };
        let epoll = self.epoll.as_raw_fd();
        // SAFETY: the kernel copies `event` before it returns, and changes nothing but the list of our own epoll instance; of
        // a number that is not open it says so.
        check(unsafe { libc::epoll_ctl(epoll, operation, source, &mut event) }).map(drop)
    }

    pub(crate) fn wait(&self, buffer: &mut Buffer, timeout: Option<Duration>) -> io::Result<()> {
        buffer.clear();
        if !self.millis_only.load(Ordering::Relaxed) {
            match self.wait_nanos(buffer, timeout) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.millis_only.store(true, Ordering::Relaxed);
                }
                answer => return answer,
            }
        }
        self.wait_millis(buffer, timeout)
    }

    /// One `epoll_pwait2`, which the C library may be too old to know: hence through `syscall`.
    fn wait_nanos(&self, buffer: &mut Buffer, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(KernelTimespec::from);
        let timeout_pointer = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let (epoll, events, capacity) = (self.epoll.as_raw_fd(), buffer.events.as_mut_ptr(), buffer.capacity_int());
        let (no_mask, mask_bytes) = (std::ptr::null::<libc::sigset_t>(), 0_usize);
        let number = libc::SYS_epoll_pwait2;
        // SAFETY: `events` points to `capacity` writable events, the timespec outlives the call and has the kernel's 64-bit
        // layout, and without a mask its size is not looked at.
        let n = unsafe { libc::syscall(number, epoll, events, capacity, timeout_pointer, no_mask, mask_bytes) };
        buffer.filled(if n == -1 { Err(io::Error::last_os_error()) } else { Ok(n as usize) })
    }

    /// `epoll_wait`, as often as it takes for the whole timeout to pass.
    fn wait_millis(&self, buffer: &mut Buffer, timeout: Option<Duration>) -> io::Result<()> {
        let mut left = timeout.map(millis_rounded_up);
        loop {
            let piece = left.map_or(-1, |left| libc::c_int::try_from(left).unwrap_or(libc::c_int::MAX));
            let (epoll, events, capacity) = (self.epoll.as_raw_fd(), buffer.events.as_mut_ptr(), buffer.capacity_int());
            // SAFETY: `events` points to `capacity` writable events, and the descriptor is ours.
            buffer.filled(check(unsafe { libc::epoll_wait(epoll, events, capacity, piece) }).map(|n| n as usize))?;
            left = left.map(|left| left.saturating_sub(piece as u128));
            if buffer.len() > 0 || left == Some(0) {
                return Ok(());
            }
        }
    }
}

impl AsFd for Selector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn flags(want: Interest, trigger: Trigger) -> u32 {
    let interests =
        [(Interest::READABLE, EPOLLIN | EPOLLRDHUP), (Interest::WRITABLE, EPOLLOUT), (Interest::PRIORITY, EPOLLPRI)];
    let trigger = match trigger {
        Trigger::Level => 0,
        Trigger::Edge => EPOLLET,
        Trigger::Oneshot => EPOLLONESHOT,
    };
    interests.iter().filter(|(interest, _)| want.contains(*interest)).fold(trigger, |all, (_, bit)| all | bit) as u32
}

fn readiness(flags: u32) -> Readiness {
    let has = |bits: libc::c_int| flags & bits as u32 != 0;
    Readiness::when(has(EPOLLIN), Readiness::READABLE)
        | Readiness::when(has(EPOLLOUT), Readiness::WRITABLE)
        | Readiness::when(has(EPOLLRDHUP | EPOLLHUP), Readiness::READ_CLOSED)
        | Readiness::when(has(EPOLLHUP), Readiness::WRITE_CLOSED)
        | Readiness::when(has(EPOLLERR), Readiness::ERROR)
        | Readiness::when(has(EPOLLPRI), Readiness::PRIORITY)
}

/// `ENOSPC` from epoll has nothing to do with disks; say what it means.
fn name_the_limit(error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(libc::ENOSPC) {
        return error;
    }
    let text = "this user watches as many descriptors as the kernel setting fs.epoll.max_user_watches allows";
    io::Error::new(io::ErrorKind::QuotaExceeded, text)
}

/// Whole milliseconds, rounded up so that a wait is never early. `Duration::MAX` needs more than 64 bits.
fn millis_rounded_up(timeout: Duration) -> u128 {
    timeout.as_nanos().div_ceil(1_000_000)
}

/// The kernel's timespec for newer calls: 64 bits each on every architecture, unlike the C library's.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanos: i64,
}

impl From<Duration> for KernelTimespec {
    /// Longer than 292 thousand million years becomes that long.
    fn from(timeout: Duration) -> KernelTimespec {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        KernelTimespec { seconds, nanos: i64::from(timeout.subsec_nanos()) }
    }
}

/// The kernel writes straight into this memory; events are translated when they are looked at.
pub(crate) struct Buffer {
    events: Box<[libc::epoll_event]>,
    len: usize,
}

impl Buffer {
    pub(crate) fn with_capacity(capacity: usize) -> Buffer {
        Buffer { events: vec![libc::epoll_event { events: 0, u64: 0 }; capacity].into_boxed_slice(), len: 0 }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.events.len()
    }

    /// `Events::MAX_CAPACITY` keeps this far below the kernel's limit.
    fn capacity_int(&self) -> libc::c_int {
        libc::c_int::try_from(self.events.len()).unwrap_or(libc::c_int::MAX)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn get(&self, index: usize) -> Option<Event> {
        let event = self.events[..self.len].get(index)?;
        Some(Event { key: event.u64, readiness: readiness(event.events) })
    }

    fn filled(&mut self, answer: io::Result<usize>) -> io::Result<()> {
        self.len = answer?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! The fallback for kernels and sandboxes without `epoll_pwait2`, which the public API cannot ask for.

    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    fn millis_only() -> Selector {
        let selector = Selector::new().unwrap();
        selector.millis_only.store(true, Ordering::Relaxed);
        selector
    }

    #[test]
    fn the_fallback_is_never_early() {
        let (selector, mut buffer) = (millis_only(), Buffer::with_capacity(4));
        for nanos in [0, 1, 999_999, 1_000_000, 1_000_001, 3_000_001] {
            let (timeout, before) = (Duration::from_nanos(nanos), Instant::now());
            selector.wait(&mut buffer, Some(timeout)).unwrap();
            assert!(buffer.len() == 0 && before.elapsed() >= timeout);
        }
    }

    #[test]
    fn the_fallback_waits_absurdly_long_and_reports_like_the_other() {
        for timeout in [None, Some(Duration::MAX), Some(Duration::from_secs(1 << 40)), Some(Duration::from_secs(1))] {
            let (selector, mut buffer) = (millis_only(), Buffer::with_capacity(4));
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            selector.add(ours.as_fd(), u64::MAX, Interest::READABLE, Trigger::Oneshot).unwrap();
            theirs.write_all(b"x").unwrap();
            selector.wait(&mut buffer, timeout).unwrap();
            assert_eq!(buffer.get(0), Some(Event { key: u64::MAX, readiness: Readiness::READABLE }));
        }
    }

    #[test]
    fn milliseconds_round_up() {
        let rounded = [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2), (2_500_000, 3)];
        for (nanos, millis) in rounded {
            assert_eq!(millis_rounded_up(Duration::from_nanos(nanos)), millis);
        }
        assert!(millis_rounded_up(Duration::MAX) > u128::from(u64::MAX));
    }

    #[test]
    fn enospc_is_about_watches() {
        let error = name_the_limit(io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(error.to_string().contains("max_user_watches"));
        assert_eq!(name_the_limit(io::Error::from_raw_os_error(libc::EEXIST)).kind(), io::ErrorKind::AlreadyExists);
    }
}
