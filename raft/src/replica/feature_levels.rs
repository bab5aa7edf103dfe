//! Raises the cluster's feature level: adds to the change what the members' versions support.
//!
//! A configuration of the base level records no levels: nodes of that level could not read them. So
//! the leader learns them from the handshakes, and one entry records them and raises the active
//! level ([`FeatureLevel`](crate::types::FeatureLevel)).

use std::collections::BTreeMap;

use super::{Refusal, Replica};
use crate::types::{FeatureLevel, MEMBERS_MAX, MemberChange, NodeId};

/// What the versions of this node's peers support, by their latest handshakes in this life.
#[derive(Debug, Default)]
pub(super) struct PeerLevels(BTreeMap<NodeId, FeatureLevel>);

impl Replica {
    /// The version that `peer` runs supports this level, by its handshake. A node that is no member
    /// may become one, so it is remembered, too, until there are [`MEMBERS_MAX`] of them.
    pub fn note_feature_level(&mut self, peer: NodeId, level: FeatureLevel) {
        if self.levels.0.len() >= 2 * MEMBERS_MAX {
            let members = &self.core.configuration().members;
            self.levels.0.retain(|id, _| members.contains_key(id));
        }
        self.levels.0.insert(peer, level);
    }

    /// The changes, and before them what each member supports if they raise the active level.
    ///
    /// # Errors
    /// A member has not been connected to this node, so that its version is not known.
    pub(super) fn with_feature_levels(
        &self,
        changes: &[MemberChange],
    ) -> Result<Vec<MemberChange>, Refusal> {
        let raises = changes.iter().any(|change| matches!(change, MemberChange::EnableFeatures(_)));
        let mut all = Vec::new();
        for (&node, member) in self.core.configuration().members.iter().filter(|_| raises) {
            let is_self = node == self.core.id();
            let level = if is_self {
                Some(FeatureLevel::CURRENT)
            } else {
                self.levels.0.get(&node).copied()
            };
            match level {
                Some(level) if level > member.feature_level => all.push(MemberChange::Update {
                    node,
                    disk: None,
                    address: None,
                    priority: None,
                    feature_level: Some(level),
                }),
                Some(_) => {}
                None => {
                    let reason = format!(
                        "node {node} has not been connected to this leader, so its feature level is not known; \
                         start it, or remove it, and try again"
                    );
                    return Err(Refusal::Declined { reason, is_final: false });
                }
            }
        }
        all.extend_from_slice(changes);
        Ok(all)
    }
}
