//! One node: a replica, its state machine, its storage worker and its disk, over several lives.

use std::collections::VecDeque;

use super::disk::SimDisk;
use super::happening::Happening;
use super::kv::Kv;
use crate::replica::{Effect, Inline, Replica};
use crate::storage::{Job, StorageError, Worker};
use crate::types::{Now, SnapshotMeta, Stamp, Time};

/// A node and its machine.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) disk: SimDisk,
    /// Counts its lives.
    pub(super) life: u64,
    /// What lives, if it does.
    pub(super) running: Option<Running>,
    /// What happened while the process was stopped.
    pub(super) paused: Option<Vec<Happening>>,
    /// The power goes when this many more effects have been carried out.
    pub(super) effects_left: Option<u64>,
    pub(super) clock: Clock,
    /// The earliest timer in the queue.
    pub(super) timer_at: Option<Time>,
}

/// A process in one of its lives.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) replica: Replica,
    pub(super) machine: Inline<Kv>,
    pub(super) worker: Worker<SimDisk>,
    /// Jobs that the storage thread has not taken.
    pub(super) queued: VecDeque<Job>,
    /// Jobs that it works on.
    pub(super) taken: VecDeque<Job>,
    /// What the state machine's thread has not done.
    pub(super) to_apply: VecDeque<Effect>,
}

/// A machine's clocks: each with an origin of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Added to virtual time.
    pub(super) monotonic_offset: u64,
    /// The wall clock at virtual time 0, in milliseconds; jumps.
    pub(super) wall_offset: u64,
}

impl Clock {
    pub(super) fn now(self, virtual_time: Time) -> Now {
        Now {
            monotonic: Time(virtual_time.0 + self.monotonic_offset),
            wall: Stamp(virtual_time.0 / 1_000_000 + self.wall_offset),
        }
    }

    pub(super) fn to_virtual(self, monotonic: Time) -> Time {
        Time(monotonic.0.saturating_sub(self.monotonic_offset))
    }
}

impl Process {
    pub(super) fn new(disk: SimDisk, clock: Clock) -> Process {
        Process { disk, life: 0, running: None, paused: None, effects_left: None, clock, timer_at: None }
    }

    /// Alive and not stopped.
    pub(super) fn is_awake(&self) -> bool {
        self.running.is_some() && self.paused.is_none()
    }
}

impl Running {
    pub(super) fn new(replica: Replica, worker: Worker<SimDisk>) -> Running {
        Running {
            replica,
            machine: Inline::new(Kv::default()),
            worker,
            queued: VecDeque::new(),
            taken: VecDeque::new(),
            to_apply: VecDeque::new(),
        }
    }

    /// The state machine takes the state of the newest snapshot on this disk.
    pub(super) fn restore(&mut self, now: Now, meta: &SnapshotMeta) {
        let error = StorageError::Poisoned { cause: format!("the snapshot of {} cannot be read yet", meta.index) };
        self.replica.handle_storage_failure(now, &error);
    }

    /// Whether the storage thread has nothing to do.
    pub(super) fn is_storage_idle(&self) -> bool {
        self.queued.is_empty() && self.taken.is_empty()
    }

    /// The sequence of the last write that the storage thread works on.
    pub(super) fn last_taken(&self) -> Option<u64> {
        self.taken.iter().rev().find_map(|job| match job {
            Job::Write(write) => Some(write.sequence),
            _ => None,
        })
    }
}
