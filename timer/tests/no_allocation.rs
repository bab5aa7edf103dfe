//! Once the wheel has grown, nothing that it does allocates.

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
    measure("cancelling and inserting in any order, far off", || {
        for i in 0..100 * TIMERS {
            let key = &mut keys[(i * i % TIMERS) as usize];
            assert!(wheel.cancel(*key).is_some());
            *key = wheel.insert(1_000_000 + spread(i), i % TIMERS);
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

/// The order of cancellation that leaves the most blocks: of each dozen set in one go for one slot, one stays; again and again, in
/// every slot; and a single timer that was in every slot of every level.
#[test]
fn no_order_of_cancellation_makes_the_lists_longer_than_the_first_growth() {
    for timers in [1_u64, 20, 1_000, 30_000] {
        let mut wheel = Wheel::with_capacity(0, timers as usize);
        let mut kept: Vec<Key> = Vec::with_capacity(timers as usize);
        let mut fresh: Vec<Key> = Vec::with_capacity(timers as usize);
        measure("cancelling in the worst order", || {
            for level in 0..11 {
                for slot in 1..if level == 10 { 16 } else { 64 } {
                    let key = wheel.insert(slot << (6 * level), 0);
                    assert!(wheel.cancel(key).is_some());
                }
            }
            for round in 0..300_u64 {
                // Into one slot as many as there is room for.
                let (level, slot) = (round % 9, 1 + round % 63);
                let room = (timers - kept.len() as u64).min(600);
                fresh.extend((0..room).map(|i| wheel.insert(slot << (6 * level + 6), i)));
                for (i, key) in fresh.drain(..).enumerate() {
                    if i % 12 == (round % 12) as usize {
                        kept.push(key);
                    } else {
                        assert!(wheel.cancel(key).is_some());
                    }
                }
                if kept.len() as u64 + 12 > timers {
                    // Every third goes, so that there is room again and no list is in one piece.
                    let mut number = 0;
                    kept.retain(|&key| {
                        number += 1;
                        number % 3 != 0 || wheel.cancel(key).is_none()
                    });
                }
            }
        });
        assert!(wheel.len() == kept.len());
    }
}
