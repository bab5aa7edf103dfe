//! Registrations: [`Source`], [`Registration`], and [`Io`], which owns a descriptor.
//!
//! A registered source keeps its loop's number ([`loop_table`]) and its key; the loop keeps only
//! the key's slot. There are no pointers between them, so a source may move, be boxed, be sent to
//! another thread, or be dropped anywhere. Dropping it does three things, in this order:
//!
//! 1. the descriptor is removed from the kernel's interest list, so that a duplicate of it cannot
//!    keep firing;
//! 2. the key enters the loop's drop list, in room that was reserved when the source was registered
//!    (no allocation);
//! 3. the descriptor closes.
//!
//! The loop checks the drop list's flag (one load) before each dispatch. So an event that was
//! already fetched for a dropped source is never delivered.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::loop_table::{self, BEING_CLAIMED, NO_LOOP, Shared};

/// Something with a descriptor that an [`EventLoop`](crate::EventLoop) can watch.
///
/// The sockets of `kodiak-net` are sources. Any other descriptor becomes one inside [`Io`]. A type
/// of your own that holds a source becomes one by forwarding both methods:
///
/// ```
/// use std::os::fd::{AsFd, BorrowedFd};
/// use std::os::unix::net::UnixStream;
/// use kodiak_reactor::{Io, Registration, Source};
///
/// struct Connection { socket: Io<UnixStream>, received: Vec<u8> }
///
/// impl AsFd for Connection {
///     fn as_fd(&self) -> BorrowedFd<'_> { self.socket.as_fd() }
/// }
/// impl Source for Connection {
///     fn registration(&self) -> &Registration { self.socket.registration() }
/// }
/// ```
///
/// Both methods must always refer to the same descriptor.
pub trait Source: AsFd {
    /// The registration, in which the loop records that it watches this source.
    fn registration(&self) -> &Registration;
}

impl<S: Source + ?Sized> Source for &S {
    fn registration(&self) -> &Registration {
        (**self).registration()
    }
}

impl<S: Source + ?Sized> Source for &mut S {
    fn registration(&self) -> &Registration {
        (**self).registration()
    }
}

impl<S: Source + ?Sized> Source for Box<S>
where
    Box<S>: AsFd,
{
    fn registration(&self) -> &Registration {
        (**self).registration()
    }
}

impl<S: Source> Source for Arc<S> {
    fn registration(&self) -> &Registration {
        (**self).registration()
    }
}

impl<S: Source> Source for std::rc::Rc<S> {
    fn registration(&self) -> &Registration {
        (**self).registration()
    }
}

/// The loop that watches a source, and the source's key in it. Part of every [`Io`].
///
/// Only [`Io`] makes one, because only the descriptor's owner can make sure that the descriptor is
/// removed from the kernel before it closes.
#[derive(Default)]
pub struct Registration {
    /// The loop's number, which is also a lock: a loop claims the source by replacing `NO_LOOP`
    /// with `BEING_CLAIMED`, so of two loops on two threads one gets it. From then until the source
    /// is deregistered or dropped only its loop writes here, and a loop is on one thread at a time.
    owner: AtomicU32,
    /// The two halves of the key, as four bytes each, so that a descriptor fits beside them without
    /// padding.
    key: [AtomicU32; 2],
}

/// The owner of a source, as seen by one loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ownership {
    NoLoop,
    /// This loop, under this key.
    This {
        key: u64,
    },
    /// Another loop.
    Other,
}

impl Registration {
    /// The source's owner. A loop that is gone counts as no loop: its selector is closed.
    #[inline]
    pub(crate) fn ownership(&self, shared: &Shared) -> Ownership {
        match self.owner.load(Ordering::Acquire) {
            owner if owner == shared.number() => Ownership::This { key: self.key() },
            NO_LOOP => Ownership::NoLoop,
            BEING_CLAIMED => Ownership::Other,
            owner if loop_table::exists(owner) => Ownership::Other,
            _ => Ownership::NoLoop,
        }
    }

    /// Claims the source for the loop, so that no other loop can. The error is its owner.
    #[inline]
    pub(crate) fn claim(&self, shared: &Shared) -> Result<Claim<'_>, Ownership> {
        let mut before = NO_LOOP;
        while let Err(owner) =
            self.owner.compare_exchange(before, BEING_CLAIMED, Ordering::Acquire, Ordering::Acquire)
        {
            match self.ownership(shared) {
                Ownership::NoLoop => before = owner,
                other => return Err(other),
            }
        }
        Ok(Claim { registration: self })
    }

    /// Releases the source. Only its loop may call this.
    #[inline]
    pub(crate) fn release(&self) {
        self.owner.store(NO_LOOP, Ordering::Release);
    }

    fn key(&self) -> u64 {
        let [low, high] = &self.key;
        u64::from(high.load(Ordering::Relaxed)) << 32 | u64::from(low.load(Ordering::Relaxed))
    }
}

/// A source that is about to be registered. Dropping the claim releases it.
pub(crate) struct Claim<'a> {
    registration: &'a Registration,
}

impl Claim<'_> {
    /// Completes the registration, under `key`.
    #[inline]
    pub(crate) fn commit(self, shared: &Shared, key: u64) {
        let [low, high] = &self.registration.key;
        low.store(key as u32, Ordering::Relaxed);
        high.store((key >> 32) as u32, Ordering::Relaxed);
        self.registration.owner.store(shared.number(), Ordering::Release);
        std::mem::forget(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.registration.release();
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.load(Ordering::Relaxed);
        let registered = owner != NO_LOOP && owner != BEING_CLAIMED && loop_table::exists(owner);
        f.debug_struct("Registration").field("registered", &registered).finish()
    }
}

/// Owns a descriptor and its registration: makes any descriptor a [`Source`].
///
/// `F` owns the descriptor: an `OwnedFd`, a `std` or `socket2` socket, a pipe, or a type of another
/// crate. The descriptor should be non-blocking; `Io` does not change it. Dropping an `Io` removes
/// the descriptor from its loop and then drops `F`. From then on the handler is not called for it,
/// not even for events that the kernel had already reported.
///
/// `Io` is `Send` and `Sync` where `F` is, and may be dropped on any thread. `Io<OwnedFd>` is 16
/// bytes.
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
/// use kodiak_reactor::{EventLoop, Handler, Io, ReadHint};
///
/// struct Seen(bool);
/// impl Handler<(), ()> for Seen {
///     fn readable(&mut self, event_loop: &mut EventLoop<(), ()>, _: (), _: ReadHint) {
///         self.0 = true;
///         event_loop.shutdown();
///     }
/// }
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// ours.set_nonblocking(true)?;
/// let ours = Io::new(ours);
///
/// let mut event_loop = EventLoop::new()?;
/// event_loop.register(&ours, ())?;
/// theirs.write_all(b"hi")?;
/// let mut seen = Seen(false);
/// event_loop.run(&mut seen)?;
/// assert!(seen.0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Io<F: AsFd> {
    /// `None` only in [`Io::into_inner`] and the drop that ends it.
    inner: Option<F>,
    registration: Registration,
}

impl<F: AsFd> Io<F> {
    /// Takes ownership of `inner`. Makes no system call.
    pub fn new(inner: F) -> Io<F> {
        Io { inner: Some(inner), registration: Registration::default() }
    }

    /// The wrapped value. Do not close its descriptor behind the loop's back.
    pub fn get_ref(&self) -> &F {
        self.inner.as_ref().expect("only `into_inner` takes the value")
    }

    /// The wrapped value. Do not replace it by one with another descriptor while it is registered:
    /// the kernel would go on watching the old one.
    pub fn get_mut(&mut self) -> &mut F {
        self.inner.as_mut().expect("only `into_inner` takes the value")
    }

    /// Deregisters the descriptor, as dropping would, and gives it back open.
    pub fn into_inner(mut self) -> F {
        self.leave_loop();
        self.inner.take().expect("only `into_inner` takes the value")
    }

    /// Leaves the loop, if there is one: first the kernel's interest list, then the registry.
    #[inline]
    fn leave_loop(&mut self) {
        let owner = *self.registration.owner.get_mut();
        if owner != NO_LOOP {
            self.leave_loop_numbered(owner);
        }
    }

    fn leave_loop_numbered(&mut self, owner: u32) {
        *self.registration.owner.get_mut() = NO_LOOP;
        let Some(inner) = &self.inner else { return };
        loop_table::drop_source(owner, self.registration.key(), |selector| {
            // An error means that the kernel does not watch the descriptor, which is the goal.
            let _ = selector.remove(inner.as_fd());
        });
    }
}

impl<F: AsFd> Drop for Io<F> {
    fn drop(&mut self) {
        self.leave_loop();
    }
}

impl<F: AsFd> Source for Io<F> {
    fn registration(&self) -> &Registration {
        &self.registration
    }
}

impl<F: AsFd> AsFd for Io<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<F: AsFd> AsRawFd for Io<F> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<F: AsFd> From<F> for Io<F> {
    fn from(inner: F) -> Io<F> {
        Io::new(inner)
    }
}

impl<F: AsFd + fmt::Debug> fmt::Debug for Io<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("inner", self.get_ref())
            .field("registration", &self.registration)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn an_io_of_a_socket_is_16_bytes_send_and_sync() {
        fn is_send_and_sync<X: Send + Sync>() {}
        is_send_and_sync::<Io<OwnedFd>>();
        is_send_and_sync::<Io<UnixStream>>();
        assert_eq!(size_of::<Io<OwnedFd>>(), 16);
        assert_eq!(size_of::<Io<UnixStream>>(), 16);
    }

    #[test]
    fn an_unregistered_io_gives_its_value_back() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let io = Io::new(ours);
        assert!(format!("{io:?}").contains("registered: false"));
        io.into_inner().peer_addr().unwrap();
    }
}
