//! One macro for the setters of all settings.

/// Implements, for each named field, a setter that takes and returns the settings.
///
/// The settings are `#[non_exhaustive]`, so a user cannot write them as a literal: setters are
/// chained behind a constructor.
macro_rules! setters {
    ($settings:ident { $($name:ident: $type:ty),* $(,)? }) => {
        /// Setters of the fields with the same names.
        impl $settings {
            $(
                #[doc = concat!(
                    "Sets [`", stringify!($name), "`](field@Self::", stringify!($name), ").",
                )]
                #[must_use]
                pub fn $name(mut self, $name: $type) -> $settings {
                    self.$name = $name;
                    self
                }
            )*
        }
    };
}
pub(crate) use setters;
