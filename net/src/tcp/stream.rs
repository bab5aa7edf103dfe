//! A TCP connection.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use kodiak_reactor::Io;
use socket2::SockRef;

use crate::connecting::Connecting;
use crate::error::ConnectError;
use crate::options::{Keepalive, common_options, set_keepalive, whole_seconds};
use crate::plumbing::{read_and_write, source_and_conversions};

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
/// let Finish::Connected(mut stream) = connecting.finish()? else { unreachable!("it was accepted") };
/// assert_eq!(stream.try_read(&mut [0; 8])?, None);
/// stream.write_all(b"growl")?;
/// # use std::io::Read;
/// # let mut heard = [0; 5];
/// # peer.read_exact(&mut heard)?;
/// # assert_eq!(&heard, b"growl");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TcpStream {
    io: Io<std::net::TcpStream>,
}

impl TcpStream {
    /// Starts connecting and returns at once; see [`Connecting`] for the rest of the way.
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

    /// Takes over a socket whose connecting to `address` was begun elsewhere (`socket2`, say), for
    /// what [`connect`](TcpStream::connect) does not offer: an address to come from, or options set
    /// beforehand. Makes it non-blocking, which it should have been when it was begun. The address
    /// is for errors to name.
    ///
    /// # Errors
    /// What the kernel says about making it non-blocking. Why an attempt has failed
    /// [`Connecting::finish`] tells.
    pub fn connecting(
        stream: std::net::TcpStream,
        address: SocketAddr,
    ) -> io::Result<Connecting<TcpStream>> {
        Ok(Connecting::new(TcpStream::from_std(stream)?, address.into()))
    }

    /// Takes over a stream of std's and makes it non-blocking.
    ///
    /// # Errors
    /// What the kernel says about that.
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(true)?;
        Ok(TcpStream { io: Io::new(stream) })
    }

    /// Takes over a socket that is known to be a connected, non-blocking TCP socket.
    pub(super) fn from_nonblocking(socket: OwnedFd) -> TcpStream {
        TcpStream { io: Io::new(socket.into()) }
    }

    /// Gives the stream back, out of its loop and still non-blocking.
    pub fn into_std(self) -> std::net::TcpStream {
        self.io.into_inner()
    }

    /// Our end's address.
    ///
    /// # Errors
    /// What the kernel reports; none is expected of an open socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    /// The other end's address.
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

    /// Whether small writes leave at once (`TCP_NODELAY`) instead of waiting to be joined by more.
    ///
    /// # Errors
    /// What the kernel reports; none is expected of an open socket.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.get_ref().nodelay()
    }

    /// Sets whether small writes leave at once. Worth it for whoever writes whole messages, as most
    /// do.
    ///
    /// # Errors
    /// What the kernel reports; none is expected of an open socket.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.io.get_ref().set_nodelay(on)
    }

    /// Whether the kernel looks after silent peers (`SO_KEEPALIVE`).
    ///
    /// # Errors
    /// What the kernel reports; none is expected of an open socket.
    pub fn keepalive(&self) -> io::Result<bool> {
        SockRef::from(self).keepalive()
    }

    /// Has the kernel look after a silent peer and fail the connection (kind `TimedOut`) if it is
    /// gone; `None` switches that off.
    ///
    /// # Errors
    /// What the kernel reports: a zero or a time beyond its range (about nine hours on Linux). Kind
    /// `Unsupported` on OpenBSD for anything but its system-wide times.
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        set_keepalive(self.as_fd(), keepalive)
    }

    /// How long bytes may wait for the peer's kernel to take or acknowledge them, before the
    /// connection fails (kind `TimedOut`); `None` restores the kernel's own patience, some fifteen
    /// minutes (`TCP_USER_TIMEOUT`). Without bytes under way nothing is noticed: that is
    /// [`set_keepalive`](TcpStream::set_keepalive)'s part. In whole milliseconds, rounded up.
    ///
    /// # Errors
    /// What the kernel reports. Kind `Unsupported` where there is no such option: everywhere but on
    /// Linux and Android.
    pub fn set_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        crate::options::set_user_timeout(self.as_fd(), timeout)
    }

    /// How long unsent bytes may linger after the stream is closed (`SO_LINGER`).
    ///
    /// # Errors
    /// What the kernel reports; none is expected of an open socket.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        SockRef::from(self).linger()
    }

    /// Sets what closing does with unsent bytes: `None` (the default) sends them in the background;
    /// zero throws them away and resets the connection; anything else makes *closing block* for up
    /// to so long, rounded up to whole seconds, which an event loop can seldom afford.
    ///
    /// # Errors
    /// What the kernel reports; none is expected of an open socket.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        SockRef::from(self).set_linger(linger.map(whole_seconds))
    }

    /// The hop limit of what we send (`IP_TTL`); IPv4.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get_ref().ttl()
    }

    /// Sets the hop limit of what we send; IPv4.
    ///
    /// # Errors
    /// What the kernel reports: a value outside 1..=255.
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.io.get_ref().set_ttl(hops)
    }
}

read_and_write!(TcpStream);
common_options!(TcpStream);
source_and_conversions!(TcpStream, std::net::TcpStream);

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
