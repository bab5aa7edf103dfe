//! Who is at the other end of a Unix socket, by the kernel's word.

use crate::fd::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Who connected a Unix socket, or listened on it: effective ids as of that moment, which the
/// kernel vouches for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The process; `None` where the kernel does not tell (everywhere but Linux). It may have ended
    /// since, and its number may be another's.
    pub pid: Option<u32>,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// Who is at the other end of a connected Unix socket (`SO_PEERCRED`, `getpeereid`).
///
/// # Errors
/// What the kernel says: the descriptor is no Unix socket or, usually, `NotConnected`. Linux knows
/// nobody for a datagram socket unless it is one of a pair.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let mut peer = libc::ucred { pid: 0, uid: libc::uid_t::MAX, gid: libc::gid_t::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let (raw, place) = (socket.as_raw_fd(), (&raw mut peer).cast());
    // SAFETY: the descriptor is borrowed for the whole call, and `len` is the size of `peer`.
    check(unsafe { libc::getsockopt(raw, libc::SOL_SOCKET, libc::SO_PEERCRED, place, &mut len) })?;
    if peer.uid == libc::uid_t::MAX {
        return Err(io::ErrorKind::NotConnected.into()); // an impossible user is Linux's "none"
    }
    Ok(PeerCredentials {
        pid: u32::try_from(peer.pid).ok().filter(|pid| *pid != 0),
        uid: peer.uid,
        gid: peer.gid,
    })
}

/// Who is at the other end of a connected Unix socket (`SO_PEERCRED`, `getpeereid`).
///
/// # Errors
/// What the kernel says: the descriptor is no Unix socket or, usually, `NotConnected`.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: the descriptor is borrowed for the whole call, and the C library writes the two
    // numbers.
    check(unsafe { libc::getpeereid(socket.as_raw_fd(), &mut uid, &mut gid) })?;
    Ok(PeerCredentials { pid: None, uid, gid })
}
