//! A row of the table: all that is known of one command.

use crate::{
    kv::operation::{KeySpec, Operation, encode},
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
    pub(super) fn allows(self, words: usize) -> bool {
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

/// Parses the arguments of a request whose arity fits. The error starts with its code.
pub(super) type Parser = fn(&Request<'_>) -> Result<Command, String>;

/// Which words of a request are keys, as `COMMAND` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyPositions {
    /// 0 if no word is a key.
    pub(super) first: i64,
    /// -1 for the request's last word.
    pub(super) last: i64,
    /// From one key to the next.
    pub(super) step: usize,
}

/// How a request becomes a [`Command`].
#[derive(Clone, Copy)]
pub(super) enum Dispatch {
    /// It is this operation, with the same arguments.
    Operation(Operation),
    /// The parser encodes one of these operations.
    OneOf(&'static [Operation], Parser),
    /// The parser returns a change of the cluster.
    Admin(Parser),
    /// The parser returns what this node answers alone.
    Local(Parser),
    /// It begins or ends a transaction.
    Transaction(TransactionCommand),
    /// It is always this error. No list shows the row.
    Refused(&'static str),
    /// Each subcommand has its own.
    Subcommands,
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
    pub(super) dispatch: Dispatch,
    pub(super) subcommands: &'static [CommandRow],
}

/// A row; one of the functions below adds its [`Dispatch`].
pub(super) const fn row(
    name: &'static str,
    arguments: &'static str,
    arity: Arity,
    summary: &'static str,
) -> CommandRow {
    let dispatch = Dispatch::Subcommands;
    CommandRow { name, arguments, arity, summary, dispatch, subcommands: &[] }
}

impl CommandRow {
    pub(super) const fn becomes(mut self, operation: Operation) -> CommandRow {
        self.dispatch = Dispatch::Operation(operation);
        self
    }

    pub(super) const fn becomes_one_of(
        mut self,
        operations: &'static [Operation],
        parser: Parser,
    ) -> CommandRow {
        self.dispatch = Dispatch::OneOf(operations, parser);
        self
    }

    pub(super) const fn admin(mut self, parser: Parser) -> CommandRow {
        self.dispatch = Dispatch::Admin(parser);
        self
    }

    pub(super) const fn local(mut self, parser: Parser) -> CommandRow {
        self.dispatch = Dispatch::Local(parser);
        self
    }

    pub(super) const fn transaction(mut self, command: TransactionCommand) -> CommandRow {
        self.dispatch = Dispatch::Transaction(command);
        self
    }

    pub(super) const fn refused(mut self, error: &'static str) -> CommandRow {
        self.dispatch = Dispatch::Refused(error);
        self
    }

    pub(super) const fn with_subcommands(
        mut self,
        subcommands: &'static [CommandRow],
    ) -> CommandRow {
        self.subcommands = subcommands;
        self
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
        !matches!(self.dispatch, Dispatch::Refused(_))
    }

    #[inline]
    pub(super) fn parse(&self, request: &Request<'_>) -> Result<Command, String> {
        if !self.arity.allows(request.len()) {
            return Err(self.wrong_number_of_arguments());
        }
        match self.dispatch {
            Dispatch::Operation(operation) => {
                Ok(operation_command(operation, request.arguments_from(1)))
            }
            Dispatch::OneOf(_, parser) | Dispatch::Admin(parser) | Dispatch::Local(parser) => {
                parser(request)
            }
            Dispatch::Transaction(command) => Ok(Command::Transaction(command)),
            Dispatch::Refused(error) => Err(error.to_owned()),
            Dispatch::Subcommands => Err(self.wrong_number_of_arguments()),
        }
    }

    #[cold]
    fn wrong_number_of_arguments(&self) -> String {
        wrong_number_of_arguments(&self.redis_name())
    }

    /// The operations that it can become.
    pub(super) fn operations(&self) -> &[Operation] {
        match &self.dispatch {
            Dispatch::Operation(operation) => std::slice::from_ref(operation),
            Dispatch::OneOf(operations, _) => operations,
            Dispatch::Admin(_)
            | Dispatch::Local(_)
            | Dispatch::Transaction(_)
            | Dispatch::Refused(_)
            | Dispatch::Subcommands => &[],
        }
    }

    /// Its flags, as `COMMAND` names them.
    pub(super) fn flags(&self) -> &'static [&'static str] {
        match self.dispatch {
            Dispatch::Operation(_) | Dispatch::OneOf(..) => {
                if self.operations().iter().all(|operation| operation.is_read()) {
                    &["readonly"]
                } else {
                    &["write"]
                }
            }
            Dispatch::Admin(_) => &["admin"],
            // They are answered while the node restores a snapshot or has no leader, too.
            Dispatch::Local(_) | Dispatch::Transaction(_) => &["loading", "stale"],
            Dispatch::Refused(_) | Dispatch::Subcommands => &[],
        }
    }

    pub(super) fn key_positions(&self) -> KeyPositions {
        let (first, last, step) =
            match self.operations().first().map(|operation| operation.row().keys) {
                Some(KeySpec::First) => (1, 1, 1),
                Some(KeySpec::FirstTwo) => (1, 2, 1),
                Some(KeySpec::All) => (1, -1, 1),
                Some(KeySpec::EveryOther) => (1, -1, 2),
                Some(KeySpec::None | KeySpec::Keyspace | KeySpec::Scanned(_)) | None => (0, 0, 0),
            };
        KeyPositions { first, last, step }
    }

    /// The words of a request that are keys.
    pub(super) fn keys<'a>(&self, words: &'a [Vec<u8>]) -> Vec<&'a [u8]> {
        let KeyPositions { first, last, step } = self.key_positions();
        let count = words.len() as i64;
        let end = if last < 0 { count + last } else { last };
        let positions = (first..=end.min(count - 1)).step_by(step.max(1));
        positions.filter(|&at| at > 0).map(|at| &*words[at as usize]).collect()
    }
}

/// An operation as a command: a write or a read.
pub(super) fn operation_command<'a>(
    operation: Operation,
    arguments: impl Iterator<Item = &'a [u8]> + Clone,
) -> Command {
    let bytes = encode(operation, arguments);
    if operation.is_read() { Command::Read(bytes) } else { Command::Write(bytes) }
}

/// The error in Redis' words. `name` is in lower case.
pub(super) fn wrong_number_of_arguments(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}
