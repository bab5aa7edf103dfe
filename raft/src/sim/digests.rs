//! Digests of the state: taken often in half of the runs, and never a false alarm.

use super::checks::{Verdict, check};
use super::random::Random;
use super::world::World;
use crate::core::Event;

/// The interval of a run, from a source of chance of its own, so that the rest of a run is what it
/// would be without. In half of the runs no digests are taken.
pub(super) fn draw_interval(seed: u64) -> u64 {
    Random::new(seed ^ 0x6469_6765_7374_7321).pick(&[0, 0, 0, 0, 1, 3, 10, 50])
}

impl World {
    /// A node says that states differ.
    pub(super) fn states_differ(&self, node: usize, event: Event) -> Verdict {
        check(self.mutant.is_some(), "states are not said to differ that do not", || {
            format!("node {} says {event:?}", node + 1)
        })
    }
}
