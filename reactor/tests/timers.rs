//! Timeouts: never early, no drift, no spin.

mod common;

use std::time::{Duration, Instant};

use common::{Loop, On, Seen, poll};
use kodiak_reactor::TimerError;

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_timeout_is_never_early_and_wakes_the_loop_once() {
    let mut event_loop = Loop::new().unwrap();
    for delay in [Duration::ZERO, Duration::from_micros(300), 3 * MS, 40 * MS] {
        let before = event_loop.stats();
        let start = Instant::now();
        event_loop.timeout(7, delay).unwrap();
        let mut seen = Vec::new();
        let mut handler = On(|event_loop: &mut Loop, call| {
            seen.push(call);
            if let Seen::Timeout(_) = call {
                event_loop.shutdown();
            }
        });
        event_loop.run(&mut handler).unwrap();
        assert!(start.elapsed() >= delay);
        assert_eq!(
            seen,
            [Seen::Timeout(7), Seen::TurnEnd],
            "one turn, no spin, no spurious wake-up"
        );
        assert!(event_loop.stats().sleeps - before.sleeps <= 1);
    }
}

#[test]
fn a_relative_timeout_counts_from_the_call_not_the_turn() {
    let mut event_loop = Loop::new().unwrap();
    let set = std::cell::Cell::new(None);
    event_loop.timeout(1, Duration::ZERO).unwrap();
    let mut handler = On(|event_loop: &mut Loop, call| match call {
        Seen::Timeout(1) => {
            let busy = Instant::now();
            while busy.elapsed() < 10 * MS {}
            set.set(Some(Instant::now()));
            event_loop.timeout(2, 10 * MS).unwrap();
        }
        Seen::Timeout(_) => event_loop.shutdown(),
        _ => {}
    });
    event_loop.run(&mut handler).unwrap();
    assert!(set.get().unwrap().elapsed() >= 10 * MS);
}

#[test]
fn timeouts_fire_in_the_order_of_their_deadlines_and_of_setting() {
    let mut event_loop = Loop::new().unwrap();
    let base = Instant::now();
    for (token, delay) in [(3, 2 * MS), (1, MS), (2, MS), (4, 2 * MS)] {
        event_loop.timeout_at(token, base + delay).unwrap();
    }
    let mut fired = Vec::new();
    let mut handler = On(|event_loop: &mut Loop, call| {
        if let Seen::Timeout(token) = call {
            fired.push(token);
            if fired.len() == 4 {
                event_loop.shutdown();
            }
        }
    });
    event_loop.run(&mut handler).unwrap();
    assert_eq!(fired, [1, 2, 3, 4]);
}

#[test]
fn a_timeout_set_in_its_own_callback_fires_in_the_next_turn() {
    let mut event_loop = Loop::new().unwrap();
    let past = event_loop.now();
    event_loop.timeout_at(0, past).unwrap();
    let mut calls = Vec::new();
    let mut handler = On(|event_loop: &mut Loop, call| {
        calls.push(call);
        match call {
            Seen::Timeout(3) => event_loop.shutdown(),
            Seen::Timeout(n) => drop(event_loop.timeout_at(n + 1, past).unwrap()),
            _ => {}
        }
    });
    event_loop.run(&mut handler).unwrap();
    let turns: Vec<_> = (0..4).flat_map(|n| [Seen::Timeout(n), Seen::TurnEnd]).collect();
    assert_eq!(calls, turns);
}

#[test]
fn a_cleared_timeout_never_fires_and_its_handle_is_stale() {
    let mut event_loop = Loop::new().unwrap();
    let cleared = event_loop.timeout(1, Duration::ZERO).unwrap();
    assert_eq!(event_loop.clear_timeout(cleared), Some(1));
    let other = event_loop.timeout(2, Duration::from_secs(3600)).unwrap();
    assert_eq!(event_loop.clear_timeout(cleared), None);
    assert_eq!(event_loop.reset_timeout(cleared, MS), Err(TimerError::NotPending));
    assert_eq!(poll(&mut event_loop), []);
    assert_eq!(event_loop.timeout_count(), 1);
    assert_eq!(event_loop.clear_timeout(other), Some(2));
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn a_timeout_moves_earlier_and_later_and_keeps_its_handle() {
    let mut event_loop = Loop::new().unwrap();
    let a = event_loop.timeout(1, Duration::ZERO).unwrap();
    event_loop.reset_timeout(a, Duration::from_secs(3600)).unwrap();
    assert_eq!(poll(&mut event_loop), []);
    assert!(event_loop.next_timeout().unwrap() > Duration::from_secs(3000));
    let past = event_loop.now();
    event_loop.reset_timeout_at(a, past).unwrap();
    assert_eq!(poll(&mut event_loop), [Seen::Timeout(1)]);
    assert_eq!(event_loop.reset_timeout(a, MS), Err(TimerError::NotPending));
}

#[test]
fn a_periodic_timer_keeps_its_handle_and_does_not_drift() {
    let mut event_loop = Loop::new().unwrap();
    let period = 2 * MS;
    let handle = event_loop.interval(5, period).unwrap();
    let first = event_loop.deadline(handle).unwrap();
    let mut count = 0;
    let mut handler = On(|event_loop: &mut Loop, call| {
        if let Seen::Timeout(5) = call {
            count += 1;
            assert!(event_loop.now() >= first + period * (count - 1), "early");
            let next = event_loop.deadline(handle).unwrap();
            let periods = next.duration_since(first).as_micros();
            assert_eq!(periods % period.as_micros(), 0, "drifts");
            assert!(next > event_loop.now(), "missed periods are skipped");
            if count == 2 {
                // Longer than two periods: they must not be made up for in a burst.
                let busy = Instant::now();
                while busy.elapsed() < period * 3 {}
            }
            if count == 5 {
                assert_eq!(event_loop.clear_timeout(handle), Some(5));
                event_loop.shutdown();
            }
        }
    });
    event_loop.run(&mut handler).unwrap();
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn invalid_timeouts_are_errors() {
    let mut event_loop: Loop = Loop::builder().timer_capacity(1).build().unwrap();
    assert_eq!(event_loop.timeout(1, Duration::MAX), Err(TimerError::TooFar));
    assert_eq!(event_loop.interval(1, Duration::ZERO), Err(TimerError::ZeroPeriod));
    event_loop.timeout(1, MS).unwrap();
    let error = event_loop.timeout(1, MS).unwrap_err();
    assert!(error.to_string().contains("timer_capacity"), "{error}");
}

#[test]
fn timers_beyond_the_budget_fire_next_turn_without_a_sleep() {
    let mut event_loop: Loop = Loop::builder().timers_per_turn(3).build().unwrap();
    let past = event_loop.now();
    for token in 0..8 {
        event_loop.timeout_at(token, past).unwrap();
    }
    let counts: Vec<usize> = (0..4).map(|_| poll(&mut event_loop).len()).collect();
    assert_eq!(counts, [3, 3, 2, 0]);
}
