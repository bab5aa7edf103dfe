//! A disk that forgets what was not synced, and sometimes does worse.
//!
//! It keeps two contents of each file: what a process reads back, and what is on the platter.
//! Writes and names wait in between until a sync. A power loss keeps an arbitrary part of what
//! waits; a killed process loses nothing, because the kernel lives on. A sync that fails leaves the
//! kernel showing what is not on disk, for ever (the "fsyncgate" of 2018).
//!
//! Damage is what no sync protects from: bits that rot, a write that the drive puts elsewhere. The
//! disk remembers where, because the log cannot see damage to what was written last (see
//! [`Content::last_batch`]).

mod content;
mod names;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use content::{Content, CrashMode, Pending};
use names::Names;

use super::behaviour::{Behaviour, DiskCall};
use super::fault_counters::{FaultCounter, FaultCounters};
use super::random::Random;
use crate::storage::{Disk, DiskFile};

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

/// What a mutant's disk does instead of what it should.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lies {
    /// `sync` only says that it did.
    pub(super) sync: bool,
    /// `sync_directory` only says that it did.
    pub(super) sync_directory: bool,
    /// A sync that fails says that it did not.
    pub(super) failed_sync: bool,
}

/// For what there is no room for more bytes than there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Full {
    #[default]
    Nothing,
    /// A quota, or room that the log's preallocated files have and a snapshot does not.
    Snapshots,
    Everything,
}

/// A call that fails once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadCall {
    Read,
    Write,
    Sync,
}

#[derive(Clone, Debug, Default)]
struct State {
    files: BTreeMap<u64, Content>,
    names: Names,
    last_inode: u64,
    /// Calls that are still carried out before the power goes.
    calls_left: Option<u64>,
    /// A call was refused for lack of power.
    is_dark: bool,
    bad_call: Option<BadCall>,
    full: Full,
    /// A call has failed, other than for lack of power.
    has_failed: bool,
    /// The next write goes where it does not belong.
    misdirects: bool,
    /// Where bytes are not what was written: file, from, to.
    damage: Vec<(u64, u64, u64)>,
    lies: Lies,
    /// The sequence of the write that is being carried out.
    tag: u64,
    fault_counters: FaultCounters,
    behaviour: Behaviour,
}

impl State {
    /// Counts a call; the power may be gone.
    fn call(&mut self) -> io::Result<()> {
        match &mut self.calls_left {
            Some(0) => {
                self.is_dark = true;
                Err(io::Error::other("the power is gone"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether this is the call that fails.
    fn fails(&mut self, call: BadCall) -> bool {
        let fails = self.bad_call == Some(call);
        if fails {
            self.bad_call = None;
            self.has_failed = true;
            self.fault_counters.count(match call {
                BadCall::Read => FaultCounter::ReadFailed,
                BadCall::Write => FaultCounter::WriteFailed,
                BadCall::Sync => FaultCounter::SyncFailed,
            });
        }
        fails
    }

    fn is_full_for(&self, inode: u64) -> bool {
        let is_snapshot = || {
            self.names
                .live
                .iter()
                .any(|(name, &named)| named == inode && name.ends_with(".snap.new"))
        };
        self.full == Full::Everything || (self.full == Full::Snapshots && is_snapshot())
    }

    fn no_room(&mut self) -> io::Error {
        self.has_failed = true;
        self.fault_counters.count(FaultCounter::NoRoom);
        io::Error::new(io::ErrorKind::StorageFull, "no room on the disk")
    }

    fn inode(&self, name: &str) -> io::Result<u64> {
        self.names
            .live
            .get(name)
            .copied()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"))
    }

    fn forget_nameless(&mut self) {
        let names = &self.names;
        self.files.retain(|&inode, _| names.has(inode));
        let files = &self.files;
        self.damage.retain(|(inode, ..)| files.contains_key(inode));
    }

    /// A write lands somewhere else: where, its number decides.
    fn misdirect(&mut self, inode: u64, write: &Pending) {
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

/// What goes wrong, and what is told about it.
impl SimDisk {
    pub(super) fn new(lies: Lies) -> SimDisk {
        SimDisk { state: Rc::new(RefCell::new(State { lies, ..State::default() })) }
    }

    /// The power goes: every later call fails until [`lose_power`](Self::lose_power). `calls` are
    /// still carried out.
    pub(super) fn fail_after(&self, calls: u64) {
        self.state.borrow_mut().calls_left = Some(calls);
    }

    /// The power did not go after all.
    pub(super) fn fail_not(&self) {
        let mut state = self.state.borrow_mut();
        state.calls_left = None;
        state.is_dark = false;
    }

    /// Whether the power is gone, and somebody has noticed.
    pub(super) fn is_dark(&self) -> bool {
        self.state.borrow().is_dark
    }

    /// The next call of this kind fails.
    pub(super) fn fail_next(&self, call: BadCall) {
        self.state.borrow_mut().bad_call = Some(call);
    }

    pub(super) fn set_full(&self, full: Full) {
        self.state.borrow_mut().full = full;
    }

    /// The next write goes where it does not belong.
    pub(super) fn misdirect_next(&self) {
        self.state.borrow_mut().misdirects = true;
    }

    /// What has gone wrong here.
    pub(super) fn fault_counters(&self) -> FaultCounters {
        self.state.borrow().fault_counters
    }

    pub(super) fn behaviour(&self) -> Behaviour {
        self.state.borrow().behaviour.clone()
    }

    /// Nothing goes wrong any more; what has been damaged stays so.
    pub(super) fn mend(&self) {
        let mut state = self.state.borrow_mut();
        state.calls_left = None;
        state.is_dark = false;
        state.bad_call = None;
        state.full = Full::Nothing;
        state.misdirects = false;
    }

    /// Some bits of something durable turn over.
    pub(super) fn rot(&self, random: &mut Random) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let files = state.files.len() as u64;
        if files == 0 {
            return;
        }
        let place = random.below(files) as usize;
        let Some((&inode, content)) = state.files.iter_mut().nth(place) else { return };
        // Most of a file is zeros that nothing was written to.
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

    /// A bit turns over in the content of the newest snapshot, which ends 16 bytes before the file.
    /// False if there is none that is wholly on the platter.
    pub(super) fn rot_snapshot(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let newest = state.names.live.iter().rfind(|(name, _)| name.ends_with(".snap"));
        let Some(&inode) = newest.map(|(_, inode)| inode) else { return false };
        let Some(content) =
            state.files.get_mut(&inode).filter(|content| content.pending.is_empty())
        else {
            return false;
        };
        let Some(place) = content.durable.len().checked_sub(17) else { return false };
        content.damage(&[content.durable[place] ^ 1], place as u64);
        // A snapshot that has its name is never taken for one that a crash has cut short.
        content.last_batch = (0, 0);
        state.damage.push((inode, place as u64, place as u64 + 1));
        state.fault_counters.count(FaultCounter::Rotted);
        true
    }

    /// Whether anything on it is not what was written.
    pub(super) fn is_damaged(&self) -> bool {
        !self.state.borrow().damage.is_empty()
    }

    /// Whether something is damaged that the log takes for a write that a crash has cut short.
    pub(super) fn is_last_batch_damaged(&self) -> bool {
        let state = self.state.borrow();
        state.damage.iter().any(|(inode, from, to)| {
            let last = state.files.get(inode).map_or((0, 0), |content| content.last_batch);
            *from < last.1 && last.0 < *to
        })
    }

    /// Whether a call has failed since this was asked last.
    pub(super) fn has_failed(&self) -> bool {
        std::mem::take(&mut self.state.borrow_mut().has_failed)
    }

    /// The next writes belong to the replica's write with this sequence; 0 for none.
    pub(super) fn set_tag(&self, sequence: u64) {
        self.state.borrow_mut().tag = sequence;
    }

    /// Up to which of the log's writes tagged so far everything is on the platter, given that
    /// `last` is the latest.
    pub(super) fn durable_sequence(&self, last: u64) -> u64 {
        let state = self.state.borrow();
        let segments = state.names.live.iter().filter(|(name, _)| name.ends_with(".log"));
        let pending = segments
            .filter_map(|(_, inode)| state.files.get(inode))
            .flat_map(|content| &content.pending);
        pending
            .map(|write| write.tag)
            .filter(|&tag| tag > 0)
            .min()
            .map_or(last, |tag| (tag - 1).min(last))
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
        state.is_dark = false;
        state.bad_call = None;
        state.misdirects = false;
        let mode = CrashMode::draw(random);
        for content in state.files.values_mut() {
            content.lose_power(mode, random, &mut state.fault_counters);
        }
        state.names.lose_power(mode, random, &mut state.fault_counters);
        state.forget_nameless();
    }

    /// Holds what `copy` holds from now on, as if its folder had been put back.
    pub(super) fn put_back(&self, copy: &SimDisk) {
        let mut state = self.state.borrow_mut();
        let fault_counters = state.fault_counters;
        *state = State { fault_counters, ..copy.state.borrow().clone() };
    }

    /// A sound disk that holds exactly what is durable on this one.
    pub(super) fn durable_copy(&self) -> SimDisk {
        let mut state = self.state.borrow().clone();
        for content in state.files.values_mut() {
            content.pending.clear();
            content.live.clone_from(&content.durable);
        }
        state.names.forget_changes();
        let copy = SimDisk { state: Rc::new(RefCell::new(state)) };
        copy.mend();
        copy
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create(&mut self, name: &str, preallocate_bytes: u64) -> io::Result<SimFile> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        state.behaviour.disk(DiskCall::Create, 0, preallocate_bytes, name.as_bytes());
        if state.names.live.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is such a name"));
        }
        state.last_inode += 1;
        let inode = state.last_inode;
        // A name takes no room; what it stands for does.
        let room =
            if state.full == Full::Everything { preallocate_bytes / 2 } else { preallocate_bytes };
        state.files.insert(inode, Content::zeros(room));
        state.names.create(name, inode);
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
        state.names.rename(from, to, inode);
        if to.ends_with(".log") {
            // A segment that gets its name says of itself, and of all before it, that they are on
            // the disk.
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
        state.names.remove(name);
        Ok(())
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        Ok(state.names.live.keys().cloned().collect())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        state.behaviour.disk(DiskCall::SyncDirectory, 0, 0, &[]);
        if state.lies.sync_directory {
            return Ok(());
        }
        state.names.sync();
        state.forget_nameless();
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        state.call()?;
        if state.fails(BadCall::Read) {
            return Err(io::Error::other("the disk cannot read it"));
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
        let fails = state.fails(BadCall::Write);
        let tag = state.tag;
        let is_full = state.is_full_for(self.inode);
        let Some(content) = state.files.get_mut(&self.inode) else {
            // A file without a name is still written to by whoever has it open.
            return Ok(());
        };
        let is_too_long = is_full && offset + bytes.len() as u64 > content.live.len() as u64;
        if fails || is_too_long {
            // Some of it may have been taken.
            content.write(&bytes[..bytes.len() / 2], offset, tag, false);
            return Err(if fails {
                io::Error::other("the disk did not take it")
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
        if state.lies.sync {
            return Ok(());
        }
        let fails = state.fails(BadCall::Sync);
        let Some(content) = state.files.get_mut(&self.inode) else { return Ok(()) };
        if fails {
            // The kernel takes the pages for clean from now on: they are readable and never
            // written.
            content.pending.clear();
            let is_told = !state.lies.failed_sync;
            return if is_told {
                Err(io::Error::other("the disk did not take it"))
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
