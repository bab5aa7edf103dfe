//! Every sync that `raft/FORMAT.md` promises reaches the kernel: a worker is run under `strace`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;

use super::snapshots::meta;
use super::*;
use crate::storage::{Completion, Job, RealDisk, SnapshotSource, Worker};

/// The variable with the traced process's data folder.
const FOLDER: &str = "KODIAK_TRACED_FOLDER";

/// Writes a line that appears in the trace. The test harness does not capture it.
fn mark(what: &str) {
    io::stderr().write_all(format!("MARK {what}\n").as_bytes()).unwrap();
}

fn run(worker: &mut Worker<RealDisk>, job: Job) {
    let mut jobs = VecDeque::from([job]);
    let mut complete = |completion| {
        assert!(matches!(completion, Completion::Done(_)), "{completion:?}");
        mark("done");
    };
    while worker.run(&mut jobs, &mut complete) {}
}

#[test]
#[ignore = "it is run, under strace, by each_promised_sync_reaches_the_kernel"]
fn traced_worker() {
    let folder = env::var_os(FOLDER).expect("the test that runs this one names a folder");
    let open = || {
        mark("opens");
        RealDisk::open(Path::new(&folder)).unwrap()
    };
    let mut worker =
        Worker::new(Log::create(open(), &identity(), &initial_configuration(), OPTIONS).unwrap());
    for index in 1..=100 {
        run(&mut worker, Job::Write(entries(vec![command(index, 1, 300)])));
        if index % 40 == 0 {
            let source = SnapshotSource::new(&b"state"[..]);
            run(&mut worker, Job::TakeSnapshot { meta: meta(index, 1), source });
            run(&mut worker, Job::Compact { first: Index(index - 2) });
        }
    }
    drop(worker);
    for index in 101..=102 {
        let mut worker = Worker::new(Log::open(open(), OPTIONS).unwrap().0);
        run(&mut worker, Job::Write(entries(vec![command(index, 1, 300)])));
    }
}

/// A call that succeeded, or a line of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    MakeFolder(String),
    Create(String),
    Write(String),
    Sync(String),
    Rename(String, String),
    Remove(String),
    Mark(String),
}

/// The calls of a trace by `strace -f -y`. Only one thread makes the calls of interest, and none of
/// them is interrupted.
fn calls(trace: &str) -> Vec<Call> {
    let quoted = |line: &str, at: usize| line.split('"').nth(2 * at + 1).map(str::to_owned);
    let descriptor = |text: &str| Some(text.split_once('<')?.1.split_once('>')?.0.to_owned());
    let call = |line: &str| {
        let (_, call) = line.split_once(char::is_whitespace)?;
        let call = call.trim_start();
        let (name, arguments) = call.split_once('(')?;
        let result = call.rsplit_once(" = ")?.1;
        if result.starts_with('-') {
            return None;
        }
        match name {
            "mkdir" => Some(Call::MakeFolder(quoted(call, 0)?)),
            "openat" if arguments.contains("O_CREAT") => Some(Call::Create(descriptor(result)?)),
            "write" if arguments.contains("MARK ") => {
                let text = quoted(call, 0)?;
                Some(Call::Mark(
                    text.trim_start_matches("MARK ").trim_end_matches("\\n").to_owned(),
                ))
            }
            "pwrite64" => Some(Call::Write(descriptor(arguments)?)),
            "fsync" | "fdatasync" => Some(Call::Sync(descriptor(arguments)?)),
            "rename" => Some(Call::Rename(quoted(call, 0)?, quoted(call, 1)?)),
            "unlink" => Some(Call::Remove(quoted(call, 0)?)),
            _ => None,
        }
    };
    trace.lines().filter_map(call).collect()
}

/// What is durable after the calls so far.
#[derive(Debug, Default)]
struct Durability {
    folder: String,
    /// Files with bytes that no sync has made durable.
    unsynced: BTreeSet<String>,
    /// Names that the folder's next sync makes durable, and the old names.
    pending: BTreeMap<String, Option<String>>,
    folders: BTreeSet<String>,
    /// A snapshot has its final name, which is not durable.
    snapshot_is_pending: bool,
    /// A segment is removed, which is not durable.
    gone: Option<u64>,
    /// The folder has been synced since it was opened.
    is_checked: bool,
    /// Folders that were synced since it was opened.
    synced: BTreeSet<String>,
    exists: bool,
    counts: BTreeMap<&'static str, u32>,
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned()
}

impl Durability {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn take(&mut self, call: &Call) -> Result<(), String> {
        let is_ours = |path: &str| parent(path) == self.folder && !path.ends_with("/LOCK");
        match call {
            Call::MakeFolder(path) => drop(self.folders.insert(path.clone())),
            Call::Create(path) if is_ours(path) => {
                self.check_folder()?;
                self.pending.insert(path.clone(), None);
            }
            Call::Write(path) if is_ours(path) => return self.write(path),
            Call::Sync(path) => self.sync(path),
            Call::Rename(from, to) if is_ours(from) => return self.rename(from, to),
            Call::Remove(path) if is_ours(path) => return self.remove(path),
            Call::Mark(what) if what == "opens" => {
                (self.is_checked, self.synced) = (!self.exists, BTreeSet::new());
                self.exists = true;
            }
            Call::Mark(_) => return self.acknowledge(),
            _ => {}
        }
        Ok(())
    }

    /// A name in the folder changes: the names found and the folder's own must be durable already.
    fn check_folder(&mut self) -> Result<(), String> {
        if let Some(folder) = self.folders.first() {
            return Err(format!("the name of {folder} is not durable"));
        }
        let parents = [parent(&self.folder), parent(&parent(&self.folder))];
        if let Some(parent) = parents.iter().find(|parent| !self.synced.contains(*parent)) {
            return Err(format!("{parent} was not synced when the folder was opened"));
        }
        if self.is_checked { Ok(()) } else { Err("the folder was not synced first".to_owned()) }
    }

    fn write(&mut self, path: &str) -> Result<(), String> {
        self.check_folder()?;
        if path.ends_with("/SYNCED") {
            self.count("SYNCED");
            let unsynced = self.unsynced.iter().find(|file| file.ends_with(".log"));
            return unsynced
                .map_or(Ok(()), |file| Err(format!("SYNCED is written before {file} is synced")));
        }
        let is_snapshot = path.ends_with(".snap.new");
        if self.pending.contains_key(path) && !is_snapshot && !path.ends_with(".log") {
            return Err(format!("{path} is written before its name is durable"));
        }
        self.unsynced.insert(path.to_owned());
        Ok(())
    }

    fn sync(&mut self, path: &str) {
        self.unsynced.remove(path);
        self.folders.retain(|folder| parent(folder) != path);
        self.synced.insert(path.to_owned());
        if path == self.folder {
            self.pending.clear();
            (self.snapshot_is_pending, self.gone, self.is_checked) = (false, None, true);
            self.count("folder");
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), String> {
        self.check_folder()?;
        if self.unsynced.contains(from) {
            return Err(format!("{from} gets its final name before it is synced"));
        }
        if from.ends_with(".log") {
            self.remove(from)?;
        }
        if to.ends_with(".snap") {
            self.snapshot_is_pending = true;
            self.count("snapshot");
        }
        if from.ends_with(".next") {
            self.count("prepared segment");
        }
        if from.ends_with(".spare") {
            self.count("spare");
        }
        self.pending.insert(to.to_owned(), Some(from.to_owned()));
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), String> {
        self.check_folder()?;
        let kind = path.rsplit('.').next().unwrap_or_default();
        if self.snapshot_is_pending && ["log", "snap"].contains(&kind) {
            return Err(format!("{path} is removed before the snapshot's name is durable"));
        }
        if kind == "log" {
            let name = path.rsplit('/').next().unwrap_or_default();
            let number = u64::from_str_radix(name.trim_end_matches(".log"), 16)
                .map_err(|error| error.to_string())?;
            if self.gone.is_some_and(|gone| gone > number) {
                return Err(format!(
                    "{path} is removed before the removal of the segment after it is durable"
                ));
            }
            self.gone = Some(number);
            self.count("removed segment");
        }
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<(), String> {
        if let Some(file) =
            self.unsynced.iter().find(|file| file.ends_with(".log") || file.ends_with(".snap"))
        {
            return Err(format!("acknowledged before {file} was synced"));
        }
        let is_promised = |(name, from): &(&String, &Option<String>)| {
            let was_made_ready = from.as_ref().is_some_and(|from| from.ends_with(".next"));
            (name.ends_with(".log") && !was_made_ready)
                || name.ends_with(".snap")
                || name.ends_with("/SYNCED")
        };
        match self.pending.iter().find(is_promised) {
            Some((name, _)) => Err(format!("acknowledged before the name of {name} was durable")),
            None => Ok(()),
        }
    }
}

/// Follows all calls. The error says which promise is broken at which call.
fn check(calls: &[Call], folder: &str) -> Result<BTreeMap<&'static str, u32>, String> {
    let mut durability = Durability { folder: folder.to_owned(), ..Durability::default() };
    for (at, call) in calls.iter().enumerate() {
        durability.take(call).map_err(|broken| format!("{broken}, at call {at}: {call:?}"))?;
    }
    Ok(durability.counts)
}

const MISSING: &str = "this test needs strace: install it ('apt-get install strace', as \
                       .ci/run does) and allow ptrace";

/// The calls of a traced worker, and its folder.
fn traced() -> (Vec<Call>, String, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let path = fs::canonicalize(root.path()).unwrap();
    let (folder, trace) = (path.join("nest/a/b"), path.join("trace"));
    let filter = "trace=mkdir,openat,pwrite64,fsync,fdatasync,rename,unlink,write";
    let traced = Command::new("strace")
        .args(["-f", "-qq", "-y", "-s", "64", "-e", filter, "-e", "signal=none", "-o"])
        .arg(&trace)
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            "storage::tests::syscalls::traced_worker",
            "--ignored",
            "--test-threads",
            "1",
        ])
        .env(FOLDER, &folder)
        .output()
        .unwrap_or_else(|error| panic!("{error}: {MISSING}"));
    let said = String::from_utf8_lossy(&traced.stderr).into_owned();
    assert!(traced.status.success(), "{MISSING}: {said}");
    assert!(folder.join("SYNCED").exists(), "the traced test did not run: {said}");
    let calls = calls(&fs::read_to_string(trace).unwrap());
    (calls, folder.display().to_string(), root)
}

#[test]
fn each_promised_sync_reaches_the_kernel() {
    let (calls, folder, _root) = traced();
    let counts = check(&calls, &folder).unwrap();
    for what in ["folder", "SYNCED", "snapshot", "prepared segment", "removed segment", "spare"] {
        assert!(counts.get(what).is_some_and(|&count| count > 0), "no {what} among {counts:?}");
    }
    // The check notices a missing sync of each folder: the data folder and those that it lies in.
    for missed in [
        folder.clone(),
        parent(&folder),
        parent(&parent(&folder)),
        parent(&parent(&parent(&folder))),
    ] {
        let calls: Vec<Call> =
            calls.iter().filter(|call| **call != Call::Sync(missed.clone())).cloned().collect();
        assert!(check(&calls, &folder).is_err(), "{missed}");
    }
}
