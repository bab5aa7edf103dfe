//! `raft serve --join`: a new node becomes a member of a running cluster.
//!
//! ```text
//! before the folder is created   RAFT MEMBERS   which cluster it is, and whether the id is free
//! once the node listens          RAFT ADD       the leader connects, and sends the log
//!                                promote        when the node has caught up, unless --learner
//! ```
//!
//! Every step first checks whether it has been done, so a node that is started again continues
//! where it was. A file in the data folder says that the node has yet to be promoted: one that an
//! operator has demoted must not promote itself when it is started again with the same flags.

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
    node::{Handle, Status, error_chain},
    storage::inspect::Folder,
    types::{ClusterId, DiskId, FeatureLevel, MemberChange, NodeId},
};
use kodiak_reactor::Remote;
use redis_protocol::resp2::types::BytesFrame;

use crate::{
    address::Address,
    client::{BlockingClient, Info},
};

/// The file that says that the node has yet to be promoted.
const MARKER: &str = "JOINING";
/// How long one answer may take: longer than the other node's request timeout.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long the leader's refusal of an id is not final. It may have added this node already, while
/// the node that is asked does not know it yet.
const REFUSAL_GRACE: Duration = Duration::from_secs(3);

/// Whether a data folder has a node's log or snapshot.
pub(super) fn has_node(data: &Path) -> io::Result<bool> {
    match Folder::open(data) {
        Ok(folder) => Ok(!folder.segments().is_empty() || !folder.snapshots().is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Refuses a data folder of another cluster than --join names. If no node answers, this one starts:
/// it may have joined long ago.
pub(super) fn check_cluster(data: &Path, addresses: &[Address]) -> Result<(), Box<dyn Error>> {
    let Ok(theirs) = members_of(addresses) else { return Ok(()) };
    let ours = Folder::open(data)?.dry_run_open()?.identity.cluster.to_string();
    match theirs.field("cluster_id") {
        Some(theirs) if theirs != ours => Err(format!(
            "data folder {} belongs to cluster {ours}, and --join names cluster {theirs}: to join \
             that one, start with an empty --data folder",
            data.display()
        )
        .into()),
        _ => Ok(()),
    }
}

/// The cluster that --join names. It is asked before the data folder is created, so that mistakes
/// are refused before anything is done.
pub(super) fn cluster_to_join(
    addresses: &[Address],
    id: NodeId,
) -> Result<ClusterId, Box<dyn Error>> {
    let members = members_of(addresses)?;
    let cluster = members.field("cluster_id").and_then(|text| u128::from_str_radix(text, 16).ok());
    let cluster = cluster.ok_or("the node at --join reports no cluster_id")?;
    if let Some(highest) = number_field(&members, "highest_id").filter(|&highest| id.0 <= highest) {
        return Err(id_taken_error(id, highest).into());
    }
    Ok(ClusterId(cluster))
}

fn id_taken_error(id: NodeId, highest: u64) -> String {
    format!(
        "node id {id} is, or was, another data folder's: ids are never used again, so choose one \
         above {highest}; if node {id} has lost its disk, remove it once this node has joined"
    )
}

fn number_field(info: &Info, name: &str) -> Option<u64> {
    info.field(name).and_then(|text| text.parse().ok())
}

/// The list of members, from the first node that answers.
fn members_of(addresses: &[Address]) -> Result<Info, String> {
    ask_first(addresses, |client| client.members())
}

fn ask_first<T>(
    addresses: &[Address],
    ask: impl Fn(&mut BlockingClient) -> io::Result<T>,
) -> Result<T, String> {
    let mut errors = Vec::new();
    for address in addresses {
        match BlockingClient::connect_to_node(address, ANSWER_TIMEOUT)
            .and_then(|mut client| ask(&mut client))
        {
            Ok(answer) => return Ok(answer),
            Err(error) => errors.push(format!("{address}: {}", error_chain(&error))),
        }
    }
    Err(format!("no node of the cluster answers (--join): {}", errors.join("; ")))
}

/// Which node joins which cluster.
pub(super) struct JoinPlan {
    /// The --client addresses of members.
    pub(super) addresses: Vec<Address>,
    pub(super) data: PathBuf,
    pub(super) id: NodeId,
    pub(super) disk: DiskId,
    /// Where the other nodes reach this one.
    pub(super) raft: String,
    pub(super) as_learner: bool,
}

/// The result of an attempt to join.
enum Progress {
    Joined,
    /// Try again later; the text says what it waits for.
    Wait(String),
    /// It can never join.
    Fail(String),
}

/// A thread that has the node join. It ends when the node has joined, or soon after this value is
/// dropped.
pub(super) struct JoinThread {
    _stop: Sender<()>,
    failure: Receiver<String>,
}

impl JoinThread {
    /// Starts the thread; `status` is the node's before its loop runs. If the node cannot join, the
    /// loop is shut down, and [`JoinThread::end`] says why.
    pub(super) fn start(
        plan: JoinPlan,
        status: &Status,
        node: Handle,
        remote: Remote,
    ) -> Result<JoinThread, Box<dyn Error>> {
        let marker = plan.data.join(MARKER);
        if plan.as_learner {
            remove(&marker)?;
        } else if status.replica.core.configuration.members.is_empty() {
            // It does not know any cluster yet.
            File::create(&marker).and_then(|file| file.sync_all())?;
        }
        let (stop, stopped) = channel();
        let (fail, failure) = channel();
        let joiner = Joiner { plan, node, marker, is_added: false, refused_since: None };
        let run = move || {
            if let Err(why) = joiner.run(&stopped) {
                // If the receiver is gone or the loop cannot be woken, the reason is in the log.
                let _ = fail.send(why);
                let _ = remote.shutdown();
            }
        };
        Builder::new().name("raft-join".to_owned()).spawn(run)?;
        Ok(JoinThread { _stop: stop, failure })
    }

    /// The reason why the node could not join, if so. It does not wait for the thread, which may
    /// wait for another node.
    pub(super) fn end(self) -> Result<(), String> {
        self.failure.try_recv().map_or(Ok(()), Err)
    }
}

struct Joiner {
    plan: JoinPlan,
    node: Handle,
    marker: PathBuf,
    /// Whether the leader has acknowledged that it added this node.
    is_added: bool,
    /// Since when the leader refuses to add it.
    refused_since: Option<Instant>,
}

impl Joiner {
    fn run(mut self, stopped: &Receiver<()>) -> Result<(), String> {
        let mut last_logged = String::new();
        loop {
            match self.try_next_step() {
                Progress::Joined => return Ok(()),
                Progress::Fail(why) => {
                    tracing::error!(why, "cannot join");
                    return Err(why);
                }
                Progress::Wait(why) if why == last_logged => {}
                Progress::Wait(why) => {
                    tracing::info!(why, "joining");
                    last_logged = why;
                }
            }
            match stopped.recv_timeout(RETRY_PAUSE) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn try_next_step(&mut self) -> Progress {
        let Ok(status) = self.node.status() else {
            return Progress::Wait("the node is busy".to_owned());
        };
        let configuration = &status.replica.core.configuration;
        if status.replica.is_removed {
            return Progress::Joined;
        }
        if configuration.voters.contains(&self.plan.id) {
            return self.finish("it votes");
        }
        if configuration.learners.contains(&self.plan.id) {
            return if self.marker.exists() {
                self.promote()
            } else {
                self.finish("it is a learner")
            };
        }
        if self.is_added {
            Progress::Wait("added; the leader will connect".to_owned())
        } else {
            self.add()
        }
    }

    fn finish(&self, what: &str) -> Progress {
        tracing::info!(node = self.plan.id.0, "joined: {what}");
        match remove(&self.marker) {
            Ok(()) => Progress::Joined,
            Err(error) => {
                Progress::Wait(format!("{}: {}", self.marker.display(), error_chain(&error)))
            }
        }
    }

    /// Asks this node itself, which knows the leader by now.
    fn promote(&self) -> Progress {
        match self.node.change_membership([MemberChange::Promote(self.plan.id)]) {
            Ok(_) => Progress::Wait("promoted".to_owned()),
            Err(error) => Progress::Wait(error_chain(&error)),
        }
    }

    fn add(&mut self) -> Progress {
        let JoinPlan { addresses, id, disk, raft, .. } = &self.plan;
        let (id, disk) = (id.to_string(), disk.to_string());
        let members = match members_of(addresses) {
            Ok(members) => members,
            Err(error) => return Progress::Wait(error),
        };
        match members
            .field(&format!("member_{id}"))
            .map(|member| member.contains(&format!("disk={disk}")))
        {
            Some(true) => return Progress::Wait("a member; the leader will connect".to_owned()),
            Some(false) => {
                return Progress::Fail(id_taken_error(
                    self.plan.id,
                    number_field(&members, "highest_id").unwrap_or(self.plan.id.0),
                ));
            }
            None => {}
        }
        let level = FeatureLevel::CURRENT.to_string();
        let mut request = vec!["RAFT", "ADD", &id, raft, &disk];
        // Nodes of versions without feature levels refuse the argument.
        if number_field(&members, "feature_level")
            .is_some_and(|active| active > FeatureLevel::BASE.0.into())
        {
            request.push(&level);
        }
        match ask_first(addresses, |client| client.ask(&request)) {
            Ok(BytesFrame::SimpleString(_)) => {
                self.is_added = true;
                Progress::Wait("added; the leader will connect".to_owned())
            }
            Ok(BytesFrame::Error(error)) if error.starts_with("ERR") => {
                let since = *self.refused_since.get_or_insert_with(Instant::now);
                let why = format!(
                    "the cluster does not add node {id}: {}",
                    error.trim_start_matches("ERR ")
                );
                if since.elapsed() > REFUSAL_GRACE {
                    Progress::Fail(why)
                } else {
                    Progress::Wait(why)
                }
            }
            Ok(BytesFrame::Error(error)) => Progress::Wait(error.to_string()),
            Ok(other) => Progress::Wait(format!("an unexpected answer: {other:?}")),
            Err(error) => Progress::Wait(error),
        }
    }
}

fn remove(marker: &Path) -> io::Result<()> {
    match fs::remove_file(marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
