//! The term of every index of a log, run-length coded: a log of a billion entries and twenty elections takes twenty pairs.

use super::{Index, Term};

/// The term of every index from 1 to the last.
///
/// ```text
/// index  1 2 3 4 5 6 7        runs: (1, term 1) (4, term 4) (6, term 5), last 7
/// term   1 1 1 4 4 5 5
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct TermTable {
    /// First index and term of each run, both strictly rising.
    runs: Vec<(Index, Term)>,
    last: Index,
}

impl TermTable {
    /// The table of an empty log.
    #[must_use]
    pub fn new() -> TermTable {
        TermTable::default()
    }

    /// The last index; 0 for an empty log.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.last
    }

    /// The last index's term; 0 for an empty log.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.runs.last().map_or(Term(0), |&(_, term)| term)
    }

    /// The term at `index`: 0 at index 0, `None` past the end.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index > self.last {
            return None;
        }
        let following = self.runs.partition_point(|&(first, _)| first <= index);
        Some(if following == 0 { Term(0) } else { self.runs[following - 1].1 })
    }

    /// The first index of the run that `index` is in; `None` for index 0 and past the end.
    #[must_use]
    pub fn first_of_run(&self, index: Index) -> Option<Index> {
        if index > self.last {
            return None;
        }
        let following = self.runs.partition_point(|&(first, _)| first <= index);
        following.checked_sub(1).map(|run| self.runs[run].0)
    }

    /// The greatest index, not above `index`, whose term is at most `term`; 0 if there is none.
    #[must_use]
    pub fn last_at_or_before(&self, index: Index, term: Term) -> Index {
        let index = index.min(self.last);
        let later = self.runs.partition_point(|&(_, run_term)| run_term <= term);
        match self.runs.get(later) {
            Some(&(first_later, _)) => index.min(first_later.previous()),
            None => index,
        }
    }

    /// Adds the next index.
    ///
    /// # Panics
    /// If `index` does not follow the last one, or `term` is lower than the last term or 0: the log would be corrupt.
    pub fn append(&mut self, index: Index, term: Term) {
        assert!(index == self.last.next(), "entry {index} does not follow entry {}", self.last);
        assert!(term >= self.last_term() && term > Term(0), "term {term} at {index} follows term {}", self.last_term());
        if term > self.last_term() {
            self.runs.push((index, term));
        }
        self.last = index;
    }

    /// Removes `index` and all that follow it. Does nothing if `index` is past the end.
    ///
    /// # Panics
    /// If `index` is 0.
    pub fn truncate_from(&mut self, index: Index) {
        assert!(index > Index(0), "there is nothing at index 0 to remove");
        if index > self.last {
            return;
        }
        self.runs.retain(|&(first, _)| first < index);
        self.last = index.previous();
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
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![4 => (0u64..2).prop_map(Step::Append), 1 => (1u64..40).prop_map(Step::Truncate)]
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_terms(steps in prop::collection::vec(step(), 0..60)) {
            let mut model: Vec<u64> = Vec::new();
            let mut table = TermTable::new();
            for step in steps {
                match step {
                    Step::Append(rise) => {
                        let term = model.last().copied().unwrap_or(1) + rise;
                        model.push(term);
                        table.append(Index(model.len() as u64), Term(term));
                    }
                    Step::Truncate(from) => {
                        model.truncate(from as usize - 1);
                        table.truncate_from(Index(from));
                    }
                }
                prop_assert_eq!(table.last_index(), Index(model.len() as u64));
                prop_assert_eq!(table.last_term(), Term(model.last().copied().unwrap_or(0)));
                prop_assert_eq!(table.term_at(Index(0)), Some(Term(0)));
                prop_assert_eq!(table.term_at(table.last_index().next()), None);
                for (at, &term) in model.iter().enumerate() {
                    let index = Index(at as u64 + 1);
                    prop_assert_eq!(table.term_at(index), Some(Term(term)));
                    let first = model.iter().position(|&t| t == term).unwrap() as u64 + 1;
                    prop_assert_eq!(table.first_of_run(index), Some(Index(first)));
                    for limit in 0..term + 2 {
                        let expected = model[..=at].iter().rposition(|&t| t <= limit).map_or(0, |p| p as u64 + 1);
                        prop_assert_eq!(table.last_at_or_before(index, Term(limit)), Index(expected));
                    }
                }
            }
        }
    }
}
