//! Round trips, and bytes that are not what they should be.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::storage::codec::{self, DecodeError, Decoder};
use crate::storage::frame::{self, FrameFormat};
use crate::storage::{Log, body};
use crate::types::{
    Configuration, DiskId, Entry, FeatureLevel, HardState, Index, Life, LogPosition, Member,
    NodeId, Payload, PeerRecord, Proposal, SessionCommand, SessionId, Stamp, Term, Write,
};

use super::{OPTIONS, TestDisk, create, workload};

pub(crate) fn configuration() -> impl Strategy<Value = Configuration> {
    let nodes = || prop::collection::btree_set(any::<u64>().prop_map(NodeId), 0..4);
    let member = (any::<u128>(), ".{0,12}", any::<u8>()).prop_map(|(disk, address, priority)| {
        Member { disk: DiskId(disk), address, priority, ..Member::default() }
    });
    let members = prop::collection::btree_map(any::<u64>().prop_map(NodeId), member, 0..4);
    let parts = (nodes(), nodes(), nodes(), members, any::<u64>(), 1u16..4);
    parts.prop_map(|(voters, outgoing, learners, members, highest, level)| {
        let highest_id =
            members.keys().next_back().copied().unwrap_or_default().max(NodeId(highest));
        let configuration = Configuration {
            voters,
            outgoing,
            learners,
            members,
            highest_id,
            ..Configuration::default()
        };
        configuration.at_feature_level(FeatureLevel(level))
    })
}

pub(crate) fn proposal() -> impl Strategy<Value = Proposal> {
    let command = || prop::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    let in_session = (any::<u64>(), any::<u64>(), any::<u64>(), command());
    prop_oneof![
        2 => command().prop_map(Proposal::Command),
        1 => in_session.prop_map(|(session, sequence, acknowledged, command)| {
            let session = SessionId(session);
            let in_session = SessionCommand { session, sequence, acknowledged, command };
            Proposal::SessionCommand(in_session.into())
        }),
        1 => (any::<u64>(), any::<u64>())
            .prop_map(|(ttl_ms, salt)| Proposal::OpenSession { ttl_ms, salt }),
        1 => any::<u64>()
            .prop_map(|session| Proposal::CloseSession { session: SessionId(session) }),
    ]
}

pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    let payload = prop_oneof![
        1 => Just(Payload::Noop),
        4 => proposal().prop_map(Payload::from),
        1 => configuration()
            .prop_map(|configuration| Payload::Configuration(Box::new(configuration))),
    ];
    (any::<u64>(), any::<u64>(), any::<u64>(), payload).prop_map(|(index, term, stamp, payload)| {
        Entry { index: Index(index), term: Term(term), stamp: Stamp(stamp), payload }
    })
}

fn write() -> impl Strategy<Value = Write> {
    let hard_state =
        (any::<u64>(), prop::option::of(1u64..), any::<u64>(), prop::option::of(1u64..));
    let hard_state = hard_state.prop_map(|(term, vote, promise, forgot)| {
        let (term, promise) = (Term(term), Duration::from_nanos(promise));
        HardState { term, vote: vote.map(NodeId), promise, forgot: forgot.map(Index) }
    });
    let record = any::<(u128, u64, u64, u64, u64, u64)>().prop_map(
        |(disk, count, nonce, sequence, term, index)| {
            let position = LogPosition { sequence, term: Term(term), index: Index(index) };
            (DiskId(disk), PeerRecord { life: Life { count, nonce }, position })
        },
    );
    let late = (any::<u64>(), prop::collection::vec(record, 0..3));
    let from = prop::option::of(any::<u64>());
    let parts = (prop::option::of(hard_state), from, prop::collection::vec(entry(), 0..5), late);
    parts.prop_map(|(hard_state, from, entries, (commit, peer_records))| Write {
        commit: Index(commit),
        peer_records,
        sequence: 0,
        hard_state,
        truncate_from: from.map(Index),
        entries: entries.into(),
    })
}

proptest! {
    #[test]
    fn proposals_are_read_back(proposal in proposal()) {
        let mut out = BytesMut::new();
        codec::put_proposal(&mut out, &proposal);
        prop_assert_eq!(codec::get_proposal(&mut Decoder::new(&out[..])), Ok(proposal.clone()));
        prop_assert_eq!(codec::get_proposal(&mut Decoder::new(out.freeze())), Ok(proposal));
    }

    #[test]
    fn entries_are_read_back(entry in entry()) {
        let mut out = BytesMut::new();
        codec::put_entry(&mut out, &entry);
        prop_assert_eq!(out.len(), codec::entry_bytes(&entry));
        let mut from = Decoder::new(out.freeze());
        prop_assert_eq!(codec::get_entry(&mut from), Ok(entry));
        prop_assert_eq!(from.finish("it"), Ok(()));
    }

    #[test]
    fn writes_are_read_back_and_damage_never_panics(
        write in write(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        for format in [FrameFormat::V2, FrameFormat::V3] {
            let mut out = Vec::new();
            body::put_write(&mut out, &write, format);
            prop_assert_eq!(out.len(), body::write_bytes(&write, format));
            let mut said = write.clone();
            if format == FrameFormat::V2 {
                (said.commit, said.peer_records) = (Index(0), Vec::new());
                let forget = |hard_state| HardState { forgot: None, ..hard_state };
                said.hard_state = said.hard_state.map(forget);
            }
            prop_assert_eq!(body::get_write(Bytes::from(out.clone()), format), Ok(said));
            let at = at.index(out.len());
            prop_assert!(body::get_write(Bytes::copy_from_slice(&out[..at]), format).is_err());
            out[at] = byte;
            let _ = body::get_write(Bytes::from(out), format);
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(noise);
        for format in [FrameFormat::V2, FrameFormat::V3] {
            let _ = body::get_write(bytes.clone(), format);
            let _ = body::SegmentHeader::get(bytes.clone(), format);
        }
        let _ = codec::get_entry(&mut Decoder::new(bytes.clone()));
        let _ = codec::get_configuration(&mut Decoder::new(bytes.clone()));
        let _ = frame::parse(&bytes);
    }

    /// Frames whose checksums are right and whose content is not: what only a bug or malice makes.
    #[test]
    fn noise_with_a_right_checksum_never_panics(
        body in prop::collection::vec(any::<u8>(), 0..80),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let disk = TestDisk::default();
        let mut log = create(&disk);
        for write in workload() {
            log.append(&write).unwrap();
        }
        log.sync().unwrap();
        log.write_mark().unwrap();
        let names = disk.names();
        let name = &names[at.index(names.len())];
        let mut bytes = disk.bytes(name);
        let mut starts = vec![0];
        while let Ok(frame) = frame::parse(&bytes[starts[starts.len() - 1]..]) {
            starts.push(starts[starts.len() - 1] + frame.total_bytes());
        }
        let start = starts[at.index(starts.len() - 1)];
        let frame = frame::parse(&bytes[start..]).unwrap();
        let target = start + frame::HEADER_BYTES;
        if frame.body_bytes > 0 {
            let changed = body.len().min(frame.body_bytes);
            bytes[target..target + changed].copy_from_slice(&body[..changed]);
            bytes[target + at.index(frame.body_bytes)] = byte;
        }
        let checksum = crc32c::crc32c(&bytes[start + 4..start + frame.total_bytes()]);
        bytes[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
        disk.set_bytes(name, bytes);
        let _ = Log::open(disk, OPTIONS);
    }
}

#[test]
fn a_damaged_count_reserves_no_memory() {
    let mut claims = vec![0u8];
    claims.extend_from_slice(&u32::MAX.to_le_bytes());
    claims.extend_from_slice(&[0; 100]);
    let claims = Bytes::from(claims);
    let measured = allocation_counter::measure(|| {
        let error = body::get_write(claims.clone(), FrameFormat::V2).unwrap_err();
        assert_eq!(error, DecodeError::Short { what: "the entries" });
    });
    assert!(measured.bytes_total < 1000, "{measured:?}");
}

#[test]
fn commands_are_slices_of_the_input() {
    let entry = Entry {
        index: Index(1),
        term: Term(1),
        stamp: Stamp(0),
        payload: Payload::Command(Bytes::from_static(b"some command")),
    };
    let mut out = BytesMut::new();
    codec::put_entry(&mut out, &entry);
    let bytes = out.freeze();
    let decoded = codec::get_entry(&mut Decoder::new(bytes.clone())).unwrap();
    let Payload::Command(command) = decoded.payload else { panic!("{decoded:?}") };
    assert!(bytes.as_ptr_range().contains(&command.as_ptr()));
}
