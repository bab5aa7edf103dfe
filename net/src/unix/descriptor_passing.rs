//! Descriptor passing and peer credentials, for Unix streams and datagrams.

/// Descriptor passing and peer credentials for a socket in field `io`.
macro_rules! impl_descriptor_passing {
    ($socket:ident) => {
        impl $socket {
            /// Sends `bytes` to the connected peer, together with duplicates of `descriptors`
            /// (`SCM_RIGHTS`). Ours may be closed as soon as this returns.
            ///
            /// Returns the number of bytes sent. On a stream that may be fewer than were given; the
            /// descriptors were sent with the first of them, so send the rest without descriptors.
            ///
            /// # Errors
            /// Kind `InvalidInput` if `bytes` is empty or there are more than 253 descriptors;
            /// `WouldBlock` when the peer's buffer is full; else the kernel's.
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
            /// appended to `descriptors` and are closed on `exec`. Further descriptors are closed,
            /// which [`Received`](crate::Received) reports.
            ///
            /// A plain read closes the descriptors that arrive with its bytes. The type of a
            /// received descriptor is not checked. It shares its flags with the sender's,
            /// `O_NONBLOCK` included.
            ///
            /// # Errors
            /// Kind `WouldBlock` when nothing waits; else the kernel's.
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

            /// The peer's credentials as the kernel knows them: user, group and (on Linux) process,
            /// at the time when the connection was made.
            ///
            /// # Errors
            /// The socket is not connected.
            pub fn peer_credentials(&self) -> std::io::Result<crate::PeerCredentials> {
                kodiak_sys::socket::peer_credentials(self.io.as_fd())
            }
        }
    };
}

pub(super) use impl_descriptor_passing;
