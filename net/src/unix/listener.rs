//! Unix stream listeners.

use std::io;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use kodiak_reactor::Io;
use socket2::{Domain, Socket, Type};

use super::{UnixStream, to_socket2};
use crate::error::{AcceptError, BindError, unix_address};
use crate::options::{BindOptions, impl_common_options};
use crate::reserve::Reserve;
use crate::socket_macros::impl_source_and_conversions;

/// A Unix stream listener, non-blocking.
///
/// Used as [`TcpListener`](crate::TcpListener) is. Its path stays in the file system when it is
/// dropped, and makes a later `bind` fail until the program removes it.
///
/// ```
/// use kodiak_net::{UnixListener, UnixStream};
///
/// let folder = tempfile::tempdir()?;
/// let listener = UnixListener::bind(folder.path().join("den"))?;
/// assert!(listener.accept()?.is_none());
/// let _client = UnixStream::connect(folder.path().join("den"))?;
/// assert!(listener.accept()?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct UnixListener {
    io: Io<std::os::unix::net::UnixListener>,
    reserve: Reserve,
}

impl UnixListener {
    /// Binds to a path and listens, with the default backlog.
    ///
    /// # Errors
    /// An error that names the path: it exists already (`AddrInUse`), is too long or holds a zero
    /// byte (`InvalidInput`), its folder is missing or not accessible, or no descriptor is free
    /// (two are needed).
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        Ok(UnixListener::bind_with(&unix_address(path.as_ref())?, &BindOptions::new())?)
    }

    /// Binds to an address, which may be abstract, and listens.
    ///
    /// # Errors
    /// As [`bind`](UnixListener::bind).
    pub fn bind_addr(address: &SocketAddr) -> Result<UnixListener, BindError> {
        UnixListener::bind_with(address, &BindOptions::new())
    }

    /// Binds to an address and listens with `options`. Only the backlog and the buffer sizes have
    /// an effect.
    ///
    /// # Errors
    /// As [`bind`](UnixListener::bind), and if the kernel refuses an option.
    pub fn bind_with(
        address: &SocketAddr,
        options: &BindOptions,
    ) -> Result<UnixListener, BindError> {
        let listen = || {
            let kernel_address = to_socket2(address)?;
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            options.apply(&socket, false)?;
            socket.bind(&kernel_address)?;
            socket.listen(options.backlog_for_listen())?;
            UnixListener::from_std(socket.into())
        };
        listen().map_err(|source| BindError { address: address.clone().into(), source })
    }

    /// Takes over a std listener and makes it non-blocking.
    ///
    /// # Errors
    /// No descriptor is free for the reserve.
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
        listener.set_nonblocking(true)?;
        Ok(UnixListener { io: Io::new(listener), reserve: Reserve::new()? })
    }

    /// Returns the listener, deregistered and still non-blocking.
    pub fn into_std(self) -> std::os::unix::net::UnixListener {
        self.io.into_inner()
    }

    /// Accepts the oldest waiting connection; `Ok(None)` when none waits. The stream is
    /// non-blocking and is not inherited by child processes; the address is most often unnamed.
    ///
    /// # Errors
    /// As [`TcpListener::accept`](crate::TcpListener::accept).
    pub fn accept(&self) -> Result<Option<(UnixStream, SocketAddr)>, AcceptError> {
        let listener = self.io.get_ref();
        self.reserve.accept(
            || {
                let (stream, peer) = listener.accept()?;
                Ok((UnixStream::from_std(stream)?, peer))
            },
            |_| None,
        )
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }
}

impl_common_options!(UnixListener);
impl_source_and_conversions!(UnixListener, std::os::unix::net::UnixListener);
