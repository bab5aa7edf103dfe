//! The state machine's thread.
//!
//! Jobs go to it in batches, in order. Their results come back over a channel of the loop.
//!
//! While the thread is idle, the loop does jobs itself that the machine declares quick
//! ([`StateMachine::applies_quickly`]): two wakes between threads would cost more than the jobs. A
//! lock guards the machine. The loop tries the lock and never waits for it:
//!
//! ```text
//!  job is quick, none outstanding, < 1024 quick calls since the last flush -> the loop
//!  otherwise                                                               -> the thread
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

/// Batches that may wait for the thread. Further jobs wait on the loop's side: the core bounds the
/// entries to apply, and the replica's limits bound the queries to answer.
const BATCHES: usize = 8;
/// The most quick calls on the loop between two flushes.
const QUICK_CALLS: usize = 1024;

/// Results of jobs, in order.
#[derive(Debug, Default)]
pub(in crate::node) struct MachineReport {
    pub(in crate::node) done: Vec<MachineDone>,
    /// Number of jobs that ended since the last report.
    pub(in crate::node) ended_jobs: usize,
}

/// The machine and its host, for the thread or the loop.
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
    /// Jobs that the thread has not got yet.
    waiting: VecDeque<MachineJob>,
    /// Number of jobs of the thread whose results the loop has not taken yet.
    outstanding: usize,
    /// Quick calls that the loop may make before the next flush.
    quick_calls_left: usize,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<S> MachineThread<S> {
    pub(super) fn start(
        runner: MachineRunner<S>,
        host: FolderHost,
        reports: Sender<MachineReport>,
    ) -> io::Result<MachineThread<S>>
    where
        S: StateMachine + Send + 'static,
    {
        let shared = Arc::new(Mutex::new(Shared { runner, host }));
        let of_thread = Arc::clone(&shared);
        let (batches, jobs) = sync_channel(BATCHES);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopping);
        let thread = Builder::new()
            .name("raft-machine".to_owned())
            .spawn(move || serve(&of_thread, &jobs, &reports, &stop))?;
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

    /// Takes a job, and does it at once if it is quick and no other is outstanding.
    ///
    /// Any other job goes to the thread with the next [`MachineThread::flush`].
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
            runner.run(job, &mut QuickHost::new(host), complete);
            host.go_idle();
            return;
        }
        self.outstanding += 1;
        self.waiting.push_back(job);
    }

    /// Counts this many jobs as done, after the loop has taken their results.
    pub(super) fn finish_jobs(&mut self, jobs: usize) {
        self.outstanding -= jobs;
    }

    /// Sends the waiting jobs to the thread.
    ///
    /// Jobs that the thread cannot take now go with a later call: every finished batch leads to
    /// one.
    pub(super) fn flush(&mut self) {
        self.quick_calls_left = QUICK_CALLS;
        let Some(batches) = self.batches.as_ref().filter(|_| !self.waiting.is_empty()) else {
            return;
        };
        match batches.try_send(std::mem::take(&mut self.waiting)) {
            Ok(()) => {}
            Err(TrySendError::Full(jobs)) => self.waiting = jobs,
            // The thread has ended. The closed channel of reports shows that to the node.
            Err(TrySendError::Disconnected(_)) => self.batches = None,
        }
    }
}

impl<S> Drop for MachineThread<S> {
    /// Waits for the call in progress; the jobs after it are not begun.
    ///
    /// The receiver of the reports must be dropped before, or the thread could block forever on a
    /// full channel.
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // The panic hook has already printed a panic of the thread.
            let _ = thread.join();
        }
    }
}

fn serve<S: StateMachine>(
    shared: &Mutex<Shared<S>>,
    batches: &Receiver<VecDeque<MachineJob>>,
    reports: &Sender<MachineReport>,
    is_stopping: &AtomicBool,
) {
    while let Ok(mut jobs) = batches.recv() {
        // Batches that have arrived meanwhile share the wake of the loop.
        while let Ok(more) = batches.try_recv() {
            jobs.extend(more);
        }
        let mut reporter =
            Reporter { report: MachineReport::default(), last_sent: Instant::now(), reports };
        // A panic of the user's code is contained below; nothing else panics under the lock.
        let mut guard = shared.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(job) = jobs.pop_front() {
            if is_stopping.load(Ordering::Relaxed) {
                return;
            }
            let Shared { runner, host } = &mut *guard;
            runner.run(job, host, &mut |done| reporter.add(done));
            reporter.report.ended_jobs += 1;
        }
        guard.host.go_idle();
        // The loop tries the lock as soon as it gets the report.
        drop(guard);
        reporter.send();
    }
}

/// Collects results, and sends them to the loop at intervals.
struct Reporter<'a> {
    report: MachineReport,
    last_sent: Instant,
    reports: &'a Sender<MachineReport>,
}

impl Reporter<'_> {
    fn add(&mut self, done: MachineDone) {
        self.report.done.push(done);
        let now = Instant::now();
        if now.saturating_duration_since(self.last_sent) >= REPORT_INTERVAL {
            self.last_sent = now;
            self.send();
        }
    }

    fn send(&mut self) {
        // The node may have stopped: then reports are not needed.
        let _ = self.reports.send_blocking(std::mem::take(&mut self.report));
    }
}
