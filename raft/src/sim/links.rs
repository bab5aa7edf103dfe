//! What is said between processes, and the connections between them.

use std::time::Duration;

use bytes::BytesMut;

use super::checks::{Verdict, Violation, check};
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::mutant::Mutant;
use super::network::Fate;
use super::world::World;
use crate::replica::PeerMessage;
use crate::types::{Body, GroupId, NodeId};
use crate::wire;

impl World {
    /// A process says something to another.
    pub(super) fn send(&mut self, node: usize, to: NodeId, message: PeerMessage) -> Verdict {
        let to = to.0 as usize - 1;
        check(to < self.plan.nodes && to != node, "messages go to other members", || {
            format!("{message:?}")
        })?;
        let Some(message) = self.through_the_wire(message)? else { return Ok(()) };
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
                if let Fate::Arrives(first, second) =
                    self.network.datagram(self.now, node, to, &mut self.random)
                {
                    if let Some(second) = second {
                        self.at(second, SimEvent::Datagram { to, life, message: message.clone() });
                    }
                    self.at(first, SimEvent::Datagram { to, life, message });
                }
            }
            message => self.send_on_connection(node, to, message),
        }
        Ok(())
    }

    /// What arrives is what the real frames make of what was sent.
    fn through_the_wire(&mut self, message: PeerMessage) -> Result<Option<PeerMessage>, Violation> {
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
                if self.frames.is_empty() && self.is_what_was_sent(&decoded) =>
            {
                Ok(Some(decoded))
            }
            other => {
                let details = format!("{message:?} became {other:?}");
                Err(Violation { invariant: "what is sent is what arrives", details })
            }
        }
    }

    /// Whether it makes the same bytes; an older version has no words for all of a message.
    fn is_what_was_sent(&self, decoded: &PeerMessage) -> bool {
        let mut again = BytesMut::new();
        wire::encode(GroupId(0), decoded, self.plan.wire, &mut again).is_ok()
            && again == self.sent_frame
    }

    /// What was just encoded changes on the way. Its receiver must not take it for anything, and
    /// hangs up; or it waits for bytes that a wrong length has promised, until what follows makes
    /// no sense.
    fn corrupt(&mut self, node: usize, to: usize) -> Verdict {
        let bytes = self.damaged_frame();
        self.count_fault(FaultCounter::Corrupted);
        let words = || format!("  bytes from {} to {} change on the way", node + 1, to + 1);
        self.trace.record(self.now, &bytes[..], words);
        let decoded = wire::decode(self.plan.wire, &mut BytesMut::from(&bytes[..]));
        check(
            !matches!(decoded, Ok(Some(_))),
            "damaged bytes are never taken for a message",
            || format!("{bytes:02x?} became {decoded:?}"),
        )?;
        let connection = self.network.connection(node, to);
        let delay = self.random.duration(self.network.plan.delay);
        self.after(delay, SimEvent::LinkBreaks { a: node, b: to, connection });
        Ok(())
    }

    /// The last frame with some bits turned over, or its end missing.
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
        // The same bit twice is none.
        if bytes[..] == self.sent_frame[..] {
            bytes[0] ^= 1;
        }
        bytes
    }

    fn send_on_connection(&mut self, from: usize, to: usize, message: PeerMessage) {
        let connection = self.network.connection(from, to);
        match self.network.on_connection(self.now, from, to, &mut self.random) {
            Fate::Arrives(time, _) => {
                if self.mutant == Some(Mutant::ForwardsRepeated)
                    && matches!(message, PeerMessage::Forward { .. })
                {
                    let message = message.clone();
                    self.at(time, SimEvent::OnConnection { from, to, connection, message });
                }
                self.at(time, SimEvent::OnConnection { from, to, connection, message });
            }
            Fate::Lost => {}
            Fate::Breaks(time) => {
                self.at(time, SimEvent::LinkBreaks { a: from, b: to, connection })
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
            self.after(delay, SimEvent::LinkDown { node, peer, connection });
        }
        self.after(Duration::from_millis(10), SimEvent::LinkTries { a, b });
    }

    /// Connects two nodes that run and can hear each other.
    pub(super) fn try_link(&mut self, a: usize, b: usize) -> Verdict {
        let both_run = self.processes[a].running.is_some() && self.processes[b].running.is_some();
        if self.network.is_up(a, b) || !both_run {
            return Ok(());
        }
        if !self.network.can_connect(a, b) || !self.shake_hands(a, b)? {
            self.after(Duration::from_millis(30), SimEvent::LinkTries { a, b });
            return Ok(());
        }
        self.network.connect(a, b);
        let connection = self.network.connection(a, b);
        for (node, peer) in [(a, b), (b, a)] {
            self.after(Duration::ZERO, SimEvent::LinkUp { node, peer, connection });
        }
        Ok(())
    }
}
