//! One client's connection: requests come in, replies go out in the order of the requests.
//!
//! Redis runs a connection's commands one after the other. Here, several may be under way at once,
//! as long as nobody can tell: writes may follow writes (the log keeps their order) and reads may
//! follow reads. A read waits for the writes before it and a write for the reads before it.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr},
};

use bytes::{Buf, Bytes, BytesMut};
use kodiak_net::TcpStream;
use kodiak_raft::replica::Admin;

use super::{
    Settings,
    transaction::{Step, Transaction},
};
use crate::{
    commands::{Command, Local, TransactionCommand, parse, unknown_command},
    kv::operation::{decode, returns_value, scans},
    resp::{self, Protocol, ProtocolError, RequestReader},
};

/// Requests of one client that may wait for their replies. A client that pipelines more is read
/// when some are answered.
const REPLIES_MAX: usize = 4096;
/// Bytes of replies that may wait for a client. One that does not read its replies is not read
/// either.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Requests of one client that may be under way at a time if they answer with values; fewer after
/// long replies. Such a request is short and its reply may be long: without this, a client that
/// pipelines reads of one long value could fill the memory in one turn.
const VALUES_MAX: usize = 64;
/// Bytes taken from a client after its protocol error, so that it can finish sending and read why
/// it is not understood: closing a socket that holds unread bytes resets the connection, and the
/// error is lost with it.
const DISCARDED_BYTES_MAX: usize = 64 << 20;

/// What a client wants done next.
#[derive(Debug)]
pub(super) enum Next {
    /// Ask the replica, and give what it says to [`Client::answer`] with this number.
    Write(u64, Bytes),
    /// The same, for a query.
    Read(u64, Bytes),
    /// The same, for a change of the cluster.
    Admin(u64, Admin),
    /// Answer locally, with [`Client::reply`].
    Local(Local),
    /// Ask again when the node has room: there is a request that waits for that only.
    Held,
    /// Ask again in a later turn: the next request looks at many keys, and so many may be looked at
    /// in one.
    Later,
    /// Nothing now.
    Nothing,
}

/// What there is room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Requests to the node.
    pub(super) in_node: bool,
    /// Looks at many keys in this turn.
    pub(super) in_turn: bool,
}

/// What is under way. Never both at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reads,
    Writes,
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    /// The number by which this connection is told from others that had or will have its slot.
    pub(super) id: u64,
    /// Whether the loop watches for more requests, and for room.
    pub(super) watched: (bool, bool),
    /// Whether the server has it in a queue, of those that wait for the node or for a later turn.
    pub(super) is_queued: bool,
    /// Received, not understood yet. Empty most of the time, and then without any room of its own.
    input: BytesMut,
    reader: RequestReader,
    pub(super) protocol: Protocol,
    transaction: Transaction,
    request_bytes_max: usize,
    /// Replies in the order of the requests; `None` is still under way. Those before are in
    /// `output`.
    replies: VecDeque<Option<Bytes>>,
    /// The number of the first of `replies`.
    first_reply: u64,
    kind: Kind,
    under_way: usize,
    /// Requests that answer with values and may be under way, by the length of the latest replies.
    values_max: usize,
    /// Whether a whole request waits in `input` for something else than more bytes.
    held_up: bool,
    output: BytesMut,
    /// No more requests are read; the connection ends when everything is answered.
    closing: bool,
    /// How many more bytes are taken and thrown away before the connection ends.
    discarding: Option<usize>,
}

impl Client {
    pub(super) fn new(
        stream: TcpStream,
        address: SocketAddr,
        id: u64,
        settings: Settings,
    ) -> Client {
        Client {
            stream,
            address,
            id,
            watched: (true, false),
            is_queued: false,
            input: BytesMut::new(),
            reader: RequestReader::new(settings.max_request_bytes),
            protocol: Protocol::default(),
            transaction: Transaction::default(),
            request_bytes_max: settings.max_request_bytes,
            replies: VecDeque::new(),
            first_reply: 0,
            kind: Kind::Reads,
            under_way: 0,
            values_max: VALUES_MAX,
            held_up: false,
            output: BytesMut::new(),
            closing: false,
            discarding: None,
        }
    }

    /// Reads once; `chunk` is only borrowed, so that a client that is silent holds no buffer.
    pub(super) fn read(&mut self, chunk: &mut [u8]) -> io::Result<()> {
        match self.stream.read(chunk) {
            // The client may have closed only its own half: what it has asked is still answered.
            Ok(0) => (self.closing, self.discarding) = (true, None),
            Ok(len) if !self.closing => self.input.extend_from_slice(&chunk[..len]),
            Ok(len) => self.discarding = self.discarding.and_then(|left| left.checked_sub(len)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// How much it has sent that is not understood yet, in bytes.
    pub(super) fn input_len(&self) -> usize {
        self.input.len()
    }

    /// Whether the client may go on asking before what it asked is answered.
    pub(super) fn wants_input(&self) -> bool {
        self.discarding.is_some() || !self.closing && !self.held_up && self.has_room()
    }

    /// Whether replies wait for room in the socket.
    pub(super) fn wants_room(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether there is nothing left to do for this client.
    pub(super) fn is_done(&self) -> bool {
        self.closing
            && self.discarding.is_none()
            && !self.held_up
            && self.replies.is_empty()
            && self.output.is_empty()
    }

    fn has_room(&self) -> bool {
        self.replies.len() < REPLIES_MAX && self.output.len() < OUTPUT_BYTES_MAX
    }

    /// The next request that may start now; one that the node must be asked only if it has room.
    pub(super) fn next(&mut self, room: Room) -> Next {
        self.held_up = false;
        while !self.input.is_empty() {
            if !self.has_room() {
                self.held_up = true;
                return Next::Nothing;
            }
            let Some((command, len_bytes)) = self.parse() else { break };
            self.reader.reset();
            if command.as_ref().is_some_and(|command| self.must_wait(command)) {
                // It is parsed again when what is under way is answered.
                self.held_up = true;
                return Next::Nothing;
            }
            let asks_the_node = command.as_ref().is_some_and(|command| self.asks_the_node(command));
            if !room.in_node && asks_the_node {
                self.held_up = true;
                return Next::Held;
            }
            if !room.in_turn
                && asks_the_node
                && matches!(&command, Some(Command::Read(query)) if scans(query))
            {
                self.held_up = true;
                return Next::Later;
            }
            self.input.advance(len_bytes);
            let Some(command) = command else { continue };
            match self.transaction.step(command, self.request_bytes_max) {
                Step::Say(frame) => self.reply(|output| output.extend_from_slice(frame.as_bytes())),
                Step::Run(Command::Write(bytes)) => {
                    return Next::Write(self.start(Kind::Writes), bytes);
                }
                Step::Run(Command::Read(bytes)) => {
                    return Next::Read(self.start(Kind::Reads), bytes);
                }
                Step::Run(Command::Admin(admin)) => {
                    return Next::Admin(self.start(Kind::Writes), admin);
                }
                Step::Run(Command::Local(Local::Quit)) => {
                    self.reply(|output| output.extend_from_slice(b"+OK\r\n"));
                    self.stop_reading();
                }
                Step::Run(Command::Local(local)) => {
                    if let Local::Hello(Some(protocol)) = local {
                        self.protocol = protocol;
                    }
                    return Next::Local(local);
                }
                Step::Run(Command::Refused(message)) => {
                    self.reply(|output| resp::put_error(output, &message))
                }
                Step::Run(Command::Transaction(_)) => {
                    unreachable!("a transaction answers its own brackets")
                }
            }
        }
        if self.input.is_empty() {
            // Gives the room back: most connections are silent most of the time.
            self.input = BytesMut::new();
        }
        Next::Nothing
    }

    /// The request at the front of the input, understood (`None`: an empty one), and its length.
    /// `None` if there is no whole one, or none that can be understood any more: then its error is
    /// on its way.
    fn parse(&mut self) -> Option<(Option<Command>, usize)> {
        let request = match self.reader.read(&self.input) {
            Ok(request) => request?,
            Err(error) => {
                self.end_by(&error);
                return None;
            }
        };
        let len_bytes = request.len_bytes;
        match parse(&request) {
            Some(command) => Some((Some(command), len_bytes)),
            None if request.len() == 0 => Some((None, len_bytes)),
            // A line that is no command is no client of ours but something that speaks another
            // protocol.
            None if request.inline => {
                let message = format!("{}, and the line is not RESP", unknown_command(&request));
                self.reply(|output| resp::put_error(output, &message));
                self.stop_understanding();
                None
            }
            None => Some((Some(Command::Refused(unknown_command(&request))), len_bytes)),
        }
    }

    /// Whether a command must wait until what is under way is answered.
    fn must_wait(&self, command: &Command) -> bool {
        let (kind, has_values) = match command {
            _ if self.transaction.keeps(command) => return false,
            Command::Write(write) => {
                let answers = |(operation, arguments)| returns_value(operation, arguments);
                (Kind::Writes, decode(write).is_some_and(answers))
            }
            Command::Admin(_) => (Kind::Writes, false),
            Command::Transaction(TransactionCommand::Exec) => (Kind::Writes, true),
            // One after the other: each may take long, and so may its reply.
            Command::Read(query) if scans(query) && self.under_way > 0 => return true,
            Command::Read(_) => (Kind::Reads, true),
            // What was asked before is answered in the protocol of before.
            Command::Local(Local::Hello(Some(_))) => return !self.replies.is_empty(),
            Command::Local(_) | Command::Refused(_) | Command::Transaction(_) => return false,
        };
        let is_full = has_values && self.under_way >= self.values_max;
        self.under_way > 0 && (kind != self.kind || is_full)
    }

    /// Whether a command goes to the node, now.
    fn asks_the_node(&self, command: &Command) -> bool {
        let asks = matches!(
            command,
            Command::Write(_) | Command::Read(_) | Command::Transaction(TransactionCommand::Exec)
        );
        asks && !self.transaction.keeps(command)
    }

    fn start(&mut self, kind: Kind) -> u64 {
        self.kind = kind;
        self.under_way += 1;
        self.replies.push_back(None);
        self.first_reply + self.replies.len() as u64 - 1
    }

    /// Whether a request before this one has no answer yet.
    pub(super) fn is_not_next(&self, number: u64) -> bool {
        number != self.first_reply
    }

    /// The replica has answered request `number`.
    pub(super) fn answer(&mut self, number: u64, reply: Bytes) {
        self.under_way -= 1;
        let fitting = (OUTPUT_BYTES_MAX / reply.len().max(1)).clamp(1, VALUES_MAX);
        self.values_max = fitting.min(self.values_max + 1);
        let at = (number - self.first_reply) as usize;
        self.replies[at] = Some(reply);
        while let Some(Some(reply)) = self.replies.front() {
            resp::put_as(&mut self.output, self.protocol, reply);
            self.replies.pop_front();
            self.first_reply += 1;
        }
    }

    /// Replies to the request that [`Client::next`] has just given.
    pub(super) fn reply(&mut self, put: impl FnOnce(&mut BytesMut)) {
        if self.replies.is_empty() {
            put(&mut self.output);
        } else {
            let mut reply = BytesMut::new();
            put(&mut reply);
            self.replies.push_back(Some(reply.freeze()));
        }
    }

    fn end_by(&mut self, error: &ProtocolError) {
        tracing::info!(client = %self.address, %error, "closing a connection that does not speak RESP");
        self.reply(|output| resp::put_error(output, &format!("ERR {error}")));
        self.stop_understanding();
    }

    fn stop_understanding(&mut self) {
        self.stop_reading();
        self.discarding = Some(DISCARDED_BYTES_MAX);
    }

    fn stop_reading(&mut self) {
        self.closing = true;
        self.input = BytesMut::new();
    }

    /// Writes replies until none waits or the socket takes no more.
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
        if self.discarding.is_some() && self.replies.is_empty() {
            // All is said. The client sees the end now; this side waits for the client's.
            match self.stream.shutdown(Shutdown::Write) {
                Err(error) if error.kind() != io::ErrorKind::NotConnected => return Err(error),
                _ => {}
            }
        }
        // A long reply's room is not kept by a connection that goes silent.
        if self.output.capacity() > 64 << 10 {
            self.output = BytesMut::new()
        } else {
            self.output.clear()
        }
        Ok(())
    }
}
