//! Kodiak's core.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kodiak_raft::core::{Action, Config, Core, Done};
use kodiak_raft::types::{
    Configuration, Entries, HardState, Member, Message, NodeId, Now, Payload, Saved, Stamp,
    TermTable, Time,
};

use super::{Applied, Cluster, IdleGroups, MAX_STORED_BYTES, NODES};

struct Node {
    core: Core,
    disk: Vec<Entries>,
    disk_bytes: usize,
    applied: Applied,
}

pub(crate) struct Kodiak {
    nodes: [Node; NODES],
    in_flight: VecDeque<Message>,
    now: Now,
}

impl Kodiak {
    pub(crate) fn new() -> Kodiak {
        let initial_configuration =
            Configuration::of_voters((1..=NODES as u64).map(|id| (NodeId(id), Member::default())));
        let nodes = [1, 2, 3].map(|id| {
            let (hard_state, terms) = (HardState::default(), TermTable::new());
            let saved = Saved {
                hard_state,
                initial_configuration: initial_configuration.clone(),
                snapshot: None,
                configurations: vec![],
                terms,
                tail: vec![],
                ..Saved::default()
            };
            let mut config = Config::new(NodeId(id));
            config.tail_bytes = MAX_STORED_BYTES;
            let core = Core::new(config, saved, Now::default()).expect("valid settings");
            Node { core, disk: Vec::new(), disk_bytes: 0, applied: Applied::default() }
        });
        let mut cluster = Kodiak { nodes, in_flight: VecDeque::new(), now: Now::default() };
        cluster.handle_deadline(0);
        cluster.run_until_quiet();
        assert!(cluster.nodes[0].core.is_leader());
        cluster
    }

    /// Advances the time to the deadline of node `index`.
    fn handle_deadline(&mut self, index: usize) {
        let monotonic = self.nodes[index].core.poll_timeout().expect("it has a deadline");
        self.now = Now { monotonic, wall: Stamp(monotonic.0 / 1_000_000) };
        self.nodes[index].core.handle_timeout(self.now);
        self.execute_actions(index);
    }

    fn run_until_quiet(&mut self) {
        while let Some(message) = self.in_flight.pop_front() {
            let index = message.to.0 as usize - 1;
            self.nodes[index].core.handle_message(self.now, message);
            // Further messages to this node are handled before its actions.
            while let Some(message) =
                self.in_flight.pop_front_if(|next| next.to.0 as usize - 1 == index)
            {
                self.nodes[index].core.handle_message(self.now, message);
            }
            self.execute_actions(index);
        }
    }

    fn execute_actions(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        while let Some(action) = node.core.poll() {
            match action {
                Action::Send(message) => self.in_flight.push_back(message),
                Action::Write(write) => {
                    node.disk_bytes += write.entries.size_bytes();
                    node.disk.push(write.entries);
                    if node.disk_bytes > MAX_STORED_BYTES {
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
                    let last = entries.last().expect("something is applied").index;
                    node.core.handle_done(self.now, Done::Applied { index: last });
                }
                _ => {}
            }
        }
    }
}

impl Cluster for Kodiak {
    fn commit(&mut self, commands: Vec<Vec<u8>>) {
        let commands = commands.into_iter().map(Bytes::from);
        self.nodes[0].core.propose(self.now, commands).expect("the leader accepts them");
        self.execute_actions(0);
        self.run_until_quiet();
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

impl IdleGroups for IdleKodiak {
    fn heartbeat_round(&mut self) {
        for group in &mut self.0 {
            let before = group.now.monotonic;
            group.handle_deadline(0);
            group.run_until_quiet();
            assert!(
                group.now.monotonic <= before.after(Duration::from_millis(50)),
                "{:?}",
                Time(0)
            );
        }
    }

    /// A follower does nothing until a message arrives or its deadline passes.
    fn follower_tick(&mut self) -> Option<()> {
        None
    }
}
