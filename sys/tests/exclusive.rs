//! Exclusive wake-ups, and where there are none.

mod common;

use common::unix_pair;
use kodiak_sys::{Interest, Selector, Trigger};
use std::io::ErrorKind;
use std::os::fd::AsFd;

#[cfg(all(target_os = "linux", not(kodiak_kqueue)))]
#[test]
fn the_kernel_is_told_and_events_are_as_ever() {
    use common::{look, wait};
    use std::io::Write;
    use std::os::fd::AsRawFd;

    let (a, mut b) = unix_pair();
    let selectors = [Selector::new().unwrap(), Selector::new().unwrap()];
    for (key, trigger) in [Trigger::Level, Trigger::Edge].into_iter().enumerate() {
        let both = Interest::READABLE | Interest::WRITABLE;
        selectors[key].add_exclusive(a.as_fd(), key as u64, both, trigger).unwrap();
        let list = format!("/proc/self/fdinfo/{}", selectors[key].as_fd().as_raw_fd());
        let line = std::fs::read_to_string(list).unwrap();
        let events = line.split("events:").nth(1).unwrap().split_whitespace().next().unwrap();
        let events = u32::from_str_radix(events, 16).unwrap();
        assert_ne!(events & libc::EPOLLEXCLUSIVE as u32, 0, "{line}");
    }
    b.write_all(b"x").unwrap();
    for (key, selector) in selectors.iter().enumerate() {
        let events = wait(selector);
        assert_eq!((events.len(), events[0].key), (1, key as u64));
        assert!(events[0].readiness.is_readable() && events[0].readiness.is_writable());
        let again = selector.add_exclusive(a.as_fd(), 9, Interest::READABLE, Trigger::Level);
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        let modified = selector.modify(a.as_fd(), 9, Interest::READABLE, Trigger::Level);
        assert_eq!(modified.unwrap_err().kind(), ErrorKind::InvalidInput);
        selector.remove(a.as_fd()).unwrap();
        assert!(look(selector).is_empty());
    }
}

/// Threads that wait, each with a selector of its own, for the same socket; how many of them one
/// byte wakes.
#[cfg(all(target_os = "linux", not(kodiak_kqueue)))]
fn woken_of(threads: usize, exclusive: bool) -> usize {
    use kodiak_sys::{Events, Waker};
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

    let (ours, mut theirs) = unix_pair();
    let selectors: Vec<_> = (0..threads).map(|_| Selector::new().unwrap()).collect();
    let wakers: Vec<_> =
        selectors.iter().map(|selector| Waker::new(selector, 0).unwrap()).collect();
    for selector in &selectors {
        let (source, want, level) = (ours.as_fd(), Interest::READABLE, Trigger::Level);
        if exclusive {
            selector.add_exclusive(source, 1, want, level)
        } else {
            selector.add(source, 1, want, level)
        }
        .unwrap();
    }
    let ids: Vec<_> = (0..threads).map(|_| AtomicI32::new(0)).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (selector, id) in selectors.iter().zip(&ids) {
            let over = &over;
            scope.spawn(move || {
                let mut events = Events::with_capacity(4);
                // SAFETY: no arguments, and it cannot fail.
                id.store(unsafe { libc::gettid() }, Ordering::SeqCst);
                selector.wait(&mut events, None).unwrap();
                // Whoever was woken is not asleep again before everybody was counted.
                while !over.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            });
        }
        let asleep = |id: &AtomicI32| {
            let stat = std::fs::read_to_string(format!(
                "/proc/self/task/{}/stat",
                id.load(Ordering::SeqCst)
            ));
            // The state follows the name, which is in parentheses.
            stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('S'))
        };
        while !ids.iter().all(asleep) {
            std::thread::yield_now();
        }
        // The kernel makes a sleeper runnable before the call that woke it returns.
        theirs.write_all(b"x").unwrap();
        let woken = ids.iter().filter(|id| !asleep(id)).count();
        over.store(true, Ordering::SeqCst);
        wakers.iter().for_each(|waker| waker.wake().unwrap());
        woken
    })
}

#[cfg(all(target_os = "linux", not(kodiak_kqueue)))]
#[test]
fn of_several_that_wait_one_event_wakes_at_least_one_and_not_all() {
    assert_eq!(woken_of(4, false), 4, "what it is for");
    for _ in 0..20 {
        let woken = woken_of(4, true);
        assert!((1..4).contains(&woken), "{woken} of 4");
    }
}

#[test]
fn what_it_is_not_for_is_refused() {
    let (a, _b) = unix_pair();
    let selector = Selector::new().unwrap();
    let mut refused =
        vec![(Interest::PRIORITY, Trigger::Level), (Interest::READABLE, Trigger::Oneshot)];
    if cfg!(any(kodiak_kqueue, not(target_os = "linux"))) {
        refused.push((Interest::READABLE, Trigger::Level));
    }
    for (interest, trigger) in refused {
        let error = selector.add_exclusive(a.as_fd(), 1, interest, trigger).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{interest:?} {trigger:?}");
    }
    let empty = selector.add_exclusive(a.as_fd(), 1, Interest::empty(), Trigger::Level);
    assert_eq!(empty.unwrap_err().kind(), ErrorKind::InvalidInput);
    selector.add(a.as_fd(), 1, Interest::READABLE, Trigger::Level).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn timer_slack_is_the_threads_own() {
    use kodiak_sys::{set_timer_slack, timer_slack};
    use std::time::Duration;

    std::thread::spawn(|| {
        for (asked, told) in [(0, 1), (1, 1), (50_000, 50_000), (3_000_000_000, 3_000_000_000)] {
            set_timer_slack(Duration::from_nanos(asked)).unwrap();
            assert_eq!(timer_slack().unwrap(), Duration::from_nanos(told));
        }
        set_timer_slack(Duration::MAX).unwrap();
        assert!(timer_slack().unwrap() > Duration::from_secs(1 << 30));
    })
    .join()
    .unwrap();
    assert!(timer_slack().unwrap() < Duration::from_secs(1));
}
