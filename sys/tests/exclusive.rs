//! Exclusive wake-ups, and their absence on some kernels.

mod common;

use common::unix_pair;
use kodiak_sys::{Interest, Selector, Trigger};
use std::io::ErrorKind;
use std::os::fd::AsFd;

#[cfg(all(target_os = "linux", not(kodiak_kqueue)))]
#[test]
fn the_kernel_gets_the_flag_and_reports_events_as_usual() {
    use common::{ready_now, wait};
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
        assert!(ready_now(selector).is_empty());
    }
}

/// Which waiting selectors an event wakes.
#[cfg(all(target_os = "linux", not(kodiak_kqueue)))]
#[derive(Clone, Copy)]
enum WakeUp {
    All,
    Exclusive,
}

/// Starts threads that wait for the same socket, each with a selector of its own. Returns how many
/// of them one byte wakes.
#[cfg(all(target_os = "linux", not(kodiak_kqueue)))]
fn woken_of(threads: usize, wake_up: WakeUp) -> usize {
    use kodiak_sys::{Events, Waker};
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

    let (ours, mut theirs) = unix_pair();
    let selectors: Vec<_> = (0..threads).map(|_| Selector::new().unwrap()).collect();
    let wakers: Vec<_> =
        selectors.iter().map(|selector| Waker::new(selector, 0).unwrap()).collect();
    for selector in &selectors {
        let (source, interest, level) = (ours.as_fd(), Interest::READABLE, Trigger::Level);
        match wake_up {
            WakeUp::All => selector.add(source, 1, interest, level).unwrap(),
            WakeUp::Exclusive => selector.add_exclusive(source, 1, interest, level).unwrap(),
        }
    }
    let ids: Vec<_> = (0..threads).map(|_| AtomicI32::new(0)).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (selector, id) in selectors.iter().zip(&ids) {
            let done = &done;
            scope.spawn(move || {
                let mut events = Events::with_capacity(4);
                // SAFETY: no arguments, and it cannot fail.
                id.store(unsafe { libc::gettid() }, Ordering::SeqCst);
                selector.wait(&mut events, None).unwrap();
                // A woken thread stays awake until all are counted.
                while !done.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            });
        }
        let is_asleep = |id: &AtomicI32| {
            let stat = std::fs::read_to_string(format!(
                "/proc/self/task/{}/stat",
                id.load(Ordering::SeqCst)
            ));
            // The state follows the name, which is in parentheses.
            stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('S'))
        };
        while !ids.iter().all(is_asleep) {
            std::thread::yield_now();
        }
        // The kernel makes a sleeper runnable before the call that woke it returns.
        theirs.write_all(b"x").unwrap();
        let woken = ids.iter().filter(|id| !is_asleep(id)).count();
        done.store(true, Ordering::SeqCst);
        wakers.iter().for_each(|waker| waker.wake().unwrap());
        woken
    })
}

#[cfg(all(target_os = "linux", not(kodiak_kqueue)))]
#[test]
fn an_event_wakes_at_least_one_of_several_and_not_all() {
    assert_eq!(woken_of(4, WakeUp::All), 4, "without the flag");
    for _ in 0..20 {
        let woken = woken_of(4, WakeUp::Exclusive);
        assert!((1..4).contains(&woken), "{woken} of 4");
    }
}

#[test]
fn unsupported_exclusive_registrations_are_refused() {
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
fn timer_slack_belongs_to_the_thread() {
    use kodiak_sys::{set_timer_slack, timer_slack};
    use std::time::Duration;

    std::thread::spawn(|| {
        for (set, expected) in [(0, 1), (1, 1), (50_000, 50_000), (3_000_000_000, 3_000_000_000)] {
            set_timer_slack(Duration::from_nanos(set)).unwrap();
            assert_eq!(timer_slack().unwrap(), Duration::from_nanos(expected));
        }
        set_timer_slack(Duration::MAX).unwrap();
        assert!(timer_slack().unwrap() > Duration::from_secs(1 << 30));
    })
    .join()
    .unwrap();
    assert!(timer_slack().unwrap() < Duration::from_secs(1));
}
