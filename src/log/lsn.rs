//! Positions in a shard's journal.

use serde::{Deserialize, Serialize};

/// A position in a shard's journal, in bytes of entries: strictly increasing, never reset by recycling or restart. Entries
/// end at multiples of 8. Between two of them lie the lsns that are *promised*: of batches written directly, which a
/// later entry, their placement, makes durable.
///
/// Both kinds are one type because they are one order: acknowledgements, the high watermark and the journal's floor
/// compare them with each other all the time, and whoever waits for one does not care which kind it is. What treats them
/// differently asks [`is_promised`](Self::is_promised), and that is the journal alone:
/// [`is_durable`](super::Journal::is_durable) answers for both. On disk are lsns of entries, and floors that lie right behind one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before every entry.
    pub const ZERO: Self = Self(0);

    /// Whether a later entry makes it durable, rather than its own.
    pub(in crate::log) fn is_promised(self) -> bool {
        !self.0.is_multiple_of(8)
    }

    /// Before every entry to come, and past this one.
    pub(in crate::log) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
