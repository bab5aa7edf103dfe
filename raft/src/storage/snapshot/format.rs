//! The bytes of a snapshot's file.
//!
//! ```text
//! header   checksum u32 | magic u32 | length u32 | version u8 | zero [3]
//!          | cluster, group, index, term, stamp, configuration
//! block    checksum u32 | length u32 | data                     any number of blocks
//! trailer  checksum u32 | 0 u32 | bytes of all data u64
//! ```
//!
//! The checksums are a chain: each is CRC-32C of the checksum before it and of the rest of its own
//! part. So each part can be checked when it is read, and the trailer's checksum covers the whole
//! file.

use bytes::{Buf, BufMut};

use crate::storage::bounds::NUMBER_MAX;
use crate::storage::codec::{self, DecodeError, Decoder};
use crate::types::{ClusterId, GroupId, Identity, Index, SnapshotMeta, Stamp, Term};

/// The newest format that this version reads, written above the base feature level.
///
/// Feature levels and a digest of the state follow the configuration.
pub(super) const VERSION: u8 = 2;

/// The format that is written while the cluster is at the base feature level.
pub(super) const BASE_VERSION: u8 = 1;

const MAGIC: u32 = u32::from_le_bytes(*b"KdkS");

/// The bytes before the header's body.
pub(super) const PREFIX_BYTES: usize = 16;

/// The bytes before a block's data.
pub(super) const BLOCK_PREFIX_BYTES: usize = 8;

/// A trailer's length.
pub(super) const TRAILER_BYTES: usize = 16;

/// The data in a block as written; the last block may be shorter.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// The longest block and the longest header that are read. A greater length is damage.
pub(super) const MAX_BLOCK_BYTES: usize = 1 << 20;

/// Which cluster and group the snapshot belongs to, and what it includes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::storage) struct SnapshotHeader {
    pub(in crate::storage) cluster: ClusterId,
    pub(in crate::storage) group: GroupId,
    pub(in crate::storage) meta: SnapshotMeta,
}

impl SnapshotHeader {
    /// The header of a snapshot of this log. It does not name the node, so every node may send it
    /// on.
    pub(in crate::storage) fn new(identity: &Identity, meta: SnapshotMeta) -> SnapshotHeader {
        SnapshotHeader { cluster: identity.cluster, group: identity.group, meta }
    }

    /// Appends the header and returns its checksum, the first of the chain.
    pub(in crate::storage) fn put(&self, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        out.put_bytes(0, PREFIX_BYTES);
        out.put_u128_le(self.cluster.0);
        out.put_u64_le(self.group.0);
        out.put_u64_le(self.meta.index.0);
        out.put_u64_le(self.meta.term.0);
        out.put_u64_le(self.meta.stamp.0);
        codec::put_configuration(out, &self.meta.configuration);
        let version = self.version();
        if version > BASE_VERSION {
            codec::put_feature_levels(out, &self.meta.configuration);
            codec::put_digest(out, self.meta.digest);
        }
        let body_bytes = out.len() - start - PREFIX_BYTES;
        let mut fields = &mut out[start + 4..start + PREFIX_BYTES];
        fields.put_u32_le(MAGIC);
        fields.put_u32_le(u32::try_from(body_bytes).expect("a configuration of less than 4 GiB"));
        fields.put_u8(version);
        let checksum = crc32c::crc32c(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }

    /// The format in which it is written.
    fn version(&self) -> u8 {
        if self.meta.configuration.feature_level.is_above_base() { VERSION } else { BASE_VERSION }
    }

    pub(super) fn get(body: &[u8], version: u8) -> Result<SnapshotHeader, DecodeError> {
        let mut from = Decoder::new(body);
        let mut header = SnapshotHeader {
            cluster: ClusterId(from.u128("a cluster id")?),
            group: GroupId(from.u64("a group id")?),
            meta: SnapshotMeta {
                index: Index(from.u64("a snapshot's index")?),
                term: Term(from.u64("a snapshot's term")?),
                stamp: Stamp(from.u64("a snapshot's stamp")?),
                configuration: codec::get_configuration(&mut from)?,
                digest: None,
            },
        };
        if version > BASE_VERSION {
            codec::get_feature_levels(&mut from, &mut header.meta.configuration)?;
            header.meta.digest = codec::get_digest(&mut from)?;
        }
        from.finish("a snapshot's header")?;
        if header.meta.index == Index(0) || header.meta.term == Term(0) {
            return Err(DecodeError::Invalid { what: "index or term of a snapshot", value: 0 });
        }
        if header.meta.index.0 > NUMBER_MAX {
            return Err(DecodeError::Invalid {
                what: "index of a snapshot",
                value: header.meta.index.0,
            });
        }
        Ok(header)
    }
}

/// The start of a file: checksum and length of the header's body, and its version.
pub(super) struct Prefix {
    pub(super) checksum: u32,
    pub(super) body_bytes: usize,
    pub(super) version: u8,
}

impl Prefix {
    /// Reads the prefix; `None` if these are not the first bytes of a snapshot.
    pub(super) fn get(mut bytes: &[u8]) -> Option<Prefix> {
        let checksum = bytes.try_get_u32_le().ok()?;
        let magic = bytes.try_get_u32_le().ok()?;
        let body_bytes = bytes.try_get_u32_le().ok()? as usize;
        let version = bytes.try_get_u8().ok()?;
        (magic == MAGIC).then_some(Prefix { checksum, body_bytes, version })
    }
}

/// Fills in the prefix of a block whose data follows [`BLOCK_PREFIX_BYTES`]. Returns its checksum.
pub(super) fn finish_block(block: &mut [u8], previous: u32) -> u32 {
    let data_bytes = u32::try_from(block.len() - BLOCK_PREFIX_BYTES).expect("blocks are short");
    assert!(data_bytes > 0, "an empty block would be taken for the trailer");
    block[4..8].copy_from_slice(&data_bytes.to_le_bytes());
    let checksum = chained(previous, &block[4..]);
    block[..4].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

/// The file's last bytes.
pub(in crate::storage) fn trailer(content_bytes: u64, previous: u32) -> [u8; TRAILER_BYTES] {
    let mut out = [0; TRAILER_BYTES];
    out[8..].copy_from_slice(&content_bytes.to_le_bytes());
    let checksum = chained(previous, &out[4..]);
    out[..4].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// The checksum of a part that follows one whose checksum is `previous`.
pub(super) fn chained(previous: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&previous.to_le_bytes()), bytes)
}
