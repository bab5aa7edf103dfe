//! What a run is told besides its seed, and what the seed makes of it.

use std::time::Duration;

use super::clock::MOST_DRIFT;
use super::digests::DigestPlan;
use super::forgetting::ForgettingPlan;
use super::machines::MachinePlan;
use super::mutant::Mutant;
use super::random::Random;
use crate::core::{ElectionTimeout, Lease};
use crate::replica::Limits;
use crate::types::{FeatureLevel, Proposal};
use crate::wire::Version;

/// The largest request, in bytes, besides its padding: one that adds a member to the cluster.
pub(super) const REQUEST_BYTES: usize = 80;

/// What a run is told besides its seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many events happen while there are faults, at most. Default 1 500.
    pub faulty_steps: u64,
    /// How many events happen after the faults, at most; a cluster that has not converged by then
    /// has failed. Default 200 000.
    pub calm_steps: u64,
    /// Whether the simulator looks at what no client and no other node could see: the disks.
    /// Without it only Raft's own invariants and the clients' experience can show a fault. Default
    /// true.
    pub looks_at_disks: bool,
    /// A fault built in on purpose, to see that the checks find it. Default none.
    pub mutant: Option<Mutant>,
}

impl Default for Options {
    fn default() -> Options {
        Options { faulty_steps: 1_500, calm_steps: 200_000, looks_at_disks: true, mutant: None }
    }
}

/// What the seed decides before anything happens. Every kind of fault is absent in many runs, so
/// that the others have room to unfold (Groce et al., "Swarm testing", 2012).
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The feature level at which the cluster is founded. At the base level nodes speak the oldest
    /// wire version.
    pub(super) feature_level: FeatureLevel,
    pub(super) wire: Version,
    pub(super) nodes: usize,
    pub(super) election_timeout: ElectionTimeout,
    pub(super) heartbeat_interval: Duration,
    pub(super) request_timeout: Duration,
    pub(super) network: NetworkPlan,
    pub(super) disk_latency: (Duration, Duration),
    /// How often, in ten thousand, the disk takes longer than an election timeout.
    pub(super) disk_stall: u32,
    /// How long the storage thread is idle, at most, before it marks the log.
    pub(super) idle_pause: Duration,
    /// How much too fast or too slow a clock may run, in millionths.
    pub(super) drift: u64,
    /// How late a timer may fire.
    pub(super) timer_delay: Duration,
    /// Whether the state machine runs beside the replica, and how slowly.
    pub(super) apply_delay: Option<(Duration, Duration)>,
    pub(super) segment_bytes: u64,
    pub(super) tail_bytes: usize,
    pub(super) message_bytes: usize,
    pub(super) in_flight_messages: usize,
    pub(super) in_flight_bytes: usize,
    pub(super) uncommitted_bytes: usize,
    pub(super) applying_bytes: usize,
    pub(super) snapshot_chunk_bytes: usize,
    pub(super) snapshot_chunks: usize,
    pub(super) retained_snapshots: usize,
    /// How many bytes of nothing each command carries, so that logs grow.
    pub(super) padding: usize,
    pub(super) pending_reads: usize,
    pub(super) limits: Limits,
    pub(super) clients: usize,
    /// How many requests a client has under way.
    pub(super) window: usize,
    pub(super) think: (Duration, Duration),
    pub(super) keys: u64,
    /// How many of the requests are reads, in ten thousand.
    pub(super) reads: u32,
    /// Leaders fall at most so long after their election.
    pub(super) falls_within: Option<Duration>,
    pub(super) fault_interval: (Duration, Duration),
    pub(super) faults: Vec<FaultKind>,
    /// How clients reach the state machine.
    pub(super) access: AccessPlan,
    /// Whether members change, and how.
    pub(super) churn: Option<ChurnPlan>,
    /// What goes wrong with state machines, if anything does.
    pub(super) machines: Option<MachinePlan>,
    /// How disks forget, if any does.
    pub(super) forgetting: Option<ForgettingPlan>,
    /// Whether a state machine's state may go wrong.
    pub(super) digests: Option<DigestPlan>,
}

/// How clients reach the state machine (`access`).
#[derive(Clone, Debug)]
pub(super) struct AccessPlan {
    /// The bound on clocks that the cores are told.
    pub(super) lease: Option<Lease>,
    /// Clocks run worse than that.
    pub(super) is_beyond: bool,
    /// Nodes have election timeouts of their own, other ones in each life, which follow from this.
    pub(super) unequal_timeouts: Option<u64>,
    /// Nodes differ in whether they want leases, and each of their lives may: it follows from this.
    pub(super) mixed_leases: Option<u64>,
    /// Every clock is as much off as any may be, one way or the other.
    pub(super) has_worst_clocks: bool,
    /// How many of the reads are stale ones, in ten thousand.
    pub(super) stale_reads: u32,
    /// How many of the others are lease reads, in ten thousand.
    pub(super) lease_reads: u32,
    /// So many of the clients have sessions.
    pub(super) with_sessions: usize,
    /// How long a session lives.
    pub(super) ttl_ms: u64,
    /// How often, in ten thousand, a client asks again before it is told anything.
    pub(super) impatience: u32,
    /// How often, in ten thousand, a client closes its session.
    pub(super) closes: u32,
}

impl AccessPlan {
    /// Neither sessions nor leases.
    pub(super) fn none() -> AccessPlan {
        AccessPlan {
            lease: None,
            is_beyond: false,
            unequal_timeouts: None,
            mixed_leases: None,
            has_worst_clocks: false,
            stale_reads: 0,
            lease_reads: 0,
            with_sessions: 0,
            ttl_ms: 0,
            impatience: 0,
            closes: 0,
        }
    }
}

/// What the operator of a run is like (`churn`).
#[derive(Clone, Debug)]
pub(super) struct ChurnPlan {
    /// The places of the founders come first.
    pub(super) founders: usize,
    pub(super) interval: (Duration, Duration),
    /// How often, in ten thousand, it moves leadership instead of members.
    pub(super) transfers: u32,
    pub(super) wipes: bool,
    pub(super) promotion_lag: u64,
    /// The operator takes all votes but one away, and gives the leader's back at once; and who
    /// votes alone by its own log is soon started again.
    pub(super) shrinks: bool,
}

/// How the network treats messages.
#[derive(Clone, Debug)]
pub(super) struct NetworkPlan {
    pub(super) delay: (Duration, Duration),
    /// How often a message takes longer than an election, in ten thousand.
    pub(super) straggling: u32,
    /// How long it takes then, at most.
    pub(super) straggles: Duration,
    /// In ten thousand.
    pub(super) loss: u32,
    /// In ten thousand.
    pub(super) duplication: u32,
    /// How often bytes change on the way, in ten thousand.
    pub(super) corruption: u32,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// Two groups cannot hear each other.
    Partition,
    /// Some directed pairs lose everything.
    CutLinks,
    /// A node hears nothing, or is not heard.
    Deaf,
    /// A node is not heard, and what it hears comes late: the others may have chosen another leader
    /// before it hears the last answers to what it said.
    Late,
    /// A node is alone for long, and clients who do not know it ask it for many writes.
    Alone,
    /// Connections break; nothing else.
    BreakLink,
    /// A process dies; what it wrote stays in the kernel's memory.
    Kill,
    /// A machine loses power: what was not synced may be gone.
    PowerLoss,
    /// All machines lose power at once.
    Blackout,
    /// The machine loses power between two of the next effects.
    PowerLossAmidEffects,
    /// The machine loses power between two of the next calls to its disk.
    PowerLossAmidCalls,
    /// A process stops for a while and goes on.
    Pause,
    /// A sync fails.
    SyncFails,
    /// A read or a write fails.
    CallFails,
    /// There is no room on a disk for a while.
    DiskFull,
    /// Bits turn over in what was synced.
    Rot,
    /// A drive puts a write where it does not belong.
    Misdirect,
    /// A wall clock jumps.
    ClockJump,
}

const ALL_FAULTS: [FaultKind; 18] = [
    FaultKind::Partition,
    FaultKind::CutLinks,
    FaultKind::Deaf,
    FaultKind::Late,
    FaultKind::Alone,
    FaultKind::BreakLink,
    FaultKind::Kill,
    FaultKind::PowerLoss,
    FaultKind::Blackout,
    FaultKind::PowerLossAmidEffects,
    FaultKind::PowerLossAmidCalls,
    FaultKind::Pause,
    FaultKind::SyncFails,
    FaultKind::CallFails,
    FaultKind::DiskFull,
    FaultKind::Rot,
    FaultKind::Misdirect,
    FaultKind::ClockJump,
];

impl Plan {
    pub(super) fn draw(random: &mut Random) -> Plan {
        let millis = Duration::from_millis;
        let micros = Duration::from_micros;
        let shorter = random.between(80, 300);
        let election_timeout = ElectionTimeout::new(
            millis(shorter),
            millis(shorter + random.between(shorter / 2, shorter * 2)),
        );
        let disk_high = random.pick(&[100, 500, 2_000, 10_000]);
        let think_high = random.pick(&[5, 50, 300]);
        let fault_high = random.pick(&[60, 200, 600]);
        let padding = random.pick(&[0, 0, 300]);
        Plan {
            feature_level: FeatureLevel::CURRENT,
            wire: Version::NEWEST,
            nodes: random.pick(&[1, 2, 3, 3, 3, 4, 5, 5, 7]),
            election_timeout,
            heartbeat_interval: millis(shorter / random.pick(&[2, 3, 5])),
            request_timeout: millis(random.between(100, 1_500)),
            network: NetworkPlan::draw(random, election_timeout.max * 3),
            disk_latency: (micros(20), micros(disk_high)),
            disk_stall: random.pick(&[0, 0, 0, 20]),
            idle_pause: millis(random.pick(&[1, 300])),
            drift: random.pick(&[0, 50, MOST_DRIFT]),
            timer_delay: micros(random.pick(&[0, 100, 20_000])),
            apply_delay: random
                .chance(5_000)
                .then(|| (micros(1), micros(random.pick(&[100, 20_000])))),
            segment_bytes: random.pick(&[1_024, 4_096, 16_384]),
            tail_bytes: random.pick(&[1, 300, 2_000, 1 << 20]),
            message_bytes: random.pick(&[1, 200, 1 << 20]),
            in_flight_messages: random.pick(&[1, 2, 256]),
            in_flight_bytes: random.pick(&[1, 500, 1 << 20]),
            uncommitted_bytes: random
                .pick(&[REQUEST_BYTES + Proposal::OVERHEAD_BYTES + padding, 1 << 20]),
            snapshot_chunk_bytes: random.pick(&[16, 100, 1 << 20]),
            snapshot_chunks: random.pick(&[1, 4]),
            retained_snapshots: random.pick(&[1, 2, 8]),
            padding,
            applying_bytes: random.pick(&[1, 200, 1 << 20]),
            pending_reads: random.pick(&[1, 1 << 16]),
            limits: Limits {
                pending_requests: random.pick(&[3, 1 << 16]),
                forwarded_requests: random.pick(&[1, 1 << 16]),
                request_bytes: REQUEST_BYTES + padding,
                snapshot_every_bytes: random.pick(&[100, 1_000, 1_000, 1 << 30]),
                batch_bytes: random.pick(&[1, 1 << 20]),
                ..Limits::default()
            },
            clients: random.between(1, 4) as usize,
            window: random.pick(&[1, 1, 4]),
            think: (micros(100), millis(think_high)),
            keys: random.between(1, 5),
            reads: random.pick(&[2_500, 2_500, 8_000]),
            falls_within: random.chance(2_500).then(|| millis(random.pick(&[1, 10, 100]))),
            fault_interval: (millis(1), millis(fault_high)),
            faults: Plan::draw_faults(random),
            access: AccessPlan::none(),
            churn: None,
            machines: None,
            forgetting: None,
            digests: None,
        }
    }

    fn draw_faults(random: &mut Random) -> Vec<FaultKind> {
        // What damages a disk takes a node away for the rest of the run.
        let chance = |kind| {
            if matches!(kind, FaultKind::Rot | FaultKind::Misdirect) { 1_000 } else { 4_000 }
        };
        ALL_FAULTS.into_iter().filter(|&kind| random.chance(chance(kind))).collect()
    }
}

impl NetworkPlan {
    fn draw(random: &mut Random, straggles: Duration) -> NetworkPlan {
        let high = random.pick(&[1, 5, 30, 120]);
        NetworkPlan {
            delay: (Duration::from_micros(50), Duration::from_millis(high)),
            straggling: random.pick(&[0, 0, 50, 500]),
            straggles,
            loss: random.pick(&[0, 0, 100, 500, 2_000]),
            duplication: random.pick(&[0, 0, 100, 1_000]),
            corruption: random.pick(&[0, 0, 0, 50]),
        }
    }

    /// A network that keeps everything.
    pub(super) fn calm() -> NetworkPlan {
        NetworkPlan {
            delay: (Duration::from_micros(50), Duration::from_millis(2)),
            straggling: 0,
            straggles: Duration::ZERO,
            loss: 0,
            duplication: 0,
            corruption: 0,
        }
    }
}
