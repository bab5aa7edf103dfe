//! The state machine: a map of strings.
//!
//! Its answers are RESP frames, ready for the client's socket, so that a node that forwards one
//! need not know the request.

use std::{
    fmt,
    io::{self, Read},
    sync::Arc,
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use kodiak_raft::replica::{Committed, MachineDigest, MachineError, Query, StateMachine};
use redis_protocol::resp2::types::BorrowedFrame;

use super::{
    buckets::Map,
    counts::Counts,
    digest,
    expiry::{Deadlines, Expiration, REMOVALS_MAX, may_replace},
    operation::{
        Arguments, Effect, KeySpec, Operation, decode, set_flags, ttl_form, without_reply,
    },
    scan, snapshot,
};
use crate::resp::{self, parse_integer};

/// Longest string that `APPEND` may make, and longest reply of `MGET`. It is half of the longest
/// frame between nodes, so that a reply with a value in it can always be forwarded.
pub(super) const VALUE_BYTES_MAX: usize = 32 << 20;
/// Most keys that `KEYS` goes through. No other command runs meanwhile.
pub(super) const KEYS_MAX: usize = 100_000;
pub(super) const OK: Bytes = Bytes::from_static(b"+OK\r\n");
/// Replaces a reply of a transaction that has no room.
const TOO_LONG: &[u8] = b"-ERR done, but the replies of the transaction are too long together\r\n";
pub(super) const NIL: Bytes = Bytes::from_static(b"$-1\r\n");
/// The answer to a query that meets a key whose expiration is undecided. No reply to a client looks
/// like it.
const UNDECIDED: Bytes = Bytes::from_static(b"\0due");

/// Whether an answer says that the query met an undecided expiration: it must be repeated after a
/// time entry.
pub(crate) fn is_undecided(answer: &[u8]) -> bool {
    *answer == *UNDECIDED
}

/// The keys, their values and their deadlines.
#[derive(Default)]
pub(crate) struct Store {
    pub(super) map: Map,
    pub(super) deadlines: Deadlines,
    /// The stamp of the last entry: log time as far as the log knows it.
    pub(super) now: u64,
    /// When this node advanced `now`, from which it estimates log time. Not a part of the state.
    pub(super) advanced: Option<Instant>,
    pub(super) counts: Arc<Counts>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("keys", &self.map.len()).finish()
    }
}

impl StateMachine for Store {
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
        self.advance_to(entry.stamp.0);
        let operation = decode(entry.command);
        let answer = operation.and_then(|(operation, arguments)| self.write(operation, arguments));
        self.publish_counts();
        // Other nodes may know the operation: skipping it here would make the states differ.
        answer.ok_or_else(|| MachineError::new(UNKNOWN_OPERATION))
    }

    fn query(&self, query: &Query<'_>) -> Bytes {
        // Where nothing expires, no clock need be read.
        if self.deadlines.map().is_empty() {
            return self.query_at(query.bytes, self.now, self.now);
        }
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.query_at(
            query.bytes,
            self.log_time(),
            u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        )
    }

    fn applies_quickly(&self, entry: &Committed<'_>) -> bool {
        self.is_quick_write(entry.command, entry.stamp.0)
    }

    fn answers_quickly(&self, query: &Query<'_>) -> bool {
        self.is_quick_read(query.bytes)
    }

    fn snapshot(&self) -> Box<dyn Read + Send> {
        Box::new(snapshot::Writer::new(self.map.clone(), self.deadlines.map().clone(), self.now))
    }

    fn restore(&mut self, content: &mut dyn Read) -> io::Result<()> {
        let counts = Arc::clone(&self.counts);
        let restored = Store { counts, advanced: Some(Instant::now()), ..snapshot::read(content)? };
        drop_on_another_thread(std::mem::replace(self, restored));
        self.publish_counts();
        Ok(())
    }

    fn digest(&self) -> Option<MachineDigest> {
        let parts = [self.map.digest(), self.deadlines.digest(), self.now];
        Some(MachineDigest {
            version: digest::VERSION,
            value: parts.into_iter().fold(0, digest::mix),
        })
    }
}

impl Store {
    /// The number of keys, for threads that do not own the store.
    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    fn publish_counts(&self) {
        self.counts.set(self.map.len(), self.deadlines.map().len());
    }

    /// Advances log time to an entry's stamp.
    fn advance_to(&mut self, stamp: u64) {
        if stamp > self.now {
            (self.now, self.advanced) = (stamp, Some(Instant::now()));
        }
    }

    /// Estimates log time: never ahead of the stamp that the leader would write now.
    fn log_time(&self) -> u64 {
        let passed = self.advanced.map_or(0, |advanced| advanced.elapsed().as_millis());
        self.now.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// Answers a query.
    ///
    /// If log time by estimate, or the wall clock, has reached a key's deadline and the last stamp
    /// has not, the answer is [`UNDECIDED`]. The wall clock counts too because a node that has just
    /// started does not know how old its last entry is.
    fn query_at(&self, query: &[u8], log_time: u64, wall: u64) -> Bytes {
        let clock = log_time.max(wall);
        match decode(query) {
            // The server makes none within another: they could nest without end.
            Some((Operation::AtLogTime, mut arguments)) => {
                match arguments.next().and_then(decode) {
                    Some((operation, arguments)) => {
                        self.read(operation, arguments, self.now).unwrap_or_else(malformed)
                    }
                    None => malformed(),
                }
            }
            Some((operation, arguments))
                if self.meets_undecided(operation, arguments.clone(), clock) =>
            {
                UNDECIDED
            }
            Some((operation, arguments)) => {
                self.read(operation, arguments, log_time).unwrap_or_else(malformed)
            }
            None => malformed(),
        }
    }

    /// Whether a read meets a key that has expired by the clock and not by the last stamp.
    fn meets_undecided(
        &self,
        operation: Operation,
        mut arguments: Arguments<'_>,
        clock: u64,
    ) -> bool {
        if clock <= self.now {
            return false;
        }
        let is_undecided = |key| {
            self.deadlines.get(key).is_some_and(|deadline| self.now < deadline && deadline <= clock)
        };
        match operation.row().keys {
            KeySpec::None => false,
            KeySpec::First => arguments.next().is_some_and(is_undecided),
            KeySpec::FirstTwo => arguments.take(2).any(is_undecided),
            KeySpec::All => arguments.any(is_undecided),
            KeySpec::EveryOther => arguments.step_by(2).any(is_undecided),
            KeySpec::Keyspace | KeySpec::Scanned(_) => self.deadlines.any_between(self.now, clock),
        }
    }

    /// Runs a write. `None`: the operation is not a write or lacks an argument.
    pub(super) fn write(
        &mut self,
        operation: Operation,
        arguments: Arguments<'_>,
    ) -> Option<Bytes> {
        self.remove_expired(REMOVALS_MAX);
        match operation.row().effect {
            Effect::Write { apply, .. } => apply(self, arguments),
            Effect::Read(_) => None,
        }
    }

    /// Runs the operations of a transaction. Each has its reply; an error undoes no other, as in
    /// Redis.
    pub(super) fn execute(&mut self, operations: Arguments<'_>) -> Bytes {
        let mut replies = BytesMut::from(format!("*{}\r\n", operations.clone().count()).as_bytes());
        let mut is_full = false;
        for operation in operations {
            let reply = match decode(operation) {
                // The server makes none within another: they could nest without end.
                None | Some((Operation::Exec, _)) => Some(malformed()),
                // The reply has no room. Copies of long values would only delay every node.
                Some((operation, _)) if is_full && operation.is_read() => None,
                Some((operation, arguments)) => {
                    match without_reply(operation, arguments.clone()).filter(|_| is_full) {
                        Some(write) => write(self, arguments).is_none().then(malformed),
                        None => Some(self.execute_one(operation, arguments)),
                    }
                }
            };
            match reply.filter(|reply| replies.len() + reply.len() <= VALUE_BYTES_MAX) {
                Some(reply) => replies.extend_from_slice(&reply),
                None => {
                    is_full = true;
                    replies.extend_from_slice(TOO_LONG);
                }
            }
        }
        replies.freeze()
    }

    fn execute_one(&mut self, operation: Operation, arguments: Arguments<'_>) -> Bytes {
        match self.read(operation, arguments.clone(), self.now) {
            Some(reply) => reply,
            None => self.write(operation, arguments).unwrap_or_else(malformed),
        }
    }

    /// Runs a read. `clock` is the time from which `TTL` counts. `None`: the operation is not a
    /// read or lacks an argument.
    fn read(&self, operation: Operation, arguments: Arguments<'_>, clock: u64) -> Option<Bytes> {
        match operation.row().effect {
            Effect::Read(answer) => answer(self, arguments, clock),
            Effect::Write { .. } => None,
        }
    }

    pub(super) fn scan(&self, cursor: u64, count: u32, pattern: &[u8]) -> Bytes {
        let (next, keys) = scan::step(&self.map, cursor, count);
        let next = next.to_string();
        match self.visible_keys(keys, pattern) {
            Ok(keys) => frame(&BorrowedFrame::Array(&[
                BorrowedFrame::BulkString(next.as_bytes()),
                BorrowedFrame::Array(&keys),
            ])),
            Err(why) => why,
        }
    }

    pub(super) fn keys(&self, pattern: &[u8]) -> Bytes {
        let len = self.map.len();
        if len > KEYS_MAX {
            return error(&format!(
                "ERR there are {len} keys, and KEYS would block the node: it goes through \
                 {KEYS_MAX} at most; use SCAN"
            ));
        }
        self.visible_keys(scan::all_keys(&self.map), pattern)
            .map_or_else(|why| why, |keys| frame(&BorrowedFrame::Array(&keys)))
    }

    /// The keys that have not expired and match a pattern; an error if that is too much work, or
    /// too long a reply.
    fn visible_keys<'a>(
        &self,
        keys: Vec<&'a [u8]>,
        pattern: &[u8],
    ) -> Result<Vec<BorrowedFrame<'a>>, Bytes> {
        let mut pattern =
            scan::Pattern::new(pattern, keys.len(), keys.iter().map(|key| key.len()).sum());
        let (mut visible, mut bytes) = (Vec::new(), 0);
        for key in keys {
            if !self.deadlines.has_expired(key, self.now) && pattern.matches(key) {
                bytes += key.len();
                visible.push(BorrowedFrame::BulkString(key));
            }
            if pattern.is_exhausted() {
                return Err(error("ERR the pattern takes too long to match: make it simpler"));
            }
            if bytes > VALUE_BYTES_MAX {
                return Err(error(&format!(
                    "ERR the keys exceed {VALUE_BYTES_MAX} bytes together: use a narrower pattern, \
                     or a smaller COUNT"
                )));
            }
        }
        Ok(visible)
    }

    /// A key's value, unless it has expired.
    pub(super) fn value(&self, key: &[u8]) -> Option<&Arc<Vec<u8>>> {
        self.map.get(key).filter(|_| !self.deadlines.has_expired(key, self.now))
    }

    pub(super) fn get(&self, key: &[u8]) -> Bytes {
        self.value(key).map_or(NIL, |value| bulk(value))
    }

    pub(super) fn ttl(&self, key: &[u8], form: u8, clock: u64) -> i64 {
        if self.value(key).is_none() {
            return -2;
        }
        let Some(deadline) = self.deadlines.get(key) else { return -1 };
        let ms = match form & ttl_form::ABSOLUTE {
            0 => deadline.saturating_sub(clock.max(self.now)),
            _ => deadline,
        };
        let number = if form & ttl_form::MS == 0 { ms.saturating_add(500) / 1000 } else { ms };
        i64::try_from(number).unwrap_or(i64::MAX)
    }

    /// Removes expired keys, `most` of them at most.
    pub(super) fn remove_expired(&mut self, most: usize) {
        for _ in 0..most {
            let Some(key) = self.deadlines.first_expired(self.now) else { return };
            self.remove_with_deadline(&key);
        }
    }

    fn remove_with_deadline(&mut self, key: &[u8]) -> Option<Arc<Vec<u8>>> {
        self.deadlines.remove(key);
        self.map.remove(key)
    }

    /// Removes a key that has expired, before an operation changes it.
    fn remove_if_expired(&mut self, key: &[u8]) {
        if self.deadlines.has_expired(key, self.now) {
            self.remove_with_deadline(key);
        }
    }

    /// Removes a key, and returns its value unless it has expired.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Arc<Vec<u8>>> {
        self.remove_if_expired(key);
        self.remove_with_deadline(key)
    }

    /// Sets the expiration of a key, if it exists. A deadline that has passed removes it.
    pub(super) fn set_expiration(&mut self, key: &[u8], when: Expiration) {
        self.remove_if_expired(key);
        match when.deadline(self.now, self.deadlines.get(key)) {
            None => self.deadlines.remove(key),
            Some(deadline) if deadline <= self.now => drop(self.remove_with_deadline(key)),
            Some(deadline) => {
                if let Some(key) = self.map.key(key) {
                    self.deadlines.set(key, deadline);
                }
            }
        }
    }

    pub(super) fn expire(&mut self, key: &[u8], when: Expiration, conditions: u8) -> Bytes {
        self.remove_if_expired(key);
        let before = self.deadlines.get(key);
        let next = when.deadline(self.now, before);
        let is_set = self.map.contains_key(key)
            && next.is_some_and(|next| may_replace(conditions, before, next));
        if is_set {
            self.set_expiration(key, when);
        }
        integer(i64::from(is_set))
    }

    /// Renames a key; its deadline stays with the value.
    pub(super) fn rename(&mut self, key: &[u8], to: &[u8], flags: u8) -> Bytes {
        self.remove_if_expired(key);
        self.remove_if_expired(to);
        let only_absent = flags & set_flags::IF_ABSENT != 0;
        if !self.map.contains_key(key) {
            return error("ERR no such key");
        }
        if only_absent && self.map.contains_key(to) {
            return integer(0);
        }
        let deadline = self.deadlines.get(key);
        if let Some(value) = self.remove_with_deadline(key) {
            let to: Arc<[u8]> = to.into();
            match deadline {
                Some(deadline) => self.deadlines.set(&to, deadline),
                None => self.deadlines.remove(&to),
            }
            self.map.insert(to, value);
        }
        if only_absent { integer(1) } else { OK }
    }

    pub(super) fn set(&mut self, key: &[u8], value: &[u8], flags: u8, when: Expiration) -> Bytes {
        self.remove_if_expired(key);
        let exists = self.map.contains_key(key);
        let refused = flags & set_flags::IF_ABSENT != 0 && exists
            || flags & set_flags::IF_PRESENT != 0 && !exists;
        let before = (flags & set_flags::GET != 0).then(|| self.get(key));
        if !refused {
            self.map.put(key, value);
            self.set_expiration(key, when);
        }
        match before {
            Some(before) => before,
            None if flags & set_flags::AS_NUMBER != 0 => integer(i64::from(!refused)),
            None if refused => NIL,
            None => OK,
        }
    }

    pub(super) fn increment(&mut self, key: &[u8], amount: i64) -> Bytes {
        self.remove_if_expired(key);
        let current = match self.map.get(key).map(|value| parse_integer(value)) {
            None => 0,
            Some(Some(current)) => current,
            Some(None) => return error("ERR value is not an integer or out of range"),
        };
        let Some(sum) = current.checked_add(amount) else {
            return error("ERR increment or decrement would overflow");
        };
        self.map.put(key, sum.to_string().as_bytes());
        integer(sum)
    }

    pub(super) fn append(&mut self, key: &[u8], value: &[u8]) -> Bytes {
        self.remove_if_expired(key);
        let len = self.map.get(key).map_or(0, |value| value.len()) + value.len();
        if len > VALUE_BYTES_MAX {
            return error(&format!(
                "ERR string exceeds maximum allowed size ({VALUE_BYTES_MAX} bytes)"
            ));
        }
        self.map.append(key, value);
        integer(len as i64)
    }
}

pub(super) fn frame(reply: &BorrowedFrame<'_>) -> Bytes {
    let mut bytes = BytesMut::new();
    resp::put(&mut bytes, reply);
    bytes.freeze()
}

pub(super) fn bulk(value: &[u8]) -> Bytes {
    frame(&BorrowedFrame::BulkString(value))
}

pub(super) fn integer(number: i64) -> Bytes {
    match number {
        0 => Bytes::from_static(b":0\r\n"),
        1 => Bytes::from_static(b":1\r\n"),
        _ => frame(&BorrowedFrame::Integer(number)),
    }
}

pub(super) fn error(message: &str) -> Bytes {
    frame(&BorrowedFrame::Error(message))
}

const UNKNOWN_OPERATION: &str =
    "the log holds an operation that this version does not know: upgrade this node";

fn malformed() -> Bytes {
    error(&format!("ERR {UNKNOWN_OPERATION}"))
}

/// Frees a map on its own thread: a million keys take a while.
pub(super) fn drop_on_another_thread(what: impl Send + 'static) {
    // If no thread can be started, it is freed here.
    drop(thread::Builder::new().name("kv-free".to_owned()).spawn(move || drop(what)));
}

#[cfg(test)]
mod tests;
