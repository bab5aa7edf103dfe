//! The conditions that are reported for TCP, Unix sockets and pipes.

mod common;

use common::{readiness_until, ready_now, tcp_pair, unix_pair, wait, watching};
use kodiak_sys::{Interest, Readiness, Selector, Trigger, socket};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

#[test]
fn an_idle_connection_is_writable_and_nothing_else() {
    let ((a, _b), (c, _d)) = (unix_pair(), tcp_pair());
    assert_eq!(wait(&watching(&a, BOTH, Trigger::Level))[0].readiness, Readiness::WRITABLE);
    assert_eq!(wait(&watching(&c, BOTH, Trigger::Level))[0].readiness, Readiness::WRITABLE);
}

#[test]
fn a_half_close_closes_reading_only() {
    let ((a, b), (c, d)) = (unix_pair(), tcp_pair());
    b.shutdown(Shutdown::Write).unwrap();
    d.shutdown(Shutdown::Write).unwrap();
    for selector in [watching(&a, BOTH, Trigger::Level), watching(&c, BOTH, Trigger::Level)] {
        let readiness = readiness_until(&selector, Readiness::is_read_closed);
        assert!(
            readiness.is_writable() && !readiness.is_write_closed() && !readiness.is_error(),
            "{readiness:?}"
        );
    }
}

#[test]
fn data_before_a_half_close_is_still_readable() {
    let (mut c, mut d) = tcp_pair();
    d.write_all(b"last words").unwrap();
    d.shutdown(Shutdown::Write).unwrap();
    let selector = watching(&c, Interest::READABLE, Trigger::Level);
    let readiness = readiness_until(&selector, Readiness::is_read_closed);
    assert!(readiness.is_readable(), "{readiness:?}");
    let mut text = Vec::new();
    c.read_to_end(&mut text).unwrap();
    assert_eq!(text, b"last words");
}

#[test]
fn a_hang_up_closes_both_directions() {
    let ((a, b), (c, d)) = (unix_pair(), tcp_pair());
    drop(b);
    let hung_up = |readiness: Readiness| readiness.is_read_closed() && readiness.is_write_closed();
    readiness_until(&watching(&a, BOTH, Trigger::Level), hung_up);
    // A TCP connection is closed both ways once this side has shut down too.
    drop(d);
    c.shutdown(Shutdown::Write).unwrap();
    readiness_until(&watching(&c, BOTH, Trigger::Level), hung_up);
}

#[test]
fn a_reset_is_an_error_that_can_be_taken() {
    let (mut c, d) = tcp_pair();
    c.write_all(b"never read").unwrap();
    readiness_until(&watching(&d, Interest::READABLE, Trigger::Level), Readiness::is_readable);
    drop(d); // with unread data: a reset
    let selector = watching(&c, BOTH, Trigger::Level);
    let readiness = readiness_until(&selector, Readiness::is_error);
    assert!(readiness.is_read_closed(), "{readiness:?}");
    let error = socket::take_error(c.as_fd()).unwrap().expect("an error is pending");
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    assert!(socket::take_error(c.as_fd()).unwrap().is_none(), "it was taken");
    assert_eq!(c.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_refused_connection_is_an_error_and_ends_writable() {
    // The listener is closed at once.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    match socket::connect_tcp(address) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        Ok((client, _)) => {
            let selector = watching(&client, Interest::WRITABLE, Trigger::Level);
            readiness_until(&selector, |readiness| readiness.is_error() || readiness.is_writable());
            let error = socket::take_error(client.as_fd()).unwrap().unwrap();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
    }
}

#[test]
fn a_pipe_whose_writer_is_closed_is_read_closed() {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let selector = watching(&reader, Interest::READABLE, Trigger::Level);
    writer.write_all(b"x").unwrap();
    assert_eq!(wait(&selector)[0].readiness, Readiness::READABLE);
    drop(writer);
    let readiness = readiness_until(&selector, Readiness::is_read_closed);
    assert!(readiness.is_readable(), "the written byte can still be read: {readiness:?}");
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
    readiness_until(&selector, Readiness::is_read_closed);
}

#[test]
fn a_pipe_without_a_reader_is_an_error_or_write_closed() {
    let (reader, writer) = std::io::pipe().unwrap();
    let selector = watching(&writer, Interest::WRITABLE, Trigger::Level);
    assert_eq!(wait(&selector)[0].readiness, Readiness::WRITABLE);
    drop(reader);
    readiness_until(&selector, |readiness| readiness.is_error() || readiness.is_write_closed());
}

#[test]
fn a_listener_is_readable_when_it_can_accept() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let selector = watching(&listener, Interest::READABLE, Trigger::Level);
    assert!(ready_now(&selector).is_empty());
    let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(wait(&selector)[0].readiness, Readiness::READABLE);
    listener.accept().unwrap();
    assert!(ready_now(&selector).is_empty());
}

#[test]
fn an_empty_datagram_is_readable_and_not_an_end() {
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let selector = watching(&a, Interest::READABLE, Trigger::Level);
    b.send_to(&[], a.local_addr().unwrap()).unwrap();
    assert_eq!(wait(&selector)[0].readiness, Readiness::READABLE);
}

/// Adds `socket` with priority interest; false if the kernel does not support it.
fn add_priority(selector: &Selector, socket: &impl AsFd, interest: Interest) -> bool {
    match selector.add(socket.as_fd(), 1, interest | Interest::PRIORITY, Trigger::Level) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            println!("skipped: {error}");
            false
        }
    }
}

fn send_out_of_band(socket: &impl AsRawFd) {
    // SAFETY: one byte from a static; the descriptor is borrowed for the whole call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1);
}

#[test]
fn out_of_band_data_is_priority_and_never_readable() {
    let (c, mut d) = tcp_pair();
    let selector = Selector::new().unwrap();
    if !add_priority(&selector, &c, Interest::READABLE) {
        return;
    }
    send_out_of_band(&d);
    assert_eq!(readiness_until(&selector, Readiness::is_priority), Readiness::PRIORITY);
    d.write_all(b"ordinary").unwrap();
    let readiness = readiness_until(&selector, Readiness::is_readable);
    assert!(readiness.is_priority(), "{readiness:?}");
}

#[test]
fn out_of_band_data_is_not_reported_as_readable() {
    let (c, mut d) = tcp_pair();
    let (mut c2, reads) =
        (c.try_clone().unwrap(), watching(&c, Interest::READABLE, Trigger::Level));
    send_out_of_band(&d);
    d.write_all(b"after").unwrap();
    assert_eq!(readiness_until(&reads, Readiness::is_readable), Readiness::READABLE);
    let mut text = [0; 16];
    let len = c2.read(&mut text).unwrap();
    assert_eq!(&text[..len], b"after", "and the urgent byte is not in the stream");
}
