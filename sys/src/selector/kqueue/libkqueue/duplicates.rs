//! Duplicates of a source's descriptor, one for each filter, which libkqueue watches in its place.
//!
//! A duplicate belongs to the selector and is closed only after its filter has been deleted.
//!
//! Whether a descriptor's number still means the same file is asked of a second epoll instance, in
//! which every source is registered under its own number, without any events. The kernel finds such
//! a registration by file **and** number. So after a close, or for a reused number, it finds none.

use super::super::abi::{self, Filter, Kevent};
use crate::Interest;
use crate::fd::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

#[derive(Debug)]
pub(in super::super) struct Idents {
    /// The second epoll instance, which nothing waits for.
    identity: OwnedFd,
    /// Indexed by the source's number.
    duplicates: Vec<Option<Duplicates>>,
    /// The source's number, indexed by the duplicates'.
    sources: Vec<Option<usize>>,
}

#[derive(Debug, Default)]
struct Duplicates {
    reading: Option<OwnedFd>,
    writing: Option<OwnedFd>,
    /// False for files that epoll refuses: their numbers count as unchanged.
    has_identity: bool,
}

impl Idents {
    pub(in super::super) fn new() -> io::Result<Idents> {
        // SAFETY: no pointers; the answer is a new descriptor or -1.
        let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `raw` was just opened and has no other owner.
        let identity = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Idents { identity, duplicates: Vec::new(), sources: Vec::new() })
    }

    /// Makes the duplicates that `interest` needs and that are missing. After an error some may
    /// exist; `remove` closes them.
    pub(in super::super) fn add(&mut self, source: RawFd, interest: Interest) -> io::Result<()> {
        let number = source as usize;
        if self.duplicates.len() <= number {
            self.duplicates.resize_with(number + 1, || None);
        }
        if self.duplicates[number].is_none() {
            let has_identity = match self.control_identity(libc::EPOLL_CTL_ADD, source) {
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => false,
                // From an earlier registration of the same file under the same number.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => true,
                result => result.map(|()| true)?,
            };
            self.duplicates[number] = Some(Duplicates { has_identity, ..Duplicates::default() });
        }
        let filters = [(Interest::READABLE, Filter::Read), (Interest::WRITABLE, Filter::Write)];
        for (wanted, filter) in filters {
            if interest.contains(wanted) && self.duplicate(number, filter).is_none() {
                self.add_duplicate(source, filter)?;
            }
        }
        Ok(())
    }

    fn add_duplicate(&mut self, source: RawFd, filter: Filter) -> io::Result<()> {
        let number = source as usize;
        let duplicate = duplicate(source)?;
        let ident = duplicate.as_raw_fd() as usize;
        if self.sources.len() <= ident {
            self.sources.resize(ident + 1, None);
        }
        self.sources[ident] = Some(number);
        if let Some(duplicates) = &mut self.duplicates[number] {
            match filter {
                Filter::Read => duplicates.reading = Some(duplicate),
                _ => duplicates.writing = Some(duplicate),
            }
        }
        Ok(())
    }

    fn duplicate(&self, source: usize, filter: Filter) -> Option<&OwnedFd> {
        let duplicates = self.duplicates.get(source)?.as_ref()?;
        if filter == Filter::Read {
            duplicates.reading.as_ref()
        } else {
            duplicates.writing.as_ref()
        }
    }

    /// The source must have been added for this filter.
    pub(in super::super) fn ident(&self, source: usize, filter: Filter) -> usize {
        // Without a duplicate there is no such filter, and no identifier that libkqueue would find.
        self.duplicate(source, filter).map_or(usize::MAX, |fd| fd.as_raw_fd() as usize)
    }

    /// The source whose event this is.
    pub(in super::super) fn source(&self, event: &Kevent) -> Option<usize> {
        self.sources.get(event.ident).copied().flatten()
    }

    /// Whether the number still belongs to the file that was registered.
    pub(in super::super) fn is_current(&self, source: usize) -> Option<bool> {
        let has_identity = self.duplicates.get(source)?.as_ref()?.has_identity;
        Some(!has_identity || self.control_identity(libc::EPOLL_CTL_MOD, source as RawFd).is_ok())
    }

    /// Closes the duplicates of the source, whose filters have been deleted.
    pub(in super::super) fn remove(&mut self, source: usize) {
        let Some(duplicates) = self.duplicates.get_mut(source).and_then(Option::take) else {
            return;
        };
        for duplicate in [duplicates.reading, duplicates.writing].into_iter().flatten() {
            self.sources[duplicate.as_raw_fd() as usize] = None;
        }
        // Fails if the number is no longer that file's; then the entry is no longer used.
        let _ = self.control_identity(libc::EPOLL_CTL_DEL, source as RawFd);
    }

    /// Corrects an event of libkqueue: clears an EV_EOF that is not true, and saves the socket's
    /// error that libkqueue took.
    pub(in super::super) fn correct_event(&self, event: &mut Kevent) {
        let Some(source) = self.source(event) else { return };
        if u32::from(event.flags) & abi::EOF == 0 {
            return;
        }
        let Some(filter @ (Filter::Read | Filter::Write)) = Filter::of(event) else { return };
        let Some(fd) = self.duplicate(source, filter).map(AsFd::as_fd) else { return };
        if event.fflags != 0 {
            super::saved_errors::save(fd, event.fflags as i32);
        }
        if !is_at_end(fd, filter) {
            event.flags &= !(abi::EOF as u16);
        }
    }

    fn control_identity(&self, operation: libc::c_int, number: RawFd) -> io::Result<()> {
        let mut no_events = libc::epoll_event { events: 0, u64: 0 };
        let identity = self.identity.as_raw_fd();
        // SAFETY: the kernel copies the event before it returns, and changes nothing but the list
        // of our own epoll instance; a number that is not open is an error.
        check(unsafe { libc::epoll_ctl(identity, operation, number, &mut no_events) }).map(drop)
    }
}

fn duplicate(source: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: this command takes an int and does nothing to the file; a number that is not open
    // is an error.
    let raw = check(unsafe { libc::fcntl(source, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: `raw` was just opened and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Whether nothing more can be read, or written.
fn is_at_end(fd: BorrowedFd<'_>, filter: Filter) -> bool {
    let half_closed = if filter == Filter::Read { libc::POLLRDHUP } else { 0 };
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: half_closed, revents: 0 };
    // SAFETY: one entry, which the kernel writes to, and no waiting.
    check(unsafe { libc::poll(&mut poll, 1, 0) }).is_ok()
        && poll.revents & (half_closed | libc::POLLHUP) != 0
}
