//! The log: appends, syncs and reads.

use std::fmt;

use super::{Disk, LogOptions, StorageError};
use crate::core::Fetch;
use crate::types::{Configuration, Entry, Identity, Saved, Write};

/// What was found on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whom the log belongs to.
    pub identity: Identity,
    /// What the core continues from.
    pub saved: Saved,
}

/// A log on a disk.
pub struct Log<D: Disk> {
    disk: D,
    options: LogOptions,
}

impl<D: Disk> fmt::Debug for Log<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl<D: Disk> Log<D> {
    /// Makes the log of a new node.
    ///
    /// # Errors
    /// [`StorageError::AlreadyExists`] if the disk holds a log; [`StorageError::Io`].
    pub fn create(
        disk: D,
        identity: &Identity,
        founding: &Configuration,
        options: LogOptions,
    ) -> Result<Log<D>, StorageError> {
        let _ = (identity, founding);
        Ok(Log { disk, options })
    }

    /// Opens the log of a node that has run before.
    ///
    /// # Errors
    /// [`StorageError::NoLog`]...
    pub fn open(disk: D, options: LogOptions) -> Result<(Log<D>, Recovered), StorageError> {
        let _ = (disk, options);
        Err(StorageError::NoLog)
    }

    /// Opens the log if there is one, else makes it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and [`create`](Self::create).
    pub fn open_or_create(
        disk: D,
        options: LogOptions,
        birth: impl FnOnce() -> (Identity, Configuration),
    ) -> Result<(Log<D>, Recovered), StorageError> {
        let _ = birth();
        Self::open(disk, options)
    }

    /// Appends.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`]...
    pub fn append(&mut self, write: &Write) -> Result<(), StorageError> {
        let _ = (write, &mut self.disk, &self.options);
        Ok(())
    }

    /// Syncs.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`]...
    pub fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Marks.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`]...
    pub fn mark(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Reads.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`]...
    pub fn read(&mut self, fetch: &Fetch) -> Result<Vec<Entry>, StorageError> {
        let _ = fetch;
        Ok(Vec::new())
    }
}
