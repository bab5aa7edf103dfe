//! How time moves: an advance takes the earliest slot, again and again, until it lies in the
//! future.
//!
//! Scheme 7 turns its wheels tick by tick and cascades a slot when its time begins. Here the cursor
//! jumps: to the earliest timer of the first occupied slot when that timer is due, and otherwise to
//! the last tick before that slot. So a century without timers costs as much as a tick, and a timer
//! that is cancelled in time is never moved.
//!
//! To *cascade* a slot of a higher level is to move its timers, in order, to the slots that they
//! belong to as seen from the slot's earliest timer, which thereby comes to level 0. A slot with
//! one timer need not be cascaded.
//!
//! The last search found the tick of the earliest timer. Until `now` reaches that tick
//! (`idle_until`), an advance searches nothing.
//!
//! All work is done in small steps: one timer yielded, or a few moved. The wheel is consistent
//! between any two steps. That is why an [`Advance`] can stop at its limits, and why the caller may
//! call any method of the wheel between two timers.
//!
//! A timer that is already due when it is set goes to the end of the list of tick `now`, with the
//! number of the current advance. When an advance finds its own number at the head of the list of
//! its own `now`, the timers from there on are left to the next advance.

use core::{fmt, mem};

use crate::geometry::{LEVEL_0_SLOTS, Slot};
use crate::links::Id;
use crate::prefetch::PREFETCH_DISTANCE;
use crate::slab::{Key, TickOrigin};
use crate::wheel::Wheel;

/// The work that an advance may do beside firing the timers of its budget.
const EXTRA_WORK: usize = 64;
/// The work of moving a timer from slot to slot, where firing a timer is 1: a move touches more
/// memory, and colder memory.
const MOVE_COST: usize = 3;

/// The progress of one [`Wheel::advance`]. It borrows nothing: the wheel is free between two calls
/// of [`next`](Advance::next).
#[derive(Debug)]
#[must_use = "an advance does nothing until its `next` is called"]
pub struct Advance {
    number: TickOrigin,
    budget: usize,
    /// The work that it may still do, in firings; see [`MOVE_COST`].
    pub(crate) work: usize,
    /// The number of timers to fire before the next prefetch.
    until_prefetch: usize,
    is_spent: bool,
}

/// What a search for the next timer found.
enum Search {
    Due(Id),
    NothingDue,
    OutOfWork,
}

impl<T> Wheel<T> {
    /// Sets the time to `now` and begins to expire due timers, at most `budget` of them.
    ///
    /// A `now` before an earlier one counts as the earlier one: time does not go back. A newer
    /// advance ends an older one, whose `next` then yields nothing. Due timers that an advance
    /// leaves over, because its budget was spent or `next` was not called often enough, are the
    /// first to fire in the next advance.
    ///
    /// With a budget of 0 nothing fires, but timers set afterwards are compared with the new `now`.
    #[inline]
    pub fn advance(&mut self, now: u64, budget: usize) -> Advance {
        self.now = self.now.max(now);
        self.advance = self.advance.next_advance();
        let work = budget.saturating_add(EXTRA_WORK);
        Advance { number: self.advance, budget, work, until_prefetch: 0, is_spent: false }
    }

    /// The first timer of tick `idle_until`, if it is on level 0 and not set for the next advance:
    /// then no search is needed.
    #[inline]
    fn due_without_search(&mut self) -> Option<Id> {
        let tick = self.idle_until;
        if self.cascading != 0 || (tick ^ self.cursor) >= LEVEL_0_SLOTS as u64 {
            return None;
        }
        let id = self.slab.links.first(Slot::on_level_0(tick))?;
        if self.slab.node(id).tick_origin() == self.advance {
            return None;
        }
        self.cursor = tick;
        Some(id)
    }

    /// The timer that fires next, if it is due in this advance.
    #[inline(never)]
    fn search(&mut self, work: &mut usize) -> Search {
        loop {
            if self.cascading != 0 {
                if *work < MOVE_COST {
                    return Search::OutOfWork;
                }
                *work -=
                    MOVE_COST * self.cascade(Slot::from_bits(self.cascading), *work / MOVE_COST);
                continue;
            }
            let Some(slot) = self.occupancy.first() else {
                self.cursor = self.now;
                self.idle_until = u64::MAX;
                return Search::NothingDue;
            };
            let earliest = self.earliest_of(slot);
            if earliest > self.now {
                let before = if slot.is_upper() { slot.start(earliest) - 1 } else { earliest };
                self.cursor = self.now.min(before);
                self.idle_until = earliest;
                return Search::NothingDue;
            }
            let head = self.slab.links.first(slot).expect("an occupied slot has timers");
            let node = self.slab.node(head);
            if !slot.is_upper() {
                self.cursor = earliest;
            } else if node.tick != earliest || !self.slab.links.is_single(slot) {
                self.cursor = earliest;
                self.cascading = slot.bits();
                continue;
            }
            if node.tick == self.now && node.tick_origin() == self.advance {
                return Search::NothingDue;
            }
            return Search::Due(head);
        }
    }
}

impl Advance {
    /// The next due timer. `None` if there is none, or if this advance may do no more work (then
    /// [`is_spent`](Advance::is_spent)).
    ///
    /// Take it with `let Some(expired) = advance.next(&mut wheel) else { break };` or, for the
    /// value alone, with `while let Some(value) = advance.next(&mut
    /// wheel).map(Expired::into_value)`. A plain `while let` would borrow the wheel until the end
    /// of its body.
    ///
    /// Use it with the wheel that it came from. With another wheel it does what that wheel's own
    /// latest advance would do, or nothing.
    #[inline]
    pub fn next<'a, T>(&mut self, wheel: &'a mut Wheel<T>) -> Option<Expired<'a, T>> {
        if self.number != wheel.advance {
            return None;
        }
        self.is_spent = false;
        if wheel.now < wheel.idle_until {
            return None;
        }
        let found = match wheel.due_without_search() {
            Some(id) => Search::Due(id),
            None => wheel.search(&mut self.work),
        };
        match found {
            Search::Due(id) if self.budget > 0 && self.work > 0 => {
                self.budget -= 1;
                self.work -= 1;
                if wheel.slab.hints.is_active() {
                    wheel.slab.hints.record_firing();
                    self.prefetch(wheel, id);
                }
                Some(Expired { wheel, id })
            }
            Search::Due(_) | Search::OutOfWork => {
                self.is_spent = true;
                None
            }
            Search::NothingDue => None,
        }
    }

    /// Loads the memory of the next [`PREFETCH_DISTANCE`] timers, once per [`PREFETCH_DISTANCE`]
    /// firings.
    #[inline]
    fn prefetch<T>(&mut self, wheel: &Wheel<T>, id: Id) {
        if self.until_prefetch == 0 {
            wheel.slab.prefetch_from(wheel.slab.node(id).slot(), id);
            self.until_prefetch = PREFETCH_DISTANCE;
        }
        self.until_prefetch -= 1;
    }

    /// Whether [`next`](Advance::next) returned `None` although timers are due or must be moved.
    /// The next advance should come soon: [`next_deadline`](Wheel::next_deadline) is not after
    /// `now`.
    #[inline]
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.is_spent
    }
}

/// A timer that is due, still in the wheel.
///
/// Dropping it removes the timer; [`into_value`](Expired::into_value) removes it and returns its
/// value; [`rearm`](Expired::rearm) keeps it for another deadline, under the same key. (If it is
/// leaked with `mem::forget`, the timer stays due.)
pub struct Expired<'a, T> {
    wheel: &'a mut Wheel<T>,
    id: Id,
}

impl<T> Expired<'_, T> {
    /// The timer's key.
    #[inline]
    #[must_use]
    pub fn key(&self) -> Key {
        self.wheel.slab.key(self.id)
    }

    /// The deadline that the timer was set for. A periodic timer that adds its period to this does
    /// not drift.
    #[inline]
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.wheel.slab.deadline(self.id)
    }

    /// The timer's value.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &T {
        self.wheel.slab.node(self.id).value.as_ref().expect("a pending timer has its value")
    }

    /// The timer's value, to change it.
    #[inline]
    #[must_use]
    pub fn value_mut(&mut self) -> &mut T {
        self.wheel.slab.node_mut(self.id).value.as_mut().expect("a pending timer has its value")
    }

    /// Removes the timer and returns its value.
    #[inline]
    #[must_use]
    pub fn into_value(self) -> T {
        let value = self.wheel.take_expired(self.id).expect("a pending timer has its value");
        mem::forget(self); // it only borrows; its drop would remove the timer again
        value
    }

    /// Sets the timer again, for a new deadline. Its key stays valid. A deadline that is not after
    /// `now` fires in the next advance.
    #[inline]
    pub fn rearm(self, deadline: u64) {
        let node = self.wheel.slab.node(self.id);
        let (slot, tick_before) = (node.slot(), node.tick);
        let is_empty_now = self.wheel.slab.links.unlink(self.id);
        self.wheel.after_unlink_due(slot, tick_before, is_empty_now);
        self.wheel.relink(self.id, deadline, 0);
        mem::forget(self); // as above
    }
}

impl<T> Wheel<T> {
    #[inline]
    fn take_expired(&mut self, id: Id) -> Option<T> {
        let removed = self.slab.remove(id);
        self.after_unlink_due(removed.slot, removed.tick, removed.is_empty_now);
        removed.value
    }
}

impl<T> Drop for Expired<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.wheel.take_expired(self.id);
    }
}

impl<T: fmt::Debug> fmt::Debug for Expired<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expired")
            .field("key", &self.key())
            .field("deadline", &self.deadline())
            .field("value", self.value())
            .finish()
    }
}
