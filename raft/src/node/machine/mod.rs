//! The node's state machine, on a thread of its own or on the loop.
//!
//! ```text
//!  loop     push push flush ----- batch of jobs, in order -----> machine thread
//!           take <--------------- reports -----------------------'   (one wake a batch, or a ms)
//! ```
//!
//! The core (`Config::applying_bytes`) and the limit on pending requests (`Limits`) bound the jobs
//! that are handed out. Entries beyond them stay on disk.

mod gauges;
mod host;
mod thread;

use std::{io, path::Path, sync::Arc};

use kodiak_channel::Sender;

pub(super) use gauges::Gauges;
pub use gauges::MachineCall;
use host::FolderHost;
pub(super) use thread::{MachineReport, MachineThread};

use crate::{
    replica::{MachineDone, MachineJob, MachineRunner, StateMachine},
    types::NodeId,
};

/// Where the state machine's functions are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MachinePlacement {
    /// On a thread of its own. However long they take, no heartbeat, vote or acknowledgement waits
    /// for them.
    ///
    /// Each answer costs two wakes between threads. Calls that the machine declares quick
    /// ([`StateMachine::applies_quickly`]) are made on the loop while the thread is idle.
    #[default]
    Thread,
    /// On the loop, between everything else that the node does.
    ///
    /// For machines whose every call, restore included, takes less than a few milliseconds. A call
    /// that takes longer than the election timeout deposes the leader, and then the next leader, at
    /// the same entry.
    Inline,
}

/// The node's state machine.
pub(super) enum NodeMachine<S> {
    Inline { runner: MachineRunner<S>, host: FolderHost },
    Thread(MachineThread<S>),
}

impl<S: StateMachine> NodeMachine<S> {
    /// A machine on the loop.
    pub(super) fn inline(
        machine: S,
        folder: &Path,
        node: NodeId,
        gauges: Arc<Gauges>,
    ) -> NodeMachine<S> {
        let host = FolderHost::new(folder.to_owned(), node, gauges);
        NodeMachine::Inline { runner: MachineRunner::new(machine), host }
    }

    /// A machine on a thread, which sends its reports over `reports`.
    pub(super) fn thread(
        machine: S,
        folder: &Path,
        node: NodeId,
        gauges: Arc<Gauges>,
        reports: Sender<MachineReport>,
    ) -> io::Result<NodeMachine<S>>
    where
        S: Send + 'static,
    {
        let host = FolderHost::new(folder.to_owned(), node, gauges);
        MachineThread::start(MachineRunner::new(machine), host, reports).map(NodeMachine::Thread)
    }

    /// The machine, if it is on the loop.
    pub(super) fn machine(&self) -> Option<&S> {
        match self {
            NodeMachine::Inline { runner, .. } => Some(runner.machine()),
            NodeMachine::Thread(_) => None,
        }
    }

    /// Counts this many of the thread's jobs as done, after their results were taken.
    pub(super) fn finish_jobs(&mut self, jobs: usize) {
        if let NodeMachine::Thread(thread) = self {
            thread.finish_jobs(jobs);
        }
    }

    /// Takes a job. A machine on the loop does it at once.
    pub(super) fn push(&mut self, job: MachineJob, complete: &mut impl FnMut(MachineDone)) {
        match self {
            NodeMachine::Inline { runner, host } => {
                runner.run(job, host, complete);
                host.go_idle();
            }
            NodeMachine::Thread(thread) => thread.push(job, complete),
        }
    }

    /// Sends the waiting jobs to the thread.
    pub(super) fn flush(&mut self) {
        if let NodeMachine::Thread(thread) = self {
            thread.flush();
        }
    }
}
