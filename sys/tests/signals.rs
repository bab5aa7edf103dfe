//! Signals. The tests share one process, so each uses signals of its own.

mod common;

use common::{ready_now, wait, watching};
use kodiak_sys::{Interest, SigInfo, Signal, Signals, Trigger};
use std::io::ErrorKind;

/// Sends this process a signal, as `kill` does.
fn kill(signal: Signal) {
    // SAFETY: no pointers; this process handles the signal.
    assert_eq!(unsafe { libc::kill(std::process::id() as i32, signal.number()) }, 0);
}

/// Sends the calling thread a signal, and returns after its handler has.
fn raise(signal: Signal) {
    // SAFETY: no pointers; this process handles the signal.
    assert_eq!(unsafe { libc::raise(signal.number()) }, 0);
}

fn disposition(signal: Signal) -> libc::sighandler_t {
    // SAFETY: integers, a set and optional pointers: zero is a value for all of them.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only asks; `action` is valid for the call.
    assert_eq!(unsafe { libc::sigaction(signal.number(), std::ptr::null(), &mut action) }, 0);
    action.sa_sigaction
}

/// Asserts that `info` is `signal`, sent by this process.
#[track_caller]
fn assert_sent_by_us(info: SigInfo, signal: Signal) {
    // SAFETY: takes nothing and cannot fail.
    let uid = unsafe { libc::getuid() };
    let expected = (signal, Some(std::process::id()), Some(uid));
    assert_eq!((info.signal, info.pid, info.uid), expected);
}

/// The next signal; waits for it as a loop would.
fn next(signals: &Signals) -> SigInfo {
    let selector = watching(signals, Interest::READABLE, Trigger::Level);
    loop {
        assert!(wait(&selector)[0].readiness.is_readable());
        if let Some(info) = signals.receive().unwrap() {
            return info;
        }
    }
}

#[test]
fn a_signal_arrives_with_its_sender() {
    let signals = Signals::new(&[Signal::USR1]).unwrap();
    let selector = watching(&signals, Interest::READABLE, Trigger::Level);
    assert!(ready_now(&selector).is_empty());
    assert_eq!(signals.receive().unwrap(), None);
    kill(Signal::USR1);
    assert_sent_by_us(next(&signals), Signal::USR1);
    assert_eq!(signals.receive().unwrap(), None);
    assert!(ready_now(&selector).is_empty());
}

#[test]
fn any_thread_may_get_the_signal() {
    let signals = Signals::new(&[Signal::URG]).unwrap();
    std::thread::spawn(|| raise(Signal::URG)).join().unwrap();
    assert_sent_by_us(next(&signals), Signal::URG);
}

#[test]
fn every_receiver_gets_every_occurrence_in_order() {
    let first = Signals::new(&[Signal::HUP, Signal::WINCH, Signal::HUP]).unwrap();
    let second = Signals::new(&[Signal::HUP]).unwrap();
    for signal in [Signal::HUP, Signal::WINCH, Signal::HUP] {
        raise(signal);
    }
    let all = |signals: &Signals| -> Vec<Signal> {
        std::iter::from_fn(|| signals.receive().unwrap()).map(|info| info.signal).collect()
    };
    assert_eq!(all(&first), [Signal::HUP, Signal::WINCH, Signal::HUP]);
    assert_eq!(all(&second), [Signal::HUP, Signal::HUP]);
    drop(first);
    raise(Signal::HUP);
    assert_eq!(all(&second), [Signal::HUP], "dropping the other receiver does not matter");
}

#[test]
fn dropping_the_last_receiver_restores_the_disposition() {
    // SAFETY: ignoring a signal needs no handler.
    unsafe { libc::signal(libc::SIGALRM, libc::SIG_IGN) };
    let (first, second) =
        (Signals::new(&[Signal::ALRM]).unwrap(), Signals::new(&[Signal::ALRM]).unwrap());
    assert_ne!(disposition(Signal::ALRM), libc::SIG_IGN);
    drop(first);
    assert_ne!(disposition(Signal::ALRM), libc::SIG_IGN);
    drop(second);
    assert_eq!(disposition(Signal::ALRM), libc::SIG_IGN);
    raise(Signal::ALRM); // ignored: it does not end this process
}

#[test]
fn a_handler_that_replaced_ours_is_kept() {
    let signals = Signals::new(&[Signal::PROF]).unwrap();
    // SAFETY: ignoring a signal needs no handler.
    unsafe { libc::signal(libc::SIGPROF, libc::SIG_IGN) };
    drop(signals);
    assert_eq!(disposition(Signal::PROF), libc::SIG_IGN);
}

#[test]
fn an_uncatchable_signal_is_refused_and_nothing_changes() {
    for signal in [Signal::KILL, Signal::STOP, Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE]
    {
        let error = Signals::new(&[Signal::XCPU, signal]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(signal.name()), "{error}");
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let internal = Signal::from_number(32).unwrap(); // reserved by the C library
        assert_eq!(
            Signals::new(&[Signal::XCPU, internal]).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
    assert_eq!(disposition(Signal::XCPU), libc::SIG_DFL);
}

#[test]
fn a_full_pipe_merges_occurrences_and_loses_none() {
    let signals = Signals::new(&[Signal::USR2, Signal::CONT]).unwrap();
    let selector = watching(&signals, Interest::READABLE, Trigger::Level);
    let sent = 20_000;
    for _ in 0..sent {
        raise(Signal::USR2);
    }
    raise(Signal::CONT); // when the pipe is full
    let mut received = Vec::new();
    // Receives one signal for each report: the descriptor stays readable while there are more.
    while !ready_now(&selector).is_empty() {
        received.extend(signals.receive().unwrap());
    }
    let count = |signal: Signal| received.iter().filter(|info| info.signal == signal).count();
    assert_eq!(count(Signal::CONT), 1);
    assert!((100..sent).contains(&count(Signal::USR2)), "{}", count(Signal::USR2));
    let merged = received.iter().find(|info| info.signal == Signal::CONT).unwrap();
    assert_eq!((merged.pid, merged.uid), (None, None));
    // From then on all is as before.
    raise(Signal::CONT);
    assert_sent_by_us(next(&signals), Signal::CONT);
}

#[test]
fn errno_survives_the_handler() {
    let signals = Signals::new(&[Signal::VTALRM]).unwrap();
    // Fill the pipe, so that the handler's own write fails.
    for _ in 0..20_000 {
        raise(Signal::VTALRM);
    }
    // SAFETY: no pointers that matter; fails with EBADF.
    assert_eq!(unsafe { libc::close(-1) }, -1);
    raise(Signal::VTALRM);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EBADF));
    drop(signals);
}

#[test]
fn sigchld_has_the_process_id_of_the_child() {
    let signals = Signals::new(&[Signal::CHLD]).unwrap();
    let mut child = std::process::Command::new("/bin/sh").args(["-c", "exit 0"]).spawn().unwrap();
    loop {
        let info = next(&signals);
        if info.pid == Some(child.id()) {
            break;
        }
    }
    assert!(child.wait().unwrap().success());
}

/// Makes and drops receivers while other threads raise the signal: no record may be written to
/// another file that got the number of a closed pipe.
#[test]
fn a_handler_never_writes_to_another_file() {
    use std::io::Read;
    use std::sync::atomic::{AtomicBool, Ordering};
    let _keeps_the_handler = Signals::new(&[Signal::IO]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    raise(Signal::IO);
                }
            });
        }
        for _ in 0..2_000 {
            drop(Signals::new(&[Signal::IO]).unwrap());
            // These get the numbers that were just closed.
            let (mut reader, writer) = std::io::pipe().unwrap();
            drop(writer);
            assert_eq!(reader.read(&mut [0; 64]).unwrap(), 0, "a handler wrote into another pipe");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn signals_have_names_and_numbers() {
    assert_eq!(Signal::INT.to_string(), "SIGINT");
    assert_eq!(format!("{:?}", Signal::from_number(63).unwrap()), "signal 63");
    assert_eq!(Signal::from_number(Signal::MAX_NUMBER + 1), None);
    assert_eq!(Signal::from_number(-1), None);
    for number in 1..=Signal::MAX_NUMBER {
        assert_eq!(Signal::from_number(number).unwrap().number(), number);
    }
}

#[test]
fn naming_no_signal_is_harmless() {
    assert_eq!(Signals::new(&[]).unwrap().receive().unwrap(), None);
}
