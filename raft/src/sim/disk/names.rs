//! The folder: names, and changes to them that no sync of the folder has made durable.

use std::collections::BTreeMap;

use super::content::CrashMode;
use crate::sim::fault_counters::{FaultCounter, FaultCounters};
use crate::sim::random::Random;

/// Names of files, each standing for a number.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Create(String, u64),
    Rename(String, String, u64),
    Remove(String),
}

impl Names {
    pub(super) fn create(&mut self, name: &str, inode: u64) {
        self.live.insert(name.to_owned(), inode);
        self.changes.push(Change::Create(name.to_owned(), inode));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, inode: u64) {
        self.live.remove(from);
        self.live.insert(to.to_owned(), inode);
        self.changes.push(Change::Rename(from.to_owned(), to.to_owned(), inode));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.live.remove(name);
        self.changes.push(Change::Remove(name.to_owned()));
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            self.make_durable(&change);
        }
    }

    fn make_durable(&mut self, change: &Change) {
        match change {
            Change::Create(name, inode) => {
                self.durable.insert(name.clone(), *inode);
            }
            Change::Rename(from, to, inode) => {
                self.durable.remove(from);
                self.durable.insert(to.clone(), *inode);
            }
            Change::Remove(name) => {
                self.durable.remove(name);
            }
        }
    }

    /// What is left when the power is gone: the first changes, or any of them.
    pub(super) fn lose_power(
        &mut self,
        mode: CrashMode,
        random: &mut Random,
        fault_counters: &mut FaultCounters,
    ) {
        let changes = std::mem::take(&mut self.changes);
        let kept = random.below(changes.len() as u64 + 1) as usize;
        for (place, change) in changes.iter().enumerate() {
            let is_kept = match mode {
                CrashMode::Nothing => false,
                CrashMode::Everything => true,
                CrashMode::Prefix => place < kept,
                CrashMode::Anything => random.chance(5_000),
            };
            if is_kept {
                self.make_durable(change);
            } else {
                fault_counters.count(if matches!(change, Change::Rename(..)) {
                    FaultCounter::RenameLost
                } else {
                    FaultCounter::NameLost
                });
            }
        }
        self.live = self.durable.clone();
    }

    /// As if the power were lost and nothing but what was synced kept.
    pub(super) fn forget_changes(&mut self) {
        self.changes.clear();
        self.live = self.durable.clone();
    }

    /// Whether a file has a name, or would have one after a power loss.
    pub(super) fn has(&self, inode: u64) -> bool {
        let mut all = self.live.values().chain(self.durable.values());
        all.any(|&named| named == inode)
            || self.changes.iter().any(|change| match change {
                Change::Create(_, changed) | Change::Rename(_, _, changed) => *changed == inode,
                Change::Remove(_) => false,
            })
    }
}
