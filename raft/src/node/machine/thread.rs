//! The state machine's thread. Jobs go to it in batches, in order; what became of them comes back
//! over a channel of the loop.
//!
//! While the thread has nothing to do, the loop does jobs itself that the machine calls quick
//! ([`StateMachine::applies_quickly`]): two wakes between threads would cost more than they take.
//! The machine changes hands under a lock that the loop only tries, and never waits for:
//!
//! ```text
//!  job is quick, no job outstanding, fewer than 1024 quick calls since the last flush -> the loop
//!  else                                                                               -> the thread
//! ```

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Instant,
};

use kodiak_channel::Sender;

use super::host::{FolderHost, QuickHost, REPORT_INTERVAL};
use crate::replica::{MachineDone, MachineJob, MachineRunner, StateMachine};

/// Batches that may wait for the thread. More wait here, on the loop's side; the core bounds what
/// is to be applied, and the replica's limits what is to be answered.
const BATCHES: usize = 8;
/// The most calls that the loop makes itself between two flushes.
const QUICK_CALLS: usize = 1024;

/// What became of some jobs, in their order.
#[derive(Debug, Default)]
pub(in crate::node) struct MachineReport {
    pub(in crate::node) done: Vec<MachineDone>,
    /// How many jobs the thread has ended since its last report.
    pub(in crate::node) ended_jobs: usize,
}

/// The machine and what it needs, wherever it runs.
#[derive(Debug)]
struct Shared<S> {
    runner: MachineRunner<S>,
    host: FolderHost,
}

/// The loop's side of the machine's thread.
#[derive(Debug)]
pub(in crate::node) struct MachineThread<S> {
    shared: Arc<Mutex<Shared<S>>>,
    batches: Option<SyncSender<VecDeque<MachineJob>>>,
    /// Jobs not handed over yet.
    waiting: VecDeque<MachineJob>,
    /// Jobs that were pushed, and whose end the loop has not been told.
    outstanding: usize,
    /// Calls that the loop may make itself before the next flush.
    quick_calls_left: usize,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<S> MachineThread<S> {
    pub(super) fn start(
        runner: MachineRunner<S>,
        host: FolderHost,
        completed: Sender<MachineReport>,
    ) -> io::Result<MachineThread<S>>
    where
        S: StateMachine + Send + 'static,
    {
        let shared = Arc::new(Mutex::new(Shared { runner, host }));
        let threads = Arc::clone(&shared);
        let (batches, jobs) = sync_channel(BATCHES);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopping);
        let thread = Builder::new()
            .name("raft-machine".to_owned())
            .spawn(move || serve(&threads, &jobs, &completed, &stop))?;
        Ok(MachineThread {
            shared,
            batches: Some(batches),
            waiting: VecDeque::new(),
            outstanding: 0,
            quick_calls_left: QUICK_CALLS,
            is_stopping,
            thread: Some(thread),
        })
    }

    /// Takes a job, and does it at once if it is quick and none is before it. Otherwise it goes to
    /// the thread with the next [`MachineThread::flush`].
    pub(super) fn push(&mut self, job: MachineJob, complete: &mut impl FnMut(MachineDone))
    where
        S: StateMachine,
    {
        if self.outstanding == 0
            && let Ok(mut shared) = self.shared.try_lock()
            && let Some(calls) =
                shared.runner.quick_calls(&job).filter(|&calls| calls <= self.quick_calls_left)
        {
            self.quick_calls_left -= calls;
            let Shared { runner, host } = &mut *shared;
            runner.run(job, &mut QuickHost { host, is_timed: false }, complete);
            host.rest();
            return;
        }
        self.outstanding += 1;
        self.waiting.push_back(job);
    }

    /// The thread has ended this many jobs, and the loop has taken in what became of them.
    pub(super) fn ended(&mut self, jobs: usize) {
        self.outstanding -= jobs;
    }

    /// Hands over what waits. What the thread cannot take now goes with a later call: every batch
    /// that it has done leads to one.
    pub(super) fn flush(&mut self) {
        self.quick_calls_left = QUICK_CALLS;
        let Some(batches) = self.batches.as_ref().filter(|_| !self.waiting.is_empty()) else {
            return;
        };
        match batches.try_send(std::mem::take(&mut self.waiting)) {
            Ok(()) => {}
            Err(TrySendError::Full(jobs)) => self.waiting = jobs,
            // The thread has ended; the channel of completions is closed, which tells the node.
            Err(TrySendError::Disconnected(_)) => self.batches = None,
        }
    }
}

impl<S> Drop for MachineThread<S> {
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
    shared: &Mutex<Shared<S>>,
    batches: &Receiver<VecDeque<MachineJob>>,
    completed: &Sender<MachineReport>,
    is_stopping: &AtomicBool,
) {
    while let Ok(mut jobs) = batches.recv() {
        // What has come meanwhile shares the wake of the loop.
        while let Ok(more) = batches.try_recv() {
            jobs.extend(more);
        }
        let mut reporter =
            Reporter { report: MachineReport::default(), sent: Instant::now(), completed };
        // A panic of the user's code is contained below; nothing else panics under the lock.
        let mut held = shared.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(job) = jobs.pop_front() {
            if is_stopping.load(Ordering::Relaxed) {
                return;
            }
            let Shared { runner, host } = &mut *held;
            runner.run(job, host, &mut |done| reporter.add(done));
            reporter.report.ended_jobs += 1;
        }
        held.host.rest();
        // The loop tries the lock as soon as it is told.
        drop(held);
        reporter.send();
    }
}

/// Tells the loop what is done.
struct Reporter<'a> {
    report: MachineReport,
    sent: Instant,
    completed: &'a Sender<MachineReport>,
}

impl Reporter<'_> {
    fn add(&mut self, done: MachineDone) {
        self.report.done.push(done);
        let now = Instant::now();
        if now.saturating_duration_since(self.sent) >= REPORT_INTERVAL {
            self.sent = now;
            self.send();
        }
    }

    fn send(&mut self) {
        // The node may be gone: then nobody wants to know.
        let _ = self.completed.send_blocking(std::mem::take(&mut self.report));
    }
}
