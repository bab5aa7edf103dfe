//! Registration, keys and time.

mod common;

use common::{libkqueue_lacks, ready_now, tcp_pair, unix_pair, wait, watching};
use kodiak_sys::{Events, Interest, Selector, Trigger, Waker};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

#[test]
fn every_key_is_returned_unchanged() {
    for key in [0, 1, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
        let (a, mut b) = unix_pair();
        let selector = Selector::new().unwrap();
        selector.add(a.as_fd(), key, Interest::READABLE, Trigger::Level).unwrap();
        b.write_all(b"x").unwrap();
        let events = wait(&selector);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].key, key);
    }
}

#[test]
fn keys_need_not_differ() {
    let ((a, mut b), (c, mut d)) = (unix_pair(), unix_pair());
    let selector = watching(&a, Interest::READABLE, Trigger::Level);
    selector.add(c.as_fd(), 1, Interest::READABLE, Trigger::Level).unwrap();
    b.write_all(b"x").unwrap();
    d.write_all(b"x").unwrap();
    assert_eq!(ready_now(&selector).iter().map(|event| event.key).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn adding_twice_is_an_error_and_changes_nothing() {
    let (a, mut b) = unix_pair();
    let selector = watching(&a, Interest::READABLE, Trigger::Level);
    let error = selector.add(a.as_fd(), 2, Interest::WRITABLE, Trigger::Edge).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(ready_now(&selector).is_empty());
    b.write_all(b"x").unwrap();
    assert_eq!(wait(&selector)[0].key, 1);
}

#[test]
fn an_unregistered_source_is_not_found() {
    let (a, _b) = unix_pair();
    let selector = Selector::new().unwrap();
    let modify = selector.modify(a.as_fd(), 1, Interest::READABLE, Trigger::Level);
    assert_eq!(modify.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(selector.remove(a.as_fd()).unwrap_err().kind(), ErrorKind::NotFound);
    selector.add(a.as_fd(), 1, Interest::READABLE, Trigger::Level).unwrap();
    selector.remove(a.as_fd()).unwrap();
    assert_eq!(selector.remove(a.as_fd()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn an_empty_interest_is_refused() {
    let (a, mut b) = unix_pair();
    let selector = Selector::new().unwrap();
    let none = Interest::empty();
    assert_eq!(
        selector.add(a.as_fd(), 1, none, Trigger::Level).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    selector.add(a.as_fd(), 1, Interest::READABLE, Trigger::Level).unwrap();
    assert_eq!(
        selector.modify(a.as_fd(), 1, none, Trigger::Level).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    b.write_all(b"x").unwrap();
    assert_eq!(wait(&selector).len(), 1, "the registration is as it was");
}

#[test]
fn modify_replaces_key_interest_and_trigger() {
    let (a, mut b) = unix_pair();
    let selector = watching(&a, Interest::READABLE, Trigger::Level);
    selector.modify(a.as_fd(), 2, Interest::WRITABLE, Trigger::Oneshot).unwrap();
    b.write_all(b"x").unwrap();
    let events = wait(&selector);
    assert_eq!(events[0].key, 2);
    assert!(events[0].readiness.is_writable() && !events[0].readiness.is_readable());
    assert!(ready_now(&selector).is_empty());
    selector.modify(a.as_fd(), 3, Interest::READABLE, Trigger::Level).unwrap();
    for _ in 0..2 {
        let events = wait(&selector);
        assert_eq!(events[0].key, 3);
        assert!(events[0].readiness.is_readable() && !events[0].readiness.is_writable());
    }
}

#[test]
fn remove_silences_every_interest() {
    let (a, mut b) = unix_pair();
    let selector = watching(&a, Interest::READABLE | Interest::WRITABLE, Trigger::Level);
    b.write_all(b"x").unwrap();
    assert_eq!(wait(&selector).len(), 1);
    selector.remove(a.as_fd()).unwrap();
    assert!(ready_now(&selector).is_empty());
    selector.add(a.as_fd(), 9, Interest::READABLE, Trigger::Level).unwrap();
    assert_eq!(wait(&selector)[0].key, 9);
}

#[test]
fn the_number_of_a_closed_source_can_be_added_again() {
    let selector = Selector::new().unwrap();
    for key in 0..20 {
        let (a, mut b) = unix_pair();
        selector
            .add(a.as_fd(), key, Interest::READABLE | Interest::WRITABLE, Trigger::Level)
            .unwrap();
        b.write_all(b"x").unwrap();
        let events = wait(&selector);
        assert_eq!((events.len(), events[0].key), (1, key), "only the one that is open");
        drop(a);
        assert!(ready_now(&selector).is_empty());
    }
}

/// A pair whose first end has this number, which was just freed. `None` if another test, which
/// opens files at the same time, has got it.
fn pair_with_number(number: i32) -> Option<(UnixStream, UnixStream)> {
    let mut held = Vec::new();
    (0..50).find_map(|_| {
        let (a, b) = unix_pair();
        if a.as_raw_fd() == number {
            return Some((a, b));
        }
        held.push((a, b));
        None
    })
}

#[test]
fn a_change_of_a_closed_source_never_affects_its_number() {
    for _ in 0..20 {
        let (a, _b) = unix_pair();
        let selector = watching(&a, Interest::WRITABLE, Trigger::Oneshot);
        // The last change before the source is closed. If it were queued, it would be applied to
        // another source with the same number.
        selector
            .modify(a.as_fd(), 2, Interest::READABLE | Interest::WRITABLE, Trigger::Level)
            .unwrap();
        let number = a.as_raw_fd();
        drop(a);
        let Some((next, mut peer)) = pair_with_number(number) else { continue };
        peer.write_all(b"x").unwrap();
        assert!(ready_now(&selector).is_empty(), "it is not registered");
        drop(next);
    }
}

#[test]
fn the_registration_of_a_closed_source_does_not_survive() {
    for _ in 0..20 {
        let (a, _b) = unix_pair();
        let selector = watching(&a, Interest::READABLE | Interest::WRITABLE, Trigger::Level);
        let number = a.as_raw_fd();
        drop(a);
        // The source that has the number now was never registered.
        let Some((next, mut peer)) = pair_with_number(number) else { continue };
        let modified = selector.modify(next.as_fd(), 3, Interest::READABLE, Trigger::Level);
        assert_eq!(modified.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(selector.remove(next.as_fd()).unwrap_err().kind(), ErrorKind::NotFound);
        selector.add(next.as_fd(), 4, Interest::READABLE, Trigger::Level).unwrap();
        peer.write_all(b"x").unwrap();
        let events = wait(&selector);
        assert_eq!((events.len(), events[0].key), (1, 4));
        assert!(!events[0].readiness.is_writable(), "the interest of the closed source is gone");
    }
}

#[test]
fn events_that_do_not_fit_come_in_the_next_wait() {
    let pairs: Vec<_> = (0..10).map(|_| unix_pair()).collect();
    let selector = Selector::new().unwrap();
    for (key, (a, b)) in pairs.iter().enumerate() {
        selector.add(a.as_fd(), key as u64, Interest::READABLE, Trigger::Edge).unwrap();
        (&mut &*b).write_all(b"x").unwrap();
    }
    let mut events = Events::with_capacity(3);
    let mut seen = Vec::new();
    while seen.len() < pairs.len() {
        let n = selector.wait(&mut events, Some(common::TIME_LIMIT)).unwrap();
        assert!((1..=3).contains(&n) && n == events.len() && n == events.iter().len());
        assert_eq!(events.get(n), None);
        seen.extend(events.iter().map(|event| event.key));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

#[test]
fn capacities_are_clamped() {
    assert_eq!(Events::with_capacity(0).capacity(), 1);
    assert_eq!(Events::with_capacity(usize::MAX).capacity(), Events::MAX_CAPACITY);
}

#[test]
fn a_timeout_is_never_early_and_clears_the_events() {
    let (a, mut b) = unix_pair();
    let selector = watching(&a, Interest::READABLE, Trigger::Oneshot);
    b.write_all(b"x").unwrap();
    let mut events = Events::with_capacity(4);
    assert_eq!(selector.wait(&mut events, None).unwrap(), 1);
    for nanos in [1, 999, 1_000, 50_000, 999_999, 1_000_001, 2_500_000] {
        let timeout = Duration::from_nanos(nanos);
        let before = Instant::now();
        assert_eq!(selector.wait(&mut events, Some(timeout)).unwrap(), 0);
        assert!(before.elapsed() >= timeout, "early: {:?} of {timeout:?}", before.elapsed());
        assert!(events.is_empty());
    }
}

#[test]
fn timeouts_of_any_length_wait() {
    for timeout in [
        None,
        Some(Duration::MAX),
        Some(Duration::from_secs(u64::MAX / 2)),
        Some(Duration::from_secs(1 << 33)),
    ] {
        let selector = Selector::new().unwrap();
        let waker = Waker::new(&selector, 5).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake().unwrap());
            let mut events = Events::with_capacity(4);
            assert_eq!(selector.wait(&mut events, timeout).unwrap(), 1, "{timeout:?}");
        });
    }
}

#[test]
fn a_change_by_another_thread_takes_effect_during_a_wait() {
    let (a, mut b) = unix_pair();
    b.write_all(b"x").unwrap();
    let selector = Selector::new().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(&selector));
        selector.add(a.as_fd(), 4, Interest::READABLE, Trigger::Level).unwrap();
        assert_eq!(waiting.join().unwrap()[0].key, 4);
    });
}

#[test]
fn selectors_nest() {
    let (mut a, mut b) = tcp_pair();
    let inner = watching(&a, Interest::READABLE, Trigger::Level);
    let outer = Selector::new().unwrap();
    let added = outer.add(inner.as_fd(), 8, Interest::READABLE, Trigger::Level);
    if libkqueue_lacks("has no descriptor that becomes readable") {
        return assert_eq!(added.unwrap_err().kind(), ErrorKind::Unsupported);
    }
    added.unwrap();
    assert!(ready_now(&outer).is_empty());
    b.write_all(b"x").unwrap();
    let events = wait(&outer);
    assert!(events[0].key == 8 && events[0].readiness.is_readable());
    assert_eq!(a.read(&mut [0; 8]).unwrap(), 1);
    assert!(ready_now(&outer).is_empty());
}

#[test]
fn selector_and_events_can_cross_threads() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Selector>();
    assert_send_sync::<Events>();
    assert_send_sync::<Waker>();
}
