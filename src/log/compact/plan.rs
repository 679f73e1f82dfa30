//! What may be compacted, whether it is worth it, and which segments become one: no I/O.

use std::ops::Range;

use crate::log::segment::SegmentMeta;
use crate::model::{Offset, WallMs};

use super::Policy;

/// Segments that are replaced by one; each has a file open while it is.
const MAX_GROUP: usize = 32;

/// A log that has something to compact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub first_dirty: Offset,
    /// The base offset of the first segment that is not touched.
    pub end: Offset,
    /// Dirty bytes of all bytes below the end.
    pub dirty_ratio: f64,
}

/// Looks at the sealed segments of a log, oldest first. `limit` is as in [`super::Bounds`].
pub fn candidate(
    sealed: &[SegmentMeta],
    Offset(first_dirty): Offset,
    Offset(limit): Offset,
    policy: &Policy,
    WallMs(now_ms): WallMs,
) -> Option<Candidate> {
    let too_young = |s: &SegmentMeta| {
        policy.min_lag_ms > 0
            && s.next_offset > first_dirty
            && s.max_timestamp > now_ms.saturating_sub(policy.min_lag_ms)
    };
    let count = sealed.iter().take_while(|s| s.next_offset <= limit && !too_young(s)).count();
    let sealed = &sealed[..count];
    let end = sealed.last()?.next_offset;
    let bytes = |segments: &[SegmentMeta]| segments.iter().map(|s| f64::from(s.size)).sum::<f64>();
    let (clean, dirty) = sealed.split_at(sealed.partition_point(|s| s.next_offset <= first_dirty));
    let dirty_bytes = bytes(dirty);
    let dirty_ratio = dirty_bytes / (bytes(clean) + dirty_bytes).max(1.0);
    let oldest = dirty.iter().map(|s| s.first_timestamp).filter(|t| *t > 0).min();
    let overdue = oldest.is_some_and(|t| t < now_ms.saturating_sub(policy.max_lag_ms));
    let wanted = dirty_bytes > 0.0 && (overdue || dirty_ratio > policy.min_dirty_ratio);
    wanted.then_some(Candidate { first_dirty: Offset(first_dirty), end: Offset(end), dirty_ratio })
}

/// Neighbours that together fit a segment, as index ranges over `segments`.
pub fn groups(segments: &[SegmentMeta], segment_bytes: u32) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0_u64;
    for (i, segment) in segments.iter().enumerate() {
        let size = u64::from(segment.size);
        if let Some(group) = groups.last_mut() {
            let reach = segment.next_offset - segments[group.start].base_offset;
            let fits = bytes + size <= u64::from(segment_bytes) && reach <= i64::from(i32::MAX);
            if fits && group.len() < MAX_GROUP {
                group.end = i + 1;
                bytes += size;
                continue;
            }
        }
        groups.push(i..i + 1);
        bytes = size;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        compact: true,
        min_dirty_ratio: 0.5,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        delete_retention_ms: 0,
        segment_bytes: 250,
        most_bytes: 1000,
    };

    /// Four segments of ten offsets and a hundred bytes, a second apart.
    fn sealed() -> Vec<SegmentMeta> {
        let segment = |i: i64| SegmentMeta {
            next_offset: (i + 1) * 10,
            size: 100,
            first_timestamp: i * 1000 + 1,
            max_timestamp: i * 1000 + 999,
            ..SegmentMeta::new(i * 10, 0)
        };
        (0..4).map(segment).collect()
    }

    fn end(first_dirty: i64, limit: i64, policy: Policy, now: i64) -> Option<i64> {
        let (first_dirty, limit) = (Offset(first_dirty), Offset(limit));
        candidate(&sealed(), first_dirty, limit, &policy, WallMs(now)).map(|c| c.end.0)
    }

    #[test]
    fn the_limit_is_rounded_down_to_a_segment() {
        assert_eq!(end(0, 40, POLICY, 0), Some(40));
        assert_eq!(end(0, 1000, POLICY, 0), Some(40));
        assert_eq!(end(0, 39, POLICY, 0), Some(30));
        assert_eq!(end(0, 9, POLICY, 0), None);
        assert_eq!(candidate(&[], Offset(0), Offset(10), &POLICY, WallMs(0)), None);
    }

    #[test]
    fn a_log_is_compacted_once_it_is_dirty_enough() {
        assert_eq!(end(10, 40, POLICY, 0), Some(40), "three quarters");
        assert_eq!(end(20, 40, POLICY, 0), None, "one half is not more than one half");
        assert_eq!(end(40, 40, Policy { min_dirty_ratio: 0.0, ..POLICY }, 0), None, "nothing is dirty");
        assert_eq!(end(30, 40, Policy { min_dirty_ratio: 0.0, ..POLICY }, 0), Some(40));
    }

    #[test]
    fn lags_hold_back_and_press_on() {
        let young = Policy { min_lag_ms: 2000, ..POLICY };
        assert_eq!(
            end(0, 40, young, 4000),
            Some(20),
            "the third segment's newest is younger than two seconds"
        );
        assert_eq!(end(0, 40, young, 10_000), Some(40));
        let late = Policy { max_lag_ms: 5000, min_dirty_ratio: 1.0, ..POLICY };
        assert_eq!(end(30, 40, late, 8001), None);
        assert_eq!(end(30, 40, late, 8002), Some(40));
    }

    #[test]
    fn neighbours_join_up_to_a_segments_size() {
        assert_eq!(groups(&sealed(), 250), [0..2, 2..4]);
        assert_eq!(groups(&sealed(), 300), [0..3, 3..4]);
        assert_eq!(groups(&sealed(), 50), [0..1, 1..2, 2..3, 3..4]);
        let mut far = sealed();
        far[1].next_offset = i64::from(i32::MAX) + 1;
        assert_eq!(groups(&far[..2], 1000), [0..1, 1..2]);
        let many = vec![SegmentMeta::new(0, 0); 70];
        assert_eq!(groups(&many, 1000), [0..32, 32..64, 64..70]);
    }
}
