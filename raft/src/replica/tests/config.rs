//! Settings at the ends of their ranges: either an error names one, or the replicas work.

use proptest::prelude::*;

use super::*;
use crate::core::{ElectionTimeout, Lease};

fn size() -> impl Strategy<Value = usize> {
    let ends = [1usize, 2, 64, 4_096, usize::MAX / 2, usize::MAX - 1, usize::MAX];
    prop::sample::select(ends.to_vec())
}

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        1 => Just(Duration::ZERO),
        1 => Just(Duration::from_nanos(1)),
        4 => (1u64..500).prop_map(Duration::from_millis),
        1 => Just(crate::core::TIMEOUT_MAX),
        1 => Just(Duration::MAX)
    ]
}

fn set(core: &mut Config, limits: &mut Limits, which: usize, size: usize) {
    match which {
        0 => core.message_bytes = size,
        1 => core.in_flight_messages = size,
        2 => core.in_flight_bytes = size,
        3 => core.uncommitted_bytes = size,
        4 => core.command_bytes = size,
        5 => core.tail_bytes = size,
        6 => core.applying_bytes = size,
        7 => core.snapshot_chunk_bytes = size,
        8 => core.snapshot_chunks = size,
        9 => core.retained_snapshots = size,
        10 => core.pending_reads = size,
        11 => core.promotion_lag = size as u64,
        12 => limits.pending_requests = size,
        13 => limits.pending_bytes = size,
        14 => limits.forwarded_requests = size,
        15 => limits.request_bytes = size,
        16 => limits.batch_bytes = size,
        // The disks here take no snapshots.
        _ => limits.snapshot_every_bytes = (size as u64).max(1 << 30),
    }
}

proptest! {
    #[test]
    fn settings_are_refused_by_name_or_work(
        set_to in prop::collection::vec((0usize..18, size()), 0..6),
        times in prop::option::weighted(0.3, (time(), time(), time(), time())),
        drift_ppm in prop::sample::select(vec![0u32, 999_999, 1_000_000, u32::MAX]),
    ) {
        let (mut core, mut limits) = (Config::new(NodeId(1)), Limits::default());
        core.lease = Some(Lease::with_drift_ppm(drift_ppm));
        for (which, size) in set_to {
            set(&mut core, &mut limits, which, size);
        }
        let mut config = ReplicaConfig { limits, ..ReplicaConfig::new(core) };
        if let Some((shorter, longer, heartbeat, request)) = times {
            config.core.election_timeout = ElectionTimeout::new(shorter, longer);
            config.core.heartbeat_interval = heartbeat;
            config.request_timeout = request;
        }
        if let Err(error) = config.validate() {
            let text = error.to_string();
            let types = ["Config::", "Limits::", "Lease::"];
            prop_assert!(types.iter().any(|name| text.contains(name)), "{}", text);
            return Ok(());
        }
        let core = config.core.clone();
        let tune = |tuned: &mut Config| {
            *tuned = Config { id: tuned.id, seed: tuned.seed, ..core.clone() };
        };
        let mut cluster = Cluster::with_core(3, limits, tune).elect(0);
        for number in 0..20 {
            cluster.submit(number as usize % 3, number, write("command"));
            cluster.submit(number as usize % 3, 100 + number, read());
            cluster.run();
        }
        cluster.pass(Duration::from_millis(500), &[0, 1, 2]);
        let replied: usize = (0..3).map(|place| cluster.take_replies(place).len()).sum();
        prop_assert!(replied > 0);
    }
}
