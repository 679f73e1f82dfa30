//! Finding a log's records by time: first by what segments' metadata and the tail say, then in the segment.

use crate::log::LogError;
use crate::log::segment::timestamps::{TimestampOffset, find_in_batch};

use super::PartitionLog;

impl PartitionLog {
    /// The first record whose timestamp is not below `timestamp`.
    pub async fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, LogError> {
        self.find_timestamp(self.start_offset().0, timestamp).await
    }

    /// The first record with the largest timestamp in the log.
    pub async fn max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        let (mut best, mut from) = self.segments.newest_timestamp();
        if let Some(newest) = self.tail.borrow().pinned_max_timestamp().filter(|newest| *newest > best) {
            (best, from) = (newest, self.segments.last().map_or(0, |last| last.meta().next_offset));
        }
        if best < 0 {
            return Ok(None);
        }
        self.find_timestamp(from.max(self.start_offset().0), best).await
    }

    async fn find_timestamp(&self, mut from: i64, target: i64) -> Result<Option<TimestampOffset>, LogError> {
        while from < self.end_offset().0 {
            if let Some(segment) = self.segments.at(from) {
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
