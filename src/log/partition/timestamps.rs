//! Finding a log's records by time: first by what segments' metadata and the tail say, then in the segment.

use crate::log::LogError;
use crate::log::segment::timestamps::{TimestampOffset, find_in_batch};

use super::PartitionLog;

impl PartitionLog {
    /// The first record whose timestamp is not below `timestamp`: its offset, its timestamp, its leader epoch.
    pub async fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<(i64, i64, i32)>, LogError> {
        let found = self.find_timestamp(self.start_offset(), timestamp).await?;
        Ok(found.map(|f| (f.offset, f.timestamp, f.leader_epoch)))
    }

    /// The first record with the largest timestamp in the log.
    pub async fn max_timestamp(&self) -> Result<Option<(i64, i64, i32)>, LogError> {
        let (mut best, mut from) = self.segments.newest_timestamp();
        if let Some(newest) = self.tail.borrow().pinned_max_timestamp().filter(|newest| *newest > best) {
            (best, from) = (newest, self.segments.last().map_or(0, |last| last.meta().next_offset));
        }
        if best < 0 {
            return Ok(None);
        }
        let found = self.find_timestamp(from.max(self.start_offset()), best).await?;
        Ok(found.map(|f| (f.offset, f.timestamp, f.leader_epoch)))
    }

    async fn find_timestamp(&self, mut from: i64, target: i64) -> Result<Option<TimestampOffset>, LogError> {
        while from < self.end_offset() {
            if let Some(segment) = self.segment_at(from) {
                let meta = segment.meta();
                if meta.max_timestamp >= target {
                    match segment.find_timestamp(from, target).await {
                        Ok(None) | Err(LogError::Removed) => {}
                        done => return done,
                    }
                }
                from = meta.next_offset;
                continue;
            }
            let Some((next, batch)) = self.tail.borrow().find_timestamp(from, target) else { break };
            let found = find_in_batch(batch, from, target, &self.resources).await;
            if found.is_some() {
                return Ok(found);
            }
            from = next;
        }
        Ok(None)
    }
}
