//! The result of a check.

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sim) struct Violation {
    pub(in crate::sim) invariant: &'static str,
    pub(in crate::sim) details: String,
}

pub(in crate::sim) type CheckResult = Result<(), Violation>;

/// A violation of this invariant, unless `holds`.
pub(in crate::sim) fn check(
    holds: bool,
    invariant: &'static str,
    details: impl FnOnce() -> String,
) -> CheckResult {
    if holds { Ok(()) } else { Err(Violation { invariant, details: details() }) }
}
