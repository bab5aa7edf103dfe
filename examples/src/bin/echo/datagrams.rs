//! One UDP socket that sends every datagram back where it came from.

use std::io;
use std::net::SocketAddr;

use kodiak_net::{TryRecv, UdpSocket};
use kodiak_reactor::Interest;

/// The longest datagram that UDP can carry is a little shorter.
const LONGEST_DATAGRAM_BYTES: usize = 64 * 1024;

/// How many datagrams one callback answers, before the others have their turn.
const DATAGRAMS_PER_CALLBACK: usize = 64;

pub(crate) struct Datagrams {
    socket: UdpSocket,
    /// What the loop was last asked to wait for.
    interest: Interest,
    buffer: Box<[u8]>,
    /// A datagram, so long and from there, that waits in the buffer until the kernel takes it.
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

    /// Notes what the loop is asked to wait for, and tells whether that is new.
    pub(crate) fn set_interest(&mut self, interest: Interest) -> bool {
        std::mem::replace(&mut self.interest, interest) != interest
    }

    /// Answers what has arrived, and tells what to wait for: to read, or, while the kernel takes no
    /// more, to write.
    ///
    /// A datagram that cannot be sent back (its sender is unreachable, say) is dropped, as UDP
    /// drops them; one sender's trouble must not stop the others. So is the news of an earlier one.
    pub(crate) fn proceed(&mut self) -> Interest {
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
