//! `raft`: a replicated key-value server that Redis clients can talk to.
#![forbid(unsafe_code)]

mod address;
mod client;
mod commands;
mod demo;
mod flags;
mod inspect;
mod kv;
mod membership;
mod recover;
mod removal;
mod resp;
mod serve;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tikv_jemallocator::Jemalloc;

/// `bench/cluster/long_operations.py` shows what it is for.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A replicated key-value server for Redis clients, on Raft.
///
/// 'raft demo' shows one at work. A cluster begins with 'raft serve' on each of its initial
/// members; then any Redis client may talk to any of them.
#[derive(Debug, Parser)]
#[command(name = "raft", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts three nodes on loopback, writes, kills the leader, and checks that nothing was lost.
    Demo(demo::Arguments),
    /// Runs one node: it bootstraps a cluster, joins one, or continues with its data folder.
    Serve(Box<serve::Arguments>),
    /// Prints the nodes of the cluster as a table, with roles and positions in the log.
    Status(status::Arguments),
    /// Lists and changes the members of the cluster.
    Member(membership::cli::MemberArguments),
    /// Transfers leadership to another voter.
    Transfer(membership::cli::TransferArguments),
    /// Lists the commands that Redis clients may send.
    Commands(commands::cli::Arguments),
    /// Prints what a node's data folder holds, damaged or not, and changes nothing. Fails if
    /// anything is damaged.
    Inspect(inspect::Arguments),
    /// LOSES DATA. Disaster recovery: makes a new cluster from one member's data folder after the
    /// permanent loss of a majority.
    Recover(recover::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Serve(arguments) => serve::run(*arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Member(arguments) => membership::cli::member(&arguments),
        Command::Transfer(arguments) => membership::cli::transfer(&arguments),
        Command::Commands(arguments) => commands::cli::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Recover(arguments) => recover::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raft: {}", kodiak_raft::node::error_chain(error.as_ref()));
            if error.is::<serve::StorageFailed>() {
                ExitCode::from(serve::StorageFailed::EXIT_CODE)
            } else if error.is::<serve::CommittedConflict>() {
                ExitCode::from(serve::CommittedConflict::EXIT_CODE)
            } else if error.is::<serve::UnappliedLog>() {
                ExitCode::from(serve::UnappliedLog::EXIT_CODE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
