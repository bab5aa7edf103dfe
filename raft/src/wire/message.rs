//! What cores say to each other, as bytes.
//!
//! ```text
//! from u64 | to u64 | term u64 | and, by kind:
//!   1 request pre-vote    last index u64 | last term u64
//!   2 pre-vote            campaign term u64 | granted u8
//!   3 request vote        last index u64 | last term u64 | is transfer u8
//!   4 vote                granted u8
//!   5 heartbeat           previous index u64 | previous term u64 | commit u64 | round u64
//!   6 append entries      the same | count u32 | entry ...
//!   7 appended            matched u64 | round u64 | promise u64
//!   8 rejected            previous index u64 | hint index u64 | hint term u64 | round u64 | promise u64
//!   9 request read index  request u64 | may lease u8
//!  10 read index          request u64 | has index u8 | index u64
//!  13 install snapshot    index u64 | term u64 | stamp u64 | configuration | round u64 | offset u64 | total u64 | piece
//!  14 snapshot progress   index u64 | received u64 | round u64 | promise u64
//!  15 timeout now         nothing
//! ```
//!
//! The configuration is as [`codec::put_configuration`] says; the piece goes on to the frame's end. Promises last nanoseconds.

use bytes::{Buf, BufMut, BytesMut};

use crate::storage::codec::{self, DecodeError, Decoder};
use crate::types::{Body, Chunk, Entries, Index, Message, NodeId, SnapshotMeta, Stamp, Term};

macro_rules! kinds {
    ($($name:ident = $number:literal),* $(,)?) => {
        /// What a frame is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kind {
            $($name = $number),*
        }

        impl Kind {
            /// The kind of this number.
            pub(super) fn of(number: u8) -> Result<Kind, DecodeError> {
                match number {
                    $($number => Ok(Kind::$name),)*
                    other => Err(DecodeError::Invalid { what: "kind of frame", value: other.into() }),
                }
            }
        }
    };
}

kinds! {
    RequestPreVote = 1,
    PreVote = 2,
    RequestVote = 3,
    Vote = 4,
    Heartbeat = 5,
    AppendEntries = 6,
    Appended = 7,
    Rejected = 8,
    RequestReadIndex = 9,
    ReadIndex = 10,
    Forward = 11,
    Forwarded = 12,
    InstallSnapshot = 13,
    SnapshotProgress = 14,
    TimeoutNow = 15,
    ForwardAdmin = 20,
}

impl Kind {
    /// Whether frames of this kind carry byte strings.
    pub(super) fn has_payload(self) -> bool {
        matches!(
            self,
            Kind::AppendEntries | Kind::Forward | Kind::Forwarded | Kind::ForwardAdmin | Kind::InstallSnapshot
        )
    }

    fn of_body(body: &Body) -> Kind {
        match body {
            Body::RequestPreVote { .. } => Kind::RequestPreVote,
            Body::PreVote { .. } => Kind::PreVote,
            Body::RequestVote { .. } => Kind::RequestVote,
            Body::Vote { .. } => Kind::Vote,
            Body::AppendEntries { entries, .. } if entries.is_empty() => Kind::Heartbeat,
            Body::AppendEntries { .. } => Kind::AppendEntries,
            Body::Appended { .. } => Kind::Appended,
            Body::Rejected { .. } => Kind::Rejected,
            Body::RequestReadIndex { .. } => Kind::RequestReadIndex,
            Body::ReadIndex { .. } => Kind::ReadIndex,
            Body::InstallSnapshot { .. } => Kind::InstallSnapshot,
            Body::SnapshotProgress { .. } => Kind::SnapshotProgress,
            Body::TimeoutNow => Kind::TimeoutNow,
        }
    }
}

/// The bytes of the entries, or of the piece of a snapshot, that a message carries.
pub(super) fn payload_bytes(message: &Message) -> usize {
    match &message.body {
        Body::AppendEntries { entries, .. } => entries.iter().map(codec::entry_bytes).sum(),
        Body::InstallSnapshot { chunk, .. } => chunk.data.len(),
        _ => 0,
    }
}

/// Writes a message's kind and the message.
pub(super) fn put(out: &mut BytesMut, message: &Message) {
    out.put_u8(Kind::of_body(&message.body) as u8);
    out.put_u64_le(message.from.0);
    out.put_u64_le(message.to.0);
    out.put_u64_le(message.term.0);
    match &message.body {
        Body::RequestPreVote { last_index, last_term } => {
            out.put_u64_le(last_index.0);
            out.put_u64_le(last_term.0);
        }
        Body::RequestVote { last_index, last_term, is_transfer } => {
            out.put_u64_le(last_index.0);
            out.put_u64_le(last_term.0);
            out.put_u8(u8::from(*is_transfer));
        }
        Body::TimeoutNow => {}
        Body::PreVote { campaign_term, granted } => {
            out.put_u64_le(campaign_term.0);
            out.put_u8(u8::from(*granted));
        }
        Body::Vote { granted } => out.put_u8(u8::from(*granted)),
        Body::AppendEntries { previous_index, previous_term, entries, commit, round } => {
            out.put_u64_le(previous_index.0);
            out.put_u64_le(previous_term.0);
            out.put_u64_le(commit.0);
            out.put_u64_le(*round);
            if !entries.is_empty() {
                codec::put_entries(out, entries);
            }
        }
        Body::Appended { matched, round, promise } => {
            out.put_u64_le(matched.0);
            out.put_u64_le(*round);
            codec::put_duration(out, *promise);
        }
        Body::Rejected { previous_index, hint_index, hint_term, round, promise } => {
            out.put_u64_le(previous_index.0);
            out.put_u64_le(hint_index.0);
            out.put_u64_le(hint_term.0);
            out.put_u64_le(*round);
            codec::put_duration(out, *promise);
        }
        Body::RequestReadIndex { request, may_lease } => {
            out.put_u64_le(*request);
            out.put_u8(u8::from(*may_lease));
        }
        Body::ReadIndex { request, index } => {
            out.put_u64_le(*request);
            out.put_u8(u8::from(index.is_some()));
            out.put_u64_le(index.map_or(0, |index| index.0));
        }
        Body::InstallSnapshot { meta, chunk, round } => {
            out.put_u64_le(meta.index.0);
            out.put_u64_le(meta.term.0);
            out.put_u64_le(meta.stamp.0);
            codec::put_configuration(out, &meta.configuration);
            out.put_u64_le(*round);
            out.put_u64_le(chunk.offset);
            out.put_u64_le(chunk.total_bytes);
            out.put_slice(&chunk.data);
        }
        Body::SnapshotProgress { index, received_bytes, round, promise } => {
            out.put_u64_le(index.0);
            out.put_u64_le(*received_bytes);
            out.put_u64_le(*round);
            codec::put_duration(out, *promise);
        }
    }
}

/// Reads the message of a frame of this kind.
pub(super) fn get(from: &mut Decoder<impl Buf>, kind: Kind) -> Result<Message, DecodeError> {
    let sender = NodeId(from.u64("a message's sender")?);
    let to = NodeId(from.u64("a message's receiver")?);
    let term = Term(from.u64("a message's term")?);
    Ok(Message { from: sender, to, term, body: get_body(from, kind)? })
}

fn get_body(from: &mut Decoder<impl Buf>, kind: Kind) -> Result<Body, DecodeError> {
    Ok(match kind {
        Kind::RequestPreVote => {
            Body::RequestPreVote { last_index: index(from, "a last index")?, last_term: term(from, "a last term")? }
        }
        Kind::RequestVote => Body::RequestVote {
            last_index: index(from, "a last index")?,
            last_term: term(from, "a last term")?,
            is_transfer: from.flag("mark of a transfer")?,
        },
        Kind::TimeoutNow => Body::TimeoutNow,
        Kind::PreVote => {
            Body::PreVote { campaign_term: term(from, "a campaign's term")?, granted: from.flag("answer to a vote")? }
        }
        Kind::Vote => Body::Vote { granted: from.flag("answer to a vote")? },
        Kind::Heartbeat | Kind::AppendEntries => Body::AppendEntries {
            previous_index: index(from, "a previous index")?,
            previous_term: term(from, "a previous term")?,
            commit: index(from, "a commit index")?,
            round: from.u64("a round")?,
            entries: if kind == Kind::Heartbeat { Entries::new() } else { codec::get_entries(from)? },
        },
        Kind::Appended => Body::Appended {
            matched: index(from, "a matched index")?,
            round: from.u64("a round")?,
            promise: from.duration("a promise's length")?,
        },
        Kind::Rejected => Body::Rejected {
            previous_index: index(from, "a previous index")?,
            hint_index: index(from, "a hint")?,
            hint_term: term(from, "a hint's term")?,
            round: from.u64("a round")?,
            promise: from.duration("a promise's length")?,
        },
        Kind::RequestReadIndex => Body::RequestReadIndex {
            request: from.u64("a question's number")?,
            may_lease: from.flag("word on leases")?,
        },
        Kind::ReadIndex => {
            let request = from.u64("a question's number")?;
            let is_known = from.flag("answer to a read")?;
            let index = index(from, "a read index")?;
            Body::ReadIndex { request, index: is_known.then_some(index) }
        }
        Kind::InstallSnapshot => {
            let (index, term) = (index(from, "a snapshot's index")?, term(from, "a snapshot's term")?);
            let stamp = Stamp(from.u64("a snapshot's stamp")?);
            let configuration = codec::get_configuration(from)?;
            let round = from.u64("a round")?;
            let (offset, total_bytes) = (from.u64("a piece's offset")?, from.u64("a snapshot's length")?);
            let chunk = Chunk { offset, total_bytes, data: from.rest() };
            let meta = Box::new(SnapshotMeta { index, term, stamp, configuration });
            Body::InstallSnapshot { meta, chunk, round }
        }
        Kind::SnapshotProgress => Body::SnapshotProgress {
            index: index(from, "a snapshot's index")?,
            received_bytes: from.u64("a snapshot's progress")?,
            round: from.u64("a round")?,
            promise: from.duration("a promise's length")?,
        },
        Kind::Forward | Kind::Forwarded | Kind::ForwardAdmin => {
            return Err(DecodeError::Invalid { what: "kind of a core's message", value: kind as u64 });
        }
    })
}

fn index(from: &mut Decoder<impl Buf>, what: &'static str) -> Result<Index, DecodeError> {
    from.u64(what).map(Index)
}

fn term(from: &mut Decoder<impl Buf>, what: &'static str) -> Result<Term, DecodeError> {
    from.u64(what).map(Term)
}
