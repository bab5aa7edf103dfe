//! Kodiak channel.
#![forbid(unsafe_code)]
