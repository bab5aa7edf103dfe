//! The links that this node makes, one to each peer.
//!
//! On such a link only this node sends messages. The peer sends its half of the handshake. The
//! peer's messages come over the link that the peer makes (`incoming`), so two nodes never have to
//! agree on which of two links to keep.
//!
//! The node keeps calling the members of the configuration. It also calls a node that is no member
//! and has called it, for as long as that node's link is up: a leader that this node does not know
//! yet, or a node that is about to leave.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read},
    net::{SocketAddr, ToSocketAddrs},
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use kodiak_net::{Connecting, Finish, TcpStream};
use kodiak_reactor::{Interest, Timeout};
use slab::Slab;

use super::{
    Handle, Options, PeerStatus,
    admission::{Admission, Rejection},
    error::text_of,
    error_chain,
    handle::Resolved,
    log_throttle::LogThrottle,
    node_loop::NodeLoop,
    outbox::{Flushed, Outbox, PushError},
    token::TokenKind,
};
use crate::{
    replica::PeerMessage,
    types::{Configuration, GroupId, NodeId},
    wire::{self, Hello, Version, WireError},
};

/// The wait before the first new attempt. It doubles with each attempt that fails.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_millis(500);
/// How long a connection and its handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// The shortest `TCP_USER_TIMEOUT`, however short the election timeout is.
const USER_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// A change of a link, for the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkChange {
    /// Messages to this peer get through from now on.
    Up(NodeId),
    /// Messages that were sent to this peer and not answered may be lost.
    Down(NodeId),
    /// This peer knows that this node was removed from the cluster.
    Removed(NodeId),
}

#[derive(Debug)]
enum LinkState {
    Down,
    /// A thread looks up the address, which can take seconds.
    Resolving,
    Connecting(Connecting<TcpStream>),
    /// Connected: this node's half of the handshake is sent, the peer's is awaited.
    Handshaking(TcpStream),
    Up(TcpStream),
}

#[derive(Debug)]
struct Peer {
    id: NodeId,
    /// `host:port`.
    address: String,
    is_member: bool,
    /// Whether the link that the peer makes is up.
    has_incoming_link: bool,
    link: LinkState,
    /// While the link is down: the next attempt. While it is being made: the handshake's timeout.
    timer: Option<Timeout>,
    back_off: Duration,
    /// Number of failed attempts. A name with several addresses is called at each in turn.
    failures: usize,
    outbox: Outbox,
    /// The version of this node's half of the handshake. It changes if the peer hangs up on it.
    hello_version: Version,
    /// The link's version, once it is up.
    version: Version,
    /// What was read of the peer's half of the handshake.
    hello_bytes: BytesMut,
    /// Whether the loop waits until the socket is writable.
    awaits_writable: bool,
    /// Whether the outbox got something since the last flush.
    has_unflushed: bool,
    metadata: Bytes,
    throttle: LogThrottle,
}

/// Links to all peers.
#[derive(Debug)]
pub(super) struct Peers {
    us: NodeId,
    /// Whether the cluster is at the base feature level. Members may then know only the oldest
    /// version of the protocol.
    is_at_base_level: bool,
    /// Whether this node was removed, by the configuration or as a peer says.
    is_removed: bool,
    group: GroupId,
    /// `TCP_USER_TIMEOUT`: a link on which nothing is acknowledged for this long is closed.
    user_timeout: Duration,
    link_buffer_bytes: usize,
    /// Brings looked-up addresses back to the loop.
    handle: Handle,
    peers: Slab<Peer>,
    slots: BTreeMap<NodeId, usize>,
    changes: VecDeque<LinkChange>,
}

impl Peers {
    /// No peers yet. `handle` is the node's own.
    pub(super) fn new(group: GroupId, options: &Options, handle: Handle) -> Peers {
        Peers {
            us: options.id,
            is_at_base_level: false,
            is_removed: false,
            group,
            user_timeout: USER_TIMEOUT_MIN.max(options.election_timeout.max * 4),
            link_buffer_bytes: options.link_buffer_bytes,
            handle,
            peers: Slab::new(),
            slots: BTreeMap::new(),
            changes: VecDeque::new(),
        }
    }

    /// Calls the members of this configuration.
    ///
    /// A link to a node that is no longer a member stays until that node has closed its own link:
    /// the node may learn of its removal over it.
    pub(super) fn set_members(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        configuration: &Configuration,
        hello: &Hello,
    ) {
        self.is_removed = configuration.has_removed(self.us);
        self.is_at_base_level = !configuration.feature_level.is_above_base();
        let known: Vec<usize> = self.slots.values().copied().collect();
        for slot in known {
            let peer = &mut self.peers[slot];
            peer.is_member = configuration.members.contains_key(&peer.id);
            if !peer.is_member && !peer.has_incoming_link && !matches!(peer.link, LinkState::Up(_))
            {
                self.remove(event_loop, slot);
            }
        }
        let us = self.us;
        for (&id, member) in configuration.members.iter().filter(|&(&id, _)| id != us) {
            let Some(&slot) = self.slots.get(&id) else {
                self.add(event_loop, id, member.address.clone(), true, hello);
                continue;
            };
            let peer = &mut self.peers[slot];
            if peer.address != member.address {
                peer.address.clone_from(&member.address);
                // A link that is up leads to the right node, whatever its address was.
                if !matches!(peer.link, LinkState::Up(_)) {
                    self.redial(event_loop, slot, hello);
                }
            }
        }
    }

    /// Closes all links.
    pub(super) fn clear(&mut self, event_loop: &mut dyn NodeLoop) {
        let all: Vec<usize> = self.slots.values().copied().collect();
        all.into_iter().for_each(|slot| self.remove(event_loop, slot));
    }

    fn add(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        id: NodeId,
        address: String,
        is_member: bool,
        hello: &Hello,
    ) {
        let slot = self.peers.insert(Peer {
            id,
            address,
            is_member,
            has_incoming_link: !is_member,
            link: LinkState::Down,
            timer: None,
            back_off: BACK_OFF_MIN,
            failures: 0,
            outbox: Outbox::new(self.link_buffer_bytes),
            hello_version: Version::NEWEST,
            version: Version::OLDEST,
            hello_bytes: BytesMut::new(),
            awaits_writable: false,
            has_unflushed: false,
            metadata: Bytes::new(),
            throttle: LogThrottle::default(),
        });
        self.slots.insert(id, slot);
        self.dial(event_loop, slot, hello);
    }

    fn remove(&mut self, event_loop: &mut dyn NodeLoop, slot: usize) {
        let peer = self.peers.remove(slot);
        self.slots.remove(&peer.id);
        if let Some(timer) = peer.timer {
            event_loop.clear_timeout(timer);
        }
        if matches!(peer.link, LinkState::Up(_)) {
            tracing::info!(peer = peer.id.0, "link closed: not a member");
            self.changes.push_back(LinkChange::Down(peer.id));
        }
    }

    fn redial(&mut self, event_loop: &mut dyn NodeLoop, slot: usize, hello: &Hello) {
        let peer = &mut self.peers[slot];
        peer.back_off = BACK_OFF_MIN;
        peer.link = LinkState::Down;
        self.dial(event_loop, slot, hello);
    }

    /// The oldest change of a link that was not polled yet.
    pub(super) fn poll_change(&mut self) -> Option<LinkChange> {
        self.changes.pop_front()
    }

    /// The status of every peer, in the order of their ids.
    pub(super) fn statuses(&self) -> impl Iterator<Item = PeerStatus> {
        self.slots.values().map(|&slot| &self.peers[slot]).map(|peer| PeerStatus {
            id: peer.id,
            address: peer.address.clone(),
            connected: matches!(peer.link, LinkState::Up(_)),
            metadata: peer.metadata.clone(),
        })
    }

    /// Whether messages to this peer get through.
    pub(super) fn is_up(&self, id: NodeId) -> bool {
        self.slots.get(&id).is_some_and(|&slot| matches!(self.peers[slot].link, LinkState::Up(_)))
    }

    /// Puts a message into the peer's outbox. Without a link the message is dropped, which the
    /// replica expects.
    pub(super) fn send(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        to: NodeId,
        message: &PeerMessage,
    ) {
        let Some(&slot) = self.slots.get(&to) else { return };
        let (group, peer) = (self.group, &mut self.peers[slot]);
        if !matches!(peer.link, LinkState::Up(_)) {
            return;
        }
        let version = peer.version;
        if !wire::can_encode(version, message) {
            return;
        }
        match peer.outbox.push(|bytes| wire::encode(group, message, version, bytes)) {
            Ok(()) => peer.has_unflushed = true,
            Err(error @ PushError::Overflow { .. }) => {
                self.fail(event_loop, slot, &text_of(error));
            }
            // Only an answer of the state machine can be so large. Its request times out.
            Err(PushError::Wire(error)) => {
                tracing::warn!(peer = to.0, error = error_chain(&error), "cannot be sent");
            }
        }
    }

    /// Writes the outboxes to the sockets.
    pub(super) fn flush(&mut self, event_loop: &mut dyn NodeLoop) {
        for slot in 0..self.peers.capacity() {
            let Some(peer) = self.peers.get_mut(slot) else { continue };
            // A full socket becomes writable by itself.
            if std::mem::take(&mut peer.has_unflushed) && !peer.awaits_writable {
                self.flush_peer(event_loop, slot);
            }
        }
    }

    /// Calls a node that has called this one and listens at `address`, without waiting for the next
    /// attempt.
    pub(super) fn incoming_link_up(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        id: NodeId,
        address: String,
        hello: &Hello,
    ) {
        let Some(&slot) = self.slots.get(&id) else {
            return self.add(event_loop, id, address, false, hello);
        };
        let peer = &mut self.peers[slot];
        peer.has_incoming_link = true;
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
        if matches!(peer.link, LinkState::Down) {
            self.redial(event_loop, slot, hello);
        }
    }

    /// Forgets a peer that is no member once the link that it had made is closed.
    pub(super) fn incoming_link_down(&mut self, event_loop: &mut dyn NodeLoop, id: NodeId) {
        let Some(&slot) = self.slots.get(&id) else { return };
        self.peers[slot].has_incoming_link = false;
        if !self.peers[slot].is_member {
            self.remove(event_loop, slot);
        }
    }

    /// Connects to an address that was looked up.
    pub(super) fn handle_resolved(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        resolved: Resolved,
        hello: &Hello,
    ) {
        let Some(&slot) = self.slots.get(&resolved.node) else { return };
        let peer = &self.peers[slot];
        // The peer may have another address by now.
        if !matches!(peer.link, LinkState::Resolving) || peer.address != resolved.address {
            return;
        }
        match resolved.result {
            Ok(addresses) => {
                let address = addresses[peer.failures % addresses.len()];
                self.connect(event_loop, slot, address, hello);
            }
            Err(reason) => self.fail(event_loop, slot, &reason),
        }
    }

    /// A peer's timer has fired.
    pub(super) fn timeout(&mut self, event_loop: &mut dyn NodeLoop, slot: u32, hello: &Hello) {
        let slot = slot as usize;
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.timer = None;
        match peer.link {
            LinkState::Down => self.dial(event_loop, slot, hello),
            LinkState::Resolving => {}
            LinkState::Connecting(_) | LinkState::Handshaking(_) => {
                self.fail(event_loop, slot, "no connection and handshake within 2 s");
            }
            LinkState::Up(_) => {}
        }
    }

    /// A peer's socket is writable, or its connection has succeeded or failed.
    pub(super) fn writable(&mut self, event_loop: &mut dyn NodeLoop, slot: u32, hello: &Hello) {
        let slot = slot as usize;
        let Some(peer) = self.peers.get_mut(slot) else { return };
        match std::mem::replace(&mut peer.link, LinkState::Down) {
            LinkState::Connecting(connecting) => {
                self.finish_connect(event_loop, slot, connecting, hello);
            }
            link => {
                peer.link = link;
                self.flush_peer(event_loop, slot);
            }
        }
    }

    /// A peer's socket is readable: the peer's half of the handshake, or the end of the link.
    pub(super) fn readable(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        slot: u32,
        hello: &Hello,
        admission: &mut Admission,
    ) {
        let index = slot as usize;
        let Some(peer) = self.peers.get_mut(index) else { return };
        if matches!(peer.link, LinkState::Connecting(_)) {
            // A refused connection is readable as well as writable; `finish_connect` tells which.
            return self.writable(event_loop, slot, hello);
        }
        if let Err(Rejection { reason, is_removed, .. }) = self.read_hello(index, hello, admission)
        {
            let id = self.peers[index].id;
            self.is_removed |= is_removed;
            self.fail(event_loop, index, &reason);
            if is_removed {
                self.changes.push_back(LinkChange::Removed(id));
            }
            return;
        }
        let peer = &mut self.peers[index];
        if let (LinkState::Up(_), Some(timer)) = (&peer.link, peer.timer.take()) {
            event_loop.clear_timeout(timer);
        }
    }

    /// Reads the peer's half of the handshake. After that a peer must send nothing on this link.
    fn read_hello(
        &mut self,
        slot: usize,
        hello: &Hello,
        admission: &mut Admission,
    ) -> Result<(), Rejection> {
        let peer = &mut self.peers[slot];
        let (LinkState::Handshaking(stream) | LinkState::Up(stream)) = &mut peer.link else {
            return Ok(());
        };
        let mut chunk = [0; 2048];
        match stream.read(&mut chunk) {
            Ok(0) => return Err(Rejection::from("the peer closed it".to_owned())),
            Ok(len) => peer.hello_bytes.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(Rejection::from(text_of(error))),
        }
        if matches!(peer.link, LinkState::Up(_)) {
            return Err(Rejection::from("the peer spoke out of turn".to_owned()));
        }
        let theirs = match wire::decode_hello(&mut peer.hello_bytes) {
            Ok(Some((_, theirs))) => theirs,
            Ok(None) => return Ok(()),
            Err(error) => {
                let is_removed = match error {
                    WireError::Refused { is_removed, removed_at, .. } => {
                        is_removed
                            && removed_at
                                .is_none_or(|at| admission.is_credible_removal(hello.node, at))
                    }
                    _ => false,
                };
                return Err(Rejection { is_removed, ..Rejection::from(text_of(error)) });
            }
        };
        // `is_removed` is dropped: here it means that the peer was removed, not this node.
        admission
            .admit(hello, &theirs, Some(peer.id))
            .map_err(|rejection| Rejection::from(rejection.reason))?;
        let agreed = Version::agreed(&theirs.versions)
            .ok_or(WireError::Version { theirs: *theirs.versions.end() });
        peer.version = agreed.map_err(|error| Rejection::from(text_of(error)))?;
        peer.metadata = theirs.metadata;
        peer.back_off = BACK_OFF_MIN;
        peer.throttle.clear();
        if let LinkState::Handshaking(stream) = std::mem::replace(&mut peer.link, LinkState::Down) {
            peer.link = LinkState::Up(stream);
        }
        tracing::info!(peer = peer.id.0, address = peer.address, "link up");
        self.changes.push_back(LinkChange::Up(peer.id));
        Ok(())
    }

    fn dial(&mut self, event_loop: &mut dyn NodeLoop, slot: usize, hello: &Hello) {
        let peer = &mut self.peers[slot];
        if let Some(timer) = peer.timer.take() {
            event_loop.clear_timeout(timer);
        }
        if let Ok(address) = peer.address.parse() {
            return self.connect(event_loop, slot, address, hello);
        }
        let (node, address, handle) = (peer.id, peer.address.clone(), self.handle.clone());
        let look_up = move || {
            let result = resolve(&address)
                .map_err(|error| format!("cannot resolve {address:?}: {}", text_of(error)));
            // The node may have stopped meanwhile.
            let _ = handle.send_resolved(Resolved { node, address, result });
        };
        match thread::Builder::new().name("raft-resolve".to_owned()).spawn(look_up) {
            Ok(_) => peer.link = LinkState::Resolving,
            Err(error) => self.fail(event_loop, slot, &text_of(error)),
        }
    }

    fn connect(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        slot: usize,
        address: SocketAddr,
        hello: &Hello,
    ) {
        let peer = &mut self.peers[slot];
        let token = TokenKind::Peer(slot as u32);
        let started = TcpStream::connect(address).map_err(text_of).and_then(|connecting| {
            let registered = event_loop.register(&connecting, token, Interest::WRITABLE);
            registered.map(|()| connecting).map_err(text_of)
        });
        match started {
            Ok(connecting) => {
                // Without a timer the kernel's own timeout (minutes) is the bound.
                peer.timer = event_loop.timeout(token, HANDSHAKE_TIMEOUT).ok();
                self.finish_connect(event_loop, slot, connecting, hello);
            }
            Err(reason) => self.fail(event_loop, slot, &reason),
        }
    }

    /// Starts the handshake if the connection is made.
    fn finish_connect(
        &mut self,
        event_loop: &mut dyn NodeLoop,
        slot: usize,
        connecting: Connecting<TcpStream>,
        hello: &Hello,
    ) {
        let stream = match connecting.finish() {
            Ok(Finish::Connected(stream)) => stream,
            Ok(Finish::InProgress(connecting)) => {
                self.peers[slot].link = LinkState::Connecting(connecting);
                return;
            }
            Err(error) => return self.fail(event_loop, slot, &text_of(error)),
        };
        match stream.set_user_timeout(Some(self.user_timeout)) {
            // Other systems have no such option. There the kernel's timeout must do.
            Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                return self.fail(event_loop, slot, &text_of(error));
            }
            _ => {}
        }
        let token = TokenKind::Peer(slot as u32);
        let ready = stream.set_nodelay(true).map_err(text_of).and_then(|()| {
            event_loop.reregister(&stream, token, Interest::READABLE).map_err(text_of)
        });
        if let Err(reason) = ready {
            return self.fail(event_loop, slot, &reason);
        }
        let peer = &mut self.peers[slot];
        peer.hello_bytes.clear();
        peer.outbox.clear();
        peer.awaits_writable = false;
        peer.link = LinkState::Handshaking(stream);
        let version = peer.hello_version;
        match peer.outbox.push(|bytes| wire::encode_hello(hello, version, bytes)) {
            Ok(()) => self.flush_peer(event_loop, slot),
            Err(error) => self.fail(event_loop, slot, &text_of(error)),
        }
    }

    fn flush_peer(&mut self, event_loop: &mut dyn NodeLoop, slot: usize) {
        let peer = &mut self.peers[slot];
        let (LinkState::Handshaking(stream) | LinkState::Up(stream)) = &mut peer.link else {
            return;
        };
        let flushed = match peer.outbox.flush(&mut *stream) {
            Ok(flushed) => flushed,
            Err(error) => return self.fail(event_loop, slot, &text_of(error)),
        };
        let awaits_writable = flushed == Flushed::Part;
        if awaits_writable != peer.awaits_writable {
            let interest = if awaits_writable {
                Interest::READABLE | Interest::WRITABLE
            } else {
                Interest::READABLE
            };
            match event_loop.reregister(&*stream, TokenKind::Peer(slot as u32), interest) {
                Ok(()) => peer.awaits_writable = awaits_writable,
                Err(error) => self.fail(event_loop, slot, &text_of(error)),
            }
        }
    }

    /// Closes a link, and arms the timer of the next attempt.
    fn fail(&mut self, event_loop: &mut dyn NodeLoop, slot: usize, reason: &str) {
        let peer = &mut self.peers[slot];
        if let Some(timer) = peer.timer.take() {
            event_loop.clear_timeout(timer);
        }
        let link = std::mem::replace(&mut peer.link, LinkState::Down);
        let was_up = matches!(link, LinkState::Up(_));
        // A node that knows only the oldest version hangs up on any other without an answer.
        let may_need_oldest = matches!(link, LinkState::Handshaking(_))
            && peer.hello_version == Version::NEWEST
            && self.is_at_base_level;
        peer.hello_version = if may_need_oldest { Version::OLDEST } else { Version::NEWEST };
        // Messages for this link must not be sent over the next one.
        peer.outbox.clear();
        peer.awaits_writable = false;
        peer.failures = peer.failures.wrapping_add(1);
        if peer.throttle.should_log(reason, event_loop.now()) {
            let outlook = if self.is_removed {
                "no link; this node was removed from the cluster, as far as it knows"
            } else {
                "no link; trying again"
            };
            tracing::warn!(peer = peer.id.0, address = peer.address, reason, "{outlook}");
        }
        if was_up {
            self.changes.push_back(LinkChange::Down(peer.id));
        }
        if !peer.is_member && !peer.has_incoming_link {
            return self.remove(event_loop, slot);
        }
        peer.timer = event_loop.timeout(TokenKind::Peer(slot as u32), peer.back_off).ok();
        peer.back_off = (peer.back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Looks an address up, `host:port`, and returns at least one result. Blocks.
pub(super) fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    if found.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(found) }
}
