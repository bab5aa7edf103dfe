//! Topics of notifications, and sets of topics.

/// What a [`Notifier`](crate::Notifier) handle notifies about. It tells the loop what to check.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Topic(u32);

/// The [`Topic`]s on which something was published.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Ready(u32);

/// The bit of topic 0 in the notifier's state.
const SHIFT: u32 = 2;
/// The bits of all topics in the notifier's state.
pub(crate) const TOPICS: u32 = u32::MAX << SHIFT;

impl Topic {
    /// The number of topics of a notifier.
    pub const COUNT: u32 = u32::BITS - SHIFT;

    /// The topic with this number, modulo [`COUNT`](Topic::COUNT). If several channels or flags
    /// share a topic, a notification makes the loop check all of them.
    pub const fn new(number: u32) -> Topic {
        Topic(1 << (SHIFT + number % Topic::COUNT))
    }

    /// Its bit in the notifier's state.
    pub(crate) const fn bit(self) -> u32 {
        self.0
    }
}

impl Ready {
    pub(crate) const fn of(state: u32) -> Ready {
        Ready(state & TOPICS)
    }

    /// The set of this one topic.
    pub const fn of_topic(topic: Topic) -> Ready {
        Ready(topic.0)
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `topic` is in the set.
    pub const fn has(self, topic: Topic) -> bool {
        self.0 & topic.0 != 0
    }

    /// The set without `topic`.
    #[must_use]
    pub const fn without(self, topic: Topic) -> Ready {
        Ready(self.0 & !topic.0)
    }

    /// The set as bits, topic 0 the lowest, for loops that keep it in a word of their own.
    pub const fn bits(self) -> u32 {
        self.0 >> SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_their_own_bits_and_wrap() {
        let topics: Vec<Topic> = (0..Topic::COUNT).map(Topic::new).collect();
        for (number, topic) in topics.iter().enumerate() {
            assert_eq!(Ready::of(topic.bit()).bits(), 1 << number);
            assert_eq!(
                topics.iter().filter(|other| Ready::of(topic.bit()).has(**other)).count(),
                1
            );
        }
        assert_eq!(Topic::new(Topic::COUNT + 3), Topic::new(3));
        assert_eq!(
            (Ready::of(!TOPICS).is_empty(), Ready::of(u32::MAX).bits()),
            (true, u32::MAX >> SHIFT)
        );
    }
}
