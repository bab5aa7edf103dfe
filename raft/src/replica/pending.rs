//! Stand-ins for names of `core` and `storage` that have not landed yet. This file goes when they have.
#![allow(missing_docs)]
use crate::core::{Done, Fetch};
use crate::types::{NodeId, Write};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    Write(Write),
    Fetch(Fetch),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    Done(Done),
    Failed(StorageError),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub id: NodeId,
    pub seed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is invalid")]
pub struct ConfigError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreStatus;
