//! Loops that look at the topics with news, and at nothing else.

use std::sync::Arc;

use kodiak_channel::{Notifier, Topic, Wake};

use loom::sync::atomic::{AtomicUsize, Ordering, fence};
use loom::thread;

use super::{FailsOnce, Latch, Queue, model};

/// The word and its topics, so that the broken ones below can stand in for it. There are two
/// topics, each with a queue.
trait Topics: Send + Sync + Sized + 'static {
    fn new(latch: Latch) -> Self;
    /// After a push to this topic's queue.
    fn notify(&self, topic: u32);
    /// Which topics were ready.
    fn take_ready(&self) -> [bool; 2];
    fn prepare_sleep(&self) -> bool;
}

/// The real notifier, with a handle for each topic.
struct Handles([Notifier; 2]);

impl Topics for Handles {
    fn new(latch: Latch) -> Self {
        let notifier = Notifier::new(latch);
        Handles([0, 1].map(|topic| notifier.on(Topic::new(topic))))
    }
    fn notify(&self, topic: u32) {
        self.0[topic as usize].notify_after_a_model_push();
    }
    fn take_ready(&self) -> [bool; 2] {
        let ready = self.0[0].take_ready();
        [0, 1].map(|topic| ready.has(Topic::new(topic)))
    }
    fn prepare_sleep(&self) -> bool {
        self.0[0].prepare_sleep()
    }
}

/// A loop as the reactor's: it looks at what was ready, up to `budget` messages of a queue a turn,
/// and stays awake while anything it has to look at may be left. The first `others` waits are ended
/// by something else than the notifier. Ends after `until` messages; gives them and the armings.
fn serve_topics<L: Topics>(
    topics: &L,
    latch: &Latch,
    queues: &[Arc<Queue>; 2],
    budget: usize,
    mut others: usize,
    until: usize,
) -> ([Vec<usize>; 2], usize) {
    let (mut received, mut arms, mut look) = ([vec![], vec![]], 0, [false; 2]);
    loop {
        for topic in 0..2 {
            if look[topic] {
                let taken: Vec<_> = (0..budget).map_while(|_| queues[topic].pop()).collect();
                look[topic] = taken.len() == budget;
                received[topic].extend(taken);
            }
        }
        if received.iter().map(Vec::len).sum::<usize>() == until {
            return (received, arms);
        }
        if look == [false; 2] && topics.prepare_sleep() {
            arms += 1;
            if others > 0 {
                others -= 1;
            } else {
                latch.sleep();
            }
        }
        let ready = topics.take_ready();
        look = [look[0] || ready[0], look[1] || ready[1]];
    }
}

/// Two senders, each to its topic's queue, or both to one.
fn topics_scenario<L: Topics>(
    topic_of: [u32; 2],
    messages: [&'static [usize]; 2],
    budget: usize,
    others: usize,
) {
    topics_scenario_with(
        topic_of,
        messages,
        budget,
        others,
        |topics: &L, queue, topic, message| {
            queue.push(message);
            topics.notify(topic);
        },
    );
}

fn topics_scenario_with<L: Topics>(
    topic_of: [u32; 2],
    messages: [&'static [usize]; 2],
    budget: usize,
    others: usize,
    send: fn(&L, &Queue, u32, usize),
) {
    model(move || {
        let latch = Latch::default();
        let topics = Arc::new(L::new(latch.clone()));
        let queues = [Arc::new(Queue::new()), Arc::new(Queue::new())];
        let senders = [0, 1].map(|sender: usize| {
            let (topics, topic) = (topics.clone(), topic_of[sender]);
            let queue = queues[topic as usize].clone();
            thread::spawn(move || {
                messages[sender].iter().for_each(|&message| send(&topics, &queue, topic, message))
            })
        });
        let until = messages.iter().map(|messages| messages.len()).sum();
        let (received, arms) = serve_topics(&*topics, &latch, &queues, budget, others, until);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert!(latch.wakes() <= arms, "more wakes than sleeps: {} for {arms}", latch.wakes());
        for sender in 0..2 {
            let of_sender =
                received[topic_of[sender] as usize].iter().filter(|m| messages[sender].contains(m));
            assert!(
                of_sender.eq(messages[sender]),
                "order or number of sender {sender}'s messages: {received:?}"
            );
        }
    });
}

#[test]
fn a_loop_that_looks_at_ready_topics() {
    topics_scenario::<Handles>([0, 0], [&[1, 2], &[11]], usize::MAX, 0);
    topics_scenario::<Handles>([0, 1], [&[1, 2], &[11]], usize::MAX, 0);
}

#[test]
fn turns_that_another_event_ends() {
    for others in 1..3 {
        topics_scenario::<Handles>([0, 1], [&[1], &[11]], usize::MAX, others);
        topics_scenario::<Handles>([0, 0], [&[1], &[11]], usize::MAX, others);
    }
}

#[test]
fn a_budget_on_ready_topics() {
    topics_scenario::<Handles>([0, 0], [&[1, 2], &[11]], 1, 1);
    topics_scenario::<Handles>([0, 1], [&[1, 2], &[11]], 1, 0);
}

/// A request whose publication is the notify itself, beside a channel's messages: no message, no
/// mark, no order of its own.
#[test]
fn a_notification_that_is_its_own_publication() {
    model(|| {
        let latch = Latch::default();
        let topics = Arc::new(<Handles as Topics>::new(latch.clone()));
        let queue = Arc::new(Queue::new());
        let sender = {
            let (topics, queue) = (topics.clone(), queue.clone());
            thread::spawn(move || {
                queue.push(1);
                topics.notify(0);
            })
        };
        let remote = {
            let topics = topics.clone();
            // Twice: the second finds the topic ready, or not.
            thread::spawn(move || (0..2).for_each(|_| topics.0[1].notify().unwrap()))
        };
        let (mut arms, mut received, mut asked) = (0, false, false);
        while !(received && asked) {
            if topics.prepare_sleep() {
                arms += 1;
                latch.sleep();
            }
            let ready = topics.take_ready();
            received |= ready[0] && queue.pop().is_some();
            asked |= ready[1];
        }
        sender.join().unwrap();
        remote.join().unwrap();
        assert!(latch.wakes() <= arms);
    });
}

/// A word from its parts: how to notify, how to take the topics, how to prepare a sleep.
macro_rules! broken_topics {
    (
        $name:ident,
        notify: |$word:ident, $bit:ident, $wake:ident| $notify:block,
        take_ready: |$taken:ident| $take_ready:block,
        prepare: |$prepared:ident| $prepare:block
    ) => {
        struct $name(AtomicUsize, Latch);
        impl Topics for $name {
            fn new(latch: Latch) -> Self {
                $name(AtomicUsize::new(AWAKE), latch)
            }
            fn notify(&self, topic: u32) {
                let ($word, $bit, $wake) = (&self.0, 4 << topic, || self.1.wake().unwrap());
                $notify
            }
            fn take_ready(&self) -> [bool; 2] {
                let $taken = &self.0;
                let word: usize = $take_ready;
                [word & 4 != 0, word & 8 != 0]
            }
            fn prepare_sleep(&self) -> bool {
                let $prepared = &self.0;
                $prepare
            }
        }
    };
}

const AWAKE: usize = 1;

fn right_notify(word: &AtomicUsize, bit: usize, wake: impl Fn()) {
    fence(Ordering::SeqCst);
    if word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::AcqRel) == 0 {
        wake();
    }
}

fn right_take(word: &AtomicUsize) -> usize {
    let before = word.swap(AWAKE, Ordering::AcqRel);
    fence(Ordering::SeqCst);
    before
}

fn right_prepare(word: &AtomicUsize) -> bool {
    word.compare_exchange(AWAKE, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

broken_topics!(
    Whole,
    notify: |word, bit, wake| { right_notify(word, bit, wake) },
    take_ready: |word| { right_take(word) },
    prepare: |word| { right_prepare(word) }
);

/// The parts of which the broken ones are made are right when none of them is broken.
#[test]
fn the_parts_together_are_right() {
    topics_scenario::<Whole>([0, 0], [&[1, 2], &[11]], usize::MAX, 1);
    topics_scenario::<Whole>([0, 1], [&[1, 2], &[11]], usize::MAX, 1);
}

broken_topics!(
    LooksTooEarly,
    // The look at the word may pass the push.
    notify: |word, bit, wake| {
        if word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::AcqRel) == 0 {
            wake();
        }
    },
    take_ready: |word| { right_take(word) },
    prepare: |word| { right_prepare(word) }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_topics_without_order_after_the_push() {
    topics_scenario::<LooksTooEarly>([0, 0], [&[1, 2], &[11]], usize::MAX, 0);
}

broken_topics!(
    TakesTooLate,
    notify: |word, bit, wake| { right_notify(word, bit, wake) },
    // The looks may pass the taking.
    take_ready: |word| { word.swap(AWAKE, Ordering::AcqRel) },
    prepare: |word| { right_prepare(word) }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_topics_without_order_after_the_taking() {
    topics_scenario::<TakesTooLate>([0, 0], [&[1, 2], &[11]], usize::MAX, 0);
}

broken_topics!(
    OverwritesTopics,
    notify: |word, bit, wake| { right_notify(word, bit, wake) },
    // A sender notifies between the two steps.
    take_ready: |word| {
        let before = word.load(Ordering::Acquire);
        word.store(AWAKE, Ordering::Release);
        fence(Ordering::SeqCst);
        before
    },
    prepare: |word| { right_prepare(word) }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_topics_taken_in_two_steps() {
    topics_scenario::<OverwritesTopics>([0, 1], [&[1, 2], &[11]], usize::MAX, 0);
}

broken_topics!(
    ArmsUnchecked,
    notify: |word, bit, wake| { right_notify(word, bit, wake) },
    take_ready: |word| { right_take(word) },
    // Arms, whether or not a topic is set.
    prepare: |word| {
        word.swap(0, Ordering::AcqRel);
        true
    }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_when_arming_does_not_check_for_topics() {
    topics_scenario::<ArmsUnchecked>([0, 1], [&[1, 2], &[11]], usize::MAX, 1);
}

broken_topics!(
    StepwiseNotify,
    // Two senders find the loop asleep.
    notify: |word, bit, wake| {
        fence(Ordering::SeqCst);
        let before = word.load(Ordering::Relaxed);
        if before & bit == 0 && (word.fetch_or(bit, Ordering::AcqRel) == 0 || before == 0) {
            wake();
        }
    },
    take_ready: |word| { right_take(word) },
    prepare: |word| { right_prepare(word) }
);

#[test]
#[should_panic(expected = "more wakes than sleeps")]
fn broken_when_a_notification_is_two_steps() {
    topics_scenario::<StepwiseNotify>([0, 1], [&[1, 2], &[11]], usize::MAX, 0);
}

#[test]
#[should_panic(expected = "deadlock")]
fn broken_when_a_message_notifies_another_topic() {
    topics_scenario_with(
        [0, 0],
        [&[1, 2], &[11]],
        usize::MAX,
        0,
        |topics: &Handles, queue, topic, message| {
            queue.push(message);
            topics.notify(1 - topic);
        },
    );
}

#[test]
#[should_panic(expected = "deadlock")]
fn broken_topics_when_notified_before_the_push() {
    topics_scenario_with(
        [0, 0],
        [&[1, 2], &[11]],
        usize::MAX,
        0,
        |topics: &Handles, queue, topic, message| {
            topics.notify(topic);
            queue.push(message);
        },
    );
}

/// A wake that failed leaves the topic ready, and the next send on any topic wakes.
#[test]
fn after_a_failed_wake_a_send_on_another_topic_wakes() {
    model(|| {
        let latch = Latch::default();
        let notifier = Notifier::new(FailsOnce(true.into(), latch.clone()));
        let topics = [0, 1].map(|topic| notifier.on(Topic::new(topic)));
        let queues = [Arc::new(Queue::new()), Arc::new(Queue::new())];
        let sender = {
            let (topics, queues) = (topics.clone(), queues.clone());
            thread::spawn(move || {
                for topic in [0, 1] {
                    queues[topic].push(1);
                    topics[topic].notify_after_a_model_push();
                }
                // A notification after the one that failed.
                topics[1].notify().unwrap();
            })
        };
        let (mut received, mut look) = (0, [false; 2]);
        while received < 2 {
            received +=
                (0..2).filter(|&topic| look[topic] && queues[topic].pop().is_some()).count();
            if received < 2 && topics[0].prepare_sleep() {
                latch.sleep();
            }
            let ready = topics[0].take_ready();
            look = [0, 1].map(|topic| ready.has(Topic::new(topic)));
        }
        sender.join().unwrap();
    });
}
