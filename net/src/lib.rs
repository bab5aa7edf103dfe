//! Non-blocking TCP, UDP and Unix sockets and pipes for the Kodiak event loop, with a ring buffer.
//!
//! An echo server for one client:
//!
//! ```
//! use kodiak_net::{Fill, RingBuf, TcpListener, TcpStream};
//! use kodiak_reactor::{EventLoop, Handler, ReadHint};
//! use std::io::{Read, Write};
//!
//! #[derive(Clone, Copy)]
//! enum Token { Listener, Client }
//!
//! struct Echo { listener: TcpListener, client: Option<TcpStream>, buffer: RingBuf }
//!
//! impl Handler<Token, ()> for Echo {
//!     fn readable(&mut self, event_loop: &mut EventLoop<Token, ()>, token: Token, _: ReadHint) {
//!         match token {
//!             Token::Listener => {
//!                 let accepted = self.listener.accept().expect("descriptors are left");
//!                 if let Some((stream, _peer)) = accepted {
//!                     event_loop.register(&stream, Token::Client).expect("it is new");
//!                     self.client = Some(stream);
//!                 }
//!             }
//!             Token::Client => {
//!                 let client = self.client.as_mut().expect("it was registered");
//!                 if self.buffer.fill_from(client).expect("connected") == Fill::Closed {
//!                     event_loop.shutdown();
//!                 }
//!                 self.buffer.drain_to(client).expect("connected");
//!             }
//!         }
//!     }
//! }
//!
//! let listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
//! let address = listener.local_addr()?;
//! let client = std::thread::spawn(move || -> std::io::Result<String> {
//!     let mut stream = std::net::TcpStream::connect(address)?;
//!     stream.write_all(b"hello")?;
//!     let mut answer = [0; 5];
//!     stream.read_exact(&mut answer)?;
//!     Ok(String::from_utf8_lossy(&answer).into_owned())
//! });
//! let mut event_loop = EventLoop::new()?;
//! event_loop.register(&listener, Token::Listener)?;
//! event_loop.run(&mut Echo { listener, client: None, buffer: RingBuf::new(1024) })?;
//! assert_eq!(client.join().unwrap()?, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every socket is a [`Source`](kodiak_reactor::Source): register it with an
//! [`EventLoop`](kodiak_reactor::EventLoop), and drop it when done, which deregisters it before it
//! closes. All sockets are non-blocking from the start, closed on `exec`, and small (16 bytes a
//! stream).
//!
//! - [`TcpListener`], [`TcpStream`], [`UdpSocket`], [`UnixListener`], [`UnixStream`],
//!   [`UnixDatagram`]: the sockets
//! - [`pipe`]: pipes, and the standard streams of child processes
//! - [`Connecting`]: a stream that is not connected yet
//! - [`TryRead`], [`TryWrite`], [`TryRecv`]: "would block" is `Ok(None)`, not an error
//! - [`RingBuf`]: a bounded buffer, filled from and drained to a socket with vectored calls
//! - [`BindOptions`], [`Keepalive`]: options; the others are methods of the sockets
//! - [`RecvBatch`], [`SendBatch`]: many datagrams in one system call
//! - [`Acceptor`], [`AcceptError::Shed`]: a listener when the process runs out of descriptors
//!
//! # Errors
//!
//! Binding, connecting and accepting have errors that name the address: [`BindError`],
//! [`ConnectError`] and [`AcceptError`]. Their cause is the error's `source`. All other methods
//! return the kernel's error as it is. Getters, setters and conversions of an open socket are not
//! expected to fail, except where their documentation gives a reason. A method that opens a
//! descriptor fails if none is free.
#![forbid(unsafe_code)]

mod acceptor;
mod connecting;
mod error;
mod options;
pub mod pipe;
mod reserve;
mod ring_buf;
mod socket_macros;
mod tcp;
mod try_io;
mod udp;
mod unix;

pub use acceptor::{Accept, Acceptor};
pub use connecting::{Connecting, Finish};
pub use error::{AcceptError, Address, BindError, ConnectError, DescriptorLimit};
pub use kodiak_sys::socket::{
    Datagram, PeerCredentials, PushError, Received, RecvBatch, SendBatch,
};
pub use options::{BindOptions, DEFAULT_BACKLOG, Keepalive};
pub use ring_buf::{Fill, Reader, RingBuf, Writer};
pub use tcp::{TcpListener, TcpStream};
pub use try_io::{TryRead, TryRecv, TryWrite};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixListener, UnixStream};
