//! What libkqueue watches instead of the descriptor itself: a duplicate for each filter, which
//! belongs to the selector and is closed only after the filter has been deleted.
//!
//! Whether the descriptor's number still means the same file is asked of a witness: an epoll
//! instance in which every source is entered under its own number, without any events. The kernel
//! finds an entry by file **and** number, so after a close, or for the number's next owner, it
//! finds none.

use super::super::abi::{self, Filter, Kevent};
use crate::Interest;
use crate::fd::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

#[derive(Debug)]
pub(in super::super) struct Idents {
    witness: OwnedFd,
    /// Indexed by the source's number.
    stand_ins: Vec<Option<StandIn>>,
    /// The source's number, indexed by the duplicates'.
    owners: Vec<Option<usize>>,
}

#[derive(Debug, Default)]
struct StandIn {
    reading: Option<OwnedFd>,
    writing: Option<OwnedFd>,
    /// False for files that epoll does not take: they count as unchanged.
    witnessed: bool,
}

impl Idents {
    pub(in super::super) fn new() -> io::Result<Idents> {
        // SAFETY: no pointers; the answer is a new descriptor or -1.
        let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `raw` was just opened and has no other owner.
        let witness = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Idents { witness, stand_ins: Vec::new(), owners: Vec::new() })
    }

    /// Makes what is missing for `interest`. After an error there may be more than before, which
    /// `dismiss` sees to.
    pub(in super::super) fn admit(&mut self, source: RawFd, interest: Interest) -> io::Result<()> {
        let number = source as usize;
        if self.stand_ins.len() <= number {
            self.stand_ins.resize_with(number + 1, || None);
        }
        if self.stand_ins[number].is_none() {
            let witnessed = match self.ask(libc::EPOLL_CTL_ADD, source) {
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => false,
                // From an earlier registration of the same file under the same number.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => true,
                answer => answer.map(|()| true)?,
            };
            self.stand_ins[number] = Some(StandIn { witnessed, ..StandIn::default() });
        }
        for (wanted, filter) in [(Interest::READABLE, Filter::Read), (Interest::WRITABLE, Filter::Write)] {
            if interest.contains(wanted) && self.stand_in(number, filter).is_none() {
                let duplicate = duplicate(source)?;
                let ident = duplicate.as_raw_fd() as usize;
                if self.owners.len() <= ident {
                    self.owners.resize(ident + 1, None);
                }
                self.owners[ident] = Some(number);
                if let Some(stand_in) = &mut self.stand_ins[number] {
                    *(if filter == Filter::Read { &mut stand_in.reading } else { &mut stand_in.writing }) = Some(duplicate);
                }
            }
        }
        Ok(())
    }

    fn stand_in(&self, source: usize, filter: Filter) -> Option<&OwnedFd> {
        let stand_in = self.stand_ins.get(source)?.as_ref()?;
        if filter == Filter::Read { stand_in.reading.as_ref() } else { stand_in.writing.as_ref() }
    }

    /// The source must have been admitted for this filter.
    pub(in super::super) fn ident(&self, source: usize, filter: Filter) -> usize {
        // Without a stand-in there is no such filter, and no identifier that libkqueue would find.
        self.stand_in(source, filter).map_or(usize::MAX, |fd| fd.as_raw_fd() as usize)
    }

    /// The source whose event this is.
    pub(in super::super) fn owner(&self, event: &Kevent) -> Option<usize> {
        self.owners.get(event.ident).copied().flatten()
    }

    /// Whether the number still belongs to the file that was registered.
    pub(in super::super) fn is_current(&self, source: usize) -> Option<bool> {
        let witnessed = self.stand_ins.get(source)?.as_ref()?.witnessed;
        Some(!witnessed || self.ask(libc::EPOLL_CTL_MOD, source as RawFd).is_ok())
    }

    /// Closes what stands for the source, whose filters have been deleted.
    pub(in super::super) fn dismiss(&mut self, source: usize) {
        let Some(stand_in) = self.stand_ins.get_mut(source).and_then(Option::take) else { return };
        for duplicate in [stand_in.reading, stand_in.writing].into_iter().flatten() {
            self.owners[duplicate.as_raw_fd() as usize] = None;
        }
        // Fails if the number is no longer that file's; then the entry is no longer used.
        let _ = self.ask(libc::EPOLL_CTL_DEL, source as RawFd);
    }

    /// Corrects what an event says: an end that is none is taken back, and an error that libkqueue
    /// took is kept.
    pub(in super::super) fn amend(&self, event: &mut Kevent) {
        let Some(owner) = self.owner(event) else { return };
        if u32::from(event.flags) & abi::EOF == 0 {
            return;
        }
        let Some(filter @ (Filter::Read | Filter::Write)) = Filter::of(event) else { return };
        let Some(fd) = self.stand_in(owner, filter).map(AsFd::as_fd) else { return };
        if event.fflags != 0 {
            super::taken_errors::keep(fd, event.fflags as i32);
        }
        if !is_at_end(fd, filter) {
            event.flags &= !(abi::EOF as u16);
        }
    }

    fn ask(&self, operation: libc::c_int, number: RawFd) -> io::Result<()> {
        let mut nothing = libc::epoll_event { events: 0, u64: 0 };
        let witness = self.witness.as_raw_fd();
        // SAFETY: the kernel copies the event before it returns, and changes nothing but the list
        // of our own epoll instance; a number that is not open is an error.
        check(unsafe { libc::epoll_ctl(witness, operation, number, &mut nothing) }).map(drop)
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
    let mut asked = libc::pollfd { fd: fd.as_raw_fd(), events: half_closed, revents: 0 };
    // SAFETY: one entry, which the kernel writes to, and no waiting.
    check(unsafe { libc::poll(&mut asked, 1, 0) }).is_ok() && asked.revents & (half_closed | libc::POLLHUP) != 0
}
