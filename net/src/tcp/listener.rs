//! Waiting for TCP connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use kodiak_reactor::Io;
use kodiak_sys::socket::accept_tcp;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::TcpStream;
use crate::accept::Reserve;
use crate::error::{AcceptError, BindError};
use crate::options::{BindOptions, common_options};
use crate::plumbing::source_and_conversions;

/// A TCP socket that waits for connections.
///
/// Register it for readable (the default); when called, [`accept`](TcpListener::accept) until it
/// says `None`. It holds one descriptor more than its own, see [`AcceptError::Shed`].
///
/// ```
/// use kodiak_net::{AcceptError, TcpListener, TcpStream};
/// use kodiak_reactor::{EventLoop, Handler, ReadHint};
///
/// struct Server { listener: TcpListener, clients: Vec<TcpStream>, turned_away: u64 }
///
/// impl Handler<(), ()> for Server {
///     fn readable(&mut self, event_loop: &mut EventLoop<(), ()>, _: (), _: ReadHint) {
///         loop {
///             match self.listener.accept() {
///                 Ok(Some((stream, _peer))) => self.clients.push(stream), // and register it
///                 Ok(None) => break,
///                 Err(AcceptError::Shed { .. }) => self.turned_away += 1,
///                 Err(error) => panic!("{error}"), // a server would pause here, see `AcceptError::Exhausted`
///             }
///         }
///         event_loop.shutdown();
///     }
/// }
///
/// let listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
/// let _client = std::net::TcpStream::connect(listener.local_addr()?)?;
/// let mut event_loop = EventLoop::new()?;
/// event_loop.register(&listener, ())?;
/// let mut server = Server { listener, clients: Vec::new(), turned_away: 0 };
/// event_loop.run(&mut server)?;
/// assert_eq!(server.clients.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TcpListener {
    io: Io<std::net::TcpListener>,
    reserve: Reserve,
}

impl TcpListener {
    /// Binds and listens with the default [`BindOptions`]. Port 0 lets the kernel choose; ask
    /// [`local_addr`](TcpListener::local_addr) which.
    ///
    /// # Errors
    /// [`BindError`] with the address: taken (`AddrInUse`), not ours (`AddrNotAvailable`),
    /// privileged (`PermissionDenied`), or no descriptor free (two are needed).
    pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
        TcpListener::bind_with(address, &BindOptions::new())
    }

    /// Binds and listens with `options`.
    ///
    /// # Errors
    /// As [`bind`](TcpListener::bind), and what the kernel says about an option.
    pub fn bind_with(address: SocketAddr, options: &BindOptions) -> Result<TcpListener, BindError> {
        let listen = || {
            let socket =
                Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            options.apply(&socket, true)?;
            socket.bind(&address.into())?;
            socket.listen(options.backlog_for_listen())?;
            TcpListener::from_std(socket.into())
        };
        listen().map_err(|source| BindError { address: address.into(), source })
    }

    /// Takes over a listener of std's and makes it non-blocking.
    ///
    /// # Errors
    /// What the kernel says about that, or about opening the reserve descriptor.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        Ok(TcpListener { io: Io::new(listener), reserve: Reserve::new()? })
    }

    /// Gives the listener back, out of its loop and still non-blocking.
    pub fn into_std(self) -> std::net::TcpListener {
        self.io.into_inner()
    }

    /// Accepts the connection that has waited longest; `Ok(None)` when none waits. The stream is
    /// non-blocking and is not inherited by child processes.
    ///
    /// # Errors
    /// [`AcceptError::Shed`] when no descriptor was free and a connection was turned away: go on.
    /// [`AcceptError::Exhausted`] and [`AcceptError::Failed`]: pause. Connections that died while
    /// they waited are passed over without an error.
    #[inline]
    pub fn accept(&self) -> Result<Option<(TcpStream, SocketAddr)>, AcceptError> {
        self.reserve.accept(
            || {
                accept_tcp(self.io.as_fd())
                    .map(|(socket, peer)| (TcpStream::from_nonblocking(socket), peer))
            },
            |peer| Some(*peer),
        )
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// What the kernel reports; none is expected of an open socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    /// The hop limit of what is accepted here (`IP_TTL`); IPv4.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get_ref().ttl()
    }

    /// Sets the hop limit of what is accepted here; IPv4.
    ///
    /// # Errors
    /// What the kernel reports: a value outside 1..=255.
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.io.get_ref().set_ttl(hops)
    }

    /// Whether an IPv6 listener leaves IPv4 alone (`IPV6_V6ONLY`); set with
    /// [`BindOptions::only_v6`].
    ///
    /// # Errors
    /// What the kernel reports, such as that the listener is not IPv6.
    pub fn only_v6(&self) -> io::Result<bool> {
        SockRef::from(self).only_v6()
    }
}

common_options!(TcpListener);
source_and_conversions!(TcpListener, std::net::TcpListener);
