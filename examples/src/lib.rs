//! Kodiak examples.
#![forbid(unsafe_code)]
