//! hierarchical_hash_wheel_timer's quad wheel: reference-counted entries and a map from names to them.

use std::rc::Rc;
use std::time::Duration;

use hierarchical_hash_wheel_timer::wheels::Skip;
use hierarchical_hash_wheel_timer::wheels::cancellable::{CancellableTimerEntry, QuadWheelWithOverflow};

use super::{Expired, Timers, Unknown};

#[derive(Debug)]
struct Entry {
    name: u32,
}

impl CancellableTimerEntry for Entry {
    type Id = u32;

    fn id(&self) -> &u32 {
        &self.name
    }
}

pub(crate) struct Quad {
    wheel: QuadWheelWithOverflow<Entry>,
    now: u64,
}

impl Timers for Quad {
    type Handle = u32;

    fn new(_: usize) -> Quad {
        Quad { wheel: QuadWheelWithOverflow::new(), now: 0 }
    }

    #[inline]
    fn insert(&mut self, tick: u64, name: u32) -> u32 {
        let delay = Duration::from_millis(tick - self.now);
        assert!(self.wheel.insert_ref_with_delay(Rc::new(Entry { name }), delay).is_ok());
        name
    }

    #[inline]
    fn cancel(&mut self, name: u32) {
        assert!(self.wheel.cancel(&name).is_ok());
    }

    fn next(&mut self) -> Result<Option<u64>, Unknown> {
        Ok(match self.wheel.can_skip() {
            Skip::Empty => None,
            Skip::None => Some(self.now + 1),
            Skip::Millis(idle) => Some(self.now + 1 + u64::from(idle)),
        })
    }

    #[inline]
    fn expire(&mut self, now: u64, handles: &mut [Option<u32>], mut next: impl FnMut(u32) -> Option<u64>) -> Expired {
        let mut count = 0;
        while self.now < now {
            self.now += 1;
            for entry in self.wheel.tick() {
                count += 1;
                handles[entry.name as usize] = next(entry.name).map(|tick| self.insert(tick, entry.name));
            }
        }
        Expired { count, more: false }
    }
}
