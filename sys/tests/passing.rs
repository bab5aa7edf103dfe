//! Descriptors and credentials over Unix sockets.

mod common;

use kodiak_sys::socket::{
    MAX_DESCRIPTORS, peer_credentials, recv_with_descriptors, send_with_descriptors,
};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

/// A pipe whose reader is `n` bytes full, so that it can be recognised.
fn marked_pipe(n: usize) -> OwnedFd {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(&vec![b'm'; n]).unwrap();
    reader.into()
}

fn mark(pipe: OwnedFd) -> usize {
    let mut all = Vec::new();
    io::PipeReader::from(pipe).read_to_end(&mut all).unwrap();
    all.len()
}

fn closes_on_exec(descriptor: &OwnedFd) -> bool {
    // SAFETY: the descriptor is borrowed for the whole call; this command takes nothing.
    let flags = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_GETFD) };
    flags & libc::FD_CLOEXEC != 0
}

/// Whether every writer of a pipe has been closed: the end of what its reader can read.
fn has_ended(reader: &mut io::PipeReader) -> bool {
    kodiak_sys::set_nonblocking(reader.as_fd(), true).unwrap();
    matches!(reader.read(&mut [0; 8]), Ok(0))
}

#[test]
fn descriptors_arrive_in_order_owned_and_close_on_exec() {
    let (left, right) = UnixStream::pair().unwrap();
    let pipes = [marked_pipe(1), marked_pipe(2), marked_pipe(3)];
    let lent: Vec<BorrowedFd<'_>> = pipes.iter().map(AsFd::as_fd).collect();
    assert_eq!(send_with_descriptors(left.as_fd(), b"three", &lent, None).unwrap(), 5);
    drop(pipes);

    let (mut buffer, mut descriptors) = ([0; 16], Vec::new());
    let received = recv_with_descriptors(right.as_fd(), &mut buffer, &mut descriptors, 8).unwrap();
    assert_eq!((received.bytes, received.descriptors), (5, 3));
    assert!(!received.descriptors_lost && !received.is_truncated);
    assert_eq!(&buffer[..5], b"three");
    assert!(descriptors.iter().all(closes_on_exec));
    assert_eq!(descriptors.into_iter().map(mark).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn surplus_descriptors_are_closed_and_reported() {
    for wanted in 0..3 {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let lent = [writer.as_fd(); 3];
        send_with_descriptors(left.as_fd(), b"x", &lent, None).unwrap();
        drop(writer);
        let mut descriptors = Vec::new();
        let received =
            recv_with_descriptors(right.as_fd(), &mut [0; 4], &mut descriptors, wanted).unwrap();
        assert!(received.descriptors_lost);
        assert_eq!((received.descriptors, descriptors.len()), (wanted, wanted));
        if wanted > 0 {
            assert!(!has_ended(&mut reader));
        }
        drop(descriptors);
        assert!(has_ended(&mut reader), "with {wanted} wanted, the others are closed");
    }
}

#[test]
fn descriptors_are_appended_to_the_vector() {
    let (left, right) = UnixStream::pair().unwrap();
    let pipe = marked_pipe(7);
    send_with_descriptors(left.as_fd(), b"x", &[pipe.as_fd()], None).unwrap();
    let mut descriptors = vec![marked_pipe(1), marked_pipe(2)];
    let received = recv_with_descriptors(right.as_fd(), &mut [0; 4], &mut descriptors, 1).unwrap();
    assert_eq!((received.descriptors, descriptors.len()), (1, 3));
    assert_eq!(mark(descriptors.pop().unwrap()), 7);
}

#[test]
fn a_message_has_at_most_max_descriptors() {
    let (left, right) = UnixStream::pair().unwrap();
    let pipe = marked_pipe(1);
    let lent = vec![pipe.as_fd(); MAX_DESCRIPTORS + 1];
    let error = send_with_descriptors(left.as_fd(), b"x", &lent, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("253"), "{error}");
    send_with_descriptors(left.as_fd(), b"x", &lent[1..], None).unwrap();
    let mut descriptors = Vec::new();
    let received =
        recv_with_descriptors(right.as_fd(), &mut [0; 4], &mut descriptors, usize::MAX).unwrap();
    assert_eq!((received.descriptors, received.descriptors_lost), (MAX_DESCRIPTORS, false));
}

#[test]
fn descriptors_need_a_byte_and_bytes_need_no_descriptor() {
    let (left, right) = UnixStream::pair().unwrap();
    let pipe = marked_pipe(1);
    let error = send_with_descriptors(left.as_fd(), b"", &[pipe.as_fd()], None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(send_with_descriptors(left.as_fd(), b"plain", &[], None).unwrap(), 5);
    let mut descriptors = Vec::new();
    let received = recv_with_descriptors(right.as_fd(), &mut [0; 8], &mut descriptors, 4).unwrap();
    assert_eq!((received.bytes, received.descriptors, received.descriptors_lost), (5, 0, false));
}

#[test]
fn receiving_never_waits_and_ends_with_zero_bytes() {
    let (left, right) = UnixStream::pair().unwrap();
    let mut descriptors = Vec::new();
    let nothing =
        recv_with_descriptors(right.as_fd(), &mut [0; 8], &mut descriptors, 4).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    drop(left);
    assert_eq!(
        recv_with_descriptors(right.as_fd(), &mut [0; 8], &mut descriptors, 4).unwrap().bytes,
        0
    );
    // A closed peer is an error, not a signal.
    assert_eq!(
        send_with_descriptors(right.as_fd(), b"x", &[], None).unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
}

#[test]
fn datagrams_carry_descriptors_and_are_marked_if_truncated() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = UnixDatagram::bind(folder.path().join("in")).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    let to = receiver.local_addr().unwrap();
    let pipe = marked_pipe(4);
    assert_eq!(
        send_with_descriptors(sender.as_fd(), b"letter", &[pipe.as_fd()], Some(&to)).unwrap(),
        6
    );
    let mut descriptors = Vec::new();
    let received =
        recv_with_descriptors(receiver.as_fd(), &mut [0; 3], &mut descriptors, 1).unwrap();
    assert_eq!(
        (received.bytes, received.is_truncated, received.descriptors_lost),
        (3, true, false)
    );
    drop(pipe);
    assert_eq!(mark(descriptors.pop().unwrap()), 4);
    let unnamed = sender.local_addr().unwrap();
    let error = send_with_descriptors(sender.as_fd(), b"x", &[], Some(&unnamed)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn receiving_descriptors_allocates_nothing_when_there_is_room() {
    let (left, right) = UnixStream::pair().unwrap();
    let pipe = marked_pipe(1);
    let mut descriptors = Vec::with_capacity(4);
    let counted = allocation_counter::measure(|| {
        send_with_descriptors(left.as_fd(), b"x", &[pipe.as_fd(), pipe.as_fd()], None).unwrap();
        recv_with_descriptors(right.as_fd(), &mut [0; 8], &mut descriptors, 4).unwrap();
    });
    assert_eq!((descriptors.len(), counted.count_total), (2, 0));
}

#[test]
fn both_ends_report_the_credentials_of_this_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    for end in [&client, &server] {
        let peer = peer_credentials(end.as_fd()).unwrap();
        // SAFETY: no arguments, and it cannot fail.
        assert_eq!(peer.uid, unsafe { libc::geteuid() });
        // SAFETY: as above.
        assert_eq!(peer.gid, unsafe { libc::getegid() });
        if cfg!(target_os = "linux") {
            assert_eq!(peer.pid, Some(std::process::id()));
        }
    }
    assert!(peer_credentials(io::pipe().unwrap().0.as_fd()).is_err(), "not a socket");
    assert!(peer_credentials(UnixDatagram::unbound().unwrap().as_fd()).is_err(), "no peer");
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_names_can_be_connected_to() {
    use kodiak_sys::socket::connect_unix_addr;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    // The longest name, and one that contains a zero byte.
    let mut longest = format!("kodiak-sys-{}-", std::process::id()).into_bytes();
    longest.resize(common::unix_path_max(), b'\0');
    for name in [&longest[..], &longest[..30]] {
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let (client, _) = connect_unix_addr(&address).unwrap();
        listener.accept().unwrap().0.write_all(b"hidden").unwrap();
        assert_eq!(UnixStream::from(client).read(&mut [0; 8]).unwrap(), 6);
    }
    let unused = SocketAddr::from_abstract_name(&longest[..29]).unwrap();
    assert_eq!(connect_unix_addr(&unused).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let unnamed = UnixDatagram::unbound().unwrap().local_addr().unwrap();
    assert_eq!(connect_unix_addr(&unnamed).unwrap_err().kind(), ErrorKind::InvalidInput);
}
