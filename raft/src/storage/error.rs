//! What can go wrong with a log, in words for the operator.

use std::io;

#[cfg(unix)]
use super::special_file::SpecialFile;
use crate::types::Index;

/// What went wrong with the log. `Clone`, so that the first failure can be told to everybody who
/// asks later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The folder holds no log.
    #[error("there is no log in this folder: give the folder of an existing node, or create a log")]
    NoLog,
    /// The folder holds a log already.
    #[error("there is a log in this folder already ({file}): open it, or choose an empty folder")]
    AlreadyExists {
        /// One of its files.
        file: String,
    },
    /// The disk refused an operation.
    #[error("cannot {operation} {file}: {text}. {}", advice(*kind))]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file.
        file: String,
        /// The system's error.
        kind: io::ErrorKind,
        /// The system's words.
        text: String,
    },
    /// Something in the folder has the name of one of the node's files and is none.
    #[error(
        "{file} is {what}: a node makes regular files only, which its user can read and write. Move it away, or give it back \
         to the node's user, and start the node again; if it stands in the place of a file of the node's, put that back"
    )]
    SpecialFile {
        /// Its name.
        file: String,
        /// What it is: a FIFO, a directory, a file of another user with its mode, ...
        what: String,
    },
    /// The log is damaged where it was known to be durable. Starting from it would forget what this
    /// node has promised.
    #[error(
        "{file} is damaged at byte {offset}: {what}. This part was known to be on disk, so the node must not start from \
         it: restore the disk, or replace this node by a new one with a new id and an empty folder or, if the majority of \
         its cluster is lost for good, use 'raft recover'"
    )]
    Corrupt {
        /// The damaged file.
        file: String,
        /// Where the damage begins, in bytes from the file's start.
        offset: u64,
        /// What does not fit.
        what: String,
    },
    /// The log ends before what `SYNCED` says was on the disk: its last segment was cut short,
    /// overwritten or removed, or the log was put back to an older state. Starting from it would
    /// forget what this node has promised.
    #[error(
        "the end of the log is lost at byte {offset} of {file}: {what}. SYNCED says that more was on disk: {}. It may have \
         been acknowledged, so the node must not start without it. Delete nothing and look at the folder with 'raft \
         inspect'; then replace this node by a new one with a new id and an empty folder or, if the majority of its cluster \
         is lost for good, use 'raft recover'", lost(*kept, *known)
    )]
    EndLost {
        /// The file in which the log ends, or the first one that is missing.
        file: String,
        /// Where the log ends in it, in bytes.
        offset: u64,
        /// What is found there.
        what: String,
        /// The last entry that is left.
        kept: Index,
        /// The last entry that is known to have been on the disk. There may have been later ones.
        known: Index,
    },
    /// The log was written in a format that this version does not read.
    #[error(
        "{file} is in log format {version}, this program knows format {known}: use the version that wrote it"
    )]
    Unsupported {
        /// The file.
        file: String,
        /// Its format.
        version: u8,
        /// The format this program writes.
        known: u8,
    },
    /// A write does not fit a frame.
    #[error(
        "a write of {bytes} bytes exceeds MAX_FRAME_BYTES ({limit} bytes): propose smaller batches"
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A write contradicts the log: the caller's mistake; nothing was written.
    #[error("the write does not fit the log: {what}")]
    Rejected {
        /// What contradicts what.
        what: String,
    },
    /// An earlier operation failed, so what is on disk is unknown: nothing more is done until the
    /// log is opened anew.
    #[error("the log has failed before and does nothing more until the node is restarted: {cause}")]
    Poisoned {
        /// The first failure's words.
        cause: String,
    },
}

/// What is gone after entry `kept`.
fn lost(kept: Index, known: Index) -> String {
    if known > kept {
        format!("entries from {} on are lost, {known} at least was there", kept.next())
    } else {
        format!("a term or a vote is lost, which was written after entry {known}")
    }
}

/// What an operator can do about a disk that refuses.
fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Free some space and start the node again: nothing that it has promised is lost"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "The node's user must be able to write the data folder and everything in it"
        }
        io::ErrorKind::NotFound => {
            "Somebody else has changed the data folder; start the node again to have it checked"
        }
        _ => {
            "See the system's log for what ails the disk, and start the node again once it is well"
        }
    }
}

impl StorageError {
    /// The disk's error with what was tried on which file.
    pub(super) fn io(operation: &'static str, file: &str, error: &io::Error) -> StorageError {
        #[cfg(unix)]
        if let Some(SpecialFile(what)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return StorageError::SpecialFile { file: file.to_owned(), what: what.clone() };
        }
        StorageError::Io {
            operation,
            file: file.to_owned(),
            kind: error.kind(),
            text: error.to_string(),
        }
    }

    pub(super) fn corrupt(file: &str, offset: u64, what: impl Into<String>) -> StorageError {
        StorageError::Corrupt { file: file.to_owned(), offset, what: what.into() }
    }
}
