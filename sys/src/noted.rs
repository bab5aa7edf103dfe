//! Descriptors noted by number.

use crate::socket::bytes_readable_raw;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// The number of a descriptor that was seen open once, for whoever must speak of a source without
/// being able to borrow it.
///
/// An event loop holds keys, not descriptors, and still has to take a source out of its selector
/// when nobody reacts to a hang-up. It notes the number at registration and uses it with
/// [`Selector::modify_noted`](crate::Selector::modify_noted),
/// [`Selector::remove_noted`](crate::Selector::remove_noted) and
/// [`bytes_readable`](Noted::bytes_readable).
///
/// **The caller sees to it that the descriptor has not been closed meanwhile**, or at least makes
/// nothing of the answer if it may have been: the number may belong to another file by now, and
/// then it is that file the call is about. In the reactor the owner tells the loop *before* it
/// closes the descriptor, under a lock that the loop holds while it uses the number.
///
/// Getting that wrong is a bug, but not unsound: nothing here reads, writes, closes or hands out
/// the file behind the number. The worst that can happen is that the selector's own list loses or
/// gains an entry, or that a count is another file's. A number that is not open at all is an error.
/// Which is why these calls are safe, and why there are no others.
///
/// ```
/// use kodiak_sys::{Interest, Noted, Selector, Trigger};
/// use std::os::fd::AsFd;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, _theirs) = UnixStream::pair()?;
/// let selector = Selector::new()?;
/// selector.add(ours.as_fd(), 7, Interest::READABLE, Trigger::Level)?;
/// let noted = Noted::of(ours.as_fd());
/// // Elsewhere, while `ours` is known to be open:
/// selector.modify_noted(noted, 7, Interest::WRITABLE, Trigger::Oneshot)?;
/// assert_eq!(noted.bytes_readable()?, 0);
/// selector.remove_noted(noted)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Noted(RawFd);

impl Noted {
    /// Notes the number of an open descriptor.
    pub fn of(source: BorrowedFd<'_>) -> Noted {
        Noted(source.as_raw_fd())
    }

    /// As [`socket::bytes_readable`](crate::socket::bytes_readable), of the file that the number
    /// stands for now.
    ///
    /// # Errors
    /// What the kernel says, for instance that nothing is open under this number.
    pub fn bytes_readable(self) -> io::Result<usize> {
        bytes_readable_raw(self.0)
    }

    pub(crate) fn number(self) -> RawFd {
        self.0
    }
}
