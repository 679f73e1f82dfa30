//! Marks of what cannot be read back.

use serde::{Deserialize, Serialize};

/// Records at rest that cannot be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DamagedRange {
    /// The segment's base offset.
    pub segment: i64,
    /// Where in the segment's file.
    pub position: u32,
    pub length: u32,
    /// The offsets that are there: `from..until`.
    pub from: i64,
    pub until: i64,
}
