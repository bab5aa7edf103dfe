//! Tests of the whole wheel.
