//! Scenarios on a tiny network: [`network`] is the machinery, each other file a concern.

mod elections;
mod network;
mod reads;
mod replication;
