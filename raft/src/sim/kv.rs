//! The state machine that the simulator replicates: numbers under keys, each with the index of its
//! last change.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};

use bytes::Bytes;

use super::trace::stable_hash;
use crate::replica::{Committed, MachineDigest, MachineError, Query, StateMachine};
use crate::types::Index;

/// The longest command.
pub(super) const COMMAND_BYTES: usize = 18;

/// Between the numbers of two commands: what increments make of one is never another's.
pub(super) const ID_STEP: u64 = 1 << 16;

/// No client uses this key: only what goes wrong writes it.
const WRONG_KEY: u8 = u8::MAX;

/// A command of the simulator's clients. Each has a number of its own, so that each can be
/// recognised in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Command {
    /// The key's number becomes the command's.
    Set { key: u8, id: u64 },
    /// The key's number grows by one.
    Increment { key: u8, id: u64 },
    /// The key's number becomes the command's if it is `expected`, else nothing happens.
    Swap { key: u8, id: u64, expected: u64 },
}

impl Command {
    pub(super) fn id(self) -> u64 {
        match self {
            Command::Set { id, .. } | Command::Increment { id, .. } | Command::Swap { id, .. } => {
                id
            }
        }
    }

    pub(super) fn key(self) -> u8 {
        match self {
            Command::Set { key, .. }
            | Command::Increment { key, .. }
            | Command::Swap { key, .. } => key,
        }
    }

    /// As bytes, with so many of nothing after them.
    pub(super) fn encode(self, padding: usize) -> Bytes {
        let (tag, expected) = match self {
            Command::Set { .. } => (b's', None),
            Command::Increment { .. } => (b'i', None),
            Command::Swap { expected, .. } => (b'c', Some(expected)),
        };
        let mut bytes = vec![0; COMMAND_BYTES + padding];
        bytes[0] = tag;
        bytes[1] = self.key();
        bytes[2..10].copy_from_slice(&self.id().to_le_bytes());
        bytes[10..COMMAND_BYTES].copy_from_slice(&expected.unwrap_or(0).to_le_bytes());
        Bytes::from(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Command> {
        let (&[tag, key], rest) = bytes.split_first_chunk::<2>()?;
        let (&id, rest) = rest.split_first_chunk::<8>()?;
        let id = u64::from_le_bytes(id);
        let (&expected, _padding) = rest.split_first_chunk::<8>()?;
        match tag {
            b's' => Some(Command::Set { key, id }),
            b'i' => Some(Command::Increment { key, id }),
            b'c' => Some(Command::Swap { key, id, expected: u64::from_le_bytes(expected) }),
            _ => None,
        }
    }

    /// The number that a key has after this command, if it had `number` before.
    pub(super) fn number_after(self, number: u64) -> u64 {
        match self {
            Command::Set { id, .. } => id,
            Command::Increment { .. } => number + 1,
            Command::Swap { id, expected, .. } if number == expected => id,
            Command::Swap { .. } => number,
        }
    }
}

/// A number and the index of the entry that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Value {
    pub(super) number: u64,
    pub(super) index: Index,
}

impl Value {
    pub(super) fn encode(self) -> Bytes {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..].copy_from_slice(&self.index.0.to_le_bytes());
        Bytes::copy_from_slice(&bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Value> {
        let (number, index) = bytes.split_first_chunk::<8>()?;
        let index = index.try_into().ok()?;
        Some(Value { number: u64::from_le_bytes(*number), index: Index(u64::from_le_bytes(index)) })
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Kv {
    values: BTreeMap<u8, Value>,
    /// What this copy of the program cannot do: nothing that is replicated.
    failing: Failing,
}

/// How the machine fails at the next command.
#[derive(Clone, Copy, Debug, Default, Eq)]
enum Failing {
    #[default]
    None,
    Refuses,
    Panics,
}

impl PartialEq for Failing {
    /// Two machines are the same if their states are.
    fn eq(&self, _: &Failing) -> bool {
        true
    }
}

impl Hash for Failing {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Kv {
    /// The next command fails, and each after it.
    pub(super) fn start_failing(&mut self, panics: bool) {
        self.failing = if panics { Failing::Panics } else { Failing::Refuses };
    }

    pub(super) fn stop_failing(&mut self) {
        self.failing = Failing::None;
    }

    /// The state goes wrong, where no client looks: what clients are told stays right.
    pub(super) fn corrupt_state(&mut self) {
        self.values.insert(WRONG_KEY, Value { number: 1, index: Index(0) });
    }

    pub(super) fn is_corrupt(&self) -> bool {
        self.values.contains_key(&WRONG_KEY)
    }

    /// The state as it would be if it had not gone wrong.
    pub(super) fn corrected(&self) -> Kv {
        let mut right = self.clone();
        right.values.remove(&WRONG_KEY);
        right
    }

    pub(super) fn is_failing(&self) -> bool {
        !matches!(self.failing, Failing::None)
    }

    /// What is under a key.
    pub(super) fn get(&self, key: u8) -> Value {
        self.values.get(&key).copied().unwrap_or_default()
    }
}

impl StateMachine for Kv {
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
        match self.failing {
            Failing::None => {}
            Failing::Refuses => return Err(MachineError::new("sick")),
            // As `panic!`, without a word on stderr.
            Failing::Panics => std::panic::resume_unwind(Box::new("sick")),
        }
        let Some(command) = Command::decode(entry.command) else {
            return Ok(Bytes::from_static(b"?"));
        };
        let value = self.values.entry(command.key()).or_default();
        let number = command.number_after(value.number);
        if number != value.number {
            *value = Value { number, index: entry.index };
        }
        Ok(value.encode())
    }

    fn query(&self, query: &Query<'_>) -> Bytes {
        query.bytes.first().map_or_else(Value::default, |&key| self.get(key)).encode()
    }

    /// Seventeen bytes a key: the key, and its value.
    fn snapshot(&self) -> Box<dyn Read + Send> {
        let pairs = self.values.iter();
        let bytes: Vec<u8> =
            pairs.flat_map(|(&key, value)| [key].into_iter().chain(value.encode())).collect();
        Box::new(io::Cursor::new(bytes))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        snapshot.read_to_end(&mut bytes)?;
        let pairs =
            bytes.chunks(17).map(|pair| Some((*pair.first()?, Value::decode(pair.get(1..)?)?)));
        self.values = pairs.collect::<Option<_>>().ok_or(io::ErrorKind::InvalidData)?;
        Ok(())
    }

    fn digest(&self) -> Option<MachineDigest> {
        Some(MachineDigest { version: 1, value: stable_hash(&self.values) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_its_snapshot() {
        let value = |number| Value { number, index: Index(number + 1) };
        let kv =
            Kv { values: (1..=3).map(|key| (key, value(key.into()))).collect(), ..Kv::default() };
        let mut other = Kv { values: BTreeMap::from([(9, value(9))]), ..Kv::default() };
        other.restore(&mut kv.snapshot()).unwrap();
        assert_eq!(other, kv);
        assert!(other.restore(&mut &[1, 2, 3][..]).is_err());
    }

    #[test]
    fn words_survive_the_wire() {
        let swap = Command::Swap { key: 1, id: 2, expected: 3 };
        for command in
            [Command::Set { key: 3, id: u64::MAX }, Command::Increment { key: 0, id: 7 }, swap]
        {
            assert_eq!(Command::decode(&command.encode(7)), Some(command));
        }
        let value = Value { number: 5, index: Index(9) };
        assert_eq!(Value::decode(&value.encode()), Some(value));
        assert_eq!(Command::decode(b"x"), None);
        assert_eq!(Value::decode(b"x"), None);
    }
}
