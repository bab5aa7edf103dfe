use super::*;

fn read(disk: &mut SimDisk, name: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(name)?;
    let mut buffer = vec![0; file.len()? as usize];
    file.read_at(&mut buffer, 0)?;
    Ok(buffer)
}

#[test]
fn keeps_what_was_synced_and_any_part_of_the_rest() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut disk = SimDisk::new(SyncMutants::default());
        let mut file = disk.create("a", 4).unwrap();
        file.write_at(b"sync", 0).unwrap();
        file.sync().unwrap();
        disk.sync_directory().unwrap();
        file.write_at(b"lost", 4).unwrap();
        disk.create("b", 0).unwrap();
        assert_eq!(read(&mut disk, "a").unwrap(), b"synclost");
        disk.lose_power(&mut Random::new(seed));
        let found = read(&mut disk, "a").unwrap();
        assert_eq!(found[..4], b"sync"[..], "seed {seed}");
        outcomes.insert((found, disk.list().unwrap().len()));
    }
    assert!(outcomes.contains(&(b"sync".to_vec(), 1)));
    assert!(outcomes.contains(&(b"synclost".to_vec(), 2)));
    assert!(
        outcomes.iter().any(|(found, _)| found.starts_with(b"synclo") && !found.ends_with(b"st"))
    );
}

#[test]
fn an_unsynced_name_may_vanish_with_its_synced_content() {
    let vanished = (0..50).filter(|&seed| {
        let mut disk = SimDisk::new(SyncMutants::default());
        let mut file = disk.create("a", 0).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync().unwrap();
        disk.lose_power(&mut Random::new(seed));
        read(&mut disk, "a").is_err()
    });
    assert!(vanished.count() > 5);
}

#[test]
fn after_a_failed_sync_the_bytes_never_reach_the_disk() {
    let mut disk = SimDisk::new(SyncMutants::default());
    let mut file = disk.create("a", 0).unwrap();
    file.sync().unwrap();
    disk.sync_directory().unwrap();
    file.write_at(b"x", 0).unwrap();
    disk.fail_next(FailingCall::Sync);
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(read(&mut disk, "a").unwrap(), b"x");
    assert_ne!(read(&mut disk.durable_copy(), "a").unwrap(), b"x");
}

#[test]
fn the_power_goes_after_the_given_calls() {
    let mut disk = SimDisk::new(SyncMutants::default());
    disk.cut_power_after(1);
    let mut file = disk.create("a", 0).unwrap();
    assert!(file.write_at(b"x", 0).is_err());
    disk.lose_power(&mut Random::new(1));
    assert!(disk.list().is_ok());
}

#[test]
fn a_full_disk_takes_what_it_has_room_for() {
    let mut disk = SimDisk::new(SyncMutants::default());
    let mut file = disk.create("a", 8).unwrap();
    disk.set_full(DiskFull::Everything);
    file.write_at(b"12345678", 0).unwrap();
    assert_eq!(file.write_at(b"9", 8).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.create("b", 8).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(disk.take_failure() && !disk.take_failure());
    disk.set_full(DiskFull::Nothing);
    file.write_at(b"9", 8).unwrap();
}

#[test]
fn a_bad_call_fails_once() {
    let mut disk = SimDisk::new(SyncMutants::default());
    let mut file = disk.create("a", 8).unwrap();
    disk.fail_next(FailingCall::Read);
    file.write_at(b"x", 0).unwrap();
    assert!(file.read_at(&mut [0; 1], 0).is_err());
    file.read_at(&mut [0; 1], 0).unwrap();
    disk.fail_next(FailingCall::Write);
    assert!(file.write_at(b"x", 0).is_err());
    file.write_at(b"x", 0).unwrap();
    assert!(disk.take_failure());
}

#[test]
fn damage_is_recorded_with_whether_the_log_can_see_it() {
    let mut disk = SimDisk::new(SyncMutants::default());
    let mut file = disk.create("a.new", 4096).unwrap();
    file.write_at(&[1; 512], 0).unwrap();
    file.sync().unwrap();
    disk.sync_directory().unwrap();
    disk.rot(&mut Random::new(1));
    assert!(disk.is_damaged() && disk.is_last_batch_damaged());
    let mut seen = [0; 512];
    file.read_at(&mut seen, 0).unwrap();
    assert_ne!(seen, [1; 512]);
    // The next frame confirms that the one before it was durable.
    file.write_at(&[2; 512], 512).unwrap();
    file.sync().unwrap();
    assert!(disk.is_damaged() && !disk.is_last_batch_damaged());
}

#[test]
fn a_misdirected_write_is_seen_until_the_power_goes() {
    let mut disk = SimDisk::new(SyncMutants::default());
    let mut file = disk.create("a", 4096).unwrap();
    file.write_at(&[1; 1024], 0).unwrap();
    file.sync().unwrap();
    disk.sync_directory().unwrap();
    disk.misdirect_next();
    file.write_at(b"here", 2048).unwrap();
    file.sync().unwrap();
    assert!(disk.is_last_batch_damaged());
    assert_eq!(&read(&mut disk, "a").unwrap()[2048..2052], b"here");
    disk.lose_power(&mut Random::new(1));
    assert_ne!(&read(&mut disk, "a").unwrap()[2048..2052], b"here");
    assert!(read(&mut disk, "a").unwrap().windows(4).any(|bytes| bytes == b"here"));
}

#[test]
fn any_of_the_names_that_were_not_synced_may_be_lost() {
    let mut kept = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let mut disk = SimDisk::new(SyncMutants::default());
        disk.create("a", 0).unwrap();
        disk.create("b", 0).unwrap();
        disk.lose_power(&mut Random::new(seed));
        kept.insert(disk.list().unwrap());
    }
    assert_eq!(kept.len(), 4, "{kept:?}");
}
