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
//!   8 rejected            previous index u64 | hint index u64 | hint term u64 | round u64 |
//!                         promise u64
//!   9 request read index  request u64 | may lease u8
//!  10 read index          request u64 | has index u8 | index u64
//!  13 install snapshot    index u64 | term u64 | stamp u64 | configuration | round u64 |
//!                         offset u64 | total u64 | piece
//!  14 snapshot progress   index u64 | received u64 | round u64 | promise u64
//!  15 timeout now         nothing
//!
//! and from version 3 on
//!
//!   5, 6, 13              wants promise u8 after the round
//!   7, 8, 14              wall u64 | applied u64 | durable sequence u64 | flags u8 after the
//!                         promise: 1 the wall clock is known, 2 what is applied, 4 the sequence;
//!                         8 the sender has forgotten
//!  13                     feature levels and a digest after the configuration
//!  16 forgot              last index u64
//!  17 committed conflict  index u64 | log term u64
//!  18 state digest        index u64 | version u32 | value u64
//!  19 state digests       count u32 | (node u64 | index u64 | version u32 | value u64) ...
//! ```
//!
//! The configuration is as [`codec::put_configuration`] says; the piece goes on to the frame's end.
//! Promises last nanoseconds.

use bytes::{Buf, BufMut, BytesMut};

use super::Version;
use crate::storage::codec::{self, DecodeError, Decoder};
use crate::types::{
    Append, Body, Chunk, Digest, Echo, Entries, FollowerReport, Index, Message, NodeId,
    SnapshotMeta, Stamp, Term,
};

macro_rules! kinds {
    ($($name:ident = $number:literal),* $(,)?) => {
        /// What a frame is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum MessageKind {
            $($name = $number),*
        }

        impl MessageKind {
            /// The kind of this number.
            pub(super) fn of(number: u8) -> Result<MessageKind, DecodeError> {
                match number {
                    $($number => Ok(MessageKind::$name),)*
                    other => {
                        let value = other.into();
                        Err(DecodeError::Invalid { what: "kind of frame", value })
                    }
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
    Forgot = 16,
    CommittedConflict = 17,
    StateDigest = 18,
    StateDigests = 19,
    ForwardAdmin = 20,
}

impl MessageKind {
    fn is_in_version_2(self) -> bool {
        !matches!(
            self,
            MessageKind::Forgot
                | MessageKind::CommittedConflict
                | MessageKind::StateDigest
                | MessageKind::StateDigests
        )
    }

    /// Whether frames of this kind carry byte strings.
    pub(super) fn has_payload(self) -> bool {
        matches!(
            self,
            MessageKind::AppendEntries
                | MessageKind::Forward
                | MessageKind::Forwarded
                | MessageKind::ForwardAdmin
                | MessageKind::InstallSnapshot
        )
    }

    fn of_body(body: &Body) -> MessageKind {
        match body {
            Body::RequestPreVote { .. } => MessageKind::RequestPreVote,
            Body::PreVote { .. } => MessageKind::PreVote,
            Body::RequestVote { .. } => MessageKind::RequestVote,
            Body::Vote { .. } => MessageKind::Vote,
            Body::AppendEntries(Append { entries, .. }) if entries.is_empty() => {
                MessageKind::Heartbeat
            }
            Body::AppendEntries(_) => MessageKind::AppendEntries,
            Body::Appended { .. } => MessageKind::Appended,
            Body::Rejected { .. } => MessageKind::Rejected,
            Body::RequestReadIndex { .. } => MessageKind::RequestReadIndex,
            Body::ReadIndex { .. } => MessageKind::ReadIndex,
            Body::InstallSnapshot { .. } => MessageKind::InstallSnapshot,
            Body::SnapshotProgress { .. } => MessageKind::SnapshotProgress,
            Body::TimeoutNow => MessageKind::TimeoutNow,
            Body::Forgot { .. } => MessageKind::Forgot,
            Body::CommittedConflict { .. } => MessageKind::CommittedConflict,
            Body::StateDigest(_) => MessageKind::StateDigest,
            Body::StateDigests(_) => MessageKind::StateDigests,
        }
    }
}

/// The bytes of the entries, or of the piece of a snapshot, that a message carries.
pub(super) fn payload_bytes(message: &Message) -> usize {
    match &message.body {
        Body::AppendEntries(Append { entries, .. }) => entries.iter().map(codec::entry_bytes).sum(),
        Body::InstallSnapshot { chunk, .. } => chunk.data.len(),
        _ => 0,
    }
}

/// Whether a version can encode it.
pub(super) fn can_encode(version: Version, body: &Body) -> bool {
    version >= Version::V3 || MessageKind::of_body(body).is_in_version_2()
}

/// Writes a message's kind and the message.
pub(super) fn put(out: &mut BytesMut, message: &Message, version: Version) {
    out.put_u8(MessageKind::of_body(&message.body) as u8);
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
        Body::AppendEntries(Append { previous_index, previous_term, entries, commit, echo }) => {
            out.put_u64_le(previous_index.0);
            out.put_u64_le(previous_term.0);
            out.put_u64_le(commit.0);
            put_echo(out, *echo, version);
            if !entries.is_empty() {
                codec::put_entries(out, entries);
            }
        }
        Body::Appended { matched, report } => {
            out.put_u64_le(matched.0);
            put_report(out, report, version);
        }
        Body::Rejected { previous_index, hint_index, hint_term, report } => {
            out.put_u64_le(previous_index.0);
            out.put_u64_le(hint_index.0);
            out.put_u64_le(hint_term.0);
            put_report(out, report, version);
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
        Body::InstallSnapshot { meta, chunk, echo } => {
            out.put_u64_le(meta.index.0);
            out.put_u64_le(meta.term.0);
            out.put_u64_le(meta.stamp.0);
            codec::put_configuration(out, &meta.configuration);
            if version >= Version::V3 {
                codec::put_feature_levels(out, &meta.configuration);
                codec::put_digest(out, meta.digest);
            }
            put_echo(out, *echo, version);
            out.put_u64_le(chunk.offset);
            out.put_u64_le(chunk.total_bytes);
            out.put_slice(&chunk.data);
        }
        Body::SnapshotProgress { index, received_bytes, report } => {
            out.put_u64_le(index.0);
            out.put_u64_le(*received_bytes);
            put_report(out, report, version);
        }
        Body::Forgot { last_index } => out.put_u64_le(last_index.0),
        Body::CommittedConflict { index, log_term } => {
            out.put_u64_le(index.0);
            out.put_u64_le(log_term.0);
        }
        Body::StateDigest(digest) => put_state_digest(out, digest),
        Body::StateDigests(digests) => {
            out.put_u32_le(u32::try_from(digests.len()).expect("no more than there are members"));
            for (node, digest) in digests.iter() {
                out.put_u64_le(node.0);
                put_state_digest(out, digest);
            }
        }
    }
}

fn put_state_digest(out: &mut BytesMut, digest: &Digest) {
    out.put_u64_le(digest.index.0);
    out.put_u32_le(digest.version);
    out.put_u64_le(digest.value);
}

fn get_state_digest(from: &mut Decoder<impl Buf>) -> Result<Digest, DecodeError> {
    let index = index(from, "a digest's index")?;
    Ok(Digest { index, version: from.u32("a digest's version")?, value: from.u64("a digest")? })
}

fn put_echo(out: &mut BytesMut, echo: Echo, version: Version) {
    out.put_u64_le(echo.round);
    if version >= Version::V3 {
        out.put_u8(u8::from(echo.wants_promise));
    }
}

/// A leader of version 2 wants a promise in every round.
fn get_echo(from: &mut Decoder<impl Buf>, version: Version) -> Result<Echo, DecodeError> {
    let round = from.u64("a round")?;
    let wants_promise = if version >= Version::V3 { from.flag("word on promises")? } else { true };
    Ok(Echo { round, wants_promise })
}

const HAS_WALL: u8 = 1;
const HAS_APPLIED: u8 = 2;
const HAS_SEQUENCE: u8 = 4;
const HAS_FORGOTTEN: u8 = 8;

fn put_report(out: &mut BytesMut, report: &FollowerReport, version: Version) {
    let &FollowerReport { round, promise, wall, applied, durable_sequence, has_forgotten } = report;
    out.put_u64_le(round);
    codec::put_duration(out, promise);
    if version >= Version::V3 {
        out.put_u64_le(wall.unwrap_or_default().0);
        out.put_u64_le(applied.unwrap_or_default().0);
        out.put_u64_le(durable_sequence.unwrap_or_default());
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        out.put_u8(
            flag(wall.is_some(), HAS_WALL)
                | flag(applied.is_some(), HAS_APPLIED)
                | flag(durable_sequence.is_some(), HAS_SEQUENCE)
                | flag(has_forgotten, HAS_FORGOTTEN),
        );
    }
}

fn get_report(
    from: &mut Decoder<impl Buf>,
    version: Version,
) -> Result<FollowerReport, DecodeError> {
    let (round, promise) = (from.u64("a round")?, from.duration("a promise's length")?);
    if version < Version::V3 {
        return Ok(FollowerReport { round, promise, ..FollowerReport::default() });
    }
    let (wall, applied) = (Stamp(from.u64("a wall clock")?), index(from, "an applied index")?);
    let sequence = from.u64("a durable frame's number")?;
    let flags = from.u8("an answer's flags")?;
    if flags & !(HAS_WALL | HAS_APPLIED | HAS_SEQUENCE | HAS_FORGOTTEN) != 0 {
        return Err(DecodeError::Invalid { what: "set of an answer's flags", value: flags.into() });
    }
    Ok(FollowerReport {
        round,
        promise,
        wall: (flags & HAS_WALL != 0).then_some(wall),
        applied: (flags & HAS_APPLIED != 0).then_some(applied),
        durable_sequence: (flags & HAS_SEQUENCE != 0).then_some(sequence),
        has_forgotten: flags & HAS_FORGOTTEN != 0,
    })
}

/// Reads the message of a frame of this kind.
pub(super) fn get(
    from: &mut Decoder<impl Buf>,
    kind: MessageKind,
    version: Version,
) -> Result<Message, DecodeError> {
    let sender = NodeId(from.u64("a message's sender")?);
    let to = NodeId(from.u64("a message's receiver")?);
    let term = Term(from.u64("a message's term")?);
    Ok(Message { from: sender, to, term, body: get_body(from, kind, version)? })
}

fn get_body(
    from: &mut Decoder<impl Buf>,
    kind: MessageKind,
    version: Version,
) -> Result<Body, DecodeError> {
    if version < Version::V3 && !kind.is_in_version_2() {
        return Err(DecodeError::Invalid { what: "kind of frame", value: kind as u64 });
    }
    Ok(match kind {
        MessageKind::RequestPreVote => Body::RequestPreVote {
            last_index: index(from, "a last index")?,
            last_term: term(from, "a last term")?,
        },
        MessageKind::RequestVote => Body::RequestVote {
            last_index: index(from, "a last index")?,
            last_term: term(from, "a last term")?,
            is_transfer: from.flag("mark of a transfer")?,
        },
        MessageKind::TimeoutNow => Body::TimeoutNow,
        MessageKind::PreVote => Body::PreVote {
            campaign_term: term(from, "a campaign's term")?,
            granted: from.flag("answer to a vote")?,
        },
        MessageKind::Vote => Body::Vote { granted: from.flag("answer to a vote")? },
        MessageKind::Heartbeat | MessageKind::AppendEntries => Body::AppendEntries(Append {
            previous_index: index(from, "a previous index")?,
            previous_term: term(from, "a previous term")?,
            commit: index(from, "a commit index")?,
            echo: get_echo(from, version)?,
            entries: if kind == MessageKind::Heartbeat {
                Entries::new()
            } else {
                codec::get_entries(from)?
            },
        }),
        MessageKind::Appended => Body::Appended {
            matched: index(from, "a matched index")?,
            report: get_report(from, version)?,
        },
        MessageKind::Rejected => Body::Rejected {
            previous_index: index(from, "a previous index")?,
            hint_index: index(from, "a hint")?,
            hint_term: term(from, "a hint's term")?,
            report: get_report(from, version)?,
        },
        MessageKind::RequestReadIndex => Body::RequestReadIndex {
            request: from.u64("a request's number")?,
            may_lease: from.flag("word on leases")?,
        },
        MessageKind::ReadIndex => {
            let request = from.u64("a request's number")?;
            let is_known = from.flag("answer to a read")?;
            let index = index(from, "a read index")?;
            Body::ReadIndex { request, index: is_known.then_some(index) }
        }
        MessageKind::InstallSnapshot => {
            let (index, term) =
                (index(from, "a snapshot's index")?, term(from, "a snapshot's term")?);
            let stamp = Stamp(from.u64("a snapshot's stamp")?);
            let mut configuration = codec::get_configuration(from)?;
            let mut digest = None;
            if version >= Version::V3 {
                codec::get_feature_levels(from, &mut configuration)?;
                digest = codec::get_digest(from)?;
            }
            let echo = get_echo(from, version)?;
            let (offset, total_bytes) =
                (from.u64("a piece's offset")?, from.u64("a snapshot's length")?);
            let chunk = Chunk { offset, total_bytes, data: from.rest() };
            let meta = Box::new(SnapshotMeta { index, term, stamp, configuration, digest });
            Body::InstallSnapshot { meta, chunk, echo }
        }
        MessageKind::SnapshotProgress => Body::SnapshotProgress {
            index: index(from, "a snapshot's index")?,
            received_bytes: from.u64("a snapshot's progress")?,
            report: get_report(from, version)?,
        },
        MessageKind::Forgot => Body::Forgot { last_index: index(from, "a last index")? },
        MessageKind::CommittedConflict => Body::CommittedConflict {
            index: index(from, "an index")?,
            log_term: term(from, "a term")?,
        },
        MessageKind::StateDigest => Body::StateDigest(get_state_digest(from)?),
        MessageKind::StateDigests => {
            let count = from.u32("a count of digests")?;
            let digests = (0..count).map(|_| {
                let node = NodeId(from.u64("a member")?);
                Ok((node, get_state_digest(from)?))
            });
            Body::StateDigests(Box::new(digests.collect::<Result<_, DecodeError>>()?))
        }
        MessageKind::Forward | MessageKind::Forwarded | MessageKind::ForwardAdmin => {
            return Err(DecodeError::Invalid {
                what: "kind of a core's message",
                value: kind as u64,
            });
        }
    })
}

fn index(from: &mut Decoder<impl Buf>, what: &'static str) -> Result<Index, DecodeError> {
    from.u64(what).map(Index)
}

fn term(from: &mut Decoder<impl Buf>, what: &'static str) -> Result<Term, DecodeError> {
    from.u64(what).map(Term)
}
