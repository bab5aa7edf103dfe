//! An error with its causes as one text.

use std::error::Error;

/// An error with its causes on one line, each once, for logs and operators.
///
/// ```
/// let error = std::io::Error::other("no space left");
/// assert_eq!(kodiak_raft::error_chain(&error), "no space left");
/// ```
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
