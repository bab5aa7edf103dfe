//! When digests are taken, and the reaction to one that differs from a majority's.

use super::*;
use crate::types::{Digest, Entries, Entry, FeatureLevel, Payload, Stamp, Term};

/// Counts commands; one that is `mad` counts "odd" twice.
#[derive(Debug, Default)]
struct Counter {
    count: u64,
    is_mad: bool,
    version: u32,
}

impl StateMachine for Counter {
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
        self.count += if self.is_mad && entry.command == b"odd" { 2 } else { 1 };
        Ok(Bytes::from(self.count.to_string()))
    }

    fn query(&self, _: &Query<'_>) -> Bytes {
        Bytes::from(self.count.to_string())
    }

    fn snapshot(&self) -> Box<dyn Read + Send> {
        Box::new(io::Cursor::new(self.count.to_string()))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        self.count = io::read_to_string(snapshot)?.parse().map_err(io::Error::other)?;
        self.count += u64::from(self.is_mad);
        Ok(())
    }

    fn digest(&self) -> Option<MachineDigest> {
        (self.version > 0).then_some(MachineDigest { version: self.version, value: self.count })
    }
}

fn counter(version: u32) -> MachineRunner<Counter> {
    MachineRunner::new(Counter { version, ..Counter::default() })
}

fn host() -> Host {
    Host { now: Now::default(), content: None }
}

fn command(index: u64) -> Entry {
    let payload = Payload::Command(Bytes::from_static(b"one more"));
    Entry { index: Index(index), term: Term(1), stamp: Stamp(0), payload }
}

fn digest_after(machine: &mut MachineRunner<Counter>, entries: Entries) -> Option<Digest> {
    let index = entries.last().unwrap().index;
    let mut taken = None;
    for job in [MachineJob::Apply(entries), MachineJob::TakeDigest(index)] {
        machine.run(job, &mut host(), &mut |done| {
            if let MachineDone::DigestTaken(digest) = done {
                taken = digest;
            }
        });
    }
    taken
}

fn snapshot_meta(index: u64) -> SnapshotMeta {
    let initial_configuration = Configuration::of_voters([(id(0), Member::default())]);
    let configuration = initial_configuration.at_feature_level(FeatureLevel::CURRENT);
    let (index, term, stamp) = (Index(index), Term(1), Stamp(0));
    SnapshotMeta { index, term, stamp, configuration, digest: None }
}

/// Takes a snapshot with its digest, like a node.
fn snapshot_of(
    machine: &mut MachineRunner<Counter>,
    meta: SnapshotMeta,
) -> (SnapshotMeta, Vec<u8>) {
    let mut taken = None;
    for job in [MachineJob::TakeDigest(meta.index), MachineJob::TakeSnapshot(meta)] {
        machine.run(job, &mut host(), &mut |done| {
            if let MachineDone::SnapshotReady { meta, content } = done {
                taken = Some((meta, content));
            }
        });
    }
    let (meta, mut content) = taken.expect("a snapshot");
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).unwrap();
    (meta, bytes)
}

fn restore(
    machine: &mut MachineRunner<Counter>,
    meta: SnapshotMeta,
    content: Vec<u8>,
) -> Result<(), String> {
    let (mut result, mut is_wrong) = (Ok(()), false);
    let mut host = Host { content: Some(content), ..host() };
    machine.run(MachineJob::Restore(meta), &mut host, &mut |done| match done {
        MachineDone::SnapshotMismatch(_) => is_wrong = true,
        MachineDone::Failed(failure) => result = Err(failure.to_string()),
        _ => {}
    });
    assert_eq!(is_wrong, result.is_err(), "the snapshot is at fault");
    result
}

#[test]
fn a_digest_is_of_machine_and_sessions() {
    let (mut one, mut other) = (counter(1), counter(1));
    let taken = digest_after(&mut one, command(1).into()).unwrap();
    assert_eq!((taken.index, taken.version), (Index(1), 1));
    assert_eq!(digest_after(&mut other, command(1).into()), Some(taken));
    let open = |salt| Entry { payload: Payload::OpenSession { ttl_ms: 1000, salt }, ..command(2) };
    let with_session = digest_after(&mut one, open(7).into()).unwrap();
    let with_another = digest_after(&mut other, open(8).into()).unwrap();
    assert_ne!(with_session.value, with_another.value);
    assert_ne!(with_session.value, taken.value);
    assert_eq!(digest_after(&mut counter(0), command(1).into()), None, "a machine that takes none");
}

#[test]
pub(crate) fn a_restored_state_must_have_its_snapshots_digest() {
    let mut machine = counter(1);
    digest_after(&mut machine, (1..=4).map(command).collect());
    let (meta, content) = snapshot_of(&mut machine, snapshot_meta(4));
    assert_eq!(meta.digest.map(|digest| (digest.index, digest.version)), Some((Index(4), 1)));
    assert_eq!(restore(&mut counter(1), meta.clone(), content.clone()), Ok(()));
    // It restores another state from the same bytes.
    let mut mad = MachineRunner::new(Counter { is_mad: true, version: 1, ..Counter::default() });
    let refused = restore(&mut mad, meta.clone(), content.clone()).unwrap_err();
    assert!(refused.contains("and the snapshot has"), "{refused}");
    assert!(mad.has_failed());
    // Neither another version nor a machine without digests can detect it.
    for version in [0, 2] {
        let mut mad = MachineRunner::new(Counter { is_mad: true, version, ..Counter::default() });
        assert_eq!(restore(&mut mad, meta.clone(), content.clone()), Ok(()));
    }
}

#[test]
fn a_snapshot_of_the_base_level_says_no_digest() {
    let mut machine = counter(1);
    digest_after(&mut machine, command(1).into());
    let mut meta = snapshot_meta(1);
    meta.configuration.feature_level = FeatureLevel::BASE;
    let (meta, _) = snapshot_of(&mut machine, meta);
    assert_eq!(meta.digest, None, "its format has no field for one");
}

/// The jobs that a cluster of one at this level gives to its state machine.
fn jobs_of(level: FeatureLevel, digest_interval: u64, commands: usize) -> Vec<MachineJob> {
    let now = Now { monotonic: Time(1_000_000_000), wall: Stamp(1) };
    let initial_configuration =
        Configuration::of_voters([(id(0), Member::default())]).at_feature_level(level);
    let saved = Saved { initial_configuration, ..Saved::default() };
    let mut config = ReplicaConfig::new(Config::new(id(0)));
    config.limits.digest_interval = digest_interval;
    let mut replica = Replica::new(config, saved, now).unwrap();
    replica.handle_timeout(now);
    let mut jobs = Vec::new();
    let mut poll = |replica: &mut Replica| {
        while let Some(effect) = replica.poll() {
            match effect {
                Effect::Machine(job) => jobs.push(job),
                Effect::Storage(Job::Write(write)) => {
                    replica.handle_done(now, Done::Written { sequence: write.sequence });
                }
                _ => {}
            }
        }
    };
    poll(&mut replica);
    (0..commands).for_each(|number| replica.submit(now, RequestId(number as u64), write("x")));
    poll(&mut replica);
    jobs
}

/// The indexes of the entries applied, and of digests, after a `D`.
fn words(jobs: &[MachineJob]) -> String {
    let word = |job: &MachineJob| match job {
        MachineJob::Apply(entries) => {
            format!("{}-{}", entries.first().unwrap().index, entries.last().unwrap().index)
        }
        MachineJob::TakeDigest(index) => format!("D{index}"),
        other => format!("{other:?}"),
    };
    jobs.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn digests_are_taken_exactly_at_multiples() {
    let level = FeatureLevel::CURRENT;
    assert_eq!(words(&jobs_of(level, 3, 8)), "1-1 2-3 D3 4-6 D6 7-9 D9");
    // Index 1 is an entry of Raft's own.
    assert_eq!(words(&jobs_of(level, 1, 2)), "1-1 D1 2-2 D2 3-3 D3");
    assert_eq!(words(&jobs_of(level, 4, 2)), "1-1 2-3");
    assert_eq!(words(&jobs_of(level, 0, 4)), "1-1 2-5");
    assert_eq!(words(&jobs_of(level, u64::MAX, 4)), "1-1 2-5");
    assert_eq!(words(&jobs_of(FeatureLevel::BASE, 1, 2)), "1-1 2-3");
}

/// A node that leads a cluster of one at the current level, and has applied what it has committed.
fn alone(digest_interval: u64) -> (Replica, Now) {
    let now = Now { monotonic: Time(1_000_000_000), wall: Stamp(1) };
    let level = FeatureLevel::CURRENT;
    let initial_configuration =
        Configuration::of_voters([(id(0), Member::default())]).at_feature_level(level);
    let saved = Saved { initial_configuration, ..Saved::default() };
    let mut config = ReplicaConfig::new(Config::new(id(0)));
    config.limits.digest_interval = digest_interval;
    let mut replica = Replica::new(config, saved, now).unwrap();
    replica.handle_timeout(now);
    (0..8).for_each(|number| replica.submit(now, RequestId(number), write("x")));
    while let Some(effect) = replica.poll() {
        if let Effect::Storage(Job::Write(write)) = effect {
            replica.handle_done(now, Done::Written { sequence: write.sequence });
        }
    }
    (replica, now)
}

#[test]
fn only_digests_at_multiples_reach_the_core() {
    let (mut replica, now) = alone(3);
    for (index, latest) in [(5, None), (6, Some(6)), (7, Some(6))] {
        let digest = Digest { index: Index(index), version: 1, value: 9 };
        replica.handle_machine_done(now, MachineDone::DigestTaken(Some(digest)));
        let told = replica.core().status().digests.latest.map(|digest| digest.index.0);
        assert_eq!(told, latest, "after {index}");
    }
}

#[test]
fn a_restored_state_gives_its_digest_if_digests_are_on() {
    for (interval, expected) in [(0, 0), (3, 1)] {
        let (mut replica, _) = alone(interval);
        replica.start_restore(snapshot_meta(4));
        let effects: Vec<Effect> = std::iter::from_fn(|| replica.poll()).collect();
        let is_taken = |effect: &&Effect| match effect {
            Effect::Machine(MachineJob::TakeDigest(index)) => *index == Index(4),
            _ => false,
        };
        assert_eq!(effects.iter().filter(is_taken).count(), expected, "{effects:?}");
    }
}

#[test]
fn a_diverged_node_stops_its_machine_and_marks_its_disk() {
    let (mut replica, now) = alone(3);
    let digest = Digest { index: Index(6), version: 1, value: 9 };
    let divergence = crate::types::Divergence { digest, majority: 7, agreed: Index(3) };
    replica.handle_divergence(divergence);
    let effects: Vec<Effect> = std::iter::from_fn(|| replica.poll()).collect();
    let stops = |effect: &Effect| matches!(effect, Effect::Machine(MachineJob::Stop(_)));
    assert!(effects.iter().any(stops), "{effects:?}");
    assert!(effects.contains(&Effect::Storage(Job::MarkDiverged(divergence))), "{effects:?}");
    // The divergence was reported before the machine stopped.
    let failure = crate::replica::divergence::divergence_failure(divergence);
    replica.handle_machine_done(now, MachineDone::Failed(failure));
    let is_failure =
        |effect: Effect| matches!(effect, Effect::Event(ReplicaEvent::MachineFailed(_)));
    assert!(!std::iter::from_fn(|| replica.poll()).any(is_failure));
}
