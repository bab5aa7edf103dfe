//! Whether an operation is so quick that the node's loop may run it.
//!
//! That is: it has a few keys, whose values and replies take microseconds to copy or free. All
//! others run on the state machine's thread.

use super::{
    operation::{Arguments, Operation, Quick, decode},
    store::Store,
};

/// The longest command or query on one key, and the longest value that it may meet.
const BYTES_MAX: usize = 64 << 10;
/// The longest command or query on several keys. An argument takes four bytes at least, so these
/// are 127 keys at most.
const KEYS_BYTES_MAX: usize = 512;

impl Store {
    /// Whether a command of the log is quick, applied at this stamp.
    pub(super) fn is_quick_write(&self, command: &[u8], stamp: u64) -> bool {
        // The next write removes expired keys, many at a time.
        let removes = || {
            let now = stamp.max(self.now);
            !self.deadlines.map().is_empty() && self.deadlines.first_expired(now).is_some()
        };
        let Some((operation, arguments)) = decode(command) else { return false };
        !operation.is_read() && self.is_quick(operation, command.len(), arguments) && !removes()
    }

    /// Whether a query is quick.
    pub(super) fn is_quick_read(&self, query: &[u8]) -> bool {
        let Some((operation, mut arguments)) = decode(query) else { return false };
        let inner = match operation {
            Operation::AtLogTime => arguments.next().and_then(decode),
            _ => Some((operation, arguments)),
        };
        inner.is_some_and(|(operation, arguments)| {
            operation.is_read() && self.is_quick(operation, query.len(), arguments)
        })
    }

    fn is_quick(&self, operation: Operation, bytes: usize, arguments: Arguments<'_>) -> bool {
        match operation.row().quick {
            Quick::Never => false,
            Quick::OneValue => bytes <= BYTES_MAX && !self.has_long_value(arguments),
            // Which values it meets is not looked up: the decision must cost less than the command.
            Quick::SeveralValues => {
                bytes <= KEYS_BYTES_MAX && self.map.longest_value() <= BYTES_MAX
            }
            Quick::OneKey => bytes <= BYTES_MAX,
            Quick::SeveralKeys => bytes <= KEYS_BYTES_MAX,
        }
    }

    fn has_long_value(&self, mut arguments: Arguments<'_>) -> bool {
        self.map.longest_value() > BYTES_MAX
            && arguments
                .next()
                .and_then(|key| self.map.get(key))
                .is_some_and(|value| value.len() > BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use kodiak_raft::{
        replica::{Committed, StateMachine},
        types::{Index, Stamp, Term},
    };

    use super::*;
    use crate::kv::{expiry::Expiration, operation::encode};

    fn command(operation: Operation, arguments: &[&[u8]]) -> Vec<u8> {
        encode(operation, arguments.iter().copied()).to_vec()
    }

    fn store_after(command: &[u8]) -> Store {
        let mut store = Store::default();
        store
            .apply(&Committed { index: Index(1), term: Term(1), stamp: Stamp(1), command })
            .unwrap();
        store
    }

    #[test]
    fn commands_that_meet_long_values_are_not_quick() {
        let store =
            store_after(&command(Operation::Set, &[b"long", &vec![b'x'; BYTES_MAX + 1], &[0]]));
        let is_quick = |operation, arguments: &[&[u8]]| {
            let bytes = command(operation, arguments);
            if operation.is_read() {
                store.is_quick_read(&bytes)
            } else {
                store.is_quick_write(&bytes, 1)
            }
        };
        assert!(is_quick(Operation::Get, &[b"k"]) && !is_quick(Operation::Get, &[b"long"]));
        assert!(
            is_quick(Operation::Set, &[b"k", b"v", &[0]])
                && !is_quick(Operation::Set, &[b"long", b"v", &[0]])
        );
        assert!(!is_quick(Operation::Set, &[b"k", &vec![0; BYTES_MAX], &[0]]));
        // While the store has a long value, several keys may meet it.
        assert!(!is_quick(Operation::MGet, &[b"k"]) && !is_quick(Operation::Del, &[b"k"]));
        assert!(
            !is_quick(Operation::MSet, &[b"k", b"v"])
                && is_quick(Operation::Exists, &[b"k", b"long"])
        );
        for operation in [
            Operation::FlushAll,
            Operation::Exec,
            Operation::Append,
            Operation::Keys,
            Operation::Scan,
        ] {
            assert!(!is_quick(operation, &[b"k"]), "{operation:?}");
        }
        assert!(!store.is_quick_read(&[]) && !store.is_quick_write(&[255], 1));
    }

    #[test]
    fn commands_on_a_few_keys_are_quick() {
        let store = Store::default();
        let of = |operation, keys: usize| command(operation, &vec![&b"k"[..]; keys]);
        for (operation, keys) in [(Operation::Del, 100), (Operation::MSet, 100)] {
            assert!(store.is_quick_write(&of(operation, keys), 1), "{operation:?}");
            assert!(!store.is_quick_write(&of(operation, 2 * keys), 1), "{operation:?}");
        }
        for (operation, keys) in [(Operation::MGet, 100), (Operation::Exists, 100)] {
            assert!(store.is_quick_read(&of(operation, keys)), "{operation:?}");
            assert!(!store.is_quick_read(&of(operation, 2 * keys)), "{operation:?}");
        }
        let at_log_time = command(Operation::AtLogTime, &[&of(Operation::Get, 1)]);
        assert!(store.is_quick_read(&at_log_time));
        let nested = command(Operation::AtLogTime, &[&at_log_time]);
        assert!(!store.is_quick_read(&nested));
    }

    #[test]
    fn a_write_that_removes_expired_keys_is_not_quick() {
        let store = store_after(&command(
            Operation::SetExpiring,
            &[b"k", b"v", &[0], &Expiration::At(5).encode()],
        ));
        let time_entry = command(Operation::AdvanceTime, &[]);
        assert!(store.is_quick_write(&time_entry, 1) && !store.is_quick_write(&time_entry, 1_000));
    }
}
