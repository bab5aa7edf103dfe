//! The promise of a lease: while a leader has one, no other node leads a later term.

use super::violation::{CheckResult, check};
use crate::core::Core;
use crate::types::{NodeId, Now, Term};

/// The state of a node that matters for leases.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) struct LeaseState {
    pub(in crate::sim) id: NodeId,
    term: Term,
    is_leader: bool,
    /// Whether it holds a lease now, by its own clock.
    holds_lease: bool,
}

impl LeaseState {
    pub(in crate::sim) fn of(core: &Core, now: Now) -> LeaseState {
        let holds_lease = core.lease_until().is_some_and(|until| now.monotonic < until);
        LeaseState { id: core.id(), term: core.term(), is_leader: core.is_leader(), holds_lease }
    }
}

/// Checks two nodes whose clocks keep the stated bound.
pub(in crate::sim) fn check_exclusive(one: LeaseState, other: LeaseState) -> CheckResult {
    let (earlier, later) = if one.term < other.term { (one, other) } else { (other, one) };
    let is_broken = earlier.holds_lease && later.is_leader && earlier.term < later.term;
    // A leader that steps down keeps its term, so this is checked separately.
    let is_kept_on = [one, other].iter().any(|node| node.holds_lease && !node.is_leader);
    check(!is_broken && !is_kept_on, "while a lease holds no other node leads a later term", || {
        format!("{earlier:?} and {later:?}")
    })
}
