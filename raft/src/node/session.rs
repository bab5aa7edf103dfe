//! Sessions: commands that are applied exactly once, whatever fails on the way.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Handle, HandleError};
use crate::{
    core::TIMEOUT_MAX,
    replica::{Answer, Outcome, Refusal, Request},
    types::{SessionCommand, SessionId},
};

/// The longest wait between two attempts.
const BACK_OFF_MAX: Duration = Duration::from_millis(50);

/// Why a session has no answer.
///
/// The text does not repeat the error's cause: print both with
/// [`error_chain`](super::error_chain).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The command was not applied, and will not be.
    #[error("the request was refused")]
    Refused(#[source] Refusal),
    /// Time ran out, or the node stopped, while the command was on its way.
    #[error(
        "the command may or may not have been applied; Session::retry finds out, through another \
         node if need be"
    )]
    Unknown,
    /// The session was not used for longer than its time to live, and has ended. Open another.
    #[error(
        "the session has ended; the command {}",
        if *.in_doubt { "may or may not have been applied" } else { "was not applied" }
    )]
    Ended {
        /// Whether the command may have been applied by an earlier attempt.
        in_doubt: bool,
    },
    /// The command was applied once. Its answer was too long to be kept for a retry.
    #[error("the command was applied, and its answer was too long to be kept (ANSWER_BYTES_MAX)")]
    AnswerNotKept,
    /// The session's timeout is too long. Nothing was sent.
    #[error("a session's timeout is {value:?}; it may be at most {:?}", TIMEOUT_MAX)]
    TimeoutTooLong {
        /// The timeout.
        value: Duration,
    },
    /// The node of this session's handle has stopped. Nothing was sent to it.
    #[error("the node has stopped; use another node's handle (Session::set_handle)")]
    Stopped,
    /// There is no command to retry.
    #[error("no command of this session is in doubt")]
    NothingInDoubt,
}

/// A client's session, through which each command is applied exactly once.
///
/// It numbers its commands, and retries a command whose outcome is unknown until its timeout. One
/// command at a time; for more, open more sessions.
///
/// A session belongs to the cluster, not to a node: it can change to another node's handle at any
/// time.
#[derive(Debug)]
pub struct Session {
    handle: Handle,
    id: SessionId,
    timeout: Duration,
    /// The last command's number.
    sequence: u64,
    /// The last command, if its outcome is not known.
    in_doubt: Option<Bytes>,
}

impl Session {
    pub(super) fn open(
        handle: &Handle,
        ttl: Duration,
        timeout: Duration,
    ) -> Result<Session, SessionError> {
        if timeout > TIMEOUT_MAX {
            return Err(SessionError::TimeoutTooLong { value: timeout });
        }
        // A time to live out of range is refused, with its value.
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let mut attempts = Attempts::new(timeout);
        loop {
            match attempts.next(handle, &Request::OpenSession { ttl_ms }) {
                Ok(Outcome::Opened(id)) => {
                    return Ok(Session {
                        handle: handle.clone(),
                        id,
                        timeout,
                        sequence: 0,
                        in_doubt: None,
                    });
                }
                Ok(Outcome::Refused(refusal)) if !is_transient(&refusal) => {
                    return Err(SessionError::Refused(refusal));
                }
                // A session that was opened without an answer ends after its time to live.
                Ok(Outcome::Answer(_) | Outcome::Refused(_) | Outcome::Unknown(_)) => {}
                Err(end) => return Err(attempts.error(end)),
            }
        }
    }

    /// The session's id in the cluster.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Uses another node from now on.
    pub fn set_handle(&mut self, handle: &Handle) {
        self.handle = handle.clone();
    }

    /// Applies a command exactly once, and returns the state machine's answer.
    ///
    /// Waits, and retries, until the session's timeout. An earlier command that is still in doubt
    /// is given up: if it was not applied by now, it never will be.
    ///
    /// # Errors
    /// After [`SessionError::Unknown`] the same command can be retried with [`Session::retry`].
    pub fn write(&mut self, command: impl Into<Bytes>) -> Result<Answer, SessionError> {
        self.sequence += 1;
        self.run(command.into(), false)
    }

    /// Retries the command whose outcome is unknown.
    ///
    /// If the command was applied, this returns the answer of that time. Otherwise it is applied
    /// now.
    ///
    /// # Errors
    /// As [`Session::write`], and [`SessionError::NothingInDoubt`].
    pub fn retry(&mut self) -> Result<Answer, SessionError> {
        let command = self.in_doubt.take().ok_or(SessionError::NothingInDoubt)?;
        self.run(command, true)
    }

    fn run(&mut self, command: Bytes, mut in_doubt: bool) -> Result<Answer, SessionError> {
        self.in_doubt = None;
        let request = Request::SessionWrite(SessionCommand {
            session: self.id,
            sequence: self.sequence,
            acknowledged: self.sequence - 1,
            command: command.clone(),
        });
        let mut attempts = Attempts::new(self.timeout);
        loop {
            match attempts.next(&self.handle, &request) {
                Ok(Outcome::Answer(answer)) => return Ok(answer),
                Ok(Outcome::Refused(Refusal::NoSession)) => {
                    return Err(SessionError::Ended { in_doubt });
                }
                Ok(Outcome::Refused(Refusal::AnswerNotKept)) => {
                    return Err(SessionError::AnswerNotKept);
                }
                Ok(Outcome::Refused(refusal)) if !in_doubt && !is_transient(&refusal) => {
                    return Err(SessionError::Refused(refusal));
                }
                Ok(Outcome::Refused(_)) => {}
                Ok(Outcome::Opened(_) | Outcome::Unknown(_)) => in_doubt = true,
                // The last attempt may still be applied, and so may each earlier one whose outcome
                // was unknown.
                Err(end) if in_doubt || end == AttemptsEnd::InProgress => {
                    self.in_doubt = Some(command);
                    return Err(SessionError::Unknown);
                }
                Err(end) => return Err(attempts.error(end)),
            }
        }
    }

    /// Ends the session, and frees the cluster's memory of it.
    ///
    /// A session that is not closed ends after its time to live.
    ///
    /// # Errors
    /// If there is no answer. The session then ends after its time to live.
    pub fn close(self) -> Result<(), SessionError> {
        let mut attempts = Attempts::new(self.timeout);
        loop {
            match attempts.next(&self.handle, &Request::CloseSession { session: self.id }) {
                Ok(
                    Outcome::Answer(_) | Outcome::Opened(_) | Outcome::Refused(Refusal::NoSession),
                ) => return Ok(()),
                Ok(Outcome::Refused(_) | Outcome::Unknown(_)) => {}
                Err(end) => return Err(attempts.error(end)),
            }
        }
    }
}

/// Whether a retry of the same request may succeed.
fn is_transient(refusal: &Refusal) -> bool {
    !matches!(
        refusal,
        Refusal::TooLarge { .. }
            | Refusal::TtlOutOfRange { .. }
            | Refusal::Acknowledged { .. }
            | Refusal::NoSession
            | Refusal::AnswerNotKept
            | Refusal::Declined { .. }
    )
}

/// Attempts until a deadline, with growing waits between them.
struct Attempts {
    deadline: Instant,
    pause: Duration,
    /// Whether an attempt was made.
    has_attempted: bool,
    /// Why the last attempt was refused, if it was.
    refusal: Option<Refusal>,
}

/// Why there are no more attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttemptsEnd {
    /// The deadline has passed, and no attempt is in progress.
    OutOfTime,
    /// The deadline has passed, or the node has stopped, while the last attempt was in progress.
    InProgress,
    /// The node had stopped before the attempt.
    Stopped,
}

impl Attempts {
    fn new(timeout: Duration) -> Attempts {
        let pause = Duration::from_millis(1);
        Attempts { deadline: Instant::now() + timeout, pause, has_attempted: false, refusal: None }
    }

    /// Makes one attempt and waits for its outcome. A full queue counts as a transient refusal.
    fn next(&mut self, handle: &Handle, request: &Request) -> Result<Outcome, AttemptsEnd> {
        loop {
            if std::mem::replace(&mut self.has_attempted, true) {
                self.back_off()?;
            }
            let (sender, receiver) = mpsc::sync_channel(1);
            match handle.submit(request.clone(), move |outcome| drop(sender.send(outcome))) {
                Ok(()) => {
                    let left = self.deadline.saturating_duration_since(Instant::now());
                    let outcome =
                        receiver.recv_timeout(left).map_err(|_| AttemptsEnd::InProgress)?;
                    if let Outcome::Refused(refusal) = &outcome {
                        self.refusal = Some(refusal.clone());
                    }
                    return Ok(outcome);
                }
                Err(HandleError::Full { .. }) => {}
                Err(HandleError::Stopped) => return Err(AttemptsEnd::Stopped),
            }
        }
    }

    /// The error, if no earlier attempt is in doubt.
    fn error(self, end: AttemptsEnd) -> SessionError {
        match end {
            AttemptsEnd::OutOfTime => {
                SessionError::Refused(self.refusal.unwrap_or(Refusal::TimedOut))
            }
            AttemptsEnd::InProgress => SessionError::Unknown,
            AttemptsEnd::Stopped => SessionError::Stopped,
        }
    }

    fn back_off(&mut self) -> Result<(), AttemptsEnd> {
        let until = Instant::now() + self.pause;
        if until >= self.deadline {
            return Err(AttemptsEnd::OutOfTime);
        }
        while let Some(left) =
            until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            thread::park_timeout(left);
        }
        self.pause = (self.pause * 2).min(BACK_OFF_MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kodiak_reactor::{EventLoop, Receiver};

    use super::{
        super::{Token, handle::Call, token::TokenKind},
        *,
    };

    /// A session of a node that never answers, and the node's calls.
    fn unanswered() -> (Session, Receiver<Call>, EventLoop<Token, ()>) {
        let mut event_loop = EventLoop::<Token, ()>::new().unwrap();
        let (call, calls) = event_loop.add_channel(Token(TokenKind::Calls), 4).unwrap();
        let id = SessionId(7);
        let (handle, timeout) = (Handle::new(call, 4), Duration::ZERO);
        (Session { handle, id, timeout, sequence: 0, in_doubt: None }, calls, event_loop)
    }

    fn next_command(calls: &Receiver<Call>) -> SessionCommand {
        match calls.try_recv() {
            Ok(Call::Request(Request::SessionWrite(command), _)) => command,
            other => panic!("{other:?}"),
        }
    }

    /// It may be applied at any time. Under a new number it would be applied twice.
    #[test]
    fn an_attempt_in_progress_at_the_deadline_is_in_doubt() {
        let (mut session, calls, _event_loop) = unanswered();
        assert_eq!(session.write("pay"), Err(SessionError::Unknown));
        let first = next_command(&calls);
        assert_eq!((first.sequence, &first.command[..]), (1, &b"pay"[..]));
        assert_eq!(session.retry(), Err(SessionError::Unknown));
        assert_eq!(next_command(&calls), first, "the same number");
        assert_eq!(session.retry(), Err(SessionError::Unknown), "however often");
        drop(calls);
        assert_eq!(session.retry(), Err(SessionError::Unknown), "the node has stopped");
        assert_eq!(session.write("other"), Err(SessionError::Stopped), "this one was not sent");
        assert_eq!(session.retry(), Err(SessionError::NothingInDoubt));
    }
}
