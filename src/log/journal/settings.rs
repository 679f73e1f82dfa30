//! What a journal may use.

use std::path::PathBuf;

use crate::model::BrokerSettings;

#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// Length of a file.
    pub file_bytes: u64,
    /// Files that may hold entries before producers have to wait.
    pub max_files: u32,
    /// Most bytes of one commit; a larger batch is committed alone.
    pub max_commit_bytes: usize,
    /// Bytes that may have gathered or be in flight before producers have to wait.
    pub max_backlog_bytes: usize,
    /// Bytes of files that the process's shards may read back at once, unless a single one is larger.
    pub replay_bytes: usize,
    /// How far ahead of the commits zeros are written.
    pub zero_ahead_bytes: u64,
    /// Where files with damage go when their entries are no longer needed; they stay in place if there is none.
    pub set_aside: Option<PathBuf>,
}

impl Default for JournalSettings {
    fn default() -> Self {
        let broker = BrokerSettings::default();
        Self {
            file_bytes: broker.journal_file_bytes as u64,
            max_files: broker.journal_max_files as u32,
            max_commit_bytes: 2 << 20,
            max_backlog_bytes: 32 << 20,
            replay_bytes: usize::MAX,
            zero_ahead_bytes: 8 << 20,
            set_aside: None,
        }
    }
}

impl JournalSettings {
    /// Logical bytes that may hold entries that segments do not have yet; one file is kept for what is in flight.
    pub(super) fn max_bytes(&self) -> u64 {
        self.file_bytes * u64::from(self.max_files.max(2) - 1)
    }
}
