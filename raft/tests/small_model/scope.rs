//! The bounds of an exploration, and how its wire behaves.

/// How messages may be overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Those from one node to another arrive in the order in which they were sent, except those
    /// that are lost.
    Links,
    /// Any message may arrive at any time after it was sent, or never.
    Any,
}

/// When writes are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disks {
    /// In the step in which they were asked for.
    Quick,
    /// At any later time, one after the other, or never before a crash.
    Slow,
}

/// Which nodes want leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leases {
    None,
    /// The first and the third node at first; each restart changes the node's setting.
    Mixed,
}

/// The bounds of an exploration of three nodes. Everything that fits into them happens, in every
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Election timeouts, of any node.
    pub(crate) elections: u8,
    /// Commands proposed, to any node that considers itself leader. (Each election won adds an
    /// entry of its own.)
    pub(crate) commands: u8,
    /// Crashes, each with a restart. Of the writes that are under way any number, from the first,
    /// may be on the disk.
    pub(crate) crashes: u8,
    /// Changes of the voters, by any node that considers itself leader, as far as the core takes
    /// them.
    pub(crate) changes: u8,
    /// Transfers of leadership, to any node.
    pub(crate) transfers: u8,
    /// How many of the three nodes, the last ones, are learners at first.
    pub(crate) learners: u8,
    /// Messages that arrive a second time.
    pub(crate) duplicates: u8,
    /// Disks that are put back to what they were at first, each of another node than the leader,
    /// which meets it.
    pub(crate) forgets: u8,
    pub(crate) leases: Leases,
    /// Messages on their way from one node to another at a time; when there is one more, the oldest
    /// is lost.
    pub(crate) in_flight: usize,
    /// The most bytes of entries in a message; 1 means one entry each.
    pub(crate) message_bytes: usize,
    /// The terms of the entries that each node's disk holds at first, up to the first 0. All are in
    /// the greatest term of all.
    pub(crate) logs: [[u8; 4]; 3],
    pub(crate) order: Order,
    pub(crate) disks: Disks,
    /// Whether what a node promises is compared with its disk at once; without it, broken promises
    /// must show in what they lead to.
    pub(crate) checks_promises: bool,
}

/// A small one: one election, at most two messages on each link, in any order.
pub(crate) const SMALL: Scope = Scope {
    elections: 1,
    commands: 0,
    crashes: 0,
    changes: 0,
    transfers: 0,
    learners: 0,
    duplicates: 0,
    forgets: 0,
    leases: Leases::None,
    in_flight: 2,
    message_bytes: 1 << 20,
    logs: [[0; 4]; 3],
    order: Order::Any,
    disks: Disks::Slow,
    checks_promises: true,
};

/// Two more that are explored in a moment: a node that forgets and the fence behind which it comes
/// back; nodes that differ in whether they want leases, and change that.
pub(crate) const FURTHER: [(&str, &str); 2] = [
    ("one that forgets", "elections=1 forgets=1 in-flight=1 disks=quick order=links"),
    ("mixed leases", "elections=1 crashes=1 leases=mixed in-flight=1 disks=quick order=links"),
];

/// What takes minutes in a release build: two elections and three entries (each election's no-op
/// and a command), slow disks, a crash, changes of the voters, a transfer.
pub(crate) const LARGE: [&str; 7] = [
    "elections=2 forgets=1 in-flight=1 disks=quick order=links",
    "elections=2 crashes=1 leases=mixed in-flight=1 disks=quick order=links",
    "elections=2 order=links disks=quick",
    "elections=2 commands=1 in-flight=1 disks=quick",
    "commands=1 crashes=1 in-flight=1",
    "elections=2 changes=1 learners=1 in-flight=1 disks=quick",
    "changes=2 transfers=1 learners=1 in-flight=1 disks=quick order=links",
];

impl Scope {
    /// Whether all nodes are alike at first.
    pub(crate) fn is_symmetric(&self) -> bool {
        let is_same = self.logs[0] == self.logs[1] && self.logs[1] == self.logs[2];
        let has_names = self.learners > 0 || self.changes > 0 || self.transfers > 0;
        is_same && !has_names && self.leases == Leases::None
    }

    /// `SMALL`, changed by words such as `elections=2 commands=1 order=links disks=quick`.
    ///
    /// # Errors
    /// Names the word that makes no sense.
    pub(crate) fn parse(words: &str) -> Result<Scope, String> {
        let mut scope = SMALL;
        for word in words.split_whitespace() {
            let (name, value) =
                word.split_once('=').ok_or_else(|| format!("`{word}` should be NAME=VALUE"))?;
            let number = || {
                value
                    .parse::<u8>()
                    .map_err(|_| format!("`{word}` should have a number from 0 to 255"))
            };
            match (name, value) {
                ("elections", _) => scope.elections = number()?,
                ("commands", _) => scope.commands = number()?,
                ("crashes", _) => scope.crashes = number()?,
                ("changes", _) => scope.changes = number()?,
                ("transfers", _) => scope.transfers = number()?,
                ("learners", _) => scope.learners = number()?.min(2),
                ("duplicates", _) => scope.duplicates = number()?,
                ("forgets", _) => scope.forgets = number()?,
                ("leases", "mixed") => scope.leases = Leases::Mixed,
                ("leases", "none") => scope.leases = Leases::None,
                ("in-flight", _) => scope.in_flight = number()?.max(1).into(),
                ("message-bytes", _) => scope.message_bytes = number()?.max(1).into(),
                ("logs", terms) => scope.logs = logs(terms)?,
                ("order", "links") => scope.order = Order::Links,
                ("order", "any") => scope.order = Order::Any,
                ("disks", "quick") => scope.disks = Disks::Quick,
                ("disks", "slow") => scope.disks = Disks::Slow,
                _ => {
                    return Err(format!(
                        "`{word}` is none of elections=N commands=N crashes=N changes=N \
                         transfers=N learners=N duplicates=N forgets=N leases=mixed|none \
                         in-flight=N message-bytes=N logs=12/1/3 order=links|any disks=quick|slow"
                    ));
                }
            }
        }
        Ok(scope)
    }
}

/// Understands `12/1/`: the first node has entries of terms 1 and 2, the second one of term 1, the
/// third none.
fn logs(words: &str) -> Result<[[u8; 4]; 3], String> {
    let wrong = || {
        format!("`{words}` should be three logs of at most four terms from 1 to 9, as in `12/1/`")
    };
    let mut logs = [[0; 4]; 3];
    let given: Vec<&str> = words.split('/').collect();
    if given.len() != logs.len() {
        return Err(wrong());
    }
    for (log, terms) in logs.iter_mut().zip(given) {
        if terms.len() > log.len()
            || !terms.bytes().all(|term| (b'1'..=b'9').contains(&term))
            || !terms.bytes().is_sorted()
        {
            return Err(wrong());
        }
        log.iter_mut().zip(terms.bytes()).for_each(|(place, term)| *place = term - b'0');
    }
    Ok(logs)
}
