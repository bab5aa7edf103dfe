//! Clients: unique writes, increments and reads, at any node; and the probes after the faults.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checks::{Operation, OperationKind, Verdict, check};
use super::happening::Happening;
use super::kv::Command;
use super::options::Mutant;
use super::world::World;
use crate::replica::{Outcome, Request, RequestId, StateMachine};

use bytes::Bytes;

/// See the module.
#[derive(Debug)]
pub(super) struct Clients {
    /// What has no outcome yet, by request number.
    open: BTreeMap<u64, Operation>,
    under_way: Vec<usize>,
    last_request: u64,
    last_command: u64,
    /// The place of the probe's author.
    probe_author: usize,
    probes_answered: usize,
}

impl Clients {
    pub(super) fn new(clients: usize) -> Clients {
        Clients {
            open: BTreeMap::new(),
            under_way: vec![0; clients + 1],
            last_request: 0,
            last_command: 0,
            probe_author: clients,
            probes_answered: 0,
        }
    }

    fn open(&mut self, operation: Operation) -> RequestId {
        self.last_request += 1;
        self.under_way[operation.client] += 1;
        self.open.insert(self.last_request, operation);
        RequestId(self.last_request)
    }

    fn close(&mut self, id: RequestId) -> Option<Operation> {
        let operation = self.open.remove(&id.0)?;
        self.under_way[operation.client] -= 1;
        Some(operation)
    }

    /// A process has died: nobody will tell what became of what it was asked.
    pub(super) fn forget_node(&mut self, node: usize) {
        let under_way = &mut self.under_way;
        self.open.retain(|_, operation| {
            if operation.node == node {
                under_way[operation.client] -= 1;
            }
            operation.node != node
        });
    }

    fn next_command(&mut self) -> u64 {
        self.last_command += 1;
        self.last_command
    }
}

impl World {
    /// A client asks for something, if it has not enough under way.
    pub(super) fn client(&mut self, client: usize) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let think = self.random.duration(self.plan.think);
        self.after(think, Happening::Client { client });
        let node = self.random.below(self.plan.nodes as u64) as usize;
        if self.clients.under_way[client] >= self.plan.window || !self.processes[node].is_awake() {
            return Ok(());
        }
        let key = self.random.below(self.plan.keys) as u8;
        let kind = match self.random.below(4) {
            0 => OperationKind::Write(Command::Increment { key, id: self.clients.next_command() }),
            1 | 2 => OperationKind::Write(Command::Set { key, id: self.clients.next_command() }),
            _ => OperationKind::Read { key, floor: self.checks.history.floor(key) },
        };
        self.ask(Operation { client, node, kind })
    }

    fn ask(&mut self, operation: Operation) -> Verdict {
        let Operation { node, kind, .. } = operation;
        let id = self.clients.open(operation);
        self.trace.record(self.now, &(id, operation), || format!("  client: {id:?} {operation:?}"));
        let request = match kind {
            OperationKind::Write(command) => Request::Write(command.encode()),
            OperationKind::Read { key, .. } => Request::Read(Bytes::copy_from_slice(&[key])),
        };
        if let (Some(Mutant::ReadsWithoutIndex), Request::Read(query)) = (self.mutant, &request) {
            let Some(running) = &self.processes[node].running else { return Ok(()) };
            let output = running.machine.machine().query(query);
            return self.reply(node, id, &Outcome::Answer(output));
        }
        self.input(node, |running, now| running.replica.submit(now, id, request))
    }

    /// A process tells what became of a request.
    pub(super) fn reply(&mut self, node: usize, id: RequestId, outcome: &Outcome) -> Verdict {
        let operation = self.clients.close(id);
        check(operation.is_some_and(|operation| operation.node == node), "a request has one outcome", || {
            format!("node {} answers {id:?}, which is not open there: {outcome:?}", node + 1)
        })?;
        let Some(operation) = operation else { return Ok(()) };
        match outcome {
            Outcome::Answer(output) => {
                self.checks.answered(&operation, output)?;
                self.clients.probes_answered += usize::from(operation.client == self.clients.probe_author);
            }
            Outcome::Refused(_) => self.checks.refused(&operation)?,
            Outcome::Unknown(_) => {
                let is_write = matches!(operation.kind, OperationKind::Write(_));
                check(is_write, "a read is never in doubt", || format!("{operation:?}: {outcome:?}"))?;
            }
        }
        Ok(())
    }

    /// After the faults: every node must carry out a write and a read; then all must come to have applied the same.
    pub(super) fn probe(&mut self) -> Verdict {
        let done = self.clients.probes_answered == 2 * self.plan.nodes;
        if done && self.clients.open.is_empty() && self.is_settled() {
            self.converged = true;
            return Ok(());
        }
        self.after(Duration::from_millis(20), Happening::Probe);
        let (author, node) = (self.clients.probe_author, self.clients.probes_answered / 2);
        if done || self.clients.under_way[author] > 0 || !self.processes[node].is_awake() {
            return Ok(());
        }
        let kind = if self.clients.probes_answered.is_multiple_of(2) {
            OperationKind::Write(Command::Set { key: 0, id: self.clients.next_command() })
        } else {
            OperationKind::Read { key: 0, floor: self.checks.history.floor(0) }
        };
        self.ask(Operation { client: author, node, kind })
    }

    /// One leader, whom all follow, and everything applied everywhere.
    fn is_settled(&self) -> bool {
        let committed = self.checks.committed();
        let mut leader = None;
        for process in &self.processes {
            let Some(running) = &process.running else { return false };
            let core = running.replica.core();
            let applied = core.applied() == committed && core.last_index() == committed;
            if !applied || core.leader().is_none() || leader.is_some_and(|leader| leader != core.leader()) {
                return false;
            }
            leader = Some(core.leader());
        }
        self.all_alike()
    }

    /// Why `probe` is not satisfied, in words.
    pub(super) fn describe(&self) -> String {
        let nodes: Vec<String> = self
            .processes
            .iter()
            .map(|process| match &process.running {
                Some(running) => format!("{:?}", running.replica.status()),
                None => "down".to_owned(),
            })
            .collect();
        let answered = self.clients.probes_answered;
        let open = self.clients.open.len();
        format!("probes answered: {answered}; requests without outcome: {open}; nodes: {nodes:#?}")
    }
}
