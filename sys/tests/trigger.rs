//! Level, edge, oneshot.

mod common;

use common::{ready_now, unix_pair, wait, watching};
use kodiak_sys::{Interest, Trigger};
use std::io::{Read, Write};
use std::os::fd::AsFd;

#[test]
fn level_reports_for_as_long_as_the_condition_holds() {
    let (mut a, mut b) = unix_pair();
    let selector = watching(&a, Interest::READABLE, Trigger::Level);
    assert!(ready_now(&selector).is_empty());
    b.write_all(b"xy").unwrap();
    for _ in 0..3 {
        assert!(wait(&selector)[0].readiness.is_readable());
    }
    assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
    assert_eq!(ready_now(&selector).len(), 1, "one byte is still unread");
    assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
    assert!(ready_now(&selector).is_empty());
}

#[test]
fn edge_reports_each_arrival_once() {
    let (mut a, mut b) = unix_pair();
    let selector = watching(&a, Interest::READABLE, Trigger::Edge);
    b.write_all(b"x").unwrap();
    assert!(wait(&selector)[0].readiness.is_readable());
    assert!(ready_now(&selector).is_empty(), "nothing new");
    b.write_all(b"y").unwrap();
    assert!(wait(&selector)[0].readiness.is_readable(), "new data, though the old was not read");
    assert_eq!(a.read(&mut [0; 8]).unwrap(), 2);
    b.write_all(b"z").unwrap();
    assert_eq!(wait(&selector).len(), 1);
}

#[test]
fn a_condition_that_holds_is_an_edge_when_registered() {
    let (a, mut b) = unix_pair();
    b.write_all(b"x").unwrap();
    let selector = watching(&a, Interest::READABLE, Trigger::Edge);
    assert_eq!(wait(&selector).len(), 1);
    assert!(ready_now(&selector).is_empty());
    selector.modify(a.as_fd(), 1, Interest::READABLE, Trigger::Edge).unwrap();
    assert_eq!(wait(&selector).len(), 1);
    assert!(ready_now(&selector).is_empty());
}

#[test]
fn becoming_writable_again_is_an_edge() {
    let (mut a, mut b) = unix_pair();
    let selector = watching(&a, Interest::WRITABLE, Trigger::Edge);
    assert!(wait(&selector)[0].readiness.is_writable());
    while a.write(&[0; 4096]).is_ok() {}
    ready_now(&selector); // an edge from in between is allowed
    let mut room = [0; 65536];
    while b.read(&mut room).is_ok() {}
    assert!(wait(&selector)[0].readiness.is_writable());
}

#[test]
fn oneshot_is_silent_until_modified() {
    let (a, mut b) = unix_pair();
    let selector = watching(&a, Interest::READABLE, Trigger::Oneshot);
    b.write_all(b"x").unwrap();
    assert_eq!(wait(&selector).len(), 1);
    b.write_all(b"y").unwrap();
    assert!(ready_now(&selector).is_empty());
    selector.modify(a.as_fd(), 2, Interest::READABLE, Trigger::Oneshot).unwrap();
    assert_eq!(wait(&selector)[0].key, 2);
    assert!(ready_now(&selector).is_empty());
    selector.remove(a.as_fd()).unwrap(); // it stayed registered all the time
}

#[test]
fn oneshot_disarms_the_whole_registration() {
    let (a, mut b) = unix_pair();
    let selector = watching(&a, Interest::READABLE | Interest::WRITABLE, Trigger::Oneshot);
    let events = wait(&selector);
    assert_eq!(events.len(), 1, "one source, one event");
    assert!(events[0].readiness.is_writable() && !events[0].readiness.is_readable());
    b.write_all(b"x").unwrap();
    assert!(ready_now(&selector).is_empty(), "writable fired, so readable is silent too");
    drop(b);
    assert!(ready_now(&selector).is_empty(), "and so is the hang-up");
    selector
        .modify(a.as_fd(), 1, Interest::READABLE | Interest::WRITABLE, Trigger::Oneshot)
        .unwrap();
    let readiness = wait(&selector)[0].readiness;
    assert!(readiness.is_readable() && readiness.is_writable());
    assert!(ready_now(&selector).is_empty());
}

#[test]
fn a_source_has_one_event_in_a_wait() {
    for trigger in [Trigger::Level, Trigger::Edge, Trigger::Oneshot] {
        let (a, mut b) = unix_pair();
        b.write_all(b"x").unwrap();
        let selector = watching(&a, Interest::READABLE | Interest::WRITABLE, trigger);
        let events = wait(&selector);
        assert_eq!(events.len(), 1, "{trigger:?}");
        assert!(
            events[0].readiness.is_readable() && events[0].readiness.is_writable(),
            "{trigger:?}: {events:?}"
        );
    }
}

#[test]
fn a_oneshot_can_be_added_only_once_also_when_disarmed() {
    let (a, mut b) = unix_pair();
    let selector = watching(&a, Interest::READABLE, Trigger::Oneshot);
    for _ in 0..2 {
        let again = selector.add(a.as_fd(), 1, Interest::READABLE, Trigger::Oneshot);
        assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        b.write_all(b"x").unwrap();
        ready_now(&selector);
    }
    assert!(ready_now(&selector).is_empty(), "the refused add armed nothing");
}
