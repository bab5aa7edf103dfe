//! `raft status`: the cluster as a table.

use std::{error::Error, io, time::Duration};

use kodiak_raft::node::error_chain;

use crate::{
    address::Address,
    client::{BlockingClient, Info},
    flags::milliseconds,
};

/// Flags of `raft status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The --client address of any node.
    #[arg(long, value_name = "HOST:PORT")]
    client: Address,
    /// How long to wait for each node, in milliseconds.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 1000,
        value_parser = milliseconds(),
        allow_negative_numbers = true
    )]
    timeout: u64,
}

const HEADINGS: [&str; 11] = [
    "NODE", "CLIENT", "ROLE", "CAPACITY", "TERM", "LEADER", "COMMIT", "APPLIED", "FIRST", "LAST",
    "SNAPSHOT",
];
const FIELDS: [&str; 9] = [
    "role",
    "capacity",
    "term",
    "leader_id",
    "commit_index",
    "applied_index",
    "first_index",
    "last_index",
    "snapshot_index",
];

/// Asks the given node and those that it names, and prints their states.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let timeout = Duration::from_millis(arguments.timeout);
    let asked = &arguments.client;
    let info = ask(asked, timeout)
        .map_err(|error| format!("cannot ask the node at {asked}: {}", error_chain(&error)))?;
    let mut rows = vec![(sort_key(info.field("node_id")), node_row(&info, &asked.to_string()))];
    let mut infos = vec![info.clone()];
    for (name, value) in info.fields() {
        let Some(id) = name.strip_prefix("peer_") else { continue };
        let client =
            value.split(',').find_map(|part| part.strip_prefix("client=")).unwrap_or_default();
        let raft = value.split(',').find_map(|part| part.strip_prefix("raft=")).unwrap_or_default();
        let (row, info) = peer_row(id, client, raft, timeout);
        rows.push((sort_key(Some(id)), row));
        infos.extend(info);
    }
    rows.sort_by_key(|(id, _)| *id);
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    print!(
        "{}{}{}{}",
        format_table(rows),
        configuration(&infos),
        followers(&infos),
        alarms(&infos)
    );
    if leader(&infos).is_none() && info.field("role") == Some("removed") {
        println!(
            "the node that was asked was removed from the cluster, and its information is old: ask \
             a member"
        );
    }
    Ok(())
}

fn sort_key(id: Option<&str>) -> u64 {
    id.and_then(|id| id.parse().ok()).unwrap_or(u64::MAX)
}

fn ask(address: &Address, timeout: Duration) -> io::Result<Info> {
    let info = BlockingClient::connect_to_node(address, timeout)?.info("raft")?;
    match info.field("node_id") {
        Some(_) => Ok(info),
        None => Err(io::Error::other(
            "a Redis server that is not 'raft serve' answers there: INFO has no section raft",
        )),
    }
}

fn node_row(info: &Info, client: &str) -> Vec<String> {
    let mut row = vec![info.field("node_id").unwrap_or("?").to_owned(), client.to_owned()];
    row.extend(FIELDS.iter().map(|field| info.field(field).unwrap_or("?").to_owned()));
    row
}

fn peer_row(id: &str, client: &str, raft: &str, timeout: Duration) -> (Vec<String>, Option<Info>) {
    let unreachable = |why: String| (vec![id.to_owned(), why, "unreachable".to_owned()], None);
    if client.is_empty() {
        return unreachable(format!("(not met; peers reach it at {raft})"));
    }
    match client.parse().ok().and_then(|address| ask(&address, timeout).ok()) {
        Some(info) => (node_row(&info, client), Some(info)),
        None => unreachable(client.to_owned()),
    }
}

/// The leader: of the nodes that claim it, the one of the highest term.
fn leader(infos: &[Info]) -> Option<&Info> {
    let leads = |info: &&Info| info.field("role") == Some("leader");
    infos.iter().filter(leads).max_by_key(|info| sort_key(info.field("term")))
}

/// The members as the leader knows them, or else the node that was asked first.
fn configuration(infos: &[Info]) -> String {
    let Some(info) = leader(infos).or(infos.first()) else { return String::new() };
    let mut text =
        format!("configuration of entry {}:", info.field("configuration_index").unwrap_or("?"));
    for (name, field) in
        [("voters", "voters"), ("leaving voters", "outgoing_voters"), ("learners", "learners")]
    {
        if let Some(ids) = info.field(field).filter(|&ids| ids != "none" || name == "voters") {
            text.push_str(&format!(" {name} {}", ids.replace(',', " ")));
        }
    }
    if let Some(to) = info.field("transferring_to").filter(|&to| to != "none") {
        text.push_str(&format!("; handing over to node {to}"));
    }
    text + "\n"
}

/// What the leader knows about its followers, a line each.
fn followers(infos: &[Info]) -> String {
    let newest = leader(infos);
    let mut text = String::new();
    for (name, value) in newest.into_iter().flat_map(Info::fields) {
        if let (Some(id), Some((_, known))) =
            (name.strip_prefix("peer_"), value.split_once(",state="))
        {
            text.push_str(&format!(
                "leader to {id}: {}\n",
                known.replace(',', ", ").replace('=', " ")
            ));
        }
    }
    text
}

/// The alarms, a line for each node that has any.
fn alarms(infos: &[Info]) -> String {
    let lines = infos.iter().filter_map(|info| {
        let alarms = info.field("alarms").filter(|&alarms| alarms != "none")?;
        Some(format!("ALARM at node {}: {alarms}\n", info.field("node_id").unwrap_or("?")))
    });
    lines.collect()
}

/// The table, with aligned columns.
fn format_table(rows: Vec<Vec<String>>) -> String {
    let headings = HEADINGS.iter().map(|&heading| heading.to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(headings).chain(rows).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let full = ["1", "127.0.0.1:6001", "leader", "voter", "2", "1", "10", "10", "3", "11", "8"];
        let down = ["2", "127.0.0.1:6002", "unreachable"];
        let rows = [&full[..], &down[..]]
            .map(|row| row.iter().map(|&cell| cell.to_owned()).collect())
            .to_vec();
        assert_eq!(
            format_table(rows),
            "NODE  CLIENT          ROLE         CAPACITY  TERM  LEADER  COMMIT  APPLIED  FIRST  \
             LAST  SNAPSHOT\n\
             1     127.0.0.1:6001  leader       voter     2     1       10      10       3      \
             11    8\n\
             2     127.0.0.1:6002  unreachable\n"
        );
    }
}
