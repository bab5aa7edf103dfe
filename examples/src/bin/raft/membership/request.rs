//! `RAFT …`: what a client may ask about the cluster itself.

use kodiak_raft::{
    replica::Admin,
    types::{DiskId, FeatureLevel, Member, MemberChange, NodeId},
};

use crate::{
    address::Address,
    kv::command::{Command, Local},
    resp::Request,
};

/// What there is, as the error for anything else says it.
const USAGE: &str = "MEMBERS, ADD id host:port disk [level], PROMOTE id, DEMOTE id, REMOVE id, REPLACE old new, ADDRESS id host:port, \
                     PRIORITY id n, ENABLE level or TRANSFER [id]";

/// Understands a request that begins with `RAFT`.
pub(crate) fn understand(request: &Request<'_>) -> Result<Command, String> {
    let words: Vec<String> =
        request.from(1).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let name = words.first().map(|word| word.to_uppercase()).unwrap_or_default();
    let arguments: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    let change = |change| Ok(Command::Admin(Admin::Change(vec![change])));
    match (name.as_str(), &arguments[..]) {
        ("MEMBERS", []) => Ok(Command::Local(Local::Members)),
        ("ADD", &[id, host, disk, ref level @ ..]) if level.len() <= 1 => {
            let feature_level =
                level.first().map_or(Ok(FeatureLevel::BASE), |level| feature_level(level))?;
            let member = Member {
                disk: disk_of(disk)?,
                address: address(host)?,
                priority: 0,
                feature_level,
            };
            change(MemberChange::AddLearner { node: node(id)?, member })
        }
        ("PROMOTE", &[id]) => change(MemberChange::Promote(node(id)?)),
        ("DEMOTE", &[id]) => change(MemberChange::Demote(node(id)?)),
        ("REMOVE", &[id]) => change(MemberChange::Remove(node(id)?)),
        // One step for both: at no time are there fewer voters, or more, than before.
        ("REPLACE", &[old, new]) => {
            let changes = vec![MemberChange::Promote(node(new)?), MemberChange::Remove(node(old)?)];
            Ok(Command::Admin(Admin::Change(changes)))
        }
        ("ADDRESS", &[id, host]) => change(update(node(id)?, Some(address(host)?), None)),
        ("PRIORITY", &[id, priority]) => {
            let priority = priority
                .parse()
                .map_err(|_| format!("ERR {priority:?} is no priority: 0 to 255"))?;
            change(update(node(id)?, None, Some(priority)))
        }
        ("ENABLE", &[level]) => change(MemberChange::EnableFeatures(feature_level(level)?)),
        ("TRANSFER", &[]) => Ok(Command::Admin(Admin::Transfer(None))),
        ("TRANSFER", &[id]) => Ok(Command::Admin(Admin::Transfer(Some(node(id)?)))),
        _ => Err(format!("ERR RAFT takes {USAGE}")),
    }
}

fn update(node: NodeId, address: Option<String>, priority: Option<u8>) -> MemberChange {
    MemberChange::Update { node, disk: None, address, priority, feature_level: None }
}

fn feature_level(text: &str) -> Result<FeatureLevel, String> {
    match text.parse() {
        Ok(level) if level > 0 => Ok(FeatureLevel(level)),
        _ => Err(format!("ERR {text:?} is no feature level: a number from 1")),
    }
}

fn node(text: &str) -> Result<NodeId, String> {
    match text.parse() {
        Ok(id) if id > 0 => Ok(NodeId(id)),
        _ => Err(format!("ERR {text:?} is no node's id: a number from 1")),
    }
}

fn address(text: &str) -> Result<String, String> {
    match text.parse::<Address>() {
        Ok(address) if address.is_everywhere() => {
            Err(format!("ERR {text:?} is every machine's address"))
        }
        Ok(address) => Ok(address.to_string()),
        Err(why) => Err(format!("ERR {text:?} is no address: {why}")),
    }
}

fn disk_of(text: &str) -> Result<DiskId, String> {
    match u128::from_str_radix(text, 16) {
        Ok(disk) if disk > 0 && text.len() == 32 => Ok(DiskId(disk)),
        _ => Err(format!(
            "ERR {text:?} is no disk's id, which has 32 digits: INFO raft on the new node says it as disk_id"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::RequestReader;

    fn ask(line: &str) -> Result<Command, String> {
        let input = format!("{line}\r\n");
        let mut reader = RequestReader::new(4096);
        understand(&reader.read(input.as_bytes()).unwrap().unwrap())
    }

    fn changes(line: &str) -> Vec<MemberChange> {
        match ask(line) {
            Ok(Command::Admin(Admin::Change(changes))) => changes,
            other => panic!("{line} came to {other:?}"),
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
        assert_eq!(ask("RAFT TRANSFER"), Ok(Command::Admin(Admin::Transfer(None))));
        assert_eq!(ask("RAFT TRANSFER 2"), Ok(Command::Admin(Admin::Transfer(Some(NodeId(2))))));
        assert_eq!(ask("RAFT MEMBERS"), Ok(Command::Local(Local::Members)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (line, word) in [
            ("RAFT", "MEMBERS, ADD"),
            ("RAFT PROMOTE", "PROMOTE id"),
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
            ("RAFT ENABLE", "ENABLE level"),
        ] {
            let error = ask(line).unwrap_err();
            assert!(error.starts_with("ERR ") && error.contains(word), "{line}: {error}");
        }
    }
}
