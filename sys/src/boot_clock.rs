//! A clock that keeps counting while the machine is suspended.

use std::time::Duration;

/// The time since a fixed moment of this boot, the same for all processes of the machine.
///
/// It never runs backwards. Where the kernel has such a clock, it counts the time that the machine
/// was suspended, which [`Instant`](std::time::Instant) does not promise. A program that relies on
/// other machines having waited (a lease) needs that.
///
/// | kernel | clock | counts suspend |
/// |---|---|---|
/// | Linux, Android | `CLOCK_BOOTTIME` | yes |
/// | macOS, iOS | `CLOCK_MONOTONIC_RAW` | yes |
/// | OpenBSD | `CLOCK_BOOTTIME` | yes |
/// | FreeBSD, NetBSD, DragonFly | `CLOCK_MONOTONIC` | not promised |
///
/// ```
/// let before = kodiak_sys::boot_clock();
/// assert!(kodiak_sys::boot_clock() >= before);
/// ```
///
/// # Panics
/// If the kernel has no monotonic clock, which POSIX has required since 2001.
#[must_use]
pub fn boot_clock() -> Duration {
    read(CLOCK).or_else(|| read(libc::CLOCK_MONOTONIC)).expect("every kernel has CLOCK_MONOTONIC")
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "openbsd"))]
const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
#[cfg(target_vendor = "apple")]
const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC_RAW;
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "openbsd",
    target_vendor = "apple"
)))]
const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// Reads a clock; `None` if the kernel does not have it.
fn read(clock: libc::clockid_t) -> Option<Duration> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec, to the one that is borrowed for it here.
    let status = unsafe { libc::clock_gettime(clock, &raw mut now) };
    let (seconds, nanos) = (u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?);
    (status == 0).then(|| Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_boot_clock_is_not_slower_than_the_monotonic_clock() {
        let (boot, instant) = (boot_clock(), Instant::now());
        while instant.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        let (passed, on_boot_clock) = (instant.elapsed(), boot_clock() - boot);
        // One of the two may be disciplined and the other not: by less than a thousandth.
        assert!(on_boot_clock >= passed.mul_f64(0.999), "{on_boot_clock:?} in {passed:?}");
        assert!(!boot_clock().is_zero());
    }

    #[test]
    fn a_clock_that_does_not_exist_is_none() {
        assert_eq!(read(12_345), None);
    }
}
