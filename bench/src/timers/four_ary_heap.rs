//! A heap with four children a node, and a table of positions to cancel timers in place.

use super::{Expired, NotSupported, Timers};

pub(crate) struct FourAryHeap {
    heap: Vec<(u64, u32)>,
    /// The position in the heap, by id.
    positions: Vec<u32>,
}

impl FourAryHeap {
    fn set(&mut self, position: usize, entry: (u64, u32)) {
        self.heap[position] = entry;
        self.positions[entry.1 as usize] = position as u32;
    }

    fn sift_up(&mut self, mut position: usize, entry: (u64, u32)) {
        while position > 0 {
            let parent = (position - 1) / 4;
            if self.heap[parent].0 <= entry.0 {
                break;
            }
            self.set(position, self.heap[parent]);
            position = parent;
        }
        self.set(position, entry);
    }

    fn sift_down(&mut self, mut position: usize, entry: (u64, u32)) {
        loop {
            let first = 4 * position + 1;
            let children = first.min(self.heap.len())..(first + 4).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child].0) else { break };
            if self.heap[least].0 >= entry.0 {
                break;
            }
            self.set(position, self.heap[least]);
            position = least;
        }
        self.set(position, entry);
    }

    fn sift(&mut self, position: usize, entry: (u64, u32)) {
        if position > 0 && self.heap[(position - 1) / 4].0 > entry.0 {
            self.sift_up(position, entry)
        } else {
            self.sift_down(position, entry)
        }
    }
}

impl Timers for FourAryHeap {
    type Handle = u32;

    fn new(capacity: usize) -> FourAryHeap {
        FourAryHeap { heap: Vec::with_capacity(capacity), positions: vec![0; capacity] }
    }

    #[inline]
    fn insert(&mut self, tick: u64, id: u32) -> u32 {
        let position = self.heap.len();
        self.heap.push((tick, id));
        self.sift_up(position, (tick, id));
        id
    }

    #[inline]
    fn cancel(&mut self, id: u32) {
        let position = self.positions[id as usize] as usize;
        let last = self.heap.pop().expect("the cancelled timer is in the heap");
        if position < self.heap.len() {
            self.sift(position, last);
        }
    }

    #[inline]
    fn reschedule(&mut self, id: u32, tick: u64, _: u32) -> u32 {
        self.sift(self.positions[id as usize] as usize, (tick, id));
        id
    }

    fn next(&mut self) -> Result<Option<u64>, NotSupported> {
        Ok(self.heap.first().map(|(tick, _)| *tick))
    }

    #[inline]
    fn expire(
        &mut self,
        now: u64,
        handles: &mut [Option<u32>],
        mut rearm: impl FnMut(u32) -> Option<u64>,
    ) -> Expired {
        let mut count = 0;
        while let Some((tick, id)) = self.heap.first().copied() {
            if tick > now {
                break;
            }
            count += 1;
            match rearm(id) {
                Some(tick) => self.sift_down(0, (tick, id)),
                None => {
                    self.cancel(id);
                    handles[id as usize] = None;
                }
            }
        }
        Expired { count, has_more: false }
    }
}
