//! Wakes from other threads: they merge, none is lost, none has to be read.

mod common;

use common::{ready_now, wait};
use kodiak_sys::{Event, Events, Readiness, Selector, Waker};
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn a_wake_before_the_wait_ends_it() {
    let selector = Selector::new().unwrap();
    let waker = Waker::new(&selector, 3).unwrap();
    assert!(ready_now(&selector).is_empty(), "a new waker is silent");
    waker.wake().unwrap();
    assert_eq!(wait(&selector), [Event::new(3, Readiness::READABLE)]);
}

#[test]
fn wakes_merge_into_one_report() {
    let selector = Selector::new().unwrap();
    let waker = Waker::new(&selector, 0).unwrap();
    for _ in 0..1000 {
        waker.wake().unwrap();
    }
    assert_eq!(wait(&selector).len(), 1);
    assert!(ready_now(&selector).is_empty(), "although nothing was read");
}

#[test]
fn it_wakes_repeatedly_without_a_read() {
    let selector = Selector::new().unwrap();
    let waker = Waker::new(&selector, u64::MAX).unwrap();
    for _ in 0..100_000 / 10 {
        waker.wake().unwrap();
        assert_eq!(wait(&selector)[0].key, u64::MAX);
    }
}

#[test]
fn a_selector_may_have_several_wakers() {
    let selector = Selector::new().unwrap();
    let wakers: Vec<_> = (0..5).map(|key| Waker::new(&selector, key).unwrap()).collect();
    wakers[1].wake().unwrap();
    wakers[4].wake().unwrap();
    let mut keys: Vec<_> = wait(&selector).iter().map(|event| event.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [1, 4]);
}

#[test]
fn a_dropped_waker_is_silent_and_can_be_replaced() {
    let selector = Selector::new().unwrap();
    let waker = Waker::new(&selector, 1).unwrap();
    waker.wake().unwrap();
    drop(waker);
    let next = Waker::new(&selector, 2).unwrap();
    assert!(ready_now(&selector).is_empty());
    next.wake().unwrap();
    assert_eq!(wait(&selector)[0].key, 2);
}

#[test]
fn a_waker_may_outlive_its_selector() {
    let selector = Selector::new().unwrap();
    let waker = Waker::new(&selector, 1).unwrap();
    drop(selector);
    waker.wake().unwrap();
}

/// Each thread increments a counter and then wakes. If the last wake were lost, the waiting thread
/// would not see the last increment.
#[test]
fn no_wake_is_lost_under_contention() {
    const THREADS: u64 = 3;
    const ROUNDS: u64 = 20_000;
    let selector = Selector::new().unwrap();
    let waker = Waker::new(&selector, 7).unwrap();
    let counter = AtomicU64::new(0);
    let waits = std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    counter.fetch_add(1, Ordering::SeqCst);
                    waker.wake().unwrap();
                }
            });
        }
        let (mut waits, mut events) = (0, Events::with_capacity(4));
        while counter.load(Ordering::SeqCst) < THREADS * ROUNDS {
            assert_eq!(
                selector.wait(&mut events, Some(common::TIME_LIMIT)).unwrap(),
                1,
                "a wake was lost"
            );
            waits += 1;
        }
        waits
    });
    assert!((1..=THREADS * ROUNDS).contains(&waits));
}

/// Two threads wake each other in turn: one lost wake would stop both.
#[test]
fn ping_pong_never_stops() {
    const ROUNDS: usize = 20_000;
    let (ping, pong) = (Selector::new().unwrap(), Selector::new().unwrap());
    let (to_ping, to_pong) = (Waker::new(&ping, 1).unwrap(), Waker::new(&pong, 2).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                assert_eq!(wait(&pong)[0].key, 2);
                to_ping.wake().unwrap();
            }
        });
        for _ in 0..ROUNDS {
            to_pong.wake().unwrap();
            assert_eq!(wait(&ping)[0].key, 1);
        }
    });
}
