//! What is known of a segment beside its file, and the settings that segments follow.

use serde::{Deserialize, Serialize};

use crate::model::topic_config::TopicConfig;

/// What a log knows of a segment without opening its file. Kept in the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentMeta {
    pub base_offset: i64,
    /// One past the last offset in it.
    pub next_offset: i64,
    /// Bytes of batches: the valid length of the file.
    pub size: u32,
    /// The first batch's largest timestamp; −1 if none.
    pub first_timestamp: i64,
    /// The largest timestamp, −1 if none, and the base offset of the first batch that has it.
    pub max_timestamp: i64,
    pub max_timestamp_offset: i64,
    pub created_ms: i64,
    pub written_ms: i64,
    /// How full Kafka's indexes of the segment would be. Not kept: after a start, only what came since counts.
    #[serde(skip)]
    pub indexed: Indexed,
}

impl SegmentMeta {
    pub fn new(base_offset: i64, now_ms: i64) -> Self {
        Self {
            base_offset,
            next_offset: base_offset,
            size: 0,
            first_timestamp: -1,
            max_timestamp: -1,
            max_timestamp_offset: base_offset,
            created_ms: now_ms,
            written_ms: now_ms,
            indexed: Indexed::default(),
        }
    }

    /// Takes in the batch that follows.
    pub fn push(&mut self, base_offset: i64, next_offset: i64, max_timestamp: i64, bytes: usize) {
        if self.size == 0 {
            self.first_timestamp = max_timestamp;
        }
        if max_timestamp > self.max_timestamp {
            self.max_timestamp = max_timestamp;
            self.max_timestamp_offset = base_offset;
        }
        self.size += bytes as u32;
        self.next_offset = next_offset;
    }
}

/// The topic settings that segments follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub segment_bytes: u32,
    pub segment_ms: i64,
    pub segment_jitter_ms: i64,
    pub segment_index_bytes: u64,
    pub index_interval_bytes: u32,
    /// Negative for no limit.
    pub retention_ms: i64,
    pub retention_bytes: i64,
    /// Whether time and size delete segments (`cleanup.policy` has `delete`).
    pub delete: bool,
    pub file_delete_delay_ms: i64,
}

impl From<&TopicConfig> for Limits {
    fn from(config: &TopicConfig) -> Self {
        Self {
            segment_bytes: config.segment_bytes.min(i32::MAX as u64) as u32,
            // A segment that stays active cannot be compacted in time.
            segment_ms: match config.cleanup_policy.compact {
                true => config.segment_ms.min(config.max_compaction_lag_ms.max(1)),
                false => config.segment_ms,
            },
            segment_jitter_ms: config.segment_jitter_ms,
            segment_index_bytes: config.segment_index_bytes,
            index_interval_bytes: config.index_interval_bytes,
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
            delete: config.cleanup_policy.delete,
            file_delete_delay_ms: config.file_delete_delay_ms,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&TopicConfig::default())
    }
}

/// What Kafka's two sparse indexes of a segment would hold. Weir has another index; these are counted because a full one
/// ends a segment (`segment.index.bytes`).
#[derive(Clone, Copy, Debug)]
pub struct Indexed {
    offsets: u32,
    times: u32,
    last_time: i64,
    /// Bytes since the last entry.
    since: u64,
}

/// It says nothing of what a segment holds: descriptions that differ in it alone are of the same segment.
impl PartialEq for Indexed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Indexed {}

impl Default for Indexed {
    fn default() -> Self {
        Self { offsets: 0, times: 0, last_time: -1, since: 0 }
    }
}

impl Indexed {
    const OFFSET_ENTRY: u64 = 8;
    const TIME_ENTRY: u64 = 12;

    pub fn push(&mut self, bytes: usize, newest_ms: i64, interval: u32) {
        if self.since > u64::from(interval) {
            self.since = 0;
            self.offsets += 1;
            if newest_ms > self.last_time {
                self.last_time = newest_ms;
                self.times += 1;
            }
        }
        self.since += bytes as u64;
    }

    /// The last place in the index of times is kept for the moment the segment ends.
    pub fn is_full(&self, most_bytes: u64) -> bool {
        u64::from(self.offsets) >= most_bytes / Self::OFFSET_ENTRY
            || u64::from(self.times) + 1 >= most_bytes / Self::TIME_ENTRY
    }
}
