//! The kqueue backend (macOS, iOS, FreeBSD, NetBSD, OpenBSD, DragonFly, and Linux with libkqueue).
//! `../mod.rs` lists what is promised here.
//!
//! A kqueue watches filters, not descriptors: reading and writing are two knotes that fire apart.
//! `table.rs` records which filters belong to one source and merges their events.
//!
//! Changes are applied at once, never queued for the next wait: in between, the descriptor could be
//! closed and its number reused for another file.
//!
//! # Where kqueue differs from epoll, and how the contract is met
//!
//! - EV_EOF belongs to a filter, and with it the socket's error in `fflags`. On the read filter it
//!   means the peer's half-close or a hang-up, on the write filter the end of writing. A source's
//!   filters are merged, so a hang-up reports both.
//! - EV_CLEAR is per filter: an edge of one interest does not repeat the other's state, as epoll's
//!   does. The contract promises only new conditions.
//! - Oneshot is EV_DISPATCH, per filter too: the filters that did not fire are disabled by a change
//!   of their own.
//! - A listener's readable event carries the length of its queue, and data events carry byte
//!   counts; both are ignored. A BSD kernel may queue half as many connections again as the
//!   listener's backlog before it refuses one.
//! - A kqueue is not inherited by a forked child: a selector belongs to one process.
//!
//! The calls come from `kernel.rs` or `libkqueue/`, which have the same interface.

mod abi;
mod table;

cfg_select! {
    target_os = "linux" => {
        pub(crate) mod libkqueue;
        use libkqueue as provider;
    }
    _ => {
        mod kernel;
        use kernel as provider;
    }
}

use super::Event;
use crate::{Interest, Trigger};
use abi::{Filter, Kevent};
use provider::{CallLock, Idents};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use table::{Registration, Table, Unfired};

/// The longest timeout of one call: some kernels refuse timespecs of more than 10^8 seconds.
const MAX_CALL_TIMEOUT: Duration = Duration::from_secs(1_000_000);

/// Whether a call of `wait` is the first for this wait of a selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attempt {
    First,
    Later,
}

/// A kqueue and its registrations, shared with its wakers.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    call_lock: CallLock,
    queue: OwnedFd,
    sources: Mutex<Sources>,
}

/// The registered sources and their identifiers.
#[derive(Debug)]
struct Sources {
    table: Table,
    idents: Idents,
}

/// Deletes all filters: libkqueue frees the rest of a closed queue some time later, and would use
/// numbers that may belong to other files by then.
#[cfg(target_os = "linux")]
impl Drop for Shared {
    fn drop(&mut self) {
        let sources = self.sources.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (fd, interest) in sources.table.all() {
            for filter in filters(interest) {
                let ident = sources.idents.ident(fd, filter);
                let _ = abi::change(ident, filter, abi::DELETE, 0, 0)
                    .and_then(|change| self.call_lock.change(self.queue.as_fd(), &[change]));
            }
        }
    }
}

impl Selector {
    pub(crate) fn new() -> io::Result<Selector> {
        let queue = abi::kqueue()?;
        let call_lock = CallLock::new(queue.as_fd())?;
        let sources = Mutex::new(Sources { table: Table::default(), idents: Idents::new()? });
        Ok(Selector { shared: Arc::new(Shared { call_lock, queue, sources }) })
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.shared.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, changes: &Changes) -> io::Result<()> {
        self.apply_list(&changes.list[..changes.len])
    }

    fn apply_list(&self, changes: &[Kevent]) -> io::Result<()> {
        self.shared.call_lock.change(self.as_fd(), changes).map_err(provider::explain)
    }

    pub(crate) fn add(
        &self,
        source: BorrowedFd<'_>,
        key: u64,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        provider::refuse_unwatchable(source)?;
        let fd = source.as_raw_fd() as usize;
        let mut sources = self.sources();
        if sources.table.get(fd).is_some() {
            if self.is_registered(&sources, fd) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            self.remove_stale(&mut sources, fd);
        }
        let tag = sources.table.next_tag();
        let mut changes = Changes::new();
        let result = sources
            .idents
            .add(source.as_raw_fd(), interest)
            .and_then(|()| changes.push(&sources, fd, interest, add_flags(trigger), tag))
            .and_then(|changes| self.apply(changes));
        match result {
            Ok(()) => sources.table.insert(fd, key, tag, interest, trigger),
            Err(_) => self.clear(&mut sources, fd, interest),
        }
        result
    }

    /// Whether the kernel still has this registration: it drops it when the descriptor is closed.
    fn is_registered(&self, sources: &Sources, fd: usize) -> bool {
        let Some(old) = sources.table.get(fd) else { return false };
        sources.idents.is_current(fd).unwrap_or_else(|| {
            // A change without an effect shows it.
            let flag = if old.armed { abi::ENABLE } else { abi::DISABLE };
            let mut changes = Changes::new();
            changes
                .push(sources, fd, old.interest, flag, old.tag)
                .and_then(|changes| self.apply(changes))
                .is_ok()
        })
    }

    pub(crate) fn add_exclusive(
        &self,
        _: BorrowedFd<'_>,
        _: u64,
        _: Interest,
        _: Trigger,
    ) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "kqueue has no exclusive wake-ups"))
    }

    pub(crate) fn modify(
        &self,
        source: RawFd,
        key: u64,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        let fd = source as usize;
        let mut sources = self.sources();
        let old = self.current_registration(&mut sources, fd)?;
        let tag = sources.table.next_tag();
        sources.idents.add(source, interest)?;
        // Every kernel accepts a changed trigger if the filter is deleted and added again.
        let mut changes = Changes::new();
        changes.push(&sources, fd, old.interest, abi::DELETE, old.tag)?.push(
            &sources,
            fd,
            interest,
            add_flags(trigger),
            tag,
        )?;
        let result = self.apply(&changes);
        match result {
            Ok(()) => sources.table.insert(fd, key, tag, interest, trigger),
            Err(_) => self.clear(&mut sources, fd, interest | old.interest),
        }
        result
    }

    /// The registration of a number; `NotFound` if the number is known to belong to another file.
    /// Where only the kernel knows, the next change fails.
    fn current_registration(&self, sources: &mut Sources, fd: usize) -> io::Result<Registration> {
        let old = sources.table.get(fd).ok_or(io::ErrorKind::NotFound)?;
        if sources.idents.is_current(fd) == Some(false) {
            self.remove_stale(sources, fd);
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(old)
    }

    /// Removes the registration of a number that belongs to another file now.
    fn remove_stale(&self, sources: &mut Sources, fd: usize) {
        let interest = sources.table.get(fd).map_or(Interest::empty(), |old| old.interest);
        self.clear(sources, fd, interest);
    }

    /// Deletes these filters of a source, if they exist, and the source's registration.
    fn clear(&self, sources: &mut Sources, fd: usize, interest: Interest) {
        for filter in filters(interest) {
            // Usually fails with "no such filter", which is the goal.
            let ident = sources.idents.ident(fd, filter);
            let _ = abi::change(ident, filter, abi::DELETE, 0, 0)
                .and_then(|change| self.apply_list(&[change]));
        }
        sources.table.remove(fd);
        sources.idents.remove(fd);
    }

    pub(crate) fn remove(&self, source: RawFd) -> io::Result<()> {
        let fd = source as usize;
        let mut sources = self.sources();
        let old = self.current_registration(&mut sources, fd)?;
        let result = Changes::new()
            .push(&sources, fd, old.interest, abi::DELETE, old.tag)
            .and_then(|changes| self.apply(changes));
        sources.table.remove(fd);
        sources.idents.remove(fd);
        result
    }

    pub(crate) fn wait(&self, buffer: &mut Buffer, timeout: Option<Duration>) -> io::Result<()> {
        buffer.clear();
        // A deadline, because stale events can end the kernel's wait and are then dropped.
        let deadline = match timeout {
            None => None,
            Some(Duration::ZERO) => Some(None),
            // Beyond the clock's end: without a deadline.
            Some(timeout) => Instant::now().checked_add(timeout).map(Some),
        };
        let mut attempt = Attempt::First;
        loop {
            let left = deadline.map(|at| {
                at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
            });
            let timeout = left.map(|left| left.min(MAX_CALL_TIMEOUT));
            let raw = &mut buffer.raw;
            let n = self.shared.call_lock.wait(self.as_fd(), raw, timeout, attempt)?;
            attempt = Attempt::Later;
            self.collect(buffer, n);
            if buffer.len() > 0 || left == Some(Duration::ZERO) {
                return Ok(());
            }
        }
    }

    /// Merges the first `n` raw events into one event for each source.
    fn collect(&self, buffer: &mut Buffer, n: usize) {
        let mut sources = self.sources();
        sources.table.begin_batch();
        for event in &mut buffer.raw[..n] {
            sources.idents.correct_event(event);
            let Some(fd) = sources.number(event) else { continue };
            if sources.table.is_first_of_batch(fd, event)
                && sources.idents.is_current(fd) == Some(false)
            {
                self.remove_stale(&mut sources, fd);
            } else {
                sources.table.merge(fd, event, &mut buffer.ready);
            }
        }
        for event in &buffer.raw[..n] {
            let Some(fd) = sources.number(event) else { continue };
            if let Some(Unfired { interest, tag }) = sources.table.disarm(fd) {
                self.disable(&sources, fd, interest, tag);
            }
        }
    }

    /// Disables the filters of a oneshot source that did not fire. The kernel has disabled those
    /// that did.
    fn disable(&self, sources: &Sources, fd: usize, interest: Interest, tag: usize) {
        for filter in filters(interest) {
            // Fails only if the descriptor is closed, and then there is nothing to disable.
            let ident = sources.idents.ident(fd, filter);
            let _ = abi::change(ident, filter, abi::DISABLE, 0, tag)
                .and_then(|change| self.apply_list(&[change]));
        }
    }
}

impl Sources {
    /// The number of the source whose event this is; of a user event, its identifier.
    fn number(&self, event: &Kevent) -> Option<usize> {
        if Filter::of(event) == Some(Filter::User) {
            Some(event.ident)
        } else {
            self.idents.source(event)
        }
    }
}

impl AsFd for Selector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.queue.as_fd()
    }
}

/// A user event of a kqueue, the mechanism of a waker.
#[cfg(not(any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd")))]
#[derive(Debug)]
pub(crate) struct UserEvent {
    selector: Selector,
    ident: usize,
    tag: usize,
}

#[cfg(not(any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd")))]
impl UserEvent {
    pub(crate) fn new(selector: &Selector, key: u64) -> io::Result<UserEvent> {
        let selector = selector.clone();
        let (ident, tag) = selector.sources().table.insert_user_event(key);
        // Dropping it undoes this if the next call fails.
        let event = UserEvent { selector, ident, tag };
        event.change(abi::ADD | abi::CLEAR, 0)?;
        Ok(event)
    }

    pub(crate) fn trigger(&self) -> io::Result<()> {
        self.change(0, abi::TRIGGER)
    }

    fn change(&self, flags: u32, fflags: u32) -> io::Result<()> {
        self.selector.apply_list(&[abi::change(self.ident, Filter::User, flags, fflags, self.tag)?])
    }
}

#[cfg(not(any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd")))]
impl Drop for UserEvent {
    fn drop(&mut self) {
        // Under the lock, so that the identifier is not reused before this is done.
        let mut sources = self.selector.sources();
        let _ = self.change(abi::DELETE, 0);
        sources.table.remove_user_event(self.ident);
    }
}

/// A new kqueue with one event once the process has ended; nothing reads the event.
#[cfg_attr(target_os = "linux", allow(dead_code))]
pub(crate) fn watch_process(pid: u32) -> io::Result<OwnedFd> {
    let queue = abi::kqueue()?;
    abi::apply(
        queue.as_fd(),
        &[abi::change(pid as usize, Filter::Process, abi::ADD, abi::EXIT, 0)?],
    )?;
    Ok(queue)
}

/// The flags that add a filter with this trigger.
fn add_flags(trigger: Trigger) -> u32 {
    abi::ADD
        | abi::ENABLE
        | match trigger {
            Trigger::Level => 0,
            Trigger::Edge => abi::CLEAR,
            Trigger::Oneshot => abi::DISPATCH,
        }
}

fn filters(interest: Interest) -> impl Iterator<Item = Filter> {
    let all = [
        (Interest::READABLE, Filter::Read),
        (Interest::WRITABLE, Filter::Write),
        (Interest::PRIORITY, Filter::Except),
    ];
    all.into_iter().filter(move |(wanted, _)| interest.contains(*wanted)).map(|(_, filter)| filter)
}

/// Up to six changes to one source, for one call.
struct Changes {
    list: [Kevent; 6],
    len: usize,
}

impl Changes {
    fn new() -> Changes {
        Changes { list: std::array::from_fn(|_| abi::blank()), len: 0 }
    }

    /// Adds the same change for every filter of `interest`.
    ///
    /// # Errors
    /// `Unsupported` if the kernel lacks one of the filters.
    fn push(
        &mut self,
        sources: &Sources,
        fd: usize,
        interest: Interest,
        flags: u32,
        tag: usize,
    ) -> io::Result<&mut Changes> {
        for filter in filters(interest) {
            let fflags = match (filter, abi::EXCEPT) {
                (Filter::Except, Some((_, out_of_band))) => out_of_band,
                _ => 0,
            };
            let ident = sources.idents.ident(fd, filter);
            self.list[self.len] =
                abi::change(ident, filter, flags, fflags, tag).map_err(|_| no_priority())?;
            self.len += 1;
        }
        Ok(self)
    }
}

fn no_priority() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this system's kqueue cannot watch for out-of-band data",
    )
}

/// The kernel's events, and the merged ones.
pub(crate) struct Buffer {
    raw: Box<[Kevent]>,
    ready: Vec<Event>,
}

// SAFETY: the raw events hold a pointer-sized tag, never a pointer that is followed.
unsafe impl Send for Buffer {}
// SAFETY: as above; shared access only copies values.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(crate) fn with_capacity(capacity: usize) -> Buffer {
        let raw = std::iter::repeat_with(abi::blank).take(capacity).collect();
        Buffer { raw, ready: Vec::with_capacity(capacity) }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.raw.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn clear(&mut self) {
        self.ready.clear();
    }

    pub(crate) fn get(&self, index: usize) -> Option<Event> {
        self.ready.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_filter_fires_once_the_process_has_ended() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let queue = watch_process(child.id()).unwrap();
        let mut events = [abi::blank(); 2];
        assert_eq!(abi::wait(queue.as_fd(), &mut events, Some(Duration::ZERO)).unwrap(), 0);
        drop(child.stdin.take());
        assert_eq!(abi::wait(queue.as_fd(), &mut events, None).unwrap(), 1);
        assert_eq!(events[0].ident, child.id() as usize);
        assert!(child.wait().unwrap().success());
    }
}
