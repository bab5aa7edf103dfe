//! Opens the data folder, or creates it: the node's identity and its log.

use std::{fs::File, io::Read};

use tracing::{error, info, warn};

use super::{NodeError, Options, peers::resolve};
use crate::{
    storage::{DamagedSegment, DamagedSnapshot, Log, RealDisk, Recovered, StorageError, TornTail},
    types::{Configuration, DiskId, FeatureLevel, GroupId, Identity, Member, Saved},
};

/// The only group of a node, for now.
const GROUP: GroupId = GroupId(0);

/// An open data folder.
#[derive(Debug)]
pub(super) struct OpenedFolder {
    pub(super) log: Log<RealDisk>,
    pub(super) identity: Identity,
    pub(super) saved: Saved,
}

/// Opens the log in the options' folder, or creates one.
///
/// A new log holds the initial members of the options, or none if this node is to join a cluster.
/// `address` is where the other nodes reach this one.
pub(super) fn open(options: &Options, address: &str) -> Result<OpenedFolder, NodeError> {
    let storage = |source| NodeError::Storage { folder: options.data.clone(), source };
    let disk = || RealDisk::open(&options.data).map_err(NodeError::Folder);

    match Log::open(disk()?, options.log) {
        Err(StorageError::NoLog) => {}
        Err(error) => return Err(storage(error)),
        Ok((log, recovered)) => {
            let identity = recovered.identity;
            check_identity(options, &identity)?;
            check_snapshot(&recovered).map_err(storage)?;
            log_damage(&recovered);
            return Ok(OpenedFolder { log, identity, saved: recovered.saved });
        }
    }

    let disk_id = DiskId(random_u128()?);
    let cluster = options.join.unwrap_or_else(|| options.cluster_id());
    let identity = Identity { cluster, group: GROUP, node: options.id, disk: disk_id };
    let configuration = if options.join.is_some() {
        Configuration::default()
    } else {
        initial_configuration(options, address)?
    };
    drop(Log::create(disk()?, &identity, &configuration, options.log).map_err(storage)?);
    // The new log is read back: a node starts from what its disk holds, the first time too.
    let (log, recovered) = Log::open(disk()?, options.log).map_err(storage)?;
    Ok(OpenedFolder { log, identity, saved: recovered.saved })
}

/// Refuses a sole voter's log whose snapshot is damaged: no other node can send it one.
fn check_snapshot(recovered: &Recovered) -> Result<(), StorageError> {
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

/// Logs what opening the log has passed over or cut off.
fn log_damage(recovered: &Recovered) {
    for DamagedSnapshot { file, offset, what } in &recovered.damaged_snapshots {
        if recovered.lacks_snapshot {
            error!(
                %file,
                offset,
                "{what}: this snapshot is damaged, and the log before it is gone. This node votes \
                 and acknowledges, and asks its leader for another snapshot. Check the disk"
            );
            continue;
        }
        warn!(
            %file,
            offset,
            "{what}: this snapshot is damaged, and not needed: the log goes back far enough"
        );
    }
    if let Some(DamagedSegment { file, offset, what }) = &recovered.damaged_segment {
        warn!(%file, offset, "{what}: this segment was damaged; a snapshot holds its entries");
    }
    if let Some(TornTail { file, offset }) = &recovered.torn {
        info!(
            %file,
            offset,
            "removed a write that a crash cut short; it was never acknowledged"
        );
    }
}

/// The configuration that bootstraps the cluster, the same at all initial members.
///
/// It holds no disks: the initial members do not know each other's disks yet.
fn initial_configuration(options: &Options, address: &str) -> Result<Configuration, NodeError> {
    let mut members = Vec::new();
    for id in options.initial_voters() {
        let address = match options.peers.get(&id) {
            // Later a name may be unknown for a while. Now it is most likely a mistake.
            Some(peer) => {
                resolve(peer).map_err(|source| NodeError::PeerAddress {
                    id,
                    address: peer.clone(),
                    source,
                })?;
                peer.clone()
            }
            None => address.to_owned(),
        };
        members.push((id, Member { address, ..Member::default() }));
    }
    // An initial member of an older version is rejected by its feature level. Without a level it
    // would bootstrap a cluster of its own.
    Ok(Configuration::of_voters(members).at_feature_level(FeatureLevel::CURRENT))
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

/// A random number, unique in practice.
pub(super) fn random_u128() -> Result<u128, NodeError> {
    let mut bytes = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(NodeError::Random)?;
    Ok(u128::from_le_bytes(bytes))
}
