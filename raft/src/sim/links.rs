//! What is said between processes, and the connections between them.

use std::time::Duration;

use super::checks::{Verdict, Violation, check};
use super::happening::Happening;
use super::network::Fate;
use super::options::Mutant;
use super::world::World;
use crate::replica::PeerMessage;
use crate::types::{Body, GroupId, NodeId};
use crate::wire;

impl World {
    /// A process says something to another.
    pub(super) fn send(&mut self, node: usize, to: NodeId, message: PeerMessage) -> Verdict {
        let to = to.0 as usize - 1;
        check(to < self.plan.nodes && to != node, "messages go to other members", || format!("{message:?}"))?;
        let message = self.through_the_wire(message)?;
        match message {
            PeerMessage::Raft(mut message) => {
                self.checks.sent(node, &message)?;
                if let (Some(Mutant::RefusalCountsAsVote), Body::Vote { granted }) = (self.mutant, &mut message.body) {
                    *granted = true;
                }
                if let Fate::Arrives(first, second) = self.network.datagram(self.now, node, to, &mut self.random) {
                    if let Some(second) = second {
                        self.at(second, Happening::Datagram { to, message: message.clone() });
                    }
                    self.at(first, Happening::Datagram { to, message });
                }
            }
            message => self.send_on_connection(node, to, message),
        }
        Ok(())
    }

    /// What arrives is what the real frames make of what was sent.
    fn through_the_wire(&mut self, message: PeerMessage) -> Result<PeerMessage, Violation> {
        self.frames.clear();
        let decoded =
            wire::encode(GroupId(0), &message, &mut self.frames).and_then(|()| wire::decode(&mut self.frames));
        match decoded {
            Ok(Some((GroupId(0), decoded))) if decoded == message && self.frames.is_empty() => Ok(decoded),
            other => {
                let details = format!("{message:?} became {other:?}");
                Err(Violation { invariant: "what is sent is what arrives", details })
            }
        }
    }

    fn send_on_connection(&mut self, from: usize, to: usize, message: PeerMessage) {
        let connection = self.network.connection(from, to);
        match self.network.on_connection(self.now, from, to, &mut self.random) {
            Fate::Arrives(time, _) => {
                if self.mutant == Some(Mutant::ForwardsRepeated) && matches!(message, PeerMessage::Forward { .. }) {
                    let message = message.clone();
                    self.at(time, Happening::OnConnection { from, to, connection, message });
                }
                self.at(time, Happening::OnConnection { from, to, connection, message });
            }
            Fate::Lost => {}
            Fate::Breaks(time) => self.at(time, Happening::LinkBreaks { a: from, b: to, connection }),
        }
    }

    pub(super) fn break_link(&mut self, a: usize, b: usize) {
        if !self.network.is_up(a, b) {
            return;
        }
        let connection = self.network.connection(a, b);
        self.network.disconnect(a, b);
        for (node, peer) in [(a, b), (b, a)] {
            let delay = Duration::from_micros(self.random.below(3_000));
            self.after(delay, Happening::LinkDown { node, peer, connection });
        }
        self.after(Duration::from_millis(10), Happening::LinkTries { a, b });
    }

    /// Connects two nodes that run and can hear each other.
    pub(super) fn try_link(&mut self, a: usize, b: usize) {
        let both_run = self.processes[a].running.is_some() && self.processes[b].running.is_some();
        if self.network.is_up(a, b) || !both_run {
            return;
        }
        if !self.network.can_connect(a, b) {
            return self.after(Duration::from_millis(30), Happening::LinkTries { a, b });
        }
        self.network.connect(a, b);
        let connection = self.network.connection(a, b);
        for (node, peer) in [(a, b), (b, a)] {
            self.after(Duration::ZERO, Happening::LinkUp { node, peer, connection });
        }
    }
}
