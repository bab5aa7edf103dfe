//! The process at the other end of a Unix socket, as the kernel reports it.

use crate::fd::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The process at the other end of a Unix socket: its effective ids when it connected or began to
/// listen, reported by the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The process id; `None` where the kernel does not report it (everywhere but Linux). The
    /// process may have ended since, and the id may belong to another one.
    pub pid: Option<u32>,
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
}

/// The credentials of a connected Unix socket's peer (`SO_PEERCRED`, `getpeereid`).
///
/// # Errors
/// The [kernel's error](crate#errors): usually `NotConnected`, or the descriptor is not a Unix
/// socket. Linux knows the peer of a datagram socket only if the socket is one of a pair.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let mut peer = libc::ucred { pid: 0, uid: libc::uid_t::MAX, gid: libc::gid_t::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let (raw, value) = (socket.as_raw_fd(), (&raw mut peer).cast());
    // SAFETY: the descriptor is borrowed for the whole call, and `len` is the size of `peer`.
    check(unsafe { libc::getsockopt(raw, libc::SOL_SOCKET, libc::SO_PEERCRED, value, &mut len) })?;
    if peer.uid == libc::uid_t::MAX {
        return Err(io::ErrorKind::NotConnected.into()); // Linux's value for "no peer"
    }
    Ok(PeerCredentials {
        pid: u32::try_from(peer.pid).ok().filter(|pid| *pid != 0),
        uid: peer.uid,
        gid: peer.gid,
    })
}

/// The credentials of a connected Unix socket's peer (`SO_PEERCRED`, `getpeereid`).
///
/// # Errors
/// The [kernel's error](crate#errors): usually `NotConnected`, or the descriptor is not a Unix
/// socket.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: the descriptor is borrowed for the whole call, and the C library writes the two
    // numbers.
    check(unsafe { libc::getpeereid(socket.as_raw_fd(), &mut uid, &mut gid) })?;
    Ok(PeerCredentials { pid: None, uid, gid })
}
