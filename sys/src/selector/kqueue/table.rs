//! What is registered with a kqueue.
//!
//! Tables by descriptor number are an old source of injury: a file closes without a word, the
//! number goes to another, and the table speaks of the wrong one. A kqueue has the same table
//! inside, and forgets a number when it closes. So this one is never believed by itself. What
//! identifies a registration is its tag, new each time, which the kernel carries and hands back
//! with every event: one with another tag than the current is dropped. And each change asks the
//! kernel first: of a number that has changed hands it does not know the filters, and its answer
//! (`add`: they are not there; `modify`, `remove`: `NotFound`) is what counts, whereupon the entry
//! here is forgotten, too.
//!
//! The kernel knows only single filters. The rest of the contract needs to know which filters
//! belong together: one event a source and wait, oneshot for the whole source, refusal of a second
//! `add`. Keys live here too, so that all 64 bits of them fit on 32-bit machines; the kernel
//! carries a tag that changes with every registration, and an event whose tag is not the current
//! one is stale and dropped.

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
    /// The last batch that had an event of this source, the place of that event in it, and whose
    /// filters fired.
    batch: u64,
    place: usize,
    fired: Interest,
}

/// A waker's user event.
#[derive(Clone, Copy, Debug)]
struct User {
    key: u64,
    tag: usize,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// Indexed by descriptor: the kernel gives out the smallest free number, so this stays as small
    /// as it can be.
    sources: Vec<Option<Registration>>,
    /// Indexed by the user event's identifier.
    users: Vec<Option<User>>,
    batch: u64,
    last_tag: usize,
}

impl Table {
    pub(super) fn get(&self, fd: usize) -> Option<Registration> {
        *self.sources.get(fd)?
    }

    /// Every source's number and interest.
    #[cfg(target_os = "linux")]
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, Interest)> {
        self.sources
            .iter()
            .enumerate()
            .filter_map(|(fd, source)| Some((fd, source.as_ref()?.interest)))
    }

    /// Registers or replaces. The tag is new, so that what is still on its way for the old
    /// registration is dropped.
    pub(super) fn put(
        &mut self,
        fd: usize,
        key: u64,
        tag: usize,
        interest: Interest,
        trigger: Trigger,
    ) {
        if self.sources.len() <= fd {
            self.sources.resize(fd + 1, None);
        }
        self.sources[fd] = Some(Registration {
            key,
            tag,
            interest,
            trigger,
            armed: true,
            batch: 0,
            place: 0,
            fired: Interest::empty(),
        });
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
    #[cfg_attr(
        any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd"),
        allow(dead_code)
    )]
    pub(super) fn put_user(&mut self, key: u64) -> (usize, usize) {
        let tag = self.next_tag();
        let ident = self.users.iter().position(Option::is_none).unwrap_or_else(|| {
            self.users.push(None);
            self.users.len() - 1
        });
        self.users[ident] = Some(User { key, tag });
        (ident, tag)
    }

    #[cfg_attr(
        any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd"),
        allow(dead_code)
    )]
    pub(super) fn forget_user(&mut self, ident: usize) {
        if let Some(place) = self.users.get_mut(ident) {
            *place = None;
        }
    }

    /// Call before the events of one wait are taken in.
    pub(super) fn begin_batch(&mut self) {
        self.batch += 1;
    }

    /// Whether this event would be the first of its source in this batch.
    pub(super) fn is_first_of_batch(&self, fd: usize, event: &Kevent) -> bool {
        let source = self.get(fd).filter(|_| Filter::of(event) != Some(Filter::User));
        source.is_some_and(|source| source.tag == event.udata.addr() && source.batch != self.batch)
    }

    /// Adds one kernel event of the source `fd` to `ready`, merged with the source's other filters,
    /// or drops it if it is stale.
    pub(super) fn take_in(&mut self, fd: usize, event: &Kevent, ready: &mut Vec<Event>) {
        let tag = event.udata.addr();
        let Some(filter) = Filter::of(event) else { return };
        if filter == Filter::User {
            if let Some(Some(user)) =
                self.users.get(event.ident).filter(|user| user.is_some_and(|u| u.tag == tag))
            {
                ready.push(Event { key: user.key, readiness: Readiness::READABLE });
            }
            return;
        }
        let Some(Some(source)) = self.sources.get_mut(fd) else { return };
        // Without being armed: the stale event of a oneshot's sibling.
        if source.tag != tag || !source.armed {
            return;
        }
        if source.batch != self.batch {
            (source.batch, source.place, source.fired) =
                (self.batch, ready.len(), Interest::empty());
            ready.push(Event { key: source.key, readiness: Readiness::empty() });
        }
        source.fired |= interest(filter);
        ready[source.place].readiness |= readiness(event, filter);
    }

    /// Once all events of a batch are taken in: if a oneshot source has fired in it, disarms it and
    /// tells what of it has **not** fired and has to be disabled, and the registration's tag. The
    /// second call for one source tells nothing.
    pub(super) fn disarm(&mut self, fd: usize) -> Option<(Interest, usize)> {
        let source = self.sources.get_mut(fd)?.as_mut()?;
        if source.trigger != Trigger::Oneshot || !source.armed || source.batch != self.batch {
            return None;
        }
        source.armed = false;
        Some((source.interest.remove(source.fired), source.tag))
    }
}

fn interest(filter: Filter) -> Interest {
    match filter {
        Filter::Read => Interest::READABLE,
        Filter::Write => Interest::WRITABLE,
        Filter::Except => Interest::PRIORITY,
        Filter::User | Filter::Process => Interest::empty(),
    }
}

fn readiness(event: &Kevent, filter: Filter) -> Readiness {
    let (flags, fflags) = (event.flags as u32, event.fflags);
    if flags & ERROR != 0 {
        return Readiness::ERROR;
    }
    let end = flags & EOF != 0;
    // At the end of a socket's life `fflags` is its error; in libkqueue's events whenever it is not
    // zero.
    let error_told = end || cfg!(target_os = "linux");
    let error =
        Readiness::when(error_told && fflags != 0 && filter != Filter::Except, Readiness::ERROR);
    error
        | match filter {
            Filter::Read => Readiness::READABLE | Readiness::when(end, Readiness::READ_CLOSED),
            Filter::Write => Readiness::WRITABLE | Readiness::when(end, Readiness::WRITE_CLOSED),
            Filter::Except => {
                let out_of_band = EXCEPT.is_some_and(|(_, note)| fflags & note != 0);
                Readiness::when(out_of_band || !end, Readiness::PRIORITY)
                    | Readiness::when(end, Readiness::READ_CLOSED)
            }
            Filter::User | Filter::Process => Readiness::READABLE,
        }
}

#[cfg(test)]
mod tests {
    use super::super::abi::change;
    use super::*;

    fn event(fd: usize, filter: Filter, tag: usize) -> Kevent {
        change(fd, filter, 0, 0, tag).unwrap()
    }

    /// A table in which descriptor 5 is registered under `key`, and the registration's tag.
    fn table(key: u64, trigger: Trigger) -> (Table, usize) {
        let mut table = Table::default();
        let tag = table.next_tag();
        table.put(5, key, tag, Interest::READABLE | Interest::WRITABLE, trigger);
        table.begin_batch();
        (table, tag)
    }

    #[test]
    fn an_event_of_a_numbers_former_owner_is_dropped() {
        let (mut table, old) = table(1, Trigger::Level);
        let mut ready = Vec::new();
        let new = table.next_tag();
        table.put(5, 2, new, Interest::READABLE, Trigger::Level);
        table.take_in(5, &event(5, Filter::Read, old), &mut ready);
        assert_eq!(ready, []);
        table.take_in(5, &event(5, Filter::Read, new), &mut ready);
        assert_eq!(ready, [Event { key: 2, readiness: Readiness::READABLE }]);
        table.forget(5);
        table.take_in(5, &event(5, Filter::Read, new), &mut ready);
        assert_eq!(ready.len(), 1, "nobody owns it now");
    }

    #[test]
    fn a_sources_filters_make_one_event() {
        let (mut table, tag) = table(u64::MAX, Trigger::Level);
        let mut ready = Vec::new();
        for filter in [Filter::Read, Filter::Write] {
            table.take_in(5, &event(5, filter, tag), &mut ready);
        }
        assert_eq!(
            ready,
            [Event { key: u64::MAX, readiness: Readiness::READABLE | Readiness::WRITABLE }]
        );
    }

    #[test]
    fn a_oneshot_whose_filters_all_fired_has_nothing_left_to_disable() {
        let (mut table, tag) = table(1, Trigger::Oneshot);
        let mut ready = Vec::new();
        for filter in [Filter::Read, Filter::Write] {
            assert!(table.is_first_of_batch(5, &event(5, filter, tag)) == (filter == Filter::Read));
            table.take_in(5, &event(5, filter, tag), &mut ready);
        }
        assert_eq!(ready.len(), 1);
        assert_eq!(table.disarm(5), Some((Interest::empty(), tag)));
    }

    #[test]
    fn a_oneshot_that_fired_in_an_earlier_batch_is_silent() {
        let (mut table, tag) = table(1, Trigger::Oneshot);
        let mut ready = Vec::new();
        table.take_in(5, &event(5, Filter::Read, tag), &mut ready);
        assert_eq!(
            table.disarm(5),
            Some((Interest::WRITABLE, tag)),
            "the filter that did not fire"
        );
        assert_eq!(table.disarm(5), None);
        table.begin_batch();
        ready.clear();
        table.take_in(5, &event(5, Filter::Write, tag), &mut ready);
        assert_eq!(table.disarm(5), None);
        assert_eq!(ready, []);
    }
}
