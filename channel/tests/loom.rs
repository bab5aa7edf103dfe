//! Every interleaving of the wake protocol, and what happens to it when a piece is taken away.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p kodiak-channel --test loom --release`
//!
//! The bell is the real one. The queue is a model, since loom cannot see into crossbeam; it is made of atomics with no more
//! order than a queue needs (a lock would hide the missing fences), so whatever holds here holds over crossbeam, whose
//! atomics are stronger. The last tests put the real channel on the real bell; there loom sees the flag's steps only.
//!
//! A lost wake-up shows as loom's "deadlock": the loop sleeps, and everybody else is done.
#![cfg(loom)]

use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed};

use kodiak_channel::{Bell, Line, Receiver, SendError, TryRecvError, Wake, bounded};

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// The bell's two halves, so that the broken ones below can stand in for it.
trait Protocol: Send + Sync + 'static {
    fn new(latch: Latch) -> Self;
    /// After a push.
    fn ring(&self);
    fn arm(&self);
    fn hush(&self);
}

impl Protocol for Bell {
    fn new(latch: Latch) -> Self {
        Bell::new(latch)
    }
    fn ring(&self) {
        self.ring_after_a_model_push();
    }
    fn arm(&self) {
        Bell::arm(self);
    }
    fn hush(&self) {
        Bell::hush(self);
    }
}

/// What the loop sleeps in: a latch, like an event descriptor. Only a sender that wakes and a loop that sleeps touch it, so
/// it orders nothing for those who do neither. Counts, and reference counts, are std's throughout: they must not order
/// anything, and loom's would panic once more while a failed model is torn down.
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

/// Every schedule with at most this many preemptions (or `LOOM_MAX_PREEMPTIONS`; 3 takes some minutes and has passed). The
/// bugs of the broken variants need one or two.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(2);
    model.check(f);
}

/// A queue of a few slots. Zero is an empty slot.
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

    /// The loop's only; hence `head` orders nothing.
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

/// The loop: drains each queue to `budget`, stays awake while anything is left, sleeps by the protocol. Ends after `until`
/// messages. Gives the messages of each queue and the number of armings.
fn serve<P: Protocol>(
    bell: &P,
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
        bell.arm();
        arms += 1;
        if queues.iter().all(|queue| queue.is_empty()) {
            latch.sleep();
        }
        bell.hush();
    }
}

/// Two senders, each with a queue to push to and messages; one loop. `queues[i]` is sender i's queue number.
fn scenario<P: Protocol>(queue_of_sender: [usize; 2], messages: [&'static [usize]; 2], budget: usize) {
    scenario_with(queue_of_sender, messages, budget, |bell: &P, queue, message| {
        queue.push(message);
        bell.ring();
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
        let bell = Arc::new(P::new(latch.clone()));
        let queues: Vec<_> = (0..=queue_of_sender[0].max(queue_of_sender[1])).map(|_| Arc::new(Queue::new())).collect();
        let senders = [0, 1].map(|sender: usize| {
            let (bell, queue) = (bell.clone(), queues[queue_of_sender[sender]].clone());
            thread::spawn(move || {
                for &message in messages[sender] {
                    send(&bell, &queue, message);
                }
            })
        });
        let until = messages.iter().map(|messages| messages.len()).sum();
        let (received, arms) = serve(&*bell, &latch, &queues, budget, until);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let wakes = latch.wakes();
        assert!(wakes <= arms, "more wakes than sleeps: {wakes} for {arms}");
        for sender in 0..2 {
            let of_sender = received[queue_of_sender[sender]].iter().filter(|m| messages[sender].contains(m));
            assert!(of_sender.eq(messages[sender]), "order or number of sender {sender}'s messages: {received:?}");
        }
    });
}

#[test]
fn two_senders_one_queue() {
    scenario::<Bell>([0, 0], [&[1, 2], &[11]], usize::MAX);
}

#[test]
fn two_channels_on_one_bell() {
    scenario::<Bell>([0, 1], [&[1, 2], &[11]], usize::MAX);
}

#[test]
fn budgeted_drain_leaves_nothing_behind() {
    scenario::<Bell>([0, 0], [&[1, 2], &[11]], 1);
}

#[test]
fn close_is_a_message_like_any_other() {
    scenario::<Bell>([0, 0], [&[1, CLOSE], &[11]], usize::MAX);
}

/// A remote's request: a flag of its own, published before the ring, beside a channel's messages.
#[test]
fn a_flag_and_a_channel_on_one_bell() {
    model(|| {
        let latch = Latch::default();
        let bell = Bell::new(latch.clone());
        let (queue, stop) = (Arc::new(Queue::new()), Arc::new(AtomicBool::new(false)));
        let sender = {
            let (bell, queue) = (bell.clone(), queue.clone());
            thread::spawn(move || {
                queue.push(1);
                bell.ring().unwrap();
            })
        };
        let remote = {
            let (bell, stop) = (bell.clone(), stop.clone());
            thread::spawn(move || {
                stop.store(true, Ordering::Release);
                bell.ring().unwrap();
            })
        };
        let (mut arms, mut received) = (0, None);
        while received.is_none() || !stop.load(Ordering::Acquire) {
            received = received.or_else(|| queue.pop());
            let ready = || !queue.is_empty() || (received.is_some() && stop.load(Ordering::Acquire));
            arms += 1;
            bell.sleep_unless(ready, || latch.sleep());
        }
        sender.join().unwrap();
        remote.join().unwrap();
        assert!(latch.wakes() <= arms);
    });
}

/// Its first wake fails.
struct FailsOnce(std::sync::atomic::AtomicBool, Latch);

impl Wake for FailsOnce {
    fn wake(&self) -> io::Result<()> {
        if self.0.swap(false, Relaxed) { Err(io::Error::other("the first wake")) } else { self.1.wake() }
    }
}

/// A wake that fails leaves a note: the next send wakes.
#[test]
fn after_a_failed_wake_the_next_send_tries_again() {
    model(|| {
        let latch = Latch::default();
        let bell = Bell::new(FailsOnce(true.into(), latch.clone()));
        let queues = [Arc::new(Queue::new())];
        let (senders_bell, queue) = (bell.clone(), queues[0].clone());
        let sender = thread::spawn(move || {
            let failed = [1, 2].map(|message| {
                queue.push(message);
                senders_bell.ring().is_err()
            });
            // With no send after it to try again, the documented limit: the loop may sleep on. So there is one.
            queue.push(3);
            if senders_bell.ring().is_err() {
                senders_bell.ring().unwrap();
            }
            assert_ne!(failed, [true, true]);
        });
        let (received, _) = serve(&bell, &latch, &queues, usize::MAX, 3);
        assert_eq!(received, [[1, 2, 3]]);
        sender.join().unwrap();
    });
}

// Loops that look at what was rung, and at nothing else: `rouse` and `rest`.

/// The word and its lines, so that the broken ones below can stand in for it. There are two lines, each with a queue.
trait Lines: Send + Sync + Sized + 'static {
    fn new(latch: Latch) -> Self;
    /// After a push to this line's queue.
    fn ring(&self, line: u32);
    /// Which lines were rung.
    fn rouse(&self) -> [bool; 2];
    fn rest(&self) -> bool;
}

/// The real bell, with a handle for each line.
struct Handles([Bell; 2]);

impl Lines for Handles {
    fn new(latch: Latch) -> Self {
        let bell = Bell::new(latch);
        Handles([0, 1].map(|line| bell.on(Line::new(line))))
    }
    fn ring(&self, line: u32) {
        self.0[line as usize].ring_after_a_model_push();
    }
    fn rouse(&self) -> [bool; 2] {
        let rung = self.0[0].rouse();
        [0, 1].map(|line| rung.has(Line::new(line)))
    }
    fn rest(&self) -> bool {
        self.0[0].rest()
    }
}

/// A loop as the reactor's: it looks at what was rung, up to `budget` messages of a queue a turn, and stays awake while anything it has to look at may be left. The
/// first `others` waits are ended by something else than the bell. Ends after `until` messages; gives them and the armings.
fn serve_lines<L: Lines>(
    lines: &L,
    latch: &Latch,
    queues: &[Arc<Queue>; 2],
    budget: usize,
    mut others: usize,
    until: usize,
) -> ([Vec<usize>; 2], usize) {
    let (mut received, mut arms, mut look) = ([vec![], vec![]], 0, [false; 2]);
    loop {
        for line in 0..2 {
            if look[line] {
                let taken: Vec<_> = (0..budget).map_while(|_| queues[line].pop()).collect();
                look[line] = taken.len() == budget;
                received[line].extend(taken);
            }
        }
        if received.iter().map(Vec::len).sum::<usize>() == until {
            return (received, arms);
        }
        if look == [false; 2] && lines.rest() {
            arms += 1;
            if others > 0 {
                others -= 1;
            } else {
                latch.sleep();
            }
        }
        let rung = lines.rouse();
        look = [look[0] || rung[0], look[1] || rung[1]];
    }
}

/// Two senders, each to its line's queue, or both to one.
fn lines_scenario<L: Lines>(line_of: [u32; 2], messages: [&'static [usize]; 2], budget: usize, others: usize) {
    lines_scenario_with(line_of, messages, budget, others, |lines: &L, queue, line, message| {
        queue.push(message);
        lines.ring(line);
    });
}

fn lines_scenario_with<L: Lines>(
    line_of: [u32; 2],
    messages: [&'static [usize]; 2],
    budget: usize,
    others: usize,
    send: fn(&L, &Queue, u32, usize),
) {
    model(move || {
        let latch = Latch::default();
        let lines = Arc::new(L::new(latch.clone()));
        let queues = [Arc::new(Queue::new()), Arc::new(Queue::new())];
        let senders = [0, 1].map(|sender: usize| {
            let (lines, line) = (lines.clone(), line_of[sender]);
            let queue = queues[line as usize].clone();
            thread::spawn(move || messages[sender].iter().for_each(|&message| send(&lines, &queue, line, message)))
        });
        let until = messages.iter().map(|messages| messages.len()).sum();
        let (received, arms) = serve_lines(&*lines, &latch, &queues, budget, others, until);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert!(latch.wakes() <= arms, "more wakes than sleeps: {} for {arms}", latch.wakes());
        for sender in 0..2 {
            let of_sender = received[line_of[sender] as usize].iter().filter(|m| messages[sender].contains(m));
            assert!(of_sender.eq(messages[sender]), "order or number of sender {sender}'s messages: {received:?}");
        }
    });
}

#[test]
fn a_loop_that_looks_at_what_was_rung() {
    lines_scenario::<Handles>([0, 0], [&[1, 2], &[11]], usize::MAX, 0);
    lines_scenario::<Handles>([0, 1], [&[1, 2], &[11]], usize::MAX, 0);
}

#[test]
fn turns_that_something_else_ends() {
    for others in 1..3 {
        lines_scenario::<Handles>([0, 1], [&[1], &[11]], usize::MAX, others);
        lines_scenario::<Handles>([0, 0], [&[1], &[11]], usize::MAX, others);
    }
}

#[test]
fn a_budget_on_what_was_rung() {
    lines_scenario::<Handles>([0, 0], [&[1, 2], &[11]], 1, 1);
    lines_scenario::<Handles>([0, 1], [&[1, 2], &[11]], 1, 0);
}

/// A request whose publication is the ring itself, beside a channel's messages: no message, no mark, no order of its own.
#[test]
fn a_ring_that_says_all_there_is_to_say() {
    model(|| {
        let latch = Latch::default();
        let lines = Arc::new(<Handles as Lines>::new(latch.clone()));
        let queue = Arc::new(Queue::new());
        let sender = {
            let (lines, queue) = (lines.clone(), queue.clone());
            thread::spawn(move || {
                queue.push(1);
                lines.ring(0);
            })
        };
        let remote = {
            let lines = lines.clone();
            // Twice: the second finds the line rung, or not.
            thread::spawn(move || (0..2).for_each(|_| lines.0[1].ring().unwrap()))
        };
        let (mut arms, mut received, mut asked) = (0, false, false);
        while !(received && asked) {
            if lines.rest() {
                arms += 1;
                latch.sleep();
            }
            let rung = lines.rouse();
            received |= rung[0] && queue.pop().is_some();
            asked |= rung[1];
        }
        sender.join().unwrap();
        remote.join().unwrap();
        assert!(latch.wakes() <= arms);
    });
}

/// A word from its parts: how to ring, how to rouse, how to rest.
macro_rules! broken_lines {
    ($name:ident, ring: |$word:ident, $bit:ident, $wake:ident| $ring:block, rouse: |$roused:ident| $rouse:block, rest: |$rested:ident| $rest:block) => {
        struct $name(AtomicUsize, Latch);
        impl Lines for $name {
            fn new(latch: Latch) -> Self {
                $name(AtomicUsize::new(AWAKE), latch)
            }
            fn ring(&self, line: u32) {
                let ($word, $bit, $wake) = (&self.0, 4 << line, || self.1.wake().unwrap());
                $ring
            }
            fn rouse(&self) -> [bool; 2] {
                let $roused = &self.0;
                let word: usize = $rouse;
                [word & 4 != 0, word & 8 != 0]
            }
            fn rest(&self) -> bool {
                let $rested = &self.0;
                $rest
            }
        }
    };
}

const AWAKE: usize = 1;

fn right_ring(word: &AtomicUsize, bit: usize, wake: impl Fn()) {
    fence(Ordering::SeqCst);
    if word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::AcqRel) == 0 {
        wake();
    }
}

fn right_rouse(word: &AtomicUsize) -> usize {
    let before = word.swap(AWAKE, Ordering::AcqRel);
    fence(Ordering::SeqCst);
    before
}

fn right_rest(word: &AtomicUsize) -> bool {
    word.compare_exchange(AWAKE, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

broken_lines!(
    Whole,
    ring: |word, bit, wake| { right_ring(word, bit, wake) },
    rouse: |word| { right_rouse(word) },
    rest: |word| { right_rest(word) }
);

/// The parts of which the broken ones are made are right when none of them is broken.
#[test]
fn the_parts_together_are_right() {
    lines_scenario::<Whole>([0, 0], [&[1, 2], &[11]], usize::MAX, 1);
    lines_scenario::<Whole>([0, 1], [&[1, 2], &[11]], usize::MAX, 1);
}

broken_lines!(
    LooksTooEarly,
    // The look at the word may pass the push.
    ring: |word, bit, wake| {
        if word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::AcqRel) == 0 {
            wake();
        }
    },
    rouse: |word| { right_rouse(word) },
    rest: |word| { right_rest(word) }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_lines_without_order_after_the_push() {
    lines_scenario::<LooksTooEarly>([0, 0], [&[1, 2], &[11]], usize::MAX, 0);
}

broken_lines!(
    TakesTooLate,
    ring: |word, bit, wake| { right_ring(word, bit, wake) },
    // The looks may pass the taking.
    rouse: |word| { word.swap(AWAKE, Ordering::AcqRel) },
    rest: |word| { right_rest(word) }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_lines_without_order_after_the_taking() {
    lines_scenario::<TakesTooLate>([0, 0], [&[1, 2], &[11]], usize::MAX, 0);
}

broken_lines!(
    OverwritesRings,
    ring: |word, bit, wake| { right_ring(word, bit, wake) },
    // Between the two steps somebody rings.
    rouse: |word| {
        let before = word.load(Ordering::Acquire);
        word.store(AWAKE, Ordering::Release);
        fence(Ordering::SeqCst);
        before
    },
    rest: |word| { right_rest(word) }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_lines_taken_in_two_steps() {
    lines_scenario::<OverwritesRings>([0, 1], [&[1, 2], &[11]], usize::MAX, 0);
}

broken_lines!(
    RestsUnasked,
    ring: |word, bit, wake| { right_ring(word, bit, wake) },
    rouse: |word| { right_rouse(word) },
    // Arms, whether or not somebody has rung.
    rest: |word| {
        word.swap(0, Ordering::AcqRel);
        true
    }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_when_rest_does_not_ask_whether_somebody_has_rung() {
    lines_scenario::<RestsUnasked>([0, 1], [&[1, 2], &[11]], usize::MAX, 1);
}

broken_lines!(
    StepwiseRing,
    // Two senders find the loop asleep.
    ring: |word, bit, wake| {
        fence(Ordering::SeqCst);
        let before = word.load(Ordering::Relaxed);
        if before & bit == 0 && (word.fetch_or(bit, Ordering::AcqRel) == 0 || before == 0) {
            wake();
        }
    },
    rouse: |word| { right_rouse(word) },
    rest: |word| { right_rest(word) }
);

#[test]
#[should_panic(expected = "more wakes than sleeps")]
fn broken_when_a_ring_is_two_steps() {
    lines_scenario::<StepwiseRing>([0, 1], [&[1, 2], &[11]], usize::MAX, 0);
}

#[test]
#[should_panic(expected = "deadlock")]
fn broken_when_a_message_rings_on_another_line() {
    lines_scenario_with([0, 0], [&[1, 2], &[11]], usize::MAX, 0, |lines: &Handles, queue, line, message| {
        queue.push(message);
        lines.ring(1 - line);
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn broken_lines_when_the_ring_comes_before_the_push() {
    lines_scenario_with([0, 0], [&[1, 2], &[11]], usize::MAX, 0, |lines: &Handles, queue, line, message| {
        lines.ring(line);
        queue.push(message);
    });
}

/// A wake that fails leaves the line rung and a note: the next send on whichever line wakes.
#[test]
fn after_a_failed_wake_the_next_send_on_another_line_tries_again() {
    model(|| {
        let latch = Latch::default();
        let bell = Bell::new(FailsOnce(true.into(), latch.clone()));
        let lines = [0, 1].map(|line| bell.on(Line::new(line)));
        let queues = [Arc::new(Queue::new()), Arc::new(Queue::new())];
        let sender = {
            let (lines, queues) = (lines.clone(), queues.clone());
            thread::spawn(move || {
                for line in [0, 1] {
                    queues[line].push(1);
                    lines[line].ring_after_a_model_push();
                }
                // Somebody has to come after the one that failed.
                lines[1].ring().unwrap();
            })
        };
        let (mut received, mut look) = (0, [false; 2]);
        while received < 2 {
            received += (0..2).filter(|&line| look[line] && queues[line].pop().is_some()).count();
            if received < 2 && lines[0].rest() {
                latch.sleep();
            }
            let rung = lines[0].rouse();
            look = [0, 1].map(|line| rung.has(Line::new(line)));
        }
        sender.join().unwrap();
    });
}

// The real channel on the real bell.

/// Receives until the channel is closed, sleeping by the protocol. Gives the messages and the number of armings.
fn receive_all<M>(bell: &Bell, latch: &Latch, receiver: &Receiver<M>) -> (Vec<M>, usize) {
    let (mut received, mut arms) = (Vec::new(), 0);
    loop {
        match receiver.try_recv() {
            Ok(message) => received.push(message),
            Err(TryRecvError::Closed) => return (received, arms),
            Err(TryRecvError::Empty) => {
                arms += 1;
                bell.sleep_unless(|| receiver.is_ready(), || latch.sleep());
            }
        }
    }
}

#[test]
fn the_last_senders_drop_is_seen() {
    model(|| {
        let latch = Latch::default();
        let bell = Bell::new(latch.clone());
        let (sender, receiver) = bounded(2, &bell);
        let threads = [sender.clone(), sender].map(|sender| thread::spawn(move || sender.send(1).unwrap()));
        let (received, arms) = receive_all(&bell, &latch, &receiver);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(received, [1, 1]);
        assert!(latch.wakes() <= arms);
    });
}

/// Each message ends in exactly one place, and at once: received, handed back, or dropped with the queue.
#[test]
fn a_send_that_races_with_the_receivers_drop() {
    model(|| {
        let bell = Bell::new(Latch::default());
        let (sender, receiver) = bounded::<Arc<()>>(2, &bell);
        let message = Arc::new(());
        let threads = [sender.clone(), sender.clone()].map(|sender| {
            let sent = message.clone();
            thread::spawn(move || match sender.send(sent) {
                Ok(()) => None,
                Err(SendError::Closed(sent)) => Some(sent),
                Err(SendError::Full(_)) => unreachable!("there is room for both"),
            })
        });
        drop(receiver);
        let handed_back: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(Arc::strong_count(&message), 1 + handed_back.len(), "though a sender is left");
        drop(sender);
    });
}

/// What `Receiver::is_ready` is for: a loop that asks `is_empty` before it sleeps misses the close.
#[test]
#[should_panic(expected = "deadlock")]
fn broken_recheck_of_emptiness_only() {
    model(|| {
        let latch = Latch::default();
        let bell = Bell::new(latch.clone());
        let (sender, receiver) = bounded::<u8>(1, &bell);
        // Its drop touches loom's atomics, which are gone when the failed model is torn down.
        let receiver = ManuallyDrop::new(receiver);
        let thread = thread::spawn(move || drop(sender));
        while receiver.try_recv() != Err(TryRecvError::Closed) {
            bell.sleep_unless(|| !receiver.is_empty(), || latch.sleep());
        }
        thread.join().unwrap();
    });
}

// The bell with one piece wrong each. Loom must object.

/// A bell from its parts: how to ring, how to arm.
macro_rules! broken_bell {
    ($name:ident, ring: |$flag:ident, $wake:ident| $ring:block, arm: |$armed:ident| $arm:block) => {
        struct $name(AtomicBool, Latch);
        impl Protocol for $name {
            fn new(latch: Latch) -> Self {
                $name(AtomicBool::new(true), latch)
            }
            fn ring(&self) {
                let ($flag, $wake) = (&self.0, || self.1.wake().unwrap());
                $ring
            }
            fn arm(&self) {
                let $armed = &self.0;
                $arm
            }
            fn hush(&self) {
                self.0.store(true, Ordering::Release);
            }
        }
    };
}

broken_bell!(
    RelaxedFirstRead,
    ring: |flag, wake| {
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

broken_bell!(
    NoFenceAfterArming,
    ring: |flag, wake| {
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

broken_bell!(
    StoreForSwap,
    ring: |flag, wake| {
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
fn broken_with_a_store_for_the_swap() {
    scenario::<StoreForSwap>([0, 0], [&[1, 2], &[11]], usize::MAX);
}

#[test]
#[should_panic(expected = "deadlock")]
fn broken_when_the_wake_comes_before_the_push() {
    scenario_with([0, 0], [&[1, 2], &[11]], usize::MAX, |bell: &Bell, queue, message| {
        Protocol::ring(bell);
        queue.push(message);
    });
}

/// A loop that arms and then sleeps without another look.
#[test]
#[should_panic(expected = "deadlock")]
fn broken_without_the_recheck() {
    model(|| {
        let latch = Latch::default();
        let bell = Bell::new(latch.clone());
        let queue = Arc::new(Queue::new());
        let sender = {
            let (bell, queue) = (bell.clone(), queue.clone());
            thread::spawn(move || {
                queue.push(1);
                bell.ring().unwrap();
            })
        };
        while queue.pop().is_none() {
            bell.sleep_unless(|| false, || latch.sleep());
        }
        sender.join().unwrap();
    });
}
