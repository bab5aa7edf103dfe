//! Clients with sessions, which repeat commands under the same number at any node.
//!
//! Each command must be applied once, and all answers to it must be the same.

use super::checks::{CheckResult, OperationKind, check};
use super::kv::Command;
use super::session_state::{SessionRequest, SessionRequestKind, UnansweredCommand};
use super::world::World;
use crate::replica::{Answer, Outcome, Refusal, Request, RequestId};
use crate::types::{SessionCommand, SessionId};

/// The most simultaneous attempts of a command.
const ATTEMPTS: usize = 3;

impl World {
    /// A client with a session sends a request to this node.
    pub(super) fn run_session_client(&mut self, client: usize, node: usize) -> CheckResult {
        let state = self.session_clients.clients.entry(client).or_default();
        let Some(session) = state.session else {
            if std::mem::replace(&mut state.is_opening, true) {
                return Ok(());
            }
            let request = Request::OpenSession { ttl_ms: self.plan.access.ttl_ms };
            return self.ask_in_session(client, node, SessionRequestKind::Open, request);
        };
        if self.random.chance(self.plan.access.closes) {
            self.end_session(client)?;
            return self.ask_in_session(
                client,
                node,
                SessionRequestKind::Close,
                Request::CloseSession { session },
            );
        }
        let retries_early = self.random.chance(self.plan.access.early_retries);
        let may_ask = |unfinished: &UnansweredCommand| {
            unfinished.attempts == 0 || (retries_early && unfinished.attempts < ATTEMPTS)
        };
        let state = self.session_clients.clients.entry(client).or_default();
        if let Some(&sequence) =
            state.unfinished.iter().find(|(_, command)| may_ask(command)).map(|(at, _)| at)
        {
            self.session_clients.retries += 1;
            return self.send_command(client, node, sequence);
        }
        if state.unfinished.len() >= self.plan.window {
            return Ok(());
        }
        let command = self.draw_command();
        let operation = self.checks.history.begin(client, node, OperationKind::Write(command));
        let state = self.session_clients.clients.entry(client).or_default();
        state.last_sequence += 1;
        let sequence = state.last_sequence;
        state.unfinished.insert(
            sequence,
            UnansweredCommand { operation, command, attempts: 0, in_doubt: false },
        );
        self.send_command(client, node, sequence)
    }

    fn send_command(&mut self, client: usize, node: usize, sequence: u64) -> CheckResult {
        let padding = self.plan.padding;
        let state = self.session_clients.clients.entry(client).or_default();
        let acknowledged =
            state.unfinished.first_key_value().map_or(state.last_sequence, |(&first, _)| first - 1);
        let (Some(session), Some(unfinished)) =
            (state.session, state.unfinished.get_mut(&sequence))
        else {
            return Ok(());
        };
        unfinished.attempts += 1;
        let command = unfinished.command;
        let what = SessionRequestKind::Command { session, sequence, command };
        let command = command.encode(padding);
        let request =
            Request::SessionWrite(SessionCommand { session, sequence, acknowledged, command });
        self.ask_in_session(client, node, what, request)
    }

    fn ask_in_session(
        &mut self,
        client: usize,
        node: usize,
        what: SessionRequestKind,
        request: Request,
    ) -> CheckResult {
        let id = self.clients.next_request();
        let ask = SessionRequest { client, node, what };
        self.session_clients.open.insert(id.0, ask);
        self.trace.record(self.now, &(id, ask), || format!("  client: {id:?} {ask:?}"));
        self.input(node, |running, now| running.replica.submit(now, id, request))
    }

    /// Handles this outcome if it belongs to a client with a session; false if it does not.
    pub(super) fn session_reply(
        &mut self,
        node: usize,
        id: RequestId,
        outcome: &Outcome,
    ) -> Result<bool, super::checks::Violation> {
        let Some(ask) = self.session_clients.open.remove(&id.0) else { return Ok(false) };
        check(ask.node == node, "a request has one outcome", || {
            format!("node {} answers {ask:?}", node + 1)
        })?;
        self.session_clients.ended(&ask, matches!(outcome, Outcome::Unknown(_)));
        match (ask.what, outcome) {
            (SessionRequestKind::Open, &Outcome::Opened(session)) => {
                self.session_clients.opened += 1;
                let client = self.session_clients.clients.entry(ask.client).or_default();
                (client.session, client.last_sequence) = (Some(session), 0);
            }
            (
                SessionRequestKind::Command { session, sequence, command },
                Outcome::Answer(answer),
            ) => {
                self.answered_in_session(ask, (session, sequence), command, answer)?;
            }
            (SessionRequestKind::Command { session, sequence, .. }, Outcome::Refused(refusal)) => {
                self.refused_in_session(&ask, session, sequence, refusal)?;
            }
            (
                SessionRequestKind::Open | SessionRequestKind::Close,
                Outcome::Opened(_) | Outcome::Answer(_) | Outcome::Refused(_),
            ) => {}
            (_, Outcome::Unknown(_)) => {}
            (SessionRequestKind::Command { .. }, Outcome::Opened(_)) => {
                check(false, "a command's outcome is a command's", || {
                    format!("{ask:?}: {outcome:?}")
                })?;
            }
        }
        Ok(true)
    }

    fn answered_in_session(
        &mut self,
        ask: SessionRequest,
        of: (SessionId, u64),
        command: Command,
        answer: &Answer,
    ) -> CheckResult {
        let client = self.session_clients.clients.entry(ask.client).or_default();
        let is_current = client.session == Some(of.0);
        match client.unfinished.remove(&of.1).filter(|_| is_current) {
            Some(unfinished) => {
                self.checks.answered(&unfinished.operation, self.processes[ask.node].life, answer)
            }
            None => {
                self.session_clients.repeated_answers += 1;
                self.checks.answered_again(command, answer)
            }
        }
    }

    fn refused_in_session(
        &mut self,
        ask: &SessionRequest,
        session: SessionId,
        sequence: u64,
        refusal: &Refusal,
    ) -> CheckResult {
        let client = self.session_clients.clients.entry(ask.client).or_default();
        if client.session != Some(session) {
            return Ok(());
        }
        let is_open = client.unfinished.contains_key(&sequence);
        let is_final = matches!(refusal, Refusal::Acknowledged { .. } | Refusal::AnswerNotKept);
        check(!is_final || !is_open, "a pending command is not acknowledged", || {
            format!("command {sequence} of session {session} is refused: {refusal}")
        })?;
        if *refusal == Refusal::NoSession { self.end_session(ask.client) } else { Ok(()) }
    }

    /// The session has ended. Commands that were refused each time had no effect; the outcome of
    /// the others stays unknown.
    fn end_session(&mut self, client: usize) -> CheckResult {
        let state = self.session_clients.clients.entry(client).or_default();
        state.session = None;
        for unfinished in std::mem::take(&mut state.unfinished).into_values() {
            if unfinished.attempts == 0 && !unfinished.in_doubt {
                self.checks.refused(&unfinished.operation)?;
            }
        }
        Ok(())
    }
}
