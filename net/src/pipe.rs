//! Pipes, and the standard input, output and error of child processes.
//!
//! ```
//! use kodiak_net::{TryRead, pipe};
//! use std::io::Write;
//!
//! let (mut sender, mut receiver) = pipe::new()?;
//! let mut buffer = [0; 8];
//! assert_eq!(receiver.try_read(&mut buffer)?, None);
//! sender.write_all(b"den")?;
//! assert_eq!(receiver.try_read(&mut buffer)?, Some(3));
//! drop(sender);
//! assert_eq!(receiver.try_read(&mut buffer)?, Some(0)); // the end
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use kodiak_reactor::{Io, Registration, Source};

/// A new pipe: what is written to the one end can be read from the other. Both are non-blocking and
/// closed on `exec`.
///
/// # Errors
/// No descriptor is free (two are needed).
pub fn new() -> io::Result<(Sender, Receiver)> {
    let (receiver, sender) = kodiak_sys::pipe()?;
    Ok((Sender { io: Io::new(sender.into()) }, Receiver { io: Io::new(receiver.into()) }))
}

/// The writing end of a pipe, non-blocking; from [`new`], or a child's standard input.
///
/// Register it for writable when a write would block. When the reading end is gone, a write fails
/// with kind `BrokenPipe`. A write of at most 4096 bytes (`PIPE_BUF`; 512 on some systems) is
/// atomic.
///
/// ```
/// use kodiak_net::pipe::Sender;
/// use std::io::{Read, Write};
/// use std::process::{Command, Stdio};
///
/// let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
/// let mut sender = Sender::try_from(child.stdin.take().expect("it is piped"))?;
/// sender.write_all(b"purr")?;
/// drop(sender); // the child sees the end
/// assert_eq!(child.wait_with_output()?.stdout, b"purr");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Sender {
    /// A `File`, because std has no other type that writes to any descriptor. Only its `Write` is
    /// used.
    io: Io<File>,
}

/// The reading end of a pipe, non-blocking; from [`new`], or a child's standard output or error.
///
/// A read of zero bytes is the end: every writing end is closed. [`Sender`]'s example shows a
/// child.
#[derive(Debug)]
pub struct Receiver {
    io: Io<File>,
}

impl Read for &Receiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.get_ref().read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        self.io.get_ref().read_vectored(buffers)
    }
}

impl Read for Receiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for &Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.io.get_ref().write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.io.get_ref().write_vectored(buffers)
    }

    /// Does nothing: the kernel has what was written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    /// Does nothing: the kernel has what was written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Implementations of both ends: `Source` and conversions.
macro_rules! impl_pipe_end {
    ($end:ident, $($std:ty),*) => {
        impl $end {
            /// Leaves the loop, if registered, and makes the descriptor blocking, as a child
            /// expects of its standard streams.
            ///
            /// # Errors
            /// See the [crate](crate#errors).
            pub fn into_blocking(self) -> io::Result<OwnedFd> {
                let descriptor = OwnedFd::from(self);
                kodiak_sys::set_nonblocking(descriptor.as_fd(), false)?;
                Ok(descriptor)
            }
        }

        impl AsFd for $end {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.io.as_fd()
            }
        }

        impl Source for $end {
            fn registration(&self) -> &Registration {
                self.io.registration()
            }
        }

        impl From<$end> for OwnedFd {
            /// Leaves the loop, if registered. The descriptor stays non-blocking.
            fn from(end: $end) -> OwnedFd {
                end.io.into_inner().into()
            }
        }

        impl TryFrom<OwnedFd> for $end {
            type Error = io::Error;

            /// Takes over a descriptor and makes it non-blocking, for all of its duplicates. It is
            /// not checked that it is this end of a pipe: another one fails when it is used.
            fn try_from(descriptor: OwnedFd) -> io::Result<$end> {
                kodiak_sys::set_nonblocking(descriptor.as_fd(), true)?;
                Ok($end { io: Io::new(descriptor.into()) })
            }
        }

        $(impl TryFrom<$std> for $end {
            type Error = io::Error;

            /// Takes over our end of the pipe and makes it non-blocking; the child's end stays as
            /// it is.
            fn try_from(stream: $std) -> io::Result<$end> {
                $end::try_from(OwnedFd::from(stream))
            }
        })*
    };
}

impl_pipe_end!(Sender, ChildStdin, io::PipeWriter);
impl_pipe_end!(Receiver, ChildStdout, ChildStderr, io::PipeReader);
