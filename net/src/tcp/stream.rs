//! TCP connections.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use kodiak_reactor::Io;
use socket2::SockRef;

use crate::connecting::Connecting;
use crate::error::ConnectError;
use crate::options::{Keepalive, impl_common_options, set_keepalive, whole_seconds};
use crate::socket_macros::{impl_read_and_write, impl_source_and_conversions};

/// A TCP connection, non-blocking.
///
/// Reads and writes through [`Read`](std::io::Read) and [`Write`](std::io::Write) (also on
/// `&TcpStream`), where "would block" is an error of that kind, or through
/// [`TryRead`](crate::TryRead) and [`TryWrite`](crate::TryWrite), where it is `Ok(None)`. 16 bytes.
///
/// ```
/// use kodiak_net::{Finish, TcpStream, TryRead};
/// use std::io::Write;
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let connecting = TcpStream::connect(listener.local_addr()?)?;
/// let (mut peer, _) = listener.accept()?; // in a program: wait in the loop until writable
/// let Finish::Connected(mut stream) = connecting.finish()? else { panic!("it was accepted") };
/// assert_eq!(stream.try_read(&mut [0; 8])?, None);
/// stream.write_all(b"growl")?;
/// # use std::io::Read;
/// # let mut received = [0; 5];
/// # peer.read_exact(&mut received)?;
/// # assert_eq!(&received, b"growl");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TcpStream {
    io: Io<std::net::TcpStream>,
}

impl TcpStream {
    /// Starts connecting and returns at once; see [`Connecting`] for the next steps.
    ///
    /// # Errors
    /// [`ConnectError`] if the attempt failed at once: no route, no descriptor, no free port, or
    /// (on loopback, sometimes) refused.
    pub fn connect(address: SocketAddr) -> Result<Connecting<TcpStream>, ConnectError> {
        let start = || {
            let (socket, _) = kodiak_sys::socket::connect_tcp(address)?;
            Ok(TcpStream::from_nonblocking(socket))
        };
        match start() {
            Ok(stream) => Ok(Connecting::new(stream, address.into())),
            Err(source) => Err(ConnectError { address: address.into(), source }),
        }
    }

    /// Takes over a socket that is already connecting to `address`, started with `socket2`, say.
    ///
    /// For what [`connect`](TcpStream::connect) does not offer: a local address, or options set
    /// beforehand. Makes the socket non-blocking, which it should have been from the start. The
    /// address is named in errors.
    ///
    /// # Errors
    /// See the [crate](crate#errors). [`Connecting::finish`] reports why an attempt failed.
    pub fn connecting(
        stream: std::net::TcpStream,
        address: SocketAddr,
    ) -> io::Result<Connecting<TcpStream>> {
        Ok(Connecting::new(TcpStream::from_std(stream)?, address.into()))
    }

    /// Takes over a std stream and makes it non-blocking.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(true)?;
        Ok(TcpStream { io: Io::new(stream) })
    }

    /// Takes over a TCP socket that is known to be non-blocking.
    pub(super) fn from_nonblocking(socket: OwnedFd) -> TcpStream {
        TcpStream { io: Io::new(socket.into()) }
    }

    /// Returns the stream, deregistered and still non-blocking.
    pub fn into_std(self) -> std::net::TcpStream {
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

    /// Reads without consuming: the next read sees the same bytes.
    ///
    /// # Errors
    /// As [`Read::read`](std::io::Read::read): kind `WouldBlock` when nothing waits.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.get_ref().peek(buffer)
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`, Nagle's algorithm off).
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.get_ref().nodelay()
    }

    /// Sets whether small writes are sent at once. Set it if the program writes whole messages.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.io.get_ref().set_nodelay(on)
    }

    /// Whether the kernel probes silent peers (`SO_KEEPALIVE`).
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn keepalive(&self) -> io::Result<bool> {
        SockRef::from(self).keepalive()
    }

    /// Makes the kernel probe a silent peer and fail the connection (kind `TimedOut`) if it is
    /// gone; `None` turns that off.
    ///
    /// # Errors
    /// A zero, or a time beyond the kernel's range (about nine hours on Linux). Kind `Unsupported`
    /// on OpenBSD for any times but the system-wide ones.
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        set_keepalive(self.as_fd(), keepalive)
    }

    /// Sets how long bytes may stay unsent or unacknowledged before the connection fails with kind
    /// `TimedOut` (`TCP_USER_TIMEOUT`).
    ///
    /// In whole milliseconds, rounded up. `None` restores the kernel's default, some fifteen
    /// minutes. A connection without bytes in flight does not fail by this: see
    /// [`set_keepalive`](TcpStream::set_keepalive).
    ///
    /// # Errors
    /// Kind `Unsupported` on systems other than Linux and Android.
    pub fn set_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        crate::options::set_user_timeout(self.as_fd(), timeout)
    }

    /// How long unsent bytes may linger after the stream is closed (`SO_LINGER`).
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        SockRef::from(self).linger()
    }

    /// Sets what closing does with unsent bytes. `None` (the default) sends them in the background.
    /// Zero discards them and resets the connection. Any other time makes *closing block* for up to
    /// this time, rounded up to whole seconds, which an event loop can seldom afford.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        SockRef::from(self).set_linger(linger.map(whole_seconds))
    }

    /// The hop limit of sent packets (`IP_TTL`); IPv4.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get_ref().ttl()
    }

    /// Sets the hop limit of sent packets; IPv4.
    ///
    /// # Errors
    /// A value outside 1..=255.
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.io.get_ref().set_ttl(hops)
    }
}

impl_read_and_write!(TcpStream);
impl_common_options!(TcpStream);
impl_source_and_conversions!(TcpStream, std::net::TcpStream);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_stays_small() {
        assert_eq!(size_of::<TcpStream>(), 16);
        assert_eq!(size_of::<crate::UnixStream>(), 16);
        assert_eq!(size_of::<crate::UdpSocket>(), 16);
    }
}
