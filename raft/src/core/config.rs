//! The settings of a core, given once, at its start.

use std::time::Duration;

use thiserror::Error;

use super::mutants::{Mutant, planted};
use crate::setters::setters;
use crate::types::{Echo, NodeId, Proposal};

/// The settings of a [`Core`](super::Core). [`Config::new`] fills in defaults that suit machines in
/// one building.
///
/// Every limit in bytes counts payloads and 32 bytes an entry
/// ([`Entry::size_bytes`](crate::types::Entry::size_bytes)).
///
/// ```
/// use std::time::Duration;
/// use kodiak_raft::{core::{Config, ElectionTimeout}, types::NodeId};
///
/// // Peers on two continents.
/// let config = Config::new(NodeId(1))
///     .election_timeout(ElectionTimeout::new(Duration::from_secs(1), Duration::from_secs(2)))
///     .heartbeat_interval(Duration::from_millis(200));
/// config.validate().unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// This node. Never 0.
    pub id: NodeId,
    /// Where the jitter of election timeouts comes from. Nodes should have different ones; so
    /// should two lives of a node.
    pub seed: u64,
    /// A follower that hears from no leader for a random time between `min` and `max` campaigns
    /// (§3.4). Default: 250 ms and 500 ms.
    ///
    /// - For `min` after it has heard from a leader, a follower grants no vote to another candidate
    ///   (§4.2.3). It saves that length before it first answers a leader, and after a restart
    ///   grants no vote for as long as it had saved.
    /// - For `max` a leader stays leader without answers from a majority, or with a write of its
    ///   own outstanding.
    pub election_timeout: ElectionTimeout,
    /// A leader steps down when a write of its own has been outstanding for longer, unless it is
    /// the only voter: then no other node could lead. Campaigning, and taking over from another
    /// leader, wait for writes that are outstanding for longer than the longer election timeout.
    /// Must not be shorter than that. Default: `None`, ten times the longer election timeout.
    pub stall_timeout: Option<Duration>,
    /// How often a leader makes itself heard. At most half of the shorter election timeout.
    /// Default: 50 ms.
    pub heartbeat_interval: Duration,
    /// The most bytes of entries in a message; a single entry may exceed it. Default: 1 MiB.
    pub message_bytes: usize,
    /// The most messages with entries that a follower has not yet acknowledged. Default: 256.
    pub in_flight_messages: usize,
    /// No further entries leave for a follower that has not yet acknowledged this many bytes; so at
    /// most one message more than this is on its way. Default: 16 MiB.
    pub in_flight_bytes: usize,
    /// The most bytes of entries that a leader has proposed and not yet committed. Default: 64 MiB.
    pub uncommitted_bytes: usize,
    /// The largest command, in bytes. Default: 8 MiB.
    pub command_bytes: usize,
    /// The most bytes of entries kept in memory once they are durable and committed; older ones are
    /// fetched. Default: 16 MiB.
    pub tail_bytes: usize,
    /// The most bytes of entries handed out to be applied and not yet reported as applied; a single
    /// entry may exceed it. Default: 4 MiB.
    pub applying_bytes: usize,
    /// A leader refuses proposals while more bytes of entries than this are committed and not
    /// applied by its own state machine. Followers acknowledge however far behind they apply.
    /// Default: 64 MiB.
    pub backlog_bytes: usize,
    /// A leader that has been over `backlog_bytes` for longer than this hands over to a voter that
    /// is under it, if there is one; the next attempt waits for twice as long, and so on, up to 256
    /// times. Default: 5 s.
    pub backlog_timeout: Duration,
    /// The most bytes of a snapshot's file in one message. Default: 1 MiB.
    pub snapshot_chunk_bytes: usize,
    /// The most pieces of a snapshot that a follower has not yet acknowledged. Default: 4.
    pub snapshot_chunks: usize,
    /// After a snapshot the log is kept back to the one before it, for followers that are a little
    /// behind. For a live follower that lags further, or is being sent a snapshot, it is kept back
    /// to as many snapshots as this, and then no longer. Default: 8.
    pub retained_snapshots: usize,
    /// The most reads that wait for their read index, and the most that one leader keeps for its
    /// followers. Default: 65536.
    pub pending_reads: usize,
    /// Whether a leader may answer lease reads without asking its followers. Members may have
    /// different election timeouts: each states for how long it promises to vote for no other
    /// candidate, which is its `min`. Default: `None`, lease reads ask a majority.
    pub lease: Option<Lease>,
    /// The most entries that a learner may lack when it is promoted. Default: 1000.
    pub promotion_lag: u64,
}

/// What lease reads rest on, besides Raft: a bound that the members' clocks keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Lease {
    /// How much faster or slower than time any member's clock may run, in millionths; below a
    /// million. While a clock is off by more, a lease read may miss what was written last. Quartz
    /// is off by some ten to a hundred, and what disciplines a clock (NTP) may bend it by five
    /// hundred more; a leader's lease is shorter by twice of what is stated here, so that a
    /// thousand, say, costs next to nothing.
    pub drift_ppm: u32,
}

impl Lease {
    /// Relies on clocks that run at most this much too fast or too slow ([`Lease::drift_ppm`]).
    #[must_use]
    pub const fn with_drift_ppm(drift_ppm: u32) -> Lease {
        Lease { drift_ppm }
    }
}

/// The range from which each election timeout is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ElectionTimeout {
    /// The shortest.
    pub min: Duration,
    /// The longest. At least `min`.
    pub max: Duration,
}

impl ElectionTimeout {
    /// From `min` to `max`, both included. [`Config::validate`] checks them.
    #[must_use]
    pub const fn new(min: Duration, max: Duration) -> ElectionTimeout {
        ElectionTimeout { min, max }
    }

    pub(crate) fn bounds(self) -> (Duration, Duration) {
        (self.min, self.max)
    }
}

/// The longest time that a setting may ask for: a day. Whatever is computed from it, as its
/// multiples for links that are silent, stays far from the end of the clocks.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a core cannot start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The id is 0, which no node has.
    #[error("Config::id is 0; node ids start at 1")]
    NoId,
    /// A time is too long.
    #[error("Config::{name} is {value:?}; it may be at most {:?}", TIMEOUT_MAX)]
    TooLong {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: Duration,
    },
    /// The election timeouts are out of order or too short for the heartbeat.
    #[error(
        "Config::election_timeout is {shorter:?} to {longer:?} with heartbeats every \
        {heartbeat:?}; the shorter must not \
         exceed the longer and must be at least twice Config::heartbeat_interval, which must not \
         be zero"
    )]
    Timeouts {
        /// The shorter election timeout.
        shorter: Duration,
        /// The longer election timeout.
        longer: Duration,
        /// The heartbeat interval.
        heartbeat: Duration,
    },
    /// The stall timeout is shorter than an election.
    #[error(
        "Config::stall_timeout is {stall:?}, shorter than the longer election timeout, \
        {longer:?}; a leader would \
         give up sooner than another could be elected"
    )]
    StallTimeout {
        /// The stall timeout.
        stall: Duration,
        /// The longer election timeout.
        longer: Duration,
    },
    /// The bound on clocks is too large for a lease.
    #[error(
        "Lease::drift_ppm is {drift_ppm}; it must be below 1000000, or no lease would ever hold"
    )]
    Drift {
        /// The bound stated.
        drift_ppm: u32,
    },
    /// A limit is zero.
    #[error("Config::{0} is 0; nothing could ever pass")]
    ZeroLimit(&'static str),
    /// A command of the largest size would never fit under the cap on uncommitted bytes.
    #[error(
        "Config::command_bytes is {command_bytes}, which with {} bytes of overhead exceeds \
        Config::uncommitted_bytes, {uncommitted_bytes}",
        Proposal::OVERHEAD_BYTES
    )]
    CommandTooLarge {
        /// The largest command.
        command_bytes: usize,
        /// The cap.
        uncommitted_bytes: usize,
    },
    /// What was read from the disk contradicts itself.
    #[error(
        "the saved state contradicts itself: {0}; the log is damaged, restore this node from \
        another"
    )]
    Saved(String),
}

// A setter for each field but the node's id.
setters!(Config {
    seed: u64,
    election_timeout: ElectionTimeout,
    stall_timeout: Option<Duration>,
    heartbeat_interval: Duration,
    message_bytes: usize,
    in_flight_messages: usize,
    in_flight_bytes: usize,
    uncommitted_bytes: usize,
    command_bytes: usize,
    tail_bytes: usize,
    applying_bytes: usize,
    backlog_bytes: usize,
    backlog_timeout: Duration,
    snapshot_chunk_bytes: usize,
    snapshot_chunks: usize,
    retained_snapshots: usize,
    pending_reads: usize,
    lease: Option<Lease>,
    promotion_lag: u64,
});

impl Config {
    /// The defaults, for node `id`, seeded with its id.
    #[must_use]
    pub fn new(id: NodeId) -> Config {
        Config {
            id,
            seed: id.0,
            election_timeout: ElectionTimeout::new(
                Duration::from_millis(250),
                Duration::from_millis(500),
            ),
            stall_timeout: None,
            heartbeat_interval: Duration::from_millis(50),
            message_bytes: 1 << 20,
            in_flight_messages: 256,
            in_flight_bytes: 16 << 20,
            uncommitted_bytes: 64 << 20,
            command_bytes: 8 << 20,
            tail_bytes: 16 << 20,
            applying_bytes: 4 << 20,
            backlog_bytes: 64 << 20,
            backlog_timeout: Duration::from_secs(5),
            snapshot_chunk_bytes: 1 << 20,
            snapshot_chunks: 4,
            retained_snapshots: 8,
            pending_reads: 1 << 16,
            lease: None,
            promotion_lag: 1000,
        }
    }

    /// How long a leader tolerates a write of its own that is not done.
    pub(super) fn effective_stall_timeout(&self) -> Duration {
        let longer = self.election_timeout.max;
        if planted(Mutant::ShortStallTimeout) {
            return longer;
        }
        self.stall_timeout.unwrap_or(longer.saturating_mul(10))
    }

    /// What a leader with these settings asks its followers to answer in `round`.
    pub(super) fn echo(&self, round: u64) -> Echo {
        Echo { round, wants_promise: self.lease.is_some() }
    }

    /// Checks that the settings make sense together.
    ///
    /// # Errors
    /// Names the first setting that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.id == NodeId(0) {
            return Err(ConfigError::NoId);
        }
        let ElectionTimeout { min: shorter, max: longer } = self.election_timeout;
        let heartbeat = self.heartbeat_interval;
        let times = [
            ("election_timeout", longer.max(shorter)),
            ("heartbeat_interval", heartbeat),
            ("backlog_timeout", self.backlog_timeout),
        ];
        if let Some(&(name, value)) = times.iter().find(|(_, value)| *value > TIMEOUT_MAX) {
            return Err(ConfigError::TooLong { name, value });
        }
        if shorter > longer || heartbeat.is_zero() || shorter / 2 < heartbeat {
            return Err(ConfigError::Timeouts { shorter, longer, heartbeat });
        }
        if let Some(stall) = self.stall_timeout
            && stall < longer
        {
            return Err(ConfigError::StallTimeout { stall, longer });
        }
        if let Some(Lease { drift_ppm }) = self.lease
            && drift_ppm >= 1_000_000
        {
            return Err(ConfigError::Drift { drift_ppm });
        }
        let limits = [
            ("message_bytes", self.message_bytes),
            ("in_flight_messages", self.in_flight_messages),
            ("in_flight_bytes", self.in_flight_bytes),
            ("uncommitted_bytes", self.uncommitted_bytes),
            ("command_bytes", self.command_bytes),
            ("tail_bytes", self.tail_bytes),
            ("applying_bytes", self.applying_bytes),
            ("backlog_bytes", self.backlog_bytes),
            ("snapshot_chunk_bytes", self.snapshot_chunk_bytes),
            ("snapshot_chunks", self.snapshot_chunks),
            ("retained_snapshots", self.retained_snapshots),
            ("pending_reads", self.pending_reads),
        ];
        if let Some(&(name, _)) = limits.iter().find(|(_, limit)| *limit == 0) {
            return Err(ConfigError::ZeroLimit(name));
        }
        let (command_bytes, uncommitted_bytes) = (self.command_bytes, self.uncommitted_bytes);
        if command_bytes.saturating_add(Proposal::OVERHEAD_BYTES) > uncommitted_bytes {
            return Err(ConfigError::CommandTooLarge { command_bytes, uncommitted_bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_errors_name_the_setting() {
        let good = Config::new(NodeId(1));
        good.validate().unwrap();
        assert_eq!(Config::new(NodeId(0)).validate(), Err(ConfigError::NoId));
        let no_window = Config { in_flight_messages: 0, ..good.clone() };
        assert!(
            no_window.validate().unwrap_err().to_string().contains("Config::in_flight_messages")
        );
        let hasty = Config { heartbeat_interval: Duration::from_millis(200), ..good.clone() };
        assert!(hasty.validate().unwrap_err().to_string().contains("Config::heartbeat_interval"));
        let adrift = Config { lease: Some(Lease { drift_ppm: 1_000_000 }), ..good.clone() };
        assert!(adrift.validate().unwrap_err().to_string().contains("Lease::drift_ppm"));
        let swapped = Config {
            election_timeout: ElectionTimeout::new(
                good.election_timeout.max,
                good.election_timeout.min,
            ),
            ..good.clone()
        };
        assert!(matches!(swapped.validate(), Err(ConfigError::Timeouts { .. })));
        let narrow = Config { uncommitted_bytes: good.command_bytes, ..good };
        assert!(matches!(narrow.validate(), Err(ConfigError::CommandTooLarge { .. })));
    }
}
