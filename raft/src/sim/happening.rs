//! What can happen.

use crate::replica::PeerMessage;
use crate::types::Message;

/// Something that happens at some time. Nodes are named by their place, from 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Happening {
    /// A message between cores arrives, in whatever life its receiver is.
    Datagram { to: usize, message: Message },
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
    /// Every pair of nodes can hear each other again.
    Heal,
    /// After the faults: is everybody well?
    Probe,
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
            | Happening::LeaderFalls { life, .. } => Some(life),
            _ => None,
        }
    }
}
