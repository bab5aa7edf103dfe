//! The first message of each side of a link: its identity or, for a caller that is not admitted,
//! the reason.

use std::ops::RangeInclusive;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Version, WireError};
use crate::storage::codec::{self, DecodeError, Decoder};
use crate::types::{
    ADDRESS_BYTES_MAX, ClusterId, DiskId, FeatureLevel, GroupId, Identity, Index, Life,
    LogPosition, NodeId,
};

/// The longest metadata of a [`Hello`], in bytes.
pub const HELLO_METADATA_BYTES_MAX: usize = 1024;

/// The longest reason of a [`WireError::Refused`], in bytes; the rest is cut off.
const REASON_BYTES_MAX: usize = 1024;

/// It contains a line's end, so that anything that rewrites line ends is noticed at once.
const MAGIC: [u8; 8] = *b"kodiak\r\n";

const VERSION_AT: usize = MAGIC.len();
const CHECKSUM_AT: usize = VERSION_AT + 4;
const BODY_AT: usize = CHECKSUM_AT + 4;
/// Of the longer version: kind, identity, versions, feature level, life, position, flags, and the
/// address's length.
const FIXED_BODY_BYTES: usize = 1 + codec::IDENTITY_BYTES + 3 * 2 + 5 * 8 + 1 + 1;
const BODY_BYTES_MAX: usize = FIXED_BODY_BYTES + ADDRESS_BYTES_MAX + HELLO_METADATA_BYTES_MAX;

const KIND_HELLO: u8 = 0;
const KIND_REFUSAL: u8 = 1;

const IS_BLANK: u8 = 1;
const HAS_FORGOTTEN: u8 = 2;

/// A node's description of itself for its peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// Its cluster. Others are rejected.
    pub cluster: ClusterId,
    /// Its group.
    pub group: GroupId,
    /// Its number.
    pub node: NodeId,
    /// Its disk: a node that comes back on another disk has forgotten its promises.
    pub disk: DiskId,
    /// Its life: by that a peer distinguishes a restarted node from one that only lost the link,
    /// and an older copy of a folder from the one that it has met. From version 2 comes the nonce
    /// alone; the count is 0.
    pub life: Life,
    /// The versions of the protocol that it speaks. From version 2 comes that alone.
    pub versions: RangeInclusive<Version>,
    /// The highest feature level that it supports; the base level from version 2.
    pub feature_level: FeatureLevel,
    /// How far its log was durable when this life began; absent from version 2.
    pub position: Option<LogPosition>,
    /// Whether its disk has forgotten what it had acknowledged, and it has not passed a fence yet.
    pub has_forgotten: bool,
    /// Whether it knows no term: it was never part of a cluster, or has forgotten it. A bootstrap
    /// needs this.
    pub is_blank: bool,
    /// Where it listens for its peers, `host:port`: a node that it calls can call back, even if it
    /// does not know it as a member yet. At most [`ADDRESS_BYTES_MAX`] bytes.
    pub address: String,
    /// Whatever the user wants the peers to know, such as the address for clients; at most
    /// [`HELLO_METADATA_BYTES_MAX`].
    pub metadata: Bytes,
}

/// Appends a hello to `out`, in a version that the other side is known or hoped to speak.
///
/// # Errors
/// [`WireError::MetadataTooLarge`], [`WireError::AddressTooLong`]; `out` is as it was then.
pub fn encode_hello(hello: &Hello, version: Version, out: &mut BytesMut) -> Result<(), WireError> {
    let bytes = hello.metadata.len();
    if bytes > HELLO_METADATA_BYTES_MAX {
        return Err(WireError::MetadataTooLarge { bytes, limit: HELLO_METADATA_BYTES_MAX });
    }
    let Ok(address_bytes) = u8::try_from(hello.address.len()) else {
        return Err(WireError::AddressTooLong {
            bytes: hello.address.len(),
            limit: ADDRESS_BYTES_MAX,
        });
    };
    put(out, version, |out| {
        out.put_u8(KIND_HELLO);
        let Hello { cluster, group, node, disk, .. } = *hello;
        codec::put_identity(out, &Identity { cluster, group, node, disk });
        if version >= Version::V3 {
            out.put_u16_le(hello.versions.start().0);
            out.put_u16_le(hello.versions.end().0);
            out.put_u16_le(hello.feature_level.0);
            codec::put_life(out, &hello.life);
            codec::put_position(out, &hello.position.unwrap_or_default());
            let blank = if hello.is_blank { IS_BLANK } else { 0 };
            out.put_u8(blank | if hello.has_forgotten { HAS_FORGOTTEN } else { 0 });
        } else {
            out.put_u64_le(hello.life.nonce);
            out.put_u8(u8::from(hello.is_blank));
        }
        out.put_u8(address_bytes);
        out.put_slice(hello.address.as_bytes());
        out.put_slice(&hello.metadata);
    });
    Ok(())
}

/// The answer to a node that is not let in, instead of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeRefusal<'a> {
    /// Why, and what to do. Past 1024 bytes it is cut off.
    pub reason: &'a str,
    /// Whether the reason is that the node was a member and was removed.
    pub is_removed: bool,
    /// The entry of the committed configuration that shows it.
    pub removed_at: Index,
}

/// Appends a refusal: [`decode_hello`] gives it as [`WireError::Refused`] at the other side.
pub fn encode_refusal(refusal: &HandshakeRefusal<'_>, version: Version, out: &mut BytesMut) {
    let cut = refusal.reason.floor_char_boundary(REASON_BYTES_MAX);
    put(out, version, |out| {
        out.put_u8(KIND_REFUSAL);
        out.put_u8(u8::from(refusal.is_removed));
        if version >= Version::V3 {
            out.put_u64_le(refusal.removed_at.0);
        }
        out.put_slice(&refusal.reason.as_bytes()[..cut]);
    });
}

/// Appends what comes before the body, and the body.
fn put(out: &mut BytesMut, version: Version, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&MAGIC);
    out.put_u16_le(version.0);
    out.put_u16_le(0);
    out.put_u32_le(0);
    body(out);
    let body_bytes = u16::try_from(out.len() - start - BODY_AT).expect("less than two KiB");
    out[start + VERSION_AT + 2..start + CHECKSUM_AT].copy_from_slice(&body_bytes.to_le_bytes());
    let checksum = checksum(&out[start..]);
    out[start + CHECKSUM_AT..start + BODY_AT].copy_from_slice(&checksum.to_le_bytes());
}

/// Takes a hello, and the version that it came in, off the front of `input`; `None` if it is not
/// all there yet. Other bytes are refused from the first wrong one on.
///
/// # Errors
/// [`WireError::Refused`] if the other side says that it does not let this one in; otherwise any
/// [`WireError`] but `FrameTooLarge`. The link must be closed.
pub fn decode_hello(input: &mut BytesMut) -> Result<Option<(Version, Hello)>, WireError> {
    let begun = input.len().min(MAGIC.len());
    if input[..begun] != MAGIC[..begun] {
        return Err(WireError::NotAPeer { found: input[..begun].escape_ascii().to_string() });
    }
    let Some(mut fields) = input.get(VERSION_AT..CHECKSUM_AT) else { return Ok(None) };
    let version = Version(fields.get_u16_le());
    if !version.is_known() {
        return Err(WireError::Version { theirs: version });
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
        KIND_HELLO => {
            decode_body(from, version).map(|hello| Some((version, hello))).map_err(malformed)
        }
        KIND_REFUSAL => {
            let is_removed = from.flag("whether it was removed").map_err(malformed)?;
            let removed_at = match version {
                Version::V2 => None,
                _ => Some(Index(from.u64("the entry of a removal").map_err(malformed)?)),
            };
            let reason = String::from_utf8_lossy(&from.rest()).into_owned();
            Err(WireError::Refused { reason, is_removed, removed_at })
        }
        kind => Err(malformed(DecodeError::Invalid { what: "kind of hello", value: kind.into() })),
    }
}

/// Copies what it keeps: a hello outlives the buffer it came in.
fn decode_body(mut from: Decoder<&[u8]>, version: Version) -> Result<Hello, DecodeError> {
    let Identity { cluster, group, node, disk } = codec::get_identity(&mut from)?;
    let fields = if version >= Version::V3 {
        VersionedFields::get(&mut from)?
    } else {
        VersionedFields::get_v2(&mut from)?
    };
    let VersionedFields { versions, feature_level, life, position, is_blank, has_forgotten } =
        fields;
    let mut address = vec![0; from.u8("an address's length")?.into()];
    for byte in &mut address {
        *byte = from.u8("an address")?;
    }
    let address = String::from_utf8(address)
        .map_err(|_| DecodeError::Invalid { what: "address", value: 0 })?;
    let metadata = from.rest();
    Ok(Hello {
        cluster,
        group,
        node,
        disk,
        life,
        versions,
        feature_level,
        position,
        has_forgotten,
        is_blank,
        address,
        metadata,
    })
}

/// What versions say differently.
struct VersionedFields {
    versions: RangeInclusive<Version>,
    feature_level: FeatureLevel,
    life: Life,
    position: Option<LogPosition>,
    is_blank: bool,
    has_forgotten: bool,
}

impl VersionedFields {
    fn get(from: &mut Decoder<&[u8]>) -> Result<VersionedFields, DecodeError> {
        let versions = Version(from.u16("a version")?)..=Version(from.u16("a version")?);
        let feature_level = FeatureLevel(from.u16("a feature level")?);
        let (life, position) = (codec::get_life(from)?, codec::get_position(from)?);
        let flags = from.u8("a hello's flags")?;
        if flags & !(IS_BLANK | HAS_FORGOTTEN) != 0 {
            return Err(DecodeError::Invalid {
                what: "set of a hello's flags",
                value: flags.into(),
            });
        }
        let (is_blank, has_forgotten) = (flags & IS_BLANK != 0, flags & HAS_FORGOTTEN != 0);
        Ok(VersionedFields {
            versions,
            feature_level,
            life,
            position: Some(position),
            is_blank,
            has_forgotten,
        })
    }

    fn get_v2(from: &mut Decoder<&[u8]>) -> Result<VersionedFields, DecodeError> {
        let life = Life { count: 0, nonce: from.u64("an incarnation")? };
        let is_blank = from.flag("word on what a node knows")?;
        let (versions, feature_level) = (Version::V2..=Version::V2, FeatureLevel::BASE);
        Ok(VersionedFields {
            versions,
            feature_level,
            life,
            position: None,
            is_blank,
            has_forgotten: false,
        })
    }
}

/// Of a whole hello, its checksum left out.
fn checksum(whole: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&whole[..CHECKSUM_AT]), &whole[BODY_AT..])
}

fn malformed(source: DecodeError) -> WireError {
    WireError::Malformed { what: "hello", source }
}
