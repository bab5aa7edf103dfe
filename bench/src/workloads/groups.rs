//! Many groups in one process: 10,000 replicas on one timer wheel, and what each costs while nothing happens.
//!
//! A replica is a value: whoever drives many keeps one timer for each in a wheel, set to its `poll_timeout`, and wakes for the
//! earliest. Here all three replicas of each group are in the process and messages are handed over at once, so what is
//! counted is the replicas' own work; a link would batch the messages of all groups between two nodes.

use std::collections::VecDeque;
use std::io::{self, Read};

use bytes::Bytes;
use kodiak_raft::core::{Config, Done};
use kodiak_raft::replica::{
    Committed, Effect, MachineError, MachineHost, MachineRunner, PeerMessage, Query, Replica, ReplicaConfig,
    StateMachine,
};
use kodiak_raft::storage::Job;
use kodiak_raft::types::{Configuration, HardState, Member, NodeId, Now, Saved, SnapshotMeta, Stamp, TermTable, Time};
use kodiak_timer::{Key, Wheel};

use crate::measure::{Plan, Table};
use crate::sys;

const NODES: usize = 3;
/// Replicas: a third of them lead.
const REPLICAS: usize = 9_999;
/// Of the wheel; what is due in the same tick wakes the loop once.
const TICK_NANOS: u64 = 1_000_000;
/// Of virtual time, that is measured.
const SECONDS: u64 = 10;

/// Nothing.
struct Blank;

impl StateMachine for Blank {
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

/// No snapshot is ever taken.
struct NoDisk;

impl MachineHost for NoDisk {
    fn open_snapshot(&mut self, _: &SnapshotMeta) -> io::Result<Box<dyn Read + '_>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

struct Driven {
    replica: Replica,
    machine: MachineRunner<Blank>,
    timer: Option<Key>,
}

/// All groups; replica `i` is node `i % 3 + 1` of group `i / 3`.
struct Crowd {
    members: Vec<Driven>,
    wheel: Wheel<usize>,
    now: Now,
    wire: VecDeque<(usize, NodeId, PeerMessage)>,
    timeouts: u64,
    messages: u64,
    wakes: u64,
}

impl Crowd {
    fn new() -> Crowd {
        let founding = Configuration::of_voters((1..=NODES as u64).map(|id| (NodeId(id), Member::default())));
        let now = Now::default();
        let members = (0..REPLICAS).map(|place| {
            let mut config = Config::new(NodeId((place % NODES) as u64 + 1));
            config.seed = place as u64;
            let saved = Saved {
                hard_state: HardState::default(),
                founding: founding.clone(),
                snapshot: None,
                configurations: vec![],
                terms: TermTable::new(),
                tail: vec![],
                ..Saved::default()
            };
            let mut replica = Replica::new(ReplicaConfig::new(config), saved, now).expect("sound settings");
            let id = replica.core().id();
            for peer in (1..=NODES as u64).map(NodeId).filter(|&peer| peer != id) {
                replica.handle_connected(now, peer);
            }
            Driven { replica, machine: MachineRunner::new(Blank), timer: None }
        });
        let members = members.collect();
        let wheel = Wheel::with_capacity(0, REPLICAS);
        let wire = VecDeque::new();
        let mut crowd = Crowd { members, wheel, now, wire, timeouts: 0, messages: 0, wakes: 0 };
        (0..REPLICAS).for_each(|place| crowd.carry_out(place));
        crowd
    }

    /// Sleeps from deadline to deadline until `end`.
    fn run_until(&mut self, end: Time) {
        while let Some(tick) = self.wheel.next_deadline().filter(|&tick| tick * TICK_NANOS <= end.0) {
            let tick = tick.max(self.wheel.now());
            self.now = Now { monotonic: Time(tick * TICK_NANOS), wall: Stamp(tick) };
            self.wakes += 1;
            let mut advance = self.wheel.advance(tick, usize::MAX);
            while let Some(place) = advance.next(&mut self.wheel).map(kodiak_timer::Expired::into_value) {
                self.members[place].timer = None;
                self.members[place].replica.handle_timeout(self.now);
                self.timeouts += 1;
                self.carry_out(place);
                self.deliver();
            }
        }
    }

    fn deliver(&mut self) {
        while let Some((place, from, message)) = self.wire.pop_front() {
            self.members[place].replica.handle_message(self.now, from, message);
            self.messages += 1;
            self.carry_out(place);
        }
    }

    fn carry_out(&mut self, place: usize) {
        let (group, id) = (place / NODES * NODES, NodeId((place % NODES) as u64 + 1));
        let Driven { replica, machine, timer } = &mut self.members[place];
        while let Some(effect) = replica.poll() {
            match effect {
                Effect::Machine(job) => {
                    machine.run(job, &mut NoDisk, &mut |done| replica.handle_machine_done(self.now, done));
                }
                Effect::Send { to, message } => self.wire.push_back((group + to.0 as usize - 1, id, message)),
                Effect::Storage(Job::Write(write)) => {
                    replica.handle_done(self.now, Done::Written { sequence: write.sequence });
                }
                _ => {}
            }
        }
        let deadline = replica.poll_timeout().map(|time| time.0.div_ceil(TICK_NANOS));
        match (*timer, deadline) {
            (Some(key), Some(deadline)) => assert!(self.wheel.reschedule(key, deadline), "a timer that is set"),
            (None, Some(deadline)) => *timer = Some(self.wheel.insert(deadline, place)),
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
        let mut crowd = Crowd::new();
        crowd.run_until(Time(2_000_000_000));
        let leaders = crowd.members.iter().filter(|member| member.replica.core().is_leader()).count();
        assert_eq!(leaders, REPLICAS / NODES, "each group has a leader");
        // Once: the next round is given the memory that this one leaves.
        if rows[0].is_empty() {
            rows[0].push((sys::resident_bytes(std::process::id())? - before) as f64 / REPLICAS as f64);
        }
        (crowd.timeouts, crowd.messages, crowd.wakes) = (0, 0, 0);
        let begin = sys::thread_nanos();
        crowd.run_until(Time((2 + SECONDS) * 1_000_000_000));
        let each = 1.0 / (REPLICAS as u64 * SECONDS) as f64;
        rows[1].push(crowd.timeouts as f64 * each);
        rows[2].push(crowd.messages as f64 * each);
        rows[3].push((sys::thread_nanos() - begin) as f64 * each / 1_000.0);
    }
    let title =
        format!("{REPLICAS} idle replicas of {} groups in one process, heartbeats every 50 ms", REPLICAS / NODES);
    let mut table = Table::new(title, "", &["kodiak"]);
    let names = [
        "memory, bytes a replica",
        "its timer fires, times a second",
        "messages it gets a second",
        "processor time, µs a second",
    ];
    for (name, row) in names.into_iter().zip(rows) {
        table.plain_row(name, &[row]);
    }
    table.print();
    Ok(())
}
