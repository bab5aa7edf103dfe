//! Seeded disorder: messages are lost, repeated and overtaken, disks are slow, power fails, links
//! are cut. The network checks figure 3.2 after every step; what is left to check here is that the
//! cluster recovers, and nonsense is harmless.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::network::{Network, entry, report};
use crate::core::jitter::SplitMix64;
use crate::core::{Config, ReadId};
use crate::types::{
    Append, Body, Chunk, Echo, FollowerReport, Index, Message, NodeId, Payload, SnapshotMeta,
    Stamp, Term, Time,
};

fn small(config: &mut Config) {
    config.message_bytes = 150;
    config.in_flight_messages = 3;
    config.tail_bytes = 200;
    config.applying_bytes = 150;
    config.uncommitted_bytes = 1000;
    config.command_bytes = 500;
    config.snapshot_chunk_bytes = 64;
    config.snapshot_chunks = 3;
    config.retained_snapshots = 1;
}

struct Chaos {
    network: Network,
    draw: SplitMix64,
    count: u64,
    proposals: u64,
    steps_led: u64,
    /// For every read that was asked: what was committed anywhere at that moment.
    reads: Vec<Index>,
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let mut draw = SplitMix64::new(seed);
        let count = [3, 3, 4, 5][draw.next() as usize % 4];
        let mut network = Network::with(count, small);
        network.nodes.values_mut().for_each(|node| node.is_disk_slow = true);
        Chaos { network, draw, count, proposals: 0, steps_led: 0, reads: Vec::new() }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.draw.next() % limit
    }

    fn any_node(&mut self) -> u64 {
        1 + self.below(self.count)
    }

    fn step(&mut self) {
        let id = self.any_node();
        let is_up = !self.network.node(id).is_down;
        self.steps_led += u64::from(self.network.core(id).is_leader());
        match self.below(1000) {
            0..450 => self.deliver_one(),
            450..750 if is_up => drop(self.network.finish_write(id)),
            750..850 if is_up => self.fire_next_timeout(),
            850..910 if is_up => self.propose(id),
            910..940 if is_up => self.read(id),
            940..970 if is_up => drop(self.network.take_snapshot(id)),
            970..975 if is_up => self.network.crash(id),
            970..985 if !is_up => self.network.restart(id),
            985..988 => self.network.isolate(id),
            988..992 => self.network.heal(),
            _ => {}
        }
        let ready: Vec<_> =
            self.network.nodes.values_mut().flat_map(|node| node.ready.drain(..)).collect();
        for (ReadId(number), index) in ready {
            let before = self.reads[number as usize];
            assert!(
                index >= before,
                "read {number} may see {index} although {before} was applied before it was asked"
            );
        }
    }

    fn deliver_one(&mut self) {
        let waiting = self.network.wire.len() as u64;
        if waiting == 0 {
            return;
        }
        // Mostly the oldest, so that the cluster gets somewhere.
        let position = if self.below(4) == 0 { self.below(waiting) } else { 0 };
        let message = self.network.wire.remove(position as usize).expect("it is there");
        match self.below(20) {
            0 => return,
            1 => self.network.wire.push_back(message.clone()),
            _ => {}
        }
        self.network.deliver(message);
    }

    /// The clock goes to the earliest deadline, or a little beyond it.
    fn fire_next_timeout(&mut self) {
        let up = self.network.nodes.values().filter(|node| !node.is_down);
        let next = up.filter_map(|node| Some((node.core.poll_timeout()?, node.core.id()))).min();
        if let Some((deadline, id)) = next {
            self.network.now = self.network.now.max(deadline);
            self.network.with_core(id.0, |core, now| core.handle_timeout(now));
        }
    }

    fn propose(&mut self, id: u64) {
        self.proposals += 1;
        let commands: Vec<Bytes> =
            (0..=self.below(3)).map(|n| Bytes::from(format!("{}.{n}", self.proposals))).collect();
        let _ = self.network.with_core(id, |core, now| core.propose(now, commands));
    }

    fn read(&mut self, id: u64) {
        let number = ReadId(self.reads.len() as u64);
        let applied =
            self.network.nodes.values().map(|node| node.applied.len() as u64).max().unwrap();
        let so_far = self.reads.last().copied().unwrap_or_default();
        self.reads.push(so_far.max(Index(applied)));
        let _ = self.network.with_core(id, |core, now| core.read_index(now, number));
    }

    /// Faults stop: the cluster must elect, commit and agree.
    fn calm(&mut self) {
        self.network.heal();
        for id in 1..=self.count {
            self.network.node(id).is_disk_slow = false;
            if self.network.node(id).is_down {
                self.network.restart(id);
            }
        }
        self.network.pass(Duration::from_secs(3));
        let leader = self.network.leader().expect("there is a leader within three calm seconds");
        let proposed = self.network.propose(leader, "the last");
        self.network.pass(Duration::from_secs(1));
        for id in 1..=self.count {
            assert_eq!(self.network.core(id).applied(), proposed.last, "node {id}");
        }
    }
}

#[test]
fn properties_hold_in_disorder_and_the_cluster_recovers() {
    let (mut committed, mut led, mut installed) = (0, 0, 0);
    for seed in 0..150 {
        let mut chaos = Chaos::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..1500).for_each(|_| chaos.step());
            chaos.calm();
        }));
        if let Err(panic) = outcome {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
        committed += chaos.network.core(1).commit().0;
        led += chaos.steps_led;
        installed += chaos.network.nodes.values().map(|node| node.installed).sum::<usize>();
    }
    // Disorder in which nothing ever happens would prove nothing.
    assert!(committed > 150 * 10, "only {committed} entries were committed");
    assert!(led > 150 * 50, "only {led} steps had a leader");
    assert!(installed > 15, "only {installed} snapshots were installed");
}

/// Numbers as a confused or hostile node may send them.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..6, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()]
}

fn body() -> impl Strategy<Value = Body> {
    let any_report = || {
        (number(), number(), any::<(Option<u64>, Option<u64>, Option<u64>, bool)>()).prop_map(
            |(round, promise, known)| {
                let (wall, applied, durable_sequence, has_forgotten) = known;
                let (promise, wall, applied) =
                    (Duration::from_millis(promise), wall.map(Stamp), applied.map(Index));
                FollowerReport { round, promise, wall, applied, durable_sequence, has_forgotten }
            },
        )
    };
    let index = || number().prop_map(Index);
    let term = || number().prop_map(Term);
    let entries = prop::collection::vec((number(), number()), 0..3).prop_map(|pairs| {
        pairs
            .into_iter()
            .map(|(index, term)| crate::types::Entry {
                payload: Payload::Noop,
                ..entry(index, term)
            })
            .collect::<Vec<_>>()
    });
    prop_oneof![
        (index(), term())
            .prop_map(|(last_index, last_term)| Body::RequestPreVote { last_index, last_term }),
        (term(), any::<bool>())
            .prop_map(|(campaign_term, granted)| Body::PreVote { campaign_term, granted }),
        (index(), term(), any::<bool>()).prop_map(|(last_index, last_term, is_transfer)| {
            Body::RequestVote { last_index, last_term, is_transfer }
        }),
        Just(Body::TimeoutNow),
        any::<bool>().prop_map(|granted| Body::Vote { granted }),
        (index(), term(), entries, index(), number()).prop_map(
            |(previous_index, previous_term, entries, commit, round)| {
                let append = Append::after(previous_index, previous_term).entries(entries);
                let echo = Echo { wants_promise: round % 2 == 0, ..Echo::of_round(round) };
                append.commit(commit).echo(echo).into()
            }
        ),
        (index(), any_report()).prop_map(|(matched, report)| Body::Appended { matched, report }),
        (index(), term(), number(), number(), number(), 0usize..4).prop_map(
            |(index, term, offset, total_bytes, round, length)| {
                let configuration = super::network::voters(3);
                let meta = Box::new(SnapshotMeta {
                    index,
                    term,
                    stamp: Stamp(0),
                    configuration,
                    digest: None,
                });
                let data = Bytes::from(vec![7; length]);
                let chunk = Chunk { offset, total_bytes, data };
                Body::InstallSnapshot {
                    meta,
                    chunk,
                    echo: Echo { round, wants_promise: round % 2 == 0 },
                }
            }
        ),
        (index(), number(), any_report()).prop_map(|(index, received_bytes, report)| {
            Body::SnapshotProgress { index, received_bytes, report }
        }),
        (index(), index(), term(), any_report()).prop_map(
            |(previous_index, hint_index, hint_term, report)| {
                Body::Rejected { previous_index, hint_index, hint_term, report }
            }
        ),
        index().prop_map(|last_index| Body::Forgot { last_index }),
        (index(), term()).prop_map(|(index, log_term)| Body::CommittedConflict { index, log_term }),
        (number(), any::<bool>())
            .prop_map(|(request, may_lease)| Body::RequestReadIndex { request, may_lease }),
        (number(), prop::option::of(index()))
            .prop_map(|(request, index)| Body::ReadIndex { request, index }),
    ]
}

proptest! {
    /// Strangers, wrong addressees and impossible numbers change nothing that matters, and never
    /// panic.
    #[test]
    fn arbitrary_messages_do_not_panic(
        messages in prop::collection::vec((0u64..9, 0u64..3, number(), body(), 0u64..400), 1..40),
        leads in any::<bool>(),
    ) {
        let mut network = Network::new(3);
        if leads {
            network.campaign(1);
            network.stabilize();
            network.propose(1, "x");
        }
        for (from, to, term, body, milliseconds) in messages {
            let now = Time(network.now.0 + milliseconds * 1_000_000);
            network.now = now;
            let clock = network.clock();
            let core = &mut network.node(1).core;
            let (from, to, term) = (NodeId(from), NodeId(to), Term(term));
            core.handle_message(clock, Message { from, to, term, body });
            core.handle_timeout(clock);
            while let Some(action) = core.poll() {
                if let crate::core::Action::Write(write) = action {
                    let sequence = write.sequence;
                    core.handle_done(clock, crate::core::Done::Written { sequence });
                }
            }
        }
    }
}

#[test]
fn messages_that_make_no_sense_are_counted() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let term = network.core(leader).term();
    let body = || Body::Appended { matched: Index(1), report: report(1) };
    let strange = [
        Message { from: NodeId(9), to: NodeId(leader), term, body: body() },
        Message { from: NodeId(leader), to: NodeId(leader), term, body: body() },
        Message { from: NodeId(0), to: NodeId(leader), term, body: body() },
        Message { from: NodeId(9), to: NodeId(leader), term: Term(u64::MAX), body: body() },
        Message {
            from: NodeId(leader % 3 + 1),
            to: NodeId(leader),
            term,
            body: Body::Appended { matched: Index(99), report: report(1) },
        },
    ];
    let before = network.core(leader).status();
    let count = strange.len() as u64;
    strange.into_iter().for_each(|message| network.deliver(message));
    let after = network.core(leader).status();
    let ignored = after.ignored_messages + after.ignored_terms;
    assert_eq!(ignored, before.ignored_messages + count);
    assert_eq!((after.commit, after.term), (before.commit, before.term));
}
