//! Messages between processes, and the connections between them.

use std::time::Duration;

use bytes::BytesMut;

use super::checks::{CheckResult, Violation, check};
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::mutant::Mutant;
use super::network::Delivery;
use super::world::World;
use crate::replica::PeerMessage;
use crate::types::{Body, GroupId, NodeId};
use crate::wire;

impl World {
    /// A process sends a message to another.
    pub(super) fn send(&mut self, node: usize, to: NodeId, message: PeerMessage) -> CheckResult {
        let to = to.0 as usize - 1;
        check(to < self.plan.nodes && to != node, "messages go to other members", || {
            format!("{message:?}")
        })?;
        let Some(message) = self.encode_and_decode(message)? else { return Ok(()) };
        self.behaviour.sent(self.now, node, to, &self.sent_frame);
        if self.random.chance(self.network.plan.corruption) {
            return self.corrupt(node, to);
        }
        match message {
            PeerMessage::Raft(mut message) => {
                if let Some(running) = &self.processes[node].running {
                    self.checks.sent(node, &message, running.replica.core())?;
                }
                if let (Some(Mutant::RefusalCountsAsVote), Body::Vote { granted }) =
                    (self.mutant, &mut message.body)
                {
                    *granted = true;
                }
                let life = self.processes[node].life;
                if let Delivery::Arrives { first, repeated } =
                    self.network.datagram(self.now, node, to, &mut self.random)
                {
                    if let Some(repeated) = repeated {
                        self.schedule_at(
                            repeated,
                            SimEvent::Datagram { to, life, message: message.clone() },
                        );
                    }
                    self.schedule_at(first, SimEvent::Datagram { to, life, message });
                }
            }
            message => self.send_on_connection(node, to, message),
        }
        Ok(())
    }

    /// Encodes and decodes a message with the real frames, as it would arrive.
    fn encode_and_decode(
        &mut self,
        message: PeerMessage,
    ) -> Result<Option<PeerMessage>, Violation> {
        let version = self.plan.wire;
        if !wire::can_encode(version, &message) {
            return Ok(None);
        }
        self.frames.clear();
        let encoded = wire::encode(GroupId(0), &message, version, &mut self.frames);
        self.sent_frame.clear();
        self.sent_frame.extend_from_slice(&self.frames);
        let decoded = encoded.and_then(|()| wire::decode(version, &mut self.frames));
        match decoded {
            Ok(Some((GroupId(0), decoded)))
                if self.frames.is_empty() && self.encodes_to_sent_frame(&decoded) =>
            {
                Ok(Some(decoded))
            }
            other => {
                let details = format!("{message:?} became {other:?}");
                Err(Violation { invariant: "what is sent is what arrives", details })
            }
        }
    }

    /// Whether the decoded message encodes to the same bytes. Comparing messages would not do: an
    /// older version cannot encode every field.
    fn encodes_to_sent_frame(&self, decoded: &PeerMessage) -> bool {
        let mut again = BytesMut::new();
        wire::encode(GroupId(0), decoded, self.plan.wire, &mut again).is_ok()
            && again == self.sent_frame
    }

    /// Damages the frame that was just encoded.
    ///
    /// Its receiver must not decode it as a message, and closes the connection. If the length is
    /// damaged it may first wait for more bytes.
    fn corrupt(&mut self, node: usize, to: usize) -> CheckResult {
        let bytes = self.damaged_frame();
        self.count_fault(FaultCounter::Corrupted);
        let words = || format!("  bytes from {} to {} change in transit", node + 1, to + 1);
        self.trace.record(self.now, &bytes[..], words);
        let decoded = wire::decode(self.plan.wire, &mut BytesMut::from(&bytes[..]));
        check(
            !matches!(decoded, Ok(Some(_))),
            "damaged bytes are never taken for a message",
            || format!("{bytes:02x?} became {decoded:?}"),
        )?;
        let connection = self.network.connection(node, to);
        let delay = self.random.duration_in(self.network.plan.delay);
        self.schedule_after(delay, SimEvent::LinkBreaks { a: node, b: to, connection });
        Ok(())
    }

    /// The last frame with flipped bits, or truncated.
    fn damaged_frame(&mut self) -> Vec<u8> {
        let mut bytes = self.sent_frame.to_vec();
        if self.random.chance(2_000) {
            bytes.truncate(self.random.below(bytes.len() as u64) as usize);
            return bytes;
        }
        for _ in 0..self.random.pick(&[1, 1, 2, 3, 40]) {
            let place = self.random.below(bytes.len() as u64) as usize;
            bytes[place] ^= 1 << self.random.below(8);
        }
        // The same bit flipped twice is no damage.
        if bytes[..] == self.sent_frame[..] {
            bytes[0] ^= 1;
        }
        bytes
    }

    fn send_on_connection(&mut self, from: usize, to: usize, message: PeerMessage) {
        let connection = self.network.connection(from, to);
        match self.network.on_connection(self.now, from, to, &mut self.random) {
            Delivery::Arrives { first: time, .. } => {
                if self.mutant == Some(Mutant::ForwardsRepeated)
                    && matches!(message, PeerMessage::Forward { .. })
                {
                    let message = message.clone();
                    self.schedule_at(
                        time,
                        SimEvent::OnConnection { from, to, connection, message },
                    );
                }
                self.schedule_at(time, SimEvent::OnConnection { from, to, connection, message });
            }
            Delivery::Lost => {}
            Delivery::Breaks(time) => {
                self.schedule_at(time, SimEvent::LinkBreaks { a: from, b: to, connection })
            }
        }
    }

    pub(super) fn break_link(&mut self, a: usize, b: usize) {
        if !self.network.is_up(a, b) {
            return;
        }
        let connection = self.network.connection(a, b);
        self.network.disconnect(a, b);
        self.count_fault(FaultCounter::Broken);
        for (node, peer) in [(a, b), (b, a)] {
            let delay = Duration::from_micros(self.random.below(3_000));
            self.schedule_after(delay, SimEvent::LinkDown { node, peer, connection });
        }
        self.schedule_after(Duration::from_millis(10), SimEvent::LinkTries { a, b });
    }

    /// Connects two nodes that run and can reach each other.
    pub(super) fn try_link(&mut self, a: usize, b: usize) -> CheckResult {
        let both_run = self.processes[a].running.is_some() && self.processes[b].running.is_some();
        if self.network.is_up(a, b) || !both_run {
            return Ok(());
        }
        if !self.network.can_connect(a, b) || !self.handshake(a, b)? {
            self.schedule_after(Duration::from_millis(30), SimEvent::LinkTries { a, b });
            return Ok(());
        }
        self.network.connect(a, b);
        let connection = self.network.connection(a, b);
        for (node, peer) in [(a, b), (b, a)] {
            self.schedule_after(Duration::ZERO, SimEvent::LinkUp { node, peer, connection });
        }
        Ok(())
    }
}
