//! The storage thread, which makes every file call.
//!
//! Jobs go to it in batches. Completions come back over a channel of the loop. So a slow disk
//! delays no heartbeat.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    sync::mpsc::{
        Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use kodiak_channel::Sender;

use super::snapshot_reader::read_ahead;
use crate::storage::{Completion, Disk, Job, Log, Worker};

/// Batches that may wait for the thread. Further jobs wait on the loop's side; the core bounds
/// their number.
const BATCHES: usize = 8;
/// How long the thread waits for jobs before it writes the mark that all before is durable.
const IDLE_AFTER: Duration = Duration::from_millis(200);

/// The loop's side of the storage thread.
#[derive(Debug)]
pub(super) struct StorageThread {
    /// Shared with the threads that read snapshots. These do not keep the storage thread alive.
    batches: Option<Arc<SyncSender<VecDeque<Job>>>>,
    /// Jobs that the thread has not got yet.
    waiting: VecDeque<Job>,
    thread: Option<JoinHandle<()>>,
}

impl StorageThread {
    /// Starts the thread on `log`.
    pub(super) fn start<D>(
        log: Log<D>,
        completions: Sender<Completion>,
    ) -> io::Result<StorageThread>
    where
        D: Disk + Send + 'static,
        Log<D>: Send,
    {
        let (batches, jobs) = sync_channel(BATCHES);
        let thread = Builder::new()
            .name("raft-storage".to_owned())
            .spawn(move || serve(log, &jobs, &completions))?;
        Ok(StorageThread {
            batches: Some(Arc::new(batches)),
            waiting: VecDeque::new(),
            thread: Some(thread),
        })
    }

    /// Takes a job. It goes to the thread with the next [`StorageThread::flush`].
    pub(super) fn push(&mut self, job: Job) {
        let job = match (job, &self.batches) {
            (Job::TakeSnapshot { meta, source }, Some(batches)) => {
                let thread = Arc::downgrade(batches);
                // An empty batch wakes the thread. If there is no room for one, the thread has
                // batches to read and is awake.
                let wake =
                    move || drop(thread.upgrade().map(|thread| thread.try_send(VecDeque::new())));
                Job::TakeSnapshot { meta, source: read_ahead(source, wake) }
            }
            (job, _) => job,
        };
        self.waiting.push_back(job);
    }

    /// Sends the waiting jobs to the thread.
    ///
    /// Jobs that the thread cannot take now go with a later call: every completion leads to one.
    pub(super) fn flush(&mut self) {
        let Some(batches) = self.batches.as_ref().filter(|_| !self.waiting.is_empty()) else {
            return;
        };
        match batches.try_send(std::mem::take(&mut self.waiting)) {
            Ok(()) => {}
            Err(TrySendError::Full(jobs)) => self.waiting = jobs,
            // The thread has panicked. The closed channel of completions reports that to the node.
            Err(TrySendError::Disconnected(_)) => self.batches = None,
        }
    }
}

impl Drop for StorageThread {
    /// Lets the thread finish its jobs, and waits for it: then the folder's lock is free.
    ///
    /// The receiver of the completions must be dropped before, or the thread could block forever on
    /// a full channel.
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // The panic hook has already printed a panic of the thread.
            let _ = thread.join();
        }
    }
}

fn serve<D: Disk>(
    log: Log<D>,
    batches: &Receiver<VecDeque<Job>>,
    completions: &Sender<Completion>,
) {
    let mut worker = Worker::new(log);
    let mut jobs = VecDeque::new();
    // The node may have stopped: then completions are not needed.
    let mut complete = |completion| drop(completions.send_blocking(completion));
    let mut is_marked = true;
    // Whether a snapshot is being written, one slice between two batches.
    let mut has_more = false;
    loop {
        let first = if has_more {
            match batches.try_recv() {
                Ok(batch) => Ok(batch),
                Err(TryRecvError::Empty) => Ok(VecDeque::new()),
                Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            }
        } else if is_marked {
            batches.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            batches.recv_timeout(IDLE_AFTER)
        };
        match first {
            Ok(batch) => jobs.extend(batch),
            Err(RecvTimeoutError::Timeout) => {
                worker.write_mark(&mut complete);
                is_marked = true;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // Group commit: all batches that have arrived meanwhile share the sync.
        while let Ok(batch) = batches.try_recv() {
            jobs.extend(batch);
        }
        has_more = worker.run(&mut jobs, &mut complete);
        if let Some(position) = worker.take_synced() {
            complete(Completion::Synced { position });
        }
        if worker.wants_mark() {
            worker.write_mark(&mut complete);
        }
        is_marked = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use kodiak_reactor::EventLoop;

    use super::{
        super::{Token, token::TokenKind},
        *,
    };
    use crate::{
        core::Done,
        storage::{DiskFile, LogOptions, RealDisk, RealFile},
        types::{
            ClusterId, Configuration, DiskId, GroupId, HardState, Identity, NodeId, Term, Write,
        },
    };

    /// A folder whose files report their name at every write.
    struct Watched {
        disk: RealDisk,
        writes: mpsc::Sender<String>,
    }

    struct WatchedFile {
        file: RealFile,
        name: String,
        writes: mpsc::Sender<String>,
    }

    impl Watched {
        fn watch(&self, name: &str, file: RealFile) -> WatchedFile {
            WatchedFile { file, name: name.to_owned(), writes: self.writes.clone() }
        }
    }

    impl Disk for Watched {
        type File = WatchedFile;

        fn create(&mut self, name: &str, preallocate_bytes: u64) -> io::Result<WatchedFile> {
            self.disk.create(name, preallocate_bytes).map(|file| self.watch(name, file))
        }

        fn open(&mut self, name: &str) -> io::Result<WatchedFile> {
            self.disk.open(name).map(|file| self.watch(name, file))
        }

        fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
            self.disk.rename(from, to)
        }

        fn remove(&mut self, name: &str) -> io::Result<()> {
            self.disk.remove(name)
        }

        fn list(&mut self) -> io::Result<Vec<String>> {
            self.disk.list()
        }

        fn sync_directory(&mut self) -> io::Result<()> {
            self.disk.sync_directory()
        }
    }

    impl DiskFile for WatchedFile {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.file.read_at(buffer, offset)
        }

        fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.file.write_at(bytes, offset)?;
            // The test may have ended.
            let _ = self.writes.send(self.name.clone());
            Ok(())
        }

        fn fill(&mut self, from: u64, to: u64) -> io::Result<()> {
            self.file.fill(from, to)
        }

        fn sync(&mut self) -> io::Result<()> {
            self.file.sync()
        }

        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }
    }

    /// By that mark recovery distinguishes rot in the last batch from a torn write.
    #[test]
    fn an_idle_thread_marks_what_is_durable() {
        let (folder, deadline) = (tempfile::tempdir().unwrap(), Duration::from_secs(60));
        let (writes, written) = mpsc::channel();
        let disk = Watched { disk: RealDisk::open(folder.path()).unwrap(), writes };
        let (cluster, group, node, disk_id) = (ClusterId(1), GroupId(0), NodeId(1), DiskId(1));
        let identity = Identity { cluster, group, node, disk: disk_id };
        let log =
            Log::create(disk, &identity, &Configuration::default(), LogOptions::default()).unwrap();
        let mut event_loop = EventLoop::<Token, ()>::new().unwrap();
        let (completed, completions) =
            event_loop.add_channel(Token(TokenKind::Completions), 4).unwrap();
        let mut thread = StorageThread::start(log, completed).unwrap();
        let _ = written.try_iter().count();
        let hard_state = Some(HardState { term: Term(1), ..HardState::default() });
        thread.push(Job::Write(Write { sequence: 1, hard_state, ..Write::default() }));
        thread.flush();
        let segment = written.recv_timeout(deadline).unwrap();
        // Without another job the thread writes there once more, and then no more.
        while written.recv_timeout(deadline).expect("a mark") != segment {}
        assert!(matches!(
            completions.try_recv(),
            Ok(Completion::Done(Done::Written { sequence: 1 }))
        ));
        drop((completions, thread));
        assert!(written.iter().all(|name| name != segment));
    }
}
