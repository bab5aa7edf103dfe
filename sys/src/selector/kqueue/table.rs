//! What is registered with a kqueue, by descriptor number.
//!
//! Such a table can be wrong: when a file is closed, its number may be reused for another file, and
//! the table still describes the first one. The kernel forgets a number when its file is closed;
//! this table does not. Two rules make it safe:
//!
//! - A registration is identified by its tag, which is new each time. The kernel carries the tag
//!   and returns it with every event. An event with another tag than the current one is stale and
//!   dropped.
//! - Every change asks the kernel first. Of a reused number it does not know the filters, and its
//!   answer counts (`add` succeeds; `modify` and `remove` fail with `NotFound`). Then the entry in
//!   this table is removed, too.
//!
//! The table is needed because the kernel knows only single filters. The rest of the contract is
//! about sources: one event for each source and wait, oneshot for the whole source, and an error
//! for a second `add`. Keys are stored here too, because a tag has only 32 bits on 32-bit machines.

use super::super::Event;
use super::abi::{EOF, ERROR, EXCEPT, Filter, Kevent};
use crate::{Interest, Readiness, Trigger};

/// A source's registration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) key: u64,
    pub(super) tag: usize,
    pub(super) interest: Interest,
    pub(super) trigger: Trigger,
    /// False for a oneshot registration that has fired.
    pub(super) armed: bool,
    /// The last batch with an event of this source.
    batch: u64,
    /// The index of that event in its batch.
    index: usize,
    /// The filters that fired in that batch.
    fired: Interest,
}

/// The registration of a waker's user event.
#[derive(Clone, Copy, Debug)]
struct UserEvent {
    key: u64,
    tag: usize,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// Indexed by descriptor: the kernel assigns the smallest free number, so this stays small.
    sources: Vec<Option<Registration>>,
    /// Indexed by the user event's identifier.
    user_events: Vec<Option<UserEvent>>,
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

    /// Registers or replaces. The tag is new, so that events of the old registration are dropped.
    pub(super) fn insert(
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
            index: 0,
            fired: Interest::empty(),
        });
    }

    pub(super) fn remove(&mut self, fd: usize) {
        if let Some(slot) = self.sources.get_mut(fd) {
            *slot = None;
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
    pub(super) fn insert_user_event(&mut self, key: u64) -> (usize, usize) {
        let tag = self.next_tag();
        let ident = self.user_events.iter().position(Option::is_none).unwrap_or_else(|| {
            self.user_events.push(None);
            self.user_events.len() - 1
        });
        self.user_events[ident] = Some(UserEvent { key, tag });
        (ident, tag)
    }

    #[cfg_attr(
        any(kodiak_pipe_waker, target_os = "openbsd", target_os = "netbsd"),
        allow(dead_code)
    )]
    pub(super) fn remove_user_event(&mut self, ident: usize) {
        if let Some(slot) = self.user_events.get_mut(ident) {
            *slot = None;
        }
    }

    /// Must be called before the events of one wait are merged.
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
    pub(super) fn merge(&mut self, fd: usize, event: &Kevent, ready: &mut Vec<Event>) {
        let tag = event.udata.addr();
        let Some(filter) = Filter::of(event) else { return };
        if filter == Filter::User {
            if let Some(Some(user)) =
                self.user_events.get(event.ident).filter(|user| user.is_some_and(|u| u.tag == tag))
            {
                ready.push(Event { key: user.key, readiness: Readiness::READABLE });
            }
            return;
        }
        let Some(Some(source)) = self.sources.get_mut(fd) else { return };
        // Not armed: the stale event of another filter of a oneshot that has fired.
        if source.tag != tag || !source.armed {
            return;
        }
        if source.batch != self.batch {
            source.batch = self.batch;
            source.index = ready.len();
            source.fired = Interest::empty();
            ready.push(Event { key: source.key, readiness: Readiness::empty() });
        }
        source.fired |= interest(filter);
        ready[source.index].readiness |= readiness(event, filter);
    }

    /// Disarms a oneshot source that has fired in this batch, once all its events are merged.
    ///
    /// Returns the filters to disable: those that did **not** fire. A second call for one source
    /// returns `None`.
    pub(super) fn disarm(&mut self, fd: usize) -> Option<Unfired> {
        let source = self.sources.get_mut(fd)?.as_mut()?;
        if source.trigger != Trigger::Oneshot || !source.armed || source.batch != self.batch {
            return None;
        }
        source.armed = false;
        Some(Unfired { interest: source.interest.remove(source.fired), tag: source.tag })
    }
}

/// The filters of a oneshot source that did not fire when another one did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unfired {
    pub(super) interest: Interest,
    pub(super) tag: usize,
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
    // With EV_EOF `fflags` is the socket's error; in libkqueue's events always.
    let is_error = fflags != 0 && (end || cfg!(target_os = "linux"));
    let error = Readiness::when(is_error && filter != Filter::Except, Readiness::ERROR);
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
        table.insert(5, key, tag, Interest::READABLE | Interest::WRITABLE, trigger);
        table.begin_batch();
        (table, tag)
    }

    #[test]
    fn an_event_of_an_earlier_registration_is_dropped() {
        let (mut table, old) = table(1, Trigger::Level);
        let mut ready = Vec::new();
        let new = table.next_tag();
        table.insert(5, 2, new, Interest::READABLE, Trigger::Level);
        table.merge(5, &event(5, Filter::Read, old), &mut ready);
        assert_eq!(ready, []);
        table.merge(5, &event(5, Filter::Read, new), &mut ready);
        assert_eq!(ready, [Event { key: 2, readiness: Readiness::READABLE }]);
        table.remove(5);
        table.merge(5, &event(5, Filter::Read, new), &mut ready);
        assert_eq!(ready.len(), 1, "it is no longer registered");
    }

    #[test]
    fn a_sources_filters_make_one_event() {
        let (mut table, tag) = table(u64::MAX, Trigger::Level);
        let mut ready = Vec::new();
        for filter in [Filter::Read, Filter::Write] {
            table.merge(5, &event(5, filter, tag), &mut ready);
        }
        assert_eq!(
            ready,
            [Event { key: u64::MAX, readiness: Readiness::READABLE | Readiness::WRITABLE }]
        );
    }

    #[test]
    fn a_oneshot_that_fired_on_all_filters_disables_none() {
        let (mut table, tag) = table(1, Trigger::Oneshot);
        let mut ready = Vec::new();
        for filter in [Filter::Read, Filter::Write] {
            assert!(table.is_first_of_batch(5, &event(5, filter, tag)) == (filter == Filter::Read));
            table.merge(5, &event(5, filter, tag), &mut ready);
        }
        assert_eq!(ready.len(), 1);
        assert_eq!(table.disarm(5), Some(Unfired { interest: Interest::empty(), tag }));
    }

    #[test]
    fn a_oneshot_that_fired_in_an_earlier_batch_is_silent() {
        let (mut table, tag) = table(1, Trigger::Oneshot);
        let mut ready = Vec::new();
        table.merge(5, &event(5, Filter::Read, tag), &mut ready);
        assert_eq!(
            table.disarm(5),
            Some(Unfired { interest: Interest::WRITABLE, tag }),
            "the filter that did not fire"
        );
        assert_eq!(table.disarm(5), None);
        table.begin_batch();
        ready.clear();
        table.merge(5, &event(5, Filter::Write, tag), &mut ready);
        assert_eq!(table.disarm(5), None);
        assert_eq!(ready, []);
    }
}
