//! [`Handler`], the callbacks of an event loop, and [`ReadHint`], why a source is readable.

use std::fmt;
use std::io;
use std::ops::{BitOr, BitOrAssign};
use std::process::ExitStatus;

use kodiak_sys::{Readiness, SigInfo};

use crate::EventLoop;

/// The callbacks of an event loop. Each has a default that does nothing; write the ones you need.
///
/// All run on the loop's thread, one after another. Every callback is given the loop, so that it
/// can register sources, set timeouts, hand out senders or [`shutdown`](EventLoop::shutdown). In
/// one turn they come in this order: signals, I/O (for one source: priority, readable, writable),
/// timers, messages, further channels, [`turn_end`](Handler::turn_end).
///
/// A callback that panics unwinds out of [`run`](EventLoop::run). The loop stays usable: running it
/// again goes on with what was left of the turn.
///
/// ```
/// use kodiak_reactor::{EventLoop, Handler};
///
/// struct Total(u64);
///
/// impl Handler<(), u64> for Total {
///     fn notify(&mut self, event_loop: &mut EventLoop<(), u64>, message: u64) {
///         self.0 += message;
///         if message == 0 {
///             event_loop.shutdown();
///         }
///     }
/// }
///
/// let mut event_loop = EventLoop::new()?;
/// let sender = event_loop.channel();
/// std::thread::spawn(move || [3, 4, 0].map(|n| sender.send(n).expect("room for three")));
/// let mut total = Total(0);
/// event_loop.run(&mut total)?;
/// assert_eq!(total.0, 7);
/// # Ok::<(), std::io::Error>(())
/// ```
#[allow(unused_variables)]
pub trait Handler<T: Copy, M> {
    /// The source can be read, or has hung up or failed: see `hint`.
    ///
    /// Also called, with [`ReadHint::is_hup`] or [`ReadHint::is_error`], for a hang-up or error of
    /// a source whose interest is neither readable nor writable, and for a further channel (see
    /// [`EventLoop::add_channel`]) that has something to receive.
    fn readable(&mut self, event_loop: &mut EventLoop<T, M>, token: T, hint: ReadHint) {}

    /// The source can be written, or a write would now report an error.
    fn writable(&mut self, event_loop: &mut EventLoop<T, M>, token: T) {}

    /// The source has urgent data (TCP's out-of-band byte). Only for sources registered with
    /// [`Interest::PRIORITY`](crate::Interest::PRIORITY).
    fn priority(&mut self, event_loop: &mut EventLoop<T, M>, token: T) {}

    /// A timeout is due.
    fn timeout(&mut self, event_loop: &mut EventLoop<T, M>, token: T) {}

    /// A message arrived over the loop's own channel (see [`EventLoop::channel`]).
    fn notify(&mut self, event_loop: &mut EventLoop<T, M>, message: M) {}

    /// A signal arrived that the loop watches (see [`EventLoop::watch_signals`]).
    fn signal(&mut self, event_loop: &mut EventLoop<T, M>, info: SigInfo) {}

    /// A child process that the loop watches has ended (see [`EventLoop::watch_child`]). Called
    /// once per child, in the I/O part of the turn.
    ///
    /// The status is an error only if another part of the program has reaped the child or ignores
    /// `SIGCHLD`; then the kernel does not keep the status.
    fn child_exit(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        token: T,
        status: io::Result<ExitStatus>,
    ) {
    }

    /// A signal handler interrupted the wait for events. The loop resumes the wait by itself, with
    /// the same deadline; this callback is for programs whose own signal handlers set a flag.
    fn interrupted(&mut self, event_loop: &mut EventLoop<T, M>) {}

    /// The last callback of every turn: the place to flush what the other callbacks collected.
    fn turn_end(&mut self, event_loop: &mut EventLoop<T, M>) {}
}

/// Why a source is readable. Several may hold at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ReadHint(u8);

impl ReadHint {
    pub(crate) const NONE: ReadHint = ReadHint(0);
    pub(crate) const DATA: ReadHint = ReadHint(1);
    pub(crate) const HUP: ReadHint = ReadHint(2);
    pub(crate) const ERROR: ReadHint = ReadHint(4);

    /// There may be data to read, or the end of the stream.
    pub fn is_data(self) -> bool {
        self.0 & ReadHint::DATA.0 != 0
    }

    /// The peer has closed its writing half. Data may still wait: read until the end.
    pub fn is_hup(self) -> bool {
        self.0 & ReadHint::HUP.0 != 0
    }

    /// An error is pending; the next read or write reports it.
    pub fn is_error(self) -> bool {
        self.0 & ReadHint::ERROR.0 != 0
    }

    pub(crate) fn of(readiness: Readiness) -> ReadHint {
        let mut hint = ReadHint::NONE;
        if readiness.is_readable() {
            hint |= ReadHint::DATA;
        }
        if readiness.is_read_closed() {
            hint |= ReadHint::HUP;
        }
        if readiness.is_error() {
            hint |= ReadHint::ERROR;
        }
        hint
    }
}

impl BitOr for ReadHint {
    type Output = ReadHint;
    fn bitor(self, other: ReadHint) -> ReadHint {
        ReadHint(self.0 | other.0)
    }
}

impl BitOrAssign for ReadHint {
    fn bitor_assign(&mut self, other: ReadHint) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for ReadHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = f.debug_set();
        for (holds, name) in
            [(self.is_data(), "data"), (self.is_hup(), "hup"), (self.is_error(), "error")]
        {
            if holds {
                set.entry(&format_args!("{name}"));
            }
        }
        set.finish()
    }
}
