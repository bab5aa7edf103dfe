//! A row of the table: all that is known of one command.

use crate::{
    kv::operation::{Keys, Operation, encode},
    resp::Request,
};

use super::{Command, TransactionCommand};

/// Number of words of a request, the command's name included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arity {
    Exactly(usize),
    AtLeast(usize),
    Between(usize, usize),
}

impl Arity {
    fn allows(self, words: usize) -> bool {
        match self {
            Arity::Exactly(count) => words == count,
            Arity::AtLeast(least) => words >= least,
            Arity::Between(least, most) => (least..=most).contains(&words),
        }
    }

    /// As Redis writes it: the number, or the negative of the least one.
    pub(super) fn as_redis(self) -> i64 {
        match self {
            Arity::Exactly(count) => count as i64,
            Arity::AtLeast(least) | Arity::Between(least, _) => -(least as i64),
        }
    }
}

/// Understands the arguments of a request whose arity fits. The error starts with its code.
pub(super) type Parser = fn(&Request<'_>) -> Result<Command, String>;

/// What a request becomes.
#[derive(Clone, Copy)]
pub(super) enum Meaning {
    /// This operation, with the request's arguments as they are.
    AsIs(Operation),
    /// One of these operations, encoded by the parser.
    OneOf(&'static [Operation], Parser),
    /// A change of the cluster.
    Admin(Parser),
    /// An answer by this node alone.
    Local(Parser),
    /// The beginning or the end of a transaction.
    Transaction(TransactionCommand),
    /// Always this error. The row exists for its text only, and no list shows it.
    Refused(&'static str),
    /// Nothing: the subcommands have the meaning.
    InSubcommands,
}

/// A command.
pub(super) struct CommandRow {
    /// Its name in upper case; a subcommand's name follows its command's: `CLIENT ID`.
    pub(super) name: &'static str,
    /// Its arguments, as Redis' manual writes them: `key [key ...]`.
    pub(super) arguments: &'static str,
    pub(super) arity: Arity,
    /// A line of manual.
    pub(super) summary: &'static str,
    pub(super) meaning: Meaning,
    pub(super) subcommands: &'static [CommandRow],
}

/// The command `name`, which takes `arguments`. What it means is set by the functions below.
pub(super) const fn row(
    name: &'static str,
    arguments: &'static str,
    arity: Arity,
    summary: &'static str,
) -> CommandRow {
    let meaning = Meaning::InSubcommands;
    CommandRow { name, arguments, arity, summary, meaning, subcommands: &[] }
}

impl CommandRow {
    pub(super) const fn becomes(mut self, operation: Operation) -> CommandRow {
        self.meaning = Meaning::AsIs(operation);
        self
    }

    pub(super) const fn becomes_one_of(
        mut self,
        operations: &'static [Operation],
        parser: Parser,
    ) -> CommandRow {
        self.meaning = Meaning::OneOf(operations, parser);
        self
    }

    pub(super) const fn admin(mut self, parser: Parser) -> CommandRow {
        self.meaning = Meaning::Admin(parser);
        self
    }

    pub(super) const fn local(mut self, parser: Parser) -> CommandRow {
        self.meaning = Meaning::Local(parser);
        self
    }

    pub(super) const fn transaction(mut self, command: TransactionCommand) -> CommandRow {
        self.meaning = Meaning::Transaction(command);
        self
    }

    pub(super) const fn refused(mut self, error: &'static str) -> CommandRow {
        self.meaning = Meaning::Refused(error);
        self
    }

    pub(super) const fn with(mut self, subcommands: &'static [CommandRow]) -> CommandRow {
        self.subcommands = subcommands;
        self
    }

    /// Whether neither the row nor its subcommands say what the command means.
    pub(super) const fn lacks_meaning(&self) -> bool {
        matches!(self.meaning, Meaning::InSubcommands) && self.subcommands.is_empty()
    }

    /// The subcommand of this name, in any case.
    pub(super) fn subcommand(&self, name: &[u8]) -> Option<&'static CommandRow> {
        self.subcommands.iter().find(|row| name.eq_ignore_ascii_case(row.own_name().as_bytes()))
    }

    /// The name without its command's: `ID` of `CLIENT ID`.
    pub(super) fn own_name(&self) -> &'static str {
        self.name.rsplit_once(' ').map_or(self.name, |(_, name)| name)
    }

    /// The name as Redis' errors and `COMMAND` write it: `client|id`.
    pub(super) fn redis_name(&self) -> String {
        self.name.to_lowercase().replace(' ', "|")
    }

    /// Name and arguments.
    pub(super) fn usage(&self) -> String {
        format!("{} {}", self.name, self.arguments).trim_end().to_owned()
    }

    /// Whether lists show it.
    pub(super) fn is_listed(&self) -> bool {
        !matches!(self.meaning, Meaning::Refused(_))
    }

    #[inline]
    pub(super) fn parse(&self, request: &Request<'_>) -> Result<Command, String> {
        if !self.arity.allows(request.len()) {
            return Err(self.wrong_number_of_arguments());
        }
        match self.meaning {
            Meaning::AsIs(operation) => Ok(command(operation, request.from(1))),
            Meaning::OneOf(_, parser) | Meaning::Admin(parser) | Meaning::Local(parser) => {
                parser(request)
            }
            Meaning::Transaction(command) => Ok(Command::Transaction(command)),
            Meaning::Refused(error) => Err(error.to_owned()),
            Meaning::InSubcommands => Err(self.wrong_number_of_arguments()),
        }
    }

    #[cold]
    fn wrong_number_of_arguments(&self) -> String {
        wrong_number_of_arguments(&self.redis_name())
    }

    /// The operations that it can become.
    pub(super) fn operations(&self) -> &[Operation] {
        match &self.meaning {
            Meaning::AsIs(operation) => std::slice::from_ref(operation),
            Meaning::OneOf(operations, _) => operations,
            Meaning::Admin(_)
            | Meaning::Local(_)
            | Meaning::Transaction(_)
            | Meaning::Refused(_)
            | Meaning::InSubcommands => &[],
        }
    }

    /// Its flags, as `COMMAND` names them.
    pub(super) fn flags(&self) -> &'static [&'static str] {
        match self.meaning {
            Meaning::AsIs(_) | Meaning::OneOf(..) => {
                if self.operations().iter().all(|operation| operation.is_read()) {
                    &["readonly"]
                } else {
                    &["write"]
                }
            }
            Meaning::Admin(_) => &["admin"],
            // Answered while the node restores a snapshot or has no leader, too.
            Meaning::Local(_) => &["loading", "stale"],
            Meaning::Transaction(_) | Meaning::Refused(_) | Meaning::InSubcommands => &[],
        }
    }

    /// Which words of a request are keys, as `COMMAND` writes it: the first, the last (-1: of the
    /// request), and the step between two.
    pub(super) fn key_positions(&self) -> [i64; 3] {
        match self.operations().first().map(|operation| operation.row().keys) {
            Some(Keys::First) => [1, 1, 1],
            Some(Keys::FirstTwo) => [1, 2, 1],
            Some(Keys::All) => [1, -1, 1],
            Some(Keys::EveryOther) => [1, -1, 2],
            Some(Keys::None | Keys::Keyspace | Keys::Scanned(_)) | None => [0, 0, 0],
        }
    }
}

/// An operation as the command that it is: a write or a read.
pub(super) fn command<'a>(
    operation: Operation,
    arguments: impl Iterator<Item = &'a [u8]> + Clone,
) -> Command {
    let bytes = encode(operation, arguments);
    if operation.is_read() { Command::Read(bytes) } else { Command::Write(bytes) }
}

/// Redis' words for it. `name` is in lower case.
pub(super) fn wrong_number_of_arguments(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}
