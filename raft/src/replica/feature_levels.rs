//! Raising the cluster's feature level: adds each member's supported level to the change.
//!
//! A configuration of the base level records no levels, because nodes of that level could not
//! decode them. So the leader learns the levels from handshakes, and one entry records them and
//! raises the active level ([`FeatureLevel`](crate::types::FeatureLevel)).

use std::collections::BTreeMap;

use super::{Refusal, Replica};
use crate::types::{FeatureLevel, MEMBERS_MAX, MemberChange, NodeId};

/// The feature levels that this node's peers support, from their handshakes since the start.
#[derive(Debug, Default)]
pub(super) struct PeerLevels(BTreeMap<NodeId, FeatureLevel>);

impl Replica {
    /// Records the feature level that `peer` announced in its handshake.
    ///
    /// Up to [`MEMBERS_MAX`] nodes that are not members are remembered too: they may become
    /// members.
    pub fn note_feature_level(&mut self, peer: NodeId, level: FeatureLevel) {
        if self.levels.0.len() >= 2 * MEMBERS_MAX {
            let members = &self.core.configuration().members;
            self.levels.0.retain(|id, _| members.contains_key(id));
        }
        self.levels.0.insert(peer, level);
    }

    /// Puts the level of each member before `changes`, if these raise the active level.
    ///
    /// # Errors
    /// A member has not been connected to this node, so its level is not known.
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
                        "node {node} has not been connected to this leader, so its feature level \
                         is not known; start it, or remove it, and try again"
                    );
                    return Err(Refusal::Declined { reason, is_final: false });
                }
            }
        }
        all.extend_from_slice(changes);
        Ok(all)
    }
}
