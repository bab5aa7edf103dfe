//! The handler: a node and its clients on one loop.

use std::{
    collections::VecDeque, error::Error, io, net::SocketAddr, path::PathBuf, sync::Arc,
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use kodiak_channel::Sender;
use kodiak_net::{AcceptError, Acceptor, TcpListener, TcpStream};
use kodiak_raft::{
    node::{self, Node, NodeError, Options, error_chain},
    replica::{Outcome, Request, RequestId},
    types::NodeId,
};
use kodiak_reactor::{EventLoop, Handler, Interest, ReadHint, SigInfo, Signal, Trigger};
use slab::Slab;

mod reply;

use super::{
    Settings,
    client::{ClientConnection, NextRequest, Room, Watch},
    exit::{CommittedConflict, StorageFailed, UnappliedLog},
    expiry_reads::{self, ExpiryReads},
    explain, join,
    scan_budget::ScanBudget,
};
use crate::{
    address::{Address, ListenAddress},
    kv::{
        self, Counts, Store,
        operation::{Operation, encode},
    },
    removal, resp,
};

/// Most connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Most bytes read from a client at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// The loop's sources.
#[derive(Clone, Copy, Debug)]
enum Token {
    Raft(node::Token),
    Listener,
    Client(u32),
}

impl From<node::Token> for Token {
    fn from(token: node::Token) -> Token {
        Token::Raft(token)
    }
}

type Loop = EventLoop<Token, ()>;

/// A request that the node has not answered yet.
#[derive(Debug)]
struct PendingRequest {
    slot: usize,
    client: u64,
    /// The client's own number for the request.
    number: u64,
    size_bytes: usize,
    /// Keys that it goes through.
    scanned_keys: usize,
    kind: RequestKind,
}

#[derive(Debug)]
enum RequestKind {
    Write,
    /// The query: it may have to be submitted again.
    Read(Bytes),
    /// A query that was, or will be, submitted again after a time entry.
    ReadAgain(Bytes),
    /// It is answered with `OK`: the state machine has no answer to it.
    Admin,
}

struct Server {
    node: Node<Store>,
    /// The number of keys in the store, which another thread owns.
    counts: Arc<Counts>,
    acceptor: Acceptor<TcpListener>,
    settings: Settings,
    clients: Slab<ClientConnection>,
    /// Connections since the start; the last one's id.
    connections_received: u64,
    pending: Slab<PendingRequest>,
    pending_bytes: usize,
    expiry_reads: ExpiryReads,
    scan_budget: ScanBudget,
    /// Starts another turn.
    next_turn: Sender<()>,
    /// Whether a request was submitted again since the node's last turn end.
    has_resubmitted: bool,
    /// Clients, by slot and id, whose next request waits for room in the node; the first has waited
    /// longest.
    waiting_for_node: VecDeque<(usize, u64)>,
    /// Slots of clients to serve when the turn ends.
    slots_to_serve: Vec<usize>,
    chunk: Box<[u8]>,
    started: Instant,
    data: PathBuf,
    /// Whether the data folder is marked as that of a removed node.
    has_marked_removal: bool,
}

/// Listens for clients at an address, which --client gave as `given`.
pub(super) fn listen(address: SocketAddr, given: &ListenAddress) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| {
        explain::listen_error("clients", "--client", given, address, &io::Error::from(error))
    })
}

/// How to start a node, besides its options.
pub(super) struct ServeOptions {
    pub(super) settings: Settings,
    /// Whether it bootstraps a new cluster: its folder has no log, and it joins none.
    pub(super) bootstraps: bool,
    pub(super) join: Option<JoinOptions>,
}

/// How to join a cluster.
pub(super) struct JoinOptions {
    /// The --client addresses of its nodes.
    pub(super) addresses: Vec<Address>,
    /// Without a vote.
    pub(super) as_learner: bool,
}

/// Serves until SIGINT or SIGTERM. `explain` says why a node cannot start, by its flags.
pub(super) fn serve(
    options: &Options,
    start: ServeOptions,
    listener: TcpListener,
    explain: impl FnOnce(NodeError) -> String,
) -> Result<(), Box<dyn Error>> {
    let ServeOptions { settings, bootstraps, join } = start;
    let mut event_loop = Loop::new()?;
    event_loop.watch_signals(&[Signal::INT, Signal::TERM])?;
    let acceptor = Acceptor::new(listener);
    acceptor.register(&mut event_loop, Token::Listener)?;
    let store = Store::default();
    let counts = store.counts();
    let node = Node::open(options, store, &mut event_loop).map_err(explain)?;
    if bootstraps {
        log_bootstrap(options, &node);
    }
    let (client_address, peer_address) = (acceptor.get_ref().local_addr()?, node.listening_on()?);
    println!(
        "node {} serves clients on {client_address}, peers on {peer_address}, data in {}",
        options.id,
        options.data.display()
    );
    let joining = join.map(|join| {
        let JoinOptions { addresses, as_learner } = join;
        let (id, disk, raft) = (options.id, node.identity().disk, node.address().to_owned());
        let plan =
            join::JoinPlan { addresses, data: options.data.clone(), id, disk, raft, as_learner };
        join::JoinThread::start(plan, &node.status(), node.handle(), event_loop.remote())
    });
    let joining = joining.transpose()?;
    let mut server = Server {
        node,
        counts,
        acceptor,
        settings,
        clients: Slab::new(),
        connections_received: 0,
        pending: Slab::new(),
        pending_bytes: 0,
        expiry_reads: ExpiryReads::default(),
        scan_budget: ScanBudget::default(),
        next_turn: event_loop.channel(),
        has_resubmitted: false,
        waiting_for_node: VecDeque::new(),
        slots_to_serve: Vec::new(),
        chunk: vec![0; CHUNK_BYTES].into_boxed_slice(),
        started: Instant::now(),
        data: options.data.clone(),
        has_marked_removal: false,
    };
    event_loop.run(&mut server)?;
    if let Some(full) = server.node.unapplied_log_full() {
        return Err(UnappliedLog { node: options.id, full: full.clone() }.into());
    }
    if let Some(reason) = server.node.failure() {
        return Err(StorageFailed { node: options.id, reason: reason.to_owned() }.into());
    }
    if let Some(index) = server.node.committed_conflict() {
        return Err(CommittedConflict { node: options.id, index }.into());
    }
    // Requests that still wait for the node are answered with an error.
    drop(server);
    joining.map_or(Ok(()), |joining| joining.end().map_err(Into::into))
}

/// Logs that a new cluster is bootstrapped. It happens once in the life of a data folder, and
/// perhaps by a mistake: an operator who meant an older folder sees it here. Several members have
/// yet to meet.
fn log_bootstrap(options: &Options, node: &Node<Store>) {
    let (cluster, name) = (node.identity().cluster, &options.cluster);
    let mut members: Vec<NodeId> = options.peers.keys().copied().chain([options.id]).collect();
    members.sort_unstable();
    let members: Vec<String> = members.iter().map(ToString::to_string).collect();
    let data = options.data.display();
    match &members[..] {
        [alone] => tracing::info!(
            "bootstrapped a new cluster {cluster}, {name:?}, of node {alone}: {data} held no log"
        ),
        _ => tracing::info!(
            "bootstrapping a new cluster {cluster}, {name:?}, of nodes {}, once all have met: \
             {data} held no log",
            members.join(", ")
        ),
    }
}

impl Handler<Token, ()> for Server {
    fn readable(&mut self, event_loop: &mut Loop, token: Token, hint: ReadHint) {
        match token {
            Token::Raft(token) => self.node.readable(event_loop, token, hint),
            Token::Listener => self.accept(event_loop),
            Token::Client(slot) => {
                let Some(client) = self.clients.get_mut(slot as usize) else { return };
                match client.read(&mut self.chunk) {
                    Ok(()) => {
                        self.slots_to_serve.push(slot as usize);
                        self.run_requests(slot as usize);
                    }
                    Err(error) => self.close(slot as usize, &error),
                }
            }
        }
    }

    fn writable(&mut self, event_loop: &mut Loop, token: Token) {
        match token {
            Token::Raft(token) => self.node.writable(event_loop, token),
            Token::Client(slot) => self.slots_to_serve.push(slot as usize),
            Token::Listener => {}
        }
    }

    fn timeout(&mut self, event_loop: &mut Loop, token: Token) {
        match token {
            Token::Raft(token) => self.node.timeout(event_loop, token),
            Token::Listener => {
                self.acceptor.resume(event_loop, token);
            }
            Token::Client(_) => {}
        }
    }

    /// Starts the turn that clients wait for.
    fn notify(&mut self, _: &mut Loop, (): ()) {
        while let Some((slot, id)) = self.scan_budget.next_waiting() {
            let Some(client) = self.clients.get_mut(slot).filter(|client| client.id == id) else {
                continue;
            };
            client.is_queued = false;
            self.slots_to_serve.push(slot);
            self.run_requests(slot);
        }
    }

    fn signal(&mut self, event_loop: &mut Loop, info: SigInfo) {
        tracing::info!(signal = %info.signal, "stopping");
        event_loop.shutdown();
    }

    fn turn_end(&mut self, event_loop: &mut Loop) {
        loop {
            self.node.turn_end(event_loop);
            if self.node.is_removed() && !self.has_marked_removal {
                self.has_marked_removal = true;
                removal::mark(&self.data);
            }
            while let Some((id, outcome)) = self.node.poll_reply() {
                self.handle_outcome(id, outcome);
            }
            let has_submitted = self.start_time_entry() | std::mem::take(&mut self.has_resubmitted);
            self.resume_waiting();
            if self.slots_to_serve.is_empty() && !has_submitted {
                if self.node.failure().is_some() || self.node.committed_conflict().is_some() {
                    // All requests have been answered.
                    event_loop.shutdown();
                }
                return self.end_scan_turn();
            }
            // A reply can let a client's next requests start, and the node takes them in this turn.
            self.serve_slots(event_loop);
        }
    }
}

impl Server {
    fn accept(&mut self, event_loop: &mut Loop) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.acceptor.accept(event_loop, Token::Listener) {
                Ok(Some((stream, address))) => self.add_client(event_loop, stream, address),
                Ok(None) => return,
                Err(error @ AcceptError::Shed { .. }) => {
                    tracing::warn!(error = error_chain(&error), "refused a client")
                }
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), "accepting no clients for a while");
                }
            }
        }
    }

    fn add_client(&mut self, event_loop: &mut Loop, mut stream: TcpStream, address: SocketAddr) {
        if self.clients.len() >= self.settings.max_clients {
            // One small write to a new socket does not block; a client that misses it sees the
            // connection close.
            let _ = io::Write::write(
                &mut stream,
                b"-ERR max number of clients reached (--max-clients)\r\n",
            );
            return;
        }
        self.connections_received += 1;
        let entry = self.clients.vacant_entry();
        let token = Token::Client(entry.key() as u32);
        let ready = stream
            .set_nodelay(true)
            .and_then(|()| event_loop.register(&stream, token).map_err(io::Error::other));
        match ready {
            Ok(()) => {
                entry.insert(ClientConnection::new(
                    stream,
                    address,
                    self.connections_received,
                    self.settings,
                ));
            }
            Err(error) => {
                tracing::warn!(client = %address, error = error_chain(&error), "refused a client");
            }
        }
    }

    /// Starts every request of a client that may start now.
    fn run_requests(&mut self, slot: usize) {
        while let Some(client) = self.clients.get_mut(slot) {
            let id = client.id;
            let in_node = self.pending.len() < self.settings.pending_requests
                && self.pending_bytes < self.settings.pending_bytes;
            match client.next_request(Room { in_node, in_turn: self.scan_budget.has_room() }) {
                NextRequest::Write { number, command } => {
                    let (size_bytes, kind) = (command.len(), RequestKind::Write);
                    let pending = PendingRequest {
                        slot,
                        client: id,
                        number,
                        size_bytes,
                        scanned_keys: 0,
                        kind,
                    };
                    self.submit(pending, Request::Write(command));
                }
                NextRequest::Read { number, query } => {
                    let scanned_keys = self.counts.scanned_keys(&query);
                    self.scan_budget.start(scanned_keys);
                    let (size_bytes, kind) = (query.len(), RequestKind::Read(query.clone()));
                    let pending =
                        PendingRequest { slot, client: id, number, size_bytes, scanned_keys, kind };
                    let read = self.read_request(query);
                    self.submit(pending, read);
                }
                NextRequest::Admin { number, change } => {
                    let (size_bytes, kind) = (change.size_bytes(), RequestKind::Admin);
                    let pending = PendingRequest {
                        slot,
                        client: id,
                        number,
                        size_bytes,
                        scanned_keys: 0,
                        kind,
                    };
                    self.submit(pending, Request::Admin(change));
                }
                NextRequest::WaitForNode => {
                    if !client.is_queued {
                        client.is_queued = true;
                        self.waiting_for_node.push_back((slot, id));
                    }
                    return;
                }
                NextRequest::WaitForTurn => {
                    if !client.is_queued {
                        client.is_queued = true;
                        self.scan_budget.queue_client(slot, id);
                    }
                    return;
                }
                NextRequest::Local(local) => {
                    let protocol = client.protocol;
                    let reply = self.local_reply(&local, id, protocol);
                    self.clients[slot].push_reply(|output| output.extend_from_slice(&reply));
                }
                NextRequest::None => return,
            }
        }
    }

    fn submit(&mut self, pending: PendingRequest, request: Request) {
        self.pending_bytes += pending.size_bytes;
        let id = RequestId(self.pending.insert(pending) as u64);
        self.node.submit(id, request);
    }

    fn read_request(&self, query: Bytes) -> Request {
        if self.settings.lease_reads { Request::LeaseRead(query) } else { Request::Read(query) }
    }

    fn handle_outcome(&mut self, id: RequestId, outcome: Outcome) {
        if id == expiry_reads::TIME_ENTRY_ID {
            return self.finish_time_entry(&outcome);
        }
        let index = id.0 as usize;
        match (&self.pending[index].kind, &outcome) {
            (RequestKind::Read(_), Outcome::Answer(reply))
                if kv::is_undecided(&reply.bytes) || self.is_overtaking(index) =>
            {
                self.wait_for_time_entry(index);
            }
            (RequestKind::Admin, Outcome::Answer(_)) => {
                self.complete_request(index, Bytes::from_static(b"+OK\r\n"));
            }
            _ => self.complete_request(index, reply::reply_of(outcome)),
        }
    }

    /// Whether a read of the same client before this one has no reply yet, because it waits for a
    /// time entry. That read may see what is written meanwhile, so this one must see it too.
    fn is_overtaking(&self, index: usize) -> bool {
        let PendingRequest { slot, client: id, number, .. } = self.pending[index];
        let client = self.clients.get(slot).filter(|client| client.id == id);
        client.is_some_and(|client| client.has_unanswered_before(number))
    }

    /// Arranges that the read is submitted again after a time entry.
    fn wait_for_time_entry(&mut self, index: usize) {
        if let RequestKind::Read(query) = &mut self.pending[index].kind {
            self.pending[index].kind = RequestKind::ReadAgain(std::mem::take(query));
        }
        self.expiry_reads.add(index);
    }

    fn complete_request(&mut self, index: usize, reply: Bytes) {
        let pending = self.pending.remove(index);
        self.pending_bytes -= pending.size_bytes;
        self.scan_budget.finish(pending.scanned_keys);
        // The client may be gone, and another one in its slot.
        let client = self.clients.get_mut(pending.slot);
        let Some(client) = client.filter(|client| client.id == pending.client) else { return };
        client.complete_request(pending.number, reply);
        self.slots_to_serve.push(pending.slot);
    }

    /// Writes a time entry if reads wait for one: it brings the leader's time into the log. Returns
    /// whether it did.
    fn start_time_entry(&mut self) -> bool {
        let starts = self.expiry_reads.start_time_entry();
        if starts {
            self.node.submit(
                expiry_reads::TIME_ENTRY_ID,
                Request::Write(encode(Operation::AdvanceTime, [].into_iter())),
            );
        }
        starts
    }

    /// Submits the reads again that waited for a time entry.
    fn finish_time_entry(&mut self, outcome: &Outcome) {
        for index in self.expiry_reads.finish_time_entry() {
            match (outcome, &self.pending[index].kind) {
                (Outcome::Answer(_), RequestKind::ReadAgain(query)) => {
                    let query = encode(Operation::AtLogTime, [&query[..]].into_iter());
                    self.node.submit(RequestId(index as u64), self.read_request(query));
                }
                // Whether the time entry is in the log or not, the read has had no effect.
                _ => {
                    let mut reply = BytesMut::new();
                    resp::put_error(
                        &mut reply,
                        "TRYAGAIN whether the key has expired is not known yet: log time has not \
                         advanced",
                    );
                    self.complete_request(index, reply.freeze());
                }
            }
            self.has_resubmitted = true;
        }
    }

    /// Ends the turn's budget for scans, and starts another turn if clients wait for it.
    fn end_scan_turn(&mut self) {
        // A full channel starts a turn as well.
        if self.scan_budget.end_turn() {
            let _ = self.next_turn.send(());
        }
    }

    /// Resumes clients that wait for the node, as long as there is room for their input.
    fn resume_waiting(&mut self) {
        let mut bytes = self.settings.pending_bytes.saturating_sub(self.pending_bytes);
        let mut requests = self.settings.pending_requests.saturating_sub(self.pending.len());
        while bytes > 0 && requests > 0 {
            let Some((slot, id)) = self.waiting_for_node.pop_front() else { return };
            let Some(client) = self.clients.get_mut(slot).filter(|client| client.id == id) else {
                continue;
            };
            client.is_queued = false;
            bytes = bytes.saturating_sub(client.input_len());
            requests -= 1;
            self.slots_to_serve.push(slot);
        }
    }

    /// Serves the clients that have new replies, or sockets with room for them.
    fn serve_slots(&mut self, event_loop: &mut Loop) {
        let mut slots_to_serve = std::mem::take(&mut self.slots_to_serve);
        slots_to_serve.sort_unstable();
        slots_to_serve.dedup();
        for &slot in &slots_to_serve {
            let Some(client) = self.clients.get_mut(slot) else { continue };
            if let Err(error) = client.flush() {
                self.close(slot, &error);
                continue;
            }
            self.run_requests(slot);
            self.watch_or_close(event_loop, slot);
        }
        slots_to_serve.clear();
        self.slots_to_serve = slots_to_serve;
    }

    /// Ends a client that is done, or has the loop watch for what the client needs next.
    fn watch_or_close(&mut self, event_loop: &mut Loop, slot: usize) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        if let Err(error) = client.flush() {
            return self.close(slot, &error);
        }
        if client.is_done() {
            self.clients.remove(slot);
            return;
        }
        let wanted = client.wanted_watch();
        if wanted == client.watched {
            return;
        }
        let interest = interest_of(wanted);
        let token = Token::Client(slot as u32);
        let watched = match (interest, interest_of(client.watched)) {
            (None, _) => event_loop.deregister(&client.stream),
            (Some(interest), None) => {
                event_loop.register_opt(&client.stream, token, interest, Trigger::Level)
            }
            (Some(interest), Some(_)) => {
                event_loop.reregister(&client.stream, token, interest, Trigger::Level)
            }
        };
        match watched {
            Ok(()) => client.watched = wanted,
            Err(error) => self.close(slot, &io::Error::other(error)),
        }
    }

    fn close(&mut self, slot: usize, error: &io::Error) {
        if let Some(client) = self.clients.try_remove(slot) {
            tracing::debug!(client = %client.address, %error, "a client's connection failed");
        }
    }
}

fn interest_of(watch: Watch) -> Option<Interest> {
    match (watch.input, watch.output) {
        (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
        (true, false) => Some(Interest::READABLE),
        (false, true) => Some(Interest::WRITABLE),
        (false, false) => None,
    }
}
