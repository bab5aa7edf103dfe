//! Where the node's state machine runs: on a thread of its own, or on the loop.
//!
//! ```text
//!  loop     push push flush ----- batch of jobs, in order -----> machine thread
//!           take <--------------- what became of them ----------'   (one wake a batch, or a ms)
//! ```
//!
//! What may be handed out is bounded by the core (`Config::applying_bytes`) and by the requests
//! that may be pending (`Limits`); what exceeds that stays on disk.

mod gauges;
mod host;
mod progress;
mod thread;

use std::{io, path::Path, sync::Arc};

use kodiak_channel::Sender;

pub(super) use gauges::Gauges;
pub use gauges::MachineCall;
use host::FolderHost;
pub(super) use progress::Progress;
pub(super) use thread::{MachineReport, MachineThread};

use crate::{
    replica::{MachineDone, MachineJob, MachineRunner, StateMachine},
    types::NodeId,
};

/// Where the state machine's functions are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MachinePlacement {
    /// On a thread of its own: however long they take, no heartbeat, vote or acknowledgement waits
    /// for them. Each answer costs two wakes between threads, but for what the machine calls quick
    /// ([`StateMachine::applies_quickly`]) while the thread has nothing to do: that the loop does.
    #[default]
    Thread,
    /// On the loop, between everything else that the node does. For machines whose every call,
    /// restore included, takes less than a few milliseconds: a call that takes longer than the
    /// election timeout deposes the leader, and the next one, at the same entry.
    Inline,
}

/// The node's state machine, wherever it runs.
pub(super) enum NodeMachine<S> {
    Inline { runner: MachineRunner<S>, host: FolderHost },
    Thread(MachineThread<S>),
}

impl<S: StateMachine> NodeMachine<S> {
    /// On the loop.
    pub(super) fn inline(
        machine: S,
        folder: &Path,
        node: NodeId,
        gauges: Arc<Gauges>,
    ) -> NodeMachine<S> {
        let host = FolderHost::new(folder.to_owned(), node, gauges);
        NodeMachine::Inline { runner: MachineRunner::new(machine), host }
    }

    /// On a thread, which says over `completed` what it has done.
    pub(super) fn thread(
        machine: S,
        folder: &Path,
        node: NodeId,
        gauges: Arc<Gauges>,
        completed: Sender<MachineReport>,
    ) -> io::Result<NodeMachine<S>>
    where
        S: Send + 'static,
    {
        let host = FolderHost::new(folder.to_owned(), node, gauges);
        MachineThread::start(MachineRunner::new(machine), host, completed).map(NodeMachine::Thread)
    }

    /// The machine, if it is on the loop.
    pub(super) fn machine(&self) -> Option<&S> {
        match self {
            NodeMachine::Inline { runner, .. } => Some(runner.machine()),
            NodeMachine::Thread(_) => None,
        }
    }

    /// The thread has ended this many jobs, and what became of them has been taken in.
    pub(super) fn ended(&mut self, jobs: usize) {
        if let NodeMachine::Thread(thread) = self {
            thread.ended(jobs);
        }
    }

    /// Takes a job. Where it is done on the loop it is done at once.
    pub(super) fn push(&mut self, job: MachineJob, complete: &mut impl FnMut(MachineDone)) {
        match self {
            NodeMachine::Inline { runner, host } => {
                runner.run(job, host, complete);
                host.rest();
            }
            NodeMachine::Thread(thread) => thread.push(job, complete),
        }
    }

    /// Hands over what waits for the thread.
    pub(super) fn flush(&mut self) {
        if let NodeMachine::Thread(thread) = self {
            thread.flush();
        }
    }
}
