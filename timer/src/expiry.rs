//! How time moves: an advance takes the earliest slot, again and again, until it lies in the
//! future.
//!
//! Scheme 7 turns its wheels tick by tick and deals a slot out when its time begins. Here the
//! cursor jumps: to the earliest timer of the first occupied slot when that timer is due, and
//! otherwise to the last tick before that slot. So a century without timers costs as much as a
//! tick, and a timer that is cancelled in time is never moved. To open a slot of a higher level is
//! to deal its timers out, in order, to the slots that they belong to as seen from its earliest
//! timer, which thereby comes to level 0. A slot with one timer needs no opening.
//!
//! While time is in a *quiet time*, before the tick that the last search found, nothing is looked
//! for at all.
//!
//! All work is done in small steps: one timer yielded, or a few moved. Between any two steps the
//! wheel is whole. That is why an [`Advance`] can stop at its limits and why the caller may do as
//! he likes between two timers.
//!
//! Timers that are already due when they are set are placed at tick `now`, at the end of the list,
//! with the number of the advance. When an advance meets its own number at the head of the list for
//! its own `now`, what remains is for the next.

use core::{fmt, mem};

use crate::ahead::AHEAD;
use crate::geometry::{Place, TICKS};
use crate::links::Id;
use crate::slab::{Key, Since};
use crate::wheel::Wheel;

/// What an advance may do beside firing as many timers as its budget says.
const MORE_WORK: usize = 64;
/// To fire a timer is one piece of work, to move one from slot to slot so many: it touches more
/// memory, and memory that nobody has touched for longer.
const MOVE: usize = 3;

/// The progress of one [`Wheel::advance`]. It borrows nothing: the wheel is free between two calls
/// of [`next`](Advance::next).
#[derive(Debug)]
#[must_use = "an advance does nothing until its `next` is called"]
pub struct Advance {
    number: Since,
    budget: usize,
    /// What it may still do, in firings; see [`MOVE`].
    pub(crate) work: usize,
    /// So many timers fire before memory is read ahead again.
    ahead: usize,
    is_spent: bool,
}

enum Search {
    Due(Id),
    NothingDue,
    OutOfWork,
}

impl<T> Wheel<T> {
    /// Lets time be `now` and begins to expire what is due, at most `budget` timers.
    ///
    /// A `now` before an earlier one counts as the earlier one: time does not go back. A newer
    /// advance ends an older one, whose `next` then yields nothing. What an advance leaves over,
    /// because its budget was spent or because nobody called `next` often enough, is the first to
    /// fire in the next one.
    ///
    /// With a budget of 0 nothing fires, but timers set afterwards are judged by the new `now`.
    #[inline]
    pub fn advance(&mut self, now: u64, budget: usize) -> Advance {
        self.now = self.now.max(now);
        self.advance = self.advance.next_advance();
        let work = budget.saturating_add(MORE_WORK);
        Advance { number: self.advance, budget, work, ahead: 0, is_spent: false }
    }

    /// The first timer of the tick that ends the quiet time, if there is one, on level 0, and not
    /// set for the next advance: then no search is needed.
    #[inline]
    fn due_at_once(&mut self) -> Option<Id> {
        let tick = self.quiet_until;
        if self.opening != 0 || (tick ^ self.cursor) >= TICKS as u64 {
            return None;
        }
        let id = self.slab.links.first(Place::at(tick))?;
        if self.slab.node(id).since() == self.advance {
            return None;
        }
        self.cursor = tick;
        Some(id)
    }

    /// The timer that fires next, if it is due in this advance.
    #[inline(never)]
    fn search(&mut self, work: &mut usize) -> Search {
        loop {
            if self.opening != 0 {
                if *work < MOVE {
                    return Search::OutOfWork;
                }
                *work -= MOVE * self.deal(Place::from_bits(self.opening), *work / MOVE);
                continue;
            }
            let Some(place) = self.occupancy.first() else {
                self.cursor = self.now;
                self.quiet_until = u64::MAX;
                return Search::NothingDue;
            };
            let earliest = self.earliest_of(place);
            if earliest > self.now {
                let before = if place.is_upper() { place.start(earliest) - 1 } else { earliest };
                self.cursor = self.now.min(before);
                self.quiet_until = earliest;
                return Search::NothingDue;
            }
            let head = self.slab.links.first(place).expect("an occupied slot has timers");
            let node = self.slab.node(head);
            if !place.is_upper() {
                self.cursor = earliest;
            } else if node.tick != earliest || !self.slab.links.is_single(place) {
                self.cursor = earliest;
                self.opening = place.bits();
                continue;
            }
            if node.tick == self.now && node.since() == self.advance {
                return Search::NothingDue;
            }
            return Search::Due(head);
        }
    }
}

impl Advance {
    /// The next timer that is due; `None` if there is none, or none that this advance may still
    /// expire (then [`is_spent`](Advance::is_spent)).
    ///
    /// Take it with `let Some(expired) = advance.next(&mut wheel) else { break };` or, for the
    /// value alone, with `while let Some(value) = advance.next(&mut
    /// wheel).map(Expired::into_value)`. A plain `while let` would hold on to the wheel until the
    /// end of its body.
    ///
    /// Use it with the wheel that it came from: with another it does what that wheel's own latest
    /// advance would do, or nothing.
    #[inline]
    pub fn next<'a, T>(&mut self, wheel: &'a mut Wheel<T>) -> Option<Expired<'a, T>> {
        if self.number != wheel.advance {
            return None;
        }
        self.is_spent = false;
        if wheel.now < wheel.quiet_until {
            return None;
        }
        let found = match wheel.due_at_once() {
            Some(id) => Search::Due(id),
            None => wheel.search(&mut self.work),
        };
        match found {
            Search::Due(id) if self.budget > 0 && self.work > 0 => {
                self.budget -= 1;
                self.work -= 1;
                if wheel.slab.hints.is_crowd() {
                    wheel.slab.hints.fired();
                    self.read_ahead(wheel, id);
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

    /// Each [`AHEAD`] timers of a list, or when another list begins, memory is read for the next so
    /// many.
    #[inline]
    fn read_ahead<T>(&mut self, wheel: &Wheel<T>, id: Id) {
        if self.ahead == 0 {
            wheel.slab.read_ahead_from(wheel.slab.node(id).place(), id);
            self.ahead = AHEAD;
        }
        self.ahead -= 1;
    }

    /// Whether [`next`](Advance::next) returned `None` although there was more to do: the next
    /// advance should come soon. (The wheel's [`next_deadline`](Wheel::next_deadline) says the
    /// same: it is not after `now`.)
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
/// leaked, by `mem::forget`, the timer is due still.)
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

    /// The deadline that the timer was given: a periodic timer that adds its period to it does not
    /// drift.
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
        let (place, tick_before) = (node.place(), node.tick);
        let emptied = self.wheel.slab.links.unlink(self.id);
        self.wheel.unlinked_due(place, tick_before, emptied);
        self.wheel.set_again(self.id, deadline, 0);
        mem::forget(self); // as above
    }
}

impl<T> Wheel<T> {
    #[inline]
    fn take_expired(&mut self, id: Id) -> Option<T> {
        let removed = self.slab.remove(id);
        self.unlinked_due(removed.place, removed.tick, removed.emptied);
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
