//! Unix sockets: listening, streams, datagrams.
//!
//! Addresses are std's [`SocketAddr`](std::os::unix::net::SocketAddr) or a path. A path stays in
//! the file system when its socket is closed; the program removes it. Linux also has abstract
//! names, which vanish with the socket: `SocketAddr::from_abstract_name` of
//! `std::os::linux::net::SocketAddrExt` makes one.

mod datagram;
mod descriptor_passing;
mod listener;
mod stream;

pub use datagram::UnixDatagram;
pub use listener::UnixListener;
pub use stream::UnixStream;

use std::io;
use std::os::unix::net::SocketAddr;

/// The address in the form that `socket2` takes.
fn to_socket2(address: &SocketAddr) -> io::Result<socket2::SockAddr> {
    if let Some(path) = address.as_pathname() {
        return socket2::SockAddr::unix(path);
    }
    abstract_name(address).unwrap_or_else(|| {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an unnamed Unix socket has no address to bind or connect to",
        ))
    })
}

/// The address of Linux's abstract name, which the kernel takes as a path that begins with a zero
/// byte.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_name(address: &SocketAddr) -> Option<io::Result<socket2::SockAddr>> {
    use std::ffi::OsString;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStringExt;

    let name = address.as_abstract_name()?;
    let path = [b"\0", name].concat();
    Some(socket2::SockAddr::unix(OsString::from_vec(path)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_name(_: &SocketAddr) -> Option<io::Result<socket2::SockAddr>> {
    None
}
