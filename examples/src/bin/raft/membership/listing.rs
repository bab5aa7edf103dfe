//! The answer to `RAFT MEMBERS`: lines of `name:value`, as `INFO` has them.

use std::fmt::Write;

use kodiak_raft::{
    node::Status,
    types::{Configuration, NodeId},
};

/// The members as this node knows them. A removed node does not know them, which is the error
/// then.
pub(crate) fn text(status: &Status) -> Result<String, String> {
    if status.replica.is_removed {
        let id = status.identity.node;
        return Err(format!(
            "ERR removed: node {id} was removed from the cluster and no longer learns its members: \
             ask a member"
        ));
    }
    let core = &status.replica.core;
    let configuration = &core.configuration;
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a string does not fail.
        let _ = write!(text, "{name}:{value}\r\n");
    };
    line("cluster_id", &status.identity.cluster);
    line("leader_id", &core.leader.map_or("none".to_owned(), |leader| leader.to_string()));
    line("configuration_index", &core.configuration_index);
    line(
        "configuration_committed",
        &if core.configuration_index <= core.commit { "yes" } else { "no" },
    );
    line("highest_id", &configuration.highest_id);
    line("feature_level", &configuration.feature_level);
    for (&id, member) in &configuration.members {
        let value = format_args!(
            "capacity={},raft={},disk={},priority={}",
            capacity(configuration, id),
            member.address,
            member.disk,
            member.priority
        );
        line(&format!("member_{id}"), &value);
    }
    Ok(text)
}

/// The capacity in which a node belongs to the cluster.
pub(crate) fn capacity(configuration: &Configuration, id: NodeId) -> &'static str {
    let Configuration { voters, outgoing, learners, .. } = configuration;
    match (voters.contains(&id), outgoing.contains(&id), learners.contains(&id)) {
        (true, false, _) if configuration.is_joint() => "voter-incoming",
        (true, ..) => "voter",
        (false, true, true) => "voter-becoming-learner",
        (false, true, false) => "voter-leaving",
        (false, false, true) => "learner",
        (false, false, false) => "none",
    }
}

/// Ids, separated by commas; `none` if there is none.
pub(crate) fn ids<'a>(ids: impl IntoIterator<Item = &'a NodeId>) -> String {
    let ids: Vec<String> = ids.into_iter().map(ToString::to_string).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(",") }
}
