//! A simulated disk that loses unsynced writes and can be damaged.
//!
//! It keeps two contents of each file: the one that processes read, and the durable one. Writes and
//! names wait between them until a sync. A power loss keeps an arbitrary part of what waits; a
//! killed process loses nothing, because the kernel keeps running. After a failed sync the kernel
//! permanently shows data that is not on disk (the "fsyncgate" of 2018).
//!
//! No sync protects from damage: bit rot, and writes that the drive puts in the wrong place. The
//! disk records where damage is, because the log cannot detect damage to the last batch (see
//! [`FileContent::last_batch`]).

mod content;
mod directory;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use content::{CrashMode, FileContent, PendingWrite};
use directory::Directory;

use super::behaviour::{Behaviour, DiskCall};
use super::fault_counters::{FaultCounter, FaultCounters};
use super::random::Random;
use crate::storage::{Disk, DiskFile};

/// A handle to a machine's disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub(super) struct SimDisk {
    state: Rc<RefCell<DiskState>>,
}

/// An open file.
#[derive(Debug)]
pub(super) struct SimFile {
    state: Rc<RefCell<DiskState>>,
    inode: u64,
}

/// The mutants of the disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SyncMutants {
    /// `sync` does nothing and reports success.
    pub(super) sync: bool,
    /// `sync_directory` does nothing and reports success.
    pub(super) sync_directory: bool,
    /// A failed sync reports success.
    pub(super) failed_sync: bool,
}

/// The files that cannot grow because the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum DiskFull {
    #[default]
    Nothing,
    /// A quota, or room that the log's preallocated files have and a snapshot does not.
    Snapshots,
    Everything,
}

/// A call that fails once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailingCall {
    Read,
    Write,
    Sync,
}

#[derive(Clone, Debug, Default)]
struct DiskState {
    files: BTreeMap<u64, FileContent>,
    directory: Directory,
    last_inode: u64,
    /// The calls that are still carried out before the power fails.
    calls_left: Option<u64>,
    /// A call was refused for lack of power.
    is_powered_off: bool,
    failing_call: Option<FailingCall>,
    full: DiskFull,
    /// A call has failed, other than for lack of power.
    has_failed: bool,
    /// The next write goes to the wrong place.
    misdirects: bool,
    /// Damaged ranges: file, from, to.
    damage: Vec<(u64, u64, u64)>,
    sync_mutants: SyncMutants,
    /// The sequence of the write that is being carried out.
    tag: u64,
    fault_counters: FaultCounters,
    behaviour: Behaviour,
}

impl DiskState {
    /// Counts a call. Fails if the power is off.
    fn call(&mut self) -> io::Result<()> {
        match &mut self.calls_left {
            Some(0) => {
                self.is_powered_off = true;
                Err(io::Error::other("the power is off"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes the failure that is planned for this kind of call, if there is one.
    fn take_planned_failure(&mut self, call: FailingCall) -> bool {
        let fails = self.failing_call == Some(call);
        if fails {
            self.failing_call = None;
            self.has_failed = true;
            self.fault_counters.count(match call {
                FailingCall::Read => FaultCounter::ReadFailed,
                FailingCall::Write => FaultCounter::WriteFailed,
                FailingCall::Sync => FaultCounter::SyncFailed,
            });
        }
        fails
    }

    fn is_full_for(&self, inode: u64) -> bool {
        let is_snapshot = || {
            self.directory
                .live
                .iter()
                .any(|(name, &named)| named == inode && name.ends_with(".snap.new"))
        };
        self.full == DiskFull::Everything || (self.full == DiskFull::Snapshots && is_snapshot())
    }

    fn no_room(&mut self) -> io::Error {
        self.has_failed = true;
        self.fault_counters.count(FaultCounter::NoRoom);
        io::Error::new(io::ErrorKind::StorageFull, "no room on the disk")
    }

    fn inode(&self, name: &str) -> io::Result<u64> {
        self.directory
            .live
            .get(name)
            .copied()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"))
    }

    fn drop_unnamed_files(&mut self) {
        let names = &self.directory;
        self.files.retain(|&inode, _| names.has(inode));
        let files = &self.files;
        self.damage.retain(|(inode, ..)| files.contains_key(inode));
    }

    /// Puts a write in the wrong place, which its tag and offset determine.
    fn misdirect(&mut self, inode: u64, write: &PendingWrite) {
        let end = write.offset + write.bytes.len() as u64;
        self.damage.push((inode, write.offset, end));
        let mut random = Random::new(write.tag ^ write.offset.rotate_left(32) ^ inode);
        let places = self.files.len() as u64;
        let Some((&other, content)) = self.files.iter_mut().nth(random.below(places) as usize)
        else {
            return;
        };
        let sectors = (content.durable.len() / 512).max(1) as u64;
        let offset = random.below(sectors) * 512;
        content.damage(&write.bytes, offset);
        self.damage.push((other, offset, offset + write.bytes.len() as u64));
        self.fault_counters.count(FaultCounter::Misdirected);
    }
}

/// Faults, and questions of the simulator.
impl SimDisk {
    pub(super) fn new(sync_mutants: SyncMutants) -> SimDisk {
        SimDisk { state: Rc::new(RefCell::new(DiskState { sync_mutants, ..DiskState::default() })) }
    }

    /// Cuts the power after this many calls: later calls fail until
    /// [`lose_power`](Self::lose_power).
    pub(super) fn cut_power_after(&self, calls: u64) {
        self.state.borrow_mut().calls_left = Some(calls);
    }

    /// Cancels a power cut.
    pub(super) fn restore_power(&self) {
        let mut state = self.state.borrow_mut();
        state.calls_left = None;
        state.is_powered_off = false;
    }

    /// Whether a call has failed because the power is off.
    pub(super) fn is_powered_off(&self) -> bool {
        self.state.borrow().is_powered_off
    }

    /// The next call of this kind fails.
    pub(super) fn fail_next(&self, call: FailingCall) {
        self.state.borrow_mut().failing_call = Some(call);
    }

    pub(super) fn set_full(&self, full: DiskFull) {
        self.state.borrow_mut().full = full;
    }

    /// The next write goes to the wrong place.
    pub(super) fn misdirect_next(&self) {
        self.state.borrow_mut().misdirects = true;
    }

    /// The fault counters of this disk.
    pub(super) fn fault_counters(&self) -> FaultCounters {
        self.state.borrow().fault_counters
    }

    pub(super) fn behaviour(&self) -> Behaviour {
        self.state.borrow().behaviour.clone()
    }

    /// Cancels all planned faults. Damage remains.
    pub(super) fn clear_faults(&self) {
        let mut state = self.state.borrow_mut();
        state.calls_left = None;
        state.is_powered_off = false;
        state.failing_call = None;
        state.full = DiskFull::Nothing;
        state.misdirects = false;
    }

    /// Flips some durable bits.
    pub(super) fn rot(&self, random: &mut Random) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let files = state.files.len() as u64;
        if files == 0 {
            return;
        }
        let place = random.below(files) as usize;
        let Some((&inode, content)) = state.files.iter_mut().nth(place) else { return };
        // Most of a file is preallocated zeros.
        let written =
            content.durable.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        if written == 0 {
            return;
        }
        let offset = random.below(written as u64);
        let rotten: Vec<u8> = content.durable[offset as usize..written]
            .iter()
            .take(random.pick(&[1, 1, 8, 512]))
            .map(|byte| byte ^ (1 << random.below(8)))
            .collect();
        content.damage(&rotten, offset);
        state.damage.push((inode, offset, offset + rotten.len() as u64));
        state.fault_counters.count(FaultCounter::Rotted);
    }

    /// Flips a bit in the content of the newest snapshot, which ends 16 bytes before the file's
    /// end.
    ///
    /// Returns false if no snapshot is fully durable.
    pub(super) fn rot_snapshot(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let newest = state.directory.live.iter().rfind(|(name, _)| name.ends_with(".snap"));
        let Some(&inode) = newest.map(|(_, inode)| inode) else { return false };
        let Some(content) =
            state.files.get_mut(&inode).filter(|content| content.pending.is_empty())
        else {
            return false;
        };
        let Some(place) = content.durable.len().checked_sub(17) else { return false };
        content.damage(&[content.durable[place] ^ 1], place as u64);
        // A snapshot with its final name is never taken for one that a crash cut short.
        content.last_batch = (0, 0);
        state.damage.push((inode, place as u64, place as u64 + 1));
        state.fault_counters.count(FaultCounter::Rotted);
        true
    }

    /// Whether any part of the disk is damaged.
    pub(super) fn is_damaged(&self) -> bool {
        !self.state.borrow().damage.is_empty()
    }

    /// Whether the damage looks to the log like a write that a crash cut short.
    pub(super) fn is_last_batch_damaged(&self) -> bool {
        let state = self.state.borrow();
        state.damage.iter().any(|(inode, from, to)| {
            let last = state.files.get(inode).map_or((0, 0), |content| content.last_batch);
            *from < last.1 && last.0 < *to
        })
    }

    /// Whether a call has failed since the last call of this method.
    pub(super) fn take_failure(&self) -> bool {
        std::mem::take(&mut self.state.borrow_mut().has_failed)
    }

    /// The next writes belong to the replica's write with this sequence; 0 for none.
    pub(super) fn set_tag(&self, sequence: u64) {
        self.state.borrow_mut().tag = sequence;
    }

    /// The last of the log's tagged writes up to which everything is durable; `last` is the latest.
    pub(super) fn durable_sequence(&self, last: u64) -> u64 {
        let state = self.state.borrow();
        let segments = state.directory.live.iter().filter(|(name, _)| name.ends_with(".log"));
        let pending = segments
            .filter_map(|(_, inode)| state.files.get(inode))
            .flat_map(|content| &content.pending);
        pending
            .map(|write| write.tag)
            .filter(|&tag| tag > 0)
            .min()
            .map_or(last, |tag| (tag - 1).min(last))
    }

    /// A process starts: the waiting writes belong to none of its own.
    pub(super) fn clear_tags(&self) {
        let mut state = self.state.borrow_mut();
        state.tag = 0;
        for write in state.files.values_mut().flat_map(|content| &mut content.pending) {
            write.tag = 0;
        }
    }

    /// Loses power: keeps durable data and an arbitrary part of the rest.
    pub(super) fn lose_power(&self, random: &mut Random) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.calls_left = None;
        state.is_powered_off = false;
        state.failing_call = None;
        state.misdirects = false;
        let mode = CrashMode::draw(random);
        for content in state.files.values_mut() {
            content.lose_power(mode, random, &mut state.fault_counters);
        }
        state.directory.lose_power(mode, random, &mut state.fault_counters);
        state.drop_unnamed_files();
    }

    /// Replaces the content by that of `copy`, as if the folder had been put back.
    pub(super) fn put_back(&self, copy: &SimDisk) {
        let mut state = self.state.borrow_mut();
        let fault_counters = state.fault_counters;
        *state = DiskState { fault_counters, ..copy.state.borrow().clone() };
    }

    /// A disk without faults that has exactly the durable content of this one.
    pub(super) fn durable_copy(&self) -> SimDisk {
        let mut state = self.state.borrow().clone();
        for content in state.files.values_mut() {
            content.pending.clear();
            content.live.clone_from(&content.durable);
        }
        state.directory.discard_changes();
        let copy = SimDisk { state: Rc::new(RefCell::new(state)) };
        copy.clear_faults();
        copy
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create(&mut self, name: &str, preallocate_bytes: u64) -> io::Result<SimFile> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        state.behaviour.disk(DiskCall::Create, 0, preallocate_bytes, name.as_bytes());
        if state.directory.live.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the name exists"));
        }
        state.last_inode += 1;
        let inode = state.last_inode;
        // A name takes no room; the file does.
        let room = if state.full == DiskFull::Everything {
            preallocate_bytes / 2
        } else {
            preallocate_bytes
        };
        state.files.insert(inode, FileContent::zeros(room));
        state.directory.create(name, inode);
        if room < preallocate_bytes {
            return Err(state.no_room());
        }
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
        state.behaviour.disk(DiskCall::Rename, inode, 0, to.as_bytes());
        state.directory.rename(from, to, inode);
        if to.ends_with(".log") {
            // A segment that gets its final name confirms that it and all before it are durable.
            for content in state.files.values_mut().filter(|content| content.pending.is_empty()) {
                content.last_batch = (0, 0);
            }
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        let inode = state.inode(name)?;
        state.behaviour.disk(DiskCall::Remove, inode, 0, &[]);
        state.directory.remove(name);
        Ok(())
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        Ok(state.directory.live.keys().cloned().collect())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        state.behaviour.disk(DiskCall::SyncDirectory, 0, 0, &[]);
        if state.sync_mutants.sync_directory {
            return Ok(());
        }
        state.directory.sync();
        state.drop_unnamed_files();
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        if state.take_planned_failure(FailingCall::Read) {
            return Err(io::Error::other("a simulated read error"));
        }
        let live = state.files.get(&self.inode).map_or(&[][..], |content| &content.live);
        let from = (offset as usize).min(live.len());
        let length = buffer.len().min(live.len() - from);
        buffer[..length].copy_from_slice(&live[from..from + length]);
        Ok(length)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.call()?;
        state.behaviour.disk(DiskCall::Write, self.inode, offset, bytes);
        let fails = state.take_planned_failure(FailingCall::Write);
        let tag = state.tag;
        let is_full = state.is_full_for(self.inode);
        let Some(content) = state.files.get_mut(&self.inode) else {
            // The file has no name, but a process that has it open may still write.
            return Ok(());
        };
        let is_too_long = is_full && offset + bytes.len() as u64 > content.live.len() as u64;
        if fails || is_too_long {
            // A part may have been written.
            content.write(&bytes[..bytes.len() / 2], offset, tag, false);
            return Err(if fails {
                io::Error::other("a simulated write error")
            } else {
                state.no_room()
            });
        }
        content.write(bytes, offset, tag, std::mem::take(&mut state.misdirects));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.call()?;
        state.behaviour.disk(DiskCall::Sync, self.inode, 0, &[]);
        if state.sync_mutants.sync {
            return Ok(());
        }
        let fails = state.take_planned_failure(FailingCall::Sync);
        let Some(content) = state.files.get_mut(&self.inode) else { return Ok(()) };
        if fails {
            // The kernel marks the pages as clean: they stay readable and are never written.
            content.pending.clear();
            let is_reported = !state.sync_mutants.failed_sync;
            return if is_reported {
                Err(io::Error::other("a simulated write error"))
            } else {
                Ok(())
            };
        }
        for write in content.sync() {
            state.misdirect(self.inode, &write);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        Ok(state.files.get(&self.inode).map_or(0, |content| content.live.len() as u64))
    }
}
