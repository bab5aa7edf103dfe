//! Handshakes of nodes, and the records of their peers' disks.

use bytes::Bytes;

use super::checks::Violation;
use super::world::{World, node_id};
use crate::replica::PeerMessage;
use crate::types::{Body, ClusterId, DiskId, FeatureLevel, GroupId, Message};
use crate::wire::{Hello, Version};

impl World {
    fn hello(&self, node: usize) -> Option<Hello> {
        let running = self.processes[node].running.as_ref()?;
        let id = node_id(node);
        Some(Hello {
            cluster: ClusterId(1),
            group: GroupId(1),
            node: id,
            disk: DiskId(u128::from(id.0)),
            life: running.life,
            versions: Version::OLDEST..=self.plan.wire,
            feature_level: FeatureLevel::CURRENT,
            position: running.position.filter(|_| self.plan.wire > Version::OLDEST),
            has_forgotten: running.replica.core().has_forgotten(),
            is_blank: running.replica.core().term().0 == 0,
            address: format!("place-{id}"),
            metadata: Bytes::new(),
        })
    }

    /// Whether two nodes that can reach each other accept each other.
    pub(super) fn handshake(&mut self, a: usize, b: usize) -> Result<bool, Violation> {
        Ok(self.check_handshake(a, b)? && self.check_handshake(b, a)?)
    }

    fn check_handshake(&mut self, at: usize, place: usize) -> Result<bool, Violation> {
        let Some(theirs) = self.hello(place) else { return Ok(false) };
        let life = self.processes[place].life;
        let Some(running) = &mut self.processes[at].running else { return Ok(false) };
        if let Err(error) = running.peer_records.check_hello(&theirs) {
            self.on_copy_rejected(at, place, &error.to_string())?;
            return Ok(false);
        }
        running.met_lives.insert(place, life);
        let has_news = running.peer_records.has_forgetful_peers();
        let is_owed = theirs
            .position
            .is_some_and(|position| self.record_evidence(at, place, position.sequence));
        if has_news {
            self.input(at, |running, now| {
                running.peer_records.report_to(&mut running.replica, now)
            })?;
        }
        let is_running = self.processes[at].running.is_some();
        if is_owed && !is_running {
            // It died amid the effects of this input, before it could report what it knew.
            self.amnesia.reports_owed.remove(&place);
        }
        Ok(is_running)
    }

    /// Whether a message between cores may arrive.
    ///
    /// In runs with amnesia only after a handshake. In other runs Raft's own messages are treated
    /// worse than real links would treat them.
    pub(super) fn may_arrive(&mut self, to: usize, life: u64, message: &Message) -> bool {
        let place = message.from.0 as usize - 1;
        let is_present = life == self.processes[place].life;
        let Some(running) = &mut self.processes[to].running else { return true };
        let has_met = running.met_lives.get(&place) == Some(&life);
        if has_met && is_present {
            running.peer_records.observe_message(message.from, &PeerMessage::Raft(message.clone()));
            if let Body::Appended { report, .. } = &message.body
                && let Some(sequence) = report.durable_sequence
            {
                self.record_durable_report(place, to, sequence);
            }
        }
        has_met || !is_present || self.plan.amnesia.is_none()
    }
}
