//! `raft member` and `raft transfer`: the `RAFT` requests, from a shell.

use std::{error::Error, time::Duration};

use clap::Subcommand;
use kodiak_raft::{node::error_chain, types::FeatureLevel};
use redis_protocol::resp2::types::BytesFrame;

use super::priorities;
use crate::{
    address::Address,
    client::{BlockingClient, Info},
    flags::{milliseconds, node_id, number},
};

/// Flags of `raft member`. It waits until a change is committed, and then lists the members.
#[derive(Debug, clap::Args)]
pub(crate) struct MemberArguments {
    #[command(flatten)]
    node: NodeArguments,
    #[command(subcommand)]
    change: MemberCommand,
}

/// Flags of `raft transfer`.
#[derive(Debug, clap::Args)]
pub(crate) struct TransferArguments {
    #[command(flatten)]
    node: NodeArguments,
    /// The new leader; by default the most up-to-date of the voters with the highest priority.
    #[arg(long, value_name = "ID", value_parser = node_id, allow_negative_numbers = true)]
    to: Option<u64>,
}

/// The node that is asked.
#[derive(Debug, clap::Args)]
struct NodeArguments {
    /// The --client address of any node.
    #[arg(long, value_name = "HOST:PORT")]
    client: Address,
    /// How long to wait for the outcome, in milliseconds.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 10_000,
        value_parser = milliseconds(),
        allow_negative_numbers = true
    )]
    timeout: u64,
}

#[derive(Debug, Subcommand)]
enum MemberCommand {
    /// Prints the members as a table.
    List,
    /// Adds a node as a learner: it receives the log and does not vote. 'raft serve --join' does
    /// this, too.
    Add {
        /// Its id, above every id that a member ever had.
        #[arg(value_parser = node_id, allow_negative_numbers = true)]
        id: u64,
        /// Its --raft address.
        #[arg(value_name = "HOST:PORT")]
        address: Address,
        /// Its disk's id: 'disk_id' in its INFO raft.
        disk: String,
        /// The feature level that its version supports.
        #[arg(long, default_value_t = FeatureLevel::CURRENT.0)]
        feature_level: u16,
    },
    /// Gives a learner a vote, once it has caught up.
    Promote {
        /// The learner.
        #[arg(value_parser = node_id, allow_negative_numbers = true)]
        id: u64,
    },
    /// Makes a voter a learner, which receives the log and does not vote.
    Demote {
        /// The voter.
        #[arg(value_parser = node_id, allow_negative_numbers = true)]
        id: u64,
    },
    /// Removes a member. Its id is never used again.
    Remove {
        /// The member.
        #[arg(value_parser = node_id, allow_negative_numbers = true)]
        id: u64,
    },
    /// Promotes one member and removes another, in one step.
    Replace {
        /// The member to remove.
        #[arg(value_parser = node_id, allow_negative_numbers = true)]
        old: u64,
        /// The learner that gets its vote.
        #[arg(value_parser = node_id, allow_negative_numbers = true)]
        new: u64,
    },
    /// Changes where the other nodes reach a member that has moved.
    Address {
        /// The member.
        #[arg(value_parser = node_id, allow_negative_numbers = true)]
        id: u64,
        /// Its new --raft address.
        #[arg(value_name = "HOST:PORT")]
        address: Address,
    },
    /// Raises the cluster's feature level, once every member runs a version that supports it. It
    /// can never be lowered, so older versions cannot run again.
    Enable {
        /// The level; by default the one of this version.
        #[arg(default_value_t = FeatureLevel::CURRENT.0)]
        level: u16,
    },
    /// Changes a member's priority: leadership goes to the highest one.
    Priority {
        /// The member.
        #[arg(value_parser = node_id, allow_negative_numbers = true)]
        id: u64,
        /// From 0, the default, to 255.
        #[arg(value_parser = number::<u8>("a priority", 0..=255), allow_negative_numbers = true)]
        priority: u8,
    },
}

/// Runs `raft member`.
pub(crate) fn member(arguments: &MemberArguments) -> Result<(), Box<dyn Error>> {
    let text = |number: &u64| number.to_string();
    let request = match &arguments.change {
        MemberCommand::List => return list(&arguments.node),
        MemberCommand::Add { id, address, disk, feature_level } => {
            vec![
                "ADD".to_owned(),
                text(id),
                address.to_string(),
                disk.clone(),
                feature_level.to_string(),
            ]
        }
        MemberCommand::Promote { id } => vec!["PROMOTE".to_owned(), text(id)],
        MemberCommand::Demote { id } => vec!["DEMOTE".to_owned(), text(id)],
        MemberCommand::Remove { id } => vec!["REMOVE".to_owned(), text(id)],
        MemberCommand::Replace { old, new } => vec!["REPLACE".to_owned(), text(old), text(new)],
        MemberCommand::Address { id, address } => {
            vec!["ADDRESS".to_owned(), text(id), address.to_string()]
        }
        MemberCommand::Enable { level } => vec!["ENABLE".to_owned(), level.to_string()],
        MemberCommand::Priority { id, priority } => {
            vec!["PRIORITY".to_owned(), text(id), priority.to_string()]
        }
    };
    send(&arguments.node, &request)?;
    match (list(&arguments.node), &arguments.change) {
        // The asked node may be the removed one, which lists no members.
        (Err(error), MemberCommand::Remove { .. } | MemberCommand::Replace { .. }) => {
            println!("{}", error_chain(error.as_ref()));
        }
        (listed, _) => listed?,
    }
    Ok(())
}

/// Runs `raft transfer`.
pub(crate) fn transfer(arguments: &TransferArguments) -> Result<(), Box<dyn Error>> {
    let members = members(&arguments.node)?;
    let mut request = vec!["TRANSFER".to_owned()];
    request.extend(arguments.to.map(|id| id.to_string()));
    send(&arguments.node, &request)?;
    match arguments.to {
        Some(to) => println!("node {to} leads"),
        None => println!("another node leads"),
    }
    if let Some(warning) = priorities::transfer_warning(&members, arguments.to) {
        eprintln!("raft: warning: {warning}");
    }
    Ok(())
}

fn connect(node: &NodeArguments) -> Result<BlockingClient, Box<dyn Error>> {
    let unreachable = |error: std::io::Error| {
        format!("cannot ask the node at {}: {}", node.client, error_chain(&error))
    };
    Ok(BlockingClient::connect_to_node(&node.client, Duration::from_millis(node.timeout))
        .map_err(unreachable)?)
}

/// Sends a change and waits until it is done.
fn send(node: &NodeArguments, request: &[String]) -> Result<(), Box<dyn Error>> {
    let words: Vec<&str> =
        std::iter::once("RAFT").chain(request.iter().map(String::as_str)).collect();
    let unknown = |error: std::io::Error| {
        format!(
            "no answer from the node at {}: {}; the change may or may not be made, see 'raft \
             member list'",
            node.client,
            error_chain(&error)
        )
    };
    match connect(node)?.ask(&words).map_err(unknown)? {
        BytesFrame::SimpleString(_) => Ok(()),
        BytesFrame::Error(error) => Err(without_code(&error).into()),
        other => Err(format!("an unexpected answer: {other:?}").into()),
    }
}

/// An error without its code, which is for programs.
fn without_code(error: &str) -> String {
    match error.split_once(' ') {
        Some(("ERR", why)) => why.trim_start_matches("removed: ").to_owned(),
        Some(("TRYAGAIN", why)) => format!("nothing was changed, try again: {why}"),
        Some(("UNKNOWN", why)) => {
            format!("the change may or may not be made, see 'raft member list': {why}")
        }
        _ => error.to_owned(),
    }
}

fn members(node: &NodeArguments) -> Result<Info, Box<dyn Error>> {
    let unlisted = |error: std::io::Error| {
        format!("the node at {}: {}", node.client, without_code(&error_chain(&error)))
    };
    Ok(connect(node)?.members().map_err(unlisted)?)
}

fn list(node: &NodeArguments) -> Result<(), Box<dyn Error>> {
    print!("{}", table(&members(node)?));
    Ok(())
}

/// The members, a line each.
fn table(members: &Info) -> String {
    let mut text =
        format!("{:>6}  {:<22}  {:<22}  {:<32}  PRIORITY\n", "NODE", "CAPACITY", "RAFT", "DISK");
    for (name, value) in members.fields() {
        let Some(id) = name.strip_prefix("member_") else { continue };
        let part =
            |key: &str| value.split(',').find_map(|part| part.strip_prefix(key)).unwrap_or("?");
        let (capacity, raft, disk, priority) =
            (part("capacity="), part("raft="), part("disk="), part("priority="));
        text.push_str(&format!("{id:>6}  {capacity:<22}  {raft:<22}  {disk:<32}  {priority}\n"));
    }
    let field = |name| members.field(name).unwrap_or("?");
    text.push_str(&format!(
        "configuration of entry {}, committed: {}; the next id must be above {}; feature level \
         {}\n",
        field("configuration_index"),
        field("configuration_committed"),
        field("highest_id"),
        field("feature_level")
    ));
    text
}
