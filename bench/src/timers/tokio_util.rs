//! tokio-util's `DelayQueue`. Its time is tokio's, which cannot be moved tick by tick without measuring tokio's clock instead:
//! so only what does not need time to pass.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue::Key};

use super::{Expired, Timers};

pub(crate) struct Delays {
    queue: DelayQueue<u32>,
    begun: Instant,
    runtime: Runtime,
}

impl Delays {
    fn at(&self, tick: u64) -> Instant {
        self.begun + Duration::from_millis(tick)
    }
}

impl Timers for Delays {
    type Handle = Key;

    const EXPIRES: bool = false;

    fn new(capacity: usize) -> Delays {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (queue, begun) = {
            let _inside = runtime.enter();
            (DelayQueue::with_capacity(capacity), Instant::now())
        };
        Delays { queue, begun, runtime }
    }

    #[inline]
    fn insert(&mut self, tick: u64, name: u32) -> Key {
        let _inside = self.runtime.enter();
        self.queue.insert_at(name, self.at(tick))
    }

    #[inline]
    fn cancel(&mut self, key: Key) {
        self.queue.remove(&key);
    }

    #[inline]
    fn reschedule(&mut self, key: Key, tick: u64, _: u32) -> Key {
        self.queue.reset_at(&key, self.at(tick));
        key
    }

    fn expire(&mut self, _: u64, _: &mut [Option<Key>], _: impl FnMut(u32) -> Option<u64>) -> Expired {
        Expired { count: 0, more: false }
    }
}
