//! Errors at the start of `raft serve`, in the words of its flags.
//!
//! The names of [`Options`](kodiak_raft::node::Options) mean nothing to an operator. Mistakes that
//! can be found before any file is created are reported before.

use std::{collections::BTreeMap, error::Error, io, net::SocketAddr, path::Path};

use kodiak_raft::node::{NodeError, error_chain};

use super::Arguments;
use crate::address::ListenAddress;

/// Finds flags that do not fit together.
pub(super) fn check_flags(arguments: &Arguments) -> Result<(), String> {
    let Arguments { election_timeout, heartbeat, .. } = arguments;
    if heartbeat * 2 > *election_timeout {
        return Err(format!(
            "--heartbeat {heartbeat} is more than half of --election-timeout {election_timeout}: \
             followers would depose a leader that is only a little late; lower --heartbeat or \
             raise --election-timeout"
        ));
    }
    let (raft, client) = (&arguments.raft, &arguments.client);
    if raft == client && raft.port() != 0 {
        return Err(format!(
            "--raft and --client are both {raft}: other nodes and Redis clients need a port each"
        ));
    }
    let advertised =
        [("--advertise-raft", &arguments.advertise_raft), ("--advertise", &arguments.advertise)];
    for (flag, address) in advertised {
        if let Some(address) = address.as_ref().filter(|address| address.is_unspecified()) {
            return Err(format!(
                "{flag} {address} is an address of every machine: give a name or an address of \
                 this one"
            ));
        }
    }
    match &arguments.cluster {
        Some(name) if name.is_empty() => {
            return Err("--cluster is empty: leave it out, or give the cluster a name".to_owned());
        }
        Some(name) if !arguments.join.is_empty() => {
            return Err(format!(
                "--cluster {name} names a new cluster, and --join bootstraps none: a node takes \
                 the name of the cluster that it joins; leave --cluster out"
            ));
        }
        _ => {}
    }
    check_peers(arguments)
}

fn check_peers(arguments: &Arguments) -> Result<(), String> {
    let (id, mut seen, mut places) = (arguments.id, BTreeMap::new(), BTreeMap::new());
    for peer in &arguments.peers {
        let (other, address) = (peer.id, peer.address.to_string());
        if other == id {
            return Err(format!(
                "node {id} is among its own peers: --id is {id} too; give --peer for the other \
                 nodes only"
            ));
        }
        if peer.address.is_unspecified() {
            return Err(format!(
                "--peer {other}={address} is an address of every machine: give a name or an \
                 address of node {other}"
            ));
        }
        if seen.insert(other, ()).is_some() {
            return Err(format!("--peer {other} is given twice"));
        }
        let own = arguments
            .advertise_raft
            .as_ref()
            .map_or_else(|| arguments.raft.to_string(), ToString::to_string);
        if address == own {
            return Err(format!(
                "--peer {other}={address} is the address of node {id} itself: give node {other}'s \
                 --raft address"
            ));
        }
        if let Some(first) = places.insert(address.clone(), other) {
            return Err(format!(
                "--peer {first} and {other} are both at {address}: give each its own --raft address"
            ));
        }
    }
    Ok(())
}

/// Why the node could not be opened.
pub(super) fn node_error(arguments: &Arguments, error: NodeError) -> String {
    match error {
        NodeError::Unreachable { id, address } => format!(
            "--raft {} listens at every address of this machine ({address}), and the other nodes \
             know none of them: give the one where they reach node {id} as --advertise-raft \
             HOST:PORT",
            arguments.raft
        ),
        NodeError::PeerAddress { id, address, source } => {
            let text = source.to_string();
            let why = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
            format!(
                "--peer {id}={address}: cannot resolve {address:?}: {why}; every initial member \
                 must be reachable when a cluster is bootstrapped"
            )
        }
        NodeError::Listen { address, source } => {
            listen_error("peers", "--raft", &arguments.raft, address, &source)
        }
        NodeError::Folder(error) => folder_error(&arguments.data, &error),
        NodeError::OtherNode { folder, found, given } => format!(
            "data folder {} belongs to node {found}, not to node {given}: start it with --id \
             {found}, or give node {given} another --data",
            folder.display()
        ),
        error => error_chain(&error),
    }
}

/// Why a port cannot be opened.
pub(super) fn listen_error(
    whom: &str,
    flag: &str,
    given: &ListenAddress,
    address: SocketAddr,
    error: &io::Error,
) -> String {
    let innermost = innermost(error);
    let kind = innermost.downcast_ref::<io::Error>().map_or_else(|| error.kind(), io::Error::kind);
    let advice = match kind {
        io::ErrorKind::AddrInUse => "; another process has it, perhaps an earlier node",
        io::ErrorKind::AddrNotAvailable => {
            "; listen at an address of this machine (0.0.0.0 stands for all), and give \
             --advertise-raft and --advertise if others reach it at another one"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 are the system's",
        _ => "",
    };
    format!("cannot listen for {whom} on {address} ({flag} {given}): {innermost}{advice}")
}

/// The last cause, which is the system's.
fn innermost(error: &io::Error) -> &(dyn Error + 'static) {
    let mut innermost: &(dyn Error + 'static) = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

/// Why the data folder cannot be used.
pub(super) fn folder_error(data: &Path, error: &io::Error) -> String {
    if data.exists() && !data.is_dir() {
        return format!("--data {} is not a folder", data.display());
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let error = error_chain(error);
            format!("{error}; the user that runs the node must be able to read and write it")
        }
        _ => error_chain(error),
    }
}
