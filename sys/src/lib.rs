//! The kernel, thinly and safely: what an event loop needs from it and nothing else.
//!
//! - [`Selector`] waits for many descriptors at once: epoll on Linux and Android, kqueue on macOS,
//!   iOS and the BSDs.
//! - [`Waker`] ends such a wait from another thread.
//! - [`Signals`] turns Unix signals into something a selector can wait for.
//! - [`ChildExit`] tells a selector when a child process has ended.
//! - [`pipe`] and [`set_nonblocking`]: descriptors fit for a loop; [`set_timer_slack`]: waits that
//!   end on time.
//! - [`boot_clock`] goes on while the machine is suspended.
//! - [`socket`] holds the socket calls that neither the standard library nor `socket2` offers.
//!
//! Descriptors are borrowed ([`BorrowedFd`](std::os::fd::BorrowedFd)) or owned
//! ([`OwnedFd`](std::os::fd::OwnedFd)), never bare numbers. All of Kodiak's `unsafe` code is in
//! this crate: one call a block, each with its reason.
//!
//! The contract is one for all kernels; where they differ it is the weaker promise that all of them
//! keep, and what a kernel lacks is an [`Unsupported`](std::io::ErrorKind::Unsupported) error,
//! never silence.
//!
//! ```
//! use kodiak_sys::{Events, Interest, Selector, Trigger};
//! use std::io::Write;
//! use std::os::fd::AsFd;
//! use std::os::unix::net::UnixStream;
//!
//! let (ours, mut theirs) = UnixStream::pair()?;
//! let selector = Selector::new()?;
//! selector.add(ours.as_fd(), 7, Interest::READABLE, Trigger::Level)?;
//!
//! theirs.write_all(b"hello")?;
//! let mut events = Events::with_capacity(16);
//! assert_eq!(selector.wait(&mut events, None)?, 1);
//! let event = events.get(0).unwrap();
//! assert_eq!(event.key, 7);
//! assert!(event.readiness.is_readable());
//! # Ok::<(), std::io::Error>(())
//! ```

#![deny(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]

mod boot_clock;
mod child_exit;
mod fd;
mod interest;
mod raw_source;
mod readiness;
mod selector;
mod signals;
pub mod socket;
mod timer_slack;
mod waker;

pub use boot_clock::boot_clock;
pub use child_exit::ChildExit;
pub use fd::{is_would_block, pipe, set_nonblocking};
pub use interest::{Interest, Trigger};
pub use raw_source::RawSource;
pub use readiness::Readiness;
pub use selector::{Event, Events, Iter, Selector};
pub use signals::{SigInfo, Signal, Signals};
pub use timer_slack::{set_timer_slack, timer_slack};
pub use waker::Waker;

/// `Name(A | B)`, or `Name(empty)`: how the bit sets of this crate show themselves.
fn debug_flags<'a>(
    f: &mut std::fmt::Formatter<'_>,
    type_name: &str,
    names: impl Iterator<Item = &'a str>,
) -> std::fmt::Result {
    write!(f, "{type_name}(")?;
    let mut any = false;
    for name in names {
        write!(f, "{}{name}", if any { " | " } else { "" })?;
        any = true;
    }
    f.write_str(if any { ")" } else { "empty)" })
}
