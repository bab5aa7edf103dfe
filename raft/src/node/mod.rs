//! A Raft node on an event loop.
//!
//! [`start`] runs a node on a loop and a thread of its own. [`Handle`] asks it, from any thread.
//!
//! A program that has an event loop opens a [`Node`] inside it ([`Node::open`]). The node registers
//! its sockets, its timer and its channels under [`Token`]s of its own, and the program's
//! [`Handler`](kodiak_reactor::Handler) passes their events to the node.
//!
//! ```text
//!              user's sockets          other threads         other nodes              disk
//!                    │ submit              │ Handle              │ incoming   completions │
//!   ┌────────────────▼─────────────────────▼─────────────────────▼────────────────────────▼──────┐
//!   │ Node        requests             calls                 messages                  done      │
//!   │             └──────────────┬────────┴─────────────────────┴─────────────────────────┘      │
//!   │                         Replica   (decides; one timer armed at its poll_timeout)           │
//!   │             ┌──────────────┴──┬──────────────┬─────────────────────┐                       │
//!   │          replies       state machine       peers            storage thread                 │
//!   └────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The replica gets every input at once. What it asks for is done at the end of the turn
//! ([`Node::turn_end`]), so all proposals of a turn share one message to each peer and one write.

mod admission;
mod bootstrap;
mod catch_up;
mod clock;
mod data_folder;
mod disaster_recovery;
mod error;
mod event_log;
mod events;
mod handle;
mod incoming;
#[cfg(test)]
mod lease_clock;
mod log_throttle;
mod machine;
mod node_loop;
mod opening;
mod options;
mod outbox;
mod peers;
mod reply;
mod running;
mod session;
mod snapshot_reader;
mod status;
mod storage_thread;
mod token;
mod turn;

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use kodiak_reactor::{EventLoop, ReadHint, Receiver, Timeout};
use slab::Slab;

pub use crate::error_chain::error_chain;
pub use disaster_recovery::{RecoverClusterError, RecoverClusterOptions, recover_cluster};
pub use error::NodeError;
pub use events::{Events, NodeEvent};
pub use handle::{CallError, Handle, HandleError};
pub use machine::{MachineCall, MachinePlacement};
pub use options::Options;
pub use reply::{AsyncHandle, Reply};
pub use running::{Running, StopError, start, start_listening};
pub use session::{Session, SessionError};
pub use status::{MachineStatus, PeerStatus, RestoreProgress, Status};
pub use token::Token;

use admission::Admission;
use catch_up::CatchUpLog;
use clock::Clock;
use events::Subscribers;
use handle::Call;
use incoming::{Incoming, IncomingEvent};
use machine::{Gauges, MachineReport, NodeMachine};
use peers::Peers;
use storage_thread::StorageThread;

use crate::{
    replica::{Outcome, Replica, Request, RequestId, StateMachine, UnappliedLogFull},
    storage::Completion,
    types::{Identity, Index, Time},
    wire::Hello,
};

/// Who gets the outcome of a request.
enum Requester {
    /// The user of the loop, by the user's number.
    User(RequestId),
    /// A handle.
    Handle(Box<dyn FnOnce(Outcome) + Send>),
    /// The node itself: it records the disks of initial members in the configuration.
    DiskRecord,
}

/// A node of a Raft cluster, inside its user's event loop.
///
/// The user's handler must pass on `readable`, `writable` and `timeout` for the node's tokens, and
/// call [`Node::turn_end`] in its own `turn_end`.
pub struct Node<S> {
    identity: Identity,
    hello: Hello,
    clock: Clock,
    replica: Replica,
    placement: MachinePlacement,
    gauges: Arc<Gauges>,
    /// Before `machine`, for the same reason as `completions`.
    machine_reports: Receiver<MachineReport>,
    machine: NodeMachine<S>,
    catch_up_log: CatchUpLog,
    peers: Peers,
    incoming: Incoming,
    admission: Admission,
    /// Before `storage`: it must be dropped first, or the storage thread could block forever on a
    /// full channel.
    completions: Receiver<Completion>,
    storage: StorageThread,
    calls: Receiver<Call>,
    handle: Handle,
    /// By the number that the replica knows.
    requesters: Slab<Requester>,
    subscribers: Subscribers,
    replies: VecDeque<(RequestId, Outcome)>,
    /// What came over the incoming links in this callback; kept for its capacity.
    incoming_events: Vec<IncomingEvent>,
    timer: Option<(Timeout, Time)>,
    /// Whether the disks of initial members are being written into the configuration.
    is_recording_disks: bool,
    /// Whether this node was removed from the cluster. It then calls no peer.
    is_removed: bool,
}

impl<S> std::fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// What the user's event loop calls. Only these functions know the loop's types.
impl<S: StateMachine> Node<S> {
    /// Opens or creates the node's data folder, listens, and calls the node's peers.
    ///
    /// The state machine is restored from the newest snapshot. The entries after it are applied
    /// again as soon as they are known to be committed. The node waits for neither: it votes and
    /// acknowledges meanwhile.
    ///
    /// # Errors
    /// See [`NodeError`]. A data folder that was created stays.
    pub fn open<T, M>(
        options: &Options,
        state_machine: S,
        event_loop: &mut EventLoop<T, M>,
    ) -> Result<Node<S>, NodeError>
    where
        T: Copy + From<Token>,
        S: Send + 'static,
    {
        options.validate()?;
        Node::open_with(options, Incoming::bind(options)?, state_machine, event_loop)
    }

    /// As [`Node::open`], on a listener that is already bound.
    ///
    /// Use it for a listener that another process has handed over, or for listeners on port 0: then
    /// the nodes of a cluster know each other's addresses before the first of them starts.
    /// [`Options::listen`] must be the listener's address.
    ///
    /// # Errors
    /// As [`Node::open`], and [`NodeError::OtherListener`].
    pub fn open_listening<T, M>(
        options: &Options,
        listener: std::net::TcpListener,
        state_machine: S,
        event_loop: &mut EventLoop<T, M>,
    ) -> Result<Node<S>, NodeError>
    where
        T: Copy + From<Token>,
        S: Send + 'static,
    {
        options.validate()?;
        let incoming = Incoming::with_listener(options, listener)?;
        Node::open_with(options, incoming, state_machine, event_loop)
    }

    /// Call it from the handler's `readable`, for each of the node's tokens.
    pub fn readable<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        token: Token,
        _hint: ReadHint,
    ) where
        T: Copy + From<Token>,
    {
        self.on_readable(event_loop, token.0);
    }

    /// Call it from the handler's `writable`, for each of the node's tokens.
    pub fn writable<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, token: Token)
    where
        T: Copy + From<Token>,
    {
        self.on_writable(event_loop, token.0);
    }

    /// Call it from the handler's `timeout`, for each of the node's tokens.
    pub fn timeout<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, token: Token)
    where
        T: Copy + From<Token>,
    {
        self.on_timeout(event_loop, token.0);
    }

    /// Does what the replica asks for. Call it at the end of every turn.
    ///
    /// Call it again after [`Node::submit`] in answer to an outcome, or the new request waits for
    /// the next turn.
    pub fn turn_end<T, M>(&mut self, event_loop: &mut EventLoop<T, M>)
    where
        T: Copy + From<Token>,
    {
        self.on_turn_end(event_loop);
    }
}

impl<S: StateMachine> Node<S> {
    /// The node's cluster, group, id and disk.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether the node's removal from the cluster is certain. It then takes part in nothing.
    ///
    /// The node's log may not hold the configuration that removed it.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.is_removed
    }

    /// Why the node's log has failed, if it has.
    ///
    /// The node takes part in nothing until it is opened again. `raft serve` exits with code 3.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.replica.failure()
    }

    /// How large the log is that a failed state machine cannot apply, if it exceeds
    /// [`Limits::unapplied_log_bytes`](crate::replica::Limits).
    ///
    /// The node takes part in nothing until it is opened again. `raft serve` exits with code 5.
    #[must_use]
    pub fn unapplied_log_full(&self) -> Option<&UnappliedLogFull> {
        self.replica.unapplied_log_full()
    }

    /// The first entry at which a leader contradicted this node's committed log, if one did.
    ///
    /// The node takes part in nothing from then on. `raft serve` exits with code 4.
    #[must_use]
    pub fn committed_conflict(&self) -> Option<Index> {
        self.replica.core().committed_conflict()
    }

    /// The address that the node gives to the other nodes, `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.hello.address
    }

    /// The address on which the node listens for its peers.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn listening_on(&self) -> std::io::Result<SocketAddr> {
        self.incoming.local_addr()
    }

    /// A handle, to ask the node from other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The state machine, as far as it has applied the log on this node.
    ///
    /// `None` if the state machine has a thread of its own ([`Options::machine`]).
    #[must_use]
    pub fn state_machine(&self) -> Option<&S> {
        self.machine.machine()
    }

    /// Changes of leadership and membership from now on. See [`Handle::subscribe`].
    pub fn subscribe(&mut self, capacity: usize) -> Events {
        self.subscribers.add(capacity, self.replica.core())
    }

    /// The node's state: replica, state machine and peers.
    #[must_use]
    pub fn status(&self) -> Status {
        let machine = MachineStatus {
            placement: self.placement,
            call: self.gauges.call(),
            longest_call: self.gauges.longest(),
            restored: self.gauges.restored(),
        };
        let peers = self.peers.statuses().collect();
        Status { identity: self.identity, replica: self.replica.status(), machine, peers }
    }

    /// Submits a request. Each request gets exactly one outcome, from [`Node::poll_reply`].
    ///
    /// The outcome has this `id`, and comes after some later [`Node::turn_end`].
    pub fn submit(&mut self, id: RequestId, request: Request) {
        self.submit_for(Requester::User(id), request);
    }

    /// The next outcome of the user's own requests.
    pub fn poll_reply(&mut self) -> Option<(RequestId, Outcome)> {
        self.replies.pop_front()
    }
}
