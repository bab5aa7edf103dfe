//! Ours.

use kodiak_timer::{Key, Wheel};

use super::{BUDGET, Expired, Timers, Unknown};

pub(crate) struct Kodiak(Wheel<u32>);

impl Timers for Kodiak {
    type Handle = Key;

    fn new(capacity: usize) -> Kodiak {
        Kodiak(Wheel::with_capacity(0, capacity))
    }

    #[inline]
    fn insert(&mut self, tick: u64, name: u32) -> Key {
        self.0.insert(tick, name)
    }

    #[inline]
    fn cancel(&mut self, key: Key) {
        assert!(self.0.cancel(key).is_some());
    }

    #[inline]
    fn reschedule(&mut self, key: Key, tick: u64, _: u32) -> Key {
        assert!(self.0.reschedule(key, tick));
        key
    }

    fn next(&mut self) -> Result<Option<u64>, Unknown> {
        Ok(self.0.next_deadline())
    }

    #[inline]
    fn expire(&mut self, now: u64, handles: &mut [Option<Key>], mut next: impl FnMut(u32) -> Option<u64>) -> Expired {
        let mut advance = self.0.advance(now, BUDGET);
        let mut count = 0;
        while let Some(expired) = advance.next(&mut self.0) {
            count += 1;
            let name = *expired.value();
            match next(name) {
                Some(tick) => expired.rearm(tick),
                None => {
                    drop(expired);
                    handles[name as usize] = None;
                }
            }
        }
        Expired { count, more: advance.is_spent() }
    }
}
