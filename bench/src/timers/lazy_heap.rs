//! `std::collections::BinaryHeap` with lazy cancellation.
//!
//! A cancelled timer stays in the heap until it is due, or until half of the heap is cancelled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Expired, NotSupported, Timers};

pub(crate) struct LazyHeap {
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// The generation of the timer that is set, by id.
    generations: Vec<u32>,
    cancelled: usize,
}

impl Timers for LazyHeap {
    type Handle = u32;

    fn new(capacity: usize) -> LazyHeap {
        LazyHeap {
            heap: BinaryHeap::with_capacity(2 * capacity),
            generations: vec![0; capacity],
            cancelled: 0,
        }
    }

    #[inline]
    fn insert(&mut self, tick: u64, id: u32) -> u32 {
        self.heap.push(Reverse((tick, id, self.generations[id as usize])));
        id
    }

    #[inline]
    fn cancel(&mut self, id: u32) {
        self.generations[id as usize] += 1;
        self.cancelled += 1;
        if self.cancelled > self.heap.len() / 2 {
            let generations = &self.generations;
            self.heap
                .retain(|Reverse((_, id, generation))| generations[*id as usize] == *generation);
            self.cancelled = 0;
        }
    }

    fn next(&mut self) -> Result<Option<u64>, NotSupported> {
        Ok(self.heap.peek().map(|Reverse((tick, ..))| *tick))
    }

    #[inline]
    fn expire(
        &mut self,
        now: u64,
        handles: &mut [Option<u32>],
        mut rearm: impl FnMut(u32) -> Option<u64>,
    ) -> Expired {
        let mut count = 0;
        while let Some(Reverse((tick, id, generation))) = self.heap.peek().copied() {
            if tick > now {
                break;
            }
            self.heap.pop();
            if generation != self.generations[id as usize] {
                self.cancelled -= 1;
                continue;
            }
            count += 1;
            match rearm(id) {
                Some(tick) => {
                    self.insert(tick, id);
                }
                None => handles[id as usize] = None,
            }
        }
        Expired { count, has_more: false }
    }
}
