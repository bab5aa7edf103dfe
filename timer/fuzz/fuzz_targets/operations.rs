//! Sequences of operations on a wheel, chosen by the fuzzer, against a sorted map.
//!
//! `cargo +nightly fuzz run operations` in `timer/`, or `-- -max_total_time=60` behind it for a
//! minute.
#![no_main]

use std::collections::{BTreeMap, HashMap};

use arbitrary::Arbitrary;
use kodiak_timer::{Expired, Key, Wheel};
use libfuzzer_sys::fuzz_target;

/// How many levels a wheel has.
const LEVELS: usize = 10;

#[derive(Arbitrary, Debug)]
enum Operation {
    Insert(u64),
    InsertSoon(u16),
    Cancel(u8),
    Reschedule(u8, u64),
    RescheduleSoon(u8, u16),
    /// To this tick, with this budget; the change, if any, is made after the first timer fired.
    Advance(u64, u8, Option<Change>),
    AdvanceSoon(u16, u8, Option<Change>),
    AdvanceToNext,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Change {
    Insert(u16),
    Cancel(u8),
    Reschedule(u8, u16),
}

/// When each timer is due. A timer that was already due when it was set counts as set for the tick
/// of that moment.
#[derive(Default)]
struct Model {
    due: HashMap<Key, u64>,
    keys: Vec<Key>,
}

impl Model {
    fn set(&mut self, key: Key, due: u64) {
        if self.due.insert(key, due).is_none() {
            self.keys.push(key);
        }
    }

    /// One of the keys ever given out, valid or stale.
    fn pick(&self, which: u8) -> Option<Key> {
        self.keys.get(usize::from(which) % self.keys.len().max(1)).copied()
    }

    fn next(&self) -> Option<u64> {
        let mut by_due: BTreeMap<u64, ()> = BTreeMap::new();
        by_due.extend(self.due.values().map(|&due| (due, ())));
        by_due.keys().next().copied()
    }
}

fn insert(wheel: &mut Wheel<u64>, model: &mut Model, deadline: u64) {
    let due = deadline.max(wheel.now());
    let key = wheel.insert(deadline, due);
    assert!(!model.keys.contains(&key), "a key is never given out twice");
    model.set(key, due);
}

fn cancel(wheel: &mut Wheel<u64>, model: &mut Model, which: u8) {
    let Some(key) = model.pick(which) else { return };
    assert_eq!(wheel.cancel(key).is_some(), model.due.remove(&key).is_some());
}

fn reschedule(wheel: &mut Wheel<u64>, model: &mut Model, which: u8, deadline: u64) {
    let Some(key) = model.pick(which) else { return };
    let due = deadline.max(wheel.now());
    assert_eq!(wheel.reschedule(key, deadline), model.due.contains_key(&key));
    if let Some(known) = model.due.get_mut(&key) {
        *known = due;
        *wheel.get_mut(key).expect("it is pending") = due;
    }
}

fn advance(
    wheel: &mut Wheel<u64>,
    model: &mut Model,
    now: u64,
    budget: u8,
    mut change: Option<Change>,
) {
    let now = now.max(wheel.now());
    let mut advance = wheel.advance(now, usize::from(budget));
    let mut fired = 0;
    loop {
        let Some(expired) = advance.next(wheel) else { break };
        let (key, due) = (expired.key(), Expired::into_value(expired));
        assert_eq!(model.due.remove(&key), Some(due), "what fires was set and not cancelled");
        assert!(due <= now, "never early");
        fired += 1;
        match change.take() {
            Some(Change::Insert(ticks)) => {
                insert(wheel, model, wheel.now().saturating_add(ticks.into()))
            }
            Some(Change::Cancel(which)) => cancel(wheel, model, which),
            Some(Change::Reschedule(which, ticks)) => {
                let deadline = wheel.now().saturating_add(ticks.into());
                reschedule(wheel, model, which, deadline);
            }
            None => {}
        }
    }
    assert!(fired <= usize::from(budget));
}

fuzz_target!(|operations: Vec<Operation>| {
    let mut wheel = Wheel::new(0);
    let mut model = Model::default();
    for operation in operations {
        let now = wheel.now();
        match operation {
            Operation::Insert(deadline) => insert(&mut wheel, &mut model, deadline),
            Operation::InsertSoon(ticks) => {
                insert(&mut wheel, &mut model, now.saturating_add(ticks.into()))
            }
            Operation::Cancel(which) => cancel(&mut wheel, &mut model, which),
            Operation::Reschedule(which, deadline) => {
                reschedule(&mut wheel, &mut model, which, deadline)
            }
            Operation::RescheduleSoon(which, ticks) => {
                reschedule(&mut wheel, &mut model, which, now.saturating_add(ticks.into()));
            }
            Operation::Advance(to, budget, change) => {
                advance(&mut wheel, &mut model, to, budget, change)
            }
            Operation::AdvanceSoon(ticks, budget, change) => {
                advance(&mut wheel, &mut model, now.saturating_add(ticks.into()), budget, change);
            }
            Operation::AdvanceToNext => {
                if let Some(next) = wheel.next_deadline() {
                    advance(&mut wheel, &mut model, next, u8::MAX, None);
                }
            }
        }
        assert_eq!(wheel.len(), model.due.len());
        match (wheel.next_deadline(), model.next()) {
            (None, None) => {}
            // It may be the deadline of a cancelled timer, but it is never too late.
            (Some(reported), Some(due)) => {
                assert!(reported <= due.max(wheel.now()), "reported {reported}, due {due}")
            }
            reported => panic!("next deadlines differ: {reported:?}"),
        }
    }
    // Everything fires in the end, once. Firing a timer is one unit of work; moving it, at most
    // once per level, is three. An advance does at least its budget of work, if there is that much.
    let most = 1 + model.due.len() * (1 + 3 * LEVELS) / usize::from(u8::MAX);
    for _ in 0..most {
        advance(&mut wheel, &mut model, u64::MAX, u8::MAX, None);
    }
    assert!(
        model.due.is_empty(),
        "{} timers have not fired in {most} advances to the end of time",
        model.due.len()
    );
    assert!(wheel.is_empty() && wheel.next_deadline().is_none());
});
