//! A replica's settings.

use std::time::Duration;

use crate::core::{Config, ConfigError, TIMEOUT_MAX};
use crate::setters::setters;

/// A replica's settings.
///
/// ```
/// use std::time::Duration;
///
/// use kodiak_raft::core::Config;
/// use kodiak_raft::replica::{Limits, ReplicaConfig};
/// use kodiak_raft::types::NodeId;
///
/// let config = ReplicaConfig::new(Config::new(NodeId(1)))
///     .request_timeout(Duration::from_secs(2))
///     .limits(Limits::default().pending_requests(1_000));
/// # assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaConfig {
    /// The core's settings.
    ///
    /// The `seed` must differ between two starts of a node: request numbers start from it.
    pub core: Config,
    /// The longest time that a request waits for its outcome. At most [`TIMEOUT_MAX`]. Default 5 s.
    pub request_timeout: Duration,
    /// The most that a replica holds for its clients.
    pub limits: Limits,
}

/// The most that a replica holds for its clients.
///
/// A request beyond a limit is refused with an outcome that names the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Unanswered requests, including those that other nodes forwarded. Default 65 536.
    pub pending_requests: usize,
    /// The bytes of their commands and queries. Default 64 MiB.
    pub pending_bytes: usize,
    /// Unanswered commands that this node forwarded to the leader. Default 16 384.
    pub forwarded_requests: usize,
    /// The bytes of one command or query. At most the core's `command_bytes`. Default 1 MiB.
    pub request_bytes: usize,
    /// The bytes of the entries of one proposal.
    ///
    /// See [`Entry::size_bytes`](crate::types::Entry::size_bytes). A single larger command is
    /// proposed alone. The core's `uncommitted_bytes` applies too. Default 1 MiB.
    pub batch_bytes: usize,
    /// The bytes of log between two snapshots.
    ///
    /// A snapshot is taken when this many bytes have been applied since the last one, but no fewer
    /// than the last snapshot took. Default 64 MiB.
    pub snapshot_every_bytes: u64,
    /// The most bytes of one snapshot of this node's state machine; a larger one fails.
    ///
    /// The file of a failed snapshot is removed, so a state machine whose reader never ends cannot
    /// fill the disk. Choose it smaller than the disk's room beside the log and larger than any
    /// state may grow, because without snapshots the log grows. It does not apply to snapshots
    /// that the leader sends. Default `None`: no limit.
    pub snapshot_bytes: Option<u64>,
    /// The number of entries between two digests of the state; 0 takes none.
    ///
    /// A digest is taken after every entry whose index is a multiple of this number, and compared
    /// between the members ([`StateMachine::digest`](super::StateMachine::digest)), so a diverged
    /// state is found within this many entries. All nodes must have the same value: digests after
    /// different entries are not compared. Default 10 000.
    pub digest_interval: u64,
    /// The most bytes of log that a failed state machine may leave unapplied.
    ///
    /// A node whose state machine has failed still acknowledges entries but cannot compact those
    /// that it did not apply. Beyond this limit the node stops
    /// ([`UnappliedLogFull`](super::UnappliedLogFull)). Choose it smaller than the disk, so that
    /// the disk does not fill up first. Default `None`: no limit.
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

setters!(Limits {
    pending_requests: usize,
    pending_bytes: usize,
    forwarded_requests: usize,
    request_bytes: usize,
    batch_bytes: usize,
    snapshot_every_bytes: u64,
    snapshot_bytes: Option<u64>,
    digest_interval: u64,
    unapplied_log_bytes: Option<u64>,
});

setters!(ReplicaConfig { request_timeout: Duration, limits: Limits });

/// Why a replica cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaConfigError {
    /// The core's settings, or the saved state, are not valid.
    #[error(transparent)]
    Core(#[from] ConfigError),
    /// The request timeout is zero.
    #[error("ReplicaConfig::request_timeout is zero; every request would time out at once")]
    ZeroTimeout,
    /// The request timeout is longer than [`TIMEOUT_MAX`].
    #[error("ReplicaConfig::request_timeout is {value:?}; it may be at most {:?}", TIMEOUT_MAX)]
    TimeoutTooLong {
        /// The timeout.
        value: Duration,
    },
    /// A limit is out of its range.
    #[error("Limits::{name} is {value}; it must be between 1 and {most}")]
    Limit {
        /// The field of [`Limits`].
        name: &'static str,
        /// Its value.
        value: usize,
        /// The largest value allowed.
        most: usize,
    },
}

impl ReplicaConfig {
    /// The default settings around these of the core.
    #[must_use]
    pub fn new(core: Config) -> ReplicaConfig {
        ReplicaConfig { core, request_timeout: Duration::from_secs(5), limits: Limits::default() }
    }

    /// Checks that each setting is in its range and fits the others.
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
            ("snapshot_every_bytes", to_usize(limits.snapshot_every_bytes), usize::MAX),
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
        let command_bytes = good.core.command_bytes;
        let refused = [
            (good.clone().request_timeout(Duration::ZERO), "request_timeout"),
            (good.clone().limits(Limits::default().pending_bytes(0)), "Limits::pending_bytes"),
            (
                good.limits(Limits::default().request_bytes(command_bytes + 1)),
                "Limits::request_bytes",
            ),
        ];
        for (config, name) in refused {
            assert!(config.validate().unwrap_err().to_string().contains(name));
        }
    }
}
