//! The errors of binding, connecting and accepting.
//!
//! `Display` names the address; the kernel's answer is the error's `source` and is not repeated in
//! it. Each error converts into [`io::Error`] and keeps its [`kind`](io::ErrorKind), so `?` works
//! in functions that return [`io::Result`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::path::Path;

use thiserror::Error;

/// The address that a socket is bound or connected to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and port.
    Inet(SocketAddr),
    /// A path in the file system, an abstract name, or none at all. Boxed, because it takes more
    /// than a hundred bytes, which would make every `Result` as large.
    Unix(Box<UnixSocketAddr>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
            Address::Unix(address) => match address.as_pathname() {
                Some(path) => path.display().fmt(f),
                // Abstract names and unnamed sockets: std's debug form names both.
                None => write!(f, "{address:?}"),
            },
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Inet(address)
    }
}

impl From<UnixSocketAddr> for Address {
    fn from(address: UnixSocketAddr) -> Address {
        Address::Unix(Box::new(address))
    }
}

/// A path as a socket address, with an error that names the path.
pub(crate) fn unix_address(path: &Path) -> io::Result<UnixSocketAddr> {
    UnixSocketAddr::from_pathname(path).map_err(|error| {
        let text = format!(
            "{} cannot be the address of a Unix socket ({error}); the kernel allows about a \
             hundred bytes",
            path.display()
        );
        io::Error::new(error.kind(), text)
    })
}

/// A socket could not be bound to its address.
#[derive(Debug, Error)]
#[error("binding to {address} failed")]
#[non_exhaustive]
pub struct BindError {
    /// The address that was asked for.
    pub address: Address,
    /// The kernel's answer.
    pub source: io::Error,
}

/// A connection attempt failed. The socket is closed.
///
/// The kind is [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if no socket listens there;
/// [`TimedOut`](io::ErrorKind::TimedOut) if there was no answer (after minutes: set a shorter
/// timeout in the loop); [`WouldBlock`](io::ErrorKind::WouldBlock) if a Unix listener's backlog is
/// full (no event reports when there is room again: try again after a moment).
#[derive(Debug, Error)]
#[error("connecting to {address} failed")]
#[non_exhaustive]
pub struct ConnectError {
    /// The address that was asked for.
    pub address: Address,
    /// The kernel's answer.
    pub source: io::Error,
}

/// A connection was not accepted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// No descriptor was free, so one connection was accepted with the listener's reserve
    /// descriptor and closed at once. Its peer learns of it, and the queue is one shorter. Count
    /// it, log it, and continue to accept.
    #[error(
        "{limit}; the connection from {} was closed at once: close descriptors or raise the limit",
        Peer(.peer)
    )]
    Shed {
        /// The address of the refused peer; `None` for Unix sockets, whose clients seldom have one.
        peer: Option<SocketAddr>,
        /// Which limit was hit.
        limit: DescriptorLimit,
    },
    /// No descriptor was free, and neither was the reserve (another thread took it). Connections
    /// keep waiting in the queue. Stop listening for a moment, as
    /// [`Acceptor`](crate::Acceptor) does: deregister the listener, set a timeout of, say, 100 ms,
    /// then register it again.
    #[error(
        "{limit} and the listener's reserve is gone: pause accepting, close descriptors or raise \
         the limit"
    )]
    Exhausted {
        /// Which limit was hit.
        limit: DescriptorLimit,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Anything else: the kernel is short of memory, or the listener is unusable. Pause as for
    /// [`Exhausted`](AcceptError::Exhausted), or give up.
    #[error("accepting a connection failed")]
    Failed(#[source] io::Error),
}

impl AcceptError {
    /// Whether a connection was closed for lack of descriptors, so that accepting can go on at
    /// once.
    pub fn is_shed(&self) -> bool {
        matches!(self, AcceptError::Shed { .. })
    }

    /// The kind that the same failure has as an [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            AcceptError::Shed { .. } => io::ErrorKind::Other,
            AcceptError::Exhausted { source, .. } => source.kind(),
            AcceptError::Failed(source) => source.kind(),
        }
    }
}

impl BindError {
    /// The kind of [`source`](BindError::source).
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl ConnectError {
    /// The kind of [`source`](ConnectError::source).
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

impl From<AcceptError> for io::Error {
    fn from(error: AcceptError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

/// The limit on open descriptors that was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DescriptorLimit {
    /// The process's (`EMFILE`): `RLIMIT_NOFILE`, which `ulimit -n` and systemd's `LimitNOFILE`
    /// set.
    Process,
    /// The machine's (`ENFILE`): `fs.file-max` on Linux, `kern.maxfiles` elsewhere.
    System,
}

impl fmt::Display for DescriptorLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DescriptorLimit::Process => {
                "the process has no free descriptor (RLIMIT_NOFILE, ulimit -n)"
            }
            DescriptorLimit::System => "the system has no free descriptor (fs.file-max)",
        })
    }
}

/// The text for a peer in an error message.
struct Peer<'a>(&'a Option<SocketAddr>);

impl fmt::Display for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("an unnamed peer"),
        }
    }
}
