//! Kodiak net.
#![forbid(unsafe_code)]
