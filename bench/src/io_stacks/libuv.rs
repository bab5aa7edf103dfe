//! libuv, through the C program `csrc/libuv.c`.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{IntoRawFd, RawFd};
use std::time::Duration;

use super::{IoStack, Turn};

pub(crate) struct Libuv;

unsafe extern "C" {
    fn kodiak_uv_serve_tcp(fd: libc::c_int) -> libc::c_int;
    fn kodiak_uv_serve_udp(fd: libc::c_int) -> libc::c_int;
    fn kodiak_uv_wakes(count: u64) -> u64;
}

fn stopped(answer: libc::c_int) -> io::Result<()> {
    Err(io::Error::other(format!("libuv stopped: {answer}")))
}

impl IoStack for Libuv {
    fn name(&self) -> &'static str {
        "libuv"
    }

    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()> {
        let fd: RawFd = listener.into_raw_fd();
        // SAFETY: libuv owns the descriptor from here on.
        stopped(unsafe { kodiak_uv_serve_tcp(fd) })
    }

    fn serve_udp(&self, socket: UdpSocket) -> io::Result<()> {
        let fd: RawFd = socket.into_raw_fd();
        // SAFETY: libuv owns the descriptor from here on.
        stopped(unsafe { kodiak_uv_serve_udp(fd) })
    }

    /// `uv_async_send`, libuv's wake; its poll handles are not edge-triggered.
    fn turns(&self, turn: Turn, count: u64) -> Option<io::Result<Duration>> {
        // SAFETY: it makes its own loop, and closes it before it returns.
        (turn == Turn::Wake).then(|| Ok(Duration::from_nanos(unsafe { kodiak_uv_wakes(count) })))
    }
}
