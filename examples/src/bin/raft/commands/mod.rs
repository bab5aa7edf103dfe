//! What a client may ask, by the names and rules of Redis.
//!
//! ```text
//! request -> table: the row by its name -> arity -> the row's parser -> Command
//! ```
//! A command is a row of the [`table`], the parser that the row names, and for a command on keys an
//! [`Operation`](crate::kv::operation::Operation) with its effect. `COMMAND`, `HELP`, `raft
//! commands` and README's list are made from the rows ([`manual`]).
//!
//! A new command that an existing operation can carry out is a row of the table. Any other one also
//! needs a row in [`kv::operation`](crate::kv::operation) and a function in `kv::effect`. Then
//! `raft commands --markdown` prints README's list.

pub(crate) mod cli;
mod connection;
mod expiry;
mod keys;
pub(crate) mod manual;
mod row;
mod table;

use bytes::Bytes;
use kodiak_raft::replica::AdminRequest;

use crate::resp::{Protocol, Request};

use row::CommandRow;

/// A request that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Changes the store: goes through the log.
    Write(Bytes),
    /// Reads the store: needs a read index.
    Read(Bytes),
    /// Changes the cluster itself: goes to the leader.
    Admin(AdminRequest),
    /// Answered by this node alone.
    Local(LocalCommand),
    /// Begins or ends a transaction.
    Transaction(TransactionCommand),
    /// Refused; the text starts with the error's code.
    Refused(String),
}

/// What begins or ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionCommand {
    Multi,
    Exec,
    Discard,
}

/// A command that a node answers by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LocalCommand {
    /// `PING`, with the text to answer with.
    Ping(Option<Vec<u8>>),
    Echo(Vec<u8>),
    /// `INFO`, with the sections asked for (lower case); all if none.
    Info(Vec<String>),
    /// `RAFT MEMBERS`.
    Members,
    /// Accepted, without effect: `CLIENT SETNAME`, `SELECT 0`.
    Ok,
    /// `HELLO`: describes this server; if a protocol is named, the connection changes to it.
    Hello(Option<Protocol>),
    /// `COMMAND` and its subcommands.
    Manual(manual::Question),
    /// `CONFIG GET`: there are no settings.
    EmptyMap,
    /// `SCAN` for a type that the store does not have.
    EmptyScan,
    /// `CLIENT ID`: the connection's number.
    ClientId,
    Quit,
}

/// Finds a request's command and parses its arguments. `None`: the command is not known.
pub(crate) fn parse(request: &Request<'_>) -> Option<Command> {
    let row = table::find(request.get(0)?)?;
    let parsed = match request.get(1) {
        Some(name) if !row.subcommands.is_empty() => match row.subcommand(name) {
            Some(subcommand) => subcommand.parse(request),
            None => Err(unknown_subcommand(row, name)),
        },
        _ => row.parse(request),
    };
    Some(parsed.unwrap_or_else(Command::Refused))
}

#[cold]
fn unknown_subcommand(row: &CommandRow, name: &[u8]) -> String {
    format!("ERR unknown subcommand '{}'. Try {} HELP.", shorten(name), row.name)
}

/// The error for a command that is not known, with the beginning of what was sent.
pub(crate) fn unknown_command(request: &Request<'_>) -> String {
    let name = request.get(0).map(shorten).unwrap_or_default();
    let arguments: Vec<String> = request
        .arguments_from(1)
        .take(4)
        .map(|argument| format!("'{}'", shorten(argument)))
        .collect();
    format!("ERR unknown command '{name}', with args beginning with: {}", arguments.join(" "))
}

/// The beginning of an argument, for an error.
fn shorten(argument: &[u8]) -> String {
    String::from_utf8_lossy(&argument[..argument.len().min(64)]).into_owned()
}

/// An argument that the arity guarantees.
pub(crate) fn argument<'a>(request: &Request<'a>, at: usize) -> &'a [u8] {
    request.get(at).unwrap_or_default()
}

#[cfg(test)]
mod tests;
