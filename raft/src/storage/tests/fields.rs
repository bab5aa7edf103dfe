//! No value of a saved field makes a node panic: it is refused as corruption or accepted.
//!
//! Every field is changed, and written again with right checksums and a right chain, so that only
//! the value itself can be refused.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;

use super::snapshots::{meta, worker_with};
use super::*;
use crate::core;
use crate::replica::{Limits, Replica, ReplicaConfig};
use crate::replica::{MachineDone, MachineJob, Outcome, Refusal};
use crate::storage::Worker;
use crate::storage::body::{self, SegmentHeader};
use crate::storage::frame::{self, Frame, FrameHeader, FrameKind, HEADER_BYTES};
use crate::storage::snapshot::{self, SnapshotHeader};
use crate::types::{
    Life, LogPosition, Now, PeerRecord, SessionCommand, SessionId, SnapshotMeta, Time,
};

/// A decoded frame.
#[derive(Clone, Debug)]
enum Content {
    SegmentHeader(Box<SegmentHeader>),
    Step(Write),
    Mark,
}

#[derive(Clone, Debug)]
struct Piece {
    header: FrameHeader,
    content: Content,
}

fn parse(bytes: &[u8]) -> Vec<Piece> {
    let (mut at, mut pieces) = (0, Vec::new());
    while let Ok(frame) = frame::parse(&bytes[at..]) {
        let Frame { header, body_bytes, .. } = frame;
        let body =
            Bytes::copy_from_slice(&bytes[at + HEADER_BYTES..at + HEADER_BYTES + body_bytes]);
        let content = match header.kind {
            FrameKind::SegmentHeader => {
                Content::SegmentHeader(Box::new(SegmentHeader::get(body, header.format).unwrap()))
            }
            FrameKind::Write => Content::Step(body::get_write(body, header.format).unwrap()),
            FrameKind::Mark => Content::Mark,
        };
        pieces.push(Piece { header, content });
        at += frame.total_bytes();
    }
    pieces
}

/// The segment of these frames. `sequence` and `previous` of all but the first follow from the
/// frame before.
fn assemble(pieces: &[Piece], length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut last: Option<(u64, u32)> = None;
    for Piece { header, content } in pieces {
        let start = frame::begin(&mut out);
        match content {
            Content::SegmentHeader(segment_header) => segment_header.put(&mut out),
            Content::Step(write) => body::put_write(&mut out, write, header.format),
            Content::Mark => {}
        }
        let (sequence, previous) = match last {
            Some((sequence, checksum)) => (sequence.wrapping_add(1), checksum),
            None => (header.sequence, header.previous),
        };
        let header = FrameHeader { sequence, previous, ..*header };
        last = Some((sequence, frame::finish(&mut out, start, &header)));
    }
    out.resize(out.len().next_multiple_of(1024).max(length), 0);
    out
}

/// Sets a field to this value, if a frame of this kind has the field.
fn set(piece: &mut Piece, field: usize, value: u64) {
    let Piece { header, content } = piece;
    match (field, content) {
        (0, _) => header.sequence = value,
        (1, _) => header.synced = value,
        (2, Content::SegmentHeader(segment_header)) => {
            set_segment_header(segment_header, value as usize % 24, value)
        }
        (field, Content::SegmentHeader(segment_header)) => {
            set_segment_header(segment_header, field - 2, value)
        }
        (field, Content::Step(write)) => set_write(write, field - 2, value),
        _ => {}
    }
}

fn set_segment_header(segment_header: &mut SegmentHeader, field: usize, value: u64) {
    match field {
        0 => segment_header.segment = value,
        1 => segment_header.origin = value,
        2 => segment_header.last_index = Index(value),
        3 => segment_header.last_term = Term(value),
        4 => segment_header.configuration.0 = Index(value),
        5 => segment_header.commit = Index(value),
        6 => segment_header.life = value,
        7 => segment_header.identity.node = NodeId(value),
        8 => {
            (segment_header.last_index, segment_header.last_term) = (Index(value), Term(value));
        }
        9 => segment_header.initial_configuration.highest_id = NodeId(value),
        10 => segment_header.configuration.1.highest_id = NodeId(value),
        11 => drop(segment_header.peer_records.insert(DiskId(7), record(value))),
        field => set_hard_state(&mut segment_header.hard_state, field - 12, value),
    }
}

fn set_hard_state(state: &mut HardState, field: usize, value: u64) {
    match field {
        0 => state.term = Term(value),
        1 => state.vote = Some(NodeId(value.max(1))),
        2 => state.promise = Duration::from_nanos(value),
        3 => state.forgot = (value > 0).then_some(Index(value)),
        _ => {}
    }
}

fn record(value: u64) -> PeerRecord {
    let position = LogPosition { sequence: value, term: Term(value), index: Index(value) };
    PeerRecord { life: Life { count: value, nonce: value }, position }
}

fn set_write(write: &mut Write, field: usize, value: u64) {
    let mut list = write.entries.iter().cloned().collect::<Vec<_>>();
    match field {
        0 => write.truncate_from = Some(Index(value)),
        1 => write.commit = Index(value),
        2 => write.peer_records = vec![(DiskId(3), record(value))],
        3..=6 => {
            let mut state = write.hard_state.unwrap_or_default();
            set_hard_state(&mut state, field - 3, value);
            write.hard_state = Some(state);
        }
        // All entries get indexes from there on.
        7 => list
            .iter_mut()
            .zip(value..=u64::MAX)
            .for_each(|(entry, index)| entry.index = Index(index)),
        8 => list.iter_mut().for_each(|entry| entry.term = Term(value)),
        9 => list.iter_mut().for_each(|entry| entry.stamp = Stamp(value)),
        10 => list.iter_mut().for_each(|entry| {
            entry.payload = Payload::OpenSession { ttl_ms: value, salt: value };
        }),
        11 => list
            .iter_mut()
            .for_each(|entry| entry.payload = Payload::CloseSession { session: SessionId(value) }),
        12 => list.iter_mut().for_each(|entry| {
            let command = Bytes::from_static(b"x");
            let (session, sequence, acknowledged) = (SessionId(value), value, value);
            entry.payload = Payload::SessionCommand(Box::new(SessionCommand {
                session,
                sequence,
                acknowledged,
                command,
            }));
        }),
        13 => list.iter_mut().for_each(|entry| {
            let highest_id = NodeId(value.max(2));
            entry.payload = Payload::Configuration(Box::new(Configuration {
                highest_id,
                ..initial_configuration()
            }));
        }),
        _ => {}
    }
    write.entries = list.into();
}

/// Opens the log and runs a replica on it for a while. Neither may panic.
fn open_and_run(disk: &TestDisk) {
    let Ok((log, recovered)) = Log::open(disk.clone(), OPTIONS) else { return };
    let mut config = core::Config::new(recovered.identity.node);
    config.seed = 7;
    let (request_timeout, limits) = (Duration::from_secs(1), Limits::default());
    let mut now = Now { monotonic: Time(1), wall: Stamp(5) };
    let saved = recovered.saved;
    let Ok(mut replica) =
        Replica::new(ReplicaConfig { core: config, request_timeout, limits }, saved, now)
    else {
        return;
    };
    let mut worker = Worker::new(log);
    for _ in 0..50 {
        now.monotonic = now.monotonic.after(Duration::from_millis(100));
        replica.handle_timeout(now);
        let mut jobs = VecDeque::new();
        while let Some(effect) = replica.poll() {
            match effect {
                crate::replica::Effect::Storage(job) => jobs.push_back(job),
                crate::replica::Effect::Machine(MachineJob::Apply(entries)) => {
                    let Some(last) = entries.last() else { continue };
                    let proposals = entries.iter().filter(|entry| entry.payload.is_proposal());
                    let outcomes = proposals.map(|_| Outcome::Refused(Refusal::TimedOut)).collect();
                    let last = last.index;
                    replica.handle_machine_done(now, MachineDone::Applied { last, outcomes });
                }
                _ => {}
            }
        }
        let mut completions = Vec::new();
        worker.run(&mut jobs, &mut |completion| completions.push(completion));
        for completion in completions {
            match completion {
                crate::storage::Completion::Done(done) => replica.handle_done(now, done),
                _ => return,
            }
        }
    }
}

fn assert_no_panic(disk: &TestDisk, what: &str) {
    let opened = catch_unwind(AssertUnwindSafe(|| open_and_run(disk)));
    assert!(opened.is_ok(), "{what}");
}

/// Values on which arithmetic overflows.
const EXTREMES: [u64; 10] =
    [0, 1, 2, 3, 1 << 40, 1 << 62, (1 << 62) + 1, u64::MAX / 2 + 1, u64::MAX - 1, u64::MAX];

/// A log of one voter with every kind of content.
fn log_with_every_field() -> TestDisk {
    let disk = TestDisk::default();
    let alone = Configuration::of_voters([(
        NodeId(2),
        Member { disk: DiskId(0xD15C), ..Member::default() },
    )]);
    let mut log = Log::create(disk.clone(), &identity(), &alone, OPTIONS).unwrap();
    log.append(&Write {
        hard_state: hard_state(1, 2),
        ..entries(vec![command(1, 1, 9), command(2, 1, 9)])
    })
    .unwrap();
    log.append(&Write { commit: Index(1), ..entries(vec![command(3, 1, 9)]) }).unwrap();
    log.append(&Write {
        truncate_from: Some(Index(3)),
        ..entries(vec![command(3, 1, 9), command(4, 1, 9)])
    })
    .unwrap();
    log.sync().unwrap();
    log.write_mark().unwrap();
    disk
}

#[test]
fn no_value_of_a_frames_field_panics() {
    let disk = log_with_every_field();
    let name = disk.names().pop().unwrap();
    let bytes = disk.bytes(&name);
    let pieces = parse(&bytes);
    assert!(pieces.len() > 4);
    for at in 0..pieces.len() {
        for field in 0..18 {
            for value in EXTREMES {
                // With and without SYNCED, with which some values are refused before they are read.
                for is_marked in [true, false] {
                    let mut copy = disk.copy();
                    let mut pieces = pieces.clone();
                    set(&mut pieces[at], field, value);
                    copy.set_bytes(&name, assemble(&pieces, bytes.len()));
                    if !is_marked {
                        crate::storage::Disk::remove(&mut copy, "SYNCED").unwrap();
                    }
                    assert_no_panic(&copy, &format!("frame {at}, field {field}, value {value}"));
                }
            }
        }
    }
}

#[test]
fn no_value_of_a_snapshots_field_panics() {
    let changes: [fn(&mut SnapshotMeta, u64); 5] = [
        |meta, value| meta.index = Index(value),
        |meta, value| meta.term = Term(value),
        |meta, value| meta.stamp = Stamp(value),
        |meta, value| (meta.index, meta.term) = (Index(value), Term(value)),
        |meta, value| meta.configuration.highest_id = NodeId(value.max(2)),
    ];
    for change in changes {
        for value in EXTREMES {
            let disk = TestDisk::default();
            drop(worker_with(&disk, 20));
            let mut meta = meta(15, 1);
            change(&mut meta, value);
            let mut file = Vec::new();
            let checksum = SnapshotHeader::new(&identity(), meta.clone()).put(&mut file);
            file.extend_from_slice(&snapshot::trailer(0, checksum));
            let name = snapshot::name(meta.index);
            let made = crate::storage::Disk::create(&mut disk.clone(), &name, 0);
            assert!(made.is_ok());
            disk.set_bytes(&name, file);
            assert_no_panic(&disk, &format!("snapshot {meta:?}"));
        }
    }
}

#[test]
fn no_value_of_synced_panics() {
    let disk = log_with_every_field();
    let mark = disk.bytes("SYNCED");
    for at in (16..80).step_by(8) {
        for value in EXTREMES {
            let mut bytes = mark.clone();
            for slot in [0, 4096] {
                bytes[slot + at..slot + at + 8].copy_from_slice(&value.to_le_bytes());
                let checksum = crc32c::crc32c(&bytes[slot + 4..slot + 80]);
                bytes[slot..slot + 4].copy_from_slice(&checksum.to_le_bytes());
            }
            disk.set_bytes("SYNCED", bytes);
            assert_no_panic(&disk.copy(), &format!("SYNCED, byte {at}, value {value}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_values_of_several_fields_panic(
        changes in prop::collection::vec(
            (0usize..6, 0usize..18, prop::sample::select(EXTREMES.to_vec())),
            1..6,
        ),
    ) {
        let disk = log_with_every_field();
        let name = disk.names().pop().unwrap();
        let bytes = disk.bytes(&name);
        let mut pieces = parse(&bytes);
        for &(at, field, value) in &changes {
            let at = at % pieces.len();
            set(&mut pieces[at], field, value);
        }
        disk.set_bytes(&name, assemble(&pieces, bytes.len()));
        assert_no_panic(&disk, &format!("{changes:?}"));
    }
}
