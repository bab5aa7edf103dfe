//! Who can hear whom, and how late.
//!
//! Raft's own messages are treated worse than TCP would treat them: lost, repeated, reordered,
//! arriving in the next life of a process. Forwarded commands and their answers travel as the
//! node's connections carry them: in order, once, and either all of them arrive or the connection
//! breaks and both ends are told.

use std::time::Duration;

use super::fault_counters::{FaultCounter, FaultCounters};
use super::options::NetworkPlan;
use super::random::Random;
use crate::types::Time;

/// See the module.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) plan: NetworkPlan,
    nodes: usize,
    /// `cut[from * nodes + to]`.
    cut: Vec<bool>,
    /// How much later than usual messages arrive, by directed pair.
    held_up: Vec<Duration>,
    /// When the last message so far arrives, by directed pair.
    last_arrival: Vec<Time>,
    /// Connections, under both of their ends' places; only `from < to` is used.
    connections: Vec<Connection>,
    /// When the last thing that must keep its order arrives, by directed pair.
    ordered_until: Vec<Time>,
    pub(super) fault_counters: FaultCounters,
}

#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    /// Counts the connections there have been between the two.
    number: u64,
    is_up: bool,
    /// Something on it was lost: it will be noticed to be broken.
    is_doomed: bool,
}

/// What the network makes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives at these times.
    Arrives(Time, Option<Time>),
    /// It does not.
    Lost,
    /// It does not, and the connection breaks at this time.
    Breaks(Time),
}

impl Network {
    pub(super) fn new(nodes: usize, plan: NetworkPlan) -> Network {
        let pairs = nodes * nodes;
        Network {
            plan,
            nodes,
            cut: vec![false; pairs],
            held_up: vec![Duration::ZERO; pairs],
            last_arrival: vec![Time(0); pairs],
            connections: vec![Connection::default(); pairs],
            ordered_until: vec![Time(0); pairs],
            fault_counters: FaultCounters::default(),
        }
    }

    fn pair(&self, from: usize, to: usize) -> usize {
        from * self.nodes + to
    }

    fn link(&self, a: usize, b: usize) -> usize {
        self.pair(a.min(b), a.max(b))
    }

    pub(super) fn set_cut(&mut self, from: usize, to: usize, cut: bool) {
        let pair = self.pair(from, to);
        self.cut[pair] = cut;
    }

    /// From now on messages take so much longer.
    pub(super) fn hold_up(&mut self, from: usize, to: usize, delay: Duration) {
        let pair = self.pair(from, to);
        self.held_up[pair] = delay;
    }

    pub(super) fn is_held_up(&self, from: usize, to: usize) -> bool {
        !self.held_up[self.pair(from, to)].is_zero()
    }

    pub(super) fn heal(&mut self) {
        self.cut.fill(false);
        self.held_up.fill(Duration::ZERO);
    }

    /// Whether neither direction is cut.
    pub(super) fn can_connect(&self, a: usize, b: usize) -> bool {
        !self.cut[self.pair(a, b)] && !self.cut[self.pair(b, a)]
    }

    pub(super) fn is_up(&self, a: usize, b: usize) -> bool {
        self.connections[self.link(a, b)].is_up
    }

    /// The number of the latest connection between two nodes.
    pub(super) fn connection(&self, a: usize, b: usize) -> u64 {
        self.connections[self.link(a, b)].number
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        let link = self.link(a, b);
        let number = self.connections[link].number + 1;
        self.connections[link] = Connection { number, is_up: true, is_doomed: false };
    }

    pub(super) fn disconnect(&mut self, a: usize, b: usize) {
        let link = self.link(a, b);
        self.connections[link].is_up = false;
    }

    /// What becomes of a message between cores.
    pub(super) fn datagram(
        &mut self,
        now: Time,
        from: usize,
        to: usize,
        random: &mut Random,
    ) -> Fate {
        let pair = self.pair(from, to);
        if self.cut[pair] {
            self.fault_counters.count(FaultCounter::Cut);
            return Fate::Lost;
        }
        if random.chance(self.plan.loss) {
            self.fault_counters.count(FaultCounter::Lost);
            return Fate::Lost;
        }
        let straggles = random.chance(self.plan.straggling);
        let delay = if straggles {
            random.duration((Duration::ZERO, self.plan.straggles))
        } else {
            self.delay(random)
        };
        let first = now.after(delay + self.held_up[pair]);
        let second =
            random.chance(self.plan.duplication).then(|| now.after(self.delay(random) * 3));
        let happened = [
            (straggles, FaultCounter::Straggled),
            (second.is_some(), FaultCounter::Repeated),
            (!self.held_up[pair].is_zero(), FaultCounter::HeldUp),
            (first < self.last_arrival[pair], FaultCounter::Overtaken),
        ];
        happened
            .into_iter()
            .filter(|(happened, _)| *happened)
            .for_each(|(_, counter)| self.fault_counters.count(counter));
        self.last_arrival[pair] = first.max(self.last_arrival[pair]);
        Fate::Arrives(first, second)
    }

    /// What becomes of something that a connection carries.
    pub(super) fn on_connection(
        &mut self,
        now: Time,
        from: usize,
        to: usize,
        random: &mut Random,
    ) -> Fate {
        let (pair, link) = (self.pair(from, to), self.link(from, to));
        let connection = self.connections[link];
        if !connection.is_up || connection.is_doomed {
            return Fate::Lost;
        }
        if self.cut[pair] || random.chance(self.plan.loss / 20) {
            self.connections[link].is_doomed = true;
            return Fate::Breaks(now.after(self.delay(random) * 4));
        }
        let arrival =
            now.after(self.delay(random) + self.held_up[pair]).max(self.ordered_until[pair]);
        self.ordered_until[pair] = arrival;
        Fate::Arrives(arrival, None)
    }

    /// Mostly short, sometimes as long as the plan allows.
    fn delay(&self, random: &mut Random) -> Duration {
        let (low, high) = self.plan.delay;
        if random.chance(8_000) {
            random.duration((low, low * 10)).min(high)
        } else {
            random.duration((low, high))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_carries_keeps_its_order() {
        let mut random = Random::new(1);
        let delay = (Duration::from_micros(1), Duration::from_millis(50));
        let mut network = Network::new(2, NetworkPlan { delay, ..NetworkPlan::calm() });
        assert_eq!(network.on_connection(Time(0), 0, 1, &mut random), Fate::Lost);
        network.connect(0, 1);
        let mut last = Time(0);
        for at in 0..500 {
            match network.on_connection(Time(at), 0, 1, &mut random) {
                Fate::Arrives(time, None) => {
                    assert!(time >= last);
                    last = time;
                }
                fate => panic!("{fate:?}"),
            }
        }
        network.set_cut(0, 1, true);
        assert!(matches!(network.on_connection(Time(500), 0, 1, &mut random), Fate::Breaks(_)));
        network.heal();
        assert_eq!(
            network.on_connection(Time(501), 0, 1, &mut random),
            Fate::Lost,
            "a gap cannot be mended"
        );
        assert!(matches!(network.on_connection(Time(501), 1, 0, &mut random), Fate::Lost));
    }
}
