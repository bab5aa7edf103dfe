//! A `BTreeMap` by deadline and sequence number.

use std::collections::BTreeMap;

use super::{Expired, NotSupported, Timers};

pub(crate) struct OrderedMap {
    map: BTreeMap<(u64, u32), u32>,
    sequence: u32,
}

impl Timers for OrderedMap {
    type Handle = (u64, u32);

    fn new(_: usize) -> OrderedMap {
        OrderedMap { map: BTreeMap::new(), sequence: 0 }
    }

    #[inline]
    fn insert(&mut self, tick: u64, id: u32) -> (u64, u32) {
        self.sequence += 1;
        self.map.insert((tick, self.sequence), id);
        (tick, self.sequence)
    }

    #[inline]
    fn cancel(&mut self, key: (u64, u32)) {
        assert!(self.map.remove(&key).is_some());
    }

    fn next(&mut self) -> Result<Option<u64>, NotSupported> {
        Ok(self.map.first_key_value().map(|((tick, _), _)| *tick))
    }

    #[inline]
    fn expire(
        &mut self,
        now: u64,
        handles: &mut [Option<(u64, u32)>],
        mut rearm: impl FnMut(u32) -> Option<u64>,
    ) -> Expired {
        let mut count = 0;
        while let Some(entry) = self.map.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let id = entry.remove();
            count += 1;
            handles[id as usize] = rearm(id).map(|tick| self.insert(tick, id));
        }
        Expired { count, has_more: false }
    }
}
