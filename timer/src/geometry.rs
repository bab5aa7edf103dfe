//! How a tick finds its level and slot, and which slots are occupied.
//!
//! Think of a tick as a number in base 64: eleven digits, the topmost of four bits only, are all of
//! `u64`. The wheel has a *cursor*, a tick that no pending timer is before. A timer lives on the
//! **level of the highest digit in which its tick differs from the cursor**, in the slot that this
//! digit names. The two lowest digits share level 0, whose 4096 slots are single ticks:
//!
//! ```text
//!   level                9   8   7   6   5   4   3   2   1    0
//!   digit               10   9   8   7   6   5   4   3   2   1   0
//!   cursor               0   0   0   0   0   0   0   0   7  12  40
//!   tick                 0   0   0   0   0   0   0   0  31  50   3     level 1, slot 31
//!                                                       ^ the first difference
//! ```
//!
//! Two ticks first differ in digit `d` exactly when the highest set bit of their exclusive-or is
//! one of the bits `6d ..= 6d+5`. Or-ing 4095 into the difference first makes all ticks that differ
//! in the two lowest digits only, or not at all, alike. From the definition follows all the rest:
//!
//! - Above level 0 a timer's digit is greater than the cursor's, since its tick is. So slots are
//!   never passed and reused in a circle: there is no wrap, and the first occupied slot of a level
//!   is its lowest bit, whatever the cursor.
//! - All timers of a level are earlier than all timers of a higher level: they share one more digit
//!   with the cursor. So the first timers of the wheel are those in the lowest slot of the lowest
//!   level that has any.
//! - Where a tick belongs depends on the cursor and the tick only. So all timers of one tick are
//!   always in the same slot, and first-in-first-out lists stay so when a slot is cascaded to
//!   lower levels.
//! - The cursor may move anywhere below the start of the first occupied slot, and no timer changes
//!   its slot.
//!
//! With 64 slots on level 0, as on the others, most timers would be moved once more before they
//! fire, and each move of a million timers is a cache miss or two. Larger levels further up save
//! little: most timers that are far off are cancelled before their time.
//!
//! Varghese and Lauck's scheme 7 differs in three ways. Its levels have different sizes (seconds,
//! minutes, hours) and a last one, so timers beyond it need another structure. It turns tick by
//! tick. And it finds the next timer by looking at slot after slot.

const BITS: u32 = 6;
/// Slots of a level above level 0.
pub(crate) const SLOTS: usize = 1 << BITS;
/// Slots of level 0, each of a single tick.
pub(crate) const LEVEL_0_SLOTS: usize = SLOTS * SLOTS;
/// Levels above level 0.
pub(crate) const UPPER_LEVELS: usize = (u64::BITS - 2 * BITS).div_ceil(BITS) as usize;
pub(crate) const ALL_SLOTS: usize = LEVEL_0_SLOTS + UPPER_LEVELS * SLOTS;

/// How the slot on one level follows from a tick.
#[derive(Clone, Copy)]
struct Digit {
    shift: u32,
    mask: u16,
    /// The level's first slot.
    first: u16,
}

/// By the highest bit in which cursor and tick differ. (A table is quicker than to divide by six.)
static DIGITS: [Digit; 64] = {
    let mut digits = [Digit { shift: 0, mask: LEVEL_0_SLOTS as u16 - 1, first: 0 }; 64];
    let mut bit = 2 * BITS;
    while bit < u64::BITS {
        let level = bit / BITS - 1;
        let first = LEVEL_0_SLOTS as u32 + (level - 1) * SLOTS as u32;
        digits[bit as usize] =
            Digit { shift: (level + 1) * BITS, mask: SLOTS as u16 - 1, first: first as u16 };
        bit += 1;
    }
    digits
};

/// One slot of one level: the tick's two lowest digits on level 0, `4096 + (level - 1) * 64 +
/// digit` above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot(u16);

impl Slot {
    /// The slot of a timer for `tick` while the wheel's cursor is at `cursor`.
    #[inline]
    pub(crate) fn of(cursor: u64, tick: u64) -> Slot {
        let highest = ((cursor ^ tick) | (LEVEL_0_SLOTS as u64 - 1)).ilog2();
        let digit = &DIGITS[highest as usize];
        Slot(digit.first + ((tick >> digit.shift) as u16 & digit.mask))
    }

    /// The slot with these [`bits`](Slot::bits).
    #[inline]
    pub(crate) fn from_bits(bits: u32) -> Slot {
        Slot(bits as u16)
    }

    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0.into()
    }

    #[inline]
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its number among the slots above level 0. A slot on level 0 gets a number that no such slot
    /// has.
    #[inline]
    pub(crate) fn upper(self) -> usize {
        self.index().wrapping_sub(LEVEL_0_SLOTS)
    }

    #[inline]
    pub(crate) fn is_upper(self) -> bool {
        self.index() >= LEVEL_0_SLOTS
    }

    #[inline]
    pub(crate) fn level(self) -> usize {
        if self.is_upper() { 1 + self.upper() / SLOTS } else { 0 }
    }

    /// A tick's slot on level 0.
    #[inline]
    pub(crate) fn on_level_0(tick: u64) -> Slot {
        Slot(tick as u16 % LEVEL_0_SLOTS as u16)
    }

    #[cfg(test)]
    pub(crate) fn new(level: usize, digit: usize) -> Slot {
        Slot((if level == 0 { digit } else { LEVEL_0_SLOTS + (level - 1) * SLOTS + digit }) as u16)
    }

    /// How many low bits the ticks of this slot may differ in.
    #[inline]
    fn shift(self) -> u32 {
        match self.level() as u32 {
            0 => 0,
            level => (level + 1) * BITS,
        }
    }

    /// The first tick of the slot that `tick` is in, on this slot's level.
    #[inline]
    pub(crate) fn start(self, tick: u64) -> u64 {
        tick >> self.shift() << self.shift()
    }
}

/// The number of words in a bitmap of all slots. A power of two, so a mask keeps indices in bounds.
const WORDS: usize = ALL_SLOTS.div_ceil(SLOTS).next_power_of_two();

/// Which slots have timers. The first occupied one is two `trailing_zeros` away.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Occupancy {
    /// Which of the words are not zero: those of level 0, those of the levels above.
    words: [u64; WORDS / SLOTS],
    slots: [u64; WORDS],
}

impl Occupancy {
    pub(crate) const EMPTY: Occupancy = Occupancy { words: [0; WORDS / SLOTS], slots: [0; WORDS] };

    // No branches: the processor cannot predict whether a slot had timers, or its level.
    #[inline(always)]
    pub(crate) fn set(&mut self, slot: Slot) {
        let word = slot.index() / SLOTS % WORDS;
        self.slots[word] |= 1 << (slot.index() % SLOTS);
        self.words[word / SLOTS] |= 1 << (word % SLOTS);
    }

    #[inline(always)]
    pub(crate) fn clear(&mut self, slot: Slot) {
        let word = slot.index() / SLOTS % WORDS;
        self.slots[word] &= !(1 << (slot.index() % SLOTS));
        self.words[word / SLOTS] &= !(u64::from(self.slots[word] == 0) << (word % SLOTS));
    }

    /// The slot of the earliest timers.
    #[inline]
    pub(crate) fn first(&self) -> Option<Slot> {
        let half = usize::from(self.words[0] == 0);
        if self.words[half] == 0 {
            return None;
        }
        let word = half * SLOTS + self.words[half].trailing_zeros() as usize;
        Some(Slot((word * SLOTS) as u16 + self.slots[word].trailing_zeros() as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level_and_slot(cursor: u64, tick: u64) -> (usize, usize) {
        let slot = Slot::of(cursor, tick);
        (slot.level(), if slot.is_upper() { slot.index() % SLOTS } else { slot.index() })
    }

    #[test]
    fn ten_levels_cover_every_tick() {
        assert_eq!(UPPER_LEVELS, 9);
        assert_eq!(level_and_slot(0, 0), (0, 0));
        assert_eq!(level_and_slot(0, 4095), (0, 4095));
        assert_eq!(level_and_slot(0, 4096), (1, 1));
        assert_eq!(level_and_slot(4095, 4096), (1, 1));
        assert_eq!(level_and_slot(4096, 4096), (0, 0));
        assert_eq!(level_and_slot(0, u64::MAX), (9, 15));
        assert_eq!(level_and_slot(u64::MAX, u64::MAX), (0, 4095));
        assert_eq!(
            level_and_slot((7 * 4096 + 12) * 64 + 40, (7 * 4096 + 31) * 64 + 3),
            (0, 31 * 64 + 3)
        );
        assert_eq!(level_and_slot((7 * 4096 + 12) * 64 + 40, (9 * 4096 + 31) * 64 + 3), (2, 9));
        for level in 1..=UPPER_LEVELS {
            let tick = 1 << (6 * (level + 1));
            assert_eq!(level_and_slot(0, tick), (level, 1));
            assert_eq!(level_and_slot(tick - 1, tick), (level, 1));
            assert_eq!(Slot::of(0, tick), Slot::new(level, 1));
        }
    }

    #[test]
    fn occupancy_finds_the_lowest_slot_of_the_lowest_level() {
        let mut occupancy = Occupancy::EMPTY;
        assert_eq!(occupancy.first(), None);
        let ticks = [3, 5, 700, 4095, 4097, 70_000, 200_000, 1 << 40, u64::MAX];
        let slots = ticks.map(|tick| Slot::of(0, tick));
        for &slot in slots.iter().rev() {
            occupancy.set(slot);
            assert_eq!(occupancy.first(), Some(slot));
        }
        for pair in slots.windows(2) {
            occupancy.clear(pair[0]);
            assert_eq!(occupancy.first(), Some(pair[1]));
        }
        occupancy.clear(slots[8]);
        assert_eq!(occupancy, Occupancy::EMPTY);
    }

    #[test]
    fn a_slot_starts_at_its_digit() {
        assert_eq!(Slot::of(0, 9).start(9), 9);
        assert_eq!(Slot::of(0, 4095).start(4095), 4095);
        assert_eq!(Slot::of(0, 70_000).start(70_000), 69_632);
        assert_eq!(Slot::of(0, u64::MAX).start(u64::MAX), 15 << 60);
    }
}
