//! The members of the cluster: the `RAFT …` requests of clients that list and change them, and
//! `raft member` and `raft transfer`, which send these requests.

pub(crate) mod cli;
pub(crate) mod listing;
mod priorities;
pub(crate) mod request;
