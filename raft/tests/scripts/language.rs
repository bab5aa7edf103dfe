//! The language of the scripts: what a line may say. README.md, beside this file, describes it for
//! their authors.

use std::fmt;

use kodiak_raft::types::MemberChange;

use super::members;

/// A node's number.
pub(crate) type Node = u64;

/// One line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `cluster 3 [in-flight-messages=2 ..]`: begins; every other command comes after it.
    Cluster { nodes: u64, settings: Vec<(String, u64)> },
    /// `log 1: 1 1 4`: before anything happens, node 1's disk holds entries of these terms.
    Log { node: Node, terms: Vec<u64> },
    /// `term 1: 7` or `term 1: 7 voted 2`: before anything happens.
    Term { node: Node, term: u64, vote: Option<Node> },
    /// `timeout 1`: the clock moves to node 1's next deadline, unless it is past already, and node
    /// 1's timer fires.
    Timeout { node: Node },
    /// `wait 100`: the clock moves by 100 ms. No timer fires.
    Wait { millis: u64 },
    /// `pass 100`: 100 ms pass. Every node's timer fires at its deadlines, and what is sent arrives
    /// at once.
    Pass { millis: u64 },
    /// `propose 1 x y`: a command each.
    Propose { node: Node, commands: Vec<String> },
    /// `read 1 a`: a read with the name a.
    Read { node: Node, name: String },
    /// `lease-read 1 a`: one for which a lease is enough.
    LeaseRead { node: Node, name: String },
    /// `join 4`: a node that waits to be added.
    Join { node: Node },
    /// `change 1 promote 4 remove 3`: asks leader 1 for all these changes in one step.
    Change { node: Node, changes: Vec<MemberChange> },
    /// `transfer 1` or `transfer 1 3`: asks leader 1 to hand over.
    Transfer { node: Node, to: Option<Node> },
    /// `members`: by which configuration every node counts.
    Members,
    /// `deliver 1->2`: the oldest message; `all`, or the one in that place.
    Deliver { link: Link, which: Which },
    /// `repeat 1->2`: delivers and keeps it.
    Repeat { link: Link, which: Which },
    /// `drop 1->2`: loses it.
    Drop { link: Link, which: Which },
    /// `cut 1 2 | 3`: what is sent from one side to another is lost; ends earlier cuts.
    Cut { sides: Vec<Vec<Node>> },
    /// `heal`: no more cuts.
    Heal,
    /// `hold 1`: node 1's disk finishes no write before `written` or `release`.
    Hold { node: Node },
    /// `written 1`: the oldest write is done; `all` of them.
    Written { node: Node, all: bool },
    /// `release 1`: node 1's disk finishes all writes, and from now on each at once.
    Release { node: Node },
    /// `snapshot 1`: node 1's state machine takes one of all that it has applied.
    Snapshot { node: Node },
    /// `crash 1`: what was not written is gone.
    Crash { node: Node },
    /// `restart 1`: from its disk.
    Restart { node: Node },
    /// `stabilize`: delivers all messages, oldest first, until none is left.
    Stabilize,
    /// `status`: every node, and every message on its way.
    Status,
    /// `logs`: every log's terms.
    Logs,
    /// `peers 1`: what leader 1 knows of the others.
    Peers { node: Node },
    /// `count`: what was sent on each link since the last `count`.
    Count,
    /// `elect 1`: `timeout 1` and `stabilize`, quietly.
    Elect { node: Node },
    /// `quietly stabilize`: shows only the events, and the state of the nodes afterwards.
    Quietly { command: Box<Command> },
}

/// A directed pair; 0 stands for any node (`*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) from: Node,
    pub(crate) to: Node,
}

/// Which message of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one in this place, from 1.
    Nth(usize),
    /// All that are there now.
    All,
}

impl Link {
    pub(crate) fn covers(self, from: Node, to: Node) -> bool {
        (self.from == 0 || self.from == from) && (self.to == 0 || self.to == to)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |node: Node| if node == 0 { "*".to_owned() } else { node.to_string() };
        write!(f, "{}->{}", end(self.from), end(self.to))
    }
}

/// The form of every command, for the error that lists them.
const FORMS: &str = "cluster N [SETTING=N ..] | log N: TERM .. | term N: TERM [voted N] | \
    timeout N | wait MILLIS | pass MILLIS | propose N COMMAND .. | read N NAME | \
    lease-read N NAME | join N | change N CHANGE .. | transfer N [N] | members | \
    deliver A->B [PLACE|all] | repeat A->B [PLACE|all] | drop A->B [PLACE|all] | \
    cut N .. | N .. | heal | hold N | written N [all] | release N | snapshot N | crash N | \
    restart N | stabilize | status | logs | peers N | count | elect N | quietly COMMAND";

impl Command {
    /// Understands a line.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn parse(line: &str) -> Result<Command, String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (word, words.as_slice()) {
            ("cluster", [nodes, settings @ ..]) => {
                let settings =
                    settings.iter().map(|pair| setting(pair)).collect::<Result<_, _>>()?;
                Ok(Command::Cluster { nodes: number(nodes)?, settings })
            }
            ("log", [node, terms @ ..]) => {
                Ok(Command::Log { node: before_colon(node)?, terms: numbers(terms)? })
            }
            ("term", [node, term]) => {
                Ok(Command::Term { node: before_colon(node)?, term: number(term)?, vote: None })
            }
            ("term", [node, term, "voted", vote]) => Ok(Command::Term {
                node: before_colon(node)?,
                term: number(term)?,
                vote: Some(number(vote)?),
            }),
            ("timeout", [node]) => Ok(Command::Timeout { node: number(node)? }),
            ("wait", [millis]) => Ok(Command::Wait { millis: number(millis)? }),
            ("pass", [millis]) => Ok(Command::Pass { millis: number(millis)? }),
            ("propose", [node, commands @ ..]) if !commands.is_empty() => {
                let commands = commands.iter().map(|&command| command.to_owned()).collect();
                Ok(Command::Propose { node: number(node)?, commands })
            }
            ("read", [node, name]) => {
                Ok(Command::Read { node: number(node)?, name: (*name).to_owned() })
            }
            ("lease-read", [node, name]) => {
                Ok(Command::LeaseRead { node: number(node)?, name: (*name).to_owned() })
            }
            ("join", [node]) => Ok(Command::Join { node: number(node)? }),
            ("change", [node, changes @ ..]) => {
                Ok(Command::Change { node: number(node)?, changes: members::parse(changes)? })
            }
            ("transfer", [node]) => Ok(Command::Transfer { node: number(node)?, to: None }),
            ("transfer", [node, to]) => {
                Ok(Command::Transfer { node: number(node)?, to: Some(number(to)?) })
            }
            ("members", []) => Ok(Command::Members),
            ("deliver", [first, which @ ..]) => {
                Ok(Command::Deliver { link: link(first)?, which: place(which)? })
            }
            ("repeat", [first, which @ ..]) => {
                Ok(Command::Repeat { link: link(first)?, which: place(which)? })
            }
            ("drop", [first, which @ ..]) => {
                Ok(Command::Drop { link: link(first)?, which: place(which)? })
            }
            ("cut", sides @ [_, ..]) => {
                let sides =
                    sides.split(|word| *word == "|").map(numbers).collect::<Result<Vec<_>, _>>()?;
                Ok(Command::Cut { sides })
            }
            ("heal", []) => Ok(Command::Heal),
            ("hold", [node]) => Ok(Command::Hold { node: number(node)? }),
            ("written", [node]) => Ok(Command::Written { node: number(node)?, all: false }),
            ("written", [node, "all"]) => Ok(Command::Written { node: number(node)?, all: true }),
            ("release", [node]) => Ok(Command::Release { node: number(node)? }),
            ("snapshot", [node]) => Ok(Command::Snapshot { node: number(node)? }),
            ("crash", [node]) => Ok(Command::Crash { node: number(node)? }),
            ("restart", [node]) => Ok(Command::Restart { node: number(node)? }),
            ("stabilize", []) => Ok(Command::Stabilize),
            ("status", []) => Ok(Command::Status),
            ("logs", []) => Ok(Command::Logs),
            ("peers", [node]) => Ok(Command::Peers { node: number(node)? }),
            ("count", []) => Ok(Command::Count),
            ("elect", [node]) => Ok(Command::Elect { node: number(node)? }),
            ("quietly", [_, ..]) => {
                Ok(Command::Quietly { command: Box::new(Command::parse(rest.trim())?) })
            }
            _ => Err(format!("`{line}` is none of: {FORMS}")),
        }
    }
}

pub(super) fn number<N: std::str::FromStr>(word: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("`{word}` is not a number"))
}

fn numbers(words: &[&str]) -> Result<Vec<u64>, String> {
    words.iter().map(|word| number(word)).collect()
}

fn before_colon(word: &str) -> Result<u64, String> {
    number(
        word.strip_suffix(':')
            .ok_or_else(|| format!("`{word}` should be a node and a colon, as in `1:`"))?,
    )
}

fn setting(pair: &str) -> Result<(String, u64), String> {
    let (name, value) =
        pair.split_once('=').ok_or_else(|| format!("`{pair}` should be SETTING=NUMBER"))?;
    Ok((name.to_owned(), number(value)?))
}

fn link(word: &str) -> Result<Link, String> {
    let end = |word: &str| if word == "*" { Ok(0) } else { number(word) };
    let (from, to) =
        word.split_once("->").ok_or_else(|| format!("`{word}` should be a link, as in `1->2`"))?;
    Ok(Link { from: end(from)?, to: end(to)? })
}

fn place(words: &[&str]) -> Result<Which, String> {
    match words {
        [] => Ok(Which::Nth(1)),
        ["all"] => Ok(Which::All),
        [place] => match number(place)? {
            0 => Err("places count from 1".to_owned()),
            place => Ok(Which::Nth(place)),
        },
        _ => Err(format!("`{}` should be one place, or `all`", words.join(" "))),
    }
}
