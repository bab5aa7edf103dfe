//! The bound on receivers. A test binary of its own, because the test uses all of them.

use kodiak_sys::{Signal, Signals};
use std::io::ErrorKind;

#[test]
fn the_bound_on_receivers_counts_only_live_ones() {
    let mut all: Vec<_> =
        (0..Signals::MAX_INSTANCES).map(|_| Signals::new(&[Signal::USR1]).unwrap()).collect();
    let error = Signals::new(&[Signal::USR1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert!(error.to_string().contains("MAX_INSTANCES"), "{error}");
    all.pop();
    all.push(Signals::new(&[Signal::USR1]).unwrap());
    // SAFETY: no pointers; this process handles the signal.
    assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
    for signals in &all {
        assert_eq!(signals.receive().unwrap().unwrap().signal, Signal::USR1);
        assert_eq!(signals.receive().unwrap(), None);
    }
}
