//! Every interleaving of the wake protocol with at most two preemptions, also for broken variants.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p kodiak-channel --test loom --release`
//!
//! The notifier is the real one. The queue is a model, because loom cannot see inside crossbeam.
//! Its atomics have only the order that a queue needs (a lock would hide missing fences), so what
//! holds here also holds with crossbeam, whose atomics are stronger. The last tests use the real
//! channel with the real notifier; there loom sees only the notifier's atomics.
//!
//! Loom reports a lost wake-up as a deadlock: the loop sleeps, and all other threads have ended.
#![cfg(loom)]

#[path = "loom/topics.rs"]
mod topics;

use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed};

use kodiak_channel::{Notifier, Receiver, SendError, TryRecvError, Wake, bounded};

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// The notifier's operations, which the broken variants below implement, too.
trait Protocol: Send + Sync + 'static {
    fn new(latch: Latch) -> Self;
    /// Called after a push.
    fn notify(&self);
    fn arm(&self);
    fn stay_awake(&self);
}

impl Protocol for Notifier {
    fn new(latch: Latch) -> Self {
        Notifier::new(latch)
    }
    fn notify(&self) {
        self.notify_after_a_model_push();
    }
    fn arm(&self) {
        Notifier::arm(self);
    }
    fn stay_awake(&self) {
        Notifier::stay_awake(self);
    }
}

/// The latch in which the loop sleeps, like an event descriptor.
///
/// Only senders that wake and loops that sleep use it, so it orders nothing else. Counters and
/// reference counts are std's: they must not order anything, and loom's would panic again while a
/// failed model is torn down.
#[derive(Clone, Default)]
struct Latch(Arc<(Mutex<bool>, Condvar, Count)>);

impl Latch {
    fn sleep(&self) {
        let (woken, condvar, _) = &*self.0;
        let mut woken = woken.lock().unwrap();
        while !std::mem::take(&mut *woken) {
            woken = condvar.wait(woken).unwrap();
        }
    }

    fn wakes(&self) -> usize {
        self.0.2.load(Relaxed)
    }
}

impl Wake for Latch {
    fn wake(&self) -> io::Result<()> {
        let (woken, condvar, wakes) = &*self.0;
        wakes.fetch_add(1, Relaxed);
        *woken.lock().unwrap() = true;
        condvar.notify_one();
        Ok(())
    }
}

/// Runs every schedule with at most two preemptions, or `LOOM_MAX_PREEMPTIONS`; with three it takes
/// minutes. The bugs of the broken variants need one or two.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(2);
    model.check(f);
}

/// A queue of three slots. Zero is an empty slot.
struct Queue {
    slots: [AtomicUsize; 3],
    tail: AtomicUsize,
    head: AtomicUsize,
}

/// The message of a sender that closes.
const CLOSE: usize = 99;

impl Queue {
    fn new() -> Queue {
        Queue { slots: Default::default(), tail: AtomicUsize::new(0), head: AtomicUsize::new(0) }
    }

    fn push(&self, message: usize) {
        let slot = self.tail.fetch_add(1, Ordering::Relaxed);
        self.slots[slot].store(message, Ordering::Release);
    }

    /// Only the loop calls this, so `head` orders nothing.
    fn pop(&self) -> Option<usize> {
        let head = self.head.load(Ordering::Relaxed);
        let message = self.slots.get(head)?.load(Ordering::Acquire);
        (message != 0).then(|| {
            self.head.store(head + 1, Ordering::Relaxed);
            message
        })
    }

    fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        self.slots.get(head).is_none_or(|slot| slot.load(Ordering::Acquire) == 0)
    }
}

/// The loop: receives up to `budget` messages of each queue, stays awake while a queue is not
/// empty, and sleeps by the protocol. Ends after `until` messages. Returns the messages of each
/// queue and the number of armings.
fn serve<P: Protocol>(
    notifier: &P,
    latch: &Latch,
    queues: &[Arc<Queue>],
    budget: usize,
    until: usize,
) -> (Vec<Vec<usize>>, usize) {
    let mut received = vec![Vec::new(); queues.len()];
    let mut arms = 0;
    loop {
        for (queue, received) in queues.iter().zip(&mut received) {
            received.extend((0..budget).map_while(|_| queue.pop()));
        }
        if received.iter().map(Vec::len).sum::<usize>() == until {
            return (received, arms);
        }
        if queues.iter().any(|queue| !queue.is_empty()) {
            continue;
        }
        notifier.arm();
        arms += 1;
        if queues.iter().all(|queue| queue.is_empty()) {
            latch.sleep();
        }
        notifier.stay_awake();
    }
}

/// Two senders and a loop. `queues[i]` is the number of the queue of sender `i`.
fn scenario<P: Protocol>(
    queue_of_sender: [usize; 2],
    messages: [&'static [usize]; 2],
    budget: usize,
) {
    scenario_with(queue_of_sender, messages, budget, |notifier: &P, queue, message| {
        queue.push(message);
        notifier.notify();
    });
}

fn scenario_with<P: Protocol>(
    queue_of_sender: [usize; 2],
    messages: [&'static [usize]; 2],
    budget: usize,
    send: fn(&P, &Queue, usize),
) {
    model(move || {
        let latch = Latch::default();
        let notifier = Arc::new(P::new(latch.clone()));
        let queues: Vec<_> = (0..=queue_of_sender[0].max(queue_of_sender[1]))
            .map(|_| Arc::new(Queue::new()))
            .collect();
        let senders = [0, 1].map(|sender: usize| {
            let (notifier, queue) = (notifier.clone(), queues[queue_of_sender[sender]].clone());
            thread::spawn(move || {
                for &message in messages[sender] {
                    send(&notifier, &queue, message);
                }
            })
        });
        let until = messages.iter().map(|messages| messages.len()).sum();
        let (received, arms) = serve(&*notifier, &latch, &queues, budget, until);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let wakes = latch.wakes();
        assert!(wakes <= arms, "more wakes than sleeps: {wakes} for {arms}");
        for sender in 0..2 {
            let of_sender =
                received[queue_of_sender[sender]].iter().filter(|m| messages[sender].contains(m));
            assert!(
                of_sender.eq(messages[sender]),
                "order or number of sender {sender}'s messages: {received:?}"
            );
        }
    });
}

#[test]
fn two_senders_to_one_queue_lose_no_wake() {
    scenario::<Notifier>([0, 0], [&[1, 2], &[11]], usize::MAX);
}

#[test]
fn two_channels_of_a_notifier_lose_no_wake() {
    scenario::<Notifier>([0, 1], [&[1, 2], &[11]], usize::MAX);
}

#[test]
fn budgeted_drain_leaves_nothing_behind() {
    scenario::<Notifier>([0, 0], [&[1, 2], &[11]], 1);
}

#[test]
fn closing_wakes_as_a_message_does() {
    scenario::<Notifier>([0, 0], [&[1, CLOSE], &[11]], usize::MAX);
}

/// A request with a flag of its own, published before the notification, beside a channel's
/// messages.
#[test]
fn a_flag_and_a_channel_share_a_notifier() {
    model(|| {
        let latch = Latch::default();
        let notifier = Notifier::new(latch.clone());
        let (queue, stop) = (Arc::new(Queue::new()), Arc::new(AtomicBool::new(false)));
        let sender = {
            let (notifier, queue) = (notifier.clone(), queue.clone());
            thread::spawn(move || {
                queue.push(1);
                notifier.notify().unwrap();
            })
        };
        let remote = {
            let (notifier, stop) = (notifier.clone(), stop.clone());
            thread::spawn(move || {
                stop.store(true, Ordering::Release);
                notifier.notify().unwrap();
            })
        };
        let (mut arms, mut received) = (0, None);
        while received.is_none() || !stop.load(Ordering::Acquire) {
            received = received.or_else(|| queue.pop());
            let ready =
                || !queue.is_empty() || (received.is_some() && stop.load(Ordering::Acquire));
            arms += 1;
            notifier.sleep_unless(ready, || latch.sleep());
        }
        sender.join().unwrap();
        remote.join().unwrap();
        assert!(latch.wakes() <= arms);
    });
}

/// A waker whose first wake fails.
struct FailsOnce(std::sync::atomic::AtomicBool, Latch);

impl Wake for FailsOnce {
    fn wake(&self) -> io::Result<()> {
        if self.0.swap(false, Relaxed) {
            Err(io::Error::other("the first wake"))
        } else {
            self.1.wake()
        }
    }
}

/// After a wake that failed, the next send wakes.
#[test]
fn after_a_failed_wake_the_next_send_tries_again() {
    model(|| {
        let latch = Latch::default();
        let notifier = Notifier::new(FailsOnce(true.into(), latch.clone()));
        let queues = [Arc::new(Queue::new())];
        let (senders_notifier, queue) = (notifier.clone(), queues[0].clone());
        let sender = thread::spawn(move || {
            let failed = [1, 2].map(|message| {
                queue.push(message);
                senders_notifier.notify().is_err()
            });
            // A send after the failed one. Without it the loop might sleep on, as documented.
            queue.push(3);
            if senders_notifier.notify().is_err() {
                senders_notifier.notify().unwrap();
            }
            assert_ne!(failed, [true, true]);
        });
        let (received, _) = serve(&notifier, &latch, &queues, usize::MAX, 3);
        assert_eq!(received, [[1, 2, 3]]);
        sender.join().unwrap();
    });
}

// The real channel with the real notifier.

/// Receives until the channel is closed, and sleeps by the protocol. Returns the messages and the
/// number of armings.
fn receive_all<M>(notifier: &Notifier, latch: &Latch, receiver: &Receiver<M>) -> (Vec<M>, usize) {
    let (mut received, mut arms) = (Vec::new(), 0);
    loop {
        match receiver.try_recv() {
            Ok(message) => received.push(message),
            Err(TryRecvError::Closed) => return (received, arms),
            Err(_) => {
                arms += 1;
                notifier.sleep_unless(|| receiver.is_ready(), || latch.sleep());
            }
        }
    }
}

#[test]
fn the_loop_sees_the_drop_of_the_last_sender() {
    model(|| {
        let latch = Latch::default();
        let notifier = Notifier::new(latch.clone());
        let (sender, receiver) = bounded(2, &notifier);
        let threads =
            [sender.clone(), sender].map(|sender| thread::spawn(move || sender.send(1).unwrap()));
        let (received, arms) = receive_all(&notifier, &latch, &receiver);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(received, [1, 1]);
        assert!(latch.wakes() <= arms);
    });
}

/// Each message is received, returned, or dropped with the queue: exactly one of them, at once.
#[test]
fn a_message_sent_during_the_drop_has_one_end() {
    model(|| {
        let notifier = Notifier::new(Latch::default());
        let (sender, receiver) = bounded::<Arc<()>>(2, &notifier);
        let message = Arc::new(());
        let threads = [sender.clone(), sender.clone()].map(|sender| {
            let sent = message.clone();
            thread::spawn(move || match sender.send(sent) {
                Ok(()) => None,
                Err(SendError::Closed(sent)) => Some(sent),
                Err(_) => unreachable!("there is room for both"),
            })
        });
        drop(receiver);
        let handed_back: Vec<_> =
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(
            Arc::strong_count(&message),
            1 + handed_back.len(),
            "although there is a sender"
        );
        drop(sender);
    });
}

/// A loop that checks `is_empty` instead of `is_ready` before it sleeps misses the close.
#[test]
#[should_panic(expected = "deadlock")]
fn broken_recheck_of_emptiness_only() {
    model(|| {
        let latch = Latch::default();
        let notifier = Notifier::new(latch.clone());
        let (sender, receiver) = bounded::<u8>(1, &notifier);
        // Its drop touches loom's atomics, which are gone when the failed model is torn down.
        let receiver = ManuallyDrop::new(receiver);
        let thread = thread::spawn(move || drop(sender));
        while receiver.try_recv() != Err(TryRecvError::Closed) {
            notifier.sleep_unless(|| !receiver.is_empty(), || latch.sleep());
        }
        thread.join().unwrap();
    });
}

// Variants of the notifier, each with one fault. Loom must find it.

/// Makes a notifier from two operations: notify and arm.
macro_rules! broken_notifier {
    (
        $name:ident,
        notify: |$flag:ident, $wake:ident| $notify:block,
        arm: |$armed:ident| $arm:block
    ) => {
        struct $name(AtomicBool, Latch);
        impl Protocol for $name {
            fn new(latch: Latch) -> Self {
                $name(AtomicBool::new(true), latch)
            }
            fn notify(&self) {
                let ($flag, $wake) = (&self.0, || self.1.wake().unwrap());
                $notify
            }
            fn arm(&self) {
                let $armed = &self.0;
                $arm
            }
            fn stay_awake(&self) {
                self.0.store(true, Ordering::Release);
            }
        }
    };
}

broken_notifier!(
    RelaxedFirstRead,
    notify: |flag, wake| {
        if !flag.load(Ordering::Relaxed) && !flag.swap(true, Ordering::AcqRel) {
            wake();
        }
    },
    arm: |flag| {
        flag.swap(false, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_without_the_senders_fence() {
    scenario::<RelaxedFirstRead>([0, 0], [&[1, 2], &[11]], usize::MAX);
}

broken_notifier!(
    NoFenceAfterArming,
    notify: |flag, wake| {
        fence(Ordering::SeqCst);
        if !flag.load(Ordering::Relaxed) && !flag.swap(true, Ordering::AcqRel) {
            wake();
        }
    },
    arm: |flag| {
        flag.swap(false, Ordering::AcqRel);
    }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_without_the_loops_fence() {
    scenario::<NoFenceAfterArming>([0, 0], [&[1, 2], &[11]], usize::MAX);
}

broken_notifier!(
    StoreForSwap,
    notify: |flag, wake| {
        fence(Ordering::SeqCst);
        if !flag.load(Ordering::Relaxed) {
            flag.store(true, Ordering::Release);
            wake();
        }
    },
    arm: |flag| {
        flag.swap(false, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }
);

#[test]
#[should_panic(expected = "more wakes than sleeps")]
fn broken_with_a_store_instead_of_the_swap() {
    scenario::<StoreForSwap>([0, 0], [&[1, 2], &[11]], usize::MAX);
}

#[test]
#[should_panic(expected = "deadlock")]
fn broken_when_the_wake_comes_before_the_push() {
    scenario_with([0, 0], [&[1, 2], &[11]], usize::MAX, |notifier: &Notifier, queue, message| {
        Protocol::notify(notifier);
        queue.push(message);
    });
}

/// A loop that arms and then sleeps without a second check.
#[test]
#[should_panic(expected = "deadlock")]
fn broken_without_the_recheck() {
    model(|| {
        let latch = Latch::default();
        let notifier = Notifier::new(latch.clone());
        let queue = Arc::new(Queue::new());
        let sender = {
            let (notifier, queue) = (notifier.clone(), queue.clone());
            thread::spawn(move || {
                queue.push(1);
                notifier.notify().unwrap();
            })
        };
        while queue.pop().is_none() {
            notifier.sleep_unless(|| false, || latch.sleep());
        }
        sender.join().unwrap();
    });
}
