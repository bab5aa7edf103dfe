//! Waits under signals. A test binary of its own: signals are the whole process's.

use kodiak_sys::{Events, Selector, Signal, Signals};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Runs `test` while another thread sends this one signals as fast as it can.
fn under_fire(test: impl FnOnce()) {
    let _signals = Signals::new(&[Signal::USR1]).unwrap();
    // SAFETY: no arguments, and it cannot fail.
    let target = unsafe { libc::pthread_self() };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // SAFETY: the target is in `test`, or waits for this thread to end; the process
                // handles the signal.
                assert_eq!(unsafe { libc::pthread_kill(target, libc::SIGUSR1) }, 0);
                std::thread::yield_now();
            }
        });
        test();
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_wait_that_a_signal_ends_early_says_so_and_never_claims_that_its_time_has_passed() {
    let (selector, mut events) = (Selector::new().unwrap(), Events::with_capacity(4));
    under_fire(|| {
        let mut interruptions = 0;
        let timeout = Duration::from_micros(300);
        for _ in 0..300 {
            let begun = Instant::now();
            match selector.wait(&mut events, Some(timeout)) {
                Ok(0) => assert!(begun.elapsed() >= timeout),
                Ok(_) => panic!("nothing is registered"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Interrupted);
                    assert!(events.is_empty());
                    interruptions += 1;
                }
            }
        }
        // For ever, but for a signal.
        assert_eq!(selector.wait(&mut events, None).unwrap_err().kind(), ErrorKind::Interrupted);
        assert!(interruptions > 0);
    });
}
