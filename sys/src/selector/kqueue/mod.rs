//! The kqueue backend (macOS, iOS, FreeBSD, NetBSD, OpenBSD, DragonFly, and Linux with libkqueue).
//! `../mod.rs` lists what is promised here.
//!
//! A kqueue watches filters, not descriptors: reading and writing are two knotes that fire apart.
//! `table.rs` remembers which belong together and makes one source of them again.
//!
//! Changes are applied at once, never queued for the next wait: a change that waited could meet a
//! descriptor that was closed, and reopened for something else, in between.
//!
//! # Where kqueue differs from epoll, and how the contract is met
//!
//! - EV_EOF is said of a filter, and with it the socket's error in `fflags`: on the read filter it
//!   is the peer's half-close or a hang-up, on the write filter the end of writing; a source's
//!   filters are merged, so a hang-up says both.
//! - EV_CLEAR is per filter: an edge of one interest does not repeat the other's state, as epoll's
//!   does. The contract promises only news.
//! - Oneshot is EV_DISPATCH, per filter too: the filters that did not fire are disabled by a change
//!   of their own.
//! - A listener's readable event carries the length of its queue, and data events carry byte
//!   counts: not looked at. What a listener was asked for as backlog its kernel may exceed by half
//!   (BSDs) before it refuses connections.
//! - A kqueue is not inherited by a forked child: a selector is the process's own.
//!
//! `kernel.rs` and `libkqueue/` are the two who provide the calls; their interface is the same.

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
use provider::{Gate, Idents};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use table::{Registration, Table};

/// The longest wait given to a kernel in one call: some refuse timespecs of more than 10^8 seconds.
const LONGEST_PIECE: Duration = Duration::from_secs(1_000_000);

/// A kqueue and what is registered with it, shared with its wakers.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    gate: Gate,
    queue: OwnedFd,
    sources: Mutex<Sources>,
}

/// What is registered, and under which identifiers.
#[derive(Debug)]
struct Sources {
    table: Table,
    idents: Idents,
}

/// libkqueue frees what is left of a closed queue some time later, and speaks to the kernel of
/// numbers that may have changed hands by then.
#[cfg(target_os = "linux")]
impl Drop for Shared {
    fn drop(&mut self) {
        let sources = self.sources.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (fd, interest) in sources.table.all() {
            for filter in filters(interest) {
                let ident = sources.idents.ident(fd, filter);
                let _ = abi::change(ident, filter, abi::DELETE, 0, 0)
                    .and_then(|change| self.gate.change(self.queue.as_fd(), &[change]));
            }
        }
    }
}

impl Selector {
    pub(crate) fn new() -> io::Result<Selector> {
        let queue = abi::kqueue()?;
        let gate = Gate::new(queue.as_fd())?;
        let sources = Mutex::new(Sources { table: Table::default(), idents: Idents::new()? });
        Ok(Selector { shared: Arc::new(Shared { gate, queue, sources }) })
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.shared.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, changes: &Changes) -> io::Result<()> {
        self.apply_list(&changes.list[..changes.len])
    }

    fn apply_list(&self, changes: &[Kevent]) -> io::Result<()> {
        self.shared.gate.change(self.as_fd(), changes).map_err(provider::reason)
    }

    pub(crate) fn add(
        &self,
        source: BorrowedFd<'_>,
        key: u64,
        want: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        provider::refuse_unwatchable(source)?;
        let fd = source.as_raw_fd() as usize;
        let mut sources = self.sources();
        if sources.table.get(fd).is_some() {
            if self.is_there(&sources, fd) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            self.evict(&mut sources, fd);
        }
        let tag = sources.table.next_tag();
        let adding = sources.idents.admit(source.as_raw_fd(), want);
        let adding = adding.and_then(|()| {
            self.apply(Changes::new().each(&sources, fd, want, arm(trigger), tag)?)
        });
        self.settle(&mut sources, fd, adding, |table| table.put(fd, key, tag, want, trigger), want)
    }

    /// Whether a registered descriptor is still in the kernel, or closed without a word.
    fn is_there(&self, sources: &Sources, fd: usize) -> bool {
        let Some(old) = sources.table.get(fd) else { return false };
        sources.idents.is_current(fd).unwrap_or_else(|| {
            // A change that changes nothing tells.
            let flag = if old.armed { abi::ENABLE } else { abi::DISABLE };
            let mut changes = Changes::new();
            changes
                .each(sources, fd, old.interest, flag, old.tag)
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
        want: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        let fd = source as usize;
        let mut sources = self.sources();
        let old = self.registered(&mut sources, fd)?;
        let tag = sources.table.next_tag();
        sources.idents.admit(source, want)?;
        // Deleting and adding again is the one way in which every kernel takes over a changed
        // trigger.
        let mut changes = Changes::new();
        let adding = arm(trigger);
        changes
            .each(&sources, fd, old.interest, abi::DELETE, old.tag)?
            .each(&sources, fd, want, adding, tag)?;
        let changing = self.apply(&changes);
        self.settle(
            &mut sources,
            fd,
            changing,
            |table| table.put(fd, key, tag, want, trigger),
            want | old.interest,
        )
    }

    /// The registration of a number, unless it is known to have changed hands. Where only the
    /// kernel knows, the next change will tell.
    fn registered(&self, sources: &mut Sources, fd: usize) -> io::Result<Registration> {
        let old = sources.table.get(fd).ok_or(io::ErrorKind::NotFound)?;
        if sources.idents.is_current(fd) == Some(false) {
            self.evict(sources, fd);
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(old)
    }

    /// Records a change that succeeded. After one that failed nothing of the source is left, in the
    /// kernel or here.
    fn settle(
        &self,
        sources: &mut Sources,
        fd: usize,
        change: io::Result<()>,
        record: impl FnOnce(&mut Table),
        touched: Interest,
    ) -> io::Result<()> {
        if change.is_ok() {
            record(&mut sources.table);
        } else {
            self.clear(sources, fd, touched);
        }
        change
    }

    /// Forgets a number that has changed hands.
    fn evict(&self, sources: &mut Sources, fd: usize) {
        let interest = sources.table.get(fd).map_or(Interest::empty(), |old| old.interest);
        self.clear(sources, fd, interest);
    }

    /// Deletes these filters of a source, if they are there, and forgets it.
    fn clear(&self, sources: &mut Sources, fd: usize, interest: Interest) {
        for filter in filters(interest) {
            // Usually "no such filter", which is what is wanted.
            let ident = sources.idents.ident(fd, filter);
            let _ = abi::change(ident, filter, abi::DELETE, 0, 0)
                .and_then(|change| self.apply_list(&[change]));
        }
        sources.table.forget(fd);
        sources.idents.dismiss(fd);
    }

    pub(crate) fn remove(&self, source: RawFd) -> io::Result<()> {
        let fd = source as usize;
        let mut sources = self.sources();
        let old = self.registered(&mut sources, fd)?;
        let removing = Changes::new()
            .each(&sources, fd, old.interest, abi::DELETE, old.tag)
            .and_then(|all| self.apply(all));
        sources.table.forget(fd);
        sources.idents.dismiss(fd);
        removing
    }

    pub(crate) fn wait(&self, buffer: &mut Buffer, timeout: Option<Duration>) -> io::Result<()> {
        buffer.clear();
        // A deadline, because stale events can end the kernel's wait without being anybody's news.
        let deadline = match timeout {
            None => None,
            Some(Duration::ZERO) => Some(None),
            // Beyond the clock's end: without a deadline.
            Some(timeout) => Instant::now().checked_add(timeout).map(Some),
        };
        let mut first = true;
        loop {
            let left = deadline.map(|at| {
                at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
            });
            let piece = left.map(|left| left.min(LONGEST_PIECE));
            let n = self.shared.gate.wait(self.as_fd(), &mut buffer.raw, piece, first)?;
            first = false;
            self.take_in(buffer, n);
            if buffer.len() > 0 || left == Some(Duration::ZERO) {
                return Ok(());
            }
        }
    }

    fn take_in(&self, buffer: &mut Buffer, n: usize) {
        let mut sources = self.sources();
        sources.table.begin_batch();
        for event in &mut buffer.raw[..n] {
            sources.idents.amend(event);
            let Some(fd) = sources.owner(event) else { continue };
            if sources.table.is_first_of_batch(fd, event)
                && sources.idents.is_current(fd) == Some(false)
            {
                self.evict(&mut sources, fd);
            } else {
                sources.table.take_in(fd, event, &mut buffer.ready);
            }
        }
        for event in &buffer.raw[..n] {
            let Some(fd) = sources.owner(event) else { continue };
            if let Some((interest, tag)) = sources.table.disarm(fd) {
                self.disable(&sources, fd, interest, tag);
            }
        }
    }

    /// Disables the filters of a oneshot source that did not fire. The kernel has disabled those
    /// that did.
    fn disable(&self, sources: &Sources, fd: usize, interest: Interest, tag: usize) {
        for filter in filters(interest) {
            // It can fail only if the descriptor is gone, and then there is nothing to disable.
            let ident = sources.idents.ident(fd, filter);
            let _ = abi::change(ident, filter, abi::DISABLE, 0, tag)
                .and_then(|change| self.apply_list(&[change]));
        }
    }
}

impl Sources {
    /// The source whose event this is; for user events, whose identifiers are numbers of their own,
    /// anything.
    fn owner(&self, event: &Kevent) -> Option<usize> {
        if Filter::of(event) == Some(Filter::User) {
            Some(event.ident)
        } else {
            self.idents.owner(event)
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
        let (ident, tag) = selector.sources().table.put_user(key);
        let event = UserEvent { selector, ident, tag }; // whose drop undoes this if the next line fails
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
        // Under the lock, so that the identifier's next owner comes after this.
        let mut sources = self.selector.sources();
        let _ = self.change(abi::DELETE, 0);
        sources.table.forget_user(self.ident);
    }
}

/// A new kqueue that has one event, and keeps it, when the process has ended.
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

    /// The same change to every filter of `interest`. `Unsupported`, and nothing applied yet, if
    /// the kernel lacks one.
    fn each(
        &mut self,
        sources: &Sources,
        fd: usize,
        interest: Interest,
        flags: u32,
        tag: usize,
    ) -> io::Result<&mut Changes> {
        for filter in filters(interest) {
            let note =
                if filter == Filter::Except { abi::EXCEPT.map_or(0, |(_, note)| note) } else { 0 };
            let ident = sources.idents.ident(fd, filter);
            self.list[self.len] =
                abi::change(ident, filter, flags, note, tag).map_err(|_| no_priority())?;
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

/// The kernel's events, and what became of them.
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
