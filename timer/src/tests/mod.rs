//! Tests of the whole wheel: against a model, and one for each known defect of timers.

mod defects;
mod edges;
mod invariants;
mod model;

use alloc::vec::Vec;

use crate::{Expired, Wheel};

/// Advances without limit and returns what fired.
fn fire<T>(wheel: &mut Wheel<T>, now: u64) -> Vec<T> {
    fire_at_most(wheel, now, usize::MAX)
}

/// Advances by one budget and returns what fired.
fn fire_at_most<T>(wheel: &mut Wheel<T>, now: u64, budget: usize) -> Vec<T> {
    let mut advance = wheel.advance(now, budget);
    let mut fired = Vec::new();
    while let Some(expired) = advance.next(wheel) {
        fired.push(expired.into_value());
    }
    wheel.check();
    fired
}
