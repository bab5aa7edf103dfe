//! What a lease promises: while a leader has one, nobody leads a later term.

use super::verdict::{Verdict, check};
use crate::core::Core;
use crate::types::{NodeId, Now, Term};

/// A node, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) struct Holder {
    pub(in crate::sim) id: NodeId,
    term: Term,
    is_leader: bool,
    /// By its own clock, now.
    holds_lease: bool,
}

impl Holder {
    pub(in crate::sim) fn of(core: &Core, now: Now) -> Holder {
        let holds_lease = core.lease_until().is_some_and(|until| now.monotonic < until);
        Holder { id: core.id(), term: core.term(), is_leader: core.is_leader(), holds_lease }
    }
}

/// To be asked of any two nodes whose clocks keep the stated bound.
pub(in crate::sim) fn is_exclusive(one: Holder, other: Holder) -> Verdict {
    let (earlier, later) = if one.term < other.term { (one, other) } else { (other, one) };
    let is_broken = earlier.holds_lease && later.is_leader && earlier.term < later.term;
    // Whoever has stepped down has not got a later term by that.
    let is_kept_on = [one, other].iter().any(|node| node.holds_lease && !node.is_leader);
    check(!is_broken && !is_kept_on, "while a lease holds nobody leads a later term", || {
        format!("{earlier:?} and {later:?}")
    })
}
