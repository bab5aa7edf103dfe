//! What was said in the log, so that what happens twice a second is said now and then and not each
//! time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What has been said is said again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// So many things are remembered; whatever comes beyond them is said each time.
const REMEMBERED_MAX: usize = 8;

/// When each thing was last said.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<String, Instant>);

impl Told {
    /// Whether this is worth saying now; whoever asks says it.
    pub(super) fn is_news(&mut self, what: &str, now: Instant) -> bool {
        if self.0.get(what).is_some_and(|&told| now.saturating_duration_since(told) < AGAIN_AFTER) {
            return false;
        }
        self.0.retain(|_, told| now.saturating_duration_since(*told) < AGAIN_AFTER);
        if self.0.len() < REMEMBERED_MAX {
            self.0.insert(what.to_owned(), now);
        }
        true
    }

    /// All is well: whatever comes is news.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_at_intervals_whatever_comes_between() {
        let (mut told, start) = (Told::default(), Instant::now());
        let times = |told: &mut Told, what: &str| {
            (0..240)
                .filter(|half| told.is_news(what, start + Duration::from_millis(500) * *half))
                .count()
        };
        assert_eq!(times(&mut told, "node 2 had another disk"), 2, "twice in two minutes");
        told.clear();
        let both = (0..240).filter(|half| {
            let what = if half % 2 == 0 { "node 2 had another disk" } else { "closed" };
            told.is_news(what, start + Duration::from_millis(500) * *half)
        });
        assert_eq!(both.count(), 4, "neither hides the other");
        told.clear();
        assert!(told.is_news("closed", start), "and after a good link it is news");
    }
}
