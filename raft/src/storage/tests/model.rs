//! The log against a model: a list of entries, a term and a vote.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Payload sizes, and by how much the term rises before them.
    Append(Vec<usize>, u64),
    /// How many of the last entries are truncated, then payload sizes in a higher term.
    Replace(u64, Vec<usize>),
    Configure,
    HardState(u64),
    Sync,
    Mark,
    /// The process is killed, the machine goes on.
    Reopen,
    /// The machine crashes. Of each file's unsynced 512-byte sectors those stay whose bit is set.
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let size = || prop_oneof![8 => 0usize..200, 1 => 0usize..9000];
    let sizes = || prop::collection::vec(size(), 1..5);
    prop_oneof![
        8 => (sizes(), prop_oneof![3 => Just(0u64), 1 => Just(1)])
            .prop_map(|(sizes, rise)| Step::Append(sizes, rise)),
        2 => (0u64..8, prop::collection::vec(size(), 0..3))
            .prop_map(|(count, sizes)| Step::Replace(count, sizes)),
        1 => Just(Step::Configure),
        2 => (0u64..4).prop_map(Step::HardState),
        5 => Just(Step::Sync),
        2 => Just(Step::Mark),
        1 => Just(Step::Reopen),
        2 => any::<u64>().prop_map(Step::Crash),
    ]
}

struct LogRun {
    disk: TestDisk,
    log: Log<TestDisk>,
    /// The state after the last sync, and after each write since.
    states: Vec<Model>,
}

impl LogRun {
    fn model(&self) -> &Model {
        self.states.last().unwrap()
    }

    fn write(&mut self, write: Write) {
        self.log.append(&write).unwrap();
        let mut model = self.model().clone();
        model.apply(&write);
        self.states.push(model);
    }

    fn drop_states_before(&mut self, index: usize) {
        self.states = vec![self.states[index].clone()];
    }

    fn commands(&self, from: u64, term: u64, sizes: &[usize]) -> Vec<Entry> {
        (from..).zip(sizes).map(|(index, &bytes)| command(index, term, bytes)).collect()
    }

    fn step(&mut self, step: Step) {
        let last = self.model().entries.len() as u64;
        let last_term = self.model().entries.last().map_or(1, |entry| entry.term.0);
        match step {
            Step::Append(sizes, rise) => {
                let commands = self.commands(last + 1, last_term + rise, &sizes);
                self.write(entries(commands));
            }
            Step::Replace(count, sizes) => {
                let from = last.saturating_sub(count) + 1;
                let commands = self.commands(from, last_term + 1, &sizes);
                self.write(Write { truncate_from: Some(Index(from)), ..entries(commands) });
            }
            Step::Configure => {
                let payload = Payload::Configuration(Box::new(initial_configuration()));
                self.write(entries(vec![Entry { payload, ..command(last + 1, last_term, 0) }]));
            }
            Step::HardState(vote) => {
                let term = self.model().hard_state.term.0 + 1;
                self.write(Write { hard_state: hard_state(term, vote), ..entries(vec![]) });
            }
            Step::Sync => {
                self.log.sync().unwrap();
                self.drop_states_before(self.states.len() - 1);
            }
            Step::Mark => self.log.write_mark().unwrap(),
            Step::Reopen => self.recover(),
            Step::Crash(keep) => {
                // A read writes the log's buffer to the file, as a batch does before its sync.
                read(&mut self.log, 1, 0, 0);
                tear(&self.disk, keep);
                self.recover();
            }
        }
        assert_eq!(read_all(&mut self.log), self.model().entries);
    }

    /// Opens the log: it must hold one of the states since the last sync.
    fn recover(&mut self) {
        let (mut log, recovered) = reopen(&self.disk);
        assert_eq!(recovered.identity, identity());
        let found = Model::of(&mut log, &recovered.saved);
        found.assert_matches(&recovered.saved);
        let state = self.states.iter().rposition(|state| *state == found);
        self.drop_states_before(
            state
                .expect("what was found is what was written, up to some write after the last sync"),
        );
        self.log = log;
    }
}

/// Of every file, keeps what is durable and, of the rest, the sectors whose bit in `keep` is set.
fn tear(disk: &TestDisk, keep: u64) {
    let torn: Vec<(String, Vec<u8>)> = disk
        .names()
        .into_iter()
        .map(|name| {
            let (mut bytes, durable) = (disk.bytes(&name), disk.durable_bytes(&name));
            for (sector, chunk) in bytes.chunks_mut(512).enumerate() {
                if keep >> (sector % 64) & 1 == 0 {
                    let at = sector * 512;
                    chunk.copy_from_slice(&durable[at..at + chunk.len()]);
                }
            }
            (name, bytes)
        })
        .collect();
    for (name, bytes) in torn {
        disk.set_bytes(&name, bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn holds_what_was_written(steps in prop::collection::vec(step(), 1..40)) {
        let disk = TestDisk::default();
        let log = create(&disk);
        let mut run = LogRun { disk, log, states: vec![Model::default()] };
        for step in steps {
            run.step(step);
        }
        run.recover();
    }

    #[test]
    fn reads_any_range_within_its_limit(
        sizes in prop::collection::vec(prop_oneof![9 => 0usize..300, 1 => 0usize..70_000], 1..60),
        batch in 1usize..7,
        from in 1u64..70,
        length in 0u64..70,
        limit_bytes in prop_oneof![Just(0usize), 0usize..5000, Just(usize::MAX)],
    ) {
        let disk = TestDisk::default();
        let mut log = create(&disk);
        let entry = |(index, &bytes): (u64, &usize)| command(index, 1, bytes);
        let all: Vec<Entry> = (1..).zip(&sizes).map(entry).collect();
        for batch in all.chunks(batch) {
            log.append(&entries(batch.to_vec())).unwrap();
        }
        let found = read(&mut log, from, from + length, limit_bytes);
        let is_wanted = |entry: &Entry| (from..=from + length).contains(&entry.index.0);
        let mut expected: Vec<Entry> = all.into_iter().filter(is_wanted).collect();
        let mut left = limit_bytes;
        let fitting = expected
            .iter()
            .take_while(|entry| {
                let fits = entry.size_bytes() <= left;
                left = left.saturating_sub(entry.size_bytes());
                fits
            })
            .count();
        expected.truncate(fitting.max(1));
        prop_assert_eq!(found, expected);
    }
}
