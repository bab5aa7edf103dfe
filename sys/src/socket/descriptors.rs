//! Passing descriptors to another process over a Unix socket (`SCM_RIGHTS`).
//!
//! Every descriptor that arrives is owned as soon as the control message is read, so none can leak,
//! and is close-on-exec before the caller gets it.

use super::address::Address;
use super::message::{receive_one, send_one, zeroed_header};
use crate::fd::retry;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr as UnixSocketAddr;

/// The greatest number of descriptors in one message: Linux's limit (`SCM_MAX_FD`), the smallest
/// of all kernels.
pub const MAX_DESCRIPTORS: usize = 253;

const FD_BYTES: usize = size_of::<RawFd>();

/// Enough for the header of a control message, its padding, and all descriptors.
const CONTROL_BYTES: usize = 64 + MAX_DESCRIPTORS * FD_BYTES;

/// A buffer for control messages, with the alignment of their headers.
#[repr(C, align(16))]
struct Control([u8; CONTROL_BYTES]);

/// What [`recv_with_descriptors`] received, besides the descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Received {
    /// The number of bytes in the buffer; 0 is the end of a stream.
    pub bytes: usize,
    /// The number of descriptors that were appended.
    pub descriptors: usize,
    /// Whether more descriptors arrived than were asked for, or than the process may open
    /// (`MSG_CTRUNC`). They are closed.
    pub descriptors_lost: bool,
    /// Whether a datagram was longer than the buffer, and the rest is lost.
    pub is_truncated: bool,
}

/// Sends `bytes` with duplicates of `descriptors`. Returns the number of bytes that were sent.
///
/// A datagram socket sends to `to`, or to the connected peer. A stream may send only the first
/// bytes, and all descriptors with them: send the remaining bytes without descriptors. Never waits,
/// even on a blocking socket.
///
/// # Errors
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): descriptors without a byte (a stream would lose
///   them silently), more than [`MAX_DESCRIPTORS`], or an unnamed address.
/// - [`WouldBlock`](io::ErrorKind::WouldBlock): the kernel's buffer, or the receiver's queue, is
///   full.
/// - any other [kernel's error](crate#errors), for instance that too many descriptors have been
///   sent and not received.
pub fn send_with_descriptors(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    to: Option<&UnixSocketAddr>,
) -> io::Result<usize> {
    check_message(bytes, descriptors.len())?;
    let mut name = to.map(Address::unix).transpose()?;
    // The kernel only reads what these point to.
    let mut vector =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; CONTROL_BYTES]);
    let mut header = zeroed_header();
    header.msg_iov = &mut vector;
    header.msg_iovlen = 1;
    if let Some((name, len)) = &mut name {
        header.msg_name = std::ptr::from_mut(name).cast();
        header.msg_namelen = *len;
    }
    if !descriptors.is_empty() {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = space(descriptors.len()) as _;
        write_descriptors(&mut header, descriptors);
    }
    // SAFETY: the name, the one vector with its bytes, and the control buffer all outlive the call
    // and have the lengths in the header.
    retry(|| unsafe { send_one(socket, &header, libc::MSG_DONTWAIT) })
}

/// Receives bytes, and appends at most `descriptors_max` descriptors to `descriptors`.
///
/// Further descriptors are closed and reported as lost. Never waits, even on a blocking socket.
/// Allocates only if `descriptors` has too little capacity.
///
/// The descriptors are close-on-exec. They are duplicates of the sender's, share the flags of the
/// open file, such as `O_NONBLOCK`, and may be of any type: check them.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing has arrived; otherwise the
/// [kernel's error](crate#errors).
pub fn recv_with_descriptors(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    descriptors_max: usize,
) -> io::Result<Received> {
    let wanted = descriptors_max.min(MAX_DESCRIPTORS);
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; CONTROL_BYTES]);
    let mut header = zeroed_header();
    let bytes = retry(|| {
        header = zeroed_header();
        header.msg_iov = &mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control_len(wanted) as _;
        // SAFETY: the one vector with its buffer, and the control buffer, outlive the call and have
        // the lengths in the header.
        unsafe { receive_one(socket, &mut header, libc::MSG_DONTWAIT | CLOSE_ON_EXEC) }
    })?;
    let before = descriptors.len();
    let has_surplus = take_descriptors(&header, descriptors, wanted)?;
    Ok(Received {
        bytes,
        descriptors: descriptors.len() - before,
        descriptors_lost: has_surplus || header.msg_flags & libc::MSG_CTRUNC != 0,
        is_truncated: header.msg_flags & libc::MSG_TRUNC != 0,
    })
}

fn check_message(bytes: &[u8], descriptors: usize) -> io::Result<()> {
    let refuse = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if descriptors > MAX_DESCRIPTORS {
        return refuse(format!(
            "a message carries at most {MAX_DESCRIPTORS} descriptors; this one has {descriptors}"
        ));
    }
    if descriptors > 0 && bytes.is_empty() {
        return refuse("descriptors can only be sent with at least one byte".to_owned());
    }
    Ok(())
}

/// Apple's kernel cannot set the flag on arrival.
#[cfg(target_vendor = "apple")]
const CLOSE_ON_EXEC: libc::c_int = 0;
#[cfg(not(target_vendor = "apple"))]
const CLOSE_ON_EXEC: libc::c_int = libc::MSG_CMSG_CLOEXEC;

/// The size of a control message with this many descriptors, padding included.
fn space(descriptors: usize) -> usize {
    // SAFETY: it only calculates.
    unsafe { libc::CMSG_SPACE((descriptors * FD_BYTES) as libc::c_uint) as usize }
}

/// The length of the control buffer in which to receive this many descriptors.
///
/// Linux uses all of it, padding included, and closes what does not fit, so there it is exact. On
/// other kernels it is the whole buffer, because some leak the descriptors that do not fit; then
/// this module closes them.
fn control_len(descriptors: usize) -> usize {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        // SAFETY: it only calculates.
        unsafe { libc::CMSG_LEN((descriptors * FD_BYTES) as libc::c_uint) as usize }
    } else {
        CONTROL_BYTES
    }
}

/// Writes one control message into the header's control buffer.
fn write_descriptors(header: &mut libc::msghdr, descriptors: &[BorrowedFd<'_>]) {
    // SAFETY: the header's control buffer is ours, aligned, and has space for a control message.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    assert!(!first.is_null(), "the control buffer has space for a message");
    // SAFETY: it only calculates.
    let len = unsafe { libc::CMSG_LEN((descriptors.len() * FD_BYTES) as libc::c_uint) };
    // SAFETY: `first` is the aligned beginning of our control buffer, and has no other reference.
    let message = unsafe { &mut *first };
    message.cmsg_level = libc::SOL_SOCKET;
    message.cmsg_type = libc::SCM_RIGHTS;
    message.cmsg_len = len as _;
    // SAFETY: it only calculates: the data follow the header.
    let data = unsafe { libc::CMSG_DATA(first) }.cast::<RawFd>();
    for (index, descriptor) in descriptors.iter().enumerate() {
        // SAFETY: the buffer has at least `space(descriptors.len())` bytes.
        let slot = unsafe { data.add(index) };
        // SAFETY: as above; the data of control messages need not be aligned.
        unsafe { slot.write_unaligned(descriptor.as_raw_fd()) };
    }
}

/// Takes ownership of every descriptor that arrived, keeps the first `wanted`, and closes the
/// rest. Returns whether there was a rest.
fn take_descriptors(
    header: &libc::msghdr,
    descriptors: &mut Vec<OwnedFd>,
    wanted: usize,
) -> io::Result<bool> {
    let kept_len = descriptors.len() + wanted;
    let (mut has_surplus, mut failed) = (false, None);
    // SAFETY: the kernel has filled the control buffer and written its length into the header.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        for_each_descriptor(message, |descriptor| {
            // Where the kernel did not set the flag. If it cannot be set, the descriptor is closed.
            let closed_on_exec = if CLOSE_ON_EXEC == 0 {
                crate::fd::set_cloexec(std::os::fd::AsFd::as_fd(&descriptor))
            } else {
                Ok(())
            };
            match closed_on_exec {
                Err(error) => failed = Some(error),
                Ok(()) if descriptors.len() < kept_len => descriptors.push(descriptor),
                Ok(()) => has_surplus = true,
            }
        });
        // SAFETY: as above, and `message` is one of its messages.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    failed.map_or(Ok(has_surplus), Err)
}

/// Passes every descriptor of one control message to `take`; none if the message is of another
/// type.
fn for_each_descriptor(message: *const libc::cmsghdr, mut take: impl FnMut(OwnedFd)) {
    // SAFETY: the caller got it from `CMSG_FIRSTHDR` or `CMSG_NXTHDR`, so it is a whole header.
    let header = unsafe { message.read_unaligned() };
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
        return;
    }
    // SAFETY: it only calculates.
    let empty = unsafe { libc::CMSG_LEN(0) } as usize;
    // SAFETY: it only calculates: the data follow the header.
    let data = unsafe { libc::CMSG_DATA(message) }.cast::<RawFd>();
    let len: usize = header.cmsg_len as _; // its type differs between systems
    for index in 0..len.saturating_sub(empty) / FD_BYTES {
        // SAFETY: the kernel has written as many descriptors as the length counts.
        let slot = unsafe { data.add(index) };
        // SAFETY: as above.
        let raw = unsafe { slot.read_unaligned() };
        // SAFETY: the kernel has just opened it for us, and it has no other owner.
        take(unsafe { OwnedFd::from_raw_fd(raw) });
    }
}
