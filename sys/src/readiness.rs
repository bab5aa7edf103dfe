//! What a kernel reported about a source.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// The conditions that one event reports, as a set. Each is a hint, not a promise of success.
///
/// | bit | meaning | a reader or writer then |
/// |---|---|---|
/// | readable | data, a datagram or a connection waits | reads, receives or accepts |
/// | writable | there is room, or a connection attempt has ended | writes, or takes the error |
/// | read-closed | the peer has shut down or closed its writing half | reads up to the 0 |
/// | write-closed | nothing more can be sent | gets an error from the next write |
/// | error | the source has a pending error | gets it from the next call, or [takes][take] it |
/// | priority | out-of-band data waits; it never makes a source readable | uses `MSG_OOB` |
///
/// [take]: crate::socket::take_error
///
/// Kernels differ. Read-closed may come with or without readable, so a reader checks both. The
/// writing end of a pipe whose reader is closed reports an error (epoll) or write-closed (kqueue).
/// Closing and errors may be reported to a registration with any interest.
///
/// ```
/// use kodiak_sys::Readiness;
///
/// let readiness = Readiness::READABLE | Readiness::READ_CLOSED;
/// assert!(readiness.is_readable() && readiness.is_read_closed() && !readiness.is_error());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Readiness(u8);

impl Readiness {
    // The bits have epoll's values where epoll has them: see `selector/epoll.rs`.

    /// Data, a datagram or a connection waits.
    pub const READABLE: Readiness = Readiness(1);
    /// There is room to write, or a connection attempt has ended.
    pub const WRITABLE: Readiness = Readiness(1 << 2);
    /// The peer will send nothing more.
    pub const READ_CLOSED: Readiness = Readiness(1 << 5);
    /// Nothing more can be sent.
    pub const WRITE_CLOSED: Readiness = Readiness(1 << 4);
    /// An error waits.
    pub const ERROR: Readiness = Readiness(1 << 3);
    /// Out-of-band data waits.
    pub const PRIORITY: Readiness = Readiness(1 << 1);

    /// No condition, like `Readiness::default()`.
    pub const fn empty() -> Readiness {
        Readiness(0)
    }

    /// Whether everything in `other` is in `self`.
    #[inline]
    pub const fn contains(self, other: Readiness) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is reported.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether data, a datagram or a connection waits.
    #[inline]
    pub const fn is_readable(self) -> bool {
        self.contains(Readiness::READABLE)
    }

    /// Whether there is room to write, or a connection attempt has ended.
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.contains(Readiness::WRITABLE)
    }

    /// Whether the peer will send nothing more. What it sent before may still wait to be read.
    #[inline]
    pub const fn is_read_closed(self) -> bool {
        self.contains(Readiness::READ_CLOSED)
    }

    /// Whether nothing more can be sent.
    #[inline]
    pub const fn is_write_closed(self) -> bool {
        self.contains(Readiness::WRITE_CLOSED)
    }

    /// Whether an error waits.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.contains(Readiness::ERROR)
    }

    /// Whether out-of-band data waits.
    #[inline]
    pub const fn is_priority(self) -> bool {
        self.contains(Readiness::PRIORITY)
    }

    /// The set with these bits.
    #[cfg_attr(
        not(all(any(target_os = "linux", target_os = "android"), not(kodiak_kqueue))),
        expect(dead_code)
    )]
    #[inline]
    pub(crate) const fn from_bits(bits: u8) -> Readiness {
        Readiness(bits)
    }

    #[cfg_attr(
        not(all(any(target_os = "linux", target_os = "android"), not(kodiak_kqueue))),
        expect(dead_code)
    )]
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// `bit` if `present`, else the empty set.
    #[cfg_attr(
        all(any(target_os = "linux", target_os = "android"), not(kodiak_kqueue)),
        expect(dead_code)
    )]
    pub(crate) const fn when(present: bool, bit: Readiness) -> Readiness {
        if present { bit } else { Readiness::empty() }
    }
}

impl BitOr for Readiness {
    type Output = Readiness;

    fn bitor(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }
}

impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, other: Readiness) {
        *self = *self | other;
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Readiness::READABLE, "READABLE"),
            (Readiness::WRITABLE, "WRITABLE"),
            (Readiness::READ_CLOSED, "READ_CLOSED"),
            (Readiness::WRITE_CLOSED, "WRITE_CLOSED"),
            (Readiness::ERROR, "ERROR"),
            (Readiness::PRIORITY, "PRIORITY"),
        ];
        crate::debug_flags(
            f,
            "Readiness",
            names.iter().filter(|(bit, _)| self.contains(*bit)).map(|(_, name)| *name),
        )
    }
}
