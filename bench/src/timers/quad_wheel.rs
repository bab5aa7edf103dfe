//! The quad wheel of hierarchical_hash_wheel_timer: reference-counted entries, and a map by id.

use std::rc::Rc;
use std::time::Duration;

use hierarchical_hash_wheel_timer::wheels::Skip;
use hierarchical_hash_wheel_timer::wheels::cancellable::{
    CancellableTimerEntry, QuadWheelWithOverflow,
};

use super::{Expired, NotSupported, Timers};

#[derive(Debug)]
struct Entry {
    id: u32,
}

impl CancellableTimerEntry for Entry {
    type Id = u32;

    fn id(&self) -> &u32 {
        &self.id
    }
}

pub(crate) struct QuadWheel {
    wheel: QuadWheelWithOverflow<Entry>,
    now: u64,
}

impl Timers for QuadWheel {
    type Handle = u32;

    fn new(_: usize) -> QuadWheel {
        QuadWheel { wheel: QuadWheelWithOverflow::new(), now: 0 }
    }

    #[inline]
    fn insert(&mut self, tick: u64, id: u32) -> u32 {
        let delay = Duration::from_millis(tick - self.now);
        assert!(self.wheel.insert_ref_with_delay(Rc::new(Entry { id }), delay).is_ok());
        id
    }

    #[inline]
    fn cancel(&mut self, id: u32) {
        assert!(self.wheel.cancel(&id).is_ok());
    }

    fn next(&mut self) -> Result<Option<u64>, NotSupported> {
        Ok(match self.wheel.can_skip() {
            Skip::Empty => None,
            Skip::None => Some(self.now + 1),
            Skip::Millis(idle) => Some(self.now + 1 + u64::from(idle)),
        })
    }

    #[inline]
    fn expire(
        &mut self,
        now: u64,
        handles: &mut [Option<u32>],
        mut rearm: impl FnMut(u32) -> Option<u64>,
    ) -> Expired {
        let mut count = 0;
        while self.now < now {
            self.now += 1;
            for entry in self.wheel.tick() {
                count += 1;
                handles[entry.id as usize] =
                    rearm(entry.id).map(|tick| self.insert(tick, entry.id));
            }
        }
        Expired { count, has_more: false }
    }
}
