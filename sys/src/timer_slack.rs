//! Timer slack: how late the kernel may end a wait in order to merge wake-ups.

use std::io;
use std::time::Duration;

/// Sets this thread's timer slack. Linux's default is 50 µs.
///
/// Every wait with a timeout, also a selector's, may be late by as much. Threads that this one
/// starts afterwards inherit it. Real-time threads have none.
///
/// One nanosecond makes timers as precise as the machine allows, and causes more wake-ups. Zero
/// counts as one nanosecond, because Linux takes zero for the default.
///
/// ```
/// use std::time::Duration;
///
/// match kodiak_sys::set_timer_slack(Duration::from_nanos(1)) {
///     // Not Linux: the precision of timers cannot be set.
///     Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {}
///     result => result?,
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// [`Unsupported`](io::ErrorKind::Unsupported) everywhere but on Linux and Android.
pub fn set_timer_slack(slack: Duration) -> io::Result<()> {
    imp::set(u64::try_from(slack.as_nanos()).unwrap_or(u64::MAX).max(1))
}

/// This thread's timer slack.
///
/// # Errors
/// [`Unsupported`](io::ErrorKind::Unsupported) everywhere but on Linux and Android.
pub fn timer_slack() -> io::Result<Duration> {
    imp::get().map(Duration::from_nanos)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod imp {
    use crate::fd::check_long;
    use std::io;

    pub(super) fn set(nanos: u64) -> io::Result<()> {
        // Read back as a signed number.
        let nanos = libc::c_long::try_from(nanos).unwrap_or(libc::c_long::MAX);
        // SAFETY: no pointers; this option takes one number.
        check_long(unsafe {
            libc::syscall(libc::SYS_prctl, libc::PR_SET_TIMERSLACK, nanos, 0, 0, 0)
        })
        .map(drop)
    }

    pub(super) fn get() -> io::Result<u64> {
        // Not the C library's `prctl`: its answer is an int, which ends at two seconds.
        // SAFETY: no pointers; this option takes nothing.
        check_long(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) })
            .map(|nanos| nanos as u64)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod imp {
    use std::io;

    pub(super) fn set(_: u64) -> io::Result<()> {
        Err(unsupported())
    }

    pub(super) fn get() -> io::Result<u64> {
        Err(unsupported())
    }

    fn unsupported() -> io::Error {
        io::Error::new(io::ErrorKind::Unsupported, "only Linux lets a thread set its timer slack")
    }
}
