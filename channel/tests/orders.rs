//! The memory orders that the proof in `src/notifier.rs` requires of crossbeam's queue.
//!
//! Two threads race through one step each; afterwards at least one of them must have seen the
//! other. On the machine this finds the reorderings of its processor; under Miri also those that
//! the memory model allows:
//!
//! `MIRIFLAGS=-Zmiri-many-seeds=0..64 cargo +nightly miri test -p kodiak-channel --test orders`
#![cfg(not(loom))]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use kodiak_channel::{Notifier, Receiver, Sender, Wake, bounded, unbounded};

/// The number of races. Miri is slow, and tries other interleavings with each seed.
const RACES: usize = if cfg!(miri) { 6 } else { 20_000 };

/// Records that it was called, with relaxed order.
#[derive(Clone, Default)]
struct Woken(Arc<AtomicBool>);

impl Wake for Woken {
    fn wake(&self) -> io::Result<()> {
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Runs rounds of `left` on this thread and `right` on another one at about the same time, and
/// `check` on this thread after each round.
fn race(
    mut left: impl FnMut(usize),
    mut right: impl FnMut(usize) + Send,
    mut check: impl FnMut(usize),
) {
    /// Ends the other thread when a check fails.
    struct Release<'a>(&'a AtomicUsize);
    impl Drop for Release<'_> {
        fn drop(&mut self) {
            self.0.store(RACES, Ordering::Release);
        }
    }
    let await_count = |count: &AtomicUsize, wanted: usize| {
        while count.load(Ordering::Acquire) < wanted {
            // The other thread may need this processor.
            thread::yield_now();
        }
    };
    let (begun, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _release = Release(&done);
            for round in 0..RACES {
                await_count(&begun, round + 1);
                right(round);
                done.store(round + 1, Ordering::Release);
            }
        });
        let _release = Release(&begun);
        for round in 0..RACES {
            begun.store(round + 1, Ordering::Release);
            left(round);
            await_count(&done, round + 1);
            check(round);
        }
    });
}

/// Every send races with the arming of the notifier: the loop sees the message, or is woken once.
fn sends_race_with_arming(
    (sender, receiver): (Sender<usize>, Receiver<usize>),
    notifier: &Notifier,
    woken: &Woken,
) {
    let ready = AtomicBool::new(false);
    race(
        |_| {
            notifier.arm();
            ready.store(receiver.is_ready(), Ordering::Relaxed);
        },
        |round| {
            let _checked_below = sender.send(round);
        },
        |round| {
            let woken = woken.0.swap(false, Ordering::Relaxed);
            assert!(ready.load(Ordering::Relaxed) || woken, "round {round}: a lost wake-up");
            notifier.stay_awake();
            assert_eq!(receiver.try_recv(), Ok(round));
        },
    );
}

#[test]
fn a_bounded_send_and_the_arming_see_each_other() {
    let woken = Woken::default();
    let notifier = Notifier::new(woken.clone());
    sends_race_with_arming(bounded(4, &notifier), &notifier, &woken);
}

#[test]
fn an_unbounded_send_and_the_arming_see_each_other() {
    let woken = Woken::default();
    let notifier = Notifier::new(woken.clone());
    sends_race_with_arming(unbounded(&notifier), &notifier, &woken);
}

/// Every send to a topic that is already ready races with the taking of the topics. The loop checks
/// its channels after that: it sees the message, or the topic is ready again.
fn sends_race_with_the_taking(
    (sender, receiver): (Sender<usize>, Receiver<usize>),
    notifier: &Notifier,
) {
    let (ready, another) = (AtomicBool::new(false), sender.clone());
    let notify = || {
        another.send(usize::MAX).unwrap();
        assert_eq!(receiver.try_recv(), Ok(usize::MAX));
    };
    notify();
    race(
        |_| {
            assert!(!notifier.take_ready().is_empty());
            ready.store(receiver.is_ready(), Ordering::Relaxed);
        },
        |round| {
            let _checked_below = sender.send(round);
        },
        |round| {
            assert!(
                ready.load(Ordering::Relaxed) || notifier.has_ready(),
                "round {round}: a message that the loop misses"
            );
            assert_eq!(receiver.try_recv(), Ok(round));
            notify();
        },
    );
}

#[test]
fn a_bounded_send_and_the_taking_see_each_other() {
    let notifier = Notifier::new(Woken::default());
    sends_race_with_the_taking(bounded(4, &notifier), &notifier);
}

#[test]
fn an_unbounded_send_and_the_taking_see_each_other() {
    let notifier = Notifier::new(Woken::default());
    sends_race_with_the_taking(unbounded(&notifier), &notifier);
}

/// A message that counts its drops.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Every send races with the receiver's drop: the message is returned or dropped at once, although
/// the sender is still there.
#[test]
fn a_send_and_the_receivers_drop_see_each_other() {
    let notifier = Notifier::new(Woken::default());
    let dropped = AtomicUsize::new(0);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..RACES)
        .map(|n| if n % 2 == 0 { bounded(4, &notifier) } else { unbounded(&notifier) })
        .unzip();
    let mut receivers = receivers.into_iter();
    race(
        |_| drop(receivers.next()),
        // A returned message is dropped here, and counted with the rest.
        |round| drop(senders[round].send(Counted(&dropped))),
        |round| {
            assert_eq!(
                dropped.load(Ordering::Relaxed),
                round + 1,
                "a message lies in a closed queue"
            )
        },
    );
}

/// The last sender's drop races with the arming: the loop sees the channel closed, or is woken.
#[test]
fn the_last_senders_drop_and_the_arming_see_each_other() {
    let woken = Woken::default();
    let notifier = Notifier::new(woken.clone());
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..RACES).map(|_| bounded::<u8>(1, &notifier)).unzip();
    let mut senders = senders.into_iter();
    let ready = AtomicBool::new(false);
    race(
        |round| {
            notifier.arm();
            ready.store(receivers[round].is_ready(), Ordering::Relaxed);
        },
        |_| drop(senders.next()),
        |round| {
            let woken = woken.0.swap(false, Ordering::Relaxed);
            assert!(ready.load(Ordering::Relaxed) || woken, "round {round}: a lost wake-up");
            notifier.stay_awake();
        },
    );
}
