//! Errors of encoding and decoding.

use super::Version;
use crate::storage::codec::DecodeError;
use crate::types::Index;

/// Why bytes from a peer cannot be decoded, or a message to one cannot be encoded. After an error
/// of decoding the link must be closed: where the next frame begins is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The other side does not speak this protocol.
    #[error(
        "not a Kodiak peer: it began with \"{found}\"; is a client, or another service, using the \
        peers' port?"
    )]
    NotAPeer {
        /// Its first bytes, escaped.
        found: String,
    },
    /// The peer speaks no version that this node knows.
    #[error(
        "the peer speaks version {theirs} of the protocol, this node versions {} to {}: run \
        versions that share one",
        Version::OLDEST,
        Version::NEWEST
    )]
    Version {
        /// The peer's.
        theirs: Version,
    },
    /// The link's version has no such message; nothing was written.
    #[error("version {version} of the protocol has no such message")]
    UnsupportedMessage {
        /// The link's version.
        version: Version,
    },
    /// Bytes were changed on the way.
    #[error("the checksum of a {what} does not match: its bytes were changed on the way")]
    Checksum {
        /// A frame, or the hello.
        what: &'static str,
    },
    /// A frame is larger than one may be.
    #[error("a frame of {bytes} bytes exceeds FRAME_BYTES_MAX ({limit} bytes)")]
    FrameTooLarge {
        /// Its length, without the eight bytes before its kind.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// A hello's metadata are longer than they may be.
    #[error("metadata of {bytes} bytes exceed HELLO_METADATA_BYTES_MAX ({limit} bytes)")]
    MetadataTooLarge {
        /// Their length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A hello's address is longer than it may be.
    #[error("an address of {bytes} bytes exceeds ADDRESS_BYTES_MAX ({limit} bytes)")]
    AddressTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The other side does not let this one in.
    #[error("rejected: {reason}")]
    Refused {
        /// Why, and what to do, as the other side states it.
        reason: String,
        /// Whether the reason is that this node was a member and was removed.
        is_removed: bool,
        /// The entry of the configuration that shows it; absent from a peer that does not say.
        removed_at: Option<Index>,
    },
    /// A whole frame cannot be decoded: a bug of the peer, or of this node.
    #[error("a {what} is malformed")]
    Malformed {
        /// A frame, or the hello.
        what: &'static str,
        /// Why it cannot be decoded.
        source: DecodeError,
    },
}
