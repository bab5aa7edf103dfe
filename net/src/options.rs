//! Socket options: those to set before binding ([`BindOptions`]), keep-alive ([`Keepalive`]), and
//! those of every socket.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};

/// The default backlog of a listener. The kernel cuts it to its own limit
/// (`net.core.somaxconn`).
pub const DEFAULT_BACKLOG: u32 = 1024;

/// Options that are set on a socket before it is bound.
///
/// An option that is not set keeps the kernel's default, with two exceptions: TCP listeners reuse
/// their address, so that a server can restart while old connections linger in `TIME_WAIT`, and the
/// backlog is [`DEFAULT_BACKLOG`].
///
/// ```
/// use kodiak_net::{BindOptions, TcpListener};
///
/// // Two listeners share a port; the kernel spreads connections over them.
/// let options = BindOptions::new().reuse_port(true).backlog(64);
/// let first = TcpListener::bind_with("127.0.0.1:0".parse()?, &options)?;
/// let second = TcpListener::bind_with(first.local_addr()?, &options)?;
/// assert_eq!(first.local_addr()?, second.local_addr()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct BindOptions {
    reuse_address: Option<bool>,
    reuse_port: Option<bool>,
    only_v6: Option<bool>,
    recv_buffer_size: Option<usize>,
    send_buffer_size: Option<usize>,
    backlog: Option<u32>,
}

impl BindOptions {
    /// The defaults.
    pub fn new() -> BindOptions {
        BindOptions::default()
    }

    /// `SO_REUSEADDR`: bind although connections of a former listener linger in `TIME_WAIT`. On by
    /// default for TCP listeners.
    pub fn reuse_address(mut self, on: bool) -> BindOptions {
        self.reuse_address = Some(on);
        self
    }

    /// `SO_REUSEPORT`: several sockets, all with this option, bind the same address. Linux
    /// distributes connections and datagrams over them.
    pub fn reuse_port(mut self, on: bool) -> BindOptions {
        self.reuse_port = Some(on);
        self
    }

    /// `IPV6_V6ONLY`: an IPv6 socket does not accept IPv4 traffic. Setting it for an IPv4 address
    /// makes binding fail.
    pub fn only_v6(mut self, on: bool) -> BindOptions {
        self.only_v6 = Some(on);
        self
    }

    /// `SO_RCVBUF` in bytes; accepted connections inherit it. Linux doubles it for its own
    /// bookkeeping and keeps it within `net.core.rmem_max`.
    pub fn recv_buffer_size(mut self, bytes: usize) -> BindOptions {
        self.recv_buffer_size = Some(bytes);
        self
    }

    /// `SO_SNDBUF` in bytes; accepted connections inherit it. Linux doubles it for its own
    /// bookkeeping and keeps it within `net.core.wmem_max`.
    pub fn send_buffer_size(mut self, bytes: usize) -> BindOptions {
        self.send_buffer_size = Some(bytes);
        self
    }

    /// How many connections may wait to be accepted; listeners only, ignored elsewhere.
    pub fn backlog(mut self, connections: u32) -> BindOptions {
        self.backlog = Some(connections);
        self
    }

    /// Sets the options on a new socket.
    pub(crate) fn apply(&self, socket: &Socket, reuse_address_default: bool) -> io::Result<()> {
        if self.reuse_address.unwrap_or(reuse_address_default) {
            socket.set_reuse_address(true)?;
        }
        if let Some(on) = self.reuse_port {
            socket.set_reuse_port(on)?;
        }
        if let Some(on) = self.only_v6 {
            socket.set_only_v6(on)?;
        }
        if let Some(bytes) = self.recv_buffer_size {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.send_buffer_size {
            socket.set_send_buffer_size(bytes)?;
        }
        Ok(())
    }

    /// The backlog as `listen` wants it.
    pub(crate) fn backlog_for_listen(&self) -> i32 {
        i32::try_from(self.backlog.unwrap_or(DEFAULT_BACKLOG)).unwrap_or(i32::MAX)
    }
}

/// TCP keep-alive: when the kernel probes a silent peer, and when it gives up.
///
/// The kernel keeps whole seconds; fractions are rounded up. A value that is not set keeps the
/// kernel's default.
///
/// ```
/// use kodiak_net::Keepalive;
/// use std::time::Duration;
///
/// // After a minute of silence probe every ten seconds; five unanswered probes end the connection.
/// let keepalive = Keepalive::new()
///     .idle(Duration::from_secs(60))
///     .interval(Duration::from_secs(10))
///     .count(5);
/// # let _ = keepalive;
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Keepalive {
    idle: Option<Duration>,
    interval: Option<Duration>,
    count: Option<u32>,
}

impl Keepalive {
    /// The kernel's defaults.
    pub fn new() -> Keepalive {
        Keepalive::default()
    }

    /// How long a connection is silent before the first probe (`TCP_KEEPIDLE`).
    pub fn idle(mut self, idle: Duration) -> Keepalive {
        self.idle = Some(idle);
        self
    }

    /// The time between two probes (`TCP_KEEPINTVL`).
    pub fn interval(mut self, interval: Duration) -> Keepalive {
        self.interval = Some(interval);
        self
    }

    /// Number of unanswered probes that end the connection (`TCP_KEEPCNT`).
    pub fn count(mut self, count: u32) -> Keepalive {
        self.count = Some(count);
        self
    }

    #[cfg(not(target_os = "openbsd"))]
    fn to_socket2(self) -> io::Result<TcpKeepalive> {
        let mut keepalive = TcpKeepalive::new();
        if let Some(idle) = self.idle {
            keepalive = keepalive.with_time(whole_seconds(idle));
        }
        if let Some(interval) = self.interval {
            keepalive = keepalive.with_interval(whole_seconds(interval));
        }
        if let Some(count) = self.count {
            keepalive = keepalive.with_retries(count);
        }
        Ok(keepalive)
    }

    /// OpenBSD has keep-alive, but its times are system-wide.
    #[cfg(target_os = "openbsd")]
    fn to_socket2(self) -> io::Result<TcpKeepalive> {
        if self == Keepalive::default() {
            Ok(TcpKeepalive::new())
        } else {
            let text =
                "OpenBSD sets keep-alive times for the whole system only (net.inet.tcp.keepidle)";
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
    }
}

/// Sets `TCP_USER_TIMEOUT`, rounded up to whole milliseconds. Zero would mean Linux's default, so a
/// timeout below one millisecond becomes one.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn set_user_timeout(
    socket: BorrowedFd<'_>,
    timeout: Option<Duration>,
) -> io::Result<()> {
    let rounded =
        timeout.map(|timeout| timeout.max(Duration::from_millis(1)) + Duration::from_micros(999));
    SockRef::from(&socket).set_tcp_user_timeout(rounded)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn set_user_timeout(_: BorrowedFd<'_>, _: Option<Duration>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Switches keep-alive on with these values, or off.
pub(crate) fn set_keepalive(
    socket: BorrowedFd<'_>,
    keepalive: Option<Keepalive>,
) -> io::Result<()> {
    let socket = SockRef::from(&socket);
    match keepalive {
        Some(keepalive) => socket.set_tcp_keepalive(&keepalive.to_socket2()?),
        None => socket.set_keepalive(false),
    }
}

/// Rounds up to whole seconds, the kernel's unit: half a second must not become zero.
pub(crate) fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)))
}

/// The buffer sizes and the pending error of every socket.
macro_rules! impl_common_options {
    ($socket:ident) => {
        impl $socket {
            /// The size of the kernel's receive buffer (`SO_RCVBUF`), in bytes.
            ///
            /// # Errors
            /// See the [crate](crate#errors).
            pub fn recv_buffer_size(&self) -> std::io::Result<usize> {
                socket2::SockRef::from(self).recv_buffer_size()
            }

            /// Sets the size of the kernel's receive buffer, in bytes. Linux doubles it for its own
            /// bookkeeping and limits it to `net.core.rmem_max`.
            ///
            /// # Errors
            /// A size beyond the kernel's limit, on systems that do not clip it.
            pub fn set_recv_buffer_size(&self, bytes: usize) -> std::io::Result<()> {
                socket2::SockRef::from(self).set_recv_buffer_size(bytes)
            }

            /// The size of the kernel's send buffer (`SO_SNDBUF`), in bytes.
            ///
            /// # Errors
            /// See the [crate](crate#errors).
            pub fn send_buffer_size(&self) -> std::io::Result<usize> {
                socket2::SockRef::from(self).send_buffer_size()
            }

            /// Sets the size of the kernel's send buffer, in bytes. Linux doubles it for its own
            /// bookkeeping and limits it to `net.core.wmem_max`.
            ///
            /// # Errors
            /// A size beyond the kernel's limit, on systems that do not clip it.
            pub fn set_send_buffer_size(&self, bytes: usize) -> std::io::Result<()> {
                socket2::SockRef::from(self).set_send_buffer_size(bytes)
            }

            /// Takes the pending error of the socket (`SO_ERROR`), if any.
            ///
            /// # Errors
            /// See the [crate](crate#errors).
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                kodiak_sys::socket::take_error(std::os::fd::AsFd::as_fd(self))
            }
        }
    };
}

pub(crate) use impl_common_options;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_of_seconds_are_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), Duration::from_secs(1));
        assert_eq!(whole_seconds(Duration::from_secs(2)), Duration::from_secs(2));
        assert_eq!(whole_seconds(Duration::MAX), Duration::from_secs(u64::MAX));
    }

    #[test]
    fn a_backlog_beyond_the_kernels_type_is_clipped() {
        assert_eq!(BindOptions::new().backlog(u32::MAX).backlog_for_listen(), i32::MAX);
        assert_eq!(BindOptions::new().backlog_for_listen(), 1024);
    }
}
