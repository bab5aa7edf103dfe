//! A thin and safe layer over the kernel, with the calls that an event loop needs.
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
//!
//! - [`Selector`] waits for many descriptors at once: epoll on Linux and Android, kqueue on macOS,
//!   iOS and the BSDs.
//! - [`Waker`] ends such a wait from another thread.
//! - [`Signals`] turns Unix signals into something a selector can wait for.
//! - [`ChildExit`] is a descriptor that is readable once a child process has ended.
//! - [`pipe`] and [`set_nonblocking`] make descriptors non-blocking; [`set_timer_slack`] makes
//!   waits end on time.
//! - [`boot_clock`] keeps counting while the machine is suspended.
//! - [`socket`] has the socket calls that neither the standard library nor `socket2` offers.
//!
//! Descriptors are borrowed ([`BorrowedFd`](std::os::fd::BorrowedFd)) or owned
//! ([`OwnedFd`](std::os::fd::OwnedFd)); [`RawSource`] is the one exception. All of Kodiak's
//! `unsafe` code is in this crate: one call per block, each with its reason.
//!
//! The contract is the same on all kernels. Where they differ, it promises only what all of them
//! do. What a kernel lacks is an [`Unsupported`](std::io::ErrorKind::Unsupported) error.
//!
//! # Errors
//!
//! Every function that returns [`io::Result`](std::io::Result) may fail with the error that the
//! kernel reports. An `# Errors` section names the kinds that a caller should handle. Where it says
//! "the [kernel's error](crate#errors)" and nothing else, none is expected for an open descriptor
//! of the right type. A function that makes a descriptor fails when the process or the machine has
//! none left ([`socket::is_out_of_descriptors`]).

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

/// Formats a bit set as `Name(A | B)` or `Name(empty)`.
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
