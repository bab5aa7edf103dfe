//! Whether a leader that an operator chose will stay: leadership returns to the highest priority.

use crate::client::Info;

/// A voter as `RAFT MEMBERS` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Voter {
    priority: u8,
    id: u64,
}

/// A warning if leadership, handed to `to` or else to the best voter besides the leader, will not
/// stay there.
pub(super) fn transfer_warning(members: &Info, to: Option<u64>) -> Option<String> {
    let voters: Vec<Voter> =
        members.fields().filter_map(|(name, value)| voter(name, value)).collect();
    let leader = members.field("leader_id").and_then(|id| id.parse().ok());
    let next = match to {
        Some(to) => voters.iter().find(|voter| voter.id == to),
        None => voters
            .iter()
            .filter(|voter| Some(voter.id) != leader)
            .max_by_key(|voter| voter.priority),
    };
    let (next, highest) =
        (next?, voters.iter().max_by_key(|voter| (voter.priority, Some(voter.id) == leader))?);
    (highest.priority > next.priority).then(|| {
        let Voter { priority, id } = highest;
        format!(
            "node {} will not stay the leader: node {id} has the higher priority ({priority}, that \
             of node {} is {}) and leads again as soon as it has caught up; 'raft member priority' \
             changes that",
            next.id, next.id, next.priority
        )
    })
}

fn voter(name: &str, value: &str) -> Option<Voter> {
    let id = name.strip_prefix("member_")?.parse().ok()?;
    let part = |key: &str| value.split(',').find_map(|part| part.strip_prefix(key));
    let is_voter =
        part("capacity=").is_some_and(|capacity| matches!(capacity, "voter" | "voter-incoming"));
    let priority = part("priority=")?.parse().ok()?;
    is_voter.then_some(Voter { priority, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(priorities: [u8; 4]) -> Info {
        let mut text = "cluster_id:7\r\nleader_id:1\r\n".to_owned();
        for (id, priority) in (1..).zip(priorities) {
            let capacity = if id == 4 { "learner" } else { "voter" };
            text.push_str(&format!(
                "member_{id}:capacity={capacity},raft=host:1,disk=0,priority={priority}\r\n"
            ));
        }
        Info::from(text)
    }

    #[test]
    fn a_leader_of_a_lower_priority_is_warned_about() {
        let text = transfer_warning(&members([0, 0, 9, 0]), Some(2)).unwrap();
        assert!(text.contains("node 3 has the higher priority (9, that of node 2 is 0)"), "{text}");
        assert!(transfer_warning(&members([5, 1, 0, 0]), Some(2)).unwrap().contains("node 1"));
        assert!(
            transfer_warning(&members([5, 1, 3, 0]), None)
                .unwrap()
                .contains("(5, that of node 3 is 3)")
        );
        // Equal priorities are fine, and a learner's does not count.
        for (priorities, to) in [
            ([0; 4], Some(2)),
            ([5, 5, 1, 0], Some(2)),
            ([0, 0, 9, 0], None),
            ([0, 0, 0, 9], Some(2)),
        ] {
            assert_eq!(transfer_warning(&members(priorities), to), None, "{priorities:?}");
        }
        // The cluster itself refuses a node that is not a voter.
        assert_eq!(transfer_warning(&members([0, 0, 9, 0]), Some(4)), None);
    }
}
