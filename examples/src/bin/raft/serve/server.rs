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
    replica::{Outcome, Refusal, Request, RequestId, UnappliedLogFull},
    types::{Index, NodeId},
};
use kodiak_reactor::{EventLoop, Handler, Interest, ReadHint, SigInfo, Signal, Trigger};
use redis_protocol::resp2::types::BorrowedFrame;
use slab::Slab;

use super::{
    Settings,
    client::{Client, Next, Room},
    expiry_reads::{self, ExpiryReads},
    explain, info, join,
    scan_budget::ScanBudget,
};
use crate::{
    address::{Address, ListenAddress},
    commands::{Local, manual},
    kv::{
        self, Counts, Store,
        operation::{Operation, encode},
    },
    membership, removal,
    resp::{self, Protocol},
};

/// Connections taken in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Bytes read from a client in one go.
const CHUNK_BYTES: usize = 64 << 10;

/// What the loop's sources are called.
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

/// Who waits for an outcome of the replica.
#[derive(Debug)]
struct Waiting {
    slot: usize,
    client: u64,
    /// The client's own number for the request.
    number: u64,
    size_bytes: usize,
    /// How many keys are looked at for it.
    keys: usize,
    /// What was asked.
    asked: Asked,
}

#[derive(Debug)]
enum Asked {
    Write,
    /// The query: it may have to be asked again.
    Read(Bytes),
    /// A query that is, or will be, asked again after a tick.
    ReadAgain(Bytes),
    /// The state machine has no answer to that.
    Admin,
}

struct Server {
    node: Node<Store>,
    /// Of the store, which is on the node's thread for it.
    counts: Arc<Counts>,
    acceptor: Acceptor<TcpListener>,
    settings: Settings,
    clients: Slab<Client>,
    clients_ever: u64,
    waiting: Slab<Waiting>,
    /// The length of what the node was asked and has not answered.
    waiting_bytes: usize,
    expiry_reads: ExpiryReads,
    scan_budget: ScanBudget,
    /// Begins another turn.
    next_turn: Sender<()>,
    /// Whether the node was asked something since its turn's end.
    has_asked_again: bool,
    /// Clients whose next request waits until that is less, the first to wait first.
    held: VecDeque<(usize, u64)>,
    /// Clients to be looked at when the turn ends.
    touched: Vec<usize>,
    chunk: Box<[u8]>,
    started: Instant,
    data: PathBuf,
    /// Whether the data folder says that the node was removed.
    has_noted_removal: bool,
}

/// Listens for clients at an address that was given as `given`.
pub(super) fn listen(address: SocketAddr, given: &ListenAddress) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| {
        explain::listening("clients", "--client", given, address, &io::Error::from(error))
    })
}

/// How a node is to be started, besides its options.
pub(super) struct Start {
    pub(super) settings: Settings,
    /// Whether its folder is to be made, with the founders of a new cluster.
    pub(super) founds: bool,
    pub(super) join: Option<Join>,
}

/// How a cluster is to be joined.
pub(super) struct Join {
    /// Clients' addresses of its nodes.
    pub(super) addresses: Vec<Address>,
    /// Without a vote.
    pub(super) as_learner: bool,
}

/// The node's log has failed while it ran: a supervisor starts the process again.
#[derive(Debug, thiserror::Error)]
#[error(
    "the log of node {node} has failed, and the process ends with exit code {}, so that its supervisor starts it again: {reason}",
    StorageFailed::EXIT_CODE
)]
pub(crate) struct StorageFailed {
    node: NodeId,
    reason: String,
}

impl StorageFailed {
    /// What `raft serve` ends with then.
    pub(crate) const EXIT_CODE: u8 = 3;
}

/// A leader contradicts what is committed on this node. Look at it before you start it again.
#[derive(Debug, thiserror::Error)]
#[error(
    "a leader contradicts what is committed on node {node} from entry {index} on, and the process ends with exit code {}: \
     acknowledged writes were lost elsewhere. Do not wipe this node, it may hold the only copy; see `raft inspect` and \
     `raft recover`",
    CommittedConflict::EXIT_CODE
)]
pub(crate) struct CommittedConflict {
    node: NodeId,
    index: Index,
}

impl CommittedConflict {
    /// What `raft serve` ends with then.
    pub(crate) const EXIT_CODE: u8 = 4;
}

/// The state machine has failed, and the log that it cannot apply exceeds its quota. A supervisor
/// must not start it again before something has changed.
#[derive(Debug, thiserror::Error)]
#[error(
    "node {node} has stopped, with exit code {}: {full} (--max-unapplied-log)",
    UnappliedLog::EXIT_CODE
)]
pub(crate) struct UnappliedLog {
    node: NodeId,
    full: UnappliedLogFull,
}

impl UnappliedLog {
    /// What `raft serve` ends with then.
    pub(crate) const EXIT_CODE: u8 = 5;
}

/// Serves until SIGINT or SIGTERM. `explain` finds the words for why a node cannot start.
pub(super) fn serve(
    options: &Options,
    start: Start,
    listener: TcpListener,
    explain: impl FnOnce(NodeError) -> String,
) -> Result<(), Box<dyn Error>> {
    let Start { settings, founds, join } = start;
    let mut event_loop = Loop::new()?;
    event_loop.watch_signals(&[Signal::INT, Signal::TERM])?;
    let acceptor = Acceptor::new(listener);
    acceptor.register(&mut event_loop, Token::Listener)?;
    let store = Store::default();
    let counts = store.counts();
    let node = Node::open(options, store, &mut event_loop).map_err(explain)?;
    if founds {
        tell_founding(options, &node);
    }
    let (client_address, peer_address) = (acceptor.get_ref().local_addr()?, node.listening_on()?);
    println!(
        "node {} serves clients on {client_address}, peers on {peer_address}, data in {}",
        options.id,
        options.data.display()
    );
    let joining = join.map(|join| {
        let Join { addresses, as_learner } = join;
        let (id, disk, raft) = (options.id, node.identity().disk, node.address().to_owned());
        let plan = join::Plan { addresses, data: options.data.clone(), id, disk, raft, as_learner };
        join::Joining::start(plan, &node.status(), node.handle(), event_loop.remote())
    });
    let joining = joining.transpose()?;
    let mut server = Server {
        node,
        counts,
        acceptor,
        settings,
        clients: Slab::new(),
        clients_ever: 0,
        waiting: Slab::new(),
        waiting_bytes: 0,
        expiry_reads: ExpiryReads::default(),
        scan_budget: ScanBudget::default(),
        next_turn: event_loop.channel(),
        has_asked_again: false,
        held: VecDeque::new(),
        touched: Vec::new(),
        chunk: vec![0; CHUNK_BYTES].into_boxed_slice(),
        started: Instant::now(),
        data: options.data.clone(),
        has_noted_removal: false,
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
    // What still waits for the node is told that it has stopped.
    drop(server);
    joining.map_or(Ok(()), |joining| joining.end().map_err(Into::into))
}

/// It happens once in the life of a data folder, and by mistake perhaps: whoever wanted an older
/// one back sees it here. Several founders have yet to meet.
fn tell_founding(options: &Options, node: &Node<Store>) {
    let (cluster, name) = (node.identity().cluster, &options.cluster);
    let mut founders: Vec<NodeId> = options.peers.keys().copied().chain([options.id]).collect();
    founders.sort_unstable();
    let founders: Vec<String> = founders.iter().map(ToString::to_string).collect();
    let data = options.data.display();
    match &founders[..] {
        [alone] => tracing::info!(
            "founded a new cluster {cluster}, {name:?}, of node {alone}: {data} held no log"
        ),
        _ => tracing::info!(
            "founding a new cluster {cluster}, {name:?}, of nodes {}, once all have met: {data} held no log",
            founders.join(", ")
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
                        self.touched.push(slot as usize);
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
            Token::Client(slot) => self.touched.push(slot as usize),
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

    /// It is a later turn for those who waited for one.
    fn notify(&mut self, _: &mut Loop, (): ()) {
        while let Some((slot, id)) = self.scan_budget.next() {
            let Some(client) = self.clients.get_mut(slot).filter(|client| client.id == id) else {
                continue;
            };
            client.is_queued = false;
            self.touched.push(slot);
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
            if self.node.is_removed() && !self.has_noted_removal {
                self.has_noted_removal = true;
                removal::note(&self.data);
            }
            while let Some((id, outcome)) = self.node.poll_reply() {
                self.answer(id, outcome);
            }
            let has_asked = self.begin_tick() | std::mem::take(&mut self.has_asked_again);
            self.resume_held();
            if self.touched.is_empty() && !has_asked {
                if self.node.failure().is_some() || self.node.committed_conflict().is_some() {
                    // Everybody who asked has been answered.
                    event_loop.shutdown();
                }
                return self.end_looks();
            }
            // An answer can let a client's next requests start, and they want the node's attention
            // in this turn too.
            self.serve_touched(event_loop);
        }
    }
}

impl Server {
    fn accept(&mut self, event_loop: &mut Loop) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.acceptor.accept(event_loop, Token::Listener) {
                Ok(Some((stream, address))) => self.admit(event_loop, stream, address),
                Ok(None) => return,
                Err(error @ AcceptError::Shed { .. }) => {
                    tracing::warn!(error = error_chain(&error), "turned a client away")
                }
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), "not accepting for a while");
                }
            }
        }
    }

    fn admit(&mut self, event_loop: &mut Loop, mut stream: TcpStream, address: SocketAddr) {
        if self.clients.len() >= self.settings.max_clients {
            // One small write to a new socket does not block; a client that misses it sees the
            // connection close.
            let _ = io::Write::write(
                &mut stream,
                b"-ERR max number of clients reached (--max-clients)\r\n",
            );
            return;
        }
        self.clients_ever += 1;
        let entry = self.clients.vacant_entry();
        let token = Token::Client(entry.key() as u32);
        let ready = stream
            .set_nodelay(true)
            .and_then(|()| event_loop.register(&stream, token).map_err(io::Error::other));
        match ready {
            Ok(()) => {
                entry.insert(Client::new(stream, address, self.clients_ever, self.settings));
            }
            Err(error) => {
                tracing::warn!(client = %address, error = error_chain(&error), "turned a client away");
            }
        }
    }

    /// Starts every request of a client that may start now.
    fn run_requests(&mut self, slot: usize) {
        while let Some(client) = self.clients.get_mut(slot) {
            let id = client.id;
            let in_node = self.waiting.len() < self.settings.waiting_requests
                && self.waiting_bytes < self.settings.waiting_bytes;
            match client.next(Room { in_node, in_turn: self.scan_budget.has_room() }) {
                Next::Write(number, command) => {
                    let waiting = Waiting {
                        slot,
                        client: id,
                        number,
                        size_bytes: command.len(),
                        keys: 0,
                        asked: Asked::Write,
                    };
                    self.submit(waiting, Request::Write(command));
                }
                Next::Read(number, query) => {
                    let keys = self.counts.scanned_keys(&query);
                    self.scan_budget.begin(keys);
                    let asked = Asked::Read(query.clone());
                    let waiting =
                        Waiting { slot, client: id, number, size_bytes: query.len(), keys, asked };
                    let read = self.read(query);
                    self.submit(waiting, read);
                }
                Next::Admin(number, admin) => {
                    let size_bytes = admin.size_bytes();
                    let waiting = Waiting {
                        slot,
                        client: id,
                        number,
                        size_bytes,
                        keys: 0,
                        asked: Asked::Admin,
                    };
                    self.submit(waiting, Request::Admin(admin));
                }
                Next::Held => {
                    if !client.is_queued {
                        client.is_queued = true;
                        self.held.push_back((slot, id));
                    }
                    return;
                }
                Next::Later => {
                    if !client.is_queued {
                        client.is_queued = true;
                        self.scan_budget.wait(slot, id);
                    }
                    return;
                }
                Next::Local(local) => {
                    let protocol = client.protocol;
                    let reply = self.local(&local, id, protocol);
                    self.clients[slot].reply(|output| output.extend_from_slice(&reply));
                }
                Next::Nothing => return,
            }
        }
    }

    fn submit(&mut self, waiting: Waiting, request: Request) {
        self.waiting_bytes += waiting.size_bytes;
        let id = RequestId(self.waiting.insert(waiting) as u64);
        self.node.submit(id, request);
    }

    fn read(&self, query: Bytes) -> Request {
        if self.settings.lease_reads { Request::LeaseRead(query) } else { Request::Read(query) }
    }

    fn answer(&mut self, id: RequestId, outcome: Outcome) {
        if id == expiry_reads::TICK_ID {
            return self.end_tick(&outcome);
        }
        let place = id.0 as usize;
        match (&self.waiting[place].asked, &outcome) {
            (Asked::Read(_), Outcome::Answer(reply))
                if kv::is_due(&reply.bytes) || self.is_overtaking(place) =>
            {
                self.wait_for_tick(place);
            }
            (Asked::Admin, Outcome::Answer(_)) => {
                self.answer_client(place, Bytes::from_static(b"+OK\r\n"))
            }
            _ => self.answer_client(place, reply_of(outcome)),
        }
    }

    /// Whether the read's client has one before it that is not answered yet, as it waits for a
    /// tick. That one may see what is written meanwhile, and so must those behind it: their answers
    /// are older than its will be.
    fn is_overtaking(&self, place: usize) -> bool {
        let Waiting { slot, client: id, number, .. } = self.waiting[place];
        self.clients.get(slot).is_some_and(|client| client.id == id && client.is_not_next(number))
    }

    /// Has the read asked again after a tick.
    fn wait_for_tick(&mut self, place: usize) {
        if let Asked::Read(query) = &mut self.waiting[place].asked {
            self.waiting[place].asked = Asked::ReadAgain(std::mem::take(query));
        }
        self.expiry_reads.add(place);
    }

    fn answer_client(&mut self, place: usize, reply: Bytes) {
        let waiting = self.waiting.remove(place);
        self.waiting_bytes -= waiting.size_bytes;
        self.scan_budget.end(waiting.keys);
        // The client may be gone, and another one in its slot.
        let Some(client) =
            self.clients.get_mut(waiting.slot).filter(|client| client.id == waiting.client)
        else {
            return;
        };
        client.answer(waiting.number, reply);
        self.touched.push(waiting.slot);
    }

    /// Brings the leader's time into the log, if reads wait for that.
    fn begin_tick(&mut self) -> bool {
        let begins = self.expiry_reads.begin_tick();
        if begins {
            self.node.submit(
                expiry_reads::TICK_ID,
                Request::Write(encode(Operation::Tick, [].into_iter())),
            );
        }
        begins
    }

    /// Asks again for those who waited for a tick.
    fn end_tick(&mut self, outcome: &Outcome) {
        for place in self.expiry_reads.end_tick() {
            match (outcome, &self.waiting[place].asked) {
                (Outcome::Answer(_), Asked::ReadAgain(query)) => {
                    let query = encode(Operation::AtLogTime, [&query[..]].into_iter());
                    self.node.submit(RequestId(place as u64), self.read(query));
                }
                // Whether the tick is in the log or not, the read has had no effect.
                _ => {
                    let mut reply = BytesMut::new();
                    resp::put_error(
                        &mut reply,
                        "TRYAGAIN whether the key has expired is not known yet: the log's time has not moved",
                    );
                    self.answer_client(place, reply.freeze());
                }
            }
            self.has_asked_again = true;
        }
    }

    /// Sees to it that another turn comes for those who wait for one.
    fn end_looks(&mut self) {
        // If the channel is full, a turn comes anyway.
        if self.scan_budget.end_turn() {
            let _ = self.next_turn.send(());
        }
    }

    /// Lets the clients go on that wait for the node, as many as their last requests leave room
    /// for.
    fn resume_held(&mut self) {
        let mut room = self.settings.waiting_bytes.saturating_sub(self.waiting_bytes);
        let mut places = self.settings.waiting_requests.saturating_sub(self.waiting.len());
        while room > 0 && places > 0 {
            let Some((slot, id)) = self.held.pop_front() else { return };
            let Some(client) = self.clients.get_mut(slot).filter(|client| client.id == id) else {
                continue;
            };
            client.is_queued = false;
            room = room.saturating_sub(client.input_len());
            places -= 1;
            self.touched.push(slot);
        }
    }

    /// Goes on with clients whose replies have come or whose sockets have room.
    fn serve_touched(&mut self, event_loop: &mut Loop) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for &slot in &touched {
            let Some(client) = self.clients.get_mut(slot) else { continue };
            if let Err(error) = client.flush() {
                self.close(slot, &error);
                continue;
            }
            self.run_requests(slot);
            self.settle(event_loop, slot);
        }
        touched.clear();
        self.touched = touched;
    }

    /// Ends a client that is done; otherwise has the loop watch for what the client needs next.
    fn settle(&mut self, event_loop: &mut Loop, slot: usize) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        if let Err(error) = client.flush() {
            return self.close(slot, &error);
        }
        if client.is_done() {
            self.clients.remove(slot);
            return;
        }
        let wanted = (client.wants_input(), client.wants_room());
        if wanted == client.watched {
            return;
        }
        let interest = match wanted {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        let token = Token::Client(slot as u32);
        let watched = match (interest, client.watched) {
            (None, _) => event_loop.deregister(&client.stream),
            (Some(interest), (false, false)) => {
                event_loop.register_opt(&client.stream, token, interest, Trigger::Level)
            }
            (Some(interest), _) => {
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
            tracing::debug!(client = %client.address, %error, "a client's connection broke");
        }
    }

    fn local(&self, local: &Local, client: u64, protocol: Protocol) -> Bytes {
        let mut output = BytesMut::new();
        match local {
            Local::Ping(None) => resp::put(&mut output, &BorrowedFrame::SimpleString(b"PONG")),
            Local::Ping(Some(text)) | Local::Echo(text) => {
                resp::put(&mut output, &BorrowedFrame::BulkString(text))
            }
            Local::Info(sections) => {
                let text = info::text(
                    sections,
                    &self.node.status(),
                    &self.counts,
                    self.clients.len(),
                    self.started.elapsed(),
                );
                resp::put(&mut output, &BorrowedFrame::BulkString(text.as_bytes()));
            }
            Local::Members => match membership::listing::text(&self.node.status()) {
                Ok(text) => resp::put(&mut output, &BorrowedFrame::BulkString(text.as_bytes())),
                Err(removed) => resp::put_error(&mut output, &removed),
            },
            Local::Ok | Local::Quit => return Bytes::from_static(b"+OK\r\n"),
            Local::EmptyMap => resp::put_map(&mut output, 0, protocol),
            Local::Manual(question) => manual::put_answer(&mut output, question, protocol),
            Local::EmptyScan => return Bytes::from_static(b"*2\r\n$1\r\n0\r\n*0\r\n"),
            Local::ClientId => resp::put(&mut output, &BorrowedFrame::Integer(client as i64)),
            Local::Hello(_) => {
                let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
                let text = |text: &'static str| BorrowedFrame::BulkString(text.as_bytes());
                let fields = [
                    (text("server"), text("kodiak")),
                    (text("version"), text(env!("CARGO_PKG_VERSION"))),
                    (text("proto"), BorrowedFrame::Integer(version)),
                    (text("id"), BorrowedFrame::Integer(client as i64)),
                    (text("mode"), text("standalone")),
                    (text("role"), text("master")),
                ];
                resp::put_map(&mut output, fields.len(), protocol);
                for (name, value) in &fields {
                    resp::put(&mut output, name);
                    resp::put(&mut output, value);
                }
            }
        }
        output.freeze()
    }
}

/// What a client is told. `TRYAGAIN` had no effect; `UNKNOWN` may have had one; `ERR` had none and
/// asking again is in vain.
fn reply_of(outcome: Outcome) -> Bytes {
    let error = match outcome {
        Outcome::Answer(reply) => return reply.bytes,
        Outcome::Opened(session) => {
            format!("UNKNOWN opened session {session}, which nobody asked for")
        }
        // It would be refused again.
        Outcome::Refused(Refusal::Removed) => format!("ERR removed: {}", Refusal::Removed),
        Outcome::Refused(Refusal::Declined { reason, is_final: true }) => format!("ERR {reason}"),
        // As Redis says it.
        Outcome::Refused(refusal @ Refusal::Loading { .. }) => format!("LOADING {refusal}"),
        // Until another version of the program is started here.
        Outcome::Refused(refusal @ Refusal::MachineFailed { .. }) => format!("ERR {refusal}"),
        Outcome::Refused(refusal) => format!("TRYAGAIN {refusal}"),
        Outcome::Unknown(doubt) => format!("UNKNOWN {doubt}"),
    };
    let mut reply = BytesMut::new();
    resp::put_error(&mut reply, &error);
    reply.freeze()
}
