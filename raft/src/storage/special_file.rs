//! Refuses files that no node has created: opening a FIFO, for example, would block without end.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What a name stands for, if not for a file that the node can use. It is inside the [`io::Error`]
/// of opening it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is {0}")]
pub(super) struct SpecialFile(pub(super) String);

/// Opens a regular file for reading.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// Opens a regular file. Does not open a device or a FIFO.
pub(super) fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    check(path)?;
    options.open(path).map_err(|error| match fs::metadata(path) {
        Ok(metadata) if error.kind() == io::ErrorKind::PermissionDenied => {
            io::Error::new(error.kind(), SpecialFile(inaccessible(&metadata)))
        }
        _ => error,
    })
}

/// Refuses what is not a regular file. A symbolic link to one is accepted.
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
        "not a regular file"
    }
}

/// Describes a file that this process may not open.
fn inaccessible(metadata: &Metadata) -> String {
    let (user, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    format!("a file of user {user} with mode {mode:04o}, which this process may not open")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_and_mode_are_reported() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let said = inaccessible(&metadata);
        assert!(
            said.contains(&format!("user {}", metadata.uid())) && said.contains("mode 0600"),
            "{said}"
        );
    }
}
