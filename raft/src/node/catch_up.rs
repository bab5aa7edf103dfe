//! Logs how far the state machine has come after a start.

use std::time::{Duration, Instant};

use crate::{
    replica::{LoadingProgress, Replica},
    types::NodeId,
};

/// Time between two lines of the log.
const INTERVAL: Duration = Duration::from_secs(1);

/// Logs a replay's progress once a second. A restore logs its own, where it reads the snapshot.
#[derive(Debug, Default)]
pub(super) struct CatchUpLog {
    loading_progress: Option<Timing>,
}

#[derive(Debug)]
struct Timing {
    began: Instant,
    logged: Instant,
}

impl CatchUpLog {
    /// Logs a line if one is due.
    pub(super) fn update(&mut self, node: NodeId, replica: &Replica) {
        let now = Instant::now();
        match (replica.loading_progress(), &mut self.loading_progress) {
            (Some(_), none @ None) => *none = Some(Timing { began: now, logged: now }),
            (Some(LoadingProgress::Replaying { applied, until }), Some(timing))
                if now.saturating_duration_since(timing.logged) >= INTERVAL =>
            {
                timing.logged = now;
                tracing::info!(
                    node = node.0,
                    applied = applied.0,
                    until = until.0,
                    "applying the log again"
                );
            }
            (Some(_), Some(_)) => {}
            (None, Some(timing)) => {
                let took = now.saturating_duration_since(timing.began);
                if took >= INTERVAL {
                    let applied = replica.status().applied.0;
                    tracing::info!(
                        node = node.0,
                        applied,
                        ?took,
                        "the state machine has caught up"
                    );
                }
                self.loading_progress = None;
            }
            (None, None) => {}
        }
    }
}
