//! Many groups in one process: the cost of 10,000 idle replicas on one timer wheel.
//!
//! A program with many replicas keeps a timer for each in a wheel, set to the replica's
//! `poll_timeout`, and sleeps until the earliest one. Here all three replicas of a group are in one
//! process, and messages are delivered at once. So only the replicas' own work is counted; a real
//! link would batch the messages of all groups between two nodes.

use std::collections::VecDeque;
use std::io::{self, Read};

use bytes::Bytes;
use kodiak_raft::core::{Config, Done};
use kodiak_raft::replica::{
    Committed, Effect, MachineError, MachineHost, MachineRunner, PeerMessage, Query, Replica,
    ReplicaConfig, StateMachine,
};
use kodiak_raft::storage::Job;
use kodiak_raft::types::{
    Configuration, HardState, Member, NodeId, Now, Saved, SnapshotMeta, Stamp, TermTable, Time,
};
use kodiak_timer::{Key, Wheel};

use crate::measure::{Plan, Table};
use crate::sys;

const NODES: usize = 3;
/// The number of replicas, a third of them leaders.
const REPLICAS: usize = 9_999;
/// The wheel's tick. All timers of one tick wake the loop once.
const TICK_NANOS: u64 = 1_000_000;
/// The virtual time that is measured, in seconds.
const SECONDS: u64 = 10;

/// A state machine without state.
struct EmptyMachine;

impl StateMachine for EmptyMachine {
    fn apply(&mut self, _: &Committed<'_>) -> Result<Bytes, MachineError> {
        Ok(Bytes::new())
    }
    fn query(&self, _: &Query<'_>) -> Bytes {
        Bytes::new()
    }
    fn snapshot(&self) -> Box<dyn Read + Send> {
        Box::new(io::empty())
    }
    fn restore(&mut self, _: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }
}

/// Has no snapshots, and none is taken.
struct NoDisk;

impl MachineHost for NoDisk {
    fn open_snapshot(&mut self, _: &SnapshotMeta) -> io::Result<Box<dyn Read + '_>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

struct DrivenReplica {
    replica: Replica,
    machine: MachineRunner<EmptyMachine>,
    timer: Option<Key>,
}

/// All groups; replica `i` is node `i % 3 + 1` of group `i / 3`.
struct Groups {
    replicas: Vec<DrivenReplica>,
    wheel: Wheel<usize>,
    now: Now,
    in_flight: VecDeque<(usize, NodeId, PeerMessage)>,
    timeouts: u64,
    messages: u64,
    wakes: u64,
}

impl Groups {
    fn new() -> Groups {
        let initial_configuration =
            Configuration::of_voters((1..=NODES as u64).map(|id| (NodeId(id), Member::default())));
        let now = Now::default();
        let replicas = (0..REPLICAS).map(|index| {
            let mut config = Config::new(NodeId((index % NODES) as u64 + 1));
            config.seed = index as u64;
            let saved = Saved {
                hard_state: HardState::default(),
                initial_configuration: initial_configuration.clone(),
                snapshot: None,
                configurations: vec![],
                terms: TermTable::new(),
                tail: vec![],
                ..Saved::default()
            };
            let mut replica =
                Replica::new(ReplicaConfig::new(config), saved, now).expect("valid settings");
            let id = replica.core().id();
            for peer in (1..=NODES as u64).map(NodeId).filter(|&peer| peer != id) {
                replica.handle_connected(now, peer);
            }
            DrivenReplica { replica, machine: MachineRunner::new(EmptyMachine), timer: None }
        });
        let replicas = replicas.collect();
        let wheel = Wheel::with_capacity(0, REPLICAS);
        let in_flight = VecDeque::new();
        let mut groups =
            Groups { replicas, wheel, now, in_flight, timeouts: 0, messages: 0, wakes: 0 };
        (0..REPLICAS).for_each(|index| groups.execute_actions(index));
        groups
    }

    /// Advances the time from deadline to deadline until `end`.
    fn run_until(&mut self, end: Time) {
        while let Some(tick) = self.wheel.next_deadline().filter(|&tick| tick * TICK_NANOS <= end.0)
        {
            let tick = tick.max(self.wheel.now());
            self.now = Now { monotonic: Time(tick * TICK_NANOS), wall: Stamp(tick) };
            self.wakes += 1;
            let mut advance = self.wheel.advance(tick, usize::MAX);
            while let Some(index) =
                advance.next(&mut self.wheel).map(kodiak_timer::Expired::into_value)
            {
                self.replicas[index].timer = None;
                self.replicas[index].replica.handle_timeout(self.now);
                self.timeouts += 1;
                self.execute_actions(index);
                self.deliver();
            }
        }
    }

    fn deliver(&mut self) {
        while let Some((index, from, message)) = self.in_flight.pop_front() {
            self.replicas[index].replica.handle_message(self.now, from, message);
            self.messages += 1;
            self.execute_actions(index);
        }
    }

    fn execute_actions(&mut self, index: usize) {
        let (group, id) = (index / NODES * NODES, NodeId((index % NODES) as u64 + 1));
        let DrivenReplica { replica, machine, timer } = &mut self.replicas[index];
        while let Some(effect) = replica.poll() {
            match effect {
                Effect::Machine(job) => {
                    machine.run(job, &mut NoDisk, &mut |done| {
                        replica.handle_machine_done(self.now, done)
                    });
                }
                Effect::Send { to, message } => {
                    self.in_flight.push_back((group + to.0 as usize - 1, id, message))
                }
                Effect::Storage(Job::Write(write)) => {
                    replica.handle_done(self.now, Done::Written { sequence: write.sequence });
                }
                _ => {}
            }
        }
        let deadline = replica.poll_timeout().map(|time| time.0.div_ceil(TICK_NANOS));
        match (*timer, deadline) {
            (Some(key), Some(deadline)) => {
                assert!(self.wheel.reschedule(key, deadline), "the timer is set")
            }
            (None, Some(deadline)) => *timer = Some(self.wheel.insert(deadline, index)),
            (Some(key), None) => {
                self.wheel.cancel(key);
                *timer = None;
            }
            (None, None) => {}
        }
    }
}

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    sys::pin(sys::SERVER_CORE);
    let mut rows: [Vec<f64>; 4] = Default::default();
    for _ in 0..plan.rounds.min(3) {
        let before = sys::resident_bytes(std::process::id())?;
        let mut groups = Groups::new();
        groups.run_until(Time(2_000_000_000));
        let leaders = groups.replicas.iter().filter(|one| one.replica.core().is_leader()).count();
        assert_eq!(leaders, REPLICAS / NODES, "each group has a leader");
        // Only in the first round: later ones reuse its memory.
        if rows[0].is_empty() {
            rows[0]
                .push((sys::resident_bytes(std::process::id())? - before) as f64 / REPLICAS as f64);
        }
        (groups.timeouts, groups.messages, groups.wakes) = (0, 0, 0);
        let begin = sys::thread_nanos();
        groups.run_until(Time((2 + SECONDS) * 1_000_000_000));
        let each = 1.0 / (REPLICAS as u64 * SECONDS) as f64;
        rows[1].push(groups.timeouts as f64 * each);
        rows[2].push(groups.messages as f64 * each);
        rows[3].push((sys::thread_nanos() - begin) as f64 * each / 1_000.0);
    }
    let title = format!(
        "{REPLICAS} idle replicas of {} groups in one process, heartbeats every 50 ms",
        REPLICAS / NODES
    );
    let mut table = Table::new(title, "", &["kodiak"]);
    let names = [
        "memory, bytes for each replica",
        "its timer fires, per second",
        "messages it receives, per second",
        "processor time, µs per second",
    ];
    for (name, row) in names.into_iter().zip(rows) {
        table.absolute_row(name, &[row]);
    }
    table.print();
    Ok(())
}
