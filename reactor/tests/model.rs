//! Random sequences of registering, changing, writing, reading and dropping, against a model that
//! predicts the callbacks.

mod common;

use std::io::Write;
use std::os::unix::net::UnixStream;

use common::{Loop, Seen, drain, pair, poll};
use kodiak_reactor::{Interest, Io, RegisterError, Trigger};
use proptest::prelude::*;

const SOCKETS: usize = 6;

#[derive(Clone, Debug)]
enum Step {
    Register(usize, u32, bool),
    Reregister(usize, u32, bool),
    Deregister(usize),
    /// Drops the socket and opens another one in its place.
    Replace(usize),
    Write(usize),
    Read(usize),
    Again(usize),
    Turn,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let socket = 0..SOCKETS;
    let step = prop_oneof![
        (socket.clone(), 0..1000_u32, any::<bool>()).prop_map(|(s, t, w)| Step::Register(s, t, w)),
        (socket.clone(), 0..1000_u32, any::<bool>())
            .prop_map(|(s, t, w)| Step::Reregister(s, t, w)),
        socket.clone().prop_map(Step::Deregister),
        socket.clone().prop_map(Step::Replace),
        socket.clone().prop_map(Step::Write),
        socket.clone().prop_map(Step::Read),
        socket.prop_map(Step::Again),
        Just(Step::Turn),
        Just(Step::Turn),
    ];
    prop::collection::vec(step, 1..60)
}

struct Socket {
    ours: Io<UnixStream>,
    theirs: UnixStream,
    /// Token, and whether it also wants to write.
    registered: Option<(u32, bool)>,
    unread: bool,
    again: bool,
}

impl Socket {
    fn new() -> Socket {
        let (ours, theirs) = pair();
        Socket { ours, theirs, registered: None, unread: false, again: false }
    }
}

fn interest(writable: bool) -> Interest {
    if writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}

/// The callbacks of the next turn, as (token, whether it is `writable`). Under level trigger each
/// condition that holds is reported.
fn expected(sockets: &mut [Socket]) -> Vec<(u32, bool)> {
    let mut expected = Vec::new();
    for socket in sockets {
        let again = std::mem::take(&mut socket.again);
        let Some((token, wants_write)) = socket.registered else { continue };
        // `again` calls for all of the interest; an event of the kernel (here: anything that holds)
        // takes its place.
        let event = socket.unread || wants_write;
        if socket.unread || (again && !event) {
            expected.push((token, false));
        }
        if wants_write {
            expected.push((token, true));
        }
    }
    expected.sort_unstable();
    expected
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_loop_calls_what_the_model_predicts(steps in steps()) {
        let mut event_loop = Loop::new().unwrap();
        let mut sockets: Vec<Socket> = (0..SOCKETS).map(|_| Socket::new()).collect();
        for step in steps {
            match step {
                Step::Register(s, token, write) => {
                    let socket = &mut sockets[s];
                    let answer = event_loop.register_opt(
                        &socket.ours,
                        token,
                        interest(write),
                        Trigger::Level,
                    );
                    if socket.registered.is_some() {
                        prop_assert!(matches!(answer, Err(RegisterError::AlreadyRegistered)));
                    } else {
                        answer.unwrap();
                        socket.registered = Some((token, write));
                    }
                }
                Step::Reregister(s, token, write) => {
                    let socket = &mut sockets[s];
                    let answer = event_loop.reregister(
                        &socket.ours,
                        token,
                        interest(write),
                        Trigger::Level,
                    );
                    prop_assert_eq!(answer.is_ok(), socket.registered.is_some());
                    if answer.is_ok() {
                        socket.registered = Some((token, write));
                    }
                }
                Step::Deregister(s) => {
                    let socket = &mut sockets[s];
                    let answer = event_loop.deregister(&socket.ours);
                    prop_assert_eq!(answer.is_ok(), socket.registered.take().is_some());
                    socket.again = false;
                }
                Step::Replace(s) => sockets[s] = Socket::new(),
                Step::Write(s) => {
                    sockets[s].theirs.write_all(b"x").unwrap();
                    sockets[s].unread = true;
                }
                Step::Read(s) => {
                    prop_assert_eq!(drain(&sockets[s].ours) > 0, sockets[s].unread);
                    sockets[s].unread = false;
                }
                Step::Again(s) => {
                    let answer = event_loop.again(&sockets[s].ours);
                    prop_assert_eq!(answer.is_ok(), sockets[s].registered.is_some());
                    sockets[s].again |= answer.is_ok();
                }
                Step::Turn => {
                    let calls = poll(&mut event_loop).into_iter();
                    let mut called: Vec<_> = calls.map(|call| match call {
                        Seen::Readable(token, _) => (token, false),
                        Seen::Writable(token) => (token, true),
                        other => panic!("{other:?}"),
                    }).collect();
                    called.sort_unstable();
                    prop_assert_eq!(called, expected(&mut sockets));
                }
            }
            let live = sockets.iter().filter(|socket| socket.registered.is_some()).count();
            prop_assert_eq!(event_loop.source_count(), live);
        }
        poll(&mut event_loop);
        let live = sockets.iter().filter(|socket| socket.registered.is_some()).count();
        prop_assert_eq!(event_loop.source_count(), live);
        prop_assert_eq!(event_loop.stats().stale_events, 0);
    }
}
