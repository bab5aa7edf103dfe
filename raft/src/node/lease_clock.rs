//! A node judges a lease read by a time that was read after the request had arrived.
//!
//! ```text
//!  turn   begins --------- a long call ---------- takes the request --- answers by the lease?
//!  lease  ==================| runs out
//! ```

use std::{
    cell::Cell,
    io::{self, Read},
    net::TcpListener,
    sync::mpsc,
    time::Duration,
};

use bytes::Bytes;
use kodiak_reactor::{EventLoop, Handler, ReadHint};
use kodiak_sys::boot_clock;
use tempfile::TempDir;

use super::*;
use crate::core::{ElectionTimeout, Lease};
use crate::replica::{Committed, MachineError, Query};
use crate::types::NodeId;

/// The length of a turn in which a lease ends: longer than any promise here.
const LONG_TURN: Duration = Duration::from_secs(1_000);

thread_local! {
    /// How far this thread's clock is ahead of the system's.
    static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// When this thread's turn began, by its clock.
    static TURN_BEGAN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// A clock that a test advances.
fn advanced() -> Duration {
    boot_clock() + AHEAD.get()
}

/// The planted mutant: a clock that is read once a turn.
fn time_of_turn() -> Duration {
    TURN_BEGAN.get()
}

fn begin_turn() {
    TURN_BEGAN.set(advanced());
}

struct Blank;

impl StateMachine for Blank {
    fn apply(&mut self, _: &Committed<'_>) -> Result<Bytes, MachineError> {
        Ok(Bytes::new())
    }

    fn query(&self, _: &Query<'_>) -> Bytes {
        Bytes::new()
    }

    fn snapshot(&self) -> Box<dyn Read + Send> {
        Box::new(io::empty())
    }

    fn restore(&mut self, _: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }
}

/// The leader of two, on a loop that the test turns.
struct Leader {
    node: Node<Blank>,
    last_id: u64,
}

impl Handler<Token, ()> for Leader {
    fn readable(&mut self, event_loop: &mut EventLoop<Token, ()>, token: Token, hint: ReadHint) {
        self.node.readable(event_loop, token, hint);
    }

    fn writable(&mut self, event_loop: &mut EventLoop<Token, ()>, token: Token) {
        self.node.writable(event_loop, token);
    }

    fn timeout(&mut self, event_loop: &mut EventLoop<Token, ()>, token: Token) {
        self.node.timeout(event_loop, token);
    }

    fn turn_end(&mut self, event_loop: &mut EventLoop<Token, ()>) {
        self.node.turn_end(event_loop);
    }
}

impl Leader {
    /// Whether a lease read is answered in the turn in which it comes, so without asking a
    /// majority.
    fn answers_at_once(&mut self, event_loop: &mut EventLoop<Token, ()>) -> bool {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.node.submit(id, Request::LeaseRead(Bytes::new()));
        self.node.turn_end(event_loop);
        let mut replies = std::iter::from_fn(|| self.node.poll_reply());
        replies.any(|(of, outcome)| of == id && matches!(outcome, Outcome::Answer(_)))
    }

    /// The same for a lease read that comes through a handle.
    fn answers_call_at_once(&mut self, event_loop: &mut EventLoop<Token, ()>) -> bool {
        let (sender, receiver) = mpsc::channel();
        let request = Request::LeaseRead(Bytes::new());
        self.node.handle.submit(request, move |outcome| drop(sender.send(outcome))).unwrap();
        self.node.handle_calls(event_loop);
        self.node.turn_end(event_loop);
        matches!(receiver.try_recv(), Ok(Outcome::Answer(_)))
    }
}

fn with_leader(read: fn() -> Duration, test: impl FnOnce(&mut Leader, &mut EventLoop<Token, ()>)) {
    let folder = TempDir::new().unwrap();
    let listeners = [1, 2].map(|id| (NodeId(id), TcpListener::bind("127.0.0.1:0").unwrap()));
    let options = listeners.each_ref().map(|(id, listener)| {
        let (data, listen) = (folder.path().join(id.to_string()), listener.local_addr().unwrap());
        let others = listeners.iter().filter(|(other, _)| other != id);
        Options::new(*id, data, listen)
            .peers(others.map(|(other, it)| (*other, it.local_addr().unwrap().to_string())))
            .lease(Lease::with_drift_ppm(1_000))
            .machine(MachinePlacement::Inline)
    });
    let [(_, own), (_, other)] = listeners;
    let [own_options, mut other_options] = options;
    // Only node 1 campaigns.
    other_options.election_timeout =
        ElectionTimeout::new(Duration::from_secs(600), Duration::from_secs(601));
    let other = start_listening(&other_options, other, Blank).unwrap();
    let mut event_loop = EventLoop::new().unwrap();
    let mut node = Node::open_listening(&own_options, own, Blank, &mut event_loop).unwrap();
    node.clock.read = read;
    let mut leader = Leader { node, last_id: 0 };
    begin_turn();
    while !leader.answers_at_once(&mut event_loop) {
        event_loop.run_once(&mut leader, Some(Duration::from_millis(5))).unwrap();
        begin_turn();
    }
    test(&mut leader, &mut event_loop);
    drop(leader);
    other.stop().unwrap();
}

#[test]
fn a_lease_read_is_judged_by_a_time_after_its_arrival() {
    with_leader(advanced, |leader, event_loop| {
        AHEAD.set(AHEAD.get() + LONG_TURN);
        assert!(!leader.answers_at_once(event_loop), "the lease has run out since the turn began");
        assert!(!leader.answers_call_at_once(event_loop));
    });
}

#[test]
fn a_time_read_once_a_turn_would_answer_without_a_lease() {
    with_leader(time_of_turn, |leader, event_loop| {
        AHEAD.set(AHEAD.get() + LONG_TURN);
        assert!(leader.answers_at_once(event_loop), "the test above notices it");
        assert!(leader.answers_call_at_once(event_loop));
    });
}
