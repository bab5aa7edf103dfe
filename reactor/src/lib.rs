//! Kodiak reactor.
#![forbid(unsafe_code)]
