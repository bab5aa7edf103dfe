//! The loop's own book of its sources: a slot for each, found by key.
//!
//! A key is a slot's number and its generation, and it is the key that the kernel is given. A slot's generation changes
//! when its source leaves, so whatever the kernel has already reported under the old key finds nobody. As a second line, a
//! slot that was freed is not given to a new source before the batch of events at hand is done.
//!
//! Nothing here allocates once as many slots exist as there were ever sources at one time.

use std::collections::VecDeque;

use kodiak_sys::{Interest, Noted, Trigger};

use crate::handler::ReadHint;
use crate::suspension::Patience;

/// The key under which the loop's waker reports. No slot has it: see [`MAX_SLOTS`].
pub(crate) const WAKER_KEY: u64 = u64::MAX;
/// The key under which the signals' pipe reports.
pub(crate) const SIGNALS_KEY: u64 = u64::MAX - 1;
/// Slot numbers stay below this, so no key equals a reserved one.
pub(crate) const MAX_SLOTS: usize = (u32::MAX - 1) as usize;

/// What the loop knows of one source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<T> {
    pub(crate) token: T,
    pub(crate) interest: Interest,
    pub(crate) trigger: Trigger,
    /// Hang-up and error as last reported, for a turn that `again` asks for.
    pub(crate) hint: ReadHint,
    /// The turn in which `again` was said; 0 if it was not, or has been obeyed.
    pub(crate) again: u64,
    /// The descriptor's number, good only inside of [`Shared::while_alive`](crate::registration::Shared::while_alive).
    pub(crate) noted: Noted,
    /// How long a hang-up or error has been told to nobody's interest.
    pub(crate) patience: Patience,
    /// The loop's own source, that stands for a child process.
    pub(crate) is_child: bool,
}

impl<T> Entry<T> {
    pub(crate) fn new(token: T, interest: Interest, trigger: Trigger, noted: Noted) -> Entry<T> {
        Entry {
            token,
            interest,
            trigger,
            hint: ReadHint::NONE,
            again: 0,
            noted,
            patience: Patience::default(),
            is_child: false,
        }
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    entry: Option<Entry<T>>,
}

/// The slots of one loop, and who is to be called again.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    slots: Vec<Slot<T>>,
    /// Slots that may be used at once.
    free: Vec<u32>,
    /// Slots freed during this batch: free when it is done.
    freed: Vec<u32>,
    /// Keys of `again`, oldest first. May name sources that have gone.
    again: VecDeque<u64>,
    len: usize,
}

impl<T: Copy> Registry<T> {
    pub(crate) fn new() -> Registry<T> {
        Registry { slots: Vec::new(), free: Vec::new(), freed: Vec::new(), again: VecDeque::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many slots exist, which no number of registered or dead sources exceeds.
    pub(crate) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// The key that the next source will have, making a slot if none is free. `None` if there can be no more.
    pub(crate) fn vacant_key(&mut self) -> Option<u64> {
        if self.free.is_empty() {
            if self.slots.len() == MAX_SLOTS {
                return None;
            }
            self.free.push(self.slots.len() as u32);
            self.slots.push(Slot { generation: 0, entry: None });
            let slots = self.slots.capacity();
            self.free.reserve(slots - self.free.len());
            self.freed.reserve(slots - self.freed.len());
            self.again.reserve((2 * slots).saturating_sub(self.again.len()));
        }
        let slot = *self.free.last()?;
        Some(key_of(slot, self.slots[slot as usize].generation))
    }

    /// Fills the slot that [`vacant_key`](Registry::vacant_key) named.
    pub(crate) fn occupy(&mut self, key: u64, entry: Entry<T>) {
        let slot = self.free.pop();
        assert_eq!(slot, Some(slot_of(key)), "a key is occupied right after it was found vacant");
        let slot = &mut self.slots[slot_of(key) as usize];
        assert!(slot.entry.is_none() && slot.generation == generation_of(key), "a vacant slot has no source");
        slot.entry = Some(entry);
        self.len += 1;
    }

    #[inline]
    pub(crate) fn get(&self, key: u64) -> Option<&Entry<T>> {
        let slot = self.slots.get(slot_of(key) as usize)?;
        if slot.generation == generation_of(key) { slot.entry.as_ref() } else { None }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut Entry<T>> {
        let slot = self.slots.get_mut(slot_of(key) as usize)?;
        if slot.generation == generation_of(key) { slot.entry.as_mut() } else { None }
    }

    /// Forgets a source. Its slot rests until [`end_batch`](Registry::end_batch) unless `in_batch` is false.
    pub(crate) fn remove(&mut self, key: u64, in_batch: bool) -> Option<Entry<T>> {
        let slot = self.slots.get_mut(slot_of(key) as usize)?;
        if slot.generation != generation_of(key) {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.len -= 1;
        if in_batch {
            self.freed.push(slot_of(key))
        } else {
            self.free.push(slot_of(key))
        }
        Some(entry)
    }

    /// The batch is done: slots freed during it may be used.
    pub(crate) fn end_batch(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// Notes that the source wants to be called in the turn after `turn`. Saying it twice is saying it once.
    pub(crate) fn ask_again(&mut self, key: u64, turn: u64) -> bool {
        let Some(entry) = self.get_mut(key) else { return false };
        if entry.again != turn {
            entry.again = turn;
            self.again.push_back(key);
        }
        true
    }

    /// How many notes of `again` wait.
    pub(crate) fn again_len(&self) -> usize {
        self.again.len()
    }

    /// The next source to call again in `turn`. The outer `None` ends the list; the inner one is a note that no longer
    /// holds: the source has gone, or an event has called it meanwhile.
    pub(crate) fn take_again(&mut self, turn: u64) -> Option<Option<u64>> {
        let key = self.again.pop_front()?;
        let entry = self.get_mut(key).filter(|entry| entry.again != 0 && entry.again < turn);
        Some(entry.map(|entry| {
            entry.again = 0;
            key
        }))
    }
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
