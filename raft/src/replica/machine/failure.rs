//! Failures of a state machine, as an operator reads them.

use std::{fmt, io};

use crate::error_chain::error_chain;
use crate::types::Index;

/// Why a state machine cannot continue.
///
/// It is for an entry that the machine must apply and cannot: a command of a newer version of the
/// program, a full disk of its own, a broken invariant. A command that is merely wrong (a bad
/// argument, a missing key) is no error: its answer says so to its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct MachineError {
    reason: String,
}

impl MachineError {
    /// An error with this reason, for the operator.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> MachineError {
        MachineError { reason: reason.into() }
    }
}

impl From<io::Error> for MachineError {
    fn from(error: io::Error) -> MachineError {
        MachineError::new(error_chain(&error))
    }
}

/// A method of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MachineCallback {
    /// [`StateMachine::apply`](super::super::StateMachine::apply).
    Apply,
    /// [`StateMachine::query`](super::super::StateMachine::query).
    Query,
    /// [`StateMachine::snapshot`](super::super::StateMachine::snapshot).
    Snapshot,
    /// [`StateMachine::restore`](super::super::StateMachine::restore).
    Restore,
    /// [`StateMachine::digest`](super::super::StateMachine::digest).
    Digest,
}

impl fmt::Display for MachineCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MachineCallback::Apply => "apply",
            MachineCallback::Query => "query",
            MachineCallback::Snapshot => "snapshot",
            MachineCallback::Restore => "restore",
            MachineCallback::Digest => "digest",
        })
    }
}

/// Where and why a state machine stopped.
///
/// The node still votes and acknowledges. It does not lead, answers no reads or writes, and takes
/// no snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MachineFailure {
    /// The method that failed.
    pub callback: MachineCallback,
    /// The entry that it could not apply, or the last entry that the snapshot includes.
    pub index: Index,
    /// The error, or the message of the panic.
    pub reason: String,
    /// Whether it panicked instead of returning an error.
    pub has_panicked: bool,
}

impl std::error::Error for MachineFailure {}

impl fmt::Display for MachineFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MachineFailure { callback, index, reason, has_panicked } = self;
        let what = match (callback, has_panicked) {
            (MachineCallback::Apply, false) => "refused entry",
            (MachineCallback::Apply, true) => "panicked at entry",
            (MachineCallback::Query, _) => "panicked in a query after entry",
            (MachineCallback::Snapshot, _) => "panicked at the snapshot of entry",
            (MachineCallback::Restore, false) => "cannot be restored from the snapshot of entry",
            (MachineCallback::Digest, false) => "differs from that of a majority after entry",
            (MachineCallback::Digest, true) => "panicked at the digest after entry",
            (MachineCallback::Restore, true) => "panicked when restored from the snapshot of entry",
        };
        write!(f, "the state machine {what} {index}: {reason}")
    }
}

/// An error or a panic of a call into the state machine.
pub(super) struct CallFailure {
    pub(super) reason: String,
    pub(super) has_panicked: bool,
}

impl CallFailure {
    pub(super) fn into_failure(self, callback: MachineCallback, index: Index) -> MachineFailure {
        let CallFailure { reason, has_panicked } = self;
        MachineFailure { callback, index, reason, has_panicked }
    }
}

impl From<String> for CallFailure {
    fn from(reason: String) -> CallFailure {
        CallFailure { reason, has_panicked: false }
    }
}

impl From<MachineError> for CallFailure {
    fn from(error: MachineError) -> CallFailure {
        CallFailure::from(error.reason)
    }
}

impl From<io::Error> for CallFailure {
    fn from(error: io::Error) -> CallFailure {
        CallFailure::from(error_chain(&error))
    }
}
