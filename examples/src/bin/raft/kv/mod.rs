//! The replicated key-value store.
//!
//! Its operations ([`operation`]) and their effects ([`effect`]), the state machine ([`store`]),
//! its map ([`buckets`], [`scan`]) and digest ([`digest`]), keys that expire ([`expiry`]), and
//! snapshots ([`snapshot`]).

mod buckets;
mod counts;
mod digest;
mod effect;
pub(crate) mod expiry;
pub(crate) mod operation;
mod quick;
mod scan;
mod snapshot;
mod store;

pub(crate) use counts::Counts;
pub(crate) use scan::Pattern;
pub(crate) use store::{Store, is_undecided};
