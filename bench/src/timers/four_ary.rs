//! A heap with four children a node that knows where each timer is, so that it can be cancelled in place.

use super::{Expired, Timers, Unknown};

pub(crate) struct FourAry {
    heap: Vec<(u64, u32)>,
    /// By name.
    place: Vec<u32>,
}

impl FourAry {
    fn put(&mut self, at: usize, entry: (u64, u32)) {
        self.heap[at] = entry;
        self.place[entry.1 as usize] = at as u32;
    }

    fn up(&mut self, mut at: usize, entry: (u64, u32)) {
        while at > 0 {
            let parent = (at - 1) / 4;
            if self.heap[parent].0 <= entry.0 {
                break;
            }
            self.put(at, self.heap[parent]);
            at = parent;
        }
        self.put(at, entry);
    }

    fn down(&mut self, mut at: usize, entry: (u64, u32)) {
        loop {
            let first = 4 * at + 1;
            let children = first.min(self.heap.len())..(first + 4).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child].0) else { break };
            if self.heap[least].0 >= entry.0 {
                break;
            }
            self.put(at, self.heap[least]);
            at = least;
        }
        self.put(at, entry);
    }

    fn moved(&mut self, at: usize, entry: (u64, u32)) {
        if at > 0 && self.heap[(at - 1) / 4].0 > entry.0 { self.up(at, entry) } else { self.down(at, entry) }
    }
}

impl Timers for FourAry {
    type Handle = u32;

    fn new(capacity: usize) -> FourAry {
        FourAry { heap: Vec::with_capacity(capacity), place: vec![0; capacity] }
    }

    #[inline]
    fn insert(&mut self, tick: u64, name: u32) -> u32 {
        let at = self.heap.len();
        self.heap.push((tick, name));
        self.up(at, (tick, name));
        name
    }

    #[inline]
    fn cancel(&mut self, name: u32) {
        let at = self.place[name as usize] as usize;
        let last = self.heap.pop().expect("what is cancelled is there");
        if at < self.heap.len() {
            self.moved(at, last);
        }
    }

    #[inline]
    fn reschedule(&mut self, name: u32, tick: u64, _: u32) -> u32 {
        self.moved(self.place[name as usize] as usize, (tick, name));
        name
    }

    fn next(&mut self) -> Result<Option<u64>, Unknown> {
        Ok(self.heap.first().map(|(tick, _)| *tick))
    }

    #[inline]
    fn expire(&mut self, now: u64, handles: &mut [Option<u32>], mut next: impl FnMut(u32) -> Option<u64>) -> Expired {
        let mut count = 0;
        while let Some((tick, name)) = self.heap.first().copied() {
            if tick > now {
                break;
            }
            count += 1;
            match next(name) {
                Some(tick) => self.down(0, (tick, name)),
                None => {
                    self.cancel(name);
                    handles[name as usize] = None;
                }
            }
        }
        Expired { count, more: false }
    }
}
