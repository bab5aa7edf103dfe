//! Calls that the machine declares quick are made on the loop, in order with the others.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use bytes::Bytes;
use kodiak_raft::{
    node::{Options, Running, start},
    replica::{Committed, MachineError, Outcome, Query, Request, StateMachine},
    types::NodeId,
};
use tempfile::TempDir;

/// Keeps the applied commands. A command that begins with `s` is slow and waits at the gate.
struct Journal {
    gate: Arc<Mutex<()>>,
    text: String,
}

fn is_on_machine_thread() -> bool {
    thread::current().name() == Some("raft-machine")
}

impl StateMachine for Journal {
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
        assert!(entry.command != b"panic", "as asked");
        if entry.command.starts_with(b"s") {
            drop(self.gate.lock().unwrap());
        }
        self.text.push_str(&String::from_utf8_lossy(entry.command));
        Ok(Bytes::from_static(if is_on_machine_thread() { b"thread" } else { b"loop" }))
    }

    fn query(&self, _: &Query<'_>) -> Bytes {
        Bytes::from(self.text.clone())
    }

    fn applies_quickly(&self, entry: &Committed<'_>) -> bool {
        assert!(entry.command != b"?", "it does not know");
        !entry.command.starts_with(b"s")
    }

    fn answers_quickly(&self, _: &Query<'_>) -> bool {
        true
    }

    fn snapshot(&self) -> Box<dyn Read + Send> {
        Box::new(io::Cursor::new(self.text.clone()))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        self.text.clear();
        snapshot.read_to_string(&mut self.text).map(drop)
    }
}

fn journal() -> (TempDir, Running, Arc<Mutex<()>>) {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Mutex::new(()));
    let machine = Journal { gate: Arc::clone(&gate), text: String::new() };
    let options =
        Options::new(NodeId(1), folder.path().join("node"), "127.0.0.1:0".parse().unwrap());
    let node = start(&options, machine).unwrap();
    // The start's other jobs have ended when the first answer comes.
    while node.handle().write("-").is_err() {}
    (folder, node, gate)
}

#[test]
fn quick_commands_are_applied_on_the_loop() {
    let (_folder, node, _gate) = journal();
    let write = |text: &'static str| node.handle().write(text).unwrap().bytes;
    while write("a") != "loop" {}
    assert_eq!(write("slow"), "thread");
    assert_eq!(write("?"), "thread", "a panic of applies_quickly counts as no");
    while write("b") != "loop" {}
}

#[test]
fn quick_commands_do_not_overtake_slow_ones() {
    let (_folder, node, gate) = journal();
    let before = String::from_utf8(node.handle().read("").unwrap().bytes.to_vec()).unwrap();
    let closed = gate.lock().unwrap();
    let (sender, outcomes) = mpsc::channel();
    for text in ["slow", "b", "c", "slow too", "d"] {
        let sender = sender.clone();
        let reply = move |outcome| sender.send((text, outcome)).unwrap();
        node.handle().submit(Request::Write(Bytes::from_static(text.as_bytes())), reply).unwrap();
    }
    // Meanwhile the loop commits the commands.
    let applied = node.handle().status().unwrap().replica.applied;
    while node.handle().status().unwrap().replica.core.commit.0 < applied.0 + 5 {}
    assert!(outcomes.try_recv().is_err());
    drop(closed);
    for expected in ["slow", "b", "c", "slow too", "d"] {
        let (text, outcome) = outcomes.recv().unwrap();
        assert!(text == expected && matches!(outcome, Outcome::Answer(_)), "{text}: {outcome:?}");
    }
    assert_eq!(node.handle().read("").unwrap().bytes, format!("{before}slowbcslow tood"));
}

#[test]
fn a_panic_of_a_quick_command_is_contained() {
    let (_folder, node, _gate) = journal();
    assert!(node.handle().write("panic").is_err());
    let failure = node.handle().status().unwrap().replica.machine_failure.unwrap();
    assert!(failure.has_panicked && failure.reason.contains("as asked"), "{failure}");
}
