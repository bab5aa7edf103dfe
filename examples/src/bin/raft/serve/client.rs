//! One client's connection: requests come in, replies go out in the order of the requests.
//!
//! Redis runs a connection's commands one after the other. Here, several may be in flight, as long
//! as the client cannot see a difference: writes may follow writes, because the log keeps their
//! order, and reads may follow reads. A read waits for the writes before it, and a write for the
//! reads before it.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr},
};

use bytes::{Buf, Bytes, BytesMut};
use kodiak_net::TcpStream;
use kodiak_raft::replica::AdminRequest;

use super::{
    Settings,
    transaction::{Decision, Transaction},
};
use crate::{
    commands::{Command, LocalCommand, TransactionCommand, parse, unknown_command},
    kv::operation::{decode, returns_value, scans},
    resp::{self, Protocol, ProtocolError, RequestReader},
};

/// Requests of one client that may wait for their replies. A client that pipelines more is read
/// when some are answered.
const REPLIES_MAX: usize = 4096;
/// Bytes of replies that may wait for a client. One that does not read its replies is not read
/// either.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Requests of one client that may be in flight if they answer with values; fewer after long
/// replies. Such a request is short and its reply may be long: without this bound, a client that
/// pipelines reads of one long value could fill the memory in one turn.
const VALUES_MAX: usize = 64;
/// Bytes read and discarded after a client's protocol error, so that it can finish sending and then
/// read the error. Closing a socket that holds unread bytes resets the connection, and the error is
/// lost.
const DISCARDED_BYTES_MAX: usize = 64 << 20;

/// The next request of a client, or what it waits for.
#[derive(Debug)]
pub(super) enum NextRequest {
    /// Submit a command to the node; its reply goes to [`ClientConnection::complete_request`] with
    /// this number.
    Write { number: u64, command: Bytes },
    /// The same, for a query.
    Read { number: u64, query: Bytes },
    /// The same, for a change of the cluster.
    Admin { number: u64, change: AdminRequest },
    /// Answer it here, with [`ClientConnection::push_reply`].
    Local(LocalCommand),
    /// A request waits only for room in the node: call again when there is some.
    WaitForNode,
    /// A request exceeds the budget for scans: call again in a later turn.
    WaitForTurn,
    /// Nothing can start now.
    None,
}

/// What there is room for, outside of the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// A request to the node.
    pub(super) in_node: bool,
    /// A scan in this turn.
    pub(super) in_turn: bool,
}

/// The kind of the requests in flight, all of which have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InFlightKind {
    Reads,
    Writes,
}

/// What the loop watches a client's socket for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    /// Requests.
    pub(super) input: bool,
    /// Room for replies.
    pub(super) output: bool,
}

/// A request that has been received.
struct Received {
    /// `None`: it is empty.
    command: Option<Command>,
    len_bytes: usize,
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct ClientConnection {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    /// Distinguishes this connection from others that had or will have its slot.
    pub(super) id: u64,
    pub(super) watched: Watch,
    /// Whether the client is in one of the server's queues: for the node, or for a turn.
    pub(super) is_queued: bool,
    /// Received, not parsed yet. Empty most of the time, and then it has no memory of its own.
    input: BytesMut,
    reader: RequestReader,
    pub(super) protocol: Protocol,
    transaction: Transaction,
    request_bytes_max: usize,
    /// Replies in the order of the requests; `None` for a request in flight. Those before are in
    /// `output`.
    replies: VecDeque<Option<Bytes>>,
    /// The number of the first of `replies`.
    first_reply: u64,
    in_flight_kind: InFlightKind,
    in_flight: usize,
    /// Requests that answer with values and may be in flight, by the length of the latest replies.
    values_max: usize,
    /// Whether a whole request waits in `input`, for something other than bytes.
    is_stalled: bool,
    output: BytesMut,
    /// No more requests are read; the connection ends when all are answered.
    is_closing: bool,
    /// Bytes that are still read and discarded before the connection ends.
    discards_bytes: Option<usize>,
}

impl ClientConnection {
    pub(super) fn new(
        stream: TcpStream,
        address: SocketAddr,
        id: u64,
        settings: Settings,
    ) -> ClientConnection {
        ClientConnection {
            stream,
            address,
            id,
            watched: Watch { input: true, output: false },
            is_queued: false,
            input: BytesMut::new(),
            reader: RequestReader::new(settings.max_request_bytes),
            protocol: Protocol::default(),
            transaction: Transaction::default(),
            request_bytes_max: settings.max_request_bytes,
            replies: VecDeque::new(),
            first_reply: 0,
            in_flight_kind: InFlightKind::Reads,
            in_flight: 0,
            values_max: VALUES_MAX,
            is_stalled: false,
            output: BytesMut::new(),
            is_closing: false,
            discards_bytes: None,
        }
    }

    /// Reads once. `chunk` is only borrowed, so that an idle client holds no buffer.
    pub(super) fn read(&mut self, chunk: &mut [u8]) -> io::Result<()> {
        match self.stream.read(chunk) {
            // The client may have closed only its own half: its requests are still answered.
            Ok(0) => (self.is_closing, self.discards_bytes) = (true, None),
            Ok(len) if !self.is_closing => self.input.extend_from_slice(&chunk[..len]),
            Ok(len) => {
                self.discards_bytes = self.discards_bytes.and_then(|left| left.checked_sub(len));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Bytes that it has sent and that are not parsed yet.
    pub(super) fn input_len(&self) -> usize {
        self.input.len()
    }

    /// What the loop should watch for now.
    pub(super) fn wanted_watch(&self) -> Watch {
        let may_ask = !self.is_closing && !self.is_stalled && self.has_room();
        Watch { input: self.discards_bytes.is_some() || may_ask, output: !self.output.is_empty() }
    }

    /// Whether there is nothing left to do for this client.
    pub(super) fn is_done(&self) -> bool {
        self.is_closing
            && self.discards_bytes.is_none()
            && !self.is_stalled
            && self.replies.is_empty()
            && self.output.is_empty()
    }

    fn has_room(&self) -> bool {
        self.replies.len() < REPLIES_MAX && self.output.len() < OUTPUT_BYTES_MAX
    }

    /// Takes the next request, if it may start now.
    pub(super) fn next_request(&mut self, room: Room) -> NextRequest {
        self.is_stalled = false;
        while !self.input.is_empty() {
            if !self.has_room() {
                self.is_stalled = true;
                return NextRequest::None;
            }
            let Some(Received { command, len_bytes }) = self.parse_request() else { break };
            self.reader.reset();
            if command.as_ref().is_some_and(|command| self.must_wait(command)) {
                // It is parsed again when the requests in flight are answered.
                self.is_stalled = true;
                return NextRequest::None;
            }
            let needs_node = command.as_ref().is_some_and(|command| self.needs_node(command));
            if !room.in_node && needs_node {
                self.is_stalled = true;
                return NextRequest::WaitForNode;
            }
            if !room.in_turn
                && needs_node
                && matches!(&command, Some(Command::Read(query)) if scans(query))
            {
                self.is_stalled = true;
                return NextRequest::WaitForTurn;
            }
            self.input.advance(len_bytes);
            let Some(command) = command else { continue };
            match self.transaction.handle(command, self.request_bytes_max) {
                Decision::Reply(frame) => {
                    self.push_reply(|output| output.extend_from_slice(frame.as_bytes()));
                }
                Decision::Run(Command::Write(command)) => {
                    return NextRequest::Write {
                        number: self.start_request(InFlightKind::Writes),
                        command,
                    };
                }
                Decision::Run(Command::Read(query)) => {
                    return NextRequest::Read {
                        number: self.start_request(InFlightKind::Reads),
                        query,
                    };
                }
                Decision::Run(Command::Admin(change)) => {
                    return NextRequest::Admin {
                        number: self.start_request(InFlightKind::Writes),
                        change,
                    };
                }
                Decision::Run(Command::Local(LocalCommand::Quit)) => {
                    self.push_reply(|output| output.extend_from_slice(b"+OK\r\n"));
                    self.stop_reading();
                }
                Decision::Run(Command::Local(local)) => {
                    if let LocalCommand::Hello(Some(protocol)) = local {
                        self.protocol = protocol;
                    }
                    return NextRequest::Local(local);
                }
                Decision::Run(Command::Refused(message)) => {
                    self.push_reply(|output| resp::put_error(output, &message));
                }
                Decision::Run(Command::Transaction(_)) => {
                    unreachable!("MULTI, EXEC and DISCARD are decided by the transaction")
                }
            }
        }
        if self.input.is_empty() {
            // Gives the memory back: most connections are idle most of the time.
            self.input = BytesMut::new();
        }
        NextRequest::None
    }

    /// Parses the request at the front of the input. `None` if it is not whole yet, or malformed:
    /// then its error is among the replies, and the connection ends.
    fn parse_request(&mut self) -> Option<Received> {
        let request = match self.reader.read(&self.input) {
            Ok(request) => request?,
            Err(error) => {
                self.refuse_input(&error);
                return None;
            }
        };
        let len_bytes = request.len_bytes;
        match parse(&request) {
            Some(command) => Some(Received { command: Some(command), len_bytes }),
            None if request.len() == 0 => Some(Received { command: None, len_bytes }),
            // A line that is not a command comes from a program that speaks another protocol.
            None if request.is_inline => {
                let message = format!("{}, and the line is not RESP", unknown_command(&request));
                self.push_reply(|output| resp::put_error(output, &message));
                self.discard_input();
                None
            }
            None => {
                let command = Some(Command::Refused(unknown_command(&request)));
                Some(Received { command, len_bytes })
            }
        }
    }

    /// Whether a command must wait until the requests in flight are answered.
    fn must_wait(&self, command: &Command) -> bool {
        let (kind, has_values) = match command {
            _ if self.transaction.queues(command) => return false,
            Command::Write(write) => {
                let answers = |(operation, arguments)| returns_value(operation, arguments);
                (InFlightKind::Writes, decode(write).is_some_and(answers))
            }
            Command::Admin(_) => (InFlightKind::Writes, false),
            Command::Transaction(TransactionCommand::Exec) => (InFlightKind::Writes, true),
            // One after the other: each may take long, and so may its reply.
            Command::Read(query) if scans(query) && self.in_flight > 0 => return true,
            Command::Read(_) => (InFlightKind::Reads, true),
            // The requests before it are answered in the protocol that was valid for them.
            Command::Local(LocalCommand::Hello(Some(_))) => return !self.replies.is_empty(),
            Command::Local(_) | Command::Refused(_) | Command::Transaction(_) => return false,
        };
        let is_full = has_values && self.in_flight >= self.values_max;
        self.in_flight > 0 && (kind != self.in_flight_kind || is_full)
    }

    /// Whether a command goes to the node now.
    fn needs_node(&self, command: &Command) -> bool {
        let needs = matches!(
            command,
            Command::Write(_) | Command::Read(_) | Command::Transaction(TransactionCommand::Exec)
        );
        needs && !self.transaction.queues(command)
    }

    /// Counts a request in flight, and returns its number.
    fn start_request(&mut self, kind: InFlightKind) -> u64 {
        self.in_flight_kind = kind;
        self.in_flight += 1;
        self.replies.push_back(None);
        self.first_reply + self.replies.len() as u64 - 1
    }

    /// Whether a request before this one has no reply yet.
    pub(super) fn has_unanswered_before(&self, number: u64) -> bool {
        number != self.first_reply
    }

    /// Takes the node's reply to request `number`.
    pub(super) fn complete_request(&mut self, number: u64, reply: Bytes) {
        self.in_flight -= 1;
        let fitting = (OUTPUT_BYTES_MAX / reply.len().max(1)).clamp(1, VALUES_MAX);
        self.values_max = fitting.min(self.values_max + 1);
        let at = (number - self.first_reply) as usize;
        self.replies[at] = Some(reply);
        while let Some(Some(reply)) = self.replies.front() {
            resp::put_translated(&mut self.output, self.protocol, reply);
            self.replies.pop_front();
            self.first_reply += 1;
        }
    }

    /// Replies to the request that [`ClientConnection::next_request`] has just returned.
    pub(super) fn push_reply(&mut self, put: impl FnOnce(&mut BytesMut)) {
        if self.replies.is_empty() {
            put(&mut self.output);
        } else {
            let mut reply = BytesMut::new();
            put(&mut reply);
            self.replies.push_back(Some(reply.freeze()));
        }
    }

    fn refuse_input(&mut self, error: &ProtocolError) {
        let client = self.address;
        tracing::info!(%client, %error, "closing a connection that does not speak RESP");
        self.push_reply(|output| resp::put_error(output, &format!("ERR {error}")));
        self.discard_input();
    }

    fn discard_input(&mut self) {
        self.stop_reading();
        self.discards_bytes = Some(DISCARDED_BYTES_MAX);
    }

    fn stop_reading(&mut self) {
        self.is_closing = true;
        self.input = BytesMut::new();
    }

    /// Writes replies until none is left or the socket takes no more.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.output.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.discards_bytes.is_some() && self.replies.is_empty() {
            // Everything is answered. The client sees the end now; this side waits for the
            // client's.
            match self.stream.shutdown(Shutdown::Write) {
                Err(error) if error.kind() != io::ErrorKind::NotConnected => return Err(error),
                _ => {}
            }
        }
        // An idle connection does not keep the memory of a long reply.
        if self.output.capacity() > 64 << 10 {
            self.output = BytesMut::new()
        } else {
            self.output.clear()
        }
        Ok(())
    }
}
