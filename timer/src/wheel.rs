//! The public face of the wheel: set, cancel, move, look. How time moves is in `expiry.rs`.

use alloc::boxed::Box;
use core::fmt;
use core::iter::{Enumerate, FusedIterator};
use core::num::NonZeroU32;
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::geometry::{Occupancy, Place, SLOTS, UPPER_LEVELS};
use crate::links::{Id, id_of};
use crate::slab::{Key, Node, Since, Slab};

/// Gives each wheel a number of its own, so that a key is never mistaken for another wheel's.
static NEXT_WHEEL: AtomicU32 = AtomicU32::new(1);

/// Timers with values of type `T`, ordered by deadline; see the [crate's page](crate) for what is
/// promised.
///
/// Deadlines and `now` are ticks: any unit, any starting point, the whole of `u64`. The wheel
/// itself takes some 43 KiB, and 165 more from 65,536 timers on.
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
    /// No pending timer is before this tick: an advance to an earlier one has nothing to look for.
    pub(crate) quiet_until: u64,
    /// The slot (above level 0) that is being dealt out to lower levels; 0 if there is none.
    pub(crate) opening: u32,
    /// The number of the latest advance.
    pub(crate) advance: Since,
}

impl<T> Wheel<T> {
    /// An empty wheel whose time begins at tick `start`.
    ///
    /// # Panics
    ///
    /// If the process has made 4,294,967,294 wheels before: a further one's keys could be mistaken
    /// for theirs.
    #[must_use]
    pub fn new(start: u64) -> Wheel<T> {
        Wheel::with_capacity(start, 0)
    }

    /// An empty wheel whose time begins at tick `start`, with memory for `capacity` timers.
    ///
    /// # Panics
    ///
    /// As [`new`](Wheel::new), or if so much memory cannot be had.
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
            quiet_until: u64::MAX,
            opening: 0,
            advance: Since::FIRST_ADVANCE,
        }
    }

    /// Sets a timer for the tick `deadline`.
    ///
    /// A deadline that is not after [`now`](Wheel::now) is due at once: the timer fires in the next
    /// advance, also if one is in progress.
    ///
    /// # Panics
    ///
    /// If the wheel holds 4,294,962,623 timers already.
    #[inline]
    pub fn insert(&mut self, deadline: u64, value: T) -> Key {
        let place = Place::of(self.cursor, deadline);
        // Usually there is nothing special, and few registers are needed.
        if deadline > self.now
            && !self.is_inside_opening(place)
            && let Some(id) = self.slab.links.take_unused()
        {
            let key = self.slab.insert(id, place, deadline, Since::EXACT, value);
            self.push_back(place, id, deadline);
            return key;
        }
        self.insert_specially(deadline, 0, value)
    }

    /// Sets a timer that may fire up to `slack` ticks after its deadline, so that it can share a
    /// wake-up with others.
    ///
    /// Of the ticks allowed, the one with the most trailing zero bits is chosen. Timers with
    /// similar slack thus meet at the same round ticks without knowing of each other. The timer
    /// keeps the deadline it was given.
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
        self.insert_specially(deadline, slack, value)
    }

    /// For whatever deadline and slack, memory, and state of the wheel.
    #[cold]
    #[inline(never)]
    fn insert_specially(&mut self, deadline: u64, slack: u64, value: T) -> Key {
        let (tick, since) = self.fires_at(deadline, slack);
        let place = Place::of(self.cursor, tick);
        let id = self.slab.links.take_unused().unwrap_or_else(|| self.slab.grow());
        let key = self.slab.insert(id, place, tick, since, value);
        self.put(place, id, deadline);
        key
    }

    /// Puts a timer, its node set, where it belongs, or into the slot that is being opened if it
    /// belongs inside that.
    fn put(&mut self, place: Place, id: Id, deadline: u64) {
        let node = self.slab.node_mut(id);
        let (tick, since) = (node.tick, node.since());
        if since != Since::EXACT {
            self.slab.set_deadline(id, deadline);
        }
        if self.is_inside_opening(place) {
            self.push_opening(id);
        } else {
            self.push_back(place, id, tick);
        }
    }

    /// Removes a timer and returns its value; `None` if the key is stale (fired, cancelled) or
    /// another wheel's.
    #[inline]
    pub fn cancel(&mut self, key: Key) -> Option<T> {
        let id = self.slab.find(key)?;
        let removed = self.slab.remove(id);
        self.slab.hints.cancelled();
        self.unlinked(removed.place, removed.tick, removed.emptied);
        removed.value
    }

    /// Gives a pending timer a new deadline, earlier or later; the key stays valid. `false` if the
    /// key is stale or another wheel's.
    ///
    /// To put it off is one store, unless the timer is the earliest of its slot: then it is moved,
    /// so that nobody wakes for the deadline that it had. (So is one that is due within some 4096
    /// ticks: there each tick has a slot of its own.)
    #[inline]
    pub fn reschedule(&mut self, key: Key, deadline: u64) -> bool {
        self.reschedule_with_slack(key, deadline, 0)
    }

    /// [`reschedule`](Wheel::reschedule) with the slack of
    /// [`insert_with_slack`](Wheel::insert_with_slack).
    #[inline]
    pub fn reschedule_with_slack(&mut self, key: Key, deadline: u64, slack: u64) -> bool {
        let Some(id) = self.slab.find(key) else { return false };
        let (tick, since) = self.fires_at(deadline, slack);
        let node = self.slab.node(id);
        // What is due now must go to the end of its list; the rest may lag behind in an earlier
        // slot.
        if tick >= node.tick && since != self.advance && node.tick != self.earliest_of(node.place())
        {
            let node = self.slab.node_mut(id);
            node.set(node.place(), tick, since);
            if since != Since::EXACT {
                self.slab.set_deadline(id, deadline);
            }
        } else {
            let (place, tick_before) = (node.place(), node.tick);
            let emptied = self.slab.links.unlink(id);
            self.unlinked(place, tick_before, emptied);
            self.set_again(id, deadline, slack);
        }
        true
    }

    /// Puts a timer that is in no list where it belongs with its new deadline.
    #[inline(always)]
    pub(crate) fn set_again(&mut self, id: Id, deadline: u64, slack: u64) {
        let place = Place::of(self.cursor, deadline);
        if deadline > self.now && slack == 0 && !self.is_inside_opening(place) {
            self.slab.node_mut(id).set(place, deadline, Since::EXACT);
            self.push_back(place, id, deadline);
        } else {
            self.set_again_specially(id, deadline, slack);
        }
    }

    #[cold]
    #[inline(never)]
    fn set_again_specially(&mut self, id: Id, deadline: u64, slack: u64) {
        let (tick, since) = self.fires_at(deadline, slack);
        let place = Place::of(self.cursor, tick);
        self.slab.node_mut(id).set(place, tick, since);
        self.put(place, id, deadline);
    }

    /// When a timer with this deadline fires.
    #[inline]
    pub(crate) fn fires_at(&self, deadline: u64, slack: u64) -> (u64, Since) {
        if deadline <= self.now {
            (self.now, self.advance)
        } else if slack == 0 {
            (deadline, Since::EXACT)
        } else {
            (roundest(deadline, deadline.saturating_add(slack)), Since::SLACK)
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

    /// The deadline that a pending timer was last given.
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

    /// The tick at which [`advance`](Wheel::advance) next has something to do; at most
    /// [`now`](Wheel::now) if something is due already, `None` if no timer is pending. Constant
    /// time.
    ///
    /// It is never after the earliest timer's tick. It is that tick, except after the earliest of
    /// many timers (more than 16) in one slot was cancelled or moved: then it may once be the tick
    /// of the timer that went.
    #[inline]
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let place = if self.opening == 0 {
            self.occupancy.first()?
        } else {
            Place::from_bits(self.opening)
        };
        Some(self.earliest_of(place))
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

    /// How many timers the wheel can hold before it allocates.
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

    /// All pending timers with their deadlines, in no particular order. Takes time for each timer
    /// that the wheel ever held at once.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { slab: &self.slab, nodes: self.slab.nodes().iter().enumerate(), left: self.len() }
    }
}

/// The tick in `first ..= last` with the most trailing zero bits, for `first` > 0.
fn roundest(first: u64, last: u64) -> u64 {
    // `first - 1` and `last` agree down to some bit, which is 0 in the former and 1 in the latter:
    // whatever lies between has the same bits above, and the lower bits of the one sought are all
    // zero.
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
