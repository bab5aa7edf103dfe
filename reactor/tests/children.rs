//! The end of child processes: each told exactly once, whatever the order of things.

mod common;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use kodiak_reactor::{BuildError, ChildHandle, EventLoop, Handler};

type Loop = EventLoop<u32, ()>;

/// Collects every status, and stops when `wanted` have come.
struct Statuses {
    wanted: usize,
    told: Vec<(u32, io::Result<ExitStatus>)>,
    panic_at: Option<u32>,
}

impl Handler<u32, ()> for Statuses {
    fn child_exit(&mut self, event_loop: &mut Loop, token: u32, status: io::Result<ExitStatus>) {
        self.told.push((token, status));
        if self.told.len() == self.wanted {
            event_loop.shutdown();
        }
        assert_ne!(self.panic_at, Some(token));
    }
}

fn statuses(wanted: usize) -> Statuses {
    Statuses { wanted, told: Vec::new(), panic_at: None }
}

fn shell(script: &str) -> Child {
    Command::new("sh").args(["-c", script]).spawn().unwrap()
}

fn waits_for_ever() -> Child {
    // `exec`, so that killing it leaves no grandchild behind.
    shell("exec sleep 1000")
}

/// Nothing is left: no source, nothing to tell, and the handle is stale.
fn assert_over(event_loop: &mut Loop, handle: ChildHandle) {
    assert_eq!(event_loop.source_count(), 0);
    assert!(event_loop.child_mut(handle).is_none() && event_loop.unwatch_child(handle).is_none());
    let mut none = statuses(1);
    event_loop.run_once(&mut none, Some(Duration::ZERO)).unwrap();
    assert!(none.told.is_empty());
}

#[test]
fn many_children_each_tell_their_status_once() {
    let mut event_loop = Loop::new().unwrap();
    let count = 40;
    for n in 0..count {
        event_loop.watch_child(shell(&format!("exit {n}")), n).unwrap();
    }
    let mut handler = statuses(count as usize);
    event_loop.run(&mut handler).unwrap();
    let codes: BTreeMap<u32, i32> =
        handler.told.into_iter().map(|(n, status)| (n, status.unwrap().code().unwrap())).collect();
    assert_eq!(codes, (0..count).map(|n| (n, n as i32)).collect());
    assert_eq!((event_loop.source_count(), event_loop.stats().children), (0, u64::from(count)));
}

#[test]
fn a_child_that_was_dead_and_even_waited_for_before_is_told_in_the_next_turn() {
    let mut event_loop = Loop::new().unwrap();
    let mut child = shell("exit 7");
    child.wait().unwrap();
    let handle = event_loop.watch_child(child, 1).unwrap();
    let mut handler = statuses(1);
    event_loop.run_once(&mut handler, Some(Duration::ZERO)).unwrap();
    assert_eq!(handler.told.pop().unwrap().1.unwrap().code(), Some(7));
    assert_over(&mut event_loop, handle);
}

#[test]
fn a_watched_child_can_be_killed_and_waited_for_and_is_told_all_the_same() {
    for wait in [false, true] {
        let mut event_loop = Loop::new().unwrap();
        let handle = event_loop.watch_child(waits_for_ever(), 1).unwrap();
        let child = event_loop.child_mut(handle).unwrap();
        child.kill().unwrap();
        if wait {
            child.wait().unwrap();
        }
        let mut handler = statuses(1);
        event_loop.run(&mut handler).unwrap();
        assert_eq!(handler.told.pop().unwrap().1.unwrap().signal(), Some(9));
        assert_over(&mut event_loop, handle);
    }
}

#[test]
fn a_child_that_is_taken_back_is_not_told_and_still_waits_to_be_reaped() {
    let mut event_loop = Loop::new().unwrap();
    let handle = event_loop.watch_child(waits_for_ever(), 1).unwrap();
    let mut child = event_loop.unwatch_child(handle).unwrap();
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_over(&mut event_loop, handle);
}

#[test]
fn a_child_that_cannot_be_watched_is_given_back() {
    let mut event_loop: Loop =
        Loop::builder().source_capacity(1).build().unwrap_or_else(|e: BuildError| panic!("{e}"));
    event_loop.watch_child(shell("exit 0"), 1).unwrap();
    let mut error = event_loop.watch_child(shell("exit 5"), 2).unwrap_err();
    assert!(error.to_string().contains("source_capacity"), "{error}");
    assert_eq!(error.child.wait().unwrap().code(), Some(5));
}

/// Both had ended before the turn: they are in one batch.
#[test]
fn a_panic_in_one_child_s_callback_costs_no_other_its_own() {
    let mut event_loop = Loop::new().unwrap();
    for n in 1..=3 {
        let mut child = shell("exit 0");
        child.wait().unwrap();
        event_loop.watch_child(child, n).unwrap();
    }
    let mut handler = Statuses { panic_at: Some(2), ..statuses(3) };
    let mut panics = 0;
    while handler.told.len() < 3 {
        let run = panic::catch_unwind(AssertUnwindSafe(|| {
            event_loop.run_once(&mut handler, Some(Duration::ZERO))
        }));
        panics += u32::from(run.is_err());
    }
    assert_eq!(panics, 1);
    assert_eq!(event_loop.source_count(), 0);
}
