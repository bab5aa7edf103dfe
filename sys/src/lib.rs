//! Kodiak sys.
