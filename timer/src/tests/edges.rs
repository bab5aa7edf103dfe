//! The ends of the range, and the corners of the contract.

use super::*;

const CENTURY: u64 = 3_155_760_000_000_000; // in microseconds

#[test]
fn one_wheel_holds_the_whole_range_of_ticks() {
    let mut wheel = Wheel::new(0);
    for deadline in [u64::MAX, u64::MAX - 1, 1 << 63, CENTURY, 1, 0] {
        wheel.insert(deadline, deadline);
    }
    assert_eq!(fire(&mut wheel, 0), [0]);
    assert_eq!(fire(&mut wheel, u64::MAX - 1), [1, CENTURY, 1 << 63, u64::MAX - 1]);
    assert_eq!(wheel.next_deadline(), Some(u64::MAX));
    assert_eq!(fire(&mut wheel, u64::MAX), [u64::MAX]);
}

#[test]
fn timers_at_the_last_tick_fire_again_and_again() {
    let mut wheel = Wheel::new(u64::MAX);
    for i in 0..3 {
        let key = wheel.insert(u64::MAX, i);
        wheel.insert(5, i + 10);
        assert!(wheel.reschedule(key, u64::MAX));
        assert_eq!(fire(&mut wheel, u64::MAX), [i + 10, i]);
    }
}

#[test]
fn a_century_of_nothing_is_one_step() {
    let mut wheel = Wheel::new(0);
    wheel.insert(CENTURY + 1, ());
    let mut advance = wheel.advance(CENTURY, 1);
    assert!(advance.next(&mut wheel).is_none());
    let work = advance.work;
    assert_eq!(fire(&mut wheel, CENTURY + 1), [()]);
    assert_eq!(wheel.advance(0, 1).work, work, "no timer was moved");
}

/// A slot of thousands is cascaded in steps, and firing counts as work too.
#[test]
fn an_advance_does_a_bounded_piece_of_work() {
    const BUDGET: usize = 100;
    let mut wheel = Wheel::new(0);
    for i in 0..10_000 {
        wheel.insert(5_000 + i % 2, i);
    }
    let waiting = |wheel: &Wheel<u64>| {
        wheel.slab.nodes().iter().filter(|node| node.slot().is_upper()).count()
    };
    let (mut fired, mut calls) = (0, 0);
    while !wheel.is_empty() {
        let (before, fired_before) = (waiting(&wheel), fired);
        fired += fire_at_most(&mut wheel, 5_001, BUDGET).len();
        let (moves, fires) = (before - waiting(&wheel), fired - fired_before);
        assert!(3 * moves + fires <= BUDGET + 64, "{moves} moves and {fires} firings at once");
        calls += 1;
    }
    assert_eq!(fired, 10_000);
    assert!(calls <= (3 + 1) * 10_000 / BUDGET, "it took {calls} calls");
}

#[test]
fn time_does_not_go_back() {
    let mut wheel = Wheel::new(100);
    wheel.insert(150, "soon");
    assert_eq!(fire(&mut wheel, 120), [""; 0]);
    assert_eq!(fire(&mut wheel, 50), [""; 0]);
    assert_eq!(wheel.now(), 120);
    wheel.insert(110, "past");
    assert_eq!(wheel.next_deadline(), Some(120));
    assert_eq!(fire(&mut wheel, 0), ["past"]);
    assert_eq!(fire(&mut wheel, 150), ["soon"]);
}

#[test]
fn a_budget_of_zero_fires_nothing_and_is_spent() {
    let mut wheel = Wheel::new(0);
    wheel.insert(10, ());
    for (now, spent) in [(9, false), (10, true)] {
        let mut advance = wheel.advance(now, 0);
        assert!(advance.next(&mut wheel).is_none());
        assert_eq!(advance.is_spent(), spent);
    }
    assert_eq!((wheel.len(), wheel.next_deadline()), (1, Some(10)));
}

#[test]
fn the_budget_is_met_exactly_and_the_rest_comes_next() {
    let mut wheel = Wheel::new(0);
    for i in 0..10 {
        wheel.insert(i * 10, i);
    }
    for expected in [[0, 1, 2], [3, 4, 5]] {
        let mut advance = wheel.advance(95, 3);
        for i in expected {
            assert_eq!(advance.next(&mut wheel).map(Expired::into_value), Some(i));
            assert!(!advance.is_spent());
        }
        assert!(advance.next(&mut wheel).is_none());
        assert!(advance.is_spent());
    }
    assert_eq!(fire_at_most(&mut wheel, 95, 4), [6, 7, 8, 9]);
}

#[test]
fn a_timer_set_already_due_fires_in_the_next_advance() {
    let mut wheel = Wheel::new(0);
    wheel.insert(10, 'a');
    wheel.insert(20, 'b');
    wheel.insert(20, 'c');
    let mut advance = wheel.advance(20, usize::MAX);
    assert_eq!(advance.next(&mut wheel).map(Expired::into_value), Some('a'));
    let key = wheel.insert(5, 'x');
    wheel.insert(20, 'y');
    assert_eq!(wheel.deadline(key), Some(5), "it keeps the deadline that it was given");
    assert_eq!(advance.next(&mut wheel).map(Expired::into_value), Some('b'));
    assert_eq!(wheel.next_deadline(), Some(20));
    assert_eq!(advance.next(&mut wheel).map(Expired::into_value), Some('c'));
    assert!(advance.next(&mut wheel).is_none());
    assert!(!advance.is_spent());
    wheel.check();
    wheel.insert(21, 'z');
    assert_eq!(fire(&mut wheel, 21), ['x', 'y', 'z']);
}

/// A timer was postponed to `now` by one store, so it is still in an earlier slot. Then another is
/// set for `now`, too late for this advance.
#[test]
fn a_timer_in_an_earlier_slot_still_fires_in_time() {
    let mut wheel = Wheel::new(0);
    wheel.insert(10, 'a');
    wheel.insert(70, 'b');
    let lagging = wheel.insert(71, 'l');
    assert!(wheel.reschedule(lagging, 500));
    let mut advance = wheel.advance(500, usize::MAX);
    assert_eq!(advance.next(&mut wheel).map(Expired::into_value), Some('a'));
    wheel.insert(0, 'x');
    assert_eq!(advance.next(&mut wheel).map(Expired::into_value), Some('b'));
    assert_eq!(advance.next(&mut wheel).map(Expired::into_value), Some('l'));
    assert!(advance.next(&mut wheel).is_none());
    assert_eq!(fire(&mut wheel, 500), ['x']);
}

#[test]
fn rearmed_keeps_its_key_and_does_not_drift() {
    let mut wheel = Wheel::new(0);
    let key = wheel.insert(100, 0);
    for turn in 1..=50u64 {
        let now = turn * 100 + 37; // the loop is always late
        let mut advance = wheel.advance(now, usize::MAX);
        let Some(mut expired) = advance.next(&mut wheel) else {
            panic!("turn {turn}: nothing is due")
        };
        assert_eq!((expired.key(), expired.deadline()), (key, turn * 100));
        *expired.value_mut() += 1;
        let next = expired.deadline() + 100;
        expired.rearm(next);
        assert!(advance.next(&mut wheel).is_none());
        wheel.check();
    }
    assert_eq!(wheel.get(key), Some(&50));
    assert_eq!(wheel.cancel(key), Some(50));
}

#[test]
fn a_newer_advance_ends_an_older_one() {
    let mut wheel = Wheel::new(0);
    wheel.insert(1, ());
    let mut older = wheel.advance(1, 1);
    let mut newer = wheel.advance(1, 1);
    assert!(older.next(&mut wheel).is_none());
    assert!(newer.next(&mut wheel).is_some());
}

#[test]
fn the_number_of_an_advance_may_wrap() {
    let mut wheel = Wheel::new(0);
    for now in 0..70_000 {
        wheel.insert(now, now);
        assert_eq!(wheel.next_deadline(), Some(now));
        let mut advance = wheel.advance(now, 4);
        assert_eq!(advance.next(&mut wheel).map(Expired::into_value), Some(now));
        assert!(advance.next(&mut wheel).is_none());
    }
}

#[test]
fn slack_lets_timers_share_a_wake_up() {
    let mut wheel = Wheel::new(1_000);
    let mut fires_at = |deadline, slack| {
        let key = wheel.insert_with_slack(deadline, slack, ());
        assert_eq!(wheel.deadline(key), Some(deadline));
        let tick = wheel.next_deadline();
        wheel.cancel(key);
        tick
    };
    assert_eq!(fires_at(5_003, 0), Some(5_003));
    assert_eq!(fires_at(5_003, 4), Some(5_004));
    assert_eq!(fires_at(5_003, 1_000), Some(5_120));
    assert_eq!(fires_at(5_121, 1_000), Some(5_632));
    assert_eq!(fires_at(u64::MAX, u64::MAX), Some(u64::MAX));
    assert_eq!(fires_at(1_001, u64::MAX), Some(1 << 63));
    assert_eq!(fires_at(999, 1_000), Some(1_000), "what is due has no slack");
    let mut wheel = Wheel::new(0);
    let key = wheel.insert(50, ());
    assert!(wheel.reschedule_with_slack(key, 100, 50));
    assert_eq!((wheel.next_deadline(), wheel.deadline(key)), (Some(128), Some(100)));
}

#[test]
fn iteration_shows_what_is_pending() {
    let mut wheel = Wheel::with_capacity(0, 4);
    assert!(wheel.capacity() >= 4);
    let a = wheel.insert(10, 'a');
    let b = wheel.insert(u64::MAX, 'b');
    let c = wheel.insert(0, 'c');
    wheel.cancel(b);
    let mut seen: Vec<_> =
        wheel.iter().map(|(key, deadline, &value)| (deadline, value, key)).collect();
    seen.sort_by_key(|&(deadline, ..)| deadline);
    assert_eq!(seen, [(0, 'c', c), (10, 'a', a)]);
    assert_eq!(wheel.iter().len(), 2);
    assert_eq!((&wheel).into_iter().count(), 2);
}

#[test]
fn a_timer_costs_what_the_documentation_says() {
    // Plus its links and its deadline; in a large wheel also a hint.
    assert_eq!(
        8 + 8 + size_of::<crate::slab::Node<core::num::NonZeroU64>>(),
        32 + size_of::<u64>()
    );
    assert_eq!(8 + 8 + size_of::<crate::slab::Node<u64>>(), 32 + size_of::<Option<u64>>());
    assert_eq!((size_of::<crate::Key>(), size_of::<Option<crate::Key>>()), (12, 12));
}
