//! Parsing, and what the rows of the table must keep.

use std::collections::BTreeSet;

use super::{
    row::{Arity, Dispatch},
    *,
};
use crate::{
    kv::operation::{Operation, decode},
    resp::RequestReader,
};

fn ask(line: &str) -> Option<Command> {
    let input = format!("{line}\r\n");
    let mut reader = RequestReader::new(4096);
    let request = reader.read(input.as_bytes()).unwrap().unwrap();
    parse(&request)
}

fn refused(line: &str) -> String {
    match ask(line) {
        Some(Command::Refused(error)) => error,
        other => panic!("{line} became {other:?}"),
    }
}

#[test]
fn names_are_case_insensitive() {
    assert_eq!(ask("get k"), ask("GET k"));
    assert!(matches!(ask("GeT k"), Some(Command::Read(_))));
    assert!(matches!(ask("set k v"), Some(Command::Write(_))));
    assert_eq!(ask("nonsense 1 2"), None);
}

#[test]
fn malformed_commands_are_refused_in_redis_words() {
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
    assert_eq!(ask("SCAN 0 TYPE hash"), Some(Command::Local(LocalCommand::EmptyScan)));
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
        unknown_command(&request),
        "ERR unknown command 'FOO', with args beginning with: 'bar' 'baz'"
    );
}

/// All rows, each behind the command that it belongs to.
fn all_rows() -> impl Iterator<Item = &'static CommandRow> {
    table::rows().flat_map(|row| std::iter::once(row).chain(row.subcommands))
}

/// The arguments that a row's usage demands: those outside of brackets.
fn required_arguments(row: &CommandRow) -> Vec<&'static str> {
    let mut depth = 0;
    let words = row.arguments.split_whitespace().filter(|word| {
        let is_required = depth == 0 && !word.starts_with('[');
        depth += word.matches('[').count();
        depth -= word.matches(']').count();
        is_required
    });
    words.collect()
}

/// A request that fits a row.
fn example(row: &CommandRow) -> String {
    let arguments = required_arguments(row).into_iter().map(|name| match name {
        "key" | "newkey" | "value" | "message" | "name" | "attribute" | "password" | "argument" => {
            "word"
        }
        "index" | "cursor" => "0",
        "pattern" => "*",
        "command" => "get",
        "host:port" => "localhost:1",
        "disk" => "0000000000000000000000000000000a",
        // Most others are numbers. If one is not, the row's test names it.
        _ => "1",
    });
    let words: Vec<&str> = std::iter::once(row.name).chain(arguments).collect();
    words.join(" ")
}

#[test]
fn every_row_is_found_and_parsed_as_it_declares() {
    for row in all_rows() {
        let line = example(row);
        let is_as_declared = match (row.dispatch, ask(&line)) {
            (Dispatch::Operation(_) | Dispatch::OneOf(..), Some(Command::Write(bytes))) => {
                let (operation, _) = decode(&bytes).unwrap();
                row.flags() == ["write"] && row.operations().contains(&operation)
            }
            (Dispatch::Operation(_) | Dispatch::OneOf(..), Some(Command::Read(bytes))) => {
                row.operations().contains(&decode(&bytes).unwrap().0)
            }
            (Dispatch::Admin(_), Some(Command::Admin(_)))
            | (Dispatch::Local(_), Some(Command::Local(_))) => true,
            (Dispatch::Transaction(expected), Some(Command::Transaction(command))) => {
                command == expected
            }
            (Dispatch::Refused(expected), Some(Command::Refused(error))) => error == expected,
            // An unfinished row has neither a dispatch nor subcommands.
            (Dispatch::Subcommands, Some(Command::Refused(error))) => {
                !row.subcommands.is_empty() && error.starts_with("ERR wrong number of arguments")
            }
            _ => false,
        };
        assert!(is_as_declared, "{line} became {:?}", ask(&line));
    }
}

#[test]
fn every_operation_has_a_command() {
    let of_rows = all_rows().flat_map(CommandRow::operations).map(|&operation| operation as u8);
    let of_rows: BTreeSet<u8> = of_rows.collect();
    for &operation in Operation::ALL {
        // The server itself makes these.
        let is_internal =
            matches!(operation, Operation::Exec | Operation::AdvanceTime | Operation::AtLogTime);
        assert_ne!(of_rows.contains(&(operation as u8)), is_internal, "{operation:?}");
    }
}

#[test]
fn every_arity_fits_the_usage_and_is_enforced() {
    for row in all_rows() {
        let line = example(row);
        let words = line.split(' ').count();
        let (least, most) = match row.arity {
            Arity::Exactly(count) => (count, Some(count)),
            Arity::AtLeast(least) => (least, None),
            Arity::Between(least, most) => (least, Some(most)),
        };
        let error = format!("ERR wrong number of arguments for '{}' command", row.redis_name());
        if row.subcommands.is_empty() {
            assert_eq!(words, least, "{}", row.usage());
            let is_exact = matches!(row.arity, Arity::Exactly(_));
            assert!(!(is_exact && row.arguments.contains('[')), "{}", row.usage());
            let more = most.map(|most| format!("{line}{}", " x".repeat(most + 1 - words)));
            if let Some(line) = more {
                assert_eq!(refused(&line), error);
            }
        }
        let one_less = line.rsplit_once(' ').filter(|_| words > row.name.split(' ').count());
        if let Some((line, _)) = one_less {
            assert_eq!(refused(line), error);
        }
    }
    assert_eq!(refused("RAFT"), "ERR wrong number of arguments for 'raft' command");
    assert_eq!(refused("raft promote"), "ERR wrong number of arguments for 'raft|promote' command");
    assert_eq!(refused("RAFT NO"), "ERR unknown subcommand 'NO'. Try RAFT HELP.");
}

#[test]
fn names_are_unique_and_each_row_has_its_manual() {
    let mut names = BTreeSet::new();
    for row in all_rows() {
        assert!(names.insert(row.name), "{} is there twice", row.name);
        assert_eq!(row.name, row.name.to_uppercase());
        assert!(row.summary.ends_with('.') && row.summary.len() <= 80, "{}", row.name);
        for subcommand in row.subcommands {
            assert!(subcommand.name.starts_with(&format!("{} ", row.name)), "{}", subcommand.name);
        }
    }
    for unknown in [
        "",
        " ",
        "G",
        "GETS",
        "GET ",
        " GET",
        "\0GET",
        "ID",
        "CLIENT ID",
        "\u{c7}ET",
        &"GET".repeat(1000),
    ] {
        assert!(table::find(unknown.as_bytes()).is_none(), "{unknown:?}");
    }
}

/// `raft commands --markdown` prints the table that README must have.
#[test]
fn the_readme_lists_the_rows_of_the_table() {
    let readme = include_str!("../../../../../README.md");
    let expected = manual::markdown();
    assert!(readme.contains(&expected), "README.md lacks this table:\n\n{expected}");
}

fn answer(line: &str, protocol: Protocol) -> String {
    let Some(Command::Local(LocalCommand::Manual(question))) = ask(line) else { panic!("{line}") };
    let mut output = bytes::BytesMut::new();
    manual::put_answer(&mut output, &question, protocol);
    String::from_utf8(output.to_vec()).unwrap()
}

#[test]
fn command_answers_as_in_redis() {
    let resp2 = |line: &str| answer(line, Protocol::Resp2);
    let get = "*10\r\n$3\r\nget\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n\
               *0\r\n*0\r\n*0\r\n*0\r\n";
    assert_eq!(resp2("COMMAND INFO get"), format!("*1\r\n{get}"));
    assert_eq!(resp2("COMMAND INFO none"), "*1\r\n*-1\r\n");
    assert_eq!(answer("COMMAND INFO none", Protocol::Resp3), "*1\r\n_\r\n");
    assert!(resp2("COMMAND").contains(get));
    let mset = resp2("COMMAND INFO MSET");
    assert!(mset.contains(":-3\r\n*1\r\n+write\r\n:1\r\n:-1\r\n:2\r\n"), "{mset}");
    let client = resp2("COMMAND INFO client|id");
    assert!(client.starts_with("*1\r\n*10\r\n$9\r\nclient|id\r\n:2\r\n"), "{client}");
    let count: usize = resp2("COMMAND COUNT").trim()[1..].parse().unwrap();
    assert!(resp2("COMMAND LIST").starts_with(&format!("*{count}\r\n")));
    assert!(!resp2("COMMAND LIST").contains("auth"), "it is only refused");
    let getters = resp2("COMMAND LIST FILTERBY pattern GET[DE]*");
    assert_eq!(getters, "*2\r\n$5\r\ngetex\r\n$6\r\ngetdel\r\n");
    assert_eq!(resp2("COMMAND LIST FILTERBY MODULE json"), "*0\r\n");
    assert_eq!(refused("COMMAND LIST x"), "ERR syntax error");
    let docs = answer("COMMAND DOCS get", Protocol::Resp3);
    assert!(docs.starts_with("%1\r\n$3\r\nget\r\n%4\r\n$7\r\nsummary\r\n"), "{docs}");
    assert!(resp2("COMMAND DOCS").starts_with(&format!("*{}\r\n", 2 * count)));
    assert_eq!(resp2("COMMAND GETKEYS mset a 1 b 2"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    assert_eq!(resp2("COMMAND GETKEYS mget a b"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    assert_eq!(resp2("COMMAND GETKEYS rename a b"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    assert_eq!(resp2("COMMAND GETKEYS set a b"), "*1\r\n$1\r\na\r\n");
    for (line, error) in [
        ("COMMAND GETKEYS no a", "-ERR Invalid command specified\r\n"),
        ("COMMAND GETKEYS get a b", "-ERR Invalid number of arguments specified for command\r\n"),
        ("COMMAND GETKEYS client id", "-ERR The command has no key arguments\r\n"),
    ] {
        assert_eq!(resp2(line), error);
    }
    assert!(resp2("raft help").contains("+ADD id host:port disk [level]\r\n"));
}
