//! Ours.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kodiak_raft::core::{Action, Config, Core, Done};
use kodiak_raft::types::{
    Configuration, Entries, HardState, Member, Message, NodeId, Now, Payload, Saved, Stamp, TermTable, Time,
};

use super::{Applied, Cluster, Idle, KEPT_BYTES, NODES};

struct Node {
    core: Core,
    disk: Vec<Entries>,
    disk_bytes: usize,
    applied: Applied,
}

pub(crate) struct Kodiak {
    nodes: [Node; NODES],
    wire: VecDeque<Message>,
    now: Now,
}

impl Kodiak {
    pub(crate) fn new() -> Kodiak {
        let founding = Configuration::of_voters((1..=NODES as u64).map(|id| (NodeId(id), Member::default())));
        let nodes = [1, 2, 3].map(|id| {
            let (hard_state, terms) = (HardState::default(), TermTable::new());
            let saved = Saved {
                hard_state,
                founding: founding.clone(),
                snapshot: None,
                configurations: vec![],
                terms,
                tail: vec![],
                ..Saved::default()
            };
            let mut config = Config::new(NodeId(id));
            config.tail_bytes = KEPT_BYTES;
            let core = Core::new(config, saved, Now::default()).expect("sound settings");
            Node { core, disk: Vec::new(), disk_bytes: 0, applied: Applied::default() }
        });
        let mut cluster = Kodiak { nodes, wire: VecDeque::new(), now: Now::default() };
        cluster.at_deadline(0);
        cluster.settle();
        assert!(cluster.nodes[0].core.is_leader());
        cluster
    }

    /// Node `position` is told that its deadline has come.
    fn at_deadline(&mut self, position: usize) {
        let monotonic = self.nodes[position].core.poll_timeout().expect("it waits for something");
        self.now = Now { monotonic, wall: Stamp(monotonic.0 / 1_000_000) };
        self.nodes[position].core.handle_timeout(self.now);
        self.carry_out(position);
    }

    fn settle(&mut self) {
        while let Some(message) = self.wire.pop_front() {
            let position = message.to.0 as usize - 1;
            self.nodes[position].core.handle_message(self.now, message);
            // What has arrived for this node meanwhile is one step.
            while let Some(message) = self.wire.pop_front_if(|next| next.to.0 as usize - 1 == position) {
                self.nodes[position].core.handle_message(self.now, message);
            }
            self.carry_out(position);
        }
    }

    fn carry_out(&mut self, position: usize) {
        let node = &mut self.nodes[position];
        while let Some(action) = node.core.poll() {
            match action {
                Action::Send(message) => self.wire.push_back(message),
                Action::Write(write) => {
                    node.disk_bytes += write.entries.size_bytes();
                    node.disk.push(write.entries);
                    if node.disk_bytes > KEPT_BYTES {
                        node.disk.clear();
                        node.disk_bytes = 0;
                    }
                    node.core.handle_done(self.now, Done::Written { sequence: write.sequence });
                }
                Action::Apply(entries) => {
                    for entry in &entries {
                        if let Payload::Command(command) = &entry.payload {
                            node.applied.apply(command);
                        }
                    }
                    let index = entries.last().expect("something is applied").index;
                    node.core.handle_done(self.now, Done::Applied { index });
                }
                _ => {}
            }
        }
    }
}

impl Cluster for Kodiak {
    fn commit(&mut self, commands: Vec<Vec<u8>>) {
        let commands = commands.into_iter().map(Bytes::from);
        self.nodes[0].core.propose(self.now, commands).expect("the leader takes them");
        self.carry_out(0);
        self.settle();
    }

    fn applied(&self) -> [usize; NODES] {
        self.nodes.each_ref().map(|node| node.applied.commands)
    }
}

pub(crate) struct IdleKodiak(Vec<Kodiak>);

impl IdleKodiak {
    pub(crate) fn new(groups: usize) -> IdleKodiak {
        IdleKodiak((0..groups).map(|_| Kodiak::new()).collect())
    }
}

impl Idle for IdleKodiak {
    fn beat(&mut self) {
        for group in &mut self.0 {
            let before = group.now.monotonic;
            group.at_deadline(0);
            group.settle();
            assert!(group.now.monotonic <= before.after(Duration::from_millis(50)), "{:?}", Time(0));
        }
    }

    /// A follower does nothing until it is told something or its deadline comes.
    fn follower_tick(&mut self) -> Option<()> {
        None
    }
}
