//! When the active segment is full: Kafka's rules, decided per batch.

use crate::log::segment::meta::{Limits, SegmentMeta};

use super::tail::TailBatch;

/// The batch that would come next.
#[derive(Clone, Copy, Debug)]
pub struct NextBatch {
    pub base_offset: i64,
    pub next_offset: i64,
    pub max_timestamp: i64,
    pub bytes: usize,
    /// Milliseconds of the wall clock when it is written; when it was appended, if its records have no time.
    pub written_ms: i64,
}

impl NextBatch {
    pub fn push_to(&self, segment: &mut SegmentMeta, limits: &Limits) {
        segment.push(self.base_offset, self.next_offset, self.max_timestamp, self.bytes);
        segment.written_ms = self.written_ms;
        let newest = segment.max_timestamp;
        segment.indexed.push(self.bytes, newest, limits.index_interval_bytes);
    }
}

/// Whether a new segment has to start before `next` is written. Time passes as the records say where the first batch
/// has a timestamp, otherwise by the clock since the segment was created.
pub fn must_roll(segment: &SegmentMeta, next: &NextBatch, limits: &Limits) -> bool {
    if next.next_offset - 1 - segment.base_offset > i64::from(i32::MAX) {
        return true;
    }
    if segment.size == 0 {
        return false;
    }
    let full = segment.size as usize + next.bytes > limits.segment_bytes as usize;
    full || segment.indexed.is_full(limits.segment_index_bytes)
        || waited_ms(segment, next) > limits.segment_ms - jitter_ms(segment, limits)
}

/// Adds to `segments`, the last of which takes more if it is `open`, what the batches make of them.
pub fn lay_out(
    segments: &mut Vec<SegmentMeta>,
    mut open: bool,
    batches: impl Iterator<Item = NextBatch>,
    limits: &Limits,
) {
    for next in batches {
        let active = segments.last_mut().filter(|last| open && !must_roll(last, &next, limits));
        match active {
            Some(active) => next.push_to(active, limits),
            None => {
                let mut created = SegmentMeta::new(next.base_offset, next.written_ms);
                next.push_to(&mut created, limits);
                segments.push(created);
            }
        }
        open = true;
    }
}

fn waited_ms(segment: &SegmentMeta, next: &NextBatch) -> i64 {
    if segment.first_timestamp >= 0 {
        next.max_timestamp.saturating_sub(segment.first_timestamp)
    } else {
        next.written_ms.saturating_sub(segment.created_ms)
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

pub(super) fn next_batch(batch: &TailBatch<'_>, now_ms: i64) -> NextBatch {
    NextBatch {
        base_offset: batch.base_offset,
        next_offset: batch.next_offset,
        max_timestamp: batch.max_timestamp,
        bytes: batch.bytes.len(),
        written_ms: batch.written_ms(now_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { segment_bytes: 1000, segment_ms: 500, ..Limits::default() }
    }

    fn next(bytes: usize, last_offset: i64, max_timestamp: i64, written_ms: i64) -> NextBatch {
        NextBatch { base_offset: last_offset, next_offset: last_offset + 1, max_timestamp, bytes, written_ms }
    }

    #[test]
    fn rolls_by_size_but_never_leaves_a_segment_empty() {
        let mut segment = SegmentMeta::new(10, 0);
        assert!(!must_roll(&segment, &next(5000, 11, 0, 0), &limits()));
        segment.size = 900;
        assert!(!must_roll(&segment, &next(100, 11, 0, 0), &limits()));
        assert!(must_roll(&segment, &next(101, 11, 0, 0), &limits()));
    }

    #[test]
    fn rolls_by_record_time_or_else_by_age() {
        let mut segment = SegmentMeta { size: 1, first_timestamp: 100, ..SegmentMeta::new(0, 0) };
        assert!(!must_roll(&segment, &next(1, 1, 600, 1 << 40), &limits()));
        assert!(must_roll(&segment, &next(1, 1, 601, 0), &limits()));
        segment.first_timestamp = -1;
        assert!(!must_roll(&segment, &next(1, 1, i64::MAX, 500), &limits()));
        assert!(must_roll(&segment, &next(1, 1, -1, 501), &limits()));
        let jitter = Limits { segment_jitter_ms: 400, ..limits() };
        segment.first_timestamp = 0;
        assert!(must_roll(&segment, &next(1, 1, 501, 0), &jitter));
        assert!(!must_roll(&segment, &next(1, 1, 100, 0), &jitter), "never before segment.ms − jitter");
    }

    #[test]
    fn rolls_before_an_offset_that_no_longer_fits() {
        let segment = SegmentMeta { size: 1, ..SegmentMeta::new(5, 0) };
        let last = 5 + i64::from(i32::MAX);
        assert!(!must_roll(&segment, &next(1, last, 0, 0), &limits()));
        assert!(must_roll(&segment, &next(1, last + 1, 0, 0), &limits()));
    }

    /// Where batches of 100 bytes start segments.
    fn bases(limits: Limits, timestamps: impl Iterator<Item = i64>) -> Vec<i64> {
        let mut segments = Vec::new();
        let batches = timestamps.enumerate().map(|(i, t)| next(100, i as i64, t, 7));
        lay_out(&mut segments, false, batches, &limits);
        segments.iter().map(|s| s.base_offset).collect()
    }

    #[test]
    fn rolls_when_an_index_is_full() {
        // An entry for every batch that finds more than 150 bytes: the third, the fifth, the seventh, …
        let indexed = |bytes| Limits {
            segment_bytes: 1 << 20,
            segment_ms: 1 << 40,
            index_interval_bytes: 150,
            segment_index_bytes: bytes,
            ..Limits::default()
        };
        // Four offsets: full with the ninth batch. Times that stand still need one place.
        assert_eq!(bases(indexed(36), (0..12).map(|_| 5)), [0, 9]);
        // Three times, the last kept free: full with the fifth batch.
        assert_eq!(bases(indexed(36), 0..12), [0, 5, 10]);
        // No index has a place: each batch makes a segment.
        assert_eq!(bases(indexed(4), 0..3), [0, 1, 2]);
    }

    #[test]
    fn a_laid_out_tail_goes_on_in_an_open_segment_and_rolls_by_its_times() {
        let batches = |from| (from..).zip([0, 500, 501, 9000, 1]).map(|(at, t)| next(1, at, t, 7));
        let mut segments =
            vec![SegmentMeta { size: 1, first_timestamp: 0, next_offset: 10, ..SegmentMeta::new(0, 0) }];
        lay_out(&mut segments, true, batches(10), &limits());
        let found: Vec<_> =
            segments.iter().map(|s| (s.base_offset, s.next_offset, s.max_timestamp)).collect();
        assert_eq!(found, [(0, 12, 500), (12, 13, 501), (13, 15, 9000)]);
        segments.truncate(1);
        lay_out(&mut segments, false, batches(600), &limits());
        assert_eq!(segments[1].base_offset, 600, "what is sealed takes nothing");
    }
}
