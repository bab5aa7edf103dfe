//! Requests of the operator (`churn`) that have no outcome yet.

use std::collections::BTreeMap;

/// A request to a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct OperatorRequest {
    pub(super) node: usize,
    pub(super) is_transfer: bool,
    /// It names an id that has been used.
    pub(super) is_reuse: bool,
}

/// What the operator has done, and its open requests.
#[derive(Debug, Default)]
pub(super) struct Churn {
    /// The machine whose disk is gone, until it is no longer a member.
    pub(super) wiped: Option<usize>,
    /// The feature level was raised in this run.
    pub(super) is_raised: bool,
    /// What has no outcome yet, by request number.
    pub(super) open: BTreeMap<u64, OperatorRequest>,
}

impl Churn {
    /// Whether nothing is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// A process has died: the outcome of its requests stays unknown.
    pub(super) fn forget_node(&mut self, node: usize) {
        self.open.retain(|_, order| order.node != node);
    }
}
