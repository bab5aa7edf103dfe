//! The network: which nodes can reach each other, and with which delay.
//!
//! Raft's own messages are treated worse than TCP would treat them: lost, repeated, reordered, or
//! delivered after a restart of the receiver. Forwarded commands and their answers are delivered
//! like over a real connection: in order and once, until the connection breaks, which both ends
//! learn.

use std::time::Duration;

use super::fault_counters::{FaultCounter, FaultCounters};
use super::options::NetworkPlan;
use super::random::{DurationRange, Random};
use crate::types::Time;

/// The network. See the module.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) plan: NetworkPlan,
    nodes: usize,
    /// `cut[from * nodes + to]`.
    cut: Vec<bool>,
    /// The additional delay of messages, by directed pair.
    extra_delay: Vec<Duration>,
    /// The latest arrival of a message so far, by directed pair.
    last_arrival: Vec<Time>,
    /// Connections, by pair; only `from < to` is used.
    connections: Vec<Connection>,
    /// The latest arrival of an ordered message, by directed pair.
    ordered_until: Vec<Time>,
    pub(super) fault_counters: FaultCounters,
}

#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    /// The number of connections so far between the two.
    number: u64,
    is_up: bool,
    /// A message on it was lost, so it will break.
    has_gap: bool,
}

/// The delivery of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It arrives at this time, and perhaps again.
    Arrives { first: Time, repeated: Option<Time> },
    /// It is lost.
    Lost,
    /// It is lost, and the connection breaks at this time.
    Breaks(Time),
}

impl Network {
    pub(super) fn new(nodes: usize, plan: NetworkPlan) -> Network {
        let pairs = nodes * nodes;
        Network {
            plan,
            nodes,
            cut: vec![false; pairs],
            extra_delay: vec![Duration::ZERO; pairs],
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

    pub(super) fn cut_link(&mut self, from: usize, to: usize) {
        self.set_cut(from, to, true);
    }

    /// Cuts a directed link, or restores it.
    pub(super) fn set_cut(&mut self, from: usize, to: usize, cut: bool) {
        let pair = self.pair(from, to);
        self.cut[pair] = cut;
    }

    /// Adds a delay to all later messages of a directed pair.
    pub(super) fn delay_link(&mut self, from: usize, to: usize, delay: Duration) {
        let pair = self.pair(from, to);
        self.extra_delay[pair] = delay;
    }

    pub(super) fn is_delayed(&self, from: usize, to: usize) -> bool {
        !self.extra_delay[self.pair(from, to)].is_zero()
    }

    pub(super) fn heal(&mut self) {
        self.cut.fill(false);
        self.extra_delay.fill(Duration::ZERO);
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
        self.connections[link] = Connection { number, is_up: true, has_gap: false };
    }

    pub(super) fn disconnect(&mut self, a: usize, b: usize) {
        let link = self.link(a, b);
        self.connections[link].is_up = false;
    }

    /// The delivery of a message between cores.
    pub(super) fn datagram(
        &mut self,
        now: Time,
        from: usize,
        to: usize,
        random: &mut Random,
    ) -> Delivery {
        let pair = self.pair(from, to);
        if self.cut[pair] {
            self.fault_counters.count(FaultCounter::Cut);
            return Delivery::Lost;
        }
        if random.chance(self.plan.loss) {
            self.fault_counters.count(FaultCounter::Lost);
            return Delivery::Lost;
        }
        let straggles = random.chance(self.plan.straggling);
        let delay = if straggles {
            random.duration(Duration::ZERO, self.plan.straggles)
        } else {
            self.delay(random)
        };
        let first = now.after(delay + self.extra_delay[pair]);
        let repeated =
            random.chance(self.plan.duplication).then(|| now.after(self.delay(random) * 3));
        let is_counted = [
            (straggles, FaultCounter::Straggled),
            (repeated.is_some(), FaultCounter::Repeated),
            (!self.extra_delay[pair].is_zero(), FaultCounter::Delayed),
            (first < self.last_arrival[pair], FaultCounter::Overtaken),
        ];
        is_counted
            .into_iter()
            .filter(|(is_counted, _)| *is_counted)
            .for_each(|(_, counter)| self.fault_counters.count(counter));
        self.last_arrival[pair] = first.max(self.last_arrival[pair]);
        Delivery::Arrives { first, repeated }
    }

    /// The delivery of a message over a connection.
    pub(super) fn on_connection(
        &mut self,
        now: Time,
        from: usize,
        to: usize,
        random: &mut Random,
    ) -> Delivery {
        let (pair, link) = (self.pair(from, to), self.link(from, to));
        let connection = self.connections[link];
        if !connection.is_up || connection.has_gap {
            return Delivery::Lost;
        }
        if self.cut[pair] || random.chance(self.plan.loss / 20) {
            self.connections[link].has_gap = true;
            return Delivery::Breaks(now.after(self.delay(random) * 4));
        }
        let arrival =
            now.after(self.delay(random) + self.extra_delay[pair]).max(self.ordered_until[pair]);
        self.ordered_until[pair] = arrival;
        Delivery::Arrives { first: arrival, repeated: None }
    }

    /// Mostly short, sometimes as long as the plan allows.
    fn delay(&self, random: &mut Random) -> Duration {
        let DurationRange { min: low, max: high } = self.plan.delay;
        if random.chance(8_000) {
            random.duration(low, low * 10).min(high)
        } else {
            random.duration(low, high)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_connection_keep_their_order() {
        let mut random = Random::new(1);
        let delay = DurationRange::new(Duration::from_micros(1), Duration::from_millis(50));
        let mut network = Network::new(2, NetworkPlan { delay, ..NetworkPlan::without_faults() });
        assert_eq!(network.on_connection(Time(0), 0, 1, &mut random), Delivery::Lost);
        network.connect(0, 1);
        let mut last = Time(0);
        for at in 0..500 {
            match network.on_connection(Time(at), 0, 1, &mut random) {
                Delivery::Arrives { first: time, repeated: None } => {
                    assert!(time >= last);
                    last = time;
                }
                delivery => panic!("{delivery:?}"),
            }
        }
        network.cut_link(0, 1);
        assert!(matches!(network.on_connection(Time(500), 0, 1, &mut random), Delivery::Breaks(_)));
        network.heal();
        assert_eq!(
            network.on_connection(Time(501), 0, 1, &mut random),
            Delivery::Lost,
            "a connection with a lost message never recovers"
        );
        assert!(matches!(network.on_connection(Time(501), 1, 0, &mut random), Delivery::Lost));
    }
}
