//! What a shard's log may use.

use std::path::Path;
use std::time::Duration;

use crate::log::files::layout::SET_ASIDE;
use crate::log::journal::JournalSettings;
use crate::model::BrokerSettings;

/// Of the journal: two commits of usual size.
const LEAST_BACKLOG: usize = 4 << 20;

#[derive(Clone, Debug)]
pub struct LogSettings {
    pub journal_file_bytes: u64,
    pub journal_max_files: usize,
    pub max_commit_bytes: usize,
    pub zero_ahead_bytes: u64,
    /// A partition's tail is written to its segment when it reaches this size.
    pub flush_chunk_bytes: usize,
    /// Backlog (bytes) above which a partition is written directly to its segment; 0 disables.
    pub bypass_bytes: usize,
    /// Bytes that no segment holds yet; a full bound makes producers wait.
    pub tail_bytes: usize,
    /// Flushed batches kept for readers.
    pub cache_bytes: usize,
    /// Bytes of journal files that all shards together may read back at once.
    pub replay_bytes: usize,
    /// Records decompressed, and logs being loaded.
    pub work_bytes: usize,
    /// Room on the disk that clients' records never take.
    pub reserve_bytes: u64,
    pub retention_interval: Duration,
    pub checkpoint_interval: Duration,
    /// Bytes a second that the scrubber reads back; zero turns it off.
    pub scrub_rate: u64,
    /// How long the scrubber rests before it begins again, and before it begins at all.
    pub scrub_interval: Duration,
}

/// For tools: what they read and write is theirs alone, so no room is left to others and nothing is scrubbed.
impl Default for LogSettings {
    fn default() -> Self {
        Self {
            tail_bytes: 64 << 20,
            cache_bytes: 128 << 20,
            replay_bytes: usize::MAX,
            work_bytes: 16 << 20,
            reserve_bytes: 0,
            scrub_rate: 0,
            ..Self::of(&BrokerSettings::default(), 1)
        }
    }
}

impl LogSettings {
    /// One shard's part of what the broker runs with.
    pub fn of(settings: &BrokerSettings, shards: usize) -> Self {
        let journal = JournalSettings::default();
        Self {
            journal_file_bytes: settings.journal_file_bytes as u64,
            journal_max_files: settings.journal_max_files,
            max_commit_bytes: journal.max_commit_bytes,
            zero_ahead_bytes: journal.zero_ahead_bytes,
            flush_chunk_bytes: settings.flush_chunk_bytes,
            bypass_bytes: settings.journal_bypass_bytes,
            tail_bytes: settings.per_shard(settings.tail_bytes, shards),
            cache_bytes: settings.per_shard(settings.cache_bytes, shards),
            replay_bytes: settings.replay_bytes,
            work_bytes: settings.per_shard(settings.request_memory_bytes, shards) / 8,
            reserve_bytes: settings.disk_reserve_bytes as u64,
            retention_interval: Duration::from_millis(settings.retention_check_ms),
            checkpoint_interval: Duration::from_millis(settings.checkpoint_ms),
            scrub_rate: settings.per_shard(settings.scrub_rate, shards) as u64,
            scrub_interval: Duration::from_millis(settings.scrub_interval_ms),
        }
    }

    pub(super) fn journal(&self, data_dir: &Path) -> JournalSettings {
        let most_backlog = JournalSettings::default().max_backlog_bytes;
        JournalSettings {
            file_bytes: self.journal_file_bytes,
            max_files: self.journal_max_files as u32,
            max_commit_bytes: self.max_commit_bytes,
            // Files that are small have others ready soon enough.
            zero_ahead_bytes: self.zero_ahead_bytes.min(self.journal_file_bytes / 2),
            replay_bytes: self.replay_bytes,
            // The copies of what tails hold.
            max_backlog_bytes: most_backlog.min(self.tail_bytes / 2).max(LEAST_BACKLOG),
            set_aside: Some(data_dir.join(SET_ASIDE)),
        }
    }
}
