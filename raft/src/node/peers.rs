//! The links that this node makes, one to each peer. On them this node speaks and the peer listens: the peer's only words
//! are its half of the handshake. What the peer has to say comes over the link that the peer makes (`incoming`), so no two
//! nodes ever have to agree on which of two links to keep.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use kodiak_net::{Connecting, Finish, TcpStream};
use kodiak_reactor::{EventLoop, Interest, Timeout, Trigger};

use super::{
    NodeError, Options,
    acquaintance::Acquaintances,
    outbox::{Flushed, Outbox, PushError},
    token::{Kind, Token},
};
use crate::{
    replica::PeerMessage,
    types::{GroupId, NodeId},
    wire::{self, Hello},
};

/// The wait before the first new attempt; it doubles with each one that fails.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_millis(500);
/// How long a connection and its handshake may take.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

/// However short elections are, a link is given this long to get a byte through.
const SILENCE_MIN: Duration = Duration::from_secs(1);

/// What the node must know about a link that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Messages get through from now on.
    Up(NodeId),
    /// What was sent and not answered may be lost.
    Down(NodeId),
}

#[derive(Debug)]
enum Link {
    Down,
    Connecting(Connecting<TcpStream>),
    /// Connected; our half of the handshake is on its way, the peer's is awaited.
    Greeting(TcpStream),
    Up(TcpStream),
}

#[derive(Debug)]
struct Peer {
    id: NodeId,
    address: SocketAddr,
    link: Link,
    /// The next attempt while the link is down; the end of patience while it is being made.
    timer: Option<Timeout>,
    back_off: Duration,
    outbox: Outbox,
    /// The peer's half of the handshake, as far as it has come.
    greeting: BytesMut,
    /// Whether the loop watches for room in the socket.
    wants_room: bool,
    /// Whether something was put into the outbox since the last flush.
    dirty: bool,
    metadata: Bytes,
    /// The last reason a link failed for, so that it is told once and not every half second.
    complaint: String,
}

/// Links to all peers.
#[derive(Debug)]
pub(super) struct Peers {
    group: GroupId,
    /// What was sent and not acknowledged for so long went to a machine that is gone, or cut off.
    silence: Duration,
    peers: Vec<Peer>,
    positions: BTreeMap<NodeId, usize>,
    changes: Vec<Change>,
}

impl Peers {
    /// The peers with these addresses; nobody is called before [`Peers::dial_all`].
    pub(super) fn new(
        addresses: &BTreeMap<NodeId, String>,
        group: GroupId,
        options: &Options,
    ) -> Result<Peers, NodeError> {
        let mut peers = Vec::with_capacity(addresses.len());
        for (&id, address) in addresses {
            peers.push(Peer {
                id,
                address: resolve(id, address)?,
                link: Link::Down,
                timer: None,
                back_off: BACK_OFF_MIN,
                outbox: Outbox::new(options.link_buffer_bytes),
                greeting: BytesMut::new(),
                wants_room: false,
                dirty: false,
                metadata: Bytes::new(),
                complaint: String::new(),
            });
        }
        let positions = peers.iter().enumerate().map(|(at, peer)| (peer.id, at)).collect();
        let silence = SILENCE_MIN.max(options.election_timeout.1 * 4);
        Ok(Peers { group, silence, peers, positions, changes: Vec::new() })
    }

    /// Calls every peer.
    pub(super) fn dial_all<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, hello: &Hello)
    where
        T: Copy + From<Token>,
    {
        for at in 0..self.peers.len() {
            self.dial(event_loop, at, hello);
        }
    }

    /// Links that changed since the last call, oldest first.
    pub(super) fn poll_change(&mut self) -> Option<Change> {
        if self.changes.is_empty() { None } else { Some(self.changes.remove(0)) }
    }

    /// Every peer: its number, whether its link is up, and the metadata of its last handshake.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, SocketAddr, bool, &Bytes)> {
        self.peers.iter().map(|peer| (peer.id, peer.address, matches!(peer.link, Link::Up(_)), &peer.metadata))
    }

    /// Whether messages to this peer get through.
    pub(super) fn is_up(&self, id: NodeId) -> bool {
        self.positions.get(&id).is_some_and(|&at| matches!(self.peers[at].link, Link::Up(_)))
    }

    /// Puts a message into the peer's outbox. Without a link it is dropped: the replica expects that.
    pub(super) fn send<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, to: NodeId, message: &PeerMessage)
    where
        T: Copy + From<Token>,
    {
        let Some(&at) = self.positions.get(&to) else { return };
        let (group, peer) = (self.group, &mut self.peers[at]);
        if !matches!(peer.link, Link::Up(_)) {
            return;
        }
        match peer.outbox.push(|bytes| wire::encode(group, message, bytes)) {
            Ok(()) => peer.dirty = true,
            Err(error @ PushError::Overflow { .. }) => self.fail(event_loop, at, &error.to_string()),
            // Only an answer of the state machine can be so large; whoever waits for it learns nothing in time.
            Err(PushError::Wire(error)) => tracing::warn!(peer = to.0, %error, "cannot be sent"),
        }
    }

    /// Writes what was put into the outboxes.
    pub(super) fn flush<T, M>(&mut self, event_loop: &mut EventLoop<T, M>)
    where
        T: Copy + From<Token>,
    {
        for at in 0..self.peers.len() {
            // A socket that is full says so itself when it has room.
            if std::mem::take(&mut self.peers[at].dirty) && !self.peers[at].wants_room {
                self.flush_peer(event_loop, at);
            }
        }
    }

    /// A peer has called us, so it is there: no need to wait for the next attempt.
    pub(super) fn heard_from<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, id: NodeId, hello: &Hello)
    where
        T: Copy + From<Token>,
    {
        let Some(&at) = self.positions.get(&id) else { return };
        if matches!(self.peers[at].link, Link::Down) {
            self.peers[at].back_off = BACK_OFF_MIN;
            self.dial(event_loop, at, hello);
        }
    }

    /// The timer of a peer has run out.
    pub(super) fn timeout<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, position: u32, hello: &Hello)
    where
        T: Copy + From<Token>,
    {
        let at = position as usize;
        self.peers[at].timer = None;
        match self.peers[at].link {
            Link::Down => self.dial(event_loop, at, hello),
            Link::Connecting(_) | Link::Greeting(_) => {
                self.fail(event_loop, at, "no connection and handshake within 2 s");
            }
            Link::Up(_) => {}
        }
    }

    /// A peer's socket has room, or its connection is decided.
    pub(super) fn writable<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, position: u32, hello: &Hello)
    where
        T: Copy + From<Token>,
    {
        let at = position as usize;
        match std::mem::replace(&mut self.peers[at].link, Link::Down) {
            Link::Connecting(connecting) => self.finish(event_loop, at, connecting, hello),
            link => {
                self.peers[at].link = link;
                self.flush_peer(event_loop, at);
            }
        }
    }

    /// A peer's socket has something to say: its half of the handshake, or that the link is over.
    pub(super) fn readable<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        position: u32,
        hello: &Hello,
        acquaintances: &mut Acquaintances,
    ) where
        T: Copy + From<Token>,
    {
        let at = position as usize;
        if matches!(self.peers[at].link, Link::Connecting(_)) {
            // A refused connection is readable as well as writable; `finish` tells which.
            return self.writable(event_loop, position, hello);
        }
        if let Err(reason) = self.listen(at, hello, acquaintances) {
            return self.fail(event_loop, at, &reason);
        }
        let peer = &mut self.peers[at];
        if let (Link::Up(_), Some(timer)) = (&peer.link, peer.timer.take()) {
            event_loop.clear_timeout(timer);
        }
    }

    /// Reads what the peer says while it should be saying its half of the handshake, or nothing.
    fn listen(&mut self, at: usize, hello: &Hello, acquaintances: &mut Acquaintances) -> Result<(), String> {
        let peer = &mut self.peers[at];
        let (Link::Greeting(stream) | Link::Up(stream)) = &mut peer.link else { return Ok(()) };
        let mut chunk = [0; 2048];
        match stream.read(&mut chunk) {
            Ok(0) => return Err("the peer closed it".to_owned()),
            Ok(len) => peer.greeting.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        if matches!(peer.link, Link::Up(_)) {
            return Err("the peer spoke out of turn".to_owned());
        }
        let Some(theirs) = wire::decode_hello(&mut peer.greeting).map_err(|error| error.to_string())? else {
            return Ok(());
        };
        acquaintances.check(hello, &theirs, Some(peer.id))?;
        peer.metadata = theirs.metadata.clone();
        peer.back_off = BACK_OFF_MIN;
        peer.complaint.clear();
        if let Link::Greeting(stream) = std::mem::replace(&mut peer.link, Link::Down) {
            peer.link = Link::Up(stream);
        }
        tracing::info!(peer = peer.id.0, address = %peer.address, "link up");
        self.changes.push(Change::Up(peer.id));
        Ok(())
    }

    fn dial<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, at: usize, hello: &Hello)
    where
        T: Copy + From<Token>,
    {
        let peer = &mut self.peers[at];
        if let Some(timer) = peer.timer.take() {
            event_loop.clear_timeout(timer);
        }
        let token = T::from(Token(Kind::Peer(at as u32)));
        let started = TcpStream::connect(peer.address).map_err(|error| error.to_string()).and_then(|connecting| {
            let registered = event_loop.register_opt(&connecting, token, Interest::WRITABLE, Trigger::Level);
            registered.map(|()| connecting).map_err(|error| error.to_string())
        });
        match started {
            Ok(connecting) => {
                // Without a timer the kernel's own patience (minutes) is the bound.
                peer.timer = event_loop.timeout(token, GREETING_TIMEOUT).ok();
                self.finish(event_loop, at, connecting, hello);
            }
            Err(reason) => self.fail(event_loop, at, &reason),
        }
    }

    /// Looks whether a connection is made, and greets.
    fn finish<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        at: usize,
        connecting: Connecting<TcpStream>,
        hello: &Hello,
    ) where
        T: Copy + From<Token>,
    {
        let stream = match connecting.finish() {
            Ok(Finish::Connected(stream)) => stream,
            Ok(Finish::StillGoing(connecting)) => {
                self.peers[at].link = Link::Connecting(connecting);
                return;
            }
            Err(error) => return self.fail(event_loop, at, &error.to_string()),
        };
        let token = T::from(Token(Kind::Peer(at as u32)));
        match stream.set_user_timeout(Some(self.silence)) {
            // Elsewhere the kernel's patience, and the peer's own calls, must do.
            Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                return self.fail(event_loop, at, &error.to_string());
            }
            _ => {}
        }
        let ready = stream.set_nodelay(true).and_then(|()| {
            event_loop.reregister(&stream, token, Interest::READABLE, Trigger::Level).map_err(io::Error::other)
        });
        if let Err(error) = ready {
            return self.fail(event_loop, at, &error.to_string());
        }
        let peer = &mut self.peers[at];
        peer.greeting.clear();
        peer.outbox.clear();
        peer.wants_room = false;
        peer.link = Link::Greeting(stream);
        match peer.outbox.push(|bytes| wire::encode_hello(hello, bytes)) {
            Ok(()) => self.flush_peer(event_loop, at),
            Err(error) => self.fail(event_loop, at, &error.to_string()),
        }
    }

    fn flush_peer<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, at: usize)
    where
        T: Copy + From<Token>,
    {
        let peer = &mut self.peers[at];
        let (Link::Greeting(stream) | Link::Up(stream)) = &mut peer.link else { return };
        let flushed = match peer.outbox.flush(&mut *stream) {
            Ok(flushed) => flushed,
            Err(error) => return self.fail(event_loop, at, &error.to_string()),
        };
        let wants_room = flushed == Flushed::Part;
        if wants_room != peer.wants_room {
            let interest = if wants_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            let token = T::from(Token(Kind::Peer(at as u32)));
            match event_loop.reregister(&*stream, token, interest, Trigger::Level) {
                Ok(()) => peer.wants_room = wants_room,
                Err(error) => self.fail(event_loop, at, &error.to_string()),
            }
        }
    }

    /// Gives a link up, and arranges for the next attempt.
    fn fail<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, at: usize, reason: &str)
    where
        T: Copy + From<Token>,
    {
        let peer = &mut self.peers[at];
        if let Some(timer) = peer.timer.take() {
            event_loop.clear_timeout(timer);
        }
        let was_up = matches!(std::mem::replace(&mut peer.link, Link::Down), Link::Up(_));
        // What was meant for this link must not be sent over the next one.
        peer.outbox.clear();
        peer.wants_room = false;
        if peer.complaint != reason {
            reason.clone_into(&mut peer.complaint);
            tracing::warn!(peer = peer.id.0, address = %peer.address, reason, "no link; trying again");
        }
        if was_up {
            self.changes.push(Change::Down(peer.id));
        }
        let token = T::from(Token(Kind::Peer(at as u32)));
        peer.timer = event_loop.timeout(token, peer.back_off).ok();
        peer.back_off = (peer.back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Looks an address up, once: `host:port`.
fn resolve(id: NodeId, address: &str) -> Result<SocketAddr, NodeError> {
    let unresolved = |error| NodeError::PeerAddress { id, address: address.to_owned(), error };
    let mut found = address.to_socket_addrs().map_err(unresolved)?;
    found.next().ok_or_else(|| unresolved(io::Error::other("the name has no address")))
}
