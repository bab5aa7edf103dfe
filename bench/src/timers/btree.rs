//! `BTreeMap` by deadline and number.

use std::collections::BTreeMap;

use super::{Expired, Timers, Unknown};

pub(crate) struct BTree {
    map: BTreeMap<(u64, u32), u32>,
    number: u32,
}

impl Timers for BTree {
    type Handle = (u64, u32);

    fn new(_: usize) -> BTree {
        BTree { map: BTreeMap::new(), number: 0 }
    }

    #[inline]
    fn insert(&mut self, tick: u64, name: u32) -> (u64, u32) {
        self.number += 1;
        self.map.insert((tick, self.number), name);
        (tick, self.number)
    }

    #[inline]
    fn cancel(&mut self, key: (u64, u32)) {
        assert!(self.map.remove(&key).is_some());
    }

    fn next(&mut self) -> Result<Option<u64>, Unknown> {
        Ok(self.map.first_key_value().map(|((tick, _), _)| *tick))
    }

    #[inline]
    fn expire(
        &mut self,
        now: u64,
        handles: &mut [Option<(u64, u32)>],
        mut next: impl FnMut(u32) -> Option<u64>,
    ) -> Expired {
        let mut count = 0;
        while let Some(entry) = self.map.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let name = entry.remove();
            count += 1;
            handles[name as usize] = next(name).map(|tick| self.insert(tick, name));
        }
        Expired { count, more: false }
    }
}
