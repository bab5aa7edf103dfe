//! `raft recover`: disaster recovery after the permanent loss of a majority.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use kodiak_raft::{
    node::{RecoverClusterOptions, error_chain, recover_cluster},
    storage::{
        DamagedFile, DataLoss, DivergedMark, StorageError,
        inspect::{Folder, Recoverable},
    },
    types::{Identity, Index, NodeId, Saved},
};

use crate::{address::Address, flags::node_id, removal};

/// Flags of `raft recover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The data folder of a node of the lost cluster; its node must not run. It is only read.
    #[arg(long, value_name = "OLD")]
    data: PathBuf,
    /// The data folder to create.
    #[arg(long, value_name = "NEW")]
    into: PathBuf,
    /// The new node's id, above every id that the old cluster ever had.
    #[arg(long, value_parser = node_id, allow_negative_numbers = true)]
    id: u64,
    /// Where other nodes will reach the new node: its --raft address when it is started, or its
    /// --advertise-raft.
    #[arg(long, value_name = "HOST:PORT")]
    raft: Address,
    /// Recovers even from the folder of a node that was removed from the old cluster, and lacks the
    /// later writes.
    #[arg(long)]
    from_removed: bool,
    /// Recovers even from the folder of a node whose state differed from that of a majority
    /// (DIVERGED): the new cluster begins with the state in its snapshot.
    #[arg(long)]
    from_diverged: bool,
    /// Confirms that writes which this node lacks are lost, even acknowledged ones, and that the
    /// old cluster must never run again.
    #[arg(long)]
    accept_data_loss: bool,
}

const WARNING: &str = "\
THIS IS FOR A CLUSTER THAT HAS PERMANENTLY LOST A MAJORITY OF ITS VOTERS. It makes a new cluster of
this one node, from the data on this node's disk. Writes that only other nodes had are lost, even if
they were acknowledged to clients; writes that this node has are kept, even if they never were. If
other members of the old cluster are left, compare their folders first ('raft inspect'): choose the
one whose log ends with the highest term and, of those, the highest index. Never start the other
members again: let their machines join the new cluster with empty folders and new ids.";

/// Recovers if --accept-data-loss is given; otherwise prints what would be lost.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let old = read_folder(&arguments.data)?;
    check(arguments, &old)?;
    println!("{WARNING}\n");
    if !arguments.accept_data_loss {
        let terms = &old.saved.terms;
        println!(
            "{} is of node {}; the whole part of its log ends with entry {} of term {}",
            arguments.data.display(),
            old.identity.node,
            terms.last_index(),
            terms.last_term()
        );
        print_loss(old.loss.as_ref());
        return Err("nothing was done: give --accept-data-loss to do it".into());
    }
    let options = RecoverClusterOptions::new(
        &arguments.data,
        &arguments.into,
        NodeId(arguments.id),
        arguments.raft.to_string(),
    );
    let new = recover_cluster(&options)?;
    let (index, term) = (new.last_index, new.last_term);
    println!(
        "from node {} of cluster {}, everything up to entry {index} of term {term}:",
        new.old_identity.node, new.old_identity.cluster
    );
    println!(
        "node {} of cluster {}, in {}",
        new.identity.node,
        new.identity.cluster,
        arguments.into.display()
    );
    print_loss(new.loss.as_ref());
    if let Some(index) = old.suspect_snapshot() {
        println!(
            "DIVERGED: the state comes from the snapshot of entry {index}; the old cluster's may \
             have been another one"
        );
    }
    println!(
        "LOST: what the other nodes had after entry {index}, or acknowledged without this node"
    );
    println!(
        "next: 'raft serve --id {} --data {} --raft {} --client …'; then let others join it, with \
         empty folders and ids above {}",
        arguments.id,
        arguments.into.display(),
        arguments.raft,
        new.configuration.highest_id.max(new.identity.node)
    );
    Ok(())
}

/// The content of the old folder.
struct OldFolder {
    identity: Identity,
    saved: Saved,
    loss: Option<DataLoss>,
    diverged: Option<DivergedMark>,
}

impl OldFolder {
    /// The snapshot whose state may differ from that of a majority of the old cluster.
    fn suspect_snapshot(&self) -> Option<Index> {
        let (mark, meta) = (self.diverged.as_ref()?, self.saved.snapshot.as_ref()?);
        (meta.index > mark.agreed()).then_some(meta.index)
    }
}

/// Prints which entries the folder once had and has lost.
fn print_loss(loss: Option<&DataLoss>) {
    let Some(DataLoss { last_kept, last_known, damaged, .. }) = loss else { return };
    for DamagedFile { file, what, .. } in damaged {
        println!("DAMAGED: {file}: {what}");
    }
    if last_known > last_kept {
        println!(
            "LOST: entries {}..={last_known} are lost, and perhaps later ones, of which no trace \
             is left",
            last_kept.next()
        );
    } else {
        println!("LOST: perhaps entries after {last_kept}; no trace of them is left");
    }
}

/// Reads everything that is whole.
fn read_folder(data: &Path) -> Result<OldFolder, String> {
    let folder = Folder::open(data).map_err(|error| error_chain(&error))?;
    let diverged = folder.diverged().map_err(|error| error_chain(&error))?;
    let recoverable = folder.recoverable().map_err(|error| match error {
        StorageError::NoLog => format!(
            "{} holds no node's log: give the folder of a node of the old cluster",
            data.display()
        ),
        error => format!(
            "nothing can be recovered from {} (recover from the folder of another member, see \
             'raft inspect', or from a backup): {}",
            data.display(),
            error_chain(&error)
        ),
    })?;
    let Recoverable { identity, saved, loss, .. } = recoverable;
    Ok(OldFolder { identity, saved, loss, diverged })
}

/// Refuses what is very likely a mistake.
fn check(arguments: &Arguments, old: &OldFolder) -> Result<(), String> {
    if arguments.raft.is_unspecified() {
        return Err(format!(
            "--raft {} is an address of every machine: give a name or an address of the new node",
            arguments.raft
        ));
    }
    let (configuration, node) = (old.saved.configuration(), old.identity.node);
    let highest = configuration.highest_id.max(node);
    if arguments.id <= highest.0 {
        return Err(format!(
            "--id {} is, or was, another node's of the old cluster, whose machine could be \
             mistaken for the new one: choose one above {highest}",
            arguments.id
        ));
    }
    if configuration.members.is_empty() {
        return Err(format!(
            "node {node}, of folder {}, never became a member of a cluster, and has nothing to \
             recover",
            arguments.data.display()
        ));
    }
    if old.saved.terms.last_index() == Index(0) {
        return Err(format!(
            "the log of node {node}, of folder {}, has no entry: it never met the others, or its \
             disk was wiped. Recover from another member's folder",
            arguments.data.display()
        ));
    }
    // Node 0: only a snapshot is left, which does not name its node.
    let is_member = node == NodeId(0) || configuration.members.contains_key(&node);
    let is_removed = !is_member || removal::is_marked(&arguments.data);
    if is_removed && !arguments.from_removed {
        return Err(format!(
            "node {node}, of folder {}, was removed from its cluster, and lacks the writes that \
             were acknowledged after that: recover from a member's folder. If none is left, give \
             --from-removed",
            arguments.data.display()
        ));
    }
    if let Some(index) = old.suspect_snapshot().filter(|_| !arguments.from_diverged) {
        return Err(format!(
            "the state of node {node}, of folder {}, differed from that of a majority (DIVERGED; \
             see 'raft inspect'): its log is right, but its snapshot of entry {index}, with which \
             a new cluster would begin, may hold the wrong state. Recover from another member's \
             folder. If none is left, give --from-diverged",
            arguments.data.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
