//! System calls that std lacks: pinning, limits, epoll, and the processor time of a process.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The core of the measured side.
pub(crate) const SERVER_CORE: usize = 0;
/// The core of the load.
pub(crate) const LOAD_CORE: usize = 1;

pub(crate) fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Pins the calling thread to a core. Does nothing if the machine lacks that core.
pub(crate) fn pin(core: usize) {
    // SAFETY: a `cpu_set_t` of zeros is the empty set, and the call reads as many bytes as the
    // given size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Raises the soft limit of open descriptors to the hard limit. Child processes inherit it.
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

/// The processor time that a single-threaded process has used, in nanoseconds.
pub(crate) fn processor_nanos(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    text.split_ascii_whitespace()
        .next()
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The processor time that this thread has used, in nanoseconds. It excludes the time in which the
/// scheduler ran other threads.
pub(crate) fn thread_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the timespec that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The resident anonymous memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A non-blocking eventfd.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the answer is a new descriptor or -1.
    let raw = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: just opened, and it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Adds one to an eventfd.
pub(crate) fn add_one(eventfd: &OwnedFd) {
    let one = 1_u64;
    // SAFETY: writes the eight bytes of `one`.
    let written = unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), 8) };
    assert_eq!(written, 8, "the eventfd is not full");
}

/// An epoll instance and a buffer for its events.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub(crate) fn new(capacity: usize) -> io::Result<Epoll> {
        // SAFETY: no pointers; the answer is a new descriptor or -1.
        let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just opened, and it has no other owner.
        let epoll = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Epoll { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; capacity] })
    }

    pub(crate) fn control(
        &self,
        operation: libc::c_int,
        fd: RawFd,
        flags: libc::c_int,
        key: u64,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: flags as u32, u64: key };
        // SAFETY: the kernel copies `event` before it returns, and refuses a descriptor that is not
        // open.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) })
            .map(drop)
    }

    pub(crate) fn add(&self, fd: RawFd, flags: libc::c_int, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, flags, key)
    }

    pub(crate) fn modify(&self, fd: RawFd, flags: libc::c_int, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, flags, key)
    }

    /// Waits up to `millis` (-1: without limit). Returns the number of events.
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

    /// Waits until `time` has passed, with nanosecond precision. No descriptor may be registered.
    pub(crate) fn sleep(&mut self, time: Duration) -> io::Result<()> {
        let seconds = time.as_secs() as _;
        let time = libc::timespec { tv_sec: seconds, tv_nsec: time.subsec_nanos().into() };
        let (epoll, events) = (self.epoll.as_raw_fd(), self.events.as_mut_ptr());
        let no_signals: *const libc::sigset_t = std::ptr::null();
        let number = libc::SYS_epoll_pwait2;
        // SAFETY: the vector has room for one event, the time is valid, and there is no signal set.
        let answer = unsafe {
            libc::syscall(number, epoll, events, 1, &raw const time, no_signals, 0_usize)
        };
        if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub(crate) fn event(&self, index: usize) -> (u64, u32) {
        let event = self.events[index];
        (event.u64, event.events)
    }
}

/// A thread's id, for [`StalledThread::stall`].
#[derive(Clone, Copy)]
pub(crate) struct Thread(libc::pid_t);

pub(crate) fn this_thread() -> Thread {
    // SAFETY: no arguments, cannot fail.
    Thread(unsafe { libc::gettid() })
}

/// How long the next stalled thread stays stalled; 0 once it has resumed.
static STALL_NANOS: AtomicU64 = AtomicU64::new(0);
/// The number of stalls that have begun.
static STALLS: AtomicU64 = AtomicU64::new(0);

/// Sleeps in the signal's handler, so the thread stops at any instruction, with all locks it holds.
extern "C" fn stall_handler(_signal: libc::c_int) {
    let nanos = STALL_NANOS.load(Ordering::Relaxed) as libc::c_long;
    STALLS.fetch_add(1, Ordering::Release);
    let time = libc::timespec { tv_sec: 0, tv_nsec: nanos };
    // SAFETY: a valid time; the function is a plain system call, which a handler may make.
    unsafe { libc::nanosleep(&time, std::ptr::null_mut()) };
    STALL_NANOS.store(0, Ordering::Release);
}

/// Installs a handler of SIGUSR1 that stalls the thread to which the signal is sent.
pub(crate) fn stall_on_signal() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = stall_handler;
    // SAFETY: the handler only uses atomics and sleeps.
    let before = unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A thread that is stalled by its signal handler.
pub(crate) struct StalledThread(());

impl StalledThread {
    /// Stalls `thread` for `time`, less than a second. Returns as soon as it has stopped.
    pub(crate) fn stall(thread: Thread, time: Duration) -> StalledThread {
        STALL_NANOS.store(time.as_nanos() as u64, Ordering::Relaxed);
        let begun = STALLS.load(Ordering::Acquire);
        // SAFETY: no pointers; if the thread has ended, the loop below times out.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread.0, libc::SIGUSR1) };
        let sent = Instant::now();
        while STALLS.load(Ordering::Acquire) == begun {
            assert!(sent.elapsed() < Duration::from_secs(10), "the thread has ended");
        }
        StalledThread(())
    }

    /// Waits until the thread runs again.
    pub(crate) fn wait_until_resumed(self) {
        while STALL_NANOS.load(Ordering::Acquire) != 0 {
            std::hint::spin_loop();
        }
    }
}
