//! nexus-timer's wheel, with its rebalancing and a limit for each poll.

use std::time::{Duration, Instant};

use nexus_timer::{TimerHandle, Wheel};

use super::{BUDGET, Expired, NotSupported, Timers};

pub(crate) struct NexusTimer {
    wheel: Wheel<u32>,
    begun: Instant,
    due: Vec<u32>,
}

impl NexusTimer {
    fn at(&self, tick: u64) -> Instant {
        self.begun + Duration::from_millis(tick)
    }
}

impl Timers for NexusTimer {
    type Handle = TimerHandle<u32>;

    fn new(_: usize) -> NexusTimer {
        let begun = Instant::now();
        NexusTimer { wheel: Wheel::unbounded(4096, begun), begun, due: Vec::with_capacity(BUDGET) }
    }

    #[inline]
    fn insert(&mut self, tick: u64, id: u32) -> TimerHandle<u32> {
        self.wheel.schedule(self.at(tick), id)
    }

    #[inline]
    fn cancel(&mut self, handle: TimerHandle<u32>) {
        assert!(self.wheel.cancel(handle).is_some());
    }

    #[inline]
    fn reschedule(&mut self, handle: TimerHandle<u32>, tick: u64, _: u32) -> TimerHandle<u32> {
        let deadline = self.at(tick);
        self.wheel.reschedule(handle, deadline)
    }

    fn next(&mut self) -> Result<Option<u64>, NotSupported> {
        let next = self.wheel.next_deadline();
        Ok(next.map(|next| next.saturating_duration_since(self.begun).as_millis() as u64))
    }

    #[inline]
    fn expire(
        &mut self,
        now: u64,
        handles: &mut [Option<TimerHandle<u32>>],
        mut rearm: impl FnMut(u32) -> Option<u64>,
    ) -> Expired {
        let now = self.at(now);
        let mut due = std::mem::take(&mut self.due);
        let count = self.wheel.poll_and_rebalance_with_limit(now, BUDGET, &mut due);
        for id in due.drain(..) {
            if let Some(handle) = handles[id as usize].take() {
                self.wheel.free(handle);
            }
            handles[id as usize] = rearm(id).map(|tick| self.insert(tick, id));
        }
        self.due = due;
        Expired { count, has_more: count == BUDGET }
    }
}
