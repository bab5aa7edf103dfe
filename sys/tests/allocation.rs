//! The hot paths allocate nothing.

mod common;

use allocation_counter::measure;
use common::{tcp_pair, unix_pair};
use kodiak_sys::{Events, Interest, Selector, Signal, Signals, Trigger, Waker, socket};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

#[test]
fn waiting_and_registering_allocate_nothing() {
    let (mut a, mut b) = unix_pair();
    let selector = Selector::new().unwrap();
    let mut events = Events::with_capacity(16);
    let mut turn = || {
        selector.add(a.as_fd(), 1, Interest::READABLE, Trigger::Level).unwrap();
        b.write_all(b"x").unwrap();
        assert_eq!(selector.wait(&mut events, None).unwrap(), 1);
        assert!(events.iter().all(|event| event.key == 1 && event.readiness.is_readable()));
        selector
            .modify(a.as_fd(), 2, Interest::READABLE | Interest::WRITABLE, Trigger::Oneshot)
            .unwrap();
        assert_eq!(selector.wait(&mut events, Some(Duration::from_secs(1))).unwrap(), 1);
        assert_eq!(selector.wait(&mut events, Some(Duration::from_micros(1))).unwrap(), 0);
        assert_eq!(a.read(&mut [0; 8]).unwrap(), 1);
        selector.remove(a.as_fd()).unwrap();
    };
    turn();
    assert_eq!(measure(turn).count_total, 0);
}

#[test]
fn waking_allocates_nothing() {
    let selector = Selector::new().unwrap();
    let waker = Waker::new(&selector, 1).unwrap();
    let mut events = Events::with_capacity(16);
    let info = measure(|| {
        for _ in 0..10 {
            waker.wake().unwrap();
            waker.wake().unwrap();
            assert_eq!(selector.wait(&mut events, None).unwrap(), 1);
        }
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn receiving_a_signal_and_its_handler_allocate_nothing() {
    let signals = Signals::new(&[Signal::USR1]).unwrap();
    let info = measure(|| {
        // SAFETY: no pointers; this process handles the signal.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
        assert_eq!(signals.receive().unwrap().unwrap().signal, Signal::USR1);
        assert_eq!(signals.receive().unwrap(), None);
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn asking_a_socket_for_its_state_allocates_nothing() {
    let (a, _b) = tcp_pair();
    let info = measure(|| {
        assert_eq!(socket::bytes_readable(a.as_fd()).unwrap(), 0);
        assert!(socket::take_error(a.as_fd()).unwrap().is_none());
    });
    assert_eq!(info.count_total, 0);
}
