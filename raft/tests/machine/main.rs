//! State machines that are slow or failing, under real nodes.

mod cluster;
mod damaged;
mod digests;
mod failing;
mod quick;
mod slow;
mod snapshots;
mod starting;
