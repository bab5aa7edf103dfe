//! The headers of `sendmsg` and `recvmsg`, and of their many-at-once forms where the kernel has
//! them.

use super::address::Address;
use crate::fd::{check_len, retry};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

cfg_select! {
    any(target_os = "linux", target_os = "android", target_os = "freebsd") => {
        pub(super) use libc::mmsghdr as Message;
        const MANY_AT_ONCE: bool = true;
    }
    _ => {
        /// One message of several: its header, and its length once it has been sent or received.
        #[allow(non_camel_case_types)]
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub(super) struct Message {
            pub(super) msg_hdr: libc::msghdr,
            pub(super) msg_len: libc::c_uint,
        }
        const MANY_AT_ONCE: bool = false;
    }
}

/// A dead peer is an error, not a signal. On Apple's systems that is a property of the socket.
#[cfg(not(target_vendor = "apple"))]
pub(super) const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(super) const NO_SIGNAL: libc::c_int = 0;

/// A header without anything: some kernels' struct has more fields, or padding, than the classic
/// seven.
pub(super) fn blank_header() -> libc::msghdr {
    // SAFETY: the struct consists of integers and raw pointers, for all of which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// Sends one message; the header's pointers must be as `sendmsg` wants them.
///
/// # Safety
/// Name, vectors and control of `header` point to as many readable bytes as it says.
pub(super) unsafe fn send_one(
    socket: BorrowedFd<'_>,
    header: &libc::msghdr,
    flags: libc::c_int,
) -> io::Result<usize> {
    let raw = socket.as_raw_fd();
    // SAFETY: the descriptor is borrowed for the whole call; the rest is the caller's promise.
    check_len(unsafe { libc::sendmsg(raw, header, flags | NO_SIGNAL) })
}

/// Receives one message; the header's pointers must be as `recvmsg` wants them.
///
/// # Safety
/// Name, vectors and control of `header` point to as many writable bytes as it says.
pub(super) unsafe fn receive_one(
    socket: BorrowedFd<'_>,
    header: &mut libc::msghdr,
    flags: libc::c_int,
) -> io::Result<usize> {
    let raw = socket.as_raw_fd();
    // SAFETY: the descriptor is borrowed for the whole call; the rest is the caller's promise.
    check_len(unsafe { libc::recvmsg(raw, header, flags) })
}

/// The headers for one call about many datagrams, allocated once. Their pointers are written before
/// each call and mean nothing after it.
pub(super) struct Headers {
    messages: Box<[Message]>,
    vectors: Box<[libc::iovec]>,
}

// SAFETY: between calls nobody follows the pointers in there.
unsafe impl Send for Headers {}
// SAFETY: as above; shared access looks at lengths and flags only.
unsafe impl Sync for Headers {}

/// What became of a received datagram.
pub(super) struct Outcome {
    pub(super) len: usize,
    pub(super) has_name: bool,
    pub(super) is_truncated: bool,
}

impl Headers {
    pub(super) fn new(messages: usize) -> Headers {
        let message = Message { msg_hdr: blank_header(), msg_len: 0 };
        let vector = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Headers {
            messages: vec![message; messages].into_boxed_slice(),
            vectors: vec![vector; messages].into_boxed_slice(),
        }
    }

    pub(super) fn outcome(&self, index: usize) -> Outcome {
        let message = &self.messages[index];
        Outcome {
            len: message.msg_len as usize,
            has_name: message.msg_hdr.msg_namelen > 0,
            is_truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        }
    }

    /// Receives one datagram into each of `places` until there is no more, and says how many. Never
    /// waits.
    ///
    /// An error after the first datagram is left in `error` where the kernel does not keep it
    /// itself.
    pub(super) fn receive<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        places: impl Iterator<Item = (&'a mut [u8], &'a mut Address)>,
        many: bool,
        error: &mut Option<io::Error>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for ((message, vector), (bytes, name)) in
            self.messages.iter_mut().zip(&mut self.vectors).zip(places)
        {
            vector.iov_base = bytes.as_mut_ptr().cast();
            vector.iov_len = bytes.len();
            message.msg_hdr = blank_header();
            message.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            message.msg_hdr.msg_namelen = Address::ROOM;
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        let messages = &mut self.messages[..count];
        if MANY_AT_ONCE && many {
            // SAFETY: every header points to one vector, that to its buffer, and both to memory
            // that `places` lent for `'a`.
            return retry(|| unsafe { receive_many(socket, messages) });
        }
        for (index, message) in messages.iter_mut().enumerate() {
            // SAFETY: as above.
            match retry(|| unsafe { receive_one(socket, &mut message.msg_hdr, libc::MSG_DONTWAIT) })
            {
                Ok(len) => message.msg_len = len as _,
                Err(first) if index == 0 => return Err(first),
                Err(later) => {
                    *error = Some(later).filter(|later| later.kind() != io::ErrorKind::WouldBlock);
                    return Ok(index);
                }
            }
        }
        Ok(count)
    }

    /// Sends one datagram after the other until one cannot go, and says how many went. Never waits.
    /// A name of length 0 means the connected peer.
    pub(super) fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        datagrams: impl Iterator<Item = (&'a [u8], &'a Address, libc::socklen_t)>,
        many: bool,
    ) -> io::Result<usize> {
        let mut count = 0;
        for ((message, vector), (bytes, name, name_len)) in
            self.messages.iter_mut().zip(&mut self.vectors).zip(datagrams)
        {
            // The kernel only reads them.
            vector.iov_base = bytes.as_ptr().cast_mut().cast();
            vector.iov_len = bytes.len();
            message.msg_hdr = blank_header();
            if name_len > 0 {
                message.msg_hdr.msg_name = std::ptr::from_ref(name).cast_mut().cast();
                message.msg_hdr.msg_namelen = name_len;
            }
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        let messages = &mut self.messages[..count];
        if MANY_AT_ONCE && many {
            // SAFETY: every header points to one vector, that to its bytes, and both to memory that
            // was lent for `'a`.
            return retry(|| unsafe { send_many(socket, messages) });
        }
        for (index, message) in messages.iter().enumerate() {
            // SAFETY: as above.
            match retry(|| unsafe { send_one(socket, &message.msg_hdr, libc::MSG_DONTWAIT) }) {
                Ok(_) => {}
                Err(first) if index == 0 => return Err(first),
                // The datagram is still there, and the next attempt meets the error again.
                Err(_) => return Ok(index),
            }
        }
        Ok(count)
    }
}

cfg_select! {
    any(target_os = "linux", target_os = "android", target_os = "freebsd") => {
        /// # Safety
        /// As for [`receive_one`], of each message.
        unsafe fn receive_many(socket: BorrowedFd<'_>, messages: &mut [Message]) -> io::Result<usize> {
            let (raw, first, len) = (socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as _);
            // SAFETY: the descriptor is borrowed for the whole call, `first` begins `len` headers,
            // and what they point to is the caller's promise.
            let n = unsafe { libc::recvmmsg(raw, first, len, libc::MSG_DONTWAIT as _, std::ptr::null_mut()) };
            check_len(n as libc::ssize_t)
        }

        /// # Safety
        /// As for [`send_one`], of each message.
        unsafe fn send_many(socket: BorrowedFd<'_>, messages: &mut [Message]) -> io::Result<usize> {
            let (raw, first, len) = (socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as _);
            // SAFETY: as above.
            let n = unsafe { libc::sendmmsg(raw, first, len, (libc::MSG_DONTWAIT | NO_SIGNAL) as _) };
            check_len(n as libc::ssize_t)
        }
    }
    _ => {
        unsafe fn receive_many(_: BorrowedFd<'_>, _: &mut [Message]) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }

        unsafe fn send_many(_: BorrowedFd<'_>, _: &mut [Message]) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}
