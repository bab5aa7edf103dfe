//! A lock around libkqueue's calls that can interrupt the thread that waits inside.
//!
//! A thread that wants to change something writes to an eventfd that every wait watches, so the
//! waiting thread returns; the change is made; the wait is resumed once no change is pending. A
//! thread that wants to wait while another one waits interrupts it, too, but only in its first
//! attempt. So a wait with timeout zero is answered at once, and two waiting threads do not
//! interrupt each other without end.

use super::super::Attempt;
use super::super::abi::{self, Filter, Kevent};
use crate::fd::{check, read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(in super::super) struct CallLock {
    state: Mutex<LockState>,
    /// Signalled when a wait returns or a change is no longer pending.
    released: Condvar,
    /// The eventfd that makes a wait return.
    interrupt: OwnedFd,
    queue: super::FileId,
}

#[derive(Debug, Default)]
struct LockState {
    /// A thread is inside libkqueue and waits for events.
    is_waiting: bool,
    /// Number of threads that want to call libkqueue before the next wait begins.
    pending: usize,
    /// The eventfd has been written to since the last wait began.
    is_interrupted: bool,
}

impl CallLock {
    pub(in super::super) fn new(queue: BorrowedFd<'_>) -> io::Result<CallLock> {
        // SAFETY: no pointers; the answer is a new descriptor or -1.
        let raw = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: `raw` was just opened and has no other owner.
        let interrupt = unsafe { OwnedFd::from_raw_fd(raw) };
        // No source in `Idents` has this number, so its events are dropped.
        abi::apply(queue, &[abi::change(raw as usize, Filter::Read, abi::ADD, 0, 0)?])?;
        let queue = super::file_id(queue)?;
        super::with_open_queues(|queues| queues.push(queue));
        Ok(CallLock { state: Mutex::default(), released: Condvar::new(), interrupt, queue })
    }

    /// Applies `changes` in order; stops at the first that fails and returns its error.
    pub(in super::super) fn change(
        &self,
        queue: BorrowedFd<'_>,
        changes: &[Kevent],
    ) -> io::Result<()> {
        let mut state = self.interrupt_wait(self.state());
        // Under the mutex: a thread that arrives now waits for it.
        let result = abi::apply(queue, changes);
        state.pending -= 1;
        drop(state);
        self.released.notify_all();
        result
    }

    /// Waits for events; `None` waits without limit. Only a first attempt interrupts the wait of
    /// another thread. May return 0 before the time has passed.
    pub(in super::super) fn wait(
        &self,
        queue: BorrowedFd<'_>,
        events: &mut [Kevent],
        timeout: Option<Duration>,
        attempt: Attempt,
    ) -> io::Result<usize> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.state();
        if attempt == Attempt::First {
            if state.is_waiting {
                state = self.interrupt_wait(state);
                state.pending -= 1;
            }
        } else {
            while state.is_waiting || state.pending > 0 {
                state = self.wait_for_release(state, deadline);
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    return Ok(0);
                }
            }
        }
        if std::mem::take(&mut state.is_interrupted) {
            // Fails only if it is at zero already.
            let _ = read(self.interrupt.as_fd(), &mut [0; 8]);
        }
        state.is_waiting = true;
        drop(state);
        let left = timeout.map(|timeout| {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            left.unwrap_or(timeout).min(timeout)
        });
        let result = abi::wait(queue, events, left);
        self.state().is_waiting = false;
        self.released.notify_all();
        result
    }

    fn state(&self) -> MutexGuard<'_, LockState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts this thread as pending, and returns once no thread waits inside libkqueue.
    fn interrupt_wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, LockState>,
    ) -> MutexGuard<'a, LockState> {
        state.pending += 1;
        while state.is_waiting {
            if !state.is_interrupted {
                // Cannot fail: the counter is at zero.
                let _ = write(self.interrupt.as_fd(), &1_u64.to_ne_bytes());
                state.is_interrupted = true;
            }
            state = self.wait_for_release(state, None);
        }
        state
    }

    fn wait_for_release<'a>(
        &'a self,
        state: MutexGuard<'a, LockState>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, LockState> {
        match deadline {
            None => self.released.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.released.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}

impl Drop for CallLock {
    fn drop(&mut self) {
        super::with_open_queues(|queues| queues.retain(|queue| *queue != self.queue));
    }
}
