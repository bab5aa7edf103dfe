//! Stand-ins for names of `storage` that have not landed yet. This file goes when they have.
#![allow(missing_docs)]
use crate::core::Fetch;
use crate::types::Write;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    Write(Write),
    Fetch(Fetch),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(pub String);
