//! One node: a replica, its state machine, its storage worker and its disk, over several lives.

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
    /// What the disk had promised is gone: the node never starts again.
    pub(super) is_lost: bool,
    /// The disk has been damaged.
    pub(super) is_damaged: bool,
    /// The configuration that came into force here last was a joint one.
    pub(super) was_joint: bool,
    /// The last term that it led.
    pub(super) led: Term,
    /// Counts its lives.
    pub(super) life: u64,
    /// What lives, if it does.
    pub(super) running: Option<Running>,
    /// What happened while the process was stopped.
    pub(super) paused: Option<Vec<SimEvent>>,
    /// The power goes when this many more effects have been carried out.
    pub(super) effects_left: Option<u64>,
    pub(super) clock: Clock,
    /// The earliest timer in the queue.
    pub(super) timer_at: Option<Time>,
    /// Until then its state machine takes long for everything.
    pub(super) machine_slow_until: Time,
    /// Its state is wrong, as of this entry or an earlier one.
    pub(super) wrong_since: Option<Index>,
}

/// What a log says of the life that begins with its opening.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnLife {
    pub(super) life: Life,
    pub(super) position: Option<LogPosition>,
}

/// A process in one of its lives.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) replica: Replica,
    pub(super) machine: MachineRunner<Kv>,
    pub(super) worker: Worker<SimDisk>,
    /// What it remembers of the lives of others' disks, and in which of its lives it has met each,
    /// by place.
    pub(super) peer_records: PeerRecords,
    pub(super) met: BTreeMap<usize, u64>,
    /// What it says of itself when it meets others.
    pub(super) life: Life,
    pub(super) position: Option<LogPosition>,
    /// Jobs that the storage thread has not taken.
    pub(super) queued: VecDeque<Job>,
    /// Jobs that it works on.
    pub(super) taken: VecDeque<Job>,
    /// The storage thread has something to do, or is about to look.
    pub(super) is_storage_busy: bool,
    /// A snapshot is being written, or a segment's file made ready, a slice at a time.
    pub(super) is_taking: bool,
    /// What the state machine's thread has not done.
    pub(super) to_apply: VecDeque<MachineJob>,
    /// It is about to do some of it.
    pub(super) is_machine_busy: bool,
}

impl Process {
    pub(super) fn new(disk: SimDisk, clock: Clock) -> Process {
        Process {
            disk,
            is_lost: false,
            is_damaged: false,
            was_joint: false,
            led: Term(0),
            life: 0,
            running: None,
            paused: None,
            effects_left: None,
            clock,
            timer_at: None,
            machine_slow_until: Time(0),
            wrong_since: None,
        }
    }

    /// Alive and not stopped.
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
            met: BTreeMap::new(),
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

    /// The numbers of the changes that the storage thread works on, in their order; with each
    /// installation its snapshot.
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
