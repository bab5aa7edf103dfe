//! Cores, disks and a wire in memory, on one thread. Every action is carried out in an order that
//! the test decides, and after every step the properties of figure 3.2 are checked over all nodes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::core::{
    Action, Config, Core, Done, Event, Fetch, InstallSnapshot, Proposed, ReadChunk, ReadId, Role,
    WriteChunk,
};
use crate::types::{
    Body, Chunk, Configuration, Entry, FollowerReport, HardState, Index, Member, Message, NodeId,
    Now, Payload, Saved, SnapshotMeta, Stamp, Term, TermTable, Time, Write,
};

/// How long promises last by default.
pub(super) const PROMISE: Duration = Duration::from_millis(250);

/// What a follower with default settings reports of a round, as far as an older version says it.
pub(super) fn report(round: u64) -> FollowerReport {
    FollowerReport { round, promise: PROMISE, ..FollowerReport::default() }
}

/// The body of an answer, reduced to what an older version says.
pub(super) fn reduced(body: Body) -> Body {
    match body {
        Body::Appended { matched, report: FollowerReport { round, promise, .. } } => {
            Body::Appended {
                matched,
                report: FollowerReport { round, promise, ..FollowerReport::default() },
            }
        }
        other => other,
    }
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    /// All of them, but those up to `base` cannot be read.
    pub(super) entries: Vec<Entry>,
    pub(super) base: Index,
    /// Known to be committed, as of the last write.
    pub(super) commit: Index,
    pub(super) snapshot: Option<SnapshotMeta>,
}

impl Disk {
    fn snapshot_index(&self) -> Index {
        self.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index)
    }

    fn apply(&mut self, write: Write) {
        if let Some(hard_state) = write.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "the term on disk fell");
            self.hard_state = hard_state;
        }
        self.commit = self.commit.max(write.commit);
        if let Some(from) = write.truncate_from {
            self.entries.truncate(from.0 as usize - 1);
        }
        for entry in &write.entries {
            assert_eq!(entry.index, Index(self.entries.len() as u64 + 1), "a gap on disk");
            self.entries.push(entry.clone());
        }
    }

    fn terms(&self) -> TermTable {
        let mut terms = TermTable::new();
        self.entries.iter().for_each(|entry| terms.append(entry.index, entry.term));
        terms.compact_to(self.base);
        terms
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) core: Core,
    pub(super) disk: Disk,
    pub(super) is_down: bool,
    /// Completions wait in `writes` until the test finishes them.
    pub(super) is_disk_slow: bool,
    pub(super) writes: VecDeque<Write>,
    /// With their places among the writes.
    pub(super) installs: VecDeque<(SnapshotMeta, u64)>,
    /// What has been received of a snapshot.
    pub(super) part: Option<(SnapshotMeta, Vec<u8>)>,
    pub(super) installed: usize,
    pub(super) fetches: usize,
    pub(super) marks: Vec<Index>,
    pub(super) applied: Vec<Entry>,
    pub(super) ready: Vec<(ReadId, Index)>,
    pub(super) failed: Vec<ReadId>,
    pub(super) events: Vec<Event>,
    /// Which actions wait in `held` until the test has them carried out.
    pub(super) holds: fn(&Action) -> bool,
    pub(super) held: VecDeque<Action>,
    /// Its initial configuration: empty, if it waits to be added.
    initial_configuration: Configuration,
}

#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) now: Time,
    pub(super) wire: VecDeque<Message>,
    /// Directed pairs that cannot reach each other.
    pub(super) cut: BTreeSet<(NodeId, NodeId)>,
    pub(super) delivered: usize,
    /// The wall clock of all nodes when the network began, in milliseconds.
    pub(super) wall_began: u64,
    /// How far the wall clocks of some nodes are off, in milliseconds.
    pub(super) wall_errors: BTreeMap<u64, i64>,
    /// Nodes of an older version, which do not say their wall clocks.
    pub(super) older: BTreeSet<u64>,
    /// For the next life of a node.
    pub(super) tune: fn(&mut Config),
    lives: u64,
    leaders: BTreeMap<Term, NodeId>,
    committed: BTreeMap<Index, Entry>,
}

pub(super) fn voters(count: u64) -> Configuration {
    Configuration::of_voters((1..=count).map(|node| (NodeId(node), Member::default())))
}

pub(super) fn entry(index: u64, term: u64) -> Entry {
    let payload = Payload::Command(Bytes::from(format!("{index} of {term}")));
    Entry { index: Index(index), term: Term(term), stamp: Stamp(0), payload }
}

impl Network {
    pub(super) fn new(count: u64) -> Network {
        Network::with(count, |_| {})
    }

    pub(super) fn with(count: u64, tune: fn(&mut Config)) -> Network {
        let logs = vec![Vec::new(); count as usize];
        Network::with_logs(&logs, tune)
    }

    /// A new cluster with these members, which needs no number of nodes but theirs.
    pub(super) fn bootstrapped_with(initial_configuration: &Configuration) -> Network {
        let mut network = Network::with_logs(&[], |_| {});
        for &id in initial_configuration.members.keys() {
            network.create(id, Disk::default(), initial_configuration.clone());
        }
        network
    }

    /// Nodes whose logs have entries of these terms.
    pub(super) fn with_logs(logs: &[Vec<u64>], tune: fn(&mut Config)) -> Network {
        let count = logs.len() as u64;
        let mut network = Network {
            nodes: BTreeMap::new(),
            now: Time(1_000),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            delivered: 0,
            wall_began: 0,
            wall_errors: BTreeMap::new(),
            older: BTreeSet::new(),
            tune,
            lives: 0,
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
        };
        for (id, terms) in (1..).zip(logs) {
            let entries: Vec<Entry> =
                (1..).zip(terms).map(|(index, &term)| entry(index, term)).collect();
            let term = Term(terms.last().copied().unwrap_or(0));
            // A cluster of one never followed anybody.
            let promise = if entries.is_empty() || count == 1 { Duration::ZERO } else { PROMISE };
            let hard_state = HardState { term, promise, ..HardState::default() };
            let disk = Disk { hard_state, entries, ..Disk::default() };
            network.create(NodeId(id), disk, voters(count));
        }
        network
    }

    /// A node that waits to be added: it knows of no member.
    pub(super) fn join(&mut self, id: u64) {
        self.create(NodeId(id), Disk::default(), Configuration::default());
    }

    fn create(&mut self, id: NodeId, disk: Disk, initial_configuration: Configuration) {
        let core = self.boot(id, &disk, initial_configuration.clone());
        let node = Node {
            core,
            disk,
            is_down: false,
            is_disk_slow: false,
            writes: VecDeque::new(),
            installs: VecDeque::new(),
            part: None,
            fetches: 0,
            marks: Vec::new(),
            installed: 0,
            applied: Vec::new(),
            ready: Vec::new(),
            failed: Vec::new(),
            events: Vec::new(),
            holds: |_| false,
            held: VecDeque::new(),
            initial_configuration,
        };
        self.nodes.insert(id, node);
    }

    fn boot(&mut self, id: NodeId, disk: &Disk, initial_configuration: Configuration) -> Core {
        self.lives += 1;
        let mut config = Config::new(id);
        config.seed = self.lives;
        (self.tune)(&mut config);
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.size_bytes();
            bytes <= config.tail_bytes
        };
        let held = disk.entries.iter().filter(|entry| entry.index > disk.base);
        let mut tail: Vec<Entry> = held.rev().take_while(fits).cloned().collect();
        tail.reverse();
        let included = disk.snapshot_index();
        let configurations =
            disk.entries.iter().filter(|entry| entry.index > included).filter_map(|entry| {
                match &entry.payload {
                    Payload::Configuration(configuration) => {
                        Some((entry.index, (**configuration).clone()))
                    }
                    _ => None,
                }
            });
        let saved = Saved {
            hard_state: disk.hard_state,
            initial_configuration,
            snapshot: disk.snapshot.clone(),
            configurations: configurations.collect(),
            terms: disk.terms(),
            tail,
            commit: disk.commit,
            ..Saved::default()
        };
        Core::new(config, saved, self.clock_of(id)).unwrap()
    }

    pub(super) fn clock(&self) -> Now {
        Now { monotonic: self.now, wall: Stamp(self.wall_began + self.now.0 / 1_000_000) }
    }

    /// The clocks of a node.
    pub(super) fn clock_of(&self, id: NodeId) -> Now {
        let Now { monotonic, wall } = self.clock();
        let error = self.wall_errors.get(&id.0).copied().unwrap_or(0);
        Now { monotonic, wall: Stamp(wall.0.saturating_add_signed(error)) }
    }

    pub(super) fn core(&self, id: u64) -> &Core {
        &self.nodes[&NodeId(id)].core
    }

    pub(super) fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&NodeId(id)).unwrap()
    }

    /// Does something to a core, and then what it asks for.
    pub(super) fn with_core<R>(&mut self, id: u64, what: impl FnOnce(&mut Core, Now) -> R) -> R {
        let now = self.clock_of(NodeId(id));
        let result = what(&mut self.node(id).core, now);
        self.carry_out(NodeId(id));
        result
    }

    fn carry_out(&mut self, id: NodeId) {
        while let Some(action) = self.nodes.get_mut(&id).unwrap().core.poll() {
            let node = self.nodes.get_mut(&id).unwrap();
            if (node.holds)(&action) {
                node.held.push_back(action);
            } else {
                self.perform(id, action);
            }
        }
        self.check(id);
    }

    /// Carries out the oldest action that was held, and what follows from it.
    pub(super) fn release(&mut self, id: u64) {
        let action = self.node(id).held.pop_front().expect("an action that was held");
        self.perform(NodeId(id), action);
        self.carry_out(NodeId(id));
    }

    fn perform(&mut self, id: NodeId, action: Action) {
        let now = self.clock_of(id);
        let node = self.nodes.get_mut(&id).unwrap();
        match action {
            Action::Send(message) => self.wire.push_back(message),
            Action::Write(write) => node.writes.push_back(write),
            Action::Fetch(fetch) => {
                node.fetches += 1;
                let entries = read(&node.disk, &fetch);
                node.core.handle_done(now, Done::Fetched { id: fetch.id, entries });
            }
            Action::Apply(entries) => {
                let index = entries.last().unwrap().index;
                node.applied.extend(entries.iter().cloned());
                node.core.handle_done(now, Done::Applied { index });
            }
            Action::Restore(meta) => {
                let index = meta.index;
                node.applied =
                    self.committed.range(..=index).map(|(_, entry)| entry.clone()).collect();
                node.core.handle_done(now, Done::Applied { index });
            }
            Action::Compact { first } => node.disk.base = first.previous(),
            Action::MarkCommit { commit } => node.marks.push(commit),
            Action::ReadChunk(read) => {
                let chunk = read_chunk(&node.disk, read);
                node.core.handle_done(now, Done::ChunkRead { id: read.id, chunk });
            }
            Action::WriteChunk(WriteChunk { id, meta, chunk }) => {
                let received_bytes = node.write_chunk(*meta, &chunk);
                node.core.handle_done(now, Done::ChunkWritten { id, received_bytes });
            }
            Action::InstallSnapshot(InstallSnapshot { meta, sequence }) => {
                node.installs.push_back((*meta, sequence))
            }
            Action::ReadReady { id, index } => node.ready.push((id, index)),
            Action::ReadFailed { id } => node.failed.push(id),
            Action::Event(event) => node.events.push(event),
        }
    }

    /// A node's state machine writes a snapshot of what it has applied; false if the core wants
    /// none.
    pub(super) fn take_snapshot(&mut self, id: u64) -> bool {
        let node = self.node(id);
        let Some(last) = node.applied.last() else { return false };
        let Some(meta) = node.core.take_snapshot(last.index, last.stamp) else { return false };
        let index = meta.index;
        node.disk.snapshot = Some(meta);
        self.with_core(id, |core, now| core.handle_done(now, Done::SnapshotTaken { index }));
        true
    }

    /// Installs what has been received: the disk's part of it, in one step.
    fn finish_install(&mut self, id: u64) {
        let committed = self.committed.clone();
        let node = self.node(id);
        let (meta, _) = node.installs.pop_front().expect("an installation");
        let index = meta.index;
        let is_valid =
            node.part.take().is_some_and(|(of, bytes)| of == meta && bytes == file(index));
        if is_valid {
            let disk = &mut node.disk;
            let is_kept = disk.terms().term_at(index) == Some(meta.term);
            let suffix =
                if is_kept { disk.entries.split_off(index.0 as usize) } else { Vec::new() };
            disk.entries = committed.range(..=index).map(|(_, entry)| entry.clone()).collect();
            disk.entries.extend(suffix);
            (disk.base, disk.snapshot) = (index, Some(meta));
            node.installed += 1;
        }
        self.with_core(id, |core, now| {
            core.handle_done(now, Done::SnapshotInstalled { index, is_valid })
        });
    }

    /// Finishes the oldest write of a node.
    pub(super) fn finish_write(&mut self, id: u64) -> bool {
        let node = self.node(id);
        if let Some(&(_, sequence)) = node.installs.front()
            && node.writes.front().is_none_or(|write| write.sequence > sequence)
        {
            self.finish_install(id);
            return true;
        }
        let Some(write) = node.writes.pop_front() else { return false };
        let sequence = write.sequence;
        node.disk.apply(write);
        self.with_core(id, |core, now| core.handle_done(now, Done::Written { sequence }));
        true
    }

    /// Finishes all writes of nodes whose disks are not slow.
    fn finish_writes(&mut self) -> bool {
        let is_idle = |node: &Node| node.writes.is_empty() && node.installs.is_empty();
        let quick = |node: &&Node| !node.is_disk_slow && !node.is_down && !is_idle(node);
        let ids: Vec<u64> =
            self.nodes.values().filter(quick).map(|node| node.core.id().0).collect();
        ids.iter().for_each(|&id| while self.finish_write(id) {});
        !ids.is_empty()
    }

    pub(super) fn deliver(&mut self, mut message: Message) {
        let to = message.to;
        if self.older.contains(&message.from.0) {
            super::log_time::forget_wall(&mut message.body);
        }
        let is_cut = self.cut.contains(&(message.from, to));
        if !is_cut && self.nodes.get(&to).is_some_and(|node| !node.is_down) {
            self.delivered += 1;
            self.with_core(to.0, |core, now| core.handle_message(now, message));
        }
    }

    /// Delivers messages, in order, and finishes writes until there are none.
    pub(super) fn stabilize(&mut self) {
        for _ in 0..1_000_000 {
            if let Some(message) = self.wire.pop_front() {
                self.deliver(message);
            } else if !self.finish_writes() {
                return;
            }
        }
        panic!("the network never comes to rest");
    }

    /// Lets time pass, from one deadline to the next, everything settled in between.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        self.stabilize();
        loop {
            let up = self.nodes.values().filter(|node| !node.is_down);
            let next =
                up.filter_map(|node| Some((node.core.poll_timeout()?, node.core.id()))).min();
            let Some((deadline, id)) = next.filter(|&(deadline, _)| deadline <= end) else { break };
            self.now = self.now.max(deadline);
            self.with_core(id.0, |core, now| core.handle_timeout(now));
            let after = self.core(id.0).poll_timeout();
            assert!(
                after.is_none_or(|after| after > self.now),
                "node {id} would spin at {after:?}"
            );
            self.stabilize();
        }
        self.now = end;
    }

    /// Makes `id` campaign now. It has been polled since its start, as every driver does.
    pub(super) fn campaign(&mut self, id: u64) {
        self.carry_out(NodeId(id));
        let deadline = self.core(id).role_deadline().unwrap();
        self.now = self.now.max(deadline);
        self.with_core(id, |core, now| core.handle_timeout(now));
    }

    /// Lets time pass until there is a leader.
    pub(super) fn elect(&mut self) -> u64 {
        for _ in 0..100 {
            self.pass(Duration::from_millis(100));
            if let Some(leader) = self.leader() {
                return leader;
            }
        }
        panic!("nobody is elected");
    }

    /// The leader with the highest term.
    pub(super) fn leader(&self) -> Option<u64> {
        let up =
            self.nodes.values().filter(|node| !node.is_down && node.core.role() == Role::Leader);
        up.max_by_key(|node| node.core.term()).map(|node| node.core.id().0)
    }

    pub(super) fn propose(&mut self, id: u64, command: &str) -> Proposed {
        let command = Bytes::copy_from_slice(command.as_bytes());
        self.with_core(id, |core, now| core.propose(now, [command])).unwrap()
    }

    pub(super) fn isolate(&mut self, id: u64) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for other in ids {
            self.cut.insert((NodeId(id), other));
            self.cut.insert((other, NodeId(id)));
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Power fails: writes that are not done are lost. The machine waits to be restarted.
    pub(super) fn crash(&mut self, id: u64) {
        let node = self.node(id);
        node.writes.clear();
        node.installs.clear();
        node.held.clear();
        node.part = None;
        node.is_down = true;
    }

    pub(super) fn restart(&mut self, id: u64) {
        let (disk, initial_configuration) =
            (self.node(id).disk.clone(), self.node(id).initial_configuration.clone());
        let core = self.boot(NodeId(id), &disk, initial_configuration);
        let restored = self
            .committed
            .range(..=disk.snapshot_index())
            .map(|(_, entry)| entry.clone())
            .collect();
        let node = self.node(id);
        (node.core, node.is_down) = (core, false);
        node.applied = restored;
    }

    /// Terms of the log in memory, for comparison with a picture.
    pub(super) fn log_of(&self, id: u64) -> Vec<u64> {
        let terms = self.core(id).terms();
        (terms.base().0 + 1..=terms.last_index().0)
            .map(|index| terms.term_at(Index(index)).unwrap().0)
            .collect()
    }

    /// Figure 3.2, over all nodes, after a step of `id`.
    fn check(&mut self, id: NodeId) {
        let core = &self.nodes[&id].core;
        if core.is_leader() {
            let leader = *self.leaders.entry(core.term()).or_insert(id);
            assert_eq!(leader, id, "two leaders in term {}", core.term());
            for (index, committed) in &self.committed {
                let term = core.terms().term_at(*index);
                // Leader completeness, for leaders of later terms than the entry's.
                assert!(
                    term == Some(committed.term)
                        || core.term() < committed.term
                        || *index < core.terms().base(),
                    "leader {id} of term {} lacks committed entry {index}",
                    core.term()
                );
            }
        }
        let (base, included) =
            (core.terms().base(), core.snapshot().map_or(Index(0), |snapshot| snapshot.index));
        assert!(
            base <= included && included <= core.commit(),
            "{base} {included} {}",
            core.commit()
        );
        assert_eq!(included, self.nodes[&id].disk.snapshot_index());
        self.check_log_matching(id);
        self.check_applied(id);
    }

    fn check_log_matching(&self, id: NodeId) {
        let ours = self.nodes[&id].core.terms();
        for (other, node) in &self.nodes {
            let theirs = node.core.terms();
            let (mut index, mut has_met) = (ours.last_index().min(theirs.last_index()), false);
            while index > ours.base().max(theirs.base()) {
                let is_same = ours.term_at(index) == theirs.term_at(index);
                assert!(
                    is_same || !has_met,
                    "the logs of {id} and {other} differ at {index} below where they agree"
                );
                has_met |= is_same;
                index = index.previous();
            }
        }
    }

    /// The configuration as of `index`, and the later ones in anybody's log.
    fn configurations_after(
        &self,
        id: NodeId,
        index: Index,
    ) -> impl Iterator<Item = &Configuration> {
        let at = |entry: &Entry| entry.index;
        let configuration = |entry: &'_ Entry| matches!(entry.payload, Payload::Configuration(_));
        let own = &self.nodes[&id];
        let earlier =
            own.disk.entries.iter().rev().find(|entry| at(entry) <= index && configuration(entry));
        let of_snapshot = own
            .disk
            .snapshot
            .as_ref()
            .filter(|meta| meta.index <= index)
            .map(|meta| &meta.configuration);
        let first = earlier
            .and_then(of_entry)
            .or(of_snapshot)
            .unwrap_or(&self.nodes[&NodeId(1)].initial_configuration);
        let entries = self.nodes.values().flat_map(|node| &node.disk.entries);
        std::iter::once(first)
            .chain(entries.filter(move |entry| at(entry) > index).filter_map(of_entry))
    }

    fn check_applied(&mut self, id: NodeId) {
        let node = &self.nodes[&id];
        let mut applied = node.applied.iter();
        for (index, entry) in (1..).map(Index).zip(applied.by_ref()) {
            assert_eq!(entry.index, index, "node {id} applied out of order");
            if let Some(known) = self.committed.get(&index) {
                assert_eq!(known, entry, "node {id} applied something else at {index}");
                continue;
            }
            let on_disk = |node: &&Node| node.disk.entries.get(index.0 as usize - 1) == Some(entry);
            let copies: Vec<NodeId> =
                self.nodes.values().filter(on_disk).map(|node| node.core.id()).collect();
            // It was committed by the configuration that its leader had, which may be one that
            // follows it in the log.
            let is_decided = self
                .configurations_after(id, index)
                .any(|configuration| decides(configuration, &copies));
            assert!(is_decided, "entry {index} is applied with durable copies at {copies:?}");
            self.committed.insert(index, entry.clone());
        }
    }
}

/// Whether these nodes are a majority of each half.
fn decides(configuration: &Configuration, nodes: &[NodeId]) -> bool {
    let is_majority = |half: &BTreeSet<NodeId>| {
        nodes.iter().filter(|node| half.contains(node)).count() * 2 > half.len()
    };
    is_majority(&configuration.voters)
        && (configuration.outgoing.is_empty() || is_majority(&configuration.outgoing))
}

impl Node {
    fn write_chunk(&mut self, meta: SnapshotMeta, chunk: &Chunk) -> u64 {
        let (_, bytes) = match &mut self.part {
            Some(part) if part.0 == meta => part,
            other => other.insert((meta, Vec::new())),
        };
        if chunk.offset == bytes.len() as u64 {
            bytes.extend_from_slice(&chunk.data);
        }
        bytes.len() as u64
    }
}

fn of_entry(entry: &Entry) -> Option<&Configuration> {
    match &entry.payload {
        Payload::Configuration(configuration) => Some(configuration),
        _ => None,
    }
}

/// What stands for a snapshot's file: it differs from index to index, and so does its length.
pub(super) fn file(index: Index) -> Vec<u8> {
    (0..100 + index.0 * 7).map(|at| (at.wrapping_mul(31) ^ index.0) as u8).collect()
}

fn read_chunk(disk: &Disk, read: ReadChunk) -> Option<Chunk> {
    let ReadChunk { index, offset, limit_bytes, .. } = read;
    let file = (disk.snapshot_index() == index).then(|| file(index))?;
    let piece = &file[offset as usize..];
    let data = Bytes::copy_from_slice(&piece[..piece.len().min(limit_bytes)]);
    Some(Chunk { offset, total_bytes: file.len() as u64, data })
}

fn read(disk: &Disk, fetch: &Fetch) -> Vec<Entry> {
    if fetch.from <= disk.base {
        return Vec::new();
    }
    let mut bytes = 0;
    let wanted = &disk.entries[fetch.from.0 as usize - 1..fetch.to.0 as usize];
    let fits = |(position, entry): &(usize, &Entry)| {
        bytes += entry.size_bytes();
        *position == 0 || bytes <= fetch.limit_bytes
    };
    wanted.iter().enumerate().take_while(fits).map(|(_, entry)| entry.clone()).collect()
}
