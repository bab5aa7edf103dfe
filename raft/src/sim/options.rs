//! The options of a run, and the plan that its seed draws.

use std::time::Duration;

use super::amnesia::AmnesiaPlan;
use super::clock::MOST_DRIFT;
use super::machines::MachinePlan;
use super::mutant::Mutant;
use super::random::{DurationRange, Random};
use super::state_faults::StateFaultPlan;
use crate::core::{ElectionTimeout, Lease};
use crate::replica::Limits;
use crate::setters::setters;
use crate::types::{FeatureLevel, Proposal};
use crate::wire::Version;

/// The largest request, in bytes, besides its padding: one that adds a member to the cluster.
pub(super) const REQUEST_BYTES: usize = 80;

/// The options of a run, besides its seed.
///
/// ```
/// use kodiak_raft::sim::Options;
///
/// let options = Options::default().faulty_steps(500).checks_disks(false);
/// # assert_eq!(options.faulty_steps, 500);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The most events while there are faults. Default 1 500.
    pub faulty_steps: u64,
    /// The most events after the faults. A cluster that has not converged by then has failed.
    /// Default 200 000.
    pub convergence_steps: u64,
    /// Whether the simulator also checks the contents of the disks, which no client and no other
    /// node can see. Without it only Raft's own invariants and the answers to clients are checked.
    /// Default true.
    pub checks_disks: bool,
    /// A fault planted to test the checks. Default none.
    pub mutant: Option<Mutant>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            faulty_steps: 1_500,
            convergence_steps: 200_000,
            checks_disks: true,
            mutant: None,
        }
    }
}

setters!(Options {
    faulty_steps: u64,
    convergence_steps: u64,
    checks_disks: bool,
    mutant: Option<Mutant>,
});

/// The plan of a run, which the seed decides before the first event.
///
/// Every kind of fault is absent in many runs, so that the others can take full effect (Groce et
/// al., "Swarm testing", 2012).
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The feature level at which the cluster is bootstrapped. At the base level nodes use the
    /// oldest wire version.
    pub(super) feature_level: FeatureLevel,
    pub(super) wire: Version,
    pub(super) nodes: usize,
    pub(super) election_timeout: ElectionTimeout,
    pub(super) heartbeat_interval: Duration,
    pub(super) request_timeout: Duration,
    pub(super) network: NetworkPlan,
    pub(super) disk_latency: DurationRange,
    /// The chance, in ten thousand, that the disk stalls for longer than an election timeout.
    pub(super) disk_stall: u32,
    /// The longest time that the storage thread is idle before it marks the log.
    pub(super) idle_pause: Duration,
    /// The most that a clock runs too fast or too slow, in millionths.
    pub(super) drift: u64,
    /// The longest delay of a timer.
    pub(super) timer_delay: Duration,
    /// The duration of a job of the state machine, if it has a thread of its own.
    pub(super) apply_delay: Option<DurationRange>,
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
    /// The bytes of padding in each command, so that logs grow.
    pub(super) padding: usize,
    pub(super) pending_reads: usize,
    pub(super) limits: Limits,
    pub(super) clients: usize,
    /// The most requests that a client has in flight.
    pub(super) window: usize,
    pub(super) think: DurationRange,
    pub(super) keys: u64,
    /// The share of reads among the requests, in ten thousand.
    pub(super) reads: u32,
    /// The longest time from an election to the failure of the leader, if new leaders fail.
    pub(super) leader_fails_within: Option<Duration>,
    pub(super) fault_interval: DurationRange,
    pub(super) faults: Vec<FaultKind>,
    /// How clients reach the state machine.
    pub(super) access: ClientAccessPlan,
    /// The operator, if there is one.
    pub(super) operator: Option<OperatorPlan>,
    /// The faults of state machines, if there are any.
    pub(super) machines: Option<MachinePlan>,
    /// How folders are put back to earlier copies, if any is.
    pub(super) amnesia: Option<AmnesiaPlan>,
    /// How a state machine's state diverges, if it does.
    pub(super) digests: Option<StateFaultPlan>,
}

/// How clients use sessions and reads, and the quality of clocks (`client_access`).
#[derive(Clone, Debug)]
pub(super) struct ClientAccessPlan {
    /// The bound on clock drift that the cores assume.
    pub(super) lease: Option<Lease>,
    /// Clocks drift more than that.
    pub(super) exceeds_drift_bound: bool,
    /// If set, each start of a node draws its own election timeouts from this.
    pub(super) unequal_timeouts: Option<u64>,
    /// If set, each start of a node draws from this whether it uses leases.
    pub(super) mixed_leases: Option<u64>,
    /// Every clock drifts by the most that is allowed, in one direction or the other.
    pub(super) has_worst_clocks: bool,
    /// The share of stale reads among the reads, in ten thousand.
    pub(super) stale_reads: u32,
    /// The share of lease reads among the other reads, in ten thousand.
    pub(super) lease_reads: u32,
    /// The number of clients with sessions.
    pub(super) clients_with_sessions: usize,
    /// The time to live of sessions.
    pub(super) ttl_ms: u64,
    /// The chance, in ten thousand, that a client repeats a request before it has an outcome.
    pub(super) early_retries: u32,
    /// The chance, in ten thousand, that a client closes its session.
    pub(super) closes: u32,
}

impl ClientAccessPlan {
    /// Neither sessions nor leases.
    pub(super) fn none() -> ClientAccessPlan {
        ClientAccessPlan {
            lease: None,
            exceeds_drift_bound: false,
            unequal_timeouts: None,
            mixed_leases: None,
            has_worst_clocks: false,
            stale_reads: 0,
            lease_reads: 0,
            clients_with_sessions: 0,
            ttl_ms: 0,
            early_retries: 0,
            closes: 0,
        }
    }
}

/// The operator of a run (`operator`).
#[derive(Clone, Debug)]
pub(super) struct OperatorPlan {
    /// The number of initial members; they have the lowest ids.
    pub(super) initial_members: usize,
    pub(super) interval: DurationRange,
    /// The chance, in ten thousand, of a leadership transfer instead of a membership change.
    pub(super) transfers: u32,
    pub(super) wipes: bool,
    pub(super) promotion_lag: u64,
    /// The operator removes all votes but one, and gives the leader's back at once. A node that is
    /// the sole voter by its own log is soon restarted.
    pub(super) shrinks_to_one_vote: bool,
}

/// How the network treats messages.
#[derive(Clone, Debug)]
pub(super) struct NetworkPlan {
    pub(super) delay: DurationRange,
    /// The chance, in ten thousand, that a message takes longer than an election.
    pub(super) straggling: u32,
    /// The longest delay of such a message.
    pub(super) straggles: Duration,
    /// In ten thousand.
    pub(super) loss: u32,
    /// In ten thousand.
    pub(super) duplication: u32,
    /// The chance, in ten thousand, that bytes change in transit.
    pub(super) corruption: u32,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// Two groups of nodes cannot reach each other.
    Partition,
    /// Some directed links lose all messages.
    CutLinks,
    /// A node receives nothing, or nothing that it sends arrives.
    OneWayCut,
    /// A node's messages are lost and it receives late: the others may elect another leader before
    /// it receives the last answers.
    DelayedNode,
    /// A node is isolated for long while clients send it many writes.
    Isolated,
    /// A connection breaks.
    BreakLink,
    /// A process is killed; its writes stay in the kernel's memory.
    Kill,
    /// A machine loses power: unsynced writes may be lost.
    PowerLoss,
    /// All machines lose power at once.
    Blackout,
    /// The machine loses power between two of the next effects.
    PowerLossAmidEffects,
    /// The machine loses power between two of the next calls to its disk.
    PowerLossAmidCalls,
    /// A process is paused for a while.
    Pause,
    /// A sync fails.
    SyncFails,
    /// A read or a write fails.
    CallFails,
    /// A disk is full for a while.
    DiskFull,
    /// Bits flip in synced data.
    Rot,
    /// A drive writes to the wrong place.
    Misdirect,
    /// A wall clock jumps.
    ClockJump,
}

const ALL_FAULTS: [FaultKind; 18] = [
    FaultKind::Partition,
    FaultKind::CutLinks,
    FaultKind::OneWayCut,
    FaultKind::DelayedNode,
    FaultKind::Isolated,
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
            disk_latency: DurationRange::new(micros(20), micros(disk_high)),
            disk_stall: random.pick(&[0, 0, 0, 20]),
            idle_pause: millis(random.pick(&[1, 300])),
            drift: random.pick(&[0, 50, MOST_DRIFT]),
            timer_delay: micros(random.pick(&[0, 100, 20_000])),
            apply_delay: random
                .chance(5_000)
                .then(|| DurationRange::new(micros(1), micros(random.pick(&[100, 20_000])))),
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
            think: DurationRange::new(micros(100), millis(think_high)),
            keys: random.between(1, 5),
            reads: random.pick(&[2_500, 2_500, 8_000]),
            leader_fails_within: random.chance(2_500).then(|| millis(random.pick(&[1, 10, 100]))),
            fault_interval: DurationRange::new(millis(1), millis(fault_high)),
            faults: Plan::draw_faults(random),
            access: ClientAccessPlan::none(),
            operator: None,
            machines: None,
            amnesia: None,
            digests: None,
        }
    }

    fn draw_faults(random: &mut Random) -> Vec<FaultKind> {
        // A damaged disk costs a node for the rest of the run, so damage is rarer.
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
            delay: DurationRange::new(Duration::from_micros(50), Duration::from_millis(high)),
            straggling: random.pick(&[0, 0, 50, 500]),
            straggles,
            loss: random.pick(&[0, 0, 100, 500, 2_000]),
            duplication: random.pick(&[0, 0, 100, 1_000]),
            corruption: random.pick(&[0, 0, 0, 50]),
        }
    }

    /// A network that loses nothing.
    pub(super) fn without_faults() -> NetworkPlan {
        NetworkPlan {
            delay: DurationRange::new(Duration::from_micros(50), Duration::from_millis(2)),
            straggling: 0,
            straggles: Duration::ZERO,
            loss: 0,
            duplication: 0,
            corruption: 0,
        }
    }
}
