//! A disk in memory for tests. It knows what is durable, can lose the rest, and can fail.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use super::{Disk, DiskFile};

#[derive(Clone, Debug, Default)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Created without preallocation.
    grows: bool,
}

/// A change of names that the folder's next sync makes durable.
#[derive(Clone, Debug)]
enum Change {
    Create(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Change::Create(name, content) => drop(names.insert(name.clone(), *content)),
            Change::Rename(from, to, content) => {
                names.remove(from);
                names.insert(to.clone(), *content);
            }
            Change::Remove(name) => drop(names.remove(name)),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct State {
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    contents: Vec<Content>,
    writes: u64,
    syncs: u64,
    creations: u64,
    directory_syncs: u64,
    /// How many more changing operations succeed.
    left: Option<u64>,
    /// The kind of error of those that fail.
    failure: Option<io::ErrorKind>,
    /// How many more bytes snapshots that are being written may take.
    snapshot_bytes: Option<u64>,
}

impl State {
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => Err(io::Error::new(
                self.failure.unwrap_or(io::ErrorKind::Other),
                "the test's disk fails",
            )),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl State {
    /// Takes space for a snapshot that is being written.
    fn take_space(&mut self, content: usize, bytes: usize) -> io::Result<()> {
        let is_snapshot =
            self.names.iter().any(|(name, &named)| named == content && name.ends_with(".snap.new"));
        match &mut self.snapshot_bytes {
            Some(left) if is_snapshot => match left.checked_sub(bytes as u64) {
                Some(rest) => *left = rest,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::StorageFull,
                        "the test's disk is full",
                    ));
                }
            },
            _ => {}
        }
        Ok(())
    }
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct TestDisk(Rc<RefCell<State>>);

impl TestDisk {
    /// A disk of its own with the same state.
    pub(super) fn copy(&self) -> TestDisk {
        TestDisk(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// After `operations` more changing operations, every one fails.
    pub(super) fn fail_after(&self, operations: Option<u64>) {
        self.0.borrow_mut().left = operations;
    }

    /// Limits the space of snapshots that are being written. The log is not limited.
    pub(super) fn limit_snapshots(&self, bytes: Option<u64>) {
        self.0.borrow_mut().snapshot_bytes = bytes;
    }

    /// Sets the kind of error of failing operations.
    pub(super) fn fail_as(&self, kind: io::ErrorKind) {
        self.0.borrow_mut().failure = Some(kind);
    }

    /// Whether no operation has failed yet for [`fail_after`](Self::fail_after).
    pub(super) fn has_operations_left(&self) -> bool {
        self.0.borrow().left != Some(0)
    }

    /// The power fails: what was not synced is lost.
    pub(super) fn lose_unsynced(&self) {
        let mut state = self.0.borrow_mut();
        state.names = state.durable_names.clone();
        state.changes.clear();
        for content in &mut state.contents {
            content.current = content.durable.clone();
        }
    }

    /// The power fails. Of each file's unsynced 512-byte sectors those stay whose bit in `sectors`
    /// is set, and of the changes of names those whose bit in `changes` is.
    pub(super) fn crash(&self, sectors: u64, changes: u64) {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        for content in &mut state.contents {
            for (sector, bytes) in content.current.chunks_mut(512).enumerate() {
                if sectors >> (sector % 64) & 1 == 0 {
                    let from = content.durable.len().min(sector * 512);
                    let to = content.durable.len().min(sector * 512 + bytes.len());
                    bytes[..to - from].copy_from_slice(&content.durable[from..to]);
                    bytes[to - from..].fill(0);
                }
            }
            content.durable = content.current.clone();
        }
        for (at, change) in state.changes.drain(..).enumerate() {
            if changes >> at & 1 == 1 {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
    }

    /// Subsets of the unsynced changes of names for [`crash`](Self::crash): each prefix, all but
    /// one, and each one alone.
    pub(super) fn subsets_of_changes(&self) -> BTreeSet<u64> {
        let count = self.0.borrow().changes.len();
        assert!(count < 64, "{count} changes of names are not durable");
        let all = (1 << count) - 1;
        let first = (0..=count).map(|count| (1 << count) - 1);
        first.chain((0..count).flat_map(|at| [1 << at, all & !(1 << at)])).collect()
    }

    /// The power fails just after everything has reached the disk.
    pub(super) fn keep_unsynced(&self) {
        let mut state = self.0.borrow_mut();
        state.durable_names = state.names.clone();
        state.changes.clear();
        for content in &mut state.contents {
            content.durable = content.current.clone();
        }
    }

    pub(super) fn writes(&self) -> u64 {
        self.0.borrow().writes
    }

    pub(super) fn syncs(&self) -> u64 {
        self.0.borrow().syncs
    }

    /// How often a file was created, and the folder synced.
    pub(super) fn folder_changes(&self) -> (u64, u64) {
        let state = self.0.borrow();
        (state.creations, state.directory_syncs)
    }

    /// The files of the log and of snapshots.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.borrow().names.keys().filter(|name| *name != super::synced::NAME).cloned().collect()
    }

    /// A file's bytes as the process sees them.
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.0.borrow();
        state.contents[state.names[name]].current.clone()
    }

    /// A file's bytes as they would be after a power failure.
    pub(super) fn durable_bytes(&self, name: &str) -> Vec<u8> {
        let state = self.0.borrow();
        state.contents[state.names[name]].durable.clone()
    }

    /// Replaces a file's bytes, durably.
    pub(super) fn set_bytes(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.0.borrow_mut();
        let content = state.names[name];
        state.contents[content] = Content { current: bytes.clone(), durable: bytes, grows: false };
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {name}"))
}

impl Disk for TestDisk {
    type File = TestFile;

    fn create(&mut self, name: &str, preallocate_bytes: u64) -> io::Result<TestFile> {
        let mut state = self.0.borrow_mut();
        state.spend()?;
        if state.names.contains_key(name) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("there is a file {name}"),
            ));
        }
        state.creations += 1;
        let content = state.contents.len();
        let grows = preallocate_bytes == 0;
        state.contents.push(Content {
            current: vec![0; preallocate_bytes as usize],
            durable: Vec::new(),
            grows,
        });
        state.names.insert(name.to_owned(), content);
        state.changes.push(Change::Create(name.to_owned(), content));
        Ok(TestFile { disk: self.clone(), content })
    }

    fn open(&mut self, name: &str) -> io::Result<TestFile> {
        let content = *self.0.borrow().names.get(name).ok_or_else(|| missing(name))?;
        Ok(TestFile { disk: self.clone(), content })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.spend()?;
        let content = state.names.remove(from).ok_or_else(|| missing(from))?;
        state.names.insert(to.to_owned(), content);
        state.changes.push(Change::Rename(from.to_owned(), to.to_owned(), content));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.spend()?;
        state.names.remove(name).ok_or_else(|| missing(name))?;
        state.changes.push(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().names.keys().cloned().collect())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.spend()?;
        state.directory_syncs += 1;
        state.durable_names = state.names.clone();
        state.changes.clear();
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct TestFile {
    disk: TestDisk,
    content: usize,
}

impl DiskFile for TestFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.0.borrow();
        let bytes = &state.contents[self.content].current;
        let from = &bytes[bytes.len().min(offset as usize)..];
        let read = from.len().min(buffer.len());
        buffer[..read].copy_from_slice(&from[..read]);
        Ok(read)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.borrow_mut();
        let spent = state.spend().and_then(|()| state.take_space(self.content, bytes.len()));
        // A full disk accepts what still fits.
        let bytes = if spent.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        state.writes += 1;
        let content = &mut state.contents[self.content];
        let end = offset as usize + bytes.len();
        if content.grows && content.current.len() < end {
            content.current.resize(end, 0);
        }
        let current = &mut content.current;
        assert!(end <= current.len(), "the log writes past what it preallocated");
        current[offset as usize..end].copy_from_slice(bytes);
        spent
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.borrow_mut();
        state.spend()?;
        state.syncs += 1;
        let content = &mut state.contents[self.content];
        content.durable = content.current.clone();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.borrow().contents[self.content].current.len() as u64)
    }
}
