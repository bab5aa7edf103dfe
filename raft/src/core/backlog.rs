//! What is committed and not applied yet.
//!
//! A state machine may be slower than the log for a while. Followers ignore that: they acknowledge
//! what is durable, however far behind they apply, and campaign as usual. Only the leader pushes
//! back, by its own backlog: over [`Config::backlog_bytes`](super::Config::backlog_bytes) it
//! refuses proposals, and after [`Config::backlog_timeout`](super::Config::backlog_timeout) it
//! hands over to a voter that reports to have applied enough to be under the bound.
//!
//! ```text
//!  leader   applied 100 ............... commit 900     over the bound
//!  node 2   reports 880, matched 900                   under it: leadership goes there
//!  node 3   reports 120, matched 900                   over it, though it lacks nothing
//! ```

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

use crate::types::{Index, NodeId, Time};

use super::mutants::{Mutant, planted};
use super::{Core, ProposeError, RoleState};

/// Attempts after which the wait for the next one grows no more.
const ATTEMPTS_MAX: u32 = 8;

/// Consecutive entries that are committed and not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct BacklogStep {
    last: Index,
    bytes: usize,
}

/// The bytes of what is committed and not applied, in steps, so that the bytes after any index can
/// be computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Backlog {
    /// Oldest first.
    steps: VecDeque<BacklogStep>,
    bytes: usize,
    /// Steps that are shorter together become one.
    step_bytes: usize,
}

impl Backlog {
    /// Exact to a sixty-fourth of `limit_bytes`, and what is committed at once.
    pub(super) fn new(limit_bytes: usize) -> Backlog {
        Backlog { step_bytes: limit_bytes / 64, ..Backlog::default() }
    }

    /// The entries that follow the last ones, up to `last`, are committed.
    pub(super) fn committed(&mut self, last: Index, bytes: usize) {
        self.bytes += bytes;
        match self.steps.back_mut() {
            Some(step) if step.bytes + bytes <= self.step_bytes => {
                *step = BacklogStep { last, bytes: step.bytes + bytes };
            }
            _ => self.steps.push_back(BacklogStep { last, bytes }),
        }
    }

    /// Everything up to `index` is applied.
    pub(super) fn applied(&mut self, index: Index) {
        while let Some(step) = self.steps.pop_front_if(|step| step.last <= index) {
            self.bytes -= step.bytes;
        }
    }

    /// A snapshot has taken the log's place.
    pub(super) fn clear(&mut self) {
        self.steps.clear();
        self.bytes = 0;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What another node lacks that has applied everything up to `index`, as far as it is in here.
    fn bytes_after(&self, index: Index) -> usize {
        let reached = self.steps.partition_point(|step| step.last <= index);
        self.steps.range(reached..).map(|step| step.bytes).sum()
    }
}

/// How long a leader has been over the bound, and what it has tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct BacklogWatch {
    over_since: Option<Time>,
    attempts: u32,
    not_before: Time,
    /// The voter that it was handed to last, and that did not take it: its state machine may have
    /// failed, which no report says.
    handed_to: Option<NodeId>,
}

impl BacklogWatch {
    /// The leader is over the bound, since now if it was not before.
    fn note_over(&mut self, now: Time) {
        self.over_since.get_or_insert(now);
    }

    /// The leader is not over the bound. Attempts count from 0 again once the wait is over.
    fn note_under(&mut self, now: Time) {
        self.over_since = None;
        if self.not_before <= now {
            self.attempts = 0;
        }
    }

    /// Whether the leader should hand over: it has been over the bound for `timeout`, and the wait
    /// after the last attempt is over.
    fn is_due(&self, now: Time, timeout: Duration) -> bool {
        self.over_since.is_some_and(|since| since.after(timeout) <= now) && self.not_before <= now
    }

    /// An attempt was made. The next one waits for `timeout`, doubled with each attempt.
    fn note_attempt(&mut self, now: Time, timeout: Duration) {
        self.attempts = (self.attempts + 1).min(ATTEMPTS_MAX);
        self.not_before = now.after(timeout.saturating_mul(1 << self.attempts));
    }
}

impl Core {
    /// The bytes of what is committed here and not applied yet; what was committed before this
    /// node's start and is not in memory is estimated.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.log.backlog().bytes()
    }

    pub(super) fn is_backlogged(&self) -> bool {
        self.backlog_bytes() > self.config.backlog_bytes
    }

    /// Why this leader takes no proposals now, if its backlog is why.
    pub(super) fn backlog_refusal(&self) -> Option<ProposeError> {
        let (backlog_bytes, limit_bytes) = (self.backlog_bytes(), self.config.backlog_bytes);
        self.is_backlogged().then_some(ProposeError::BacklogFull { backlog_bytes, limit_bytes })
    }

    /// This node begins to lead.
    pub(super) fn reset_backlog_watch(&mut self) {
        (self.backlog_watch.over_since, self.backlog_watch.handed_to) = (None, None);
    }

    /// At a heartbeat: a leader that has been over the bound for too long hands over to a voter
    /// that is under it. If there is none, it reports that, and stays leader. A voter that loads
    /// counts as over the bound.
    pub(super) fn hand_over_if_backlogged(&mut self) {
        let (now, timeout) = (self.now, self.config.backlog_timeout);
        let is_loading = self.is_loading() && !planted(Mutant::LoadingLeaderStays);
        if self.is_backlogged() || is_loading {
            self.backlog_watch.note_over(now);
        } else {
            self.backlog_watch.note_under(now);
        }
        if !self.backlog_watch.is_due(now, timeout) || !self.fitness.may_lead() {
            return;
        }
        if self.transfer_target().is_some() {
            return;
        }
        self.backlog_watch.note_attempt(now, timeout);
        let to = self.voter_without_backlog();
        self.report_backlogged(to);
        if let Some(to) = to {
            self.backlog_watch.handed_to = Some(to);
            self.begin_transfer(to);
        }
    }

    /// The voter that lacks least of those that are heard and under the bound; the one that was
    /// tried last only if there is no other.
    fn voter_without_backlog(&self) -> Option<NodeId> {
        let RoleState::Leader(leading) = &self.state else { return None };
        let timeout = self.config.election_timeout.min;
        let voters = self.log.configuration().voters.iter();
        let progress = voters.filter_map(|node| Some((*node, leading.progress.get(node)?)));
        let fit = progress.filter(|(_, progress)| {
            let is_heard = progress.round > 0 && progress.heard.after(timeout) > self.now;
            let is_sound = progress.forgetting.is_none() && progress.conflict.is_none();
            let answers = self.is_under_bound(progress.applied)
                && self.reaches_loading_target(progress.applied);
            is_heard && is_sound && answers
        });
        let tried = self.backlog_watch.handed_to;
        let best = fit.max_by_key(|(node, progress)| {
            (tried != Some(*node), progress.matched, Reverse(*node))
        });
        best.map(|(node, _)| node)
    }

    /// Whether a voter that reports to have applied this much is under this leader's bound. What a
    /// voter of an older version does not report is not known to be.
    fn is_under_bound(&self, applied: Option<Index>) -> bool {
        if planted(Mutant::TransferToBacklogged) {
            return true;
        }
        let is_under =
            |applied| self.log.backlog().bytes_after(applied) <= self.config.backlog_bytes;
        applied.is_some_and(|applied| applied >= self.log.applied() && is_under(applied))
    }

    /// Whether a voter reports that it is over the bound, so that leadership would not help it.
    pub(super) fn reports_backlog(&self, applied: Option<Index>) -> bool {
        self.is_backlogged() && !self.is_under_bound(applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_after_any_step_are_known() {
        let mut backlog = Backlog::new(640);
        backlog.committed(Index(3), 100);
        backlog.committed(Index(4), 4);
        backlog.committed(Index(5), 4);
        backlog.committed(Index(9), 50);
        assert_eq!((backlog.bytes(), backlog.steps.len()), (158, 3), "4 and 5 are one step");
        let after: Vec<usize> = (2..=9).map(|index| backlog.bytes_after(Index(index))).collect();
        assert_eq!(after, [158, 58, 58, 50, 50, 50, 50, 0]);
        backlog.applied(Index(4));
        assert_eq!(backlog.bytes(), 58, "a step counts until it is applied");
        backlog.applied(Index(5));
        assert_eq!(backlog.bytes(), 50);
        backlog.clear();
        assert_eq!((backlog.bytes(), backlog.bytes_after(Index(0))), (0, 0));
    }

    #[test]
    fn attempts_grow_rarer_and_are_then_forgotten() {
        let (mut watch, timeout) = (BacklogWatch::default(), Duration::from_nanos(10));
        let mut tried = Vec::new();
        for now in 0..200 {
            watch.note_over(Time(now));
            if watch.is_due(Time(now), timeout) {
                watch.note_attempt(Time(now), timeout);
                tried.push(now);
            }
        }
        assert_eq!(tried, [10, 30, 70, 150]);
        watch.note_under(Time(310));
        assert!(!watch.is_due(Time(310), timeout));
        watch.note_over(Time(311));
        assert!(!watch.is_due(Time(311), timeout), "it has been over for no time");
        assert!(watch.is_due(Time(321), timeout));
        assert_eq!(watch.attempts, 0);
    }
}
