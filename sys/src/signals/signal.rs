//! Signals by name and number.

use std::fmt;

/// A Unix signal.
///
/// ```
/// use kodiak_sys::Signal;
///
/// assert_eq!(Signal::TERM.name(), "SIGTERM");
/// assert_eq!(Signal::from_number(Signal::HUP.number()), Some(Signal::HUP));
/// assert_eq!(Signal::from_number(0), None);
/// assert_eq!(Signal::INT.to_string(), "SIGINT");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// Names the constants once, for the constants themselves and for `name`.
macro_rules! signals {
    ($($(#[$doc:meta])* $name:ident = $number:ident;)*) => {
        impl Signal {
            $($(#[$doc])* pub const $name: Signal = Signal(libc::$number as u8);)*

            /// The name the manuals use, such as `SIGTERM`; `signal` for numbers without one (the
            /// real-time signals).
            pub const fn name(self) -> &'static str {
                match self {
                    $(Signal::$name => stringify!($number),)*
                    _ => "signal",
                }
            }
        }
    };
}

signals! {
    /// The terminal went away; by custom, a request to read the configuration again.
    HUP = SIGHUP;
    /// Ctrl-C.
    INT = SIGINT;
    /// Ctrl-\.
    QUIT = SIGQUIT;
    /// An illegal instruction. [`Signals`](crate::Signals) refuses it.
    ILL = SIGILL;
    /// A breakpoint.
    TRAP = SIGTRAP;
    /// `abort`.
    ABRT = SIGABRT;
    /// An erroneous arithmetic operation. [`Signals`](crate::Signals) refuses it.
    FPE = SIGFPE;
    /// Cannot be caught. [`Signals`](crate::Signals) refuses it.
    KILL = SIGKILL;
    /// A bad memory access. [`Signals`](crate::Signals) refuses it.
    BUS = SIGBUS;
    /// A bad memory reference. [`Signals`](crate::Signals) refuses it.
    SEGV = SIGSEGV;
    /// A bad system call.
    SYS = SIGSYS;
    /// A write to a pipe or socket whose reading end is closed.
    PIPE = SIGPIPE;
    /// A timer of `alarm` or `setitimer`.
    ALRM = SIGALRM;
    /// A polite request to end.
    TERM = SIGTERM;
    /// Urgent data on a socket.
    URG = SIGURG;
    /// Cannot be caught. [`Signals`](crate::Signals) refuses it.
    STOP = SIGSTOP;
    /// Ctrl-Z.
    TSTP = SIGTSTP;
    /// Continue after a stop.
    CONT = SIGCONT;
    /// A child has ended or stopped.
    CHLD = SIGCHLD;
    /// A read from the terminal in the background.
    TTIN = SIGTTIN;
    /// A write to the terminal in the background.
    TTOU = SIGTTOU;
    /// I/O is possible.
    IO = SIGIO;
    /// The limit on processor time.
    XCPU = SIGXCPU;
    /// The limit on a file's size.
    XFSZ = SIGXFSZ;
    /// A timer on processor time.
    VTALRM = SIGVTALRM;
    /// A profiling timer.
    PROF = SIGPROF;
    /// The terminal's window has changed its size.
    WINCH = SIGWINCH;
    /// For the application's own use.
    USR1 = SIGUSR1;
    /// For the application's own use.
    USR2 = SIGUSR2;
}

impl Signal {
    /// The greatest number of a `Signal`. FreeBSD's real-time signals beyond it are not supported.
    pub const MAX_NUMBER: i32 = 64;

    /// The signal with this number; `None` outside `1..=MAX_NUMBER`. A number that the kernel does
    /// not know is an error of [`Signals::new`](crate::Signals::new).
    pub const fn from_number(number: i32) -> Option<Signal> {
        if 1 <= number && number <= Signal::MAX_NUMBER { Some(Signal(number as u8)) } else { None }
    }

    /// The kernel's number, between 1 and [`MAX_NUMBER`](Self::MAX_NUMBER).
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// Its bit in a set of signals.
    pub(super) const fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }
}

impl fmt::Display for Signal {
    /// `SIGTERM`, or `signal 40`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "signal" => write!(f, "signal {}", self.0),
            name => f.pad(name),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
