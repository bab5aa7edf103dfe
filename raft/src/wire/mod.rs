//! The frames between nodes: bytes to messages and back. Sockets, and who may
//! connect, are the node's.
//!
//! A link begins with one [`Hello`] in each direction; frames with one
//! [`PeerMessage`](crate::replica::PeerMessage) each follow. All numbers are little-endian; what
//! entries look like is said in [`storage::codec`](crate::storage::codec).
//!
//! ```text
//! hello    magic "kodiak\r\n" | version u16 | length u16 | crc32c u32 | 0 u8 |
//!          cluster u128 | group u64 | node u64 | disk u128 |
//!   2      incarnation u64 | is blank u8 | length u8 | address ... | metadata ...
//!   3      oldest version u16 | newest version u16 | feature level u16 | life count u64 |
//!          life nonce u64 | sequence u64 | term u64 | last index u64 | flags u8 | length u8 |
//!          address ... | metadata ...
//! refusal  the same up to the checksum | 1 u8 | was removed u8 | reason ...
//!   3      1 u8 | was removed u8 | removed at u64 | reason ...
//! frame    length u32 | crc32c u32 | group u64 | kind u8 | body ...
//! ```
//!
//! The body of a message between cores is said in `message`. A command that is forwarded is
//! `request u64` and what [`storage::codec::put_proposal`](crate::storage::codec::put_proposal)
//! writes; its answer `request u64` and what `outcome` says.
//!
//! The length counts what follows the checksum; the checksum covers all other bytes of the hello or
//! the frame. TCP's own 16-bit checksum lets one damaged segment in some tens of thousands through,
//! which must not reach a log.
//!
//! A refusal takes the place of a hello, for a node that is not let in.
//!
//! # Versions
//!
//! The magic and the version come first and never change their places, so that nodes of any two
//! versions can tell each other why they do not talk. Every other change of these bytes is a new
//! [`Version`]. The node that connects sends its hello in its newest version. The other side
//! answers in the same version, if it knows that. If it hangs up after the hello, the node connects
//! again with the oldest version. After that the link uses the lower one of the two sides' newest
//! versions. A message that the version cannot encode ([`can_encode`]) is not sent.

mod admin;
mod error;
mod frame;
mod hello;
mod message;
mod outcome;
#[cfg(test)]
mod tests;

pub use error::WireError;
mod version;

pub use frame::{FRAME_BYTES_MAX, can_encode, decode, encode};
pub use hello::{
    HELLO_METADATA_BYTES_MAX, HandshakeRefusal, Hello, decode_hello, encode_hello, encode_refusal,
};
pub use version::Version;
