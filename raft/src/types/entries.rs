//! Entries that many hold at once.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::slice;
use std::sync::Arc;

use super::Entry;

/// Entries in order, shared: a clone is one reference count, however many they are. So what a
/// leader proposes is made once and held by its log, the write to its disk, the message to each
/// follower and the batch to be applied.
///
/// Equality and hash are those of the entries, whatever blocks of memory they lie in.
///
/// ```
/// use kodiak_raft::types::{Entries, Entry, Index, Payload, Stamp, Term};
///
/// let (term, stamp, payload) = (Term(1), Stamp(0), Payload::Noop);
/// let noop = |index| Entry { index: Index(index), term, stamp, payload: payload.clone() };
/// let entries: Entries = (1..=3).map(noop).collect();
/// assert_eq!(entries.last(), Some(&noop(3)));
/// assert_eq!(entries.clone().iter().map(|entry| entry.index.0).sum::<u64>(), 6);
/// ```
#[derive(Clone, Default)]
pub struct Entries(Parts);

#[derive(Clone, Default)]
enum Parts {
    #[default]
    None,
    One(Run),
    /// Two or more.
    Many(Arc<[Run]>),
}

impl Entries {
    /// No entries.
    #[must_use]
    pub fn new() -> Entries {
        Entries::default()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs().iter().map(Run::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Parts::None)
    }

    /// The first one.
    #[must_use]
    pub fn first(&self) -> Option<&Entry> {
        self.runs().first().map(Run::first)
    }

    /// The last one.
    #[must_use]
    pub fn last(&self) -> Option<&Entry> {
        self.runs().last().map(Run::last)
    }

    /// All of them, in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { current: [].iter(), rest: self.runs().iter() }
    }

    /// The sum of their [`size_bytes`](Entry::size_bytes), which is known: nothing is added up.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.runs().iter().map(Run::size_bytes).sum()
    }

    /// The entries after the first `count`.
    pub(crate) fn after_first(self, mut count: usize) -> Entries {
        if count == 0 {
            return self;
        }
        let mut rest = self.runs();
        while let Some((run, others)) = rest.split_first()
            && run.len() <= count
        {
            (count, rest) = (count - run.len(), others);
        }
        match rest.split_first() {
            Some((run, others)) => {
                let cut = run.slice(count..run.len());
                Entries::of_runs(std::iter::once(cut).chain(others.iter().cloned()))
            }
            None => Entries::new(),
        }
    }

    /// The entries up to this index, and those after it.
    pub(crate) fn split_after(self, index: super::Index) -> (Entries, Entries) {
        let count = self.iter().take_while(|entry| entry.index <= index).count();
        let mut before = Vec::new();
        let mut left = count;
        for run in self.runs() {
            let taken = run.len().min(left);
            if taken > 0 {
                before.push(run.slice(0..taken));
            }
            left -= taken;
        }
        (Entries::of_runs(before), self.after_first(count))
    }

    /// The blocks in which they lie.
    pub(crate) fn runs(&self) -> &[Run] {
        match &self.0 {
            Parts::None => &[],
            Parts::One(run) => slice::from_ref(run),
            Parts::Many(runs) => runs,
        }
    }

    /// The one block in which they lie; they themselves if there is none or there are several.
    pub(crate) fn into_run(self) -> Result<Run, Entries> {
        match self.0 {
            Parts::One(run) => Ok(run),
            parts => Err(Entries(parts)),
        }
    }

    /// The entries of these runs, one after the other.
    pub(crate) fn of_runs(runs: impl IntoIterator<Item = Run>) -> Entries {
        let mut runs = runs.into_iter();
        let Some(first) = runs.next() else { return Entries::new() };
        match runs.next() {
            None => Entries(Parts::One(first)),
            Some(second) => Entries(Parts::Many([first, second].into_iter().chain(runs).collect())),
        }
    }
}

impl From<Run> for Entries {
    fn from(run: Run) -> Entries {
        Entries(Parts::One(run))
    }
}

impl From<Entry> for Entries {
    fn from(entry: Entry) -> Entries {
        Entries(Parts::One(Run::new(Arc::new([entry]))))
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Entries {
        if entries.is_empty() {
            Entries::new()
        } else {
            Entries(Parts::One(Run::new(entries.into())))
        }
    }
}

impl FromIterator<Entry> for Entries {
    /// One allocation for a single entry.
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Entries {
        let mut entries = entries.into_iter();
        let Some(first) = entries.next() else { return Entries::new() };
        let Some(second) = entries.next() else { return first.into() };
        // An iterator that may end with an error knows no lower bound. What an upper one claims is
        // not taken on trust.
        let (least, most) = entries.size_hint();
        let mut all = Vec::with_capacity(2 + most.unwrap_or(least).min(1024));
        all.extend([first, second]);
        all.extend(entries);
        all.into()
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = &'a Entry;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Entries) -> bool {
        self.len() == other.len() && self.iter().eq(other)
    }
}

impl Eq for Entries {}

impl Hash for Entries {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|entry| entry.hash(state));
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// Iterates over [`Entries`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    current: slice::Iter<'a, Entry>,
    rest: slice::Iter<'a, Run>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        loop {
            if let Some(entry) = self.current.next() {
                return Some(entry);
            }
            self.current = self.rest.next()?.entries().iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.current.len() + self.rest.clone().map(Run::len).sum::<usize>();
        (len, Some(len))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// Some consecutive entries of one block. Never empty.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    block: Arc<[Entry]>,
    start: u32,
    end: u32,
    bytes: usize,
}

impl Run {
    /// All of a block.
    ///
    /// # Panics
    /// If it is empty, or has more than 2^32 entries, which are 224 GiB.
    fn new(block: Arc<[Entry]>) -> Run {
        assert!(!block.is_empty(), "a run has entries");
        let end = u32::try_from(block.len()).expect("fewer than 2^32 entries at once");
        let bytes = size_bytes(&block);
        Run { block, start: 0, end, bytes }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.block[self.start as usize..self.end as usize]
    }

    pub(crate) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// The size of some of its entries.
    pub(crate) fn bytes_of(&self, range: Range<usize>) -> usize {
        if range == (0..self.len()) { self.bytes } else { size_bytes(&self.entries()[range]) }
    }

    /// How many of some of its entries, beginning with the first of them, fit `limit_bytes`.
    pub(crate) fn fitting(&self, range: Range<usize>, limit_bytes: usize) -> usize {
        if self.bytes <= limit_bytes {
            return range.len();
        }
        let mut left_bytes = limit_bytes;
        let fits = |entry: &&Entry| match left_bytes.checked_sub(entry.size_bytes()) {
            Some(left) => {
                left_bytes = left;
                true
            }
            None => false,
        };
        self.entries()[range].iter().take_while(fits).count()
    }

    pub(crate) fn first(&self) -> &Entry {
        &self.block[self.start as usize]
    }

    pub(crate) fn last(&self) -> &Entry {
        &self.block[self.end as usize - 1]
    }

    /// A part of it, which keeps the whole block in memory.
    ///
    /// # Panics
    /// If the range is empty or beyond the end.
    pub(crate) fn slice(&self, range: Range<usize>) -> Run {
        if range == (0..self.len()) {
            return self.clone();
        }
        assert!(!range.is_empty(), "a run has entries");
        let bytes = self.bytes_of(range.clone());
        let (start, end) = (self.start + range.start as u32, self.start + range.end as u32);
        Run { block: Arc::clone(&self.block), start, end, bytes }
    }

    /// The bytes of what its block holds besides it.
    pub(crate) fn spare_bytes(&self) -> usize {
        if self.len() == self.block.len() {
            return 0;
        }
        size_bytes(&self.block[..self.start as usize])
            + size_bytes(&self.block[self.end as usize..])
    }

    /// The same in a block of its own.
    pub(crate) fn detached(&self) -> Run {
        Run::new(self.entries().into())
    }
}

fn size_bytes(entries: &[Entry]) -> usize {
    entries.iter().map(Entry::size_bytes).sum()
}
