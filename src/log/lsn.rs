//! Positions in a shard's journal.

use serde::{Deserialize, Serialize};

/// Where an entry ends in its shard's journal: strictly increasing, never reset by recycling or restart. Entries end at
/// multiples of 8; between them are the lsns that are *promised*, of what a later entry makes durable.
///
/// [`is_durable`](super::Journal::is_durable) says whether what has the lsn is on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before every entry.
    pub const ZERO: Self = Self(0);

    pub fn is_promised(self) -> bool {
        !self.0.is_multiple_of(8)
    }

    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
