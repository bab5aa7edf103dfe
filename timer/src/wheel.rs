//! The public face of the wheel: set, cancel, move, look. How time moves is in `expiry.rs`.

use alloc::boxed::Box;
use core::fmt;
use core::iter::{Enumerate, FusedIterator};
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::geometry::{Occupancy, Place, SLOTS, UPPER_LEVELS};
use crate::links::{Id, id_of};
use crate::slab::{Key, Node, Slab};

/// Gives each wheel a number of its own, so that a key is never mistaken for another wheel's.
static NEXT_WHEEL: AtomicU32 = AtomicU32::new(0);

/// Timers with values of type `T`, ordered by deadline; see the [crate's page](crate) for what is promised.
///
/// Deadlines and `now` are ticks: any unit, any starting point, the whole of `u64`. The wheel itself takes some 11 KiB on
/// the heap.
pub struct Wheel<T> {
    pub(crate) slab: Slab<T>,
    /// For each slot above level 0: no timer in its list fires before this tick; [`u64::MAX`] if the list is empty.
    pub(crate) earliest: Box<[u64; UPPER_LEVELS * SLOTS]>,
    pub(crate) occupancy: Occupancy,
    /// No pending timer is before this tick; see `geometry.rs`.
    pub(crate) cursor: u64,
    /// The greatest `now` that an advance was given.
    pub(crate) now: u64,
    /// The slot that is being dealt out to lower levels.
    pub(crate) opening: Option<Place>,
    /// The number of the latest advance, from 1; it wraps around, leaving out 0.
    pub(crate) advance: u16,
}

impl<T> Wheel<T> {
    /// An empty wheel whose time begins at tick `start`.
    #[must_use]
    pub fn new(start: u64) -> Wheel<T> {
        Wheel::with_capacity(start, 0)
    }

    /// An empty wheel whose time begins at tick `start`, with memory for `capacity` timers.
    #[must_use]
    pub fn with_capacity(start: u64, capacity: usize) -> Wheel<T> {
        Wheel {
            slab: Slab::with_capacity(NEXT_WHEEL.fetch_add(1, Ordering::Relaxed), capacity),
            earliest: Box::new([u64::MAX; UPPER_LEVELS * SLOTS]),
            occupancy: Occupancy::EMPTY,
            cursor: start,
            now: start,
            opening: None,
            advance: 1,
        }
    }

    /// Sets a timer for the tick `deadline`.
    ///
    /// A deadline that is not after [`now`](Wheel::now) is due at once: the timer fires in the next advance, also if one
    /// is in progress.
    ///
    /// # Panics
    ///
    /// If the wheel holds 4,294,962,622 timers already.
    #[inline]
    pub fn insert(&mut self, deadline: u64, value: T) -> Key {
        self.insert_with_slack(deadline, 0, value)
    }

    /// Sets a timer that may fire up to `slack` ticks after its deadline, so that it can share a wake-up with others.
    ///
    /// Of the ticks allowed, the one with the most trailing zero bits is chosen. Timers with similar slack thus meet at
    /// the same round ticks without knowing of each other. The timer keeps the deadline it was given.
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
    /// If the wheel holds 4,294,962,622 timers already.
    #[inline]
    pub fn insert_with_slack(&mut self, deadline: u64, slack: u64, value: T) -> Key {
        let (tick, due_since) = self.fires_at(deadline, slack);
        let place = self.place_for(tick);
        let (id, key) = self.slab.insert(tick, deadline, due_since, place, value);
        self.push_back(place, id, tick);
        self.deal_for_newcomer(place);
        key
    }

    /// Removes a timer and returns its value; `None` if the key is stale (fired, cancelled) or another wheel's.
    #[inline]
    pub fn cancel(&mut self, key: Key) -> Option<T> {
        let id = self.slab.find(key)?;
        self.unlink(id);
        self.slab.remove(id)
    }

    /// Gives a pending timer a new deadline, earlier or later; the key stays valid. `false` if the key is stale or another
    /// wheel's.
    ///
    /// To put it off is one store, unless the timer is the earliest of its slot: then it is moved, so that nobody wakes
    /// for the deadline that it had.
    #[inline]
    pub fn reschedule(&mut self, key: Key, deadline: u64) -> bool {
        self.reschedule_with_slack(key, deadline, 0)
    }

    /// [`reschedule`](Wheel::reschedule) with the slack of [`insert_with_slack`](Wheel::insert_with_slack).
    #[inline]
    pub fn reschedule_with_slack(&mut self, key: Key, deadline: u64, slack: u64) -> bool {
        let Some(id) = self.slab.find(key) else { return false };
        let (tick, due_since) = self.fires_at(deadline, slack);
        let earliest = self.earliest_of(self.slab.node(id).place);
        let node = self.slab.node_mut(id);
        // What is due now must go to the end of its list; the rest may lag behind in an earlier slot.
        if tick >= node.tick && node.tick != earliest && due_since == 0 {
            node.tick = tick;
            node.deadline = deadline;
            node.due_since = 0;
        } else {
            self.unlink(id);
            self.set_again(id, tick, deadline, due_since);
        }
        true
    }

    /// Puts a timer that is in no list where it belongs with its new tick.
    #[inline]
    pub(crate) fn set_again(&mut self, id: Id, tick: u64, deadline: u64, due_since: u16) {
        let place = self.place_for(tick);
        let node = self.slab.node_mut(id);
        node.tick = tick;
        node.deadline = deadline;
        node.due_since = due_since;
        node.place = place;
        self.push_back(place, id, tick);
        self.deal_for_newcomer(place);
    }

    /// When a timer with this deadline fires, and the advance in which it does not, being due already.
    #[inline]
    pub(crate) fn fires_at(&self, deadline: u64, slack: u64) -> (u64, u16) {
        if deadline <= self.now {
            return (self.now, self.advance);
        }
        if slack == 0 {
            return (deadline, 0);
        }
        (roundest(deadline, deadline.saturating_add(slack)), 0)
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
        Some(self.slab.node(self.slab.find(key)?).deadline)
    }

    /// Whether the key names a pending timer of this wheel.
    #[inline]
    #[must_use]
    pub fn contains(&self, key: Key) -> bool {
        self.slab.find(key).is_some()
    }

    /// The tick at which [`advance`](Wheel::advance) next has something to do; at most [`now`](Wheel::now) if something is
    /// due already, `None` if no timer is pending. Constant time.
    ///
    /// It is never after the earliest timer's tick. It is that tick, except after the earliest of many timers (more than
    /// 16) in one slot was cancelled or moved: then it may once be the tick of the timer that went.
    #[inline]
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let place = self.opening.or_else(|| self.occupancy.first())?;
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

    /// The greatest tick that an [`advance`](Wheel::advance) was given so far; at first the wheel's start.
    #[inline]
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// All pending timers with their deadlines, in no particular order. Takes time for each timer that the wheel ever held
    /// at once.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { slab: &self.slab, nodes: self.slab.nodes().iter().enumerate(), left: self.len() }
    }
}

/// The tick in `first ..= last` with the most trailing zero bits, for `first` > 0.
fn roundest(first: u64, last: u64) -> u64 {
    // `first - 1` and `last` agree down to some bit, which is 0 in the former and 1 in the latter: whatever lies between has
    // the same bits above, and the lower bits of the one sought are all zero.
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
        let (index, node, value) = self.nodes.find_map(|(i, node)| Some((i, node, node.value.as_ref()?)))?;
        self.left -= 1;
        Some((self.slab.key(id_of(index)), node.deadline, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}
impl<T> FusedIterator for Iter<'_, T> {}
