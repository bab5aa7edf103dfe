//! What ties a socket to the loop: [`Source`], [`Registration`] and the owner [`Io`].
//!
//! A registered socket knows its loop (a `Weak` to what the loop shares) and its key; the loop knows nothing of the
//! socket but the key's slot. So a socket may move, be boxed, be sent to another thread or be dropped anywhere, and
//! nobody holds a pointer that could dangle. Dropping does three things in this order:
//!
//! 1. the descriptor leaves the kernel's interest list, so that a duplicate of it cannot keep firing;
//! 2. the key goes onto the loop's list of the dead, in room reserved when the source was registered (no allocation);
//! 3. the descriptor closes.
//!
//! The loop looks at the list's flag (one load) before each dispatch, so an event already fetched for a dropped source
//! is never delivered.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kodiak_sys::Selector;

/// Something with a descriptor that an [`EventLoop`](crate::EventLoop) can watch.
///
/// The sockets of `kodiak-net` are sources. Any other descriptor becomes one inside [`Io`]. A type of your own that
/// holds a source is a source by handing both questions on:
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
/// Only [`Io`] makes one, because only the descriptor's owner can see to it that the kernel forgets the descriptor
/// before it closes.
#[derive(Default)]
pub struct Registration {
    link: Mutex<Link>,
}

/// The content of a [`Registration`]. An unregistered one has a `Weak` that leads nowhere.
#[derive(Default)]
pub(crate) struct Link {
    shared: Weak<Shared>,
    key: u64,
}

/// Where a source stands, seen from one loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Unregistered,
    Here { key: u64 },
    Elsewhere,
}

impl Registration {
    /// Locks the slot for the whole of a registration, so that two loops on two threads cannot both take a source.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registered = self.lock().shared.strong_count() > 0;
        f.debug_struct("Registration").field("registered", &registered).finish()
    }
}

impl Link {
    /// A loop that is gone counts as no loop: its selector went with it.
    pub(crate) fn standing(&self, shared: &Arc<Shared>) -> Standing {
        if self.shared.as_ptr() == Arc::as_ptr(shared) {
            Standing::Here { key: self.key }
        } else if self.shared.strong_count() == 0 {
            Standing::Unregistered
        } else {
            Standing::Elsewhere
        }
    }

    pub(crate) fn set(&mut self, shared: &Arc<Shared>, key: u64) {
        *self = Link { shared: Arc::downgrade(shared), key };
    }

    pub(crate) fn clear(&mut self) {
        *self = Link::default();
    }
}

/// What the loop shares with its sources: the kernel's interest list and the list of the dead.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) selector: Selector,
    /// Keys of sources that were dropped while registered. Its capacity is never below the number of registrations,
    /// see [`Shared::reserve_dead`].
    dead: Mutex<Vec<u64>>,
    any_dead: AtomicBool,
}

impl Shared {
    pub(crate) fn new(selector: Selector) -> Shared {
        Shared { selector, dead: Mutex::new(Vec::new()), any_dead: AtomicBool::new(false) }
    }

    /// One load, so that the loop can afford to ask before each dispatch. Relaxed: whoever says yes goes on to take the lock, and
    /// whoever must be heard has dropped its source on this thread, or told this thread of it.
    #[inline]
    pub(crate) fn any_dead(&self) -> bool {
        self.any_dead.load(Ordering::Relaxed)
    }

    /// Makes sure that `registrations` keys fit without an allocation.
    pub(crate) fn reserve_dead(&self, registrations: usize) {
        let mut dead = self.lock_dead();
        if dead.capacity() < registrations {
            let missing = registrations - dead.len();
            dead.reserve(missing);
        }
    }

    /// The next key of a source that died, if any.
    pub(crate) fn take_dead(&self) -> Option<u64> {
        let mut dead = self.lock_dead();
        let key = dead.pop();
        if dead.is_empty() {
            self.any_dead.store(false, Ordering::Release);
        }
        key
    }

    /// How many sources have died that the loop has not yet taken note of.
    pub(crate) fn dead_len(&self) -> usize {
        self.lock_dead().len()
    }

    /// Does something to a source of which the loop knows only the key and the descriptor's number, unless the source has died.
    /// Whoever drops a source enters its key here before the descriptor closes, so while this runs the number means
    /// the source's own file, whatever other threads drop.
    pub(crate) fn while_alive<R>(&self, key: u64, act: impl FnOnce(&Selector) -> R) -> Option<R> {
        let dead = self.lock_dead();
        if dead.contains(&key) { None } else { Some(act(&self.selector)) }
    }

    fn bury(&self, key: u64) {
        let mut dead = self.lock_dead();
        dead.push(key);
        self.any_dead.store(true, Ordering::Release);
    }

    fn lock_dead(&self) -> MutexGuard<'_, Vec<u64>> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Owns a descriptor and its registration: the way for any descriptor into an [`EventLoop`](crate::EventLoop).
///
/// `F` is whatever owns the descriptor: an `OwnedFd`, a `std` or `socket2` socket, a pipe, a stranger's type. It
/// should be non-blocking; `Io` does not change it. Dropping an `Io` takes the descriptor out of its loop and then drops
/// `F`; from that moment on the handler hears nothing of it, not even what the kernel had already reported.
///
/// `Io` is `Send` and `Sync` where `F` is, and may be dropped on any thread. `Io<OwnedFd>` is 32 bytes.
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

    /// The wrapped value. Exchanging it for one with another descriptor while registered leaves the old descriptor in
    /// the kernel: deregister first.
    pub fn get_mut(&mut self) -> &mut F {
        self.inner.as_mut().expect("an Io has its value until it is taken apart")
    }

    /// Deregisters the descriptor, as dropping would, and gives it back open.
    pub fn into_inner(mut self) -> F {
        self.withdraw();
        self.inner.take().expect("an Io has its value until it is taken apart")
    }

    /// Leaves the loop, if there is one: first the kernel, then the loop's books.
    fn withdraw(&mut self) {
        let Some(inner) = &self.inner else { return };
        let link = self.registration.link.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = link.shared.upgrade() {
            // An error means that the kernel does not know the descriptor (the source was suspended): as wished.
            let _ = shared.selector.remove(inner.as_fd());
            shared.bury(link.key);
        }
        link.clear();
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

impl<F: AsFd> From<F> for Io<F> {
    fn from(inner: F) -> Io<F> {
        Io::new(inner)
    }
}

impl<F: AsFd + fmt::Debug> fmt::Debug for Io<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("inner", self.get_ref()).field("registration", &self.registration).finish()
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
        assert_eq!(size_of::<Io<OwnedFd>>(), 32);
        assert_eq!(size_of::<Registration>(), 24);
    }

    #[test]
    fn an_unregistered_io_gives_its_value_back() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let io = Io::new(ours);
        assert!(format!("{io:?}").contains("registered: false"));
        io.into_inner().peer_addr().unwrap();
    }
}
