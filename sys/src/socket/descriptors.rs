//! Open files for another process, over a Unix socket (`SCM_RIGHTS`).
//!
//! What arrives is owned from the moment at which the kernel's message is looked at, so that
//! nothing leaks whatever happens next, and closed on `exec` before anybody sees it.

use super::address::Address;
use super::message::{blank_header, receive_one, send_one};
use crate::fd::retry;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr as UnixSocketAddr;

/// No message carries more descriptors: Linux's limit (`SCM_MAX_FD`), the smallest of all.
pub const MAX_DESCRIPTORS: usize = 253;

const FD_BYTES: usize = size_of::<RawFd>();

/// Enough for the header of a control message, its padding, and all descriptors.
const CONTROL_BYTES: usize = 64 + MAX_DESCRIPTORS * FD_BYTES;

/// Room for control messages, aligned as their headers want it.
#[repr(C, align(16))]
struct Control([u8; CONTROL_BYTES]);

/// What [`recv_with_descriptors`] brought, besides the descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Received {
    /// How many bytes are in the buffer; of a stream, 0 is its end.
    pub bytes: usize,
    /// How many descriptors were appended.
    pub descriptors: usize,
    /// Whether more descriptors came than were asked for, or than the process had room for
    /// (`MSG_CTRUNC`). They are closed.
    pub descriptors_lost: bool,
    /// Whether a datagram was longer than the buffer, and the rest is lost.
    pub is_truncated: bool,
}

/// Sends `bytes`, and duplicates of `descriptors` with them; of a datagram socket, to `to` or to
/// the connected peer.
///
/// Answers how many bytes went. Of a stream that may be fewer than were given, and then the
/// descriptors have gone with those that went: send the rest without them. Never waits, even if the
/// socket is a blocking one.
///
/// # Errors
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): no byte for the descriptors to travel with (a
///   stream would lose them silently), more than [`MAX_DESCRIPTORS`], or an unnamed address.
/// - [`WouldBlock`](io::ErrorKind::WouldBlock): the kernel's buffer, or the receiver's queue, is
///   full.
/// - whatever else the kernel says, for instance that too many descriptors are on their way
///   already.
pub fn send_with_descriptors(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    to: Option<&UnixSocketAddr>,
) -> io::Result<usize> {
    refuse_misfits(bytes, descriptors.len())?;
    let mut name = to.map(Address::unix).transpose()?;
    // The kernel only reads what these point to.
    let mut vector =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; CONTROL_BYTES]);
    let mut header = blank_header();
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
    // SAFETY: the name, the one vector with its bytes, and the control room all outlive the call
    // and are as long as it says.
    retry(|| unsafe { send_one(socket, &header, libc::MSG_DONTWAIT) })
}

/// Receives bytes, and at most `descriptors_max` descriptors with them, which are appended to
/// `descriptors`; those beyond are closed and reported. Never waits, even if the socket is a
/// blocking one.
///
/// The descriptors are closed on `exec`. They are duplicates of what the sender had, flags of the
/// open file such as `O_NONBLOCK` included, and nobody has checked what they are.
///
/// It allocates only if `descriptors` has too little room.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when nothing waits; otherwise what the kernel says.
pub fn recv_with_descriptors(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    descriptors_max: usize,
) -> io::Result<Received> {
    let wanted = descriptors_max.min(MAX_DESCRIPTORS);
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; CONTROL_BYTES]);
    let mut header = blank_header();
    let bytes = retry(|| {
        header = blank_header();
        header.msg_iov = &mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = room(wanted) as _;
        // SAFETY: the one vector with its buffer, and the control room, outlive the call and are as
        // long as it says.
        unsafe { receive_one(socket, &mut header, libc::MSG_DONTWAIT | CLOSE_ON_EXEC) }
    })?;
    let before = descriptors.len();
    let surplus = take_descriptors(&header, descriptors, wanted)?;
    Ok(Received {
        bytes,
        descriptors: descriptors.len() - before,
        descriptors_lost: surplus || header.msg_flags & libc::MSG_CTRUNC != 0,
        is_truncated: header.msg_flags & libc::MSG_TRUNC != 0,
    })
}

fn refuse_misfits(bytes: &[u8], descriptors: usize) -> io::Result<()> {
    let refuse = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if descriptors > MAX_DESCRIPTORS {
        return refuse(format!(
            "a message carries at most {MAX_DESCRIPTORS} descriptors; this one has {descriptors}"
        ));
    }
    if descriptors > 0 && bytes.is_empty() {
        return refuse("descriptors need at least one byte to travel with".to_owned());
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

/// How much room to offer for this many descriptors. Linux fills it, padding included, and closes
/// what does not fit, so there it is exact. Elsewhere it is all there is, since some kernels leak
/// what they cut off: we close it then.
fn room(descriptors: usize) -> usize {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        // SAFETY: it only calculates.
        unsafe { libc::CMSG_LEN((descriptors * FD_BYTES) as libc::c_uint) as usize }
    } else {
        CONTROL_BYTES
    }
}

/// Writes the one control message, for which the header has room.
fn write_descriptors(header: &mut libc::msghdr, descriptors: &[BorrowedFd<'_>]) {
    // SAFETY: the header's control room is ours, aligned, and has space for a control message.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    assert!(!first.is_null(), "there is room for a control message");
    // SAFETY: it only calculates.
    let len = unsafe { libc::CMSG_LEN((descriptors.len() * FD_BYTES) as libc::c_uint) };
    // SAFETY: `first` is the aligned beginning of our control room, and nobody else refers to it.
    let message = unsafe { &mut *first };
    message.cmsg_level = libc::SOL_SOCKET;
    message.cmsg_type = libc::SCM_RIGHTS;
    message.cmsg_len = len as _;
    // SAFETY: it only calculates: the data follow the header.
    let data = unsafe { libc::CMSG_DATA(first) }.cast::<RawFd>();
    for (index, descriptor) in descriptors.iter().enumerate() {
        // SAFETY: the room is at least `space(descriptors.len())` bytes.
        let place = unsafe { data.add(index) };
        // SAFETY: as above; the data of control messages need not be aligned.
        unsafe { place.write_unaligned(descriptor.as_raw_fd()) };
    }
}

/// Takes over every descriptor that came, keeps the first `wanted`, closes the rest, and says
/// whether there was a rest.
fn take_descriptors(
    header: &libc::msghdr,
    descriptors: &mut Vec<OwnedFd>,
    wanted: usize,
) -> io::Result<bool> {
    let kept_len = descriptors.len() + wanted;
    let (mut surplus, mut failed) = (false, None);
    // SAFETY: the kernel has filled the control room and written its length into the header.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        for_each_descriptor(message, |descriptor| {
            // Where the kernel could not do it on arrival; a descriptor for which it fails is not
            // handed out.
            let closed_on_exec = if CLOSE_ON_EXEC == 0 {
                crate::fd::set_cloexec(std::os::fd::AsFd::as_fd(&descriptor))
            } else {
                Ok(())
            };
            match closed_on_exec {
                Err(error) => failed = Some(error),
                Ok(()) if descriptors.len() < kept_len => descriptors.push(descriptor),
                Ok(()) => surplus = true,
            }
        });
        // SAFETY: as above, and `message` is one of its messages.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    failed.map_or(Ok(surplus), Err)
}

/// Hands over the descriptors of one control message from the kernel; none if it is of another
/// kind.
fn for_each_descriptor(message: *const libc::cmsghdr, mut take: impl FnMut(OwnedFd)) {
    // SAFETY: the caller got it from `CMSG_FIRSTHDR` or `CMSG_NXTHDR`, so a whole header is there.
    let head = unsafe { message.read_unaligned() };
    if (head.cmsg_level, head.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
        return;
    }
    // SAFETY: it only calculates.
    let empty = unsafe { libc::CMSG_LEN(0) } as usize;
    // SAFETY: it only calculates: the data follow the header.
    let data = unsafe { libc::CMSG_DATA(message) }.cast::<RawFd>();
    let len: usize = head.cmsg_len as _; // of a type of its own on each system
    for index in 0..len.saturating_sub(empty) / FD_BYTES {
        // SAFETY: the kernel has written as many descriptors as the length says.
        let place = unsafe { data.add(index) };
        // SAFETY: as above.
        let raw = unsafe { place.read_unaligned() };
        // SAFETY: the kernel has just opened it for us, and it has no other owner.
        take(unsafe { OwnedFd::from_raw_fd(raw) });
    }
}
