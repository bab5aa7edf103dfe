//! One UDP socket that sends every datagram back where it came from.

use std::io;
use std::net::SocketAddr;

use kodiak_net::{TryRecv, UdpSocket};
use kodiak_reactor::Interest;

/// The longest datagram that UDP can carry is a little shorter.
const LONGEST_DATAGRAM_BYTES: usize = 64 * 1024;

/// Number of datagrams that one callback answers before others are served.
const DATAGRAMS_PER_CALLBACK: usize = 64;

pub(crate) struct Datagrams {
    socket: UdpSocket,
    /// The registered interest.
    interest: Interest,
    buffer: Box<[u8]>,
    /// The length and the sender of a datagram that waits in the buffer to be sent back.
    pending: Option<(usize, SocketAddr)>,
}

impl Datagrams {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Datagrams> {
        let socket = UdpSocket::bind(address)?;
        let buffer = vec![0; LONGEST_DATAGRAM_BYTES].into_boxed_slice();
        Ok(Datagrams { socket, interest: Interest::READABLE, buffer, pending: None })
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Sets the interest to register, and returns whether it has changed.
    pub(crate) fn set_interest(&mut self, interest: Interest) -> bool {
        std::mem::replace(&mut self.interest, interest) != interest
    }

    /// Sends back what has arrived, and returns the interest to wait for: readable, or writable
    /// while the kernel's buffer is full.
    ///
    /// A datagram that cannot be sent back (because its sender is unreachable, say) is dropped, and
    /// so is the error of an earlier one: one sender's failure must not stop the others.
    pub(crate) fn serve(&mut self) -> Interest {
        for _ in 0..DATAGRAMS_PER_CALLBACK {
            if self.pending.is_none() {
                match self.socket.try_recv_from(&mut self.buffer) {
                    Ok(None) => return Interest::READABLE,
                    Ok(received) => self.pending = received,
                    Err(_) => continue,
                }
            }
            if let Some((len, peer)) = self.pending {
                match self.socket.try_send_to(&self.buffer[..len], peer) {
                    Ok(None) => return Interest::WRITABLE,
                    Ok(Some(_)) | Err(_) => self.pending = None,
                }
            }
        }
        Interest::READABLE
    }
}
