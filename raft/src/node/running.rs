//! A node on a loop and a thread of its own.

use std::{
    net::SocketAddr,
    thread::{Builder, JoinHandle},
};

use kodiak_reactor::{EventLoop, Handler, ReadHint, Remote};

use super::{Handle, Node, NodeError, Options, Token};
use crate::replica::StateMachine;

/// The handler of a loop that has nothing but a node.
struct Alone<S>(Node<S>);

impl<S: StateMachine> Handler<Token, ()> for Alone<S> {
    fn readable(&mut self, event_loop: &mut EventLoop<Token, ()>, token: Token, hint: ReadHint) {
        self.0.readable(event_loop, token, hint);
    }

    fn writable(&mut self, event_loop: &mut EventLoop<Token, ()>, token: Token) {
        self.0.writable(event_loop, token);
    }

    fn timeout(&mut self, event_loop: &mut EventLoop<Token, ()>, token: Token) {
        self.0.timeout(event_loop, token);
    }

    fn turn_end(&mut self, event_loop: &mut EventLoop<Token, ()>) {
        self.0.turn_end(event_loop);
    }
}

/// A node that runs on a thread of its own. Dropping it stops the node and waits for its thread.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    remote: Remote,
    listening_on: SocketAddr,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Running {
    /// For asking the node.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Where it listens for its peers.
    #[must_use]
    pub fn listening_on(&self) -> SocketAddr {
        self.listening_on
    }

    /// Stops the node and waits until its files are closed. What was acknowledged is on disk.
    ///
    /// # Errors
    /// If its loop had ended with one.
    ///
    /// # Panics
    /// If the node's thread (that is, the state machine) has.
    pub fn stop(mut self) -> std::io::Result<()> {
        self.end().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn end(&mut self) -> std::thread::Result<std::io::Result<()>> {
        if let Err(error) = self.remote.shutdown() {
            // The loop cannot be woken: to wait for its thread could take for ever.
            return Ok(Err(error));
        }
        self.thread.take().map_or(Ok(Ok(())), JoinHandle::join)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever wants to know calls `stop`.
        let _ = self.end();
    }
}

/// Starts a node on a loop and a thread of its own.
///
/// ```
/// use std::io::{self, Cursor, Read};
///
/// use bytes::Bytes;
/// use kodiak_raft::{
///     node::{Options, start},
///     replica::{Committed, Query, StateMachine},
///     types::NodeId,
/// };
///
/// /// Keeps the last command.
/// struct Last(Bytes);
///
/// impl StateMachine for Last {
///     fn apply(&mut self, entry: &Committed<'_>) -> Bytes {
///         std::mem::replace(&mut self.0, Bytes::copy_from_slice(entry.command))
///     }
///     fn query(&self, _query: &Query<'_>) -> Bytes {
///         self.0.clone()
///     }
///     fn snapshot(&self) -> Box<dyn Read + Send> {
///         Box::new(Cursor::new(self.0.clone())) // a reference to the same bytes
///     }
///     fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
///         let mut bytes = Vec::new();
///         snapshot.read_to_end(&mut bytes)?;
///         self.0 = bytes.into();
///         Ok(())
///     }
/// }
///
/// let folder = tempfile::tempdir()?;
/// let options = Options::new(NodeId(1), folder.path(), "127.0.0.1:0".parse()?);
/// let node = start(&options, Last(Bytes::new()))?; // a cluster of one: no peers
/// let written = node.handle().write("hello")?;
/// let read = node.handle().read("")?;
/// assert_eq!(read.bytes, "hello");
/// assert!(read.index >= written.index);
/// node.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`NodeError`].
pub fn start<S>(options: &Options, state_machine: S) -> Result<Running, NodeError>
where
    S: StateMachine + Send + 'static,
{
    let mut event_loop = EventLoop::<Token, ()>::new().map_err(NodeError::setup("event loop"))?;
    let node = Node::open(options, state_machine, &mut event_loop)?;
    let (handle, remote) = (node.handle(), event_loop.remote());
    let listening_on = node.listening_on().map_err(|error| NodeError::Listen { address: options.listen, error })?;
    let run = move || event_loop.run(&mut Alone(node)).map_err(std::io::Error::other);
    let thread = Builder::new().name(format!("raft-{}", options.id)).spawn(run).map_err(NodeError::setup("thread"))?;
    Ok(Running { handle, remote, listening_on, thread: Some(thread) })
}
