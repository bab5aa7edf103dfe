//! The ends of the range, and the corners of the contract.

use super::*;
