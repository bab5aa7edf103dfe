//! A state of the whole: three real cores, their disks, the messages on their way, and what has
//! been promised so far.
//!
//! All nodes share one clock. It stands still except when an election timeout fires: then it moves
//! to that deadline. All timeouts are of one length, so every time in a core is a small multiple of
//! it and states that differ only in how long something took coincide. The order of the steps
//! decides which node hears of a leader before the clock moves, and which after, so stickiness and
//! check-quorum are explored both ways.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kodiak_raft::core::{Action, Config, Core, Done, ElectionTimeout, Lease, Role};
use kodiak_raft::types::{
    Body, Configuration, Entry, HardState, MemberChange, Message, NodeId, Now, Stamp, Term, Time,
    Write,
};

use crate::disk::{Disk, old_entry, voters};
use crate::fingerprint::{Mixer, fingerprint};
use crate::scope::{Disks, Leases, Order, Scope};

pub(crate) const NODES: usize = 3;
const TIMEOUT: Duration = Duration::from_millis(100);

/// One node.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Node {
    pub(crate) core: Core,
    pub(crate) disk: Disk,
    /// Asked for and not on the disk.
    pub(crate) writes: VecDeque<Write>,
    /// Whether it wants leases in this life.
    has_lease: bool,
}

/// A message on its way. `fingerprint` is the message's own.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    fingerprint: u64,
    pub(crate) message: Arc<Message>,
}

impl Flight {
    fn link(&self) -> (NodeId, NodeId) {
        (self.message.from, self.message.to)
    }
}

/// What was true once and must stay so.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct History {
    /// Who led which term.
    pub(crate) leaders: Vec<(Term, NodeId)>,
    /// The committed log, and in which leader's term each entry was committed.
    pub(crate) committed: Vec<(Entry, Term)>,
}

/// The state of the whole cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterState {
    pub(crate) nodes: [Arc<Node>; NODES],
    node_fingerprints: [u64; NODES],
    /// In the order in which they were sent, as far as that matters: link by link, and with
    /// `Order::Any` by fingerprint.
    pub(crate) wire: Vec<Flight>,
    pub(crate) clock: Time,
    pub(crate) history: Arc<History>,
    pub(crate) budget: Budget,
    /// A node that forgot and does not know it yet. A living leader informs it before it votes: the
    /// promises rest on that.
    unaware: Option<usize>,
    /// What was on the disk that forgot. Acknowledgements of it may be on their way, and count.
    pub(crate) forgotten: Arc<(NodeId, Vec<Entry>)>,
}

/// How much of what a scope allows is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    elections: u8,
    commands: u8,
    crashes: u8,
    changes: u8,
    transfers: u8,
    duplicates: u8,
    forgets: u8,
}

impl Budget {
    fn of(scope: &Scope) -> Budget {
        let Scope { elections, commands, crashes, changes, transfers, duplicates, forgets, .. } =
            *scope;
        Budget { elections, commands, crashes, changes, transfers, duplicates, forgets }
    }
}

/// What may happen next. Nodes are positions from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The message in this place arrives. If links keep their order, what was sent before it on its
    /// link is lost.
    Deliver { place: usize },
    /// It arrives and stays.
    Repeat { place: usize },
    /// It is lost, for there are too many.
    Lose { place: usize },
    /// The node's oldest write is done.
    Written { node: usize },
    /// The election timeout of a node that does not lead is over.
    Timeout { node: usize },
    /// A leader whose deadline has passed looks at its clock.
    Tick { node: usize },
    /// A command is proposed.
    Propose { node: usize },
    /// A leader is asked for the change of this place in [`CHANGES`].
    Change { node: usize, place: usize },
    /// A leader is asked to hand over.
    Transfer { node: usize, to: NodeId },
    /// The node crashes and restarts; the first `written` of its writes were on the disk.
    Crash { node: usize, written: usize },
    /// The node's disk is put back to what it was at first, and the leader, which has what it
    /// acknowledged on record, meets it.
    Forget { node: usize, leader: usize },
}

/// Every change of one vote, and of two.
pub(crate) const CHANGES: [&[MemberChange]; 10] = [
    &[MemberChange::Demote(NodeId(1))],
    &[MemberChange::Demote(NodeId(2))],
    &[MemberChange::Demote(NodeId(3))],
    &[MemberChange::Promote(NodeId(3))],
    &[MemberChange::Demote(NodeId(1)), MemberChange::Promote(NodeId(3))],
    &[MemberChange::Demote(NodeId(2)), MemberChange::Promote(NodeId(3))],
    &[MemberChange::Remove(NodeId(1))],
    &[MemberChange::Remove(NodeId(2))],
    &[
        MemberChange::Demote(NodeId(1)),
        MemberChange::Demote(NodeId(2)),
        MemberChange::Promote(NodeId(3)),
    ],
    &[MemberChange::Promote(NodeId(2)), MemberChange::Promote(NodeId(3))],
];

/// A broken promise: which, and how.
pub(crate) type Violation = (&'static str, String);

impl ClusterState {
    pub(crate) fn initial(scope: &Scope) -> ClusterState {
        let nodes = [1, 2, 3].map(|id| {
            let disk = initial_disk(id, scope);
            let has_lease = scope.leases == Leases::Mixed && id != 2;
            let core = start(id, &disk, Time(0), scope, has_lease);
            Arc::new(Node { core, disk, writes: VecDeque::new(), has_lease })
        });
        let node_fingerprints = nodes.each_ref().map(|node| fingerprint(&**node));
        let (budget, history) = (Budget::of(scope), Arc::default());
        ClusterState {
            nodes,
            node_fingerprints,
            wire: Vec::new(),
            clock: Time(0),
            history,
            budget,
            unaware: None,
            forgotten: Arc::default(),
        }
    }

    /// Two states with the same fingerprint are taken for the same.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut mixer = Mixer::default();
        (
            self.node_fingerprints,
            self.clock,
            &self.history,
            self.budget,
            self.unaware,
            &self.forgotten,
        )
            .hash(&mut mixer);
        for flight in &self.wire {
            mixer.write_u64(flight.fingerprint);
        }
        mixer.finish()
    }

    /// All that may happen in this state.
    pub(crate) fn steps(&self, scope: &Scope) -> Vec<Step> {
        let is_copy = |place: usize| {
            place > 0 && self.wire[place - 1].fingerprint == self.wire[place].fingerprint
        };
        if let Some(crowded) = self.crowded_link(scope.in_flight) {
            return crowded
                .filter(|&place| !is_copy(place))
                .map(|place| Step::Lose { place })
                .collect();
        }
        let mut steps = Vec::new();
        for place in 0..self.wire.len() {
            if (scope.order == Order::Any && is_copy(place)) || self.arrives_too_early(place) {
                continue;
            }
            steps.push(Step::Deliver { place });
            if self.budget.duplicates > 0 {
                steps.push(Step::Repeat { place });
            }
        }
        // All nodes may be alike at first: that it is the first one that waits longest is a matter
        // of naming.
        let is_beginning = scope.is_symmetric() && self.budget == Budget::of(scope);
        for (position, node) in self.nodes.iter().enumerate() {
            if !node.writes.is_empty() {
                steps.push(Step::Written { node: position });
            }
            if node.core.is_leader() {
                if node.core.poll_timeout().is_some_and(|deadline| deadline <= self.clock) {
                    steps.push(Step::Tick { node: position });
                }
                self.steps_of_leader(position, scope, &mut steps);
            } else if self.budget.elections > 0
                && node.core.poll_timeout().is_some()
                && self.unaware != Some(position)
                && (position == 0 || !is_beginning)
            {
                steps.push(Step::Timeout { node: position });
            }
            if self.budget.crashes > 0 && self.unaware != Some(position) {
                steps.extend(
                    (0..=node.writes.len()).map(|written| Step::Crash { node: position, written }),
                );
            }
        }
        steps
    }

    /// What a leader may be asked for; where it would refuse, nothing would happen.
    fn steps_of_leader(&self, position: usize, scope: &Scope, steps: &mut Vec<Step>) {
        let would = |what: &dyn Fn(&mut Core) -> bool| what(&mut self.nodes[position].core.clone());
        let (now, id) = (self.now(), NodeId(position as u64 + 1));
        if self.budget.commands > 0 && self.nodes[position].core.transfer_target().is_none() {
            steps.push(Step::Propose { node: position });
        }
        if self.budget.changes > 0 {
            let is_taken =
                |place: &usize| would(&|core| core.change_membership(now, CHANGES[*place]).is_ok());
            steps.extend(
                (0..CHANGES.len())
                    .filter(is_taken)
                    .map(|place| Step::Change { node: position, place }),
            );
        }
        if self.budget.forgets > 0 {
            // Only what was acknowledged can be on record.
            let peers = self.nodes[position].core.status().peers;
            let has_more = |place: usize| {
                peers.iter().any(|peer| {
                    let before = initial_disk(place as u64 + 1, scope).entries.len() as u64;
                    peer.id == NodeId(place as u64 + 1) && peer.matched.0 > before
                })
            };
            let nodes = (0..NODES).filter(|&place| has_more(place));
            steps.extend(nodes.map(|node| Step::Forget { node, leader: position }));
        }
        if self.budget.transfers > 0 {
            let others = (1..=NODES as u64).map(NodeId).filter(|&to| to != id);
            let is_taken =
                |to: &NodeId| would(&|core| core.transfer_leadership(now, Some(*to)).is_ok());
            steps.extend(others.filter(is_taken).map(|to| Step::Transfer { node: position, to }));
        }
    }

    /// The places of a link with more messages than there may be, one of which is lost.
    fn crowded_link(&self, limit: usize) -> Option<Range<usize>> {
        let end_of = |begin: usize| {
            begin
                + self.wire[begin..]
                    .iter()
                    .take_while(|other| other.link() == self.wire[begin].link())
                    .count()
        };
        let mut begin = 0;
        while begin < self.wire.len() {
            let end = end_of(begin);
            if end - begin > limit {
                return Some(begin..end);
            }
            begin = end;
        }
        None
    }

    /// Whether a message asks for a vote of a node that forgot and does not know it yet.
    fn arrives_too_early(&self, place: usize) -> bool {
        let message = &self.wire[place].message;
        let asks = matches!(
            message.body,
            Body::RequestPreVote { .. } | Body::RequestVote { .. } | Body::TimeoutNow
        );
        asks && self.unaware == Some(message.to.0 as usize - 1)
    }

    /// What is after `step`.
    ///
    /// # Errors
    /// If a promise is broken on the way.
    pub(crate) fn after(&self, step: Step, scope: &Scope) -> Result<ClusterState, Violation> {
        let mut state = self.clone();
        let position = match step {
            Step::Deliver { place } | Step::Repeat { place } => {
                let message = self.wire[place].message.clone();
                if let Step::Repeat { .. } = step {
                    state.budget.duplicates -= 1;
                } else {
                    state.take_off(place, scope.order);
                }
                let position = message.to.0 as usize - 1;
                let now = state.now();
                let core = &mut Arc::make_mut(&mut state.nodes[position]).core;
                core.handle_message(now, Arc::unwrap_or_clone(message));
                position
            }
            Step::Lose { place } => {
                state.wire.remove(place);
                return Ok(state);
            }
            Step::Written { node } => {
                state.finish_write(node)?;
                node
            }
            Step::Timeout { node } => {
                state.budget.elections -= 1;
                let deadline =
                    self.nodes[node].core.poll_timeout().expect("a voter waits for a leader");
                state.clock = state.clock.max(deadline);
                let now = state.now();
                Arc::make_mut(&mut state.nodes[node]).core.handle_timeout(now);
                node
            }
            Step::Tick { node } => {
                let now = state.now();
                Arc::make_mut(&mut state.nodes[node]).core.handle_timeout(now);
                node
            }
            Step::Propose { node } => {
                let command = Bytes::from(vec![state.budget.commands]);
                state.budget.commands -= 1;
                let now = state.now();
                let core = &mut Arc::make_mut(&mut state.nodes[node]).core;
                core.propose(now, [command]).expect("a leader takes a small command");
                node
            }
            Step::Change { node, place } => {
                state.budget.changes -= 1;
                let now = state.now();
                let core = &mut Arc::make_mut(&mut state.nodes[node]).core;
                core.change_membership(now, CHANGES[place]).expect("it would take it a moment ago");
                node
            }
            Step::Transfer { node, to } => {
                state.budget.transfers -= 1;
                let now = state.now();
                let core = &mut Arc::make_mut(&mut state.nodes[node]).core;
                core.transfer_leadership(now, Some(to)).expect("it would a moment ago");
                node
            }
            Step::Crash { node, written } => {
                state.budget.crashes -= 1;
                state.crash(node, written, scope)?;
                node
            }
            Step::Forget { node, leader } => {
                state.budget.forgets -= 1;
                state.forget(node, scope);
                state.carry_out(node, scope)?;
                state.node_fingerprints[node] = fingerprint(&*state.nodes[node]);
                crate::promises::check(self, &mut state, node, scope)?;
                let now = state.now();
                Arc::make_mut(&mut state.nodes[leader])
                    .core
                    .handle_peer_forgot(now, NodeId(node as u64 + 1));
                leader
            }
        };
        state.carry_out(position, scope)?;
        state.note_awareness(step, self);
        state.node_fingerprints[position] = fingerprint(&*state.nodes[position]);
        state.drop_dead_messages();
        crate::promises::check(self, &mut state, position, scope)?;
        Ok(state)
    }

    fn now(&self) -> Now {
        Now { monotonic: self.clock, wall: Stamp(0) }
    }

    fn take_off(&mut self, place: usize, order: Order) {
        let taken = self.wire.remove(place);
        if order == Order::Links {
            let mut before = place;
            self.wire.retain(|flight| {
                let is_before = before > 0;
                before = before.saturating_sub(1);
                !(is_before
                    && (flight.message.from, flight.message.to)
                        == (taken.message.from, taken.message.to))
            });
        }
    }

    fn finish_write(&mut self, position: usize) -> Result<(), Violation> {
        let now = self.now();
        let node = Arc::make_mut(&mut self.nodes[position]);
        let write = node.writes.pop_front().expect("there is a write");
        let sequence = write.sequence;
        apply(&mut node.disk, write)?;
        node.core.handle_done(now, Done::Written { sequence });
        Ok(())
    }

    fn crash(&mut self, position: usize, written: usize, scope: &Scope) -> Result<(), Violation> {
        // It is down for so long, by its own clock, that it need not wait for what it may have
        // promised (the restart wait), unless that wait is what is looked at.
        let down = if scope.leases == Leases::Mixed { 0 } else { TIMEOUT.as_nanos() as u64 };
        let clock = Time(self.clock.0.saturating_sub(down));
        let node = Arc::make_mut(&mut self.nodes[position]);
        for write in node.writes.drain(..).take(written) {
            apply(&mut node.disk, write)?;
        }
        node.has_lease ^= scope.leases == Leases::Mixed;
        node.core = start(position as u64 + 1, &node.disk, clock, scope, node.has_lease);
        Ok(())
    }

    /// The node starts again with the disk that it had at first.
    fn forget(&mut self, position: usize, scope: &Scope) {
        let clock = Time(self.clock.0.saturating_sub(TIMEOUT.as_nanos() as u64));
        let node = Arc::make_mut(&mut self.nodes[position]);
        node.writes.clear();
        self.forgotten =
            Arc::new((NodeId(position as u64 + 1), std::mem::take(&mut node.disk.entries)));
        node.disk = initial_disk(position as u64 + 1, scope);
        node.core = start(position as u64 + 1, &node.disk, clock, scope, node.has_lease);
        self.unaware = Some(position);
    }

    /// Takes note if the node that forgot has been informed by its leader, or holds the fence.
    fn note_awareness(&mut self, step: Step, before: &ClusterState) {
        let Some(node) = self.unaware else { return };
        let core = &self.nodes[node].core;
        let is_notice = |place: usize| {
            let message = &before.wire[place].message;
            let is_for_it = message.to == core.id() && core.leader() == Some(message.from);
            is_for_it && matches!(message.body, Body::Forgot { .. })
        };
        let has_notice =
            matches!(step, Step::Deliver { place } | Step::Repeat { place } if is_notice(place));
        let is_held = core.configuration_index() <= core.commit().min(core.durable());
        let is_fenced = is_held && !core.configuration().is_voter(core.id());
        if has_notice || is_fenced {
            self.unaware = None;
        }
    }

    /// Does what the core asks for.
    fn carry_out(&mut self, position: usize, scope: &Scope) -> Result<(), Violation> {
        let now = self.now();
        loop {
            let node = Arc::make_mut(&mut self.nodes[position]);
            while let Some(action) = node.core.poll() {
                match action {
                    Action::Send(message) => {
                        if scope.checks_promises {
                            crate::promises::check_sent(&message, &node.disk)?;
                        }
                        put_on(&mut self.wire, message, scope.order);
                    }
                    Action::Write(write) => node.writes.push_back(write),
                    Action::Apply(entries) => {
                        let index = entries.last().expect("something is applied").index;
                        node.core.handle_done(now, Done::Applied { index });
                    }
                    Action::MarkCommit { .. } | Action::Event(_) => {}
                    other => return Err(("nothing else is asked for", format!("{other:?}"))),
                }
            }
            if scope.disks == Disks::Slow || node.writes.is_empty() {
                return Ok(());
            }
            self.finish_write(position)?;
        }
    }

    /// Drops messages that can no longer have an effect, whatever happens.
    fn drop_dead_messages(&mut self) {
        let nodes = &self.nodes;
        self.wire.retain(|flight| {
            let receiver = &nodes[flight.message.to.0 as usize - 1];
            !is_dead(&flight.message, receiver)
        });
    }
}

/// A message leaves.
fn put_on(wire: &mut Vec<Flight>, message: Message, order: Order) {
    let flight = Flight { fingerprint: fingerprint(&message), message: Arc::new(message) };
    let begin = wire.partition_point(|other| other.link() < flight.link());
    let end = wire.partition_point(|other| other.link() <= flight.link());
    let place = match order {
        Order::Links => end,
        Order::Any => {
            begin + wire[begin..end].partition_point(|other| other.fingerprint < flight.fingerprint)
        }
    };
    wire.insert(place, flight);
}

/// Whether an answer can no longer have an effect. Its term, or a later one, is on the receiver's
/// disk, so no crash leads back behind it; and the campaign or leadership that it answers is over,
/// and is never repeated in a term.
fn is_dead(message: &Message, receiver: &Node) -> bool {
    let past = receiver.disk.hard_state.term;
    let holds = |role| receiver.core.role() == role && receiver.core.term() == message.term;
    match message.body {
        Body::PreVote { campaign_term, .. } => message.term <= past && campaign_term <= past,
        Body::Vote { .. } => message.term <= past && !holds(Role::Candidate),
        Body::Appended { .. } | Body::Rejected { .. } => {
            message.term <= past && !holds(Role::Leader)
        }
        _ => false,
    }
}

/// A write reaches the disk.
fn apply(disk: &mut Disk, write: Write) -> Result<(), Violation> {
    let before = disk.hard_state;
    disk.apply(write);
    let after = disk.hard_state;
    if after.term < before.term {
        return Err(("terms only rise", format!("{before:?} on disk, then {after:?}")));
    }
    if after.term == before.term && before.vote.is_some() && after.vote != before.vote {
        return Err(("one vote a term", format!("{before:?} on disk, then {after:?}")));
    }
    Ok(())
}

/// The configuration with which all nodes start.
pub(crate) fn initial_configuration(scope: &Scope) -> Configuration {
    let mut configuration = voters(NODES as u64);
    configuration.learners =
        configuration.voters.split_off(&NodeId(NODES as u64 + 1 - u64::from(scope.learners)));
    configuration
}

/// What a node's disk holds at the start.
fn initial_disk(id: u64, scope: &Scope) -> Disk {
    let latest = scope.logs.as_flattened().iter().copied().max().unwrap_or(0);
    let terms = scope.logs[id as usize - 1].into_iter().take_while(|&term| term > 0);
    Disk {
        hard_state: HardState {
            term: Term(latest.into()),
            vote: None,
            promise: TIMEOUT,
            forgot: None,
        },
        entries: (1..).zip(terms).map(|(index, term)| old_entry(index, term.into())).collect(),
        ..Disk::default()
    }
}

fn start(id: u64, disk: &Disk, clock: Time, scope: &Scope, has_lease: bool) -> Core {
    let mut config = Config::new(NodeId(id));
    config.seed = 0;
    config.election_timeout = ElectionTimeout::new(TIMEOUT, TIMEOUT);
    config.heartbeat_interval = TIMEOUT / 2;
    config.message_bytes = scope.message_bytes;
    config.lease = has_lease.then_some(Lease::with_drift_ppm(0));
    Core::new(
        config,
        disk.saved(initial_configuration(scope)),
        Now { monotonic: clock, wall: Stamp(0) },
    )
    .expect("what was written can be read")
}
