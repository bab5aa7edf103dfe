//! One test for each known defect of timers: those reported against tokio, netty, mio and libuv,
//! and those of earlier wheels.

use super::*;

/// tokio#8334: the thread hung in an endless search when the only timer was some days away.
#[test]
fn a_search_for_one_far_timer_ends() {
    for exponent in 0..64 {
        let mut wheel = Wheel::new(0);
        wheel.insert(1 << exponent, exponent);
        assert_eq!(wheel.next_deadline(), Some(1 << exponent));
        assert_eq!(fire(&mut wheel, (1 << exponent) - 1), []);
        assert_eq!(fire(&mut wheel, 1 << exponent), [exponent]);
        assert_eq!(wheel.next_deadline(), None);
    }
}

/// A deadline beyond one turn of the wheel fired a turn early, or one set near the end of a turn a
/// whole turn late.
#[test]
fn no_wrap_at_the_end_of_a_turn() {
    for exponent in [6, 12, 36, 60] {
        let turn = 1u64 << exponent;
        let mut wheel = Wheel::new(turn - 1);
        wheel.insert(turn - 1 + turn, "a turn later");
        wheel.insert(turn, "the next tick");
        assert_eq!(fire(&mut wheel, turn), ["the next tick"]);
        assert_eq!(fire(&mut wheel, turn - 2 + turn), [""; 0]);
        assert_eq!(fire(&mut wheel, turn - 1 + turn), ["a turn later"]);
    }
}

/// A key that outlived its timer cancelled the next owner of its memory.
#[test]
fn a_stale_key_finds_nothing_after_reuse() {
    let mut wheel = Wheel::new(0);
    let first = wheel.insert(10, "first");
    assert_eq!(wheel.cancel(first), Some("first"));
    let second = wheel.insert(10, "second");
    assert_ne!(first, second);
    assert_eq!(wheel.cancel(first), None);
    assert!(!wheel.reschedule(first, 20));
    assert_eq!((wheel.get(first), wheel.deadline(first)), (None, None));
    assert_eq!(wheel.get_mut(first), None);
    assert_eq!(fire(&mut wheel, 10), ["second"]);
    assert_eq!(wheel.cancel(second), None);
}

/// Nor does it when the generations of its memory are used up: that memory is never reused.
#[test]
fn generations_never_wrap() {
    let mut wheel = Wheel::new(0);
    let old = wheel.insert(10, 0);
    wheel.cancel(old);
    wheel.slab.set_generation(0, u32::MAX - 1);
    let last = wheel.insert(10, 1);
    assert_eq!(wheel.cancel(last), Some(1));
    wheel.check();
    let other = wheel.insert(10, 2);
    assert_eq!(wheel.slab.nodes().len(), 2);
    assert_eq!((wheel.get(old), wheel.get(last), wheel.get(other)), (None, None, Some(&2)));
}

/// A key of another wheel panicked, or worked.
#[test]
fn a_foreign_key_finds_nothing() {
    let (mut ours, mut theirs) = (Wheel::new(0), Wheel::new(0));
    let key = ours.insert(10, "ours");
    let foreign = theirs.insert(10, "theirs");
    assert_ne!(key, foreign);
    assert_eq!(ours.cancel(foreign), None);
    assert!(!theirs.reschedule(key, 1));
    assert_eq!((ours.len(), theirs.len()), (1, 1));
}

/// The loop slept until the old deadline when an earlier timer was set, or a timer was moved to be
/// the earliest.
#[test]
fn an_earlier_timer_is_seen_at_once() {
    let mut wheel = Wheel::new(0);
    let far = wheel.insert(1_000_000, "far");
    wheel.insert(70_000, "near");
    assert_eq!(wheel.next_deadline(), Some(70_000));
    wheel.insert(69_999, "nearer, in the same slot");
    assert_eq!(wheel.next_deadline(), Some(69_999));
    wheel.reschedule(far, 5);
    assert_eq!(wheel.next_deadline(), Some(5));
}

/// Wheels that round deadlines to slots woke the loop at the start of each slot, for nothing.
#[test]
fn one_wake_up_for_a_lone_timer() {
    for deadline in [1, 63, 64, 4_097, 300_000, 86_400_000_000, u64::MAX] {
        let mut wheel = Wheel::new(0);
        wheel.insert(deadline, ());
        assert_eq!(wheel.next_deadline(), Some(deadline));
        assert_eq!(fire(&mut wheel, deadline), [()]);
    }
}

/// Every heartbeat postpones the election timeout; the loop woke for the old deadlines.
#[test]
fn no_wake_up_for_a_postponed_deadline() {
    let mut wheel = Wheel::new(0);
    let election = wheel.insert(150_000, "election");
    let _idle = wheel.insert(30_000_000, "idle");
    let mut now = 0;
    for _ in 0..1_000 {
        now += 50_000;
        assert_eq!(fire(&mut wheel, now), [""; 0]);
        assert!(wheel.reschedule(election, now + 150_000));
        assert_eq!(wheel.next_deadline(), Some((now + 150_000).min(30_000_000)));
        if now + 150_000 >= 30_000_000 {
            break;
        }
    }
}

/// When the earliest of several timers in one slot goes, the next deadline is exact, also if all
/// that are left were postponed.
#[test]
fn the_next_deadline_is_exact_after_the_earliest_goes() {
    let mut wheel = Wheel::new(0);
    let keys: Vec<_> = (0..10).map(|i| wheel.insert(4_100 + i, i)).collect();
    wheel.insert(9_000, 10);
    assert!(wheel.reschedule(keys[9], 10_000)); // one store: it stays in its slot
    for (i, &key) in (0..8).zip(&keys) {
        assert_eq!(wheel.cancel(key), Some(i));
        assert_eq!(wheel.next_deadline(), Some(4_101 + i));
    }
    assert_eq!(wheel.cancel(keys[8]), Some(8));
    assert_eq!(wheel.next_deadline(), Some(9_000));
    wheel.check();
    assert_eq!(fire(&mut wheel, 10_000), [10, 9]);
}

/// In a slot with too many timers to search there is at most one wake-up for a timer that is gone,
/// and afterwards the next deadline is exact.
#[test]
fn a_crowded_slot_causes_at_most_one_idle_wake_up() {
    let mut wheel = Wheel::new(0);
    let earliest = wheel.insert(5_000, 0);
    for i in 0..40 {
        wheel.insert(6_000, i);
    }
    wheel.cancel(earliest);
    assert_eq!(wheel.next_deadline(), Some(5_000));
    assert_eq!(fire(&mut wheel, 5_000), []);
    assert_eq!(wheel.next_deadline(), Some(6_000));
    assert_eq!(fire(&mut wheel, 6_000).len(), 40);
}

/// A timer that is alone in such a slot must not fire at the tick of the earliest that is gone.
#[test]
fn a_timer_alone_in_its_slot_fires_at_its_own_tick() {
    let mut wheel = Wheel::new(0);
    let earliest = wheel.insert(5_000, 0);
    let keys: Vec<_> = (1..40).map(|i| wheel.insert(6_000, i)).collect();
    wheel.cancel(earliest);
    for &key in &keys[1..] {
        wheel.cancel(key);
    }
    assert_eq!(wheel.next_deadline(), Some(5_000));
    assert_eq!(fire(&mut wheel, 5_999), []);
    assert_eq!(fire(&mut wheel, 6_000), [1]);
}

/// Deadlines rounded down, or to the nearest slot, fired early.
#[test]
fn nothing_fires_early() {
    let mut wheel = Wheel::new(0);
    for deadline in 0..5_000 {
        wheel.insert(deadline, deadline);
    }
    let mut next = 0;
    for now in (0..5_000).step_by(7) {
        for deadline in fire(&mut wheel, now) {
            assert!(deadline == next && deadline <= now);
            next += 1;
        }
        assert_eq!(next, now + 1);
    }
}

/// Timers fired slot by slot, in any order within the slot; or those of one tick in reverse.
#[test]
fn order_is_by_deadline_then_by_setting() {
    let mut wheel = Wheel::new(0);
    let mut expected = Vec::new();
    for i in 0..2_000u64 {
        let deadline = (i * 7_919) % 101 * 97 + 1;
        wheel.insert(deadline, (deadline, i));
        expected.push((deadline, i));
        if i == 1_000 {
            // From here on the cursor may differ; the order must not.
            assert_eq!(fire(&mut wheel, 0), []);
        }
    }
    expected.sort_unstable();
    assert_eq!(fire(&mut wheel, 10_000), expected);
}

/// Timers of one tick that were set at different times, and so on different levels, fired out of
/// order.
#[test]
fn order_holds_between_timers_set_far_and_near() {
    let mut wheel = Wheel::new(0);
    let mut expected = Vec::new();
    for now in (0..10_000).step_by(611) {
        assert_eq!(fire(&mut wheel, now), []);
        wheel.insert(10_000, now);
        expected.push(now);
    }
    assert_eq!(fire(&mut wheel, 10_000), expected);
}

/// Cancelled timers stayed until their deadline, and kept their memory and wake-ups.
#[test]
fn nothing_is_left_of_cancelled_timers() {
    let mut wheel = Wheel::new(0);
    for round in 0..1_000u64 {
        let keys: Vec<_> = (0..10).map(|i| wheel.insert(round + i * 1_000_000, ())).collect();
        for key in keys {
            assert_eq!(wheel.cancel(key), Some(()));
        }
        assert_eq!((wheel.len(), wheel.next_deadline(), wheel.iter().count()), (0, None, 0));
    }
    assert_eq!(wheel.slab.nodes().len(), 10);
    wheel.check();
}

/// A timer cancelled in the callback of another due timer fired all the same, or broke the list
/// that was being walked.
#[test]
fn cancelled_while_expiring_does_not_fire() {
    let mut wheel = Wheel::new(0);
    let keys: Vec<_> = (0..6).map(|i| wheel.insert(100 + i as u64 / 4, i)).collect();
    let mut advance = wheel.advance(200, usize::MAX);
    assert_eq!(advance.next(&mut wheel).map(Expired::into_value), Some(0));
    for (i, &key) in keys.iter().enumerate().skip(1).step_by(2) {
        assert_eq!(wheel.cancel(key), Some(i));
    }
    wheel.check();
    assert_eq!(advance.next(&mut wheel).map(Expired::into_value), Some(2));
    assert!(wheel.reschedule(keys[4], 300));
    assert!(advance.next(&mut wheel).is_none());
    assert!(!advance.is_spent());
    assert_eq!(fire(&mut wheel, 300), [4]);
}

/// Counters kept beside the lists no longer agreed with them.
#[test]
fn the_count_is_right_after_every_kind_of_removal() {
    let mut wheel = Wheel::new(0);
    let keys: Vec<_> = (0..5).map(|i| wheel.insert(i, i)).collect();
    wheel.cancel(keys[4]);
    wheel.cancel(keys[4]);
    assert_eq!(wheel.len(), 4);
    let mut advance = wheel.advance(10, usize::MAX);
    drop(advance.next(&mut wheel));
    assert_eq!(wheel.len(), 3);
    assert_eq!(advance.next(&mut wheel).map(Expired::into_value), Some(1));
    assert_eq!(wheel.len(), 2);
    let Some(expired) = advance.next(&mut wheel) else { panic!("two timers are due") };
    expired.rearm(20);
    assert_eq!(wheel.len(), 2);
    core::mem::forget(advance.next(&mut wheel)); // leaked: it stays
    assert_eq!(wheel.len(), 2);
    wheel.check();
    assert_eq!(fire(&mut wheel, 20), [3, 2]);
    assert!(wheel.is_empty());
}

/// A timer that set itself again with timeout zero kept the loop busy with timers without end.
#[test]
fn a_zero_timeout_fires_in_the_next_advance() {
    let mut wheel = Wheel::new(0);
    wheel.insert(0, "zero");
    for now in [0, 0, 0, 5, 5] {
        let mut advance = wheel.advance(now, usize::MAX);
        let Some(expired) = advance.next(&mut wheel) else { panic!("the zero timer is due") };
        expired.rearm(0);
        assert!(advance.next(&mut wheel).is_none());
        assert!(!advance.is_spent());
        assert!(wheel.next_deadline() <= Some(now), "the caller must not sleep");
    }
    // With a budget of one it takes turns with what is overdue.
    wheel.insert(6, "six");
    wheel.insert(7, "seven");
    let mut fired = Vec::new();
    for _ in 0..4 {
        let mut advance = wheel.advance(10, 1);
        let Some(expired) = advance.next(&mut wheel) else { panic!("something is due") };
        fired.push(*expired.value());
        if *expired.value() == "zero" {
            expired.rearm(0);
        }
    }
    assert_eq!(fired, ["zero", "six", "seven", "zero"]);
}

/// While a big slot was being cascaded, timers set for it overtook older ones, or were set so fast
/// that it never became empty.
#[test]
fn a_cascading_slot_keeps_its_order_and_becomes_empty() {
    let mut wheel = Wheel::new(0);
    let mut expected: Vec<u64> = (0..3_000).collect();
    for i in 0..3_000 {
        wheel.insert(5_000 + i % 2, i);
    }
    assert_eq!(fire_at_most(&mut wheel, 5_000, 0), []);
    let mut left = 0;
    for i in 3_000.. {
        if wheel.cascading == 0 {
            break;
        }
        assert_eq!(wheel.next_deadline(), Some(5_000));
        wheel.insert(5_001 + i % 2, i);
        expected.push(i);
        left = i;
        assert!(i < 10_000, "the slot is never empty");
    }
    expected.sort_by_key(|&i| (5_000 + i % 2 + u64::from(i >= 3_000), i));
    assert!(left > 3_000, "the slot was being cascaded when the first was set");
    assert_eq!(fire(&mut wheel, 6_000), expected);
}
