//! Sessions: a repeated command is applied once and gets its first answer (dissertation, §6.3).
//!
//! The table of sessions is part of the replicated state, beside the state machine: the same
//! entries give the same table on every node, and a snapshot contains it. No clock is read: a
//! session expires by the stamps of the log's entries.
//!
//! ```text
//!  index    5       8             9             12             20    31
//!  entry    open s  s: #1 "incr"  s: #2 "incr"  s: #1 "incr"   ...   s: #3, acknowledged 2
//!  applied          yes           yes           no: as at 8          yes; drops answers #1, #2
//! ```
//!
//! A session expires when an entry is applied whose stamp is later than that of its last command
//! by more than its time to live. Stamps are log time
//! ([`Committed::stamp`](super::Committed::stamp)): they advance like real time while a majority of
//! the voters' wall clocks is right, even if the leader's is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes};

use super::machine_digest::{mix, mix_bytes};
use super::{Answer, Bound, Committed, MachineError, Outcome, Refusal, StateMachine};
use crate::core::mutants::{Mutant, planted};
use crate::storage::codec::{DecodeError, Decoder};
use crate::types::{Entry, Index, Payload, SessionCommand, SessionId, Stamp};

/// The most open sessions.
pub const SESSIONS_MAX: usize = 16_384;

/// The most commands of one session that are applied and not acknowledged.
pub const ANSWERS_PER_SESSION_MAX: usize = 64;

/// The longest answer that is kept for a retry, in bytes.
pub const ANSWER_BYTES_MAX: usize = 4_096;

/// The most bytes of answers that are kept for all sessions together.
pub const ANSWERS_BYTES_MAX: usize = 64 << 20;

/// The range of a session's time to live, in milliseconds: a tenth of a second to thirty days.
pub const SESSION_TTL_MS: RangeInclusive<u64> = 100..=2_592_000_000;

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    ttl_ms: u64,
    /// The stamp of the last entry that used it.
    last_used: Stamp,
    /// The largest number that the author has acknowledged.
    acknowledged: u64,
    /// The answers to commands that were applied and not acknowledged, by number; `None` if an
    /// answer was not kept.
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
/// [`MachineRunner`](super::MachineRunner) has one and applies every entry through it. A driver
/// that runs a state machine without it must do the same, and must keep the table in the same
/// snapshot as the machine's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sessions {
    open: BTreeMap<SessionId, Session>,
    /// The expiry of each session.
    expiries: BTreeSet<(Stamp, SessionId)>,
    /// The bytes of all answers that are kept.
    answers_bytes: usize,
    /// The sum of the digests of all sessions and answers.
    digest: u64,
}

impl Sessions {
    /// An empty table.
    #[must_use]
    pub fn new() -> Sessions {
        Sessions::default()
    }

    /// The number of open sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no session is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The digest of the table: equal for equal tables, on every machine.
    ///
    /// Each entry updates it, so reading it costs nothing.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Applies the next entry of the log and returns its outcome; `None` if it is Raft's own.
    ///
    /// Every entry must pass through here, because any entry may expire sessions. A command reaches
    /// the state machine unless it is a repetition.
    ///
    /// # Errors
    /// The state machine's error. Neither it nor the table may be used after that.
    pub fn apply(
        &mut self,
        entry: &Entry,
        machine: &mut impl StateMachine,
    ) -> Result<Option<Outcome>, MachineError> {
        self.apply_at(entry.stamp, entry, machine)
    }

    /// Like `apply`, with this log time.
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
        self.remove(id); // There is none, unless two 64-bit salts collide.
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
        in_session: &SessionCommand,
        apply: impl FnOnce(&[u8]) -> Result<Bytes, MachineError>,
    ) -> Result<Outcome, MachineError> {
        let refused = |refusal| Ok(Outcome::Refused(refusal));
        let id = in_session.session;
        let Some(session) = self.open.get_mut(&id) else { return refused(Refusal::NoSession) };
        self.digest = self.digest.wrapping_sub(session.digest(id));
        if session.last_used != stamp {
            self.expiries.remove(&(session.expires_at(), in_session.session));
            session.last_used = stamp;
            self.expiries.insert((session.expires_at(), in_session.session));
        }
        if in_session.acknowledged > session.acknowledged {
            session.acknowledged = in_session.acknowledged;
            let wanted = match in_session.acknowledged.checked_add(1) {
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
        let is_acknowledged = in_session.sequence <= session.acknowledged;
        if is_acknowledged
            && !(planted(Mutant::AcknowledgedIsAppliedAgain) && in_session.sequence > 0)
        {
            return refused(Refusal::Acknowledged { up_to: session.acknowledged });
        }
        match session.answers.get(&in_session.sequence) {
            _ if planted(Mutant::RetryAppliesTwice) => {}
            Some(Some(kept)) => return Ok(answer(index, kept.clone())),
            Some(None) => return refused(Refusal::AnswerNotKept),
            None => {}
        }
        if session.answers.len() >= ANSWERS_PER_SESSION_MAX {
            let limit = ANSWERS_PER_SESSION_MAX as u64;
            return refused(Refusal::Full { bound: Bound::AnswersPerSession, limit });
        }
        let bytes = apply(&in_session.command)?;
        let is_kept = bytes.len() <= ANSWER_BYTES_MAX
            && self.answers_bytes.saturating_add(bytes.len()) <= ANSWERS_BYTES_MAX;
        // A copy: the answer may be a slice that keeps a larger buffer alive.
        let kept = is_kept.then(|| Bytes::copy_from_slice(&bytes));
        self.answers_bytes += kept.as_ref().map_or(0, Bytes::len);
        self.digest =
            self.digest.wrapping_add(digest_of_answer(id, in_session.sequence, kept.as_ref()));
        let before = session.answers.insert(in_session.sequence, kept);
        if let Some(before) = &before {
            self.digest = self.digest.wrapping_sub(digest_of_answer(
                id,
                in_session.sequence,
                before.as_ref(),
            ));
        }
        self.answers_bytes -= before.flatten().map_or(0, |before| before.len());
        Ok(answer(index, bytes))
    }

    /// Encodes the table for a snapshot:
    ///
    /// ```text
    /// count u32 | session ...
    /// session:  id u64 | ttl u64 | used u64 | acknowledged u64 | count u32 | answer ...
    /// answer:   sequence u64 | is kept u8 | length u32 | bytes
    /// ```
    ///
    /// Sessions and answers are in the order of their numbers, so equal tables have equal bytes.
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
    /// The bytes are no table, or one that exceeds a bound of this module, written by a program
    /// with other bounds.
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

/// The outcome of the entry at `index`.
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

/// The refusal, if this time to live is out of range.
pub(super) fn check_ttl(ttl_ms: u64) -> Option<Refusal> {
    (!SESSION_TTL_MS.contains(&ttl_ms)).then_some(Refusal::TtlOutOfRange { ttl_ms })
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
pub(crate) mod tests;
