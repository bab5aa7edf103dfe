//! Log time on wrong clocks, over changes of leaders, and after everything was off.

use std::time::Duration;

use super::network::Network;
use super::snapshots;
use crate::core::{Config, Event};
use crate::types::{Body, NodeId, Payload};

const SECOND: Duration = Duration::from_secs(1);
const DAY: i64 = 86_400_000;

/// As the body leaves a node of an older version.
pub(super) fn forget_wall(body: &mut Body) {
    if let Body::Appended { report, .. }
    | Body::Rejected { report, .. }
    | Body::SnapshotProgress { report, .. } = body
    {
        report.wall = None;
    }
}

/// A network on which commands are written, and when each of them was.
struct Written {
    network: Network,
    /// The true time of each command, and its stamp, in milliseconds.
    samples: Vec<(i64, i64)>,
}

impl Written {
    fn new(count: u64) -> Written {
        Written::with(count, |_| {})
    }

    fn with(count: u64, tune: fn(&mut Config)) -> Written {
        let mut network = Network::with(count, tune);
        network.wall_began = 1_700_000_000_000;
        network.campaign(1);
        network.stabilize();
        Written { network, samples: Vec::new() }
    }

    fn leader(&self) -> u64 {
        self.network.leader().expect("a leader")
    }

    /// A command is written now.
    fn write(&mut self) {
        let (leader, now) = (self.leader(), self.network.clock().wall);
        let index = self.network.propose(leader, "x").last;
        let stamp = self.network.core(leader).entry(index).expect("it is new").stamp;
        self.samples.push((now.0 as i64, stamp.0 as i64));
        self.network.stabilize();
    }

    /// One is written every tenth of a second.
    fn run(&mut self, time: Duration) {
        let end = self.network.now.after(time);
        while self.network.now < end {
            self.network.pass(SECOND / 10);
            if self.network.leader().is_none() {
                self.network.elect();
            }
            self.write();
        }
    }

    fn transfer(&mut self, to: u64) {
        let leader = self.leader();
        let moved = self
            .network
            .with_core(leader, |core, now| core.transfer_leadership(now, Some(NodeId(to))));
        moved.unwrap();
        self.network.stabilize();
        assert_eq!(self.leader(), to);
    }

    fn restart(&mut self, id: u64) {
        self.network.crash(id);
        self.network.restart(id);
        self.network.elect();
    }

    /// By how much the last stamp is ahead of the true time.
    fn lead(&self) -> i64 {
        let &(now, stamp) = self.samples.last().expect("one was written");
        stamp - now
    }

    /// Whether whatever lives between any two commands lives as long as it should, within 1 % and a
    /// second.
    fn is_exact(&self) -> bool {
        self.keeps(|lived, passed| (lived - passed).abs() <= passed / 100 + 1_000)
    }

    /// Whether this holds of what is `lived` by stamps between any two commands while so much has
    /// `passed`.
    fn keeps(&self, holds: impl Fn(i64, i64) -> bool) -> bool {
        let samples = &self.samples;
        let later = |at: usize| samples[at..].iter().map(move |later| (samples[at], later));
        let mut pairs = (0..samples.len()).flat_map(later);
        pairs.all(|(from, to)| holds(to.1 - from.1, to.0 - from.0))
    }

    fn steps(&self) -> Vec<Duration> {
        let events = self.network.nodes.values().flat_map(|node| &node.events);
        let step =
            |event: &Event| if let Event::LogTimeStepped { by } = event { Some(*by) } else { None };
        events.filter_map(step).collect()
    }
}

#[test]
pub(super) fn one_wrong_clock_of_three_moves_no_expiry() {
    for (wrong, error) in [(1, DAY), (1, -DAY), (2, DAY), (2, -DAY)] {
        for is_repaired in [true, false] {
            let mut written = Written::new(3);
            written.run(2 * SECOND);
            written.network.wall_errors.insert(wrong, error);
            written.run(3 * SECOND);
            if is_repaired {
                written.network.wall_errors.clear();
            }
            written.run(5 * SECOND);
            for leader in [2, 3, 1] {
                written.transfer(leader);
                written.run(2 * SECOND);
            }
            written.restart(1);
            written.run(5 * SECOND);
            assert!(
                written.is_exact(),
                "{wrong} by {error}, repaired: {is_repaired}: {:?}",
                written.samples
            );
            assert!(written.lead().abs() < 100 && written.steps().is_empty());
        }
    }
}

#[test]
fn one_wrong_clock_of_two_is_late_at_most() {
    for (wrong, error) in [(1, DAY), (1, -DAY), (2, DAY), (2, -DAY)] {
        for lasts in [3, 12] {
            let mut written = Written::new(2);
            written.run(2 * SECOND);
            written.network.wall_errors.insert(wrong, error);
            written.run(lasts * SECOND);
            let lead = written.lead();
            assert!(error < 0 || lead.abs() < 100, "the lesser clock is right: {lead}");
            written.network.wall_errors.clear();
            written.run(SECOND);
            written.transfer(2);
            written.run(lasts * SECOND);
            let most = i64::from(lasts) * 1_000 + 100;
            let is_kept =
                written.keeps(|lived, passed| passed / 2 - 100 <= lived && lived <= passed + most);
            assert!(is_kept, "{wrong} by {error} for {lasts} s: {:?}", written.samples);
            assert!(written.lead().abs() < 100, "it is made up for: {}", written.lead());
        }
    }
}

#[test]
pub(super) fn a_single_voters_wrong_clock_costs_what_it_lasts() {
    let mut written = Written::new(1);
    written.run(2 * SECOND);
    written.network.wall_errors.insert(1, DAY);
    written.run(3 * SECOND);
    assert!((2_900..=3_100).contains(&written.lead()), "twice the speed: {}", written.lead());
    written.network.wall_errors.clear();
    written.run(7 * SECOND);
    assert!(written.lead().abs() < 100, "and half the speed: {}", written.lead());
    assert!(written.steps().is_empty());
}

#[test]
fn after_ten_hours_off_log_time_is_right_at_once() {
    let errors = [(1, 0), (1, DAY), (1, -DAY), (2, DAY), (2, -DAY), (3, DAY), (3, -DAY)];
    for (wrong, error) in errors {
        let mut written = Written::new(3);
        written.run(2 * SECOND);
        written.network.wall_errors.insert(wrong, error);
        (1..=3).for_each(|id| written.network.crash(id));
        written.network.now = written.network.now.after(36_000 * SECOND);
        (1..=3).for_each(|id| written.network.restart(id));
        written.network.elect();
        written.write();
        assert!(written.lead().abs() < 1_000, "{wrong} by {error}: {}", written.lead());
        let steps = written.steps();
        assert!(steps.len() == 1 && steps[0].abs_diff(36_000 * SECOND) < 5 * SECOND, "{steps:?}");
    }
}

#[test]
pub(super) fn a_term_that_follows_another_does_not_step() {
    let mut written = Written::new(3);
    written.run(2 * SECOND);
    written.network.wall_errors = [(1, DAY), (2, DAY)].into();
    for leader in [2, 3, 1] {
        written.transfer(leader);
        written.run(SECOND);
    }
    assert!((0..4_000).contains(&written.lead()), "no majority is right: {}", written.lead());
    assert!(written.steps().is_empty());
}

/// The only entry of the first term after the pause does not hide the gap before it.
#[test]
fn a_leader_that_falls_at_once_leaves_the_gap_open() {
    let mut written = Written::new(3);
    written.run(2 * SECOND);
    (1..=3).for_each(|id| written.network.crash(id));
    written.network.now = written.network.now.after(36_000 * SECOND);
    (1..=3).for_each(|id| written.network.restart(id));
    let first = written.network.elect();
    written.network.crash(first);
    let second = written.network.elect();
    assert_ne!(first, second);
    written.write();
    assert!(written.lead().abs() < 1_000, "{}", written.lead());
}

/// All were off for ten hours. The leader hears a clock that is a day behind, and not the right
/// one.
#[test]
fn a_wrong_clock_that_is_heard_first_has_no_lasting_effect() {
    let mut written = Written::new(3);
    written.run(2 * SECOND);
    (1..=3).for_each(|id| written.network.crash(id));
    written.network.now = written.network.now.after(36_000 * SECOND);
    (1..=3).for_each(|id| written.network.restart(id));
    written.network.wall_errors.insert(2, -DAY);
    written.network.pass(SECOND / 10);
    written.network.campaign(1);
    written.network.stabilize();
    assert_eq!(written.leader(), 1);
    assert!(!written.network.core(1).awaits_clocks(), "all have answered");

    written.restart(2);
    (1..=3).for_each(|id| written.network.crash(id));
    written.network.now = written.network.now.after(36_000 * SECOND);
    (1..=3).for_each(|id| written.network.restart(id));
    written.network.cut.insert((NodeId(3), NodeId(1)));
    written.network.pass(SECOND / 10);
    written.network.campaign(1);
    written.network.stabilize();
    assert!(written.network.core(1).is_leader() && written.network.core(1).awaits_clocks());
    written.network.pass(SECOND);
    assert!(!written.network.core(1).awaits_clocks(), "it ends");
    written.write();
    assert!(written.lead() < -30_000_000, "that is what most known clocks say: {}", written.lead());
    written.network.heal();
    written.network.pass(SECOND / 5);
    // Node 3 received the entries at once, and its clock says that they are late.
    written.transfer(3);
    written.write();
    assert!(written.lead().abs() < 1_000, "{}", written.lead());
}

/// A new cluster. Its first leader knows the time, and nobody else gets its entries.
#[test]
fn a_truncation_takes_back_what_was_known_of_the_time() {
    let mut written = Written::new(3);
    written.network.isolate(1);
    written.network.propose(1, "x");
    written.network.propose(1, "y");
    written.network.pass(3 * SECOND);
    let second = written.leader();
    assert_ne!(second, 1);
    written.network.heal();
    written.network.pass(SECOND / 5);
    assert_eq!(written.network.core(1).last_index(), written.network.core(second).last_index());
    written.transfer(1);
    written.write();
    assert!(written.lead().abs() < 1_000, "{}", written.lead());
}

/// It has appended the last entry just now, and that was made long ago.
#[test]
fn a_node_that_caught_up_late_keeps_the_gap_open() {
    for by_snapshot in [false, true] {
        let mut written = Written::with(3, snapshots::small);
        written.run(2 * SECOND);
        if by_snapshot {
            snapshots::compacted_while_away(&mut written.network, 1, 3);
        } else {
            written.network.isolate(3);
            written.network.pass(SECOND);
            written.write();
        }
        written.network.pass(100 * SECOND);
        written.network.heal();
        written.network.pass(2 * SECOND);
        let leader = written.leader();
        assert_eq!(written.network.core(3).last_index(), written.network.core(leader).last_index());
        assert_eq!(written.network.node(3).installed, usize::from(by_snapshot));
        written.transfer(3);
        written.write();
        assert!(written.lead().abs() < 1_000, "by a snapshot: {by_snapshot}: {}", written.lead());
    }
}

#[test]
fn log_time_goes_on_without_a_gap_when_the_leader_changes() {
    let mut written = Written::new(3);
    written.run(2 * SECOND);
    // Without any answer in the new term its first entry rests on the monotonic clock alone.
    written.network.wall_errors = [(1, DAY), (2, DAY), (3, DAY)].into();
    written.network.pass(10 * SECOND);
    written.network.crash(1);
    let leader = loop {
        written.network.pass(Duration::from_millis(1));
        if let Some(leader) = written.network.leader() {
            break leader;
        }
    };
    let now = written.network.clock().wall;
    let core = written.network.core(leader);
    let noop = core.entry(core.last_index()).unwrap();
    assert!(
        matches!(noop.payload, Payload::Noop) && noop.stamp.0.abs_diff(now.0) < 110,
        "{noop:?} at {now:?}"
    );
}

#[test]
fn voters_of_an_older_version_do_not_stop_time() {
    for older in [vec![2, 3], vec![3]] {
        let mut written = Written::new(3);
        written.network.older = older.iter().copied().collect();
        written.transfer(2);
        written.transfer(1);
        written.run(10 * SECOND);
        assert!(
            written.is_exact() && written.lead().abs() < 100,
            "{older:?}: {:?}",
            written.samples
        );
        written.network.wall_errors.insert(1, DAY);
        written.run(3 * SECOND);
        // Where no majority can say its clocks, the leader's own one is all there is.
        let most = if older.len() == 2 { 3_100 } else { 100 };
        assert!((-100..=most).contains(&written.lead()), "{older:?}: {}", written.lead());
    }
}

#[test]
fn no_clock_counts_that_was_not_reported_in_this_term() {
    let mut written = Written::new(3);
    let target = |written: &Written| {
        written.network.core(written.leader()).status().log_time.unwrap().target
    };
    assert!(target(&written).is_some());
    written.network.isolate(1);
    written.network.with_core(1, |core, now| core.handle_timeout(now));
    let known = target(&written).unwrap();
    let shown = written.network.clock().wall;
    assert!(known.0.abs_diff(shown.0) < 2, "what they said goes on by the leader's clock");
    let second = loop {
        written.network.pass(Duration::from_millis(1));
        if let Some(leader) = written.network.leader().filter(|&leader| leader != 1) {
            break leader;
        }
    };
    written.network.isolate(second);
    assert!(written.network.core(second).status().peers.iter().any(|peer| peer.wall.is_none()));
    let status = written.network.core(3).status();
    assert!(status.log_time.is_some(), "followers know log time, too");
}

/// Its disk is in doubt, not its clock.
#[test]
fn the_clock_of_a_follower_that_forgot_is_heard() {
    let mut written = Written::new(3);
    written.run(2 * SECOND);
    written.network.crash(2);
    written.network.node(2).disk.entries.truncate(3);
    written.network.node(2).disk.commit = crate::types::Index(3);
    written.network.wall_errors.insert(2, DAY);
    written.network.crash(3);
    written.network.restart(2);
    written.network.pass(SECOND / 5);
    let status = written.network.core(1).status();
    let peer = status.peers.iter().find(|peer| peer.id == NodeId(2)).unwrap();
    let ahead = peer.wall.unwrap().0 - written.network.clock().wall.0;
    assert!(peer.has_forgotten && ahead.abs_diff(DAY as u64) < 1_000, "{peer:?}");
}
