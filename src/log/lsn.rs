//! Positions in a shard's journal.

use serde::{Deserialize, Serialize};

/// Where an entry ends in its shard's journal: strictly increasing, never reset by recycling or restart.
///
/// An entry is durable once `journal.durable() >= lsn`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before every entry.
    pub const ZERO: Self = Self(0);

    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
