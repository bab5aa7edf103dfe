//! What a file holds: what a process reads back, what is on the platter, and what waits in between.

use std::cmp::Ordering;

use crate::sim::fault_counters::{FaultCounter, FaultCounters};
use crate::sim::random::Random;

const SECTOR_BYTES: u64 = 512;
/// More writes than these do not wait for a sync.
const WRITTEN_BACK_AFTER: usize = 64;

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Pending>,
    /// What was made durable last begins and ends here. Nothing says yet that it was: damage to it
    /// looks like a write that a crash cut short (`raft/FORMAT.md`, "What this cannot see").
    pub(super) last_batch: (u64, u64),
}

/// A write that no sync has made durable.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    /// The replica's write that it belongs to.
    pub(super) tag: u64,
    /// It will end up somewhere else.
    pub(super) is_misdirected: bool,
}

impl Pending {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// What a power loss keeps of what was not synced.
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

/// What becomes of one write.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Lost,
    Kept,
    Torn,
}

/// Writes into a file's bytes, which grow if need be.
pub(super) fn put(target: &mut Vec<u8>, bytes: &[u8], offset: u64) {
    let (from, to) = (offset as usize, offset as usize + bytes.len());
    if target.len() < to {
        target.resize(to, 0);
    }
    target[from..to].copy_from_slice(bytes);
}

impl Content {
    /// A file of zeros.
    pub(super) fn zeros(bytes: u64) -> Content {
        Content { live: vec![0; bytes as usize], ..Content::default() }
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64, tag: u64, is_misdirected: bool) {
        put(&mut self.live, bytes, offset);
        self.pending.push(Pending { offset, bytes: bytes.to_vec(), tag, is_misdirected });
        self.write_back();
    }

    /// The kernel does not wait for a sync for ever: of a file that is never synced, the oldest
    /// writes reach the platter.
    fn write_back(&mut self) {
        while self.pending.len() > WRITTEN_BACK_AFTER && !self.pending[0].is_misdirected {
            let oldest = self.pending.remove(0);
            put(&mut self.durable, &oldest.bytes, oldest.offset);
        }
    }

    /// Everything that waits becomes durable; gives back what goes somewhere else.
    pub(super) fn sync(&mut self) -> Vec<Pending> {
        if let Some(start) = self.pending.iter().map(|write| write.offset).min() {
            self.last_batch = (start, self.pending.iter().map(Pending::end).max().unwrap_or(start));
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

    /// Keeps some sectors of a write, and perhaps only the first bytes of one.
    fn tear(&mut self, write: &Pending, random: &mut Random, fault_counters: &mut FaultCounters) {
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

    /// What is left when the power is gone.
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
                CrashMode::Nothing => Fate::Lost,
                CrashMode::Everything => Fate::Kept,
                CrashMode::Prefix => match place.cmp(&kept_whole) {
                    Ordering::Less => Fate::Kept,
                    Ordering::Equal => Fate::Torn,
                    Ordering::Greater => Fate::Lost,
                },
                CrashMode::Anything => random.pick(&[Fate::Lost, Fate::Kept, Fate::Torn]),
            };
            match fate {
                Fate::Lost => fault_counters.count(FaultCounter::WriteLost),
                Fate::Kept => put(&mut self.durable, &write.bytes, write.offset),
                Fate::Torn => self.tear(write, random, fault_counters),
            }
            if lost_one && matches!(fate, Fate::Kept) {
                fault_counters.count(FaultCounter::EarlierWriteLost);
            }
            lost_one |= !matches!(fate, Fate::Kept);
        }
        if self.durable.len() < self.live.len() && random.chance(5_000) {
            self.durable.resize(self.live.len(), 0);
        }
        self.live.clone_from(&self.durable);
    }

    /// Bytes become others, on the platter and for whoever reads them next: the kernel has dropped
    /// its copy.
    pub(super) fn damage(&mut self, bytes: &[u8], offset: u64) {
        for target in [&mut self.live, &mut self.durable] {
            let end = (offset as usize + bytes.len()).min(target.len());
            let Some(place) = target.get_mut(offset as usize..end) else { continue };
            place.copy_from_slice(&bytes[..place.len()]);
        }
    }
}
