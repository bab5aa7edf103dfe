//! Keeps a message that recurs twice a second from being logged each time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Time after which the same message is logged again.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Number of messages remembered. A further message is logged each time.
const REMEMBERED_MAX: usize = 8;

/// When each message was last logged.
#[derive(Debug, Default)]
pub(super) struct LogThrottle(BTreeMap<String, Instant>);

impl LogThrottle {
    /// Whether to log this message now. If so, counts it as logged.
    pub(super) fn should_log(&mut self, message: &str, now: Instant) -> bool {
        let is_recent = |logged: Instant| now.saturating_duration_since(logged) < LOG_AGAIN_AFTER;
        if self.0.get(message).is_some_and(|&logged| is_recent(logged)) {
            return false;
        }
        self.0.retain(|_, logged| is_recent(*logged));
        if self.0.len() < REMEMBERED_MAX {
            self.0.insert(message.to_owned(), now);
        }
        true
    }

    /// Forgets all messages: the next one is logged.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_logged_once_a_minute() {
        let (mut throttle, start) = (LogThrottle::default(), Instant::now());
        let count = |throttle: &mut LogThrottle, message: &str| {
            (0..240)
                .filter(|half| {
                    throttle.should_log(message, start + Duration::from_millis(500) * *half)
                })
                .count()
        };
        assert_eq!(count(&mut throttle, "node 2 had another disk"), 2, "twice in two minutes");
        throttle.clear();
        let both = (0..240).filter(|half| {
            let message = if half % 2 == 0 { "node 2 had another disk" } else { "closed" };
            throttle.should_log(message, start + Duration::from_millis(500) * *half)
        });
        assert_eq!(both.count(), 4, "neither hides the other");
        throttle.clear();
        assert!(throttle.should_log("closed", start), "and again after a good link");
    }
}
