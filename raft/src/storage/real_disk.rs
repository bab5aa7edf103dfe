//! A folder of the operating system as a [`Disk`].

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::snapshot::{self, SnapshotReader};
use super::{Disk, DiskFile, StorageError, special_file};
use crate::types::Index;

/// The file whose lock shows that a process uses the folder. Its content means nothing.
pub(super) const LOCK_NAME: &str = "LOCK";

/// How far ahead of the data a preallocated file is filled with zeros, in bytes.
///
/// The first write to a block costs the file system a journal entry. Filling a megabyte at a time
/// pays that once for a megabyte instead of at every sync. Filling the whole file at once would
/// delay a write for long.
const ZERO_AHEAD_BYTES: usize = 1 << 20;

/// The zeros to write ahead.
static ZEROS: [u8; ZERO_AHEAD_BYTES] = [0; ZERO_AHEAD_BYTES];

/// A folder of the operating system, locked against other processes while this value lives.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    directory: File,
    /// Holds the lock.
    _lock: File,
}

impl RealDisk {
    /// Opens a folder and locks it, with `flock` on its file `LOCK`. Creates the folder if
    /// necessary.
    ///
    /// The kernel releases the lock when the process ends, however it ends.
    ///
    /// # Errors
    /// `ResourceBusy` if another process, or another value in this one, has locked the folder; and
    /// errors of the system. Each names the folder.
    ///
    /// ```
    /// use kodiak_raft::storage::RealDisk;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let first = RealDisk::open(folder.path())?;
    /// assert!(RealDisk::open(folder.path()).is_err());
    /// drop(first);
    /// RealDisk::open(folder.path())?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn open(path: &Path) -> io::Result<RealDisk> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("data folder {}: {error}", path.display()))
        };
        create_folder(path).map_err(named)?;
        let lock = RealDisk::open_lock(&path.join(LOCK_NAME)).map_err(|error| {
            named(io::Error::new(error.kind(), format!("{LOCK_NAME}: {error}")))
        })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!(
                    "data folder {} is in use by another process: one folder serves one node. Stop \
                     that process, or give this node a folder of its own",
                    path.display()
                );
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            Err(TryLockError::Error(error)) => return Err(named(error)),
        }
        let directory = File::open(path).map_err(named)?;
        Ok(RealDisk { path: path.to_owned(), directory, _lock: lock })
    }

    fn open_lock(path: &Path) -> io::Result<File> {
        match special_file::open(path, OpenOptions::new().write(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                OpenOptions::new().write(true).create(true).truncate(false).open(path)
            }
            opened => opened,
        }
    }
}

/// Creates the folder if necessary, and makes its path durable by syncing every folder on it.
///
/// That is done at each opening, because the process that created a folder may have crashed before
/// the sync.
fn create_folder(path: &Path) -> io::Result<()> {
    let made = path
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .count();
    fs::create_dir_all(path)?;
    for (at, parent) in fs::canonicalize(path)?.ancestors().skip(1).enumerate() {
        match File::open(parent).and_then(|folder| folder.sync_all()) {
            // An existing folder may lie in one that this process may not read, or that is
            // read-only.
            Err(error) if at >= made && cannot_be_synced(&error) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Whether the error means that this process cannot, and need not, sync the folder.
fn cannot_be_synced(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported)
}

impl Disk for RealDisk {
    type File = RealFile;

    fn create(&mut self, name: &str, preallocate_bytes: u64) -> io::Result<RealFile> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path.join(name))?;
        file.set_len(preallocate_bytes)?;
        Ok(RealFile { file, zeroed_to: 0, zero_until: preallocate_bytes })
    }

    fn open(&mut self, name: &str) -> io::Result<RealFile> {
        let file =
            special_file::open(&self.path.join(name), OpenOptions::new().read(true).write(true))?;
        // The file may hold data anywhere, so no zeros are written ahead.
        Ok(RealFile { file, zeroed_to: 0, zero_until: 0 })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // The log has no name that is not UTF-8.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

/// A file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    file: File,
    /// Where what has been written, data or zeros, ends.
    zeroed_to: u64,
    /// Zeros are written ahead only below this: the preallocated length of a file that this process
    /// has created, 0 for others.
    zero_until: u64,
}

impl RealFile {
    /// A file that is only read.
    pub(super) fn read_only(file: File) -> RealFile {
        RealFile { file, zeroed_to: 0, zero_until: 0 }
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        let end = offset + bytes.len() as u64;
        if end > self.zeroed_to {
            let zeros = self.zero_until.saturating_sub(end).min(ZERO_AHEAD_BYTES as u64);
            self.file
                .write_all_at(&ZEROS[..usize::try_from(zeros).expect("at most a megabyte")], end)?;
            self.zeroed_to = end + zeros;
        }
        Ok(())
    }

    fn fill(&mut self, from: u64, to: u64) -> io::Result<()> {
        let mut at = from;
        while at < to {
            let bytes = (to - at).min(ZERO_AHEAD_BYTES as u64);
            self.file
                .write_all_at(&ZEROS[..usize::try_from(bytes).expect("at most a megabyte")], at)?;
            at += bytes;
        }
        self.zeroed_to = self.zeroed_to.max(to);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Opens the snapshot of this index in a data folder, even while a node uses the folder.
///
/// A snapshot never changes. The node may remove it once there is a newer one.
///
/// # Errors
/// [`StorageError::Io`] if it does not exist or cannot be read; [`StorageError::Corrupt`] if its
/// header is damaged.
pub fn open_snapshot(
    folder: &Path,
    index: Index,
) -> Result<SnapshotReader<RealFile>, StorageError> {
    let path = folder.join(snapshot::name(index));
    let file = special_file::open_to_read(&path)
        .map_err(|error| StorageError::io("open", &path.display().to_string(), &error))?;
    snapshot::open_file(RealFile::read_only(file), index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_written_ahead_never_cover_data() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = RealDisk::open(folder.path()).unwrap();
        let length = 3 * ZERO_AHEAD_BYTES as u64;
        let mut file = disk.create("file", length).unwrap();
        let places = [
            2 * ZERO_AHEAD_BYTES as u64,
            length - 3,
            5,
            0,
            length - 9,
            ZERO_AHEAD_BYTES as u64 + 3,
            length,
        ];
        for (at, &place) in places.iter().enumerate() {
            file.write_at(&[at as u8 + 1; 4], place).unwrap();
        }
        let mut reopened = disk.open("file").unwrap();
        reopened.write_at(&[9], 1 << 20).unwrap();
        let mut expected = vec![0; length as usize + 4];
        for (at, &place) in places.iter().enumerate() {
            expected[place as usize..place as usize + 4].fill(at as u8 + 1);
        }
        expected[1 << 20] = 9;
        let mut found = vec![1; expected.len() + 10];
        assert_eq!(file.read_at(&mut found, 0).unwrap(), expected.len());
        assert!(found[..expected.len()] == expected);
        assert_eq!(reopened.len().unwrap(), expected.len() as u64);
    }

    #[test]
    fn a_name_is_created_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = RealDisk::open(folder.path()).unwrap();
        disk.create("one", 10).unwrap();
        assert_eq!(disk.create("one", 10).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        disk.rename("one", "two").unwrap();
        assert_eq!(disk.open("one").unwrap_err().kind(), io::ErrorKind::NotFound);
        let mut names = disk.list().unwrap();
        names.sort();
        assert_eq!(names, [LOCK_NAME, "two"]);
        disk.remove("two").unwrap();
        disk.sync_directory().unwrap();
    }
}
