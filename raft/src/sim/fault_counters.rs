//! Fault counters, incremented where a fault takes effect.
//!
//! A fault that is drawn and changes nothing tests nothing.

macro_rules! fault_counters {
    ($($name:ident = $words:literal,)*) => {
        /// A fault that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum FaultCounter {
            $($name),*
        }

        const NAMES: &[&str] = &[$($words),*];
    };
}

fault_counters! {
    Partitioned = "network: partitioned into two groups",
    LinksCut = "network: some directed links cut",
    ReceivesNothing = "network: a node receives nothing",
    SendsNothing = "network: a node's messages are lost",
    DelayedNode = "network: a node's messages are lost, and it receives late",
    Isolated = "network: a node is isolated, with many writes",
    Cut = "message lost: its link is cut",
    Lost = "message lost by chance",
    Repeated = "message repeated",
    Straggled = "message late by up to three elections",
    Delayed = "message delayed to a node that receives late",
    Overtaken = "message overtaken by a later one",
    Corrupted = "bytes changed in transit",
    Broken = "connection broken",
    TornAtSector = "power loss: a write torn at a sector's boundary",
    TornWithinSector = "power loss: a write torn within a sector",
    WriteLost = "power loss: an unsynced write lost",
    EarlierWriteLost = "power loss: an unsynced write lost, a later one kept",
    NameLost = "power loss: a new or removed name lost",
    RenameLost = "power loss: a rename lost",
    PowerLost = "power lost while a process ran",
    PowerLostDown = "power lost while no process ran",
    PowerLostAmidEffects = "power lost between two effects",
    PowerLostAmidCalls = "power lost between two calls of the storage thread",
    DiedInBatch = "process died within a batch of the storage thread",
    DiedOpening = "process died while it opened its log",
    Killed = "process killed",
    Paused = "process paused",
    LeaderFailed = "leader failed after its election",
    TimerLate = "timer late",
    ClockJumped = "wall clock jumped",
    ClockWrong = "wall clock a day wrong, for three seconds or permanently",
    Drifting = "node whose clock drifts",
    SyncFailed = "sync failed",
    ReadFailed = "read failed (EIO)",
    WriteFailed = "write failed (EIO)",
    NoRoom = "no room on the disk (ENOSPC)",
    Stalled = "disk stalled for three elections",
    MachineSlow = "state machine slow, up to two elections a job",
    Backlogged = "leader over its backlog's bound, and no node to hand over to",
    HandedOverBacklog = "leader over its backlog's bound handed over",
    LeaderLoading = "leader whose machine restores or replays, and no node to hand over to",
    HandedOverLoading = "leader whose machine restores or replays handed over",
    UnappliedFull = "quota exceeded by the log that a failed state machine cannot apply",
    MachineFailed = "state machine returned an error or panicked",
    StateCorrupted = "state machine's state corrupted",
    StateFound = "a corrupted state found by its digest",
    StateReplaced = "a corrupted state replaced by a leader's snapshot",
    StateSpread = "a corrupted state spread by a snapshot before it was found",
    SnapshotRequested = "unreadable snapshot, and another one requested",
    Rotted = "bits rotted",
    Misdirected = "write misdirected",
    LostDisk = "node lost: its disk is damaged",
    MembersChanged = "operator: a membership change begun",
    JointBegun = "operator: a joint change begun",
    JointInterrupted = "operator: a joint change whose leader died",
    FeaturesEnabled = "operator: the feature level raised",
    LeaderDemoted = "operator: a leader lost its vote",
    UsedIdRequested = "operator: a used id requested, and refused",
    TransferBegun = "operator: a leadership transfer begun",
    Wiped = "operator: a disk wiped",
    TermOutOfRange = "message of a broken peer: a term that no cluster reaches",
    ForgotInReach = "disk put back, within reach of its leader",
    ForgotOutOfReach = "disk put back, its leader gone before the report",
    ForgotBeyondTolerance = "disk put back, beyond what Raft tolerates",
    CopyRejected = "copy of a folder rejected",
    LossReported = "acknowledged writes lost, and reported",
    UnsettledSilent = "folders put back, and the nodes differ at the end without a report",
    LossSilent = "acknowledged writes lost, and no remaining node knew",
}

/// The number of faults of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultCounters([u64; NAMES.len()]);

impl Default for FaultCounters {
    fn default() -> FaultCounters {
        FaultCounters([0; NAMES.len()])
    }
}

impl FaultCounters {
    pub(super) fn count(&mut self, counter: FaultCounter) {
        self.0[counter as usize] += 1;
    }

    pub(super) fn count_of(&self, counter: FaultCounter) -> u64 {
        self.0[counter as usize]
    }

    /// The description and number of each fault, in a fixed order, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.iter().copied().zip(self.0)
    }

    /// Adds the counters of another run or component.
    pub fn add(&mut self, other: &FaultCounters) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}
