//! The first thing that each side of a link says: who it is.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::WireError;
use crate::storage::codec::{self, DecodeError, Decoder};
use crate::types::{ClusterId, DiskId, GroupId, Identity, NodeId};

/// The protocol's version.
pub const VERSION: u16 = 1;

/// The longest metadata of a [`Hello`], in bytes.
pub const HELLO_METADATA_BYTES_MAX: usize = 1024;

/// A line's end in it, so that anything which rewrites line ends is noticed at once.
const MAGIC: [u8; 8] = *b"kodiak\r\n";

const VERSION_AT: usize = MAGIC.len();
const CHECKSUM_AT: usize = VERSION_AT + 4;
const BODY_AT: usize = CHECKSUM_AT + 4;
const FIXED_BODY_BYTES: usize = codec::IDENTITY_BYTES + 8;

/// Who a node is, as it tells its peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// Its cluster. Others are turned away.
    pub cluster: ClusterId,
    /// Its group.
    pub group: GroupId,
    /// Its number.
    pub node: NodeId,
    /// Its disk: a node that comes back on another disk has forgotten its promises.
    pub disk: DiskId,
    /// Drawn at random at each start, so that a peer knows a restarted node from one that only lost the link.
    pub incarnation: u64,
    /// Whatever the user wants the peers to know, such as the address for clients; at most
    /// [`HELLO_METADATA_BYTES_MAX`].
    pub metadata: Bytes,
}

/// Appends a hello to `out`.
///
/// # Errors
/// [`WireError::MetadataTooLarge`]; `out` is as it was then.
pub fn encode_hello(hello: &Hello, out: &mut BytesMut) -> Result<(), WireError> {
    let bytes = hello.metadata.len();
    if bytes > HELLO_METADATA_BYTES_MAX {
        return Err(WireError::MetadataTooLarge { bytes, limit: HELLO_METADATA_BYTES_MAX });
    }
    let start = out.len();
    out.put_slice(&MAGIC);
    out.put_u16_le(VERSION);
    out.put_u16_le(u16::try_from(FIXED_BODY_BYTES + bytes).expect("a little over a KiB"));
    out.put_u32_le(0);
    let Hello { cluster, group, node, disk, .. } = *hello;
    codec::put_identity(out, &Identity { cluster, group, node, disk });
    out.put_u64_le(hello.incarnation);
    out.put_slice(&hello.metadata);
    let checksum = checksum(&out[start..]);
    out[start + CHECKSUM_AT..start + BODY_AT].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// Takes a hello off the front of `input`; `None` if it is not all there yet. What is no hello is told from its first wrong
/// byte on.
///
/// # Errors
/// Any [`WireError`] but `FrameTooLarge`. The link must be closed.
pub fn decode_hello(input: &mut BytesMut) -> Result<Option<Hello>, WireError> {
    let begun = input.len().min(MAGIC.len());
    if input[..begun] != MAGIC[..begun] {
        return Err(WireError::NotAPeer { found: input[..begun].escape_ascii().to_string() });
    }
    let Some(mut fields) = input.get(VERSION_AT..CHECKSUM_AT) else { return Ok(None) };
    let theirs = fields.get_u16_le();
    if theirs != VERSION {
        return Err(WireError::Version { theirs, ours: VERSION });
    }
    let body_bytes = usize::from(fields.get_u16_le());
    let Some(metadata_bytes) = body_bytes.checked_sub(FIXED_BODY_BYTES) else {
        return Err(malformed(DecodeError::Short { what: "the sender's identity" }));
    };
    if metadata_bytes > HELLO_METADATA_BYTES_MAX {
        return Err(WireError::MetadataTooLarge { bytes: metadata_bytes, limit: HELLO_METADATA_BYTES_MAX });
    }
    if input.len() < BODY_AT + body_bytes {
        return Ok(None);
    }
    let whole = input.split_to(BODY_AT + body_bytes);
    if checksum(&whole).to_le_bytes() != whole[CHECKSUM_AT..BODY_AT] {
        return Err(WireError::Checksum { what: "hello" });
    }
    decode_body(&whole[BODY_AT..]).map(Some).map_err(malformed)
}

/// Copies what it keeps: a hello outlives the buffer it came in.
fn decode_body(body: &[u8]) -> Result<Hello, DecodeError> {
    let mut from = Decoder::new(body);
    let Identity { cluster, group, node, disk } = codec::get_identity(&mut from)?;
    let incarnation = from.u64("an incarnation")?;
    let metadata = Bytes::copy_from_slice(&body[FIXED_BODY_BYTES..]);
    Ok(Hello { cluster, group, node, disk, incarnation, metadata })
}

/// Of a whole hello, its checksum left out.
fn checksum(whole: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&whole[..CHECKSUM_AT]), &whole[BODY_AT..])
}

fn malformed(error: DecodeError) -> WireError {
    WireError::Malformed { what: "hello", error }
}
