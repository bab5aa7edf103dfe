//! `MULTI` … `EXEC`: commands that are kept until `EXEC`, and then become one entry of the log, so
//! that nothing comes between them. There is no `WATCH`.

use bytes::Bytes;

use crate::{
    commands::{Command, TransactionCommand},
    kv::operation::{Operation, encode, scans},
};

/// A client's transaction, if it has begun one.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    open: Option<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    operations: Vec<Bytes>,
    size_bytes: usize,
    /// Something was refused meanwhile: `EXEC` will be, too.
    is_spoiled: bool,
}

/// What becomes of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is run.
    Run(Command),
    /// It is answered with this frame, and has no other effect now.
    Say(&'static str),
}

impl Transaction {
    /// Whether this command is only kept now, if it is not refused.
    pub(super) fn keeps(&self, command: &Command) -> bool {
        self.open.is_some() && matches!(command, Command::Write(_) | Command::Read(_))
    }

    /// Takes the next command. The operations of a transaction take at most `limit_bytes` together.
    pub(super) fn step(&mut self, command: Command, limit_bytes: usize) -> Step {
        match (command, &mut self.open) {
            (Command::Transaction(TransactionCommand::Multi), None) => {
                self.open = Some(Queue::default());
                Step::Say("+OK\r\n")
            }
            (Command::Transaction(TransactionCommand::Exec), None) => {
                Step::Say("-ERR EXEC without MULTI\r\n")
            }
            (Command::Transaction(TransactionCommand::Discard), None) => {
                Step::Say("-ERR DISCARD without MULTI\r\n")
            }
            (command, None) => Step::Run(command),

            (Command::Transaction(TransactionCommand::Multi), Some(_)) => {
                Step::Say("-ERR MULTI calls can not be nested\r\n")
            }
            (Command::Transaction(TransactionCommand::Discard), Some(_)) => {
                self.open = None;
                Step::Say("+OK\r\n")
            }
            (Command::Transaction(TransactionCommand::Exec), Some(queue)) => {
                let queue = std::mem::take(queue);
                self.open = None;
                queue.execute()
            }
            // It would be done on every node, and a transaction has room for thousands.
            (Command::Read(query), Some(queue)) if scans(&query) => {
                queue.is_spoiled = true;
                Step::Say(
                    "-ERR SCAN and KEYS may not stand between MULTI and EXEC: they would hold every node up\r\n",
                )
            }
            (Command::Write(operation) | Command::Read(operation), Some(queue)) => {
                queue.keep(operation, limit_bytes)
            }
            (command @ Command::Refused(_), Some(queue)) => {
                queue.is_spoiled = true;
                Step::Run(command)
            }
            (Command::Local(_) | Command::Admin(_), Some(queue)) => {
                queue.is_spoiled = true;
                Step::Say("-ERR only commands on keys may stand between MULTI and EXEC\r\n")
            }
        }
    }
}

impl Queue {
    fn keep(&mut self, operation: Bytes, limit_bytes: usize) -> Step {
        // Four bytes of length come before each.
        self.size_bytes += 4 + operation.len();
        if self.size_bytes > limit_bytes {
            self.is_spoiled = true;
            self.operations = Vec::new();
            return Step::Say(
                "-ERR the transaction is larger than a request may be (--max-request-bytes)\r\n",
            );
        }
        self.operations.push(operation);
        Step::Say("+QUEUED\r\n")
    }

    fn execute(self) -> Step {
        if self.is_spoiled {
            return Step::Say("-EXECABORT Transaction discarded because of previous errors.\r\n");
        }
        if self.operations.is_empty() {
            return Step::Say("*0\r\n");
        }
        Step::Run(Command::Write(encode(
            Operation::Exec,
            self.operations.iter().map(|operation| &operation[..]),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100;

    fn write(text: &'static [u8]) -> Command {
        Command::Write(Bytes::from_static(text))
    }

    #[test]
    fn what_is_kept_becomes_one_write() {
        let mut transaction = Transaction::default();
        assert_eq!(
            transaction.step(Command::Transaction(TransactionCommand::Multi), LIMIT),
            Step::Say("+OK\r\n")
        );
        assert!(transaction.keeps(&write(b"a")));
        assert_eq!(transaction.step(write(b"a"), LIMIT), Step::Say("+QUEUED\r\n"));
        assert_eq!(
            transaction.step(Command::Read(Bytes::from_static(b"b")), LIMIT),
            Step::Say("+QUEUED\r\n")
        );
        let expected = encode(Operation::Exec, [&b"a"[..], b"b"].into_iter());
        let exec = transaction.step(Command::Transaction(TransactionCommand::Exec), LIMIT);
        assert_eq!(exec, Step::Run(Command::Write(expected)));
        assert_eq!(transaction.step(write(b"c"), LIMIT), Step::Run(write(b"c")), "it is over");
    }

    #[test]
    fn an_error_spoils_it_and_discard_forgets_it() {
        let mut transaction = Transaction::default();
        let keys = encode(Operation::Keys, [&b"*"[..]].into_iter());
        for spoiler in [
            Command::Refused("ERR no".to_owned()),
            write(&[0; LIMIT]),
            Command::Local(crate::commands::Local::Ok),
            Command::Read(keys),
        ] {
            transaction.step(Command::Transaction(TransactionCommand::Multi), LIMIT);
            assert_ne!(transaction.step(spoiler, LIMIT), Step::Say("+QUEUED\r\n"));
            let exec = transaction.step(Command::Transaction(TransactionCommand::Exec), LIMIT);
            assert!(
                matches!(exec, Step::Say(error) if error.starts_with("-EXECABORT")),
                "{exec:?}"
            );
        }
        transaction.step(Command::Transaction(TransactionCommand::Multi), LIMIT);
        transaction.step(write(b"a"), LIMIT);
        assert_eq!(
            transaction.step(Command::Transaction(TransactionCommand::Discard), LIMIT),
            Step::Say("+OK\r\n")
        );
        for command in [TransactionCommand::Exec, TransactionCommand::Discard] {
            let step = transaction.step(Command::Transaction(command), LIMIT);
            assert!(
                matches!(step, Step::Say(error) if error.contains("without MULTI")),
                "{step:?}"
            );
        }
    }
}
