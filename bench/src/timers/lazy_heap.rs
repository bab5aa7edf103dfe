//! `std::collections::BinaryHeap`; what is cancelled stays until it comes up, or until it is half of the heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Expired, Timers, Unknown};

pub(crate) struct LazyHeap {
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// By name: the number of the setting that counts.
    current: Vec<u32>,
    cancelled: usize,
}

impl Timers for LazyHeap {
    type Handle = u32;

    fn new(capacity: usize) -> LazyHeap {
        LazyHeap { heap: BinaryHeap::with_capacity(2 * capacity), current: vec![0; capacity], cancelled: 0 }
    }

    #[inline]
    fn insert(&mut self, tick: u64, name: u32) -> u32 {
        self.heap.push(Reverse((tick, name, self.current[name as usize])));
        name
    }

    #[inline]
    fn cancel(&mut self, name: u32) {
        self.current[name as usize] += 1;
        self.cancelled += 1;
        if self.cancelled > self.heap.len() / 2 {
            let current = &self.current;
            self.heap.retain(|Reverse((_, name, number))| current[*name as usize] == *number);
            self.cancelled = 0;
        }
    }

    fn next(&mut self) -> Result<Option<u64>, Unknown> {
        Ok(self.heap.peek().map(|Reverse((tick, ..))| *tick))
    }

    #[inline]
    fn expire(&mut self, now: u64, handles: &mut [Option<u32>], mut next: impl FnMut(u32) -> Option<u64>) -> Expired {
        let mut count = 0;
        while let Some(Reverse((tick, name, number))) = self.heap.peek().copied() {
            if tick > now {
                break;
            }
            self.heap.pop();
            if number != self.current[name as usize] {
                self.cancelled -= 1;
                continue;
            }
            count += 1;
            match next(name) {
                Some(tick) => {
                    self.insert(tick, name);
                }
                None => handles[name as usize] = None,
            }
        }
        Expired { count, more: false }
    }
}
