//! UDP sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use kodiak_reactor::Io;
use kodiak_sys::socket;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::error::BindError;
use crate::options::{BindOptions, impl_common_options};
use crate::socket_macros::{impl_batches, impl_source_and_conversions};
use crate::try_io::{TryRecv, not_ready_is_none};

/// A UDP socket, non-blocking.
///
/// [`recv_from`](UdpSocket::recv_from) and the others are as std's, where "would block" is an error
/// of that kind; the `try_` forms and [`TryRecv`] return `Ok(None)` instead. When the handler is
/// called, receive until there is nothing left: one event may stand for many datagrams, and
/// [`recv_batch`](UdpSocket::recv_batch) takes many with one call.
///
/// ```
/// use kodiak_net::{TryRecv, UdpSocket};
///
/// let ours = UdpSocket::bind("127.0.0.1:0".parse()?)?;
/// let mut buffer = [0; 16];
/// assert_eq!(ours.try_recv_from(&mut buffer)?, None);
/// let theirs = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// assert_eq!(ours.try_send_to(b"boo", theirs.local_addr()?)?, Some(3));
/// assert_eq!(theirs.recv_from(&mut buffer)?, (3, ours.local_addr()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    io: Io<std::net::UdpSocket>,
}

impl UdpSocket {
    /// Binds with the default [`BindOptions`]. Port 0 lets the kernel choose; ask
    /// [`local_addr`](UdpSocket::local_addr) which.
    ///
    /// # Errors
    /// [`BindError`] with the address: taken (`AddrInUse`), not ours (`AddrNotAvailable`),
    /// privileged (`PermissionDenied`), or no descriptor free.
    pub fn bind(address: SocketAddr) -> Result<UdpSocket, BindError> {
        UdpSocket::bind_with(address, &BindOptions::new())
    }

    /// Binds with `options`.
    ///
    /// # Errors
    /// As [`bind`](UdpSocket::bind), and if the kernel refuses an option.
    pub fn bind_with(address: SocketAddr, options: &BindOptions) -> Result<UdpSocket, BindError> {
        let bind = || {
            let socket =
                Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
            options.apply(&socket, false)?;
            socket.bind(&address.into())?;
            UdpSocket::from_std(socket.into())
        };
        bind().map_err(|source| BindError { address: address.into(), source })
    }

    /// Takes over a std socket and makes it non-blocking.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        socket.set_nonblocking(true)?;
        Ok(UdpSocket { io: Io::new(socket) })
    }

    /// Returns the socket, deregistered and still non-blocking.
    pub fn into_std(self) -> std::net::UdpSocket {
        self.io.into_inner()
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    /// The address it is connected to.
    ///
    /// # Errors
    /// Kind `NotConnected` if it is not.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().peer_addr()
    }

    /// Sets the peer: `send` sends to it, and only its datagrams are received. Nothing is sent.
    ///
    /// # Errors
    /// No route, or an address of the other family.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        self.io.get_ref().connect(peer)
    }

    /// Receives one datagram and its sender's address. What does not fit into `buffer` is lost.
    ///
    /// # Errors
    /// Kind `WouldBlock` when none waits; else the kernel's.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        socket::recv_from(self.io.as_fd(), buffer)
    }

    /// Sends one datagram to `target` and returns its size: a datagram goes whole or not at all.
    ///
    /// # Errors
    /// Kind `WouldBlock` when the kernel's buffer is full; else the kernel's, such as a
    /// datagram that is too long or a target that is a broadcast address without
    /// [`set_broadcast`](UdpSocket::set_broadcast).
    pub fn send_to(&self, bytes: &[u8], target: SocketAddr) -> io::Result<usize> {
        socket::send_to(self.io.as_fd(), bytes, target)
    }

    /// As [`send_to`](UdpSocket::send_to); `Ok(None)` when the kernel's buffer is full.
    ///
    /// # Errors
    /// The kernel's, except `WouldBlock` and `Interrupted` (it is repeated).
    pub fn try_send_to(&self, bytes: &[u8], target: SocketAddr) -> io::Result<Option<usize>> {
        not_ready_is_none(|| self.send_to(bytes, target))
    }

    /// Receives one datagram from the connected peer.
    ///
    /// # Errors
    /// Kind `WouldBlock` when none waits; `ConnectionRefused` when an earlier datagram was refused,
    /// because no socket is bound there (this one stays usable); else the kernel's.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.get_ref().recv(buffer)
    }

    /// Sends one datagram to the connected peer.
    ///
    /// # Errors
    /// As [`send_to`](UdpSocket::send_to), and `ConnectionRefused` as [`recv`](UdpSocket::recv).
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.io.get_ref().send(bytes)
    }

    /// As [`send`](UdpSocket::send); `Ok(None)` when the kernel's buffer is full.
    ///
    /// # Errors
    /// The kernel's, except `WouldBlock` and `Interrupted` (it is repeated).
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        not_ready_is_none(|| self.send(bytes))
    }

    /// As [`recv`](UdpSocket::recv), but the datagram stays in the queue.
    ///
    /// # Errors
    /// As [`recv`](UdpSocket::recv).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.get_ref().peek(buffer)
    }

    /// As [`recv_from`](UdpSocket::recv_from), but the datagram stays in the queue.
    ///
    /// # Errors
    /// As [`recv_from`](UdpSocket::recv_from).
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        socket::peek_from(self.io.as_fd(), buffer)
    }
}

impl TryRecv for UdpSocket {
    type Address = SocketAddr;

    fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        not_ready_is_none(|| self.recv_from(buffer))
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        not_ready_is_none(|| self.recv(buffer))
    }
}

/// Options. For errors see the [crate](crate#errors).
impl UdpSocket {
    /// The hop limit of sent packets (`IP_TTL`); IPv4.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get_ref().ttl()
    }

    /// Sets the hop limit of sent packets, 1..=255; IPv4.
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.io.get_ref().set_ttl(hops)
    }

    /// Whether an IPv6 socket receives no IPv4 (`IPV6_V6ONLY`); set with [`BindOptions::only_v6`].
    pub fn only_v6(&self) -> io::Result<bool> {
        SockRef::from(self).only_v6()
    }

    /// Whether sending to a broadcast address is allowed (`SO_BROADCAST`).
    pub fn broadcast(&self) -> io::Result<bool> {
        self.io.get_ref().broadcast()
    }

    /// Allows or forbids sending to a broadcast address.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.io.get_ref().set_broadcast(on)
    }

    /// Joins an IPv4 multicast group on the interface with that address; `UNSPECIFIED` lets the
    /// kernel choose.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.io.get_ref().join_multicast_v4(group, interface)
    }

    /// Leaves an IPv4 multicast group.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.io.get_ref().leave_multicast_v4(group, interface)
    }

    /// Joins an IPv6 multicast group on the interface with that index; 0 lets the kernel choose.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get_ref().join_multicast_v6(group, interface)
    }

    /// Leaves an IPv6 multicast group.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get_ref().leave_multicast_v6(group, interface)
    }

    /// Whether our own IPv4 multicasts come back to this machine (`IP_MULTICAST_LOOP`).
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.io.get_ref().multicast_loop_v4()
    }

    /// Sets whether our own IPv4 multicasts come back to this machine.
    pub fn set_multicast_loop_v4(&self, on: bool) -> io::Result<()> {
        self.io.get_ref().set_multicast_loop_v4(on)
    }

    /// Whether our own IPv6 multicasts come back to this machine (`IPV6_MULTICAST_LOOP`).
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.io.get_ref().multicast_loop_v6()
    }

    /// Sets whether our own IPv6 multicasts come back to this machine.
    pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()> {
        self.io.get_ref().set_multicast_loop_v6(on)
    }

    /// The hop limit of IPv4 multicasts (`IP_MULTICAST_TTL`); 1 keeps them on the local network.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.io.get_ref().multicast_ttl_v4()
    }

    /// Sets the hop limit of IPv4 multicasts, 0..=255.
    pub fn set_multicast_ttl_v4(&self, hops: u32) -> io::Result<()> {
        self.io.get_ref().set_multicast_ttl_v4(hops)
    }

    /// The hop limit of IPv6 multicasts (`IPV6_MULTICAST_HOPS`).
    pub fn multicast_hops_v6(&self) -> io::Result<u32> {
        SockRef::from(self).multicast_hops_v6()
    }

    /// Sets the hop limit of IPv6 multicasts, 0..=255.
    pub fn set_multicast_hops_v6(&self, hops: u32) -> io::Result<()> {
        SockRef::from(self).set_multicast_hops_v6(hops)
    }

    /// The interface, by its address, through which IPv4 multicasts leave (`IP_MULTICAST_IF`).
    pub fn multicast_if_v4(&self) -> io::Result<Ipv4Addr> {
        SockRef::from(self).multicast_if_v4()
    }

    /// Sets the interface, by its address, through which IPv4 multicasts leave.
    pub fn set_multicast_if_v4(&self, interface: &Ipv4Addr) -> io::Result<()> {
        SockRef::from(self).set_multicast_if_v4(interface)
    }

    /// The interface, by its index, through which IPv6 multicasts leave (`IPV6_MULTICAST_IF`).
    pub fn multicast_if_v6(&self) -> io::Result<u32> {
        SockRef::from(self).multicast_if_v6()
    }

    /// Sets the interface, by its index, through which IPv6 multicasts leave.
    pub fn set_multicast_if_v6(&self, interface: u32) -> io::Result<()> {
        SockRef::from(self).set_multicast_if_v6(interface)
    }
}

impl_batches!(UdpSocket);
impl_common_options!(UdpSocket);
impl_source_and_conversions!(UdpSocket, std::net::UdpSocket);
