//! Waiting for Unix connections.

use std::io;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use kodiak_reactor::Io;
use socket2::{Domain, Socket, Type};

use super::{UnixStream, to_socket2};
use crate::accept::Reserve;
use crate::error::{AcceptError, BindError, unix_address};
use crate::options::{BindOptions, common_options};
use crate::plumbing::source_and_conversions;

/// A Unix socket that waits for connections.
///
/// Used as [`TcpListener`](crate::TcpListener) is. Its path stays when it is dropped and keeps a
/// later `bind` from succeeding: remove it first, or at the end, as suits the program.
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
    /// byte (`InvalidInput`), its folder is missing or closed to us, or no descriptor is free (two
    /// are needed).
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

    /// Binds to an address and listens with `options`, of which the backlog and the buffer sizes
    /// mean something here.
    ///
    /// # Errors
    /// As [`bind`](UnixListener::bind), and what the kernel says about an option.
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

    /// Takes over a listener of std's and makes it non-blocking.
    ///
    /// # Errors
    /// What the kernel says about that, or about opening the reserve descriptor.
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
        listener.set_nonblocking(true)?;
        Ok(UnixListener { io: Io::new(listener), reserve: Reserve::new()? })
    }

    /// Gives the listener back, out of its loop and still non-blocking.
    pub fn into_std(self) -> std::os::unix::net::UnixListener {
        self.io.into_inner()
    }

    /// Accepts the connection that has waited longest; `Ok(None)` when none waits. The stream is
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
    /// What the kernel reports; none is expected of an open socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }
}

common_options!(UnixListener);
source_and_conversions!(UnixListener, std::os::unix::net::UnixListener);
