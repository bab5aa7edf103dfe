//! Unix signals through a descriptor.
//!
//! A handler (`handler.rs`) writes a record into a pipe. A registry (`registry.rs`) counts the
//! receivers of each signal and restores its disposition after the last one.

mod handler;
mod registry;
mod signal;

pub use signal::Signal;

use handler::Sender;
use registry::Registration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A signal that arrived, and its sender.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct SigInfo {
    /// Which signal.
    pub signal: Signal,
    /// The sender's process id, or for [`Signal::CHLD`] the child's. `None` if the kernel made the
    /// signal, if the sender is outside of this process's namespace, or if the queue was full.
    pub pid: Option<u32>,
    /// The real user id of that process. `None` as for `pid`.
    pub uid: Option<u32>,
}

/// Receives signals through a descriptor that a [`Selector`](crate::Selector) can watch.
///
/// While a `Signals` for a signal exists, this crate's handler replaces the signal's disposition.
/// The previous one is restored when the last `Signals` for it is dropped. Several may exist at
/// once, also for the same signal: each receives every occurrence.
///
/// No signal mask is changed: a signal that is delivered to any thread of the process is received.
/// The handler is installed with `SA_RESTART`. A selector's [`wait`](crate::Selector::wait) is
/// interrupted nevertheless ([`Interrupted`](io::ErrorKind::Interrupted)); the next one reports the
/// descriptor.
///
/// Signals queue in a pipe, some thousand of them. If it is full, occurrences are merged, not lost:
/// each signal that did not fit is received once more, without `pid` and `uid`, before the queue.
///
/// In a child made by `fork` (without `exec`) an inherited `Signals` receives nothing.
///
/// ```
/// use kodiak_sys::{Events, Interest, Selector, Signal, Signals, Trigger};
/// use std::os::fd::AsFd;
///
/// let signals = Signals::new(&[Signal::TERM, Signal::INT])?;
/// let selector = Selector::new()?;
/// selector.add(signals.as_fd(), 1, Interest::READABLE, Trigger::Level)?;
///
/// // No Ctrl-C was pressed yet.
/// let mut events = Events::with_capacity(4);
/// assert_eq!(selector.wait(&mut events, Some(std::time::Duration::ZERO))?, 0);
/// assert_eq!(signals.receive()?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Signals {
    // Dropped first: both ends of the pipe stay open for as long as a handler may write.
    registration: Registration,
    reader: OwnedFd,
    _writer: OwnedFd,
}

impl Signals {
    /// The greatest number of `Signals` that a process can have at a time.
    pub const MAX_INSTANCES: usize = handler::SLOTS_LEN;

    /// Starts to receive `signals`. Naming one twice, or none at all, is allowed.
    ///
    /// # Errors
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): `SIGKILL` and `SIGSTOP` cannot be caught,
    ///   and `SIGSEGV`, `SIGBUS`, `SIGILL` and `SIGFPE` repeat endlessly if a handler returns; or
    ///   the kernel does not know the number.
    /// - [`QuotaExceeded`](io::ErrorKind::QuotaExceeded): [`MAX_INSTANCES`](Self::MAX_INSTANCES)
    ///   exist.
    /// - no descriptors are left for a pipe.
    ///
    /// After an error all dispositions are as they were.
    pub fn new(signals: &[Signal]) -> io::Result<Signals> {
        signals.iter().copied().try_for_each(refuse_uncatchable)?;
        let (reader, writer) = crate::fd::pipe()?;
        let registration = Registration::new(writer.as_fd(), signals)?;
        Ok(Signals { registration, reader, _writer: writer })
    }

    /// The next signal, or `None` if there is none yet. Never blocks, and allocates nothing.
    ///
    /// # Errors
    /// None is expected.
    pub fn receive(&self) -> io::Result<Option<SigInfo>> {
        loop {
            if let Some(signal) = self.registration.slot().take_missed() {
                return Ok(Some(SigInfo { signal, pid: None, uid: None }));
            }
            let Some(record) = handler::read_record(self.reader.as_fd())? else { return Ok(None) };
            let (number, Sender { pid, uid }) = handler::decode(&record);
            // Otherwise the record only means that a signal was missed.
            if let Some(signal) = Signal::from_number(number as i32) {
                return Ok(Some(SigInfo { signal, pid, uid }));
            }
        }
    }
}

impl AsFd for Signals {
    /// Readable while a signal can be received. Only for watching: do not read from it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

fn refuse_uncatchable(signal: Signal) -> io::Result<()> {
    let reason = match signal {
        Signal::KILL | Signal::STOP => "no process can catch it",
        Signal::SEGV | Signal::BUS | Signal::ILL | Signal::FPE => {
            "its instruction would raise it again as soon as the handler returns"
        }
        _ => return Ok(()),
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{signal} cannot be received: {reason}"),
    ))
}
