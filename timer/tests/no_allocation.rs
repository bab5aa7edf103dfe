//! Once the wheel has grown, no operation allocates.

use kodiak_timer::{Key, Wheel};

const TIMERS: u64 = 1_000;

fn measure(what: &str, run: impl FnOnce()) {
    let count = allocation_counter::measure(run).count_total;
    assert_eq!(count, 0, "{what} allocated {count} times");
}

/// A spread of deadlines over many levels, with ties.
fn spread(i: u64) -> u64 {
    ((i * 7_919) % 613) << (i % 40)
}

#[test]
fn nothing_allocates_after_warm_up() {
    let mut wheel = Wheel::new(0);
    let mut keys: Vec<Key> = (0..TIMERS).map(|i| wheel.insert(spread(i), i)).collect();

    measure("rescheduling", || {
        for (i, &key) in (0..).zip(&keys) {
            assert!(wheel.reschedule(key, spread(i + 1) + 5));
        }
    });
    measure("cancelling and inserting", || {
        for (i, key) in (0..).zip(&mut keys) {
            assert!(wheel.cancel(*key).is_some());
            *key = wheel.insert_with_slack(spread(i + 2), i, i);
        }
    });
    measure("looking", || {
        assert!(wheel.next_deadline().is_some());
        assert_eq!(wheel.iter().count() as u64, TIMERS);
        assert!(keys.iter().all(|&key| wheel.deadline(key).is_some()));
    });
    measure("firing, re-arming and inserting meanwhile", || {
        while let Some(now) = wheel.next_deadline().filter(|&now| now < 1 << 40) {
            let mut advance = wheel.advance(now + 1_000, 16);
            loop {
                let Some(expired) = advance.next(&mut wheel) else { break };
                let i = *expired.value();
                if i.is_multiple_of(2) {
                    let next = expired.deadline() + (1 << 38);
                    expired.rearm(next);
                } else {
                    drop(expired);
                    wheel.insert(u64::MAX - i, i);
                }
            }
        }
    });
    measure("firing all", || {
        let mut advance = wheel.advance(u64::MAX, usize::MAX);
        while advance.next(&mut wheel).is_some() {}
        assert!(wheel.is_empty());
    });
}

#[test]
fn a_wheel_with_capacity_is_warm() {
    let mut wheel = Wheel::with_capacity(0, TIMERS as usize);
    measure("inserting within the capacity", || {
        for i in 0..TIMERS {
            wheel.insert(spread(i), i);
        }
    });
}

/// A large wheel has prefetch hints as well.
#[test]
fn a_large_wheel_allocates_nothing() {
    const TIMERS: u64 = 70_000;
    let mut wheel = Wheel::with_capacity(0, TIMERS as usize);
    assert!(wheel.capacity() >= TIMERS as usize);
    let mut keys = Vec::with_capacity(TIMERS as usize);
    measure("inserting within the capacity", || {
        keys.extend((0..TIMERS).map(|i| wheel.insert(spread(i), i)))
    });
    measure("cancelling and inserting", || {
        for (i, key) in (0..).zip(&mut keys) {
            assert!(wheel.cancel(*key).is_some());
            *key = wheel.insert(spread(i + 2), i);
        }
    });
    measure("firing all", || {
        let mut advance = wheel.advance(u64::MAX, usize::MAX);
        while advance.next(&mut wheel).is_some() {}
        assert!(wheel.is_empty());
    });
}
