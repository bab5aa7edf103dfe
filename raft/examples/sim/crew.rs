//! Threads that run seeds, and what they have done.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use kodiak_raft::sim::{Failure, Harms, Options, Report, run};

/// How often somebody who waits is told how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// Which seeds.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) seeds: Range<u64>,
    /// No seed is begun after this.
    pub(crate) until: Option<Instant>,
}

/// What became of a seed.
type Outcome = Result<Report, Box<Failure>>;

/// Threads at work.
pub(crate) struct Crew {
    outcomes: Receiver<Outcome>,
    stop: Arc<AtomicBool>,
    began: Instant,
}

impl Crew {
    pub(crate) fn start(work: Work, threads: usize, options: &Options) -> Crew {
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
        Crew { outcomes, stop, began: Instant::now() }
    }

    /// Waits for all to be done, or for the lowest of the first seeds that fail.
    pub(crate) fn watch(self, mut progress: impl FnMut(&Total)) -> (Total, Option<Box<Failure>>) {
        let mut total = Total::default();
        let mut failure: Option<Box<Failure>> = None;
        let mut told = Instant::now();
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
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                progress(&total);
            }
        }
        total.elapsed = self.began.elapsed();
        (total, failure)
    }
}

/// What has been run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Total {
    pub(crate) seeds: u64,
    steps: u64,
    elapsed: Duration,
    virtual_time: Duration,
    leaders: u64,
    boots: u64,
    lost_disks: u64,
    entries: u64,
    installed: u64,
    writes: u64,
    reads: u64,
    undecided: u64,
    harms: Harms,
    /// The sum of the seeds' digests, in whatever order they were run.
    behaviour: u64,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.steps += report.steps;
        self.virtual_time += report.elapsed;
        self.leaders += report.leaders;
        self.boots += report.boots;
        self.lost_disks += report.lost_disks;
        self.entries += report.committed;
        self.installed += report.snapshots_installed;
        self.writes += report.writes_answered;
        self.reads += report.reads_answered;
        self.undecided += report.undecided_keys;
        self.harms.add(&report.harms);
        self.behaviour = self.behaviour.wrapping_add(report.behaviour);
    }
}

impl Total {
    /// What the seeds have done, as one number.
    pub(crate) fn behaviour(&self) -> String {
        format!("behaviour of {} seeds: {:016x}", self.seeds, self.behaviour)
    }

    /// What went wrong, and how often; also what never did.
    pub(crate) fn faults(&self) -> String {
        let row = |(words, count)| format!("| {words} | {count} |\n");
        let rows: String = self.harms.iter().map(row).collect();
        format!("| what went wrong | times |\n|---|---|\n{rows}")
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        write!(
            f,
            "{:6.1} s: {} seeds, {} steps ({:.0} a second), {} virtual s; {} leaders, {} starts, {} disks lost, \
             {} entries, {} snapshots installed, {} writes and {} reads answered, {} histories undecided",
            seconds,
            self.seeds,
            self.steps,
            self.steps as f64 / seconds.max(1e-9),
            self.virtual_time.as_secs(),
            self.leaders,
            self.boots,
            self.lost_disks,
            self.entries,
            self.installed,
            self.writes,
            self.reads,
            self.undecided,
        )
    }
}
