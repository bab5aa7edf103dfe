//! Sessions.

use std::ops::RangeInclusive;

/// The most sessions open at a time.
pub const SESSIONS_MAX: usize = 16_384;

/// The most commands of a session that were applied and not acknowledged.
pub const ANSWERS_PER_SESSION_MAX: usize = 64;

/// The longest answer that is kept for a retry, in bytes.
pub const ANSWER_BYTES_MAX: usize = 4_096;

/// The most bytes of answers that are kept in all sessions together.
pub const ANSWERS_BYTES_MAX: usize = 64 << 20;

/// How long a session may live without being used, in milliseconds: a tenth of a second to thirty days.
pub const SESSION_TTL_MS: RangeInclusive<u64> = 100..=2_592_000_000;
