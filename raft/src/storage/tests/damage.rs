//! A torn tail is cut off, damage before it is refused, and old frames of a recycled file are
//! ignored.

use super::*;
use crate::storage::StorageError;
use crate::storage::{body, frame};

/// A disk with a log of `synced` writes, a mark, and then `unsynced` writes. Returns also the last
/// segment's name, and where the unsynced writes begin and end in it.
fn disk_with(synced: &[Write], unsynced: &[Write]) -> (TestDisk, String, usize, usize) {
    let disk = TestDisk::default();
    let mut log = create(&disk);
    for write in synced {
        log.append(write).unwrap();
    }
    log.sync().unwrap();
    log.write_mark().unwrap();
    let name = disk.names().pop().unwrap();
    let start = end_of(&disk.bytes(&name));
    for write in unsynced {
        log.append(write).unwrap();
    }
    read(&mut log, 1, 0, 0);
    assert_eq!(disk.names().pop().unwrap(), name, "the unsynced writes are in the same segment");
    let end = end_of(&disk.bytes(&name));
    (disk, name, start, end)
}

fn end_of(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Ok(frame) = frame::parse(&bytes[at..]) {
        at += frame.total_bytes();
    }
    at
}

fn small_writes(from: u64, count: u64) -> Vec<Write> {
    (from..from + count)
        .map(|index| entries(vec![command(index, 1, 20 + index as usize)]))
        .collect()
}

fn model_of<'a>(writes: impl IntoIterator<Item = &'a Write>) -> Model {
    let mut model = Model::default();
    for write in writes {
        model.apply(write);
    }
    model
}

#[test]
fn a_tear_at_any_byte_keeps_whole_writes_only() {
    let (synced, unsynced) = (small_writes(1, 3), small_writes(4, 4));
    let (disk, name, start, end) = disk_with(&synced, &unsynced);
    let whole = disk.bytes(&name);
    for cut in start..=end {
        for filler in [0u8, 0xFF] {
            let disk = disk.copy();
            let mut bytes = whole.clone();
            bytes[cut..end].fill(filler);
            let whole_to = end_of(&bytes);
            let torn_at =
                bytes[whole_to..].iter().any(|&byte| byte != 0).then_some(whole_to as u64);
            disk.set_bytes(&name, bytes);
            let (mut log, recovered) = reopen(&disk);
            let found = Model::of(&mut log, &recovered.saved);
            found.assert_matches(&recovered.saved);
            let kept = found.entries.len();
            assert!(kept >= synced.len());
            assert_eq!(found, model_of(synced.iter().chain(&unsynced).take(kept)));
            assert_eq!(recovered.rewritten, (kept - synced.len()) as u64);
            assert_eq!(recovered.torn.map(|torn| torn.offset), torn_at);
        }
    }
}

#[test]
fn a_flipped_bit_in_a_synced_frame_is_refused() {
    let (disk, name, start, _) = disk_with(&workload(), &[]);
    let mark = start - frame::total_bytes(0);
    for file in disk.names() {
        let whole = disk.bytes(&file);
        let end = if file == name { mark } else { end_of(&whole) };
        for at in 0..end {
            let disk = disk.copy();
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            disk.set_bytes(&file, bytes);
            match Log::open(disk, OPTIONS) {
                Err(StorageError::Corrupt { file: blamed, offset, .. }) => {
                    assert_eq!(blamed, file);
                    assert!(offset <= at as u64, "byte {at} is in the frame at {offset}");
                }
                other => panic!("a flip in byte {at} of {file} led to {other:?}"),
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_the_mark_itself_loses_nothing() {
    let (disk, name, start, _) = disk_with(&workload(), &[]);
    let whole = disk.bytes(&name);
    for at in start - frame::total_bytes(0)..start {
        let disk = disk.copy();
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        disk.set_bytes(&name, bytes);
        let (mut log, recovered) = reopen(&disk);
        assert_eq!(Model::of(&mut log, &recovered.saved), model_of(&workload()));
    }
}

#[test]
fn damage_is_judged_by_marks_past_it() {
    // Two batches; the second's frames carry the mark of the first. A hole in the first is
    // corruption, although the chain breaks there; a hole in the second is a torn write.
    let disk = TestDisk::default();
    let mut log = create(&disk);
    let name = disk.names().pop().unwrap();
    let mut ends = Vec::new();
    for writes in [small_writes(1, 2), small_writes(3, 3)] {
        for write in &writes {
            log.append(write).unwrap();
        }
        log.sync().unwrap();
        ends.push(end_of(&disk.bytes(&name)));
    }
    let whole = disk.bytes(&name);
    // Without SYNCED, as in a folder of an earlier version.
    let mut disk = disk.copy();
    crate::storage::Disk::remove(&mut disk, "SYNCED").unwrap();
    for (at, is_corrupt) in [(ends[0] - 20, true), (ends[0] + 60, false), (ends[1] - 20, false)] {
        let disk = disk.copy();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        disk.set_bytes(&name, bytes);
        match Log::open(disk, OPTIONS) {
            Ok(_) => assert!(!is_corrupt, "byte {at}"),
            Err(StorageError::Corrupt { .. }) => assert!(is_corrupt, "byte {at}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn old_frames_never_continue_the_chain() {
    // The first segment's frames, whole and in order, in the place where the second segment's next
    // frame would be.
    let disk = TestDisk::default();
    let mut log = create(&disk);
    let old = disk.names().pop().unwrap();
    let mut written = Vec::new();
    while disk.names().len() == 1 {
        let write = entries(vec![command(written.len() as u64 + 1, 1, 100)]);
        log.append(&write).unwrap();
        written.push(write);
    }
    log.sync().unwrap();
    let new = disk.names().pop().unwrap();
    let old_bytes = disk.bytes(&old);
    let first = frame::parse(&old_bytes).unwrap().total_bytes();
    let mut new_bytes = disk.bytes(&new);
    let end = end_of(&new_bytes);
    for at in [end, end + 8, end + 400] {
        let disk = disk.copy();
        let room = new_bytes.len() - at;
        new_bytes[end..].fill(0);
        new_bytes[at..].copy_from_slice(&old_bytes[first..first + room]);
        disk.set_bytes(&new, new_bytes.clone());
        let (mut log, recovered) = reopen(&disk);
        assert_eq!(Model::of(&mut log, &recovered.saved), model_of(&written));
        assert_eq!(recovered.torn.unwrap().offset, end as u64);
    }
}

#[test]
fn every_link_of_the_chain_is_checked() {
    let (disk, name, start, _) = disk_with(&small_writes(1, 3), &[]);
    let whole = disk.bytes(&name);
    let last = frame::parse(&whole[start - frame::total_bytes(0)..]).unwrap();
    let next = frame::FrameHeader {
        kind: frame::FrameKind::Write,
        sequence: last.header.sequence + 1,
        previous: last.checksum,
        ..last.header
    };
    let with_next = |next: &frame::FrameHeader, gap: usize| {
        let disk = disk.copy();
        let mut made = Vec::new();
        frame::begin(&mut made);
        body::put_write(&mut made, &small_writes(4, 1)[0], next.format);
        frame::finish(&mut made, 0, next);
        let mut bytes = whole.clone();
        bytes[start + gap..start + gap + made.len()].copy_from_slice(&made);
        disk.set_bytes(&name, bytes);
        Log::open(disk, OPTIONS)
    };
    assert_eq!(with_next(&next, 0).unwrap().1.saved.terms.last_index(), Index(4));
    let strangers = [
        frame::FrameHeader { previous: next.previous ^ 1, ..next },
        frame::FrameHeader { tag: next.tag ^ 1, ..next },
        frame::FrameHeader { group: next.group ^ 1, ..next },
        frame::FrameHeader { sequence: next.sequence - 1, ..next },
        frame::FrameHeader { sequence: next.sequence + 1, ..next },
        frame::FrameHeader { kind: frame::FrameKind::SegmentHeader, ..next },
    ];
    for stranger in &strangers {
        let (_, recovered) = with_next(stranger, 0).unwrap();
        assert_eq!(recovered.saved.terms.last_index(), Index(3), "{stranger:?}");
        assert_eq!(recovered.torn.unwrap().offset, start as u64);
    }
    // Past a gap, only the marks of this segment's own later frames count.
    let believed =
        frame::FrameHeader { sequence: next.sequence + 1, synced: next.sequence, ..next };
    assert!(matches!(with_next(&believed, 64), Err(StorageError::Corrupt { .. })));
    for stranger in [
        frame::FrameHeader { tag: believed.tag ^ 1, ..believed },
        frame::FrameHeader { group: believed.group ^ 1, ..believed },
        frame::FrameHeader { sequence: next.sequence - 1, ..believed },
    ] {
        assert_eq!(
            with_next(&stranger, 64).unwrap().1.saved.terms.last_index(),
            Index(3),
            "{stranger:?}"
        );
    }
}

#[test]
fn a_missing_or_exchanged_segment_is_refused() {
    let (disk, ..) = disk_with(&workload(), &[]);
    let names = disk.names();
    assert!(names.len() >= 3, "{names:?}");
    for missing in &names[..names.len() - 1] {
        let mut disk = disk.copy();
        crate::storage::Disk::remove(&mut disk, missing).unwrap();
        assert!(matches!(
            Log::open(disk, OPTIONS),
            Err(StorageError::Corrupt { file, .. }) if file == *missing
        ));
    }
    let exchanged = disk.copy();
    exchanged.set_bytes(&names[1], disk.bytes(&names[0]));
    assert!(matches!(Log::open(exchanged, OPTIONS), Err(StorageError::Corrupt { .. })));
    let other = TestDisk::default();
    let stranger = Identity { disk: DiskId(9), ..identity() };
    Log::create(other.clone(), &stranger, &initial_configuration(), OPTIONS).unwrap();
    let mixed = disk.copy();
    mixed.set_bytes(&names[0], other.bytes(&names[0]));
    assert!(matches!(Log::open(mixed, OPTIONS), Err(StorageError::Corrupt { .. })));
}

#[test]
fn the_error_names_an_unknown_format() {
    let disk = TestDisk::default();
    drop(create(&disk));
    let name = disk.names().pop().unwrap();
    let mut bytes = disk.bytes(&name);
    let end = frame::parse(&bytes).unwrap().total_bytes();
    bytes[13] = 9;
    let checksum = crc32c::crc32c(&bytes[4..end]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    disk.set_bytes(&name, bytes);
    let error = Log::open(disk, OPTIONS).unwrap_err();
    assert_eq!(
        error,
        StorageError::Unsupported { file: name, version: 9, newest: frame::NEWEST as u8 }
    );
}

#[test]
fn noise_in_place_of_a_segment_is_refused() {
    let disk = TestDisk::default();
    drop(create(&disk));
    let name = disk.names().pop().unwrap();
    for bytes in [vec![], vec![0; 4096], vec![0xFF; 100], b"KdkLKdkLKdkLKdkL".repeat(200)] {
        let disk = disk.copy();
        disk.set_bytes(&name, bytes);
        assert!(matches!(Log::open(disk, OPTIONS), Err(StorageError::Corrupt { offset: 0, .. })));
    }
}

#[test]
fn damage_is_noticed_when_read() {
    let (disk, name, start, _) = disk_with(&small_writes(1, 3), &[]);
    let (mut log, _) = reopen(&disk);
    let mut bytes = disk.bytes(&name);
    bytes[start - frame::total_bytes(0) - 20] ^= 1;
    disk.set_bytes(&name, bytes);
    let fetch = Fetch { id: 1, from: Index(1), to: Index(3), limit_bytes: usize::MAX };
    assert!(matches!(log.read(&fetch), Err(StorageError::Corrupt { .. })));
}

/// Changes a segment's header, and corrects its checksum and the link of the next frame.
fn reseal(bytes: &mut [u8], change: impl FnOnce(&mut body::SegmentHeader)) {
    let frame = frame::parse(bytes).unwrap();
    let body =
        Bytes::copy_from_slice(&bytes[frame::HEADER_BYTES..frame::HEADER_BYTES + frame.body_bytes]);
    let mut segment_header = body::SegmentHeader::get(body, frame.header.format).unwrap();
    change(&mut segment_header);
    let mut made = Vec::new();
    frame::begin(&mut made);
    segment_header.put(&mut made);
    let checksum = frame::finish(&mut made, 0, &frame.header);
    assert_eq!(made.len(), frame.total_bytes(), "the header has the same length as before");
    bytes[..made.len()].copy_from_slice(&made);
    // The next frame names this one's checksum.
    if let Ok(next) = frame::parse(&bytes[made.len()..]) {
        let end = made.len() + next.total_bytes();
        bytes[made.len() + 40..made.len() + 44].copy_from_slice(&checksum.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[made.len() + 4..end]);
        bytes[made.len()..made.len() + 4].copy_from_slice(&checksum.to_le_bytes());
    }
}

#[test]
fn a_segment_header_that_contradicts_the_log_is_refused() {
    // The last segment holds only its header, so no later frame contradicts it.
    let disk = TestDisk::default();
    let mut log = create(&disk);
    log.append(&Write {
        hard_state: hard_state(3, 1),
        ..entries(vec![command(1, 2, 9), command(2, 3, 9)])
    })
    .unwrap();
    log.sync().unwrap();
    drop(log);
    drop(reopen(&disk));
    let last = disk.names().pop().unwrap();
    let changes: [fn(&mut body::SegmentHeader); 9] = [
        |_| {},
        |segment_header| segment_header.hard_state.term = Term(4),
        |segment_header| segment_header.hard_state.vote = Some(NodeId(2)),
        |segment_header| segment_header.hard_state.vote = None,
        |segment_header| segment_header.hard_state.promise *= 2,
        |segment_header| segment_header.last_index = Index(1),
        |segment_header| segment_header.last_term = Term(2),
        |segment_header| segment_header.configuration.0 = Index(1),
        |segment_header| segment_header.identity.node = NodeId(1),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let disk = disk.copy();
        let mut bytes = disk.bytes(&last);
        reseal(&mut bytes, change);
        disk.set_bytes(&last, bytes);
        match Log::open(disk, OPTIONS) {
            Ok(_) => assert_eq!(at, 0, "only the unchanged header is accepted"),
            Err(StorageError::Corrupt { file, offset: 0, .. }) => assert!(at > 0 && file == last),
            other => panic!("{at}: {other:?}"),
        }
    }
}
