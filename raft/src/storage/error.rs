//! What can go wrong with a log, in words for the operator.

use std::fmt;
use std::io;

#[cfg(unix)]
use super::special_file::SpecialFile;
use crate::error_chain::error_chain;
use crate::types::Index;

/// Why the log could not be opened, read or written.
///
/// `Clone`, so that every later caller gets the first failure. The text does not repeat the cause:
/// print both with [`error_chain`](crate::error_chain()).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The folder holds no log.
    #[error("the folder holds no log: give the folder of an existing node, or create a log")]
    NoLog,
    /// The folder holds a log already.
    #[error("the folder holds a log already ({file}): open it, or choose an empty folder")]
    AlreadyExists {
        /// One of the log's files.
        file: String,
    },
    /// The disk refused an operation.
    #[error("cannot {operation} {file} ({})", advice(source.kind()))]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file.
        file: String,
        /// The system's error.
        source: IoError,
    },
    /// A name of the node's files stands for something that is not a file the node can use.
    #[error(
        "{file} is {what}. A node creates only regular files, which its user can read and write. \
         Move it away, or give it to the node's user, and start the node again; if it took the \
         place of one of the node's files, restore that file"
    )]
    SpecialFile {
        /// The name.
        file: String,
        /// What it is: a FIFO, a directory, a file of another user with its mode, ...
        what: String,
    },
    /// The log is damaged where it was known to be durable.
    ///
    /// A node that started from it would forget what it has promised.
    #[error(
        "{file} is damaged at byte {offset}: {what}. This part was known to be on disk, so the \
         node must not start from it. Restore the disk, or replace this node by a new one with a \
         new id and an empty folder. If the majority of its cluster is permanently lost, use \
         'raft recover'"
    )]
    Corrupt {
        /// The damaged file.
        file: String,
        /// Where the damage begins, in bytes from the file's start.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The log ends before the frame that `SYNCED` says was durable.
    ///
    /// Its last segment was cut short, overwritten or removed, or an older copy of the log was
    /// restored. A node that started from it would forget what it has promised.
    #[error(
        "the end of the log is lost at byte {offset} of {file}: {what}. SYNCED says that more was \
         on disk: {}. It may have been acknowledged, so the node must not start without it. Delete \
         nothing, and look at the folder with 'raft inspect'. Then replace this node by a new one \
         with a new id and an empty folder; if the majority of its cluster is permanently lost, \
         use 'raft recover'",
        lost(*last_kept, *last_known)
    )]
    EndLost {
        /// The file in which the log ends, or the first one that is missing.
        file: String,
        /// Where the log ends in it, in bytes.
        offset: u64,
        /// What is found there.
        what: String,
        /// The last entry that is left.
        last_kept: Index,
        /// The last entry that is known to have been durable. There may have been later ones.
        last_known: Index,
    },
    /// The file is in a format that this version does not read.
    #[error(
        "{file} is in format {version}, and this program reads up to format {newest}: use the \
         version that wrote it"
    )]
    Unsupported {
        /// The file.
        file: String,
        /// Its format.
        version: u8,
        /// The newest format that this program reads.
        newest: u8,
    },
    /// A write does not fit a frame.
    #[error(
        "a write of {bytes} bytes exceeds MAX_FRAME_BYTES ({limit} bytes): propose smaller batches"
    )]
    TooLarge {
        /// The write's size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A write contradicts the log. The caller is wrong, and nothing was written.
    #[error("the write contradicts the log: {what}")]
    Rejected {
        /// What contradicts what.
        what: String,
    },
    /// An earlier operation failed, so what is on disk is unknown until the log is opened again.
    #[error("the log has failed and does nothing more; start the node again")]
    Poisoned {
        /// The first failure.
        source: Box<StorageError>,
    },
    /// The thread that runs the log has panicked.
    #[error("the storage thread has panicked; start the node again")]
    ThreadPanicked,
}

/// The system's error: its kind and its text.
///
/// Unlike [`io::Error`] it can be cloned and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoError {
    kind: io::ErrorKind,
    text: String,
}

impl IoError {
    /// The kind of error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.kind
    }
}

impl From<&io::Error> for IoError {
    fn from(error: &io::Error) -> IoError {
        IoError { kind: error.kind(), text: error_chain(error) }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for IoError {}

/// What is lost after entry `last_kept`.
fn lost(last_kept: Index, last_known: Index) -> String {
    if last_known > last_kept {
        format!("entries from {} on are lost, at least up to {last_known}", last_kept.next())
    } else {
        format!("a term or a vote is lost, which was written after entry {last_known}")
    }
}

/// What an operator can do about a disk that refuses.
fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space and start the node again: nothing that it has promised is lost"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "the node's user must be able to write the data folder and everything in it"
        }
        io::ErrorKind::NotFound => {
            "another program has changed the data folder: start the node again to have it checked"
        }
        _ => "see the system's log for what is wrong with the disk, and start the node again then",
    }
}

impl StorageError {
    /// The error of an operation on a file.
    pub(super) fn io(operation: &'static str, file: &str, error: &io::Error) -> StorageError {
        #[cfg(unix)]
        if let Some(SpecialFile(what)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return StorageError::SpecialFile { file: file.to_owned(), what: what.clone() };
        }
        StorageError::Io { operation, file: file.to_owned(), source: error.into() }
    }

    pub(super) fn corrupt(file: &str, offset: u64, what: impl Into<String>) -> StorageError {
        StorageError::Corrupt { file: file.to_owned(), offset, what: what.into() }
    }
}
