//! Lines of a bell, and sets of them.

/// Which of a [`Bell`](crate::Bell)'s lines somebody rings on, so that the loop can tell what to look at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Line(u32);

/// A set of [`Line`]s: those that were rung.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Rung(u32);

/// Where line 0 is in the bell's word.
const SHIFT: u32 = 2;
/// All lines' bits in the bell's word.
pub(crate) const LINES: u32 = u32::MAX << SHIFT;

impl Line {
    /// How many lines a bell has.
    pub const COUNT: u32 = u32::BITS - SHIFT;

    /// The line of this number; from [`COUNT`](Line::COUNT) on they begin again at 0. Sharing a line costs those who share it a look, no more.
    pub const fn new(number: u32) -> Line {
        Line(1 << (SHIFT + number % Line::COUNT))
    }

    /// Its place in the bell's word.
    pub(crate) const fn bit(self) -> u32 {
        self.0
    }
}

impl Rung {
    pub(crate) const fn of(word: u32) -> Rung {
        Rung(word & LINES)
    }

    /// The set of this one line.
    pub const fn of_line(line: Line) -> Rung {
        Rung(line.0)
    }

    /// Whether no line was rung.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `line` was rung.
    pub const fn has(self, line: Line) -> bool {
        self.0 & line.0 != 0
    }

    /// The set without `line`.
    #[must_use]
    pub const fn without(self, line: Line) -> Rung {
        Rung(self.0 & !line.0)
    }

    /// The set as bits, line 0 the lowest, for loops that keep more than that in a word.
    pub const fn bits(self) -> u32 {
        self.0 >> SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_differ_and_begin_again() {
        let lines: Vec<Line> = (0..Line::COUNT).map(Line::new).collect();
        for (number, line) in lines.iter().enumerate() {
            assert_eq!(Rung::of(line.bit()).bits(), 1 << number);
            assert_eq!(lines.iter().filter(|other| Rung::of(line.bit()).has(**other)).count(), 1);
        }
        assert_eq!(Line::new(Line::COUNT + 3), Line::new(3));
        assert_eq!((Rung::of(!LINES).is_empty(), Rung::of(u32::MAX).bits()), (true, u32::MAX >> SHIFT));
    }
}
