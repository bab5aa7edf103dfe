//! The content of a file: as processes read it, as it is durable, and the writes in between.

use std::cmp::Ordering;

use crate::sim::fault_counters::{FaultCounter, FaultCounters};
use crate::sim::random::Random;

const SECTOR_BYTES: u64 = 512;
/// The most writes that wait for a sync; older ones are written back.
const WRITTEN_BACK_AFTER: usize = 64;

/// The content of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct FileContent {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<PendingWrite>,
    /// The begin and end of the last synced batch. Nothing on disk confirms this batch yet, so
    /// damage to it looks like a write that a crash cut short (`raft/FORMAT.md`, "What this cannot
    /// see").
    pub(super) last_batch: (u64, u64),
}

/// A write that is not synced.
#[derive(Clone, Debug)]
pub(super) struct PendingWrite {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    /// The sequence of the replica's write to which it belongs.
    pub(super) tag: u64,
    /// The drive will write it to the wrong place.
    pub(super) is_misdirected: bool,
}

impl PendingWrite {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// The unsynced writes that a power loss keeps.
#[derive(Clone, Copy, Debug)]
pub(super) enum CrashMode {
    Nothing,
    Everything,
    Prefix,
    Anything,
}

impl CrashMode {
    pub(super) fn draw(random: &mut Random) -> CrashMode {
        random.pick(&[
            CrashMode::Nothing,
            CrashMode::Everything,
            CrashMode::Prefix,
            CrashMode::Anything,
        ])
    }
}

/// The effect of a power loss on one write.
#[derive(Clone, Copy, Debug)]
enum WriteFate {
    Lost,
    Kept,
    Torn,
}

/// Writes into a file's bytes, which grow if needed.
pub(super) fn put(target: &mut Vec<u8>, bytes: &[u8], offset: u64) {
    let (from, to) = (offset as usize, offset as usize + bytes.len());
    if target.len() < to {
        target.resize(to, 0);
    }
    target[from..to].copy_from_slice(bytes);
}

impl FileContent {
    /// A file of zeros.
    pub(super) fn zeros(bytes: u64) -> FileContent {
        FileContent { live: vec![0; bytes as usize], ..FileContent::default() }
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64, tag: u64, is_misdirected: bool) {
        put(&mut self.live, bytes, offset);
        self.pending.push(PendingWrite { offset, bytes: bytes.to_vec(), tag, is_misdirected });
        self.write_back();
    }

    /// Makes the oldest writes durable: the kernel writes back a file that is never synced.
    fn write_back(&mut self) {
        while self.pending.len() > WRITTEN_BACK_AFTER && !self.pending[0].is_misdirected {
            let oldest = self.pending.remove(0);
            put(&mut self.durable, &oldest.bytes, oldest.offset);
        }
    }

    /// Makes all waiting writes durable; returns the misdirected ones.
    pub(super) fn sync(&mut self) -> Vec<PendingWrite> {
        if let Some(start) = self.pending.iter().map(|write| write.offset).min() {
            self.last_batch =
                (start, self.pending.iter().map(PendingWrite::end).max().unwrap_or(start));
        }
        let mut misdirected = Vec::new();
        for write in self.pending.drain(..) {
            if write.is_misdirected {
                misdirected.push(write);
            } else {
                put(&mut self.durable, &write.bytes, write.offset);
            }
        }
        if self.durable.len() < self.live.len() {
            self.durable.resize(self.live.len(), 0);
        }
        misdirected
    }

    /// Keeps some sectors of a write, perhaps only their first bytes.
    fn tear(
        &mut self,
        write: &PendingWrite,
        random: &mut Random,
        fault_counters: &mut FaultCounters,
    ) {
        let end = write.end();
        let mut from = write.offset;
        let mut was_kept = None;
        while from < end {
            let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
            let kept_to = match random.below(4) {
                0 => from,
                1 => random.between(from, to),
                _ => to,
            };
            let piece =
                &write.bytes[(from - write.offset) as usize..(kept_to - write.offset) as usize];
            if !piece.is_empty() {
                put(&mut self.durable, piece, from);
            }
            if from < kept_to && kept_to < to {
                fault_counters.count(FaultCounter::TornWithinSector);
            }
            if was_kept.is_some_and(|was_kept| was_kept != (from < kept_to)) {
                fault_counters.count(FaultCounter::TornAtSector);
            }
            was_kept = Some(kept_to == to);
            from = to;
        }
    }

    /// Loses power: keeps the durable content and some waiting writes.
    pub(super) fn lose_power(
        &mut self,
        mode: CrashMode,
        random: &mut Random,
        fault_counters: &mut FaultCounters,
    ) {
        let pending = std::mem::take(&mut self.pending);
        let kept_whole = random.below(pending.len() as u64 + 1) as usize;
        let mut lost_one = false;
        for (place, write) in pending.iter().enumerate().filter(|(_, write)| !write.is_misdirected)
        {
            let fate = match mode {
                CrashMode::Nothing => WriteFate::Lost,
                CrashMode::Everything => WriteFate::Kept,
                CrashMode::Prefix => match place.cmp(&kept_whole) {
                    Ordering::Less => WriteFate::Kept,
                    Ordering::Equal => WriteFate::Torn,
                    Ordering::Greater => WriteFate::Lost,
                },
                CrashMode::Anything => {
                    random.pick(&[WriteFate::Lost, WriteFate::Kept, WriteFate::Torn])
                }
            };
            match fate {
                WriteFate::Lost => fault_counters.count(FaultCounter::WriteLost),
                WriteFate::Kept => put(&mut self.durable, &write.bytes, write.offset),
                WriteFate::Torn => self.tear(write, random, fault_counters),
            }
            if lost_one && matches!(fate, WriteFate::Kept) {
                fault_counters.count(FaultCounter::EarlierWriteLost);
            }
            lost_one |= !matches!(fate, WriteFate::Kept);
        }
        if self.durable.len() < self.live.len() && random.chance(5_000) {
            self.durable.resize(self.live.len(), 0);
        }
        self.live.clone_from(&self.durable);
    }

    /// Changes bytes on the disk and for the next reader: the kernel has dropped its cached copy.
    pub(super) fn damage(&mut self, bytes: &[u8], offset: u64) {
        for target in [&mut self.live, &mut self.durable] {
            let end = (offset as usize + bytes.len()).min(target.len());
            let Some(place) = target.get_mut(offset as usize..end) else { continue };
            place.copy_from_slice(&bytes[..place.len()]);
        }
    }
}
