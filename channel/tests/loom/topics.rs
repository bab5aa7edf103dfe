//! Loops that check only the topics that are ready.

use std::sync::Arc;

use kodiak_channel::{Notifier, Topic, Wake};

use loom::sync::atomic::{AtomicUsize, Ordering, fence};
use loom::thread;

use super::{FailsOnce, Latch, Queue, model};

/// The notifier's operations with topics, which the broken variants below implement, too. There are
/// two topics, each with a queue.
trait Topics: Send + Sync + Sized + 'static {
    fn new(latch: Latch) -> Self;
    /// Called after a push to this topic's queue.
    fn notify(&self, topic: u32);
    /// Takes the topics that are ready.
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

/// A loop like the reactor's: it receives up to `budget` messages of each ready queue in a turn,
/// and stays awake while a ready queue may have more. The first `others` waits are ended by another
/// event than a wake. Ends after `until` messages. Returns them and the number of armings.
fn serve_topics<L: Topics>(
    topics: &L,
    latch: &Latch,
    queues: &[Arc<Queue>; 2],
    budget: usize,
    mut others: usize,
    until: usize,
) -> ([Vec<usize>; 2], usize) {
    let (mut received, mut arms, mut to_check) = ([vec![], vec![]], 0, [false; 2]);
    loop {
        for topic in 0..2 {
            if to_check[topic] {
                let taken: Vec<_> = (0..budget).map_while(|_| queues[topic].pop()).collect();
                to_check[topic] = taken.len() == budget;
                received[topic].extend(taken);
            }
        }
        if received.iter().map(Vec::len).sum::<usize>() == until {
            return (received, arms);
        }
        if to_check == [false; 2] && topics.prepare_sleep() {
            arms += 1;
            if others > 0 {
                others -= 1;
            } else {
                latch.sleep();
            }
        }
        let ready = topics.take_ready();
        to_check = [to_check[0] || ready[0], to_check[1] || ready[1]];
    }
}

/// Two senders, each with a topic. Both may have the same one.
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
fn a_loop_that_checks_ready_topics_loses_no_wake() {
    topics_scenario::<Handles>([0, 0], [&[1, 2], &[11]], usize::MAX, 0);
    topics_scenario::<Handles>([0, 1], [&[1, 2], &[11]], usize::MAX, 0);
}

#[test]
fn a_turn_that_another_event_ends_loses_no_wake() {
    for others in 1..3 {
        topics_scenario::<Handles>([0, 1], [&[1], &[11]], usize::MAX, others);
        topics_scenario::<Handles>([0, 0], [&[1], &[11]], usize::MAX, others);
    }
}

#[test]
fn a_budget_on_ready_topics_leaves_nothing_behind() {
    topics_scenario::<Handles>([0, 0], [&[1, 2], &[11]], 1, 1);
    topics_scenario::<Handles>([0, 1], [&[1, 2], &[11]], 1, 0);
}

/// A request that consists only of the notification, without a flag, beside a channel's messages.
#[test]
fn a_notification_without_a_flag_is_not_lost() {
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
            // Twice: the second one may find the topic ready.
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

/// Makes a variant from three operations: notify, take the topics, prepare a sleep.
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

fn correct_notify(word: &AtomicUsize, bit: usize, wake: impl Fn()) {
    fence(Ordering::SeqCst);
    if word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::AcqRel) == 0 {
        wake();
    }
}

fn correct_take(word: &AtomicUsize) -> usize {
    let before = word.swap(AWAKE, Ordering::AcqRel);
    fence(Ordering::SeqCst);
    before
}

fn correct_prepare(word: &AtomicUsize) -> bool {
    word.compare_exchange(AWAKE, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

broken_topics!(
    AllCorrect,
    notify: |word, bit, wake| { correct_notify(word, bit, wake) },
    take_ready: |word| { correct_take(word) },
    prepare: |word| { correct_prepare(word) }
);

/// The operations of which the broken variants are made are correct together.
#[test]
fn the_correct_operations_pass() {
    topics_scenario::<AllCorrect>([0, 0], [&[1, 2], &[11]], usize::MAX, 1);
    topics_scenario::<AllCorrect>([0, 1], [&[1, 2], &[11]], usize::MAX, 1);
}

broken_topics!(
    ReadsTooEarly,
    // The read of the word may be reordered before the push.
    notify: |word, bit, wake| {
        if word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::AcqRel) == 0 {
            wake();
        }
    },
    take_ready: |word| { correct_take(word) },
    prepare: |word| { correct_prepare(word) }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_topics_without_order_after_the_push() {
    topics_scenario::<ReadsTooEarly>([0, 0], [&[1, 2], &[11]], usize::MAX, 0);
}

broken_topics!(
    TakesTooLate,
    notify: |word, bit, wake| { correct_notify(word, bit, wake) },
    // The checks may be reordered before the exchange.
    take_ready: |word| { word.swap(AWAKE, Ordering::AcqRel) },
    prepare: |word| { correct_prepare(word) }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_topics_without_order_after_the_taking() {
    topics_scenario::<TakesTooLate>([0, 0], [&[1, 2], &[11]], usize::MAX, 0);
}

broken_topics!(
    OverwritesTopics,
    notify: |word, bit, wake| { correct_notify(word, bit, wake) },
    // A sender may notify between the two steps.
    take_ready: |word| {
        let before = word.load(Ordering::Acquire);
        word.store(AWAKE, Ordering::Release);
        fence(Ordering::SeqCst);
        before
    },
    prepare: |word| { correct_prepare(word) }
);

#[test]
#[should_panic(expected = "deadlock")]
fn broken_topics_taken_in_two_steps() {
    topics_scenario::<OverwritesTopics>([0, 1], [&[1, 2], &[11]], usize::MAX, 0);
}

broken_topics!(
    ArmsUnchecked,
    notify: |word, bit, wake| { correct_notify(word, bit, wake) },
    take_ready: |word| { correct_take(word) },
    // Arms although a topic may be set.
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
    // Two senders may both find the loop asleep.
    notify: |word, bit, wake| {
        fence(Ordering::SeqCst);
        let before = word.load(Ordering::Relaxed);
        if before & bit == 0 && (word.fetch_or(bit, Ordering::AcqRel) == 0 || before == 0) {
            wake();
        }
    },
    take_ready: |word| { correct_take(word) },
    prepare: |word| { correct_prepare(word) }
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

/// After a failed wake the topic stays ready, and the next send on any topic wakes the loop.
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
                // A notification after the failed one.
                topics[1].notify().unwrap();
            })
        };
        let (mut received, mut to_check) = (0, [false; 2]);
        while received < 2 {
            received +=
                (0..2).filter(|&topic| to_check[topic] && queues[topic].pop().is_some()).count();
            if received < 2 && topics[0].prepare_sleep() {
                latch.sleep();
            }
            let ready = topics[0].take_ready();
            to_check = [0, 1].map(|topic| ready.has(Topic::new(topic)));
        }
        sender.join().unwrap();
    });
}
