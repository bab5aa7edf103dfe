//! Links between nodes when the other side is silent, gone, or a member no more. Node 1 is real;
//! the other side is played by the test, on real sockets.

use std::{
    collections::BTreeMap,
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
        Append, Body, DiskId, Echo, Entries, FeatureLevel, Index, Life, Member, MemberChange,
        Message, NodeId, Proposal, Term,
    },
    wire::{self, Hello, Version, WireError},
};
use tempfile::TempDir;

/// Whatever takes longer never comes.
const DEADLINE: Duration = Duration::from_secs(60);

/// Node 1's state machine: it keeps nothing.
struct Nothing;

impl StateMachine for Nothing {
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

/// Node 1, with these others among its founders; it listens on a port that the kernel chose.
fn start_with(peers: &[(NodeId, SocketAddr)], set: impl Fn(&mut Options)) -> (Running, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(NodeId(1), folder.path(), "127.0.0.1:0".parse().unwrap());
    options.peers =
        peers.iter().map(|&(id, address)| (id, address.to_string())).collect::<BTreeMap<_, _>>();
    options.request_timeout = DEADLINE * 2;
    set(&mut options);
    (start(&options, Nothing).unwrap(), folder)
}

/// It takes whatever says that it leads for its leader, and never asks for an election.
fn follow(options: &mut Options) {
    options.election_timeout = ElectionTimeout::new(DEADLINE * 2, DEADLINE * 3);
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// One end of a link: reads give up at the deadline.
struct End {
    stream: TcpStream,
    input: BytesMut,
}

impl End {
    fn new(stream: TcpStream) -> End {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        End { stream, input: BytesMut::new() }
    }

    fn accept(listener: &TcpListener) -> End {
        End::new(listener.accept().unwrap().0)
    }

    fn connect(node: &Running) -> End {
        End::new(TcpStream::connect(node.listening_on()).unwrap())
    }

    /// Reads more; false at the end of what the other side says.
    fn read(&mut self) -> bool {
        let mut chunk = vec![0; 1 << 16];
        match self.stream.read(&mut chunk) {
            Ok(len) => {
                self.input.extend_from_slice(&chunk[..len]);
                len > 0
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("the other side neither speaks nor closes: {error}"),
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

    fn greet(&mut self, hello: &Hello) {
        let mut bytes = BytesMut::new();
        wire::encode_hello(hello, Version::NEWEST, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next message for which `pick` says something.
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

    /// Reads what the other side still says, until it closes the link.
    fn read_to_end(&mut self) {
        while self.read() {}
    }
}

/// Node 2, played by the test: the link that node 1 has made to it, and the one that it has made.
struct Played {
    hello: Hello,
    from_node: End,
    to_node: End,
}

impl Played {
    /// Node 1 calls, and is called back.
    fn meet(node: &Running, listener: &TcpListener) -> Played {
        let mut from_node = End::accept(listener);
        let theirs = from_node.read_hello().unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let life = Life { nonce: theirs.life.nonce.wrapping_add(1), ..theirs.life };
        let hello = Hello { node: NodeId(2), disk: DiskId(2), life, address, ..theirs };
        from_node.greet(&hello);
        let to_node = Played::call(node, &hello);
        Played { hello, from_node, to_node }
    }

    fn call(node: &Running, hello: &Hello) -> End {
        let mut end = End::connect(node);
        end.greet(hello);
        assert_eq!(end.read_hello().unwrap().node, NodeId(1));
        end
    }

    /// Says something to node 1, over a link that this one has made.
    fn say(&self, over: &End, term: u64, body: Body) {
        let message = Message { from: NodeId(2), to: NodeId(1), term: Term(term), body };
        let mut bytes = BytesMut::new();
        wire::encode(self.hello.group, &PeerMessage::Raft(message), Version::NEWEST, &mut bytes)
            .unwrap();
        (&over.stream).write_all(&bytes).unwrap();
    }

    /// Says that it leads term 1.
    fn lead(&self) {
        let (previous_index, previous_term) = (Index(0), Term(0));
        let (entries, commit, round) = (Entries::new(), Index(0), 1);
        let body = Body::AppendEntries(Append {
            previous_index,
            previous_term,
            entries,
            commit,
            echo: Echo { round, wants_promise: false },
        });
        self.say(&self.to_node, 1, body);
    }

    /// Asks whether node 1 would vote for it in a term that nobody has come to.
    fn campaign(&self, over: &End, term: u64) {
        self.say(over, term, Body::RequestPreVote { last_index: Index(9), last_term: Term(9) });
    }
}

fn forwarded(message: PeerMessage) -> Option<Bytes> {
    match message {
        PeerMessage::Forward { proposal: Proposal::Command(command), .. } => Some(command),
        _ => None,
    }
}

#[test]
fn a_stranger_that_says_nothing_is_hung_up() {
    let (node, _folder) = start_with(&[], |_| {});
    End::connect(&node).read_to_end();
}

#[test]
fn a_peer_that_never_greets_is_given_up_and_called_again() {
    let (listener, address) = listen();
    let (_node, _folder) = start_with(&[(NodeId(2), address)], |_| {});
    for _ in 0..2 {
        let mut silent = End::accept(&listener);
        assert_eq!(silent.read_hello().unwrap().node, NodeId(1));
        silent.read_to_end();
    }
}

#[test]
fn a_nodes_newer_link_takes_the_older_ones_place() {
    let (listener, address) = listen();
    let (node, _folder) = start_with(&[(NodeId(2), address)], follow);
    let mut played = Played::meet(&node, &listener);
    let newer = Played::call(&node, &played.hello);
    played.to_node.read_to_end();
    // The newer one stands, and what comes over it is answered.
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
fn a_removed_node_that_campaigns_is_hung_up_and_told_why() {
    let (listener, address) = listen();
    let (node, _folder) = start_with(&[], |_| {});
    let (disk, address) = (DiskId(2), address.to_string());
    let member = Member { disk, address, feature_level: FeatureLevel::CURRENT, priority: 0 };
    let (add, remove) =
        (MemberChange::AddLearner { node: NodeId(2), member }, MemberChange::Remove(NodeId(2)));
    node.handle().change_membership([add]).unwrap();
    let mut played = Played::meet(&node, &listener);
    node.handle().change_membership([remove]).unwrap();
    // Its link stood when it was removed, and it has missed that.
    played.campaign(&played.to_node, 7);
    played.to_node.read_to_end();
    let mut again = End::connect(&node);
    again.greet(&played.hello);
    let refused = again.read_hello().unwrap_err();
    assert!(matches!(refused, WireError::Refused { is_removed: true, .. }), "{refused}");
}

/// The answers to what a node forwarded would have come over the link that the leader had made.
#[test]
fn what_was_forwarded_is_in_doubt_when_the_leaders_link_breaks() {
    let (listener, address) = listen();
    let (node, _folder) = start_with(&[(NodeId(2), address)], follow);
    let mut played = Played::meet(&node, &listener);
    played.lead();
    let (tell, told) = mpsc::channel();
    let write = |command: &'static str| {
        let tell = tell.clone();
        let request = Request::Write(Bytes::from_static(command.as_bytes()));
        node.handle().submit(request, move |outcome| drop(tell.send(outcome))).unwrap();
    };
    write("first");
    assert_eq!(played.from_node.read_until(forwarded), "first");
    // The other link, over which it was forwarded, stands.
    played.to_node = Played::call(&node, &played.hello);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), Outcome::Unknown(Doubt::LinkBroken));
    write("second");
    assert_eq!(played.from_node.read_until(forwarded), "second", "and forwarding goes on");
}

/// A machine that takes nothing any more does not close its links; the kernel would go on for a
/// quarter of an hour.
#[cfg(target_os = "linux")]
#[test]
fn a_link_on_which_nothing_is_acknowledged_is_given_up() {
    let (listener, address) = listen();
    let (node, _folder) = start_with(&[(NodeId(2), address)], |options| {
        options.election_timeout =
            ElectionTimeout::new(Duration::from_millis(250), Duration::from_millis(300));
    });
    let played = Played::meet(&node, &listener);
    let (tell, called) = mpsc::channel();
    thread::spawn(move || {
        while let Ok(call) = listener.accept() {
            if tell.send(call).is_err() {
                return;
            }
        }
    });
    // More than the sockets' buffers hold; nobody reads it.
    for _ in 0..32 {
        node.handle().submit(Request::Write(Bytes::from(vec![0; 1 << 20])), drop).unwrap();
    }
    for _ in 0..DEADLINE.as_millis() / 50 {
        played.lead();
        if called.recv_timeout(Duration::from_millis(50)).is_ok() {
            return;
        }
    }
    panic!("the node goes on with a link that takes nothing");
}
