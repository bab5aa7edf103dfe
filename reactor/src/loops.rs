//! The loops of this process, found by number: what ties a source to its loop in four bytes.
//!
//! A source must find its loop when it is dropped, on whatever thread, and must find nobody if the
//! loop is gone. A `Weak` does that in eight bytes, and needs a lock beside it to be exchanged
//! through a shared reference. A number is four bytes and atomic by itself. It names a *place* in a
//! table, and how many loops have had the place before: so no number is given twice, and a number
//! whose loop is gone names nobody.
//!
//! ```text
//!   number = tenancy << 14 | index          0: no loop          BEING_TAKEN: some loop, any moment
//!   the table is in blocks of 128 places, allocated when the first of them is needed and never freed
//! ```
//!
//! To find a place takes no lock, and a place's lock is taken only for what concerns its loop: when
//! a source dies, and when the loop takes note of that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kodiak_sys::Selector;

const INDEX_BITS: u32 = 14;
const BLOCK: usize = 128;
/// So many loops can exist at one time.
pub(crate) const MAX_LOOPS: usize = 1 << INDEX_BITS;
/// So many loops can have one place, one after the other; then it stays empty.
const MAX_TENANCY: u32 = u32::MAX >> INDEX_BITS;

/// No loop has this number: tenancies begin at one.
pub(crate) const NOBODY: u32 = 0;
/// Nor this one, which a source has while a loop is about to take it.
pub(crate) const BEING_TAKEN: u32 = 1;

static PLACES: [OnceLock<Box<[Place; BLOCK]>>; MAX_LOOPS / BLOCK] =
    [const { OnceLock::new() }; MAX_LOOPS / BLOCK];
static VACANCIES: Mutex<Vacancies> = Mutex::new(Vacancies { left: Vec::new(), unused: 0 });

/// The places that no loop has.
struct Vacancies {
    /// Those that a loop has had.
    left: Vec<u16>,
    /// From here on no loop has had any.
    unused: usize,
}

/// What others may do to a loop. One loop at a time has it. A cache line of its own, so that loops
/// on other threads do not feel what is done to this one.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Place {
    /// Whether `dead` has anything in it.
    any_dead: AtomicBool,
    gate: Mutex<Gate>,
}

#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// The number of the loop that has the place, or had it last.
    number: u32,
    /// The kernel's interest list of the loop that has the place.
    selector: Option<Arc<Selector>>,
    /// Keys of sources that were dropped while registered. Its capacity is never below the number
    /// of registrations.
    dead: Vec<u64>,
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Gate> {
        // Nothing in there is ever half done when something panics.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A loop's tenancy, and what it shares with its sources. Dropping it ends the tenancy: from then
/// on its sources belong to nobody.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) selector: Arc<Selector>,
    number: u32,
    place: &'static Place,
}

impl Shared {
    /// `None` if there are [`MAX_LOOPS`] already.
    pub(crate) fn new(selector: Selector) -> Option<Shared> {
        let index = vacant_place()?;
        let place = place(index);
        let selector = Arc::new(selector);
        let mut gate = place.lock();
        let tenancy = (gate.number >> INDEX_BITS) + 1;
        gate.number = tenancy << INDEX_BITS | index as u32;
        gate.selector = Some(Arc::clone(&selector));
        Some(Shared { selector, number: gate.number, place })
    }

    /// What the loop's sources call it by.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// One load, so that the loop can afford to ask before each dispatch. Relaxed: whoever says yes
    /// goes on to take the lock, and whoever must be heard has dropped its source on this thread,
    /// or told this thread of it.
    #[inline]
    pub(crate) fn any_dead(&self) -> bool {
        self.place.any_dead.load(Ordering::Relaxed)
    }

    /// Makes sure that `registrations` keys fit without an allocation.
    pub(crate) fn reserve_dead(&self, registrations: usize) {
        let dead = &mut self.place.lock().dead;
        if dead.capacity() >= registrations {
            return;
        }
        if dead.is_empty() {
            // Nearly always. Memory that is asked for anew and not yet used costs nothing; to move
            // the old costs touching it.
            *dead = Vec::new();
            dead.reserve_exact(registrations.next_power_of_two());
        } else {
            dead.reserve(registrations - dead.len());
        }
    }

    /// Hands over the keys of all sources that have died.
    pub(crate) fn take_dead(&self, mut forget: impl FnMut(u64)) {
        let mut gate = self.place.lock();
        while let Some(key) = gate.dead.pop() {
            forget(key);
        }
        self.place.any_dead.store(false, Ordering::Relaxed);
    }

    /// How many sources have died that the loop has not yet taken note of.
    pub(crate) fn dead_len(&self) -> usize {
        self.place.lock().dead.len()
    }

    /// Does something to a source of which the loop knows only the key and the descriptor's number,
    /// unless the source has died. Whoever drops a source enters its key here before the descriptor
    /// closes, so while this runs the number means the source's own file, whatever other threads
    /// drop.
    pub(crate) fn while_alive<R>(&self, key: u64, act: impl FnOnce(&Selector) -> R) -> Option<R> {
        let gate = self.place.lock();
        if gate.dead.contains(&key) { None } else { Some(act(&self.selector)) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut gate = self.place.lock();
        gate.selector = None;
        gate.dead = Vec::new();
        self.place.any_dead.store(false, Ordering::Relaxed);
        drop(gate);
        if self.number >> INDEX_BITS < MAX_TENANCY {
            lock_vacancies().left.push(index_of(self.number) as u16);
        }
    }
}

/// Whether the loop with this number is still there.
pub(crate) fn exists(number: u32) -> bool {
    let gate = place(index_of(number)).lock();
    gate.number == number && gate.selector.is_some()
}

/// Notes for the loop with this number that its source `key` has died, after `remove` has taken it
/// out of the kernel. Does nothing if the loop is gone.
#[inline]
pub(crate) fn bury(number: u32, key: u64, remove: impl FnOnce(&Selector)) {
    let place = place(index_of(number));
    let mut gate = place.lock();
    if gate.number != number {
        return;
    }
    let Some(selector) = &gate.selector else { return };
    remove(selector);
    gate.dead.push(key);
    place.any_dead.store(true, Ordering::Relaxed);
}

fn index_of(number: u32) -> usize {
    number as usize % MAX_LOOPS
}

/// The place with this index, which a loop has or has had.
#[inline]
fn place(index: usize) -> &'static Place {
    let block =
        PLACES[index / BLOCK].get_or_init(|| Box::new(std::array::from_fn(|_| Place::default())));
    &block[index % BLOCK]
}

fn vacant_place() -> Option<usize> {
    let mut vacancies = lock_vacancies();
    if let Some(index) = vacancies.left.pop() {
        return Some(usize::from(index));
    }
    let index = vacancies.unused;
    vacancies.unused += usize::from(index < MAX_LOOPS);
    (index < MAX_LOOPS).then_some(index)
}

fn lock_vacancies() -> MutexGuard<'static, Vacancies> {
    VACANCIES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        Shared::new(Selector::new().unwrap()).unwrap()
    }

    #[test]
    fn a_number_is_never_given_twice_although_places_are() {
        let mut seen = std::collections::HashSet::new();
        let mut indices = std::collections::HashSet::new();
        for _ in 0..100 {
            let (first, second) = (shared(), shared());
            for one in [&first, &second] {
                assert!(
                    one.number() != NOBODY && one.number() != BEING_TAKEN && exists(one.number())
                );
                assert!(seen.insert(one.number()));
                indices.insert(index_of(one.number()));
            }
            let gone = first.number();
            drop(first);
            assert!(!exists(gone) && exists(second.number()));
        }
        assert!(
            indices.len() < 100,
            "the test is about places that are used again: {}",
            indices.len()
        );
    }

    #[test]
    fn a_source_of_a_loop_that_is_gone_touches_nothing() {
        let gone = shared().number();
        let heir = shared();
        bury(gone, 5, |_| panic!("there is no such loop"));
        assert!(!heir.any_dead() && heir.dead_len() == 0);
        let mut removed = false;
        bury(heir.number(), 6, |_| removed = true);
        assert!(removed && heir.any_dead() && heir.dead_len() == 1);
        let mut told = Vec::new();
        heir.take_dead(|key| told.push(key));
        assert_eq!((told, heir.any_dead()), (vec![6], false));
    }

    #[test]
    fn every_index_has_its_own_place() {
        let places: std::collections::HashSet<*const Place> =
            (0..1000).map(|index| &raw const *place(index)).collect();
        assert_eq!(places.len(), 1000);
    }
}
