//! Says in the log, once a second, how far the state machine has come after a start.

use std::time::{Duration, Instant};

use crate::{
    replica::{CatchUp, Replica},
    types::NodeId,
};

const INTERVAL: Duration = Duration::from_secs(1);

/// What was said last.
#[derive(Debug, Default)]
pub(in crate::node) struct Progress {
    /// When catching up was first seen, and when that was said last.
    catching_up: Option<(Instant, Instant)>,
}

impl Progress {
    /// Looks at the replica. A restore reports itself, where it reads.
    pub(in crate::node) fn report(&mut self, node: NodeId, replica: &Replica) {
        let now = Instant::now();
        match (replica.catching_up(), &mut self.catching_up) {
            (Some(_), none @ None) => *none = Some((now, now)),
            (Some(CatchUp::Replaying { applied, until }), Some((_, said)))
                if now.saturating_duration_since(*said) >= INTERVAL =>
            {
                *said = now;
                tracing::info!(
                    node = node.0,
                    applied = applied.0,
                    until = until.0,
                    "applying the log again"
                );
            }
            (Some(_), Some(_)) => {}
            (None, Some((began, _))) => {
                let took = now.saturating_duration_since(*began);
                if took >= INTERVAL {
                    let applied = replica.status().applied.0;
                    tracing::info!(
                        node = node.0,
                        applied,
                        ?took,
                        "the state machine has caught up"
                    );
                }
                self.catching_up = None;
            }
            (None, None) => {}
        }
    }
}
