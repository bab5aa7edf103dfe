//! The effect of each operation: parses its arguments and calls the store.
//!
//! `None` if an argument is missing or malformed, as only another version of this program could
//! have written it. The variants `…_without_reply` do not remove expired keys first, and must not
//! begin to: the number of keys that an entry removes is part of what every node repeats.

use bytes::Bytes;
use redis_protocol::resp2::types::BorrowedFrame;

use super::{
    expiry::{Expiration, REMOVALS_PER_TIME_ENTRY_MAX},
    operation::{Arguments, Operation, set_flags},
    store::{NIL, OK, Store, VALUE_BYTES_MAX, bulk, drop_on_another_thread, error, frame, integer},
};
use crate::resp::parse_integer;

/// The value of an argument of one byte.
fn byte(argument: &[u8]) -> Option<u8> {
    argument.first().copied()
}

pub(super) fn set(store: &mut Store, mut arguments: Arguments<'_>) -> Option<Bytes> {
    let (key, value, flags) = (arguments.next()?, arguments.next()?, byte(arguments.next()?)?);
    Some(store.set(key, value, flags, Expiration::Never))
}

pub(super) fn set_without_reply(store: &mut Store, mut arguments: Arguments<'_>) -> Option<()> {
    let (key, value, flags) = (arguments.next()?, arguments.next()?, byte(arguments.next()?)?);
    store.set(key, value, flags & !set_flags::GET, Expiration::Never);
    Some(())
}

pub(super) fn set_expiring(store: &mut Store, mut arguments: Arguments<'_>) -> Option<Bytes> {
    let (key, value, flags) = (arguments.next()?, arguments.next()?, byte(arguments.next()?)?);
    Some(store.set(key, value, flags, Expiration::decode(arguments.next()?)?))
}

pub(super) fn set_expiring_without_reply(
    store: &mut Store,
    mut arguments: Arguments<'_>,
) -> Option<()> {
    let (key, value, flags) = (arguments.next()?, arguments.next()?, byte(arguments.next()?)?);
    let when = Expiration::decode(arguments.next()?)?;
    store.set(key, value, flags & !set_flags::GET, when);
    Some(())
}

pub(super) fn del(store: &mut Store, arguments: Arguments<'_>) -> Option<Bytes> {
    Some(integer(arguments.filter(|&key| store.remove(key).is_some()).count() as i64))
}

pub(super) fn incr_by(store: &mut Store, mut arguments: Arguments<'_>) -> Option<Bytes> {
    let (key, amount) = (arguments.next()?, parse_integer(arguments.next()?)?);
    Some(store.increment(key, amount))
}

pub(super) fn append(store: &mut Store, mut arguments: Arguments<'_>) -> Option<Bytes> {
    let (key, value) = (arguments.next()?, arguments.next()?);
    Some(store.append(key, value))
}

pub(super) fn mset(store: &mut Store, mut arguments: Arguments<'_>) -> Option<Bytes> {
    while let Some(key) = arguments.next() {
        let value = arguments.next()?;
        store.deadlines.remove(key);
        store.map.put(key, value);
    }
    Some(OK)
}

pub(super) fn mset_nx(store: &mut Store, arguments: Arguments<'_>) -> Option<Bytes> {
    if arguments.clone().step_by(2).any(|key| store.value(key).is_some()) {
        return Some(integer(0));
    }
    // This removes expired keys once more, and must: every node repeats their number.
    store.write(Operation::MSet, arguments)?;
    Some(integer(1))
}

pub(super) fn get_del(store: &mut Store, mut arguments: Arguments<'_>) -> Option<Bytes> {
    Some(store.remove(arguments.next()?).map_or(NIL, |value| bulk(&value)))
}

/// It copies the value all the same: once, as the key is gone then.
pub(super) fn get_del_without_reply(store: &mut Store, arguments: Arguments<'_>) -> Option<()> {
    store.write(Operation::GetDel, arguments).map(drop)
}

pub(super) fn rename(store: &mut Store, mut arguments: Arguments<'_>) -> Option<Bytes> {
    let (key, to, flags) = (arguments.next()?, arguments.next()?, byte(arguments.next()?)?);
    Some(store.rename(key, to, flags))
}

pub(super) fn flush_all(store: &mut Store, _: Arguments<'_>) -> Option<Bytes> {
    drop_on_another_thread((std::mem::take(&mut store.map), std::mem::take(&mut store.deadlines)));
    Some(OK)
}

pub(super) fn exec(store: &mut Store, arguments: Arguments<'_>) -> Option<Bytes> {
    Some(store.execute(arguments))
}

/// No transaction runs within another.
pub(super) fn exec_without_reply(_: &mut Store, _: Arguments<'_>) -> Option<()> {
    None
}

pub(super) fn get_ex(store: &mut Store, mut arguments: Arguments<'_>) -> Option<Bytes> {
    let (key, when) = (arguments.next()?, Expiration::decode(arguments.next()?)?);
    let reply = store.get(key);
    store.set_expiration(key, when);
    Some(reply)
}

pub(super) fn get_ex_without_reply(store: &mut Store, mut arguments: Arguments<'_>) -> Option<()> {
    let (key, when) = (arguments.next()?, Expiration::decode(arguments.next()?)?);
    store.set_expiration(key, when);
    Some(())
}

pub(super) fn expire(store: &mut Store, mut arguments: Arguments<'_>) -> Option<Bytes> {
    let (key, when, conditions) = (arguments.next()?, arguments.next()?, byte(arguments.next()?)?);
    Some(store.expire(key, Expiration::decode(when)?, conditions))
}

pub(super) fn persist(store: &mut Store, mut arguments: Arguments<'_>) -> Option<Bytes> {
    let key = arguments.next()?;
    let had_one = store.value(key).is_some() && store.deadlines.get(key).is_some();
    store.set_expiration(key, Expiration::Never);
    Some(integer(i64::from(had_one)))
}

pub(super) fn advance_time(store: &mut Store, _: Arguments<'_>) -> Option<Bytes> {
    store.remove_expired(REMOVALS_PER_TIME_ENTRY_MAX);
    Some(OK)
}

pub(super) fn get(store: &Store, mut arguments: Arguments<'_>, _: u64) -> Option<Bytes> {
    Some(store.get(arguments.next()?))
}

pub(super) fn exists(store: &Store, arguments: Arguments<'_>, _: u64) -> Option<Bytes> {
    Some(integer(arguments.filter(|&key| store.value(key).is_some()).count() as i64))
}

pub(super) fn mget(store: &Store, arguments: Arguments<'_>, _: u64) -> Option<Bytes> {
    let lengths = arguments.clone().map(|key| store.value(key).map_or(0, |value| value.len()));
    // Each value is short enough. A request that repeats a long one is not.
    if lengths.sum::<usize>() > VALUE_BYTES_MAX {
        return Some(error(&format!(
            "ERR the values exceed {VALUE_BYTES_MAX} bytes together: ask for fewer"
        )));
    }
    let values = arguments.map(|key| match store.value(key) {
        Some(value) => BorrowedFrame::BulkString(value),
        None => BorrowedFrame::Null,
    });
    Some(frame(&BorrowedFrame::Array(&values.collect::<Vec<_>>())))
}

pub(super) fn str_len(store: &Store, mut arguments: Arguments<'_>, _: u64) -> Option<Bytes> {
    Some(integer(store.value(arguments.next()?).map_or(0, |value| value.len() as i64)))
}

pub(super) fn db_size(store: &Store, _: Arguments<'_>, _: u64) -> Option<Bytes> {
    Some(integer(store.map.len() as i64))
}

pub(super) fn ttl(store: &Store, mut arguments: Arguments<'_>, clock: u64) -> Option<Bytes> {
    let (key, form) = (arguments.next()?, byte(arguments.next()?)?);
    Some(integer(store.ttl(key, form, clock)))
}

pub(super) fn key_type(store: &Store, mut arguments: Arguments<'_>, _: u64) -> Option<Bytes> {
    let exists = store.value(arguments.next()?).is_some();
    Some(Bytes::from_static(if exists { b"+string\r\n" } else { b"+none\r\n" }))
}

/// [`Store::query_at`] answers the query within it. Elsewhere it is malformed.
pub(super) fn at_log_time(_: &Store, _: Arguments<'_>, _: u64) -> Option<Bytes> {
    None
}

pub(super) fn scan(store: &Store, mut arguments: Arguments<'_>, _: u64) -> Option<Bytes> {
    let cursor = u64::from_le_bytes(arguments.next()?.try_into().ok()?);
    let count = u32::from_le_bytes(arguments.next()?.try_into().ok()?);
    Some(store.scan(cursor, count, arguments.next()?))
}

pub(super) fn keys(store: &Store, mut arguments: Arguments<'_>, _: u64) -> Option<Bytes> {
    Some(store.keys(arguments.next()?))
}
