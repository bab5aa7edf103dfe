//! One node over several starts: its replica, state machine, storage worker and disk.

use std::collections::{BTreeMap, VecDeque};

use super::clock::Clock;
use super::disk::SimDisk;
use super::event::SimEvent;
use super::kv::Kv;
use crate::replica::peer_records::PeerRecords;
use crate::replica::{MachineJob, MachineRunner, Replica};
use crate::storage::{Job, Worker};
use crate::types::{Index, Life, LogPosition, SnapshotMeta, Term, Time};

/// A node and its machine.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) disk: SimDisk,
    /// The disk is lost, so the node must never start again.
    pub(super) is_lost: bool,
    /// The disk has been damaged.
    pub(super) is_damaged: bool,
    /// Whether the last configuration that came into force here was joint.
    pub(super) was_joint: bool,
    /// The last term in which it led.
    pub(super) last_led: Term,
    /// The number of its starts.
    pub(super) life: u64,
    /// The process, if it runs.
    pub(super) running: Option<Running>,
    /// The events that are held while the process is paused.
    pub(super) paused: Option<Vec<SimEvent>>,
    /// The power fails after this many more effects.
    pub(super) effects_left: Option<u64>,
    pub(super) clock: Clock,
    /// The earliest timer in the queue.
    pub(super) timer_at: Option<Time>,
    /// The state machine is slow until this time.
    pub(super) machine_slow_until: Time,
    /// The state is corrupted since this entry or an earlier one.
    pub(super) corrupted_since: Option<Index>,
}

/// The life that began with the opening of a log, and how far the log was durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnLife {
    pub(super) life: Life,
    pub(super) position: Option<LogPosition>,
}

/// A running process.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) replica: Replica,
    pub(super) machine: MachineRunner<Kv>,
    pub(super) worker: Worker<SimDisk>,
    /// Its records of other nodes' disks.
    pub(super) peer_records: PeerRecords,
    /// The life of each peer at the last handshake with it.
    pub(super) met_lives: BTreeMap<usize, u64>,
    /// Its life and durable position, for handshakes.
    pub(super) life: Life,
    pub(super) position: Option<LogPosition>,
    /// Jobs that the storage thread has not taken.
    pub(super) queued: VecDeque<Job>,
    /// Jobs that the storage thread works on.
    pub(super) taken: VecDeque<Job>,
    /// The storage thread has jobs, or is scheduled to look for some.
    pub(super) is_storage_busy: bool,
    /// A snapshot is being written, or a segment's file preallocated, in slices.
    pub(super) is_taking: bool,
    /// Jobs that the state machine's thread has not done.
    pub(super) to_apply: VecDeque<MachineJob>,
    /// The state machine's thread is scheduled to do jobs.
    pub(super) is_machine_busy: bool,
}

impl Process {
    pub(super) fn new(disk: SimDisk, clock: Clock) -> Process {
        Process {
            disk,
            is_lost: false,
            is_damaged: false,
            was_joint: false,
            last_led: Term(0),
            life: 0,
            running: None,
            paused: None,
            effects_left: None,
            clock,
            timer_at: None,
            machine_slow_until: Time(0),
            corrupted_since: None,
        }
    }

    /// Whether the process runs and is not paused.
    pub(super) fn is_awake(&self) -> bool {
        self.running.is_some() && self.paused.is_none()
    }
}

impl Running {
    pub(super) fn new(
        replica: Replica,
        worker: Worker<SimDisk>,
        own: OwnLife,
        peer_records: PeerRecords,
    ) -> Running {
        Running {
            replica,
            machine: MachineRunner::new(Kv::default()),
            worker,
            peer_records,
            met_lives: BTreeMap::new(),
            life: own.life,
            position: own.position,
            queued: VecDeque::new(),
            taken: VecDeque::new(),
            is_storage_busy: false,
            is_taking: false,
            to_apply: VecDeque::new(),
            is_machine_busy: false,
        }
    }

    /// The sequences of the writes and installations that the storage thread works on, in order;
    /// with each installation its snapshot.
    pub(super) fn sequences_taken(&self) -> Vec<(u64, Option<SnapshotMeta>)> {
        let change = |job: &Job| match job {
            Job::Write(write) => Some((write.sequence, None)),
            Job::InstallSnapshot(install) => {
                Some((install.sequence, Some(SnapshotMeta::clone(&install.meta))))
            }
            _ => None,
        };
        self.taken.iter().filter_map(change).collect()
    }
}
