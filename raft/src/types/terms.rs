//! The term of every index of a log, run-length coded: a log of a billion entries and twenty
//! elections takes twenty pairs.

use super::{Index, Term};

/// The term of every index from the base to the last. The base is the entry before the first one
/// that the log holds: 0, or an entry that a snapshot includes.
///
/// ```text
/// index  1 2 3 4 5 6 7        base 0, term 0; runs: (1, term 1) (4, term 4) (6, term 5); last 7
/// term   1 1 1 4 4 5 5
///
/// the same, compacted to 4:   base 4, term 4; runs: (6, term 5); last 7
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct TermTable {
    base: Index,
    base_term: Term,
    /// First index and term of each run, both strictly rising and above the base's. Entries between
    /// the base and the first run are of the base's term.
    runs: Vec<(Index, Term)>,
    last: Index,
}

impl TermTable {
    /// The table of an empty log.
    #[must_use]
    pub fn new() -> TermTable {
        TermTable::default()
    }

    /// The table of a log that begins after `base`, which is of term `base_term`.
    ///
    /// # Panics
    /// If one of the two is 0 and the other is not.
    #[must_use]
    pub fn after(base: Index, base_term: Term) -> TermTable {
        assert!(
            (base == Index(0)) == (base_term == Term(0)),
            "entry {base} cannot be of term {base_term}"
        );
        TermTable { base, base_term, runs: Vec::new(), last: base }
    }

    /// The index before the first one in the table: the lowest whose term is known.
    #[must_use]
    pub fn base(&self) -> Index {
        self.base
    }

    /// The last index; the base for an empty log.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.last
    }

    /// The last index's term; the base's for an empty log.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.runs.last().map_or(self.base_term, |&(_, term)| term)
    }

    /// The term at `index`; `None` below the base and past the end. At index 0 it is 0 as long as
    /// that is the base.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index < self.base || index > self.last {
            return None;
        }
        let following = self.runs.partition_point(|&(first, _)| first <= index);
        Some(if following == 0 { self.base_term } else { self.runs[following - 1].1 })
    }

    /// The first index of the run that `index` is in, as far as the table goes; `None` up to the
    /// base and past the end.
    #[must_use]
    pub fn first_of_run(&self, index: Index) -> Option<Index> {
        if index <= self.base || index > self.last {
            return None;
        }
        let following = self.runs.partition_point(|&(first, _)| first <= index);
        Some(if following == 0 { self.base.next() } else { self.runs[following - 1].0 })
    }

    /// The greatest index, not above `index`, whose term is at most `term`; 0 if the table knows
    /// none.
    #[must_use]
    pub fn last_at_or_before(&self, index: Index, term: Term) -> Index {
        let index = index.min(self.last);
        if index < self.base || term < self.base_term {
            return Index(0);
        }
        let later = self.runs.partition_point(|&(_, run_term)| run_term <= term);
        match self.runs.get(later) {
            Some(&(first_later, _)) => index.min(first_later.previous()),
            None => index,
        }
    }

    /// Adds the next index.
    ///
    /// # Panics
    /// If `index` does not follow the last one, or `term` is lower than the last term or 0: the log
    /// would be corrupt.
    pub fn append(&mut self, index: Index, term: Term) {
        assert!(index == self.last.next(), "entry {index} does not follow entry {}", self.last);
        assert!(
            term >= self.last_term() && term > Term(0),
            "term {term} at {index} follows term {}",
            self.last_term()
        );
        if term > self.last_term() {
            self.runs.push((index, term));
        }
        self.last = index;
    }

    /// Removes `index` and all that follow it. Does nothing if `index` is past the end.
    ///
    /// # Panics
    /// If `index` is the base or below: what a snapshot includes is committed.
    pub fn truncate_from(&mut self, index: Index) {
        assert!(index > self.base, "entry {index} is not above the base, {}", self.base);
        if index > self.last {
            return;
        }
        self.runs.retain(|&(first, _)| first < index);
        self.last = index.previous();
    }

    /// Moves the base up to `base`, and forgets what is below it. Does nothing if the base is there
    /// or higher.
    ///
    /// # Panics
    /// If `base` is past the end.
    pub fn compact_to(&mut self, base: Index) {
        assert!(base <= self.last, "entry {base} is past the end, {}", self.last);
        if base <= self.base {
            return;
        }
        self.base_term = self.term_at(base).expect("between the base and the end");
        self.base = base;
        self.runs.retain(|&(first, _)| first > base);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Append(u64),
        Truncate(u64),
        Compact(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0u64..2).prop_map(Step::Append),
            2 => (1u64..40).prop_map(Step::Truncate),
            1 => (0u64..20).prop_map(Step::Compact),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_terms(steps in prop::collection::vec(step(), 0..60)) {
            // All terms from index 0 on, and the base.
            let mut model: Vec<u64> = vec![0];
            let mut base = 0;
            let mut table = TermTable::new();
            for step in steps {
                match step {
                    Step::Append(rise) => {
                        let term = (model[model.len() - 1] + rise).max(1);
                        table.append(Index(model.len() as u64), Term(term));
                        model.push(term);
                    }
                    Step::Truncate(from) => {
                        let from = from.max(base as u64 + 1);
                        model.truncate(from as usize);
                        table.truncate_from(Index(from));
                    }
                    Step::Compact(to) => {
                        let to = (to as usize).min(model.len() - 1);
                        base = base.max(to);
                        table.compact_to(Index(to as u64));
                    }
                }
                let last = model.len() - 1;
                prop_assert_eq!(table.base(), Index(base as u64));
                prop_assert_eq!(table.last_index(), Index(last as u64));
                prop_assert_eq!(table.last_term(), Term(model[last]));
                let mut fresh = TermTable::after(Index(base as u64), Term(model[base]));
                for (index, &term) in model.iter().enumerate().skip(base + 1) {
                    fresh.append(Index(index as u64), Term(term));
                }
                prop_assert_eq!(&table, &fresh, "equal logs have equal tables");
                for index in 0..model.len() + 2 {
                    let known = (base..=last).contains(&index);
                    let expected = known.then(|| Term(model[index]));
                    prop_assert_eq!(table.term_at(Index(index as u64)), expected);
                    let first = (base + 1..=last).contains(&index).then(|| {
                        (base + 1..=index).find(|&at| model[at] == model[index]).unwrap() as u64
                    });
                    prop_assert_eq!(table.first_of_run(Index(index as u64)), first.map(Index));
                    for limit in 0..model[last] + 2 {
                        let mut downwards = (base..=index.min(last)).rev();
                        let expected = downwards.find(|&at| model[at] <= limit).unwrap_or(0);
                        prop_assert_eq!(
                            table.last_at_or_before(Index(index as u64), Term(limit)),
                            Index(expected as u64)
                        );
                    }
                }
            }
        }
    }
}
