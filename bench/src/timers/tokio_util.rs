//! tokio-util's `DelayQueue`, polled with a waker that does nothing. Its time is tokio's: a paused clock that is advanced by
//! hand in a turn of its runtime, which is part of what is measured wherever time passes.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, advance};
use tokio_util::time::{DelayQueue, delay_queue::Key};

use super::{Expired, Timers};

pub(crate) struct Delays {
    queue: DelayQueue<u32>,
    begun: Instant,
    now: u64,
    runtime: Runtime,
}

impl Delays {
    fn at(&self, tick: u64) -> Instant {
        self.begun + Duration::from_millis(tick)
    }
}

impl Timers for Delays {
    type Handle = Key;

    fn new(capacity: usize) -> Delays {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let (queue, begun) = {
            let _inside = runtime.enter();
            (DelayQueue::with_capacity(capacity), Instant::now())
        };
        Delays { queue, begun, now: 0, runtime }
    }

    #[inline]
    fn insert(&mut self, tick: u64, name: u32) -> Key {
        let _inside = self.runtime.enter();
        self.queue.insert_at(name, self.at(tick))
    }

    #[inline]
    fn cancel(&mut self, key: Key) {
        let _inside = self.runtime.enter();
        self.queue.remove(&key);
    }

    #[inline]
    fn reschedule(&mut self, key: Key, tick: u64, _: u32) -> Key {
        let _inside = self.runtime.enter();
        self.queue.reset_at(&key, self.at(tick));
        key
    }

    fn expire(&mut self, now: u64, handles: &mut [Option<Key>], mut next: impl FnMut(u32) -> Option<u64>) -> Expired {
        let begun = self.begun;
        let passed = Duration::from_millis(now - self.now);
        self.now = now;
        let queue = &mut self.queue;
        // Not to be told after 128 polls that others want their turn.
        let count = self.runtime.block_on(tokio::task::unconstrained(async {
            advance(passed).await;
            let mut context = Context::from_waker(Waker::noop());
            let mut count = 0;
            while let Poll::Ready(Some(expired)) = queue.poll_expired(&mut context) {
                count += 1;
                let name = expired.into_inner();
                handles[name as usize] =
                    next(name).map(|tick| queue.insert_at(name, begun + Duration::from_millis(tick)));
            }
            count
        }));
        Expired { count, more: false }
    }
}
