//! The table of operations, and their bytes in the log: a number, then the arguments, each with its
//! length before it.
//!
//! ```text
//! | operation u8 | length u32 LE | argument … | length u32 LE | argument … |
//! ```
//! The numbers are on disk, so they are never given to another operation.

use bytes::{BufMut, Bytes, BytesMut};

use super::{effect, scan, store::Store};

/// What the store knows of an operation besides its number.
pub(crate) struct OperationRow {
    pub(crate) keys: KeySpec,
    pub(super) quick: Quick,
    pub(super) effect: Effect,
}

/// Which keys an operation looks at.
#[derive(Clone, Copy)]
pub(crate) enum KeySpec {
    /// None, or only those of the operations that are its arguments.
    None,
    /// Its first argument.
    First,
    /// Its first two arguments.
    FirstTwo,
    /// All its arguments.
    All,
    /// Every other argument, from the first on.
    EveryOther,
    /// The whole keyspace, without a visit to each key.
    Keyspace,
    /// Many keys that it does not name, one after the other. The function estimates their number
    /// in a store of `keys`.
    Scanned(fn(keys: usize, arguments: Arguments<'_>) -> usize),
}

/// How long an operation takes, and so whether the node's loop may run it ([`super::quick`]).
#[derive(Clone, Copy)]
pub(super) enum Quick {
    /// It runs on the state machine's thread.
    Never,
    /// It copies or frees one value.
    OneValue,
    /// It copies or frees a value for each of its keys.
    SeveralValues,
    /// It looks up one key, and copies no value.
    OneKey,
    /// It looks up several keys, and copies no value.
    SeveralKeys,
}

/// What an operation does. `None` if an argument is missing or malformed.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    Write {
        apply: fn(&mut Store, Arguments<'_>) -> Option<Bytes>,
        returns: Returns,
    },
    /// The number is the time from which `TTL` counts.
    Read(fn(&Store, Arguments<'_>, u64) -> Option<Bytes>),
}

/// What a write answers with.
#[derive(Clone, Copy)]
pub(super) enum Returns {
    /// A few bytes.
    Status,
    /// What the store holds, which may be far longer than the request.
    Value(WithoutReply),
    /// The value before, if [`set_flags::GET`] is set.
    ValueIfAsked(WithoutReply),
}

/// The same write without the value that it would answer with: a transaction whose reply is full
/// does not copy more values. `None` as for [`Effect`].
pub(super) type WithoutReply = fn(&mut Store, Arguments<'_>) -> Option<()>;

const fn write(
    apply: fn(&mut Store, Arguments<'_>) -> Option<Bytes>,
    keys: KeySpec,
    quick: Quick,
    returns: Returns,
) -> OperationRow {
    OperationRow { keys, quick, effect: Effect::Write { apply, returns } }
}

const fn read(
    answer: fn(&Store, Arguments<'_>, u64) -> Option<Bytes>,
    keys: KeySpec,
    quick: Quick,
) -> OperationRow {
    OperationRow { keys, quick, effect: Effect::Read(answer) }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $number:literal: $row:expr;)*) => {
        /// What the store can do. Reads are never in the log, but cross from a connection to the
        /// store in the same form.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Operation {
            $($(#[$doc])* $name = $number,)*
        }

        impl Operation {
            #[cfg(test)]
            pub(crate) const ALL: &[Operation] = &[$(Operation::$name),*];

            /// Its row of the table.
            pub(crate) fn row(self) -> &'static OperationRow {
                match self {
                    $(Operation::$name => {
                        const ROW: OperationRow = $row;
                        &ROW
                    })*
                }
            }

            fn from_number(number: u8) -> Option<Operation> {
                match number {
                    $($number => Some(Operation::$name),)*
                    _ => None,
                }
            }
        }
    };
}

// The table of operations: arguments, number in the log, effect, keys, how long it takes, answer.
operations! {
    /// key value flags
    Set = 1: write(
        effect::set, KeySpec::First, Quick::OneValue,
        Returns::ValueIfAsked(effect::set_without_reply)
    );
    /// key…
    Del = 2: write(effect::del, KeySpec::All, Quick::SeveralValues, Returns::Status);
    /// key amount (decimal)
    IncrBy = 3: write(effect::incr_by, KeySpec::First, Quick::OneValue, Returns::Status);
    /// key value
    Append = 4: write(effect::append, KeySpec::First, Quick::Never, Returns::Status);
    /// key value key value …
    MSet = 5: write(effect::mset, KeySpec::EveryOther, Quick::SeveralValues, Returns::Status);
    /// key
    GetDel = 6: write(
        effect::get_del, KeySpec::First, Quick::OneValue,
        Returns::Value(effect::get_del_without_reply)
    );
    /// nothing
    FlushAll = 7: write(effect::flush_all, KeySpec::Keyspace, Quick::Never, Returns::Status);
    /// operation…, each encoded like this one; reads too
    Exec = 8: write(
        effect::exec, KeySpec::None, Quick::Never, Returns::Value(effect::exec_without_reply)
    );
    /// key value flags expiration
    SetExpiring = 9: write(
        effect::set_expiring, KeySpec::First, Quick::OneValue,
        Returns::ValueIfAsked(effect::set_expiring_without_reply)
    );
    /// key expiration conditions
    Expire = 10: write(effect::expire, KeySpec::First, Quick::OneValue, Returns::Status);
    /// key
    Persist = 11: write(effect::persist, KeySpec::First, Quick::OneValue, Returns::Status);
    /// key expiration
    GetEx = 12: write(
        effect::get_ex, KeySpec::First, Quick::OneValue,
        Returns::Value(effect::get_ex_without_reply)
    );
    /// nothing: brings the leader's time into the log
    AdvanceTime = 13: write(effect::advance_time, KeySpec::None, Quick::OneValue, Returns::Status);
    /// key value key value …, all or none
    MSetNx = 14: write(effect::mset_nx, KeySpec::EveryOther, Quick::SeveralValues, Returns::Status);
    /// key new-key flags
    Rename = 15: write(effect::rename, KeySpec::FirstTwo, Quick::Never, Returns::Status);
    /// key
    Get = 65: read(effect::get, KeySpec::First, Quick::OneValue);
    /// key…
    Exists = 66: read(effect::exists, KeySpec::All, Quick::SeveralKeys);
    /// key…
    MGet = 67: read(effect::mget, KeySpec::All, Quick::SeveralValues);
    /// key
    StrLen = 68: read(effect::str_len, KeySpec::First, Quick::OneKey);
    /// nothing
    DbSize = 69: read(effect::db_size, KeySpec::Keyspace, Quick::Never);
    /// key form
    Ttl = 70: read(effect::ttl, KeySpec::First, Quick::OneKey);
    /// key
    Type = 71: read(effect::key_type, KeySpec::First, Quick::OneKey);
    /// query, answered by the last stamp: expirations are decided
    AtLogTime = 72: read(effect::at_log_time, KeySpec::None, Quick::Never);
    /// cursor (u64 LE) count (u32 LE) pattern
    Scan = 73: read(effect::scan, KeySpec::Scanned(scan::keys_scanned_by_scan), Quick::Never);
    /// pattern
    Keys = 74: read(effect::keys, KeySpec::Scanned(scan::keys_scanned_by_keys), Quick::Never);
}

impl Operation {
    /// Whether it changes nothing.
    pub(crate) fn is_read(self) -> bool {
        matches!(self.row().effect, Effect::Read(_))
    }

    /// Whether it goes through keys that it does not name, perhaps through very many.
    pub(crate) fn scans(self) -> bool {
        matches!(self.row().keys, KeySpec::Scanned(_))
    }
}

/// The form of the answer to `Ttl`: bits of an argument.
pub(crate) mod ttl_form {
    /// Milliseconds, not seconds.
    pub(crate) const MS: u8 = 1;
    /// The deadline itself, not the time until then.
    pub(crate) const ABSOLUTE: u8 = 2;
}

/// Flags of `Set`, and the first of `Rename`.
pub(crate) mod set_flags {
    /// Only if the key does not exist.
    pub(crate) const IF_ABSENT: u8 = 1;
    /// Only if the key exists.
    pub(crate) const IF_PRESENT: u8 = 2;
    /// Answer with the value before.
    pub(crate) const GET: u8 = 4;
    /// Answer with 1 or 0 (SETNX).
    pub(crate) const AS_NUMBER: u8 = 8;
}

/// Encodes an operation.
pub(crate) fn encode<'a>(
    operation: Operation,
    arguments: impl Iterator<Item = &'a [u8]> + Clone,
) -> Bytes {
    let len = 1 + arguments.clone().map(|argument| 4 + argument.len()).sum::<usize>();
    let mut bytes = BytesMut::with_capacity(len);
    bytes.put_u8(operation as u8);
    for argument in arguments {
        // Requests are bounded far below 4 GiB (`--max-request-bytes`).
        bytes.put_u32_le(u32::try_from(argument.len()).expect("a request is smaller than 4 GiB"));
        bytes.put_slice(argument);
    }
    bytes.freeze()
}

/// Decodes an operation. `None` if this version does not know it.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Operation, Arguments<'_>)> {
    let (&number, rest) = bytes.split_first()?;
    Some((Operation::from_number(number)?, Arguments { rest }))
}

/// An operation as text: `Set "key" "value" "\x00"`, and those of a transaction in brackets. Bytes
/// that are not an operation are shown escaped.
pub(crate) fn describe(bytes: &[u8]) -> String {
    match decode(bytes) {
        Some((Operation::Exec, operations)) => {
            // The server makes none within another, so it is not followed.
            let operations = operations.map(|operation| match decode(operation) {
                Some((Operation::Exec, _)) | None => format!("\"{}\"", operation.escape_ascii()),
                Some((operation, arguments)) => describe_plain(operation, arguments),
            });
            format!("Exec [{}]", operations.collect::<Vec<_>>().join(", "))
        }
        Some((operation, arguments)) => describe_plain(operation, arguments),
        None => format!("\"{}\"", bytes.escape_ascii()),
    }
}

fn describe_plain(operation: Operation, arguments: Arguments<'_>) -> String {
    let words = arguments.map(|argument| format!(" \"{}\"", argument.escape_ascii()));
    format!("{operation:?}{}", words.collect::<String>())
}

/// Whether a write answers with what the store holds, which may be far longer than the request.
pub(crate) fn returns_value(operation: Operation, arguments: Arguments<'_>) -> bool {
    without_reply(operation, arguments).is_some()
}

/// The same write without its reply, if that is a value.
pub(super) fn without_reply(
    operation: Operation,
    mut arguments: Arguments<'_>,
) -> Option<WithoutReply> {
    match operation.row().effect {
        Effect::Write { returns: Returns::Value(write), .. } => Some(write),
        Effect::Write { returns: Returns::ValueIfAsked(write), .. } => {
            let flags = arguments.nth(2)?;
            flags.iter().any(|flags| flags & set_flags::GET != 0).then_some(write)
        }
        Effect::Write { returns: Returns::Status, .. } | Effect::Read(_) => None,
    }
}

/// Whether an encoded operation goes through keys that it does not name.
pub(crate) fn scans(operation: &[u8]) -> bool {
    decode(operation).is_some_and(|(operation, _)| operation.scans())
}

/// The arguments of an operation, in order.
#[derive(Clone, Debug)]
pub(crate) struct Arguments<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (argument, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some(argument)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn returns(write: &[u8]) -> bool {
        decode(write).is_some_and(|(operation, arguments)| returns_value(operation, arguments))
    }

    #[test]
    fn operations_are_described_as_text() {
        let set = encode(Operation::Set, [&b"a b"[..], b"\"v\x01", &[0]].into_iter());
        assert_eq!(describe(&set), r#"Set "a b" "\"v\x01" "\x00""#);
        let exec = encode(
            Operation::Exec,
            [&set[..], &encode(Operation::AdvanceTime, [].into_iter())].into_iter(),
        );
        assert_eq!(describe(&exec), r#"Exec [Set "a b" "\"v\x01" "\x00", AdvanceTime]"#);
        let nested = encode(Operation::Exec, [&exec[..]].into_iter());
        assert!(describe(&nested).starts_with(r#"Exec ["\x08"#), "{}", describe(&nested));
        assert_eq!(describe(b"SET a"), r#""SET a""#);
    }

    /// Older versions know reads by their numbers.
    #[test]
    fn reads_have_the_numbers_above_64() {
        for &operation in Operation::ALL {
            assert_eq!(operation.is_read(), operation as u8 > 64, "{operation:?}");
            assert_eq!(Operation::from_number(operation as u8), Some(operation));
        }
    }

    proptest! {
        #[test]
        fn operations_are_decoded_as_they_were_encoded(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..5),
        ) {
            let bytes = encode(Operation::MSet, arguments.iter().map(Vec::as_slice));
            let (operation, decoded) = decode(&bytes).unwrap();
            prop_assert_eq!(operation, Operation::MSet);
            prop_assert_eq!(decoded.map(<[u8]>::to_vec).collect::<Vec<_>>(), arguments);
        }

        /// The bytes of the key or the value make no difference.
        #[test]
        fn a_set_returns_a_value_if_the_flag_says_so(
            key in prop::collection::vec(any::<u8>(), 0..9),
            flags in 0u8..16,
        ) {
            let set = encode(Operation::Set, [&key[..], &key, &[flags]].into_iter());
            prop_assert_eq!(returns(&set), flags & set_flags::GET != 0);
            let expiration = crate::kv::expiry::Expiration::After(i64::MAX).encode();
            let arguments = [&key[..], &key, &[flags], &expiration];
            let until = encode(Operation::SetExpiring, arguments.into_iter());
            prop_assert_eq!(returns(&until), flags & set_flags::GET != 0);
            let append = encode(Operation::Append, [&key[..], &key].into_iter());
            prop_assert!(!returns(&append));
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some((_, arguments)) = decode(&bytes) {
                arguments.for_each(drop);
            }
            describe(&bytes);
        }
    }
}
