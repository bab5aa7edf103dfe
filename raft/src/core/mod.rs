//! The Raft algorithm (Ongaro, "Consensus: Bridging Theory and Practice", 2014), sans-IO.
//!
//! [`Core`] is one node's part in it. It owns no clock, no random source, no socket and no file.
//! Its driver calls it with every input (`handle_*`, [`Core::propose`], [`Core::read_index`]); it
//! returns what to do ([`Core::poll`]) and when to call again ([`Core::poll_timeout`]). Section
//! numbers in this folder are the dissertation's.
//!
//! | file | concern |
//! |---|---|
//! | `election` | pre-vote, votes, terms (§3.4, §3.6, §9.6), stepping down |
//! | `replication` | the leader's side: rounds, entries, commitment (§3.5, §3.6.2), check-quorum (§6.2) |
//! | `progress` | what the leader knows of one follower (§10.2.1) |
//! | `follower` | the follower's side: accepting entries, acknowledging what is durable |
//! | `membership` | changes of configuration (§4), how a removed leader steps down |
//! | `transfer` | handing leadership over (§3.10), priorities |
//! | `reads` | ReadIndex, on leaders and followers (§6.4) |
//! | `log_time` | the stamps of entries: a clock that a majority of the voters steers |
//! | `lease` | reads without a round (§6.4.1) |
//! | `promise` | what voters promise for them, and how long a restarted one waits |
//! | `quorum` | what a majority says, joint configurations included (§4.3) |
//! | `admission` | which senders' messages have an effect; a second leader in one term |
//! | `digests` | whether the same entries led to the same state on all members |
//! | `backlog` | what is committed and not applied: the leader pushes back, and hands over |
//! | `loading` | a state machine that restores or replays: who leads meanwhile |
//! | `amnesia` | followers whose disks forgot, and leaders that contradict what is committed |
//! | `snapshot` | taking, compacting, sending, installing (§5) |
//! | `mutants` | faults to be planted, for the tests of the tests |
//! | `terms` | terms that no cluster reaches |
//! | `commit_mark` | when a commit index that no write carries is written to the disk |
//! | `log`, `writes`, `fetches` | the log's marks and tail; what must be durable first; what must be read back |
//!
//! # How to drive it
//!
//! After any input, call [`Core::poll`] until it returns `None`; then arm one timer at
//! [`Core::poll_timeout`]. Inputs between two polls become one step: one write, one message to each
//! peer.
//!
//! ```
//! use kodiak_raft::core::{Action, Config, Core, Done};
//! use kodiak_raft::types::{Configuration, HardState, Member, NodeId, Now, Saved, TermTable};
//!
//! let initial_configuration = Configuration::of_voters([(NodeId(1), Member::default())]);
//! let (hard_state, terms) = (HardState::default(), TermTable::new());
//! let saved = Saved { hard_state, initial_configuration, terms, ..Saved::default() };
//! let now = Now::default();
//! let mut core = Core::new(Config::new(NodeId(1)), saved, now)?;
//! let mut applied = Vec::new();
//! core.handle_timeout(now); // a cluster of one waits for no other node
//! while let Some(action) = core.poll() {
//!     match action {
//!         Action::Write(write) => {
//!             core.handle_done(now, Done::Written { sequence: write.sequence });
//!         }
//!         Action::Apply(entries) => applied.extend(entries.iter().cloned()),
//!         _ => {}
//!     }
//! }
//! assert!(core.is_leader());
//! assert_eq!(applied.len(), 1); // the no-op that opens its term
//! # Ok::<(), kodiak_raft::core::ConfigError>(())
//! ```

mod action;
mod admission;
mod amnesia;
mod backlog;
mod commit_mark;
mod config;
mod digests;
mod election;
mod fetches;
mod follower;
mod jitter;
mod lease;
mod loading;
mod log;
mod log_time;
mod membership;
pub(crate) mod mutants;
mod progress;
mod promise;
mod quorum;
mod reads;
mod replication;
mod snapshot;
mod snapshot_sender;
mod status;
mod tail;
mod terms;
mod transfer;
mod writes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::types::{
    Body, Configuration, Entry, HardState, Index, Message, NodeId, Now, Proposal, Saved,
    SnapshotMeta, Stamp, Term, TermTable, Time,
};

pub use action::{
    Action, Done, Event, Fetch, InstallSnapshot, ProposeError, Proposed, ReadChunk, ReadError,
    ReadId, Role, WriteChunk,
};
pub use config::{Config, ConfigError, ElectionTimeout, Lease, TIMEOUT_MAX};
pub use digests::{DigestConflict, DigestStatus};
#[cfg(feature = "mutants")]
pub use mutants::{Mutant, Planted};
pub use status::{LogTimeStatus, PeerMode, PeerStatus, SnapshotProgress, Status};
pub use transfer::TransferError;

use admission::SecondLeaders;
use backlog::BacklogWatch;
use digests::Digests;
use election::{Ballot, ElectionCause};
use fetches::Fetches;
use follower::Following;
use jitter::SplitMix64;
use lease::LeaderLease;
use loading::Loading;
use log::Log;
use log_time::LogTime;
use promise::Promises;
use reads::{Certainty, ReadRequests};
use replication::Leading;
use snapshot::Snapshots;
use terms::IgnoredTerms;
use transfer::{Fitness, PriorityHandOvers};
use writes::Writes;

/// A role, and what is known in that role only (figure 3.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum RoleState {
    Follower,
    PreCandidate(Ballot),
    Candidate(Ballot),
    Leader(Leading),
}

/// Whether the initial members of a new cluster have all been reached ([`Core::set_bootstrap`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootstrapPhase {
    /// Not yet: the first election has to wait.
    Pending,
    /// They have, or the cluster exists already.
    Complete,
}

/// Role, term and leader, as [`Event::LeadershipChanged`] reports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Leadership {
    role: Role,
    term: Term,
    leader: Option<NodeId>,
}

/// One node's part in Raft.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Core {
    config: Config,
    jitter: SplitMix64,
    now: Time,
    wall: Stamp,

    term: Term,
    vote: Option<NodeId>,
    state: RoleState,
    /// The leader of `term`, once known; this node itself if it leads.
    leader: Option<NodeId>,
    /// The node known to have led `term`, also while this node campaigns or after it has stepped
    /// down.
    term_leader: Option<NodeId>,
    /// When a leader, of whatever term, was last heard.
    leader_heard: Option<Time>,
    /// How long this node waits for a leader before it campaigns; drawn again for every campaign.
    randomized_timeout: Duration,
    election_deadline: Time,
    promises: Promises,

    following: Following,
    log: Log,
    log_time: LogTime,
    writes: Writes,
    fetches: Fetches,
    snapshots: Snapshots,
    digests: Digests,
    read_requests: ReadRequests,
    /// A leader's.
    lease: LeaderLease,
    /// A leader's, of all its terms.
    priority_hand_overs: PriorityHandOvers,
    /// A leader's, of all its terms.
    backlog_watch: BacklogWatch,

    actions: VecDeque<Action>,
    /// Whether there was an input since the last `flush`.
    is_dirty: bool,
    /// What the last `Event::LeadershipChanged` reported.
    reported: Leadership,
    ignored_messages: u64,
    ignored_terms: IgnoredTerms,
    second_leaders: SecondLeaders,
    /// Whether this node's removal is committed.
    is_removed: bool,
    /// The mark of a disk that forgot: the fence must come after this entry.
    forgot: Option<Index>,
    /// Other nodes whose disks forgot, with this node's last index when it learnt of that.
    forgetful: BTreeMap<NodeId, Index>,
    /// The number of the last durable frame of the log, as far as the driver says.
    durable_sequence: Option<u64>,
    /// A leader contradicted what is committed here, from this entry on.
    committed_conflict: Option<Index>,
    /// It must neither campaign nor vote in the first term of the cluster.
    awaits_bootstrap: bool,
    /// Whether it may lead, as its driver reports.
    fitness: Fitness,
    loading: Loading,
}

impl Core {
    /// A node as it starts: a follower that knows no leader and nothing committed, whatever it was
    /// before.
    ///
    /// # Errors
    /// If the settings make no sense together, or what was saved contradicts itself.
    pub fn new(config: Config, saved: Saved, now: Now) -> Result<Core, ConfigError> {
        config.validate()?;
        let durable_sequence = (saved.life > 0).then_some(saved.position.sequence);
        let (hard_state, divergence) = (saved.hard_state, saved.divergence);
        let log = Log::new(saved, config.tail_bytes, config.backlog_bytes)?;
        let promises = Promises::after_restart(&hard_state, &log, &config, now.monotonic);
        let HardState { term, vote, forgot, .. } = hard_state;
        let (commit, loading) = (log.commit(), Loading::new(log.last_index()));
        let mut jitter = SplitMix64::new(config.seed);
        let randomized_timeout = jitter.between(config.election_timeout.bounds());
        let id = config.id;
        let voters = &log.configuration().voters;
        // The only voter need not wait for a leader.
        let is_alone =
            voters.len() == 1 && voters.contains(&id) && log.configuration().outgoing.is_empty();
        let election_deadline =
            if is_alone { promises.wait_until() } else { now.monotonic.after(randomized_timeout) };
        let out_of_terms = (term > Term::MAX).then_some(Action::Event(Event::OutOfTerms { term }));
        Ok(Core {
            snapshots: Snapshots::after(log.snapshot_index()),
            digests: Digests::after(divergence),
            read_requests: ReadRequests::new(first_read_request(&config, now)),
            lease: LeaderLease::default(),
            priority_hand_overs: PriorityHandOvers::default(),
            backlog_watch: BacklogWatch::default(),
            jitter,
            now: now.monotonic,
            wall: now.wall,
            term,
            vote,
            state: RoleState::Follower,
            leader: None,
            term_leader: None,
            leader_heard: None,
            randomized_timeout,
            election_deadline,
            promises,
            following: Following::default(),
            log,
            log_time: LogTime::default(),
            writes: Writes::after_restart(commit),
            fetches: Fetches::default(),
            actions: out_of_terms.into_iter().collect(),
            is_dirty: true,
            reported: Leadership { role: Role::Follower, term, leader: None },
            ignored_messages: 0,
            ignored_terms: IgnoredTerms::default(),
            second_leaders: SecondLeaders::default(),
            is_removed: false,
            forgot,
            forgetful: BTreeMap::new(),
            durable_sequence,
            committed_conflict: None,
            awaits_bootstrap: false,
            fitness: Fitness::default(),
            loading,
            config,
        })
    }

    /// A message has arrived.
    ///
    /// Messages that make no sense (for another node, with impossible numbers) are counted in
    /// [`Status::ignored_messages`] and change nothing. So are those of terms that no cluster
    /// reaches ([`Status::ignored_terms`]).
    ///
    /// A leader that contradicts what is committed here ends this node's part
    /// ([`Event::CommittedConflict`]): acknowledged data was lost elsewhere.
    pub fn handle_message(&mut self, now: Now, message: Message) {
        self.begin(now);
        let Message { from, to, term, body } = message;
        if to != self.config.id || from == self.config.id || from == NodeId(0) {
            return self.ignore();
        }
        if self.is_term_too_far(term) {
            return self.ignore_term(from, term);
        }
        if self.committed_conflict.is_some() {
            if let Body::AppendEntries(_) | Body::InstallSnapshot { .. } = body {
                self.answer_conflict(from);
            }
            return;
        }
        match body {
            // It asks about a term that no node has reached; it must not take this node there.
            Body::RequestPreVote { last_index, last_term } => {
                return self.handle_request_pre_vote(from, term, last_index, last_term);
            }
            // A follower with a live leader grants no vote against it (§4.2.3), and does not even
            // adopt a term, unless that leader asked for the election. An initial member that waits
            // for the bootstrap takes no part in it.
            Body::RequestVote { is_transfer, .. }
                if term > self.term
                    && (self.is_bound(ElectionCause::of_request(is_transfer))
                        || self.awaits_bootstrap_of(term)) =>
            {
                return self.send(from, Body::Vote { granted: false });
            }
            _ => {}
        }
        if term > self.term {
            self.adopt_term(term);
        }
        let is_current = term == self.term;
        match body {
            // An answer of an earlier term is normal here: it is the sender's own term, and this
            // node asked about the next one.
            Body::PreVote { campaign_term, granted } => {
                self.handle_pre_vote(from, campaign_term, granted)
            }
            _ if !is_current => self.answer_stale(from, &body),
            Body::RequestVote { last_index, last_term, is_transfer } => {
                let cause = ElectionCause::of_request(is_transfer);
                self.handle_request_vote(from, last_index, last_term, cause);
            }
            Body::Vote { granted } => self.handle_vote(from, granted),
            Body::AppendEntries(append) => self.handle_append_entries(from, append),
            Body::Appended { matched, report } => self.handle_appended(from, matched, &report),
            Body::Rejected { previous_index, hint_index, hint_term, report } => {
                self.handle_rejected(from, previous_index, hint_index, hint_term, &report);
            }
            Body::InstallSnapshot { meta, chunk, echo } => {
                self.handle_install_snapshot(from, *meta, chunk, echo);
            }
            Body::SnapshotProgress { index, received_bytes, report } => {
                self.handle_snapshot_progress(from, index, received_bytes, &report);
            }
            Body::RequestReadIndex { request, may_lease } => {
                self.handle_request_read_index(from, request, may_lease)
            }
            Body::ReadIndex { request, index } => self.handle_read_index(from, request, index),
            Body::TimeoutNow => self.handle_timeout_now(from),
            Body::Forgot { last_index } => self.handle_forgot(from, last_index),
            Body::CommittedConflict { index, log_term } => {
                self.handle_committed_conflict(from, index, log_term)
            }
            Body::StateDigest(digest) => self.handle_state_digest(from, digest),
            Body::StateDigests(reported) => self.handle_state_digests(from, *reported),
            Body::RequestPreVote { .. } => unreachable!("answered above"),
        }
    }

    /// Time has passed; call it at [`Core::poll_timeout`]. Calling it early does nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        self.begin(now);
        if self.committed_conflict.is_some() {
            self.reset_election_timer();
        } else if self.is_leader() {
            self.leader_timeout();
        } else if self.election_deadline <= self.now {
            self.election_timeout();
        }
    }

    /// An action that asked for an answer is done.
    ///
    /// # Panics
    /// If the core never asked for it, or the entries fetched are not those it asked for. The
    /// driver or the disk is wrong then, and continuing would build on that.
    pub fn handle_done(&mut self, now: Now, done: Done) {
        let was_dirty = self.is_dirty;
        self.begin(now);
        match done {
            Done::Written { sequence } => self.handle_written(sequence),
            Done::Fetched { id, entries } => self.handle_fetched(id, entries),
            Done::Applied { index } => {
                self.log.applied_to(index);
                // Nothing follows from it unless more waits to be applied.
                self.is_dirty = was_dirty || self.log.handed_out() < self.log.commit();
            }
            done => self.handle_snapshot_done(done),
        }
    }

    /// Appends what clients propose to the leader's log, one entry each, all or none. A command
    /// alone is a [`Proposal`], too.
    ///
    /// # Errors
    /// The reason; nothing was appended then.
    pub fn propose<P: Into<Proposal>>(
        &mut self,
        now: Now,
        proposals: impl IntoIterator<Item = P>,
    ) -> Result<Proposed, ProposeError> {
        self.begin(now);
        self.append_proposals(proposals.into_iter().map(Into::into))
    }

    /// Asks for an index such that a state which includes it includes everything that was committed
    /// when this was called. [`Action::ReadReady`] or [`Action::ReadFailed`] will answer, unless no
    /// leader can be reached and none is elected: then only the driver's own deadline ends the
    /// wait.
    ///
    /// # Errors
    /// If no leader is known, or too many reads wait already; no action follows then.
    pub fn read_index(&mut self, now: Now, id: ReadId) -> Result<(), ReadError> {
        self.begin(now);
        self.request_read_index(id, Certainty::Majority)
    }

    /// As [`Core::read_index`], but answered at once where the leader has a lease
    /// ([`Config::lease`]).
    ///
    /// `now` must be a time that a clock showed *after* the read arrived: at an earlier time the
    /// lease might still have held when another leader had already taken over. The same holds for
    /// the message by which a follower asks its leader, and for the leader's messages: a node that
    /// handles them with an earlier time promises less than the leader relies on.
    ///
    /// # Errors
    /// As [`Core::read_index`].
    pub fn lease_read(&mut self, now: Now, id: ReadId) -> Result<(), ReadError> {
        self.begin(now);
        self.request_lease_read(id)
    }

    /// Sets whether the cluster's bootstrap is complete, as far as this node's driver knows.
    ///
    /// While it is pending and this node knows no term, it takes no part in the election of the
    /// first term, neither as a candidate nor as a voter. It votes for candidates of later terms,
    /// and follows their leader. An initial member needs this that cannot tell a new cluster from
    /// one that exists and that its wiped disk has forgotten.
    pub fn set_bootstrap(&mut self, bootstrap: BootstrapPhase) {
        self.awaits_bootstrap = bootstrap == BootstrapPhase::Pending;
    }

    /// The next thing to do; `None` until there is another input.
    pub fn poll(&mut self) -> Option<Action> {
        if self.actions.is_empty() && self.is_dirty {
            self.is_dirty = false;
            self.flush();
        }
        self.actions.pop_front()
    }

    /// When to call [`Core::handle_timeout`]; `None` if only a message or a command can change
    /// anything.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let mark = self.writes.commit_mark_deadline().filter(|_| self.committed_conflict.is_none());
        self.role_deadline().into_iter().chain(mark).min()
    }

    /// When the role has something to do unless a message comes before.
    fn role_deadline(&self) -> Option<Time> {
        match &self.state {
            RoleState::Leader(leading) => self.leader_deadline(leading),
            _ => self.log.may_vote(self.config.id).then_some(self.election_deadline),
        }
    }

    /// Turns what has changed since the last time into actions.
    fn flush(&mut self) {
        if self.committed_conflict.is_some() {
            return self.report();
        }
        self.pass_fence();
        self.advance_membership();
        self.start_round_for_reads();
        // A snapshot that is being installed raises the disk's commit index before this write
        // reaches it, unless it is found damaged: the write says nothing of it.
        let stated = if self.snapshots.is_installing() { Index(0) } else { self.log.commit() };
        if let Some(write) = self.writes.issue(self.now, self.log.last_index(), stated) {
            self.actions.push_back(Action::Write(write));
        }
        let commit = self.log.commit().min(self.log.last_index());
        if let Some(commit) =
            self.writes.mark_commit(self.now, commit, self.config.heartbeat_interval)
        {
            self.actions.push_back(Action::MarkCommit { commit });
        }
        self.install_received();
        self.replicate();
        self.drop_removed_peers();
        self.advance_transfer();
        self.acknowledge();
        self.send_digests();
        self.send_state_request();
        self.send_read_requests();
        self.apply();
        self.log.trim();
        self.report();
    }

    /// Hands committed entries out, as far as the window allows; fetches those that are not in
    /// memory.
    fn apply(&mut self) {
        loop {
            let window_bytes = self.log.apply_window(self.config.applying_bytes);
            if window_bytes == 0 {
                return;
            }
            let (from, to) = (self.log.handed_out().next(), self.log.commit());
            if from < self.log.first_in_tail() {
                let to = to.min(self.log.first_in_tail().previous());
                return self.fetch_to_apply(from, to, window_bytes);
            }
            let entries = self.log.entries(from, to, window_bytes);
            self.log.hand_out(&entries);
            self.actions.push_back(Action::Apply(entries));
        }
    }

    fn handle_written(&mut self, sequence: u64) {
        if let Some(index) = self.writes.finish(sequence) {
            let is_stale = mutants::planted(mutants::Mutant::StaleAppendAck);
            self.log.mark_durable(if is_stale { index.min(self.log.last_index()) } else { index });
        }
        while let Some(message) = self.writes.release() {
            self.actions.push_back(Action::Send(message));
        }
        self.count_own_vote();
        self.advance_commit();
    }

    /// Every input starts here.
    fn begin(&mut self, now: Now) {
        self.now = self.now.max(now.monotonic);
        self.wall = now.wall;
        self.is_dirty = true;
    }

    fn send(&mut self, to: NodeId, body: Body) {
        let message = Message { from: self.config.id, to, term: self.term, body };
        self.actions.push_back(Action::Send(message));
    }

    /// Drops a message that makes no sense.
    fn ignore(&mut self) {
        self.ignored_messages = self.ignored_messages.saturating_add(1);
    }

    /// Reports to the operator, once, what has changed.
    fn report(&mut self) {
        let (role, term, leader) = (self.role(), self.term, self.leader);
        if self.reported != (Leadership { role, term, leader }) {
            self.reported = Leadership { role, term, leader };
            self.actions.push_back(Action::Event(Event::LeadershipChanged { role, term, leader }));
        }
        self.report_membership();
    }

    /// The state in brief.
    #[must_use]
    pub fn status(&self) -> Status {
        let peers = match &self.state {
            RoleState::Leader(leading) => leading
                .progress
                .iter()
                .map(|(&id, progress)| progress.status(id, self.now))
                .collect(),
            _ => Vec::new(),
        };
        Status {
            id: self.config.id,
            role: self.role(),
            term: self.term,
            leader: self.leader,
            commit: self.log.commit(),
            applied: self.log.applied(),
            backlog_bytes: self.backlog_bytes(),
            backlog_limit_bytes: self.config.backlog_bytes,
            durable: self.log.durable(),
            last_index: self.log.last_index(),
            first_index: self.log.base().next(),
            snapshot: self.log.snapshot_index(),
            receiving: self.snapshots.progress(),
            peers,
            lease_until: self.lease_until(),
            configuration: self.log.configuration().clone(),
            configuration_index: self.log.configuration_index(),
            transfer_target: self.transfer_target(),
            is_removed: self.is_removed,
            has_forgotten: self.has_forgotten(),
            digests: self.digests.status(),
            awaits_snapshot: self.awaits_state(),
            committed_conflict: self.committed_conflict,
            ignored_messages: self.ignored_messages,
            ignored_terms: self.ignored_terms.count,
            second_leaders: self.second_leaders.ignored,
            is_out_of_terms: self.is_out_of_terms(),
            log_time: self.log_time_status(),
        }
    }

    /// The settings it was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// Its role.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.state {
            RoleState::Follower => Role::Follower,
            RoleState::PreCandidate(_) => Role::PreCandidate,
            RoleState::Candidate(_) => Role::Candidate,
            RoleState::Leader(_) => Role::Leader,
        }
    }

    /// Whether it leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.state, RoleState::Leader(_))
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Its term and vote, and how long its promises last, which may not be durable yet.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.own_hard_state()
    }

    /// The leader of its term as far as it knows: itself, if it leads.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Known to be committed up to here.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.log.commit()
    }

    /// Reported as applied up to here.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.log.applied()
    }

    /// Durable on this node's own disk up to here.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.log.durable()
    }

    /// The log's last index.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.log.last_index()
    }

    /// What the newest snapshot on this node's disk stands for.
    #[must_use]
    pub fn snapshot(&self) -> Option<&SnapshotMeta> {
        self.log.snapshot()
    }

    /// The term of every index that the log holds.
    #[must_use]
    pub fn terms(&self) -> &TermTable {
        self.log.terms()
    }

    /// The entry at `index`, if it is still in memory.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.entry(index)
    }

    /// The configuration in force.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.log.configuration()
    }

    /// The entry that brought the configuration in force; what a snapshot includes if that brought
    /// it; 0 for the initial one.
    #[must_use]
    pub fn configuration_index(&self) -> Index {
        self.log.configuration_index()
    }

    /// The node to which this leader hands leadership over.
    #[must_use]
    pub fn transfer_target(&self) -> Option<NodeId> {
        match &self.state {
            RoleState::Leader(leading) => leading.transfer.map(|transfer| transfer.to()),
            _ => None,
        }
    }

    /// Whether this node knows that its removal is committed.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.is_removed
    }
}

/// The number of this life's first read request to a leader. Two lives of a node must not use the
/// same numbers, or an answer to the earlier life would pass for one to the later: stale, so wrong.
/// So the numbers start at a place that is drawn from the seed and both clocks.
fn first_read_request(config: &Config, now: Now) -> u64 {
    let mut draw = SplitMix64::new(config.seed ^ now.wall.0.rotate_left(32) ^ now.monotonic.0);
    draw.next() >> 1
}
