//! TCP listeners.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use kodiak_reactor::Io;
use kodiak_sys::socket::accept_tcp;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::TcpStream;
use crate::error::{AcceptError, BindError};
use crate::options::{BindOptions, impl_common_options};
use crate::reserve::Reserve;
use crate::socket_macros::impl_source_and_conversions;

/// A TCP listener, non-blocking.
///
/// Register it for readable (the default). When the handler is called, call
/// [`accept`](TcpListener::accept) until it returns `None`. The listener holds a second descriptor,
/// its reserve: see [`AcceptError::Shed`].
///
/// ```
/// use kodiak_net::{AcceptError, TcpListener, TcpStream};
/// use kodiak_reactor::{EventLoop, Handler, ReadHint};
///
/// struct Server { listener: TcpListener, clients: Vec<TcpStream>, shed: u64 }
///
/// impl Handler<(), ()> for Server {
///     fn readable(&mut self, event_loop: &mut EventLoop<(), ()>, _: (), _: ReadHint) {
///         loop {
///             match self.listener.accept() {
///                 Ok(Some((stream, _peer))) => self.clients.push(stream), // and register it
///                 Ok(None) => break,
///                 Err(AcceptError::Shed { .. }) => self.shed += 1,
///                 Err(error) => panic!("{error}"), // a server pauses, see `Acceptor`
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
/// let mut server = Server { listener, clients: Vec::new(), shed: 0 };
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
    /// As [`bind`](TcpListener::bind), and if the kernel refuses an option.
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

    /// Takes over a std listener and makes it non-blocking.
    ///
    /// # Errors
    /// No descriptor is free for the reserve.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        Ok(TcpListener { io: Io::new(listener), reserve: Reserve::new()? })
    }

    /// Returns the listener, deregistered and still non-blocking.
    pub fn into_std(self) -> std::net::TcpListener {
        self.io.into_inner()
    }

    /// Accepts the oldest waiting connection; `Ok(None)` when none waits. The stream is
    /// non-blocking and is not inherited by child processes.
    ///
    /// # Errors
    /// [`AcceptError::Shed`] when no descriptor was free and a connection was closed: go on.
    /// [`AcceptError::Exhausted`] and [`AcceptError::Failed`]: pause. Connections that were
    /// reset while they waited are skipped without an error.
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
    /// See the [crate](crate#errors).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    /// The hop limit of accepted connections (`IP_TTL`); IPv4.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get_ref().ttl()
    }

    /// Sets the hop limit of accepted connections; IPv4.
    ///
    /// # Errors
    /// A value outside 1..=255.
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.io.get_ref().set_ttl(hops)
    }

    /// Whether an IPv6 listener accepts no IPv4 connections (`IPV6_V6ONLY`); set with
    /// [`BindOptions::only_v6`].
    ///
    /// # Errors
    /// The listener is not IPv6.
    pub fn only_v6(&self) -> io::Result<bool> {
        SockRef::from(self).only_v6()
    }
}

impl_common_options!(TcpListener);
impl_source_and_conversions!(TcpListener, std::net::TcpListener);
