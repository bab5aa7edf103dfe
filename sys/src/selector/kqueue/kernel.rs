//! A kqueue that is the kernel's own needs nothing more than its two calls: each function here is
//! what `libkqueue/` has to work for. The two have the same interface.

use super::abi::{self, Filter, Kevent};
use crate::Interest;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

/// Calls of `kevent` from several threads: the kernel sees to them.
#[derive(Debug)]
pub(super) struct Gate;

impl Gate {
    pub(super) fn new(_queue: BorrowedFd<'_>) -> io::Result<Gate> {
        Ok(Gate)
    }

    /// Applies `changes` in order; stops at the first that fails and answers with its error.
    pub(super) fn change(&self, queue: BorrowedFd<'_>, changes: &[Kevent]) -> io::Result<()> {
        abi::apply(queue, changes)
    }

    /// Waits for events; `None` waits without limit.
    pub(super) fn wait(
        &self,
        queue: BorrowedFd<'_>,
        events: &mut [Kevent],
        timeout: Option<Duration>,
        _first: bool,
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

    pub(super) fn admit(&mut self, _source: RawFd, _interest: Interest) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn ident(&self, source: usize, _filter: Filter) -> usize {
        source
    }

    /// The source whose event this is.
    pub(super) fn owner(&self, event: &Kevent) -> Option<usize> {
        Some(event.ident)
    }

    /// Whether the number still belongs to the file that was registered; `None`: the kernel knows,
    /// ask it.
    pub(super) fn is_current(&self, _source: usize) -> Option<bool> {
        None
    }

    pub(super) fn dismiss(&mut self, _source: usize) {}

    /// Corrects what an event says.
    pub(super) fn amend(&self, _event: &mut Kevent) {}
}

/// Refuses a source that could not be watched, though the kqueue would take it without a word.
pub(super) fn refuse_unwatchable(_source: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}

/// The error behind a change that failed.
pub(super) fn reason(error: io::Error) -> io::Error {
    error
}
