//! Changes of membership and transfers of leadership on their way to the leader, as bytes: `kind
//! u8`, and by kind
//!
//! ```text
//! 0 change     count u32 | change ...
//! 1 transfer   to u64, 0 for the best voter
//!
//! change       kind u8 | node u64 | and by kind
//! 0 add learner   disk u128 | priority u8 | length u32 | address
//! 1 promote
//! 2 demote
//! 3 remove
//! 4 update        has disk u8 | disk u128 | has address u8 | length u32 | address |
//!                 has priority u8 | priority u8
//! ```

use bytes::{Buf, BufMut, BytesMut};

use crate::replica::AdminRequest;
use crate::storage::codec::{DecodeError, Decoder};
use crate::types::{DiskId, FeatureLevel, Member, MemberChange, NodeId};

use super::Version;

/// Whether a version can encode it. Version 2 leaves out the members' feature levels.
pub(super) fn can_encode(version: Version, admin: &AdminRequest) -> bool {
    let needs_levels = |change: &MemberChange| matches!(change, MemberChange::EnableFeatures(_));
    version >= Version::V3
        || match admin {
            AdminRequest::ChangeMembership(changes) => !changes.iter().any(needs_levels),
            AdminRequest::TransferLeadership(_) => true,
        }
}

pub(super) fn put(out: &mut BytesMut, admin: &AdminRequest, version: Version) {
    match admin {
        AdminRequest::ChangeMembership(changes) => {
            out.put_u8(0);
            out.put_u32_le(u32::try_from(changes.len()).expect("a request's size is bounded"));
            changes.iter().for_each(|change| put_change(out, change, version));
        }
        AdminRequest::TransferLeadership(to) => {
            out.put_u8(1);
            out.put_u64_le(to.map_or(0, |to| to.0));
        }
    }
}

fn put_change(out: &mut BytesMut, change: &MemberChange, version: Version) {
    out.put_u8(match change {
        MemberChange::AddLearner { .. } => 0,
        MemberChange::Promote(_) => 1,
        MemberChange::Demote(_) => 2,
        MemberChange::Remove(_) => 3,
        MemberChange::Update { .. } => 4,
        MemberChange::EnableFeatures(_) => 5,
    });
    out.put_u64_le(change.node().unwrap_or_default().0);
    match change {
        MemberChange::AddLearner { member, .. } => {
            out.put_u128_le(member.disk.0);
            out.put_u8(member.priority);
            put_text(out, &member.address);
            put_level(out, Some(member.feature_level), version);
        }
        MemberChange::Update { disk, address, priority, feature_level, .. } => {
            out.put_u8(u8::from(disk.is_some()));
            out.put_u128_le(disk.unwrap_or_default().0);
            out.put_u8(u8::from(address.is_some()));
            put_text(out, address.as_deref().unwrap_or_default());
            out.put_u8(u8::from(priority.is_some()));
            out.put_u8(priority.unwrap_or_default());
            put_level(out, *feature_level, version);
        }
        MemberChange::EnableFeatures(level) => out.put_u16_le(level.0),
        MemberChange::Promote(_) | MemberChange::Demote(_) | MemberChange::Remove(_) => {}
    }
}

/// 0 stands for none.
fn put_level(out: &mut BytesMut, level: Option<FeatureLevel>, version: Version) {
    if version >= Version::V3 {
        out.put_u16_le(level.map_or(0, |level| level.0));
    }
}

fn get_level(
    from: &mut Decoder<impl Buf>,
    version: Version,
) -> Result<Option<FeatureLevel>, DecodeError> {
    if version < Version::V3 {
        return Ok(None);
    }
    let level = from.u16("a feature level")?;
    Ok((level > 0).then_some(FeatureLevel(level)))
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u32_le(u32::try_from(text.len()).expect("a request's size is bounded"));
    out.put_slice(text.as_bytes());
}

pub(super) fn get(
    from: &mut Decoder<impl Buf>,
    version: Version,
) -> Result<AdminRequest, DecodeError> {
    match from.u8("what is to be done")? {
        0 => {
            let count = from.u32("a count of changes")?;
            // Nothing is reserved for what a damaged count claims.
            (0..count)
                .map(|_| get_change(from, version))
                .collect::<Result<_, _>>()
                .map(AdminRequest::ChangeMembership)
        }
        1 => {
            let to = from.u64("a next leader")?;
            Ok(AdminRequest::TransferLeadership((to != 0).then_some(NodeId(to))))
        }
        kind => {
            Err(DecodeError::Invalid { what: "kind of what is to be done", value: kind.into() })
        }
    }
}

fn get_change(from: &mut Decoder<impl Buf>, version: Version) -> Result<MemberChange, DecodeError> {
    let kind = from.u8("a change's kind")?;
    let node = NodeId(from.u64("a member")?);
    Ok(match kind {
        0 => {
            let (disk, priority) = (DiskId(from.u128("a disk")?), from.u8("a priority")?);
            let address = from.string("an address")?;
            let feature_level = get_level(from, version)?.unwrap_or_default();
            let member = Member { disk, address, priority, feature_level };
            MemberChange::AddLearner { node, member }
        }
        1 => MemberChange::Promote(node),
        2 => MemberChange::Demote(node),
        3 => MemberChange::Remove(node),
        4 => {
            let (has_disk, disk) =
                (from.flag("whether the disk changes")?, DiskId(from.u128("a disk")?));
            let (has_address, address) =
                (from.flag("whether the address changes")?, from.string("an address")?);
            let (has_priority, priority) =
                (from.flag("whether the priority changes")?, from.u8("a priority")?);
            MemberChange::Update {
                node,
                disk: has_disk.then_some(disk),
                address: has_address.then_some(address),
                priority: has_priority.then_some(priority),
                feature_level: get_level(from, version)?,
            }
        }
        5 if version >= Version::V3 => {
            MemberChange::EnableFeatures(FeatureLevel(from.u16("a feature level")?))
        }
        kind => return Err(DecodeError::Invalid { what: "kind of change", value: kind.into() }),
    })
}
