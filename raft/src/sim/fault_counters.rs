//! Counters of faults, counted where each has its effect: a kind of fault that is drawn and
//! changes nothing tests nothing.

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
    Partitioned = "network: two groups are parted",
    PartlyCut = "network: some directed pairs are cut",
    Deaf = "network: a node hears nothing",
    Mute = "network: a node is not heard",
    Late = "network: a node is not heard, and hears late",
    Alone = "network: a node is alone, with many writes",
    Cut = "message lost: its way is cut",
    Lost = "message lost by chance",
    Repeated = "message repeated",
    Straggled = "message late by up to three elections",
    HeldUp = "message held up on the way to a node that hears late",
    Overtaken = "message overtaken by a later one",
    Corrupted = "bytes changed on the way",
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
    Felled = "leader felled after its election",
    TimerLate = "timer late",
    ClockJumped = "wall clock jumped",
    ClockWrong = "wall clock a day wrong, for three seconds or for good",
    Drifting = "node whose clock runs wrong",
    SyncFailed = "sync failed",
    ReadFailed = "read failed (EIO)",
    WriteFailed = "write failed (EIO)",
    NoRoom = "no room on the disk (ENOSPC)",
    Stalled = "disk stalled for three elections",
    MachineSlow = "state machine slow, up to two elections a job",
    Backlogged = "leader over its backlog's bound, and nobody to hand over to",
    HandedOverBacklog = "leader over its backlog's bound handed over",
    LeaderLoading = "leader whose machine restores or replays, and nobody to hand over to",
    HandedOverLoading = "leader whose machine restores or replays handed over",
    UnappliedFull = "log that a sick state machine cannot apply over its quota",
    MachineFailing = "state machine refused an entry, or panicked",
    StateWrong = "state machine's state went wrong",
    StateFound = "a wrong state found by its digest",
    StateReplaced = "a wrong state replaced by a leader's snapshot",
    StateSpread = "a wrong state spread by a snapshot before it was found",
    SnapshotAsked = "snapshot that could not be read, and was asked for",
    Rotted = "bits rotted",
    Misdirected = "write misdirected",
    LostDisk = "node lost its disk's promises",
    MembersChanged = "operator: a change of members begun",
    JointBegun = "operator: a joint change begun",
    JointInterrupted = "operator: a joint change whose leader died",
    FeaturesEnabled = "operator: the feature level raised",
    LeaderUnvoted = "operator: a leader lost its vote",
    IdAskedAgain = "operator: an id that is gone asked for, and refused",
    TransferBegun = "operator: a transfer of leadership begun",
    Wiped = "operator: a disk wiped",
    TermOutOfRange = "message of a broken peer: a term that no cluster reaches",
    ForgotInReach = "disk put back, within reach of its leader",
    ForgotOutOfReach = "disk put back, its leader gone before it was told",
    ForgotWorse = "disk put back, without a promise that holds",
    CopyTurnedAway = "copy of a folder turned away",
    LossReported = "acknowledged writes lost, and reported",
    UnsettledSilent = "folders put back, and the nodes differ in the end without a report so far",
    LossSilent = "acknowledged writes lost, nobody left that knew",
}

/// How often each thing went wrong.
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

    /// How often each thing went wrong, in words, in a fixed order; also what never did.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.iter().copied().zip(self.0)
    }

    /// Counts what went wrong elsewhere, too.
    pub fn add(&mut self, other: &FaultCounters) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}
