//! Kodiak's timer wheel.

use kodiak_timer::{Key, Wheel};

use super::{BUDGET, Expired, NotSupported, Timers};

pub(crate) struct Kodiak(Wheel<u32>);

impl Timers for Kodiak {
    type Handle = Key;

    fn new(capacity: usize) -> Kodiak {
        Kodiak(Wheel::with_capacity(0, capacity))
    }

    #[inline]
    fn insert(&mut self, tick: u64, id: u32) -> Key {
        self.0.insert(tick, id)
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

    fn next(&mut self) -> Result<Option<u64>, NotSupported> {
        Ok(self.0.next_deadline())
    }

    #[inline]
    fn expire(
        &mut self,
        now: u64,
        handles: &mut [Option<Key>],
        mut rearm: impl FnMut(u32) -> Option<u64>,
    ) -> Expired {
        let mut advance = self.0.advance(now, BUDGET);
        let mut count = 0;
        while let Some(expired) = advance.next(&mut self.0) {
            count += 1;
            let id = *expired.value();
            match rearm(id) {
                Some(tick) => expired.rearm(tick),
                None => {
                    drop(expired);
                    handles[id as usize] = None;
                }
            }
        }
        Expired { count, has_more: advance.is_spent() }
    }
}
