//! Threads that run seeds, and the sum of their reports.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use kodiak_raft::sim::{Failure, FaultCounters, Options, Report, run};

/// Interval between two progress lines.
const PROGRESS: Duration = Duration::from_secs(5);

/// The seeds to run.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) seeds: Range<u64>,
    /// No seed starts after this time.
    pub(crate) until: Option<Instant>,
}

/// The result of one seed.
type Outcome = Result<Report, Box<Failure>>;

/// Running worker threads.
pub(crate) struct Workers {
    outcomes: Receiver<Outcome>,
    stop: Arc<AtomicBool>,
    began: Instant,
}

impl Workers {
    pub(crate) fn start(work: Work, threads: usize, options: &Options) -> Workers {
        let (sender, outcomes) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(work.seeds.start));
        for _ in 0..threads {
            let (sender, stop, next) = (sender.clone(), Arc::clone(&stop), Arc::clone(&next));
            let (options, Work { seeds, until }) = (options.clone(), work.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed)
                    && until.is_none_or(|until| Instant::now() < until)
                {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) || sender.send(run(seed, &options)).is_err() {
                        return;
                    }
                }
            });
        }
        Workers { outcomes, stop, began: Instant::now() }
    }

    /// Waits for all workers; stops them at a failure and returns the lowest failed seed.
    pub(crate) fn watch(self, mut progress: impl FnMut(&Total)) -> (Total, Option<Box<Failure>>) {
        let mut total = Total::default();
        let mut failure: Option<Box<Failure>> = None;
        let mut reported = Instant::now();
        loop {
            match self.outcomes.recv_timeout(PROGRESS) {
                Ok(Ok(report)) => total.add(&report),
                Ok(Err(found)) => {
                    self.stop.store(true, Ordering::Relaxed);
                    if failure.as_ref().is_none_or(|failure| found.seed < failure.seed) {
                        failure = Some(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            total.elapsed = self.began.elapsed();
            if reported.elapsed() >= PROGRESS {
                reported = Instant::now();
                progress(&total);
            }
        }
        total.elapsed = self.began.elapsed();
        (total, failure)
    }
}

/// The sum of all reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Total {
    pub(crate) seeds: u64,
    steps: u64,
    elapsed: Duration,
    virtual_time: Duration,
    leaders: u64,
    process_starts: u64,
    lost_disks: u64,
    entries: u64,
    installed: u64,
    writes: u64,
    reads: u64,
    undecided: u64,
    fault_counters: FaultCounters,
    /// The sum of the seeds' digests, which does not depend on their order.
    behaviour: u64,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.steps += report.steps;
        self.virtual_time += report.elapsed;
        self.leaders += report.leaders;
        self.process_starts += report.process_starts;
        self.lost_disks += report.lost_disks;
        self.entries += report.committed;
        self.installed += report.snapshots_installed;
        self.writes += report.writes_answered;
        self.reads += report.reads_answered;
        self.undecided += report.undecided_keys;
        self.fault_counters.add(&report.fault_counters);
        self.behaviour = self.behaviour.wrapping_add(report.behaviour);
    }
}

impl Total {
    /// The digest of all seeds.
    pub(crate) fn behaviour(&self) -> String {
        format!("behaviour of {} seeds: {:016x}", self.seeds, self.behaviour)
    }

    /// The table of fault counters, zeros included.
    pub(crate) fn faults(&self) -> String {
        let row = |(name, count)| format!("| {name} | {count} |\n");
        let rows: String = self.fault_counters.iter().map(row).collect();
        format!("| fault | times |\n|---|---|\n{rows}")
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        write!(
            f,
            "{:6.1} s: {} seeds, {} steps ({:.0} a second), {} virtual s; {} leaders, {} starts, \
             {} disks lost, {} entries, {} snapshots installed, {} writes and {} reads answered, \
             {} histories undecided",
            seconds,
            self.seeds,
            self.steps,
            self.steps as f64 / seconds.max(1e-9),
            self.virtual_time.as_secs(),
            self.leaders,
            self.process_starts,
            self.lost_disks,
            self.entries,
            self.installed,
            self.writes,
            self.reads,
            self.undecided,
        )
    }
}
