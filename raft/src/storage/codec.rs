//! Encoding of types, shared by the log's frames and the wire's frames.
//!
//! Numbers are little-endian, without padding. Decoding never panics, and never reserves memory for
//! a count that the remaining bytes cannot hold. A `get_` function fails if the bytes are not what
//! the `put_` function of the same name writes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};

use crate::types::{
    ClusterId, Configuration, Digest, DiskId, Entries, Entry, FeatureLevel, GroupId, HardState,
    Identity, Index, Life, LogPosition, Member, NodeId, Payload, PeerRecord, Proposal,
    SessionCommand, SessionId, Stamp, Term,
};

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the bytes end in the middle of {what}")]
    Short {
        /// What was being read.
        what: &'static str,
    },
    /// A number is not valid here.
    #[error("{value} is not a valid {what}")]
    Invalid {
        /// What was being read.
        what: &'static str,
        /// The number found.
        value: u64,
    },
    /// Bytes are left over.
    #[error("{bytes} bytes follow the end of {what}")]
    Trailing {
        /// What was being read.
        what: &'static str,
        /// How many are left.
        bytes: usize,
    },
}

const PAYLOAD_NOOP: u8 = 0;
const PAYLOAD_COMMAND: u8 = 1;
const PAYLOAD_CONFIGURATION: u8 = 2;
const PAYLOAD_OPEN_SESSION: u8 = 3;
const PAYLOAD_SESSION_COMMAND: u8 = 4;
const PAYLOAD_CLOSE_SESSION: u8 = 5;
const PAYLOAD_CONFIGURATION_WITH_LEVELS: u8 = 6;

/// The length of a command's session, number and acknowledgement, in bytes.
const SESSION_HEADER_BYTES: usize = 24;

/// The bytes that [`put_entry`] writes besides the payload: index, term, stamp, kind, length.
pub const ENTRY_HEADER_BYTES: usize = 8 + 8 + 8 + 1 + 4;

/// The bytes that [`put_hard_state`] writes.
pub const HARD_STATE_BYTES: usize = 24;

/// The bytes that [`put_peer_record`] writes.
pub const PEER_RECORD_BYTES: usize = 16 + 5 * 8;

/// The bytes that [`put_identity`] writes.
pub const IDENTITY_BYTES: usize = 48;

/// The greatest length of a payload, in bytes: the greatest `u32`.
pub const MAX_PAYLOAD_BYTES: usize = u32::MAX as usize;

/// Writes an entry: `[index u64][term u64][stamp u64][kind u8][length u32][payload]`.
///
/// # Panics
/// If the payload is longer than [`MAX_PAYLOAD_BYTES`]. Callers have much lower limits.
pub fn put_entry(out: &mut impl BufMut, entry: &Entry) {
    out.put_u64_le(entry.index.0);
    out.put_u64_le(entry.term.0);
    out.put_u64_le(entry.stamp.0);
    match &entry.payload {
        Payload::Noop => {
            out.put_u8(PAYLOAD_NOOP);
            out.put_u32_le(0);
        }
        Payload::Command(command) => {
            out.put_u8(PAYLOAD_COMMAND);
            out.put_u32_le(length_u32(command.len()));
            out.put_slice(command);
        }
        Payload::Configuration(configuration) if configuration.feature_level.is_above_base() => {
            out.put_u8(PAYLOAD_CONFIGURATION_WITH_LEVELS);
            out.put_u32_le(length_u32(
                configuration_bytes(configuration) + feature_level_bytes(configuration),
            ));
            put_configuration(out, configuration);
            put_feature_levels(out, configuration);
        }
        Payload::Configuration(configuration) => {
            out.put_u8(PAYLOAD_CONFIGURATION);
            out.put_u32_le(length_u32(configuration_bytes(configuration)));
            put_configuration(out, configuration);
        }
        Payload::OpenSession { ttl_ms, salt } => {
            out.put_u8(PAYLOAD_OPEN_SESSION);
            out.put_u32_le(16);
            out.put_u64_le(*ttl_ms);
            out.put_u64_le(*salt);
        }
        Payload::SessionCommand(in_session) => {
            out.put_u8(PAYLOAD_SESSION_COMMAND);
            out.put_u32_le(length_u32(SESSION_HEADER_BYTES + in_session.command.len()));
            put_session_command(out, in_session);
        }
        Payload::CloseSession { session } => {
            out.put_u8(PAYLOAD_CLOSE_SESSION);
            out.put_u32_le(8);
            out.put_u64_le(session.0);
        }
    }
}

fn put_session_command(out: &mut impl BufMut, in_session: &SessionCommand) {
    out.put_u64_le(in_session.session.0);
    out.put_u64_le(in_session.sequence);
    out.put_u64_le(in_session.acknowledged);
    out.put_slice(&in_session.command);
}

/// Writes a proposal: `[kind u8][payload]`, both as in an entry. The payload has no length: it must
/// be the last of its message.
pub fn put_proposal(out: &mut impl BufMut, proposal: &Proposal) {
    match proposal {
        Proposal::Command(command) => {
            out.put_u8(PAYLOAD_COMMAND);
            out.put_slice(command);
        }
        Proposal::OpenSession { ttl_ms, salt } => {
            out.put_u8(PAYLOAD_OPEN_SESSION);
            out.put_u64_le(*ttl_ms);
            out.put_u64_le(*salt);
        }
        Proposal::SessionCommand(in_session) => {
            out.put_u8(PAYLOAD_SESSION_COMMAND);
            put_session_command(out, in_session);
        }
        Proposal::CloseSession { session } => {
            out.put_u8(PAYLOAD_CLOSE_SESSION);
            out.put_u64_le(session.0);
        }
    }
}

/// Reads a proposal, up to the end of the bytes.
///
/// # Errors
/// If the bytes are not a proposal.
pub fn get_proposal(from: &mut Decoder<impl Buf>) -> Result<Proposal, DecodeError> {
    let kind = from.u8("a proposal's kind")?;
    let body = from.rest();
    proposal(kind, body)?
        .ok_or(DecodeError::Invalid { what: "kind of proposal", value: kind.into() })
}

/// The proposal of this kind with this body; `None` if no proposal has this kind.
fn proposal(kind: u8, body: Bytes) -> Result<Option<Proposal>, DecodeError> {
    if kind == PAYLOAD_COMMAND {
        return Ok(Some(Proposal::Command(body)));
    }
    let mut from = Decoder::new(body);
    let proposal = match kind {
        PAYLOAD_OPEN_SESSION => Proposal::OpenSession {
            ttl_ms: from.u64("a session's time to live")?,
            salt: from.u64("a session's salt")?,
        },
        PAYLOAD_SESSION_COMMAND => Proposal::SessionCommand(Box::new(SessionCommand {
            session: SessionId(from.u64("a command's session")?),
            sequence: from.u64("a command's number")?,
            acknowledged: from.u64("an acknowledgement")?,
            command: from.rest(),
        })),
        PAYLOAD_CLOSE_SESSION => {
            Proposal::CloseSession { session: SessionId(from.u64("a session")?) }
        }
        _ => return Ok(None),
    };
    from.finish("a proposal")?;
    Ok(Some(proposal))
}

/// How many bytes [`put_entry`] writes.
#[must_use]
pub fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_HEADER_BYTES
        + match &entry.payload {
            Payload::Noop => 0,
            Payload::Command(command) => command.len(),
            Payload::Configuration(configuration)
                if configuration.feature_level.is_above_base() =>
            {
                configuration_bytes(configuration) + feature_level_bytes(configuration)
            }
            Payload::Configuration(configuration) => configuration_bytes(configuration),
            Payload::OpenSession { .. } => 16,
            Payload::CloseSession { .. } => 8,
            Payload::SessionCommand(in_session) => SESSION_HEADER_BYTES + in_session.command.len(),
        }
}

/// Reads an entry.
///
/// # Errors
/// If the bytes are not an entry.
pub fn get_entry(from: &mut Decoder<impl Buf>) -> Result<Entry, DecodeError> {
    let index = Index(from.u64("an entry's index")?);
    let term = Term(from.u64("an entry's term")?);
    let stamp = Stamp(from.u64("an entry's stamp")?);
    let kind = from.u8("an entry's kind")?;
    let body = from.bytes("an entry's payload")?;
    let payload = match kind {
        PAYLOAD_NOOP if body.is_empty() => Payload::Noop,
        PAYLOAD_NOOP => {
            return Err(DecodeError::Trailing { what: "an empty entry", bytes: body.len() });
        }
        PAYLOAD_CONFIGURATION | PAYLOAD_CONFIGURATION_WITH_LEVELS => {
            let mut body = Decoder::new(body);
            let mut configuration = get_configuration(&mut body)?;
            if kind == PAYLOAD_CONFIGURATION_WITH_LEVELS {
                get_feature_levels(&mut body, &mut configuration)?;
            }
            body.finish("a configuration")?;
            Payload::Configuration(Box::new(configuration))
        }
        kind => match proposal(kind, body)? {
            Some(proposal) => proposal.into(),
            None => return Err(DecodeError::Invalid { what: "kind of entry", value: kind.into() }),
        },
    };
    Ok(Entry { index, term, stamp, payload })
}

/// Writes `[count u32]` and the entries, each as [`put_entry`] does.
///
/// # Panics
/// If there are 2^32 or more, which fit no frame.
pub fn put_entries(out: &mut impl BufMut, entries: &Entries) {
    out.put_u32_le(length_u32(entries.len()));
    for entry in entries {
        put_entry(out, entry);
    }
}

/// Reads `[count u32]` entries, each as [`put_entry`] writes it.
///
/// # Errors
/// If the bytes are not that number of entries.
pub fn get_entries(from: &mut Decoder<impl Buf>) -> Result<Entries, DecodeError> {
    let count = from.u32("a count of entries")? as usize;
    // A damaged count can claim anything: no memory is reserved for more than the bytes can hold.
    if count > from.remaining() / ENTRY_HEADER_BYTES {
        return Err(DecodeError::Short { what: "the entries" });
    }
    (0..count).map(|_| get_entry(from)).collect()
}

/// Writes term, vote and promise: `[term u64][vote u64][promise u64]`, 0 for no vote.
pub fn put_hard_state(out: &mut impl BufMut, hard_state: &HardState) {
    out.put_u64_le(hard_state.term.0);
    out.put_u64_le(hard_state.vote.map_or(0, |node| node.0));
    put_duration(out, hard_state.promise);
}

/// Writes a duration: `[nanoseconds u64]`. A longer one than 584 years is written as 584 years.
pub fn put_duration(out: &mut impl BufMut, duration: Duration) {
    out.put_u64_le(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

/// Reads term, vote and promise.
///
/// # Errors
/// If there are fewer than [`HARD_STATE_BYTES`].
pub fn get_hard_state(from: &mut Decoder<impl Buf>) -> Result<HardState, DecodeError> {
    let term = Term(from.u64("a term")?);
    let vote = match from.u64("a vote")? {
        0 => None,
        node => Some(NodeId(node)),
    };
    Ok(HardState { term, vote, promise: from.duration("a promise's length")?, forgot: None })
}

/// Writes the record of a disk:
/// `[disk u128][count u64][nonce u64][sequence u64][term u64][index u64]`.
pub fn put_peer_record(out: &mut impl BufMut, disk: DiskId, record: &PeerRecord) {
    out.put_u128_le(disk.0);
    put_life(out, &record.life);
    put_position(out, &record.position);
}

/// Reads the record of a disk.
///
/// # Errors
/// If there are fewer than [`PEER_RECORD_BYTES`].
pub fn get_peer_record(from: &mut Decoder<impl Buf>) -> Result<(DiskId, PeerRecord), DecodeError> {
    let disk = DiskId(from.u128("a disk id")?);
    Ok((disk, PeerRecord { life: get_life(from)?, position: get_position(from)? }))
}

/// Writes a life: `[count u64][nonce u64]`.
pub fn put_life(out: &mut impl BufMut, life: &Life) {
    out.put_u64_le(life.count);
    out.put_u64_le(life.nonce);
}

/// Reads a life.
///
/// # Errors
/// If the bytes end early.
pub fn get_life(from: &mut Decoder<impl Buf>) -> Result<Life, DecodeError> {
    Ok(Life { count: from.u64("a life's count")?, nonce: from.u64("a life's nonce")? })
}

/// Writes a log position: `[sequence u64][term u64][index u64]`.
pub fn put_position(out: &mut impl BufMut, position: &LogPosition) {
    out.put_u64_le(position.sequence);
    out.put_u64_le(position.term.0);
    out.put_u64_le(position.index.0);
}

/// Reads a log position.
///
/// # Errors
/// If the bytes end early.
pub fn get_position(from: &mut Decoder<impl Buf>) -> Result<LogPosition, DecodeError> {
    let sequence = from.u64("a durable frame's number")?;
    Ok(LogPosition {
        sequence,
        term: Term(from.u64("a last term")?),
        index: Index(from.u64("a last index")?),
    })
}

/// Writes an optional digest: `[is there u8][index u64][version u32][value u64]`.
pub fn put_digest(out: &mut impl BufMut, digest: Option<Digest>) {
    out.put_u8(u8::from(digest.is_some()));
    let Digest { index, version, value } =
        digest.unwrap_or(Digest { index: Index(0), version: 0, value: 0 });
    out.put_u64_le(index.0);
    out.put_u32_le(version);
    out.put_u64_le(value);
}

/// Reads an optional digest.
///
/// # Errors
/// If the bytes are not an optional digest.
pub fn get_digest(from: &mut Decoder<impl Buf>) -> Result<Option<Digest>, DecodeError> {
    let is_there = from.flag("flag of a digest")?;
    let index = Index(from.u64("a digest's index")?);
    let (version, value) = (from.u32("a digest's version")?, from.u64("a digest")?);
    Ok(is_there.then_some(Digest { index, version, value }))
}

/// Writes an identity: `[cluster u128][group u64][node u64][disk u128]`.
pub fn put_identity(out: &mut impl BufMut, identity: &Identity) {
    out.put_u128_le(identity.cluster.0);
    out.put_u64_le(identity.group.0);
    out.put_u64_le(identity.node.0);
    out.put_u128_le(identity.disk.0);
}

/// Reads an identity.
///
/// # Errors
/// If there are fewer than [`IDENTITY_BYTES`].
pub fn get_identity(from: &mut Decoder<impl Buf>) -> Result<Identity, DecodeError> {
    Ok(Identity {
        cluster: ClusterId(from.u128("a cluster id")?),
        group: GroupId(from.u64("a group id")?),
        node: NodeId(from.u64("a node id")?),
        disk: DiskId(from.u128("a disk id")?),
    })
}

/// Writes a configuration: `[highest id u64]`, three sets of nodes (voters, outgoing, learners),
/// each `[count u32][node u64]…`, then `[count u32]` members, each `[node u64][disk u128][priority
/// u8][length u32][address]`. Nodes and members are in rising order of node.
pub fn put_configuration(out: &mut impl BufMut, configuration: &Configuration) {
    out.put_u64_le(configuration.highest_id.0);
    for set in [&configuration.voters, &configuration.outgoing, &configuration.learners] {
        out.put_u32_le(length_u32(set.len()));
        for node in set {
            out.put_u64_le(node.0);
        }
    }
    out.put_u32_le(length_u32(configuration.members.len()));
    for (node, member) in &configuration.members {
        out.put_u64_le(node.0);
        out.put_u128_le(member.disk.0);
        out.put_u8(member.priority);
        out.put_u32_le(length_u32(member.address.len()));
        out.put_slice(member.address.as_bytes());
    }
}

/// Writes the feature levels, which [`put_configuration`] leaves out: the active level, then that
/// of each member in rising order of node, each `[u16]`.
pub fn put_feature_levels(out: &mut impl BufMut, configuration: &Configuration) {
    out.put_u16_le(configuration.feature_level.0);
    for member in configuration.members.values() {
        out.put_u16_le(member.feature_level.0);
    }
}

/// How many bytes [`put_feature_levels`] writes.
#[must_use]
pub fn feature_level_bytes(configuration: &Configuration) -> usize {
    2 + 2 * configuration.members.len()
}

/// Reads feature levels into a configuration from [`get_configuration`].
///
/// # Errors
/// If the bytes end early, a level is 0, or a member's is below the active one.
pub fn get_feature_levels(
    from: &mut Decoder<impl Buf>,
    configuration: &mut Configuration,
) -> Result<(), DecodeError> {
    let active = FeatureLevel(from.u16("an active feature level")?);
    if active < FeatureLevel::BASE {
        return Err(DecodeError::Invalid { what: "active feature level", value: active.0.into() });
    }
    configuration.feature_level = active;
    for member in configuration.members.values_mut() {
        member.feature_level = FeatureLevel(from.u16("a member's feature level")?);
        if member.feature_level < active {
            let value = member.feature_level.0.into();
            return Err(DecodeError::Invalid {
                what: "member's feature level (the active one is higher)",
                value,
            });
        }
    }
    Ok(())
}

/// How many bytes [`put_configuration`] writes.
#[must_use]
pub fn configuration_bytes(configuration: &Configuration) -> usize {
    let nodes =
        configuration.voters.len() + configuration.outgoing.len() + configuration.learners.len();
    let members =
        configuration.members.values().map(|member| 29 + member.address.len()).sum::<usize>();
    8 + 4 * 4 + 8 * nodes + members
}

/// Reads a configuration.
///
/// # Errors
/// If the bytes are not a configuration as [`put_configuration`] writes it.
pub fn get_configuration(from: &mut Decoder<impl Buf>) -> Result<Configuration, DecodeError> {
    let highest_id = NodeId(from.u64("the highest node id")?);
    let mut sets = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    for set in &mut sets {
        for _ in 0..from.u32("a count of nodes")? {
            let node = NodeId(from.u64("a node id")?);
            if set.last().is_some_and(|&last| last >= node) {
                return Err(DecodeError::Invalid {
                    what: "node id at this place (they must rise)",
                    value: node.0,
                });
            }
            set.insert(node);
        }
    }
    let mut members: BTreeMap<NodeId, Member> = BTreeMap::new();
    for _ in 0..from.u32("a count of members")? {
        let node = NodeId(from.u64("a node id")?);
        if members.last_key_value().is_some_and(|(&last, _)| last >= node) {
            return Err(DecodeError::Invalid {
                what: "member's id at this place (they must rise)",
                value: node.0,
            });
        }
        let disk = DiskId(from.u128("a disk id")?);
        let priority = from.u8("a member's priority")?;
        let address = from.string("a member's address")?;
        members.insert(node, Member { disk, address, priority, feature_level: FeatureLevel::BASE });
    }
    // A member's id above it would one day be given to another node.
    if members.last_key_value().is_some_and(|(&last, _)| last > highest_id) {
        return Err(DecodeError::Invalid {
            what: "highest node id (a member's is higher)",
            value: highest_id.0,
        });
    }
    let [voters, outgoing, learners] = sets;
    Ok(Configuration {
        voters,
        outgoing,
        learners,
        members,
        highest_id,
        feature_level: FeatureLevel::BASE,
    })
}

fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("callers keep everything below 4 GiB")
}

/// Reads values from the front of a buffer.
///
/// Byte strings from a [`Bytes`] are slices that share its memory; those from a `&[u8]` are copied.
#[derive(Clone, Debug)]
pub struct Decoder<B = Bytes> {
    bytes: B,
}

macro_rules! number {
    ($name:ident, $type:ty, $get:ident) => {
        #[doc = concat!("Reads a `", stringify!($type), "`.")]
        ///
        /// # Errors
        /// If the bytes end early.
        pub fn $name(&mut self, what: &'static str) -> Result<$type, DecodeError> {
            self.bytes.$get().map_err(|_| DecodeError::Short { what })
        }
    };
}

impl<B: Buf> Decoder<B> {
    /// A decoder that reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: B) -> Decoder<B> {
        Decoder { bytes }
    }

    number!(u8, u8, try_get_u8);
    number!(u16, u16, try_get_u16_le);
    number!(u32, u32, try_get_u32_le);
    number!(u64, u64, try_get_u64_le);
    number!(u128, u128, try_get_u128_le);

    /// Reads nanoseconds, as [`put_duration`] writes them.
    ///
    /// # Errors
    /// If the bytes end early.
    pub fn duration(&mut self, what: &'static str) -> Result<Duration, DecodeError> {
        self.u64(what).map(Duration::from_nanos)
    }

    /// Reads a `u8` that is 0 or 1.
    ///
    /// # Errors
    /// If it is neither, or the bytes end early.
    pub fn flag(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Invalid { what, value: value.into() }),
        }
    }

    /// Reads `[length u32][bytes]`, without a copy if the buffer is a [`Bytes`].
    ///
    /// # Errors
    /// If fewer bytes are left than the length says.
    pub fn bytes(&mut self, what: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.u32(what)? as usize;
        if length > self.bytes.remaining() {
            return Err(DecodeError::Short { what });
        }
        Ok(self.bytes.copy_to_bytes(length))
    }

    /// Reads `[length u32][bytes]` that are UTF-8.
    ///
    /// # Errors
    /// If they are not UTF-8, or fewer are left than the length says.
    pub fn string(&mut self, what: &'static str) -> Result<String, DecodeError> {
        let bytes = self.bytes(what)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => {
                Err(DecodeError::Invalid { what, value: bytes[error.valid_up_to()].into() })
            }
        }
    }

    /// Takes all bytes that are left, without a copy if the buffer is a [`Bytes`].
    #[must_use]
    pub fn rest(&mut self) -> Bytes {
        self.bytes.copy_to_bytes(self.bytes.remaining())
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    /// Checks that everything has been read.
    ///
    /// # Errors
    /// If bytes are left.
    pub fn finish(&self, what: &'static str) -> Result<(), DecodeError> {
        match self.bytes.remaining() {
            0 => Ok(()),
            bytes => Err(DecodeError::Trailing { what, bytes }),
        }
    }
}
