//! The disk that a log needs: a folder of files, and syncs that make data and names durable.
//!
//! [`RealDisk`](super::RealDisk) is a folder of the operating system. The simulator has its own.
//!
//! Recovery relies on these promises of an implementation:
//!
//! - Bytes written to a file are durable once a later [`DiskFile::sync`] of that file has
//!   succeeded. Before that, a crash may keep any of them, in any order, torn at any byte.
//! - The creation, renaming or removal of a name is durable once a later [`Disk::sync_directory`]
//!   has succeeded. Before that, a crash may keep the old or the new state of each name. A rename
//!   is atomic: after a crash the file has one of the two names, never none and never both.
//! - Reads see what the same process has written, synced or not.
//!
//! All functions return the errors of the system; their `# Errors` sections name only those that
//! the log relies on.

use std::io;

/// A folder of files. Names have no separators and no leading dot.
pub trait Disk {
    /// An open file of this disk.
    type File: DiskFile;

    /// Creates a file of `preallocate_bytes` zeros and opens it for reading and writing. The file
    /// may grow.
    ///
    /// # Errors
    /// `AlreadyExists` if the name exists.
    fn create(&mut self, name: &str, preallocate_bytes: u64) -> io::Result<Self::File>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if the name does not exist.
    fn open(&mut self, name: &str) -> io::Result<Self::File>;

    /// Renames a file, atomically. A file that had the new name is removed.
    ///
    /// # Errors
    /// `NotFound` if there is no file `from`.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    /// `NotFound` if the name does not exist.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// All names, in any order.
    ///
    /// # Errors
    /// Those of the system.
    fn list(&mut self) -> io::Result<Vec<String>>;

    /// Makes all names durable as they are now.
    ///
    /// # Errors
    /// Those of the system. Which names are durable is then unknown.
    fn sync_directory(&mut self) -> io::Result<()>;
}

/// An open file. Positions are bytes from its start.
#[expect(
    clippy::len_without_is_empty,
    reason = "a preallocated file is never empty: its length is what was reserved"
)]
pub trait DiskFile {
    /// Reads at `offset` until `buffer` is full or the file ends. Returns the number of bytes read.
    ///
    /// # Errors
    /// Those of the system.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. Durable only after [`sync`](Self::sync).
    ///
    /// # Errors
    /// Those of the system. Any part of `bytes` may have been written.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes zeros over bytes `from..to` of a file from [`Disk::create`], so that it has its
    /// blocks before it is needed. Durable only after [`sync`](Self::sync).
    ///
    /// # Errors
    /// Those of the system. Any part may have been written.
    fn fill(&mut self, from: u64, to: u64) -> io::Result<()> {
        let zeros = [0; 4096];
        let mut at = from;
        while at < to {
            let bytes = (to - at).min(zeros.len() as u64);
            self.write_at(&zeros[..usize::try_from(bytes).expect("at most 4096")], at)?;
            at += bytes;
        }
        Ok(())
    }

    /// Makes all bytes written so far durable (`fdatasync`).
    ///
    /// # Errors
    /// Those of the system. What is durable is then unknown, and a second sync that succeeds proves
    /// nothing.
    fn sync(&mut self) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// Those of the system.
    fn len(&self) -> io::Result<u64>;
}
