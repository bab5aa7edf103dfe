//! The replicated key-value store: its operations, as they stand in the log ([`operation`]) and what
//! they do ([`effect`]), the state machine that carries them out ([`store`]), with its map
//! ([`buckets`], [`scan`]) and digest ([`digest`]), keys that expire ([`expiry`]) and its snapshots
//! ([`snapshot`]).

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
pub(crate) use store::{Store, is_due};
