//! The table of sessions, compared with a simple model.

use std::io::{self, Read};

use proptest::prelude::*;

use super::*;
use crate::replica::Query;
use crate::types::Term;

/// Answers each command with its number, in a text of the length that the command asks for.
#[derive(Debug, Default)]
struct Counter {
    commands: Vec<Vec<u8>>,
}

impl StateMachine for Counter {
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
        self.commands.push(entry.command.to_vec());
        let length = entry.command.try_into().map_or(0, u16::from_le_bytes);
        let mut answer = self.commands.len().to_string().into_bytes();
        answer.resize(answer.len().max(usize::from(length)), b'.');
        Ok(answer.into())
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

fn entry(index: u64, stamp: u64, payload: Payload) -> Entry {
    Entry { index: Index(index), term: Term(1), stamp: Stamp(stamp), payload }
}

fn command(session: u64, sequence: u64, acknowledged: u64, answer_bytes: u16) -> Payload {
    let command = Bytes::copy_from_slice(&answer_bytes.to_le_bytes());
    let session = SessionId(session);
    Payload::SessionCommand(SessionCommand { session, sequence, acknowledged, command }.into())
}

fn answer(index: u64, bytes: impl Into<Bytes>) -> Option<Outcome> {
    Some(Outcome::Answer(Answer::new(bytes, Index(index))))
}

fn refused(refusal: Refusal) -> Option<Outcome> {
    Some(Outcome::Refused(refusal))
}

/// One session of the model: name, time to live, last use, acknowledged, answers by number.
type Simple = (u64, u64, u64, u64, Vec<(u64, Bytes)>);

/// The model's outcome of an entry, and whether the machine must receive its command.
fn expected(
    model: &mut Vec<Simple>,
    entry: &Entry,
    next_answer: &dyn Fn(u16) -> Bytes,
) -> (Option<Outcome>, bool) {
    let stamp = entry.stamp.0;
    model.retain(|&(_, ttl, used, _, _)| stamp <= used + ttl);
    let asked = match &entry.payload {
        Payload::Noop | Payload::Configuration(_) => return (None, false),
        Payload::Command(_) => return (answer(entry.index.0, next_answer(0)), true),
        Payload::OpenSession { ttl_ms, .. } if !SESSION_TTL_MS.contains(ttl_ms) => {
            return (refused(Refusal::TtlOutOfRange { ttl_ms: *ttl_ms }), false);
        }
        Payload::OpenSession { ttl_ms, salt } => {
            model.push((entry.index.0 + salt, *ttl_ms, stamp, 0, Vec::new()));
            return (Some(Outcome::Opened(SessionId(entry.index.0 + salt))), false);
        }
        Payload::CloseSession { session } => {
            let before = model.len();
            model.retain(|simple| simple.0 != session.0);
            let is_gone = model.len() < before;
            return (
                if is_gone { answer(entry.index.0, "") } else { refused(Refusal::NoSession) },
                false,
            );
        }
        Payload::SessionCommand(asked) => asked,
    };
    let Some(simple) = model.iter_mut().find(|simple| simple.0 == asked.session.0) else {
        return (refused(Refusal::NoSession), false);
    };
    simple.2 = stamp;
    simple.3 = simple.3.max(asked.acknowledged);
    let acknowledged = simple.3;
    simple.4.retain(|&(sequence, _)| sequence > acknowledged);
    if asked.sequence <= acknowledged {
        return (refused(Refusal::Acknowledged { up_to: acknowledged }), false);
    }
    if let Some((_, first)) = simple.4.iter().find(|&&(sequence, _)| sequence == asked.sequence) {
        let is_kept = first.len() <= ANSWER_BYTES_MAX;
        let outcome = if is_kept {
            answer(entry.index.0, first.clone())
        } else {
            refused(Refusal::AnswerNotKept)
        };
        return (outcome, false);
    }
    let bytes = next_answer(asked.command[..].try_into().map_or(0, u16::from_le_bytes));
    simple.4.push((asked.sequence, bytes.clone()));
    (answer(entry.index.0, bytes), true)
}

fn payload() -> impl Strategy<Value = Payload> {
    let answer_bytes =
        prop_oneof![5 => Just(0u16), 1 => Just(ANSWER_BYTES_MAX as u16), 1 => Just(5_000)];
    let in_session = (1u64..40, 0u64..8, 0u64..8, answer_bytes);
    prop_oneof![
        1 => Just(Payload::Noop),
        1 => Just(Payload::Command(Bytes::new())),
        3 => prop::sample::select(vec![100u64, 150, 1_000, 99, u64::MAX])
            .prop_map(|ttl_ms| Payload::OpenSession { ttl_ms, salt: 0 }),
        1 => (1u64..40).prop_map(|session| Payload::CloseSession { session: SessionId(session) }),
        20 => in_session.prop_map(|(session, sequence, acknowledged, bytes)| {
            command(session, sequence, acknowledged.saturating_sub(4), bytes)
        }),
    ]
}

proptest! {
    /// Snapshots may be taken between any two entries.
    #[test]
    fn agrees_with_a_simple_table(
        steps in prop::collection::vec((payload(), 0u64..60, any::<bool>()), 0..120),
    ) {
        let mut model: Vec<Simple> = Vec::new();
        let mut sessions = Sessions::new();
        let mut machine = Counter::default();
        let mut stamp = 0;
        for (index, (payload, later, is_saved)) in (1..).zip(steps) {
            stamp += later;
            let entry = entry(index, stamp, payload);
            let applied = machine.commands.len();
            let next_answer = |bytes: u16| {
                let mut answer = (applied + 1).to_string().into_bytes();
                answer.resize(answer.len().max(usize::from(bytes)), b'.');
                Bytes::from(answer)
            };
            let (outcome, is_applied) = expected(&mut model, &entry, &next_answer);
            prop_assert_eq!(sessions.apply(&entry, &mut machine).unwrap(), outcome, "{:?}", entry);
            let commands = machine.commands.len();
            prop_assert_eq!(commands, applied + usize::from(is_applied), "{:?}", entry);
            prop_assert_eq!(sessions.len(), model.len());
            let kept = model.iter().flat_map(|simple| &simple.4).map(|(_, answer)| answer.len());
            let kept_bytes = kept.filter(|&bytes| bytes <= ANSWER_BYTES_MAX).sum::<usize>();
            prop_assert_eq!(sessions.answers_bytes, kept_bytes);
            if is_saved {
                let bytes = sessions.encode();
                let again = Sessions::decode(&bytes);
                prop_assert_eq!(again.as_ref(), Ok(&sessions));
                sessions = again.unwrap();
            }
        }
    }

    #[test]
    fn bytes_that_are_no_table_are_refused(
        steps in prop::collection::vec(payload(), 0..60),
        at in any::<prop::sample::Index>(),
    ) {
        let mut sessions = Sessions::new();
        for (index, payload) in (1..).zip(steps) {
            sessions.apply(&entry(index, index, payload), &mut Counter::default()).unwrap();
        }
        let mut bytes = sessions.encode();
        prop_assert!(Sessions::decode(&bytes[..at.index(bytes.len())]).is_err(), "a part of one");
        bytes.push(0);
        prop_assert!(Sessions::decode(&bytes).is_err(), "trailing bytes");
        bytes.pop();
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << (place % 8);
        if let Ok(other) = Sessions::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes, "equal tables have equal bytes");
        }
    }
}

#[test]
pub(crate) fn a_repeated_command_gets_the_first_answer() {
    let (mut sessions, mut machine) = (Sessions::new(), Counter::default());
    let opened = sessions
        .apply(&entry(5, 0, Payload::OpenSession { ttl_ms: 100, salt: 0 }), &mut machine)
        .unwrap();
    assert_eq!(opened, Some(Outcome::Opened(SessionId(5))));
    for index in 6..9 {
        assert_eq!(
            sessions.apply(&entry(index, 0, command(5, 1, 0, 0)), &mut machine).unwrap(),
            answer(index, "1")
        );
    }
    assert_eq!(
        sessions.apply(&entry(9, 0, command(5, 2, 1, 0)), &mut machine).unwrap(),
        answer(9, "2")
    );
    assert_eq!(machine.commands.len(), 2);
}

#[test]
pub(crate) fn a_late_copy_of_what_was_acknowledged_is_refused() {
    let (mut sessions, mut machine) = (Sessions::new(), Counter::default());
    sessions
        .apply(&entry(1, 0, Payload::OpenSession { ttl_ms: 100, salt: 0 }), &mut machine)
        .unwrap();
    sessions.apply(&entry(2, 0, command(1, 1, 0, 0)), &mut machine).unwrap();
    sessions.apply(&entry(3, 0, command(1, 2, 1, 0)), &mut machine).unwrap();
    let late = sessions.apply(&entry(4, 0, command(1, 1, 0, 0)), &mut machine).unwrap();
    assert_eq!(late, refused(Refusal::Acknowledged { up_to: 1 }));
    assert_eq!(machine.commands.len(), 2);
    let zero = sessions.apply(&entry(5, 0, command(1, 0, 0, 0)), &mut machine).unwrap();
    assert_eq!(zero, refused(Refusal::Acknowledged { up_to: 1 }), "0 is no number");
}

#[test]
pub(crate) fn a_session_ends_by_the_stamps_of_applied_entries() {
    let (mut sessions, mut machine) = (Sessions::new(), Counter::default());
    sessions
        .apply(&entry(1, 1_000, Payload::OpenSession { ttl_ms: 100, salt: 0 }), &mut machine)
        .unwrap();
    sessions.apply(&entry(2, 1_090, command(1, 1, 0, 0)), &mut machine).unwrap();
    sessions.apply(&entry(3, 1_190, Payload::Noop), &mut machine).unwrap();
    assert_eq!(sessions.len(), 1, "it was used at 1 090");
    sessions.apply(&entry(4, 1_191, Payload::Noop), &mut machine).unwrap();
    assert_eq!(sessions.len(), 0);
    assert_eq!(
        sessions.apply(&entry(5, 1_191, command(1, 2, 0, 0)), &mut machine).unwrap(),
        refused(Refusal::NoSession)
    );
    assert_eq!(machine.commands.len(), 1);
}

#[test]
fn bounds_are_named_and_nothing_is_applied_beyond_them() {
    let (mut sessions, mut machine) = (Sessions::new(), Counter::default());
    for index in 1..=SESSIONS_MAX as u64 {
        sessions
            .apply(&entry(index, 0, Payload::OpenSession { ttl_ms: 1_000, salt: 0 }), &mut machine)
            .unwrap();
    }
    let index = SESSIONS_MAX as u64 + 1;
    let full = sessions
        .apply(&entry(index, 0, Payload::OpenSession { ttl_ms: 1_000, salt: 0 }), &mut machine)
        .unwrap();
    assert_eq!(full, refused(Refusal::Full { bound: Bound::Sessions, limit: SESSIONS_MAX as u64 }));
    let limit = ANSWERS_PER_SESSION_MAX as u64;
    for sequence in 1..=limit {
        sessions
            .apply(&entry(index + sequence, 0, command(1, sequence, 0, 0)), &mut machine)
            .unwrap();
    }
    let more = entry(index + limit + 1, 0, command(1, limit + 1, 0, 0));
    let full = refused(Refusal::Full { bound: Bound::AnswersPerSession, limit });
    assert_eq!(sessions.apply(&more, &mut machine).unwrap(), full);
    assert_eq!(
        sessions.apply(&more, &mut machine).unwrap(),
        full,
        "the refused command took no place"
    );
    assert_eq!(machine.commands.len(), ANSWERS_PER_SESSION_MAX);
    let more = entry(index + limit + 2, 0, command(1, limit + 1, 1, 0));
    assert_eq!(
        sessions.apply(&more, &mut machine).unwrap(),
        answer(more.index.0, "65"),
        "once one was acknowledged"
    );
}

#[test]
fn answers_beyond_their_bounds_are_given_once() {
    let (mut sessions, mut machine) = (Sessions::new(), Counter::default());
    sessions
        .apply(&entry(1, 0, Payload::OpenSession { ttl_ms: 1_000, salt: 0 }), &mut machine)
        .unwrap();
    let long = entry(2, 0, command(1, 1, 0, ANSWER_BYTES_MAX as u16 + 1));
    let Some(Outcome::Answer(first)) = sessions.apply(&long, &mut machine).unwrap() else {
        panic!("it is given")
    };
    assert_eq!(first.bytes.len(), ANSWER_BYTES_MAX + 1);
    assert_eq!(sessions.apply(&long, &mut machine).unwrap(), refused(Refusal::AnswerNotKept));
    assert_eq!(machine.commands.len(), 1);

    // Fills the bound on all answers, with as many sessions as that takes.
    let mut index = 10;
    let per_session = ANSWERS_PER_SESSION_MAX as u64;
    let answers = (ANSWERS_BYTES_MAX / ANSWER_BYTES_MAX) as u64;
    let mut session = 0;
    for number in 0..=answers {
        if number % per_session == 0 {
            session = index;
            sessions
                .apply(
                    &entry(index, 0, Payload::OpenSession { ttl_ms: 1_000, salt: 0 }),
                    &mut machine,
                )
                .unwrap();
            index += 1;
        }
        let sequence = number % per_session + 1;
        sessions
            .apply(
                &entry(index, 0, command(session, sequence, 0, ANSWER_BYTES_MAX as u16)),
                &mut machine,
            )
            .unwrap();
        index += 1;
    }
    assert_eq!(sessions.answers_bytes, ANSWERS_BYTES_MAX);
    let last = command(session, answers % per_session + 1, 0, ANSWER_BYTES_MAX as u16);
    assert_eq!(
        sessions.apply(&entry(index, 0, last), &mut machine).unwrap(),
        refused(Refusal::AnswerNotKept)
    );
    assert_eq!(Sessions::decode(&sessions.encode()), Ok(sessions.clone()));
    sessions
        .apply(&entry(index + 1, 0, Payload::CloseSession { session: SessionId(10) }), &mut machine)
        .unwrap();
    assert!(sessions.answers_bytes < ANSWERS_BYTES_MAX);
}

#[test]
fn any_acknowledgement_leaves_a_readable_table() {
    let (mut sessions, mut machine) = (Sessions::new(), Counter::default());
    sessions
        .apply(&entry(1, 0, Payload::OpenSession { ttl_ms: 1000, salt: 0 }), &mut machine)
        .unwrap();
    sessions.apply(&entry(2, 0, command(1, u64::MAX, 0, 0)), &mut machine).unwrap();
    sessions.apply(&entry(3, 0, command(1, 5, u64::MAX, 0)), &mut machine).unwrap();
    assert_eq!(Sessions::decode(&sessions.encode()).unwrap(), sessions);
}

/// Nodes of different versions compare it: a change would stop healthy nodes.
#[test]
fn the_digest_of_sessions_never_changes() {
    let mut sessions = Sessions::new();
    assert_eq!(sessions.digest(), 0);
    sessions
        .apply(
            &entry(1, 7, Payload::OpenSession { ttl_ms: 1000, salt: 5 }),
            &mut Counter::default(),
        )
        .unwrap();
    let id = SessionId::opened(Index(1), 5);
    let expected = [id.0, 1000, 7, 0].into_iter().fold(1, super::mix);
    assert_eq!(sessions.digest(), expected);
    sessions
        .apply(&entry(2, 8, Payload::CloseSession { session: id }), &mut Counter::default())
        .unwrap();
    assert_eq!(sessions.digest(), 0);
}
