//! Random operations on sockets, with every trigger, duplicates, and drops inside callbacks,
//! against a model.
//!
//! The model predicts the sockets for which the handler is called in a turn. A socket's peer is
//! never closed before the socket: hang-ups are in `suspension.rs`.

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{Loop, On, Seen, drain, pair, poll};
use kodiak_reactor::{Interest, Io, Trigger};
use proptest::prelude::*;

const SOCKETS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Register(usize, Trigger),
    Reregister(usize, Trigger),
    Deregister(usize),
    Drop(usize),
    /// Keeps a duplicate of the descriptor open, for good.
    Duplicate(usize),
    Write(usize),
    Read(usize),
    /// A turn in which the first callback does this to those sockets.
    Turn(Vec<(usize, InCallback)>),
}

#[derive(Clone, Copy, Debug)]
enum InCallback {
    Drop,
    Deregister,
    /// Drops it and registers a fresh, ready one in its place.
    Replace,
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![Just(Trigger::Level), Just(Trigger::Edge), Just(Trigger::Oneshot)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let socket = 0..SOCKETS;
    let in_callback = prop_oneof![
        Just(InCallback::Drop),
        Just(InCallback::Deregister),
        Just(InCallback::Replace)
    ];
    let turn = prop::collection::vec((socket.clone(), in_callback), 0..3).prop_map(Step::Turn);
    let step = prop_oneof![
        2 => (socket.clone(), trigger()).prop_map(|(s, t)| Step::Register(s, t)),
        1 => (socket.clone(), trigger()).prop_map(|(s, t)| Step::Reregister(s, t)),
        1 => socket.clone().prop_map(Step::Deregister),
        1 => socket.clone().prop_map(Step::Drop),
        1 => socket.clone().prop_map(Step::Duplicate),
        3 => socket.clone().prop_map(Step::Write),
        1 => socket.prop_map(Step::Read),
        3 => turn,
    ];
    prop::collection::vec(step, 1..60)
}

struct Socket {
    token: u32,
    ours: Io<UnixStream>,
    theirs: UnixStream,
    registered: Option<Trigger>,
    unread: bool,
    /// A change that edge trigger has not reported yet; or oneshot is armed.
    pending: bool,
}

struct World {
    event_loop: Option<Loop>,
    sockets: Vec<Socket>,
    duplicates: Vec<UnixStream>,
    next_token: u32,
}

impl World {
    fn new() -> World {
        let mut world = World {
            event_loop: Some(Loop::new().unwrap()),
            sockets: Vec::new(),
            duplicates: Vec::new(),
            next_token: 0,
        };
        (0..SOCKETS).for_each(|_| {
            let socket = world.socket();
            world.sockets.push(socket);
        });
        world
    }

    /// A new socket with an unused token, so that an event for an old one is noticed.
    fn socket(&mut self) -> Socket {
        let (ours, theirs) = pair();
        self.next_token += 1;
        Socket {
            token: self.next_token,
            ours,
            theirs,
            registered: None,
            unread: false,
            pending: false,
        }
    }

    /// Drops a socket; another takes its place.
    fn replace(&mut self, s: usize) {
        self.sockets[s] = self.socket();
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        if let Step::Turn(in_callback) = step {
            return self.turn(&in_callback);
        }
        let event_loop = self.event_loop.as_mut().expect("only `turn` takes it");
        match step {
            Step::Register(s, trigger) => {
                let socket = &mut self.sockets[s];
                let answer = event_loop.register_opt(
                    &socket.ours,
                    socket.token,
                    Interest::READABLE,
                    trigger,
                );
                prop_assert_eq!(answer.is_ok(), socket.registered.is_none());
                if answer.is_ok() {
                    (socket.registered, socket.pending) = (Some(trigger), true);
                }
            }
            Step::Reregister(s, trigger) => {
                let socket = &mut self.sockets[s];
                let answer =
                    event_loop.reregister(&socket.ours, socket.token, Interest::READABLE, trigger);
                prop_assert_eq!(answer.is_ok(), socket.registered.is_some());
                if answer.is_ok() {
                    (socket.registered, socket.pending) = (Some(trigger), true);
                }
            }
            Step::Deregister(s) => {
                let answer = event_loop.deregister(&self.sockets[s].ours);
                prop_assert_eq!(answer.is_ok(), self.sockets[s].registered.take().is_some());
            }
            Step::Drop(s) => self.replace(s),
            Step::Duplicate(s) => {
                self.duplicates.push(self.sockets[s].ours.get_ref().try_clone().unwrap())
            }
            Step::Write(s) => {
                let socket = &mut self.sockets[s];
                socket.theirs.write_all(b"x").unwrap();
                socket.unread = true;
                // A oneshot that has fired stays disarmed.
                socket.pending |= socket.registered == Some(Trigger::Edge);
            }
            Step::Read(s) => {
                drain(&self.sockets[s].ours);
                self.sockets[s].unread = false;
            }
            Step::Turn(_) => unreachable!("handled above"),
        }
        Ok(())
    }

    /// The tokens for which the handler must be called.
    fn expectation(&self) -> BTreeSet<u32> {
        let due = |socket: &&Socket| match socket.registered {
            None => false,
            Some(Trigger::Level) => socket.unread,
            Some(Trigger::Edge | Trigger::Oneshot) => socket.unread && socket.pending,
        };
        self.sockets.iter().filter(due).map(|socket| socket.token).collect()
    }

    fn turn(&mut self, in_callback: &[(usize, InCallback)]) -> Result<(), TestCaseError> {
        let expected = self.expectation();
        let mut event_loop = self.event_loop.take().expect("only `turn` takes it");
        let mut called: Vec<u32> = Vec::new();
        // Tokens removed during the turn, each with the number of calls before.
        let mut left: Vec<(u32, usize)> = Vec::new();
        let mut handler = On(|event_loop: &mut Loop, call| {
            let Seen::Readable(token, _) = call else { return };
            called.push(token);
            if called.len() > 1 {
                return;
            }
            for (s, what) in in_callback {
                left.push((self.sockets[*s].token, called.len()));
                match what {
                    InCallback::Deregister => {
                        let _ = event_loop.deregister(&self.sockets[*s].ours);
                        self.sockets[*s].registered = None;
                    }
                    InCallback::Drop => self.replace(*s),
                    InCallback::Replace => {
                        self.replace(*s);
                        let next = &mut self.sockets[*s];
                        next.theirs.write_all(b"x").unwrap();
                        event_loop.register(&next.ours, next.token).unwrap();
                        (next.registered, next.unread, next.pending) =
                            (Some(Trigger::Level), true, true);
                    }
                }
            }
        });
        event_loop.run_once(&mut handler, Some(Duration::ZERO)).unwrap();
        self.event_loop = Some(event_loop);
        for (index, token) in called.iter().enumerate() {
            prop_assert!(expected.contains(token), "{token} was called unexpectedly: {called:?}");
            prop_assert!(!called[..index].contains(token), "{token} was called twice: {called:?}");
            let gone = left.iter().find(|(gone, _)| gone == token);
            prop_assert!(
                gone.is_none_or(|(_, when)| index < *when),
                "{token} was called after it was removed: {called:?}"
            );
        }
        for token in &expected {
            let gone = left.iter().any(|(gone, _)| gone == token);
            prop_assert!(gone || called.contains(token), "{token} was not called: {called:?}");
        }
        for socket in &mut self.sockets {
            if called.contains(&socket.token) {
                socket.pending = false;
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn live_sources_are_called_and_removed_ones_are_not(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step)?;
            let event_loop = world.event_loop.as_mut().expect("only `turn` takes it");
            let registered = world.sockets.iter().filter(|socket| socket.registered.is_some());
            prop_assert_eq!(event_loop.source_count(), registered.count());
        }
        world.turn(&[])?;
        world.sockets.clear();
        let mut event_loop = world.event_loop.take().expect("only `turn` takes it");
        prop_assert_eq!(poll(&mut event_loop), []);
        prop_assert_eq!(event_loop.source_count(), 0);
    }
}
