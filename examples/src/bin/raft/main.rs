//! `raft`: a replicated key-value server that Redis clients can talk to.
#![forbid(unsafe_code)]

mod client;
mod demo;
mod inspect;
mod kv;
mod membership;
mod recover;
mod resp;
mod serve;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A replicated key-value server for Redis clients, on Raft.
#[derive(Debug, Parser)]
#[command(name = "raft", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts three nodes on loopback, writes, kills the leader, and checks that nothing was lost.
    Demo(demo::Arguments),
    /// Runs one node.
    Serve(serve::Arguments),
    /// Prints the cluster as a table.
    Status(status::Arguments),
    /// Lists and changes the members of the cluster.
    Member(membership::cli::MemberArguments),
    /// Hands leadership to another node.
    Transfer(membership::cli::TransferArguments),
    /// Prints what a node's data folder holds, damaged or not, and changes nothing. Fails if anything is damaged.
    Inspect(inspect::Arguments),
    /// LOSES DATA. Makes a new cluster out of one node's data folder, when a majority of the old one is lost for ever.
    Recover(recover::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Member(arguments) => membership::cli::member(&arguments),
        Command::Transfer(arguments) => membership::cli::transfer(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Recover(arguments) => recover::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raft: {error}");
            ExitCode::FAILURE
        }
    }
}
