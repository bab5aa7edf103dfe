//! Macros for implementations that several sockets share: [`Source`](kodiak_reactor::Source),
//! conversions, `Read` and `Write`, batches of datagrams.
//!
//! They are macros because std's types share no trait. Each expands to plain `impl` blocks.

/// For a socket with a field `io: Io<$std>`: [`Source`](kodiak_reactor::Source), `AsFd`, `AsRawFd`,
/// `try_clone`, and conversions from and into std's type and `OwnedFd`.
macro_rules! impl_source_and_conversions {
    ($socket:ident, $std:ty) => {
        impl std::os::fd::AsFd for $socket {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.io.as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $socket {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsFd::as_fd(self).as_raw_fd()
            }
        }

        impl $socket {
            /// A second handle to the same socket, which is closed when both are. It is a source of
            /// its own, in no loop yet. Reads, writes and options affect both handles.
            ///
            /// # Errors
            /// No descriptor is free (a listener takes two).
            pub fn try_clone(&self) -> std::io::Result<$socket> {
                $socket::from_std(self.io.get_ref().try_clone()?)
            }
        }

        impl kodiak_reactor::Source for $socket {
            fn registration(&self) -> &kodiak_reactor::Registration {
                self.io.registration()
            }
        }

        impl TryFrom<$std> for $socket {
            type Error = std::io::Error;

            /// As `from_std`.
            fn try_from(socket: $std) -> std::io::Result<$socket> {
                $socket::from_std(socket)
            }
        }

        impl TryFrom<std::os::fd::OwnedFd> for $socket {
            type Error = std::io::Error;

            /// As `from_std`. It is not checked that the descriptor is a socket of this type:
            /// another one fails when it is used.
            fn try_from(descriptor: std::os::fd::OwnedFd) -> std::io::Result<$socket> {
                $socket::from_std(<$std>::from(descriptor))
            }
        }

        impl From<$socket> for $std {
            /// As `into_std`.
            fn from(socket: $socket) -> $std {
                socket.into_std()
            }
        }

        impl From<$socket> for std::os::fd::OwnedFd {
            /// Leaves the loop, if registered. The descriptor stays non-blocking.
            fn from(socket: $socket) -> std::os::fd::OwnedFd {
                socket.into_std().into()
            }
        }
    };
}

/// `Read` and `Write` for a stream and for a reference to it. The kernel does the locking.
macro_rules! impl_read_and_write {
    ($stream:ident) => {
        impl std::io::Read for &$stream {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.io.get_ref().read(buffer)
            }

            fn read_vectored(
                &mut self,
                buffers: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                self.io.get_ref().read_vectored(buffers)
            }
        }

        impl std::io::Write for &$stream {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.io.get_ref().write(bytes)
            }

            fn write_vectored(
                &mut self,
                buffers: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                self.io.get_ref().write_vectored(buffers)
            }

            /// Does nothing: the kernel has what was written.
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        impl std::io::Read for $stream {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                (&*self).read(buffer)
            }

            fn read_vectored(
                &mut self,
                buffers: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                (&*self).read_vectored(buffers)
            }
        }

        impl std::io::Write for $stream {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                (&*self).write(bytes)
            }

            fn write_vectored(
                &mut self,
                buffers: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                (&*self).write_vectored(buffers)
            }

            /// Does nothing: the kernel has what was written.
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}

/// Batches: many datagrams with one system call.
macro_rules! impl_batches {
    ($socket:ident) => {
        impl $socket {
            /// Receives datagrams with one system call, as many as wait and `batch` has room for.
            /// Returns their number, at least one. If the batch is
            /// [full](kodiak_sys::socket::RecvBatch::is_full), more may wait.
            ///
            /// # Errors
            #[doc = concat!("As [`recv`](", stringify!($socket), "::recv).")]
            pub fn recv_batch(
                &self,
                batch: &mut kodiak_sys::socket::RecvBatch,
            ) -> std::io::Result<usize> {
                batch.recv(std::os::fd::AsFd::as_fd(self))
            }

            #[doc = concat!(
                "As [`recv_batch`](", stringify!($socket), "::recv_batch); ",
                "`Ok(None)` when none waits."
            )]
            ///
            /// # Errors
            #[doc = concat!("As [`recv`](", stringify!($socket), "::recv), except `WouldBlock`.")]
            pub fn try_recv_batch(
                &self,
                batch: &mut kodiak_sys::socket::RecvBatch,
            ) -> std::io::Result<Option<usize>> {
                crate::try_io::not_ready_is_none(|| self.recv_batch(batch))
            }

            /// Sends datagrams of `batch` with one system call, as many as the kernel takes, and
            /// returns their number. Those are removed from the batch, the others stay: register
            /// for writable, and send again.
            ///
            /// # Errors
            #[doc = concat!("As [`send_to`](", stringify!($socket), "::send_to).")]
            /// The error concerns the first datagram of the batch (or an *earlier* one, if it is
            /// `ConnectionRefused`): send again, or [`skip`](kodiak_sys::socket::SendBatch::skip)
            /// it.
            pub fn send_batch(
                &self,
                batch: &mut kodiak_sys::socket::SendBatch,
            ) -> std::io::Result<usize> {
                batch.send(std::os::fd::AsFd::as_fd(self))
            }

            #[doc = concat!(
                "As [`send_batch`](", stringify!($socket), "::send_batch); ",
                "`Ok(None)` when there is no room."
            )]
            ///
            /// # Errors
            #[doc = concat!(
                "As [`send_batch`](", stringify!($socket), "::send_batch), except `WouldBlock`."
            )]
            pub fn try_send_batch(
                &self,
                batch: &mut kodiak_sys::socket::SendBatch,
            ) -> std::io::Result<Option<usize>> {
                crate::try_io::not_ready_is_none(|| self.send_batch(batch))
            }
        }
    };
}

pub(crate) use {impl_batches, impl_read_and_write, impl_source_and_conversions};
