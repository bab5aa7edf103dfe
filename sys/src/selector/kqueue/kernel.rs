//! The kernel's own kqueue, which needs nothing more than its two calls.
//!
//! The interface is that of `libkqueue/`, where most of these functions have work to do.

use super::Attempt;
use super::abi::{self, Filter, Kevent};
use crate::Interest;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

/// The lock around calls of `kevent`: none, because the kernel has its own.
#[derive(Debug)]
pub(super) struct CallLock;

impl CallLock {
    pub(super) fn new(_queue: BorrowedFd<'_>) -> io::Result<CallLock> {
        Ok(CallLock)
    }

    /// Applies `changes` in order; stops at the first that fails and returns its error.
    pub(super) fn change(&self, queue: BorrowedFd<'_>, changes: &[Kevent]) -> io::Result<()> {
        abi::apply(queue, changes)
    }

    /// Waits for events; `None` waits without limit.
    pub(super) fn wait(
        &self,
        queue: BorrowedFd<'_>,
        events: &mut [Kevent],
        timeout: Option<Duration>,
        _attempt: Attempt,
    ) -> io::Result<usize> {
        abi::wait(queue, events, timeout)
    }
}

/// Which identifier a source has in the kqueue: its descriptor's number.
#[derive(Debug)]
pub(super) struct Idents;

impl Idents {
    pub(super) fn new() -> io::Result<Idents> {
        Ok(Idents)
    }

    pub(super) fn add(&mut self, _source: RawFd, _interest: Interest) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn ident(&self, source: usize, _filter: Filter) -> usize {
        source
    }

    /// The source whose event this is.
    pub(super) fn source(&self, event: &Kevent) -> Option<usize> {
        Some(event.ident)
    }

    /// Whether the number still belongs to the file that was registered; `None`: the kernel knows,
    /// ask it.
    pub(super) fn is_current(&self, _source: usize) -> Option<bool> {
        None
    }

    pub(super) fn remove(&mut self, _source: usize) {}

    /// Corrects what an event reports.
    pub(super) fn correct_event(&self, _event: &mut Kevent) {}
}

/// Refuses a source that could not be watched although the kqueue would accept it.
pub(super) fn refuse_unwatchable(_source: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}

/// Explains the error of a change that failed.
pub(super) fn explain(error: io::Error) -> io::Error {
    error
}
