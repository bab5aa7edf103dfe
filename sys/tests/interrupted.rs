//! Waits that signals interrupt. A test binary of its own, because signals concern the process.

use kodiak_sys::{Events, Selector, Signal, Signals};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Runs `test` while another thread sends this one signals as fast as it can.
fn with_signals(test: impl FnOnce()) {
    let _signals = Signals::new(&[Signal::USR1]).unwrap();
    // SAFETY: no arguments, and it cannot fail.
    let target = unsafe { libc::pthread_self() };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the target is in `test`, or waits for this thread to end; the process
                // handles the signal.
                assert_eq!(unsafe { libc::pthread_kill(target, libc::SIGUSR1) }, 0);
                std::thread::yield_now();
            }
        });
        test();
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_wait_that_a_signal_ends_is_interrupted_not_timed_out() {
    let (selector, mut events) = (Selector::new().unwrap(), Events::with_capacity(4));
    with_signals(|| {
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
        // Only a signal ends it.
        assert_eq!(selector.wait(&mut events, None).unwrap_err().kind(), ErrorKind::Interrupted);
        assert!(interruptions > 0);
    });
}
