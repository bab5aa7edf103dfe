//! The events of the simulation.

use super::trace::brief;
use crate::replica::PeerMessage;
use crate::types::Message;

/// An event at a scheduled time. Nodes are numbered from 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum SimEvent {
    /// A message between cores arrives, even if its receiver has restarted. `life` is its sender's.
    Datagram { to: usize, life: u64, message: Message },
    /// A message arrives over a connection.
    OnConnection { from: usize, to: usize, connection: u64, message: PeerMessage },
    /// A process learns that it is connected.
    LinkUp { node: usize, peer: usize, connection: u64 },
    /// A process learns that a connection broke.
    LinkDown { node: usize, peer: usize, connection: u64 },
    /// A connection breaks.
    LinkBreaks { a: usize, b: usize, connection: u64 },
    /// Two nodes try to connect.
    LinkTries { a: usize, b: usize },
    /// A process's timer fires.
    Timer { node: usize, life: u64 },
    /// The storage thread takes the queued jobs.
    StorageBegins { node: usize, life: u64 },
    /// It has completed them.
    StorageEnds { node: usize, life: u64 },
    /// It has been idle for a while.
    StorageIdles { node: usize, life: u64 },
    /// Mutant: a write is reported durable before it is.
    FalselyDurable { node: usize, life: u64, sequence: u64 },
    /// The state machine's thread does queued jobs.
    Apply { node: usize, life: u64 },
    /// A process whose disk has failed exits.
    Exit { node: usize, life: u64 },
    /// A process starts.
    Start { node: usize },
    /// A paused process resumes.
    Resume { node: usize },
    /// A full disk has room again.
    RoomOnDisk { node: usize },
    /// A client may send a request.
    Client { client: usize },
    /// A fault is injected.
    Fault,
    /// A newly elected leader crashes, pauses or loses its links.
    NewLeaderFails { node: usize, life: u64 },
    /// The outgoing links of a delayed node are cut.
    CutDelayedLinks { node: usize },
    /// The only follower that still answers a leader is restarted or paused.
    LastFollowerFails { node: usize },
    /// All links between nodes work again.
    Heal,
    /// The operator acts.
    OperatorActs,
    /// A disk is copied, or put back to an earlier state.
    AmnesiaFault,
    /// A broken peer sends a message of a term that no cluster reaches.
    TermOutOfRange,
    /// After the faults: checks whether the cluster has converged.
    Probe,
    /// A state machine becomes slow or fails.
    MachineFault,
    /// The state of a state machine is corrupted.
    StateFault,
    /// A snapshot that its node needs rots.
    SnapshotRots,
    /// The operator restarts a process whose state machine has failed.
    Restart { node: usize, life: u64 },
}

impl SimEvent {
    /// The process in which the event happens.
    pub(super) fn process(&self) -> Option<usize> {
        match *self {
            SimEvent::Datagram { to, .. } | SimEvent::OnConnection { to, .. } => Some(to),
            SimEvent::LinkUp { node, .. }
            | SimEvent::LinkDown { node, .. }
            | SimEvent::Timer { node, .. }
            | SimEvent::StorageBegins { node, .. }
            | SimEvent::StorageEnds { node, .. }
            | SimEvent::StorageIdles { node, .. }
            | SimEvent::FalselyDurable { node, .. }
            | SimEvent::Apply { node, .. }
            | SimEvent::Exit { node, .. }
            | SimEvent::Restart { node, .. }
            | SimEvent::NewLeaderFails { node, .. } => Some(node),
            _ => None,
        }
    }

    /// The life of that process, if it matters.
    pub(super) fn life(&self) -> Option<u64> {
        match *self {
            SimEvent::Timer { life, .. }
            | SimEvent::StorageBegins { life, .. }
            | SimEvent::StorageEnds { life, .. }
            | SimEvent::StorageIdles { life, .. }
            | SimEvent::FalselyDurable { life, .. }
            | SimEvent::Apply { life, .. }
            | SimEvent::Exit { life, .. }
            | SimEvent::Restart { life, .. }
            | SimEvent::NewLeaderFails { life, .. } => Some(life),
            _ => None,
        }
    }

    /// Describes the event, with nodes counted from 1.
    pub(super) fn describe(&self) -> String {
        let link = |a: &usize, b: &usize| format!("{} and {}", a + 1, b + 1);
        match self {
            SimEvent::Datagram { to, message, .. } => {
                format!(
                    "{} receives from {} in term {}: {}",
                    to + 1,
                    message.from,
                    message.term,
                    brief(&message.body)
                )
            }
            SimEvent::OnConnection { from, to, message, .. } => {
                format!("{} receives from {}: {}", to + 1, from + 1, brief(message))
            }
            SimEvent::LinkUp { node, peer, .. } => {
                format!("{} is connected to {}", node + 1, peer + 1)
            }
            SimEvent::LinkDown { node, peer, .. } => {
                format!("{} has lost its connection to {}", node + 1, peer + 1)
            }
            SimEvent::LinkBreaks { a, b, .. } => {
                format!("the connection between {} breaks", link(a, b))
            }
            SimEvent::LinkTries { a, b } => format!("{} try to connect", link(a, b)),
            SimEvent::Timer { node, .. } => format!("{}'s timer fires", node + 1),
            SimEvent::StorageBegins { node, .. } => format!("{}'s storage begins", node + 1),
            SimEvent::StorageEnds { node, .. } => format!("{}'s storage is done", node + 1),
            SimEvent::StorageIdles { node, .. } => format!("{}'s storage is idle", node + 1),
            SimEvent::FalselyDurable { node, sequence, .. } => {
                format!("write {sequence} of {} is falsely reported durable", node + 1)
            }
            SimEvent::Apply { node, .. } => format!("{}'s state machine applies", node + 1),
            SimEvent::Exit { node, .. } => format!("{} ends: its disk has failed", node + 1),
            SimEvent::Start { node } => format!("{} starts", node + 1),
            SimEvent::Resume { node } => format!("{} resumes", node + 1),
            SimEvent::RoomOnDisk { node } => format!("{}'s disk has room again", node + 1),
            SimEvent::Client { client } => format!("client {} may send", client + 1),
            SimEvent::Fault => "a fault is due".to_owned(),
            SimEvent::NewLeaderFails { node, .. } => {
                format!("the new leader {} is to fail", node + 1)
            }
            SimEvent::CutDelayedLinks { node } => {
                format!("messages of {} are lost from now on", node + 1)
            }
            SimEvent::LastFollowerFails { node } => {
                format!("{}, which still answers a leader, is to fail", node + 1)
            }
            SimEvent::Heal => "the network heals".to_owned(),
            SimEvent::OperatorActs => "the operator acts".to_owned(),
            SimEvent::AmnesiaFault => "a disk is copied or put back".to_owned(),
            SimEvent::TermOutOfRange => "a broken peer sends a message".to_owned(),
            SimEvent::Probe => "probe: has the cluster converged?".to_owned(),
            SimEvent::MachineFault => "a state machine is to become slow or fail".to_owned(),
            SimEvent::StateFault => "the state of a machine is to be corrupted".to_owned(),
            SimEvent::SnapshotRots => "a snapshot is to rot".to_owned(),
            SimEvent::Restart { node, .. } => {
                format!("{} is started again: its machine has failed", node + 1)
            }
        }
    }
}
