//! The errors of the crate.
//!
//! `Display` names what failed and what to do; the cause is the error's `source` and is not
//! repeated in it. Every error converts into [`io::Error`], so that a program whose `main` returns
//! `io::Result` can use `?` throughout.

use std::io;

/// Registering, changing or removing a source failed. The source and the loop are as they were
/// before the call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The source is registered with this loop already.
    #[error(
        "this source is already registered with this event loop: change it with `reregister`, \
         or `deregister` it first"
    )]
    AlreadyRegistered,
    /// The source is registered with another loop, which is still alive.
    #[error("this source is registered with another event loop: `deregister` it there first")]
    OtherLoop,
    /// The source is registered with no loop at all, or its loop is gone.
    #[error("this source is not registered with an event loop: `register` it first")]
    NotRegistered,
    /// The loop watches as many sources as its setting allows.
    #[error(
        "the event loop already watches {limit} sources: drop some, or raise `source_capacity` \
         in the builder"
    )]
    TooMany {
        /// The bound that was hit.
        limit: usize,
    },
    /// The kernel refused.
    #[error("the kernel refused to {action} this source")]
    Kernel {
        /// What was asked of the kernel.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Setting or moving a timeout failed. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimerError {
    /// The timeout has already fired, was cleared, or belongs to another loop.
    #[error(
        "this timeout is not pending: it has fired, was cleared, or belongs to another event loop; \
         set a new one"
    )]
    NotPending,
    /// The deadline lies outside what this machine's clock can express.
    #[error("the deadline is too far away for this machine's clock")]
    TooFar,
    /// A periodic timer needs a period of at least one microsecond.
    #[error("the period of a periodic timer must be at least one microsecond")]
    ZeroPeriod,
    /// As many timeouts are pending as the loop's setting allows.
    #[error(
        "{limit} timeouts are pending already: clear some, or raise `timer_capacity` in the builder"
    )]
    TooMany {
        /// The bound that was hit.
        limit: usize,
    },
}

/// The loop stopped, or did not start, because of an error. All registrations are kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// `run` or `run_once` was called inside a callback of the same loop.
    #[error(
        "the event loop is already running: `run` and `run_once` cannot be called inside one of \
         its callbacks"
    )]
    AlreadyRunning,
    /// Waiting for events failed.
    #[error("waiting for events failed")]
    Wait(#[source] io::Error),
    /// Reading the signals that arrived failed.
    #[error("receiving signals failed")]
    Signals(#[source] io::Error),
}

/// An event loop could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A bound was set to zero.
    #[error("`{setting}` must be at least 1")]
    Zero {
        /// The builder's method.
        setting: &'static str,
    },
    /// A bound is greater than its maximum.
    #[error("`{setting}` is {value}, and may be at most {limit}")]
    TooLarge {
        /// The builder's method.
        setting: &'static str,
        /// The value it was given.
        value: usize,
        /// Its maximum.
        limit: usize,
    },
    /// The process has as many loops as there can be at one time.
    #[error("this process has {limit} event loops already: drop some")]
    TooManyLoops {
        /// The bound that was hit.
        limit: usize,
    },
    /// The kernel refused the selector or the waker.
    #[error("the event loop could not be created: {action} failed")]
    Kernel {
        /// What was asked of the kernel.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl From<RegisterError> for io::Error {
    fn from(error: RegisterError) -> io::Error {
        let kind = match &error {
            RegisterError::AlreadyRegistered | RegisterError::OtherLoop => {
                io::ErrorKind::AlreadyExists
            }
            RegisterError::NotRegistered => io::ErrorKind::NotFound,
            RegisterError::TooMany { .. } => io::ErrorKind::QuotaExceeded,
            RegisterError::Kernel { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}

impl From<TimerError> for io::Error {
    fn from(error: TimerError) -> io::Error {
        let kind = match &error {
            TimerError::NotPending => io::ErrorKind::NotFound,
            TimerError::TooFar | TimerError::ZeroPeriod => io::ErrorKind::InvalidInput,
            TimerError::TooMany { .. } => io::ErrorKind::QuotaExceeded,
        };
        io::Error::new(kind, error)
    }
}

impl From<RunError> for io::Error {
    fn from(error: RunError) -> io::Error {
        let kind = match &error {
            RunError::AlreadyRunning => io::ErrorKind::ResourceBusy,
            RunError::Wait(error) | RunError::Signals(error) => error.kind(),
        };
        io::Error::new(kind, error)
    }
}

impl From<BuildError> for io::Error {
    fn from(error: BuildError) -> io::Error {
        let kind = match &error {
            BuildError::Zero { .. } | BuildError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            BuildError::TooManyLoops { .. } => io::ErrorKind::QuotaExceeded,
            BuildError::Kernel { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}
