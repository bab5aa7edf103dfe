//! Waiting for many descriptors at once. This file chooses the mechanism and has the common part.
//!
//! # What every backend provides
//!
//! `Selector`, `Send + Sync`, with
//! - `new()`: with a close-on-exec descriptor; `as_fd()` borrows it, so that selectors nest;
//! - `add(source, key, interest, trigger)`: `AlreadyExists` if the source is registered; interest
//!   is never empty (checked here);
//! - `add_exclusive(…)`: the same, waking only one of several selectors, or `Unsupported`;
//! - `modify(number, key, interest, trigger)`: replaces key, interest and trigger and arms again;
//!   `NotFound` if unknown;
//! - `remove(number)`: removes the registration; `NotFound` if unknown. These two take the
//!   descriptor's number and change only the selector's own list, never the file;
//! - `wait(buffer, timeout)`: clears the buffer, also before an error, and fills it. It returns
//!   `Ok(())` with an empty buffer only when the whole timeout has passed, however long it is, and
//!   `Interrupted` when a signal came first.
//!
//! `Buffer`, the events' memory, allocated once: `with_capacity(n)`, `capacity()`, `len()`,
//! `get(index)`, `clear()`.
//!
//! And these promises:
//! - every `u64` key is returned unchanged;
//! - one source has at most one event in one wait;
//! - oneshot disarms the whole registration, whichever interest fired;
//! - out-of-band data alone never makes a source readable;
//! - an interest the kernel lacks is `Unsupported`;
//! - nothing allocates in `wait`.

#[cfg(all(any(target_os = "linux", target_os = "android"), not(kodiak_kqueue)))]
pub(crate) mod epoll;
#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(kodiak_kqueue))))]
pub(crate) mod kqueue;

cfg_select! {
    all(any(target_os = "linux", target_os = "android"), not(kodiak_kqueue)) => {
        pub(crate) use epoll as imp;
    }
    any(
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly",
        all(target_os = "linux", kodiak_kqueue),
    ) => {
        pub(crate) use kqueue as imp;
    }
    _ => {
        compile_error!(concat!(
            "kodiak-sys runs on epoll (Linux, Android) and kqueue (macOS, iOS, FreeBSD, NetBSD, ",
            "OpenBSD, DragonFly)"
        ));
    }
}

use crate::{Interest, RawSource, Readiness, Trigger};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// Waits for many sources at once, each with a trigger and a `u64` key of the caller's choice.
///
/// Every value is allowed as a key, and keys need not differ. All methods take `&self` and may be
/// called from several threads; a change made while another thread waits takes effect in that wait.
///
/// A source should be removed before it is closed. If it is not, the kernel forgets it once the
/// last duplicate of the descriptor is closed (so a duplicate elsewhere, or in a forked child,
/// keeps its events coming on epoll).
///
/// A selector is itself a descriptor that is readable when events wait, so it can be watched by
/// another one.
#[derive(Debug)]
pub struct Selector {
    pub(crate) imp: imp::Selector,
}

impl Selector {
    /// A selector that watches nothing yet.
    ///
    /// # Errors
    /// The [kernel's error](crate#errors).
    pub fn new() -> io::Result<Selector> {
        Ok(Selector { imp: imp::Selector::new()? })
    }

    /// Starts to watch `source`. Its events carry `key`.
    ///
    /// # Errors
    /// - [`AlreadyExists`](io::ErrorKind::AlreadyExists): this descriptor is registered; use
    ///   [`modify`](Self::modify).
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): `interest` is empty.
    /// - [`Unsupported`](io::ErrorKind::Unsupported): the kernel cannot watch for this interest.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): epoll does not watch regular files
    ///   and folders.
    /// - any other [kernel's error](crate#errors), such as a limit on watches.
    #[inline]
    pub fn add(
        &self,
        source: BorrowedFd<'_>,
        key: u64,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        refuse_empty(interest)?;
        self.imp.add(source, key, interest, trigger)
    }

    /// As [`add`](Self::add), but an event wakes only one or a few of the selectors that watch the
    /// file in this way (`EPOLLEXCLUSIVE`).
    ///
    /// It is for a listener shared by several threads, each with a selector of its own.
    ///
    /// It is for readable and writable only, level or edge. Such a registration can be removed, but
    /// not modified ([`InvalidInput`](io::ErrorKind::InvalidInput)). A peer's half-close is not
    /// reported by itself ([`Readiness::is_read_closed`]); a read finds it.
    ///
    /// # Errors
    /// As [`add`](Self::add). [`Unsupported`](io::ErrorKind::Unsupported) on kqueue, and anywhere
    /// with priority interest or oneshot.
    pub fn add_exclusive(
        &self,
        source: BorrowedFd<'_>,
        key: u64,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        refuse_empty(interest)?;
        if interest.contains(Interest::PRIORITY) || trigger == Trigger::Oneshot {
            let text = "exclusive wake-ups are for readable and writable interest, level or edge";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        self.imp.add_exclusive(source, key, interest, trigger)
    }

    /// Replaces a registration's key, interest and trigger, and arms it again: a condition that
    /// holds now is reported again.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if `source` is not registered; otherwise as
    /// [`add`](Self::add). After [`InvalidInput`](io::ErrorKind::InvalidInput) and
    /// [`Unsupported`](io::ErrorKind::Unsupported) the registration is unchanged.
    pub fn modify(
        &self,
        source: BorrowedFd<'_>,
        key: u64,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        refuse_empty(interest)?;
        self.imp.modify(source.as_raw_fd(), key, interest, trigger)
    }

    /// As [`modify`](Self::modify), for a source by its number. [`RawSource`] says what the caller
    /// must ensure.
    ///
    /// # Errors
    /// As [`modify`](Self::modify); also if the number is not open.
    pub fn modify_raw(
        &self,
        source: RawSource,
        key: u64,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        refuse_empty(interest)?;
        self.imp.modify(source.raw_fd(), key, interest, trigger)
    }

    /// Stops watching `source`. No later wait reports it; events that another thread's wait has
    /// already collected remain.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if `source` is not registered.
    pub fn remove(&self, source: BorrowedFd<'_>) -> io::Result<()> {
        self.imp.remove(source.as_raw_fd())
    }

    /// As [`remove`](Self::remove), for a source by its number. [`RawSource`] says what the caller
    /// must ensure.
    ///
    /// # Errors
    /// As [`remove`](Self::remove); also if the number is not open.
    pub fn remove_raw(&self, source: RawSource) -> io::Result<()> {
        self.imp.remove(source.raw_fd())
    }

    /// Waits until a source is ready or `timeout` has passed. Returns the number of events in
    /// `events`.
    ///
    /// `None` waits without limit; zero returns at once. A timeout is never early: `Ok(0)`
    /// means that all of it has passed, even if it is a century. It is late by the kernel's timer
    /// slack; on Linux before 5.11, and where a sandbox refuses `epoll_pwait2`, by up to a
    /// millisecond more.
    ///
    /// The previous content of `events` is cleared, also after an error.
    ///
    /// # Errors
    /// [`Interrupted`](io::ErrorKind::Interrupted) when a signal handler ran. No event is lost; the
    /// caller, which knows its deadline, waits again.
    #[inline]
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        self.imp.wait(&mut events.buffer, timeout)?;
        Ok(events.len())
    }
}

impl AsFd for Selector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.imp.as_fd()
    }
}

#[inline]
fn refuse_empty(interest: Interest) -> io::Result<()> {
    if interest.is_empty() { Err(empty_interest()) } else { Ok(()) }
}

#[cold]
fn empty_interest() -> io::Error {
    let text = "the interest is empty: name what to watch for, or remove the source";
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// What one wait reports about one source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The key given to [`Selector::add`] or [`Selector::modify`].
    pub key: u64,
    /// What the source is ready for.
    pub readiness: Readiness,
}

impl Event {
    /// An event that no wait reported, for tests and for events that a caller makes itself.
    #[inline]
    pub const fn new(key: u64, readiness: Readiness) -> Event {
        Event { key, readiness }
    }
}

/// The buffer that a wait fills. Allocated once; events that do not fit come in the next wait.
///
/// ```
/// use kodiak_sys::Events;
///
/// let events = Events::with_capacity(1024);
/// assert_eq!(events.capacity(), 1024);
/// assert!(events.is_empty());
/// ```
pub struct Events {
    buffer: imp::Buffer,
}

impl Events {
    /// The greatest capacity: 65,536 events.
    pub const MAX_CAPACITY: usize = 1 << 16;

    /// Room for `capacity` events, clamped to `1..=MAX_CAPACITY`.
    pub fn with_capacity(capacity: usize) -> Events {
        Events { buffer: imp::Buffer::with_capacity(capacity.clamp(1, Events::MAX_CAPACITY)) }
    }

    /// The greatest number of events that one wait can report.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// The number of events that the last wait reported.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether the last wait reported none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The event at `index`, in the kernel's order; `None` from [`len`](Self::len) on.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Event> {
        self.buffer.get(index)
    }

    /// Removes the events.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    /// The events in the kernel's order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { events: self, next: 0 }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = Event;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The events of one wait; made by [`Events::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    events: &'a Events,
    next: usize,
}

impl Iterator for Iter<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let event = self.events.get(self.next)?;
        self.next += 1;
        Some(event)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.events.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Iter<'_> {}
