//! The first thing that each side of a link says: who it is; or, where the other side was called by somebody whom it does
//! not let in, why.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::WireError;
use crate::storage::codec::{self, DecodeError, Decoder};
use crate::types::{ADDRESS_BYTES_MAX, ClusterId, DiskId, GroupId, Identity, NodeId};

/// The protocol's version. 2: answers to a leader carry a promise's length, hellos whether a node is blank, sessions a salt.
pub const VERSION: u16 = 2;

/// The longest metadata of a [`Hello`], in bytes.
pub const HELLO_METADATA_BYTES_MAX: usize = 1024;

/// The longest reason of a [`WireError::Refused`], in bytes; the rest is cut off.
const REASON_BYTES_MAX: usize = 1024;

/// A line's end in it, so that anything which rewrites line ends is noticed at once.
const MAGIC: [u8; 8] = *b"kodiak\r\n";

const VERSION_AT: usize = MAGIC.len();
const CHECKSUM_AT: usize = VERSION_AT + 4;
const BODY_AT: usize = CHECKSUM_AT + 4;
/// Kind, identity, incarnation, blankness, and the address's length.
const FIXED_BODY_BYTES: usize = 1 + codec::IDENTITY_BYTES + 8 + 1 + 1;
const BODY_BYTES_MAX: usize = FIXED_BODY_BYTES + ADDRESS_BYTES_MAX + HELLO_METADATA_BYTES_MAX;

const KIND_HELLO: u8 = 0;
const KIND_REFUSAL: u8 = 1;

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
    /// It knows of no term: it was never part of a cluster, or has forgotten it. Founders want to know.
    pub is_blank: bool,
    /// Where it listens for its peers, `host:port`: whom it calls can call back, even if they do not know it as a member
    /// yet. At most [`ADDRESS_BYTES_MAX`] bytes.
    pub address: String,
    /// Whatever the user wants the peers to know, such as the address for clients; at most
    /// [`HELLO_METADATA_BYTES_MAX`].
    pub metadata: Bytes,
}

/// Appends a hello to `out`.
///
/// # Errors
/// [`WireError::MetadataTooLarge`], [`WireError::AddressTooLong`]; `out` is as it was then.
pub fn encode_hello(hello: &Hello, out: &mut BytesMut) -> Result<(), WireError> {
    let bytes = hello.metadata.len();
    if bytes > HELLO_METADATA_BYTES_MAX {
        return Err(WireError::MetadataTooLarge { bytes, limit: HELLO_METADATA_BYTES_MAX });
    }
    let Ok(address_bytes) = u8::try_from(hello.address.len()) else {
        return Err(WireError::AddressTooLong { bytes: hello.address.len(), limit: ADDRESS_BYTES_MAX });
    };
    put(out, |out| {
        out.put_u8(KIND_HELLO);
        let Hello { cluster, group, node, disk, .. } = *hello;
        codec::put_identity(out, &Identity { cluster, group, node, disk });
        out.put_u64_le(hello.incarnation);
        out.put_u8(u8::from(hello.is_blank));
        out.put_u8(address_bytes);
        out.put_slice(hello.address.as_bytes());
        out.put_slice(&hello.metadata);
    });
    Ok(())
}

/// Appends what is said instead of a hello to somebody who is not let in: [`decode_hello`] gives it as
/// [`WireError::Refused`] there. `is_removed`: because that node was a member and is none any more.
pub fn encode_refusal(reason: &str, is_removed: bool, out: &mut BytesMut) {
    let cut = reason.floor_char_boundary(REASON_BYTES_MAX);
    put(out, |out| {
        out.put_u8(KIND_REFUSAL);
        out.put_u8(u8::from(is_removed));
        out.put_slice(&reason.as_bytes()[..cut]);
    });
}

/// Appends what comes before the body, and the body.
fn put(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&MAGIC);
    out.put_u16_le(VERSION);
    out.put_u16_le(0);
    out.put_u32_le(0);
    body(out);
    let body_bytes = u16::try_from(out.len() - start - BODY_AT).expect("less than two KiB");
    out[start + VERSION_AT + 2..start + CHECKSUM_AT].copy_from_slice(&body_bytes.to_le_bytes());
    let checksum = checksum(&out[start..]);
    out[start + CHECKSUM_AT..start + BODY_AT].copy_from_slice(&checksum.to_le_bytes());
}

/// Takes a hello off the front of `input`; `None` if it is not all there yet. What is no hello is told from its first wrong
/// byte on.
///
/// # Errors
/// [`WireError::Refused`] if the other side says that it does not let this one in; otherwise any [`WireError`] but
/// `FrameTooLarge`. The link must be closed.
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
    if body_bytes > BODY_BYTES_MAX {
        return Err(WireError::MetadataTooLarge { bytes: body_bytes, limit: BODY_BYTES_MAX });
    }
    if input.len() < BODY_AT + body_bytes {
        return Ok(None);
    }
    let whole = input.split_to(BODY_AT + body_bytes);
    if checksum(&whole).to_le_bytes() != whole[CHECKSUM_AT..BODY_AT] {
        return Err(WireError::Checksum { what: "hello" });
    }
    let mut from = Decoder::new(&whole[BODY_AT..]);
    match from.u8("a hello's kind").map_err(malformed)? {
        KIND_HELLO => decode_body(from).map(Some).map_err(malformed),
        KIND_REFUSAL => {
            let is_removed = from.flag("whether it was removed").map_err(malformed)?;
            Err(WireError::Refused { reason: String::from_utf8_lossy(&from.rest()).into_owned(), is_removed })
        }
        kind => Err(malformed(DecodeError::Invalid { what: "kind of hello", value: kind.into() })),
    }
}

/// Copies what it keeps: a hello outlives the buffer it came in.
fn decode_body(mut from: Decoder<&[u8]>) -> Result<Hello, DecodeError> {
    let Identity { cluster, group, node, disk } = codec::get_identity(&mut from)?;
    let incarnation = from.u64("an incarnation")?;
    let is_blank = from.flag("word on what a node knows")?;
    let mut address = vec![0; from.u8("an address's length")?.into()];
    for byte in &mut address {
        *byte = from.u8("an address")?;
    }
    let address = String::from_utf8(address).map_err(|_| DecodeError::Invalid { what: "address", value: 0 })?;
    Ok(Hello { cluster, group, node, disk, incarnation, is_blank, address, metadata: from.rest() })
}

/// Of a whole hello, its checksum left out.
fn checksum(whole: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&whole[..CHECKSUM_AT]), &whole[BODY_AT..])
}

fn malformed(error: DecodeError) -> WireError {
    WireError::Malformed { what: "hello", error }
}
