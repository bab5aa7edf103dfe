//! `MULTI` … `EXEC`: a queue of commands that become one entry of the log.
//!
//! So nothing comes between them. There is no `WATCH`.

use bytes::Bytes;

use crate::{
    commands::{Command, TransactionCommand},
    kv::operation::{Operation, encode, scans},
};

/// A client's transaction, if it has started one.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    queue: Option<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    operations: Vec<Bytes>,
    size_bytes: usize,
    /// A command was refused, so `EXEC` will be, too.
    must_abort: bool,
}

/// What to do with a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Run it.
    Run(Command),
    /// Reply with this frame.
    Reply(&'static str),
}

impl Transaction {
    /// Whether this command only enters the queue now, if it is not refused.
    pub(super) fn queues(&self, command: &Command) -> bool {
        self.queue.is_some() && matches!(command, Command::Write(_) | Command::Read(_))
    }

    /// Decides about the next command, and may queue it. The operations of a transaction have at
    /// most `limit_bytes` together.
    pub(super) fn handle(&mut self, command: Command, limit_bytes: usize) -> Decision {
        match (command, &mut self.queue) {
            (Command::Transaction(TransactionCommand::Multi), None) => {
                self.queue = Some(Queue::default());
                Decision::Reply("+OK\r\n")
            }
            (Command::Transaction(TransactionCommand::Exec), None) => {
                Decision::Reply("-ERR EXEC without MULTI\r\n")
            }
            (Command::Transaction(TransactionCommand::Discard), None) => {
                Decision::Reply("-ERR DISCARD without MULTI\r\n")
            }
            (command, None) => Decision::Run(command),

            (Command::Transaction(TransactionCommand::Multi), Some(_)) => {
                Decision::Reply("-ERR MULTI calls can not be nested\r\n")
            }
            (Command::Transaction(TransactionCommand::Discard), Some(_)) => {
                self.queue = None;
                Decision::Reply("+OK\r\n")
            }
            (Command::Transaction(TransactionCommand::Exec), Some(queue)) => {
                let queue = std::mem::take(queue);
                self.queue = None;
                queue.execute()
            }
            // Every node would run it, and a transaction has room for thousands.
            (Command::Read(query), Some(queue)) if scans(&query) => {
                queue.must_abort = true;
                Decision::Reply(
                    "-ERR SCAN and KEYS may not stand between MULTI and EXEC: they would delay \
                     every node\r\n",
                )
            }
            (Command::Write(operation) | Command::Read(operation), Some(queue)) => {
                queue.push(operation, limit_bytes)
            }
            (command @ Command::Refused(_), Some(queue)) => {
                queue.must_abort = true;
                Decision::Run(command)
            }
            (Command::Local(_) | Command::Admin(_), Some(queue)) => {
                queue.must_abort = true;
                Decision::Reply("-ERR only commands on keys may stand between MULTI and EXEC\r\n")
            }
        }
    }
}

impl Queue {
    fn push(&mut self, operation: Bytes, limit_bytes: usize) -> Decision {
        // Each has its length before it, in four bytes.
        self.size_bytes += 4 + operation.len();
        if self.size_bytes > limit_bytes {
            self.must_abort = true;
            self.operations = Vec::new();
            return Decision::Reply(
                "-ERR the transaction is larger than a request may be (--max-request-bytes)\r\n",
            );
        }
        self.operations.push(operation);
        Decision::Reply("+QUEUED\r\n")
    }

    fn execute(self) -> Decision {
        if self.must_abort {
            return Decision::Reply(
                "-EXECABORT Transaction discarded because of previous errors.\r\n",
            );
        }
        if self.operations.is_empty() {
            return Decision::Reply("*0\r\n");
        }
        Decision::Run(Command::Write(encode(
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
    fn queued_commands_become_one_write() {
        let mut transaction = Transaction::default();
        assert_eq!(
            transaction.handle(Command::Transaction(TransactionCommand::Multi), LIMIT),
            Decision::Reply("+OK\r\n")
        );
        assert!(transaction.queues(&write(b"a")));
        assert_eq!(transaction.handle(write(b"a"), LIMIT), Decision::Reply("+QUEUED\r\n"));
        assert_eq!(
            transaction.handle(Command::Read(Bytes::from_static(b"b")), LIMIT),
            Decision::Reply("+QUEUED\r\n")
        );
        let expected = encode(Operation::Exec, [&b"a"[..], b"b"].into_iter());
        let exec = transaction.handle(Command::Transaction(TransactionCommand::Exec), LIMIT);
        assert_eq!(exec, Decision::Run(Command::Write(expected)));
        assert_eq!(
            transaction.handle(write(b"c"), LIMIT),
            Decision::Run(write(b"c")),
            "the transaction has ended"
        );
    }

    #[test]
    fn an_error_aborts_and_discard_ends_a_transaction() {
        let mut transaction = Transaction::default();
        let keys = encode(Operation::Keys, [&b"*"[..]].into_iter());
        for refused in [
            Command::Refused("ERR no".to_owned()),
            write(&[0; LIMIT]),
            Command::Local(crate::commands::LocalCommand::Ok),
            Command::Read(keys),
        ] {
            transaction.handle(Command::Transaction(TransactionCommand::Multi), LIMIT);
            assert_ne!(transaction.handle(refused, LIMIT), Decision::Reply("+QUEUED\r\n"));
            let exec = transaction.handle(Command::Transaction(TransactionCommand::Exec), LIMIT);
            assert!(
                matches!(exec, Decision::Reply(error) if error.starts_with("-EXECABORT")),
                "{exec:?}"
            );
        }
        transaction.handle(Command::Transaction(TransactionCommand::Multi), LIMIT);
        transaction.handle(write(b"a"), LIMIT);
        assert_eq!(
            transaction.handle(Command::Transaction(TransactionCommand::Discard), LIMIT),
            Decision::Reply("+OK\r\n")
        );
        for command in [TransactionCommand::Exec, TransactionCommand::Discard] {
            let decision = transaction.handle(Command::Transaction(command), LIMIT);
            assert!(
                matches!(decision, Decision::Reply(error) if error.contains("without MULTI")),
                "{decision:?}"
            );
        }
    }
}
