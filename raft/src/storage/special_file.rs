//! Files of a data folder that no node has made: opened blindly, a FIFO would wait for ever.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What a name stands for, if not for a file that the node can use. Inside the [`io::Error`] of
/// whoever opened it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is {0}")]
pub(super) struct SpecialFile(pub(super) String);

/// Opens a file to be read.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// Opens a file, if it is one. Nothing else is touched: neither a device nor a FIFO.
pub(super) fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    check(path)?;
    options.open(path).map_err(|error| match fs::metadata(path) {
        Ok(metadata) if error.kind() == io::ErrorKind::PermissionDenied => {
            io::Error::new(error.kind(), SpecialFile(not_ours(&metadata)))
        }
        _ => error,
    })
}

/// Refuses what is there and is no regular file. A symbolic link to one is fine.
pub(super) fn check(path: &Path) -> io::Result<()> {
    let is_link = fs::symlink_metadata(path)?.file_type().is_symlink();
    let what = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => return Ok(()),
        Ok(metadata) => kind(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_link => {
            "a symbolic link to nothing"
        }
        Err(error) => return Err(error),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, SpecialFile(what.to_owned())))
}

fn kind(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else if file_type.is_socket() {
        "a socket"
    } else if file_type.is_block_device() || file_type.is_char_device() {
        "a device"
    } else {
        "no regular file"
    }
}

/// A file that this process may not open as it must.
fn not_ours(metadata: &Metadata) -> String {
    let (user, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    format!("a file of user {user} with mode {mode:04o}, which this process may not open")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_and_mode_are_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let said = not_ours(&metadata);
        assert!(
            said.contains(&format!("user {}", metadata.uid())) && said.contains("mode 0600"),
            "{said}"
        );
    }
}
