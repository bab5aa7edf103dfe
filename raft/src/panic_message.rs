//! The message of a panic.

use std::any::Any;

/// The message of a panic. Its payload is a text, except after `panic_any`.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
