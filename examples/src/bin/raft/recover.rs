//! `raft recover`: what is left when a majority of a cluster is lost for ever.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use kodiak_raft::{
    node::{RecoverClusterOptions, recover_cluster},
    storage::{DataLoss, DivergedMark, StorageError, inspect::Folder},
    types::{Identity, Index, NodeId, Saved},
};

use crate::{address::Address, flags::node_id, removal};

/// Flags of `raft recover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The data folder of a node of the lost cluster; its node must not run. It is only read.
    #[arg(long, value_name = "OLD")]
    data: PathBuf,
    /// The data folder to make.
    #[arg(long, value_name = "NEW")]
    into: PathBuf,
    /// The new node's id, above every id that the old cluster ever had.
    #[arg(long, value_parser = node_id, allow_negative_numbers = true)]
    id: u64,
    /// Where the others will reach the new node: its --raft address when it is started, or its
    /// --advertise-raft.
    #[arg(long, value_name = "HOST:PORT")]
    raft: Address,
    /// Recovers even from the folder of a node that was removed from the old cluster, and has
    /// missed what came after that.
    #[arg(long)]
    from_removed: bool,
    /// Recovers even from the folder of a node whose state differed from that of a majority
    /// (DIVERGED): the new cluster's state is then what its snapshot holds.
    #[arg(long)]
    from_diverged: bool,
    /// Yes: what this node does not have is lost, even if it was acknowledged, and the old cluster
    /// must never run again.
    #[arg(long)]
    accept_data_loss: bool,
}

const WARNING: &str = "\
THIS IS FOR A CLUSTER THAT HAS LOST A MAJORITY OF ITS VOTERS FOR EVER. It makes a new cluster, of this one node, out of what
this node has on its disk. What only the others had is lost, even if it was acknowledged to clients; what this node has is
kept, even if it never was. If any other members of the old cluster are left, compare their folders first ('raft inspect'):
recover from the one whose log ends with the highest term and, of those, the highest index. Never start the others again:
let their machines join the new cluster with empty folders and new ids.";

/// Recovers, if that is wanted; otherwise says what it would mean.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let old = look(&arguments.data)?;
    check(arguments, &old)?;
    println!("{WARNING}\n");
    if !arguments.accept_data_loss {
        let terms = &old.saved.terms;
        println!(
            "{} is of node {}; what is whole of its log ends with entry {} of term {}",
            arguments.data.display(),
            old.identity.node,
            terms.last_index(),
            terms.last_term()
        );
        print_loss(old.loss.as_ref());
        return Err("nothing was done: say --accept-data-loss if that is what is wanted".into());
    }
    let options = RecoverClusterOptions::new(
        &arguments.data,
        &arguments.into,
        NodeId(arguments.id),
        arguments.raft.to_string(),
    );
    let made = recover_cluster(&options)?;
    let (index, term) = made.last;
    println!(
        "from node {} of cluster {}, everything up to entry {index} of term {term}:",
        made.from.node, made.from.cluster
    );
    println!(
        "node {} of cluster {}, in {}",
        made.identity.node,
        made.identity.cluster,
        arguments.into.display()
    );
    print_loss(made.loss.as_ref());
    if let Some(index) = old.wrong_snapshot() {
        println!(
            "DIVERGED: the state comes from the snapshot of entry {index}, and the old cluster's may have been another"
        );
    }
    println!(
        "LOST: whatever the others had after entry {index}, or had acknowledged without this node"
    );
    println!(
        "next: 'raft serve --id {} --data {} --raft {} --client …'; then let others join it, with empty folders and ids above {}",
        arguments.id,
        arguments.into.display(),
        arguments.raft,
        made.configuration.highest_id.max(made.identity.node)
    );
    Ok(())
}

/// What the old folder holds.
struct Old {
    identity: Identity,
    saved: Saved,
    loss: Option<DataLoss>,
    diverged: Option<DivergedMark>,
}

impl Old {
    /// The snapshot whose state may differ from that of a majority of the old cluster.
    fn wrong_snapshot(&self) -> Option<Index> {
        let (mark, meta) = (self.diverged.as_ref()?, self.saved.snapshot.as_ref()?);
        (meta.index > mark.agreed()).then_some(meta.index)
    }
}

/// Says what the folder once held and does not hold any more.
fn print_loss(loss: Option<&DataLoss>) {
    let Some(DataLoss { kept, known, damaged, .. }) = loss else { return };
    for (file, what) in damaged {
        println!("DAMAGED: {file}: {what}");
    }
    if known > kept {
        println!(
            "LOST: entries {}..={known} are lost, and perhaps later ones, which nothing is left of",
            kept.next()
        );
    } else {
        println!("LOST: perhaps entries after {kept}; nothing is left that says so");
    }
}

/// Looks at everything that is whole.
fn look(data: &Path) -> Result<Old, String> {
    let folder = Folder::open(data).map_err(|error| error.to_string())?;
    let diverged = folder.diverged().map_err(|error| error.to_string())?;
    let remains =
        folder.surviving().map(|(identity, saved, loss)| Old { identity, saved, loss, diverged });
    remains.map_err(|error| match error {
        StorageError::NoLog => format!("{} holds no node's log: give the folder of a node of the old cluster", data.display()),
        error => format!(
            "nothing can be recovered from {}: {error}. Recover from the folder of another member (look at each with 'raft \
             inspect'), or from a backup",
            data.display()
        ),
    })
}

/// What would very likely be a mistake.
fn check(arguments: &Arguments, old: &Old) -> Result<(), String> {
    if arguments.raft.is_everywhere() {
        return Err(format!(
            "--raft {} is every machine's: give a name or an address of the new node's",
            arguments.raft
        ));
    }
    let (configuration, node) = (old.saved.configuration(), old.identity.node);
    let highest = configuration.highest_id.max(node);
    if arguments.id <= highest.0 {
        return Err(format!(
            "--id {} is, or was, another node's of the old cluster, whose machine could be mistaken for the new one: choose one \
             above {highest}",
            arguments.id
        ));
    }
    if configuration.members.is_empty() {
        return Err(format!(
            "node {node}, whose folder {} is, never became a member of any cluster, and has nothing to recover",
            arguments.data.display()
        ));
    }
    if old.saved.terms.last_index() == Index(0) {
        return Err(format!(
            "the log of node {node}, whose folder {} is, has no entry: it never met the others, or its disk was wiped. Recover from \
             another member's folder",
            arguments.data.display()
        ));
    }
    // Node 0: nothing but a snapshot is left, which does not say whose it was.
    let is_member = node == NodeId(0) || configuration.members.contains_key(&node);
    let is_removed = !is_member || removal::is_noted(&arguments.data);
    if is_removed && !arguments.from_removed {
        return Err(format!(
            "node {node}, whose folder {} is, was removed from its cluster, and does not have what was acknowledged after that: \
             recover from a member's folder. If there is none left, say --from-removed",
            arguments.data.display()
        ));
    }
    if let Some(index) = old.wrong_snapshot().filter(|_| !arguments.from_diverged) {
        return Err(format!(
            "the state of node {node}, whose folder {} is, differed from that of a majority (DIVERGED; see 'raft inspect'): its \
             log is right, but its snapshot of entry {index}, with which a new cluster would begin, may hold the wrong state. \
             Recover from another member's folder. If there is none left, say --from-diverged",
            arguments.data.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
