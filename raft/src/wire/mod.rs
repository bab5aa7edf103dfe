//! The frames between nodes: bytes to messages and back, nothing else. Sockets, and who may connect, are the node's.
//!
//! A link begins with one [`Hello`] in each direction; frames with one [`PeerMessage`](crate::replica::PeerMessage) each
//! follow. All numbers are little-endian; what entries look like is said in [`storage::codec`](crate::storage::codec).
//!
//! ```text
//! hello    magic "kodiak\r\n" | version u16 | length u16 | crc32c u32 | 0 u8 |
//!          cluster u128 | group u64 | node u64 | disk u128 | incarnation u64 | is blank u8 | length u8 | address ... | metadata ...
//! refusal  the same up to the checksum | 1 u8 | was removed u8 | reason ...      instead of a hello, to whom is not let in
//! frame    length u32 | crc32c u32 | group u64 | kind u8 | body ...
//! ```
//!
//! The body of a message between cores is said in `message`. A command that is forwarded is `request u64` and what
//! [`storage::codec::put_proposal`](crate::storage::codec::put_proposal) writes; its answer `request u64` and what `outcome`
//! says.
//!
//! The length counts what follows the checksum; the checksum covers all other bytes of the hello or the frame. TCP's own
//! sixteen-bit sum lets one damaged segment in some tens of thousands through, and a log must not take it in.
//!
//! The magic and the version come first and never change their places, so that nodes of any two versions can tell each
//! other why they do not talk. Every other change of these bytes is a new [`VERSION`].

mod admin;
mod error;
mod frame;
mod hello;
mod message;
mod outcome;
#[cfg(test)]
mod tests;

pub use error::WireError;
pub use frame::{FRAME_BYTES_MAX, decode, encode};
pub use hello::{HELLO_METADATA_BYTES_MAX, Hello, VERSION, decode_hello, encode_hello, encode_refusal};
