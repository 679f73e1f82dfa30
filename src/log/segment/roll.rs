//! When the active segment is full: Kafka's rules, decided per batch.

use super::tail::TailBatch;
use super::{Limits, SegmentMeta};

/// The batch that would come next.
#[derive(Clone, Copy, Debug)]
pub struct NextBatch {
    pub bytes: usize,
    pub last_offset: i64,
    pub max_timestamp: i64,
}

/// Whether a new segment has to start before `next` is written. Time passes as the records say where the first batch
/// has a timestamp, otherwise by the clock since the segment was created.
pub fn must_roll(segment: &SegmentMeta, next: NextBatch, limits: &Limits, now_ms: i64) -> bool {
    if next.last_offset - segment.base_offset > i64::from(i32::MAX) {
        return true;
    }
    if segment.size == 0 {
        return false;
    }
    let full = segment.size as usize + next.bytes > limits.segment_bytes as usize;
    full || waited_ms(segment, next.max_timestamp, now_ms) > limits.segment_ms - jitter_ms(segment, limits)
}

fn waited_ms(segment: &SegmentMeta, max_timestamp: i64, now_ms: i64) -> i64 {
    if segment.first_timestamp >= 0 {
        max_timestamp.saturating_sub(segment.first_timestamp)
    } else {
        now_ms.saturating_sub(segment.created_ms)
    }
}

/// A segment's own share of `segment.jitter.ms`, so that partitions created together do not all roll together.
fn jitter_ms(segment: &SegmentMeta, limits: &Limits) -> i64 {
    let most = limits.segment_jitter_ms.min(limits.segment_ms);
    if most <= 0 {
        return 0;
    }
    let mut seed = segment.base_offset.to_le_bytes().to_vec();
    seed.extend_from_slice(&segment.created_ms.to_le_bytes());
    i64::from(crc32fast::hash(&seed)) % most
}

pub(super) fn next_batch(batch: &TailBatch<'_>) -> NextBatch {
    NextBatch {
        bytes: batch.bytes.len(),
        last_offset: batch.next_offset - 1,
        max_timestamp: batch.max_timestamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { segment_bytes: 1000, segment_ms: 500, ..Limits::default() }
    }

    fn next(bytes: usize, last_offset: i64, max_timestamp: i64) -> NextBatch {
        NextBatch { bytes, last_offset, max_timestamp }
    }

    #[test]
    fn rolls_by_size_but_never_leaves_a_segment_empty() {
        let mut segment = SegmentMeta::new(10, 0);
        assert!(!must_roll(&segment, next(5000, 11, 0), &limits(), 0));
        segment.size = 900;
        assert!(!must_roll(&segment, next(100, 11, 0), &limits(), 0));
        assert!(must_roll(&segment, next(101, 11, 0), &limits(), 0));
    }

    #[test]
    fn rolls_by_record_time_or_else_by_age() {
        let mut segment = SegmentMeta { size: 1, first_timestamp: 100, ..SegmentMeta::new(0, 0) };
        assert!(!must_roll(&segment, next(1, 1, 600), &limits(), 1 << 40));
        assert!(must_roll(&segment, next(1, 1, 601), &limits(), 0));
        segment.first_timestamp = -1;
        assert!(!must_roll(&segment, next(1, 1, i64::MAX), &limits(), 500));
        assert!(must_roll(&segment, next(1, 1, -1), &limits(), 501));
        let jitter = Limits { segment_jitter_ms: 400, ..limits() };
        segment.first_timestamp = 0;
        assert!(must_roll(&segment, next(1, 1, 501), &jitter, 0));
        assert!(!must_roll(&segment, next(1, 1, 100), &jitter, 0), "never before segment.ms − jitter");
    }

    #[test]
    fn rolls_before_an_offset_that_no_longer_fits() {
        let segment = SegmentMeta { size: 1, ..SegmentMeta::new(5, 0) };
        let last = 5 + i64::from(i32::MAX);
        assert!(!must_roll(&segment, next(1, last, 0), &limits(), 0));
        assert!(must_roll(&segment, next(1, last + 1, 0), &limits(), 0));
    }
}
