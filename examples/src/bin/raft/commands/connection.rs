//! Parsers of the commands about a connection and about this node.

use crate::resp::{Protocol, Request};

use super::{
    Command, LocalCommand, argument,
    manual::{ListFilter, Question},
};

/// `PING [message]`.
pub(super) fn ping(request: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Local(LocalCommand::Ping(request.get(1).map(<[u8]>::to_vec))))
}

/// `ECHO message`.
pub(super) fn echo(request: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Local(LocalCommand::Echo(argument(request, 1).to_vec())))
}

/// `INFO [section ...]`.
pub(super) fn info(request: &Request<'_>) -> Result<Command, String> {
    let sections =
        request.arguments_from(1).map(|section| String::from_utf8_lossy(section).to_lowercase());
    Ok(Command::Local(LocalCommand::Info(sections.collect())))
}

/// `HELLO [2 | 3]`.
pub(super) fn hello(request: &Request<'_>) -> Result<Command, String> {
    match request.get(1) {
        None => Ok(Command::Local(LocalCommand::Hello(None))),
        Some(b"2") => Ok(Command::Local(LocalCommand::Hello(Some(Protocol::Resp2)))),
        Some(b"3") => Ok(Command::Local(LocalCommand::Hello(Some(Protocol::Resp3)))),
        Some(_) => {
            Err("NOPROTO unsupported protocol version: this server speaks RESP2 and RESP3"
                .to_owned())
        }
    }
}

/// `SELECT index`.
pub(super) fn select(request: &Request<'_>) -> Result<Command, String> {
    match argument(request, 1) {
        b"0" => Ok(Command::Local(LocalCommand::Ok)),
        _ => Err("ERR DB index is out of range: there is database 0 only".to_owned()),
    }
}

/// `QUIT`.
pub(super) fn quit(_: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Local(LocalCommand::Quit))
}

/// `CLIENT SETNAME` and `CLIENT SETINFO`: accepted, without effect.
pub(super) fn ok(_: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Local(LocalCommand::Ok))
}

/// `CLIENT ID`.
pub(super) fn client_id(_: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Local(LocalCommand::ClientId))
}

/// `CONFIG GET pattern [pattern ...]`.
pub(super) fn config_get(_: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Local(LocalCommand::EmptyMap))
}

/// `RAFT MEMBERS`.
pub(super) fn members(_: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Local(LocalCommand::Members))
}

/// The words after a subcommand of `COMMAND`.
fn words(request: &Request<'_>) -> Vec<Vec<u8>> {
    request.arguments_from(2).map(<[u8]>::to_vec).collect()
}

/// `COMMAND`.
pub(super) fn command(_: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Local(LocalCommand::Manual(Question::All)))
}

/// `COMMAND COUNT`.
pub(super) fn command_count(_: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Local(LocalCommand::Manual(Question::Count)))
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`.
pub(super) fn command_list(request: &Request<'_>) -> Result<Command, String> {
    let [filter_by, kind] = [2, 3].map(|at| argument(request, at).to_ascii_uppercase());
    let filter = match (request.len(), filter_by.as_slice(), kind.as_slice()) {
        (2, ..) => ListFilter::All,
        (5, b"FILTERBY", b"PATTERN") => {
            ListFilter::Pattern(argument(request, 4).to_ascii_lowercase())
        }
        (5, b"FILTERBY", b"MODULE" | b"ACLCAT") => ListFilter::Nothing,
        _ => return Err("ERR syntax error".to_owned()),
    };
    Ok(Command::Local(LocalCommand::Manual(Question::List(filter))))
}

/// `COMMAND INFO [name ...]`.
pub(super) fn command_info(request: &Request<'_>) -> Result<Command, String> {
    let names = words(request);
    let question = if names.is_empty() { Question::All } else { Question::Info(names) };
    Ok(Command::Local(LocalCommand::Manual(question)))
}

/// `COMMAND DOCS [name ...]`.
pub(super) fn command_docs(request: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Local(LocalCommand::Manual(Question::Docs(words(request)))))
}

/// `COMMAND GETKEYS command argument [argument ...]`.
pub(super) fn command_get_keys(request: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Local(LocalCommand::Manual(Question::GetKeys(words(request)))))
}

/// `HELP` of a command with subcommands.
pub(super) fn help(request: &Request<'_>) -> Result<Command, String> {
    Ok(Command::Local(LocalCommand::Manual(Question::Help(argument(request, 0).to_vec()))))
}
