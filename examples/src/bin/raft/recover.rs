//! `raft recover`: what is left when a majority of a cluster is lost for ever.

use std::{error::Error, path::PathBuf};

use kodiak_raft::{
    node::{Recovery, recover},
    storage::inspect::Folder,
    types::NodeId,
};

/// Flags of `raft recover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The data folder of a node of the lost cluster; its node must not run. It is only read.
    #[arg(long, value_name = "OLD")]
    data: PathBuf,
    /// The data folder to make.
    #[arg(long, value_name = "NEW")]
    into: PathBuf,
    /// The new node's id.
    #[arg(long)]
    id: u64,
    /// Where the new node will listen for the others: its --raft address when it is started.
    #[arg(long, value_name = "HOST:PORT")]
    raft: String,
    /// Yes: what this node does not have is lost, even if it was acknowledged, and the old cluster must never run again.
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
    println!("{WARNING}\n");
    if !arguments.accept_data_loss {
        let recovered = Folder::open(&arguments.data)?.recover()?;
        let terms = &recovered.saved.terms;
        println!(
            "{} is of node {}; its log ends with entry {} of term {}",
            arguments.data.display(),
            recovered.identity.node,
            terms.last_index(),
            terms.last_term()
        );
        return Err("nothing was done: say --accept-data-loss if that is what is wanted".into());
    }
    let recovery = Recovery {
        from: arguments.data.clone(),
        into: arguments.into.clone(),
        id: NodeId(arguments.id),
        address: arguments.raft.clone(),
    };
    let made = recover(&recovery)?;
    let (index, term) = made.last;
    println!(
        "from node {} of cluster {}, everything up to entry {index} of term {term}:",
        made.from.node, made.from.cluster
    );
    println!("node {} of cluster {}, in {}", made.identity.node, made.identity.cluster, arguments.into.display());
    println!("LOST: whatever the others had after entry {index}, or had acknowledged without this node");
    println!(
        "next: 'raft serve --id {} --data {} --raft {} --client …'; then let others join it, with empty folders and ids above {}",
        arguments.id,
        arguments.into.display(),
        arguments.raft,
        made.configuration.highest_id.max(made.identity.node)
    );
    Ok(())
}
