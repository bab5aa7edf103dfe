//! Non-blocking TCP, UDP and Unix sockets and pipes for the Kodiak event loop, and a ring buffer to
//! go with them.
//!
//! Every socket here is a [`Source`](kodiak_reactor::Source): register it with an
//! [`EventLoop`](kodiak_reactor::EventLoop), and drop it when done, which deregisters it before it
//! closes. All are non-blocking from the start, closed on `exec`, and small (16 bytes a stream).
//!
//! - [`TcpListener`], [`TcpStream`], [`UdpSocket`], [`UnixListener`], [`UnixStream`],
//!   [`UnixDatagram`]
//! - [`pipe`]: pipes and children's standard streams
//! - [`Connecting`]: a stream on its way, a type of its own
//! - [`TryRead`], [`TryWrite`], [`TryRecv`]: where "would block" is `Ok(None)`, not an error
//! - [`RingBuf`]: a bounded buffer, filled from and drained to a socket with vectored calls
//! - [`BindOptions`], [`Keepalive`]: options; the others are methods of the sockets
//! - [`RecvBatch`], [`SendBatch`]: many datagrams in one system call
//! - [`Acceptor`], [`AcceptError::Shed`]: what a listener does when there is no descriptor left
//!
//! An echo that answers one client:
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
//!                 if let Some((stream, _)) = self.listener.accept().expect("descriptors are left") {
//!                     event_loop.register(&stream, Token::Client).expect("it is new");
//!                     self.client = Some(stream);
//!                 }
//!             }
//!             Token::Client => {
//!                 let client = self.client.as_mut().expect("it was registered");
//!                 if self.buffer.fill_from(client).expect("the client is there") == Fill::Closed {
//!                     event_loop.shutdown();
//!                 }
//!                 self.buffer.drain_to(client).expect("the client is there");
//!             }
//!         }
//!     }
//! }
//!
//! let listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
//! let address = listener.local_addr()?;
//! let client = std::thread::spawn(move || -> std::io::Result<String> {
//!     let mut stream = std::net::TcpStream::connect(address)?;
//!     stream.write_all(b"is anybody there?")?;
//!     let mut answer = [0; 17];
//!     stream.read_exact(&mut answer)?;
//!     Ok(String::from_utf8_lossy(&answer).into_owned())
//! });
//! let mut event_loop = EventLoop::new()?;
//! event_loop.register(&listener, Token::Listener)?;
//! event_loop.run(&mut Echo { listener, client: None, buffer: RingBuf::new(1024) })?;
//! assert_eq!(client.join().unwrap()?, "is anybody there?");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod accept;
mod acceptor;
mod connecting;
mod error;
mod options;
pub mod pipe;
mod plumbing;
mod ring_buf;
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
