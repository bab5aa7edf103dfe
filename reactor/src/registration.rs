//! What ties a socket to the loop: [`Source`], [`Registration`] and the owner [`Io`].
//!
//! A registered socket knows its loop's number ([`loops`]) and its key; the loop knows nothing of
//! the socket but the key's slot. So a socket may move, be boxed, be sent to another thread or be
//! dropped anywhere, and nobody holds a pointer that could dangle. Dropping does three things in
//! this order:
//!
//! 1. the descriptor leaves the kernel's interest list, so that a duplicate of it cannot keep
//!    firing;
//! 2. the key goes onto the loop's list of the dead, in room reserved when the source was
//!    registered (no allocation);
//! 3. the descriptor closes.
//!
//! The loop looks at the list's flag (one load) before each dispatch, so an event already fetched
//! for a dropped source is never delivered.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::loops::{self, BEING_TAKEN, NOBODY, Shared};

/// Something with a descriptor that an [`EventLoop`](crate::EventLoop) can watch.
///
/// The sockets of `kodiak-net` are sources. Any other descriptor becomes one inside [`Io`]. A type
/// of your own that holds a source is a source by handing both questions on:
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
/// Both methods must speak of the same descriptor for as long as the source lives.
pub trait Source: AsFd {
    /// The slot in which the loop notes that it watches this source.
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

/// Which loop watches a source, and under which key: the slot inside every [`Io`].
///
/// Only [`Io`] makes one, because only the descriptor's owner can see to it that the kernel forgets
/// the descriptor before it closes.
#[derive(Default)]
pub struct Registration {
    /// The loop's number, which is also the lock: who would have the source puts `BEING_TAKEN` in
    /// the place of nobody's number, so of two loops on two threads one gets it. From then until
    /// the source is deregistered or dropped, nobody but its loop writes here, and its loop is only
    /// ever on one thread.
    owner: AtomicU32,
    /// The two halves of the key. In pieces of four bytes, so that a descriptor fits beside them
    /// without padding.
    key: [AtomicU32; 2],
}

/// Where a source stands, seen from one loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Unregistered,
    Here { key: u64 },
    Elsewhere,
}

impl Registration {
    /// Where the source stands. A loop that is gone counts as no loop: its selector went with it.
    #[inline]
    pub(crate) fn standing(&self, shared: &Shared) -> Standing {
        match self.owner.load(Ordering::Acquire) {
            owner if owner == shared.number() => Standing::Here { key: self.key() },
            NOBODY => Standing::Unregistered,
            BEING_TAKEN => Standing::Elsewhere,
            owner if loops::exists(owner) => Standing::Elsewhere,
            _ => Standing::Unregistered,
        }
    }

    /// Takes the source for the loop, so that no other one can. The error says who has it.
    #[inline]
    pub(crate) fn claim(&self, shared: &Shared) -> Result<Claim<'_>, Standing> {
        let mut before = NOBODY;
        while let Err(owner) =
            self.owner.compare_exchange(before, BEING_TAKEN, Ordering::Acquire, Ordering::Acquire)
        {
            match self.standing(shared) {
                Standing::Unregistered => before = owner,
                other => return Err(other),
            }
        }
        Ok(Claim { registration: self })
    }

    /// The source is its loop's no more. For that loop to say.
    #[inline]
    pub(crate) fn clear(&self) {
        self.owner.store(NOBODY, Ordering::Release);
    }

    fn key(&self) -> u64 {
        let [low, high] = &self.key;
        u64::from(high.load(Ordering::Relaxed)) << 32 | u64::from(low.load(Ordering::Relaxed))
    }
}

/// A source that is about to be registered; left alone again if this is dropped.
pub(crate) struct Claim<'a> {
    registration: &'a Registration,
}

impl Claim<'_> {
    /// The source is registered under `key`.
    #[inline]
    pub(crate) fn keep(self, shared: &Shared, key: u64) {
        let [low, high] = &self.registration.key;
        low.store(key as u32, Ordering::Relaxed);
        high.store((key >> 32) as u32, Ordering::Relaxed);
        self.registration.owner.store(shared.number(), Ordering::Release);
        std::mem::forget(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.registration.clear();
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.load(Ordering::Relaxed);
        let registered = owner != NOBODY && owner != BEING_TAKEN && loops::exists(owner);
        f.debug_struct("Registration").field("registered", &registered).finish()
    }
}

/// Owns a descriptor and its registration: the way for any descriptor into an
/// [`EventLoop`](crate::EventLoop).
///
/// `F` is whatever owns the descriptor: an `OwnedFd`, a `std` or `socket2` socket, a pipe, a
/// stranger's type. It should be non-blocking; `Io` does not change it. Dropping an `Io` takes the
/// descriptor out of its loop and then drops `F`; from that moment on the handler hears nothing of
/// it, not even what the kernel had already reported.
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
    /// `None` only between [`Io::into_inner`] and the end of its drop.
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
        self.inner.as_ref().expect("an Io has its value until it is taken apart")
    }

    /// The wrapped value. Exchanging it for one with another descriptor while registered leaves the
    /// old descriptor in the kernel: deregister first.
    pub fn get_mut(&mut self) -> &mut F {
        self.inner.as_mut().expect("an Io has its value until it is taken apart")
    }

    /// Deregisters the descriptor, as dropping would, and gives it back open.
    pub fn into_inner(mut self) -> F {
        self.withdraw();
        self.inner.take().expect("an Io has its value until it is taken apart")
    }

    /// Leaves the loop, if there is one: first the kernel, then the loop's books.
    #[inline]
    fn withdraw(&mut self) {
        let owner = *self.registration.owner.get_mut();
        if owner != NOBODY {
            self.withdraw_from(owner);
        }
    }

    fn withdraw_from(&mut self, owner: u32) {
        *self.registration.owner.get_mut() = NOBODY;
        let Some(inner) = &self.inner else { return };
        loops::bury(owner, self.registration.key(), |selector| {
            // An error means that the kernel does not know the descriptor (the source was
            // suspended): as wished.
            let _ = selector.remove(inner.as_fd());
        });
    }
}

impl<F: AsFd> Drop for Io<F> {
    fn drop(&mut self) {
        self.withdraw();
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
    fn a_socket_stays_small_and_may_travel() {
        fn travels<X: Send + Sync>() {}
        travels::<Io<OwnedFd>>();
        travels::<Io<UnixStream>>();
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
