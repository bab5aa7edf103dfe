//! A disk that forgets what was not synced.
//!
//! It keeps two contents of each file: what a process reads back, and what is on the platter. Writes and names wait in
//! between until a sync. A power loss keeps an arbitrary part of what waits; a killed process loses nothing, because the
//! kernel lives on. A sync that fails leaves the kernel showing what is not on disk, for ever (the "fsyncgate" of 2018).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::random::Random;
use crate::storage::{Disk, DiskFile};

const SECTOR_BYTES: u64 = 512;

/// A handle to a machine's disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub(super) struct SimDisk {
    state: Rc<RefCell<State>>,
}

/// An open file.
#[derive(Debug)]
pub(super) struct SimFile {
    state: Rc<RefCell<State>>,
    inode: u64,
}

#[derive(Clone, Debug, Default)]
struct State {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    last_inode: u64,
    /// Calls that are still carried out before the power goes.
    calls_left: Option<u64>,
    fails_next_sync: bool,
    /// A sync has failed in this life of the machine's process.
    sync_has_failed: bool,
    /// Mutants: `sync` and `sync_directory` only say that they did.
    lies: bool,
    directory_lies: bool,
    /// The sequence of the write that is being carried out.
    tag: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
struct Pending {
    offset: u64,
    bytes: Vec<u8>,
    tag: u64,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(String, u64),
    Rename(String, String, u64),
    Remove(String),
}

impl Content {
    fn write(target: &mut Vec<u8>, bytes: &[u8], offset: u64) {
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if target.len() < to {
            target.resize(to, 0);
        }
        target[from..to].copy_from_slice(bytes);
    }

    fn sync(&mut self) {
        for write in self.pending.drain(..) {
            Content::write(&mut self.durable, &write.bytes, write.offset);
        }
        if self.durable.len() < self.live.len() {
            self.durable.resize(self.live.len(), 0);
        }
    }

    /// Keeps some sectors of a write, and perhaps only the first bytes of one.
    fn tear(&mut self, write: &Pending, random: &mut Random) {
        let end = write.offset + write.bytes.len() as u64;
        let mut from = write.offset;
        while from < end {
            let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
            let kept_to = match random.below(4) {
                0 => from,
                1 => random.between(from, to),
                _ => to,
            };
            let piece = &write.bytes[(from - write.offset) as usize..(kept_to - write.offset) as usize];
            if !piece.is_empty() {
                Content::write(&mut self.durable, piece, from);
            }
            from = to;
        }
    }

    fn lose_power(&mut self, mode: CrashMode, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        let kept_whole = random.below(pending.len() as u64 + 1) as usize;
        for (place, write) in pending.iter().enumerate() {
            match mode {
                CrashMode::Nothing => {}
                CrashMode::Everything => Content::write(&mut self.durable, &write.bytes, write.offset),
                CrashMode::Prefix if place < kept_whole => {
                    Content::write(&mut self.durable, &write.bytes, write.offset);
                }
                CrashMode::Prefix if place == kept_whole => self.tear(write, random),
                CrashMode::Prefix => {}
                CrashMode::Anything => match random.below(3) {
                    0 => {}
                    1 => Content::write(&mut self.durable, &write.bytes, write.offset),
                    _ => self.tear(write, random),
                },
            }
        }
        if self.durable.len() < self.live.len() && random.chance(5_000) {
            self.durable.resize(self.live.len(), 0);
        }
        self.live.clone_from(&self.durable);
    }
}

/// What a power loss keeps of what was not synced.
#[derive(Clone, Copy, Debug)]
enum CrashMode {
    Nothing,
    Everything,
    Prefix,
    Anything,
}

impl State {
    /// Counts a call; the power may be gone.
    fn call(&mut self) -> io::Result<()> {
        match &mut self.calls_left {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn inode(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"))
    }

    fn change_durable(&mut self, change: &NameChange) {
        match change {
            NameChange::Create(name, inode) => {
                self.durable_names.insert(name.clone(), *inode);
            }
            NameChange::Rename(from, to, inode) => {
                self.durable_names.remove(from);
                self.durable_names.insert(to.clone(), *inode);
            }
            NameChange::Remove(name) => {
                self.durable_names.remove(name);
            }
        }
    }

    fn forget_nameless(&mut self) {
        let (names, durable_names) = (&self.names, &self.durable_names);
        self.files.retain(|inode, _| {
            names.values().any(|named| named == inode) || durable_names.values().any(|named| named == inode)
        });
    }
}

impl SimDisk {
    pub(super) fn new(lies: bool, directory_lies: bool) -> SimDisk {
        SimDisk { state: Rc::new(RefCell::new(State { lies, directory_lies, ..State::default() })) }
    }

    /// The power goes: every later call fails until [`lose_power`](Self::lose_power). `calls` are still carried out.
    pub(super) fn fail_after(&self, calls: u64) {
        self.state.borrow_mut().calls_left = Some(calls);
    }

    /// The power did not go after all.
    pub(super) fn fail_not(&self) {
        self.state.borrow_mut().calls_left = None;
    }

    pub(super) fn fail_next_sync(&self, fails: bool) {
        self.state.borrow_mut().fails_next_sync = fails;
    }

    /// Whether a sync has failed since this was asked last.
    pub(super) fn sync_has_failed(&self) -> bool {
        std::mem::take(&mut self.state.borrow_mut().sync_has_failed)
    }

    /// The next writes belong to the replica's write with this sequence; 0 for none.
    pub(super) fn set_tag(&self, sequence: u64) {
        self.state.borrow_mut().tag = sequence;
    }

    /// Up to which of the writes tagged so far everything is on the platter, given that `last` is the latest.
    pub(super) fn durable_sequence(&self, last: u64) -> u64 {
        let state = self.state.borrow();
        let pending = state.files.values().flat_map(|content| &content.pending);
        pending.map(|write| write.tag).filter(|&tag| tag > 0).min().map_or(last, |tag| (tag - 1).min(last))
    }

    /// A new life begins: what waits to be synced belongs to no write of it.
    pub(super) fn forget_tags(&self) {
        let mut state = self.state.borrow_mut();
        state.tag = 0;
        for write in state.files.values_mut().flat_map(|content| &mut content.pending) {
            write.tag = 0;
        }
    }

    /// Keeps what is durable and an arbitrary part of the rest.
    pub(super) fn lose_power(&self, random: &mut Random) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.calls_left = None;
        state.fails_next_sync = false;
        let mode = random.pick(&[CrashMode::Nothing, CrashMode::Everything, CrashMode::Prefix, CrashMode::Anything]);
        for content in state.files.values_mut() {
            content.lose_power(mode, random);
        }
        let changes = std::mem::take(&mut state.name_changes);
        let kept = match mode {
            CrashMode::Nothing => 0,
            CrashMode::Everything => changes.len(),
            CrashMode::Prefix | CrashMode::Anything => random.below(changes.len() as u64 + 1) as usize,
        };
        for change in &changes[..kept] {
            state.change_durable(change);
        }
        state.names = state.durable_names.clone();
        state.forget_nameless();
    }

    /// A disk that holds exactly what is durable on this one.
    pub(super) fn durable_copy(&self) -> SimDisk {
        let mut state = self.state.borrow().clone();
        for content in state.files.values_mut() {
            content.pending.clear();
            content.live.clone_from(&content.durable);
        }
        state.names = state.durable_names.clone();
        state.name_changes.clear();
        state.calls_left = None;
        SimDisk { state: Rc::new(RefCell::new(state)) }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create(&mut self, name: &str, preallocate_bytes: u64) -> io::Result<SimFile> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        if state.names.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is such a name"));
        }
        state.last_inode += 1;
        let inode = state.last_inode;
        let content = Content { live: vec![0; preallocate_bytes as usize], ..Content::default() };
        state.files.insert(inode, content);
        state.names.insert(name.to_owned(), inode);
        state.name_changes.push(NameChange::Create(name.to_owned(), inode));
        Ok(SimFile { state: Rc::clone(&self.state), inode })
    }

    fn open(&mut self, name: &str) -> io::Result<SimFile> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        let inode = state.inode(name)?;
        Ok(SimFile { state: Rc::clone(&self.state), inode })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        let inode = state.inode(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), inode);
        state.name_changes.push(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        state.inode(name)?;
        state.names.remove(name);
        state.name_changes.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        if state.directory_lies {
            return Ok(());
        }
        for change in std::mem::take(&mut state.name_changes) {
            state.change_durable(&change);
        }
        state.forget_nameless();
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        let live = state.files.get(&self.inode).map_or(&[][..], |content| &content.live);
        let from = (offset as usize).min(live.len());
        let length = buffer.len().min(live.len() - from);
        buffer[..length].copy_from_slice(&live[from..from + length]);
        Ok(length)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        let tag = state.tag;
        // A file without a name is still written to by whoever has it open.
        if let Some(content) = state.files.get_mut(&self.inode) {
            Content::write(&mut content.live, bytes, offset);
            content.pending.push(Pending { offset, bytes: bytes.to_vec(), tag });
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        if state.lies {
            return Ok(());
        }
        let fails = std::mem::take(&mut state.fails_next_sync);
        let Some(content) = state.files.get_mut(&self.inode) else { return Ok(()) };
        if fails {
            // The kernel takes the pages for clean from now on: they are readable and never written.
            content.pending.clear();
            state.sync_has_failed = true;
            return Err(io::Error::other("the disk did not take it"));
        }
        content.sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        Ok(state.files.get(&self.inode).map_or(0, |content| content.live.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(disk: &mut SimDisk, name: &str) -> io::Result<Vec<u8>> {
        let file = disk.open(name)?;
        let mut buffer = vec![0; file.len()? as usize];
        file.read_at(&mut buffer, 0)?;
        Ok(buffer)
    }

    #[test]
    fn keeps_what_was_synced_and_any_part_of_the_rest() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut disk = SimDisk::new(false, false);
            let mut file = disk.create("a", 4).unwrap();
            file.write_at(b"sync", 0).unwrap();
            file.sync().unwrap();
            disk.sync_directory().unwrap();
            file.write_at(b"lost", 4).unwrap();
            disk.create("b", 0).unwrap();
            assert_eq!(read(&mut disk, "a").unwrap(), b"synclost");
            disk.lose_power(&mut Random::new(seed));
            let found = read(&mut disk, "a").unwrap();
            assert_eq!(found[..4], b"sync"[..], "seed {seed}");
            outcomes.insert((found, disk.list().unwrap().len()));
        }
        assert!(outcomes.contains(&(b"sync".to_vec(), 1)));
        assert!(outcomes.contains(&(b"synclost".to_vec(), 2)));
        assert!(outcomes.iter().any(|(found, _)| found.starts_with(b"synclo") && !found.ends_with(b"st")));
    }

    #[test]
    fn a_name_that_was_not_synced_may_vanish_with_its_synced_content() {
        let vanished = (0..50).filter(|&seed| {
            let mut disk = SimDisk::new(false, false);
            let mut file = disk.create("a", 0).unwrap();
            file.write_at(b"x", 0).unwrap();
            file.sync().unwrap();
            disk.lose_power(&mut Random::new(seed));
            read(&mut disk, "a").is_err()
        });
        assert!(vanished.count() > 5);
    }

    #[test]
    fn after_a_failed_sync_the_bytes_are_seen_and_never_reach_the_disk() {
        let mut disk = SimDisk::new(false, false);
        let mut file = disk.create("a", 0).unwrap();
        file.sync().unwrap();
        disk.sync_directory().unwrap();
        file.write_at(b"x", 0).unwrap();
        disk.fail_next_sync(true);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(read(&mut disk, "a").unwrap(), b"x");
        assert_ne!(read(&mut disk.durable_copy(), "a").unwrap(), b"x");
    }

    #[test]
    fn the_power_goes_after_so_many_calls() {
        let mut disk = SimDisk::new(false, false);
        disk.fail_after(1);
        let mut file = disk.create("a", 0).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        disk.lose_power(&mut Random::new(1));
        assert!(disk.list().is_ok());
    }
}
