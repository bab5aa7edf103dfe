//! Parsers of the commands on keys and their values.

use crate::{
    kv::operation::{Operation, encode, set_flags},
    resp::{Request, parse_integer},
};

use super::{
    Command, LocalCommand, argument, expiry,
    row::{operation_command, wrong_number_of_arguments},
};

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const SYNTAX_ERROR: &str = "ERR syntax error";

/// `SETNX key value`.
pub(super) fn set_nx(request: &Request<'_>) -> Result<Command, String> {
    Ok(expiry::set_with(request, 2, set_flags::IF_ABSENT | set_flags::AS_NUMBER, None))
}

/// `GETSET key value`.
pub(super) fn get_set(request: &Request<'_>) -> Result<Command, String> {
    Ok(expiry::set_with(request, 2, set_flags::GET, None))
}

/// `MSET key value [key value ...]`.
pub(super) fn mset(request: &Request<'_>) -> Result<Command, String> {
    set_pairs(request, "mset", Operation::MSet)
}

/// `MSETNX key value [key value ...]`.
pub(super) fn mset_nx(request: &Request<'_>) -> Result<Command, String> {
    set_pairs(request, "msetnx", Operation::MSetNx)
}

fn set_pairs(request: &Request<'_>, name: &str, operation: Operation) -> Result<Command, String> {
    if request.len().is_multiple_of(2) {
        return Err(wrong_number_of_arguments(name));
    }
    Ok(operation_command(operation, request.arguments_from(1)))
}

/// `INCR key`.
pub(super) fn incr(request: &Request<'_>) -> Result<Command, String> {
    Ok(increment(request, 1))
}

/// `DECR key`.
pub(super) fn decr(request: &Request<'_>) -> Result<Command, String> {
    Ok(increment(request, -1))
}

/// `INCRBY key increment`.
pub(super) fn incr_by(request: &Request<'_>) -> Result<Command, String> {
    Ok(increment(request, parse_amount(request)?))
}

/// `DECRBY key decrement`.
pub(super) fn decr_by(request: &Request<'_>) -> Result<Command, String> {
    // The smallest integer has no opposite.
    let amount = parse_amount(request)?.checked_neg().ok_or("ERR decrement would overflow")?;
    Ok(increment(request, amount))
}

fn parse_amount(request: &Request<'_>) -> Result<i64, String> {
    parse_integer(argument(request, 2)).ok_or_else(|| NOT_AN_INTEGER.to_owned())
}

fn increment(request: &Request<'_>, amount: i64) -> Command {
    let amount = amount.to_string();
    operation_command(Operation::IncrBy, [argument(request, 1), amount.as_bytes()].into_iter())
}

/// `RENAME key newkey`.
pub(super) fn rename(request: &Request<'_>) -> Result<Command, String> {
    Ok(rename_with(request, 0))
}

/// `RENAMENX key newkey`.
pub(super) fn rename_nx(request: &Request<'_>) -> Result<Command, String> {
    Ok(rename_with(request, set_flags::IF_ABSENT))
}

fn rename_with(request: &Request<'_>, flags: u8) -> Command {
    let arguments = [argument(request, 1), argument(request, 2), &[flags]];
    operation_command(Operation::Rename, arguments.into_iter())
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`.
pub(super) fn scan(request: &Request<'_>) -> Result<Command, String> {
    const COUNT: u32 = 10;
    let text = |bytes| str::from_utf8(bytes).ok();
    let cursor: u64 = text(argument(request, 1))
        .and_then(|cursor| cursor.parse().ok())
        .ok_or("ERR invalid cursor")?;
    let (mut count, mut pattern, mut is_other_type) = (COUNT, &b"*"[..], false);
    let mut options = request.arguments_from(2);
    while let Some(option) = options.next() {
        let value = options.next().ok_or(SYNTAX_ERROR)?;
        match option.to_ascii_uppercase().as_slice() {
            b"MATCH" => pattern = value,
            b"COUNT" => match parse_integer(value) {
                Some(asked @ 1..) => count = u32::try_from(asked).unwrap_or(u32::MAX),
                Some(_) => return Err(SYNTAX_ERROR.to_owned()),
                None => return Err(NOT_AN_INTEGER.to_owned()),
            },
            b"TYPE" if value.eq_ignore_ascii_case(b"string") => {}
            b"TYPE" => is_other_type = true,
            _ => return Err(SYNTAX_ERROR.to_owned()),
        }
    }
    if is_other_type {
        // There are strings only, so this scan has seen everything.
        return Ok(Command::Local(LocalCommand::EmptyScan));
    }
    let arguments = [&cursor.to_le_bytes()[..], &count.to_le_bytes(), pattern];
    Ok(Command::Read(encode(Operation::Scan, arguments.into_iter())))
}

/// `FLUSHALL [ASYNC | SYNC]`. Any other argument may be meant for another command, and nothing
/// brings the keys back.
pub(super) fn flush(request: &Request<'_>) -> Result<Command, String> {
    let is_known = |option: &[u8]| {
        option.eq_ignore_ascii_case(b"ASYNC") || option.eq_ignore_ascii_case(b"SYNC")
    };
    if request.len() > 2 || !request.arguments_from(1).all(is_known) {
        return Err(SYNTAX_ERROR.to_owned());
    }
    Ok(Command::Write(encode(Operation::FlushAll, [].into_iter())))
}
