//! Who belongs to the cluster: asked and changed by `RAFT …` requests of any client, and by `raft
//! member` and `raft transfer`, which send them.

pub(crate) mod cli;
pub(crate) mod listing;
mod precedence;
pub(crate) mod request;
