//! What compaction did, in figures.

use crate::log::compact::Passed;

/// What compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionSnapshot {
    pub passes: u64,
    pub failures: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub records_removed: u64,
}

impl CompactionSnapshot {
    pub(super) fn add(&mut self, passed: &Passed) {
        self.passes += 1;
        self.bytes_read += passed.bytes_read;
        self.bytes_written += passed.bytes_written;
        self.records_removed += passed.records_read.saturating_sub(passed.records_kept);
    }
}
