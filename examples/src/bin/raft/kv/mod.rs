//! The replicated key-value store: what a client may ask ([`command`]), how it stands in the log
//! ([`operation`]), and the state machine that carries it out ([`store`]), with its map
//! ([`buckets`], [`scan`]) and digest ([`digest`]), keys that expire ([`expiry`]) and its snapshots
//! ([`snapshot`]).

mod buckets;
pub(crate) mod command;
mod counts;
mod digest;
mod expiry;
mod expiry_command;
pub(crate) mod operation;
mod scan;
mod short;
mod snapshot;
mod store;

pub(crate) use counts::Counts;
pub(crate) use store::{Store, is_due};
