//! Unix stream connections.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use kodiak_reactor::Io;

use super::descriptor_passing::impl_descriptor_passing;
use crate::connecting::Connecting;
use crate::error::{ConnectError, unix_address};
use crate::options::impl_common_options;
use crate::socket_macros::{impl_read_and_write, impl_source_and_conversions};

/// A Unix stream connection, non-blocking.
///
/// Reads and writes as [`TcpStream`](crate::TcpStream) does. 16 bytes.
///
/// ```
/// use kodiak_net::{TryRead, UnixStream};
/// use std::io::Write;
///
/// let (mut left, mut right) = UnixStream::pair()?;
/// left.write_all(b"sniff")?;
/// let mut buffer = [0; 8];
/// assert_eq!(right.try_read(&mut buffer)?, Some(5));
/// drop(left);
/// assert_eq!(right.try_read(&mut buffer)?, Some(0));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// It also passes descriptors to another process, and reports the peer's credentials:
///
/// ```
/// use kodiak_net::UnixStream;
/// use std::os::fd::AsFd;
///
/// let (left, right) = UnixStream::pair()?;
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// left.send_with_descriptors(b"take over", &[listener.as_fd()])?;
///
/// let mut descriptors = Vec::new();
/// let received = right.recv_with_descriptors(&mut [0; 64], &mut descriptors, 1)?;
/// assert_eq!((received.bytes, received.descriptors), (9, 1));
/// let inherited = std::net::TcpListener::from(descriptors.remove(0));
/// assert_eq!(inherited.local_addr()?, listener.local_addr()?);
/// assert_eq!(right.peer_credentials()?, left.peer_credentials()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UnixStream {
    io: Io<std::os::unix::net::UnixStream>,
}

impl UnixStream {
    /// Starts connecting to a path. The kernel answers at once, so [`Connecting::finish`] may
    /// follow directly.
    ///
    /// # Errors
    /// An error that names the path: no socket listens (`ConnectionRefused`), no such path
    /// (`NotFound`), or the listener's backlog is full (`WouldBlock`; no event reports when there
    /// is room again: try again after a moment).
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Connecting<UnixStream>> {
        Ok(UnixStream::connect_addr(&unix_address(path.as_ref())?)?)
    }

    /// Starts connecting to an address, which may be abstract.
    ///
    /// # Errors
    /// As [`connect`](UnixStream::connect).
    pub fn connect_addr(address: &SocketAddr) -> Result<Connecting<UnixStream>, ConnectError> {
        let start = || {
            let (socket, _) = kodiak_sys::socket::connect_unix_addr(address)?;
            Ok(UnixStream { io: Io::new(socket.into()) })
        };
        match start() {
            Ok(stream) => Ok(Connecting::new(stream, address.clone().into())),
            Err(source) => Err(ConnectError { address: address.clone().into(), source }),
        }
    }

    /// Two streams that are connected to each other.
    ///
    /// # Errors
    /// No descriptor is free (two are needed).
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (left, right) = std::os::unix::net::UnixStream::pair()?;
        Ok((UnixStream::from_std(left)?, UnixStream::from_std(right)?))
    }

    /// Takes over a std stream and makes it non-blocking.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
        stream.set_nonblocking(true)?;
        Ok(UnixStream { io: Io::new(stream) })
    }

    /// Returns the stream, deregistered and still non-blocking.
    pub fn into_std(self) -> std::os::unix::net::UnixStream {
        self.io.into_inner()
    }

    /// The local address.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    /// The peer's address.
    ///
    /// # Errors
    /// Kind `NotConnected` once the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().peer_addr()
    }

    /// Ends one direction or both. After `Write` the peer reads what was sent and then the end.
    ///
    /// # Errors
    /// Kind `NotConnected` if the connection is gone already.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.get_ref().shutdown(how)
    }
}

impl_read_and_write!(UnixStream);
impl_descriptor_passing!(UnixStream);
impl_common_options!(UnixStream);
impl_source_and_conversions!(UnixStream, std::os::unix::net::UnixStream);
