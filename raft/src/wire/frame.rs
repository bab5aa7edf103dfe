//! Frames: a length, a checksum, a group, and one message.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::message::{self, MessageKind};
use super::{Version, WireError, admin, outcome};
use crate::replica::PeerMessage;
use crate::storage::codec::{self, DecodeError, Decoder};
use crate::types::GroupId;

/// The longest frame, in bytes, its length and checksum not counted. Messages are far shorter: some
/// `message_bytes`, or one command.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Length and checksum.
const PREFIX_BYTES: usize = 8;

/// The group. It comes before the kind, so that a link with many groups can be sorted by it alone.
const GROUP_BYTES: usize = 8;

/// Whether a version of the protocol can encode a message.
#[must_use]
pub fn can_encode(version: Version, message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Raft(message) => message::can_encode(version, &message.body),
        PeerMessage::ForwardAdmin { admin, .. } => admin::can_encode(version, admin),
        PeerMessage::Forward { .. } | PeerMessage::Forwarded { .. } => true,
    }
}

/// Appends a message between two members of a group to `out`, as one frame, in the link's version.
/// Allocates nothing if `out` has the room.
///
/// # Errors
/// [`WireError::FrameTooLarge`], [`WireError::UnsupportedMessage`]; `out` is as it was then.
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use kodiak_raft::replica::PeerMessage;
/// use kodiak_raft::types::GroupId;
/// use kodiak_raft::wire::{self, Version};
///
/// let mut link = BytesMut::new();
/// let proposal = Bytes::from_static(b"SET k v").into();
/// let message = PeerMessage::Forward { request: 7, proposal };
/// wire::encode(GroupId(0), &message, Version::NEWEST, &mut link)?;
/// assert_eq!(wire::decode(Version::NEWEST, &mut link)?, Some((GroupId(0), message)));
/// assert_eq!(wire::decode(Version::NEWEST, &mut link)?, None);
/// # Ok::<(), wire::WireError>(())
/// ```
pub fn encode(
    group: GroupId,
    message: &PeerMessage,
    version: Version,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    if !can_encode(version, message) {
        return Err(WireError::UnsupportedMessage { version });
    }
    let payload_bytes = payload_bytes(message);
    if payload_bytes > FRAME_BYTES_MAX {
        return Err(too_large(payload_bytes));
    }
    let start = out.len();
    out.put_bytes(0, PREFIX_BYTES);
    out.put_u64_le(group.0);
    match message {
        PeerMessage::Raft(message) => message::put(out, message, version),
        PeerMessage::Forward { request, proposal } => {
            out.put_u8(MessageKind::Forward as u8);
            out.put_u64_le(*request);
            codec::put_proposal(out, proposal);
        }
        PeerMessage::Forwarded { request, outcome } => {
            out.put_u8(MessageKind::Forwarded as u8);
            out.put_u64_le(*request);
            outcome::put(out, outcome, version);
        }
        PeerMessage::ForwardAdmin { request, admin } => {
            out.put_u8(MessageKind::ForwardAdmin as u8);
            out.put_u64_le(*request);
            admin::put(out, admin, version);
        }
    }
    let bytes = out.len() - start - PREFIX_BYTES;
    if bytes > FRAME_BYTES_MAX {
        out.truncate(start);
        return Err(too_large(bytes));
    }
    let length = u32::try_from(bytes).expect("at most 64 MiB").to_le_bytes();
    let checksum = checksum(&length, &out[start + PREFIX_BYTES..]).to_le_bytes();
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + PREFIX_BYTES].copy_from_slice(&checksum);
    Ok(())
}

/// Takes a message, and the group it belongs to, off the front of `input`; `None` if it is not all
/// there yet.
///
/// Commands and answers are slices of `input`'s memory, which stays until the last of them is
/// dropped. Messages without any (heartbeats, votes, acknowledgements) are decoded in place and
/// allocate nothing.
///
/// # Errors
/// [`WireError::FrameTooLarge`] as soon as the length is there, [`WireError::Checksum`],
/// [`WireError::Malformed`]. The link must be closed.
pub fn decode(
    version: Version,
    input: &mut BytesMut,
) -> Result<Option<(GroupId, PeerMessage)>, WireError> {
    let Some(&length) = input.first_chunk::<4>() else { return Ok(None) };
    let bytes = u32::from_le_bytes(length) as usize;
    if bytes > FRAME_BYTES_MAX {
        return Err(too_large(bytes));
    }
    let Some(body) = input.get(PREFIX_BYTES..PREFIX_BYTES + bytes) else { return Ok(None) };
    if checksum(&length, body).to_le_bytes() != input[4..PREFIX_BYTES] {
        return Err(WireError::Checksum { what: "frame" });
    }
    let malformed = |source| WireError::Malformed { what: "frame", source };
    let Some((&group, &[kind, ..])) = body.split_first_chunk::<GROUP_BYTES>() else {
        return Err(malformed(DecodeError::Short { what: "a frame's group and kind" }));
    };
    let group = GroupId(u64::from_le_bytes(group));
    let kind = MessageKind::of(kind).map_err(malformed)?;
    let message = if kind.has_payload() {
        let mut whole = input.split_to(PREFIX_BYTES + bytes).freeze();
        whole.advance(PREFIX_BYTES + GROUP_BYTES + 1);
        decode_payload(kind, version, whole)
    } else {
        let message = decode_plain(kind, version, &body[GROUP_BYTES + 1..]);
        input.advance(PREFIX_BYTES + bytes);
        message
    };
    message.map(|message| Some((group, message))).map_err(malformed)
}

fn decode_plain(
    kind: MessageKind,
    version: Version,
    body: &[u8],
) -> Result<PeerMessage, DecodeError> {
    let mut from = Decoder::new(body);
    let message = message::get(&mut from, kind, version)?;
    from.finish("a message")?;
    Ok(PeerMessage::Raft(message))
}

fn decode_payload(
    kind: MessageKind,
    version: Version,
    body: Bytes,
) -> Result<PeerMessage, DecodeError> {
    let mut from = Decoder::new(body);
    match kind {
        MessageKind::Forward => {
            let request = from.u64("a request's number")?;
            Ok(PeerMessage::Forward { request, proposal: codec::get_proposal(&mut from)? })
        }
        MessageKind::Forwarded => {
            let request = from.u64("a request's number")?;
            let outcome = outcome::get(&mut from, version)?;
            from.finish("an outcome")?;
            Ok(PeerMessage::Forwarded { request, outcome })
        }
        MessageKind::ForwardAdmin => {
            let request = from.u64("a request's number")?;
            let admin = admin::get(&mut from, version)?;
            from.finish("a change of membership")?;
            Ok(PeerMessage::ForwardAdmin { request, admin })
        }
        raft => {
            let message = message::get(&mut from, raft, version)?;
            from.finish("a message")?;
            Ok(PeerMessage::Raft(message))
        }
    }
}

/// What a message carries besides a few numbers, roughly. Checked first, so that a message that is
/// too large is not copied.
fn payload_bytes(message: &PeerMessage) -> usize {
    match message {
        PeerMessage::Raft(message) => message::payload_bytes(message),
        PeerMessage::Forward { proposal, .. } => proposal.command_bytes(),
        PeerMessage::Forwarded { outcome, .. } => outcome::payload_bytes(outcome),
        PeerMessage::ForwardAdmin { admin, .. } => admin.size_bytes(),
    }
}

fn too_large(bytes: usize) -> WireError {
    WireError::FrameTooLarge { bytes: bytes as u64, limit: FRAME_BYTES_MAX }
}

fn checksum(length: &[u8; 4], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(length), body)
}
