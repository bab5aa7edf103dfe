//! raft-rs 0.7, with its default codec, whose entries hold `Bytes`.
//!
//! Its storage takes entries by value, where its own `MemStorage` copies them under a lock.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use raft::eraftpb::{ConfState, Entry, HardState, Message, MessageType, Snapshot};
use raft::storage::{GetEntriesContext, RaftState, Storage};
use raft::{Config, RawNode, StateRole, StorageError};
use slog::{Discard, Logger, o};

use super::{Applied, Cluster, IdleGroups, MAX_STORED_BYTES, NODES};

/// How commands are proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proposals {
    /// As the documentation of raft-rs shows.
    OneByOne,
    /// The same with the setting `batch_append`.
    BatchAppend,
    /// A whole batch as one message of proposals.
    OneMessage,
}

#[derive(Default)]
struct Log {
    hard_state: HardState,
    /// The index and term before the first entry.
    base: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Clone, Default)]
struct Disk(Rc<RefCell<Log>>);

impl Disk {
    fn append(&self, entries: Vec<Entry>) {
        let mut log = self.0.borrow_mut();
        if let Some(first) = entries.first() {
            let keep = (first.index - log.base.0 - 1) as usize;
            log.entries.truncate(keep);
        }
        log.bytes += entries.iter().map(|entry| 32 + entry.data.len()).sum::<usize>();
        log.entries.extend(entries);
    }

    /// Drops the entries that every node has applied.
    fn drop_applied(&self, applied: u64) {
        let mut log = self.0.borrow_mut();
        while log.entries.front().is_some_and(|entry| entry.index < applied) {
            let entry = log.entries.pop_front().expect("there is one");
            log.base = (entry.index, entry.term);
        }
        log.bytes = 0;
    }
}

impl Storage for Disk {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let conf_state = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
        Ok(RaftState::new(self.0.borrow().hard_state.clone(), conf_state))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let log = self.0.borrow();
        if low <= log.base.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let (from, to) = ((low - log.base.0 - 1) as usize, (high - log.base.0 - 1) as usize);
        let mut entries: Vec<Entry> = log.entries.range(from..to).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let log = self.0.borrow();
        if index == log.base.0 {
            return Ok(log.base.1);
        }
        let index =
            index.checked_sub(log.base.0 + 1).ok_or(raft::Error::Store(StorageError::Compacted))?;
        let entry = log.entries.get(index as usize);
        entry.map(|entry| entry.term).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.0.borrow().base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        let log = self.0.borrow();
        Ok(log.base.0 + log.entries.len() as u64)
    }

    fn snapshot(&self, _: u64, _: u64) -> raft::Result<Snapshot> {
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

struct Node {
    raw: RawNode<Disk>,
    disk: Disk,
    applied: Applied,
}

pub(crate) struct RaftRs {
    nodes: [Node; NODES],
    in_flight: VecDeque<Message>,
    proposals: Proposals,
}

impl RaftRs {
    pub(crate) fn new(proposals: Proposals) -> RaftRs {
        let logger = Logger::root(Discard, o!());
        let nodes = [1, 2, 3].map(|id| {
            let config = Config {
                id,
                election_tick: 10,
                heartbeat_tick: 1,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 256,
                check_quorum: true,
                pre_vote: true,
                batch_append: proposals == Proposals::BatchAppend,
                ..Config::default()
            };
            let disk = Disk::default();
            let raw = RawNode::new(&config, disk.clone(), &logger).expect("valid settings");
            Node { raw, disk, applied: Applied::default() }
        });
        let mut cluster = RaftRs { nodes, in_flight: VecDeque::new(), proposals };
        cluster.nodes[0].raw.campaign().expect("a voter can campaign");
        cluster.execute_actions(0);
        cluster.run_until_quiet();
        assert!(cluster.nodes[0].raw.raft.state == StateRole::Leader);
        cluster
    }

    fn run_until_quiet(&mut self) {
        while let Some(message) = self.in_flight.pop_front() {
            let index = message.to as usize - 1;
            self.nodes[index].raw.step(message).expect("a valid message");
            while let Some(message) =
                self.in_flight.pop_front_if(|next| next.to as usize - 1 == index)
            {
                self.nodes[index].raw.step(message).expect("a valid message");
            }
            self.execute_actions(index);
        }
    }

    fn execute_actions(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        while node.raw.has_ready() {
            let mut ready = node.raw.ready();
            self.in_flight.extend(ready.take_messages());
            apply(&mut node.applied, ready.take_committed_entries());
            node.disk.append(ready.take_entries());
            if let Some(hard_state) = ready.hs() {
                node.disk.0.borrow_mut().hard_state = hard_state.clone();
            }
            self.in_flight.extend(ready.take_persisted_messages());
            let mut light = node.raw.advance(ready);
            if let Some(commit) = light.commit_index() {
                node.disk.0.borrow_mut().hard_state.commit = commit;
            }
            self.in_flight.extend(light.take_messages());
            apply(&mut node.applied, light.take_committed_entries());
            node.raw.advance_apply();
        }
    }
}

fn apply(applied: &mut Applied, entries: Vec<Entry>) {
    for entry in &entries {
        if !entry.data.is_empty() {
            applied.apply(&entry.data);
        }
    }
}

impl Cluster for RaftRs {
    fn commit(&mut self, commands: Vec<Vec<u8>>) {
        let leader = &mut self.nodes[0].raw;
        if self.proposals == Proposals::OneMessage {
            let mut message = Message { from: 1, ..Message::default() };
            message.set_msg_type(MessageType::MsgPropose);
            let entry = |data: Vec<u8>| Entry { data: data.into(), ..Entry::default() };
            message.set_entries(commands.into_iter().map(entry).collect::<Vec<_>>().into());
            leader.step(message).expect("the leader accepts them");
        } else {
            for command in commands {
                leader.propose(Vec::new(), command).expect("the leader accepts it");
            }
        }
        self.execute_actions(0);
        self.run_until_quiet();
        if self.nodes[0].disk.0.borrow().bytes > MAX_STORED_BYTES {
            for node in &self.nodes {
                node.disk.drop_applied(node.raw.raft.raft_log.applied);
            }
        }
    }

    fn applied(&self) -> [usize; NODES] {
        self.nodes.each_ref().map(|node| node.applied.commands)
    }
}

pub(crate) struct IdleRaftRs(Vec<RaftRs>);

impl IdleRaftRs {
    pub(crate) fn new(groups: usize) -> IdleRaftRs {
        IdleRaftRs((0..groups).map(|_| RaftRs::new(Proposals::OneByOne)).collect())
    }
}

impl IdleGroups for IdleRaftRs {
    /// A tick for every node. With `heartbeat_tick` 1 every tick is a heartbeat.
    fn heartbeat_round(&mut self) {
        for group in &mut self.0 {
            for index in [1, 2, 0] {
                group.nodes[index].raw.tick();
                group.execute_actions(index);
            }
            group.run_until_quiet();
        }
    }

    fn follower_tick(&mut self) -> Option<()> {
        for group in &mut self.0 {
            group.nodes[1].raw.tick();
        }
        Some(())
    }
}
