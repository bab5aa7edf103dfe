//! The directory: names, and changes to them that are not synced.

use std::collections::BTreeMap;

use super::content::CrashMode;
use crate::sim::fault_counters::{FaultCounter, FaultCounters};
use crate::sim::random::Random;

/// File names and their inode numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub(super) live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    changes: Vec<DirectoryChange>,
}

#[derive(Clone, Debug)]
enum DirectoryChange {
    Create(String, u64),
    Rename(String, String, u64),
    Remove(String),
}

impl Directory {
    pub(super) fn create(&mut self, name: &str, inode: u64) {
        self.live.insert(name.to_owned(), inode);
        self.changes.push(DirectoryChange::Create(name.to_owned(), inode));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, inode: u64) {
        self.live.remove(from);
        self.live.insert(to.to_owned(), inode);
        self.changes.push(DirectoryChange::Rename(from.to_owned(), to.to_owned(), inode));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.live.remove(name);
        self.changes.push(DirectoryChange::Remove(name.to_owned()));
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            self.make_durable(&change);
        }
    }

    fn make_durable(&mut self, change: &DirectoryChange) {
        match change {
            DirectoryChange::Create(name, inode) => {
                self.durable.insert(name.clone(), *inode);
            }
            DirectoryChange::Rename(from, to, inode) => {
                self.durable.remove(from);
                self.durable.insert(to.clone(), *inode);
            }
            DirectoryChange::Remove(name) => {
                self.durable.remove(name);
            }
        }
    }

    /// Loses power: keeps the first waiting changes, or an arbitrary subset.
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
                fault_counters.count(if matches!(change, DirectoryChange::Rename(..)) {
                    FaultCounter::RenameLost
                } else {
                    FaultCounter::NameLost
                });
            }
        }
        self.live = self.durable.clone();
    }

    /// Drops all unsynced changes.
    pub(super) fn discard_changes(&mut self) {
        self.changes.clear();
        self.live = self.durable.clone();
    }

    /// Whether a file has a name, or may have one after a power loss.
    pub(super) fn has(&self, inode: u64) -> bool {
        let mut all = self.live.values().chain(self.durable.values());
        all.any(|&named| named == inode)
            || self.changes.iter().any(|change| match change {
                DirectoryChange::Create(_, changed) | DirectoryChange::Rename(_, _, changed) => {
                    *changed == inode
                }
                DirectoryChange::Remove(_) => false,
            })
    }
}
