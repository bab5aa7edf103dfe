//! What is made from the table: `COMMAND`, `HELP`, `raft commands`, README's list.

use std::fmt::Write;

use bytes::BytesMut;
use redis_protocol::resp2::types::BorrowedFrame;

use crate::{
    kv::Pattern,
    resp::{self, Protocol},
};

use super::{
    row::{CommandRow, Dispatch, KeyPositions},
    table::{GROUPS, find, rows},
};

/// What a client asks about the commands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// `COMMAND`.
    All,
    /// `COMMAND COUNT`.
    Count,
    /// `COMMAND LIST`.
    List(ListFilter),
    /// `COMMAND INFO`, with names.
    Info(Vec<Vec<u8>>),
    /// `COMMAND DOCS`, with names; all if none.
    Docs(Vec<Vec<u8>>),
    /// `COMMAND GETKEYS`, with the words of a request.
    GetKeys(Vec<Vec<u8>>),
    /// `HELP` of a command with subcommands.
    Help(Vec<u8>),
}

/// Which names `COMMAND LIST` returns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ListFilter {
    All,
    /// Those that match a pattern in lower case.
    Pattern(Vec<u8>),
    /// None: there are neither modules nor categories of users' commands.
    Nothing,
}

impl ListFilter {
    fn includes(&self, name: &str) -> bool {
        match self {
            ListFilter::All => true,
            ListFilter::Pattern(pattern) => {
                Pattern::new(pattern, 1, name.len()).matches(name.as_bytes())
            }
            ListFilter::Nothing => false,
        }
    }
}

/// Appends the answer.
pub(crate) fn put_answer(output: &mut BytesMut, question: &Question, protocol: Protocol) {
    match question {
        Question::All => put_list(output, listed(), put_info),
        Question::Count => put_integer(output, listed().count() as i64),
        Question::List(filter) => {
            let names = listed().map(CommandRow::redis_name);
            let names = names.filter(|name| filter.includes(name));
            put_list(output, names, |output, name| put_text(output, &name));
        }
        Question::Info(names) => {
            resp::put_array(output, names.len());
            for name in names {
                match find_by_redis_name(name) {
                    Some(row) => put_info(output, row),
                    None => resp::put_null_array(output, protocol),
                }
            }
        }
        Question::Docs(names) if names.is_empty() => put_docs(output, listed(), protocol),
        Question::Docs(names) => {
            put_docs(output, names.iter().filter_map(|name| find_by_redis_name(name)), protocol);
        }
        Question::GetKeys(words) => match keys_of(words) {
            Ok(keys) => put_list(output, keys.into_iter(), |output, key| {
                resp::put(output, &BorrowedFrame::BulkString(key));
            }),
            Err(error) => resp::put_error(output, error),
        },
        Question::Help(name) => {
            let lines = find(name).map(help).unwrap_or_default();
            put_list(output, lines.iter(), |output, line| {
                resp::put(output, &BorrowedFrame::SimpleString(line.as_bytes()));
            });
        }
    }
}

fn listed() -> impl Iterator<Item = &'static CommandRow> {
    rows().filter(|row| row.is_listed())
}

fn subcommands(row: &CommandRow) -> impl Iterator<Item = &'static CommandRow> {
    row.subcommands.iter().filter(|row| row.is_listed())
}

/// The row that a client means with `get` or `client|id`.
fn find_by_redis_name(name: &[u8]) -> Option<&'static CommandRow> {
    let mut parts = name.splitn(2, |&byte| byte == b'|');
    let row = find(parts.next()?)?;
    let row = match parts.next() {
        Some(subcommand) => row.subcommand(subcommand)?,
        None => row,
    };
    row.is_listed().then_some(row)
}

/// The keys among the words of a request. The errors are Redis'.
fn keys_of(words: &[Vec<u8>]) -> Result<Vec<&[u8]>, &'static str> {
    let row = words.first().and_then(|name| find(name));
    let row = row.filter(|row| row.is_listed()).ok_or("ERR Invalid command specified")?;
    if !row.arity.allows(words.len()) {
        return Err("ERR Invalid number of arguments specified for command");
    }
    match row.keys(words) {
        keys if keys.is_empty() => Err("ERR The command has no key arguments"),
        keys => Ok(keys),
    }
}

fn put_list<T>(
    output: &mut BytesMut,
    items: impl Iterator<Item = T>,
    put: impl Fn(&mut BytesMut, T),
) {
    let items: Vec<T> = items.collect();
    resp::put_array(output, items.len());
    for item in items {
        put(output, item);
    }
}

fn put_text(output: &mut BytesMut, text: &str) {
    resp::put(output, &BorrowedFrame::BulkString(text.as_bytes()));
}

fn put_integer(output: &mut BytesMut, number: i64) {
    resp::put(output, &BorrowedFrame::Integer(number));
}

/// An entry of `COMMAND` as in Redis 7: name, arity, flags, key positions, and subcommands.
///
/// Before the subcommands stand empty lists: there are no users with categories of commands, no
/// tips for proxies, and no keys that their positions do not describe.
fn put_info(output: &mut BytesMut, row: &CommandRow) {
    resp::put_array(output, 10);
    put_text(output, &row.redis_name());
    put_integer(output, row.arity.as_redis());
    put_list(output, row.flags().iter(), |output, flag| {
        resp::put(output, &BorrowedFrame::SimpleString(flag.as_bytes()));
    });
    let KeyPositions { first, last, step } = row.key_positions();
    for number in [first, last, step as i64] {
        put_integer(output, number);
    }
    for _ in 0..3 {
        resp::put_array(output, 0);
    }
    put_list(output, subcommands(row), put_info);
}

/// The answer to `COMMAND DOCS` as in Redis 7: a map from names to maps.
fn put_docs<'a>(
    output: &mut BytesMut,
    rows: impl Iterator<Item = &'a CommandRow>,
    protocol: Protocol,
) {
    let rows: Vec<&CommandRow> = rows.collect();
    resp::put_map(output, rows.len(), protocol);
    for row in rows {
        put_text(output, &row.redis_name());
        let subcommands: Vec<&CommandRow> = subcommands(row).collect();
        let has_arguments = !row.arguments.is_empty();
        let fields = 3 + usize::from(has_arguments) + usize::from(!subcommands.is_empty());
        resp::put_map(output, fields, protocol);
        for (name, text) in [("summary", row.summary), ("group", group_of(row))] {
            put_text(output, name);
            put_text(output, text);
        }
        put_text(output, "arity");
        put_integer(output, row.arity.as_redis());
        if has_arguments {
            // One argument stands for all of them.
            put_text(output, "arguments");
            resp::put_array(output, 1);
            resp::put_map(output, 2, protocol);
            for text in ["name", row.arguments, "type", "string"] {
                put_text(output, text);
            }
        }
        if !subcommands.is_empty() {
            put_text(output, "subcommands");
            put_docs(output, subcommands.into_iter(), protocol);
        }
    }
}

fn group_of(row: &CommandRow) -> &'static str {
    let command = row.name.split(' ').next().unwrap_or_default();
    let group = GROUPS.iter().find(|group| group.rows.iter().any(|row| row.name == command));
    group.map_or("", |group| group.name)
}

/// The lines of `CLIENT HELP` and the like.
fn help(row: &CommandRow) -> Vec<String> {
    let first = format!("{} <subcommand> [<arg> ...]. Subcommands are:", row.name);
    let lines = subcommands(row).flat_map(|row| {
        let usage = format!("{} {}", row.own_name(), row.arguments);
        [usage.trim_end().to_owned(), format!("    {}", row.summary)]
    });
    std::iter::once(first).chain(lines).collect()
}

/// Every command with its arguments and a line of manual, for a terminal.
pub(crate) fn text() -> String {
    let mut text = String::new();
    for group in GROUPS {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", group.name);
        for row in group.rows.iter().filter(|row| row.is_listed()) {
            for row in usable_rows(row) {
                let _ = writeln!(text, "  {}\n      {}", row.usage(), row.summary);
            }
        }
    }
    text
}

/// The command, if it may stand alone, and its subcommands.
fn usable_rows(row: &'static CommandRow) -> impl Iterator<Item = &'static CommandRow> {
    let alone = (!matches!(row.dispatch, Dispatch::Subcommands)).then_some(row);
    alone.into_iter().chain(subcommands(row))
}

/// README's table: the groups, and the names of their commands with their options.
pub(crate) fn markdown() -> String {
    let mut text = String::from("| group | commands |\n|---|---|\n");
    for group in GROUPS {
        let rows = group.rows.iter().filter(|row| row.is_listed());
        let names: Vec<String> = rows.map(|row| format!("`{}`", markdown_name(row))).collect();
        let _ = writeln!(text, "| {} | {} |", group.name, names.join(" "));
    }
    text
}

/// A command's name, with its subcommands or options in brackets: `EXPIRE(NX XX GT LT)`.
fn markdown_name(row: &CommandRow) -> String {
    let subcommands: Vec<&str> = subcommands(row).map(CommandRow::own_name).collect();
    if !subcommands.is_empty() {
        return format!("{}({})", row.name, subcommands.join(" "));
    }
    let words = row.arguments.split(|letter: char| !letter.is_ascii_alphanumeric());
    let options: Vec<&str> =
        words.filter(|word| word.starts_with(|first: char| first.is_ascii_uppercase())).collect();
    if options.is_empty() {
        row.name.to_owned()
    } else {
        format!("{}({})", row.name, options.join(" "))
    }
}
