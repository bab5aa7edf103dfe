//! Which senders' messages have an effect: every kind of message from every kind of sender, at
//! every role.

use std::time::Duration;

use super::membership::{add, change, promote};
use super::network::{Network, voters};
use crate::core::{Action, Config, Core, Done, Event, Role};
use crate::types::{
    Append, Body, Chunk, Configuration, Echo, Entry, FollowerReport, HardState, Index, Member,
    Message, NodeId, Now, Payload, Saved, SnapshotMeta, Stamp, Term, TermTable, Time,
};

const TERM: Term = Term(5);
const RECEIVER: NodeId = NodeId(1);
const LEADER: NodeId = NodeId(2);
/// The joint configuration's entry.
const LAST: Index = Index(3);

/// The senders, by what the receiver's configuration says of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Voter,
    OutgoingVoter,
    Learner,
    /// Above every id that the receiver knows: a new member that it has not heard of.
    Unknown,
    /// No longer a member.
    Removed,
}

const SENDERS: [Sender; 5] =
    [Sender::Voter, Sender::OutgoingVoter, Sender::Learner, Sender::Unknown, Sender::Removed];

impl Sender {
    fn id(self) -> NodeId {
        NodeId(match self {
            Sender::Voter => 3,
            Sender::OutgoingVoter => 5,
            Sender::Learner => 4,
            Sender::Unknown => 9,
            Sender::Removed => 6,
        })
    }

    fn is_voter(self) -> bool {
        matches!(self, Sender::Voter | Sender::OutgoingVoter)
    }

    /// Whether the leader sends the log to it.
    fn is_member(self) -> bool {
        self.is_voter() || self == Sender::Learner
    }
}

/// {1 2 3} and {1 2 5} decide, 4 learns, 6 and 7 were removed.
fn joint() -> Configuration {
    let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
    Configuration {
        voters: ids(&[1, 2, 3]),
        outgoing: ids(&[1, 2, 5]),
        learners: ids(&[4]),
        members: [1, 2, 3, 4, 5].map(|id| (NodeId(id), Member::default())).into(),
        highest_id: NodeId(7),
        ..Configuration::default()
    }
}

/// One node, and what it has asked for.
#[derive(Clone)]
struct Receiver {
    core: Core,
    now: Time,
    sent: Vec<(NodeId, Body)>,
    events: Vec<Event>,
}

impl Receiver {
    /// A follower in term 5 that knows no leader. Its configuration is committed or not.
    fn new(is_committed: bool) -> Receiver {
        let mut terms = TermTable::new();
        (1..=LAST.0).for_each(|index| terms.append(Index(index), Term(4)));
        let entry =
            |index, payload| Entry { index: Index(index), term: Term(4), stamp: Stamp(0), payload };
        let tail = vec![
            entry(1, Payload::Noop),
            entry(2, Payload::Noop),
            entry(LAST.0, Payload::Configuration(joint().into())),
        ];
        let saved = Saved {
            hard_state: HardState { term: TERM, ..HardState::default() },
            initial_configuration: voters(7),
            configurations: vec![(LAST, joint())],
            terms,
            tail,
            commit: if is_committed { LAST } else { Index(2) },
            ..Saved::default()
        };
        let now = Time(1_000);
        let core = Core::new(Config::new(RECEIVER), saved, Now { monotonic: now, wall: Stamp(0) })
            .unwrap();
        let mut receiver = Receiver { core, now, sent: Vec::new(), events: Vec::new() };
        // After the wait of a restarted voter.
        receiver.now = receiver.now.after(Duration::from_millis(200));
        receiver.stabilize();
        receiver
    }

    fn clock(&self) -> Now {
        Now { monotonic: self.now, wall: Stamp(0) }
    }

    fn stabilize(&mut self) {
        let now = self.clock();
        while let Some(action) = self.core.poll() {
            match action {
                Action::Send(message) => self.sent.push((message.to, message.body)),
                Action::Write(write) => {
                    self.core.handle_done(now, Done::Written { sequence: write.sequence })
                }
                Action::Apply(entries) => {
                    self.core
                        .handle_done(now, Done::Applied { index: entries.last().unwrap().index });
                }
                Action::Event(event) => self.events.push(event),
                _ => {}
            }
        }
    }

    fn hear(&mut self, from: NodeId, term: Term, body: Body) {
        self.sent.clear();
        self.core.handle_message(self.clock(), Message { from, to: RECEIVER, term, body });
        self.stabilize();
    }

    /// Becomes what the test needs, in the least term that this takes.
    fn turned(mut self, role: Role) -> Receiver {
        if role == Role::Follower {
            return self;
        }
        self.now = self.core.poll_timeout().unwrap();
        self.core.handle_timeout(self.clock());
        self.stabilize();
        if role == Role::PreCandidate {
            return self;
        }
        self.hear(LEADER, TERM, Body::PreVote { campaign_term: TERM.next(), granted: true });
        if role == Role::Leader {
            self.hear(LEADER, TERM.next(), Body::Vote { granted: true });
        }
        assert_eq!(self.core.role(), role);
        self
    }

    /// Its state, apart from what counts ignored messages.
    fn state(&self) -> Core {
        let mut core = self.core.clone();
        core.ignored_messages = 0;
        core
    }
}

fn append(previous: (Index, Term), round: u64) -> Body {
    Append::after(previous.0, previous.1).echo(Echo::of_round(round)).into()
}

fn install() -> Body {
    let (index, term, stamp) = (Index(9), Term(4), Stamp(0));
    let meta = SnapshotMeta { index, term, stamp, configuration: joint(), digest: None };
    let chunk = Chunk { offset: 0, total_bytes: 1, data: "x".into() };
    Body::InstallSnapshot { meta: meta.into(), chunk, echo: Echo::of_round(1) }
}

const ROLES: [Role; 4] = [Role::Follower, Role::PreCandidate, Role::Candidate, Role::Leader];

#[derive(Clone, Copy, Debug)]
enum Kind {
    RequestPreVote,
    RequestVote,
    AppendEntries,
    InstallSnapshot,
    PreVote,
    Vote,
    Appended,
    Rejected,
    SnapshotProgress,
    TimeoutNow,
    RequestReadIndex,
}

const KINDS: [Kind; 11] = [
    Kind::RequestPreVote,
    Kind::RequestVote,
    Kind::AppendEntries,
    Kind::InstallSnapshot,
    Kind::PreVote,
    Kind::Vote,
    Kind::Appended,
    Kind::Rejected,
    Kind::SnapshotProgress,
    Kind::TimeoutNow,
    Kind::RequestReadIndex,
];

/// One message of one sender to one receiver: what comes of it is what the table says.
fn judge(kind: Kind, sender: Sender, role: Role, is_committed: bool) {
    let mut receiver = Receiver::new(is_committed).turned(role);
    let (from, term) = (sender.id(), receiver.core.term());
    let case =
        format!("{kind:?} of {sender:?} to a {role:?}, configuration committed: {is_committed}");
    let (last_index, last_term) = (Index(100), term);
    let report = FollowerReport { round: 1, ..FollowerReport::default() };
    let mut before = receiver.clone();
    match kind {
        Kind::RequestPreVote => {
            receiver.hear(from, term.next(), Body::RequestPreVote { last_index, last_term });
            let granted = role != Role::Leader; // A leader hears a leader: itself.
            let answer = Body::PreVote { campaign_term: term.next(), granted };
            assert_eq!(receiver.sent, [(from, answer)], "{case}");
        }
        Kind::RequestVote => {
            receiver.hear(
                from,
                term.next(),
                Body::RequestVote { last_index, last_term, is_transfer: false },
            );
            let granted = role != Role::Leader;
            assert_eq!(receiver.sent, [(from, Body::Vote { granted })], "{case}");
        }
        Kind::AppendEntries | Kind::InstallSnapshot => {
            // A leader of the next term, so that no role stands against it.
            let body =
                if let Kind::AppendEntries = kind { append((LAST, Term(4)), 1) } else { install() };
            receiver.hear(from, term.next(), body);
            assert_eq!(receiver.core.leader(), Some(from), "{case}");
            if let Kind::AppendEntries = kind {
                assert!(
                    matches!(receiver.sent[..], [(to, Body::Appended { .. })] if to == from),
                    "{case}"
                );
            }
            before = receiver.clone();
            let other = NodeId(sender.id().0 + 1);
            receiver.hear(other, term.next(), append((LAST, Term(4)), 2));
            receiver.hear(other, term.next(), install());
            assert_eq!(receiver.core.leader(), Some(from), "{case}");
            let reported = Event::SecondLeader { term: term.next(), leader: from, other };
            assert_eq!(
                receiver.events.iter().filter(|event| **event == reported).count(),
                1,
                "{case}"
            );
            assert_eq!(receiver.core.poll_timeout(), before.core.poll_timeout(), "{case}");
        }
        Kind::PreVote | Kind::Vote => {
            let body = if let Kind::PreVote = kind {
                Body::PreVote { campaign_term: term.next(), granted: true }
            } else {
                Body::Vote { granted: true }
            };
            receiver.hear(from, term, body);
            let is_asked = matches!(
                (kind, role),
                (Kind::PreVote, Role::PreCandidate) | (Kind::Vote, Role::Candidate)
            );
            let acts = receiver.state() != before.state();
            assert_eq!(acts, is_asked && sender.is_voter(), "{case}");
        }
        Kind::Appended | Kind::Rejected | Kind::SnapshotProgress => {
            receiver.now = receiver.now.after(Duration::from_millis(1));
            before.now = receiver.now;
            before.core.begin(before.clock());
            before.stabilize();
            let (previous_index, hint_index, hint_term) = (LAST, Index(2), Term(4));
            let body = match kind {
                Kind::Appended => Body::Appended { matched: LAST, report },
                Kind::Rejected => Body::Rejected { previous_index, hint_index, hint_term, report },
                _ => Body::SnapshotProgress { index: Index(9), received_bytes: 1, report },
            };
            receiver.hear(from, term, body);
            let acts = receiver.state() != before.state();
            assert_eq!(acts, role == Role::Leader && sender.is_member(), "{case}");
        }
        Kind::TimeoutNow => {
            receiver.hear(from, term, Body::TimeoutNow);
            assert_eq!(receiver.state(), before.state(), "{case}: not this term's leader");
            receiver.hear(from, term.next(), append((LAST, Term(4)), 1));
            receiver.hear(from, term.next(), Body::TimeoutNow);
            assert_eq!(receiver.core.role(), Role::Candidate, "{case}: the leader of the term");
        }
        Kind::RequestReadIndex => {
            receiver.hear(from, term, Body::RequestReadIndex { request: 7, may_lease: false });
            let refused = vec![(from, Body::ReadIndex { request: 7, index: None })];
            let is_refused = receiver.sent == refused;
            assert_eq!(
                is_refused,
                role != Role::Leader || !sender.is_member(),
                "{case}: {:?}",
                receiver.sent
            );
        }
    }
}

/// That a configuration which removed the sender is committed makes no difference here: such a node
/// is not let in ([`has_removed`](crate::types::Configuration::has_removed)).
#[test]
pub(super) fn each_message_counts_for_the_right_senders() {
    for kind in KINDS {
        for sender in SENDERS {
            for role in ROLES {
                for is_committed in [false, true] {
                    judge(kind, sender, role, is_committed);
                }
            }
        }
    }
}

/// Before, a node that had asked for pre-votes believed any leader of its term.
#[test]
pub(super) fn a_second_leader_is_ignored_and_reported() {
    let mut receiver = Receiver::new(true);
    receiver.hear(LEADER, TERM, append((LAST, Term(4)), 1));
    receiver.now = receiver.now.after(Duration::from_secs(10));
    let mut receiver = receiver.turned(Role::PreCandidate);
    assert_eq!(receiver.core.leader(), None, "a campaign knows no leader");
    let second = NodeId(3);
    for body in [append((LAST, Term(4)), 1), install()] {
        receiver.hear(second, TERM, body);
        assert_eq!((receiver.core.role(), receiver.core.leader()), (Role::PreCandidate, None));
    }
    let reported = Event::SecondLeader { term: TERM, leader: LEADER, other: second };
    assert_eq!(
        receiver.events.iter().filter(|event| **event == reported).count(),
        1,
        "once a term"
    );
    assert_eq!(receiver.core.status().second_leaders, 2);
    receiver.hear(LEADER, TERM, append((LAST, Term(4)), 2));
    assert_eq!(receiver.core.leader(), Some(LEADER), "the first one goes on leading");
}

#[test]
fn a_leader_that_stepped_down_believes_no_other_of_its_term() {
    let mut receiver = Receiver::new(true).turned(Role::Leader);
    let term = receiver.core.term();
    receiver.now = receiver.now.after(Duration::from_secs(10));
    receiver.core.handle_timeout(receiver.clock());
    receiver.stabilize();
    assert_eq!(receiver.core.role(), Role::Follower);
    receiver.hear(NodeId(3), term, append((LAST, Term(4)), 1));
    assert_eq!(receiver.core.leader(), None);
    let reported = Event::SecondLeader { term, leader: RECEIVER, other: NodeId(3) };
    assert!(receiver.events.contains(&reported));
}

#[test]
fn a_node_without_a_vote_takes_no_leadership_over() {
    let mut receiver = Receiver::new(false);
    let mut configuration = joint();
    configuration.voters.remove(&RECEIVER);
    configuration.outgoing.remove(&RECEIVER);
    configuration.learners.insert(RECEIVER);
    let payload = Payload::Configuration(configuration.into());
    let entry = Entry { index: LAST.next(), term: TERM, stamp: Stamp(0), payload };
    let append = Append::after(LAST, Term(4)).entries(entry);
    let body = append.echo(Echo::of_round(1)).into();
    receiver.hear(LEADER, TERM, body);
    let before = receiver.state();
    receiver.hear(LEADER, TERM, Body::TimeoutNow);
    assert_eq!(receiver.state(), before);
}

/// Node 3 has not heard that node 4 was added and promoted; nodes 1 and 2 have fallen silent in
/// turn.
#[test]
fn a_follower_one_configuration_behind_follows_a_new_member() {
    let mut network = Network::new(3);
    network.campaign(1);
    network.stabilize();
    network.join(4);
    change(&mut network, 1, &[add(4)]).unwrap();
    network.pass(Duration::from_secs(1));
    network.isolate(3);
    change(&mut network, 1, &[promote(4)]).unwrap();
    network.pass(Duration::from_millis(100));
    assert!(network.core(2).configuration().is_voter(NodeId(4)));
    let known = network.core(3).configuration();
    assert!(known.learners.contains(&NodeId(4)), "node 3 still has it as a learner");
    network.heal();
    network.isolate(1);
    network.now = network.now.after(Duration::from_secs(1));
    // Node 4 needs the votes of 2 and 3, and node 3 has it as a learner.
    let deadline = network.core(4).poll_timeout().unwrap();
    network.now = network.now.max(deadline);
    network.with_core(4, |core, now| core.handle_timeout(now));
    network.stabilize();
    assert_eq!(network.core(4).role(), Role::Leader);
    network.pass(Duration::from_millis(200));
    assert_eq!(network.core(3).leader(), Some(NodeId(4)));
    assert!(network.core(3).configuration().is_voter(NodeId(4)), "and it has caught up");
}
