//! One thread at a time inside libkqueue, and a way to fetch out the one that waits there.
//!
//! A thread that wants to change something enters a queue, raises an eventfd that every wait
//! watches, and is let in when the waiting thread has come out; that one goes back in when the
//! queue is empty. A thread that wants to wait while another does the same fetches it out, too, but
//! only once, so that a look at what is ready now is answered and two that wait do not chase each
//! other.

use super::super::abi::{self, Filter, Kevent};
use crate::fd::{check, read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(in super::super) struct Gate {
    turn: Mutex<Turn>,
    /// Signalled when a thread leaves libkqueue or the queue.
    moved: Condvar,
    /// Raised to fetch the waiting thread out.
    interrupt: OwnedFd,
    queue: super::FileId,
}

#[derive(Debug, Default)]
struct Turn {
    /// A thread is inside and waits for events.
    waiting: bool,
    /// How many want to go in before the next wait.
    queued: usize,
    /// The eventfd has been raised since the last wait began.
    raised: bool,
}

impl Gate {
    pub(in super::super) fn new(queue: BorrowedFd<'_>) -> io::Result<Gate> {
        // SAFETY: no pointers; the answer is a new descriptor or -1.
        let raw = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: `raw` was just opened and has no other owner.
        let interrupt = unsafe { OwnedFd::from_raw_fd(raw) };
        // No source owns this number in `Idents`, so its events reach nobody.
        abi::apply(queue, &[abi::change(raw as usize, Filter::Read, abi::ADD, 0, 0)?])?;
        let queue = super::file_id(queue)?;
        super::queues(|queues| queues.push(queue));
        Ok(Gate { turn: Mutex::default(), moved: Condvar::new(), interrupt, queue })
    }

    /// Applies `changes` in order; stops at the first that fails and answers with its error.
    pub(in super::super) fn change(&self, queue: BorrowedFd<'_>, changes: &[Kevent]) -> io::Result<()> {
        let turn = self.turn();
        let turn = self.fetch_out(turn);
        // Under the lock: a thread that arrives now waits for it.
        let answer = abi::apply(queue, changes);
        self.leave_queue(turn);
        answer
    }

    /// Waits for events; `None` waits without limit. `first`: the caller's first attempt, which may
    /// fetch out another's wait. May answer with no event before the time has passed.
    pub(in super::super) fn wait(
        &self,
        queue: BorrowedFd<'_>,
        events: &mut [Kevent],
        timeout: Option<Duration>,
        first: bool,
    ) -> io::Result<usize> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut turn = self.turn();
        if first && turn.waiting {
            turn = self.fetch_out(turn);
            turn.queued -= 1;
        }
        while !first && (turn.waiting || turn.queued > 0) {
            turn = self.pause(turn, deadline);
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(0);
            }
        }
        if std::mem::take(&mut turn.raised) {
            // Fails only if it is at zero already.
            let _ = read(self.interrupt.as_fd(), &mut [0; 8]);
        }
        turn.waiting = true;
        drop(turn);
        let left = timeout.map(|timeout| {
            deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now())).min(timeout)
        });
        let answer = abi::wait(queue, events, left);
        self.turn().waiting = false;
        self.moved.notify_all();
        answer
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the queue, and is back when nobody is inside.
    fn fetch_out<'a>(&'a self, mut turn: MutexGuard<'a, Turn>) -> MutexGuard<'a, Turn> {
        turn.queued += 1;
        while turn.waiting {
            if !turn.raised {
                // Into a counter that is at zero it cannot fail.
                let _ = write(self.interrupt.as_fd(), &1_u64.to_ne_bytes());
                turn.raised = true;
            }
            turn = self.pause(turn, None);
        }
        turn
    }

    fn leave_queue(&self, mut turn: MutexGuard<'_, Turn>) {
        turn.queued -= 1;
        drop(turn);
        self.moved.notify_all();
    }

    fn pause<'a>(&'a self, turn: MutexGuard<'a, Turn>, deadline: Option<Instant>) -> MutexGuard<'a, Turn> {
        match deadline {
            None => self.moved.wait(turn).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.moved.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        super::queues(|queues| queues.retain(|queue| *queue != self.queue));
    }
}
