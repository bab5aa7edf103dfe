//! The wheel: insert, cancel, reschedule, query. How time advances is in `expiry.rs`.

use alloc::boxed::Box;
use core::fmt;
use core::iter::{Enumerate, FusedIterator};
use core::num::NonZeroU32;
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::geometry::{Occupancy, SLOTS, Slot, UPPER_LEVELS};
use crate::links::{Id, id_of};
use crate::slab::{Key, Node, Slab, TickOrigin};

/// The number of the next wheel. Keys carry it, so that no key works on another wheel.
static NEXT_WHEEL: AtomicU32 = AtomicU32::new(1);

/// Timers with values of type `T`, ordered by deadline. The [crate's page](crate) has the promises.
///
/// Deadlines and `now` are ticks: any unit, any starting point, the whole of `u64`. The wheel
/// itself takes some 43 KiB, and 165 KiB more from 65,536 timers on.
pub struct Wheel<T> {
    pub(crate) slab: Slab<T>,
    /// For each slot above level 0: no timer in its list fires before this tick; [`u64::MAX`] if
    /// the list is empty.
    pub(crate) earliest: Box<[u64; UPPER_LEVELS * SLOTS]>,
    pub(crate) occupancy: Occupancy,
    /// No pending timer is before this tick; see `geometry.rs`.
    pub(crate) cursor: u64,
    /// The greatest `now` that an advance was given.
    pub(crate) now: u64,
    /// No pending timer is before this tick, so an advance to an earlier tick searches nothing.
    pub(crate) idle_until: u64,
    /// The slot (above level 0) that is being cascaded to lower levels; 0 if there is none.
    pub(crate) cascading: u32,
    /// The number of the latest advance.
    pub(crate) advance: TickOrigin,
}

impl<T> Wheel<T> {
    /// An empty wheel whose time begins at tick `start`.
    ///
    /// # Panics
    ///
    /// If the process has made 4,294,967,294 wheels before: the keys of another one would not be
    /// unique.
    #[must_use]
    pub fn new(start: u64) -> Wheel<T> {
        Wheel::with_capacity(start, 0)
    }

    /// An empty wheel whose time begins at tick `start`, with memory for `capacity` timers.
    ///
    /// # Panics
    ///
    /// As [`new`](Wheel::new), and if the memory cannot be allocated.
    #[must_use]
    pub fn with_capacity(start: u64, capacity: usize) -> Wheel<T> {
        let number = NEXT_WHEEL
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |number| number.checked_add(1));
        let number = number
            .ok()
            .and_then(NonZeroU32::new)
            .expect("a process makes fewer than 2^32 - 1 timer wheels");
        Wheel {
            slab: Slab::with_capacity(number, capacity),
            earliest: Box::new([u64::MAX; UPPER_LEVELS * SLOTS]),
            occupancy: Occupancy::EMPTY,
            cursor: start,
            now: start,
            idle_until: u64::MAX,
            cascading: 0,
            advance: TickOrigin::FIRST_ADVANCE,
        }
    }

    /// Sets a timer for the tick `deadline`.
    ///
    /// A timer whose deadline is not after [`now`](Wheel::now) is due at once. It fires in the next
    /// advance, not in one that is in progress.
    ///
    /// # Panics
    ///
    /// If the wheel holds 4,294,962,623 timers already.
    #[inline]
    pub fn insert(&mut self, deadline: u64, value: T) -> Key {
        let slot = Slot::of(self.cursor, deadline);
        // The common case, which needs few registers.
        if deadline > self.now
            && !self.is_in_cascading(slot)
            && let Some(id) = self.slab.links.take_unused()
        {
            let key = self.slab.insert(id, slot, deadline, TickOrigin::EXACT, value);
            self.push_back(slot, id, deadline);
            return key;
        }
        self.insert_slow(deadline, 0, value)
    }

    /// Sets a timer that may fire up to `slack` ticks after its deadline, to share wake-ups.
    ///
    /// The timer fires at the tick within its slack that has the most trailing zero bits. So timers
    /// with similar slack meet at the same round ticks. [`deadline`](Wheel::deadline) stays what
    /// was given here.
    ///
    /// ```
    /// let mut wheel = kodiak_timer::Wheel::new(0);
    /// wheel.insert_with_slack(1_000, 100, "one");
    /// wheel.insert_with_slack(1_020, 100, "two");
    /// assert_eq!(wheel.next_deadline(), Some(1_024)); // both
    /// ```
    ///
    /// # Panics
    ///
    /// If the wheel holds 4,294,962,623 timers already.
    #[inline]
    pub fn insert_with_slack(&mut self, deadline: u64, slack: u64, value: T) -> Key {
        self.insert_slow(deadline, slack, value)
    }

    /// The general case: any deadline, any slack, no unused node.
    #[cold]
    #[inline(never)]
    fn insert_slow(&mut self, deadline: u64, slack: u64, value: T) -> Key {
        let (tick, origin) = self.fires_at(deadline, slack);
        let slot = Slot::of(self.cursor, tick);
        let id = self.slab.links.take_unused().unwrap_or_else(|| self.slab.grow());
        let key = self.slab.insert(id, slot, tick, origin, value);
        self.link(slot, id, deadline);
        key
    }

    /// Puts a timer, whose node is set, into the list of its slot, or into the slot that is being
    /// cascaded if it belongs inside that.
    fn link(&mut self, slot: Slot, id: Id, deadline: u64) {
        let node = self.slab.node_mut(id);
        let (tick, origin) = (node.tick, node.tick_origin());
        if origin != TickOrigin::EXACT {
            self.slab.set_deadline(id, deadline);
        }
        if self.is_in_cascading(slot) {
            self.push_cascading(id);
        } else {
            self.push_back(slot, id, tick);
        }
    }

    /// Removes a timer and returns its value. `None` if the timer has fired or was cancelled, or if
    /// the key is another wheel's.
    #[inline]
    pub fn cancel(&mut self, key: Key) -> Option<T> {
        let id = self.slab.find(key)?;
        let removed = self.slab.remove(id);
        self.slab.hints.record_cancel();
        self.after_unlink(removed.slot, removed.tick, removed.is_empty_now);
        removed.value
    }

    /// Gives a pending timer a new deadline, earlier or later; the key stays valid. Returns `false`
    /// if the timer has fired or was cancelled, or if the key is another wheel's.
    ///
    /// A later deadline costs one store, unless the timer is the earliest of its slot: then it is
    /// moved, so that the caller does not wake for the old deadline. (A timer due within some 4096
    /// ticks is always moved, because each of these ticks has its own slot.)
    #[inline]
    pub fn reschedule(&mut self, key: Key, deadline: u64) -> bool {
        self.reschedule_with_slack(key, deadline, 0)
    }

    /// [`reschedule`](Wheel::reschedule) with the slack of
    /// [`insert_with_slack`](Wheel::insert_with_slack).
    #[inline]
    pub fn reschedule_with_slack(&mut self, key: Key, deadline: u64, slack: u64) -> bool {
        let Some(id) = self.slab.find(key) else { return false };
        let (tick, origin) = self.fires_at(deadline, slack);
        let node = self.slab.node(id);
        // A timer that is due now must go to the end of its list; others may stay in an earlier
        // slot.
        if tick >= node.tick && origin != self.advance && node.tick != self.earliest_of(node.slot())
        {
            let node = self.slab.node_mut(id);
            node.set(node.slot(), tick, origin);
            if origin != TickOrigin::EXACT {
                self.slab.set_deadline(id, deadline);
            }
        } else {
            let (slot, tick_before) = (node.slot(), node.tick);
            let is_empty_now = self.slab.links.unlink(id);
            self.after_unlink(slot, tick_before, is_empty_now);
            self.relink(id, deadline, slack);
        }
        true
    }

    /// Links a timer that is in no list, with its new deadline.
    #[inline(always)]
    pub(crate) fn relink(&mut self, id: Id, deadline: u64, slack: u64) {
        let slot = Slot::of(self.cursor, deadline);
        if deadline > self.now && slack == 0 && !self.is_in_cascading(slot) {
            self.slab.node_mut(id).set(slot, deadline, TickOrigin::EXACT);
            self.push_back(slot, id, deadline);
        } else {
            self.relink_slow(id, deadline, slack);
        }
    }

    #[cold]
    #[inline(never)]
    fn relink_slow(&mut self, id: Id, deadline: u64, slack: u64) {
        let (tick, origin) = self.fires_at(deadline, slack);
        let slot = Slot::of(self.cursor, tick);
        self.slab.node_mut(id).set(slot, tick, origin);
        self.link(slot, id, deadline);
    }

    /// The tick at which a timer with this deadline fires, and why.
    #[inline]
    pub(crate) fn fires_at(&self, deadline: u64, slack: u64) -> (u64, TickOrigin) {
        if deadline <= self.now {
            (self.now, self.advance)
        } else if slack == 0 {
            (deadline, TickOrigin::EXACT)
        } else {
            (most_aligned(deadline, deadline.saturating_add(slack)), TickOrigin::SLACK)
        }
    }

    /// The value of a pending timer.
    #[inline]
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        self.slab.node(self.slab.find(key)?).value.as_ref()
    }

    /// The value of a pending timer, to change it.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let id = self.slab.find(key)?;
        self.slab.node_mut(id).value.as_mut()
    }

    /// The deadline that a pending timer was last set for.
    #[inline]
    #[must_use]
    pub fn deadline(&self, key: Key) -> Option<u64> {
        Some(self.slab.deadline(self.slab.find(key)?))
    }

    /// Whether the key names a pending timer of this wheel.
    #[inline]
    #[must_use]
    pub fn contains(&self, key: Key) -> bool {
        self.slab.find(key).is_some()
    }

    /// The tick until which the caller may sleep; `None` if no timer is pending. Constant time.
    ///
    /// It is at most [`now`](Wheel::now) if a timer is due already. It is never after the tick of
    /// the earliest timer, and usually equal to it. It can be earlier once, after the earliest of
    /// more than 16 timers in one slot was cancelled or moved.
    #[inline]
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let slot = if self.cascading == 0 {
            self.occupancy.first()?
        } else {
            Slot::from_bits(self.cascading)
        };
        Some(self.earliest_of(slot))
    }

    /// How many timers are pending.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether no timer is pending.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of timers that the wheel can hold without allocating.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slab.capacity()
    }

    /// The greatest tick that an [`advance`](Wheel::advance) was given so far; at first the wheel's
    /// start.
    #[inline]
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// All pending timers as (key, deadline, value), in no particular order. Takes time
    /// proportional to the most timers that the wheel ever held at once.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { slab: &self.slab, nodes: self.slab.nodes().iter().enumerate(), left: self.len() }
    }
}

/// The tick in `first ..= last` with the most trailing zero bits, for `first` > 0.
fn most_aligned(first: u64, last: u64) -> u64 {
    // `first - 1` and `last` agree down to some bit, which is 0 in the former and 1 in the latter:
    // all ticks between have the same bits above, and the lower bits of the one sought are zero.
    let differing = (first - 1) ^ last;
    let shift = 63 - differing.leading_zeros();
    last >> shift << shift
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("now", &self.now)
            .field("len", &self.len())
            .field("next_deadline", &self.next_deadline())
            .finish_non_exhaustive()
    }
}

impl<'a, T> IntoIterator for &'a Wheel<T> {
    type Item = (Key, u64, &'a T);
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The pending timers of a [`Wheel`]: key, deadline, value. Made by [`Wheel::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    slab: &'a Slab<T>,
    nodes: Enumerate<slice::Iter<'a, Node<T>>>,
    left: usize,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = (Key, u64, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        let (index, value) =
            self.nodes.find_map(|(index, node)| Some((index, node.value.as_ref()?)))?;
        self.left -= 1;
        let id = id_of(index);
        Some((self.slab.key(id), self.slab.deadline(id), value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}
impl<T> FusedIterator for Iter<'_, T> {}
