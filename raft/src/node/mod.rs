//! A replica on the event loop.
//!
//! A [`Node`] lives inside an event loop that belongs to its user: it registers its sockets, its
//! timer and its channels there under tokens of its own, and the user's
//! [`Handler`](kodiak_reactor::Handler) hands their events on. [`start`] does all that on a loop
//! and a thread of the node's own, for those who have no loop.
//!
//! ```text
//!              user's sockets          other threads         other nodes              disk
//!                    │ submit              │ Handle              │ incoming               │ completions
//!   ┌────────────────▼─────────────────────▼─────────────────────▼────────────────────────▼──────┐
//!   │ Node        requests             calls                 messages                  done      │
//!   │             └──────────────┬────────┴─────────────────────┴─────────────────────────┘      │
//!   │                         Replica   (decides; one timer armed at its poll_timeout)           │
//!   │             ┌──────────────┴──┬──────────────┬─────────────────────┐                       │
//!   │          replies       state machine       peers            storage thread                 │
//!   └─────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Everything that arrives in a turn of the loop is told to the replica at once; what the replica
//! asks for is carried out at the turn's end ([`Node::turn_end`]). So the proposals of a turn share
//! one message to each peer and one write.

mod acquaintance;
mod birth;
mod clock;
mod error;
mod events;
mod founding;
mod handle;
mod incoming;
#[cfg(test)]
mod lease_clock;
mod machine;
mod options;
mod outbox;
mod peers;
mod recovery;
mod reply;
mod report;
mod running;
mod session;
mod snapshot_reader;
mod status;
mod storage_thread;
mod token;
mod told;

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use kodiak_reactor::{EventLoop, ReadHint, Receiver, Timeout, TryRecvError};
use slab::Slab;

pub use error::{NodeError, error_chain};
pub use events::{Events, NodeEvent};
pub use handle::{CallError, Handle, HandleError};
pub use machine::{MachineCall, MachinePlacement};
pub use options::Options;
pub use recovery::{Recovery, RecoveryError, recover};
pub use reply::{AsyncHandle, Reply};
pub use running::{Running, StopError, start, start_listening};
pub use session::{Session, SessionError};
pub use status::{MachineStatus, PeerStatus, Status};
pub use token::Token;

use acquaintance::Acquaintances;
use clock::Clock;
use events::Subscribers;
use founding::Founding;
use handle::Call;
use incoming::{Arrival, Incoming};
use machine::{Gauges, MachineReport, NodeMachine, Progress};
use peers::{Change, Peers};
use storage_thread::StorageThread;
use token::Kind;

use crate::{
    core,
    replica::{
        Admin, Effect, Event, Outcome, PeerMessage, Replica, Request, RequestId, StateMachine,
        UnappliedLogFull,
    },
    storage::{Completion, StorageError},
    types::{
        ADDRESS_BYTES_MAX, Body, FeatureLevel, Identity, Index, Life, Message, Now, Term, Time,
    },
    wire::{HELLO_METADATA_BYTES_MAX, Hello, Version},
};

/// Completions that may wait for the loop. The storage thread waits when they are full.
const COMPLETIONS: usize = 1024;
/// Reports of the state machine's thread that may wait for the loop. The thread waits when they are
/// full.
const MACHINE_REPORTS: usize = 1024;
/// Calls of handles taken in one turn.
const CALLS_PER_TURN: usize = 1024;

/// Whom an outcome is for.
enum Author {
    /// The user of the loop, by the user's number.
    User(RequestId),
    /// A handle.
    Handle(Box<dyn FnOnce(Outcome) + Send>),
    /// The node itself: founders' disks are being written into the configuration.
    Disks,
}

/// A node of a Raft cluster, inside its user's event loop.
///
/// The user's handler must hand on `readable`, `writable` and `timeout` for the node's tokens, and
/// call [`Node::turn_end`] in its own `turn_end`.
pub struct Node<S> {
    identity: Identity,
    hello: Hello,
    clock: Clock,
    replica: Replica,
    placement: MachinePlacement,
    gauges: Arc<Gauges>,
    /// Before `machine`, for the same reason as `completions`.
    machine_done: Receiver<MachineReport>,
    machine: NodeMachine<S>,
    progress: Progress,
    peers: Peers,
    incoming: Incoming,
    acquaintances: Acquaintances,
    /// Before `storage`: it must be dropped first, or the storage thread could wait for room in it
    /// for ever.
    completions: Receiver<Completion>,
    storage: StorageThread,
    calls: Receiver<Call>,
    handle: Handle,
    /// Who asked, by the number that the replica knows.
    authors: Slab<Author>,
    subscribers: Subscribers,
    replies: VecDeque<(RequestId, Outcome)>,
    /// What came over the links in this callback; kept for its room.
    arrivals: Vec<Arrival>,
    timer: Option<(Timeout, Time)>,
    /// Whether founders' disks are being written into the configuration.
    is_telling_disks: bool,
    /// Whether this node was a member and is none any more: it calls nobody.
    is_removed: bool,
}

impl<S> std::fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl<S: StateMachine> Node<S> {
    /// Opens the node's data folder (or makes it), listens, and calls its peers. The state machine
    /// is restored from the newest snapshot, and the log that follows is applied again as soon as
    /// its entries are known to be committed. The node does not wait for either: it votes and
    /// acknowledges meanwhile.
    ///
    /// # Errors
    /// See [`NodeError`]. What was made in the data folder stays.
    pub fn open<T, M>(
        options: &Options,
        state_machine: S,
        event_loop: &mut EventLoop<T, M>,
    ) -> Result<Node<S>, NodeError>
    where
        T: Copy + From<Token>,
        S: Send + 'static,
    {
        check(options)?;
        Node::open_with(options, Incoming::bind(options)?, state_machine, event_loop)
    }

    /// As [`Node::open`], on a listener that is bound already: one that another process has handed
    /// over, or one that was bound to port 0 so that the nodes of a cluster know each other's
    /// addresses before the first of them starts. [`Options::listen`] is its address.
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
        check(options)?;
        let incoming = Incoming::listening(options, listener)?;
        Node::open_with(options, incoming, state_machine, event_loop)
    }

    fn open_with<T, M>(
        options: &Options,
        incoming: Incoming,
        state_machine: S,
        event_loop: &mut EventLoop<T, M>,
    ) -> Result<Node<S>, NodeError>
    where
        T: Copy + From<Token>,
        S: Send + 'static,
    {
        let listening_on = incoming
            .local_addr()
            .map_err(|error| NodeError::Listen { address: options.listen, error })?;
        // It will stand in the cluster's configuration.
        if options.advertise.is_none() && listening_on.ip().is_unspecified() {
            return Err(NodeError::Unreachable { id: options.id, address: listening_on });
        }
        let address = options.advertise.clone().unwrap_or_else(|| listening_on.to_string());
        if address.len() > ADDRESS_BYTES_MAX {
            return Err(NodeError::AddressTooLong { len_bytes: address.len() });
        }
        let mut born = birth::open(options, &address)?;

        // One draw for what must differ between two lives of a node: its nonce and the seed of its
        // jitter.
        let draw = birth::random_u128()?;
        let (seed, nonce) = (draw as u64, (draw >> 64) as u64);
        let hello = Hello {
            cluster: born.identity.cluster,
            group: born.identity.group,
            node: born.identity.node,
            disk: born.identity.disk,
            life: Life { count: born.saved.life, nonce },
            versions: Version::OLDEST..=Version::NEWEST,
            feature_level: FeatureLevel::CURRENT,
            position: (born.saved.life > 0).then_some(born.saved.position),
            has_forgotten: born.saved.hard_state.forgot.is_some(),
            is_blank: true,
            address,
            metadata: options.metadata.clone(),
        };
        let clock = Clock::new();
        let acquaintances = Acquaintances::new(std::mem::take(&mut born.saved.peer_records));
        let replica = Replica::new(options.replica_config(seed), born.saved, clock.now())?;

        let (completed, completions) = event_loop
            .add_channel(T::from(Token(Kind::Completions)), COMPLETIONS)
            .map_err(NodeError::setup("channel of completions"))?;
        let (call, calls) = event_loop
            .add_channel(T::from(Token(Kind::Calls)), options.handle_calls)
            .map_err(NodeError::setup("channel of calls"))?;
        let storage = StorageThread::start(born.log, completed)
            .map_err(NodeError::setup("storage thread"))?;
        let (report, machine_done) = event_loop
            .add_channel(T::from(Token(Kind::Machine)), MACHINE_REPORTS)
            .map_err(NodeError::setup("channel of the state machine"))?;
        let gauges = Arc::new(Gauges::new());
        let watched = Arc::clone(&gauges);
        let machine = match options.machine {
            MachinePlacement::Inline => {
                NodeMachine::inline(state_machine, &options.data, options.id, watched)
            }
            MachinePlacement::Thread => {
                NodeMachine::thread(state_machine, &options.data, options.id, watched, report)
                    .map_err(NodeError::setup("state machine's thread"))?
            }
        };
        incoming.register(event_loop)?;
        let handle = Handle::new(call, options.handle_calls);
        let peers = Peers::new(born.identity.group, options, handle.clone());
        let mut node = Node {
            identity: born.identity,
            hello,
            clock,
            replica,
            placement: options.machine,
            gauges,
            machine_done,
            machine,
            progress: Progress::default(),
            peers,
            incoming,
            acquaintances,
            completions,
            storage,
            calls,
            handle,
            authors: Slab::new(),
            subscribers: Subscribers::default(),
            replies: VecDeque::new(),
            arrivals: Vec::new(),
            timer: None,
            is_telling_disks: false,
            is_removed: false,
        };
        node.found(event_loop);
        // The log knows who the others are; the options only founded the cluster.
        node.follow_configuration(event_loop);
        node.turn_end(event_loop);
        Ok(node)
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether it was removed from the cluster, for certain. It takes part in nothing more, and its
    /// disk may not know why.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.is_removed
    }

    /// Why its log has failed, if it has: the node takes part in nothing more until it is opened
    /// again. `raft serve` exits then.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.replica.failure()
    }

    /// Why it has stopped, if the log that its failed state machine cannot apply exceeds
    /// [`Limits::unapplied_log_bytes`](crate::replica::Limits). `raft serve` exits then.
    #[must_use]
    pub fn unapplied_log_full(&self) -> Option<&UnappliedLogFull> {
        self.replica.unapplied_log_full()
    }

    /// The entry from which on a leader contradicted what is committed here, if one did: the node
    /// takes part in nothing more. `raft serve` exits then.
    #[must_use]
    pub fn committed_conflict(&self) -> Option<Index> {
        self.replica.core().committed_conflict()
    }

    /// Where the others reach it, as it tells them.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.hello.address
    }

    /// Where it listens for its peers.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listening_on(&self) -> std::io::Result<SocketAddr> {
        self.incoming.local_addr()
    }

    /// For asking the node from other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The state machine, as far as it has been applied here; `None` if it has a thread of its own
    /// ([`Options::machine`]).
    #[must_use]
    pub fn state_machine(&self) -> Option<&S> {
        self.machine.machine()
    }

    /// Changes of leadership and membership from now on, for another thread or for this loop's
    /// user: see [`Handle::subscribe`].
    pub fn subscribe(&mut self, capacity: usize) -> Events {
        self.subscribers.add(capacity, self.replica.core())
    }

    /// What the node says of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        let peers = self.peers.iter().map(|(id, address, connected, metadata)| PeerStatus {
            id,
            address: address.to_owned(),
            connected,
            metadata: metadata.clone(),
        });
        let machine = MachineStatus {
            placement: self.placement,
            call: self.gauges.call(),
            longest_call: self.gauges.longest(),
            restored_bytes: self.gauges.restored(),
        };
        let (identity, replica) = (self.identity, self.replica.status());
        Status { identity, replica, machine, peers: peers.collect() }
    }

    /// Asks for something. The outcome comes from [`Node::poll_reply`], with `id`, after some later
    /// [`Node::turn_end`]; every request gets exactly one.
    pub fn submit(&mut self, id: RequestId, request: Request) {
        self.ask(Author::User(id), request);
    }

    /// The next outcome of the user's own requests.
    pub fn poll_reply(&mut self) -> Option<(RequestId, Outcome)> {
        self.replies.pop_front()
    }

    /// To be called from the handler's `readable` for a token of the node's.
    pub fn readable<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        token: Token,
        _hint: ReadHint,
    ) where
        T: Copy + From<Token>,
    {
        match token.0 {
            Kind::Completions => self.take_completions(),
            Kind::Machine => self.take_machine_done(),
            Kind::Calls => self.take_calls(event_loop),
            Kind::Listener => self.incoming.accept(event_loop),
            Kind::Incoming(slot) => {
                self.settle_acquaintances();
                self.incoming.readable(
                    event_loop,
                    slot,
                    &self.hello,
                    &mut self.acquaintances,
                    &mut self.arrivals,
                );
                self.take_arrivals(event_loop);
            }
            Kind::Peer(at) => {
                self.settle_acquaintances();
                self.peers.readable(event_loop, at, &self.hello, &mut self.acquaintances);
                self.take_changes();
            }
            Kind::Deadline => {}
        }
    }

    /// To be called from the handler's `writable` for a token of the node's.
    pub fn writable<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, token: Token)
    where
        T: Copy + From<Token>,
    {
        match token.0 {
            Kind::Incoming(slot) => {
                self.incoming.writable(event_loop, slot, &mut self.arrivals);
                self.take_arrivals(event_loop);
            }
            Kind::Peer(at) => {
                self.peers.writable(event_loop, at, &self.hello);
                self.take_changes();
            }
            _ => {}
        }
    }

    /// To be called from the handler's `timeout` for a token of the node's.
    pub fn timeout<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, token: Token)
    where
        T: Copy + From<Token>,
    {
        match token.0 {
            Kind::Deadline => {
                self.timer = None;
                self.replica.handle_timeout(self.clock.now());
                self.tell_lives();
                if let Some(complaint) = self.acquaintances.founding.complaint(event_loop.now()) {
                    tracing::warn!(node = self.identity.node.0, "{complaint}");
                }
            }
            Kind::Listener => self.incoming.resume(event_loop),
            Kind::Incoming(slot) => self.incoming.timeout(event_loop, slot),
            Kind::Peer(at) => {
                self.peers.timeout(event_loop, at, &self.hello);
                self.take_changes();
            }
            _ => {}
        }
    }

    /// To be called at the end of every turn, and again after requests that were submitted in
    /// answer to its outcomes: carries out what the replica asks for.
    pub fn turn_end<T, M>(&mut self, event_loop: &mut EventLoop<T, M>)
    where
        T: Copy + From<Token>,
    {
        if self.acquaintances.lives.has_news() {
            self.tell_lives();
        }
        let now = self.clock.now();
        loop {
            while let Some(effect) = self.replica.poll() {
                match effect {
                    Effect::Machine(job) => {
                        let replica = &mut self.replica;
                        self.machine.push(job, &mut |done| replica.handle_machine(now, done));
                    }
                    effect => self.carry_out(event_loop, effect),
                }
            }
            // The disk and the state machine first: they work while the links are written to.
            self.storage.flush();
            self.machine.flush();
            self.peers.flush(event_loop);
            // A link that broke while it was written to is news for the replica.
            // A leader that was removed has a successor to call, and answers to give.
            if self.is_removed && !self.replica.core().is_leader() {
                self.peers.clear(event_loop);
            }
            if !self.take_changes() {
                break;
            }
        }
        self.look_for_founders();
        self.arm(event_loop);
    }

    fn carry_out<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, effect: Effect)
    where
        T: Copy + From<Token>,
    {
        match effect {
            Effect::Send { to, message } => self.peers.send(event_loop, to, &message),
            Effect::Storage(job) => self.storage.push(job),
            Effect::Reply { id, outcome } => match self.authors.remove(id.0 as usize) {
                Author::User(id) => self.replies.push_back((id, outcome)),
                Author::Handle(tell) => tell(outcome),
                Author::Disks => self.is_telling_disks = false,
            },
            Effect::Event(event) => self.hear(event_loop, &event),
            Effect::Machine(_) => unreachable!("the state machine has it"),
        }
    }

    /// Something has happened that the links may have to follow.
    fn hear<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, event: &Event)
    where
        T: Copy + From<Token>,
    {
        report::log(self.identity.node, event);
        self.subscribers.hear(event, self.replica.core());
        match event {
            Event::Core(core::Event::Membership { .. }) => self.follow_configuration(event_loop),
            Event::Core(core::Event::Removed { .. }) => self.leave(),
            _ => {}
        }
        self.tell_disks();
    }

    /// The configuration in force decides whom this node talks to.
    fn follow_configuration<T, M>(&mut self, event_loop: &mut EventLoop<T, M>)
    where
        T: Copy + From<Token>,
    {
        let configuration = self.replica.core().configuration();
        self.acquaintances.follow(configuration);
        if !self.is_removed {
            self.peers.follow(event_loop, configuration, &self.hello);
        }
    }

    /// A founder that knows of no term waits for the others; who votes alone has nobody to wait
    /// for.
    fn found<T, M>(&mut self, event_loop: &EventLoop<T, M>)
    where
        T: Copy + From<Token>,
    {
        let (configuration, us) = (self.replica.core().configuration(), self.identity.node);
        self.acquaintances.founding = Founding::of(configuration, us, event_loop.now());
        self.look_for_founders();
    }

    /// Looks whether all founders have met. Whoever has come to a term belongs to the cluster, and
    /// it is founded.
    fn look_for_founders(&mut self) {
        self.hello.is_blank = self.replica.core().term() == Term(0);
        self.hello.has_forgotten = self.replica.core().has_forgotten();
        if !self.hello.is_blank {
            self.acquaintances.founding.end();
        }
        self.replica.wait_for_bootstrap(self.acquaintances.founding.is_waiting());
    }

    /// What was learnt of other nodes' disks goes into the log with its next write, and to the
    /// core. At every deadline, so at every heartbeat of a leader: often enough, and no work for
    /// each answer.
    fn tell_lives(&mut self) {
        self.acquaintances.lives.tell(&mut self.replica, self.clock.now());
    }

    /// Whether who is not in the configuration is not needed for anything any more.
    fn settle_acquaintances(&mut self) {
        self.look_for_founders();
        let core = self.replica.core();
        let index = core.configuration_index();
        self.acquaintances.settle(core.configuration(), index, index <= core.commit());
    }

    /// This node is no member any more.
    fn leave(&mut self) {
        if !std::mem::replace(&mut self.is_removed, true) {
            self.subscribers.tell(&NodeEvent::Removed);
            tracing::error!(
                node = self.identity.node.0,
                "this node was removed from the cluster and takes part in nothing more: stop it. If its machine shall serve \
                 again, let it join with an empty data folder and a new id"
            );
        }
    }

    /// Founders do not know each other's disks at first. Once they have met, the leader writes what
    /// it has learnt into the configuration, so that a founder that loses its disk is known by
    /// everybody and for good.
    fn tell_disks(&mut self) {
        if self.is_telling_disks || !self.replica.core().is_leader() {
            return;
        }
        let news = self.acquaintances.news(&self.hello);
        if !news.is_empty() {
            self.is_telling_disks = true;
            self.ask(Author::Disks, Request::Admin(Admin::Change(news)));
        }
    }

    /// Arms the one timer at the replica's deadline. To move it later, as every heartbeat does, is
    /// one store.
    fn arm<T, M>(&mut self, event_loop: &mut EventLoop<T, M>)
    where
        T: Copy + From<Token>,
    {
        let wanted = self.replica.poll_timeout();
        match (self.timer, wanted) {
            (Some((_, armed)), Some(wanted)) if armed == wanted => {}
            (Some((timer, _)), Some(wanted)) => {
                let moved = event_loop.reset_timeout_at(timer, self.clock.instant(wanted));
                self.timer = moved.is_ok().then_some((timer, wanted));
            }
            (None, Some(wanted)) => {
                let timer = event_loop
                    .timeout_at(T::from(Token(Kind::Deadline)), self.clock.instant(wanted));
                self.timer = timer.ok().map(|timer| (timer, wanted));
            }
            (Some((timer, _)), None) => {
                event_loop.clear_timeout(timer);
                self.timer = None;
            }
            (None, None) => {}
        }
        assert!(self.timer.is_some() == wanted.is_some(), "the replica's deadline has a timer");
    }

    fn ask(&mut self, author: Author, request: Request) {
        let id = RequestId(self.authors.insert(author) as u64);
        self.replica.submit(self.clock.now(), id, request);
    }

    fn take_calls<T, M>(&mut self, event_loop: &mut EventLoop<T, M>)
    where
        T: Copy + From<Token>,
    {
        for _ in 0..CALLS_PER_TURN {
            match self.calls.try_recv() {
                Ok(Call::Request(request, tell)) => self.ask(Author::Handle(tell), request),
                Ok(Call::Status(tell)) => tell(self.status()),
                Ok(Call::Subscribe(capacity, tell)) => tell(self.subscribe(capacity)),
                Ok(Call::Resolved(found)) => self.peers.resolved(event_loop, found, &self.hello),
                // It cannot close: the node holds a handle itself.
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn take_completions(&mut self) {
        loop {
            let completion = self.completions.try_recv();
            // Read after what it is read for has arrived.
            let now = self.clock.now();
            match completion {
                Ok(Completion::Done(done)) => self.replica.handle_done(now, done),
                Ok(Completion::Synced { position }) => {
                    self.hello.position = Some(position);
                    self.replica.note_durable_sequence(position.sequence);
                }
                Ok(Completion::SnapshotFailed { index, error }) => {
                    self.replica.handle_snapshot_failure(now, index, &error);
                }
                Ok(Completion::Failed(error)) => self.fail(now, &error),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Closed) => {
                    let cause = "the storage thread has panicked".to_owned();
                    return self.fail(now, &StorageError::Poisoned { cause });
                }
            }
        }
    }

    fn take_machine_done(&mut self) {
        loop {
            let report = self.machine_done.try_recv();
            let now = self.clock.now();
            match report {
                Ok(report) => {
                    report.done.into_iter().for_each(|done| self.replica.handle_machine(now, done));
                    self.machine.ended(report.ended_jobs);
                }
                Err(TryRecvError::Empty) => break,
                // Where the machine is on the loop nobody sends. A panic on the thread is
                // contained, so the thread does not end before the node.
                Err(TryRecvError::Closed) => return,
            }
        }
        self.progress.report(self.identity.node, &self.replica);
    }

    fn fail(&mut self, now: Now, error: &StorageError) {
        tracing::error!(node = self.identity.node.0, %error, "this node's log has failed; it takes part in nothing more");
        self.replica.handle_storage_failure(now, error);
    }

    fn take_arrivals<T, M>(&mut self, event_loop: &mut EventLoop<T, M>)
    where
        T: Copy + From<Token>,
    {
        let now = self.clock.now();
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for arrival in arrivals.drain(..) {
            match arrival {
                Arrival::Message(from, message) => {
                    if is_campaign(&message) && self.acquaintances.is_removed(from) {
                        // It has missed its removal. When it calls again, it is told.
                        self.incoming.hang_up(
                            event_loop,
                            from,
                            "not a member any more",
                            &mut self.arrivals,
                        );
                    } else {
                        self.acquaintances.lives.hear(from, &message);
                        self.replica.handle_message(now, from, message);
                    }
                }
                Arrival::Up(node, address) if !self.is_removed => {
                    self.note_feature_levels();
                    self.peers.heard_from(event_loop, node, address, &self.hello);
                }
                Arrival::Up(..) => {}
                Arrival::Down(node) => {
                    self.peers.gone(event_loop, node);
                    // Answers to what this node forwarded came over that link.
                    self.replica.handle_disconnected(now, node);
                    // The link that this node makes is another one. Where it stands, forwarding
                    // goes on.
                    if self.peers.is_up(node) {
                        self.replica.handle_connected(now, node);
                    }
                }
            }
        }
        let further = std::mem::replace(&mut self.arrivals, arrivals);
        if !further.is_empty() {
            self.arrivals.extend(further);
            return self.take_arrivals(event_loop);
        }
        self.take_changes();
    }

    /// Tells the replica which links have changed; whether any has.
    fn take_changes(&mut self) -> bool {
        let mut any = false;
        while let Some(change) = self.peers.poll_change() {
            any = true;
            let now = self.clock.now();
            match change {
                Change::Up(peer) => self.replica.handle_connected(now, peer),
                Change::Down(peer) => self.replica.handle_disconnected(now, peer),
                Change::Removed(by) => {
                    tracing::error!(
                        node = self.identity.node.0,
                        by = by.0,
                        "was told of its removal"
                    );
                    self.replica.handle_removed(now);
                    self.leave();
                }
            }
        }
        if any {
            self.note_feature_levels();
            self.tell_disks();
        }
        any
    }

    fn note_feature_levels(&mut self) {
        for (peer, level) in std::mem::take(&mut self.acquaintances.feature_levels) {
            self.replica.note_feature_level(peer, level);
        }
    }
}

/// Whether this asks for votes.
fn is_campaign(message: &PeerMessage) -> bool {
    matches!(
        message,
        PeerMessage::Raft(Message {
            body: Body::RequestPreVote { .. } | Body::RequestVote { .. },
            ..
        })
    )
}

fn check(options: &Options) -> Result<(), NodeError> {
    if options.id.0 == 0 || options.peers.keys().any(|id| id.0 == 0) {
        return Err(NodeError::IdZero);
    }
    if options.peers.contains_key(&options.id) {
        return Err(NodeError::PeerIsSelf { id: options.id });
    }
    if options.join.is_some() && !options.peers.is_empty() {
        return Err(NodeError::FoundsAndJoins { id: options.id });
    }
    let (len_bytes, limit_bytes) = (options.metadata.len(), HELLO_METADATA_BYTES_MAX);
    if len_bytes > limit_bytes {
        return Err(NodeError::MetadataTooLong { len_bytes, limit_bytes });
    }
    options.check_settings()
}
