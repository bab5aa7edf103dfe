//! The wheel against a sorted map: after the same calls, the same timers fire in the same order.

use std::collections::{BTreeMap, HashMap};
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Key, Wheel};

/// A tick as seen from now.
#[derive(Clone, Copy, Debug)]
enum When {
    Zero,
    Past(u64),
    Now,
    In(u64),
    /// A power of two ticks away, and this much more or less.
    Far(u32, i8),
    /// A multiple of a power of two: many timers meet there.
    Round(u32),
    NextDeadline,
    Century,
    Max,
}

impl When {
    fn tick<T>(self, wheel: &Wheel<T>) -> u64 {
        let now = wheel.now();
        match self {
            When::Zero => 0,
            When::Past(ago) => now.saturating_sub(ago),
            When::Now => now,
            When::In(ticks) => now.saturating_add(ticks),
            When::Far(exponent, more) => {
                now.saturating_add(1 << exponent).saturating_add_signed(more.into())
            }
            When::Round(exponent) => now.saturating_add(1 << exponent) >> exponent << exponent,
            When::NextDeadline => wheel.next_deadline().unwrap_or(now),
            When::Century => now.saturating_add(3_155_760_000_000_000),
            When::Max => u64::MAX,
        }
    }
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![
        1 => Just(When::Zero),
        2 => (1..1000u64).prop_map(When::Past),
        2 => Just(When::Now),
        8 => (0..5u64).prop_map(When::In),
        8 => (0..6000u64).prop_map(When::In),
        4 => (0..64u32, any::<i8>()).prop_map(|(exponent, more)| When::Far(exponent, more)),
        6 => (3..20u32).prop_map(When::Round),
        3 => Just(When::NextDeadline),
        1 => Just(When::Century),
        1 => Just(When::Max),
    ]
}

/// Which timer: this one, counted modulo those that exist.
type Which = usize;

#[derive(Clone, Debug)]
enum Change {
    Insert(When),
    InsertWithSlack(When, u64),
    Cancel(Which),
    Reschedule(Which, When),
    /// Cancels what the model says fires next.
    CancelNext,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => when().prop_map(Change::Insert),
        1 => (when(), 0..300u64).prop_map(|(when, slack)| Change::InsertWithSlack(when, slack)),
        3 => any::<Which>().prop_map(Change::Cancel),
        4 => (any::<Which>(), when()).prop_map(|(which, when)| Change::Reschedule(which, when)),
        1 => Just(Change::CancelNext),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Change(Change),
    /// An advance, in which each timer that fires does the next of the changes, or is re-armed.
    Advance {
        to: When,
        budget: usize,
        work: Option<usize>,
        changes: Vec<Result<Change, When>>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let within = prop_oneof![3 => change().prop_map(Ok), 1 => when().prop_map(Err)];
    let budget = prop_oneof![1 => Just(0), 4 => 1..6usize, 4 => Just(usize::MAX)];
    let work = prop_oneof![2 => Just(None), 1 => (0..6usize).prop_map(Some)];
    prop_oneof![
        4 => change().prop_map(Step::Change),
        1 => (when(), budget, work, vec(within, 0..6))
            .prop_map(|(to, budget, work, changes)| Step::Advance { to, budget, work, changes }),
    ]
}

struct Timer {
    key: Key,
    deadline: u64,
    tick: u64,
    /// The number of the call that set it. If it has been rescheduled since, its order within its
    /// tick is not defined.
    sequence: u64,
    is_rescheduled: bool,
    /// The advance in which it must not fire yet.
    set_due_in: Option<u64>,
}

/// The wheel and the model side by side. A timer's value is its number.
struct Pair {
    wheel: Wheel<u64>,
    timers: HashMap<u64, Timer>,
    order: BTreeMap<(u64, u64), u64>,
    gone: Vec<Key>,
    sequence: u64,
    advances: u64,
    /// There were never more timers than a slot searches for its earliest, so the next deadline is
    /// exact.
    is_exact: bool,
}

impl Pair {
    fn new(start: u64) -> Pair {
        let (timers, order, gone) = (HashMap::new(), BTreeMap::new(), Vec::new());
        Pair {
            wheel: Wheel::new(start),
            timers,
            order,
            gone,
            sequence: 0,
            advances: 0,
            is_exact: true,
        }
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The model's half of setting a timer.
    fn set(&mut self, number: u64, key: Key, deadline: u64, tick: u64, is_rescheduled: bool) {
        let sequence = self.next_sequence();
        let set_due_in = (deadline <= self.wheel.now()).then_some(self.advances);
        self.order.insert((tick, sequence), number);
        self.timers
            .insert(number, Timer { key, deadline, tick, sequence, is_rescheduled, set_due_in });
        self.is_exact &= self.timers.len() <= 16;
    }

    fn unset(&mut self, number: u64) -> Timer {
        let timer = self.timers.remove(&number).expect("the model has the timer that fired");
        self.order.remove(&(timer.tick, timer.sequence));
        timer
    }

    fn pick(&self, which: Which) -> Option<u64> {
        let mut numbers: Vec<u64> = self.timers.keys().copied().collect();
        numbers.sort_unstable();
        (!numbers.is_empty()).then(|| numbers[which % numbers.len()])
    }

    fn cancel(&mut self, number: u64) {
        let key = self.unset(number).key;
        assert_eq!(self.wheel.cancel(key), Some(number));
        self.gone.push(key);
    }

    fn change(&mut self, change: &Change) {
        match *change {
            Change::Insert(when) => self.insert(when, 0),
            Change::InsertWithSlack(when, slack) => self.insert(when, slack),
            Change::Cancel(which) => {
                if let Some(number) = self.pick(which) {
                    self.cancel(number);
                }
            }
            Change::CancelNext => {
                if let Some((_, &number)) = self.order.first_key_value() {
                    self.cancel(number);
                }
            }
            Change::Reschedule(which, when) => {
                let Some(number) = self.pick(which) else { return };
                let deadline = when.tick(&self.wheel);
                let key = self.unset(number).key;
                assert!(self.wheel.reschedule(key, deadline));
                self.set(number, key, deadline, deadline.max(self.wheel.now()), true);
            }
        }
        self.agree();
    }

    fn insert(&mut self, when: When, slack: u64) {
        let deadline = when.tick(&self.wheel);
        let number = self.next_sequence();
        let key = self.wheel.insert_with_slack(deadline, slack, number);
        let earliest = deadline.max(self.wheel.now());
        let tick = if deadline > self.wheel.now() { self.wheel.tick_of(key) } else { earliest };
        assert!((earliest..=earliest.saturating_add(slack)).contains(&tick));
        self.set(number, key, deadline, tick, false);
    }

    fn advance(
        &mut self,
        to: When,
        budget: usize,
        work: Option<usize>,
        changes: &[Result<Change, When>],
    ) {
        let to = to.tick(&self.wheel);
        self.advances += 1;
        let mut advance = self.wheel.advance(to, budget);
        advance.work = work.unwrap_or(advance.work);
        let mut fired = 0;
        loop {
            // Beyond the prepared changes the timers are dropped, so that the advance comes to an
            // end.
            let change = changes.get(fired);
            let rearm =
                change.and_then(|change| change.as_ref().err()).map(|when| when.tick(&self.wheel));
            let Some(expired) = advance.next(&mut self.wheel) else { break };
            let (number, key, deadline) = (*expired.value(), expired.key(), expired.deadline());
            match rearm {
                Some(deadline) => expired.rearm(deadline),
                None => drop(expired),
            }
            self.fires(number, key, deadline);
            match rearm {
                Some(deadline) => {
                    self.set(number, key, deadline, deadline.max(self.wheel.now()), false)
                }
                None => self.gone.push(key),
            }
            if let Some(Ok(change)) = change {
                self.change(change);
            }
            fired += 1;
            self.agree();
        }
        assert!(fired <= budget);
        let waiting = self
            .order
            .range(..=(self.wheel.now(), u64::MAX))
            .map(|(_, number)| &self.timers[number]);
        let due = waiting.filter(|timer| timer.set_due_in != Some(self.advances)).count();
        if advance.is_spent() {
            assert!(
                advance.work < 3 || (fired == budget && due > 0),
                "spent with {due} due, {fired} of {budget}"
            );
        } else {
            assert_eq!(due, 0, "not spent, yet not all that was due has fired");
        }
        self.agree();
    }

    /// Checks that it was this timer's turn to fire.
    fn fires(&mut self, number: u64, key: Key, deadline: u64) {
        let timer = self.unset(number);
        assert_eq!((timer.key, timer.deadline), (key, deadline));
        assert!(timer.tick <= self.wheel.now(), "early");
        assert_ne!(
            timer.set_due_in,
            Some(self.advances),
            "set in this advance, already due, and fired in it"
        );
        let Some((&(tick, _), _)) = self.order.first_key_value() else { return };
        assert!(timer.tick <= tick, "something earlier is pending");
        for (&(_, sequence), other) in self.order.range((timer.tick, 0)..=(timer.tick, u64::MAX)) {
            let certain = !timer.is_rescheduled && !self.timers[other].is_rescheduled;
            assert!(!certain || timer.sequence < sequence, "out of order within a tick");
        }
    }

    /// Checks that both give the same answers.
    fn agree(&self) {
        self.wheel.check();
        assert_eq!(self.wheel.len(), self.timers.len());
        for (number, timer) in &self.timers {
            assert_eq!(self.wheel.get(timer.key), Some(number));
            assert_eq!(self.wheel.deadline(timer.key), Some(timer.deadline));
        }
        assert!(
            self.gone.iter().all(|&key| !self.wheel.contains(key)),
            "a stale key found something"
        );
        let next = self.order.first_key_value().map(|(&(tick, _), _)| tick);
        let reported = self.wheel.next_deadline();
        assert!(reported <= next, "the next deadline is late");
        // While a slot is being cascaded, "now" is all that is promised.
        if self.is_exact && reported > Some(self.wheel.now()) {
            assert_eq!(reported, next, "a wake-up for nothing");
        }
    }
}

impl<T> Wheel<T> {
    fn tick_of(&self, key: Key) -> u64 {
        self.slab.node(self.slab.find(key).expect("the timer is pending")).tick
    }
}

fn agrees(start: u64, steps: &[Step]) {
    let mut pair = Pair::new(start);
    for step in steps {
        match step {
            Step::Change(change) => pair.change(change),
            Step::Advance { to, budget, work, changes } => {
                pair.advance(*to, *budget, *work, changes)
            }
        }
    }
    // Whatever is left fires in the end, once each.
    for _ in 0..2 {
        let left = pair.timers.len();
        let mut advance = pair.wheel.advance(u64::MAX, usize::MAX);
        pair.advances += 1;
        let mut fired = 0;
        while let Some((number, key, deadline)) = advance
            .next(&mut pair.wheel)
            .map(|expired| (*expired.value(), expired.key(), expired.deadline()))
        {
            pair.fires(number, key, deadline);
            fired += 1;
        }
        assert_eq!(fired, left);
        pair.agree();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_sorted_map(
        start in prop_oneof![Just(0), Just(u64::MAX - 100_000), Just(u64::MAX), any::<u64>()],
        steps in vec(step(), 1..120),
    ) {
        agrees(start, &steps);
    }

    /// Few ticks, many timers: long lists, slots cascaded in part, searches given up.
    #[test]
    fn behaves_like_a_sorted_map_when_crowded(
        first in vec(
            prop_oneof![(0..5000u64).prop_map(When::In), (6..13u32).prop_map(When::Round)],
            20..150,
        ),
        steps in vec(step(), 1..40),
    ) {
        let inserts = first.into_iter().map(|when| Step::Change(Change::Insert(when)));
        let mut all: Vec<Step> = inserts.collect();
        all.extend(steps);
        agrees(0, &all);
    }
}
