//! The state machine's thread. Jobs go to it in batches, in order; what became of them comes back
//! over a channel of the loop.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Instant,
};

use kodiak_channel::Sender;

use super::host::{FolderHost, REPORT_INTERVAL};
use crate::replica::{MachineDone, MachineJob, MachineRunner, StateMachine};

/// Batches that may wait for the thread. More wait here, on the loop's side; the core bounds what
/// is to be applied, and the replica's limits what is to be answered.
const BATCHES: usize = 8;
/// The loop's side of the machine's thread.
#[derive(Debug)]
pub(in crate::node) struct MachineThread {
    batches: Option<SyncSender<VecDeque<MachineJob>>>,
    /// Jobs not handed over yet.
    waiting: VecDeque<MachineJob>,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MachineThread {
    pub(super) fn start<S>(
        runner: MachineRunner<S>,
        host: FolderHost,
        completed: Sender<Vec<MachineDone>>,
    ) -> io::Result<MachineThread>
    where
        S: StateMachine + Send + 'static,
    {
        let (batches, jobs) = sync_channel(BATCHES);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopping);
        let thread = Builder::new()
            .name("raft-machine".to_owned())
            .spawn(move || serve(runner, host, &jobs, &completed, &stop))?;
        let (batches, waiting) = (Some(batches), VecDeque::new());
        Ok(MachineThread { batches, waiting, is_stopping, thread: Some(thread) })
    }

    /// Takes a job; it goes to the thread with the next [`MachineThread::flush`].
    pub(super) fn push(&mut self, job: MachineJob) {
        self.waiting.push_back(job);
    }

    /// Hands over what waits. What the thread cannot take now goes with a later call: every batch
    /// that it has done leads to one.
    pub(super) fn flush(&mut self) {
        let Some(batches) = self.batches.as_ref().filter(|_| !self.waiting.is_empty()) else { return };
        match batches.try_send(std::mem::take(&mut self.waiting)) {
            Ok(()) => {}
            Err(TrySendError::Full(jobs)) => self.waiting = jobs,
            // The thread has ended; the channel of completions is closed, which tells the node.
            Err(TrySendError::Disconnected(_)) => self.batches = None,
        }
    }
}

impl Drop for MachineThread {
    /// Waits for the call that is under way; what is behind it is not begun. The receiver of the
    /// completions must be gone by then, or the thread could wait for room in it without end.
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

fn serve<S: StateMachine>(
    mut runner: MachineRunner<S>,
    mut host: FolderHost,
    batches: &Receiver<VecDeque<MachineJob>>,
    completed: &Sender<Vec<MachineDone>>,
    is_stopping: &AtomicBool,
) {
    while let Ok(mut jobs) = batches.recv() {
        // What has come meanwhile shares the wake of the loop.
        while let Ok(more) = batches.try_recv() {
            jobs.extend(more);
        }
        let mut report = Report { done: Vec::new(), sent: Instant::now(), completed };
        while let Some(job) = jobs.pop_front() {
            if is_stopping.load(Ordering::Relaxed) {
                return;
            }
            runner.run(job, &mut host, &mut |done| report.add(done));
        }
        host.rest();
        report.send();
    }
}

/// What is done and not told yet.
struct Report<'a> {
    done: Vec<MachineDone>,
    sent: Instant,
    completed: &'a Sender<Vec<MachineDone>>,
}

impl Report<'_> {
    fn add(&mut self, done: MachineDone) {
        self.done.push(done);
        let now = Instant::now();
        if now.saturating_duration_since(self.sent) >= REPORT_INTERVAL {
            self.sent = now;
            self.send();
        }
    }

    fn send(&mut self) {
        if !self.done.is_empty() {
            // The node may be gone: then nobody wants to know.
            let _ = self.completed.send_blocking(std::mem::take(&mut self.done));
        }
    }
}
