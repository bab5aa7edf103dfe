//! The workloads: one file each.

pub(crate) mod channel;
mod churn;
mod clock;
pub(crate) mod core;
mod echo;
mod groups;
mod idle;
mod server_cost;
mod stalled_sender;
pub(crate) mod timers;
pub(crate) mod turn;
mod udp;

use std::io;

use crate::measure::Plan;
use crate::usage;

type Workload = fn(&Plan) -> io::Result<()>;

const ALL: &[(&str, Workload)] = &[
    ("turn", turn::run),
    ("echo", echo::run),
    ("churn", churn::run),
    ("udp", udp::run),
    ("idle", idle::run),
    ("timers", timers::run),
    ("channel", channel::run),
    ("clock", clock::run),
    ("core", core::run),
    ("groups", groups::run),
    ("stalled-sender", stalled_sender::run),
];

/// Checks all names before the first workload runs, because each takes minutes.
pub(crate) fn check(names: &[&str]) -> io::Result<()> {
    let is_known = |name: &&str| {
        ["all", "timers-10m", "timers-counts"].contains(name)
            || ALL.iter().any(|(workload, _)| workload == name)
    };
    if names.is_empty() || !names.iter().all(is_known) { Err(usage()) } else { Ok(()) }
}

/// Runs the named workload, or `all`.
pub(crate) fn run(name: &str, plan: &Plan) -> io::Result<()> {
    if name == "timers-10m" {
        // Not part of `all`: it takes minutes and gigabytes.
        return timers::run_large(plan);
    }
    if name == "timers-counts" {
        timers::run_counts();
        return Ok(());
    }
    let mut chosen = ALL.iter().filter(|(workload, _)| *workload == name || name == "all");
    chosen.try_for_each(|(_, run)| run(plan))
}
