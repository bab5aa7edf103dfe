//! How an operation stands in the log: one byte that says which, then its arguments, each with its
//! length before it.
//!
//! ```text
//! | operation u8 | length u32 LE | argument … | length u32 LE | argument … |
//! ```
//! The numbers are part of what is on disk: they are never given to another operation.

use bytes::{BufMut, Bytes, BytesMut};

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What the store can do. Reads are never in the log, but cross from a connection to the
        /// store in the same form.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Operation {
            $($(#[$doc])* $name = $number,)*
        }

        impl Operation {
            /// Whether it changes nothing.
            pub(crate) fn is_read(self) -> bool {
                self as u8 > 64
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

operations! {
    /// key value flags
    Set = 1,
    /// key…
    Del = 2,
    /// key amount (decimal)
    IncrBy = 3,
    /// key value
    Append = 4,
    /// key value key value …
    MSet = 5,
    /// key
    GetDel = 6,
    /// nothing
    FlushAll = 7,
    /// operation…, each encoded like this one; reads too
    Exec = 8,
    /// key value flags when
    SetWhen = 9,
    /// key when conditions
    Expire = 10,
    /// key
    Persist = 11,
    /// key when
    GetEx = 12,
    /// nothing: brings the leader's time into the log
    Tick = 13,
    /// key value key value …, all or none
    MSetNx = 14,
    /// key new-key flags
    Rename = 15,
    /// key
    Get = 65,
    /// key…
    Exists = 66,
    /// key…
    MGet = 67,
    /// key
    StrLen = 68,
    /// nothing
    DbSize = 69,
    /// key form
    Ttl = 70,
    /// key
    Type = 71,
    /// query, which is answered by the log's time, whatever the clock says
    ByTheLog = 72,
    /// cursor (u64 LE) count (u32 LE) pattern
    Scan = 73,
    /// pattern
    Keys = 74,
}

/// What `Ttl` is answered with: bits of its form.
pub(crate) mod ttl_form {
    /// In milliseconds, not in seconds.
    pub(crate) const MS: u8 = 1;
    /// The deadline itself, not what is left.
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

/// Decodes an operation; `None` if it is not one, as only a later version of this program could
/// have written it.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Operation, Arguments<'_>)> {
    let (&number, rest) = bytes.split_first()?;
    Some((Operation::from_number(number)?, Arguments { rest }))
}

/// An operation for a person to read: `Set "key" "value" "\x00"`, and those of a transaction in
/// brackets. Bytes that are none are shown as they are.
pub(crate) fn describe(bytes: &[u8]) -> String {
    match decode(bytes) {
        Some((Operation::Exec, operations)) => {
            // One within another is never made, and is not followed.
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
pub(crate) fn answers_with_values(operation: Operation, mut arguments: Arguments<'_>) -> bool {
    match operation {
        Operation::GetDel | Operation::GetEx | Operation::Exec => true,
        Operation::Set | Operation::SetWhen => arguments
            .nth(2)
            .is_some_and(|flags| flags.iter().any(|flags| flags & set_flags::GET != 0)),
        _ => false,
    }
}

/// Whether an encoded operation looks at keys that it does not name, and may look at very many.
pub(crate) fn looks_at_many(operation: &[u8]) -> bool {
    matches!(decode(operation), Some((Operation::Scan | Operation::Keys, _)))
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

    fn answers(write: &[u8]) -> bool {
        decode(write)
            .is_some_and(|(operation, arguments)| answers_with_values(operation, arguments))
    }

    #[test]
    fn an_operation_can_be_read() {
        let set = encode(Operation::Set, [&b"a b"[..], b"\"v\x01", &[0]].into_iter());
        assert_eq!(describe(&set), r#"Set "a b" "\"v\x01" "\x00""#);
        let exec = encode(
            Operation::Exec,
            [&set[..], &encode(Operation::Tick, [].into_iter())].into_iter(),
        );
        assert_eq!(describe(&exec), r#"Exec [Set "a b" "\"v\x01" "\x00", Tick]"#);
        let nested = encode(Operation::Exec, [&exec[..]].into_iter());
        assert!(describe(&nested).starts_with(r#"Exec ["\x08"#), "{}", describe(&nested));
        assert_eq!(describe(b"SET a"), r#""SET a""#);
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..5)) {
            let bytes = encode(Operation::MSet, arguments.iter().map(Vec::as_slice));
            let (operation, decoded) = decode(&bytes).unwrap();
            prop_assert_eq!(operation, Operation::MSet);
            prop_assert_eq!(decoded.map(<[u8]>::to_vec).collect::<Vec<_>>(), arguments);
        }

        /// What lies in the key or the value makes no difference.
        #[test]
        fn a_set_answers_with_a_value_if_it_is_asked_to(key in prop::collection::vec(any::<u8>(), 0..9), flags in 0u8..16) {
            let set = encode(Operation::Set, [&key[..], &key, &[flags]].into_iter());
            prop_assert_eq!(answers(&set), flags & set_flags::GET != 0);
            let when = crate::kv::expiry::When::After(i64::MAX).encode();
            let until = encode(Operation::SetWhen, [&key[..], &key, &[flags], &when].into_iter());
            prop_assert_eq!(answers(&until), flags & set_flags::GET != 0);
            let append = encode(Operation::Append, [&key[..], &key].into_iter());
            prop_assert!(!answers(&append));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some((_, arguments)) = decode(&bytes) {
                arguments.for_each(drop);
            }
            describe(&bytes);
        }
    }
}
