//! The links that other nodes make to this one. On them the other node speaks and this one listens;
//! this node's only words are its half of the handshake, or why there is none.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use kodiak_net::{AcceptError, Acceptor, TcpListener, TcpStream};
use kodiak_reactor::{EventLoop, Interest, Timeout, Trigger};
use slab::Slab;

use super::{
    NodeError, Options,
    acquaintance::{Acquaintances, TurnedAway},
    error_chain,
    outbox::{Flushed, Outbox},
    token::{Kind, Token},
    told::Told,
};
use crate::{
    replica::PeerMessage,
    types::NodeId,
    wire::{self, Hello, Refusal, Version, WireError},
};

/// How long a node that has connected may take to say who it is.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections taken in one turn.
const ACCEPTS_PER_TURN: usize = 16;
/// Bytes read in one go. A link with more is asked again in the next turn, after the others.
const CHUNK_BYTES: usize = 256 << 10;

#[derive(Debug)]
struct Link {
    stream: TcpStream,
    address: SocketAddr,
    /// How many came before it.
    number: u64,
    /// Who it is, once that is known.
    node: Option<NodeId>,
    /// The link's version of the protocol, once that is agreed.
    version: Version,
    /// What has been read and does not make a frame yet.
    input: BytesMut,
    /// Our half of the handshake.
    outbox: Outbox,
    greeting_timer: Option<Timeout>,
}

/// What came over the incoming links.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A node has said who it is and where it listens. Its older link, if it had one, is gone, with
    /// what was not read from it.
    Up(NodeId, String),
    /// A message.
    Message(NodeId, PeerMessage),
    /// A node's link is gone.
    Down(NodeId),
}

/// The listener and the links that came through it.
#[derive(Debug)]
pub(super) struct Incoming {
    acceptor: Acceptor<TcpListener>,
    links: Slab<Link>,
    links_max: usize,
    /// What nodes were turned away for, and how their links ended, so that it is not told twice a
    /// second.
    told: BTreeMap<NodeId, Told>,
    links_ever: u64,
    chunk: Box<[u8]>,
}

/// Nodes of which it is remembered what was told.
const TOLD_MAX: usize = 64;

impl Incoming {
    /// Listens.
    pub(super) fn bind(options: &Options) -> Result<Incoming, NodeError> {
        let listener = TcpListener::bind(options.listen).map_err(|error| NodeError::Listen {
            address: options.listen,
            error: std::io::Error::other(error),
        })?;
        Ok(Incoming::new(options, listener))
    }

    /// Goes on with a listener that was bound to `options.listen`.
    pub(super) fn listening(
        options: &Options,
        listener: std::net::TcpListener,
    ) -> Result<Incoming, NodeError> {
        let unusable = |error| NodeError::Listen { address: options.listen, error };
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
            told: BTreeMap::new(),
            links_ever: 0,
            chunk: vec![0; CHUNK_BYTES].into_boxed_slice(),
        }
    }

    /// Where it listens.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.acceptor.get_ref().local_addr()
    }

    /// Registers the listener.
    pub(super) fn register<T, M>(&self, event_loop: &mut EventLoop<T, M>) -> Result<(), NodeError>
    where
        T: Copy + From<Token>,
    {
        let token = T::from(Token(Kind::Listener));
        self.acceptor.register(event_loop, token).map_err(NodeError::setup("listener for peers"))
    }

    /// Somebody connects.
    pub(super) fn accept<T, M>(&mut self, event_loop: &mut EventLoop<T, M>)
    where
        T: Copy + From<Token>,
    {
        let token = T::from(Token(Kind::Listener));
        for _ in 0..ACCEPTS_PER_TURN {
            match self.acceptor.accept(event_loop, token) {
                Ok(Some((stream, address))) => {
                    if let Err(error) = self.admit(event_loop, stream, address) {
                        tracing::warn!(%address, error, "turned a connection away");
                    }
                }
                Ok(None) => return,
                Err(error @ AcceptError::Shed { .. }) => {
                    tracing::warn!(error = error_chain(&error), "turned a connection away")
                }
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), "not accepting for a while");
                }
            }
        }
    }

    /// The listener's rest is over.
    pub(super) fn resume<T, M>(&mut self, event_loop: &mut EventLoop<T, M>)
    where
        T: Copy + From<Token>,
    {
        self.acceptor.resume(event_loop, T::from(Token(Kind::Listener)));
    }

    fn admit<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<(), String>
    where
        T: Copy + From<Token>,
    {
        if self.links.len() >= self.links_max {
            self.make_room(event_loop)?;
        }
        self.links_ever += 1;
        let entry = self.links.vacant_entry();
        let token = T::from(Token(Kind::Incoming(entry.key() as u32)));
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        event_loop.register(&stream, token).map_err(|error| error.to_string())?;
        entry.insert(Link {
            stream,
            address,
            number: self.links_ever,
            node: None,
            version: Version::OLDEST,
            input: BytesMut::new(),
            outbox: Outbox::new(0),
            greeting_timer: event_loop.timeout(token, GREETING_TIMEOUT).ok(),
        });
        Ok(())
    }

    /// Ends the link that has been silent for the longest time about who it is: strangers that say
    /// nothing must not keep members out. A member says it at once.
    fn make_room<T, M>(&mut self, event_loop: &mut EventLoop<T, M>) -> Result<(), String>
    where
        T: Copy + From<Token>,
    {
        let strangers = self.links.iter().filter(|(_, link)| link.node.is_none());
        let Some((oldest, _)) = strangers.min_by_key(|(_, link)| link.number) else {
            return Err(format!(
                "{} links of known nodes are open (Options::incoming_links)",
                self.links_max
            ));
        };
        self.close(
            event_loop,
            oldest,
            "no handshake yet, and its place was needed (Options::incoming_links)",
            &mut Vec::new(),
        );
        Ok(())
    }

    /// A node has not said who it is for too long.
    pub(super) fn timeout<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, slot: u32)
    where
        T: Copy + From<Token>,
    {
        // The timer is cleared when the link ends, so it is this link's.
        if let Some(link) = self.links.get_mut(slot as usize) {
            link.greeting_timer = None;
            self.close(event_loop, slot as usize, "no handshake within 5 s", &mut Vec::new());
        }
    }

    /// The rest of our half of the handshake can be written.
    pub(super) fn writable<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        slot: u32,
        arrivals: &mut Vec<Arrival>,
    ) where
        T: Copy + From<Token>,
    {
        if let Err(reason) = self.flush(event_loop, slot as usize) {
            self.close(event_loop, slot as usize, &reason, arrivals);
        }
    }

    /// A link has something to say.
    pub(super) fn readable<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        slot: u32,
        hello: &Hello,
        acquaintances: &mut Acquaintances,
        arrivals: &mut Vec<Arrival>,
    ) where
        T: Copy + From<Token>,
    {
        let slot = slot as usize;
        if let Err(reason) = self.read(event_loop, slot, hello, acquaintances, arrivals) {
            self.close(event_loop, slot, &reason, arrivals);
        }
    }

    fn read<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        slot: usize,
        hello: &Hello,
        acquaintances: &mut Acquaintances,
        arrivals: &mut Vec<Arrival>,
    ) -> Result<(), String>
    where
        T: Copy + From<Token>,
    {
        let Some(link) = self.links.get_mut(slot) else { return Ok(()) };
        match link.stream.read(&mut self.chunk) {
            Ok(0) => return Err("closed".to_owned()),
            Ok(len) => link.input.extend_from_slice(&self.chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        if link.node.is_none() {
            let Some((spoken, theirs)) =
                wire::decode_hello(&mut link.input).map_err(|error| error.to_string())?
            else {
                return Ok(());
            };
            if let Err(turned_away) = acquaintances.check(hello, &theirs, None) {
                self.turn_away(event_loop, slot, theirs.node, spoken, turned_away);
                return Ok(());
            }
            let theirs_newest = *theirs.versions.end();
            let agreed = Version::agreed(&theirs.versions)
                .ok_or(WireError::Version { theirs: theirs_newest });
            link.version = agreed.map_err(|error| error.to_string())?;
            self.greet(event_loop, slot, spoken, theirs, hello, arrivals)?;
        }
        let Some(link) = self.links.get_mut(slot) else { return Ok(()) };
        let (Some(node), version) = (link.node, link.version) else { return Ok(()) };
        while let Some((group, message)) =
            wire::decode(version, &mut link.input).map_err(|error| error.to_string())?
        {
            if group != hello.group {
                return Err(format!(
                    "it sent a frame of group {group}, this node has group {} only",
                    hello.group
                ));
            }
            arrivals.push(Arrival::Message(node, message));
        }
        Ok(())
    }

    /// The other side is who it should be: says who we are, and ends its older link.
    fn greet<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        slot: usize,
        spoken: Version,
        theirs: Hello,
        hello: &Hello,
        arrivals: &mut Vec<Arrival>,
    ) -> Result<(), String>
    where
        T: Copy + From<Token>,
    {
        let node = theirs.node;
        let older =
            self.links.iter().find(|(_, link)| link.node == Some(node)).map(|(slot, _)| slot);
        if let Some(older) = older {
            self.close(event_loop, older, "replaced by a newer one", arrivals);
        }
        let link = &mut self.links[slot];
        link.node = Some(node);
        if let Some(timer) = link.greeting_timer.take() {
            event_loop.clear_timeout(timer);
        }
        link.outbox
            .push(|bytes| wire::encode_hello(hello, spoken, bytes))
            .map_err(|error| error.to_string())?;
        arrivals.push(Arrival::Up(node, theirs.address));
        self.flush(event_loop, slot)
    }

    /// The other side is not who it should be: says why, and ends the link. It reads that before
    /// the end: it has said nothing but its half of the handshake, so no bytes are left unread
    /// here, and the connection is not reset.
    fn turn_away<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        slot: usize,
        node: NodeId,
        spoken: Version,
        turned_away: TurnedAway,
    ) where
        T: Copy + From<Token>,
    {
        let mut link = self.links.remove(slot);
        if let Some(timer) = link.greeting_timer {
            event_loop.clear_timeout(timer);
        }
        let TurnedAway { reason, is_removed, removed_at } = turned_away;
        let refusal = link.outbox.push(|bytes| {
            wire::encode_refusal(
                &Refusal { reason: &reason, is_removed, removed_at },
                spoken,
                bytes,
            );
            Ok(())
        });
        if refusal.is_ok() {
            // One small write to a new socket does not block; whoever misses it sees the connection
            // close.
            let _ = link.outbox.flush(&mut link.stream);
        }
        if self.is_news(event_loop.now(), node, &reason) {
            tracing::warn!(address = %link.address, reason, "turned a connection away");
        }
    }

    fn is_news(&mut self, now: Instant, node: NodeId, what: &str) -> bool {
        if self.told.len() >= TOLD_MAX && !self.told.contains_key(&node) {
            self.told.pop_first();
        }
        self.told.entry(node).or_default().is_news(what, now)
    }

    /// Ends a node's link, so that it comes again, or is told why it may not.
    pub(super) fn hang_up<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        node: NodeId,
        reason: &str,
        arrivals: &mut Vec<Arrival>,
    ) where
        T: Copy + From<Token>,
    {
        let slot =
            self.links.iter().find(|(_, link)| link.node == Some(node)).map(|(slot, _)| slot);
        if let Some(slot) = slot {
            self.close(event_loop, slot, reason, arrivals);
        }
    }

    fn flush<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, slot: usize) -> Result<(), String>
    where
        T: Copy + From<Token>,
    {
        let Some(link) = self.links.get_mut(slot).filter(|link| !link.outbox.is_empty()) else {
            return Ok(());
        };
        let flushed = link.outbox.flush(&mut link.stream).map_err(|error| error.to_string())?;
        let interest = match flushed {
            Flushed::All => Interest::READABLE,
            Flushed::Part => Interest::READABLE | Interest::WRITABLE,
        };
        let token = T::from(Token(Kind::Incoming(slot as u32)));
        event_loop
            .reregister(&link.stream, token, interest, Trigger::Level)
            .map_err(|error| error.to_string())
    }

    fn close<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        slot: usize,
        reason: &str,
        arrivals: &mut Vec<Arrival>,
    ) where
        T: Copy + From<Token>,
    {
        let Some(link) = self.links.try_remove(slot) else { return };
        if let Some(timer) = link.greeting_timer {
            event_loop.clear_timeout(timer);
        }
        match link.node {
            Some(node) => {
                if self.is_news(event_loop.now(), node, reason) {
                    tracing::info!(peer = node.0, address = %link.address, reason, "incoming link down");
                }
                arrivals.push(Arrival::Down(node));
            }
            None => tracing::warn!(address = %link.address, reason, "turned a connection away"),
        }
    }
}
