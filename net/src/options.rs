//! Options: those that must be set before an address is bound ([`BindOptions`]), keep-alive, and
//! those that every socket has.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};

/// The backlog of a listener unless told otherwise. The kernel cuts it to its own limit
/// (`net.core.somaxconn`).
pub const DEFAULT_BACKLOG: u32 = 1024;

/// What is set on a socket between its creation and its binding.
///
/// What is not set here keeps its default: the kernel's, except that TCP listeners reuse their
/// address (a server that restarts must not wait for its old connections to fade away) and that
/// their backlog is [`DEFAULT_BACKLOG`].
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
    /// Nothing set.
    pub fn new() -> BindOptions {
        BindOptions::default()
    }

    /// `SO_REUSEADDR`: bind although connections of a former listener linger. On by default for TCP
    /// listeners.
    pub fn reuse_address(mut self, on: bool) -> BindOptions {
        self.reuse_address = Some(on);
        self
    }

    /// `SO_REUSEPORT`: several sockets, all with this option, bind the same address. Linux spreads
    /// what arrives over them.
    pub fn reuse_port(mut self, on: bool) -> BindOptions {
        self.reuse_port = Some(on);
        self
    }

    /// `IPV6_V6ONLY`: an IPv6 socket does not take IPv4 traffic too. Binding an IPv4 address with
    /// it is an error.
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

    /// Sets what was asked for on a fresh socket.
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

/// When the kernel asks a silent TCP peer whether it is still there, and when it gives up.
///
/// Times are whole seconds in the kernel; fractions are rounded up. What is not set keeps the
/// kernel's value.
///
/// ```
/// use kodiak_net::Keepalive;
/// use std::time::Duration;
///
/// // After a minute of silence ask every ten seconds; five unanswered questions end the connection.
/// let keepalive = Keepalive::new().idle(Duration::from_secs(60)).interval(Duration::from_secs(10)).count(5);
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
    /// The kernel's values.
    pub fn new() -> Keepalive {
        Keepalive::default()
    }

    /// How long a connection is silent before the first question (`TCP_KEEPIDLE`).
    pub fn idle(mut self, idle: Duration) -> Keepalive {
        self.idle = Some(idle);
        self
    }

    /// How long between two questions (`TCP_KEEPINTVL`).
    pub fn interval(mut self, interval: Duration) -> Keepalive {
        self.interval = Some(interval);
        self
    }

    /// How many unanswered questions end the connection (`TCP_KEEPCNT`).
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

    /// OpenBSD has keep-alive, but its times are the whole system's.
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

/// Linux rounds nothing and takes whole milliseconds; 0 means its default, so a timeout below one
/// becomes one.
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

/// The kernel counts in seconds and refuses zero: half a second must not become none.
pub(crate) fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)))
}

/// The buffer sizes and the pending error, which every socket has.
macro_rules! common_options {
    ($socket:ident) => {
        impl $socket {
            /// How many received bytes the kernel keeps for us (`SO_RCVBUF`), in bytes.
            ///
            /// # Errors
            /// What the kernel reports; none is expected of an open socket.
            pub fn recv_buffer_size(&self) -> std::io::Result<usize> {
                socket2::SockRef::from(self).recv_buffer_size()
            }

            /// Sets how many received bytes the kernel keeps for us, in bytes. Linux doubles the
            /// number for its own bookkeeping and keeps it within `net.core.rmem_max`.
            ///
            /// # Errors
            /// What the kernel reports, such as a size beyond its own limit on systems that do not
            /// clip.
            pub fn set_recv_buffer_size(&self, bytes: usize) -> std::io::Result<()> {
                socket2::SockRef::from(self).set_recv_buffer_size(bytes)
            }

            /// How many unsent bytes the kernel takes (`SO_SNDBUF`), in bytes.
            ///
            /// # Errors
            /// What the kernel reports; none is expected of an open socket.
            pub fn send_buffer_size(&self) -> std::io::Result<usize> {
                socket2::SockRef::from(self).send_buffer_size()
            }

            /// Sets how many unsent bytes the kernel takes, in bytes. Linux doubles the number for
            /// its own bookkeeping and keeps it within `net.core.wmem_max`.
            ///
            /// # Errors
            /// What the kernel reports, such as a size beyond its own limit on systems that do not
            /// clip.
            pub fn set_send_buffer_size(&self, bytes: usize) -> std::io::Result<()> {
                socket2::SockRef::from(self).set_send_buffer_size(bytes)
            }

            /// Takes the error that waits on the socket (`SO_ERROR`), if any, and clears it.
            ///
            /// # Errors
            /// What the kernel reports about the question itself.
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                kodiak_sys::socket::take_error(std::os::fd::AsFd::as_fd(self))
            }
        }
    };
}

pub(crate) use common_options;

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
    fn a_backlog_beyond_the_kernels_type_is_its_maximum() {
        assert_eq!(BindOptions::new().backlog(u32::MAX).backlog_for_listen(), i32::MAX);
        assert_eq!(BindOptions::new().backlog_for_listen(), 1024);
    }
}
