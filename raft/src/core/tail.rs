//! Consecutive entries in memory, as the runs in which they came: what was proposed together, or
//! came in one message, stays in one block of memory that messages and batches share.
//!
//! ```text
//!   runs    [5 6 7] [8] [9 10 11 12]        entries 6 to 9 are the end of the first run,
//!              '-----------'                the second, and the beginning of the third:
//!                                           three reference counts
//! ```
//!
//! A block is freed when no part of it is held. So that a few entries do not keep many others in
//! memory, what is left of a block that is mostly gone moves to one of its own.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::{iter, mem};

use crate::types::{Entries, Entry, Index, Run};

/// A log's last entries, or a draft's. Equal if the entries are.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    /// Each with its first index.
    runs: VecDeque<(Index, Run)>,
    bytes: usize,
    /// The bytes of entries that are gone and still in the first run's block.
    spare_bytes: usize,
}

impl Tail {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn len(&self) -> usize {
        self.runs.iter().map(|(_, run)| run.len()).sum()
    }

    pub(super) fn first_index(&self) -> Option<Index> {
        self.runs.front().map(|&(first, _)| first)
    }

    pub(super) fn last(&self) -> Option<&Entry> {
        self.runs.back().map(|(_, run)| run.last())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.runs.iter().flat_map(|(_, run)| run.entries())
    }

    pub(super) fn get(&self, index: Index) -> Option<&Entry> {
        let (first, run) = self.runs.get(self.position_of(index)?)?;
        run.entries().get((index.0 - first.0) as usize)
    }

    /// Which run `index` is in, if it is not past the end.
    fn position_of(&self, index: Index) -> Option<usize> {
        let newest = self.runs.len().checked_sub(1)?;
        if self.runs[newest].0 <= index {
            return Some(newest); // It mostly is.
        }
        self.runs.partition_point(|&(first, _)| first <= index).checked_sub(1)
    }

    /// The runs that have entries from `from` to `to`, both of which must be here, and which of
    /// theirs these are.
    fn parts(&self, from: Index, to: Index) -> impl Iterator<Item = (&Run, Range<usize>)> {
        let position = self.position_of(from).expect("it begins in memory");
        let runs = self.runs.range(position..).take_while(move |&&(first, _)| first <= to);
        runs.map(move |(first, run)| {
            let (start, end) =
                (from.0.saturating_sub(first.0) as usize, (to.0 - first.0) as usize + 1);
            (run, start..end.min(run.len()))
        })
    }

    /// Entries from `from` to `to`, both of which must be here: as many as fit `limit_bytes`, but
    /// at least one.
    pub(super) fn entries(&self, from: Index, to: Index, limit_bytes: usize) -> Entries {
        if let Some((first, run)) = self.runs.back()
            && (*first, first.0 + run.len() as u64) == (from, to.0 + 1)
            && run.size_bytes() <= limit_bytes
        {
            return run.clone().into(); // What was proposed last, as it mostly is.
        }
        let mut left_bytes = limit_bytes;
        let (mut is_first, mut is_full) = (true, false);
        Entries::of_runs(self.parts(from, to).map_while(|(run, range)| {
            if is_full {
                return None;
            }
            let fitting =
                run.fitting(range.clone(), left_bytes).max(usize::from(mem::take(&mut is_first)));
            is_full = fitting < range.len();
            let part = (fitting > 0).then(|| run.slice(range.start..range.start + fitting))?;
            left_bytes = left_bytes.saturating_sub(part.size_bytes());
            Some(part)
        }))
    }

    /// The bytes of the entries from `from` to `to`, both of which must be here.
    pub(super) fn bytes_of(&self, from: Index, to: Index) -> usize {
        self.parts(from, to).map(|(run, range)| run.bytes_of(range)).sum()
    }

    /// Adds the entries that follow. A small part of a block moves to a block of its own.
    pub(super) fn push(&mut self, entries: Entries) {
        match entries.into_run() {
            Ok(run) => self.push_run(run),
            Err(entries) => entries.runs().iter().for_each(|run| self.push_run(run.clone())),
        }
    }

    fn push_run(&mut self, run: Run) {
        let is_whole = run.spare_bytes() <= run.size_bytes() / 8;
        let run = if is_whole { run } else { run.detached() };
        let (first, last) = (run.first().index, run.last().index);
        if let Some(before) = self.last() {
            assert!(
                first == before.index.next(),
                "entry {first} does not follow entry {}",
                before.index
            );
        }
        assert!(
            last.0 - first.0 + 1 == run.len() as u64,
            "{} entries from {first} to {last}",
            run.len()
        );
        self.bytes += run.size_bytes();
        self.runs.push_back((first, run));
    }

    /// Removes `from` and all that follow.
    pub(super) fn truncate_from(&mut self, from: Index) {
        while let Some((_, run)) = self.runs.pop_back_if(|&mut (first, _)| first >= from) {
            self.bytes -= run.size_bytes();
        }
        let Some((first, run)) = self.runs.back_mut() else { return };
        let kept = (from.0 - first.0) as usize;
        if kept < run.len() {
            self.bytes -= run.bytes_of(kept..run.len());
            *run = run.slice(0..kept).detached();
        }
    }

    /// Removes entries from the front, up to `removable` and never the last one, until they fit
    /// `limit_bytes`.
    pub(super) fn trim(&mut self, limit_bytes: usize, removable: Index) {
        while self.bytes > limit_bytes
            && let Some((first, run)) = self.runs.front()
        {
            let last = Index(first.0 + run.len() as u64 - 1);
            if last > removable
                || self.runs.len() == 1
                || self.bytes - run.size_bytes() < limit_bytes
            {
                return self.trim_first(limit_bytes, removable);
            }
            self.bytes -= run.size_bytes();
            self.spare_bytes = 0;
            self.runs.pop_front();
        }
    }

    /// As [`Tail::trim`], of the first run only.
    fn trim_first(&mut self, limit_bytes: usize, removable: Index) {
        let is_only = self.runs.len() == 1;
        let Some((first, run)) = self.runs.front_mut() else { return };
        let (mut excess_bytes, mut gone) = (self.bytes - limit_bytes, 0);
        for entry in &run.entries()[..run.len() - usize::from(is_only)] {
            if excess_bytes == 0 || entry.index > removable {
                break;
            }
            excess_bytes = excess_bytes.saturating_sub(entry.size_bytes());
            gone += 1;
        }
        let gone_bytes = run.bytes_of(0..gone);
        self.bytes -= gone_bytes;
        self.spare_bytes += gone_bytes;
        if gone == run.len() {
            self.spare_bytes = 0;
            self.runs.pop_front();
        } else if gone > 0 {
            *first = Index(first.0 + gone as u64);
            *run = run.slice(gone..run.len());
            if self.spare_bytes > limit_bytes / 4 {
                *run = run.detached();
                self.spare_bytes = 0;
            }
        }
    }

    /// All of them; nothing remains.
    pub(super) fn take(&mut self) -> Entries {
        self.bytes = 0;
        self.spare_bytes = 0;
        Entries::of_runs(iter::from_fn(|| self.runs.pop_front()).map(|(_, run)| run))
    }
}

impl PartialEq for Tail {
    fn eq(&self, other: &Tail) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Tail {}

impl Hash for Tail {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|entry| entry.hash(state));
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::types::{Payload, Stamp, Term};

    #[derive(Clone, Debug)]
    enum Step {
        /// Payload sizes; how many entries of the block before these are not taken.
        Push(Vec<usize>, usize),
        /// Two pushes' worth in one.
        PushTwo(Vec<usize>, Vec<usize>),
        /// How many of the last entries go.
        Truncate(u64),
        /// How many of the last entries are not removable.
        Trim(u64),
        Take,
    }

    fn step() -> impl Strategy<Value = Step> {
        let sizes = || prop::collection::vec(0..40usize, 1..9);
        prop_oneof![
            8 => (sizes(), prop_oneof![3 => Just(0), 1 => 0..9usize])
                .prop_map(|(sizes, before)| Step::Push(sizes, before)),
            2 => (sizes(), sizes()).prop_map(|(first, second)| Step::PushTwo(first, second)),
            3 => (0..12u64).prop_map(Step::Truncate),
            4 => prop_oneof![3 => Just(0), 1 => 0..12u64].prop_map(Step::Trim),
            1 => Just(Step::Take),
        ]
    }

    /// The entries that follow `last`, of a term that tells one push from another.
    fn following(last: u64, sizes: &[usize], term: u64) -> Entries {
        let entry = |(index, &bytes): (u64, &usize)| {
            let payload = Payload::Command(Bytes::from(vec![term as u8; bytes]));
            Entry { index: Index(index), term: Term(term), stamp: Stamp(index), payload }
        };
        (last + 1..).zip(sizes).map(entry).collect()
    }

    fn bytes_of(entries: &[Entry]) -> usize {
        entries.iter().map(Entry::size_bytes).sum()
    }

    /// As many of `entries` as fit, but at least one.
    fn fitting(entries: &[Entry], limit_bytes: usize) -> &[Entry] {
        let fits = (1..=entries.len())
            .take_while(|&count| count == 1 || bytes_of(&entries[..count]) <= limit_bytes);
        &entries[..fits.last().unwrap()]
    }

    fn hash_of(value: impl Hash) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
    }

    /// Keeps a list of entries beside a tail.
    struct Pair {
        tail: Tail,
        model: Vec<Entry>,
        last: u64,
        term: u64,
    }

    impl Pair {
        fn push(&mut self, entries: &Entries) {
            self.tail.push(entries.clone());
            self.model.extend(entries.iter().cloned());
            self.last = entries.last().unwrap().index.0;
        }

        fn take_step(&mut self, step: &Step, limit_bytes: usize) {
            self.term += 1;
            match step {
                Step::Push(sizes, before) => {
                    let before = (*before).min(self.last as usize);
                    let all: Vec<usize> =
                        [7].repeat(before).into_iter().chain(sizes.iter().copied()).collect();
                    let entries = following(self.last - before as u64, &all, self.term);
                    self.push(&entries.after_first(before));
                }
                Step::PushTwo(first, second) => {
                    let first = following(self.last, first, self.term);
                    let second = following(first.last().unwrap().index.0, second, self.term);
                    let runs = first.runs().iter().chain(second.runs()).cloned();
                    self.push(&Entries::of_runs(runs));
                }
                Step::Truncate(count) => {
                    let from = Index(self.last.saturating_sub(*count) + 1);
                    self.tail.truncate_from(from);
                    self.model.retain(|entry| entry.index < from);
                    self.last =
                        self.model.last().map_or(self.last.min(from.0 - 1), |entry| entry.index.0);
                }
                Step::Trim(kept) => {
                    let removable = Index(self.last.saturating_sub(*kept));
                    self.tail.trim(limit_bytes, removable);
                    while bytes_of(&self.model) > limit_bytes
                        && self.model.len() > 1
                        && self.model[0].index <= removable
                    {
                        self.model.remove(0);
                    }
                }
                Step::Take => {
                    let taken = self.tail.take();
                    assert_eq!(taken, std::mem::take(&mut self.model).into());
                }
            }
        }

        /// Beside the entries themselves, blocks hold little.
        fn check_spare(&self, limit_bytes: usize) {
            for (position, (_, run)) in self.tail.runs.iter().enumerate() {
                let (own, spare) = (run.size_bytes(), run.spare_bytes());
                let allowed =
                    if position == 0 { limit_bytes / 4 + (own + spare) / 8 } else { own / 8 };
                assert!(spare <= allowed, "run {position} of {own} bytes holds {spare} more");
            }
        }

        fn check(&self) {
            let (tail, model) = (&self.tail, &self.model);
            assert_eq!(tail.iter().collect::<Vec<_>>(), model.iter().collect::<Vec<_>>());
            assert_eq!(
                (tail.is_empty(), tail.len(), tail.last()),
                (model.is_empty(), model.len(), model.last())
            );
            assert_eq!(
                (tail.first_index(), tail.bytes),
                (model.first().map(|entry| entry.index), bytes_of(model))
            );
            for index in 0..self.last + 2 {
                assert_eq!(
                    tail.get(Index(index)),
                    model.iter().find(|entry| entry.index.0 == index)
                );
            }
            let mut whole = Tail::default();
            whole.push(model.clone().into());
            assert_eq!(
                (tail, hash_of(tail)),
                (&whole, hash_of(&whole)),
                "equal, however they came"
            );
            for from in 0..model.len() {
                for to in from..model.len() {
                    let (wanted, first, last) =
                        (&model[from..=to], model[from].index, model[to].index);
                    assert_eq!(tail.bytes_of(first, last), bytes_of(wanted));
                    for limit_bytes in [0, 50, 200, usize::MAX] {
                        let entries = tail.entries(first, last, limit_bytes);
                        let expected = fitting(wanted, limit_bytes);
                        assert_eq!(
                            entries.iter().collect::<Vec<_>>(),
                            expected.iter().collect::<Vec<_>>()
                        );
                        check_entries(entries, expected);
                    }
                }
            }
        }
    }

    fn check_entries(entries: Entries, expected: &[Entry]) {
        let one_block = Entries::from(expected.to_vec());
        assert_eq!((&entries, hash_of(&entries)), (&one_block, hash_of(&one_block)));
        assert_eq!((entries.len(), entries.iter().len()), (expected.len(), expected.len()));
        assert_eq!((entries.first(), entries.last()), (expected.first(), expected.last()));
        assert_eq!(entries.size_bytes(), bytes_of(expected));
        for count in 0..=expected.len() {
            assert_eq!(entries.clone().after_first(count), expected[count..].to_vec().into());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn agrees_with_a_list_of_entries(
            steps in prop::collection::vec(step(), 0..24),
            limit_bytes in prop_oneof![Just(1usize), Just(150), Just(600), Just(2000)],
        ) {
            let mut pair = Pair { tail: Tail::default(), model: Vec::new(), last: 0, term: 0 };
            for step in &steps {
                pair.take_step(step, limit_bytes);
                pair.check();
                pair.check_spare(limit_bytes);
            }
        }
    }

    #[test]
    fn a_slice_shares_its_block_and_a_trimmed_rest_does_not() {
        let block = following(0, &[68; 8], 1);
        let mut tail = Tail::default();
        tail.push(block.clone());
        let same = |tail: &Tail, index| {
            let here = std::ptr::from_ref(tail.get(Index(index)).unwrap());
            here == std::ptr::from_ref(block.iter().nth(index as usize - 1).unwrap())
        };
        assert!(std::ptr::eq(
            tail.entries(Index(3), Index(5), 1 << 20).first().unwrap(),
            tail.get(Index(3)).unwrap()
        ));
        tail.trim(700, Index(8));
        assert!(same(&tail, 2), "100 bytes of an old block are less than a quarter of 700");
        tail.trim(400, Index(8));
        assert!(!same(&tail, 5), "400 bytes are more than a quarter of 400");
        let mut follower = Tail::default();
        follower.push(block.clone().after_first(6));
        assert!(!same(&follower, 7), "two of eight entries are not nearly all of them");
    }
}
