//! Reading a log: from memory, or from segments and then from memory.

use std::rc::Rc;

use bytes::Bytes;

use crate::log::LogError;
use crate::log::segment::Segment;
use crate::log::segment::reader::Wanted;
use crate::model::Offset;

use super::PartitionLog;

/// One read returns at most so many bytes from disk, whatever was asked for (a single larger batch aside).
const MAX_READ_BYTES: usize = 16 << 20;
const PREFETCH_BYTES: std::ops::RangeInclusive<usize> = (1 << 20)..=(8 << 20);

impl PartitionLog {
    /// The hot path: whole batches from memory, from the one holding `offset` on, with base offsets below
    /// `limit_offset`, up to `max_bytes`; none if `offset` is not below the limit. `None` if they have to be read
    /// from disk. A slice may hold several batches.
    pub fn read_cached(
        &self,
        offset: Offset,
        limit_offset: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Vec<Bytes>> {
        if offset >= limit_offset.min(self.end_offset()) {
            return Some(Vec::new());
        }
        if offset < self.start_offset() {
            return None;
        }
        self.tail.borrow().read(offset.0, limit_offset.0, max_bytes, at_least_one)
    }

    /// As [`read_cached`](Self::read_cached), from wherever the batches are. Returns less than `max_bytes` only where
    /// the limit, a bad stretch or an internal bound ends the read.
    pub async fn read(
        &self,
        offset: Offset,
        limit_offset: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Vec<Bytes>, LogError> {
        self.check_range(offset)?;
        let mut out: Vec<Bytes> = Vec::new();
        let mut room = max_bytes.min(MAX_READ_BYTES);
        let (mut at, mut from_disk) = (offset, false);
        while at < limit_offset.min(self.end_offset()) {
            let one = at_least_one && out.is_empty();
            if let Some(batches) = self.tail.borrow().read(at.0, limit_offset.0, room, one) {
                out.extend(batches);
                break;
            }
            // Retention may have overtaken the read: no gap is skipped in silence.
            if at < self.start_offset() {
                break;
            }
            let Some(segment) = self.segment_at(at) else { break };
            from_disk = true;
            let began = at;
            let wanted = Wanted { offset: at.0, limit: limit_offset.0, max_bytes: room, at_least_one: one };
            match segment.read(wanted).await {
                Ok(found) => {
                    room = room.saturating_sub(found.bytes);
                    out.extend(found.batches);
                    at = Offset(found.next_offset).max(at);
                    if found.full || (room == 0 && !out.is_empty()) {
                        break;
                    }
                    if found.bytes == 0 && found.next_offset <= began.0 {
                        at = Offset(segment.meta().next_offset.max(at.0 + 1));
                    }
                }
                Err(_) if !out.is_empty() => break,
                Err(LogError::Removed) => return Err(self.gone(offset)),
                Err(e) => return Err(e),
            }
        }
        if out.is_empty() && offset < self.start_offset() {
            return Err(self.gone(offset));
        }
        if from_disk {
            self.read_ahead(offset, at, max_bytes);
        }
        Ok(out)
    }

    /// What has to be read from disk at least to return the batch that holds `offset`, or the next one; 1 where that is
    /// not known.
    pub async fn cold_bytes(&self, offset: Offset) -> Result<usize, LogError> {
        self.check_range(offset)?;
        let Some(segment) = self.segment_at(offset) else { return Ok(1) };
        match segment.first_read(offset.0).await {
            Ok(bytes) => Ok(bytes.max(1)),
            Err(LogError::Removed) => Err(self.gone(offset)),
            Err(e) => Err(e),
        }
    }

    fn check_range(&self, offset: Offset) -> Result<(), LogError> {
        if self.is_removed() {
            return Err(LogError::Removed);
        }
        if offset < self.start_offset() || offset > self.end_offset() {
            return Err(self.out_of_range(offset));
        }
        Ok(())
    }

    fn out_of_range(&self, offset: Offset) -> LogError {
        LogError::OffsetOutOfRange { offset, start: self.start_offset(), end: self.end_offset() }
    }

    /// A segment went away under a reader: with the topic, or because the log's start moved.
    fn gone(&self, offset: Offset) -> LogError {
        if self.is_removed() { LogError::Removed } else { self.out_of_range(offset) }
    }

    /// The segment to read for `offset`: the one that holds it, else the next one.
    pub(super) fn segment_at(&self, offset: Offset) -> Option<Rc<Segment>> {
        self.segments.at(offset.0)
    }

    fn read_ahead(&self, began: Offset, ended: Offset, max_bytes: usize) {
        if !self.reads.goes_on(began.0, ended.0) || self.tail.borrow().holds(ended.0) {
            return;
        }
        let bytes = max_bytes.clamp(*PREFETCH_BYTES.start(), *PREFETCH_BYTES.end());
        if let Some(segment) = self.segment_at(ended) {
            segment.prefetch(ended.0, bytes.min(self.resources.kept_limit() / 2));
        }
    }
}
