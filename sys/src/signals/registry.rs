//! The signals that have our handler: for how many receivers, and the previous disposition.

use super::handler::{SLOTS_LEN, SlotGuard, handle_signal};
use super::{Signal, Signals};
use crate::fd::check;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { watched: [const { None }; Signal::MAX_NUMBER as usize + 1] });

/// Indexed by the signal's number.
struct Registry {
    watched: [Option<Watched>; Signal::MAX_NUMBER as usize + 1],
}

struct Watched {
    receivers: usize,
    /// Restored when the last receiver is dropped.
    previous: libc::sigaction,
}

fn lock() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A receiver's registration for its signals. Dropping it restores the previous dispositions.
#[derive(Debug)]
pub(super) struct Registration {
    signals: Vec<Signal>,
    /// `Some` until dropped.
    slot: Option<SlotGuard>,
}

impl Registration {
    pub(super) fn new(pipe: BorrowedFd<'_>, signals: &[Signal]) -> io::Result<Registration> {
        let mut registry = lock();
        // Slot first, handler second: a signal that arrives in between is not lost.
        let slot = SlotGuard::new(pipe, signals).ok_or_else(too_many_instances)?;
        let mut registration =
            Registration { signals: Vec::with_capacity(signals.len()), slot: Some(slot) };
        for signal in signals {
            if registration.signals.contains(signal) {
                continue;
            }
            if let Err(error) = registry.watch(*signal) {
                drop(registry); // dropping the registration takes the lock
                return Err(error);
            }
            registration.signals.push(*signal);
        }
        Ok(registration)
    }

    pub(super) fn slot(&self) -> &SlotGuard {
        self.slot.as_ref().expect("the slot is given up in drop only")
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut registry = lock();
        // Dispositions first: a signal that arrives in between gets the previous disposition,
        // instead of being lost.
        for signal in &self.signals {
            registry.unwatch(*signal);
        }
        self.slot = None; // under the lock, which guards the slots
    }
}

impl Registry {
    fn watch(&mut self, signal: Signal) -> io::Result<()> {
        let watched = &mut self.watched[signal.number() as usize];
        match watched {
            Some(watched) => watched.receivers += 1,
            None => *watched = Some(Watched { receivers: 1, previous: install(signal)? }),
        }
        Ok(())
    }

    fn unwatch(&mut self, signal: Signal) {
        let entry = &mut self.watched[signal.number() as usize];
        let Some(watched) = entry else { return };
        watched.receivers -= 1;
        if watched.receivers == 0 {
            // If other code has replaced our handler meanwhile, its handler stays.
            // Neither call can fail for a signal whose handler could be set.
            if action(signal).is_ok_and(|action| action.sa_sigaction == handler_address()) {
                let _ = set_action(signal, &watched.previous);
            }
            *entry = None;
        }
    }
}

fn too_many_instances() -> io::Error {
    debug_assert_eq!(SLOTS_LEN, Signals::MAX_INSTANCES);
    let text = format!(
        "{SLOTS_LEN} Signals exist already (Signals::MAX_INSTANCES): drop one, or share one"
    );
    io::Error::new(io::ErrorKind::QuotaExceeded, text)
}

fn handler_address() -> libc::sighandler_t {
    handle_signal as *const () as libc::sighandler_t
}

/// Installs our handler and returns the previous disposition.
fn install(signal: Signal) -> io::Result<libc::sigaction> {
    let mut action = zeroed();
    action.sa_sigaction = handler_address();
    // Interrupted calls resume where the kernel can; a thread's alternative stack, if it has one,
    // is used.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the set belongs to `action`, which is ours.
    check(unsafe { libc::sigemptyset(&mut action.sa_mask) })?;
    set_action(signal, &action).map_err(|error| {
        io::Error::new(error.kind(), format!("the kernel does not let {signal} be caught: {error}"))
    })
}

fn set_action(signal: Signal, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut previous = zeroed();
    // SAFETY: both structs are valid for the call; the handler in `action` is ours, or one that the
    // kernel gave us before.
    check(unsafe { libc::sigaction(signal.number(), action, &mut previous) })?;
    Ok(previous)
}

fn action(signal: Signal) -> io::Result<libc::sigaction> {
    let mut action = zeroed();
    // SAFETY: without a new action the call only fills in the old one, which is valid for the call.
    check(unsafe { libc::sigaction(signal.number(), std::ptr::null(), &mut action) })?;
    Ok(action)
}

fn zeroed() -> libc::sigaction {
    // SAFETY: integers, a signal set and optional pointers: zero is a value for all of them.
    unsafe { std::mem::zeroed() }
}
