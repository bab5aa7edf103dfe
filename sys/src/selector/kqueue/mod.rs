//! The kqueue backend (macOS, iOS, FreeBSD, NetBSD, OpenBSD, DragonFly, and Linux with libkqueue). `../mod.rs` lists what is
//! promised here.
//!
//! A kqueue watches filters, not descriptors: reading and writing are two knotes that fire apart. `table.rs` remembers which
//! belong together and makes one source of them again.
//!
//! Changes are applied at once, never queued for the next wait: a change that waited could meet a descriptor that was closed,
//! and opened anew for something else, in between.

mod abi;
mod table;

use super::Event;
use crate::{Interest, Trigger};
use abi::{Filter, Kevent};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use table::{Outcome, Table};

/// The longest wait given to a kernel in one call: some refuse timespecs of more than 10^8 seconds.
const LONGEST_PIECE: Duration = Duration::from_secs(1_000_000);

/// A kqueue and what is registered with it, shared with its wakers.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: OwnedFd,
    table: Mutex<Table>,
}

impl Selector {
    pub(crate) fn new() -> io::Result<Selector> {
        Ok(Selector { shared: Arc::new(Shared { queue: abi::kqueue()?, table: Mutex::default() }) })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, changes: &Changes) -> io::Result<()> {
        abi::apply(self.as_fd(), &changes.list[..changes.len])
    }

    pub(crate) fn add(&self, source: BorrowedFd<'_>, key: u64, want: Interest, trigger: Trigger) -> io::Result<()> {
        let fd = source.as_raw_fd() as usize;
        let mut table = self.table();
        if let Some(old) = table.get(fd) {
            // Still in the kernel, or did the descriptor close without a word? A change that changes nothing tells.
            let flag = if old.armed { abi::ENABLE } else { abi::DISABLE };
            match self.apply(Changes::new().each(fd, old.interest, flag, old.tag)?) {
                Ok(()) => return Err(io::ErrorKind::AlreadyExists.into()),
                Err(_) => table.forget(fd),
            }
        }
        let tag = table.next_tag();
        let adding = self.apply(Changes::new().each(fd, want, arm(trigger), tag)?);
        self.settle(&mut table, fd, adding, |table| table.put(fd, key, tag, want, trigger), want)
    }

    pub(crate) fn modify(&self, source: RawFd, key: u64, want: Interest, trigger: Trigger) -> io::Result<()> {
        let fd = source as usize;
        let mut table = self.table();
        let old = table.get(fd).ok_or(io::ErrorKind::NotFound)?;
        let tag = table.next_tag();
        // Deleting and adding anew is the one way in which every kernel takes over a changed trigger.
        let mut changes = Changes::new();
        changes.each(fd, old.interest, abi::DELETE, old.tag)?.each(fd, want, arm(trigger), tag)?;
        let changing = self.apply(&changes);
        self.settle(&mut table, fd, changing, |table| table.put(fd, key, tag, want, trigger), want | old.interest)
    }

    /// Records a change that succeeded. After one that failed nothing of the source is left, in the kernel or here.
    fn settle(
        &self,
        table: &mut Table,
        fd: usize,
        change: io::Result<()>,
        record: impl FnOnce(&mut Table),
        touched: Interest,
    ) -> io::Result<()> {
        if change.is_ok() {
            record(table);
        } else {
            for filter in filters(touched) {
                // Usually "no such filter", which is what is wanted.
                let _ =
                    abi::change(fd, filter, abi::DELETE, 0, 0).and_then(|change| abi::apply(self.as_fd(), &[change]));
            }
            table.forget(fd);
        }
        change
    }

    pub(crate) fn remove(&self, source: RawFd) -> io::Result<()> {
        let fd = source as usize;
        let mut table = self.table();
        let old = table.get(fd).ok_or(io::ErrorKind::NotFound)?;
        table.forget(fd);
        self.apply(Changes::new().each(fd, old.interest, abi::DELETE, old.tag)?)
    }

    pub(crate) fn wait(&self, buffer: &mut Buffer, timeout: Option<Duration>) -> io::Result<()> {
        buffer.clear();
        // A deadline, because stale events can end the kernel's wait without being anybody's news.
        let deadline = match timeout {
            None => None,
            Some(Duration::ZERO) => Some(None),
            Some(timeout) => Instant::now().checked_add(timeout).map(Some), // beyond the clock's end: for ever
        };
        loop {
            let left = deadline.map(|at| at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())));
            let n = abi::wait(self.as_fd(), &mut buffer.raw, left.map(|left| left.min(LONGEST_PIECE)))?;
            self.take_in(buffer, n);
            if buffer.len() > 0 || left == Some(Duration::ZERO) {
                return Ok(());
            }
        }
    }

    fn take_in(&self, buffer: &mut Buffer, n: usize) {
        let mut table = self.table();
        table.begin_batch();
        for event in &buffer.raw[..n] {
            if let Outcome::DisarmOthers(interest) = table.take_in(event, &mut buffer.ready) {
                self.disarm(event, interest);
            }
        }
    }

    /// Disables the filters that did not fire. The kernel has disabled the one that did.
    fn disarm(&self, fired: &Kevent, interest: Interest) {
        for filter in filters(interest).filter(|filter| Some(*filter) != Filter::of(fired)) {
            // It can fail only if the descriptor is gone, and then there is nothing to disable.
            let _ = abi::change(fired.ident, filter, abi::DISABLE, 0, fired.udata.addr())
                .and_then(|change| abi::apply(self.as_fd(), &[change]));
        }
    }
}

impl AsFd for Selector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.queue.as_fd()
    }
}

/// A user event of a kqueue: what a waker is made of.
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
        let (ident, tag) = selector.table().put_user(key);
        let event = UserEvent { selector, ident, tag }; // whose drop undoes this if the next line fails
        event.change(abi::ADD | abi::CLEAR, 0)?;
        Ok(event)
    }

    pub(crate) fn trigger(&self) -> io::Result<()> {
        self.change(0, abi::TRIGGER)
    }

    fn change(&self, flags: u32, fflags: u32) -> io::Result<()> {
        abi::apply(self.selector.as_fd(), &[abi::change(self.ident, Filter::User, flags, fflags, self.tag)?])
    }
}

#[cfg(not(any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd")))]
impl Drop for UserEvent {
    fn drop(&mut self) {
        // Under the lock, so that the identifier's next owner comes after this.
        let mut table = self.selector.table();
        let _ = self.change(abi::DELETE, 0);
        table.forget_user(self.ident);
    }
}

/// A new kqueue that has one event, and keeps it, when the process has ended.
pub(crate) fn watch_process(pid: u32) -> io::Result<OwnedFd> {
    let queue = abi::kqueue()?;
    abi::apply(queue.as_fd(), &[abi::change(pid as usize, Filter::Process, abi::ADD, abi::EXIT, 0)?])?;
    Ok(queue)
}

/// The flags that add a filter with this trigger.
fn arm(trigger: Trigger) -> u32 {
    abi::ADD
        | abi::ENABLE
        | match trigger {
            Trigger::Level => 0,
            Trigger::Edge => abi::CLEAR,
            Trigger::Oneshot => abi::DISPATCH,
        }
}

fn filters(interest: Interest) -> impl Iterator<Item = Filter> {
    let all =
        [(Interest::READABLE, Filter::Read), (Interest::WRITABLE, Filter::Write), (Interest::PRIORITY, Filter::Except)];
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

    /// The same change to every filter of `interest`. `Unsupported`, and nothing applied yet, if the kernel lacks one.
    fn each(&mut self, fd: usize, interest: Interest, flags: u32, tag: usize) -> io::Result<&mut Changes> {
        for filter in filters(interest) {
            let note = if filter == Filter::Except { abi::EXCEPT.map_or(0, |(_, note)| note) } else { 0 };
            self.list[self.len] = abi::change(fd, filter, flags, note, tag).map_err(|_| no_priority())?;
            self.len += 1;
        }
        Ok(self)
    }
}

fn no_priority() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this system's kqueue cannot watch for out-of-band data")
}

/// The kernel's events, and what became of them.
pub(crate) struct Buffer {
    raw: Box<[Kevent]>,
    ready: Vec<Event>,
}

// SAFETY: the raw events hold a pointer-sized tag, never a pointer that anybody follows.
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
