//! Replies: to the commands that this node answers alone, and for the outcomes of all others.

use bytes::{Bytes, BytesMut};
use kodiak_raft::{
    node::error_chain,
    replica::{Outcome, Refusal},
};
use redis_protocol::resp2::types::BorrowedFrame;

use super::Server;
use crate::{
    commands::{LocalCommand, manual},
    membership,
    resp::{self, Protocol},
    serve::info,
};

impl Server {
    /// Carries out a command that this node answers alone. `client` is the connection's id.
    pub(super) fn local_reply(
        &self,
        local: &LocalCommand,
        client: u64,
        protocol: Protocol,
    ) -> Bytes {
        let mut output = BytesMut::new();
        match local {
            LocalCommand::Ping(None) => {
                resp::put(&mut output, &BorrowedFrame::SimpleString(b"PONG"))
            }
            LocalCommand::Ping(Some(text)) | LocalCommand::Echo(text) => {
                resp::put(&mut output, &BorrowedFrame::BulkString(text))
            }
            LocalCommand::Info(sections) => {
                let text = info::text(
                    sections,
                    &self.node.status(),
                    &self.counts,
                    self.clients.len(),
                    self.started.elapsed(),
                );
                resp::put(&mut output, &BorrowedFrame::BulkString(text.as_bytes()));
            }
            LocalCommand::Members => match membership::listing::text(&self.node.status()) {
                Ok(text) => resp::put(&mut output, &BorrowedFrame::BulkString(text.as_bytes())),
                Err(removed) => resp::put_error(&mut output, &removed),
            },
            LocalCommand::Ok | LocalCommand::Quit => return Bytes::from_static(b"+OK\r\n"),
            LocalCommand::EmptyMap => resp::put_map(&mut output, 0, protocol),
            LocalCommand::Manual(question) => manual::put_answer(&mut output, question, protocol),
            LocalCommand::EmptyScan => return Bytes::from_static(b"*2\r\n$1\r\n0\r\n*0\r\n"),
            LocalCommand::ClientId => {
                resp::put(&mut output, &BorrowedFrame::Integer(client as i64))
            }
            LocalCommand::Hello(_) => {
                let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
                let text = |text: &'static str| BorrowedFrame::BulkString(text.as_bytes());
                let fields = [
                    (text("server"), text("kodiak")),
                    (text("version"), text(env!("CARGO_PKG_VERSION"))),
                    (text("proto"), BorrowedFrame::Integer(version)),
                    (text("id"), BorrowedFrame::Integer(client as i64)),
                    (text("mode"), text("standalone")),
                    (text("role"), text("master")),
                ];
                resp::put_map(&mut output, fields.len(), protocol);
                for (name, value) in &fields {
                    resp::put(&mut output, name);
                    resp::put(&mut output, value);
                }
            }
        }
        output.freeze()
    }
}

/// The reply to a client. After `TRYAGAIN` there was no effect, and the request may be repeated;
/// after `UNKNOWN` there may have been one; after `ERR` there was none, and repeating fails again.
pub(super) fn reply_of(outcome: Outcome) -> Bytes {
    let error = match outcome {
        Outcome::Answer(reply) => return reply.bytes,
        Outcome::Opened(session) => {
            format!("UNKNOWN opened session {session}, which was not requested")
        }
        // It would be refused again.
        Outcome::Refused(Refusal::Removed) => format!("ERR removed: {}", Refusal::Removed),
        Outcome::Refused(Refusal::Declined { reason, is_final: true }) => format!("ERR {reason}"),
        // Redis' code for it.
        Outcome::Refused(refusal @ Refusal::Loading { .. }) => {
            format!("LOADING {}", error_chain(&refusal))
        }
        // It fails until another version of the program is started here.
        Outcome::Refused(refusal @ Refusal::MachineFailed { .. }) => {
            format!("ERR {}", error_chain(&refusal))
        }
        Outcome::Refused(refusal) => format!("TRYAGAIN {}", error_chain(&refusal)),
        Outcome::Unknown(doubt) => format!("UNKNOWN {}", error_chain(&doubt)),
    };
    let mut reply = BytesMut::new();
    resp::put_error(&mut reply, &error);
    reply.freeze()
}
