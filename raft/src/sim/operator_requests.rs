//! Pending requests of the operator (`operator`).

use std::collections::BTreeMap;

/// A request to a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct OperatorRequest {
    pub(super) node: usize,
    pub(super) is_transfer: bool,
    /// It adds an id that has been used before.
    pub(super) is_reuse: bool,
}

/// The operator's state and pending requests.
#[derive(Debug, Default)]
pub(super) struct Operator {
    /// The node whose disk was wiped, until it is no longer a member.
    pub(super) wiped: Option<usize>,
    /// The feature level was raised in this run.
    pub(super) is_raised: bool,
    /// Pending requests, by number.
    pub(super) open: BTreeMap<u64, OperatorRequest>,
}

impl Operator {
    /// Whether no request is pending.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// A process has died: its requests will have no outcome.
    pub(super) fn forget_node(&mut self, node: usize) {
        self.open.retain(|_, order| order.node != node);
    }
}
