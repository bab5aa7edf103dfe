//! What a leader knows of one follower's log (figure 3.1: matchIndex, nextIndex), and how much it
//! may send.
//!
//! ```text
//!            matched            next
//!               v                v
//!  leader  1 2 3 4 5 6 7 8 9 10 11 12       4 is on the follower's disk; 5 to 10 are on their
//!          -------|=============|-----      way, in windows of messages and bytes; 11 and 12
//!                                           have not been sent
//! ```
//!
//! *Probe*: the leader does not know where the logs agree, or whether the follower is reachable. It
//! sends one message and waits for the answer, or for the next heartbeat, which asks again. Once it
//! knows where the logs agree, the entries of the probe count as sent, unless the answer is to a
//! later round: the probe was lost then, and its entries leave again. *Replicate*: it knows, and
//! streams: `next` runs ahead of the acknowledgements (§10.2.1, pipelining). *Snapshot*: `next` is
//! compacted; the follower receives a snapshot ([`SnapshotSender`]) and, meanwhile, heartbeats.

use std::collections::VecDeque;

use crate::types::{Index, NodeId, Time};

use super::amnesia::Forgetting;
use super::log_time::PeerClock;
use super::mutants::{Mutant, planted};
use super::snapshot_sender::SnapshotSender;
use super::{PeerMode, PeerStatus};

/// How a leader sends to a follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// One message at a time; it waits for the answer to the entries it has `carried`.
    Probe { carried: Option<Carried> },
    /// As much as the windows allow.
    Replicate,
    /// No entries, but a snapshot.
    Snapshot(Box<SnapshotSender>),
}

/// The entries of a probe, from `next` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Carried {
    last: Index,
    bytes: usize,
    round: u64,
}

/// A message with entries that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct InFlight {
    last: Index,
    bytes: usize,
}

/// How much may be on its way to one follower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// A leader's knowledge of one follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Progress {
    pub(super) matched: Index,
    /// What it reports to have applied.
    pub(super) applied: Option<Index>,
    pub(super) next: Index,
    pub(super) mode: Mode,
    /// Messages with entries that are not acknowledged, oldest first.
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// The latest round it has acknowledged.
    pub(super) round: u64,
    /// Until then it votes for no other candidate, as it has promised (leases rest on it).
    pub(super) bound_until: Time,
    /// When it last answered.
    pub(super) heard: Time,
    /// The commit index that it was last sent.
    pub(super) commit_sent: Index,
    /// The fetch that will bring the next entries to send.
    pub(super) fetch: Option<u64>,
    /// The entry with which it ceases to be a member; when that is committed, nothing more is sent.
    pub(super) removed_at: Option<Index>,
    /// The leader's own round when the acknowledgement arrived that raised `matched`.
    pub(super) matched_round: u64,
    /// Its disk forgot what it had acknowledged.
    pub(super) forgetting: Option<Forgetting>,
    /// The round of the answer by which it was known to hold a fence: what it said before is out of
    /// date.
    pub(super) fenced_round: Option<u64>,
    /// It reports that this leader contradicts what is committed there, from this entry on.
    pub(super) conflict: Option<Index>,
    /// A snapshot that replaces its state, which had gone wrong; it is sent beside the entries.
    pub(super) seeding: Option<Box<SnapshotSender>>,
    /// Its wall clock. That of a follower that forgot counts, too: only its disk is in doubt.
    pub(super) clock: PeerClock,
}

impl Progress {
    /// A new leader's guess: the follower has all that the leader has (§3.5).
    pub(super) fn new(last_index: Index, now: Time) -> Progress {
        Progress {
            matched: Index(0),
            applied: None,
            next: last_index.next(),
            mode: Mode::Probe { carried: None },
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            round: 0,
            bound_until: Time(0),
            heard: now,
            commit_sent: Index(0),
            fetch: None,
            removed_at: None,
            matched_round: 0,
            forgetting: None,
            fenced_round: None,
            conflict: None,
            seeding: None,
            clock: PeerClock::default(),
        }
    }

    /// Whether another message with entries may leave.
    pub(super) fn may_send(&self, windows: Windows) -> bool {
        match self.mode {
            Mode::Probe { carried } => carried.is_none(),
            Mode::Replicate if planted(Mutant::WindowIgnored) => true,
            Mode::Replicate => {
                self.in_flight.len() < windows.messages && self.in_flight_bytes < windows.bytes
            }
            Mode::Snapshot(_) => false,
        }
    }

    /// From here on the follower is sent a snapshot.
    pub(super) fn send_snapshot(&mut self, sending: SnapshotSender) {
        self.mode = Mode::Snapshot(Box::new(sending));
        self.seeding = None;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.fetch = None;
    }

    /// The snapshot that it is being sent, if any.
    pub(super) fn snapshot_sender(&mut self) -> Option<&mut SnapshotSender> {
        match &mut self.mode {
            Mode::Snapshot(sending) => Some(sending),
            _ => self.seeding.as_deref_mut(),
        }
    }

    /// Entries from `next` to `last` have left, in this round.
    pub(super) fn sent(&mut self, last: Index, bytes: usize, round: u64) {
        assert!(last >= self.next, "sent entries up to {last}, but {} was next", self.next);
        match &mut self.mode {
            Mode::Probe { carried } => *carried = Some(Carried { last, bytes, round }),
            Mode::Replicate => {
                self.in_flight.push_back(InFlight { last, bytes });
                self.in_flight_bytes += bytes;
                self.next = last.next();
            }
            Mode::Snapshot(_) => unreachable!("no entries leave beside a snapshot"),
        }
    }

    /// Takes in an acknowledgement of this round: the follower has everything up to `matched`,
    /// durably. The leader's own log begins after `base`. Returns whether `matched` rose.
    pub(super) fn acknowledged(&mut self, matched: Index, base: Index, round: u64) -> bool {
        let is_news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(self.matched.next());
        while let Some(&InFlight { last, bytes }) = self.in_flight.front() {
            if last > self.matched {
                break;
            }
            self.in_flight.pop_front();
            self.in_flight_bytes -= bytes;
        }
        let mut on_its_way = None;
        let is_found = match &self.mode {
            Mode::Replicate => false,
            Mode::Probe { carried } => {
                on_its_way =
                    carried.filter(|carried| carried.last > self.matched && carried.round >= round);
                self.matched.next() == self.next
            }
            Mode::Snapshot(sending) if self.matched < base && self.matched >= sending.index() => {
                // It has all of that snapshot, and what follows has been compacted meanwhile: the
                // newest one is next.
                self.mode = Mode::Probe { carried: None };
                false
            }
            Mode::Snapshot(_) => self.matched >= base,
        };
        if is_found {
            self.next = self.matched.next();
            self.mode = Mode::Replicate;
            if let Some(Carried { last, bytes, round }) = on_its_way {
                self.sent(last, bytes, round);
            }
        }
        is_news
    }

    /// The follower lacks what precedes `previous`, or has something else there; `guess` is where
    /// the logs may agree. Returns whether the leader must look further back; if not, the answer is
    /// an old one.
    pub(super) fn rejected(&mut self, previous: Index, guess: Index) -> bool {
        let is_current = match self.mode {
            Mode::Replicate if planted(Mutant::ResendNeverProbes) => false,
            Mode::Replicate => previous > self.matched && previous < self.next,
            Mode::Probe { .. } => previous > self.matched && previous == self.next.previous(),
            Mode::Snapshot(_) => false,
        };
        if !is_current {
            return false;
        }
        // Strictly back, though never behind what is known to match.
        self.next = guess.next().min(previous).max(self.matched.next());
        self.mode = Mode::Probe { carried: None };
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        true
    }

    /// Probes the follower's log again, from `guess` backwards.
    pub(super) fn probe_after(&mut self, guess: Index) {
        self.next = guess.next();
        self.mode = Mode::Probe { carried: None };
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.fetch = None;
    }

    /// The index up to which the follower counts towards a majority.
    pub(super) fn counted(&self) -> Index {
        if self.forgetting.is_some() && planted(Mutant::ForgottenMakesMajoritySmaller) {
            return Index(u64::MAX);
        }
        let is_discounted = self.forgetting.is_some() && !planted(Mutant::ForgottenCounts);
        if is_discounted { Index(0) } else { self.matched }
    }

    pub(super) fn status(&self, id: NodeId, now: Time) -> PeerStatus {
        PeerStatus {
            id,
            matched: self.matched,
            applied: self.applied,
            next: self.next,
            mode: match &self.mode {
                Mode::Probe { .. } => PeerMode::Probe,
                Mode::Replicate => PeerMode::Replicate,
                Mode::Snapshot(sending) => PeerMode::Snapshot(sending.progress()),
            },
            in_flight_messages: self.in_flight.len(),
            in_flight_bytes: self.in_flight_bytes,
            heard: self.heard,
            has_forgotten: self.forgetting.is_some(),
            conflict: self.conflict,
            wall: self.clock.wall(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { messages: 2, bytes: 100 };

    #[test]
    fn probes_one_message_at_a_time_then_streams_within_its_windows() {
        let mut progress = Progress::new(Index(10), Time(0));
        assert!(progress.may_send(WINDOWS));
        progress.sent(Index(11), 40, 1);
        assert!(!progress.may_send(WINDOWS), "a probe waits for its answer");
        assert_eq!(progress.next, Index(11), "and promises nothing");

        assert!(progress.acknowledged(Index(11), Index(0), 1));
        assert_eq!((&progress.mode, progress.next), (&Mode::Replicate, Index(12)));
        progress.sent(Index(12), 40, 1);
        progress.sent(Index(13), 40, 1);
        assert!(!progress.may_send(WINDOWS), "two messages");
        assert!(progress.acknowledged(Index(12), Index(0), 1));
        assert!(progress.may_send(WINDOWS));
        progress.sent(Index(14), 60, 1);
        progress.acknowledged(Index(13), Index(0), 1);
        assert!(!progress.acknowledged(Index(13), Index(0), 1), "no news the second time");
        progress.sent(Index(15), 40, 1);
        assert!(!progress.may_send(WINDOWS), "a hundred bytes");
    }

    #[test]
    fn only_a_current_rejection_moves_next_back() {
        let mut progress = Progress::new(Index(10), Time(0));
        assert!(!progress.rejected(Index(9), Index(5)), "not what the probe asked");
        assert!(progress.rejected(Index(10), Index(10)), "a hint that does not go back");
        assert_eq!(progress.next, Index(10));
        assert!(progress.rejected(Index(9), Index(4)));
        assert_eq!(progress.next, Index(5));
        progress.acknowledged(Index(4), Index(0), 1);
        progress.sent(Index(8), 10, 1);
        assert!(!progress.rejected(Index(4), Index(1)), "index 4 is known to match");
        assert!(progress.rejected(Index(8), Index(1)));
        assert_eq!(progress.next, Index(5), "never behind what matches");
        assert_eq!(progress.mode, Mode::Probe { carried: None });
    }

    #[test]
    fn a_probes_entries_leave_again_after_a_later_rounds_answer() {
        let mut probing = Progress::new(Index(4), Time(0));
        probing.sent(Index(11), 70, 3);
        let (mut answered, mut lost) = (probing.clone(), probing.clone());
        assert!(answered.acknowledged(Index(4), Index(0), 3), "the logs agree there");
        assert_eq!((&answered.mode, answered.next), (&Mode::Replicate, Index(12)));
        assert!(answered.may_send(WINDOWS));
        answered.sent(Index(12), 30, 3);
        assert!(!answered.may_send(WINDOWS), "the probe's bytes count");
        answered.acknowledged(Index(11), Index(0), 3);
        assert!(answered.may_send(WINDOWS));

        assert!(
            lost.acknowledged(Index(4), Index(0), 4),
            "the heartbeat after the probe is answered, not the probe"
        );
        assert_eq!((&lost.mode, lost.next), (&Mode::Replicate, Index(5)));

        assert!(probing.acknowledged(Index(11), Index(0), 3), "all at once");
        assert_eq!(
            (&probing.mode, probing.next, probing.in_flight_bytes),
            (&Mode::Replicate, Index(12), 0)
        );
    }

    /// Two messages are on their way, and no more may leave.
    fn with_full_windows() -> Progress {
        let mut progress = Progress::new(Index(10), Time(0));
        progress.acknowledged(Index(10), Index(0), 1);
        progress.sent(Index(11), 60, 1);
        progress.sent(Index(12), 60, 1);
        assert!(!progress.may_send(WINDOWS));
        progress
    }

    #[test]
    fn either_window_bounds_what_is_on_its_way() {
        let progress = with_full_windows();
        assert!(!progress.may_send(Windows { messages: 3, bytes: 120 }), "bytes");
        assert!(!progress.may_send(Windows { messages: 2, bytes: 121 }), "messages");
        assert!(progress.may_send(Windows { messages: 3, bytes: 121 }));
    }

    /// Were its bytes to stay counted, the windows would be smaller from then on, or shut.
    #[test]
    fn a_leader_that_begins_again_has_nothing_on_its_way() {
        let mut rejected = with_full_windows();
        assert!(rejected.rejected(Index(12), Index(10)));
        let mut probing = with_full_windows();
        probing.probe_after(Index(10));
        let mut installing = with_full_windows();
        let (index, term, stamp) = (Index(10), crate::types::Term(1), crate::types::Stamp(0));
        let configuration = crate::types::Configuration::default();
        let meta = crate::types::SnapshotMeta { index, term, stamp, configuration, digest: None };
        installing.send_snapshot(SnapshotSender::new(meta, Time(0)));
        for mut progress in [rejected, probing, installing] {
            progress.acknowledged(Index(10), Index(10), 2);
            assert_eq!((&progress.mode, progress.next), (&Mode::Replicate, Index(11)));
            progress.sent(Index(11), 99, 2);
            assert!(progress.may_send(WINDOWS), "one message, and less than a hundred bytes");
        }
    }
}
