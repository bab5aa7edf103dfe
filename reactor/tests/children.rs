//! The ends of child processes: each is delivered exactly once.

mod common;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use kodiak_reactor::{BuildError, ChildHandle, EventLoop, Handler};

type Loop = EventLoop<u32, ()>;

/// Collects statuses, and stops when there are `wanted`.
struct Statuses {
    wanted: usize,
    delivered: Vec<(u32, io::Result<ExitStatus>)>,
    panic_at: Option<u32>,
}

impl Handler<u32, ()> for Statuses {
    fn child_exit(&mut self, event_loop: &mut Loop, token: u32, status: io::Result<ExitStatus>) {
        self.delivered.push((token, status));
        if self.delivered.len() == self.wanted {
            event_loop.shutdown();
        }
        assert_ne!(self.panic_at, Some(token));
    }
}

fn statuses(wanted: usize) -> Statuses {
    Statuses { wanted, delivered: Vec::new(), panic_at: None }
}

fn shell(script: &str) -> Child {
    Command::new("sh").args(["-c", script]).spawn().unwrap()
}

fn never_ends() -> Child {
    // `exec`, so that killing it leaves no grandchild behind.
    shell("exec sleep 1000")
}

/// Nothing is left: no source, nothing to deliver, and the handle is stale.
fn assert_over(event_loop: &mut Loop, handle: ChildHandle) {
    assert_eq!(event_loop.source_count(), 0);
    assert!(event_loop.child_mut(handle).is_none() && event_loop.unwatch_child(handle).is_none());
    let mut none = statuses(1);
    event_loop.run_once(&mut none, Some(Duration::ZERO)).unwrap();
    assert!(none.delivered.is_empty());
}

#[test]
fn the_status_of_each_of_many_children_is_delivered_once() {
    let mut event_loop = Loop::new().unwrap();
    let count = 40;
    for n in 0..count {
        event_loop.watch_child(shell(&format!("exit {n}")), n).unwrap();
    }
    let mut handler = statuses(count as usize);
    event_loop.run(&mut handler).unwrap();
    let codes: BTreeMap<u32, i32> = handler
        .delivered
        .into_iter()
        .map(|(n, status)| (n, status.unwrap().code().unwrap()))
        .collect();
    assert_eq!(codes, (0..count).map(|n| (n, n as i32)).collect());
    assert_eq!((event_loop.source_count(), event_loop.stats().children), (0, u64::from(count)));
}

#[test]
fn the_end_of_a_child_reaped_before_comes_in_the_next_turn() {
    let mut event_loop = Loop::new().unwrap();
    let mut child = shell("exit 7");
    child.wait().unwrap();
    let handle = event_loop.watch_child(child, 1).unwrap();
    let mut handler = statuses(1);
    event_loop.run_once(&mut handler, Some(Duration::ZERO)).unwrap();
    assert_eq!(handler.delivered.pop().unwrap().1.unwrap().code(), Some(7));
    assert_over(&mut event_loop, handle);
}

#[test]
fn the_end_of_a_child_is_delivered_though_waited_for() {
    for wait in [false, true] {
        let mut event_loop = Loop::new().unwrap();
        let handle = event_loop.watch_child(never_ends(), 1).unwrap();
        let child = event_loop.child_mut(handle).unwrap();
        child.kill().unwrap();
        if wait {
            child.wait().unwrap();
        }
        let mut handler = statuses(1);
        event_loop.run(&mut handler).unwrap();
        assert_eq!(handler.delivered.pop().unwrap().1.unwrap().signal(), Some(9));
        assert_over(&mut event_loop, handle);
    }
}

#[test]
fn the_end_of_a_child_taken_back_is_not_delivered() {
    let mut event_loop = Loop::new().unwrap();
    let handle = event_loop.watch_child(never_ends(), 1).unwrap();
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
    assert!(error.source.to_string().contains("source_capacity"), "{error:?}");
    assert_eq!(error.child.wait().unwrap().code(), Some(5));
}

/// Both had ended before the turn: they are in one batch.
#[test]
fn a_panic_in_a_child_s_callback_loses_no_other_callback() {
    let mut event_loop = Loop::new().unwrap();
    for n in 1..=3 {
        let mut child = shell("exit 0");
        child.wait().unwrap();
        event_loop.watch_child(child, n).unwrap();
    }
    let mut handler = Statuses { panic_at: Some(2), ..statuses(3) };
    let mut panics = 0;
    while handler.delivered.len() < 3 {
        let run = panic::catch_unwind(AssertUnwindSafe(|| {
            event_loop.run_once(&mut handler, Some(Duration::ZERO))
        }));
        panics += u32::from(run.is_err());
    }
    assert_eq!(panics, 1);
    assert_eq!(event_loop.source_count(), 0);
}
