//! Kodiak timer.
#![forbid(unsafe_code)]
