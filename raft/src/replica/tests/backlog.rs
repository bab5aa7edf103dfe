//! Refusals when a state machine is behind, or has failed with its quota full.

use super::*;

const LIMIT_BYTES: usize = 300;

fn behind() -> Outcome {
    Outcome::Refused(Refusal::Full { bound: Bound::Backlog, limit: LIMIT_BYTES as u64 })
}

#[test]
fn writes_are_refused_while_the_leaders_machine_is_behind() {
    let tune = |config: &mut Config| config.backlog_bytes = LIMIT_BYTES;
    let mut cluster = Cluster::with_core(3, Limits::default(), tune).elect(0);
    cluster.nodes[0].holds_machine = true;
    let mut number = 0;
    let refused = loop {
        number += 1;
        assert!(number < 100, "never refused");
        cluster.submit(0, number, write("a command of a few bytes"));
        cluster.run();
        if let Some(reply) = cluster.take_replies(0).pop() {
            break reply;
        }
    };
    assert_eq!(refused, (number, behind()));
    let Outcome::Refused(refusal) = behind() else { unreachable!() };
    assert!(refusal.to_string().contains("300 bytes of Config::backlog_bytes"), "{refusal}");
    // A follower's clients get the same text, encoded as an older version can decode it.
    cluster.submit(1, 500, write("b"));
    cluster.run();
    let declined = Refusal::Declined { reason: refusal.to_string(), is_final: false };
    assert_eq!(cluster.take_replies(1), [(500, Outcome::Refused(declined))]);
    assert_eq!(cluster.nodes[1].replica.status().core.backlog_bytes, 0);
    cluster.run_machine(0);
    assert_eq!(cluster.take_replies(0).len() as u64, number - 1, "all others are answered");
    cluster.submit(0, 501, write("c"));
    cluster.run();
    assert_eq!(cluster.take_replies(0), [(501, answer("c"))]);
}

#[test]
fn a_failed_machine_acknowledges_until_its_quota_is_full() {
    let limits = Limits { unapplied_log_bytes: Some(500), ..Limits::default() };
    let mut cluster = Cluster::led_by(0, 3, limits);
    let index = cluster.nodes[2].replica.status().applied.next();
    let reason = "cannot apply this".to_owned();
    let failure =
        MachineFailure { callback: MachineCallback::Apply, index, reason, has_panicked: false };
    let now = cluster.now;
    cluster.nodes[2].replica.handle_machine_done(now, MachineDone::Failed(failure));
    let mut durable = Vec::new();
    for number in 0..20 {
        cluster.submit(0, number, write("a command of a few bytes"));
        cluster.run();
        durable.push(cluster.nodes[2].replica.status().core.durable);
        // Like a heartbeat.
        cluster.nodes[2].replica.handle_timeout(now);
        cluster.run();
    }
    assert_eq!(cluster.take_replies(0).len(), 20, "the others continue");
    let full = cluster.nodes[2].replica.unapplied_log_full().expect("its quota is full");
    assert!(full.bytes > 500 && full.bytes < 600, "{full}");
    let text = crate::error_chain::error_chain(full);
    for words in ["Limits::unapplied_log_bytes (500)", "cannot apply this", "raise the quota"] {
        assert!(text.contains(words), "{text}");
    }
    assert!(durable[5] > durable[0], "it acknowledged");
    assert_eq!(durable[18], durable[19], "it has stopped");
    cluster.submit(2, 1, write("b"));
    cluster.run();
    assert_eq!(cluster.take_replies(2), [(1, Outcome::Refused(Refusal::MachineFailed { index }))]);
}

#[test]
fn a_quota_of_zero_is_refused() {
    let mut config = ReplicaConfig::new(Config::new(NodeId(1)));
    config.limits.unapplied_log_bytes = Some(0);
    assert!(config.validate().unwrap_err().to_string().contains("Limits::unapplied_log_bytes"));
}
