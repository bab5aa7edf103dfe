//! kqueue's C interface: its two calls, and its constants.
//!
//! Each constant has one type here, because the systems' headers disagree. Under
//! `--cfg kodiak_kqueue` on Linux the calls are libkqueue's, whose struct and constants are those
//! of older FreeBSD releases. The build script takes the folder of its library from the environment
//! variable `LIBKQUEUE`.

use crate::fd::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

#[cfg(not(target_os = "linux"))]
use libc as c;
#[cfg(target_os = "linux")]
use libkqueue as c;

pub(crate) use c::kevent as Kevent;

/// What a knote listens to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Filter {
    Read,
    Write,
    /// Out-of-band data, where the kernel has a filter for it.
    Except,
    #[cfg_attr(
        any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd"),
        allow(dead_code)
    )]
    User,
    /// A process; its identifier is the process's number.
    Process,
}

pub(super) const ADD: u32 = c::EV_ADD as u32;
pub(super) const DELETE: u32 = c::EV_DELETE as u32;
pub(super) const ENABLE: u32 = c::EV_ENABLE as u32;
pub(super) const DISABLE: u32 = c::EV_DISABLE as u32;
/// Edge: the condition is cleared once it has been reported.
pub(super) const CLEAR: u32 = c::EV_CLEAR as u32;
/// Oneshot: the knote is disabled once it has been reported.
pub(super) const DISPATCH: u32 = c::EV_DISPATCH as u32;
pub(super) const EOF: u32 = c::EV_EOF as u32;
pub(super) const ERROR: u32 = c::EV_ERROR as u32;
#[cfg(not(any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd")))]
pub(super) const TRIGGER: u32 = c::NOTE_TRIGGER;

/// The end of a process.
pub(super) const EXIT: u32 = c::NOTE_EXIT;

/// `EVFILT_EXCEPT` and its `NOTE_OOB`, where they exist.
#[cfg(any(target_vendor = "apple", target_os = "openbsd", target_os = "dragonfly"))]
pub(super) const EXCEPT: Option<(i32, u32)> = Some((c::EVFILT_EXCEPT as i32, c::NOTE_OOB as u32));
#[cfg(not(any(target_vendor = "apple", target_os = "openbsd", target_os = "dragonfly")))]
pub(super) const EXCEPT: Option<(i32, u32)> = None;

/// NetBSD has no number for it before 10.0, and libc gives it a type of its own there: it is not
/// used on that system.
#[cfg(not(any(target_os = "openbsd", target_os = "netbsd")))]
const USER: Option<i32> = Some(c::EVFILT_USER as i32);
#[cfg(any(target_os = "openbsd", target_os = "netbsd"))]
const USER: Option<i32> = None;

impl Filter {
    /// The kernel's number, or `None` where it has no such filter.
    fn number(self) -> Option<i32> {
        match self {
            Filter::Read => Some(c::EVFILT_READ as i32),
            Filter::Write => Some(c::EVFILT_WRITE as i32),
            Filter::Except => EXCEPT.map(|(number, _)| number),
            Filter::User => USER,
            Filter::Process => Some(c::EVFILT_PROC as i32),
        }
    }

    /// The filter of an event that came back to a selector.
    pub(super) fn of(event: &Kevent) -> Option<Filter> {
        let all = [Filter::Read, Filter::Write, Filter::Except, Filter::User];
        all.into_iter().find(|filter| filter.number() == Some(event.filter as i32))
    }
}

/// A change to one knote, or with `flags` 0 an empty place for an event. `Unsupported` if the
/// kernel has no such filter.
pub(super) fn change(
    ident: usize,
    filter: Filter,
    flags: u32,
    fflags: u32,
    tag: usize,
) -> io::Result<Kevent> {
    let number = filter.number().ok_or(io::ErrorKind::Unsupported)?;
    let mut event = blank();
    event.ident = ident;
    event.filter = number as _;
    event.flags = flags as _;
    event.fflags = fflags as _;
    event.udata = std::ptr::without_provenance_mut(tag);
    Ok(event)
}

/// An event of zeros: some kernels' struct has more fields than the classic six.
pub(super) fn blank() -> Kevent {
    // SAFETY: the struct consists of integers and a raw pointer, for all of which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// A new queue, closed on exec. A child made by `fork` does not inherit it, so none can leak
/// between the two calls.
pub(super) fn kqueue() -> io::Result<OwnedFd> {
    // SAFETY: no arguments; the answer is a new descriptor or -1.
    let raw = check(unsafe { c::kqueue() })?;
    // SAFETY: `raw` was just opened and has no other owner.
    let queue = unsafe { OwnedFd::from_raw_fd(raw) };
    crate::fd::set_cloexec(std::os::fd::AsFd::as_fd(&queue))?;
    Ok(queue)
}

/// Applies `changes` in order; stops at the first that fails and returns its error.
pub(super) fn apply(queue: BorrowedFd<'_>, changes: &[Kevent]) -> io::Result<()> {
    kevent(queue.as_raw_fd(), changes, &mut [], Some(Duration::ZERO)).map(drop)
}

/// Waits for events; `None` waits without limit.
pub(super) fn wait(
    queue: BorrowedFd<'_>,
    events: &mut [Kevent],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    kevent(queue.as_raw_fd(), &[], events, timeout)
}

fn kevent(
    queue: RawFd,
    changes: &[Kevent],
    events: &mut [Kevent],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let timeout = timeout
        .map(|t| libc::timespec { tv_sec: t.as_secs() as _, tv_nsec: t.subsec_nanos() as _ });
    let timeout_pointer = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let (from, from_len) = (changes.as_ptr(), changes.len() as _);
    let (to, to_len) = (events.as_mut_ptr(), events.len() as _);
    // SAFETY: both slices are described by their own pointers and lengths and outlive the call, as
    // does the timespec.
    check(unsafe { c::kevent(queue, from, from_len, to, to_len, timeout_pointer) })
        .map(|n| n as usize)
}

/// libkqueue's header, in Rust.
#[cfg(target_os = "linux")]
mod libkqueue {
    #![allow(non_camel_case_types)]
    use libc::{c_int, c_short, c_uint, c_ushort, c_void};

    #[repr(C)]
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct kevent {
        pub(crate) ident: usize,
        pub(crate) filter: c_short,
        pub(crate) flags: c_ushort,
        pub(crate) fflags: c_uint,
        pub(crate) data: isize,
        pub(crate) udata: *mut c_void,
    }

    pub(crate) const EVFILT_READ: c_short = -1;
    pub(crate) const EVFILT_WRITE: c_short = -2;
    pub(crate) const EVFILT_PROC: c_short = -5;
    pub(crate) const EVFILT_USER: c_short = -11;
    pub(crate) const EV_ADD: c_ushort = 0x1;
    pub(crate) const EV_DELETE: c_ushort = 0x2;
    pub(crate) const EV_ENABLE: c_ushort = 0x4;
    pub(crate) const EV_DISABLE: c_ushort = 0x8;
    pub(crate) const EV_CLEAR: c_ushort = 0x20;
    pub(crate) const EV_DISPATCH: c_ushort = 0x80;
    pub(crate) const EV_ERROR: c_ushort = 0x4000;
    pub(crate) const EV_EOF: c_ushort = 0x8000;
    pub(crate) const NOTE_EXIT: c_uint = 0x8000_0000;
    #[cfg(not(kodiak_pipe_waker))]
    pub(crate) const NOTE_TRIGGER: c_uint = 0x0100_0000;

    #[link(name = "kqueue")]
    unsafe extern "C" {
        pub(crate) fn kqueue() -> c_int;
        pub(crate) fn kevent(
            queue: c_int,
            changes: *const kevent,
            changes_len: c_int,
            events: *mut kevent,
            events_len: c_int,
            timeout: *const libc::timespec,
        ) -> c_int;
    }
}
