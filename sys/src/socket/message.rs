//! The headers of `sendmsg` and `recvmsg`, and of `sendmmsg` and `recvmmsg` where they exist.

use super::address::Address;
use crate::fd::{check_len, retry};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

cfg_select! {
    any(target_os = "linux", target_os = "android", target_os = "freebsd") => {
        pub(super) use libc::mmsghdr as Message;
        const HAS_BATCH_CALLS: bool = true;
    }
    _ => {
        /// A message's header, and its length once the message has been sent or received.
        #[allow(non_camel_case_types)]
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub(super) struct Message {
            pub(super) msg_hdr: libc::msghdr,
            pub(super) msg_len: libc::c_uint,
        }
        const HAS_BATCH_CALLS: bool = false;
    }
}

/// Makes a write to a closed peer an error without `SIGPIPE`. Apple's systems have a socket option
/// instead.
#[cfg(not(target_vendor = "apple"))]
pub(super) const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(super) const NO_SIGNAL: libc::c_int = 0;

/// A header of zeros: the struct of some kernels has more fields than the common seven, or padding.
pub(super) fn zeroed_header() -> libc::msghdr {
    // SAFETY: the struct consists of integers and raw pointers, for all of which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// Sends one message.
///
/// # Safety
/// Name, vectors and control of `header` point to as many readable bytes as their lengths.
pub(super) unsafe fn send_one(
    socket: BorrowedFd<'_>,
    header: &libc::msghdr,
    flags: libc::c_int,
) -> io::Result<usize> {
    let raw = socket.as_raw_fd();
    // SAFETY: the descriptor is borrowed for the whole call; the rest is the caller's promise.
    check_len(unsafe { libc::sendmsg(raw, header, flags | NO_SIGNAL) })
}

/// Receives one message.
///
/// # Safety
/// Name, vectors and control of `header` point to as many writable bytes as their lengths.
pub(super) unsafe fn receive_one(
    socket: BorrowedFd<'_>,
    header: &mut libc::msghdr,
    flags: libc::c_int,
) -> io::Result<usize> {
    let raw = socket.as_raw_fd();
    // SAFETY: the descriptor is borrowed for the whole call; the rest is the caller's promise.
    check_len(unsafe { libc::recvmsg(raw, header, flags) })
}

/// Whether one system call sends or receives a whole batch or one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CallsPer {
    Batch,
    Datagram,
}

/// The headers of a batch, allocated once. Their pointers are valid only during a call.
pub(super) struct Headers {
    messages: Box<[Message]>,
    vectors: Box<[libc::iovec]>,
}

// SAFETY: between calls nothing follows the pointers.
unsafe impl Send for Headers {}
// SAFETY: as above; shared access reads only lengths and flags.
unsafe impl Sync for Headers {}

/// What the kernel reported about a received datagram.
pub(super) struct Received {
    pub(super) len: usize,
    pub(super) has_name: bool,
    pub(super) is_truncated: bool,
}

impl Headers {
    pub(super) fn new(messages: usize) -> Headers {
        let message = Message { msg_hdr: zeroed_header(), msg_len: 0 };
        let vector = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Headers {
            messages: vec![message; messages].into_boxed_slice(),
            vectors: vec![vector; messages].into_boxed_slice(),
        }
    }

    pub(super) fn received(&self, index: usize) -> Received {
        let message = &self.messages[index];
        Received {
            len: message.msg_len as usize,
            has_name: message.msg_hdr.msg_namelen > 0,
            is_truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        }
    }

    /// Receives one datagram into each of `buffers`, as many as have arrived. Returns their number.
    ///
    /// Never waits. An error after the first datagram is stored in `error` if the kernel does not
    /// report it again.
    pub(super) fn receive<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        buffers: impl Iterator<Item = (&'a mut [u8], &'a mut Address)>,
        calls: CallsPer,
        error: &mut Option<io::Error>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for ((message, vector), (bytes, name)) in
            self.messages.iter_mut().zip(&mut self.vectors).zip(buffers)
        {
            vector.iov_base = bytes.as_mut_ptr().cast();
            vector.iov_len = bytes.len();
            message.msg_hdr = zeroed_header();
            message.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            message.msg_hdr.msg_namelen = Address::CAPACITY;
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        let messages = &mut self.messages[..count];
        if HAS_BATCH_CALLS && calls == CallsPer::Batch {
            // SAFETY: every header points to one vector, that to its buffer, and both to memory
            // that `buffers` lent for `'a`.
            return retry(|| unsafe { receive_batch(socket, messages) });
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

    /// Sends datagrams in order until the kernel refuses one. Returns the number sent.
    ///
    /// Never waits. A name of length 0 means the connected peer.
    pub(super) fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        datagrams: impl Iterator<Item = (&'a [u8], &'a Address, libc::socklen_t)>,
        calls: CallsPer,
    ) -> io::Result<usize> {
        let mut count = 0;
        for ((message, vector), (bytes, name, name_len)) in
            self.messages.iter_mut().zip(&mut self.vectors).zip(datagrams)
        {
            // The kernel only reads them.
            vector.iov_base = bytes.as_ptr().cast_mut().cast();
            vector.iov_len = bytes.len();
            message.msg_hdr = zeroed_header();
            if name_len > 0 {
                message.msg_hdr.msg_name = std::ptr::from_ref(name).cast_mut().cast();
                message.msg_hdr.msg_namelen = name_len;
            }
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        let messages = &mut self.messages[..count];
        if HAS_BATCH_CALLS && calls == CallsPer::Batch {
            // SAFETY: every header points to one vector, that to its bytes, and both to memory that
            // was lent for `'a`.
            return retry(|| unsafe { send_batch(socket, messages) });
        }
        for (index, message) in messages.iter().enumerate() {
            // SAFETY: as above.
            match retry(|| unsafe { send_one(socket, &message.msg_hdr, libc::MSG_DONTWAIT) }) {
                Ok(_) => {}
                Err(first) if index == 0 => return Err(first),
                // The datagram stays in the queue, and the next attempt gets the error again.
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
        unsafe fn receive_batch(
            socket: BorrowedFd<'_>,
            messages: &mut [Message],
        ) -> io::Result<usize> {
            let (first, len) = (messages.as_mut_ptr(), messages.len() as _);
            let (raw, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT as _);
            let no_timeout = std::ptr::null_mut();
            // SAFETY: the descriptor is borrowed for the whole call, `first` begins `len` headers,
            // and what they point to is the caller's promise.
            let n = unsafe { libc::recvmmsg(raw, first, len, flags, no_timeout) };
            check_len(n as libc::ssize_t)
        }

        /// # Safety
        /// As for [`send_one`], of each message.
        unsafe fn send_batch(
            socket: BorrowedFd<'_>,
            messages: &mut [Message],
        ) -> io::Result<usize> {
            let (first, len) = (messages.as_mut_ptr(), messages.len() as _);
            let (raw, flags) = (socket.as_raw_fd(), (libc::MSG_DONTWAIT | NO_SIGNAL) as _);
            // SAFETY: as above.
            let n = unsafe { libc::sendmmsg(raw, first, len, flags) };
            check_len(n as libc::ssize_t)
        }
    }
    _ => {
        unsafe fn receive_batch(_: BorrowedFd<'_>, _: &mut [Message]) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }

        unsafe fn send_batch(_: BorrowedFd<'_>, _: &mut [Message]) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}
