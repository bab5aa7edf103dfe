//! Scenarios on a tiny network.
