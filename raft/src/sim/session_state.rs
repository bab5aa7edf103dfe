//! The state of clients with sessions (`session_clients`) and their pending requests.

use std::collections::BTreeMap;

use super::checks::Operation;
use super::kv::Command;
use crate::types::SessionId;

/// A pending request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionRequest {
    pub(super) client: usize,
    pub(super) node: usize,
    pub(super) what: SessionRequestKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SessionRequestKind {
    Open,
    Command { session: SessionId, sequence: u64, command: Command },
    Close,
}

/// A command without a known outcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnansweredCommand {
    pub(super) operation: Operation,
    pub(super) command: Command,
    /// The number of its pending requests.
    pub(super) attempts: usize,
    /// Whether the outcome of an attempt will never be known.
    pub(super) in_doubt: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub(super) session: Option<SessionId>,
    pub(super) is_opening: bool,
    pub(super) last_sequence: u64,
    pub(super) unfinished: BTreeMap<u64, UnansweredCommand>,
}

/// All clients with sessions. See the module.
#[derive(Debug, Default)]
pub(super) struct SessionClients {
    pub(super) clients: BTreeMap<usize, Client>,
    /// Requests without an outcome.
    pub(super) open: BTreeMap<u64, SessionRequest>,
    pub(super) opened: u64,
    /// The number of repeated attempts.
    pub(super) retries: u64,
    /// The number of answers to commands that had been answered before.
    pub(super) repeated_answers: u64,
}

impl SessionClients {
    /// Whether no request is pending.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// A process has died: its requests will have no outcome.
    pub(super) fn forget_node(&mut self, node: usize) {
        let lost: Vec<SessionRequest> =
            self.open.values().filter(|ask| ask.node == node).copied().collect();
        self.open.retain(|_, ask| ask.node != node);
        lost.iter().for_each(|ask| self.ended(ask, true));
    }

    /// A request ended without an answer; its outcome stays unknown if it is `in_doubt`.
    pub(super) fn ended(&mut self, ask: &SessionRequest, in_doubt: bool) {
        let client = self.clients.entry(ask.client).or_default();
        match ask.what {
            SessionRequestKind::Open => client.is_opening = false,
            SessionRequestKind::Command { session, sequence, .. }
                if client.session == Some(session) =>
            {
                if let Some(unfinished) = client.unfinished.get_mut(&sequence) {
                    unfinished.attempts -= 1;
                    unfinished.in_doubt |= in_doubt;
                }
            }
            SessionRequestKind::Command { .. } | SessionRequestKind::Close => {}
        }
    }
}
