//! Replicas in one process: a message arrives at once or never, disks are instant, and tests
//! advance the time.

mod admin;
mod backlog;
mod config;
mod damaged_snapshots;
pub(crate) mod divergence;
mod leader_changes;
pub(crate) mod log_time;
mod outcomes;
mod reads;
pub(crate) mod sessions;
pub(crate) mod snapshot_installs;
mod snapshot_requests;

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::core::{Config, Done};
use crate::storage::{Job, StorageError};
use crate::types::{
    Configuration, HardState, Index, Member, MemberChange, NodeId, Now, Saved, SnapshotMeta, Stamp,
    TermTable, Time,
};

/// Remembers every command; a query is answered with how many there are.
#[derive(Debug, Default)]
struct Journal {
    commands: Vec<Vec<u8>>,
}

impl StateMachine for Journal {
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
        match entry.command {
            b"poison" => return Err(MachineError::new("cannot apply this")),
            // Like `panic!`, without a message on stderr.
            b"panic" => std::panic::resume_unwind(Box::new("a bug")),
            _ => {}
        }
        self.commands.push(entry.command.to_vec());
        Ok(Bytes::copy_from_slice(entry.command))
    }

    fn query(&self, query: &Query<'_>) -> Bytes {
        assert!(query.applied.0 >= self.commands.len() as u64);
        Bytes::from(self.commands.len().to_string())
    }

    fn snapshot(&self) -> Box<dyn Read + Send> {
        Box::new(io::Cursor::new(self.commands.join(&b'\n')))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let text = io::read_to_string(snapshot)?;
        self.commands = text.split('\n').map(|command| command.as_bytes().to_vec()).collect();
        Ok(())
    }
}

/// Opens what a test gives it.
struct Host {
    now: Now,
    content: Option<Vec<u8>>,
}

impl MachineHost for Host {
    fn open_snapshot(&mut self, _: &SnapshotMeta) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.content.as_deref().ok_or(io::ErrorKind::NotFound)?))
    }

    fn wall_clock(&self) -> Stamp {
        self.now.wall
    }
}

struct Node {
    replica: Replica,
    machine: MachineRunner<Journal>,
    replies: Vec<(u64, Outcome)>,
    /// The number of entries of each write job.
    writes: Vec<usize>,
    events: usize,
    /// Whether the state machine is held up, and the jobs that wait for it.
    holds_machine: bool,
    held: VecDeque<MachineJob>,
}

struct Cluster {
    now: Now,
    nodes: Vec<Node>,
    cut: BTreeSet<(usize, usize)>,
    messages: VecDeque<(usize, usize, PeerMessage)>,
    forwards_sent: usize,
}

fn id(place: usize) -> NodeId {
    NodeId(place as u64 + 1)
}

fn write(text: &'static str) -> Request {
    Request::Write(Bytes::from_static(text.as_bytes()))
}

fn read() -> Request {
    Request::Read(Bytes::new())
}

fn answer(text: &'static str) -> Outcome {
    Outcome::Answer(Answer::new(text, None))
}

fn broken() -> StorageError {
    StorageError::ThreadPanicked
}

impl Cluster {
    fn new(size: usize, limits: Limits) -> Cluster {
        Cluster::with_core(size, limits, |_| {})
    }

    fn with_core(size: usize, limits: Limits, tune: impl Fn(&mut Config)) -> Cluster {
        let now = Now { monotonic: Time(1_000_000_000), wall: Stamp(1) };
        let initial_configuration =
            Configuration::of_voters((0..size).map(|place| (id(place), Member::default())));
        let nodes = (0..size).map(|place| {
            let saved = Saved {
                hard_state: HardState::default(),
                initial_configuration: initial_configuration.clone(),
                snapshot: None,
                configurations: Vec::new(),
                terms: TermTable::new(),
                tail: Vec::new(),
                ..Saved::default()
            };
            let mut core = Config::new(id(place));
            tune(&mut core);
            let config = ReplicaConfig { limits, ..ReplicaConfig::new(core) };
            Node {
                replica: Replica::new(config, saved, now).unwrap(),
                machine: MachineRunner::new(Journal::default()),
                replies: Vec::new(),
                writes: Vec::new(),
                events: 0,
                holds_machine: false,
                held: VecDeque::new(),
            }
        });
        let nodes = nodes.collect();
        let (cut, messages) = (BTreeSet::new(), VecDeque::new());
        let mut cluster = Cluster { now, nodes, cut, messages, forwards_sent: 0 };
        for a in 0..size {
            for b in (0..size).filter(|&b| b != a) {
                cluster.nodes[a].replica.handle_connected(now, id(b));
            }
        }
        cluster
    }

    /// Elects `leader`.
    fn led_by(leader: usize, size: usize, limits: Limits) -> Cluster {
        Cluster::new(size, limits).elect(leader)
    }

    fn elect(self, leader: usize) -> Cluster {
        let mut cluster = self;
        for _ in 0..100 {
            if cluster.nodes[leader].replica.core().is_leader() {
                cluster.run();
                return cluster;
            }
            // Time advances only for the node that is to lead.
            let deadline = cluster.nodes[leader].replica.poll_timeout().unwrap();
            cluster.now.monotonic = cluster.now.monotonic.max(deadline);
            let now = cluster.now;
            cluster.nodes[leader].replica.handle_timeout(now);
            cluster.run();
        }
        panic!("no leader after a hundred timeouts");
    }

    fn poll(&mut self, place: usize) {
        let now = self.now;
        let node = &mut self.nodes[place];
        while let Some(effect) = node.replica.poll() {
            match effect {
                Effect::Machine(job) if node.holds_machine => node.held.push_back(job),
                Effect::Machine(job) => {
                    let (mut host, replica) = (Host { now, content: None }, &mut node.replica);
                    node.machine
                        .run(job, &mut host, &mut |done| replica.handle_machine_done(now, done));
                }
                Effect::Send { to, message } => {
                    self.forwards_sent +=
                        usize::from(matches!(message, PeerMessage::Forward { .. }));
                    self.messages.push_back((place, to.0 as usize - 1, message));
                }
                Effect::Storage(Job::Write(write)) => {
                    node.writes.push(write.entries.len());
                    node.replica.handle_done(now, Done::Written { sequence: write.sequence });
                }
                Effect::Storage(Job::MarkCommit { .. }) => {}
                Effect::Reply { id, outcome } => node.replies.push((id.0, outcome)),
                Effect::Event(_) => node.events += 1,
                other => panic!("{other:?}"),
            }
        }
    }

    /// The state machine does its waiting jobs.
    fn run_machine(&mut self, place: usize) {
        let (now, node) = (self.now, &mut self.nodes[place]);
        node.holds_machine = false;
        for job in std::mem::take(&mut node.held) {
            let (mut host, replica) = (Host { now, content: None }, &mut node.replica);
            node.machine.run(job, &mut host, &mut |done| replica.handle_machine_done(now, done));
        }
        self.run();
    }

    /// Delivers messages until there are none.
    fn run(&mut self) {
        for place in 0..self.nodes.len() {
            self.poll(place);
        }
        while let Some((from, to, message)) = self.messages.pop_front() {
            // A new member may not have been started yet.
            if to < self.nodes.len() && !self.cut.contains(&(from, to)) {
                self.nodes[to].replica.handle_message(self.now, id(from), message);
                self.poll(to);
            }
        }
    }

    /// Advances the time of these nodes, a millisecond at a time.
    fn pass(&mut self, time: Duration, places: &[usize]) {
        let end = self.now.monotonic.after(time);
        while self.now.monotonic < end {
            self.now.monotonic = self.now.monotonic.after(Duration::from_millis(1));
            for &place in places {
                let replica = &mut self.nodes[place].replica;
                if replica.poll_timeout().is_some_and(|deadline| deadline <= self.now.monotonic) {
                    replica.handle_timeout(self.now);
                }
            }
            self.run();
        }
    }

    fn submit(&mut self, place: usize, number: u64, request: Request) {
        self.nodes[place].replica.submit(self.now, RequestId(number), request);
    }

    fn isolate(&mut self, place: usize) {
        for other in 0..self.nodes.len() {
            self.cut.insert((place, other));
            self.cut.insert((other, place));
        }
    }

    /// A node's replies, without indexes.
    fn take_replies(&mut self, place: usize) -> Vec<(u64, Outcome)> {
        let mut replies = std::mem::take(&mut self.nodes[place].replies);
        for (_, outcome) in &mut replies {
            if let Outcome::Answer(answer) = outcome {
                answer.index = None;
            }
        }
        replies
    }

    /// A node's answers: request, bytes, index.
    fn take_answers(&mut self, place: usize) -> Vec<(u64, Bytes, Option<u64>)> {
        let replies = std::mem::take(&mut self.nodes[place].replies).into_iter();
        let answer = |(request, outcome)| match outcome {
            Outcome::Answer(answer) => (request, answer.bytes, answer.index.map(|index| index.0)),
            other => panic!("request {request}: {other:?}"),
        };
        replies.map(answer).collect()
    }
}

#[test]
fn an_answer_names_the_index_of_its_command_or_its_state() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    let last = cluster.nodes[0].replica.status().applied.0;
    for place in [0, 1] {
        cluster.submit(place, 1, write("a"));
        cluster.submit(place, 2, write("b"));
        cluster.run();
    }
    assert_eq!(
        cluster.take_answers(0),
        [(1, "a".into(), Some(last + 1)), (2, "b".into(), Some(last + 2))]
    );
    assert_eq!(
        cluster.take_answers(1),
        [(1, "a".into(), Some(last + 3)), (2, "b".into(), Some(last + 4))]
    );
    cluster.submit(1, 3, read());
    cluster.submit(2, 4, Request::StaleRead(Bytes::new()));
    cluster.submit(
        2,
        5,
        Request::Admin(AdminRequest::ChangeMembership(vec![MemberChange::Demote(id(1))])),
    );
    cluster.run();
    assert_eq!(cluster.take_answers(1), [(3, "4".into(), Some(last + 4))]);
    let stale = cluster.nodes[2].replies.remove(0).1;
    let Outcome::Answer(stale) = stale else { panic!("{stale:?}") };
    let index = stale.index.unwrap().0;
    assert_eq!(stale.bytes, index.saturating_sub(last).to_string(), "as many as that index says");
    assert_eq!(cluster.take_answers(2), [(5, Bytes::new(), Some(last + 5))]);
}

#[test]
fn commands_between_two_polls_share_a_proposal() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.nodes[0].writes.clear();
    for (number, text) in [(7, "a"), (8, "b"), (9, "c")] {
        cluster.submit(0, number, write(text));
    }
    cluster.run();
    assert_eq!(cluster.nodes[0].writes, [3]);
    assert_eq!(cluster.take_replies(0), [(7, answer("a")), (8, answer("b")), (9, answer("c"))]);
    cluster.pass(Duration::from_millis(60), &[0]);
    for node in &cluster.nodes {
        assert_eq!(node.machine.machine().commands, [b"a", b"b", b"c"]);
    }
    assert_eq!(cluster.nodes[0].replica.status().pending_requests, 0);
    assert_eq!(cluster.nodes[0].replica.status().pending_bytes, 0);
}

#[test]
fn a_batch_is_split_where_its_bound_is() {
    let mut cluster = Cluster::led_by(0, 1, Limits { batch_bytes: 66, ..Limits::default() });
    cluster.nodes[0].writes.clear();
    for number in 0..5 {
        cluster.submit(0, number, write("x"));
    }
    cluster.run();
    assert_eq!(cluster.nodes[0].writes.iter().sum::<usize>(), 5);
    assert_eq!(cluster.take_replies(0).len(), 5);
}

#[test]
fn commands_that_the_core_defers_keep_their_order() {
    let tune = |core: &mut Config| (core.uncommitted_bytes, core.command_bytes) = (100, 8);
    let limits = Limits { request_bytes: 8, ..Limits::default() };
    let mut cluster = Cluster::with_core(3, limits, tune).elect(0);
    cluster.isolate(0);
    for number in 0..20 {
        cluster.submit(0, number, write("x"));
        cluster.poll(0);
    }
    let last = cluster.nodes[0].replica.core().last_index();
    assert!(last < Index(10), "{last} entries are too many for a hundred bytes");
    assert_eq!(cluster.take_replies(0), []);
    cluster.cut.clear();
    cluster.pass(Duration::from_millis(200), &[0]);
    let expected: Vec<_> = (0..20).map(|number| (number, answer("x"))).collect();
    assert_eq!(cluster.take_replies(0), expected);
}

#[test]
fn a_follower_forwards_writes_in_order_and_answers_reads_itself() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.submit(1, 1, write("a"));
    cluster.submit(1, 2, write("b"));
    cluster.run();
    assert_eq!(cluster.take_replies(1), [(1, answer("a")), (2, answer("b"))]);
    assert_eq!(cluster.nodes[0].machine.machine().commands, [b"a", b"b"]);
    cluster.submit(1, 3, read());
    cluster.submit(1, 4, read());
    cluster.run();
    // The follower learns of the commit with the next heartbeat, and may answer only then.
    cluster.pass(Duration::from_millis(60), &[0]);
    assert_eq!(cluster.take_replies(1), [(3, answer("2")), (4, answer("2"))]);
    assert_eq!(cluster.forwards_sent, 2);
}

#[test]
fn forwarded_over_a_broken_link_is_unknown_and_not_resent() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.cut.insert((1, 0));
    cluster.submit(1, 1, write("a"));
    cluster.run();
    let now = cluster.now;
    cluster.nodes[1].replica.handle_disconnected(now, id(0));
    cluster.submit(1, 2, write("b"));
    cluster.run();
    assert_eq!(cluster.take_replies(1), [(1, Outcome::Unknown(Doubt::LinkBroken))]);
    cluster.cut.clear();
    cluster.nodes[1].replica.handle_connected(now, id(0));
    cluster.run();
    assert_eq!(
        cluster.take_replies(1),
        [(2, answer("b"))],
        "a request that waited for the link continues"
    );
    assert_eq!(cluster.forwards_sent, 2);
    assert_eq!(cluster.nodes[0].machine.machine().commands, [b"b"]);
}

#[test]
fn an_answer_for_an_earlier_life_names_nothing() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.cut.insert((1, 0));
    cluster.submit(1, 1, write("a"));
    cluster.poll(1);
    let Some((1, 0, PeerMessage::Forward { request, .. })) = cluster.messages.pop_back() else {
        panic!()
    };
    let now = cluster.now;
    for number in [0, 1, request ^ 1, !request] {
        let message = PeerMessage::Forwarded { request: number, outcome: answer("z") };
        cluster.nodes[1].replica.handle_message(now, id(0), message);
    }
    let stranger = PeerMessage::Forwarded { request, outcome: answer("z") };
    cluster.nodes[1].replica.handle_message(now, id(2), stranger);
    cluster.run();
    assert_eq!(cluster.take_replies(1), []);
    let message = PeerMessage::Forwarded { request, outcome: answer("a") };
    cluster.nodes[1].replica.handle_message(now, id(0), message.clone());
    cluster.nodes[1].replica.handle_message(now, id(0), message);
    cluster.run();
    assert_eq!(cluster.take_replies(1), [(1, answer("a"))]);
}

#[test]
fn without_a_leader_requests_wait_until_there_is_one() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.submit(1, 1, write("a"));
    cluster.submit(1, 2, read());
    cluster.run();
    assert_eq!(cluster.take_replies(1), []);
    cluster.pass(Duration::from_secs(2), &[0, 1, 2]);
    let mut replies = cluster.take_replies(1);
    replies.sort_by_key(|&(number, _)| number);
    assert_eq!(replies[0], (1, answer("a")));
    assert_eq!(replies[1].0, 2);
    assert!(matches!(replies[1].1, Outcome::Answer(_)));
}

#[test]
fn without_a_leader_until_the_deadline_requests_are_refused() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.submit(1, 1, write("a"));
    cluster.submit(1, 2, read());
    cluster.isolate(1);
    cluster.pass(Duration::from_millis(4_900), &[1]);
    assert_eq!(cluster.take_replies(1), []);
    cluster.pass(Duration::from_millis(200), &[1]);
    let refused = Outcome::Refused(Refusal::NoLeader);
    assert_eq!(cluster.take_replies(1), [(1, refused.clone()), (2, refused)]);
    assert_eq!(cluster.nodes[1].replica.status().pending_requests, 0);
}

#[test]
fn superseded_proposals_are_refused_at_the_next_term() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.isolate(0);
    cluster.submit(0, 1, write("lost"));
    cluster.submit(0, 2, write("lost too"));
    cluster.pass(Duration::from_secs(2), &[0, 1, 2]);
    assert_eq!(cluster.take_replies(0), [], "it may still be committed");
    cluster.cut.clear();
    cluster.pass(Duration::from_secs(1), &[0, 1, 2]);
    let refused = Outcome::Refused(Refusal::Superseded);
    assert_eq!(cluster.take_replies(0), [(1, refused.clone()), (2, refused)]);
    assert!(cluster.nodes.iter().all(|node| node.machine.machine().commands.is_empty()));
}

#[test]
fn what_is_in_the_log_at_the_deadline_is_unknown() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.isolate(0);
    cluster.submit(0, 1, write("a"));
    cluster.submit(0, 2, read());
    cluster.pass(Duration::from_millis(5_100), &[0]);
    let replies = cluster.take_replies(0);
    assert_eq!(replies[0], (1, Outcome::Unknown(Doubt::TimedOut)));
    assert!(matches!(replies[1], (2, Outcome::Refused(_))), "{replies:?}");
}

#[test]
fn a_node_that_does_not_lead_says_so() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    let message = PeerMessage::Forward { request: 5, proposal: Bytes::new().into() };
    let now = cluster.now;
    cluster.nodes[1].replica.handle_message(now, id(2), message);
    let outcome = Outcome::Refused(Refusal::NotLeader { leader: Some(id(0)) });
    let expected =
        Effect::Send { to: id(2), message: PeerMessage::Forwarded { request: 5, outcome } };
    assert_eq!(cluster.nodes[1].replica.poll(), Some(expected));
}

#[test]
fn a_bound_that_is_hit_is_named() {
    let limits = Limits {
        pending_requests: 2,
        pending_bytes: 10,
        request_bytes: 8,
        forwarded_requests: 1,
        ..Limits::default()
    };
    let mut cluster = Cluster::new(3, limits);
    cluster.submit(0, 1, write("123456789"));
    cluster.submit(0, 2, write("12345678"));
    cluster.submit(0, 3, write("123"));
    cluster.submit(0, 4, write("12"));
    cluster.submit(0, 5, write(""));
    cluster.run();
    let full = |bound, limit| Outcome::Refused(Refusal::Full { bound, limit });
    assert_eq!(
        cluster.take_replies(0),
        [
            (1, Outcome::Refused(Refusal::TooLarge { size_bytes: 9, limit_bytes: 8 })),
            (3, full(Bound::PendingBytes, 10)),
            (5, full(Bound::PendingRequests, 2)),
        ]
    );
    let refusal = Refusal::Full { bound: Bound::PendingBytes, limit: 10 };
    assert!(refusal.to_string().contains("Limits::pending_bytes = 10"));

    let mut cluster = Cluster::led_by(1, 3, limits);
    cluster.cut.insert((0, 1));
    cluster.submit(0, 1, write("a"));
    cluster.submit(0, 2, write("b"));
    cluster.run();
    assert_eq!(cluster.take_replies(0), [(2, full(Bound::ForwardedRequests, 1))]);
}

#[test]
fn a_failed_disk_ends_everything() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.isolate(0);
    cluster.submit(0, 1, write("a"));
    cluster.submit(0, 2, read());
    cluster.run();
    cluster.submit(0, 3, write("b"));
    let now = cluster.now;
    let events = cluster.nodes[0].events;
    cluster.nodes[0].replica.handle_storage_failure(now, &broken());
    cluster.submit(0, 4, write("c"));
    cluster.run();
    assert_eq!(cluster.nodes[0].events, events + 1);
    let refused = Outcome::Refused(Refusal::StorageFailed);
    assert_eq!(
        cluster.take_replies(0),
        [
            (1, Outcome::Unknown(Doubt::StorageFailed)),
            (2, refused.clone()),
            (3, refused.clone()),
            (4, refused)
        ]
    );
    assert!(cluster.nodes[0].replica.status().failed.unwrap().contains("panicked"));
    assert_eq!(cluster.nodes[0].replica.poll_timeout(), None);
    let replica = &mut cluster.nodes[0].replica;
    // Another node that still takes it for the leader gets a refusal at once and need not wait for
    // its timeout.
    replica.handle_message(
        now,
        NodeId(2),
        PeerMessage::Forward { request: 7, proposal: Bytes::from_static(b"d").into() },
    );
    let outcome = Outcome::Refused(Refusal::StorageFailed);
    let message = PeerMessage::Forwarded { request: 7, outcome };
    assert_eq!(replica.poll(), Some(Effect::Send { to: NodeId(2), message }));
    cluster.cut.clear();
    cluster.pass(Duration::from_secs(1), &[1, 2]);
    assert!(cluster.nodes[0].replica.poll().is_none(), "it has stopped");
}

#[test]
fn outputs_that_do_not_fit_are_an_error_and_change_nothing() {
    let mut cluster = Cluster::led_by(0, 1, Limits::default());
    cluster.submit(0, 1, write("a"));
    let now = cluster.now;
    let replica = &mut cluster.nodes[0].replica;
    let last = loop {
        match replica.poll().expect("an apply comes") {
            Effect::Storage(Job::Write(write)) => {
                replica.handle_done(now, Done::Written { sequence: write.sequence });
            }
            Effect::Machine(MachineJob::Apply(entries)) => break entries.last().unwrap().index,
            _ => {}
        }
    };
    assert!(replica.handle_applied(now, last, &mut Vec::new()).is_err());
    assert!(replica.handle_applied(now, last.next(), &mut vec![answer("")]).is_err());
    assert!(replica.handle_applied(now, Index(0), &mut Vec::new()).is_err());
    let mut outputs = vec![answer("x")];
    replica.handle_applied(now, last, &mut outputs).unwrap();
    assert!(outputs.is_empty());
    assert_eq!(replica.poll(), Some(Effect::Reply { id: RequestId(1), outcome: answer("x") }));
    assert!(replica.handle_applied(now, last, &mut Vec::new()).is_err(), "once is enough");
}

/// A leader's timer, its heartbeats and their answers allocate no memory.
#[test]
fn heartbeats_allocate_nothing() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.submit(0, 1, write("a"));
    cluster.pass(Duration::from_millis(500), &[0]);
    let heartbeats = |cluster: &mut Cluster| {
        for _ in 0..10 {
            cluster.now.monotonic = cluster.nodes[0].replica.poll_timeout().unwrap();
            let now = cluster.now;
            cluster.nodes[0].replica.handle_timeout(now);
            cluster.run();
        }
    };
    heartbeats(&mut cluster);
    let term = cluster.nodes[0].replica.core().term();
    let counted = allocation_counter::measure(|| heartbeats(&mut cluster));
    assert_eq!(counted.count_total, 0);
    assert!(
        cluster.nodes[0].replica.core().is_leader()
            && cluster.nodes[0].replica.core().term() == term
    );
}
