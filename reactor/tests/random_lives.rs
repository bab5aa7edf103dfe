//! Random lives of sockets, with every trigger, duplicates, and drops inside callbacks, against a
//! model of what must be told.
//!
//! The model knows which sockets the loop must call for in a turn; for the others it must not. A
//! socket's peer is never closed before the socket: hang-ups are in `suspension.rs`.

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
    Turn(Vec<(usize, Inside)>),
}

#[derive(Clone, Copy, Debug)]
enum Inside {
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
    let inside = prop_oneof![Just(Inside::Drop), Just(Inside::Deregister), Just(Inside::Replace)];
    let turn = prop::collection::vec((socket.clone(), inside), 0..3).prop_map(Step::Turn);
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
    /// Something happened that edge has not told yet; oneshot is armed.
    news: bool,
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

    /// A new one has a token that none had before, so that an event for an old one is seen.
    fn socket(&mut self) -> Socket {
        let (ours, theirs) = pair();
        self.next_token += 1;
        Socket {
            token: self.next_token,
            ours,
            theirs,
            registered: None,
            unread: false,
            news: false,
        }
    }

    /// Drops a socket; another takes its place.
    fn replace(&mut self, s: usize) {
        self.sockets[s] = self.socket();
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        if let Step::Turn(inside) = step {
            return self.turn(&inside);
        }
        let event_loop = self.event_loop.as_mut().expect("nobody else has it");
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
                    (socket.registered, socket.news) = (Some(trigger), true);
                }
            }
            Step::Reregister(s, trigger) => {
                let socket = &mut self.sockets[s];
                let answer =
                    event_loop.reregister(&socket.ours, socket.token, Interest::READABLE, trigger);
                prop_assert_eq!(answer.is_ok(), socket.registered.is_some());
                if answer.is_ok() {
                    (socket.registered, socket.news) = (Some(trigger), true);
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
                socket.news |= socket.registered == Some(Trigger::Edge);
            }
            Step::Read(s) => {
                drain(&self.sockets[s].ours);
                self.sockets[s].unread = false;
            }
            Step::Turn(_) => unreachable!("handled above"),
        }
        Ok(())
    }

    /// The tokens that must be told.
    fn expectation(&self) -> BTreeSet<u32> {
        let due = |socket: &&Socket| match socket.registered {
            None => false,
            Some(Trigger::Level) => socket.unread,
            Some(Trigger::Edge | Trigger::Oneshot) => socket.unread && socket.news,
        };
        self.sockets.iter().filter(due).map(|socket| socket.token).collect()
    }

    fn turn(&mut self, inside: &[(usize, Inside)]) -> Result<(), TestCaseError> {
        let must = self.expectation();
        let mut event_loop = self.event_loop.take().expect("nobody else has it");
        let mut told: Vec<u32> = Vec::new();
        // Tokens that left during the turn, each with how many had been told when it did.
        let mut left: Vec<(u32, usize)> = Vec::new();
        let mut handler = On(|event_loop: &mut Loop, call| {
            let Seen::Readable(token, _) = call else { return };
            told.push(token);
            if told.len() > 1 {
                return;
            }
            for (s, what) in inside {
                left.push((self.sockets[*s].token, told.len()));
                match what {
                    Inside::Deregister => {
                        let _ = event_loop.deregister(&self.sockets[*s].ours);
                        self.sockets[*s].registered = None;
                    }
                    Inside::Drop => self.replace(*s),
                    Inside::Replace => {
                        self.replace(*s);
                        let heir = &mut self.sockets[*s];
                        heir.theirs.write_all(b"x").unwrap();
                        event_loop.register(&heir.ours, heir.token).unwrap();
                        (heir.registered, heir.unread, heir.news) =
                            (Some(Trigger::Level), true, true);
                    }
                }
            }
        });
        event_loop.run_once(&mut handler, Some(Duration::ZERO)).unwrap();
        self.event_loop = Some(event_loop);
        for (index, token) in told.iter().enumerate() {
            prop_assert!(must.contains(token), "{token} was told and must not be: {told:?}");
            prop_assert!(!told[..index].contains(token), "{token} was told twice: {told:?}");
            let gone = left.iter().find(|(gone, _)| gone == token);
            prop_assert!(
                gone.is_none_or(|(_, when)| index < *when),
                "{token} was told after it had left: {told:?}"
            );
        }
        for token in &must {
            let gone = left.iter().any(|(gone, _)| gone == token);
            prop_assert!(gone || told.contains(token), "{token} was not told: {told:?}");
        }
        for socket in &mut self.sockets {
            if told.contains(&socket.token) {
                socket.news = false;
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whoever_lives_is_told_and_whoever_has_left_is_not(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step)?;
            let event_loop = world.event_loop.as_mut().expect("nobody else has it");
            let registered = world.sockets.iter().filter(|socket| socket.registered.is_some()).count();
            prop_assert_eq!(event_loop.source_count(), registered);
        }
        world.turn(&[])?;
        world.sockets.clear();
        let mut event_loop = world.event_loop.take().expect("nobody else has it");
        prop_assert_eq!(poll(&mut event_loop), []);
        prop_assert_eq!(event_loop.source_count(), 0);
    }
}
