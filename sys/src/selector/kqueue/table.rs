//! What is registered with a kqueue, by descriptor.
//!
//! The kernel knows only single filters. The rest of the contract needs to know which filters belong together: one event a
//! source and wait, oneshot for the whole source, refusal of a second `add`. Keys live here too, so that all 64 bits of them
//! fit on 32-bit machines; the kernel carries a tag that changes with every registration, and an event whose tag is not the
//! current one is stale and dropped.

use super::super::Event;
use super::abi::{EOF, ERROR, EXCEPT, Filter, Kevent};
use crate::{Interest, Readiness, Trigger};

/// One source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) key: u64,
    pub(super) tag: usize,
    pub(super) interest: Interest,
    pub(super) trigger: Trigger,
    /// False for a oneshot registration that has fired.
    pub(super) armed: bool,
    /// The last batch that had an event of this source, and the place of that event in it.
    batch: u64,
    place: usize,
}

/// A waker's user event.
#[derive(Clone, Copy, Debug)]
struct User {
    key: u64,
    tag: usize,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// Indexed by descriptor: the kernel gives out the smallest free number, so this stays as small as it can be.
    sources: Vec<Option<Registration>>,
    /// Indexed by the user event's identifier.
    users: Vec<Option<User>>,
    batch: u64,
    last_tag: usize,
}

/// What the caller still has to do about an event.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Done,
    /// A oneshot source fired: its other filters have to be disabled.
    DisarmOthers(Interest),
}

impl Table {
    pub(super) fn get(&self, fd: usize) -> Option<Registration> {
        *self.sources.get(fd)?
    }

    /// Registers or replaces. The tag is new, so that what is still on its way for the old registration is dropped.
    pub(super) fn put(&mut self, fd: usize, key: u64, tag: usize, interest: Interest, trigger: Trigger) {
        if self.sources.len() <= fd {
            self.sources.resize(fd + 1, None);
        }
        self.sources[fd] = Some(Registration { key, tag, interest, trigger, armed: true, batch: 0, place: 0 });
    }

    pub(super) fn forget(&mut self, fd: usize) {
        if let Some(place) = self.sources.get_mut(fd) {
            *place = None;
        }
    }

    pub(super) fn next_tag(&mut self) -> usize {
        self.last_tag = self.last_tag.wrapping_add(1);
        self.last_tag
    }

    /// Reserves an identifier and a tag for a user event.
    #[cfg_attr(any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd"), allow(dead_code))]
    pub(super) fn put_user(&mut self, key: u64) -> (usize, usize) {
        let tag = self.next_tag();
        let ident = self.users.iter().position(Option::is_none).unwrap_or_else(|| {
            self.users.push(None);
            self.users.len() - 1
        });
        self.users[ident] = Some(User { key, tag });
        (ident, tag)
    }

    #[cfg_attr(any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd"), allow(dead_code))]
    pub(super) fn forget_user(&mut self, ident: usize) {
        if let Some(place) = self.users.get_mut(ident) {
            *place = None;
        }
    }

    /// Call before the events of one wait are taken in.
    pub(super) fn begin_batch(&mut self) {
        self.batch += 1;
    }

    /// Adds one kernel event to `ready`, merged with the source's other filters, or drops it if it is stale.
    pub(super) fn take_in(&mut self, event: &Kevent, ready: &mut Vec<Event>) -> Outcome {
        let tag = event.udata.addr();
        let Some(filter) = Filter::of(event) else { return Outcome::Done };
        if filter == Filter::User {
            if let Some(Some(user)) = self.users.get(event.ident).filter(|user| user.is_some_and(|u| u.tag == tag)) {
                ready.push(Event { key: user.key, readiness: Readiness::READABLE });
            }
            return Outcome::Done;
        }
        let Some(Some(source)) = self.sources.get_mut(event.ident) else { return Outcome::Done };
        if source.tag != tag {
            return Outcome::Done;
        }
        if source.batch == self.batch {
            ready[source.place].readiness |= readiness(event, filter);
            return Outcome::Done;
        }
        if !source.armed {
            return Outcome::Done; // the stale event of a oneshot's sibling
        }
        (source.batch, source.place) = (self.batch, ready.len());
        ready.push(Event { key: source.key, readiness: readiness(event, filter) });
        if source.trigger != Trigger::Oneshot {
            return Outcome::Done;
        }
        source.armed = false;
        Outcome::DisarmOthers(source.interest)
    }
}

fn readiness(event: &Kevent, filter: Filter) -> Readiness {
    let (flags, fflags) = (event.flags as u32, event.fflags);
    if flags & ERROR != 0 {
        return Readiness::ERROR;
    }
    let end = flags & EOF != 0;
    // At the end of a socket's life `fflags` is its error.
    let error = Readiness::when(end && fflags != 0 && filter != Filter::Except, Readiness::ERROR);
    error
        | match filter {
            Filter::Read => Readiness::READABLE | Readiness::when(end, Readiness::READ_CLOSED),
            Filter::Write => Readiness::WRITABLE | Readiness::when(end, Readiness::WRITE_CLOSED),
            Filter::Except => {
                let out_of_band = EXCEPT.is_some_and(|(_, note)| fflags & note != 0);
                Readiness::when(out_of_band || !end, Readiness::PRIORITY) | Readiness::when(end, Readiness::READ_CLOSED)
            }
            Filter::User | Filter::Process => Readiness::READABLE,
        }
}
