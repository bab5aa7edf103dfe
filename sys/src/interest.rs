//! What a source is watched for, and how often it is reported.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// What a source is watched for: a set of readable, writable and priority.
///
/// End of stream and errors are reported with every interest.
///
/// ```
/// use kodiak_sys::Interest;
///
/// let both = Interest::READABLE | Interest::WRITABLE;
/// assert!(both.contains(Interest::READABLE));
/// assert_eq!(both.remove(Interest::WRITABLE), Interest::READABLE);
/// assert!(both.remove(both).is_empty());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interest(u8);

impl Interest {
    /// Data, a connection to accept, or the end of the stream.
    pub const READABLE: Interest = Interest(0b001);
    /// Room to write, or a connection attempt that has ended, well or badly.
    pub const WRITABLE: Interest = Interest(0b010);
    /// Out-of-band data (TCP's urgent byte). FreeBSD, NetBSD and libkqueue cannot watch for it:
    /// there [`Selector::add`](crate::Selector::add) fails with
    /// [`Unsupported`](std::io::ErrorKind::Unsupported).
    pub const PRIORITY: Interest = Interest(0b100);

    /// No interest, like `Interest::default()`. A selector refuses it.
    pub const fn empty() -> Interest {
        Interest(0)
    }

    /// Whether everything in `other` is in `self`. The empty interest is in every other.
    #[inline]
    pub const fn contains(self, other: Interest) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it contains no interest.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The union of `self` and `other`, as `self | other`, and usable in constants.
    #[must_use]
    pub const fn add(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }

    /// `self` without what is in `other`.
    #[must_use]
    pub const fn remove(self, other: Interest) -> Interest {
        Interest(self.0 & !other.0)
    }
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        self.add(other)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Interest) {
        *self = *self | other;
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Interest::READABLE, "READABLE"),
            (Interest::WRITABLE, "WRITABLE"),
            (Interest::PRIORITY, "PRIORITY"),
        ];
        crate::debug_flags(
            f,
            "Interest",
            names.iter().filter(|(bit, _)| self.contains(*bit)).map(|(_, name)| *name),
        )
    }
}

/// How often a ready source is reported.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Trigger {
    /// In every wait, for as long as the condition holds.
    #[default]
    Level,
    /// Once for each new arrival of data or room. The caller then reads or writes until
    /// [`WouldBlock`](std::io::ErrorKind::WouldBlock). Some kernels report more often.
    Edge,
    /// Once. Then no interest of the source is reported until
    /// [`Selector::modify`](crate::Selector::modify) arms it again. It stays registered.
    Oneshot,
}
