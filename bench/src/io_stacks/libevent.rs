//! libevent, through the C program `csrc/libevent.c`.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{IntoRawFd, RawFd};
use std::time::Duration;

use super::{IoStack, Turn};

pub(crate) struct Libevent;

unsafe extern "C" {
    fn kodiak_event_serve_tcp(fd: libc::c_int) -> libc::c_int;
    fn kodiak_event_serve_udp(fd: libc::c_int) -> libc::c_int;
    fn kodiak_event_turns(count: u64) -> u64;
}

fn stopped(answer: libc::c_int) -> io::Result<()> {
    Err(io::Error::other(format!("libevent stopped: {answer}")))
}

impl IoStack for Libevent {
    fn name(&self) -> &'static str {
        "libevent"
    }

    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()> {
        let fd: RawFd = listener.into_raw_fd();
        // SAFETY: the C program owns the descriptor from here on.
        stopped(unsafe { kodiak_event_serve_tcp(fd) })
    }

    fn serve_udp(&self, socket: UdpSocket) -> io::Result<()> {
        let fd: RawFd = socket.into_raw_fd();
        // SAFETY: the C program owns the descriptor from here on.
        stopped(unsafe { kodiak_event_serve_udp(fd) })
    }

    /// Its wake from other threads is an eventfd, too, so only that is measured.
    fn turns(&self, turn: Turn, count: u64) -> Option<io::Result<Duration>> {
        // SAFETY: it makes its own event base, and frees it before it returns.
        (turn == Turn::Event)
            .then(|| Ok(Duration::from_nanos(unsafe { kodiak_event_turns(count) })))
    }
}
