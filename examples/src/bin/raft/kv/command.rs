//! What a client may ask, by the names and rules of Redis.

use bytes::Bytes;
use kodiak_raft::replica::Admin;

use super::{
    expiry_command::{
        Unit::{Milliseconds, Seconds, UnixMilliseconds, UnixSeconds},
        expire, get_ex, set, set_for, set_with, ttl,
    },
    operation::{Operation, encode, set_flags},
    store::parse_integer,
};
use crate::{
    membership,
    resp::{Protocol, Request},
};

/// What a request comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Changes the store: goes through the log.
    Write(Bytes),
    /// Looks at the store: needs a read index.
    Read(Bytes),
    /// Changes the cluster itself: goes to the leader.
    Admin(Admin),
    /// Answered by this node alone.
    Local(Local),
    /// Begins or ends a transaction.
    Transaction(Bracket),
    /// Refused; the text starts with the error's code.
    Refused(String),
}

/// The beginning or an end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bracket {
    /// `MULTI`.
    Multi,
    /// `EXEC`.
    Exec,
    /// `DISCARD`.
    Discard,
}

/// What a node answers by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// `PING`, with what it shall say.
    Ping(Option<Vec<u8>>),
    /// `ECHO`.
    Echo(Vec<u8>),
    /// `INFO`, with the sections asked for (lower case); all if none.
    Info(Vec<String>),
    /// `RAFT MEMBERS`.
    Members,
    /// `CLIENT`, `SELECT 0`: accepted, without effect.
    Ok,
    /// `HELLO`: what kind of server this is, from now on in this protocol if one is named.
    Hello(Option<Protocol>),
    /// `COMMAND`: nothing to tell.
    EmptyArray,
    /// `CONFIG GET`: nothing to tell.
    EmptyMap,
    /// `SCAN` for a type that there is not.
    EmptyScan,
    /// `COMMAND COUNT`.
    Number(i64),
    /// `CLIENT ID`: the connection's number.
    ClientId,
    /// `QUIT`.
    Quit,
}

/// How many arguments a command takes, its name included.
enum Arity {
    Exactly(usize),
    AtLeast(usize),
}

use Arity::{AtLeast, Exactly};

type Parser = fn(&Request<'_>) -> Result<Command, String>;

/// The commands, in the order of how often they are asked.
const COMMANDS: &[(&str, Arity, Parser)] = &[
    ("GET", Exactly(2), |request| read(Operation::Get, request)),
    ("SET", AtLeast(3), set),
    ("DEL", AtLeast(2), |request| write(Operation::Del, request)),
    ("UNLINK", AtLeast(2), |request| write(Operation::Del, request)),
    ("INCR", Exactly(2), |request| step(request, Some(1))),
    ("EXISTS", AtLeast(2), |request| read(Operation::Exists, request)),
    ("PING", AtLeast(1), ping),
    ("DECR", Exactly(2), |request| step(request, Some(-1))),
    ("INCRBY", Exactly(3), |request| step(request, amount(request))),
    ("DECRBY", Exactly(3), |request| match amount(request) {
        // It has no opposite.
        Some(i64::MIN) => Err("ERR decrement would overflow".to_owned()),
        amount => step(request, amount.map(|amount| -amount)),
    }),
    ("APPEND", Exactly(3), |request| write(Operation::Append, request)),
    ("STRLEN", Exactly(2), |request| read(Operation::StrLen, request)),
    ("MGET", AtLeast(2), |request| read(Operation::MGet, request)),
    ("EXPIRE", AtLeast(3), |request| expire(request, Seconds)),
    ("TTL", Exactly(2), |request| ttl(request, Seconds)),
    ("SETEX", Exactly(4), |request| set_for(request, Seconds)),
    ("MSET", AtLeast(3), |request| pairs(request, "MSET", Operation::MSet)),
    ("MSETNX", AtLeast(3), |request| pairs(request, "MSETNX", Operation::MSetNx)),
    ("SETNX", Exactly(3), |request| {
        Ok(set_with(request, 2, set_flags::IF_ABSENT | set_flags::AS_NUMBER, None))
    }),
    ("GETSET", Exactly(3), |request| Ok(set_with(request, 2, set_flags::GET, None))),
    ("PSETEX", Exactly(4), |request| set_for(request, Milliseconds)),
    ("GETEX", AtLeast(2), get_ex),
    ("PEXPIRE", AtLeast(3), |request| expire(request, Milliseconds)),
    ("EXPIREAT", AtLeast(3), |request| expire(request, UnixSeconds)),
    ("PEXPIREAT", AtLeast(3), |request| expire(request, UnixMilliseconds)),
    ("PERSIST", Exactly(2), |request| write(Operation::Persist, request)),
    ("PTTL", Exactly(2), |request| ttl(request, Milliseconds)),
    ("EXPIRETIME", Exactly(2), |request| ttl(request, UnixSeconds)),
    ("PEXPIRETIME", Exactly(2), |request| ttl(request, UnixMilliseconds)),
    ("TYPE", Exactly(2), |request| read(Operation::Type, request)),
    ("SCAN", AtLeast(2), scan),
    ("KEYS", Exactly(2), |request| read(Operation::Keys, request)),
    ("TOUCH", AtLeast(2), |request| read(Operation::Exists, request)),
    ("RENAME", Exactly(3), |request| Ok(rename(request, 0))),
    ("RENAMENX", Exactly(3), |request| Ok(rename(request, set_flags::IF_ABSENT))),
    ("GETDEL", Exactly(2), |request| write(Operation::GetDel, request)),
    ("DBSIZE", Exactly(1), |request| read(Operation::DbSize, request)),
    ("FLUSHALL", AtLeast(1), flush),
    ("FLUSHDB", AtLeast(1), flush),
    ("MULTI", Exactly(1), |_| Ok(Command::Transaction(Bracket::Multi))),
    ("EXEC", Exactly(1), |_| Ok(Command::Transaction(Bracket::Exec))),
    ("DISCARD", Exactly(1), |_| Ok(Command::Transaction(Bracket::Discard))),
    ("ECHO", Exactly(2), |request| Ok(Command::Local(Local::Echo(argument(request, 1).to_vec())))),
    ("INFO", AtLeast(1), |request| {
        let sections =
            request.from(1).map(|section| String::from_utf8_lossy(section).to_lowercase());
        Ok(Command::Local(Local::Info(sections.collect())))
    }),
    ("RAFT", AtLeast(1), membership::request::understand),
    ("HELLO", AtLeast(1), hello),
    ("CLIENT", AtLeast(2), client),
    ("SELECT", Exactly(2), |request| match argument(request, 1) {
        b"0" => Ok(Command::Local(Local::Ok)),
        _ => Err("ERR DB index is out of range: there is database 0 only".to_owned()),
    }),
    ("COMMAND", AtLeast(1), |request| {
        let is_count = request.get(1).is_some_and(|what| what.eq_ignore_ascii_case(b"COUNT"));
        Ok(Command::Local(if is_count {
            Local::Number(COMMANDS.len() as i64)
        } else {
            Local::EmptyArray
        }))
    }),
    ("AUTH", AtLeast(2), |_| Err("ERR this server has no passwords: leave AUTH out".to_owned())),
    ("CONFIG", AtLeast(2), |request| {
        if argument(request, 1).eq_ignore_ascii_case(b"GET") {
            Ok(Command::Local(Local::EmptyMap))
        } else {
            Err("ERR settings are flags of 'raft serve'; CONFIG can only GET, and has nothing to tell".to_owned())
        }
    }),
    ("QUIT", AtLeast(1), |_| Ok(Command::Local(Local::Quit))),
];

/// Understands a request. `None`: the command is not known.
pub(crate) fn understand(request: &Request<'_>) -> Option<Command> {
    let name = request.get(0)?;
    let (name, arity, parse) =
        COMMANDS.iter().find(|(known, ..)| name.eq_ignore_ascii_case(known.as_bytes()))?;
    let fits = match *arity {
        Exactly(count) => request.len() == count,
        AtLeast(count) => request.len() >= count,
    };
    if !fits {
        return Some(Command::Refused(wrong_number(name)));
    }
    Some(parse(request).unwrap_or_else(Command::Refused))
}

/// The error for a command that is not known, with the beginning of what was sent.
pub(crate) fn unknown(request: &Request<'_>) -> String {
    let shown =
        |argument: &[u8]| String::from_utf8_lossy(&argument[..argument.len().min(64)]).into_owned();
    let name = request.get(0).map(shown).unwrap_or_default();
    let arguments: Vec<String> =
        request.from(1).take(4).map(|argument| format!("'{}'", shown(argument))).collect();
    format!("ERR unknown command '{name}', with args beginning with: {}", arguments.join(" "))
}

fn wrong_number(name: &str) -> String {
    format!("ERR wrong number of arguments for '{}' command", name.to_lowercase())
}

/// An argument that the arity has promised.
pub(super) fn argument<'a>(request: &Request<'a>, at: usize) -> &'a [u8] {
    request.get(at).unwrap_or_default()
}

fn read(operation: Operation, request: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Read(encode(operation, request.from(1))))
}

fn write(operation: Operation, request: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Write(encode(operation, request.from(1))))
}

fn pairs(request: &Request<'_>, name: &str, operation: Operation) -> Result<Command, String> {
    if request.len().is_multiple_of(2) {
        Err(wrong_number(name))
    } else {
        write(operation, request)
    }
}

fn rename(request: &Request<'_>, flags: u8) -> Command {
    Command::Write(encode(
        Operation::Rename,
        [argument(request, 1), argument(request, 2), &[flags]].into_iter(),
    ))
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`.
fn scan(request: &Request<'_>) -> Result<Command, String> {
    const COUNT: u32 = 10;
    let text = |bytes| str::from_utf8(bytes).ok();
    let cursor: u64 = text(argument(request, 1))
        .and_then(|cursor| cursor.parse().ok())
        .ok_or("ERR invalid cursor")?;
    let (mut count, mut pattern, mut is_other_type) = (COUNT, &b"*"[..], false);
    let mut options = request.from(2);
    while let Some(option) = options.next() {
        let value = options.next().ok_or("ERR syntax error")?;
        match option.to_ascii_uppercase().as_slice() {
            b"MATCH" => pattern = value,
            b"COUNT" => match parse_integer(value) {
                Some(asked @ 1..) => count = u32::try_from(asked).unwrap_or(u32::MAX),
                Some(_) => return Err("ERR syntax error".to_owned()),
                None => return Err("ERR value is not an integer or out of range".to_owned()),
            },
            b"TYPE" if value.eq_ignore_ascii_case(b"string") => {}
            b"TYPE" => is_other_type = true,
            _ => return Err("ERR syntax error".to_owned()),
        }
    }
    if is_other_type {
        // There are strings only, so this scan has seen everything.
        return Ok(Command::Local(Local::EmptyScan));
    }
    let arguments = [&cursor.to_le_bytes()[..], &count.to_le_bytes(), pattern];
    Ok(Command::Read(encode(Operation::Scan, arguments.into_iter())))
}

fn amount(request: &Request<'_>) -> Option<i64> {
    parse_integer(argument(request, 2))
}

fn step(request: &Request<'_>, amount: Option<i64>) -> Result<Command, String> {
    let amount = amount.ok_or("ERR value is not an integer or out of range")?.to_string();
    Ok(Command::Write(encode(
        Operation::IncrBy,
        [argument(request, 1), amount.as_bytes()].into_iter(),
    )))
}

/// `FLUSHALL [ASYNC | SYNC]`. Whoever gives something else may have meant another command, and
/// nothing brings the keys back.
fn flush(request: &Request<'_>) -> Result<Command, String> {
    let is_known = |option: &[u8]| {
        option.eq_ignore_ascii_case(b"ASYNC") || option.eq_ignore_ascii_case(b"SYNC")
    };
    if request.len() > 2 || !request.from(1).all(is_known) {
        return Err("ERR syntax error".to_owned());
    }
    Ok(Command::Write(encode(Operation::FlushAll, [].into_iter())))
}

fn ping(request: &Request<'_>) -> Result<Command, String> {
    match request.len() {
        1 | 2 => Ok(Command::Local(Local::Ping(request.get(1).map(<[u8]>::to_vec)))),
        _ => Err(wrong_number("PING")),
    }
}

fn hello(request: &Request<'_>) -> Result<Command, String> {
    match request.get(1) {
        None => Ok(Command::Local(Local::Hello(None))),
        Some(b"2") => Ok(Command::Local(Local::Hello(Some(Protocol::Resp2)))),
        Some(b"3") => Ok(Command::Local(Local::Hello(Some(Protocol::Resp3)))),
        Some(_) => {
            Err("NOPROTO unsupported protocol version: this server speaks RESP2 and RESP3"
                .to_owned())
        }
    }
}

fn client(request: &Request<'_>) -> Result<Command, String> {
    let what = argument(request, 1);
    match what {
        _ if what.eq_ignore_ascii_case(b"ID") => Ok(Command::Local(Local::ClientId)),
        _ if what.eq_ignore_ascii_case(b"SETNAME") || what.eq_ignore_ascii_case(b"SETINFO") => {
            Ok(Command::Local(Local::Ok))
        }
        _ => Err(format!(
            "ERR unknown subcommand '{}' of CLIENT: try ID, SETNAME or SETINFO",
            what.escape_ascii()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::RequestReader;

    fn ask(line: &str) -> Option<Command> {
        let input = format!("{line}\r\n");
        let mut reader = RequestReader::new(4096);
        let request = reader.read(input.as_bytes()).unwrap().unwrap();
        understand(&request)
    }

    fn refused(line: &str) -> String {
        match ask(line) {
            Some(Command::Refused(error)) => error,
            other => panic!("{line} came to {other:?}"),
        }
    }

    #[test]
    fn names_are_taken_in_any_case() {
        assert_eq!(ask("get k"), ask("GET k"));
        assert!(matches!(ask("GeT k"), Some(Command::Read(_))));
        assert!(matches!(ask("set k v"), Some(Command::Write(_))));
        assert_eq!(ask("nonsense 1 2"), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_in_redis_words() {
        assert_eq!(refused("GET"), "ERR wrong number of arguments for 'get' command");
        assert_eq!(refused("MSET a 1 b"), "ERR wrong number of arguments for 'mset' command");
        assert_eq!(refused("INCRBY k x"), "ERR value is not an integer or out of range");
        assert_eq!(refused("DECRBY k x"), "ERR value is not an integer or out of range");
        assert_eq!(refused("DECRBY k -9223372036854775808"), "ERR decrement would overflow");
        assert_eq!(refused("FLUSHALL users"), "ERR syntax error");
        assert_eq!(refused("FLUSHDB SYNC ASYNC"), "ERR syntax error");
        assert!(matches!(ask("FLUSHALL async"), Some(Command::Write(_))));
        for syntax in [
            "SET k v NX XX",
            "SET k v EX",
            "SET k v EX 5 PX 5",
            "SET k v KEEPTTL EX 5",
            "SET k v NO",
            "GETEX k EX",
            "GETEX k NO 1",
        ] {
            assert_eq!(refused(syntax), "ERR syntax error", "{syntax}");
        }
        for (line, command) in [
            ("SET k v EX 0", "set"),
            ("SET k v PX -1", "set"),
            ("SET k v EX 9223372036854775807", "set"),
            ("SET k v PX 9223372036854775807", "set"),
            ("SET k v EXAT 9223372036854775807", "set"),
            ("SET k v PXAT 0", "set"),
            ("SETEX k 0 v", "setex"),
            ("GETEX k PX 0", "getex"),
            ("EXPIRE k 9223372036854775807", "expire"),
        ] {
            assert_eq!(refused(line), format!("ERR invalid expire time in '{command}' command"));
        }
        for fine in [
            "SET k v PX 4611686018427387904",
            "SET k v PXAT 9223372036854775807",
            "PEXPIREAT k -9223372036854775808",
        ] {
            assert!(matches!(ask(fine), Some(Command::Write(_))), "{fine}");
        }
        for syntax in ["SCAN 0 MATCH", "SCAN 0 COUNT 0", "SCAN 0 NO 1"] {
            assert_eq!(refused(syntax), "ERR syntax error", "{syntax}");
        }
        assert_eq!(refused("SCAN x"), "ERR invalid cursor");
        assert_eq!(ask("SCAN 0 TYPE hash"), Some(Command::Local(Local::EmptyScan)));
        assert_eq!(ask("scan 0 type STRING match * count 10"), ask("SCAN 0"));
        assert_eq!(refused("SET k v EX x"), "ERR value is not an integer or out of range");
        assert!(refused("EXPIRE k 1 NX XX").contains("not compatible"));
        assert!(refused("EXPIRE k 1 GT LT").contains("not compatible"));
        assert_eq!(refused("EXPIRE k 1 NO"), "ERR Unsupported option NO");
        assert_eq!(
            refused("EXPIRE k x NO"),
            "ERR Unsupported option NO",
            "options are looked at first"
        );
        assert!(matches!(ask("EXPIRE k -1 gt xx"), Some(Command::Write(_))));
        assert!(matches!(ask("GETEX k"), Some(Command::Read(_))));
        assert!(matches!(ask("GETEX k PERSIST"), Some(Command::Write(_))));
        assert_eq!(refused("MSETNX a 1 b"), "ERR wrong number of arguments for 'msetnx' command");
        assert!(refused("HELLO 4").starts_with("NOPROTO"));
        assert!(refused("SELECT 1").starts_with("ERR DB index"));
    }

    #[test]
    fn an_unknown_command_is_named() {
        let mut reader = RequestReader::new(4096);
        let request = reader.read(b"FOO bar baz\r\n").unwrap().unwrap();
        assert_eq!(
            unknown(&request),
            "ERR unknown command 'FOO', with args beginning with: 'bar' 'baz'"
        );
    }
}
