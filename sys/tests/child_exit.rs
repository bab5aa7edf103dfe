//! The ends of child processes as events.

mod common;

use common::{ready_now, wait, watching};
use kodiak_sys::{ChildExit, Interest, Selector, Signal, Signals, Trigger};
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

/// A child that ends when its standard input does.
fn cat() -> Child {
    Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()
}

#[test]
fn it_is_readable_once_the_child_has_ended() {
    let mut child = cat();
    let exit = ChildExit::of(&mut child).unwrap();
    let selector = watching(&exit, Interest::READABLE, Trigger::Level);
    assert!(ready_now(&selector).is_empty());
    drop(child.stdin.take());
    assert!(wait(&selector)[0].readiness.is_readable());
    assert!(child.try_wait().unwrap().unwrap().success(), "its status is available at once");
    assert!(ready_now(&selector)[0].readiness.is_readable(), "reaped or not");
}

#[test]
fn a_child_that_ends_before_it_is_watched_is_not_missed() {
    let mut child =
        Command::new("sh").args(["-c", "exit 7"]).stdout(Stdio::piped()).spawn().unwrap();
    // The child has ended or is about to end when its output ends: both orders must work.
    child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    let exit = ChildExit::of(&mut child).unwrap();
    wait(&watching(&exit, Interest::READABLE, Trigger::Edge));
    assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(7));
}

#[test]
fn a_child_that_was_reaped_counts_as_ended() {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    // A child that another thread is starting has copies of all our descriptors until it executes
    // its program, also of a pipe's writer.
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| {
            (0..200).for_each(|_| assert!(Command::new("true").status().unwrap().success()))
        });
        while !starting.is_finished() {
            let exit = ChildExit::of(&mut child).unwrap();
            assert_eq!(ready_now(&watching(&exit, Interest::READABLE, Trigger::Level)).len(), 1);
        }
    });
}

#[test]
fn each_of_many_children_has_its_own_event() {
    let mut children: Vec<_> = (0..20).map(|_| cat()).collect();
    let exits: Vec<_> = children.iter_mut().map(|child| ChildExit::of(child).unwrap()).collect();
    let selector = Selector::new().unwrap();
    for (key, exit) in exits.iter().enumerate() {
        selector.add(exit.as_fd(), key as u64, Interest::READABLE, Trigger::Oneshot).unwrap();
    }
    // All end at once; of twenty SIGCHLDs some would have merged.
    children.iter_mut().for_each(|child| drop(child.stdin.take()));
    let mut seen = [false; 20];
    while seen.contains(&false) {
        for event in wait(&selector) {
            let key = event.key as usize;
            assert!(!std::mem::replace(&mut seen[key], true));
            assert!(children[key].try_wait().unwrap().is_some());
        }
    }
}

#[test]
fn sigchld_is_not_used() {
    let signals = Signals::new(&[Signal::CHLD]).unwrap();
    let mut child = cat();
    let exit = ChildExit::of(&mut child).unwrap();
    let selector = watching(&exit, Interest::READABLE, Trigger::Level);
    drop(child.stdin.take());
    wait(&selector);
    assert!(child.try_wait().unwrap().is_some());
    // The signal is not received here, as if another library's handler had consumed it.
    drop(signals);
}
