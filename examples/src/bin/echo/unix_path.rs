//! A Unix socket's path: replaces one that a killed program left, and is removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use kodiak_net::{UnixListener, UnixStream};

/// A path in the file system that is ours; removed when dropped.
pub(crate) struct UnixPath(PathBuf);

impl UnixPath {
    /// Listens at `path`. Replaces a socket on which no process listens.
    pub(crate) fn listen(path: &Path) -> io::Result<(UnixListener, UnixPath)> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
                fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };
        Ok((listener, UnixPath(path.to_owned())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        // An error means that it was removed already.
        let _ = fs::remove_file(&self.0);
    }
}

fn is_abandoned(path: &Path) -> bool {
    let is_socket =
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
