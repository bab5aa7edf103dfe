//! Descriptors noted by number.

mod common;

use common::{look, unix_pair, wait, watching};
use kodiak_sys::{Interest, Noted, Selector, Trigger};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;

#[test]
fn a_noted_source_is_modified_asked_and_removed() {
    let (a, mut b) = unix_pair();
    let selector = watching(&a, Interest::READABLE, Trigger::Level);
    let noted = Noted::of(a.as_fd());
    assert_eq!(noted, Noted::of(a.as_fd()));
    b.write_all(b"abc").unwrap();
    assert_eq!(noted.bytes_readable().unwrap(), 3);
    selector.modify_noted(noted, 5, Interest::READABLE, Trigger::Oneshot).unwrap();
    assert_eq!(wait(&selector)[0].key, 5);
    assert!(look(&selector).is_empty());
    selector.remove_noted(noted).unwrap();
    selector.add(a.as_fd(), 6, Interest::READABLE, Trigger::Level).unwrap();
    assert_eq!(wait(&selector)[0].key, 6);
}

#[test]
fn a_hung_up_source_falls_silent_when_it_is_removed_by_its_note() {
    let (a, b) = unix_pair();
    let selector = watching(&a, Interest::WRITABLE, Trigger::Level);
    drop(b);
    assert!(wait(&selector)[0].readiness.is_write_closed());
    selector.remove_noted(Noted::of(a.as_fd())).unwrap();
    assert!(look(&selector).is_empty());
}

#[test]
fn what_is_not_registered_is_not_found_and_an_empty_interest_is_refused() {
    let (a, _b) = unix_pair();
    let noted = Noted::of(a.as_fd());
    let selector = Selector::new().unwrap();
    let modified = selector.modify_noted(noted, 1, Interest::READABLE, Trigger::Level);
    assert_eq!(modified.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(selector.remove_noted(noted).unwrap_err().kind(), ErrorKind::NotFound);
    let nothing = selector.modify_noted(noted, 1, Interest::empty(), Trigger::Level);
    assert_eq!(nothing.unwrap_err().kind(), ErrorKind::InvalidInput);
}
