//! The links that other nodes make to this one.
//!
//! On such a link only the other node sends messages. This node sends its half of the handshake, or
//! the reason why it rejects the link.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use kodiak_net::{AcceptError, Acceptor, TcpListener, TcpStream};
use kodiak_reactor::{Interest, Timeout};
use slab::Slab;

use super::{
    NodeError, Options,
    admission::{Admission, Rejection},
    error::text_of,
    error_chain,
    log_throttle::LogThrottle,
    node_loop::NodeLoop,
    outbox::{Flushed, Outbox},
    token::TokenKind,
};
use crate::{
    replica::PeerMessage,
    types::NodeId,
    wire::{self, HandshakeRefusal, Hello, Version, WireError},
};

/// How long a new connection may take for its half of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;
/// Bytes read in one go. A link with more is read again in the next turn, after the other links.
const CHUNK_BYTES: usize = 256 << 10;
/// Number of nodes whose log messages are throttled.
const THROTTLED_NODES_MAX: usize = 64;

#[derive(Debug)]
struct Link {
    stream: TcpStream,
    address: SocketAddr,
    /// Number of links before it.
    number: u64,
    /// The other node, once its half of the handshake was accepted.
    node: Option<NodeId>,
    /// The link's version of the protocol, once it is agreed.
    version: Version,
    /// Bytes that were read and are not a whole frame yet.
    input: BytesMut,
    /// This node's half of the handshake.
    outbox: Outbox,
    handshake_timer: Option<Timeout>,
}

/// What came over the incoming links.
#[derive(Debug)]
pub(super) enum IncomingEvent {
    /// A node has completed its handshake, with the address where it listens.
    ///
    /// An older link of the same node is closed, and what was not read from it is lost.
    Up(NodeId, String),
    /// A message.
    Message(NodeId, PeerMessage),
    /// A node's link is closed.
    Down(NodeId),
}

/// The listener and the links that came through it.
#[derive(Debug)]
pub(super) struct Incoming {
    acceptor: Acceptor<TcpListener>,
    links: Slab<Link>,
    links_max: usize,
    /// Per node: why it was rejected, and how its links ended.
    throttles: BTreeMap<NodeId, LogThrottle>,
    /// Number of links since the start.
    links_ever: u64,
    chunk: Box<[u8]>,
}

impl Incoming {
    /// Listens on the options' address.
    pub(super) fn bind(options: &Options) -> Result<Incoming, NodeError> {
        let listener = TcpListener::bind(options.listen).map_err(|error| NodeError::Listen {
            address: options.listen,
            source: io::Error::other(error),
        })?;
        Ok(Incoming::new(options, listener))
    }

    /// Takes a listener that is bound to the options' address.
    pub(super) fn with_listener(
        options: &Options,
        listener: std::net::TcpListener,
    ) -> Result<Incoming, NodeError> {
        let unusable = |source| NodeError::Listen { address: options.listen, source };
        let found = listener.local_addr().map_err(unusable)?;
        if found != options.listen {
            return Err(NodeError::OtherListener { listen: options.listen, found });
        }
        Ok(Incoming::new(options, TcpListener::from_std(listener).map_err(unusable)?))
    }

    fn new(options: &Options, listener: TcpListener) -> Incoming {
        Incoming {
            acceptor: Acceptor::new(listener),
            links: Slab::new(),
            links_max: options.incoming_links,
            throttles: BTreeMap::new(),
            links_ever: 0,
            chunk: vec![0; CHUNK_BYTES].into_boxed_slice(),
        }
    }

    /// The address on which the node listens.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.acceptor.get_ref().local_addr()
    }

    /// Registers the listener.
    pub(super) fn register(&self, event_loop: &mut dyn NodeLoop) -> Result<(), NodeError> {
        event_loop.register_listener(&self.acceptor).map_err(NodeError::setup("listener for peers"))
    }

    /// Accepts new connections.
    pub(super) fn accept(&mut self, event_loop: &mut dyn NodeLoop) {
        for _ in 0..ACCEPTS_PER_TURN {
            match event_loop.accept(&mut self.acceptor) {
                Ok(Some((stream, address))) => {
                    if let Err(error) = self.add_link(event_loop, stream, address) {
                        tracing::warn!(%address, error, "rejected a connection");
                    }
                }
                Ok(None) => return,
                Err(error @ AcceptError::Shed { .. }) => {
                    tracing::warn!(error = error_chain(&error), "rejected a connection");
                }
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), "not accepting for a while");
                }
            }
        }
    }

    /// Ends the listener's pause.
    pub(super) fn resume(&mut self, event_loop: &mut dyn NodeLoop) {
        event_loop.resume(&mut self.acceptor);
    }

    fn add_link(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<(), String> {
        if self.links.len() >= self.links_max {
            self.make_room(event_loop)?;
        }
        self.links_ever += 1;
        let entry = self.links.vacant_entry();
        let token = TokenKind::Incoming(entry.key() as u32);
        stream.set_nodelay(true).map_err(text_of)?;
        event_loop.register(&stream, token, Interest::READABLE).map_err(text_of)?;
        entry.insert(Link {
            stream,
            address,
            number: self.links_ever,
            node: None,
            version: Version::OLDEST,
            input: BytesMut::new(),
            outbox: Outbox::new(0),
            handshake_timer: event_loop.timeout(token, HANDSHAKE_TIMEOUT).ok(),
        });
        Ok(())
    }

    /// Closes the oldest link without a handshake.
    ///
    /// Connections that send nothing must not keep members out. A member sends its half of the
    /// handshake at once.
    fn make_room(&mut self, event_loop: &mut dyn NodeLoop) -> Result<(), String> {
        let unknown = self.links.iter().filter(|(_, link)| link.node.is_none());
        let Some((oldest, _)) = unknown.min_by_key(|(_, link)| link.number) else {
            return Err(format!(
                "{} links of known nodes are open (Options::incoming_links)",
                self.links_max
            ));
        };
        self.close(
            event_loop,
            oldest,
            "no handshake yet, and a new connection needs the place (Options::incoming_links)",
            &mut Vec::new(),
        );
        Ok(())
    }

    /// Closes a link whose handshake takes too long.
    pub(super) fn timeout(&mut self, event_loop: &mut dyn NodeLoop, slot: u32) {
        // The timer is cleared when the link ends, so it is this link's.
        if let Some(link) = self.links.get_mut(slot as usize) {
            link.handshake_timer = None;
            self.close(event_loop, slot as usize, "no handshake within 5 s", &mut Vec::new());
        }
    }

    /// Writes the rest of this node's half of the handshake.
    pub(super) fn writable(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        slot: u32,
        events: &mut Vec<IncomingEvent>,
    ) {
        if let Err(reason) = self.flush(event_loop, slot as usize) {
            self.close(event_loop, slot as usize, &reason, events);
        }
    }

    /// Reads a link.
    pub(super) fn readable(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        slot: u32,
        hello: &Hello,
        admission: &mut Admission,
        events: &mut Vec<IncomingEvent>,
    ) {
        let slot = slot as usize;
        if let Err(reason) = self.read(event_loop, slot, hello, admission, events) {
            self.close(event_loop, slot, &reason, events);
        }
    }

    fn read(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        slot: usize,
        hello: &Hello,
        admission: &mut Admission,
        events: &mut Vec<IncomingEvent>,
    ) -> Result<(), String> {
        let Some(link) = self.links.get_mut(slot) else { return Ok(()) };
        match link.stream.read(&mut self.chunk) {
            Ok(0) => return Err("closed".to_owned()),
            Ok(len) => link.input.extend_from_slice(&self.chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(text_of(error)),
        }
        if link.node.is_none() {
            let Some((hello_version, theirs)) =
                wire::decode_hello(&mut link.input).map_err(text_of)?
            else {
                return Ok(());
            };
            if let Err(rejection) = admission.admit(hello, &theirs, None) {
                self.reject(event_loop, slot, theirs.node, hello_version, rejection);
                return Ok(());
            }
            let newest = *theirs.versions.end();
            let agreed =
                Version::agreed(&theirs.versions).ok_or(WireError::Version { theirs: newest });
            link.version = agreed.map_err(text_of)?;
            self.complete_handshake(event_loop, slot, hello_version, theirs, hello, events)?;
        }
        let Some(link) = self.links.get_mut(slot) else { return Ok(()) };
        let (Some(node), version) = (link.node, link.version) else { return Ok(()) };
        while let Some((group, message)) =
            wire::decode(version, &mut link.input).map_err(text_of)?
        {
            if group != hello.group {
                return Err(format!(
                    "it sent a frame of group {group}, this node has group {} only",
                    hello.group
                ));
            }
            events.push(IncomingEvent::Message(node, message));
        }
        Ok(())
    }

    /// Answers an accepted handshake, and closes an older link of the same node.
    fn complete_handshake(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        slot: usize,
        hello_version: Version,
        theirs: Hello,
        hello: &Hello,
        events: &mut Vec<IncomingEvent>,
    ) -> Result<(), String> {
        let node = theirs.node;
        if let Some(older) = self.slot_of(node) {
            self.close(event_loop, older, "replaced by a newer one", events);
        }
        let link = &mut self.links[slot];
        link.node = Some(node);
        if let Some(timer) = link.handshake_timer.take() {
            event_loop.clear_timeout(timer);
        }
        link.outbox
            .push(|bytes| wire::encode_hello(hello, hello_version, bytes))
            .map_err(text_of)?;
        events.push(IncomingEvent::Up(node, theirs.address));
        self.flush(event_loop, slot)
    }

    /// Sends the reason of a rejection, and closes the link.
    ///
    /// The other node reads the reason before the end: it has sent nothing but its half of the
    /// handshake, so no bytes are left unread here, and the connection is not reset.
    fn reject(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        slot: usize,
        node: NodeId,
        hello_version: Version,
        rejection: Rejection,
    ) {
        let mut link = self.links.remove(slot);
        if let Some(timer) = link.handshake_timer {
            event_loop.clear_timeout(timer);
        }
        let Rejection { reason, is_removed, removed_at } = rejection;
        let refusal = link.outbox.push(|bytes| {
            let refusal = HandshakeRefusal { reason: &reason, is_removed, removed_at };
            wire::encode_refusal(&refusal, hello_version, bytes);
            Ok(())
        });
        if refusal.is_ok() {
            // One small write to a new socket does not block. A node that misses it sees the
            // connection close.
            let _ = link.outbox.flush(&mut link.stream);
        }
        if self.should_log(event_loop.now(), node, &reason) {
            tracing::warn!(address = %link.address, reason, "rejected a connection");
        }
    }

    fn slot_of(&self, node: NodeId) -> Option<usize> {
        self.links.iter().find(|(_, link)| link.node == Some(node)).map(|(slot, _)| slot)
    }

    fn should_log(&mut self, now: Instant, node: NodeId, message: &str) -> bool {
        if self.throttles.len() >= THROTTLED_NODES_MAX && !self.throttles.contains_key(&node) {
            self.throttles.pop_first();
        }
        self.throttles.entry(node).or_default().should_log(message, now)
    }

    /// Closes a node's link. The node connects again, and a handshake decides about the new link.
    pub(super) fn hang_up(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        node: NodeId,
        reason: &str,
        events: &mut Vec<IncomingEvent>,
    ) {
        if let Some(slot) = self.slot_of(node) {
            self.close(event_loop, slot, reason, events);
        }
    }

    fn flush(&mut self, event_loop: &mut dyn NodeLoop, slot: usize) -> Result<(), String> {
        let Some(link) = self.links.get_mut(slot).filter(|link| !link.outbox.is_empty()) else {
            return Ok(());
        };
        let interest = match link.outbox.flush(&mut link.stream).map_err(text_of)? {
            Flushed::All => Interest::READABLE,
            Flushed::Part => Interest::READABLE | Interest::WRITABLE,
        };
        event_loop
            .reregister(&link.stream, TokenKind::Incoming(slot as u32), interest)
            .map_err(text_of)
    }

    fn close(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        slot: usize,
        reason: &str,
        events: &mut Vec<IncomingEvent>,
    ) {
        let Some(link) = self.links.try_remove(slot) else { return };
        if let Some(timer) = link.handshake_timer {
            event_loop.clear_timeout(timer);
        }
        match link.node {
            Some(node) => {
                if self.should_log(event_loop.now(), node, reason) {
                    tracing::info!(
                        peer = node.0,
                        address = %link.address,
                        reason,
                        "incoming link down"
                    );
                }
                events.push(IncomingEvent::Down(node));
            }
            None => tracing::warn!(address = %link.address, reason, "rejected a connection"),
        }
    }
}
