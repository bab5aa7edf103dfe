//! Scenarios on a tiny network: [`network`] is the machinery, each other file a concern.

mod admission;
mod amnesia;
mod backlog;
mod changes;
mod chaos;
mod commit_marks;
mod cost;
mod digests;
mod elections;
#[cfg(feature = "mutants")]
mod faults;
mod fetches;
mod fitness;
mod installs;
mod late_messages;
mod lease;
mod loading;
mod log_time;
mod membership;
mod network;
mod priority;
mod reads;
mod replication;
mod rounds;
mod snapshot_replacement;
mod snapshots;
mod stalls;
mod terms;
mod transfer;
mod votes;
