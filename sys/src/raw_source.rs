//! A source by its descriptor number, for a loop that does not own the descriptor.

use crate::socket::bytes_readable_raw;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// The number of a descriptor that is neither owned nor borrowed.
///
/// An event loop holds keys, not descriptors. It must still take a source out of its selector when
/// no handler reacts to a hang-up. It keeps a `RawSource` from the registration on, and uses it
/// with [`Selector::modify_raw`](crate::Selector::modify_raw),
/// [`Selector::remove_raw`](crate::Selector::remove_raw) and
/// [`bytes_readable`](RawSource::bytes_readable).
///
/// # What the caller must ensure
///
/// **The descriptor must still be open.** Once it is closed, its number may belong to another file,
/// and the call is about that file. A caller that cannot exclude this must ignore the result. In
/// the reactor, the owner notifies the loop *before* it closes the descriptor, under a lock that
/// the loop holds while it uses the number.
///
/// A mistake here is a bug, but not unsound: nothing reads, writes, closes or hands out the file
/// behind the number. At worst the selector's own list loses or gains an entry, or a count is that
/// of another file. A number that is not open is an error. That is why these calls are safe, and
/// why there are no others.
///
/// ```
/// use kodiak_sys::{Interest, RawSource, Selector, Trigger};
/// use std::os::fd::AsFd;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, _theirs) = UnixStream::pair()?;
/// let selector = Selector::new()?;
/// selector.add(ours.as_fd(), 7, Interest::READABLE, Trigger::Level)?;
/// let raw = RawSource::of(ours.as_fd());
/// // Elsewhere, while `ours` is known to be open:
/// selector.modify_raw(raw, 7, Interest::WRITABLE, Trigger::Oneshot)?;
/// assert_eq!(raw.bytes_readable()?, 0);
/// selector.remove_raw(raw)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RawSource(RawFd);

impl RawSource {
    /// The number of this open descriptor.
    pub fn of(source: BorrowedFd<'_>) -> RawSource {
        RawSource(source.as_raw_fd())
    }

    /// As [`socket::bytes_readable`](crate::socket::bytes_readable), for the file that has this
    /// number now.
    ///
    /// # Errors
    /// As [`socket::bytes_readable`](crate::socket::bytes_readable); also if no file has this
    /// number.
    pub fn bytes_readable(self) -> io::Result<usize> {
        bytes_readable_raw(self.0)
    }

    pub(crate) fn raw_fd(self) -> RawFd {
        self.0
    }
}
