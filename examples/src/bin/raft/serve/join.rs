//! `raft serve --join`: how a new node comes to belong to a running cluster.
//!
//! ```text
//! before the folder is made   RAFT MEMBERS -> which cluster it is, and whether our id is free there
//! once we listen              RAFT ADD     -> the leader calls us, and sends the log
//!                             promote      -> when we have nearly everything, unless --learner
//! ```
//!
//! Every step looks first whether it has been done already, so a node that is started again goes on
//! where it was. That it has yet to be promoted stands in the data folder, in a file: a node that
//! an operator has demoted must not promote itself because it is started again with the flags of
//! its first day.

use std::{
    error::Error,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::Builder,
    time::{Duration, Instant},
};

use kodiak_raft::{
    node::{Handle, Status},
    storage::inspect::Folder,
    types::{ClusterId, DiskId, FeatureLevel, MemberChange, NodeId},
};
use kodiak_reactor::Remote;
use redis_protocol::resp2::types::BytesFrame;

use crate::{
    address::Address,
    client::{Client, Info},
};

/// Says that the node is to be promoted once it has caught up.
const MARKER: &str = "JOINING";
/// How long one answer may take; more than a request's timeout on the other side.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// The leader's refusal of an id can mean that it has us already and whom we ask does not know it
/// yet. If that is not so after this long, it means what it says.
const DOUBT: Duration = Duration::from_secs(3);

/// Whether the data folder holds a node.
pub(super) fn is_born(data: &Path) -> io::Result<bool> {
    match Folder::open(data) {
        Ok(folder) => Ok(!folder.segments().is_empty() || !folder.snapshots().is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A folder that holds a node of another cluster than the one to be joined would never join it.
/// Where nobody can be asked, the node may have joined long ago, and starts.
pub(super) fn check_cluster(data: &Path, addresses: &[Address]) -> Result<(), Box<dyn Error>> {
    let Ok(theirs) = members_of(addresses) else { return Ok(()) };
    let ours = Folder::open(data)?.recover()?.identity.cluster.to_string();
    match theirs.field("cluster_id") {
        Some(theirs) if theirs != ours => Err(format!(
            "data folder {} belongs to cluster {ours}, and --join names cluster {theirs}: to join it, start with an empty folder",
            data.display()
        )
        .into()),
        _ => Ok(()),
    }
}

/// The cluster that is to be joined, before the data folder is made: what cannot work is refused
/// while nothing is done yet.
pub(super) fn cluster(addresses: &[Address], id: NodeId) -> Result<ClusterId, Box<dyn Error>> {
    let members = members_of(addresses)?;
    let cluster = members.field("cluster_id").and_then(|text| u128::from_str_radix(text, 16).ok());
    let cluster = cluster.ok_or("whom --join names does not say which cluster it belongs to")?;
    if let Some(highest) = number(&members, "highest_id").filter(|&highest| id.0 <= highest) {
        return Err(taken(id, highest).into());
    }
    Ok(ClusterId(cluster))
}

fn taken(id: NodeId, highest: u64) -> String {
    format!(
        "node id {id} is, or was, another data folder's: ids are never used again, so choose one above {highest}; if node {id} \
         has lost its disk, remove it once this node has joined"
    )
}

fn number(info: &Info, name: &str) -> Option<u64> {
    info.field(name).and_then(|text| text.parse().ok())
}

/// Asks one after the other for the list of members.
fn members_of(addresses: &[Address]) -> Result<Info, String> {
    with_one_of(addresses, |client| client.members())
}

fn with_one_of<T>(
    addresses: &[Address],
    ask: impl Fn(&mut Client) -> io::Result<T>,
) -> Result<T, String> {
    let mut complaints = Vec::new();
    for address in addresses {
        match Client::of_node(address, PATIENCE).and_then(|mut client| ask(&mut client)) {
            Ok(answer) => return Ok(answer),
            Err(error) => complaints.push(format!("{address}: {error}")),
        }
    }
    Err(format!("no node of the cluster could be asked (--join): {}", complaints.join("; ")))
}

/// What is to join what.
pub(super) struct Plan {
    /// Clients' addresses of members.
    pub(super) addresses: Vec<Address>,
    pub(super) data: PathBuf,
    pub(super) id: NodeId,
    pub(super) disk: DiskId,
    /// Where the others reach this node.
    pub(super) raft: String,
    pub(super) as_learner: bool,
}

/// What became of one look at how things are.
enum Step {
    Done,
    /// Look again.
    Wait(String),
    /// It will never be.
    Fail(String),
}

/// A thread that sees to it that the node joins. It ends when that is done, or soon after this
/// value.
pub(super) struct Joining {
    _stop: Sender<()>,
    failure: Receiver<String>,
}

impl Joining {
    /// Starts the thread, on what the node says of itself before its loop runs. If the node cannot
    /// join, the loop is shut down, and [`Joining::end`] says why.
    pub(super) fn start(
        plan: Plan,
        status: &Status,
        node: Handle,
        remote: Remote,
    ) -> Result<Joining, Box<dyn Error>> {
        let marker = plan.data.join(MARKER);
        if plan.as_learner {
            remove(&marker)?;
        } else if status.replica.core.configuration.members.is_empty() {
            // It has never heard of any cluster.
            File::create(&marker).and_then(|file| file.sync_all())?;
        }
        let (stop, stopped) = channel();
        let (fail, failure) = channel();
        let joiner = Joiner { plan, node, marker, is_added: false, refused: None };
        let run = move || {
            if let Err(why) = joiner.run(&stopped) {
                // Nobody is left to be told, or the loop cannot be woken: then why stands in the
                // log.
                let _ = fail.send(why);
                let _ = remote.shutdown();
            }
        };
        Builder::new().name("raft-join".to_owned()).spawn(run)?;
        Ok(Joining { _stop: stop, failure })
    }

    /// Why the node could not join, if it could not. The thread is not waited for: it may be
    /// waiting for another node.
    pub(super) fn end(self) -> Result<(), String> {
        self.failure.try_recv().map_or(Ok(()), Err)
    }
}

struct Joiner {
    plan: Plan,
    node: Handle,
    marker: PathBuf,
    /// Whether the leader has said that it has taken this node in.
    is_added: bool,
    /// Since when the leader refuses to.
    refused: Option<Instant>,
}

impl Joiner {
    fn run(mut self, stopped: &Receiver<()>) -> Result<(), String> {
        let mut told = String::new();
        loop {
            match self.step() {
                Step::Done => return Ok(()),
                Step::Fail(why) => {
                    tracing::error!(why, "cannot join");
                    return Err(why);
                }
                Step::Wait(why) if why == told => {}
                Step::Wait(why) => {
                    tracing::info!(why, "joining");
                    told = why;
                }
            }
            match stopped.recv_timeout(PAUSE) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn step(&mut self) -> Step {
        let Ok(status) = self.node.status() else {
            return Step::Wait("the node is busy".to_owned());
        };
        let configuration = &status.replica.core.configuration;
        if status.replica.is_removed {
            return Step::Done;
        }
        if configuration.voters.contains(&self.plan.id) {
            return self.arrived("it votes");
        }
        if configuration.learners.contains(&self.plan.id) {
            return if self.marker.exists() { self.promote() } else { self.arrived("it learns") };
        }
        if self.is_added {
            Step::Wait("added; the leader will call".to_owned())
        } else {
            self.add()
        }
    }

    fn arrived(&self, what: &str) -> Step {
        tracing::info!(node = self.plan.id.0, "joined: {what}");
        match remove(&self.marker) {
            Ok(()) => Step::Done,
            Err(error) => Step::Wait(format!("{}: {error}", self.marker.display())),
        }
    }

    /// Asks through this node itself: it knows the leader by now.
    fn promote(&self) -> Step {
        match self.node.change_membership([MemberChange::Promote(self.plan.id)]) {
            Ok(_) => Step::Wait("promoted".to_owned()),
            Err(error) => Step::Wait(error.to_string()),
        }
    }

    fn add(&mut self) -> Step {
        let Plan { addresses, id, disk, raft, .. } = &self.plan;
        let (id, disk) = (id.to_string(), disk.to_string());
        let members = match members_of(addresses) {
            Ok(members) => members,
            Err(error) => return Step::Wait(error),
        };
        match members
            .field(&format!("member_{id}"))
            .map(|member| member.contains(&format!("disk={disk}")))
        {
            Some(true) => return Step::Wait("a member; the leader will call".to_owned()),
            Some(false) => {
                return Step::Fail(taken(
                    self.plan.id,
                    number(&members, "highest_id").unwrap_or(self.plan.id.0),
                ));
            }
            None => {}
        }
        let level = FeatureLevel::CURRENT.to_string();
        let mut request = vec!["RAFT", "ADD", &id, raft, &disk];
        // Nodes that know of no levels take no such argument.
        if number(&members, "feature_level")
            .is_some_and(|active| active > FeatureLevel::BASE.0.into())
        {
            request.push(&level);
        }
        match with_one_of(addresses, |client| client.ask(&request)) {
            Ok(BytesFrame::SimpleString(_)) => {
                self.is_added = true;
                Step::Wait("added; the leader will call".to_owned())
            }
            Ok(BytesFrame::Error(error)) if error.starts_with("ERR") => {
                let since = *self.refused.get_or_insert_with(Instant::now);
                let why = format!(
                    "the cluster does not take node {id} in: {}",
                    error.trim_start_matches("ERR ")
                );
                if since.elapsed() > DOUBT { Step::Fail(why) } else { Step::Wait(why) }
            }
            Ok(BytesFrame::Error(error)) => Step::Wait(error.to_string()),
            Ok(other) => Step::Wait(format!("an answer that makes no sense: {other:?}")),
            Err(error) => Step::Wait(error),
        }
    }
}

fn remove(marker: &Path) -> io::Result<()> {
    match fs::remove_file(marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
