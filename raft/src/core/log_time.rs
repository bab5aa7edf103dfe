//! Log time: what the stamps of entries say, and what keys and sessions expire by.
//!
//! With stamps from the leader's own wall clock, everything would expire a day early or late if
//! that clock were a day off for one second. So log time runs by the leader's monotonic clock, and
//! wall clocks only steer it:
//!
//! ```text
//!  stamp  = previous stamp + elapsed x rate, never less than the previous stamp
//!  rate   = 1 at the target, at most 2 behind it, at least 1/2 ahead of it
//!  target = the greatest wall clock that a majority of the voters has reached
//!
//!  voters      A (leader) 12:00:00    B 11:59:59.9    C tomorrow, 12:00
//!  target      12:00:00               two of three have reached it; only C has reached more
//! ```
//!
//! - *Elapsed* counts from when this node appended the last entry to its own log, as a leader or as
//!   a follower. So time continues without a gap when the leader changes.
//! - *Wall clocks* of the others come with their answers to rounds, and are advanced by the
//!   leader's own monotonic clock since then. The leader's own clock counts if the leader is a
//!   voter. A voter that has not answered in this term has reached nothing. With one of three
//!   clocks wrong the target lies between the two others; with one of two wrong it is the lesser
//!   one, so nothing expires early.
//! - *Without a target*, before a majority has answered, the rate is 1. Voters of an older version
//!   do not report their clocks. If that leaves no majority, the leader takes its own clock for the
//!   target, as leaders of that version do. Otherwise log time would stay behind permanently, by
//!   the time for which all nodes were off.
//! - *A gap*: the last entry was written before this node's last start, came with a snapshot, or
//!   was committed before it was sent here. Its age is unknown then, and log time may step
//!   *forward* to the target. A later entry of a leader closes a follower's gap, unless the entry
//!   is the first of its term, or behind the follower's own wall clock: that leader may have had a
//!   gap itself. A leader closes its gap once all voters have answered and log time is at the
//!   target: before that a wrong clock may be among the first to answer. Until then, but at most
//!   for an election timeout, it should receive no commands ([`Core::awaits_clocks`]): a lifetime
//!   of a minute from a stamp of yesterday would end with the step.
//! - *A snapshot* that is installed brings an entry of unknown age: a gap; elapsed counts from the
//!   installation, which is later than the entry, so nothing expires early by it.
//! - *A truncation* opens the gap, too: the entries that closed it may be among those that go. The
//!   count begins again with the entries that take their place, in the same step.

use std::time::Duration;

use crate::types::{FollowerReport, Index, NodeId, Stamp, Time};

use super::mutants::{Mutant, planted};
use super::quorum::agreed;
use super::{Action, Core, Event, LogTimeStatus, RoleState};

/// A step of at least this is reported; less is what clocks differ by anyway.
const STEP_REPORTED_FROM: Duration = Duration::from_secs(1);

/// A stamp that is further behind this node's wall clock may have been made without any clock.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// What a node knows of the last entry's age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct LogTime {
    /// When this node appended the last entry to its log, in this life.
    since: Option<Time>,
    /// What the entry's stamp leaves out: less than a millisecond.
    remainder: Duration,
    /// There is no gap before the last entry.
    is_continuous: bool,
    /// A leader waits until then for voters that have not answered.
    waits_until: Time,
}

/// How the last of the entries from a leader arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Before it was committed, so soon after it was made.
    Fresh,
    /// In the same way, but its leader may not have known the clocks: it is the first of its term,
    /// or behind this node's wall clock.
    Unsteered,
    /// After it was committed, so at any time after it was made.
    Late,
}

/// Log time at some moment, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    time: Duration,
    /// How much of it is a step.
    stepped: Duration,
    is_at_target: bool,
}

impl Reading {
    pub(super) fn stamp(self) -> Stamp {
        stamp_of(self.time)
    }
}

impl LogTime {
    /// Log time `now`, if the last entry's stamp is `last`.
    pub(super) fn at(self, now: Time, last: Stamp, target: Option<Duration>) -> Reading {
        let elapsed = self.since.map_or(Duration::ZERO, |since| now.since(since));
        let previous = since_1970(last).saturating_add(self.remainder);
        let least = previous.saturating_add(elapsed / 2);
        let most = previous.saturating_add(elapsed.saturating_mul(2));
        let Some(target) = target else {
            let time = previous.saturating_add(elapsed);
            return Reading { time, stepped: Duration::ZERO, is_at_target: false };
        };
        let may_step = !self.is_continuous || planted(Mutant::LogTimeIsNotLimited);
        let time = target.clamp(least, if may_step { target.max(most) } else { most });
        Reading { time, stepped: time.saturating_sub(most), is_at_target: time == target }
    }

    /// This node, which leads, has appended entries with that stamp.
    pub(super) fn note_own(&mut self, now: Time, reading: Reading) {
        self.since = Some(now);
        self.remainder = Duration::from_nanos(u64::from(reading.time.subsec_nanos() % 1_000_000));
    }

    /// From now on there is no gap before the last entry.
    pub(super) fn close_gap(&mut self) {
        self.is_continuous = true;
    }

    /// A leader's entries have been appended; this is how the last one came.
    pub(super) fn received(&mut self, now: Time, last: Received) {
        let is_continuous = match last {
            Received::Fresh => true,
            Received::Unsteered => self.is_continuous,
            Received::Late => false,
        };
        *self = LogTime { since: Some(now), remainder: Duration::ZERO, is_continuous, ..*self };
    }

    /// The last entries are gone, and others take their place.
    pub(super) fn truncated(&mut self) {
        self.is_continuous = false;
    }

    /// A snapshot's last entry is the log's last one now.
    pub(super) fn installed(&mut self, now: Time) {
        self.received(now, Received::Late);
    }
}

/// What a leader knows of another node's wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(super) enum PeerClock {
    /// It has not answered in this term.
    #[default]
    Silent,
    /// It answers without its clock: its version is older.
    Unsaid,
    /// It showed this when its answer to this round arrived.
    Shown { wall: Stamp, at: Time, round: u64 },
}

impl PeerClock {
    /// An answer has arrived. One that was overtaken by an answer to a later round is old.
    pub(super) fn note(&mut self, report: &FollowerReport, now: Time) {
        match (*self, report.wall) {
            (PeerClock::Shown { round, .. }, _) if report.round < round => {}
            (_, Some(wall)) => *self = PeerClock::Shown { wall, at: now, round: report.round },
            (_, None) => *self = PeerClock::Unsaid,
        }
    }

    /// What it shows now.
    fn shown(self, now: Time) -> Option<Duration> {
        match self {
            PeerClock::Shown { wall, at, .. } => {
                Some(since_1970(wall).saturating_add(now.since(at)))
            }
            _ => None,
        }
    }

    /// What it shows now, to the millisecond.
    pub(super) fn wall(self, now: Time) -> Option<Stamp> {
        self.shown(now).map(stamp_of)
    }
}

impl Core {
    /// Log time now; `None` while the last entry's stamp must still be fetched.
    pub(super) fn log_time(&self) -> Option<Reading> {
        Some(self.log_time.at(self.now, self.log.last_stamp()?, self.log_time_target()))
    }

    /// The greatest wall clock that a majority of the voters has reached; `None` if no majority has
    /// said one in this term, or if this node does not lead.
    pub(super) fn log_time_target(&self) -> Option<Duration> {
        let RoleState::Leader(leading) = &self.state else { return None };
        let (id, own, configuration) =
            (self.config.id, since_1970(self.wall), self.log.configuration());
        let clock =
            |node| leading.progress.get(&node).map_or(PeerClock::Silent, |progress| progress.clock);
        let shown = |node| if node == id { Some(own) } else { clock(node).shown(self.now) };
        if planted(Mutant::LogTimeFollowsLeader) {
            return Some(own);
        }
        if planted(Mutant::LogTimeFollowsGreatest) {
            return configuration.voters.iter().filter_map(|&voter| shown(voter)).max();
        }
        if let Some(target) = agreed(configuration, shown).flatten() {
            return Some(target);
        }
        let may_say = |node| node == id || clock(node) != PeerClock::Unsaid;
        (agreed(configuration, may_say) == Some(false)).then_some(own)
    }

    /// Whether every voter has answered in this term, so that no further clock can appear.
    fn has_heard_all_clocks(&self) -> bool {
        let RoleState::Leader(leading) = &self.state else { return false };
        let configuration = self.log.configuration();
        let has_answered = |node: &NodeId| {
            *node == self.config.id
                || leading
                    .progress
                    .get(node)
                    .is_some_and(|progress| progress.clock != PeerClock::Silent)
        };
        configuration.voters.iter().chain(&configuration.outgoing).all(has_answered)
    }

    /// Log time now, for the entries that this leader is about to make.
    ///
    /// # Panics
    /// If the last entry's stamp is not known: no node leads before it is.
    pub(super) fn stamping_time(&self) -> Reading {
        self.log_time().expect("a leader knows its last entry")
    }

    /// This leader is about to append entries that were stamped with log time as it is now.
    pub(super) fn note_stamped(&mut self, reading: Reading) {
        let has_gap = !self.log_time.is_continuous;
        let closes_gap = has_gap && reading.is_at_target && self.has_heard_all_clocks();
        let is_first = self.log.last_stamp() == Some(Stamp(0));
        self.log_time.note_own(self.now, reading);
        if closes_gap {
            self.log_time.close_gap();
        }
        if reading.stepped >= STEP_REPORTED_FROM && !is_first {
            self.actions.push_back(Action::Event(Event::LogTimeStepped { by: reading.stepped }));
        }
    }

    /// A leader's entries have been appended; it had committed up to `commit` when it sent them.
    pub(super) fn note_received(&mut self, commit: Index) {
        let (last, terms) = (self.log.last_index(), self.log.terms());
        let stamp = since_1970(self.log.last_stamp().unwrap_or_default());
        let is_behind = stamp.saturating_add(BEHIND_MAX) < since_1970(self.wall);
        let received = match terms.term_at(last.previous()) {
            _ if last <= commit => Received::Late,
            Some(term) if term == self.log.last_term() && !is_behind => Received::Fresh,
            _ => Received::Unsteered,
        };
        self.log_time.received(self.now, received);
    }

    /// This node begins to lead.
    pub(super) fn begin_log_time(&mut self) {
        self.log_time.is_continuous &= !planted(Mutant::LogTimeStepsEveryTerm);
        self.log_time.waits_until = self.now.after(self.config.election_timeout.max);
    }

    /// Whether this leader should receive no commands for a moment. It is not known how long ago
    /// its last entry was made, and not all voters have answered, so the clocks that it knows may
    /// be few, or wrong: a lifetime that began now could end with a step of log time. That is over
    /// when the first entry of the term is committed and an election timeout has passed, at the
    /// latest.
    #[must_use]
    pub fn awaits_clocks(&self) -> bool {
        let RoleState::Leader(leading) = &self.state else { return false };
        let LogTime { is_continuous, waits_until, .. } = self.log_time;
        let is_over = self.log.commit() >= leading.first_index && waits_until <= self.now;
        let waits = !is_continuous && !is_over && !self.has_heard_all_clocks();
        waits && !planted(Mutant::CommandsBeforeClocks)
    }

    pub(super) fn log_time_status(&self) -> Option<LogTimeStatus> {
        let target = self.log_time_target().map(stamp_of);
        Some(LogTimeStatus { now: self.log_time()?.stamp(), target, wall: self.wall })
    }
}

fn since_1970(stamp: Stamp) -> Duration {
    Duration::from_millis(stamp.0)
}

fn stamp_of(time: Duration) -> Stamp {
    Stamp(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAST: Stamp = Stamp(1_000_000);

    fn running(remainder: Duration) -> LogTime {
        LogTime { since: Some(Time(0)), remainder, is_continuous: true, ..LogTime::default() }
    }

    proptest! {
        /// The reference says it as the rule does: behind, ahead, or there.
        #[test]
        fn it_runs_at_its_rates_and_ends_at_its_target(
            remainder in 0u64..1_000_000,
            elapsed in 0u64..1 << 40,
            ahead in -(1i64 << 42)..1 << 42,
            is_continuous: bool,
            is_known: bool,
        ) {
            let remainder = Duration::from_nanos(remainder);
            let elapsed = Duration::from_nanos(elapsed);
            let log_time = LogTime { is_continuous, ..running(remainder) };
            let previous = since_1970(LAST) + remainder;
            let natural = previous + elapsed;
            let distance = Duration::from_nanos(ahead.unsigned_abs()).min(natural);
            let target = if ahead < 0 { natural - distance } else { natural + distance };
            let target = is_known.then_some(target);
            let reading = log_time.at(Time(0).after(elapsed), LAST, target);
            let expected = match target {
                None => natural,
                Some(target) if target > natural && is_continuous => target.min(natural + elapsed),
                Some(target) if target > natural => target,
                Some(target) => target.max(previous + elapsed / 2),
            };
            prop_assert_eq!(reading.time, expected);
            prop_assert!(reading.stamp() >= LAST && (is_known || reading.stepped.is_zero()));
            prop_assert_eq!(reading.stepped, expected.saturating_sub(natural + elapsed));
        }

        /// However many entries a millisecond has, they take no time and add none.
        #[test]
        fn no_part_of_a_millisecond_is_lost(
            parts in prop::collection::vec(0u64..5_000_000, 1..200),
            rate in 0..3,
        ) {
            let (mut log_time, mut last, mut now) = (running(Duration::ZERO), LAST, Time(0));
            let far = [None, Some(Duration::ZERO), Some(Duration::MAX)][rate as usize];
            for &part in &parts {
                now = now.after(Duration::from_nanos(part));
                let reading = log_time.at(now, last, far);
                prop_assert!(reading.stamp() >= last);
                last = reading.stamp();
                log_time.note_own(now, reading);
            }
            let passed = Duration::from_nanos(parts.iter().sum());
            let lived = since_1970(last) + log_time.remainder - since_1970(LAST);
            match rate {
                0 => prop_assert_eq!(lived, passed),
                1 => {
                    let short_by = (passed / 2).checked_sub(lived);
                    prop_assert!(short_by.is_some_and(|by| by <= Duration::from_nanos(200)));
                }
                _ => prop_assert_eq!(lived, passed * 2),
            }
        }
    }

    #[test]
    fn elapsed_time_begins_in_this_life_and_with_each_entry() {
        let (minute, target) = (Duration::from_secs(60), None);
        let mut log_time = LogTime::default();
        let at = |log_time: LogTime, seconds: u64| {
            let now = Time(0).after(Duration::from_secs(seconds));
            log_time.at(now, LAST, target).time - since_1970(LAST)
        };
        assert_eq!(at(log_time, 60), Duration::ZERO, "nobody knows how long the node was off");
        log_time.received(Time(0).after(minute), Received::Unsteered);
        assert_eq!((at(log_time, 90), log_time.is_continuous), (minute / 2, false));
        log_time.received(Time(0).after(minute), Received::Fresh);
        assert_eq!((at(log_time, 90), log_time.is_continuous), (minute / 2, true));
        log_time.received(Time(0).after(minute), Received::Unsteered);
        assert!(log_time.is_continuous, "a leader that knows of no gap makes none");
        log_time.truncated();
        log_time.received(Time(0).after(minute), Received::Unsteered);
        assert!(!log_time.is_continuous, "the entry that closed the gap may be gone");
        log_time.installed(Time(0).after(minute));
        assert_eq!((at(log_time, 60), log_time.is_continuous), (Duration::ZERO, false));
    }

    #[test]
    fn an_overtaken_answer_does_not_turn_a_clock_back() {
        let report = |round, wall| FollowerReport { round, wall, ..FollowerReport::default() };
        let mut clock = PeerClock::default();
        assert_eq!(clock.wall(Time(0)), None);
        clock.note(&report(7, Some(Stamp(50))), Time(0));
        clock.note(&report(6, Some(Stamp(900))), Time(0));
        clock.note(&report(6, None), Time(0));
        assert_eq!(clock.wall(Time(2_000_000)), Some(Stamp(52)), "it goes on by this node's clock");
        clock.note(&report(8, Some(Stamp(20))), Time(0));
        assert_eq!(clock.wall(Time(0)), Some(Stamp(20)), "a clock may be put back");
        clock.note(&report(9, None), Time(0));
        assert_eq!(
            (clock, clock.wall(Time(0))),
            (PeerClock::Unsaid, None),
            "an absent clock is not 0"
        );
    }
}
