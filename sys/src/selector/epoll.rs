//! The epoll backend (Linux, Android). `mod.rs` lists what is promised here.
//!
//! A wait without a timeout, or with zero, is an `epoll_wait`. A wait with a timeout is an
//! `epoll_pwait2` (Linux 5.11), which takes nanoseconds. Where that is missing (`ENOSYS`) or a
//! sandbox refuses it (`EPERM`), the selector remembers it and uses `epoll_wait` from then on, with
//! milliseconds rounded **up** and at most 24 days per call, because the timeout is an `int`.

use super::Event;
use crate::fd::check;
use crate::{Interest, Readiness, Trigger};
use libc::{
    EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLPRI,
    EPOLLRDHUP,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Selector {
    epoll: OwnedFd,
    /// Set once `epoll_pwait2` is found missing or refused. Relaxed: it guards no other memory.
    millis_only: AtomicBool,
}

impl Selector {
    pub(crate) fn new() -> io::Result<Selector> {
        // SAFETY: no pointers; the answer is a new descriptor or -1.
        let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `raw` was just opened and has no other owner.
        let epoll = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Selector { epoll, millis_only: AtomicBool::new(false) })
    }

    #[inline]
    pub(crate) fn add(
        &self,
        source: BorrowedFd<'_>,
        key: u64,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, source.as_raw_fd(), key, flags(interest, trigger))
            .map_err(explain_enospc)
    }

    pub(crate) fn add_exclusive(
        &self,
        source: BorrowedFd<'_>,
        key: u64,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        // The kernel refuses EPOLLRDHUP here.
        let flags = (flags(interest, trigger) & !(EPOLLRDHUP as u32)) | EPOLLEXCLUSIVE as u32;
        self.control(libc::EPOLL_CTL_ADD, source.as_raw_fd(), key, flags).map_err(explain_enospc)
    }

    pub(crate) fn modify(
        &self,
        source: RawFd,
        key: u64,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, source, key, flags(interest, trigger))
    }

    #[inline]
    pub(crate) fn remove(&self, source: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, source, 0, 0)
    }

    #[inline]
    fn control(
        &self,
        operation: libc::c_int,
        source: RawFd,
        key: u64,
        flags: u32,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: flags, u64: key };
        let epoll = self.epoll.as_raw_fd();
        // SAFETY: the kernel copies `event` before it returns, and changes nothing but the list of
        // our own epoll instance; a number that is not open is an error.
        check(unsafe { libc::epoll_ctl(epoll, operation, source, &mut event) }).map(drop)
    }

    #[inline]
    pub(crate) fn wait(&self, buffer: &mut Buffer, timeout: Option<Duration>) -> io::Result<()> {
        match timeout {
            None => self.wait_once(buffer, -1),
            Some(Duration::ZERO) => self.wait_once(buffer, 0),
            Some(timeout) => self.wait_up_to(buffer, timeout),
        }
    }

    fn wait_up_to(&self, buffer: &mut Buffer, timeout: Duration) -> io::Result<()> {
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

    /// One `epoll_pwait2`, through `syscall` because older C libraries lack it.
    fn wait_nanos(&self, buffer: &mut Buffer, timeout: Duration) -> io::Result<()> {
        buffer.clear();
        let timeout = KernelTimespec::from(timeout);
        let timeout_pointer = std::ptr::from_ref(&timeout);
        let (epoll, events, capacity) =
            (self.epoll.as_raw_fd(), buffer.events.as_mut_ptr(), buffer.capacity_int());
        let (no_mask, mask_bytes) = (std::ptr::null::<libc::sigset_t>(), 0_usize);
        let number = libc::SYS_epoll_pwait2;
        // SAFETY: `events` points to `capacity` writable events, the timespec outlives the call and
        // has the kernel's 64-bit layout, and without a mask its size is not looked at.
        let n = unsafe {
            libc::syscall(number, epoll, events, capacity, timeout_pointer, no_mask, mask_bytes)
        };
        if n == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just filled in `n` events, at most as many as there is room for.
        unsafe { buffer.events.set_len(n as usize) };
        Ok(())
    }

    /// One `epoll_wait`.
    #[inline]
    fn wait_once(&self, buffer: &mut Buffer, millis: libc::c_int) -> io::Result<()> {
        let (epoll, events, capacity) =
            (self.epoll.as_raw_fd(), buffer.events.as_mut_ptr(), buffer.capacity_int());
        // SAFETY: `events` points to room for `capacity` events, and the descriptor is ours.
        let n = unsafe { libc::epoll_wait(epoll, events, capacity, millis) };
        if n > 0 {
            // SAFETY: the kernel has just filled in `n` events, at most as many as there is room
            // for.
            unsafe { buffer.events.set_len(n as usize) };
            return Ok(());
        }
        buffer.clear();
        if n == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// `epoll_wait`, repeated until the whole timeout has passed.
    fn wait_millis(&self, buffer: &mut Buffer, timeout: Duration) -> io::Result<()> {
        let mut left = millis_rounded_up(timeout);
        loop {
            let millis = libc::c_int::try_from(left).unwrap_or(libc::c_int::MAX);
            self.wait_once(buffer, millis)?;
            left = left.saturating_sub(millis as u64);
            if buffer.len() > 0 || left == 0 {
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

#[inline]
fn flags(interest: Interest, trigger: Trigger) -> u32 {
    let interests = [
        (Interest::READABLE, EPOLLIN | EPOLLRDHUP),
        (Interest::WRITABLE, EPOLLOUT),
        (Interest::PRIORITY, EPOLLPRI),
    ];
    let trigger = match trigger {
        Trigger::Level => 0,
        Trigger::Edge => EPOLLET,
        Trigger::Oneshot => EPOLLONESHOT,
    };
    interests
        .iter()
        .filter(|(one, _)| interest.contains(*one))
        .fold(trigger, |all, (_, bit)| all | bit) as u32
}

/// Translates epoll's flags. Four bits are the same. EPOLLHUP becomes both closed bits, and
/// EPOLLRDHUP is shifted. The most common case comes first.
#[inline]
fn readiness(flags: u32) -> Readiness {
    if flags == EPOLLIN as u32 {
        return Readiness::READABLE;
    }
    let same = flags & SAME;
    let hang_up = flags & EPOLLHUP as u32;
    let read_closed = (hang_up << 1) | ((flags & EPOLLRDHUP as u32) >> 8);
    Readiness::from_bits((same | hang_up | read_closed) as u8)
}

const SAME: u32 = (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLERR) as u32;

/// What [`readiness`] relies on.
const _: () = {
    assert!(
        Readiness::READABLE.bits() as i32 == EPOLLIN
            && Readiness::PRIORITY.bits() as i32 == EPOLLPRI
    );
    assert!(
        Readiness::WRITABLE.bits() as i32 == EPOLLOUT && Readiness::ERROR.bits() as i32 == EPOLLERR
    );
    assert!(Readiness::WRITE_CLOSED.bits() as i32 == EPOLLHUP);
    assert!(Readiness::READ_CLOSED.bits() as i32 == EPOLLHUP << 1);
    assert!(Readiness::READ_CLOSED.bits() as i32 == EPOLLRDHUP >> 8);
};

/// `ENOSPC` from epoll means the limit on watches, not a full disk.
#[cold]
fn explain_enospc(error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(libc::ENOSPC) {
        return error;
    }
    let text = "this user watches as many descriptors as fs.epoll.max_user_watches allows \
                (a kernel setting, see sysctl)";
    io::Error::new(io::ErrorKind::QuotaExceeded, text)
}

/// Whole milliseconds, rounded up so that a wait is never early. At most 500 million years.
fn millis_rounded_up(timeout: Duration) -> u64 {
    let millis = u64::from(timeout.subsec_nanos()).div_ceil(1_000_000);
    timeout.as_secs().saturating_mul(1000).saturating_add(millis)
}

/// The kernel's timespec for newer calls: 64 bits each on every architecture, unlike the C
/// library's.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanos: i64,
}

impl From<Duration> for KernelTimespec {
    /// At most 292 thousand million years.
    fn from(timeout: Duration) -> KernelTimespec {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        KernelTimespec { seconds, nanos: i64::from(timeout.subsec_nanos()) }
    }
}

/// The kernel writes straight into this memory; events are translated when they are looked at. The
/// vector's length is the number of events; it never grows.
pub(crate) struct Buffer {
    events: Vec<libc::epoll_event>,
    /// The requested capacity; the vector may have more.
    capacity: usize,
}

impl Buffer {
    pub(crate) fn with_capacity(capacity: usize) -> Buffer {
        Buffer { events: Vec::with_capacity(capacity), capacity }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// `Events::MAX_CAPACITY` keeps this far below the kernel's limit.
    #[inline]
    fn capacity_int(&self) -> libc::c_int {
        self.capacity as libc::c_int
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn clear(&mut self) {
        self.events.clear();
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Event> {
        let event = self.events.get(index)?;
        Some(Event { key: event.u64, readiness: readiness(event.events) })
    }
}

#[cfg(test)]
mod tests {
    //! The fallback for kernels and sandboxes without `epoll_pwait2`, which the public API cannot
    //! ask for.

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
            selector.wait_up_to(&mut buffer, timeout).unwrap();
            assert!(buffer.len() == 0 && before.elapsed() >= timeout);
        }
    }

    #[test]
    fn the_fallback_takes_any_timeout_and_reports_events() {
        for timeout in [Duration::MAX, Duration::from_secs(1 << 40), Duration::from_secs(1)] {
            let (selector, mut buffer) = (millis_only(), Buffer::with_capacity(4));
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            selector.add(ours.as_fd(), u64::MAX, Interest::READABLE, Trigger::Oneshot).unwrap();
            theirs.write_all(b"x").unwrap();
            selector.wait_up_to(&mut buffer, timeout).unwrap();
            assert_eq!(
                buffer.get(0),
                Some(Event { key: u64::MAX, readiness: Readiness::READABLE })
            );
        }
    }

    #[test]
    fn every_flag_has_its_readiness() {
        let table = [
            (EPOLLIN, Readiness::READABLE),
            (EPOLLOUT, Readiness::WRITABLE),
            (EPOLLPRI, Readiness::PRIORITY),
            (EPOLLERR, Readiness::ERROR),
            (EPOLLRDHUP, Readiness::READ_CLOSED),
            (EPOLLHUP, Readiness::READ_CLOSED | Readiness::WRITE_CLOSED),
        ];
        for mask in 0..1 << table.len() {
            let chosen =
                table.iter().enumerate().filter(|(n, _)| mask & 1 << n != 0).map(|(_, row)| row);
            let (flags, expected) = chosen
                .fold((0, Readiness::empty()), |(flags, all), (flag, bit)| {
                    (flags | *flag, all | *bit)
                });
            // Other flags are ignored.
            assert_eq!(
                (readiness(flags as u32), readiness(flags as u32 | 1 << 30)),
                (expected, expected)
            );
        }
    }

    #[test]
    fn milliseconds_round_up() {
        let rounded = [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2), (2_500_000, 3)];
        for (nanos, millis) in rounded {
            assert_eq!(millis_rounded_up(Duration::from_nanos(nanos)), millis);
        }
        assert_eq!(millis_rounded_up(Duration::new(3, 999_999_999)), 4000);
        assert_eq!(millis_rounded_up(Duration::MAX), u64::MAX);
    }

    #[test]
    fn enospc_is_about_watches() {
        let error = explain_enospc(io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(error.to_string().contains("max_user_watches"));
        assert_eq!(
            explain_enospc(io::Error::from_raw_os_error(libc::EEXIST)).kind(),
            io::ErrorKind::AlreadyExists
        );
    }
}
