//! Clients: their pending operations, and the numbers of their commands.

use std::collections::BTreeMap;

use super::checks::Operation;
use super::kv::ID_STEP;
use crate::replica::RequestId;

/// The clients. See the module.
#[derive(Debug)]
pub(super) struct Clients {
    /// Pending operations, by request number.
    pub(super) open: BTreeMap<u64, Operation>,
    pub(super) under_way: Vec<usize>,
    last_request: u64,
    last_command: u64,
    /// The client that sends probes.
    pub(super) probe_author: usize,
    /// The number of probes that each node has answered.
    pub(super) probes_answered: Vec<usize>,
}

impl Clients {
    pub(super) fn new(clients: usize, nodes: usize) -> Clients {
        Clients {
            open: BTreeMap::new(),
            under_way: vec![0; clients + 1],
            last_request: 0,
            last_command: 0,
            probe_author: clients,
            probes_answered: vec![0; nodes],
        }
    }

    pub(super) fn open(&mut self, operation: Operation) -> RequestId {
        let id = self.next_request();
        self.under_way[operation.client] += 1;
        self.open.insert(id.0, operation);
        id
    }

    pub(super) fn next_request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    pub(super) fn close(&mut self, id: RequestId) -> Option<Operation> {
        let operation = self.open.remove(&id.0)?;
        self.under_way[operation.client] -= 1;
        Some(operation)
    }

    /// A process has died: its requests will have no outcome.
    pub(super) fn forget_node(&mut self, node: usize) {
        let under_way = &mut self.under_way;
        self.open.retain(|_, operation| {
            if operation.node == node {
                under_way[operation.client] -= 1;
            }
            operation.node != node
        });
    }

    pub(super) fn next_command(&mut self) -> u64 {
        self.last_command += ID_STEP;
        self.last_command
    }
}
