//! Opens the data folder, or makes it: who this node is, and what its log holds.

use std::{fs::File, io::Read};

use tracing::{error, info, warn};

use super::{NodeError, Options, peers::resolve};
use crate::{
    storage::{DamagedSegment, DamagedSnapshot, Log, RealDisk, Recovered, StorageError, TornTail},
    types::{Configuration, DiskId, FeatureLevel, GroupId, Identity, Member, Saved},
};

/// The only group of a node, for now.
const GROUP: GroupId = GroupId(0);

/// What the data folder said.
#[derive(Debug)]
pub(super) struct Born {
    pub(super) log: Log<RealDisk>,
    pub(super) identity: Identity,
    pub(super) saved: Saved,
}

/// Opens the log in the options' folder. A folder without one is given one, with the options'
/// founding members, or with none if this node is to join. `address` is where the others reach it.
pub(super) fn open(options: &Options, address: &str) -> Result<Born, NodeError> {
    let storage = |error| NodeError::Storage { folder: options.data.clone(), error };
    let disk = || RealDisk::open(&options.data).map_err(NodeError::Folder);

    match Log::open(disk()?, options.log) {
        Err(StorageError::NoLog) => {}
        Err(error) => return Err(storage(error)),
        Ok((log, recovered)) => {
            let identity = recovered.identity;
            check_identity(options, &identity)?;
            check_source(&recovered).map_err(storage)?;
            report(&recovered);
            return Ok(Born { log, identity, saved: recovered.saved });
        }
    }

    let disk_id = DiskId(random_u128()?);
    let cluster = options.join.unwrap_or_else(|| options.cluster_id());
    let identity = Identity { cluster, group: GROUP, node: options.id, disk: disk_id };
    let founding =
        if options.join.is_some() { Configuration::default() } else { founders(options, address)? };
    drop(Log::create(disk()?, &identity, &founding, options.log).map_err(storage)?);
    // What was written is read back: a node starts from what its disk holds, the first time too.
    let (log, recovered) = Log::open(disk()?, options.log).map_err(storage)?;
    Ok(Born { log, identity, saved: recovered.saved })
}

/// Refuses a sole voter's log whose snapshot is damaged: no other node can send it one.
fn check_source(recovered: &Recovered) -> Result<(), StorageError> {
    let Configuration { voters, outgoing, .. } = recovered.saved.configuration();
    let has_others = voters.iter().chain(outgoing).any(|&voter| voter != recovered.identity.node);
    match recovered.damaged_snapshots.first().filter(|_| recovered.lacks_snapshot && !has_others) {
        Some(DamagedSnapshot { file, offset, what }) => Err(StorageError::Corrupt {
            file: file.clone(),
            offset: *offset,
            what: format!("{what}; the entries before it are gone, and no other voter can send it"),
        }),
        None => Ok(()),
    }
}

/// What opening the log has passed over or cut off, for the operator.
fn report(recovered: &Recovered) {
    for DamagedSnapshot { file, offset, what } in &recovered.damaged_snapshots {
        if recovered.lacks_snapshot {
            error!(
                %file,
                offset,
                "{what}: this snapshot is damaged, and the log before it is gone. This node votes and \
                 acknowledges, and asks its leader for another snapshot. Look at the disk"
            );
            continue;
        }
        warn!(%file, offset, "{what}: this snapshot is damaged; the log goes back far enough to do without");
    }
    if let Some(DamagedSegment { file, offset, what }) = &recovered.damaged_segment {
        warn!(%file, offset, "{what}: this segment was damaged; a snapshot stands for its entries");
    }
    if let Some(TornTail { file, offset }) = &recovered.torn {
        info!(%file, offset, "a write that was never acknowledged was cut short by a crash; it is gone");
    }
}

/// The configuration with which the cluster begins: the same at all founders, who do not know each
/// other's disks yet.
fn founders(options: &Options, address: &str) -> Result<Configuration, NodeError> {
    let mut founders = Vec::new();
    for id in options.founding_ids() {
        let address = match options.peers.get(&id) {
            // Later, a name may be unknown for a while; now it is most likely a mistake.
            Some(peer) => match resolve(peer) {
                Ok(_) => peer.clone(),
                Err(error) => {
                    return Err(NodeError::PeerAddress { id, address: peer.clone(), error });
                }
            },
            None => address.to_owned(),
        };
        founders.push((id, Member { address, ..Member::default() }));
    }
    // Founders of an older version are turned away by name, rather than found another cluster.
    Ok(Configuration::of_voters(founders).at_feature_level(FeatureLevel::CURRENT))
}

fn check_identity(options: &Options, identity: &Identity) -> Result<(), NodeError> {
    if identity.node != options.id {
        return Err(NodeError::OtherNode {
            folder: options.data.clone(),
            found: identity.node,
            given: options.id,
        });
    }
    Ok(())
}

/// A number that nobody else draws.
pub(super) fn random_u128() -> Result<u128, NodeError> {
    let mut bytes = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(NodeError::Random)?;
    Ok(u128::from_le_bytes(bytes))
}
