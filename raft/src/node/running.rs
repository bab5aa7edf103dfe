//! A node with a loop and a thread of its own.

use std::{
    net::{SocketAddr, TcpListener},
    thread::{Builder, JoinHandle},
};

use kodiak_reactor::{EventLoop, Handler, ReadHint, Remote};

use super::{Events, Handle, HandleError, Node, NodeError, Options, Token, error_chain};
use crate::{panic_message::panic_message, replica::StateMachine};

/// The handler of a loop with nothing but a node.
struct NodeHandler<S>(Node<S>);

impl<S: StateMachine> Handler<Token, ()> for NodeHandler<S> {
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

/// A node that runs on a thread of its own.
///
/// Dropping it stops the node and waits for its thread.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    remote: Remote,
    listening_on: SocketAddr,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

/// Why a node's loop has failed. Acknowledged writes are on disk all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// The loop ended with an error, or cannot be woken to end.
    #[error("the node's loop has failed")]
    Loop(#[source] std::io::Error),
    /// The node's thread has panicked.
    #[error("the node's thread has panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
}

impl Running {
    /// A handle to ask the node.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The address on which the node listens for its peers.
    #[must_use]
    pub fn listening_on(&self) -> SocketAddr {
        self.listening_on
    }

    /// Changes of leadership and membership. See [`Handle::subscribe`].
    ///
    /// # Errors
    /// As [`Handle::subscribe`].
    pub fn subscribe(&self, capacity: usize) -> Result<Events, HandleError> {
        self.handle.subscribe(capacity)
    }

    /// Stops the node and waits until its files are closed. Acknowledged writes are on disk.
    ///
    /// # Errors
    /// The error of the node's loop, or the panic of its thread: `stop` itself does not panic.
    pub fn stop(mut self) -> Result<(), StopError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), StopError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if let Err(error) = self.remote.shutdown()
            && !thread.is_finished()
        {
            // The loop cannot be woken, so its thread may never end.
            return Err(StopError::Loop(error));
        }
        match thread.join() {
            Ok(ended) => ended.map_err(StopError::Loop),
            Err(panic) => Err(StopError::Panicked { message: panic_message(&*panic).to_owned() }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(error = error_chain(&error), "a node that was dropped had failed");
        }
    }
}

/// Starts a node with a loop and a thread of its own.
///
/// The front page of this [crate] has an example.
///
/// # Errors
/// See [`NodeError`].
pub fn start<S>(options: &Options, state_machine: S) -> Result<Running, NodeError>
where
    S: StateMachine + Send + 'static,
{
    run(options, |event_loop| Node::open(options, state_machine, event_loop))
}

/// As [`start`], on a listener that is already bound.
///
/// So one process can start a whole cluster on ports that the kernel chooses:
///
/// ```
/// # use std::io::{self, Read};
/// # use bytes::Bytes;
/// # use kodiak_raft::replica::{Committed, MachineError, Query, StateMachine};
/// # struct Blank;
/// # impl StateMachine for Blank {
/// #     fn apply(&mut self, _: &Committed<'_>) -> Result<Bytes, MachineError> {
/// #         Ok(Bytes::new())
/// #     }
/// #     fn query(&self, _: &Query<'_>) -> Bytes {
/// #         Bytes::new()
/// #     }
/// #     fn snapshot(&self) -> Box<dyn Read + Send> {
/// #         Box::new(io::empty())
/// #     }
/// #     fn restore(&mut self, _: &mut dyn Read) -> io::Result<()> {
/// #         Ok(())
/// #     }
/// # }
/// use std::{collections::BTreeMap, net::TcpListener};
///
/// use kodiak_raft::{
///     node::{Options, start_listening},
///     types::NodeId,
/// };
///
/// let folder = tempfile::tempdir()?;
/// let bind = |id| Ok((NodeId(id), TcpListener::bind("127.0.0.1:0")?));
/// let listeners = (1..=3).map(bind).collect::<io::Result<BTreeMap<_, _>>>()?;
/// let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
/// let addresses = listeners.iter().map(|(&id, listener)| Ok((id, address(listener)?)));
/// let addresses = addresses.collect::<io::Result<BTreeMap<_, _>>>()?;
/// let mut nodes = Vec::new();
/// for (id, listener) in listeners {
///     let data = folder.path().join(id.to_string());
///     let others = addresses.iter().filter(|&(&other, _)| other != id);
///     let others = others.map(|(&other, address)| (other, address.clone()));
///     let options = Options::new(id, data, listener.local_addr()?).peers(others);
///     nodes.push(start_listening(&options, listener, Blank)?);
/// }
/// nodes[0].handle().write("x")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`start`], and [`NodeError::OtherListener`] if [`Options::listen`] is another address.
pub fn start_listening<S>(
    options: &Options,
    listener: TcpListener,
    state_machine: S,
) -> Result<Running, NodeError>
where
    S: StateMachine + Send + 'static,
{
    run(options, |event_loop| Node::open_listening(options, listener, state_machine, event_loop))
}

fn run<S>(
    options: &Options,
    open: impl FnOnce(&mut EventLoop<Token, ()>) -> Result<Node<S>, NodeError>,
) -> Result<Running, NodeError>
where
    S: StateMachine + Send + 'static,
{
    let mut event_loop = EventLoop::<Token, ()>::new().map_err(NodeError::setup("event loop"))?;
    let node = open(&mut event_loop)?;
    let (handle, remote) = (node.handle(), event_loop.remote());
    let listening_on = node
        .listening_on()
        .map_err(|source| NodeError::Listen { address: options.listen, source })?;
    let run = move || event_loop.run(&mut NodeHandler(node)).map_err(std::io::Error::other);
    let thread = Builder::new()
        .name(format!("raft-{}", options.id))
        .spawn(run)
        .map_err(NodeError::setup("thread"))?;
    Ok(Running { handle, remote, listening_on, thread: Some(thread) })
}
