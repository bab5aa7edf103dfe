//! What the operator has asked for (`churn`), as far as it has no outcome.

use std::collections::BTreeMap;

/// What it has asked a node for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) node: usize,
    pub(super) is_transfer: bool,
    /// It names an id that has been used.
    pub(super) is_reuse: bool,
}

/// What it has done.
#[derive(Debug, Default)]
pub(super) struct Churn {
    /// The machine whose disk is gone, until it is no member any more.
    pub(super) wiped: Option<usize>,
    /// The feature level was raised in this run.
    pub(super) is_raised: bool,
    /// What has no outcome yet, by request number.
    pub(super) open: BTreeMap<u64, Order>,
}

impl Churn {
    /// Whether nothing is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// A process has died: nobody will tell what became of what it was asked.
    pub(super) fn forget_node(&mut self, node: usize) {
        self.open.retain(|_, order| order.node != node);
    }
}
