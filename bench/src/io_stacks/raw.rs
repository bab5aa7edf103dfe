//! The hand-written epoll loop to which all others are compared: `epoll_wait` and a table by
//! descriptor.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

use libc::{EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP};

use super::{
    ACCEPTS_PER_EVENT, BUFFER_BYTES, Connection, EVENTS_PER_WAIT, IoStack, NextStep,
    PACKETS_PER_EVENT, ReadUntil, Turn,
};
use crate::sys::{self, Epoll};

pub(crate) struct Raw;

impl IoStack for Raw {
    fn name(&self) -> &'static str {
        "raw epoll"
    }

    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()> {
        let mut epoll = Epoll::new(EVENTS_PER_WAIT)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut connections: Vec<Option<Connection<TcpStream>>> = Vec::new();
        let listener_key = listener.as_raw_fd() as u64;
        epoll.add(listener.as_raw_fd(), EPOLLIN, listener_key)?;
        loop {
            for index in 0..epoll.wait(-1)? {
                let (key, _) = epoll.event(index);
                if key == listener_key {
                    accept(&epoll, &listener, &mut connections)?;
                    continue;
                }
                let Some(connection) = &mut connections[key as usize] else { continue };
                let step = connection.echo(&mut buffer, ReadUntil::OneRead);
                if step == NextStep::Close {
                    connections[key as usize] = None;
                } else if step != connection.waits_for {
                    connection.waits_for = step;
                    let flags =
                        if step == NextStep::Write { EPOLLOUT } else { EPOLLIN | EPOLLRDHUP };
                    epoll.modify(key as i32, flags, key)?;
                }
            }
        }
    }

    fn serve_udp(&self, socket: UdpSocket) -> io::Result<()> {
        let mut epoll = Epoll::new(EVENTS_PER_WAIT)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        epoll.add(socket.as_raw_fd(), EPOLLIN, 0)?;
        loop {
            for _ in 0..epoll.wait(-1)? {
                for _ in 0..PACKETS_PER_EVENT {
                    let Ok((count, sender)) = socket.recv_from(&mut buffer) else { break };
                    let _ = socket.send_to(&buffer[..count], sender);
                }
            }
        }
    }

    fn turns(&self, _: Turn, count: u64) -> Option<io::Result<Duration>> {
        Some(turns(count))
    }
}

fn accept(
    epoll: &Epoll,
    listener: &TcpListener,
    table: &mut Vec<Option<Connection<TcpStream>>>,
) -> io::Result<()> {
    for _ in 0..ACCEPTS_PER_EVENT {
        let Some(stream) = accept_one(listener) else { return Ok(()) };
        let fd = stream.as_raw_fd();
        stream.set_nodelay(true)?;
        epoll.add(fd, EPOLLIN | EPOLLRDHUP, fd as u64)?;
        if table.len() <= fd as usize {
            table.resize_with(fd as usize + 1, || None);
        }
        table[fd as usize] = Some(Connection::new(stream));
    }
    Ok(())
}

/// Accepts a connection without asking for the peer's address.
pub(super) fn accept_one(listener: &TcpListener) -> Option<TcpStream> {
    let (listener, no_address) = (listener.as_raw_fd(), std::ptr::null_mut());
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: without a buffer for an address the call writes nothing.
    let fd = unsafe { libc::accept4(listener, no_address, std::ptr::null_mut(), flags) };
    // SAFETY: just opened, and it has no other owner.
    (fd != -1).then(|| unsafe { TcpStream::from_raw_fd(fd) })
}

fn turns(count: u64) -> io::Result<Duration> {
    let mut epoll = Epoll::new(EVENTS_PER_WAIT)?;
    let eventfd = sys::eventfd()?;
    epoll.add(eventfd.as_raw_fd(), EPOLLIN | EPOLLET, 7)?;
    let begun = Instant::now();
    let mut seen = 0;
    for _ in 0..count {
        sys::add_one(&eventfd);
        for index in 0..epoll.wait(-1)? {
            seen += epoll.event(index).0;
        }
    }
    assert_eq!(seen, 7 * count);
    Ok(begun.elapsed())
}
