//! Ending a wait from another thread. This file chooses the mechanism.
//!
//! # What every backend provides
//!
//! `Waker`, `Send + Sync`, with `new(&selector, key)` and `wake()`, and these promises:
//! - a wake that returned `Ok` is reported by a wait that begins or is still going on afterwards,
//!   as `key`, readable;
//! - several wakes may be reported as one, and a wake is reported once (edge-triggered);
//! - there is nothing to read or to re-arm;
//! - nothing allocates in `wake`.
//!
//! - `eventfd.rs`: Linux and Android.
//! - `user_event.rs`: kqueue's EVFILT_USER (macOS, iOS, FreeBSD, DragonFly, libkqueue).
//! - `pipe.rs`: kernels whose older releases lack that filter (OpenBSD, NetBSD), and all kernels
//!   with `--cfg kodiak_pipe_waker`, for its tests.

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(kodiak_kqueue, kodiak_pipe_waker))
))]
mod eventfd;
#[cfg(any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd"))]
mod pipe;
#[cfg(not(any(
    kodiak_pipe_waker,
    target_os = "openbsd",
    target_os = "netbsd",
    all(any(target_os = "linux", target_os = "android"), not(kodiak_kqueue)),
)))]
mod user_event;

cfg_select! {
    any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd") => { use pipe as imp; }
    all(any(target_os = "linux", target_os = "android"), not(kodiak_kqueue)) => {
        use eventfd as imp;
    }
    _ => { use user_event as imp; }
}

use crate::Selector;
use std::io;

/// Ends a [`Selector`]'s wait from any thread: its key is reported as readable.
///
/// Wakes coalesce: any number of them between two waits may be one event. None is lost: after
/// `wake` has returned, the wait that is going on, or the next one, reports it. There is nothing to
/// read and nothing to re-arm. A selector may have several wakers, with different keys.
///
/// Dropping the waker unregisters it.
///
/// ```
/// use kodiak_sys::{Events, Selector, Waker};
/// use std::sync::Arc;
///
/// let selector = Selector::new()?;
/// let waker = Arc::new(Waker::new(&selector, u64::MAX)?);
/// let thread = std::thread::spawn({
///     let waker = Arc::clone(&waker);
///     move || waker.wake()
/// });
///
/// let mut events = Events::with_capacity(4);
/// selector.wait(&mut events, None)?;
/// let event = events.get(0).unwrap();
/// assert_eq!(event.key, u64::MAX);
/// assert!(event.readiness.is_readable());
/// thread.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Waker {
    imp: imp::Waker,
}

impl Waker {
    /// A waker whose wakes `selector` reports under `key`.
    ///
    /// # Errors
    /// The [kernel's error](crate#errors).
    pub fn new(selector: &Selector, key: u64) -> io::Result<Waker> {
        Ok(Waker { imp: imp::Waker::new(selector, key)? })
    }

    /// Ends the wait that is going on, or else the next one. Never blocks.
    ///
    /// # Errors
    /// The [kernel's error](crate#errors).
    #[inline]
    pub fn wake(&self) -> io::Result<()> {
        self.imp.wake()
    }
}
