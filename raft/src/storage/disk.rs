//! What the log needs of a disk: a folder of files, positional reads and writes, and the two syncs
//! that make data and names durable. [`RealDisk`](super::RealDisk) is a folder of the operating
//! system; the simulator brings its own.
//!
//! What an implementation must promise, because recovery rests on it:
//!
//! - Bytes written to a file are durable once a later [`DiskFile::sync`] of that file has
//!   succeeded. Before that, a crash may keep any of them, in any order, torn at any byte.
//! - A name created, renamed or removed is durable once a later [`Disk::sync_directory`] has
//!   succeeded. Before that, a crash may keep the old or the new state of each name. A rename is
//!   atomic: a crash keeps all of it or nothing, so a file has one of the two names, never none and
//!   never both.
//! - Reads see what the same process has written, synced or not.

use std::io;

/// A folder of files. Names are plain: no separators, nothing hidden.
pub trait Disk {
    /// An open file of this disk.
    type File: DiskFile;

    /// Makes a file of `preallocate_bytes` zero bytes and opens it for reading and writing. Files
    /// may grow past that.
    ///
    /// # Errors
    /// `AlreadyExists` if there is such a name, and whatever the system says.
    fn create(&mut self, name: &str, preallocate_bytes: u64) -> io::Result<Self::File>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if there is no such name, and whatever the system says.
    fn open(&mut self, name: &str) -> io::Result<Self::File>;

    /// Gives a file a new name, atomically; a file that had the name before is gone.
    ///
    /// # Errors
    /// `NotFound` if there is no file `from`, and whatever the system says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    /// `NotFound` if there is no such name, and whatever the system says.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// All names, in any order.
    ///
    /// # Errors
    /// Whatever the system says.
    fn list(&mut self) -> io::Result<Vec<String>>;

    /// Makes all names durable as they are now.
    ///
    /// # Errors
    /// Whatever the system says; what is durable then is unknown.
    fn sync_directory(&mut self) -> io::Result<()>;
}

/// An open file. Positions are bytes from its start.
#[expect(
    clippy::len_without_is_empty,
    reason = "a preallocated file is never empty; its length says what was reserved"
)]
pub trait DiskFile {
    /// Reads at `offset` into `buffer` until it is full or the file ends; says how many bytes it
    /// read.
    ///
    /// # Errors
    /// Whatever the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. Durable only after [`sync`](Self::sync).
    ///
    /// # Errors
    /// Whatever the system says; any part of `bytes` may have been written.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes zeros over bytes `from..to` of a file that was made with [`Disk::create`], so that it
    /// has its blocks before it is needed. Durable only after [`sync`](Self::sync).
    ///
    /// # Errors
    /// Whatever the system says; any part may have been written.
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
    /// Whatever the system says; what is durable then is unknown, and trying again proves nothing.
    fn sync(&mut self) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// Whatever the system says.
    fn len(&self) -> io::Result<u64>;
}
