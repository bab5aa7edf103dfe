//! What a replica is told when it is made.

use std::time::Duration;

use super::pending::Config;

/// A replica's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// The core's. Its `seed` must differ between two lives of a node: request numbers start from it.
    pub core: Config,
    /// How long a request may wait for its outcome. Default 5 s.
    pub request_timeout: Duration,
    /// What a replica holds for its clients at most.
    pub limits: Limits,
}

impl ReplicaConfig {
    /// Defaults around a core's settings.
    #[must_use]
    pub fn new(core: Config) -> ReplicaConfig {
        ReplicaConfig { core, request_timeout: Duration::from_secs(5), limits: Limits::default() }
    }
}

/// What a replica holds for its clients at most. A request beyond a limit is refused with an outcome that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests not answered yet, those that other nodes forwarded included. Default 65 536.
    pub pending_requests: usize,
    /// The bytes of their commands and queries. Default 64 MiB.
    pub pending_bytes: usize,
    /// Commands handed to the leader and not answered yet. Default 16 384.
    pub forwarded_requests: usize,
    /// One command or query. Default 1 MiB.
    pub request_bytes: usize,
    /// Commands of one proposal together, though at least one command. Default 1 MiB.
    pub batch_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            pending_requests: 65_536,
            pending_bytes: 64 << 20,
            forwarded_requests: 16_384,
            request_bytes: 1 << 20,
            batch_bytes: 1 << 20,
        }
    }
}
