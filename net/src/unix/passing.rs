//! Open files and identities over Unix sockets, for streams and datagrams alike.

/// Descriptor passing and peer credentials for a socket in field `io`.
macro_rules! passing {
    ($socket:ident) => {
        impl $socket {
            /// Sends `bytes` to the connected peer, and with them duplicates of `descriptors`,
            /// which become the peer's. Ours may be closed as soon as this returns.
            ///
            /// Answers how many bytes went. Of a stream that may be fewer than were given, and then
            /// the descriptors have gone with those that went: send the rest without them.
            ///
            /// # Errors
            /// Kind `InvalidInput` without a byte for the descriptors to travel with, or with more
            /// than 253 of them; `WouldBlock` when the peer's buffer is full; else what the kernel
            /// reports.
            pub fn send_with_descriptors(
                &self,
                bytes: &[u8],
                descriptors: &[std::os::fd::BorrowedFd<'_>],
            ) -> std::io::Result<usize> {
                kodiak_sys::socket::send_with_descriptors(self.io.as_fd(), bytes, descriptors, None)
            }

            /// As `send_with_descriptors`; `Ok(None)` when the peer's buffer is full.
            ///
            /// # Errors
            /// As `send_with_descriptors`, except `WouldBlock`.
            pub fn try_send_with_descriptors(
                &self,
                bytes: &[u8],
                descriptors: &[std::os::fd::BorrowedFd<'_>],
            ) -> std::io::Result<Option<usize>> {
                crate::try_io::not_ready_is_none(|| self.send_with_descriptors(bytes, descriptors))
            }

            /// Receives bytes, and at most `descriptors_max` descriptors with them, which are
            /// appended to `descriptors`, owned and closed on `exec`. Those beyond are closed, and
            /// [`Received`](crate::Received) says so.
            ///
            /// A plain read closes whatever descriptors come with the bytes: whoever expects some
            /// reads with this. Nobody has checked what they are. They share their flags with the
            /// sender, `O_NONBLOCK` included.
            ///
            /// # Errors
            /// Kind `WouldBlock` when nothing waits; else what the kernel reports.
            pub fn recv_with_descriptors(
                &self,
                buffer: &mut [u8],
                descriptors: &mut Vec<std::os::fd::OwnedFd>,
                descriptors_max: usize,
            ) -> std::io::Result<crate::Received> {
                kodiak_sys::socket::recv_with_descriptors(
                    self.io.as_fd(),
                    buffer,
                    descriptors,
                    descriptors_max,
                )
            }

            /// As `recv_with_descriptors`; `Ok(None)` when nothing waits.
            ///
            /// # Errors
            /// As `recv_with_descriptors`, except `WouldBlock`.
            pub fn try_recv_with_descriptors(
                &self,
                buffer: &mut [u8],
                descriptors: &mut Vec<std::os::fd::OwnedFd>,
                descriptors_max: usize,
            ) -> std::io::Result<Option<crate::Received>> {
                crate::try_io::not_ready_is_none(|| {
                    self.recv_with_descriptors(buffer, descriptors, descriptors_max)
                })
            }

            /// Who is at the other end, by the kernel's word: user, group and (on Linux) process,
            /// as of when the connection was made.
            ///
            /// # Errors
            /// What the kernel reports, such as that the socket is not connected.
            pub fn peer_credentials(&self) -> std::io::Result<crate::PeerCredentials> {
                kodiak_sys::socket::peer_credentials(self.io.as_fd())
            }
        }
    };
}

pub(super) use passing;
