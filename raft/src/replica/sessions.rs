//! Sessions: a command that comes again is not applied again, and gets the answer that the first
//! one got (§6.3 of the dissertation).
//!
//! The table is part of the replicated state, beside the state machine: the same entries make the
//! same table on every node, and a snapshot carries it. Nothing here looks at a clock; a session
//! ends by the stamps of the log's entries.
//!
//! ```text
//!  index     5        8              9              12               20          31
//!  entry     open s   s: #1 "incr"   s: #2 "incr"   s: #1 "incr"     ...         s: #3, acknowledged 2
//!  applied            yes            yes            no: as at 8                  yes; the answers to #1 and #2 go
//! ```
//!
//! A session ends when an entry is applied whose stamp is later than that of its last command by
//! more than its time to live. Stamps are log time ([`Committed::stamp`](super::Committed::stamp)):
//! they pass as real time does while a majority of the voters' wall clocks is right, whatever the
//! leader's shows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes};

use super::machine_digest::{mix, mix_bytes};
use super::{Answer, Bound, Committed, MachineError, Outcome, Refusal, StateMachine};
use crate::core::mutants::{Mutant, planted};
use crate::storage::codec::{DecodeError, Decoder};
use crate::types::{Entry, Index, Payload, SessionCommand, SessionId, Stamp};

/// The most sessions open at a time.
pub const SESSIONS_MAX: usize = 16_384;

/// The most commands of a session that were applied and not acknowledged.
pub const ANSWERS_PER_SESSION_MAX: usize = 64;

/// The longest answer that is kept for a retry, in bytes.
pub const ANSWER_BYTES_MAX: usize = 4_096;

/// The most bytes of answers that are kept in all sessions together.
pub const ANSWERS_BYTES_MAX: usize = 64 << 20;

/// How long a session may live without being used, in milliseconds: a tenth of a second to thirty
/// days.
pub const SESSION_TTL_MS: RangeInclusive<u64> = 100..=2_592_000_000;

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    ttl_ms: u64,
    /// The stamp of the last entry that used it.
    last_used: Stamp,
    /// The author needs no answers up to this number.
    acknowledged: u64,
    /// What was applied and not acknowledged, and what it was answered; `None` if that was not
    /// kept.
    answers: BTreeMap<u64, Option<Bytes>>,
}

impl Session {
    /// The last stamp at which it is alive.
    fn expires_at(&self) -> Stamp {
        Stamp(self.last_used.0.saturating_add(self.ttl_ms))
    }

    fn answers_bytes(&self) -> usize {
        self.answers.values().flatten().map(Bytes::len).sum()
    }

    /// The digest of the session without its answers.
    fn digest(&self, id: SessionId) -> u64 {
        [id.0, self.ttl_ms, self.last_used.0, self.acknowledged].into_iter().fold(1, mix)
    }

    /// The digest of the session with its answers.
    fn digest_with_answers(&self, id: SessionId) -> u64 {
        let answers = self.answers.iter();
        let answers =
            answers.map(|(&sequence, answer)| digest_of_answer(id, sequence, answer.as_ref()));
        answers.fold(self.digest(id), u64::wrapping_add)
    }
}

fn digest_of_answer(id: SessionId, sequence: u64, answer: Option<&Bytes>) -> u64 {
    let place = [id.0, sequence].into_iter().fold(2, mix);
    answer.map_or(place, |answer| mix_bytes(place, answer))
}

/// The open sessions of a group.
///
/// [`MachineRunner`](super::MachineRunner) has one and puts every entry through it. Whoever runs a
/// state machine in another way must do the same, and must keep the table in the same snapshot as
/// the machine's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sessions {
    open: BTreeMap<SessionId, Session>,
    /// When each ends.
    expiries: BTreeSet<(Stamp, SessionId)>,
    /// Of all answers that are kept.
    answers_bytes: usize,
    /// The sum of the digests of all sessions and answers.
    digest: u64,
}

impl Sessions {
    /// The table of an empty log.
    #[must_use]
    pub fn new() -> Sessions {
        Sessions::default()
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The digest of the table: equal for equal tables, on every machine. Kept up to date by each
    /// entry, so to ask for it costs nothing.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Applies the next entry of the log, whatever it is: sessions may end by it. The state machine
    /// is given the command, if there is one and it is not a repetition. What the entry's author is
    /// told; `None` if it is Raft's own.
    ///
    /// # Errors
    /// The state machine's. The table is of no use then, like the machine.
    pub fn apply(
        &mut self,
        entry: &Entry,
        machine: &mut impl StateMachine,
    ) -> Result<Option<Outcome>, MachineError> {
        self.apply_at(entry.stamp, entry, machine)
    }

    /// As `apply`, at this point of the log's time.
    pub(super) fn apply_at(
        &mut self,
        stamp: Stamp,
        entry: &Entry,
        machine: &mut impl StateMachine,
    ) -> Result<Option<Outcome>, MachineError> {
        self.expire(stamp);
        let mut apply = |command: &[u8]| {
            machine.apply(&Committed {
                index: entry.index,
                term: entry.term,
                stamp: entry.stamp,
                command,
            })
        };
        Ok(match &entry.payload {
            Payload::Noop | Payload::Configuration(_) => None,
            Payload::Command(command) => Some(answer(entry.index, apply(command)?)),
            Payload::OpenSession { ttl_ms, salt } => {
                Some(self.open(SessionId::opened(entry.index, *salt), stamp, *ttl_ms))
            }
            Payload::SessionCommand(in_session) => {
                Some(self.command(entry.index, stamp, in_session, apply)?)
            }
            Payload::CloseSession { session } => Some(self.close(entry.index, *session)),
        })
    }

    fn expire(&mut self, stamp: Stamp) {
        while let Some(&(ends, id)) = self.expiries.first()
            && ends < stamp
            && !planted(Mutant::SessionsNeverExpire)
        {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: SessionId) -> bool {
        let Some(session) = self.open.remove(&id) else { return false };
        self.expiries.remove(&(session.expires_at(), id));
        self.answers_bytes -= session.answers_bytes();
        self.digest = self.digest.wrapping_sub(session.digest_with_answers(id));
        true
    }

    fn open(&mut self, id: SessionId, stamp: Stamp, ttl_ms: u64) -> Outcome {
        if let Some(refusal) = check_ttl(ttl_ms) {
            return Outcome::Refused(refusal);
        }
        if self.open.len() >= SESSIONS_MAX {
            return Outcome::Refused(Refusal::Full {
                bound: Bound::Sessions,
                limit: SESSIONS_MAX as u64,
            });
        }
        self.remove(id); // None has this name, unless two salts of 64 bits are as unlucky as that.
        let session =
            Session { ttl_ms, last_used: stamp, acknowledged: 0, answers: BTreeMap::new() };
        self.expiries.insert((session.expires_at(), id));
        self.digest = self.digest.wrapping_add(session.digest(id));
        self.open.insert(id, session);
        Outcome::Opened(id)
    }

    fn close(&mut self, index: Index, id: SessionId) -> Outcome {
        match self.remove(id) {
            true => answer(index, Bytes::new()),
            false => Outcome::Refused(Refusal::NoSession),
        }
    }

    fn command(
        &mut self,
        index: Index,
        stamp: Stamp,
        asked: &SessionCommand,
        apply: impl FnOnce(&[u8]) -> Result<Bytes, MachineError>,
    ) -> Result<Outcome, MachineError> {
        let refused = |refusal| Ok(Outcome::Refused(refusal));
        let id = asked.session;
        let Some(session) = self.open.get_mut(&id) else { return refused(Refusal::NoSession) };
        self.digest = self.digest.wrapping_sub(session.digest(id));
        if session.last_used != stamp {
            self.expiries.remove(&(session.expires_at(), asked.session));
            session.last_used = stamp;
            self.expiries.insert((session.expires_at(), asked.session));
        }
        if asked.acknowledged > session.acknowledged {
            session.acknowledged = asked.acknowledged;
            let wanted = match asked.acknowledged.checked_add(1) {
                Some(first) => session.answers.split_off(&first),
                None => BTreeMap::new(),
            };
            let before = std::mem::replace(&mut session.answers, wanted);
            self.answers_bytes -= before.values().flatten().map(Bytes::len).sum::<usize>();
            for (&sequence, answer) in &before {
                self.digest =
                    self.digest.wrapping_sub(digest_of_answer(id, sequence, answer.as_ref()));
            }
        }
        self.digest = self.digest.wrapping_add(session.digest(id));
        let is_done_with = asked.sequence <= session.acknowledged;
        if is_done_with && !(planted(Mutant::AcknowledgedIsAppliedAgain) && asked.sequence > 0) {
            return refused(Refusal::Acknowledged { up_to: session.acknowledged });
        }
        match session.answers.get(&asked.sequence) {
            _ if planted(Mutant::RetryAppliesTwice) => {}
            Some(Some(kept)) => return Ok(answer(index, kept.clone())),
            Some(None) => return refused(Refusal::AnswerNotKept),
            None => {}
        }
        if session.answers.len() >= ANSWERS_PER_SESSION_MAX {
            let limit = ANSWERS_PER_SESSION_MAX as u64;
            return refused(Refusal::Full { bound: Bound::AnswersPerSession, limit });
        }
        let bytes = apply(&asked.command)?;
        let is_kept = bytes.len() <= ANSWER_BYTES_MAX
            && self.answers_bytes.saturating_add(bytes.len()) <= ANSWERS_BYTES_MAX;
        // A copy, lest it keeps something larger that it is a part of.
        let kept = is_kept.then(|| Bytes::copy_from_slice(&bytes));
        self.answers_bytes += kept.as_ref().map_or(0, Bytes::len);
        self.digest = self.digest.wrapping_add(digest_of_answer(id, asked.sequence, kept.as_ref()));
        let before = session.answers.insert(asked.sequence, kept);
        if let Some(before) = &before {
            self.digest =
                self.digest.wrapping_sub(digest_of_answer(id, asked.sequence, before.as_ref()));
        }
        self.answers_bytes -= before.flatten().map_or(0, |before| before.len());
        Ok(answer(index, bytes))
    }

    /// The table as bytes, for a snapshot:
    ///
    /// ```text
    /// count u32 | session ...
    /// session:  id u64 | ttl u64 | used u64 | acknowledged u64 | count u32 | answer ...
    /// answer:   sequence u64 | is kept u8 | length u32 | bytes
    /// ```
    ///
    /// Sessions and answers rise by their numbers, so that equal tables are equal bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let length =
            |length: usize| u32::try_from(length).expect("the bounds keep it far below 2^32");
        let mut out = Vec::with_capacity(4 + self.open.len() * 40 + self.answers_bytes);
        out.put_u32_le(length(self.open.len()));
        for (id, session) in &self.open {
            out.put_u64_le(id.0);
            out.put_u64_le(session.ttl_ms);
            out.put_u64_le(session.last_used.0);
            out.put_u64_le(session.acknowledged);
            out.put_u32_le(length(session.answers.len()));
            for (sequence, answer) in &session.answers {
                out.put_u64_le(*sequence);
                out.put_u8(u8::from(answer.is_some()));
                let answer = answer.as_deref().unwrap_or_default();
                out.put_u32_le(length(answer.len()));
                out.put_slice(answer);
            }
        }
        out
    }

    /// The inverse of [`encode`](Sessions::encode).
    ///
    /// # Errors
    /// If the bytes are not a table, or one that breaks a bound of this module: it was written by a
    /// program with others.
    pub fn decode(bytes: &[u8]) -> Result<Sessions, DecodeError> {
        let mut from = Decoder::new(bytes);
        let mut sessions = Sessions::default();
        let count = from.u32("a count of sessions")? as usize;
        check_bound("count of sessions", count, SESSIONS_MAX)?;
        for _ in 0..count {
            let id = SessionId(from.u64("a session")?);
            if sessions.open.last_key_value().is_some_and(|(&last, _)| last >= id) {
                return Err(DecodeError::Invalid {
                    what: "session at this place (they must rise)",
                    value: id.0,
                });
            }
            let session = decode_session(&mut from)?;
            sessions.expiries.insert((session.expires_at(), id));
            sessions.answers_bytes += session.answers_bytes();
            sessions.digest = sessions.digest.wrapping_add(session.digest_with_answers(id));
            sessions.open.insert(id, session);
        }
        from.finish("the sessions")?;
        check_bound("length of all answers", sessions.answers_bytes, ANSWERS_BYTES_MAX)?;
        Ok(sessions)
    }
}

/// What the author of the entry at `index` is answered.
fn answer(index: Index, bytes: Bytes) -> Outcome {
    Outcome::Answer(Answer::new(bytes, index))
}

fn decode_session(from: &mut Decoder<&[u8]>) -> Result<Session, DecodeError> {
    let ttl_ms = from.u64("a session's time to live")?;
    let last_used = Stamp(from.u64("a session's last use")?);
    let acknowledged = from.u64("an acknowledgement")?;
    let mut session = Session { ttl_ms, last_used, acknowledged, answers: BTreeMap::new() };
    let count = from.u32("a count of answers")? as usize;
    check_bound("count of answers", count, ANSWERS_PER_SESSION_MAX)?;
    for _ in 0..count {
        let sequence = from.u64("a command's number")?;
        let last = session.answers.last_key_value().map_or(acknowledged, |(&last, _)| last);
        if sequence <= last {
            return Err(DecodeError::Invalid {
                what: "command's number at this place (they must rise)",
                value: sequence,
            });
        }
        let is_kept = from.flag("word on an answer")?;
        let answer = from.bytes("an answer")?;
        check_bound(
            "length of an answer",
            answer.len(),
            if is_kept { ANSWER_BYTES_MAX } else { 0 },
        )?;
        session.answers.insert(sequence, is_kept.then_some(answer));
    }
    Ok(session)
}

fn check_bound(what: &'static str, value: usize, most: usize) -> Result<(), DecodeError> {
    if value > most { Err(DecodeError::Invalid { what, value: value as u64 }) } else { Ok(()) }
}

/// Why a session cannot live for so long, if it cannot.
pub(super) fn check_ttl(ttl_ms: u64) -> Option<Refusal> {
    (!SESSION_TTL_MS.contains(&ttl_ms)).then_some(Refusal::TtlOutOfRange { ttl_ms })
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
pub(crate) mod tests;
