//! Loops that look at what was rung, and at nothing else: `rouse` and `rest`.

use std::sync::Arc;

use kodiak_channel::{Bell, Line, Wake};

use loom::sync::atomic::{AtomicUsize, Ordering, fence};
use loom::thread;

use super::{FailsOnce, Latch, Queue, model};

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
