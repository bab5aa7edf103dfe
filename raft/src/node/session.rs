//! Commands that are applied exactly once, whatever fails on the way.

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

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Why a session has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The command was not applied, and will not be.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Time ran out, or the node stopped, while the command was on its way.
    #[error(
        "unknown: it may or may not have been applied; Session::ask_again finds out, through another node if need be"
    )]
    Unknown,
    /// The session is over: it was not used for longer than its time to live. Open another.
    #[error("the session has ended; the command {}", if *.in_doubt { "may or may not have been applied" } else { "was not applied" })]
    Ended {
        /// Whether the command may have been applied by an earlier attempt.
        in_doubt: bool,
    },
    /// The command was applied, once, and its answer was too long to be kept until it was asked for
    /// again.
    #[error("was applied, and its answer was too long to be kept (ANSWER_BYTES_MAX)")]
    AnswerNotKept,
    /// The session was to wait for longer than any time may be. Nothing was asked.
    #[error("a session's patience is {value:?}; it may be at most {:?}", TIMEOUT_MAX)]
    PatienceTooLong {
        /// What was given.
        value: Duration,
    },
    /// The node of this session's handle has stopped. Nothing was asked of it.
    #[error("the node has stopped; go on through another (Session::go_through)")]
    Stopped,
    /// There is nothing to ask again.
    #[error("no command of this session is in doubt")]
    NothingInDoubt,
}

/// A client's session: numbers its commands, and asks again for as long as it may where an outcome
/// is unknown. One command at a time; for more, open more sessions.
///
/// A session lives in the cluster, not in a node: its handle may be changed for one of another node
/// at any time.
#[derive(Debug)]
pub struct Session {
    handle: Handle,
    id: SessionId,
    patience: Duration,
    /// The last command's number.
    sequence: u64,
    /// The last command, if its outcome is not known.
    in_doubt: Option<Bytes>,
}

impl Session {
    pub(super) fn open(
        handle: &Handle,
        ttl: Duration,
        patience: Duration,
    ) -> Result<Session, SessionError> {
        if patience > TIMEOUT_MAX {
            return Err(SessionError::PatienceTooLong { value: patience });
        }
        // One that is out of range is refused, by its number.
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let mut attempts = Attempts::new(patience);
        loop {
            match attempts.next(handle, &Request::OpenSession { ttl_ms }) {
                Ok(Outcome::Opened(id)) => {
                    return Ok(Session {
                        handle: handle.clone(),
                        id,
                        patience,
                        sequence: 0,
                        in_doubt: None,
                    });
                }
                Ok(Outcome::Refused(refusal)) if !is_passing(&refusal) => {
                    return Err(SessionError::Refused(refusal));
                }
                // One that was opened without anybody knowing ends by itself.
                Ok(Outcome::Answer(_) | Outcome::Refused(_) | Outcome::Unknown(_)) => {}
                Err(end) => return Err(attempts.error(end)),
            }
        }
    }

    /// Its name in the cluster.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Goes on through another node.
    pub fn go_through(&mut self, handle: &Handle) {
        self.handle = handle.clone();
    }

    /// Has a command applied exactly once, and says what the state machine said. Waits, and asks
    /// again, until the session's patience is at its end. A command that is still in doubt from
    /// before is given up: if it has not been applied by then, it never will be.
    ///
    /// # Errors
    /// After [`SessionError::Unknown`] the same command can be asked for again with
    /// [`Session::ask_again`].
    pub fn write(&mut self, command: impl Into<Bytes>) -> Result<Answer, SessionError> {
        self.sequence += 1;
        self.ask(command.into(), false)
    }

    /// Asks once more for the command whose outcome is unknown: it gets the answer that it was
    /// given when it was applied, or is applied now.
    ///
    /// # Errors
    /// As [`Session::write`], and [`SessionError::NothingInDoubt`].
    pub fn ask_again(&mut self) -> Result<Answer, SessionError> {
        let command = self.in_doubt.take().ok_or(SessionError::NothingInDoubt)?;
        self.ask(command, true)
    }

    fn ask(&mut self, command: Bytes, mut in_doubt: bool) -> Result<Answer, SessionError> {
        self.in_doubt = None;
        let (session, sequence) = (self.id, self.sequence);
        let asked = SessionCommand {
            session,
            sequence,
            acknowledged: sequence - 1,
            command: command.clone(),
        };
        let request = Request::SessionWrite(asked);
        let mut attempts = Attempts::new(self.patience);
        loop {
            match attempts.next(&self.handle, &request) {
                Ok(Outcome::Answer(answer)) => return Ok(answer),
                Ok(Outcome::Refused(Refusal::NoSession)) => {
                    return Err(SessionError::Ended { in_doubt });
                }
                Ok(Outcome::Refused(Refusal::AnswerNotKept)) => {
                    return Err(SessionError::AnswerNotKept);
                }
                Ok(Outcome::Refused(refusal)) if !in_doubt && !is_passing(&refusal) => {
                    return Err(SessionError::Refused(refusal));
                }
                Ok(Outcome::Refused(_)) => {}
                Ok(Outcome::Opened(_) | Outcome::Unknown(_)) => in_doubt = true,
                // The last attempt may be on its way, and so may each before it whose outcome was
                // not known.
                Err(end) if in_doubt || end == End::UnderWay => {
                    self.in_doubt = Some(command);
                    return Err(SessionError::Unknown);
                }
                Err(end) => return Err(attempts.error(end)),
            }
        }
    }

    /// Ends the session, and with it what the cluster remembers for it. Not to do so costs the
    /// cluster some memory until it has lived its time.
    ///
    /// # Errors
    /// If there is no answer; it ends by itself then.
    pub fn close(self) -> Result<(), SessionError> {
        let mut attempts = Attempts::new(self.patience);
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

/// Whether the same request may be answered a little later.
fn is_passing(refusal: &Refusal) -> bool {
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

/// Attempts until a deadline, with pauses that grow between those that come to nothing.
struct Attempts {
    deadline: Instant,
    pause: Duration,
    /// One has been made.
    has_begun: bool,
    /// Why the last one came to nothing, if that is certain.
    refusal: Option<Refusal>,
}

/// Why there are no more attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The deadline has come, and nothing is under way.
    OutOfTime,
    /// The deadline has come, or the node has stopped, with the last attempt under way.
    UnderWay,
    /// The node had stopped before it was asked.
    Stopped,
}

impl Attempts {
    fn new(patience: Duration) -> Attempts {
        let pause = Duration::from_millis(1);
        Attempts { deadline: Instant::now() + patience, pause, has_begun: false, refusal: None }
    }

    /// Asks and waits for the outcome. A full queue is as good as a refusal that passes.
    fn next(&mut self, handle: &Handle, request: &Request) -> Result<Outcome, End> {
        loop {
            if std::mem::replace(&mut self.has_begun, true) {
                self.rest()?;
            }
            let (tell, told) = mpsc::sync_channel(1);
            match handle.submit(request.clone(), move |outcome| drop(tell.send(outcome))) {
                Ok(()) => {
                    let left = self.deadline.saturating_duration_since(Instant::now());
                    let outcome = told.recv_timeout(left).map_err(|_| End::UnderWay)?;
                    if let Outcome::Refused(refusal) = &outcome {
                        self.refusal = Some(refusal.clone());
                    }
                    return Ok(outcome);
                }
                Err(HandleError::Full { .. }) => {}
                Err(HandleError::Stopped) => return Err(End::Stopped),
            }
        }
    }

    /// What nobody else's attempt has put in doubt.
    fn error(self, end: End) -> SessionError {
        match end {
            End::OutOfTime => SessionError::Refused(self.refusal.unwrap_or(Refusal::TimedOut)),
            End::UnderWay => SessionError::Unknown,
            End::Stopped => SessionError::Stopped,
        }
    }

    fn rest(&mut self) -> Result<(), End> {
        let until = Instant::now() + self.pause;
        if until >= self.deadline {
            return Err(End::OutOfTime);
        }
        while let Some(left) =
            until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            thread::park_timeout(left);
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kodiak_reactor::{EventLoop, Receiver};

    use super::{
        super::{Token, handle::Call, token::Kind},
        *,
    };

    /// A session of a node that takes calls and answers none, and those calls.
    fn unanswered() -> (Session, Receiver<Call>, EventLoop<Token, ()>) {
        let mut event_loop = EventLoop::<Token, ()>::new().unwrap();
        let (call, calls) = event_loop.add_channel(Token(Kind::Calls), 4).unwrap();
        let id = SessionId(7);
        let (handle, patience) = (Handle::new(call, 4), Duration::ZERO);
        (Session { handle, id, patience, sequence: 0, in_doubt: None }, calls, event_loop)
    }

    fn asked(calls: &Receiver<Call>) -> SessionCommand {
        match calls.try_recv() {
            Ok(Call::Request(Request::SessionWrite(asked), _)) => asked,
            other => panic!("{other:?}"),
        }
    }

    /// It may be applied at any time: under a new number it would be applied twice.
    #[test]
    fn an_attempt_under_way_at_the_end_is_in_doubt() {
        let (mut session, calls, _event_loop) = unanswered();
        assert_eq!(session.write("pay"), Err(SessionError::Unknown));
        let first = asked(&calls);
        assert_eq!((first.sequence, &first.command[..]), (1, &b"pay"[..]));
        assert_eq!(session.ask_again(), Err(SessionError::Unknown));
        assert_eq!(asked(&calls), first, "the same number");
        assert_eq!(session.ask_again(), Err(SessionError::Unknown), "for as long as it takes");
        drop(calls);
        assert_eq!(session.ask_again(), Err(SessionError::Unknown), "the node has stopped");
        assert_eq!(session.write("other"), Err(SessionError::Stopped), "this one was not sent");
        assert_eq!(session.ask_again(), Err(SessionError::NothingInDoubt));
    }
}
