//! Parsers of flags that several subcommands have.

use std::ops::RangeInclusive;

/// A parser of milliseconds, up to an hour.
pub(crate) fn milliseconds() -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync {
    number("milliseconds", 1..=3_600_000)
}

/// A parser of whole numbers within a range. `what` is their unit, for the error.
pub(crate) fn number<T: TryFrom<u64> + Clone + Send + Sync + 'static>(
    what: &'static str,
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse::<u64>().ok().filter(|number| range.contains(number));
        let hint = || match (*range.start(), *range.end()) {
            (first, u64::MAX) => format!("give {what}, from {first}"),
            (first, last) => format!("give {what}, from {first} to {last}"),
        };
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(hint)
    }
}

/// Parses a node's id.
pub(crate) fn node_id(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("node ids start at 1".to_owned()),
        Ok(id) => Ok(id),
        Err(_) => Err("a node's id is a whole number, from 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_number_is_answered_with_the_range() {
        let small = number::<u32>("clients", 1..=10);
        assert_eq!(small("10"), Ok(10));
        for wrong in ["0", "11", "-1", "", "x", "1.5", "99999999999999999999"] {
            assert_eq!(small(wrong).unwrap_err(), "give clients, from 1 to 10", "{wrong:?}");
            assert!(node_id(wrong).is_ok() == (wrong == "11"), "{wrong:?}");
        }
        assert_eq!(number::<u64>("bytes", 1..=u64::MAX)("0").unwrap_err(), "give bytes, from 1");
    }
}
