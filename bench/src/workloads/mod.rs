//! The workloads: one file each.

mod channel;
mod churn;
mod echo;
mod idle;
mod served;
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
];

/// Runs the one that is named, or all.
pub(crate) fn run(name: &str, plan: &Plan) -> io::Result<()> {
    if name == "timers-10m" {
        return timers::run_large(plan); // minutes and gigabytes: only when asked for
    }
    let mut chosen = ALL.iter().filter(|(workload, _)| *workload == name || name == "all").peekable();
    if chosen.peek().is_none() {
        return Err(usage());
    }
    chosen.try_for_each(|(_, run)| run(plan))
}
