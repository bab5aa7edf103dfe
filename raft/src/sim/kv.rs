//! The simulator's state machine: a number for each key, with the index of its last change.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};

use bytes::Bytes;

use super::trace::stable_hash;
use crate::replica::{Committed, MachineDigest, MachineError, Query, StateMachine};
use crate::types::Index;

/// The length of a command without padding.
pub(super) const COMMAND_BYTES: usize = 18;

/// The distance between the ids of two commands, so that increments of one never reach another.
pub(super) const ID_STEP: u64 = 1 << 16;

/// A key that no client uses: only corruption writes it.
const CORRUPTION_KEY: u8 = u8::MAX;

/// A command of the simulator's clients, with a unique id by which it is recognised in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Command {
    /// Sets the key's number to the id.
    Set { key: u8, id: u64 },
    /// Increments the key's number.
    Increment { key: u8, id: u64 },
    /// Sets the key's number to the id if it is `expected`.
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

    /// Encodes the command, followed by `padding` zero bytes.
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

    /// The number of a key after this command, given the number before.
    pub(super) fn number_after(self, number: u64) -> u64 {
        match self {
            Command::Set { id, .. } => id,
            Command::Increment { .. } => number + 1,
            Command::Swap { id, expected, .. } if number == expected => id,
            Command::Swap { .. } => number,
        }
    }
}

/// A number and the index of the entry that set it.
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

/// The state machine. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Kv {
    values: BTreeMap<u8, Value>,
    /// How this process fails; not part of the replicated state.
    failure_mode: FailureMode,
}

/// How the machine fails at its next command.
#[derive(Clone, Copy, Debug, Default, Eq)]
pub(super) enum FailureMode {
    #[default]
    None,
    Refuses,
    Panics,
}

impl PartialEq for FailureMode {
    /// Always equal, so that two machines are equal if their states are.
    fn eq(&self, _: &FailureMode) -> bool {
        true
    }
}

impl Hash for FailureMode {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Kv {
    /// The next command and all later ones fail.
    pub(super) fn start_failing(&mut self, mode: FailureMode) {
        self.failure_mode = mode;
    }

    pub(super) fn stop_failing(&mut self) {
        self.failure_mode = FailureMode::None;
    }

    /// Corrupts the state where no client looks, so that answers stay correct.
    pub(super) fn corrupt_state(&mut self) {
        self.values.insert(CORRUPTION_KEY, Value { number: 1, index: Index(0) });
    }

    pub(super) fn is_corrupt(&self) -> bool {
        self.values.contains_key(&CORRUPTION_KEY)
    }

    /// The state without the corruption.
    pub(super) fn corrected(&self) -> Kv {
        let mut right = self.clone();
        right.values.remove(&CORRUPTION_KEY);
        right
    }

    pub(super) fn is_failing(&self) -> bool {
        !matches!(self.failure_mode, FailureMode::None)
    }

    /// What is under a key.
    pub(super) fn get(&self, key: u8) -> Value {
        self.values.get(&key).copied().unwrap_or_default()
    }
}

impl StateMachine for Kv {
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
        match self.failure_mode {
            FailureMode::None => {}
            FailureMode::Refuses => return Err(MachineError::new("a planted failure")),
            // Like `panic!`, without a message on stderr.
            FailureMode::Panics => std::panic::resume_unwind(Box::new("a planted failure")),
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

    /// Seventeen bytes for each key: the key and its value.
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
    fn commands_and_values_survive_encoding() {
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
