//! The loop's own book of its sources: a slot for each, found by key.
//!
//! A key is a slot's number and its generation, and it is the key that the kernel is given. A
//! slot's generation changes when its source leaves, so whatever the kernel has already reported
//! under the old key finds nobody. As a second line, a slot that was freed is not given to a new
//! source before the turn at hand, and with it the batch of events, is over. Generations of sources
//! are odd: a slot whose generation is even is vacant, so finding a source is one comparison.
//!
//! A slot is 16 bytes and the token. What lists there are go through the slots themselves (`link`):
//! the vacant ones, and those to be called again. So nothing here allocates once as many slots
//! exist as there were ever sources at one time.

use kodiak_sys::{Interest, Noted, Readiness, Trigger};

use crate::handler::ReadHint;
use crate::suspension::Patience;

/// The key under which the loop's waker reports. No slot has it: see [`MAX_SLOTS`].
pub(crate) const WAKER_KEY: u64 = u64::MAX;
/// The key under which the signals' pipe reports.
pub(crate) const SIGNALS_KEY: u64 = u64::MAX - 1;
/// Slot numbers stay below this, so no key equals a reserved one.
pub(crate) const MAX_SLOTS: usize = (u32::MAX - 1) as usize;

/// What the loop knows of one source, or of the one that was here last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot<T> {
    generation: u32,
    /// The next slot of the list that this one is in.
    link: u32,
    /// The descriptor's number, good only inside of
    /// [`Shared::while_alive`](crate::registration::Shared::while_alive).
    pub(crate) noted: Noted,
    pub(crate) interest: Interest,
    pub(crate) trigger: Trigger,
    /// How long a hang-up or error has been told to nobody's interest.
    pub(crate) patience: Patience,
    marks: Marks,
    pub(crate) token: T,
}

/// Small facts about a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Marks(u8);

impl Marks {
    const NONE: Marks = Marks(0);
    /// That it can be read, and nothing else, is told by one call of `readable`, with nothing to
    /// look at before or to note after. Follows from everything else; see [`Slot::settle`].
    const PLAIN: u8 = 1;
    /// The loop's own source, that stands for a child process.
    const CHILD: u8 = 2;
    /// It is in one of the lists of those to be called again.
    const LISTED: u8 = 4;
    /// Which of the two.
    const SECOND_LIST: u8 = 8;
    /// It is to be called again when its place in the list has come.
    const AGAIN: u8 = 16;
    /// It is to be called again in the turn after that: asked in this one, while its place is still
    /// to come.
    const AGAIN_LATER: u8 = 32;
    /// Hang-up and error as last reported, for a turn that `again` asks for.
    const HUNG_UP: u8 = 64;
    const ERROR: u8 = 128;

    fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    fn set(&mut self, mark: u8, whether: bool) {
        self.0 = if whether { self.0 | mark } else { self.0 & !mark };
    }
}

impl<T> Slot<T> {
    pub(crate) fn is_child(&self) -> bool {
        self.marks.has(Marks::CHILD)
    }

    /// From now on it stands for a child process.
    pub(crate) fn make_child(&mut self) {
        self.marks.set(Marks::CHILD, true);
        self.settle();
    }

    /// What was last reported of it and does not go away by itself.
    pub(crate) fn lasting_hint(&self) -> ReadHint {
        let mut hint = ReadHint::NONE;
        if self.marks.has(Marks::HUNG_UP) {
            hint |= ReadHint::HUP;
        }
        if self.marks.has(Marks::ERROR) {
            hint |= ReadHint::ERROR;
        }
        hint
    }

    /// An event has come: it takes the place of a call that was asked for.
    pub(crate) fn note_event(&mut self, readiness: Readiness) {
        self.marks.set(Marks::AGAIN | Marks::AGAIN_LATER, false);
        self.marks.set(Marks::HUNG_UP, readiness.is_read_closed());
        self.marks.set(Marks::ERROR, readiness.is_error());
        self.settle();
    }

    /// Gives a source another registration.
    pub(crate) fn change(&mut self, token: T, interest: Interest, trigger: Trigger) {
        (self.token, self.interest, self.trigger) = (token, interest, trigger);
        self.patience = Patience::default();
        self.settle();
    }

    /// To be called after everything that the mark `PLAIN` follows from.
    pub(crate) fn settle(&mut self) {
        let special =
            Marks::CHILD | Marks::AGAIN | Marks::AGAIN_LATER | Marks::HUNG_UP | Marks::ERROR;
        let plain = self.interest.contains(Interest::READABLE)
            && self.patience == Patience::default()
            && !self.marks.has(special);
        self.marks.set(Marks::PLAIN, plain);
    }
}

/// No slot: the end of a list.
const NOBODY: u32 = u32::MAX;

/// A list of slots through their links, first in, first out.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    const EMPTY: List = List { first: NOBODY, last: NOBODY };

    fn is_empty(self) -> bool {
        self.first == NOBODY
    }

    fn push<T>(&mut self, slots: &mut [Slot<T>], slot: u32) {
        slots[slot as usize].link = NOBODY;
        match self.last {
            NOBODY => self.first = slot,
            last => slots[last as usize].link = slot,
        }
        self.last = slot;
    }

    fn pop<T>(&mut self, slots: &[Slot<T>]) -> Option<u32> {
        let slot = self.first;
        self.first = slots.get(slot as usize)?.link;
        if self.first == NOBODY {
            self.last = NOBODY;
        }
        Some(slot)
    }

    fn push_first<T>(&mut self, slots: &mut [Slot<T>], slot: u32) {
        slots[slot as usize].link = self.first;
        self.first = slot;
        if self.last == NOBODY {
            self.last = slot;
        }
    }
}

/// The slots of one loop, and who is to be called again.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    slots: Vec<Slot<T>>,
    len: usize,
    /// The first of the slots that may be used at once. The one freed last comes first: it is the
    /// warmest.
    free: u32,
    /// Slots freed during the turn `freed_in`: free when it is over.
    freed: List,
    freed_in: u64,
    /// Those to be called again: one list for this turn, one for the next. They may hold sources
    /// that have gone; those slots are free when the list has come to them.
    again: [List; 2],
    /// Which of the two is the next turn's.
    asking: usize,
}

impl<T: Copy> Registry<T> {
    pub(crate) fn new() -> Registry<T> {
        Registry {
            slots: Vec::new(),
            len: 0,
            free: NOBODY,
            freed: List::EMPTY,
            freed_in: 0,
            again: [List::EMPTY; 2],
            asking: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many slots exist, which no number of registered or dead sources exceeds.
    pub(crate) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Whether a source can be [added](Registry::occupy) in turn number `turn` without making a
    /// slot.
    #[inline]
    pub(crate) fn has_vacancy(&mut self, turn: u64) -> bool {
        self.end_turns_before(turn);
        self.free != NOBODY
    }

    /// Makes a slot. `false` if there can be no more.
    pub(crate) fn grow(&mut self, token: T, noted: Noted) -> bool {
        if self.slots.len() == MAX_SLOTS {
            return false;
        }
        let (interest, trigger) = (Interest::empty(), Trigger::Level);
        let (patience, marks) = (Patience::default(), Marks::NONE);
        let number = self.slots.len() as u32;
        self.slots.push(Slot {
            generation: 0,
            link: self.free,
            noted,
            interest,
            trigger,
            patience,
            marks,
            token,
        });
        self.free = number;
        true
    }

    /// Adds a source, for which there must be a [vacancy](Registry::has_vacancy), and says its key.
    #[inline]
    pub(crate) fn occupy(
        &mut self,
        token: T,
        interest: Interest,
        trigger: Trigger,
        noted: Noted,
    ) -> u64 {
        let number = self.free;
        let slot = &mut self.slots[number as usize];
        self.free = slot.link;
        slot.generation = slot.generation.wrapping_add(1);
        assert!(is_occupied(slot.generation), "a vacant slot has no source");
        slot.noted = noted;
        slot.marks = Marks::NONE;
        slot.change(token, interest, trigger);
        self.len += 1;
        key_of(number, slot.generation)
    }

    #[inline]
    pub(crate) fn get(&self, key: u64) -> Option<&Slot<T>> {
        let slot = self.slots.get(slot_of(key) as usize)?;
        if slot.generation == generation_of(key) { Some(slot) } else { None }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(slot_of(key) as usize)?;
        if slot.generation == generation_of(key) { Some(slot) } else { None }
    }

    /// The token of a source of which nothing needs to be known but that it can be read.
    #[inline]
    pub(crate) fn plain(&self, key: u64) -> Option<T> {
        let slot = self.get(key)?;
        if slot.marks.has(Marks::PLAIN) { Some(slot.token) } else { None }
    }

    /// As [`plain`](Registry::plain), of a source that is at its end besides: what is noted of that
    /// is noted.
    #[inline]
    pub(crate) fn plain_end(&mut self, key: u64) -> Option<T> {
        let slot = self.get_mut(key)?;
        if !slot.marks.has(Marks::PLAIN) {
            return None;
        }
        slot.marks.set(Marks::PLAIN, false);
        slot.marks.set(Marks::HUNG_UP, true);
        if slot.trigger == Trigger::Level {
            slot.patience = Patience::TOLD_ONCE; // who is plain has told nothing yet
        }
        Some(slot.token)
    }

    /// Forgets a source and says what had become of its patience. Its slot rests until turn number
    /// `batch` is over, if there is one.
    #[inline]
    pub(crate) fn remove(&mut self, key: u64, batch: Option<u64>) -> Option<Patience> {
        let slot = self.get_mut(key)?;
        slot.generation = slot.generation.wrapping_add(1);
        let (patience, listed) = (slot.patience, slot.marks.has(Marks::LISTED));
        self.len -= 1;
        // One that is listed has its link in use.
        if !listed {
            match batch {
                Some(turn) => self.rest(slot_of(key), turn),
                None => {
                    self.slots[slot_of(key) as usize].link = self.free;
                    self.free = slot_of(key);
                }
            }
        }
        Some(patience)
    }

    /// Keeps a slot from being used in the turn that has this number.
    #[inline]
    fn rest(&mut self, number: u32, turn: u64) {
        self.end_turns_before(turn);
        self.freed_in = turn;
        self.freed.push_first(&mut self.slots, number);
    }

    /// Slots freed during earlier turns may be used.
    #[inline]
    fn end_turns_before(&mut self, turn: u64) {
        if self.freed_in == turn {
            return;
        }
        let Some(last) = self.slots.get_mut(self.freed.last as usize) else { return };
        last.link = self.free;
        self.free = self.freed.first;
        self.freed = List::EMPTY;
    }

    /// Notes that the source wants to be called in the next turn. Saying it twice is saying it
    /// once.
    pub(crate) fn ask_again(&mut self, key: u64) -> bool {
        let (asking, number) = (self.asking, slot_of(key));
        let Some(slot) = self.get_mut(key) else { return false };
        if !slot.marks.has(Marks::LISTED) {
            slot.marks.set(Marks::AGAIN, true);
            self.list(number);
        } else if slot.marks.has(Marks::SECOND_LIST) == (asking == 1) {
            slot.marks.set(Marks::AGAIN, true);
        } else {
            slot.marks.set(Marks::AGAIN_LATER, true);
        }
        self.slots[number as usize].settle();
        true
    }

    /// Puts a slot on the next turn's list.
    fn list(&mut self, number: u32) {
        let marks = &mut self.slots[number as usize].marks;
        marks.set(Marks::LISTED, true);
        marks.set(Marks::SECOND_LIST, self.asking == 1);
        self.again[self.asking].push(&mut self.slots, number);
    }

    /// Whether somebody is to be called again.
    pub(crate) fn any_again(&self) -> bool {
        !self.again[0].is_empty() || !self.again[1].is_empty()
    }

    /// A turn begins: what was asked for until now is this turn's, unless a panic has left
    /// something of the last one's.
    pub(crate) fn begin_again(&mut self) {
        if self.again[1 - self.asking].is_empty() {
            self.asking = 1 - self.asking;
        }
    }

    /// The next source to call again in this turn. The outer `None` ends the list; the inner one is
    /// a note that no longer holds: the source has gone, or an event has called it meanwhile.
    pub(crate) fn take_again(&mut self, turn: u64) -> Option<Option<u64>> {
        let number = self.again[1 - self.asking].pop(&self.slots)?;
        let slot = &mut self.slots[number as usize];
        slot.marks.set(Marks::LISTED, false);
        if !is_occupied(slot.generation) {
            self.rest(number, turn);
            return Some(None);
        }
        let key = key_of(number, slot.generation);
        let (now, later) = (slot.marks.has(Marks::AGAIN), slot.marks.has(Marks::AGAIN_LATER));
        slot.marks.set(Marks::AGAIN, later);
        slot.marks.set(Marks::AGAIN_LATER, false);
        slot.settle();
        if later {
            self.list(number);
        }
        Some(now.then_some(key))
    }
}

fn is_occupied(generation: u32) -> bool {
    generation % 2 == 1
}

fn key_of(slot: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
}

fn slot_of(key: u64) -> u32 {
    key as u32
}

fn generation_of(key: u64) -> u32 {
    (key >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted() -> Noted {
        Noted::of(std::os::fd::AsFd::as_fd(&std::io::stdin()))
    }

    fn add(registry: &mut Registry<u32>, turn: u64) -> u64 {
        if !registry.has_vacancy(turn) {
            assert!(registry.grow(0, noted()));
        }
        registry.occupy(0, Interest::READABLE, Trigger::Level, noted())
    }

    #[test]
    fn a_slot_freed_in_a_turn_is_not_used_before_the_next() {
        let mut registry = Registry::new();
        let keys: Vec<u64> = (0..3).map(|_| add(&mut registry, 1)).collect();
        assert!(registry.remove(keys[0], Some(1)).is_some());
        assert!(registry.remove(keys[0], Some(1)).is_none(), "it has gone already");
        assert_eq!(slot_of(add(&mut registry, 1)), 3, "another slot");
        assert!(registry.remove(keys[1], Some(1)).is_some());
        assert!(registry.remove(keys[2], Some(2)).is_some());
        let mut reused: Vec<u32> = (0..2).map(|_| slot_of(add(&mut registry, 2))).collect();
        reused.sort_unstable();
        assert_eq!(reused, [0, 1], "what was freed before this turn");
        assert_eq!(slot_of(add(&mut registry, 2)), 4);
        assert_eq!(slot_of(add(&mut registry, 3)), 2);
        assert_eq!((registry.len(), registry.slot_count()), (5, 5));
        registry.remove(keys_of(&registry)[4], None);
        assert_eq!(
            slot_of(add(&mut registry, 3)),
            4,
            "between two turns there is nothing to wait for"
        );
    }

    /// Whatever still has the key: an event, a child's handle.
    #[test]
    fn a_key_whose_source_has_gone_finds_nobody_least_of_all_the_slot_s_next_owner() {
        let mut registry = Registry::new();
        let old = add(&mut registry, 0);
        registry.remove(old, None);
        assert!(registry.get(old).is_none(), "nobody is there");
        let heir = add(&mut registry, 0);
        assert_eq!(slot_of(old), slot_of(heir));
        assert!(
            registry.get(old).is_none()
                && registry.get_mut(old).is_none()
                && registry.get(heir).is_some()
        );
        assert_eq!((registry.plain(old), registry.plain_end(old)), (None, None));
        assert!(!registry.ask_again(old) && registry.remove(old, None).is_none());
        assert_eq!(registry.len(), 1);
    }

    fn keys_of(registry: &Registry<u32>) -> Vec<u64> {
        registry
            .slots
            .iter()
            .enumerate()
            .map(|(number, slot)| key_of(number as u32, slot.generation))
            .collect()
    }

    /// [`Registry::plain_end`] is the loop's way of hearing of most connections' end.
    #[test]
    fn the_short_way_of_an_end_notes_what_the_long_one_does() {
        let end = Readiness::READABLE | Readiness::READ_CLOSED;
        for trigger in [Trigger::Level, Trigger::Edge, Trigger::Oneshot] {
            let mut registry = Registry::new();
            let [short, long] = [(); 2].map(|()| {
                assert!(registry.grow(0, noted()));
                registry.occupy(7, Interest::READABLE | Interest::WRITABLE, trigger, noted())
            });
            assert_eq!(registry.plain_end(short), Some(7));
            let slot = registry.get_mut(long).unwrap();
            slot.note_event(end);
            if trigger == Trigger::Level {
                assert!(
                    slot.patience.concerns(end) && slot.patience.tell_freely(end, slot.interest)
                );
            }
            slot.settle();
            let [short, long] = [short, long].map(|key| *registry.get(key).unwrap());
            assert_eq!(
                (short.patience, short.lasting_hint()),
                (long.patience, long.lasting_hint()),
                "{trigger:?}"
            );
            assert_eq!(short.marks, long.marks, "{trigger:?}");
        }
    }

    #[test]
    fn who_has_told_of_its_end_or_is_called_again_does_not_go_the_short_way() {
        let mut registry = Registry::new();
        let key = add(&mut registry, 0);
        assert!(registry.plain_end(key).is_some() && registry.plain_end(key).is_none());
        let key = add(&mut registry, 0);
        registry.ask_again(key);
        assert_eq!((registry.plain(key), registry.plain_end(key)), (None, None));
    }

    #[test]
    fn a_slot_stays_small() {
        assert_eq!((size_of::<Slot<u32>>(), size_of::<Slot<u64>>()), (20, 24));
    }
}
