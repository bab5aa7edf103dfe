//! Which operations are so short that the node's loop may carry them out itself: a few keys, whose values and whose
//! replies take microseconds to copy or free. All others run on the state machine's thread.

use super::{
    operation::{Arguments, Operation, decode},
    store::Store,
};

/// The longest command, and the longest value that it may meet.
const BYTES_MAX: usize = 64 << 10;
/// The most keys.
const KEYS_MAX: usize = 16;

impl Store {
    /// Whether a command of the log is short, applied at this stamp.
    pub(super) fn is_short_write(&self, command: &[u8], stamp: u64) -> bool {
        // Keys that are due go with the next write, many at a time.
        let removes = !self.deadlines.map().is_empty() && self.deadlines.first_due(stamp.max(self.now)).is_some();
        let Some((operation, arguments)) = decode(command).filter(|_| !removes && command.len() <= BYTES_MAX) else {
            return false;
        };
        match operation {
            Operation::Set
            | Operation::SetWhen
            | Operation::IncrBy
            | Operation::GetDel
            | Operation::Expire
            | Operation::Persist
            | Operation::GetEx => self.are_short(arguments.take(1)),
            Operation::Del => self.are_short(arguments),
            Operation::MSet | Operation::MSetNx => self.are_short(arguments.step_by(2)),
            Operation::Tick => true,
            _ => false,
        }
    }

    /// Whether a query is short.
    pub(super) fn is_short_read(&self, query: &[u8]) -> bool {
        match decode(query) {
            Some((Operation::ByTheLog, mut arguments)) => {
                arguments.next().and_then(decode).is_some_and(|(operation, rest)| self.is_short(operation, rest))
            }
            Some((operation, arguments)) => self.is_short(operation, arguments),
            None => false,
        }
    }

    fn is_short(&self, operation: Operation, arguments: Arguments<'_>) -> bool {
        match operation {
            Operation::Get => self.are_short(arguments.take(1)),
            Operation::MGet | Operation::Exists => self.are_short(arguments),
            Operation::StrLen | Operation::Type | Operation::Ttl => true,
            _ => false,
        }
    }

    /// Whether these keys are few and their values short.
    fn are_short<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> bool {
        let all_short = self.map.longest() <= BYTES_MAX;
        let mut left = KEYS_MAX;
        keys.into_iter().all(|key| {
            let is_left = left > 0;
            left = left.saturating_sub(1);
            is_left && (all_short || self.map.get(key).is_none_or(|value| value.len() <= BYTES_MAX))
        })
    }
}

#[cfg(test)]
mod tests {
    use kodiak_raft::{
        replica::{Committed, StateMachine},
        types::{Index, Stamp, Term},
    };

    use super::*;
    use crate::kv::{expiry::When, operation::encode};

    fn command(operation: Operation, arguments: &[&[u8]]) -> Vec<u8> {
        encode(operation, arguments.iter().copied()).to_vec()
    }

    fn store_after(command: &[u8]) -> Store {
        let mut store = Store::default();
        store.apply(&Committed { index: Index(1), term: Term(1), stamp: Stamp(1), command }).unwrap();
        store
    }

    #[test]
    fn what_touches_many_keys_or_long_values_is_not_short() {
        let store = store_after(&command(Operation::Set, &[b"long", &vec![b'x'; BYTES_MAX + 1], &[0]]));
        let is_short = |operation, arguments: &[&[u8]]| {
            let bytes = command(operation, arguments);
            if operation.is_read() { store.is_short_read(&bytes) } else { store.is_short_write(&bytes, 1) }
        };
        assert!(is_short(Operation::Get, &[b"k"]) && !is_short(Operation::Get, &[b"long"]));
        assert!(is_short(Operation::Set, &[b"k", b"v", &[0]]) && !is_short(Operation::Set, &[b"long", b"v", &[0]]));
        assert!(!is_short(Operation::Set, &[b"k", &vec![0; BYTES_MAX], &[0]]));
        assert!(
            is_short(Operation::MGet, &[&b"k"[..]; KEYS_MAX]) && !is_short(Operation::MGet, &[&b"k"[..]; KEYS_MAX + 1])
        );
        assert!(is_short(Operation::Del, &[b"k"]) && !is_short(Operation::Del, &[b"k", b"long"]));
        assert!(is_short(Operation::MSet, &[b"k", b"v"]) && !is_short(Operation::MSet, &[b"k", b"v", b"long", b"v"]));
        for operation in [Operation::FlushAll, Operation::Exec, Operation::Append, Operation::Keys, Operation::Scan] {
            assert!(!is_short(operation, &[b"k"]), "{operation:?}");
        }
        assert!(!store.is_short_read(&[]) && !store.is_short_write(&[255], 1));
    }

    #[test]
    fn a_write_that_removes_what_is_due_is_not_short() {
        let store = store_after(&command(Operation::SetWhen, &[b"k", b"v", &[0], &When::At(5).encode()]));
        let tick = command(Operation::Tick, &[]);
        assert!(store.is_short_write(&tick, 1) && !store.is_short_write(&tick, 1_000));
    }
}
