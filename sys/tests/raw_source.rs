//! Sources by their descriptor numbers: `RawSource`.

mod common;

use common::{ready_now, unix_pair, wait, watching};
use kodiak_sys::{Interest, RawSource, Selector, Trigger};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;

#[test]
fn a_raw_source_can_be_modified_read_and_removed() {
    let (a, mut b) = unix_pair();
    let selector = watching(&a, Interest::READABLE, Trigger::Level);
    let raw = RawSource::of(a.as_fd());
    assert_eq!(raw, RawSource::of(a.as_fd()));
    b.write_all(b"abc").unwrap();
    assert_eq!(raw.bytes_readable().unwrap(), 3);
    selector.modify_raw(raw, 5, Interest::READABLE, Trigger::Oneshot).unwrap();
    assert_eq!(wait(&selector)[0].key, 5);
    assert!(ready_now(&selector).is_empty());
    selector.remove_raw(raw).unwrap();
    selector.add(a.as_fd(), 6, Interest::READABLE, Trigger::Level).unwrap();
    assert_eq!(wait(&selector)[0].key, 6);
}

#[test]
fn a_removed_raw_source_reports_no_more_hang_ups() {
    let (a, b) = unix_pair();
    let selector = watching(&a, Interest::WRITABLE, Trigger::Level);
    drop(b);
    assert!(wait(&selector)[0].readiness.is_write_closed());
    selector.remove_raw(RawSource::of(a.as_fd())).unwrap();
    assert!(ready_now(&selector).is_empty());
}

#[test]
fn an_unregistered_raw_source_is_not_found() {
    let (a, _b) = unix_pair();
    let raw = RawSource::of(a.as_fd());
    let selector = Selector::new().unwrap();
    let modified = selector.modify_raw(raw, 1, Interest::READABLE, Trigger::Level);
    assert_eq!(modified.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(selector.remove_raw(raw).unwrap_err().kind(), ErrorKind::NotFound);
    let nothing = selector.modify_raw(raw, 1, Interest::empty(), Trigger::Level);
    assert_eq!(nothing.unwrap_err().kind(), ErrorKind::InvalidInput);
}
