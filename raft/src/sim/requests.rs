//! Requests of clients to any node, and the probes after the faults.
//!
//! Clients send writes with unique ids, increments, swaps and reads.

use bytes::Bytes;

use super::checks::{CheckResult, OperationKind, check};
use super::event::SimEvent;
use super::kv::Command;
use super::mutant::Mutant;
use super::world::World;
use crate::replica::{Answer, Outcome, Query, Request, RequestId, StateMachine};
use std::time::Duration;

impl World {
    /// A client sends a request, unless its window is full.
    pub(super) fn run_client(&mut self, client: usize) -> CheckResult {
        if self.faults_ended {
            return Ok(());
        }
        let think = self.random.duration_in(self.plan.think);
        self.schedule_after(think, SimEvent::Client { client });
        let node = self.random.below(self.plan.nodes as u64) as usize;
        if self.clients.under_way[client] >= self.plan.window || !self.processes[node].is_awake() {
            return Ok(());
        }
        let kind = if self.random.chance(self.plan.reads) {
            self.draw_read()
        } else {
            OperationKind::Write(self.draw_command())
        };
        if client < self.plan.access.clients_with_sessions
            && matches!(kind, OperationKind::Write(_))
        {
            return self.run_session_client(client, node);
        }
        self.ask(client, node, kind)
    }

    /// Some client sends this node a write, even if its window is full.
    pub(super) fn submit_extra_write(&mut self, node: usize) -> CheckResult {
        if !self.processes[node].is_awake() {
            return Ok(());
        }
        let client = self.random.below(self.plan.clients as u64) as usize;
        let (key, id) = (self.random.below(self.plan.keys) as u8, self.clients.next_command());
        self.ask(client, node, OperationKind::Write(Command::Set { key, id }))
    }

    fn draw_read(&mut self) -> OperationKind {
        let key = self.random.below(self.plan.keys) as u8;
        let floor = self.checks.last_change(key);
        let access = &self.plan.access;
        if self.random.chance(access.stale_reads) {
            OperationKind::StaleRead { key }
        } else if self.random.chance(access.lease_reads) {
            let floor = (!access.exceeds_drift_bound).then_some(floor);
            OperationKind::LeaseRead { key, floor }
        } else {
            OperationKind::Read { key, floor }
        }
    }

    /// A command with a unique id.
    pub(super) fn draw_command(&mut self) -> Command {
        let key = self.random.below(self.plan.keys) as u8;
        let id = self.clients.next_command();
        match self.random.below(6) {
            0 | 1 => Command::Increment { key, id },
            2 => Command::Swap { key, id, expected: self.checks.history.known(key).number },
            _ => Command::Set { key, id },
        }
    }

    fn ask(&mut self, client: usize, node: usize, kind: OperationKind) -> CheckResult {
        let operation = self.checks.history.begin(client, node, kind);
        let id = self.clients.open(operation);
        self.trace.record(self.now, &(id, operation), || format!("  client: {id:?} {operation:?}"));
        let request = match kind {
            OperationKind::Write(command) => Request::Write(command.encode(self.plan.padding)),
            OperationKind::Read { key, .. } => Request::Read(Bytes::copy_from_slice(&[key])),
            OperationKind::LeaseRead { key, .. } => {
                Request::LeaseRead(Bytes::copy_from_slice(&[key]))
            }
            OperationKind::StaleRead { key } => Request::StaleRead(Bytes::copy_from_slice(&[key])),
        };
        if let (Some(Mutant::ReadsWithoutIndex), Request::Read(query)) = (self.mutant, &request) {
            let Some(running) = &self.processes[node].running else { return Ok(()) };
            let applied = running.replica.status().applied;
            let output = running.machine.machine().query(&Query { applied, bytes: query });
            return self.reply(node, id, &Outcome::Answer(Answer::new(output, applied)));
        }
        self.input(node, |running, now| running.replica.submit(now, id, request))
    }

    /// A process returns the outcome of a request.
    pub(super) fn reply(&mut self, node: usize, id: RequestId, outcome: &Outcome) -> CheckResult {
        if self.session_reply(node, id, outcome)? || self.operator_reply(node, id, outcome)? {
            return Ok(());
        }
        let operation = self.clients.close(id);
        check(
            operation.is_some_and(|operation| operation.node == node),
            "a request has one outcome",
            || format!("node {} answers {id:?}, which is not open there: {outcome:?}", node + 1),
        )?;
        let Some(operation) = operation else { return Ok(()) };
        match outcome {
            Outcome::Answer(answer) => {
                if let OperationKind::Write(command) = operation.kind {
                    self.record_acknowledged(command);
                }
                self.checks.answered(&operation, self.processes[node].life, answer)?;
                self.clients.probes_answered[node] +=
                    usize::from(operation.client == self.clients.probe_author);
            }
            Outcome::Opened(_) => {}
            Outcome::Refused(_) => self.checks.refused(&operation)?,
            Outcome::Unknown(_) => {
                let is_write = matches!(operation.kind, OperationKind::Write(_));
                check(is_write, "a read is never in doubt", || {
                    format!("{operation:?}: {outcome:?}")
                })?;
            }
        }
        Ok(())
    }

    /// After the faults: checks for convergence, and sends the next probe if there is none yet.
    ///
    /// Every remaining node must carry out a write and a read, and then all nodes must have applied
    /// the same entries.
    pub(super) fn probe(&mut self) -> CheckResult {
        if self.amnesia.is_beyond_tolerance {
            self.converged = self.has_settled_after_loss();
            self.schedule_after(Duration::from_millis(20), SimEvent::Probe);
            return Ok(());
        }
        let is_wanted =
            |node: &usize| self.must_be_healthy(*node) && self.clients.probes_answered[*node] < 2;
        let next = (0..self.plan.nodes).find(is_wanted);
        if next.is_none()
            && self.clients.open.is_empty()
            && self.session_clients.is_idle()
            && self.operator.is_idle()
            && self.is_settled()
        {
            self.converged = true;
            return Ok(());
        }
        self.schedule_after(Duration::from_millis(20), SimEvent::Probe);
        let author = self.clients.probe_author;
        let Some(node) = next.filter(|&node| self.processes[node].is_awake()) else {
            return Ok(());
        };
        if self.clients.under_way[author] > 0 {
            return Ok(());
        }
        let kind = if self.clients.probes_answered[node] == 0 {
            OperationKind::Write(Command::Set { key: 0, id: self.clients.next_command() })
        } else {
            OperationKind::Read { key: 0, floor: self.checks.last_change(0) }
        };
        self.ask(author, node, kind)
    }

    /// Whether all nodes follow one leader and have applied everything.
    fn is_settled(&self) -> bool {
        let committed = self.checks.committed();
        let mut leader = None;
        if !self.is_membership_settled() {
            return false;
        }
        let well = (0..self.plan.nodes).filter(|&node| self.must_be_healthy(node));
        for process in well.map(|node| &self.processes[node]) {
            let Some(running) = &process.running else { return false };
            let core = running.replica.core();
            let applied = core.applied() == committed && core.last_index() == committed;
            if !applied
                || core.leader().is_none()
                || leader.is_some_and(|leader| leader != core.leader())
            {
                return false;
            }
            leader = Some(core.leader());
        }
        self.have_expected_states()
    }

    /// Describes why the cluster has not converged.
    pub(super) fn describe(&self) -> String {
        let nodes: Vec<String> = self
            .processes
            .iter()
            .map(|process| match &process.running {
                Some(running) => format!("{:?}", running.replica.status()),
                None => if process.is_lost { "lost" } else { "down" }.to_owned(),
            })
            .collect();
        let answered = &self.clients.probes_answered;
        let open = self.clients.open.len();
        format!(
            "probes answered: {answered:?}; requests without outcome: {open}; nodes: {nodes:#?}"
        )
    }

    /// Whether all state machines have the state that the committed commands give.
    pub(super) fn have_expected_states(&self) -> bool {
        let mut well = (0..self.plan.nodes).filter(|&node| self.must_be_healthy(node));
        well.all(|node| {
            let process = &self.processes[node];
            process
                .running
                .as_ref()
                .is_some_and(|running| self.has_expected_state(node, &running.machine))
        })
    }
}
