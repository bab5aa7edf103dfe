//! How a tick finds its level and slot, and which slots are occupied.
//!
//! Think of a tick as a number in base 64: eleven digits, the topmost of four bits only, are all of `u64`. The wheel has
//! a *cursor*, a tick that no pending timer is before. A timer lives on the **level of the highest digit in which its
//! tick differs from the cursor**, in the slot that this digit names:
//!
//! ```text
//!   digit (= level)     10   9   8   7   6   5   4   3   2   1   0
//!   cursor               0   0   0   0   0   0   0   0   7  12  40
//!   tick                 0   0   0   0   0   0   0   0   7  31   3     level 1, slot 31
//!                                                           ^ the first difference
//! ```
//!
//! Two ticks first differ in digit `l` exactly when the highest set bit of their exclusive-or is one of the bits
//! `6l ..= 6l+5`; hence `level = (63 - leading_zeros(cursor ^ tick)) / 6`. Or-ing 63 into the difference first makes
//! equal ticks level 0, and changes no other answer. From the definition follows all the rest:
//!
//! - Above level 0 a timer's digit is greater than the cursor's, since its tick is. So slots are never passed and reused
//!   in a circle: there is no wrap, and the first occupied slot of a level is its lowest bit, whatever the cursor.
//! - All timers of a level are earlier than all timers of a higher level: they share one more digit with the cursor.
//!   So the first timers of the wheel are those in the lowest slot of the lowest level that has any.
//! - Where a tick belongs depends on the cursor and the tick only. So all timers of one tick are always in the same
//!   slot, and lists that are first-in-first-out stay so when a slot is dealt out to lower levels.
//! - The cursor may go anywhere below the start of the first occupied slot without any timer changing its place.
//!
//! Varghese and Lauck's scheme 7 differs in three ways: its levels are unlike (seconds, minutes, hours) and end
//! somewhere, so that what is further needs another home; it turns tick by tick; and it finds what is next by looking
//! at slot after slot.

const BITS: u32 = 6;
pub(crate) const SLOTS: usize = 1 << BITS;
pub(crate) const LEVELS: usize = u64::BITS.div_ceil(BITS) as usize;
pub(crate) const PLACES: usize = LEVELS * SLOTS;

/// One slot of one level: `level * 64 + slot`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(u16);

impl Place {
    /// No slot at all: where an unused node is.
    pub(crate) const NONE: Place = Place(u16::MAX);

    /// Where a timer for `tick` belongs while the wheel stands at `cursor`.
    #[inline]
    pub(crate) fn of(cursor: u64, tick: u64) -> Place {
        let level = (63 - ((cursor ^ tick) | (SLOTS as u64 - 1)).leading_zeros()) / BITS;
        let slot = (tick >> (level * BITS)) & (SLOTS as u64 - 1);
        Place((level * SLOTS as u32) as u16 | slot as u16)
    }

    #[inline]
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    #[inline]
    pub(crate) fn level(self) -> usize {
        self.index() / SLOTS
    }

    fn slot(self) -> usize {
        self.index() % SLOTS
    }

    #[cfg(test)]
    pub(crate) fn new(level: usize, slot: usize) -> Place {
        Place((level * SLOTS + slot) as u16)
    }

    /// The first tick of the slot that `tick` is in, on this place's level.
    pub(crate) fn start(self, tick: u64) -> u64 {
        let shift = self.level() as u32 * BITS;
        tick >> shift << shift
    }
}

/// Which levels have timers, and which slots of each: the first occupied slot is two `trailing_zeros` away.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Occupancy {
    levels: u16,
    slots: [u64; LEVELS],
}

impl Occupancy {
    pub(crate) const EMPTY: Occupancy = Occupancy { levels: 0, slots: [0; LEVELS] };

    #[inline]
    pub(crate) fn set(&mut self, place: Place) {
        self.levels |= 1 << place.level();
        self.slots[place.level()] |= 1 << place.slot();
    }

    #[inline]
    pub(crate) fn clear(&mut self, place: Place) {
        let slots = &mut self.slots[place.level()];
        *slots &= !(1 << place.slot());
        if *slots == 0 {
            self.levels &= !(1 << place.level());
        }
    }

    /// The place of the earliest timers.
    #[inline]
    pub(crate) fn first(&self) -> Option<Place> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros();
        let slot = self.slots[level as usize].trailing_zeros();
        Some(Place((level * SLOTS as u32 + slot) as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level_and_slot(cursor: u64, tick: u64) -> (usize, usize) {
        let place = Place::of(cursor, tick);
        (place.level(), place.slot())
    }

    #[test]
    fn eleven_levels_cover_every_tick() {
        assert_eq!(LEVELS, 11);
        assert_eq!(level_and_slot(0, 0), (0, 0));
        assert_eq!(level_and_slot(0, 63), (0, 63));
        assert_eq!(level_and_slot(0, 64), (1, 1));
        assert_eq!(level_and_slot(63, 64), (1, 1));
        assert_eq!(level_and_slot(64, 64), (0, 0));
        assert_eq!(level_and_slot(0, u64::MAX), (10, 15));
        assert_eq!(level_and_slot(u64::MAX, u64::MAX), (0, 63));
        assert_eq!(level_and_slot(7 * 4096 + 12 * 64 + 40, 7 * 4096 + 31 * 64 + 3), (1, 31));
        for level in 0..LEVELS {
            let tick = 1 << (6 * level);
            assert_eq!(level_and_slot(0, tick), (level, 1));
            assert_eq!(level_and_slot(tick - 1, tick), (level, 1));
        }
    }

    #[test]
    fn occupancy_finds_the_lowest_slot_of_the_lowest_level() {
        let mut occupancy = Occupancy::EMPTY;
        assert_eq!(occupancy.first(), None);
        let (near, far, farthest) = (Place::of(0, 5), Place::of(0, 700), Place::of(0, u64::MAX));
        for place in [farthest, far, near] {
            occupancy.set(place);
            assert_eq!(occupancy.first(), Some(place));
        }
        for (gone, next) in [(near, Some(far)), (far, Some(farthest)), (farthest, None)] {
            occupancy.clear(gone);
            assert_eq!(occupancy.first(), next);
        }
    }

    #[test]
    fn a_slot_starts_at_its_digit() {
        assert_eq!(Place::of(0, 700).start(700), 640);
        assert_eq!(Place::of(0, u64::MAX).start(u64::MAX), 15 << 60);
        assert_eq!(Place::of(0, 9).start(9), 9);
    }
}
