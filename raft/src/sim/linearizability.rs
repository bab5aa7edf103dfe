//! Is there an order of all calls that explains what each was answered and contradicts no clock?
//!
//! The search of Wing and Gong ("Testing and verifying concurrent objects", 1993) with Lowe's
//! memory of configurations ("Testing for linearizability", 2017): put one call after the other in
//! a place that its begin and end allow, ask the specification whether it could have answered so,
//! step back where it could not; a set of calls that has once been placed with some state as the
//! result is never looked at again.
//!
//! A call without a known outcome never ends: it may be placed anywhere after its begin, or
//! nowhere.

use std::collections::HashSet;
use std::hash::Hash;

/// One call of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call<O> {
    /// When it began. No two calls begin or end at the same time.
    pub(super) began: u64,
    /// When it was answered; `None` if nobody knows what became of it.
    pub(super) ended: Option<u64>,
    /// What was asked and, if there was one, the answer.
    pub(super) what: O,
    /// An earlier call that must have been placed before this one may be: where two calls are alike
    /// and without outcome, it is enough to try one of their orders.
    pub(super) after: Option<usize>,
}

/// What calls do to a state.
pub(super) trait Specification {
    /// What the calls act on.
    type State: Clone + Eq + Hash;

    /// The state after this call, or `None` if it cannot have been answered so in this state.
    fn apply(&self, state: &Self::State) -> Option<Self::State>;
}

/// What the search has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An order: the places of the calls, without those that were placed nowhere.
    Order(Vec<usize>),
    /// There is none. These were the most calls that could be placed.
    NoOrder(Vec<usize>),
    /// It would take more than the configurations allowed.
    Undecided,
}

/// A set of calls, a bit each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Set(Box<[u64]>);

impl Set {
    fn empty(size: usize) -> Set {
        Set(vec![0; size.div_ceil(64)].into())
    }

    fn has(&self, place: usize) -> bool {
        self.0[place / 64] & (1 << (place % 64)) != 0
    }

    fn flip(&mut self, place: usize) {
        self.0[place / 64] ^= 1 << (place % 64);
    }
}

/// A call that was placed, and where the search goes on if that was wrong.
struct Placed<S> {
    call: usize,
    /// Before it.
    state: S,
}

/// Searches for an order. `calls` rise by their begin.
pub(super) fn search<O: Specification>(
    initial: O::State,
    calls: &[Call<O>],
    most_configurations: usize,
) -> Found {
    debug_assert!(
        calls.is_sorted_by_key(|call| call.began),
        "calls are given in the order of their begins"
    );
    let mut known = HashSet::new();
    let mut placed = Set::empty(calls.len());
    let mut stack: Vec<Placed<O::State>> = Vec::new();
    let mut state = initial;
    let mut cursor = 0;
    let mut most = Vec::new();
    loop {
        let Some(limit) = first_end(calls, &placed) else {
            return Found::Order(stack.into_iter().map(|placed| placed.call).collect());
        };
        match next(calls, &mut placed, &mut known, &state, cursor, limit) {
            Some((call, after)) => {
                if known.len() > most_configurations {
                    return Found::Undecided;
                }
                stack.push(Placed { call, state: std::mem::replace(&mut state, after) });
                if stack.len() > most.len() {
                    most = stack.iter().map(|placed| placed.call).collect();
                }
                cursor = 0;
            }
            None => {
                let Some(last) = stack.pop() else { return Found::NoOrder(most) };
                placed.flip(last.call);
                (state, cursor) = (last.state, last.call + 1);
            }
        }
    }
}

/// When the first of the calls that must be placed ended: what began later comes after it. `None`
/// if all are placed.
fn first_end<O>(calls: &[Call<O>], placed: &Set) -> Option<u64> {
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

/// Places the next call, from `cursor` on, that leads to something new.
fn next<O: Specification>(
    calls: &[Call<O>],
    placed: &mut Set,
    known: &mut HashSet<(Set, O::State)>,
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
        let Some(after) = call.what.apply(state) else { continue };
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
        /// Gives the number before.
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
        let call = |&(began, ended, what)| Call {
            began,
            ended: (ended < 100).then_some(ended),
            what,
            after: None,
        };
        list.iter().map(call).collect()
    }

    fn is_linearizable(list: &[(u64, u64, Register)]) -> bool {
        match search(0, &calls(list), 1_000_000) {
            Found::Order(_) => true,
            Found::NoOrder(_) => false,
            Found::Undecided => panic!("so few calls need so many configurations"),
        }
    }

    /// Never answered.
    const NEVER: u64 = 100;

    #[test]
    fn histories_that_have_an_order() {
        assert!(is_linearizable(&[]));
        assert!(is_linearizable(&[(0, 1, Write(1)), (2, 3, Read(1))]));
        // Herlihy and Wing's point: two reads beside a write may differ, if they differ in the
        // right order.
        assert!(is_linearizable(&[(0, 9, Write(1)), (1, 2, Read(0)), (3, 4, Read(1))]));
        assert!(is_linearizable(&[(0, 5, Write(1)), (1, 6, Write(2)), (7, 8, Read(1))]));
        assert!(
            is_linearizable(&[(0, NEVER, Write(1)), (1, 2, Read(0)), (3, 4, Read(1))]),
            "late, and yet"
        );
        assert!(
            is_linearizable(&[(0, NEVER, Write(1)), (1, 2, Read(0)), (3, 4, Read(0))]),
            "never"
        );
        assert!(is_linearizable(&[
            (0, NEVER, Add(1, None)),
            (1, NEVER, Add(1, None)),
            (2, 3, Read(2))
        ]));
    }

    #[test]
    fn histories_that_have_none() {
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
    fn who_must_wait_for_another_is_placed_after_it() {
        let mut list = calls(&[(0, NEVER, Write(1)), (1, NEVER, Write(2)), (2, 9, Read(2))]);
        assert_eq!(search(0, &list, 100), Found::Order(vec![0, 1, 2]));
        list[0].what = Read(7);
        assert_eq!(search(0, &list, 100), Found::Order(vec![1, 2]));
        list[1].after = Some(0);
        assert!(matches!(search(0, &list, 100), Found::NoOrder(_)));
    }

    #[test]
    fn a_search_that_takes_too_long_says_so() {
        let many: Vec<_> = (0..20).map(|call| (call, 60 + call, Write(call as u8))).collect();
        let all = [&many[..], &[(90, 91, Read(77))]].concat();
        assert_eq!(search(0, &calls(&all), 1_000), Found::Undecided);
    }

    /// Tries every order of every choice of the calls that may be left out.
    fn by_force(calls: &[Call<Register>], placed: &mut Vec<usize>, state: u8) -> bool {
        let left: Vec<usize> = (0..calls.len()).filter(|call| !placed.contains(call)).collect();
        if left.iter().all(|&call| calls[call].ended.is_none()) {
            return true;
        }
        left.iter().any(|&call| {
            let first = left
                .iter()
                .all(|&other| calls[other].ended.is_none_or(|ended| ended > calls[call].began));
            let Some(after) = calls[call].what.apply(&state).filter(|_| first) else {
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
            whats in prop::collection::vec((register(), any::<bool>()), 0..6),
            times in Just((0u64..12).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut list: Vec<Call<Register>> = whats.iter().enumerate().map(|(place, &(what, ends))| {
                let (one, other) = (times[2 * place], times[2 * place + 1]);
                Call { began: one.min(other), ended: ends.then_some(one.max(other)), what, after: None }
            }).collect();
            list.sort_by_key(|call| call.began);
            let found = search(0, &list, 1_000_000);
            prop_assert_eq!(by_force(&list, &mut Vec::new(), 0), matches!(found, Found::Order(_)), "{:?}", found);
            if let Found::Order(order) = found {
                let end = order.iter().try_fold(0, |state, &call| list[call].what.apply(&state));
                prop_assert!(end.is_some(), "the order found does not explain the answers");
            }
        }
    }
}
