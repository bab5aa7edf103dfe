//! The few calls that std lacks: pinning, limits, epoll for the load and for the hand-written loop, a process's own cost.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// The core that the measured side runs on, and the core of the load.
pub(crate) const SERVER_CORE: usize = 0;
pub(crate) const LOAD_CORE: usize = 1;

pub(crate) fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Pins the calling thread. On a machine with fewer cores nothing is pinned.
pub(crate) fn pin(core: usize) {
    // SAFETY: a `cpu_set_t` is plain bits, all zero is the empty set, and the call reads as many bytes as it is told.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Raises the limit of open descriptors as far as it goes, for ourselves and for the servers that we start.
pub(crate) fn raise_descriptor_limit() {
    // SAFETY: both calls are given a valid `rlimit`.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Nanoseconds of processor time that a (single-threaded) process has had.
pub(crate) fn processor_nanos(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    text.split_ascii_whitespace()
        .next()
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Nanoseconds of processor time that this thread has had: what the machine's other tenants do does not count.
pub(crate) fn thread_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the timespec that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Resident bytes of a process that are its own.
pub(crate) fn resident_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// An eventfd, non-blocking.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the answer is a new descriptor or -1.
    let raw = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: just opened, nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Adds one to an eventfd.
pub(crate) fn ring(eventfd: &OwnedFd) {
    let one = 1_u64;
    // SAFETY: writes the eight bytes of `one`.
    let written = unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), 8) };
    assert_eq!(written, 8, "an eventfd that nobody has filled takes another one");
}

/// epoll with nothing around it.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub(crate) fn new(capacity: usize) -> io::Result<Epoll> {
        // SAFETY: no pointers; the answer is a new descriptor or -1.
        let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just opened, nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Epoll { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; capacity] })
    }

    pub(crate) fn control(&self, operation: libc::c_int, fd: RawFd, flags: libc::c_int, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: flags as u32, u64: key };
        // SAFETY: the kernel copies `event` before it returns, and refuses a descriptor that is not open.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) }).map(drop)
    }

    pub(crate) fn add(&self, fd: RawFd, flags: libc::c_int, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, flags, key)
    }

    pub(crate) fn modify(&self, fd: RawFd, flags: libc::c_int, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, flags, key)
    }

    /// Waits `millis` (-1: for ever) and says how many events there are.
    pub(crate) fn wait(&mut self, millis: libc::c_int) -> io::Result<usize> {
        let (epoll, capacity) = (self.epoll.as_raw_fd(), self.events.len() as libc::c_int);
        // SAFETY: the vector has room for `capacity` events.
        let count = unsafe { libc::epoll_wait(epoll, self.events.as_mut_ptr(), capacity, millis) };
        match check(count) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Waits for nothing at all, by the kernel's finest means.
    pub(crate) fn sleep(&mut self, time: Duration) -> io::Result<()> {
        let time = libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos().into() };
        let (epoll, events) = (self.epoll.as_raw_fd(), self.events.as_mut_ptr());
        let no_signals: *const libc::sigset_t = std::ptr::null();
        // SAFETY: room for one event at least, a valid time, no set of signals.
        let answer =
            unsafe { libc::syscall(libc::SYS_epoll_pwait2, epoll, events, 1, &raw const time, no_signals, 0_usize) };
        if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub(crate) fn event(&self, index: usize) -> (u64, u32) {
        let event = self.events[index];
        (event.u64, event.events)
    }
}
