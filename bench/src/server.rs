//! A library's server as a process of its own, pinned to its core.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};

use crate::io_stacks::{self, IoStack};
use crate::{sys, usage};

/// In the server's process: binds, prints the port, and serves until the process is killed.
pub(crate) fn serve(library: &str, service: &str) -> io::Result<()> {
    let stack = io_stacks::find(library).ok_or_else(usage)?;
    sys::pin(sys::SERVER_CORE);
    match service {
        "tcp" => {
            // All of 127.0.0.0/8: the ports of one address are too few for the load.
            let listener = TcpListener::bind("0.0.0.0:0")?;
            // SAFETY: no pointers. The queue is longer than std's.
            sys::check(unsafe { libc::listen(listener.as_raw_fd(), 4096) })?;
            listener.set_nonblocking(true)?;
            println!("{}", listener.local_addr()?.port());
            stack.serve_tcp(listener)
        }
        "udp" => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_nonblocking(true)?;
            println!("{}", socket.local_addr()?.port());
            stack.serve_udp(socket)
        }
        _ => Err(usage()),
    }
}

/// In the load's process: a server that is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start(stack: &dyn IoStack, service: &str) -> io::Result<Server> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(program)
            .args(["serve", stack.name(), service])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout =
            child.stdout.take().ok_or_else(|| io::Error::other("the server has no output"))?;
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line
            .trim()
            .parse()
            .map_err(|_| io::Error::other(format!("the server printed {line:?}, not a port")))?;
        Ok(Server { child, port })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
