//! tokio-util's `DelayQueue`, polled with a waker that does nothing.
//!
//! It uses tokio's paused clock, which is advanced in a turn of the runtime. That turn is part of
//! the measured time wherever time passes.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, advance};
use tokio_util::time::{DelayQueue, delay_queue::Key};

use super::{Expired, Timers};

pub(crate) struct TokioDelayQueue {
    queue: DelayQueue<u32>,
    begun: Instant,
    now: u64,
    runtime: Runtime,
}

impl TokioDelayQueue {
    fn at(&self, tick: u64) -> Instant {
        self.begun + Duration::from_millis(tick)
    }
}

impl Timers for TokioDelayQueue {
    type Handle = Key;

    fn new(capacity: usize) -> TokioDelayQueue {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (queue, begun) = {
            let _guard = runtime.enter();
            (DelayQueue::with_capacity(capacity), Instant::now())
        };
        TokioDelayQueue { queue, begun, now: 0, runtime }
    }

    #[inline]
    fn insert(&mut self, tick: u64, id: u32) -> Key {
        let _guard = self.runtime.enter();
        self.queue.insert_at(id, self.at(tick))
    }

    #[inline]
    fn cancel(&mut self, key: Key) {
        let _guard = self.runtime.enter();
        self.queue.remove(&key);
    }

    #[inline]
    fn reschedule(&mut self, key: Key, tick: u64, _: u32) -> Key {
        let _guard = self.runtime.enter();
        self.queue.reset_at(&key, self.at(tick));
        key
    }

    fn expire(
        &mut self,
        now: u64,
        handles: &mut [Option<Key>],
        mut rearm: impl FnMut(u32) -> Option<u64>,
    ) -> Expired {
        let begun = self.begun;
        let passed = Duration::from_millis(now - self.now);
        self.now = now;
        let queue = &mut self.queue;
        // Unconstrained: otherwise it would yield after 128 polls.
        let count = self.runtime.block_on(tokio::task::unconstrained(async {
            advance(passed).await;
            let mut context = Context::from_waker(Waker::noop());
            let mut count = 0;
            while let Poll::Ready(Some(expired)) = queue.poll_expired(&mut context) {
                count += 1;
                let id = expired.into_inner();
                handles[id as usize] =
                    rearm(id).map(|tick| queue.insert_at(id, begun + Duration::from_millis(tick)));
            }
            count
        }));
        Expired { count, has_more: false }
    }
}
