//! The links that this node makes, one to each peer. On them this node speaks and the peer listens:
//! the peer's only words are its half of the handshake. What the peer has to say comes over the
//! link that the peer makes (`incoming`), so no two nodes ever have to agree on which of two links
//! to keep.
//!
//! The members of the configuration are called for as long as they are members. Somebody who is
//! none and has called this node (a leader that it does not know yet, a node that is about to
//! leave) is called back for as long as that link stands.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::{SocketAddr, ToSocketAddrs},
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use kodiak_net::{Connecting, Finish, TcpStream};
use kodiak_reactor::{EventLoop, Interest, Timeout, Trigger};
use slab::Slab;

use super::{
    Handle, Options,
    acquaintance::{Acquaintances, TurnedAway},
    error_chain,
    handle::Resolved,
    outbox::{Flushed, Outbox, PushError},
    token::{Kind, Token},
    told::Told,
};
use crate::{
    replica::PeerMessage,
    types::{Configuration, GroupId, NodeId},
    wire::{self, Hello, Version, WireError},
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
    /// This peer knows that this node was removed from the cluster.
    Removed(NodeId),
}

#[derive(Debug)]
enum Link {
    Down,
    /// The address's name is being looked up, on a thread of its own: that can take seconds.
    Resolving,
    Connecting(Connecting<TcpStream>),
    /// Connected; our half of the handshake is on its way, the peer's is awaited.
    Greeting(TcpStream),
    Up(TcpStream),
}

#[derive(Debug)]
struct Peer {
    id: NodeId,
    /// `host:port`.
    address: String,
    is_member: bool,
    /// Whether the link that the peer makes stands.
    is_calling: bool,
    link: Link,
    /// The next attempt while the link is down; the end of patience while it is being made.
    timer: Option<Timeout>,
    back_off: Duration,
    /// Links that came to nothing: a name that has several addresses is called at one after the
    /// other.
    failures: usize,
    outbox: Outbox,
    /// The version in which this node greets. A peer that hangs up on one is greeted in another.
    greets_in: Version,
    /// The link's version, once it is up.
    version: Version,
    /// The peer's half of the handshake, as far as it has come.
    greeting: BytesMut,
    /// Whether the loop watches for room in the socket.
    wants_room: bool,
    /// Whether something was put into the outbox since the last flush.
    dirty: bool,
    metadata: Bytes,
    /// What links failed for, so that it is not told every half second.
    told: Told,
}

/// Links to all peers.
#[derive(Debug)]
pub(super) struct Peers {
    us: NodeId,
    /// Whether the cluster is at the base feature level, where members may speak the oldest version
    /// alone.
    is_at_base_level: bool,
    /// The configuration has no place for this node, and had one.
    is_left: bool,
    group: GroupId,
    /// What was sent and not acknowledged for so long went to a machine that is gone, or cut off.
    silence: Duration,
    link_buffer_bytes: usize,
    /// Brings back what was looked up.
    handle: Handle,
    peers: Slab<Peer>,
    positions: BTreeMap<NodeId, usize>,
    changes: Vec<Change>,
}

impl Peers {
    /// No peers yet. `handle` is the node's own.
    pub(super) fn new(group: GroupId, options: &Options, handle: Handle) -> Peers {
        Peers {
            us: options.id,
            is_at_base_level: false,
            is_left: false,
            group,
            silence: SILENCE_MIN.max(options.election_timeout.max * 4),
            link_buffer_bytes: options.link_buffer_bytes,
            handle,
            peers: Slab::new(),
            positions: BTreeMap::new(),
            changes: Vec::new(),
        }
    }

    /// The members are these now: calls those who are new. A link that stands to somebody who is a
    /// member no longer stays until that node has closed its own: it may be told of its removal
    /// over it.
    pub(super) fn follow<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        to: &Configuration,
        hello: &Hello,
    ) where
        T: Copy + From<Token>,
    {
        self.is_left = to.has_removed(self.us);
        self.is_at_base_level = !to.feature_level.is_above_base();
        let known: Vec<usize> = self.positions.values().copied().collect();
        for at in known {
            let peer = &mut self.peers[at];
            peer.is_member = to.members.contains_key(&peer.id);
            if !peer.is_member && !peer.is_calling && !matches!(peer.link, Link::Up(_)) {
                self.remove(event_loop, at);
            }
        }
        let us = self.us;
        for (&id, member) in to.members.iter().filter(|&(&id, _)| id != us) {
            let Some(&at) = self.positions.get(&id) else {
                self.add(event_loop, id, member.address.clone(), true, hello);
                continue;
            };
            let peer = &mut self.peers[at];
            if peer.address != member.address {
                peer.address.clone_from(&member.address);
                // A link that stands is one to the right node, wherever that was when it was made.
                if !matches!(peer.link, Link::Up(_)) {
                    self.call_anew(event_loop, at, hello);
                }
            }
        }
    }

    /// Ends all links.
    pub(super) fn clear<T, M>(&mut self, event_loop: &mut EventLoop<T, M>)
    where
        T: Copy + From<Token>,
    {
        let all: Vec<usize> = self.positions.values().copied().collect();
        all.into_iter().for_each(|at| self.remove(event_loop, at));
    }

    fn add<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        id: NodeId,
        address: String,
        is_member: bool,
        hello: &Hello,
    ) where
        T: Copy + From<Token>,
    {
        let at = self.peers.insert(Peer {
            id,
            address,
            is_member,
            is_calling: !is_member,
            link: Link::Down,
            timer: None,
            back_off: BACK_OFF_MIN,
            failures: 0,
            outbox: Outbox::new(self.link_buffer_bytes),
            greets_in: Version::NEWEST,
            version: Version::OLDEST,
            greeting: BytesMut::new(),
            wants_room: false,
            dirty: false,
            metadata: Bytes::new(),
            told: Told::default(),
        });
        self.positions.insert(id, at);
        self.dial(event_loop, at, hello);
    }

    fn remove<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, at: usize)
    where
        T: Copy + From<Token>,
    {
        let peer = self.peers.remove(at);
        self.positions.remove(&peer.id);
        if let Some(timer) = peer.timer {
            event_loop.clear_timeout(timer);
        }
        if matches!(peer.link, Link::Up(_)) {
            tracing::info!(peer = peer.id.0, "link ended: not a member");
            self.changes.push(Change::Down(peer.id));
        }
    }

    fn call_anew<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, at: usize, hello: &Hello)
    where
        T: Copy + From<Token>,
    {
        let peer = &mut self.peers[at];
        peer.back_off = BACK_OFF_MIN;
        peer.link = Link::Down;
        self.dial(event_loop, at, hello);
    }

    /// Links that changed since the last call, oldest first.
    pub(super) fn poll_change(&mut self) -> Option<Change> {
        if self.changes.is_empty() { None } else { Some(self.changes.remove(0)) }
    }

    /// Every peer: its number, whether its link is up, and the metadata of its last handshake.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &str, bool, &Bytes)> {
        let peers = self.positions.values().map(|&at| &self.peers[at]);
        peers
            .map(|peer| (peer.id, &*peer.address, matches!(peer.link, Link::Up(_)), &peer.metadata))
    }

    /// Whether messages to this peer get through.
    pub(super) fn is_up(&self, id: NodeId) -> bool {
        self.positions.get(&id).is_some_and(|&at| matches!(self.peers[at].link, Link::Up(_)))
    }

    /// Puts a message into the peer's outbox. Without a link it is dropped: the replica expects
    /// that.
    pub(super) fn send<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        to: NodeId,
        message: &PeerMessage,
    ) where
        T: Copy + From<Token>,
    {
        let Some(&at) = self.positions.get(&to) else { return };
        let (group, peer) = (self.group, &mut self.peers[at]);
        if !matches!(peer.link, Link::Up(_)) {
            return;
        }
        let version = peer.version;
        if !wire::can_say(version, message) {
            return;
        }
        match peer.outbox.push(|bytes| wire::encode(group, message, version, bytes)) {
            Ok(()) => peer.dirty = true,
            Err(error @ PushError::Overflow { .. }) => {
                self.fail(event_loop, at, &error.to_string())
            }
            // Only an answer of the state machine can be so large; whoever waits for it learns
            // nothing in time.
            Err(PushError::Wire(error)) => tracing::warn!(peer = to.0, %error, "cannot be sent"),
        }
    }

    /// Writes what was put into the outboxes.
    pub(super) fn flush<T, M>(&mut self, event_loop: &mut EventLoop<T, M>)
    where
        T: Copy + From<Token>,
    {
        for at in 0..self.peers.capacity() {
            let Some(peer) = self.peers.get_mut(at) else { continue };
            // A socket that is full says so itself when it has room.
            if std::mem::take(&mut peer.dirty) && !peer.wants_room {
                self.flush_peer(event_loop, at);
            }
        }
    }

    /// A node has called us, and listens at `address`: it is there, so there is no need to wait for
    /// the next attempt.
    pub(super) fn heard_from<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        id: NodeId,
        address: String,
        hello: &Hello,
    ) where
        T: Copy + From<Token>,
    {
        let Some(&at) = self.positions.get(&id) else {
            return self.add(event_loop, id, address, false, hello);
        };
        let peer = &mut self.peers[at];
        peer.is_calling = true;
        if peer.address != address {
            if peer.is_member {
                tracing::info!(
                    peer = id.0,
                    says = address,
                    member = peer.address,
                    "the configuration has another address"
                );
            } else {
                peer.address = address;
            }
        }
        if matches!(peer.link, Link::Down) {
            self.call_anew(event_loop, at, hello);
        }
    }

    /// The link that a node had made is gone.
    pub(super) fn gone<T, M>(&mut self, event_loop: &mut EventLoop<T, M>, id: NodeId)
    where
        T: Copy + From<Token>,
    {
        let Some(&at) = self.positions.get(&id) else { return };
        self.peers[at].is_calling = false;
        if !self.peers[at].is_member {
            self.remove(event_loop, at);
        }
    }

    /// An address has been looked up.
    pub(super) fn resolved<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        found: Resolved,
        hello: &Hello,
    ) where
        T: Copy + From<Token>,
    {
        let Some(&at) = self.positions.get(&found.node) else { return };
        let peer = &self.peers[at];
        // It may be known under another address by now.
        if !matches!(peer.link, Link::Resolving) || peer.address != found.address {
            return;
        }
        match found.result {
            Ok(addresses) => {
                let address = addresses[peer.failures % addresses.len()];
                self.connect(event_loop, at, address, hello);
            }
            Err(reason) => self.fail(event_loop, at, &reason),
        }
    }

    /// The timer of a peer has run out.
    pub(super) fn timeout<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        position: u32,
        hello: &Hello,
    ) where
        T: Copy + From<Token>,
    {
        let at = position as usize;
        let Some(peer) = self.peers.get_mut(at) else { return };
        peer.timer = None;
        match peer.link {
            Link::Down => self.dial(event_loop, at, hello),
            Link::Resolving => {}
            Link::Connecting(_) | Link::Greeting(_) => {
                self.fail(event_loop, at, "no connection and handshake within 2 s");
            }
            Link::Up(_) => {}
        }
    }

    /// A peer's socket has room, or its connection is decided.
    pub(super) fn writable<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        position: u32,
        hello: &Hello,
    ) where
        T: Copy + From<Token>,
    {
        let at = position as usize;
        let Some(peer) = self.peers.get_mut(at) else { return };
        match std::mem::replace(&mut peer.link, Link::Down) {
            Link::Connecting(connecting) => self.finish(event_loop, at, connecting, hello),
            link => {
                peer.link = link;
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
        let Some(peer) = self.peers.get_mut(at) else { return };
        if matches!(peer.link, Link::Connecting(_)) {
            // A refused connection is readable as well as writable; `finish` tells which.
            return self.writable(event_loop, position, hello);
        }
        if let Err(TurnedAway { reason, is_removed, .. }) = self.listen(at, hello, acquaintances) {
            let id = self.peers[at].id;
            self.is_left |= is_removed;
            self.fail(event_loop, at, &reason);
            if is_removed {
                self.changes.push(Change::Removed(id));
            }
            return;
        }
        let peer = &mut self.peers[at];
        if let (Link::Up(_), Some(timer)) = (&peer.link, peer.timer.take()) {
            event_loop.clear_timeout(timer);
        }
    }

    /// Reads what the peer says while it should be saying its half of the handshake, or nothing.
    fn listen(
        &mut self,
        at: usize,
        hello: &Hello,
        acquaintances: &mut Acquaintances,
    ) -> Result<(), TurnedAway> {
        let peer = &mut self.peers[at];
        let (Link::Greeting(stream) | Link::Up(stream)) = &mut peer.link else { return Ok(()) };
        let mut chunk = [0; 2048];
        match stream.read(&mut chunk) {
            Ok(0) => return Err("the peer closed it".to_owned().into()),
            Ok(len) => peer.greeting.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.to_string().into()),
        }
        if matches!(peer.link, Link::Up(_)) {
            return Err("the peer spoke out of turn".to_owned().into());
        }
        let theirs = match wire::decode_hello(&mut peer.greeting) {
            Ok(Some((_, theirs))) => theirs,
            Ok(None) => return Ok(()),
            Err(error) => {
                let is_removed = match error {
                    WireError::Refused { is_removed, removed_at, .. } => {
                        is_removed
                            && removed_at
                                .is_none_or(|at| acquaintances.is_news_of_removal(hello.node, at))
                    }
                    _ => false,
                };
                return Err(TurnedAway { is_removed, ..TurnedAway::from(error.to_string()) });
            }
        };
        let checked = acquaintances.check(hello, &theirs, Some(peer.id));
        // Whoever was removed is called by those who do not know it yet; that it is so is for it to
        // hear, not for them.
        checked.map_err(|turned_away| TurnedAway::from(turned_away.reason))?;
        let agreed = Version::agreed(&theirs.versions)
            .ok_or(WireError::Version { theirs: *theirs.versions.end() });
        peer.version = agreed.map_err(|error| TurnedAway::from(error.to_string()))?;
        peer.metadata = theirs.metadata;
        peer.back_off = BACK_OFF_MIN;
        peer.told.clear();
        if let Link::Greeting(stream) = std::mem::replace(&mut peer.link, Link::Down) {
            peer.link = Link::Up(stream);
        }
        tracing::info!(peer = peer.id.0, address = peer.address, "link up");
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
        if let Ok(address) = peer.address.parse() {
            return self.connect(event_loop, at, address, hello);
        }
        let (node, address, handle) = (peer.id, peer.address.clone(), self.handle.clone());
        let look_up = move || {
            let result =
                resolve(&address).map_err(|error| format!("cannot resolve {address:?}: {error}"));
            // The node may have stopped meanwhile.
            let _ = handle.resolved(Resolved { node, address, result });
        };
        match thread::Builder::new().name("raft-resolve".to_owned()).spawn(look_up) {
            Ok(_) => peer.link = Link::Resolving,
            Err(error) => self.fail(event_loop, at, &error.to_string()),
        }
    }

    fn connect<T, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        at: usize,
        address: SocketAddr,
        hello: &Hello,
    ) where
        T: Copy + From<Token>,
    {
        let peer = &mut self.peers[at];
        let token = T::from(Token(Kind::Peer(at as u32)));
        let started =
            TcpStream::connect(address).map_err(|error| error.to_string()).and_then(|connecting| {
                let registered =
                    event_loop.register_opt(&connecting, token, Interest::WRITABLE, Trigger::Level);
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
            Ok(Finish::InProgress(connecting)) => {
                self.peers[at].link = Link::Connecting(connecting);
                return;
            }
            Err(error) => return self.fail(event_loop, at, &error_chain(&error)),
        };
        let token = T::from(Token(Kind::Peer(at as u32)));
        match stream.set_user_timeout(Some(self.silence)) {
            // Elsewhere the kernel's patience, and the peer's own calls, must do.
            Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                return self.fail(event_loop, at, &error_chain(&error));
            }
            _ => {}
        }
        let ready = stream.set_nodelay(true).and_then(|()| {
            event_loop
                .reregister(&stream, token, Interest::READABLE, Trigger::Level)
                .map_err(io::Error::other)
        });
        if let Err(error) = ready {
            return self.fail(event_loop, at, &error_chain(&error));
        }
        let peer = &mut self.peers[at];
        peer.greeting.clear();
        peer.outbox.clear();
        peer.wants_room = false;
        peer.link = Link::Greeting(stream);
        let version = peer.greets_in;
        match peer.outbox.push(|bytes| wire::encode_hello(hello, version, bytes)) {
            Ok(()) => self.flush_peer(event_loop, at),
            Err(error) => self.fail(event_loop, at, &error_chain(&error)),
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
            Err(error) => return self.fail(event_loop, at, &error_chain(&error)),
        };
        let wants_room = flushed == Flushed::Part;
        if wants_room != peer.wants_room {
            let interest = if wants_room {
                Interest::READABLE | Interest::WRITABLE
            } else {
                Interest::READABLE
            };
            let token = T::from(Token(Kind::Peer(at as u32)));
            match event_loop.reregister(&*stream, token, interest, Trigger::Level) {
                Ok(()) => peer.wants_room = wants_room,
                Err(error) => self.fail(event_loop, at, &error_chain(&error)),
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
        let link = std::mem::replace(&mut peer.link, Link::Down);
        let was_up = matches!(link, Link::Up(_));
        // Only the oldest version is understood by nodes that know no other, and they hang up
        // without a word.
        let is_misunderstood =
            matches!(link, Link::Greeting(_)) && peer.greets_in == Version::NEWEST;
        peer.greets_in = if is_misunderstood && self.is_at_base_level {
            Version::OLDEST
        } else {
            Version::NEWEST
        };
        // What was meant for this link must not be sent over the next one.
        peer.outbox.clear();
        peer.wants_room = false;
        peer.failures = peer.failures.wrapping_add(1);
        if peer.told.is_news(reason, event_loop.now()) {
            let outlook = match self.is_left {
                true => "no link; this node was removed from the cluster, as far as it knows",
                false => "no link; trying again",
            };
            tracing::warn!(peer = peer.id.0, address = peer.address, reason, "{outlook}");
        }
        if was_up {
            self.changes.push(Change::Down(peer.id));
        }
        if !peer.is_member && !peer.is_calling {
            return self.remove(event_loop, at);
        }
        let token = T::from(Token(Kind::Peer(at as u32)));
        peer.timer = event_loop.timeout(token, peer.back_off).ok();
        peer.back_off = (peer.back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Looks an address up, `host:port`; there is at least one. Blocks.
pub(super) fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    if found.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(found) }
}
