//! Parsers of the subcommands of `RAFT` that change the cluster.

use std::borrow::Cow;

use kodiak_raft::{
    replica::AdminRequest,
    types::{DiskId, FeatureLevel, Member, MemberChange, NodeId},
};

use crate::{
    address::Address,
    commands::{Command, argument},
    resp::Request,
};

/// A word of the request, as text.
fn word<'a>(request: &Request<'a>, at: usize) -> Cow<'a, str> {
    String::from_utf8_lossy(argument(request, at))
}

fn change<const N: usize>(changes: [MemberChange; N]) -> Result<Command, String> {
    Ok(Command::Admin(AdminRequest::ChangeMembership(changes.to_vec())))
}

/// `RAFT ADD id host:port disk [level]`.
pub(crate) fn add(request: &Request<'_>) -> Result<Command, String> {
    let feature_level = match request.get(5) {
        Some(_) => parse_feature_level(&word(request, 5))?,
        None => FeatureLevel::BASE,
    };
    let disk = parse_disk(&word(request, 4))?;
    let address = parse_address(&word(request, 3))?;
    let member = Member { disk, address, priority: 0, feature_level };
    change([MemberChange::AddLearner { node: parse_node(request, 2)?, member }])
}

/// `RAFT PROMOTE id`.
pub(crate) fn promote(request: &Request<'_>) -> Result<Command, String> {
    change([MemberChange::Promote(parse_node(request, 2)?)])
}

/// `RAFT DEMOTE id`.
pub(crate) fn demote(request: &Request<'_>) -> Result<Command, String> {
    change([MemberChange::Demote(parse_node(request, 2)?)])
}

/// `RAFT REMOVE id`.
pub(crate) fn remove(request: &Request<'_>) -> Result<Command, String> {
    change([MemberChange::Remove(parse_node(request, 2)?)])
}

/// `RAFT REPLACE old new`. One step for both: the number of voters never differs from before.
pub(crate) fn replace(request: &Request<'_>) -> Result<Command, String> {
    let (old, new) = (parse_node(request, 2)?, parse_node(request, 3)?);
    change([MemberChange::Promote(new), MemberChange::Remove(old)])
}

/// `RAFT ADDRESS id host:port`.
pub(crate) fn address(request: &Request<'_>) -> Result<Command, String> {
    let (node, address) = (parse_node(request, 2)?, parse_address(&word(request, 3))?);
    change([update(node, Some(address), None)])
}

/// `RAFT PRIORITY id priority`.
pub(crate) fn priority(request: &Request<'_>) -> Result<Command, String> {
    let (node, priority) = (parse_node(request, 2)?, word(request, 3));
    match priority.parse() {
        Ok(priority) => change([update(node, None, Some(priority))]),
        Err(_) => Err(format!("ERR {priority:?} is not a priority: give a number from 0 to 255")),
    }
}

/// `RAFT ENABLE level`.
pub(crate) fn enable(request: &Request<'_>) -> Result<Command, String> {
    change([MemberChange::EnableFeatures(parse_feature_level(&word(request, 2))?)])
}

/// `RAFT TRANSFER [id]`.
pub(crate) fn transfer(request: &Request<'_>) -> Result<Command, String> {
    let to = request.get(2).map(|_| parse_node(request, 2)).transpose()?;
    Ok(Command::Admin(AdminRequest::TransferLeadership(to)))
}

fn update(node: NodeId, address: Option<String>, priority: Option<u8>) -> MemberChange {
    MemberChange::Update { node, disk: None, address, priority, feature_level: None }
}

fn parse_feature_level(text: &str) -> Result<FeatureLevel, String> {
    match text.parse() {
        Ok(level) if level > 0 => Ok(FeatureLevel(level)),
        _ => Err(format!("ERR {text:?} is not a feature level: give a number from 1")),
    }
}

fn parse_node(request: &Request<'_>, at: usize) -> Result<NodeId, String> {
    let text = word(request, at);
    match text.parse() {
        Ok(id) if id > 0 => Ok(NodeId(id)),
        _ => Err(format!("ERR {text:?} is not a node's id: give a number from 1")),
    }
}

fn parse_address(text: &str) -> Result<String, String> {
    match text.parse::<Address>() {
        Ok(address) if address.is_unspecified() => {
            Err(format!("ERR {text:?} is every machine's address: give the node's own"))
        }
        Ok(address) => Ok(address.to_string()),
        Err(why) => Err(format!("ERR {text:?} is not an address: {why}")),
    }
}

fn parse_disk(text: &str) -> Result<DiskId, String> {
    match u128::from_str_radix(text, 16) {
        Ok(disk) if disk > 0 && text.len() == 32 => Ok(DiskId(disk)),
        _ => Err(format!(
            "ERR {text:?} is not a disk's id, which has 32 hexadecimal digits: give disk_id of \
             INFO raft on the new node"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands, resp::RequestReader};

    fn ask(line: &str) -> Result<Command, String> {
        let input = format!("{line}\r\n");
        let mut reader = RequestReader::new(4096);
        match commands::parse(&reader.read(input.as_bytes()).unwrap().unwrap()).unwrap() {
            Command::Refused(error) => Err(error),
            command => Ok(command),
        }
    }

    fn changes(line: &str) -> Vec<MemberChange> {
        match ask(line) {
            Ok(Command::Admin(AdminRequest::ChangeMembership(changes))) => changes,
            other => panic!("{line} became {other:?}"),
        }
    }

    #[test]
    fn each_request_is_a_change() {
        let member = Member {
            disk: DiskId(0xABC),
            address: "host:7004".to_owned(),
            priority: 0,
            ..Member::default()
        };
        assert_eq!(
            changes("raft add 4 host:7004 00000000000000000000000000000abc"),
            [MemberChange::AddLearner { node: NodeId(4), member: member.clone() }]
        );
        let member = Member { feature_level: FeatureLevel(2), ..member };
        assert_eq!(
            changes("RAFT ADD 4 host:7004 00000000000000000000000000000abc 2"),
            [MemberChange::AddLearner { node: NodeId(4), member }]
        );
        assert_eq!(changes("RAFT Promote 4"), [MemberChange::Promote(NodeId(4))]);
        assert_eq!(changes("RAFT DEMOTE 4"), [MemberChange::Demote(NodeId(4))]);
        assert_eq!(changes("RAFT REMOVE 4"), [MemberChange::Remove(NodeId(4))]);
        assert_eq!(
            changes("RAFT REPLACE 3 4"),
            [MemberChange::Promote(NodeId(4)), MemberChange::Remove(NodeId(3))]
        );
        let update = |address: Option<&str>, priority| MemberChange::Update {
            node: NodeId(4),
            disk: None,
            address: address.map(str::to_owned),
            priority,
            feature_level: None,
        };
        assert_eq!(changes("RAFT ADDRESS 4 [::1]:9"), [update(Some("[::1]:9"), None)]);
        assert_eq!(changes("RAFT PRIORITY 4 255"), [update(None, Some(255))]);
        assert_eq!(changes("RAFT ENABLE 2"), [MemberChange::EnableFeatures(FeatureLevel(2))]);
        assert_eq!(
            ask("RAFT TRANSFER"),
            Ok(Command::Admin(AdminRequest::TransferLeadership(None)))
        );
        assert_eq!(
            ask("RAFT TRANSFER 2"),
            Ok(Command::Admin(AdminRequest::TransferLeadership(Some(NodeId(2)))))
        );
    }

    #[test]
    fn malformed_requests_are_refused_with_a_hint() {
        for (line, word) in [
            ("RAFT REMOVE x", "node's id"),
            ("RAFT REMOVE 0", "node's id"),
            ("RAFT ADD 4 host 0000000000000000000000000000000a", "HOST:PORT"),
            ("RAFT ADD 4 host:0 0000000000000000000000000000000a", "port 0"),
            ("RAFT ADDRESS 4 :1", "no host"),
            ("RAFT ADDRESS 4 0.0.0.0:1", "every machine's"),
            ("RAFT ADD 4 host:1 0", "disk_id"),
            ("RAFT ADD 4 host:1 0000000000000000000000000000000a zero", "feature level"),
            ("RAFT ADD 4 host:1 xyz", "disk_id"),
            ("RAFT PRIORITY 4 256", "0 to 255"),
            ("RAFT ENABLE 0", "feature level"),
        ] {
            let error = ask(line).unwrap_err();
            assert!(error.starts_with("ERR ") && error.contains(word), "{line}: {error}");
        }
    }
}
