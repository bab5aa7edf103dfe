//! The state machine: a map of strings. Its answers are RESP frames, ready for the client's socket, so that whoever
//! forwards one need not know what was asked.

use std::{
    fmt,
    io::{self, Read},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use imbl::HashMap;
use kodiak_raft::replica::{Committed, StateMachine};
use redis_protocol::resp2::types::BorrowedFrame;

use super::{
    operation::{Arguments, Operation, decode, set_flags},
    snapshot,
};
use crate::resp;

/// The longest string that `APPEND` may make, and the most that `MGET` replies with. Half of what a frame between nodes
/// may hold, so that a reply with a value in it can always be forwarded.
const VALUE_BYTES_MAX: usize = 32 << 20;
const OK: Bytes = Bytes::from_static(b"+OK\r\n");
const NIL: Bytes = Bytes::from_static(b"$-1\r\n");

/// Keys and values are copies of what the log holds: a slice of the entry would keep the whole entry in memory. A copy of the
/// map costs nothing and shares them; a value that is shared is not changed but replaced.
pub(super) type Map = HashMap<Arc<[u8]>, Arc<Vec<u8>>>;

/// The map.
#[derive(Default)]
pub(crate) struct Store {
    map: Map,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("keys", &self.map.len()).finish()
    }
}

impl StateMachine for Store {
    fn apply(&mut self, entry: &Committed<'_>) -> Bytes {
        match decode(entry.command) {
            Some((operation, arguments)) => self.write(operation, arguments).unwrap_or_else(malformed),
            None => malformed(),
        }
    }

    fn query(&self, query: &[u8]) -> Bytes {
        match decode(query) {
            Some((operation, arguments)) => self.read(operation, arguments).unwrap_or_else(malformed),
            None => malformed(),
        }
    }

    fn snapshot(&self) -> Box<dyn Read + Send> {
        Box::new(snapshot::Writer::new(self.map.clone()))
    }

    fn restore(&mut self, content: &mut dyn Read) -> io::Result<()> {
        self.map = snapshot::read(content)?;
        Ok(())
    }
}

impl Store {
    /// `None`: the operation is no write or lacks an argument.
    fn write(&mut self, operation: Operation, mut arguments: Arguments<'_>) -> Option<Bytes> {
        Some(match operation {
            Operation::Set => {
                let (key, value, flags) = (arguments.next()?, arguments.next()?, *arguments.next()?.first()?);
                self.set(key, value, flags)
            }
            Operation::Del => integer(arguments.filter(|&key| self.map.remove(key).is_some()).count() as i64),
            Operation::IncrBy => {
                let (key, amount) = (arguments.next()?, parse_integer(arguments.next()?)?);
                self.increment(key, amount)
            }
            Operation::Append => {
                let (key, value) = (arguments.next()?, arguments.next()?);
                self.append(key, value)
            }
            Operation::MSet => {
                while let Some(key) = arguments.next() {
                    let value = arguments.next()?;
                    self.put(key, value);
                }
                OK
            }
            Operation::GetDel => self.map.remove(arguments.next()?).map_or(NIL, |value| bulk(&value)),
            Operation::FlushAll => {
                self.map = HashMap::new();
                OK
            }
            Operation::Exec => self.execute(arguments),
            _ => return None,
        })
    }

    /// Carries out the operations of a transaction. Each answers for itself; none undoes another, as in Redis.
    fn execute(&mut self, operations: Arguments<'_>) -> Bytes {
        let mut replies = BytesMut::from(format!("*{}\r\n", operations.clone().count()).as_bytes());
        for operation in operations {
            let reply = match decode(operation) {
                // It is never made: a transaction within one could nest without end.
                None | Some((Operation::Exec, _)) => malformed(),
                Some((operation, arguments)) => match self.read(operation, arguments.clone()) {
                    Some(reply) => reply,
                    None => self.write(operation, arguments).unwrap_or_else(malformed),
                },
            };
            if replies.len() + reply.len() > VALUE_BYTES_MAX {
                replies.extend_from_slice(b"-ERR done, but the replies of the transaction are too long together\r\n");
            } else {
                replies.extend_from_slice(&reply);
            }
        }
        replies.freeze()
    }

    fn read(&self, operation: Operation, mut arguments: Arguments<'_>) -> Option<Bytes> {
        Some(match operation {
            Operation::Get => self.get(arguments.next()?),
            Operation::Exists => integer(arguments.filter(|&key| self.map.contains_key(key)).count() as i64),
            Operation::MGet => {
                let lengths = arguments.clone().map(|key| self.map.get(key).map_or(0, |value| value.len()));
                // One value fits, and so do many short ones; naming a long one over and over does not.
                if lengths.sum::<usize>() > VALUE_BYTES_MAX {
                    return Some(error(&format!(
                        "ERR the values exceed {VALUE_BYTES_MAX} bytes together: ask for fewer"
                    )));
                }
                let values = arguments.map(|key| match self.map.get(key) {
                    Some(value) => BorrowedFrame::BulkString(value),
                    None => BorrowedFrame::Null,
                });
                frame(&BorrowedFrame::Array(&values.collect::<Vec<_>>()))
            }
            Operation::StrLen => integer(self.map.get(arguments.next()?).map_or(0, |value| value.len() as i64)),
            Operation::DbSize => integer(self.map.len() as i64),
            _ => return None,
        })
    }

    fn get(&self, key: &[u8]) -> Bytes {
        self.map.get(key).map_or(NIL, |value| bulk(value))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        match self.map.get_mut(key) {
            Some(shared) => match Arc::get_mut(shared) {
                Some(old) => {
                    old.clear();
                    old.extend_from_slice(value);
                    // A long value's room is not kept for a short one.
                    if old.capacity() > 2 * value.len() + 64 {
                        old.shrink_to_fit();
                    }
                }
                None => *shared = Arc::new(value.to_vec()),
            },
            None => {
                self.map.insert(key.into(), Arc::new(value.to_vec()));
            }
        }
    }

    fn set(&mut self, key: &[u8], value: &[u8], flags: u8) -> Bytes {
        let exists = self.map.contains_key(key);
        let refused = flags & set_flags::IF_ABSENT != 0 && exists || flags & set_flags::IF_PRESENT != 0 && !exists;
        let before = (flags & set_flags::GET != 0).then(|| self.get(key));
        if !refused {
            self.put(key, value);
        }
        match before {
            Some(before) => before,
            None if flags & set_flags::AS_NUMBER != 0 => integer(i64::from(!refused)),
            None if refused => NIL,
            None => OK,
        }
    }

    fn increment(&mut self, key: &[u8], amount: i64) -> Bytes {
        let current = match self.map.get(key).map(|value| parse_integer(value)) {
            None => 0,
            Some(Some(current)) => current,
            Some(None) => return error("ERR value is not an integer or out of range"),
        };
        let Some(sum) = current.checked_add(amount) else {
            return error("ERR increment or decrement would overflow");
        };
        self.put(key, sum.to_string().as_bytes());
        integer(sum)
    }

    fn append(&mut self, key: &[u8], value: &[u8]) -> Bytes {
        let len = self.map.get(key).map_or(0, |value| value.len()) + value.len();
        if len > VALUE_BYTES_MAX {
            return error(&format!("ERR string exceeds maximum allowed size ({VALUE_BYTES_MAX} bytes)"));
        }
        match self.map.get_mut(key) {
            Some(old) => Arc::make_mut(old).extend_from_slice(value),
            None => self.put(key, value),
        }
        integer(len as i64)
    }
}

/// A decimal integer as Redis takes it: no sign `+`, no spaces, no leading zeros.
pub(super) fn parse_integer(text: &[u8]) -> Option<i64> {
    let number: i64 = str::from_utf8(text).ok()?.parse().ok()?;
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = digits == b"0" && text.len() == 1 || !digits.starts_with(b"0") && !text.starts_with(b"+");
    canonical.then_some(number)
}

fn frame(reply: &BorrowedFrame<'_>) -> Bytes {
    let mut bytes = BytesMut::new();
    resp::put(&mut bytes, reply);
    bytes.freeze()
}

fn bulk(value: &[u8]) -> Bytes {
    frame(&BorrowedFrame::BulkString(value))
}

fn integer(number: i64) -> Bytes {
    match number {
        0 => Bytes::from_static(b":0\r\n"),
        1 => Bytes::from_static(b":1\r\n"),
        _ => frame(&BorrowedFrame::Integer(number)),
    }
}

fn error(message: &str) -> Bytes {
    frame(&BorrowedFrame::Error(message))
}

fn malformed() -> Bytes {
    error("ERR the log holds an operation that this version does not know: upgrade this node")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kodiak_raft::types::{Index, Stamp, Term};
    use proptest::prelude::*;

    use super::{super::operation::encode, *};

    fn write(store: &mut Store, operation: Operation, arguments: &[&[u8]]) -> Bytes {
        let command = encode(operation, arguments.iter().copied());
        store.apply(&Committed { index: Index(1), term: Term(1), stamp: Stamp(0), command: &command })
    }

    fn read(store: &Store, operation: Operation, arguments: &[&[u8]]) -> Bytes {
        store.query(&encode(operation, arguments.iter().copied()))
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0u8..5, 0u8..4, -3i64..9), 0..60)) {
            let (mut store, mut model) = (Store::default(), BTreeMap::<u8, i64>::new());
            for (what, key, number) in steps {
                let (name, text) = ([key], number.to_string());
                let (reply, expected) = match what {
                    0 => {
                        model.insert(key, number);
                        (write(&mut store, Operation::Set, &[&name, text.as_bytes(), &[0]]), "+OK\r\n".to_owned())
                    }
                    1 => {
                        let sum = model.get(&key).copied().unwrap_or(0) + number;
                        model.insert(key, sum);
                        (write(&mut store, Operation::IncrBy, &[&name, text.as_bytes()]), format!(":{sum}\r\n"))
                    }
                    2 => {
                        let had = i64::from(model.remove(&key).is_some());
                        (write(&mut store, Operation::Del, &[&name]), format!(":{had}\r\n"))
                    }
                    3 => {
                        let had = model.contains_key(&key);
                        model.entry(key).or_insert(number);
                        let flags = [set_flags::IF_ABSENT | set_flags::AS_NUMBER];
                        (write(&mut store, Operation::Set, &[&name, text.as_bytes(), &flags]), format!(":{}\r\n", i64::from(!had)))
                    }
                    _ => {
                        let expected = model.get(&key).map_or("$-1\r\n".to_owned(), |value| {
                            let value = value.to_string();
                            format!("${}\r\n{value}\r\n", value.len())
                        });
                        (read(&store, Operation::Get, &[&name]), expected)
                    }
                };
                prop_assert_eq!(str::from_utf8(&reply).unwrap(), expected);
                prop_assert_eq!(read(&store, Operation::DbSize, &[]), integer(model.len() as i64));
            }
        }

        #[test]
        fn no_command_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut store = Store::default();
            store.apply(&Committed { index: Index(1), term: Term(1), stamp: Stamp(0), command: &bytes });
            store.query(&bytes);
        }
    }

    #[test]
    fn increments_refuse_what_is_no_integer_and_overflow() {
        let mut store = Store::default();
        write(&mut store, Operation::Set, &[b"k", b"abc", &[0]]);
        assert!(write(&mut store, Operation::IncrBy, &[b"k", b"1"]).starts_with(b"-ERR value is not an integer"));
        write(&mut store, Operation::Set, &[b"k", i64::MAX.to_string().as_bytes(), &[0]]);
        assert!(
            write(&mut store, Operation::IncrBy, &[b"k", b"1"])
                .starts_with(b"-ERR increment or decrement would overflow")
        );
    }

    #[test]
    fn integers_are_taken_as_redis_takes_them() {
        for good in ["0", "-1", "42", "9223372036854775807", "-9223372036854775808"] {
            assert!(parse_integer(good.as_bytes()).is_some(), "{good}");
        }
        for bad in ["", "+1", "01", "-0", " 1", "1 ", "1.5", "9223372036854775808", "-"] {
            assert!(parse_integer(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_condition_and_the_value_before() {
        let mut store = Store::default();
        let set = |store: &mut Store, value: &[u8], flags| write(store, Operation::Set, &[b"k", value, &[flags]]);
        assert_eq!(set(&mut store, b"1", set_flags::IF_PRESENT), NIL);
        assert_eq!(set(&mut store, b"1", set_flags::IF_ABSENT | set_flags::GET), NIL);
        assert_eq!(set(&mut store, b"2", set_flags::IF_ABSENT), NIL);
        assert_eq!(set(&mut store, b"3", set_flags::IF_PRESENT | set_flags::GET), bulk(b"1"));
        assert_eq!(read(&store, Operation::MGet, &[b"k", b"none"]), "*2\r\n$1\r\n3\r\n$-1\r\n");
    }

    #[test]
    fn a_transaction_answers_for_each_of_its_operations() {
        let mut store = Store::default();
        let set = encode(Operation::Set, [&b"k"[..], b"1", &[0]].into_iter());
        let increment = encode(Operation::IncrBy, [&b"k"[..], b"2"].into_iter());
        let get = encode(Operation::Get, [&b"k"[..]].into_iter());
        let nested = encode(Operation::Exec, [&get[..]].into_iter());
        let reply = write(&mut store, Operation::Exec, &[&set, &increment, &get, &nested, b"?"]);
        let reply = str::from_utf8(&reply).unwrap();
        assert!(reply.starts_with("*5\r\n+OK\r\n:3\r\n$1\r\n3\r\n-ERR "), "{reply}");
        assert_eq!(reply.matches("-ERR ").count(), 2, "{reply}");
    }

    #[test]
    fn append_and_get_del() {
        let mut store = Store::default();
        assert_eq!(write(&mut store, Operation::Append, &[b"k", b"ab"]), ":2\r\n");
        assert_eq!(write(&mut store, Operation::Append, &[b"k", b"c"]), ":3\r\n");
        assert_eq!(read(&store, Operation::StrLen, &[b"k"]), ":3\r\n");
        assert_eq!(write(&mut store, Operation::GetDel, &[b"k"]), bulk(b"abc"));
        assert_eq!(write(&mut store, Operation::GetDel, &[b"k"]), NIL);
    }
}
