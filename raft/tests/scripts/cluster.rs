//! Cores, their disks and the messages between them, moved only by a script's commands.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kodiak_raft::core::{
    Action, Config, Core, Done, ElectionTimeout, InstallSnapshot, Lease, ReadChunk, ReadError,
    ReadId, WriteChunk,
};
use kodiak_raft::types::{
    Body, Chunk, Entry, HardState, Index, Message, NodeId, Now, SnapshotMeta, Stamp, Term, Time,
    Write,
};

use super::disk::{Disk, old_entry, voters};
use super::language::{Command, Link, Node, Which};
use super::show::{self, ReadRequests};

/// More messages than any script needs: `stabilize` must end.
const STABILIZE_LIMIT: usize = 10_000;

/// The length of every snapshot's file.
const SNAPSHOT_BYTES: usize = 250;

/// What changes a disk, in its order.
enum Change {
    Write(Write),
    Install(SnapshotMeta),
}

/// One node, up or down.
#[derive(Default)]
pub(super) struct Place {
    core: Option<Core>,
    disk: Disk,
    /// Writes that are not on the disk yet; only a held disk lets them wait.
    writes: VecDeque<Change>,
    is_held: bool,
    /// The snapshot that is being received, and how much of it is here.
    received: Option<(SnapshotMeta, usize)>,
    /// The stamp of the last entry applied.
    stamp: Stamp,
    lives: u64,
    /// Its line, as last printed.
    shown: String,
}

pub(super) struct Cluster {
    pub(super) places: Vec<Place>,
    /// The number of initial members, which are 1 and up; others join.
    initial_members: u64,
    settings: Vec<(String, u64)>,
    has_started: bool,
    millis: u64,
    /// Messages on their way, in the order in which they were sent, each with a number of its own.
    wire: Vec<(u64, Message)>,
    sent: u64,
    cut: Vec<Vec<Node>>,
    /// For `count`: messages and entries by link and kind.
    counts: BTreeMap<(NodeId, NodeId), Counts>,
    /// How many actions the cores have asked for, and how many of these were commit marks.
    actions: (usize, usize),
    read_names: Vec<String>,
    read_requests: ReadRequests,
    leaders: BTreeMap<Term, NodeId>,
    applied: BTreeMap<Index, Entry>,
    /// What the command that runs has printed.
    printed: Vec<String>,
}

/// Messages and their entries, by kind.
type Counts = BTreeMap<&'static str, (usize, usize)>;

pub(super) type Outcome = Result<(), String>;

impl Cluster {
    pub(super) fn new(nodes: u64, settings: &[(String, u64)]) -> Result<Cluster, String> {
        if !(1..=9).contains(&nodes) {
            return Err(format!("a cluster of {nodes} nodes; there may be 1 to 9"));
        }
        config(1, 0, settings)?;
        Ok(Cluster {
            places: (0..nodes).map(|_| Place::default()).collect(),
            initial_members: nodes,
            settings: settings.to_vec(),
            has_started: false,
            millis: 1_000,
            wire: Vec::new(),
            sent: 0,
            cut: Vec::new(),
            counts: BTreeMap::new(),
            actions: (0, 0),
            read_names: Vec::new(),
            read_requests: ReadRequests::default(),
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
            printed: Vec::new(),
        })
    }

    /// Carries out a command; returns what it prints.
    ///
    /// # Errors
    /// If it makes no sense now, or one of Raft's promises is broken.
    pub(super) fn run(&mut self, command: &Command) -> Result<Vec<String>, String> {
        match command {
            Command::Log { node, terms } => self.set_log(*node, terms)?,
            Command::Term { node, term, vote } => self.set_term(*node, *term, *vote)?,
            _ => {
                self.start_nodes()?;
                self.run_after_start(command)?;
            }
        }
        Ok(std::mem::take(&mut self.printed))
    }

    fn run_after_start(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Cluster { .. } | Command::Log { .. } | Command::Term { .. } => {
                Err("this can only come before anything happens, and is quiet".to_owned())
            }
            Command::Timeout { node } => self.time_out(*node),
            Command::Wait { millis } => {
                self.millis += millis;
                Ok(())
            }
            Command::Pass { millis } => self.pass(*millis),
            Command::Propose { node, commands } => self.propose(*node, commands),
            Command::Read { node, name } => self.read(*node, name, Core::read_index),
            Command::LeaseRead { node, name } => self.read(*node, name, Core::lease_read),
            Command::Join { node } => self.join(*node),
            Command::Change { node, changes } => self.change(*node, changes),
            Command::Transfer { node, to } => self.transfer(*node, *to),
            Command::Members => self.members(),
            Command::Deliver { link, which } => {
                self.take(*link, *which)?.into_iter().try_for_each(|m| self.deliver(m))
            }
            Command::Repeat { link, which } => self.repeat(*link, *which),
            Command::Drop { link, which } => {
                for message in self.take(*link, *which)? {
                    self.say_message("lost", &message);
                }
                Ok(())
            }
            Command::Cut { sides } => {
                sides.iter().flatten().try_for_each(|&node| self.place(node).map(|_| ()))?;
                self.cut.clone_from(sides);
                Ok(())
            }
            Command::Heal => {
                self.cut.clear();
                Ok(())
            }
            Command::Hold { node } => {
                self.place(*node)?.is_held = true;
                Ok(())
            }
            Command::Written { node, all } => self.written(*node, *all),
            Command::Release { node } => {
                self.place(*node)?.is_held = false;
                self.carry_out(*node)
            }
            Command::Snapshot { node } => self.take_snapshot(*node),
            Command::Crash { node } => self.crash(*node),
            Command::Restart { node } => self.restart(*node),
            Command::Stabilize => self.stabilize(),
            Command::Status => self.status(),
            Command::Logs => self.logs(),
            Command::Peers { node } => {
                let status = self.core(*node)?.status();
                self.printed.extend(status.peers.iter().map(show::peer));
                Ok(())
            }
            Command::Count => self.count(),
            Command::Elect { node } => {
                self.quietly(|cluster| cluster.time_out(*node).and_then(|()| cluster.stabilize()))
            }
            Command::Quietly { command } => {
                self.quietly(|cluster| cluster.run_after_start(command))
            }
        }
    }

    // Before the start.

    fn set_log(&mut self, node: Node, terms: &[u64]) -> Outcome {
        let disk = self.initial_disk(node)?;
        if !terms.is_sorted() || terms.first() == Some(&0) {
            return Err("a log's terms begin at 1 or more and never fall".to_owned());
        }
        disk.entries = (1..).zip(terms).map(|(index, &term)| old_entry(index, term)).collect();
        let last = Term(terms.last().copied().unwrap_or(0));
        disk.hard_state.term = disk.hard_state.term.max(last);
        Ok(())
    }

    fn set_term(&mut self, node: Node, term: u64, vote: Option<Node>) -> Outcome {
        self.initial_disk(node)?.hard_state =
            HardState { term: Term(term), vote: vote.map(NodeId), ..HardState::default() };
        Ok(())
    }

    fn initial_disk(&mut self, node: Node) -> Result<&mut Disk, String> {
        if self.has_started {
            return Err(
                "what a disk holds at first must be said before anything happens".to_owned()
            );
        }
        self.place(node).map(|place| &mut place.disk)
    }

    /// Starts every node, at the first command that is not about what disks hold.
    fn start_nodes(&mut self) -> Outcome {
        if std::mem::replace(&mut self.has_started, true) {
            return Ok(());
        }
        for node in 1..=self.places.len() as Node {
            let promise = config(node, 1, &self.settings)?.election_timeout.min;
            let hard_state = &mut self.place(node)?.disk.hard_state;
            if hard_state.term > Term(0) {
                hard_state.promise = promise; // Its earlier lives had the same settings.
            }
            self.boot(node)?;
            self.place(node)?.shown = self.line(node);
        }
        Ok(())
    }

    // Nodes.

    fn place(&mut self, node: Node) -> Result<&mut Place, String> {
        let count = self.places.len();
        let position = usize::try_from(node).ok().and_then(|node| node.checked_sub(1));
        let place = position.and_then(|position| self.places.get_mut(position));
        place.ok_or_else(|| format!("there is no node {node}, only 1 to {count}"))
    }

    pub(super) fn core(&mut self, node: Node) -> Result<&mut Core, String> {
        self.place(node)?.core.as_mut().ok_or_else(|| format!("node {node} is down"))
    }

    pub(super) fn now(&self) -> Now {
        Now { monotonic: Time(self.millis * 1_000_000), wall: Stamp(self.millis) }
    }

    pub(super) fn boot(&mut self, node: Node) -> Outcome {
        // A node that joins knows of no member.
        let members = if node <= self.initial_members { self.initial_members } else { 0 };
        let (now, configuration) = (self.now(), voters(members));
        let settings = self.settings.clone();
        let place = self.place(node)?;
        place.lives += 1;
        let config = config(node, place.lives, &settings)?;
        let core = Core::new(config, place.disk.saved(configuration), now)
            .map_err(|error| format!("node {node}: {error}"))?;
        place.core = Some(core);
        Ok(())
    }

    fn crash(&mut self, node: Node) -> Outcome {
        self.core(node)?;
        let place = self.place(node)?;
        place.core = None;
        let unwritten = place.writes.len();
        place.writes.clear();
        place.received = None;
        place.shown = String::new();
        self.say(
            "down",
            format!(
                "{node}, with {}",
                show::many(unwritten, "unfinished write", "unfinished writes")
            ),
        );
        Ok(())
    }

    fn restart(&mut self, node: Node) -> Outcome {
        if self.place(node)?.core.is_some() {
            return Err(format!("node {node} is up"));
        }
        self.boot(node)?;
        self.carry_out(node)
    }

    /// The next timeout of the node's role. That of a commit mark, which scripts do not show, is
    /// passed over.
    fn time_out(&mut self, node: Node) -> Outcome {
        let (actions, marks) = self.actions;
        self.time_out_once(node)?;
        if self.actions == (actions + 1, marks + 1) { self.time_out_once(node) } else { Ok(()) }
    }

    fn time_out_once(&mut self, node: Node) -> Outcome {
        let deadline = self.core(node)?.poll_timeout();
        let deadline = deadline.ok_or_else(|| format!("node {node} waits for no time"))?;
        self.millis = self.millis.max(deadline.0.div_ceil(1_000_000));
        let now = self.now();
        self.core(node)?.handle_timeout(now);
        self.carry_out(node)
    }

    fn pass(&mut self, millis: u64) -> Outcome {
        let end = self.millis + millis;
        for _ in 0..STABILIZE_LIMIT {
            let deadline =
                |place: &Place| Some(place.core.as_ref()?.poll_timeout()?.0.div_ceil(1_000_000));
            let deadlines =
                (1..).zip(&self.places).filter_map(|(node, place)| Some((deadline(place)?, node)));
            match deadlines.min() {
                Some((next, node)) if next <= end => self.time_out_once(node)?,
                _ => {
                    self.millis = end;
                    return Ok(());
                }
            }
            self.stabilize()?;
        }
        Err(format!("{STABILIZE_LIMIT} timeouts in {millis} ms"))
    }

    fn propose(&mut self, node: Node, commands: &[String]) -> Outcome {
        let now = self.now();
        let commands = commands.iter().map(|command| Bytes::from(command.clone().into_bytes()));
        if let Err(refused) = self.core(node)?.propose(now, commands) {
            self.say("refused", format!("{node}: {refused}"));
        }
        self.carry_out(node)
    }

    fn read(
        &mut self,
        node: Node,
        name: &str,
        ask: fn(&mut Core, Now, ReadId) -> Result<(), ReadError>,
    ) -> Outcome {
        let (now, id) = (self.now(), ReadId(self.read_names.len() as u64));
        self.read_names.push(name.to_owned());
        if let Err(refused) = ask(self.core(node)?, now, id) {
            self.say("refused", format!("{node}: read {name}: {refused}"));
        }
        self.carry_out(node)
    }

    fn written(&mut self, node: Node, all: bool) -> Outcome {
        self.core(node)?;
        if self.place(node)?.writes.is_empty() {
            return Err(format!("node {node} has no unfinished write"));
        }
        while let Some(write) = self.place(node)?.writes.pop_front() {
            self.finish(node, write)?;
            if !all {
                break;
            }
        }
        self.carry_out(node)
    }

    fn finish(&mut self, node: Node, change: Change) -> Outcome {
        let now = self.now();
        match change {
            Change::Write(write) => {
                let sequence = write.sequence;
                self.place(node)?.disk.apply(write);
                self.core(node)?.handle_done(now, Done::Written { sequence });
                self.say("written", format!("{node} #{sequence}"));
            }
            Change::Install(meta) => {
                self.say("written", format!("{node} the snapshot {}", show::snapshot(&meta)));
                let index = meta.index;
                self.place(node)?.disk.install(meta);
                self.core(node)?
                    .handle_done(now, Done::SnapshotInstalled { index, is_valid: true });
            }
        }
        Ok(())
    }

    fn take_snapshot(&mut self, node: Node) -> Outcome {
        let (now, stamp) = (self.now(), self.place(node)?.stamp);
        let core = self.core(node)?;
        let applied = core.applied();
        let meta = core
            .take_snapshot(applied, stamp)
            .ok_or_else(|| format!("node {node} needs no snapshot of {applied}"))?;
        self.place(node)?.disk.snapshot = Some(meta);
        self.core(node)?.handle_done(now, Done::SnapshotTaken { index: applied });
        self.carry_out(node)
    }

    /// A piece of a snapshot arrives at the disk; returns how much of it is there.
    fn receive(&mut self, node: Node, meta: SnapshotMeta, chunk: &Chunk) -> Result<u64, String> {
        let received = &mut self.place(node)?.received;
        if received.as_ref().is_none_or(|(known, _)| *known != meta) {
            *received = Some((meta, 0));
        }
        let (_, bytes) = received.as_mut().ok_or("nothing is received")?;
        if chunk.offset == *bytes as u64 {
            *bytes += chunk.data.len();
        }
        Ok(*bytes as u64)
    }

    /// Does what the core asks for, until it asks for nothing more.
    pub(super) fn carry_out(&mut self, node: Node) -> Outcome {
        loop {
            while let Some(action) = self.core(node)?.poll() {
                self.act(node, action)?;
            }
            let place = self.place(node)?;
            if place.is_held {
                break;
            }
            let Some(write) = place.writes.pop_front() else { break };
            self.finish(node, write)?;
        }
        let line = self.line(node);
        if self.place(node)?.shown != line {
            self.place(node)?.shown.clone_from(&line);
            self.say("is", line);
        }
        let core = self.core(node)?;
        let (term, id, is_leader) = (core.term(), core.id(), core.is_leader());
        if is_leader && *self.leaders.entry(term).or_insert(id) != id {
            return Err(format!("broken promise: term {term} has two leaders"));
        }
        Ok(())
    }

    fn act(&mut self, node: Node, action: Action) -> Outcome {
        let now = self.now();
        self.actions.0 += 1;
        match action {
            Action::Send(message) => self.send(message),
            Action::Write(write) => {
                let is_held = self.place(node)?.is_held;
                let waits = if is_held { " (waits)" } else { "" };
                self.say("writes", format!("{node} {}{waits}", show::write(&write)));
                self.place(node)?.writes.push_back(Change::Write(write));
            }
            Action::Fetch(fetch) => {
                let entries = self.place(node)?.disk.read(&fetch);
                self.say("fetches", format!("{node}: {}", show::entries(&entries)));
                self.core(node)?.handle_done(now, Done::Fetched { id: fetch.id, entries });
            }
            Action::Apply(entries) => {
                self.say("applies", format!("{node}: {}", show::entries(&entries)));
                let (index, stamp) = entries
                    .last()
                    .map(|entry| (entry.index, entry.stamp))
                    .ok_or("applies nothing")?;
                self.place(node)?.stamp = stamp;
                for entry in &entries {
                    let first = self.applied.entry(entry.index).or_insert_with(|| entry.clone());
                    if first != entry {
                        return Err(format!(
                            "broken promise: entry {} is applied in two versions",
                            entry.index
                        ));
                    }
                }
                self.core(node)?.handle_done(now, Done::Applied { index });
            }
            Action::Restore(meta) => {
                self.say("applies", format!("{node}: the snapshot {}", show::snapshot(&meta)));
                self.place(node)?.stamp = meta.stamp;
                self.core(node)?.handle_done(now, Done::Applied { index: meta.index });
            }
            Action::Compact { first } => {
                self.say("forgets", format!("{node}: what is before {first}"));
                self.place(node)?.disk.base = first.previous();
            }
            Action::MarkCommit { .. } => self.actions.1 += 1,
            Action::ReadChunk(ReadChunk { id, index, offset, limit_bytes }) => {
                let is_there = self
                    .place(node)?
                    .disk
                    .snapshot
                    .as_ref()
                    .is_some_and(|meta| meta.index == index);
                let length = (SNAPSHOT_BYTES - offset as usize).min(limit_bytes);
                let data = Bytes::from(vec![0; length]);
                let chunk =
                    is_there.then_some(Chunk { offset, total_bytes: SNAPSHOT_BYTES as u64, data });
                self.core(node)?.handle_done(now, Done::ChunkRead { id, chunk });
            }
            Action::WriteChunk(WriteChunk { id, meta, chunk }) => {
                let received_bytes = self.receive(node, *meta, &chunk)?;
                self.core(node)?.handle_done(now, Done::ChunkWritten { id, received_bytes });
            }
            Action::InstallSnapshot(InstallSnapshot { meta, .. }) => {
                self.say("writes", format!("{node} the snapshot {}", show::snapshot(&meta)));
                self.place(node)?.writes.push_back(Change::Install(*meta));
            }
            Action::ReadReady { id, index } => {
                self.say(
                    "reads",
                    format!("{node}: {} once {index} is applied", self.read_names[id.0 as usize]),
                );
            }
            Action::ReadFailed { id } => {
                self.say("reads", format!("{node}: {} fails", self.read_names[id.0 as usize]));
            }
            Action::Event(event) => {
                if let Some(what) = show::event(&event) {
                    self.say("event", format!("{node}: {what}"));
                }
            }
        }
        Ok(())
    }

    // Messages.

    fn send(&mut self, message: Message) {
        let link = (message.from, message.to);
        let (kind, entries) = match &message.body {
            Body::AppendEntries(append) => (show::kind(&message.body), append.entries.len()),
            body => (show::kind(body), 0),
        };
        let count = self.counts.entry(link).or_default().entry(kind).or_default();
        (count.0, count.1) = (count.0 + 1, count.1 + entries);
        let side = |node: NodeId| self.cut.iter().position(|side| side.contains(&node.0));
        if side(link.0) != side(link.1) {
            return self.say_message("lost", &message);
        }
        self.say_message("sends", &message);
        self.sent += 1;
        self.wire.push((self.sent, message));
    }

    /// Takes messages off the wire.
    fn take(&mut self, link: Link, which: Which) -> Result<Vec<Message>, String> {
        let on_link = |message: &Message| link.covers(message.from.0, message.to.0);
        let there: Vec<u64> = self
            .wire
            .iter()
            .filter(|(_, message)| on_link(message))
            .map(|&(number, _)| number)
            .collect();
        let wanted = match which {
            Which::All => there,
            Which::Nth(place) => {
                let number = there.get(place - 1);
                vec![*number.ok_or_else(|| {
                    format!("{} on {link}", show::many(there.len(), "message is", "messages are"))
                })?]
            }
        };
        let (taken, left) = std::mem::take(&mut self.wire)
            .into_iter()
            .partition(|(number, _)| wanted.contains(number));
        self.wire = left;
        let taken: Vec<(u64, Message)> = taken;
        Ok(taken.into_iter().map(|(_, message)| message).collect())
    }

    fn repeat(&mut self, link: Link, which: Which) -> Outcome {
        let before = self.wire.clone();
        let copies = self.take(link, which)?;
        self.wire = before;
        copies.into_iter().try_for_each(|message| self.deliver(message))
    }

    fn deliver(&mut self, message: Message) -> Outcome {
        let (now, to) = (self.now(), message.to.0);
        if self.place(to)?.core.is_none() {
            self.say_message("lost", &message);
            return Ok(());
        }
        self.say_message("arrives", &message);
        self.core(to)?.handle_message(now, message);
        self.carry_out(to)
    }

    fn stabilize(&mut self) -> Outcome {
        for _ in 0..STABILIZE_LIMIT {
            if self.wire.is_empty() {
                return Ok(());
            }
            let (_, message) = self.wire.remove(0);
            self.deliver(message)?;
        }
        Err(format!("after {STABILIZE_LIMIT} messages there are still more"))
    }

    // What is shown.

    pub(super) fn say(&mut self, what: &str, rest: impl AsRef<str>) {
        self.printed.push(format!("{what:<8}{}", rest.as_ref()));
    }

    fn say_message(&mut self, what: &str, message: &Message) {
        let text = show::message(message, &mut self.read_requests);
        self.say(what, text);
    }

    fn line(&mut self, node: Node) -> String {
        match self.core(node) {
            Ok(core) => format!("{node} {}", show::node(core)),
            Err(_) => format!("{node} down"),
        }
    }

    fn status(&mut self) -> Outcome {
        for node in 1..=self.places.len() as Node {
            let line = self.line(node);
            self.say("is", line);
        }
        for (_, message) in self.wire.clone() {
            self.say_message("on wire", &message);
        }
        Ok(())
    }

    /// Prints only the events of what happens, and the last line of each node.
    fn quietly(&mut self, what: impl FnOnce(&mut Cluster) -> Outcome) -> Outcome {
        what(self)?;
        let said = std::mem::take(&mut self.printed);
        let node_of =
            |line: &str| line.strip_prefix("is      ").and_then(|rest| rest.chars().next());
        for (position, line) in said.iter().enumerate() {
            let is_last = node_of(line)
                .is_some_and(|node| said[position + 1..].iter().all(|l| node_of(l) != Some(node)));
            if is_last || line.starts_with("event") {
                self.printed.push(line.clone());
            }
        }
        Ok(())
    }

    /// The terms of every log, on disk or not, and after `|` how far it is committed.
    fn logs(&mut self) -> Outcome {
        let rows: Vec<(Node, Vec<u64>, Index)> = (1..)
            .zip(&self.places)
            .map(|(node, place)| match &place.core {
                Some(core) => (node, show::terms(core.terms()), core.commit()),
                None => (node, show::terms(&place.disk.saved(voters(1)).terms), Index(0)),
            })
            .collect();
        let longest = rows.iter().map(|(_, terms, _)| terms.len()).max().unwrap_or(0);
        let cell =
            |number: &u64| if *number == 0 { "  -".to_owned() } else { format!("{number:>3}") };
        let cells = |numbers: &[u64]| numbers.iter().map(cell).collect::<String>();
        let header: Vec<u64> = (1..=longest as u64).collect();
        self.printed.push(format!("index {}", cells(&header)));
        for (node, terms, commit) in rows {
            let width = longest * 3;
            self.printed.push(format!("{node:<6}{:<width$}  commit {commit}", cells(&terms)));
        }
        Ok(())
    }

    fn count(&mut self) -> Outcome {
        for ((from, to), kinds) in std::mem::take(&mut self.counts) {
            let kinds: Vec<String> = kinds
                .into_iter()
                .map(|(kind, (messages, entries))| match entries {
                    0 => format!("{messages} {kind}"),
                    _ => format!("{messages} {kind} ({})", show::many(entries, "entry", "entries")),
                })
                .collect();
            self.say("sent", format!("{from}->{to} {}", kinds.join(", ")));
        }
        Ok(())
    }
}

/// The settings of a node in its nth life. All nodes wait equally long, so that a script's times
/// are round.
fn config(node: Node, life: u64, settings: &[(String, u64)]) -> Result<Config, String> {
    let mut config = Config::new(NodeId(node));
    config.seed = node * 1_000 + life;
    config.election_timeout =
        ElectionTimeout::new(Duration::from_millis(300), Duration::from_millis(300));
    config.snapshot_chunk_bytes = 100;
    for (name, value) in settings {
        let size = usize::try_from(*value).map_err(|_| format!("{name} is too large"))?;
        match name.as_str() {
            "election-millis" => {
                config.election_timeout = ElectionTimeout::new(
                    Duration::from_millis(*value),
                    Duration::from_millis(*value),
                );
            }
            "heartbeat-millis" => config.heartbeat_interval = Duration::from_millis(*value),
            "message-bytes" => config.message_bytes = size,
            "in-flight-messages" => config.in_flight_messages = size,
            "in-flight-bytes" => config.in_flight_bytes = size,
            "snapshot-chunk-bytes" => config.snapshot_chunk_bytes = size,
            "snapshot-chunks" => config.snapshot_chunks = size,
            "retained-snapshots" => config.retained_snapshots = size,
            "drift-ppm" => {
                let drift_ppm =
                    u32::try_from(*value).map_err(|_| format!("{name} is too large"))?;
                config.lease = Some(Lease::with_drift_ppm(drift_ppm));
            }
            "tail-bytes" => config.tail_bytes = size,
            _ => {
                return Err(format!(
                    "`{name}` is no setting; there are election-millis, heartbeat-millis, \
                     message-bytes, in-flight-messages, in-flight-bytes, snapshot-chunk-bytes, \
                     snapshot-chunks, retained-snapshots, drift-ppm and tail-bytes"
                ));
            }
        }
    }
    config.validate().map_err(|error| error.to_string())?;
    // The scripts show what a stall does, not how long a leader tolerates it.
    config.stall_timeout = Some(config.election_timeout.max);
    Ok(config)
}
