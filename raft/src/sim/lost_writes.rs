//! Whether acknowledged writes survive when more disks forgot than Raft tolerates.

use std::collections::BTreeSet;

use super::checks::{CheckResult, check};
use super::fault_counters::FaultCounter;
use super::kv::Command;
use super::process::Process;
use super::world::{World, node_id};
use crate::core;
use crate::storage::Log;
use crate::types::{Index, Payload};

impl World {
    /// Whether the cluster has settled after a loss that Raft does not tolerate: there is one
    /// leader, and all its followers have its log.
    pub(super) fn has_settled_after_loss(&self) -> bool {
        let Some(leader) = self.latest_leader() else { return false };
        let Some(leading) = &self.processes[leader].running else { return false };
        let core = leading.replica.core();
        let (last, term) = (core.last_index(), core.term());
        let is_well = |place: usize| {
            let Some(running) = &self.processes[place].running else { return false };
            let other = running.replica.core();
            let is_like =
                other.last_index() == last && other.commit() == last && other.durable() == last;
            let stays_out = other.committed_conflict().is_some()
                || self.amnesia.rejected_copies.contains(&place);
            stays_out
                || (is_like && other.term() == term && other.leader() == Some(node_id(leader)))
        };
        core.commit() == last && (0..self.plan.nodes).all(is_well) && self.clients.open.is_empty()
    }

    /// Checks at the end that no lost write stays unreported.
    pub(super) fn check_lost_writes(&mut self) -> CheckResult {
        let reports = self.amnesia.has_reports;
        let unreported: Vec<usize> =
            self.amnesia.reports_owed.difference(&self.amnesia.reported).copied().collect();
        check(
            unreported.is_empty() || self.mutant.is_some(),
            "a disk that is known to have forgotten is reported",
            || {
                format!(
                    "nodes {unreported:?} (from 0) forgot, and no node that could prove it did: {}",
                    self.describe()
                )
            },
        )?;
        if !self.converged {
            // A node that has followed another leader of this term ignores this one until the term
            // ends, and reports that.
            let ignores = |process: &Process| {
                process
                    .running
                    .as_ref()
                    .is_some_and(|running| running.replica.core().status().second_leaders > 0)
            };
            if !reports && !self.processes.iter().any(ignores) {
                // For example, a node has committed entries that the leader of the same term lacks:
                // the leader's next entry will show it.
                self.count_fault(FaultCounter::UnsettledSilent);
            }
            return Ok(());
        }
        let Some(leader) = self.latest_leader() else { return Ok(()) };
        let found = self.commands_of(leader);
        let lost: Vec<u64> = self.amnesia.acknowledged.difference(&found).copied().collect();
        if lost.is_empty() {
            return Ok(());
        }
        self.count_fault(if reports {
            FaultCounter::LossReported
        } else {
            FaultCounter::LossSilent
        });
        // A silent loss: no remaining node knew what the disk had acknowledged.
        Ok(())
    }

    /// The commands in a node's log.
    fn commands_of(&self, node: usize) -> BTreeSet<u64> {
        let copy = self.processes[node].disk.durable_copy();
        let Ok((mut log, recovered)) = Log::open(copy, self.log_options()) else {
            return BTreeSet::new();
        };
        let last = recovered.saved.terms.last_index();
        let (mut next, mut found) = (Index(1), BTreeSet::new());
        while next <= last {
            let fetch = core::Fetch { id: 0, from: next, to: last, limit_bytes: usize::MAX };
            let Ok(entries) = log.read(&fetch) else { return found };
            let Some(end) = entries.last().map(|entry| entry.index) else { return found };
            found.extend(entries.iter().filter_map(|entry| match &entry.payload {
                Payload::Command(bytes) => Command::decode(bytes).map(Command::id),
                _ => None,
            }));
            next = end.next();
        }
        found
    }
}
