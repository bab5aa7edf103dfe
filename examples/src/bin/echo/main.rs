//! Echo over TCP, UDP and Unix sockets, all on one loop and one thread. Ctrl-C ends it.
//!
//! ```sh
//! cargo run --bin echo -- --tcp 127.0.0.1:7007 --udp 127.0.0.1:7007 --unix /tmp/echo
//! ```
//!
//! Prints the addresses it is bound to, one per line (`tcp 127.0.0.1:7007`), so that port 0 can be
//! used. Every client has one bounded buffer: a client that sends without reading is not read from
//! until it reads. A client beyond the limit of clients or descriptors is disconnected at once, and
//! the number of such clients is reported.
#![forbid(unsafe_code)]

mod connection;
mod datagrams;
mod server;
mod unix_path;

use std::error::Error;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kodiak_reactor::{EventLoop, Signal};
use server::Server;

/// The port of the echo protocol is 7, which needs privileges.
const DEFAULT_PORT: u16 = 7007;

/// Sends back what it receives, over TCP, UDP and Unix sockets. Ctrl-C ends it.
///
/// Without any address it serves TCP and UDP on 127.0.0.1:7007 and the Unix socket kodiak-echo in
/// the folder for temporary files.
#[derive(Parser)]
struct Flags {
    /// Serve TCP here; port 0 lets the kernel choose. May be repeated.
    #[arg(long, value_name = "ADDR")]
    tcp: Vec<SocketAddr>,
    /// Serve UDP here; port 0 lets the kernel choose. May be repeated.
    #[arg(long, value_name = "ADDR")]
    udp: Vec<SocketAddr>,
    /// Serve a Unix socket at this path. May be repeated.
    #[arg(long, value_name = "PATH")]
    unix: Vec<PathBuf>,
    /// The largest number of TCP and Unix clients at one time.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_clients: usize,
}

impl Flags {
    fn with_defaults(mut self) -> Flags {
        if self.tcp.is_empty() && self.udp.is_empty() && self.unix.is_empty() {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
            self.tcp.push(address);
            self.udp.push(address);
            self.unix.push(std::env::temp_dir().join("kodiak-echo"));
        }
        self
    }
}

/// An error and its causes, as one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn run(flags: &Flags) -> io::Result<()> {
    let mut event_loop = EventLoop::new()?;
    event_loop.watch_signals(&[Signal::INT, Signal::TERM])?;
    let mut server = Server::bind(&mut event_loop, flags)?;
    let mut output = io::stdout().lock();
    for address in server.addresses()? {
        writeln!(output, "{address}")?;
    }
    output.flush()?;
    drop(output);
    event_loop.run(&mut server)?;
    Ok(())
}

fn main() -> ExitCode {
    match run(&Flags::parse().with_defaults()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}
