//! The table of this process's loops: a source finds its loop by a number of four bytes.
//!
//! A source must find its loop when it is dropped, on any thread, and must find nothing if the loop
//! is gone. A `Weak` does that in eight bytes, and needs a lock beside it to be exchanged through a
//! shared reference. A number is four bytes and atomic by itself. It consists of a slot's index in
//! the table and the slot's generation, so no number is used twice, and a number whose loop is gone
//! names no loop.
//!
//! ```text
//!   number = generation << 14 | index       NO_LOOP = 0       BEING_CLAIMED = 1
//!   the table consists of blocks of 128 slots, allocated on first use and never freed
//! ```
//!
//! Looking up a slot takes no lock. A slot's lock is taken when a source is dropped, and when the
//! loop reads the list of dropped sources.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kodiak_sys::Selector;

const INDEX_BITS: u32 = 14;
const BLOCK: usize = 128;
/// Number of loops that can exist at one time.
pub(crate) const MAX_LOOPS: usize = 1 << INDEX_BITS;
/// Number of loops that can have one slot, one after the other; then it stays empty.
const MAX_GENERATION: u32 = u32::MAX >> INDEX_BITS;

/// The number of no loop: generations begin at one.
pub(crate) const NO_LOOP: u32 = 0;
/// The number that a source has while a loop claims it. No loop has it either.
pub(crate) const BEING_CLAIMED: u32 = 1;

static SLOTS: [OnceLock<Box<[LoopSlot; BLOCK]>>; MAX_LOOPS / BLOCK] =
    [const { OnceLock::new() }; MAX_LOOPS / BLOCK];
static FREE_SLOTS: Mutex<FreeSlots> =
    Mutex::new(FreeSlots { released: Vec::new(), first_unused: 0 });

/// The slots without a loop.
struct FreeSlots {
    /// Slots that a loop has had.
    released: Vec<u16>,
    /// The first of the slots that no loop has had.
    first_unused: usize,
}

/// A slot of the table: what other threads may reach of a loop. Aligned to a cache line, so that
/// loops on different threads do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct LoopSlot {
    /// Whether `drop_list` has entries.
    has_dropped: AtomicBool,
    entry: Mutex<LoopEntry>,
}

#[derive(Debug, Default)]
pub(crate) struct LoopEntry {
    /// The number of the loop that has the slot, or had it last.
    number: u32,
    /// The selector of the loop that has the slot.
    selector: Option<Arc<Selector>>,
    /// Keys of sources that were dropped while registered. Its capacity is never below the number
    /// of registrations.
    drop_list: Vec<u64>,
}

impl LoopSlot {
    fn lock(&self) -> MutexGuard<'_, LoopEntry> {
        // No panic leaves an entry half changed.
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A loop's slot, and what the loop shares with its sources. Dropping it releases the slot: from
/// then on the loop's sources belong to no loop.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) selector: Arc<Selector>,
    number: u32,
    slot: &'static LoopSlot,
}

impl Shared {
    /// `None` if there are [`MAX_LOOPS`] already.
    pub(crate) fn new(selector: Selector) -> Option<Shared> {
        let index = allocate_slot()?;
        let slot = slot(index);
        let selector = Arc::new(selector);
        let mut entry = slot.lock();
        let generation = (entry.number >> INDEX_BITS) + 1;
        entry.number = generation << INDEX_BITS | index as u32;
        entry.selector = Some(Arc::clone(&selector));
        Some(Shared { selector, number: entry.number, slot })
    }

    /// The loop's number, which its sources keep.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Whether the drop list has entries. One load, so that the loop can afford it before each
    /// dispatch. Relaxed is enough: after `true` the loop takes the lock, and a drop that it must
    /// see happened on this thread, or was followed by something that synchronised with it.
    #[inline]
    pub(crate) fn has_dropped(&self) -> bool {
        self.slot.has_dropped.load(Ordering::Relaxed)
    }

    /// Makes room in the drop list for `registrations` keys, so that no drop allocates.
    pub(crate) fn reserve_drop_list(&self, registrations: usize) {
        let drop_list = &mut self.slot.lock().drop_list;
        if drop_list.capacity() >= registrations {
            return;
        }
        if drop_list.is_empty() {
            // Nearly always. New memory that is not used yet costs nothing; growing the old list
            // would copy it.
            *drop_list = Vec::new();
            drop_list.reserve_exact(registrations.next_power_of_two());
        } else {
            drop_list.reserve(registrations - drop_list.len());
        }
    }

    /// Empties the drop list into `forget`.
    pub(crate) fn drain_drop_list(&self, mut forget: impl FnMut(u64)) {
        let mut entry = self.slot.lock();
        while let Some(key) = entry.drop_list.pop() {
            forget(key);
        }
        self.slot.has_dropped.store(false, Ordering::Relaxed);
    }

    /// Number of dropped sources that the loop has not forgotten yet.
    pub(crate) fn drop_list_len(&self) -> usize {
        self.slot.lock().drop_list.len()
    }

    /// Runs `act` on the selector for a source that has not been dropped; `None` if it has.
    ///
    /// For a source of which the loop knows only the key and the descriptor's number. A dropped
    /// source enters the drop list before its descriptor closes, so while this runs the number
    /// means the source's own file, whatever other threads drop.
    pub(crate) fn unless_dropped<R>(
        &self,
        key: u64,
        act: impl FnOnce(&Selector) -> R,
    ) -> Option<R> {
        let entry = self.slot.lock();
        if entry.drop_list.contains(&key) { None } else { Some(act(&self.selector)) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut entry = self.slot.lock();
        entry.selector = None;
        entry.drop_list = Vec::new();
        self.slot.has_dropped.store(false, Ordering::Relaxed);
        drop(entry);
        if self.number >> INDEX_BITS < MAX_GENERATION {
            lock_free_slots().released.push(index_of(self.number) as u16);
        }
    }
}

/// Whether the loop with this number still exists.
pub(crate) fn exists(number: u32) -> bool {
    let entry = slot(index_of(number)).lock();
    entry.number == number && entry.selector.is_some()
}

/// Removes a dropped source from the kernel with `remove`, and enters its key into the drop list of
/// the loop with this number. Does nothing if the loop is gone.
#[inline]
pub(crate) fn drop_source(number: u32, key: u64, remove: impl FnOnce(&Selector)) {
    let slot = slot(index_of(number));
    let mut entry = slot.lock();
    if entry.number != number {
        return;
    }
    let Some(selector) = &entry.selector else { return };
    remove(selector);
    entry.drop_list.push(key);
    slot.has_dropped.store(true, Ordering::Relaxed);
}

fn index_of(number: u32) -> usize {
    number as usize % MAX_LOOPS
}

/// The slot with this index, which a loop has or has had.
#[inline]
fn slot(index: usize) -> &'static LoopSlot {
    let block =
        SLOTS[index / BLOCK].get_or_init(|| Box::new(std::array::from_fn(|_| LoopSlot::default())));
    &block[index % BLOCK]
}

fn allocate_slot() -> Option<usize> {
    let mut free = lock_free_slots();
    if let Some(index) = free.released.pop() {
        return Some(usize::from(index));
    }
    let index = free.first_unused;
    free.first_unused += usize::from(index < MAX_LOOPS);
    (index < MAX_LOOPS).then_some(index)
}

fn lock_free_slots() -> MutexGuard<'static, FreeSlots> {
    FREE_SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        Shared::new(Selector::new().unwrap()).unwrap()
    }

    #[test]
    fn slots_are_reused_and_numbers_are_not() {
        let mut seen = std::collections::HashSet::new();
        let mut indices = std::collections::HashSet::new();
        for _ in 0..100 {
            let (first, second) = (shared(), shared());
            for one in [&first, &second] {
                let number = one.number();
                assert!(number != NO_LOOP && number != BEING_CLAIMED && exists(number));
                assert!(seen.insert(number));
                indices.insert(index_of(number));
            }
            let gone = first.number();
            drop(first);
            assert!(!exists(gone) && exists(second.number()));
        }
        assert!(indices.len() < 100, "no slot was reused: {} slots", indices.len());
    }

    #[test]
    fn a_source_whose_loop_is_gone_touches_no_other_loop() {
        let gone = shared().number();
        let next = shared();
        drop_source(gone, 5, |_| panic!("there is no such loop"));
        assert!(!next.has_dropped() && next.drop_list_len() == 0);
        let mut removed = false;
        drop_source(next.number(), 6, |_| removed = true);
        assert!(removed && next.has_dropped() && next.drop_list_len() == 1);
        let mut drained = Vec::new();
        next.drain_drop_list(|key| drained.push(key));
        assert_eq!((drained, next.has_dropped()), (vec![6], false));
    }

    #[test]
    fn every_index_has_its_own_slot() {
        let slots: std::collections::HashSet<*const LoopSlot> =
            (0..1000).map(|index| &raw const *slot(index)).collect();
        assert_eq!(slots.len(), 1000);
    }
}
