//! Links between nodes when the other side is silent, gone, or no longer a member.
//!
//! Node 1 is real. The test plays the other side, on real sockets.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use kodiak_raft::{
    core::ElectionTimeout,
    node::{Options, Running, start},
    replica::{Committed, Doubt, MachineError, Outcome, PeerMessage, Query, Request, StateMachine},
    types::{
        Append, Body, DiskId, Echo, FeatureLevel, Index, Life, Member, MemberChange, Message,
        NodeId, Proposal, Term,
    },
    wire::{self, Hello, Version, WireError},
};
use tempfile::TempDir;

/// How long the test waits for the node.
const DEADLINE: Duration = Duration::from_secs(60);

/// Node 1's state machine, which keeps nothing.
struct Blank;

impl StateMachine for Blank {
    fn apply(&mut self, _: &Committed<'_>) -> Result<Bytes, MachineError> {
        Ok(Bytes::new())
    }

    fn query(&self, _: &Query<'_>) -> Bytes {
        Bytes::new()
    }

    fn snapshot(&self) -> Box<dyn Read + Send> {
        Box::new(io::empty())
    }

    fn restore(&mut self, _: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }
}

/// Node 1 with these other initial members. The kernel chooses its port.
fn start_with(peers: &[(NodeId, SocketAddr)], set: impl Fn(&mut Options)) -> (Running, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(NodeId(1), folder.path(), "127.0.0.1:0".parse().unwrap())
        .peers(peers.iter().map(|&(id, address)| (id, address.to_string())))
        .request_timeout(DEADLINE * 2);
    set(&mut options);
    (start(&options, Blank).unwrap(), folder)
}

/// Makes node 1 a follower that never campaigns.
fn never_campaign(options: &mut Options) {
    options.election_timeout = ElectionTimeout::new(DEADLINE * 2, DEADLINE * 3);
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// The test's end of a link. A read fails at the deadline.
struct LinkEnd {
    stream: TcpStream,
    input: BytesMut,
}

impl LinkEnd {
    fn new(stream: TcpStream) -> LinkEnd {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        LinkEnd { stream, input: BytesMut::new() }
    }

    fn accept(listener: &TcpListener) -> LinkEnd {
        LinkEnd::new(listener.accept().unwrap().0)
    }

    fn connect(node: &Running) -> LinkEnd {
        LinkEnd::new(TcpStream::connect(node.listening_on()).unwrap())
    }

    /// Reads more, and returns false once the node has closed the link.
    fn read(&mut self) -> bool {
        let mut chunk = vec![0; 1 << 16];
        match self.stream.read(&mut chunk) {
            Ok(len) => {
                self.input.extend_from_slice(&chunk[..len]);
                len > 0
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("the node neither sends nor closes: {error}"),
        }
    }

    fn read_hello(&mut self) -> Result<Hello, WireError> {
        loop {
            if let Some((_, hello)) = wire::decode_hello(&mut self.input)? {
                return Ok(hello);
            }
            assert!(self.read(), "closed instead of a hello");
        }
    }

    fn send_hello(&mut self, hello: &Hello) {
        let mut bytes = BytesMut::new();
        wire::encode_hello(hello, Version::NEWEST, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next message that `pick` picks.
    fn read_until<R>(&mut self, mut pick: impl FnMut(PeerMessage) -> Option<R>) -> R {
        loop {
            while let Some((_, message)) = wire::decode(Version::NEWEST, &mut self.input).unwrap() {
                if let Some(picked) = pick(message) {
                    return picked;
                }
            }
            assert!(self.read(), "closed before that");
        }
    }

    /// Reads until the node closes the link.
    fn read_to_end(&mut self) {
        while self.read() {}
    }
}

/// Node 2, played by the test: the link that node 1 has made, and the link to node 1.
struct PlayedNode {
    hello: Hello,
    from_node: LinkEnd,
    to_node: LinkEnd,
}

impl PlayedNode {
    /// Accepts node 1's link, and makes the other one.
    fn meet(node: &Running, listener: &TcpListener) -> PlayedNode {
        let mut from_node = LinkEnd::accept(listener);
        let theirs = from_node.read_hello().unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let life = Life { nonce: theirs.life.nonce.wrapping_add(1), ..theirs.life };
        let hello = Hello { node: NodeId(2), disk: DiskId(2), life, address, ..theirs };
        from_node.send_hello(&hello);
        let to_node = PlayedNode::call(node, &hello);
        PlayedNode { hello, from_node, to_node }
    }

    fn call(node: &Running, hello: &Hello) -> LinkEnd {
        let mut end = LinkEnd::connect(node);
        end.send_hello(hello);
        assert_eq!(end.read_hello().unwrap().node, NodeId(1));
        end
    }

    /// Sends a message to node 1, over a link that this node has made.
    fn send(&self, over: &LinkEnd, term: u64, body: Body) {
        let message = Message { from: NodeId(2), to: NodeId(1), term: Term(term), body };
        let mut bytes = BytesMut::new();
        wire::encode(self.hello.group, &PeerMessage::Raft(message), Version::NEWEST, &mut bytes)
            .unwrap();
        (&over.stream).write_all(&bytes).unwrap();
    }

    /// Sends a heartbeat as the leader of term 1.
    fn lead(&self) {
        self.send(&self.to_node, 1, Append::default().echo(Echo::of_round(1)).into());
    }

    /// Asks node 1 for a pre-vote in this term.
    fn campaign(&self, over: &LinkEnd, term: u64) {
        self.send(over, term, Body::RequestPreVote { last_index: Index(9), last_term: Term(9) });
    }
}

fn forwarded(message: PeerMessage) -> Option<Bytes> {
    match message {
        PeerMessage::Forward { proposal: Proposal::Command(command), .. } => Some(command),
        _ => None,
    }
}

#[test]
fn a_connection_without_a_handshake_is_closed() {
    let (node, _folder) = start_with(&[], |_| {});
    LinkEnd::connect(&node).read_to_end();
}

#[test]
fn a_peer_without_a_handshake_is_called_again() {
    let (listener, address) = listen();
    let (_node, _folder) = start_with(&[(NodeId(2), address)], |_| {});
    for _ in 0..2 {
        let mut silent = LinkEnd::accept(&listener);
        assert_eq!(silent.read_hello().unwrap().node, NodeId(1));
        silent.read_to_end();
    }
}

#[test]
fn a_newer_link_of_a_node_replaces_its_older_one() {
    let (listener, address) = listen();
    let (node, _folder) = start_with(&[(NodeId(2), address)], never_campaign);
    let mut played = PlayedNode::meet(&node, &listener);
    let newer = PlayedNode::call(&node, &played.hello);
    played.to_node.read_to_end();
    // The newer link is up, and messages over it are answered.
    played.campaign(&newer, 7);
    played.from_node.read_until(|message| match message {
        PeerMessage::Raft(Message { body: Body::PreVote { campaign_term, .. }, .. }) => {
            assert_eq!(campaign_term, Term(7));
            Some(())
        }
        _ => None,
    });
}

#[test]
fn a_removed_node_that_campaigns_is_rejected_with_the_reason() {
    let (listener, address) = listen();
    let (node, _folder) = start_with(&[], |_| {});
    let (disk, address) = (DiskId(2), address.to_string());
    let member = Member { disk, address, feature_level: FeatureLevel::CURRENT, priority: 0 };
    let (add, remove) =
        (MemberChange::AddLearner { node: NodeId(2), member }, MemberChange::Remove(NodeId(2)));
    node.handle().change_membership([add]).unwrap();
    let mut played = PlayedNode::meet(&node, &listener);
    node.handle().change_membership([remove]).unwrap();
    // Its link was up when it was removed, and it has missed the removal.
    played.campaign(&played.to_node, 7);
    played.to_node.read_to_end();
    let mut again = LinkEnd::connect(&node);
    again.send_hello(&played.hello);
    let refused = again.read_hello().unwrap_err();
    assert!(matches!(refused, WireError::Refused { is_removed: true, .. }), "{refused}");
}

/// The answers to forwarded writes would have come over the link that the leader had made.
#[test]
fn a_forwarded_write_is_in_doubt_when_the_leaders_link_breaks() {
    let (listener, address) = listen();
    let (node, _folder) = start_with(&[(NodeId(2), address)], never_campaign);
    let mut played = PlayedNode::meet(&node, &listener);
    played.lead();
    let (sender, outcomes) = mpsc::channel();
    let write = |command: &'static str| {
        let sender = sender.clone();
        let request = Request::Write(Bytes::from_static(command.as_bytes()));
        node.handle().submit(request, move |outcome| drop(sender.send(outcome))).unwrap();
    };
    write("first");
    assert_eq!(played.from_node.read_until(forwarded), "first");
    // The other link, over which it was forwarded, stays up.
    played.to_node = PlayedNode::call(&node, &played.hello);
    assert_eq!(outcomes.recv_timeout(DEADLINE).unwrap(), Outcome::Unknown(Doubt::LinkBroken));
    write("second");
    assert_eq!(played.from_node.read_until(forwarded), "second", "and forwarding goes on");
}

/// A machine that is gone does not close its links. Without a timeout the kernel would keep them
/// for a quarter of an hour.
#[cfg(target_os = "linux")]
#[test]
fn a_link_on_which_nothing_is_acknowledged_is_closed() {
    let (listener, address) = listen();
    let (node, _folder) = start_with(&[(NodeId(2), address)], |options| {
        options.election_timeout =
            ElectionTimeout::new(Duration::from_millis(250), Duration::from_millis(300));
    });
    let played = PlayedNode::meet(&node, &listener);
    let (sender, calls) = mpsc::channel();
    thread::spawn(move || {
        while let Ok(call) = listener.accept() {
            if sender.send(call).is_err() {
                return;
            }
        }
    });
    // More than the sockets' buffers hold. The test does not read it.
    for _ in 0..32 {
        node.handle().submit(Request::Write(Bytes::from(vec![0; 1 << 20])), drop).unwrap();
    }
    for _ in 0..DEADLINE.as_millis() / 50 {
        played.lead();
        if calls.recv_timeout(Duration::from_millis(50)).is_ok() {
            return;
        }
    }
    panic!("the node keeps a link that takes nothing");
}
