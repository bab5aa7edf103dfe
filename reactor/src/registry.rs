//! The registry of a loop's sources: a slot for each, found by key.
//!
//! A key consists of a slot's number and its generation; the kernel reports events under it. The
//! generation changes when the source leaves, so an event that the kernel reported earlier finds no
//! source. As a second protection, a slot that becomes free during a turn is quarantined: no new
//! source gets it before the turn, and with it the batch of events, has ended. Generations of
//! occupied slots are odd, so finding a source is one comparison.
//!
//! A slot is 16 bytes and the token. The lists of free slots and of sources to call again are
//! linked through the slots (`next`). So the registry allocates only when the number of sources
//! reaches a new maximum.

use kodiak_sys::{Interest, RawSource, Readiness, Trigger};

use crate::handler::ReadHint;
use crate::hang_up_filter::HangUpFilter;

/// The key under which the loop's waker reports. No slot has it: see [`MAX_SLOTS`].
pub(crate) const WAKER_KEY: u64 = u64::MAX;
/// The key under which the signals' pipe reports.
pub(crate) const SIGNALS_KEY: u64 = u64::MAX - 1;
/// Slot numbers stay below this, so no key equals a reserved one.
pub(crate) const MAX_SLOTS: usize = (u32::MAX - 1) as usize;

/// A slot: what the loop knows of its source, or of the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot<T> {
    generation: u32,
    /// The next slot of the list that this one is in.
    next: u32,
    /// The descriptor's number, valid only inside
    /// [`Shared::unless_dropped`](crate::loop_table::Shared::unless_dropped).
    pub(crate) raw_source: RawSource,
    pub(crate) interest: Interest,
    pub(crate) trigger: Trigger,
    pub(crate) hang_up_filter: HangUpFilter,
    flags: SlotFlags,
    pub(crate) token: T,
}

/// Flags of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SlotFlags(u8);

impl SlotFlags {
    const NONE: SlotFlags = SlotFlags(0);
    /// An event with `READABLE` alone needs one call of `readable`, and no check or record. Derived
    /// from the other fields by [`Slot::update_fast_path`].
    const FAST_PATH: u8 = 1;
    /// The loop's own source for a child process.
    const CHILD: u8 = 2;
    /// It is in one of the queues of sources to call again.
    const QUEUED: u8 = 4;
    /// The queue is the second of the two.
    const IN_SECOND_QUEUE: u8 = 8;
    /// To call again when the queue reaches it.
    const AGAIN: u8 = 16;
    /// To call again in the turn after that: `again` was called while it waited in this turn's
    /// queue.
    const AGAIN_NEXT_TURN: u8 = 32;
    /// Hang-up and error as last reported, for the hint of a call by `again`.
    const HUNG_UP: u8 = 64;
    const ERROR: u8 = 128;

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
    }
}

impl<T> Slot<T> {
    pub(crate) fn is_child(&self) -> bool {
        self.flags.has(SlotFlags::CHILD)
    }

    /// Marks it as the source of a child process.
    pub(crate) fn set_child(&mut self) {
        self.flags.set(SlotFlags::CHILD, true);
        self.update_fast_path();
    }

    /// The lasting conditions of the last event.
    pub(crate) fn lasting_hint(&self) -> ReadHint {
        let mut hint = ReadHint::NONE;
        if self.flags.has(SlotFlags::HUNG_UP) {
            hint |= ReadHint::HUP;
        }
        if self.flags.has(SlotFlags::ERROR) {
            hint |= ReadHint::ERROR;
        }
        hint
    }

    /// Records an event, which also replaces a call by `again`.
    pub(crate) fn record_event(&mut self, readiness: Readiness) {
        self.flags.set(SlotFlags::AGAIN | SlotFlags::AGAIN_NEXT_TURN, false);
        self.flags.set(SlotFlags::HUNG_UP, readiness.is_read_closed());
        self.flags.set(SlotFlags::ERROR, readiness.is_error());
        self.update_fast_path();
    }

    /// Gives a source another registration.
    pub(crate) fn set_registration(&mut self, token: T, interest: Interest, trigger: Trigger) {
        (self.token, self.interest, self.trigger) = (token, interest, trigger);
        self.hang_up_filter = HangUpFilter::default();
        self.update_fast_path();
    }

    /// Derives the flag `FAST_PATH`; to be called after each change of the other fields.
    pub(crate) fn update_fast_path(&mut self) {
        let special = SlotFlags::CHILD
            | SlotFlags::AGAIN
            | SlotFlags::AGAIN_NEXT_TURN
            | SlotFlags::HUNG_UP
            | SlotFlags::ERROR;
        let fast_path = self.interest.contains(Interest::READABLE)
            && self.hang_up_filter == HangUpFilter::default()
            && !self.flags.has(special);
        self.flags.set(SlotFlags::FAST_PATH, fast_path);
    }
}

/// An entry of a queue of sources to call again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AgainEntry {
    /// The source with this key is to be called.
    Call(u64),
    /// The source has gone, or an event has called it meanwhile.
    Stale,
}

/// No slot: the end of a list.
const NO_SLOT: u32 = u32::MAX;

/// A list of slots through their links, first in, first out.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    const EMPTY: List = List { first: NO_SLOT, last: NO_SLOT };

    fn is_empty(self) -> bool {
        self.first == NO_SLOT
    }

    fn push<T>(&mut self, slots: &mut [Slot<T>], slot: u32) {
        slots[slot as usize].next = NO_SLOT;
        match self.last {
            NO_SLOT => self.first = slot,
            last => slots[last as usize].next = slot,
        }
        self.last = slot;
    }

    fn pop<T>(&mut self, slots: &[Slot<T>]) -> Option<u32> {
        let slot = self.first;
        self.first = slots.get(slot as usize)?.next;
        if self.first == NO_SLOT {
            self.last = NO_SLOT;
        }
        Some(slot)
    }

    fn push_first<T>(&mut self, slots: &mut [Slot<T>], slot: u32) {
        slots[slot as usize].next = self.first;
        self.first = slot;
        if self.last == NO_SLOT {
            self.last = slot;
        }
    }
}

/// The slots of one loop, and the queues of sources to call again.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    slots: Vec<Slot<T>>,
    len: usize,
    /// The first of the free slots. The slot freed last comes first: its memory is most likely in
    /// the cache.
    free: u32,
    /// Slots freed during the turn `quarantined_in`, and free when it has ended.
    quarantined: List,
    quarantined_in: u64,
    /// Sources to call again: one queue for this turn, one for the next. A queue may hold sources
    /// that have gone; their slots become free when the queue reaches them.
    again: [List; 2],
    /// The index of the next turn's queue.
    next_queue: usize,
}

impl<T: Copy> Registry<T> {
    pub(crate) fn new() -> Registry<T> {
        Registry {
            slots: Vec::new(),
            len: 0,
            free: NO_SLOT,
            quarantined: List::EMPTY,
            quarantined_in: 0,
            again: [List::EMPTY; 2],
            next_queue: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Number of slots, an upper bound of the number of registered and dropped sources.
    pub(crate) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Whether [`insert`](Registry::insert) finds a free slot.
    #[inline]
    pub(crate) fn has_free_slot(&self) -> bool {
        self.free != NO_SLOT
    }

    /// Adds a slot. `false` if there can be no more.
    pub(crate) fn add_slot(&mut self, token: T, raw_source: RawSource) -> bool {
        if self.slots.len() == MAX_SLOTS {
            return false;
        }
        let (interest, trigger) = (Interest::empty(), Trigger::Level);
        let (hang_up_filter, flags) = (HangUpFilter::default(), SlotFlags::NONE);
        let number = self.slots.len() as u32;
        self.slots.push(Slot {
            generation: 0,
            next: self.free,
            raw_source,
            interest,
            trigger,
            hang_up_filter,
            flags,
            token,
        });
        self.free = number;
        true
    }

    /// Adds a source to the first [free slot](Registry::has_free_slot), and returns its key.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        token: T,
        interest: Interest,
        trigger: Trigger,
        raw_source: RawSource,
    ) -> u64 {
        let number = self.free;
        let slot = &mut self.slots[number as usize];
        self.free = slot.next;
        slot.generation = slot.generation.wrapping_add(1);
        assert!(is_occupied(slot.generation), "a free slot has no source");
        slot.raw_source = raw_source;
        slot.flags = SlotFlags::NONE;
        slot.set_registration(token, interest, trigger);
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

    /// The token of a source on the fast path, for an event with `READABLE` alone.
    #[inline]
    pub(crate) fn fast_path_token(&self, key: u64) -> Option<T> {
        let slot = self.get(key)?;
        if slot.flags.has(SlotFlags::FAST_PATH) { Some(slot.token) } else { None }
    }

    /// The token of a source on the fast path, for an event that also reports the end of the
    /// stream. Records what [`Slot::record_event`] and the hang-up filter would.
    #[inline]
    pub(crate) fn record_fast_path_end(&mut self, key: u64) -> Option<T> {
        let slot = self.get_mut(key)?;
        if !slot.flags.has(SlotFlags::FAST_PATH) {
            return None;
        }
        slot.flags.set(SlotFlags::FAST_PATH, false);
        slot.flags.set(SlotFlags::HUNG_UP, true);
        if slot.trigger == Trigger::Level {
            slot.hang_up_filter = HangUpFilter::ONE_REPORT; // no report before, on the fast path
        }
        Some(slot.token)
    }

    /// Removes a source and returns its filter. The slot is quarantined until the turn with number
    /// `current_batch` has ended, if there is one.
    #[inline]
    pub(crate) fn remove(&mut self, key: u64, current_batch: Option<u64>) -> Option<HangUpFilter> {
        let slot = self.get_mut(key)?;
        slot.generation = slot.generation.wrapping_add(1);
        let (hang_up_filter, queued) = (slot.hang_up_filter, slot.flags.has(SlotFlags::QUEUED));
        self.len -= 1;
        // The link of a queued slot is in use.
        if !queued {
            match current_batch {
                Some(turn) => self.quarantine(slot_of(key), turn),
                None => {
                    self.slots[slot_of(key) as usize].next = self.free;
                    self.free = slot_of(key);
                }
            }
        }
        Some(hang_up_filter)
    }

    /// Keeps a slot from being reused in the turn with this number.
    #[inline]
    fn quarantine(&mut self, number: u32, turn: u64) {
        self.end_quarantine_before(turn);
        self.quarantined_in = turn;
        self.quarantined.push_first(&mut self.slots, number);
    }

    /// Frees the slots that were quarantined during earlier turns.
    #[inline]
    pub(crate) fn end_quarantine_before(&mut self, turn: u64) {
        if self.quarantined_in == turn {
            return;
        }
        let Some(last) = self.slots.get_mut(self.quarantined.last as usize) else { return };
        last.next = self.free;
        self.free = self.quarantined.first;
        self.quarantined = List::EMPTY;
    }

    /// Queues a source to be called in the next turn, once however often it is queued. `false` if
    /// the source has gone.
    pub(crate) fn queue_again(&mut self, key: u64) -> bool {
        let (next_queue, number) = (self.next_queue, slot_of(key));
        let Some(slot) = self.get_mut(key) else { return false };
        if !slot.flags.has(SlotFlags::QUEUED) {
            slot.flags.set(SlotFlags::AGAIN, true);
            self.enqueue(number);
        } else if slot.flags.has(SlotFlags::IN_SECOND_QUEUE) == (next_queue == 1) {
            slot.flags.set(SlotFlags::AGAIN, true);
        } else {
            slot.flags.set(SlotFlags::AGAIN_NEXT_TURN, true);
        }
        self.slots[number as usize].update_fast_path();
        true
    }

    /// Appends a slot to the next turn's queue.
    fn enqueue(&mut self, number: u32) {
        let flags = &mut self.slots[number as usize].flags;
        flags.set(SlotFlags::QUEUED, true);
        flags.set(SlotFlags::IN_SECOND_QUEUE, self.next_queue == 1);
        self.again[self.next_queue].push(&mut self.slots, number);
    }

    /// Whether sources wait to be called again.
    pub(crate) fn has_again(&self) -> bool {
        !self.again[0].is_empty() || !self.again[1].is_empty()
    }

    /// Makes the next turn's queue this turn's, when a turn begins. A queue that a panic left
    /// unfinished is finished first.
    pub(crate) fn swap_again_queues(&mut self) {
        if self.again[1 - self.next_queue].is_empty() {
            self.next_queue = 1 - self.next_queue;
        }
    }

    /// Takes the next entry from this turn's queue of sources to call again.
    pub(crate) fn pop_again(&mut self, turn: u64) -> Option<AgainEntry> {
        let number = self.again[1 - self.next_queue].pop(&self.slots)?;
        let slot = &mut self.slots[number as usize];
        slot.flags.set(SlotFlags::QUEUED, false);
        if !is_occupied(slot.generation) {
            self.quarantine(number, turn);
            return Some(AgainEntry::Stale);
        }
        let key = key_of(number, slot.generation);
        let (now, later) =
            (slot.flags.has(SlotFlags::AGAIN), slot.flags.has(SlotFlags::AGAIN_NEXT_TURN));
        slot.flags.set(SlotFlags::AGAIN, later);
        slot.flags.set(SlotFlags::AGAIN_NEXT_TURN, false);
        slot.update_fast_path();
        if later {
            self.enqueue(number);
        }
        Some(if now { AgainEntry::Call(key) } else { AgainEntry::Stale })
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

    fn raw_source() -> RawSource {
        RawSource::of(std::os::fd::AsFd::as_fd(&std::io::stdin()))
    }

    fn add(registry: &mut Registry<u32>, turn: u64) -> u64 {
        registry.end_quarantine_before(turn);
        if !registry.has_free_slot() {
            assert!(registry.add_slot(0, raw_source()));
        }
        registry.insert(0, Interest::READABLE, Trigger::Level, raw_source())
    }

    #[test]
    fn a_slot_freed_in_a_turn_is_not_reused_before_the_next() {
        let mut registry = Registry::new();
        let keys: Vec<u64> = (0..3).map(|_| add(&mut registry, 1)).collect();
        assert!(registry.remove(keys[0], Some(1)).is_some());
        assert!(registry.remove(keys[0], Some(1)).is_none(), "removed already");
        assert_eq!(slot_of(add(&mut registry, 1)), 3, "another slot");
        assert!(registry.remove(keys[1], Some(1)).is_some());
        assert!(registry.remove(keys[2], Some(2)).is_some());
        let mut reused: Vec<u32> = (0..2).map(|_| slot_of(add(&mut registry, 2))).collect();
        reused.sort_unstable();
        assert_eq!(reused, [0, 1], "what was quarantined before this turn");
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

    /// Events and children's handles may still have the key.
    #[test]
    fn a_removed_key_finds_neither_its_source_nor_the_next_one() {
        let mut registry = Registry::new();
        let old = add(&mut registry, 0);
        registry.remove(old, None);
        assert!(registry.get(old).is_none());
        let next = add(&mut registry, 0);
        assert_eq!(slot_of(old), slot_of(next));
        assert!(
            registry.get(old).is_none()
                && registry.get_mut(old).is_none()
                && registry.get(next).is_some()
        );
        assert_eq!(
            (registry.fast_path_token(old), registry.record_fast_path_end(old)),
            (None, None)
        );
        assert!(!registry.queue_again(old) && registry.remove(old, None).is_none());
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

    /// [`Registry::record_fast_path_end`] is how the loop learns of most connections' end.
    #[test]
    fn the_fast_path_of_an_end_records_what_the_slow_path_does() {
        let end = Readiness::READABLE | Readiness::READ_CLOSED;
        for trigger in [Trigger::Level, Trigger::Edge, Trigger::Oneshot] {
            let mut registry = Registry::new();
            let [fast, slow] = [(); 2].map(|()| {
                assert!(registry.add_slot(0, raw_source()));
                registry.insert(7, Interest::READABLE | Interest::WRITABLE, trigger, raw_source())
            });
            assert_eq!(registry.record_fast_path_end(fast), Some(7));
            let slot = registry.get_mut(slow).unwrap();
            slot.record_event(end);
            if trigger == Trigger::Level {
                assert!(
                    slot.hang_up_filter.must_observe(end)
                        && slot.hang_up_filter.observe_within_allowance(end, slot.interest)
                );
            }
            slot.update_fast_path();
            let [fast, slow] = [fast, slow].map(|key| *registry.get(key).unwrap());
            assert_eq!(
                (fast.hang_up_filter, fast.lasting_hint()),
                (slow.hang_up_filter, slow.lasting_hint()),
                "{trigger:?}"
            );
            assert_eq!(fast.flags, slow.flags, "{trigger:?}");
        }
    }

    #[test]
    fn a_source_at_its_end_or_queued_again_leaves_the_fast_path() {
        let mut registry = Registry::new();
        let key = add(&mut registry, 0);
        assert!(
            registry.record_fast_path_end(key).is_some()
                && registry.record_fast_path_end(key).is_none()
        );
        let key = add(&mut registry, 0);
        registry.queue_again(key);
        assert_eq!(
            (registry.fast_path_token(key), registry.record_fast_path_end(key)),
            (None, None)
        );
    }

    #[test]
    fn a_slot_stays_small() {
        assert_eq!((size_of::<Slot<u32>>(), size_of::<Slot<u64>>()), (20, 24));
    }
}
