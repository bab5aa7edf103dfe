//! Commands about keys that expire, by the names and rules of Redis.

use crate::{
    kv::{
        expiry::{Expiration, conditions},
        operation::{Operation, encode, set_flags, ttl_form},
    },
    resp::{Request, parse_integer},
};

use super::{Command, argument};

/// How a command gives a time: in which unit, and from when it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

use Unit::{Milliseconds, Seconds, UnixMilliseconds, UnixSeconds};

/// Longest time from now, in milliseconds: the sum with any clock until the year 5138 fits an i64.
/// Redis adds its own clock's time.
const AFTER_MAX: i64 = i64::MAX - 100_000_000_000_000;

/// Whether a time that has passed is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    Allowed,
    Refused,
}

impl Unit {
    /// The unit of an option of `SET` and `GETEX`.
    fn of_option(option: &[u8]) -> Option<Unit> {
        let options = [
            (&b"EX"[..], Seconds),
            (b"PX", Milliseconds),
            (b"EXAT", UnixSeconds),
            (b"PXAT", UnixMilliseconds),
        ];
        options
            .into_iter()
            .find(|(name, _)| option.eq_ignore_ascii_case(name))
            .map(|(_, unit)| unit)
    }

    /// Parses a time of this unit. `command` is named in the error.
    fn parse(self, time: &[u8], command: &str, past: Past) -> Result<Expiration, String> {
        let number = parse_integer(time).ok_or("ERR value is not an integer or out of range")?;
        let ms = match self {
            Seconds | UnixSeconds => number.checked_mul(1000),
            Milliseconds | UnixMilliseconds => Some(number),
        };
        let is_relative = matches!(self, Seconds | Milliseconds);
        let latest = if is_relative { AFTER_MAX } else { i64::MAX };
        match ms.filter(|&ms| ms <= latest && (past == Past::Allowed || ms > 0)) {
            Some(ms) if is_relative => Ok(Expiration::After(ms)),
            Some(ms) => Ok(Expiration::At(ms)),
            None => Err(format!("ERR invalid expire time in '{command}' command")),
        }
    }
}

/// `SET key value [NX | XX] [GET] [EX | PX | EXAT | PXAT time | KEEPTTL]`.
pub(super) fn set(request: &Request<'_>) -> Result<Command, String> {
    let (mut flags, mut when) = (0, None);
    let mut options = request.arguments_from(3);
    while let Some(option) = options.next() {
        let next = match option {
            _ if option.eq_ignore_ascii_case(b"NX") => {
                flags |= set_flags::IF_ABSENT;
                continue;
            }
            _ if option.eq_ignore_ascii_case(b"XX") => {
                flags |= set_flags::IF_PRESENT;
                continue;
            }
            _ if option.eq_ignore_ascii_case(b"GET") => {
                flags |= set_flags::GET;
                continue;
            }
            _ if option.eq_ignore_ascii_case(b"KEEPTTL") => Expiration::Keep,
            _ => match Unit::of_option(option) {
                Some(unit) => {
                    let time = options.next().ok_or("ERR syntax error")?;
                    unit.parse(time, "set", Past::Refused)?
                }
                None => return Err("ERR syntax error".to_owned()),
            },
        };
        if when.replace(next).is_some() {
            return Err("ERR syntax error".to_owned());
        }
    }
    if flags & set_flags::IF_ABSENT != 0 && flags & set_flags::IF_PRESENT != 0 {
        return Err("ERR syntax error".to_owned());
    }
    Ok(set_with(request, 2, flags, when))
}

/// A `SET` to the argument at `value_at`.
pub(super) fn set_with(
    request: &Request<'_>,
    value_at: usize,
    flags: u8,
    when: Option<Expiration>,
) -> Command {
    let (key, value) = (argument(request, 1), argument(request, value_at));
    Command::Write(match when {
        None => encode(Operation::Set, [key, value, &[flags]].into_iter()),
        Some(when) => {
            encode(Operation::SetExpiring, [key, value, &[flags], &when.encode()].into_iter())
        }
    })
}

/// `SETEX key seconds value`.
pub(super) fn set_ex(request: &Request<'_>) -> Result<Command, String> {
    set_for(request, Seconds, "setex")
}

/// `PSETEX key milliseconds value`.
pub(super) fn pset_ex(request: &Request<'_>) -> Result<Command, String> {
    set_for(request, Milliseconds, "psetex")
}

fn set_for(request: &Request<'_>, unit: Unit, command: &str) -> Result<Command, String> {
    let when = unit.parse(argument(request, 2), command, Past::Refused)?;
    Ok(set_with(request, 3, 0, Some(when)))
}

/// `GETEX key [EX | PX | EXAT | PXAT time | PERSIST]`.
pub(super) fn get_ex(request: &Request<'_>) -> Result<Command, String> {
    let (key, option) = (argument(request, 1), argument(request, 2));
    let when = match (request.len(), Unit::of_option(option)) {
        // It changes nothing.
        (2, _) => return Ok(Command::Read(encode(Operation::Get, [key].into_iter()))),
        (3, _) if option.eq_ignore_ascii_case(b"PERSIST") => Expiration::Never,
        (4, Some(unit)) => unit.parse(argument(request, 3), "getex", Past::Refused)?,
        _ => return Err("ERR syntax error".to_owned()),
    };
    Ok(Command::Write(encode(Operation::GetEx, [key, &when.encode()].into_iter())))
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`.
pub(super) fn expire(request: &Request<'_>) -> Result<Command, String> {
    expire_in(request, Seconds, "expire")
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`.
pub(super) fn pexpire(request: &Request<'_>) -> Result<Command, String> {
    expire_in(request, Milliseconds, "pexpire")
}

/// `EXPIREAT key unix-time-seconds [NX | XX | GT | LT]`.
pub(super) fn expire_at(request: &Request<'_>) -> Result<Command, String> {
    expire_in(request, UnixSeconds, "expireat")
}

/// `PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]`.
pub(super) fn pexpire_at(request: &Request<'_>) -> Result<Command, String> {
    expire_in(request, UnixMilliseconds, "pexpireat")
}

/// Parses the variants of `EXPIRE`. A time that has passed removes the key.
fn expire_in(request: &Request<'_>, unit: Unit, command: &str) -> Result<Command, String> {
    let mut asked = 0;
    for option in request.arguments_from(3) {
        asked |= match option.to_ascii_uppercase().as_slice() {
            b"NX" => conditions::NX,
            b"XX" => conditions::XX,
            b"GT" => conditions::GT,
            b"LT" => conditions::LT,
            _ => return Err(format!("ERR Unsupported option {}", option.escape_ascii())),
        };
    }
    if asked & conditions::NX != 0 && asked != conditions::NX {
        return Err(
            "ERR NX and XX, GT or LT options at the same time are not compatible".to_owned()
        );
    }
    if asked & conditions::GT != 0 && asked & conditions::LT != 0 {
        return Err("ERR GT and LT options at the same time are not compatible".to_owned());
    }
    let when = unit.parse(argument(request, 2), command, Past::Allowed)?;
    Ok(Command::Write(encode(
        Operation::Expire,
        [argument(request, 1), &when.encode(), &[asked]].into_iter(),
    )))
}

/// `TTL key`.
pub(super) fn ttl(request: &Request<'_>) -> Result<Command, String> {
    Ok(ttl_in(request, 0))
}

/// `PTTL key`.
pub(super) fn pttl(request: &Request<'_>) -> Result<Command, String> {
    Ok(ttl_in(request, ttl_form::MS))
}

/// `EXPIRETIME key`.
pub(super) fn expire_time(request: &Request<'_>) -> Result<Command, String> {
    Ok(ttl_in(request, ttl_form::ABSOLUTE))
}

/// `PEXPIRETIME key`.
pub(super) fn pexpire_time(request: &Request<'_>) -> Result<Command, String> {
    Ok(ttl_in(request, ttl_form::ABSOLUTE | ttl_form::MS))
}

fn ttl_in(request: &Request<'_>, form: u8) -> Command {
    Command::Read(encode(Operation::Ttl, [argument(request, 1), &[form]].into_iter()))
}
