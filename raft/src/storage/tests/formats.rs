//! The two formats of frames: which one is written when, and what it holds.

use super::*;
use crate::storage::frame::{self, FrameFormat};
use crate::types::{Life, LogPosition, PeerRecord};

/// The formats of all frames of the newest segment.
fn formats(disk: &TestDisk) -> Vec<FrameFormat> {
    let name = disk.names().into_iter().rfind(|name| name.ends_with(".log")).unwrap();
    let bytes = disk.bytes(&name);
    let (mut at, mut found) = (0, Vec::new());
    while let Ok(frame) = frame::parse(&bytes[at..]) {
        at += frame.total_bytes();
        found.push(frame.header.format);
    }
    found
}

fn at_base() -> Configuration {
    initial_configuration().at_feature_level(FeatureLevel::BASE)
}

fn configuration(index: u64, configuration: Configuration) -> Entry {
    Entry { payload: Payload::Configuration(Box::new(configuration)), ..command(index, 1, 0) }
}

/// A write with everything that format 3 adds.
fn write_of_format_3(index: u64) -> Write {
    let position = LogPosition { sequence: 7, term: Term(1), index: Index(3) };
    let record = PeerRecord { life: Life { count: 2, nonce: 9 }, position };
    Write {
        commit: Index(index),
        peer_records: vec![(DiskId(4), record)],
        ..entries(vec![command(index, 1, 9)])
    }
}

#[test]
fn a_log_is_written_in_format_2_until_features_are_enabled() {
    let disk = TestDisk::default();
    let mut log = Log::create(disk.clone(), &identity(), &at_base(), OPTIONS).unwrap();
    log.append(&write_of_format_3(1)).unwrap();
    log.sync().unwrap();
    assert_eq!(formats(&disk), [FrameFormat::V2; 2]);
    let (mut log, recovered) = reopen(&disk);
    let said = (recovered.saved.commit, recovered.saved.life, recovered.saved.peer_records.len());
    assert_eq!(said, (Index(0), 0, 0), "format 2 holds none of these");

    log.append(&entries(vec![configuration(2, initial_configuration())])).unwrap();
    log.append(&write_of_format_3(3)).unwrap();
    log.sync().unwrap();
    assert_eq!(formats(&disk), [FrameFormat::V2, FrameFormat::V2, FrameFormat::V3]);
    let (_, recovered) = reopen(&disk);
    assert_eq!(formats(&disk)[0], FrameFormat::V3, "and so is every later segment header");
    let saved = recovered.saved;
    assert_eq!((saved.commit, saved.life, saved.peer_records.len()), (Index(3), 1, 1));
    assert_eq!(saved.initial_configuration.feature_level, FeatureLevel::BASE);
    assert_eq!(saved.configuration(), &initial_configuration());
    assert_eq!(reopen(&disk).1.saved.life, 2);
}

/// Frames of format 2 hold neither the records of peers nor the mark of a disk that forgot. The
/// header of a segment that begins after the upgrade holds them, and the log can be opened.
#[test]
fn a_segment_header_may_hold_what_format_2_leaves_out() {
    let forgot = HardState { term: Term(1), forgot: Some(Index(77)), ..HardState::default() };
    for hard_state in [None, Some(forgot)] {
        let disk = TestDisk::default();
        let mut log = Log::create(disk.clone(), &identity(), &at_base(), OPTIONS).unwrap();
        log.append(&Write { hard_state, ..write_of_format_3(1) }).unwrap();
        log.append(&entries(vec![configuration(2, initial_configuration())])).unwrap();
        for index in 3..40 {
            log.append(&entries(vec![command(index, 1, 300)])).unwrap();
        }
        log.sync().unwrap();
        assert_eq!(formats(&disk)[0], FrameFormat::V3, "a segment that began after the upgrade");
        let (_, recovered) = reopen(&disk);
        let saved = recovered.saved;
        assert_eq!(saved.peer_records, write_of_format_3(1).peer_records.into_iter().collect());
        assert_eq!(saved.hard_state, hard_state.unwrap_or_default());
        assert_eq!(saved.terms.last_index(), Index(39));
        reopen(&disk);
    }
}

/// Another leader may replace the entry that raised the feature level. If the log then returned to
/// format 2, it would not hold the count of lives: peers would take the node for a copy of itself.
/// The mark of a disk that forgot would be lost, too.
#[test]
fn a_log_keeps_its_format_when_the_upgrade_is_truncated() {
    let disk = TestDisk::default();
    let mut log = Log::create(disk.clone(), &identity(), &at_base(), OPTIONS).unwrap();
    log.append(&entries(vec![configuration(1, initial_configuration())])).unwrap();
    log.sync().unwrap();
    let (mut log, recovered) = reopen(&disk);
    assert_eq!(recovered.saved.life, 1);
    let hard_state = HardState { term: Term(2), forgot: Some(Index(1)), ..HardState::default() };
    let entries = vec![command(1, 2, 3)].into();
    let (truncate_from, hard_state) = (Some(Index(1)), Some(hard_state));
    log.append(&Write { truncate_from, hard_state, entries, ..Write::default() }).unwrap();
    log.sync().unwrap();
    for life in 2..4 {
        let (_, recovered) = reopen(&disk);
        let saved = recovered.saved;
        assert_eq!(saved.configuration(), &at_base());
        assert_eq!((saved.life, saved.hard_state.forgot), (life, Some(Index(1))));
        assert!(formats(&disk).iter().all(|&format| format == FrameFormat::V3));
    }
}

#[test]
fn each_opening_of_a_log_is_a_new_life_on_disk() {
    let disk = TestDisk::default();
    drop(create(&disk));
    for life in 2..6 {
        let (_, recovered) = reopen(&disk);
        assert_eq!(recovered.saved.life, life);
        disk.lose_unsynced();
    }
}

#[test]
fn opening_never_lowers_the_durable_position() {
    let disk = TestDisk::default();
    let mut log = create(&disk);
    for life in 0..5 {
        for write in 1..4 {
            let index = life * 3 + write;
            log.append(&entries(vec![command(index, 1, 9)])).unwrap();
            log.sync().unwrap();
        }
        log.write_mark().unwrap();
        let before = log.position();
        let (opened, recovered) = reopen(&disk);
        assert!(
            recovered.saved.position > before,
            "{:?} after {before:?}",
            recovered.saved.position
        );
        assert_eq!(
            (recovered.saved.position, before.index),
            (opened.position(), Index(life * 3 + 3))
        );
        log = opened;
    }
}

#[test]
fn what_format_3_adds_survives_compaction() {
    let disk = TestDisk::default();
    let mut log = create(&disk);
    let forgot = HardState { term: Term(4), forgot: Some(Index(77)), ..HardState::default() };
    log.append(&Write { hard_state: Some(forgot), ..write_of_format_3(1) }).unwrap();
    for index in 2..40 {
        log.append(&entries(vec![command(index, 4, 300)])).unwrap();
    }
    log.sync().unwrap();
    let (_, recovered) = reopen(&disk);
    let saved = recovered.saved;
    assert_eq!((saved.hard_state, saved.commit), (forgot, Index(1)));
    assert_eq!(saved.peer_records, write_of_format_3(1).peer_records.into_iter().collect());
}

/// A folder as version 0.1.0 wrote it: a segment header, a write with a vote and two entries, and a
/// mark, all in format 2.
#[test]
fn a_log_of_version_0_1_0_is_opened() {
    let disk = TestDisk::default();
    let name = "0000000000000001.log";
    let mut log = Log::create(disk.clone(), &identity(), &at_base(), OPTIONS).unwrap();
    let write =
        Write { hard_state: hard_state(1, 2), ..entries(vec![command(1, 1, 3), command(2, 1, 3)]) };
    log.append(&write).unwrap();
    log.sync().unwrap();
    log.write_mark().unwrap();
    let written: String = disk.bytes(name).iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = include_str!("log_v2.txt").trim_end();
    assert_eq!(
        written.trim_end_matches('0'),
        golden.trim_end_matches('0'),
        "the bytes of format 2 have changed"
    );
    let (_, recovered) = reopen(&disk);
    assert_eq!(recovered.saved.hard_state, write.hard_state.unwrap());
    assert_eq!(recovered.saved.tail, write.entries.iter().cloned().collect::<Vec<_>>());
}
