//! The outcome of a forwarded command, as bytes: `kind u8`, and by kind
//!
//! ```text
//!  0 answer          index u64, 0 for unknown (not in version 2) | length u32 | bytes
//!  1 no leader
//!  2 not leader      leader u64, 0 for unknown
//!  3 timed out, certainly without effect
//!  4 superseded
//!  5 full            bound u8 | limit u64
//!  6 too large       size u64 | limit u64
//!  7 storage failed, certainly without effect
//!  8 no such session
//!  9 answer not kept
//! 10 acknowledged    up to u64
//! 11 ttl out of range   ttl u64
//! 12 removed
//! 13 declined        final u8 | length u32 | reason
//! 16 timed out       perhaps with effect, as the next three
//! 17 link broken
//! 18 storage failed
//! 19 overtaken by a snapshot
//! 32 opened          session u64
//! ```

use bytes::{Buf, BufMut, BytesMut};

use super::Version;
use crate::replica::{Answer, Bound, Doubt, Outcome, Refusal};
use crate::storage::codec::{DecodeError, Decoder};
use crate::types::{Index, NodeId, SessionId};

/// The bytes of the answer.
pub(super) fn payload_bytes(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Answer(answer) => answer.bytes.len(),
        Outcome::Refused(Refusal::Declined { reason, .. }) => reason.len(),
        Outcome::Opened(_) | Outcome::Refused(_) | Outcome::Unknown(_) => 0,
    }
}

pub(super) fn put(out: &mut BytesMut, outcome: &Outcome, version: Version) {
    match outcome {
        Outcome::Answer(answer) => {
            out.put_u8(0);
            if version >= Version::V3 {
                out.put_u64_le(answer.index.map_or(0, |index| index.0));
            }
            out.put_u32_le(
                u32::try_from(answer.bytes.len())
                    .expect("encode has compared it with FRAME_BYTES_MAX"),
            );
            out.put_slice(&answer.bytes);
        }
        Outcome::Opened(session) => {
            out.put_u8(32);
            out.put_u64_le(session.0);
        }
        Outcome::Refused(refusal) => put_refusal(out, refusal),
        // `Outcome::for_peer` has replaced what is this node's own matter.
        Outcome::Unknown(Doubt::TimedOut | Doubt::MachineFailed) => out.put_u8(16),
        Outcome::Unknown(Doubt::LinkBroken) => out.put_u8(17),
        Outcome::Unknown(Doubt::StorageFailed) => out.put_u8(18),
        Outcome::Unknown(Doubt::LogReplaced) => out.put_u8(19),
    }
}

fn put_refusal(out: &mut BytesMut, refusal: &Refusal) {
    match refusal {
        Refusal::NoLeader => out.put_u8(1),
        Refusal::NotLeader { leader } => {
            out.put_u8(2);
            out.put_u64_le(leader.map_or(0, |leader| leader.0));
        }
        Refusal::MachineFailed { .. } => put_refusal(out, &Refusal::NotLeader { leader: None }),
        // `Outcome::for_peer` has replaced the backlog by a text.
        Refusal::TimedOut
        | Refusal::QueryPanicked
        | Refusal::Loading { .. }
        | Refusal::Full { bound: Bound::Backlog, .. } => out.put_u8(3),
        Refusal::Superseded => out.put_u8(4),
        &Refusal::Full { bound, limit } => {
            out.put_u8(5);
            out.put_u8(match bound {
                Bound::PendingRequests => 0,
                Bound::PendingBytes => 1,
                Bound::ForwardedRequests => 2,
                Bound::Sessions => 3,
                Bound::Backlog => unreachable!("put above"),
                Bound::AnswersPerSession => 4,
            });
            out.put_u64_le(limit);
        }
        &Refusal::TooLarge { size_bytes, limit_bytes } => {
            out.put_u8(6);
            out.put_u64_le(size_bytes);
            out.put_u64_le(limit_bytes);
        }
        Refusal::StorageFailed => out.put_u8(7),
        Refusal::Removed => out.put_u8(12),
        Refusal::Declined { reason, is_final } => {
            out.put_u8(13);
            out.put_u8(u8::from(*is_final));
            out.put_u32_le(
                u32::try_from(reason.len()).expect("encode has compared it with FRAME_BYTES_MAX"),
            );
            out.put_slice(reason.as_bytes());
        }
        Refusal::NoSession => out.put_u8(8),
        Refusal::AnswerNotKept => out.put_u8(9),
        Refusal::Acknowledged { up_to } => {
            out.put_u8(10);
            out.put_u64_le(*up_to);
        }
        Refusal::TtlOutOfRange { ttl_ms } => {
            out.put_u8(11);
            out.put_u64_le(*ttl_ms);
        }
    }
}

pub(super) fn get(from: &mut Decoder<impl Buf>, version: Version) -> Result<Outcome, DecodeError> {
    let refusal = match from.u8("an outcome's kind")? {
        0 => {
            let index = if version >= Version::V3 { from.u64("an answer's index")? } else { 0 };
            let index = (index > 0).then_some(Index(index));
            return Ok(Outcome::Answer(Answer::new(from.bytes("an answer")?, index)));
        }
        1 => Refusal::NoLeader,
        2 => {
            let leader = from.u64("a leader")?;
            Refusal::NotLeader { leader: (leader != 0).then_some(NodeId(leader)) }
        }
        3 => Refusal::TimedOut,
        4 => Refusal::Superseded,
        5 => Refusal::Full { bound: get_bound(from)?, limit: from.u64("a bound's value")? },
        6 => {
            Refusal::TooLarge { size_bytes: from.u64("a size")?, limit_bytes: from.u64("a limit")? }
        }
        7 => Refusal::StorageFailed,
        12 => Refusal::Removed,
        13 => {
            let is_final = from.flag("whether a refusal is final")?;
            Refusal::Declined { reason: from.string("a reason")?, is_final }
        }
        8 => Refusal::NoSession,
        9 => Refusal::AnswerNotKept,
        10 => Refusal::Acknowledged { up_to: from.u64("an acknowledgement")? },
        11 => Refusal::TtlOutOfRange { ttl_ms: from.u64("a time to live")? },
        32 => return Ok(Outcome::Opened(SessionId(from.u64("a session")?))),
        16 => return Ok(Outcome::Unknown(Doubt::TimedOut)),
        17 => return Ok(Outcome::Unknown(Doubt::LinkBroken)),
        18 => return Ok(Outcome::Unknown(Doubt::StorageFailed)),
        19 => return Ok(Outcome::Unknown(Doubt::LogReplaced)),
        kind => return Err(DecodeError::Invalid { what: "kind of outcome", value: kind.into() }),
    };
    Ok(Outcome::Refused(refusal))
}

fn get_bound(from: &mut Decoder<impl Buf>) -> Result<Bound, DecodeError> {
    match from.u8("a bound")? {
        0 => Ok(Bound::PendingRequests),
        1 => Ok(Bound::PendingBytes),
        2 => Ok(Bound::ForwardedRequests),
        3 => Ok(Bound::Sessions),
        4 => Ok(Bound::AnswersPerSession),
        bound => Err(DecodeError::Invalid { what: "bound", value: bound.into() }),
    }
}
