//! What can happen.

use super::trace::brief;
use crate::replica::PeerMessage;
use crate::types::Message;

/// Something that happens at some time. Nodes are named by their place, from 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Happening {
    /// A message between cores arrives, in whatever life its receiver is. `life` is its sender's.
    Datagram { to: usize, life: u64, message: Message },
    /// Something arrives over a connection.
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
    /// The storage thread takes what is queued.
    StorageBegins { node: usize, life: u64 },
    /// It is done with it.
    StorageEnds { node: usize, life: u64 },
    /// It has had nothing to do for a while.
    StorageIdles { node: usize, life: u64 },
    /// Mutant: a write is said to be durable.
    SaidToBeWritten { node: usize, life: u64, sequence: u64 },
    /// The state machine's thread does what is queued.
    Apply { node: usize, life: u64 },
    /// A process whose disk has failed ends.
    GivesUp { node: usize, life: u64 },
    /// A process starts.
    Boot { node: usize },
    /// A stopped process goes on.
    Resume { node: usize },
    /// A full disk has room again.
    RoomOnDisk { node: usize },
    /// A client may do something.
    Client { client: usize },
    /// Something goes wrong.
    Fault,
    /// A leader that was just elected is taken away.
    LeaderFalls { node: usize, life: u64 },
    /// A node is not heard any more.
    FallsSilent { node: usize },
    /// The only one that still answers a leader is started again, or stopped for a while.
    FriendFalls { node: usize },
    /// Every pair of nodes can hear each other again.
    Heal,
    /// The operator does something.
    Churn,
    /// A disk is copied, or put back to an earlier state.
    Forgets,
    /// A broken peer sends a message of a term that no cluster reaches.
    WildTerm,
    /// After the faults: is everybody well?
    Probe,
    /// Something goes wrong with a state machine.
    MachineFault,
    /// The state of a state machine goes wrong.
    StateFault,
    /// A snapshot rots that its node needs.
    SnapshotRots,
    /// The operator starts a process again whose state machine has failed.
    StartedAgain { node: usize, life: u64 },
}

impl Happening {
    /// Which process it happens in.
    pub(super) fn process(&self) -> Option<usize> {
        match *self {
            Happening::Datagram { to, .. } | Happening::OnConnection { to, .. } => Some(to),
            Happening::LinkUp { node, .. }
            | Happening::LinkDown { node, .. }
            | Happening::Timer { node, .. }
            | Happening::StorageBegins { node, .. }
            | Happening::StorageEnds { node, .. }
            | Happening::StorageIdles { node, .. }
            | Happening::SaidToBeWritten { node, .. }
            | Happening::Apply { node, .. }
            | Happening::GivesUp { node, .. }
            | Happening::StartedAgain { node, .. }
            | Happening::LeaderFalls { node, .. } => Some(node),
            _ => None,
        }
    }

    /// In which of its lives, if it matters.
    pub(super) fn life(&self) -> Option<u64> {
        match *self {
            Happening::Timer { life, .. }
            | Happening::StorageBegins { life, .. }
            | Happening::StorageEnds { life, .. }
            | Happening::StorageIdles { life, .. }
            | Happening::SaidToBeWritten { life, .. }
            | Happening::Apply { life, .. }
            | Happening::GivesUp { life, .. }
            | Happening::StartedAgain { life, .. }
            | Happening::LeaderFalls { life, .. } => Some(life),
            _ => None,
        }
    }

    /// For people, who count nodes from 1.
    pub(super) fn words(&self) -> String {
        let link = |a: &usize, b: &usize| format!("{} and {}", a + 1, b + 1);
        match self {
            Happening::Datagram { to, message, .. } => {
                format!(
                    "{} hears from {} in term {}: {}",
                    to + 1,
                    message.from,
                    message.term,
                    brief(&message.body)
                )
            }
            Happening::OnConnection { from, to, message, .. } => {
                format!("{} hears from {}: {}", to + 1, from + 1, brief(message))
            }
            Happening::LinkUp { node, peer, .. } => {
                format!("{} is connected to {}", node + 1, peer + 1)
            }
            Happening::LinkDown { node, peer, .. } => {
                format!("{} has lost its connection to {}", node + 1, peer + 1)
            }
            Happening::LinkBreaks { a, b, .. } => {
                format!("the connection between {} breaks", link(a, b))
            }
            Happening::LinkTries { a, b } => format!("{} try to connect", link(a, b)),
            Happening::Timer { node, .. } => format!("{}'s timer fires", node + 1),
            Happening::StorageBegins { node, .. } => format!("{}'s storage begins", node + 1),
            Happening::StorageEnds { node, .. } => format!("{}'s storage is done", node + 1),
            Happening::StorageIdles { node, .. } => format!("{}'s storage is idle", node + 1),
            Happening::SaidToBeWritten { node, sequence, .. } => {
                format!("{} is told that write {sequence} is durable", node + 1)
            }
            Happening::Apply { node, .. } => format!("{}'s state machine applies", node + 1),
            Happening::GivesUp { node, .. } => format!("{} ends: its disk has failed", node + 1),
            Happening::Boot { node } => format!("{} starts", node + 1),
            Happening::Resume { node } => format!("{} goes on", node + 1),
            Happening::RoomOnDisk { node } => format!("{}'s disk has room again", node + 1),
            Happening::Client { client } => format!("client {} may ask", client + 1),
            Happening::Fault => "a fault is due".to_owned(),
            Happening::LeaderFalls { node, .. } => {
                format!("the new leader {} is to fall", node + 1)
            }
            Happening::FallsSilent { node } => format!("{} is not heard any more", node + 1),
            Happening::FriendFalls { node } => {
                format!("{}, which still answers a leader, is to fall", node + 1)
            }
            Happening::Heal => "the network heals".to_owned(),
            Happening::Churn => "the operator looks at the cluster".to_owned(),
            Happening::Forgets => "a disk is copied or put back".to_owned(),
            Happening::WildTerm => "a broken peer says something".to_owned(),
            Happening::Probe => "is everybody well?".to_owned(),
            Happening::MachineFault => "a state machine is to be slow or sick".to_owned(),
            Happening::StateFault => "the state of a machine is to go wrong".to_owned(),
            Happening::SnapshotRots => "a snapshot is to rot".to_owned(),
            Happening::StartedAgain { node, .. } => {
                format!("{} is started again: its machine has failed", node + 1)
            }
        }
    }
}
