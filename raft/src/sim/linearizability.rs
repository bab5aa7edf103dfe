//! A linearizability checker: is there an order of all calls that explains every answer?
//!
//! It is the search of Wing and Gong ("Testing and verifying concurrent objects", 1993) with Lowe's
//! cache of configurations ("Testing for linearizability", 2017). The search places one call after
//! another where its begin and end allow, asks the specification whether the answer is possible
//! there, and backtracks if it is not. A configuration, which is a set of placed calls and the
//! resulting state, is never visited twice.
//!
//! A call without a known outcome never ends: it may be placed anywhere after its begin, or left
//! out.

use std::collections::HashSet;
use std::hash::Hash;

/// One call of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call<O> {
    /// When it began. No two calls begin or end at the same time.
    pub(super) began: u64,
    /// When it was answered; `None` if its outcome is unknown.
    pub(super) ended: Option<u64>,
    /// The operation and, if there was one, its answer.
    pub(super) operation: O,
    /// An earlier call that must be placed before this one. If two equal calls have no outcome, it
    /// is enough to try one of their orders.
    pub(super) after: Option<usize>,
}

/// The effect of calls on a state.
pub(super) trait Specification {
    /// The state on which the calls act.
    type State: Clone + Eq + Hash;

    /// The state after this call, or `None` if this state does not allow its answer.
    fn apply(&self, state: &Self::State) -> Option<Self::State>;
}

/// The result of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SearchResult {
    /// An order, as positions of the calls; without those that were left out.
    Order(Vec<usize>),
    /// There is none. This is the longest sequence of calls that could be placed.
    NoOrder(Vec<usize>),
    /// The search would visit more configurations than allowed.
    Undecided,
}

/// A set of calls, one bit each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CallSet(Box<[u64]>);

impl CallSet {
    fn empty(size: usize) -> CallSet {
        CallSet(vec![0; size.div_ceil(64)].into())
    }

    fn has(&self, place: usize) -> bool {
        self.0[place / 64] & (1 << (place % 64)) != 0
    }

    fn flip(&mut self, place: usize) {
        self.0[place / 64] ^= 1 << (place % 64);
    }
}

/// A placed call, and the state to which backtracking returns.
struct Placed<S> {
    call: usize,
    /// The state before the call.
    state: S,
}

/// Searches for an order. `calls` are sorted by their begin.
pub(super) fn search<O: Specification>(
    initial: O::State,
    calls: &[Call<O>],
    most_configurations: usize,
) -> SearchResult {
    debug_assert!(
        calls.is_sorted_by_key(|call| call.began),
        "calls are given in the order of their begins"
    );
    let mut known = HashSet::new();
    let mut placed = CallSet::empty(calls.len());
    let mut stack: Vec<Placed<O::State>> = Vec::new();
    let mut state = initial;
    let mut cursor = 0;
    let mut most = Vec::new();
    loop {
        let Some(limit) = first_end(calls, &placed) else {
            return SearchResult::Order(stack.into_iter().map(|placed| placed.call).collect());
        };
        match place_next(calls, &mut placed, &mut known, &state, cursor, limit) {
            Some((call, after)) => {
                if known.len() > most_configurations {
                    return SearchResult::Undecided;
                }
                stack.push(Placed { call, state: std::mem::replace(&mut state, after) });
                if stack.len() > most.len() {
                    most = stack.iter().map(|placed| placed.call).collect();
                }
                cursor = 0;
            }
            None => {
                let Some(last) = stack.pop() else { return SearchResult::NoOrder(most) };
                placed.flip(last.call);
                (state, cursor) = (last.state, last.call + 1);
            }
        }
    }
}

/// The earliest end among the calls that must still be placed; `None` if all are placed.
///
/// A call that began later must come after that call.
fn first_end<O>(calls: &[Call<O>], placed: &CallSet) -> Option<u64> {
    let mut first = None;
    for (place, call) in calls.iter().enumerate() {
        if first.is_some_and(|first| call.began > first) {
            break;
        }
        if let Some(ended) = call.ended.filter(|_| !placed.has(place)) {
            first = Some(first.map_or(ended, |first: u64| first.min(ended)));
        }
    }
    first
}

/// Places the next call, from `cursor` on, that leads to a new configuration.
fn place_next<O: Specification>(
    calls: &[Call<O>],
    placed: &mut CallSet,
    known: &mut HashSet<(CallSet, O::State)>,
    state: &O::State,
    cursor: usize,
    limit: u64,
) -> Option<(usize, O::State)> {
    for (place, call) in calls.iter().enumerate().skip(cursor) {
        if call.began > limit {
            return None;
        }
        if placed.has(place) || call.after.is_some_and(|other| !placed.has(other)) {
            continue;
        }
        let Some(after) = call.operation.apply(state) else { continue };
        placed.flip(place);
        if known.insert((placed.clone(), after.clone())) {
            return Some((place, after));
        }
        placed.flip(place);
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Calls on one number.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Register {
        Write(u8),
        Read(u8),
        /// Returns the number before.
        Add(u8, Option<u8>),
    }

    impl Specification for Register {
        type State = u8;

        fn apply(&self, &state: &u8) -> Option<u8> {
            match *self {
                Register::Write(number) => Some(number),
                Register::Read(number) => (number == state).then_some(state),
                Register::Add(more, seen) => {
                    seen.is_none_or(|seen| seen == state).then_some(state + more)
                }
            }
        }
    }

    use Register::{Add, Read, Write};

    fn calls(list: &[(u64, u64, Register)]) -> Vec<Call<Register>> {
        let call = |&(began, ended, operation)| Call {
            began,
            ended: (ended < 100).then_some(ended),
            operation,
            after: None,
        };
        list.iter().map(call).collect()
    }

    fn is_linearizable(list: &[(u64, u64, Register)]) -> bool {
        match search(0, &calls(list), 1_000_000) {
            SearchResult::Order(_) => true,
            SearchResult::NoOrder(_) => false,
            SearchResult::Undecided => panic!("a few calls need too many configurations"),
        }
    }

    /// Never answered.
    const NEVER: u64 = 100;

    #[test]
    fn linearizable_histories_have_an_order() {
        assert!(is_linearizable(&[]));
        assert!(is_linearizable(&[(0, 1, Write(1)), (2, 3, Read(1))]));
        // Herlihy and Wing: two reads concurrent with a write may differ, in the right order.
        assert!(is_linearizable(&[(0, 9, Write(1)), (1, 2, Read(0)), (3, 4, Read(1))]));
        assert!(is_linearizable(&[(0, 5, Write(1)), (1, 6, Write(2)), (7, 8, Read(1))]));
        assert!(
            is_linearizable(&[(0, NEVER, Write(1)), (1, 2, Read(0)), (3, 4, Read(1))]),
            "the write takes effect late"
        );
        assert!(
            is_linearizable(&[(0, NEVER, Write(1)), (1, 2, Read(0)), (3, 4, Read(0))]),
            "the write never takes effect"
        );
        assert!(is_linearizable(&[
            (0, NEVER, Add(1, None)),
            (1, NEVER, Add(1, None)),
            (2, 3, Read(2))
        ]));
    }

    #[test]
    fn other_histories_have_no_order() {
        assert!(!is_linearizable(&[(0, 1, Write(1)), (2, 3, Read(0))]), "a stale read");
        assert!(
            !is_linearizable(&[(0, 9, Write(1)), (1, 2, Read(1)), (3, 4, Read(0))]),
            "new, then old"
        );
        assert!(
            !is_linearizable(&[(0, 1, Add(1, Some(0))), (2, 3, Add(1, Some(0)))]),
            "a lost update"
        );
        assert!(!is_linearizable(&[(0, 1, Read(1)), (2, NEVER, Write(1))]), "from the future");
        assert!(
            !is_linearizable(&[(0, NEVER, Write(1)), (1, 2, Read(1)), (3, 4, Read(0))]),
            "and back"
        );
        assert!(!is_linearizable(&[(0, NEVER, Add(1, None)), (2, 3, Read(2))]), "twice");
    }

    #[test]
    fn a_call_is_placed_after_the_one_it_must_follow() {
        let mut list = calls(&[(0, NEVER, Write(1)), (1, NEVER, Write(2)), (2, 9, Read(2))]);
        assert_eq!(search(0, &list, 100), SearchResult::Order(vec![0, 1, 2]));
        list[0].operation = Read(7);
        assert_eq!(search(0, &list, 100), SearchResult::Order(vec![1, 2]));
        list[1].after = Some(0);
        assert!(matches!(search(0, &list, 100), SearchResult::NoOrder(_)));
    }

    #[test]
    fn a_search_that_takes_too_long_is_undecided() {
        let many: Vec<_> = (0..20).map(|call| (call, 60 + call, Write(call as u8))).collect();
        let all = [&many[..], &[(90, 91, Read(77))]].concat();
        assert_eq!(search(0, &calls(&all), 1_000), SearchResult::Undecided);
    }

    /// Tries every order, and every choice of calls to leave out.
    fn by_force(calls: &[Call<Register>], placed: &mut Vec<usize>, state: u8) -> bool {
        let left: Vec<usize> = (0..calls.len()).filter(|call| !placed.contains(call)).collect();
        if left.iter().all(|&call| calls[call].ended.is_none()) {
            return true;
        }
        left.iter().any(|&call| {
            let first = left
                .iter()
                .all(|&other| calls[other].ended.is_none_or(|ended| ended > calls[call].began));
            let Some(after) = calls[call].operation.apply(&state).filter(|_| first) else {
                return false;
            };
            placed.push(call);
            let fits = by_force(calls, placed, after);
            placed.pop();
            fits
        })
    }

    fn register() -> impl Strategy<Value = Register> {
        prop_oneof![
            (0u8..3).prop_map(Write),
            (0u8..3).prop_map(Read),
            (prop::option::of(0u8..3)).prop_map(|seen| Add(1, seen)),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_trying_everything(
            operations in prop::collection::vec((register(), any::<bool>()), 0..6),
            times in Just((0u64..12).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let call = |(place, &(operation, ends)): (usize, &(Register, bool))| {
                let (one, other) = (times[2 * place], times[2 * place + 1]);
                let ended = ends.then_some(one.max(other));
                Call { began: one.min(other), ended, operation, after: None }
            };
            let mut list: Vec<Call<Register>> = operations.iter().enumerate().map(call).collect();
            list.sort_by_key(|call| call.began);
            let found = search(0, &list, 1_000_000);
            let is_found = matches!(found, SearchResult::Order(_));
            prop_assert_eq!(by_force(&list, &mut Vec::new(), 0), is_found, "{:?}", found);
            if let SearchResult::Order(order) = found {
                let mut placed = order.iter().map(|&call| list[call].operation);
                let end = placed.try_fold(0, |state, operation| operation.apply(&state));
                prop_assert!(end.is_some(), "the order found does not explain the answers");
            }
        }
    }
}
