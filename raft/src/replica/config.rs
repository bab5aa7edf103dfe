//! What a replica is told when it is made.

use std::time::Duration;

use crate::core::{Config, ConfigError, TIMEOUT_MAX};

/// A replica's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// The core's. Its `seed` must differ between two lives of a node: request numbers start from
    /// it.
    pub core: Config,
    /// How long a request may wait for its outcome. At most [`TIMEOUT_MAX`]. Default 5 s.
    pub request_timeout: Duration,
    /// What a replica holds for its clients at most.
    pub limits: Limits,
}

/// What a replica holds for its clients at most. A request beyond a limit is refused with an
/// outcome that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests not answered yet, those that other nodes forwarded included. Default 65 536.
    pub pending_requests: usize,
    /// The bytes of their commands and queries. Default 64 MiB.
    pub pending_bytes: usize,
    /// Commands handed to the leader and not answered yet. Default 16 384.
    pub forwarded_requests: usize,
    /// One command or query. At most the core's `command_bytes`. Default 1 MiB.
    pub request_bytes: usize,
    /// The entries of one proposal together
    /// ([`Entry::size_bytes`](crate::types::Entry::size_bytes)), though at least one command. The
    /// core's `uncommitted_bytes` counts too. Default 1 MiB.
    pub batch_bytes: usize,
    /// A snapshot is taken when so many bytes of log have been applied since the last one, and as
    /// many as the last one took. Default 64 MiB.
    pub snapshot_every_bytes: u64,
    /// A snapshot of more bytes than this fails, and its file is removed: no disk is filled by a
    /// state machine whose reader never ends. Less than the disk has beside the log, and more than
    /// any state may grow to, for without snapshots the log grows. Snapshots of a leader's are not
    /// bounded by it. Default: `None`, a snapshot may take all the room that there is.
    pub snapshot_bytes: Option<u64>,
    /// A digest of the state is taken after every entry whose index is a multiple of this, and
    /// compared between the members ([`StateMachine::digest`](super::StateMachine::digest)); 0:
    /// none is taken. A node whose state has gone wrong is found within so many entries. Must be
    /// the same on all nodes: digests after different entries are not compared. It stands beside
    /// the other settings of what is done with the state machine; any value is in range. Default 10
    /// 000.
    pub digest_interval: u64,
    /// A node whose state machine has failed goes on acknowledging, and can compact nothing of what
    /// it cannot apply. When that takes more bytes than this, the node stops
    /// ([`UnappliedLogFull`](super::UnappliedLogFull)): less than its disk has, so that it does not
    /// stop for want of room. Default: `None`, it goes on as long as there is room.
    pub unapplied_log_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            pending_requests: 65_536,
            pending_bytes: 64 << 20,
            forwarded_requests: 16_384,
            request_bytes: 1 << 20,
            batch_bytes: 1 << 20,
            snapshot_every_bytes: 64 << 20,
            snapshot_bytes: None,
            digest_interval: 10_000,
            unapplied_log_bytes: None,
        }
    }
}

/// Why a replica cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaConfigError {
    /// The core's settings, or what was saved.
    #[error(transparent)]
    Core(#[from] ConfigError),
    /// Requests would end before they begin.
    #[error("ReplicaConfig::request_timeout is zero; every request would time out at once")]
    ZeroTimeout,
    /// Requests would wait for longer than any time may be.
    #[error("ReplicaConfig::request_timeout is {value:?}; it may be at most {:?}", TIMEOUT_MAX)]
    TimeoutTooLong {
        /// Its value.
        value: Duration,
    },
    /// A limit is out of its range.
    #[error("Limits::{name} is {value}; it must be between 1 and {most}")]
    Limit {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The most it can be.
        most: usize,
    },
}

impl ReplicaConfig {
    /// Defaults around a core's settings.
    #[must_use]
    pub fn new(core: Config) -> ReplicaConfig {
        ReplicaConfig { core, request_timeout: Duration::from_secs(5), limits: Limits::default() }
    }

    /// Checks that the settings make sense together.
    ///
    /// # Errors
    /// Names the first setting that does not.
    pub fn validate(&self) -> Result<(), ReplicaConfigError> {
        self.core.validate()?;
        if self.request_timeout.is_zero() {
            return Err(ReplicaConfigError::ZeroTimeout);
        }
        if self.request_timeout > TIMEOUT_MAX {
            return Err(ReplicaConfigError::TimeoutTooLong { value: self.request_timeout });
        }
        let limits = &self.limits;
        let to_usize = |bytes: u64| bytes.try_into().unwrap_or(usize::MAX);
        let ranges = [
            ("pending_requests", limits.pending_requests, u32::MAX as usize - 1),
            ("pending_bytes", limits.pending_bytes, usize::MAX),
            ("forwarded_requests", limits.forwarded_requests, usize::MAX),
            ("request_bytes", limits.request_bytes, self.core.command_bytes),
            ("batch_bytes", limits.batch_bytes, usize::MAX),
            ("unapplied_log_bytes", limits.unapplied_log_bytes.map_or(1, to_usize), usize::MAX),
            ("snapshot_bytes", limits.snapshot_bytes.map_or(1, to_usize), usize::MAX),
            (
                "snapshot_every_bytes",
                limits.snapshot_every_bytes.try_into().unwrap_or(usize::MAX),
                usize::MAX,
            ),
        ];
        match ranges.into_iter().find(|&(_, value, most)| value < 1 || value > most) {
            Some((name, value, most)) => Err(ReplicaConfigError::Limit { name, value, most }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    #[test]
    fn defaults_are_valid_and_errors_name_the_setting() {
        let good = ReplicaConfig::new(Config::new(NodeId(1)));
        good.validate().unwrap();
        let hasty = ReplicaConfig { request_timeout: Duration::ZERO, ..good.clone() };
        assert!(hasty.validate().unwrap_err().to_string().contains("request_timeout"));
        let closed =
            ReplicaConfig { limits: Limits { pending_bytes: 0, ..good.limits }, ..good.clone() };
        assert!(closed.validate().unwrap_err().to_string().contains("Limits::pending_bytes"));
        let large = Limits { request_bytes: good.core.command_bytes + 1, ..good.limits };
        let large = ReplicaConfig { limits: large, ..good };
        assert!(large.validate().unwrap_err().to_string().contains("Limits::request_bytes"));
    }
}
