//! A hierarchical timer wheel over the whole `u64` range of ticks.
//!
//! [`Wheel`] keeps timers of any type `T`, each with a deadline in ticks. It has no clock, no
//! thread and no operating system: time is an argument of [`Wheel::advance`], and the caller
//! decides how long a tick is. The module `instant` (feature `std`) converts `Instant` and
//! `Duration`.
//!
//! ```
//! use kodiak_timer::Wheel;
//!
//! let mut wheel = Wheel::new(0);
//! wheel.insert(250, "tea");
//! let alarm = wheel.insert(60_000, "alarm");
//! assert_eq!(wheel.next_deadline(), Some(250)); // how long the caller may sleep
//!
//! let mut advance = wheel.advance(300, 1024); // it is 300 now; at most 1024 timers fire
//! loop {
//!     let Some(expired) = advance.next(&mut wheel) else { break };
//!     assert_eq!((expired.deadline(), *expired.value()), (250, "tea"));
//!     let tea = expired.into_value(); // or `rearm` it
//!     assert!(wheel.reschedule(alarm, 400)); // the wheel is free between two timers
//! }
//! assert_eq!(wheel.cancel(alarm), Some("alarm"));
//! assert_eq!(wheel.cancel(alarm), None);
//! ```
//!
//! - [`insert`](Wheel::insert), [`cancel`](Wheel::cancel) and [`reschedule`](Wheel::reschedule)
//!   take constant time. They allocate nothing once the wheel has grown to the number of timers it
//!   holds.
//! - [`next_deadline`](Wheel::next_deadline) is how long the caller may sleep. It reads three words
//!   and one slot, and is never late.
//! - [`advance`](Wheel::advance) yields due timers **one by one** and borrows nothing in between.
//!   So the code that runs for a timer may set, move and cancel any timer, also one that is due in
//!   the same advance.
//! - A [`Key`] names one timer of one wheel and is never reused: once the timer is gone the key
//!   finds nothing, and it finds nothing in another wheel.
//!
//! # What is promised
//!
//! - **Never early, never late**: a timer is due in the first advance whose `now` is at least its
//!   deadline (or, set with slack, within that).
//! - **Order**: timers fire by deadline; those of one tick in the order they were set (rescheduled
//!   ones excepted). A timer that is already due when it is set counts as set *for now*: it fires
//!   in the **next** advance, after all that was due before it. So a timer that sets itself again
//!   with a zero timeout cannot starve other timers.
//! - **Bounded work**: an advance does at most `budget + 64` units of work. Yielding a timer is one
//!   unit, moving a timer inside the wheel is three. What is left over comes first in the next
//!   advance.
//! - **Memory**: 32 bytes and an `Option<T>` for each timer, padded to eight, and 4 bytes more in a
//!   wheel of 65,536 timers or more. It is freed when the wheel is dropped, not before.
//!
//! # Where it comes from
//!
//! G. Varghese and T. Lauck, *Hashed and Hierarchical Timing Wheels* (SOSP 1987), scheme 7. What
//! differs, and why, is explained in `geometry.rs` (how a tick finds its slot), `expiry.rs` (how
//! time moves), `links.rs` and `prefetch.rs` (what memory is touched).
//!
//! # Features
//!
//! `std` (default) adds the module `instant`. Without it the crate needs `core`, `alloc` and 32-bit
//! atomics.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod expiry;
mod geometry;
#[cfg(feature = "std")]
pub mod instant;
mod links;
mod lists;
mod prefetch;
mod slab;
#[cfg(test)]
mod tests;
mod wheel;

pub use expiry::{Advance, Expired};
#[cfg(feature = "std")]
pub use instant::Ticks;
pub use slab::Key;
pub use wheel::{Iter, Wheel};
