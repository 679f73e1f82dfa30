//! Which segments may go: a plan over segment metadata, no I/O.

use crate::log::segment::meta::{Limits, SegmentMeta};

/// A log at one moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Oldest first, as they are once all of the tail is written.
    pub segments: &'a [SegmentMeta],
    /// The log goes on in the last one.
    pub open: bool,
    pub start_offset: i64,
    /// The high watermark: what ends above it stays.
    pub committed: i64,
    pub now_ms: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionPlan {
    /// How many of the oldest segments go.
    pub delete: usize,
    /// Where the log starts afterwards.
    pub start_offset: i64,
}

/// Kafka's rules. Segments from the oldest on go while one of these says so: they end at or before the log start
/// offset; they have expired; the log without them is still no smaller than `retention.bytes`. The open one goes by time
/// and size too, and the log is empty then. Compacted topics lose segments to the log start offset alone.
pub fn plan(view: View<'_>, limits: &Limits) -> RetentionPlan {
    let View { segments, committed, now_ms, .. } = view;
    let mut plan = RetentionPlan { start_offset: view.start_offset, delete: 0 };
    let mut surplus = surplus(segments, limits);
    for (i, segment) in segments.iter().enumerate() {
        let next = segments.get(i + 1);
        let end = next.map_or(segment.next_offset, |next| next.base_offset);
        let before_start = end <= plan.start_offset && (next.is_some() || !view.open);
        let too_much = surplus.is_some_and(|s| s >= u64::from(segment.size));
        let old = limits.delete && expired(newest_ms(segment), limits, now_ms);
        if end > committed || segment.size == 0 || !(before_start || too_much || old) {
            break;
        }
        surplus = surplus.map(|s| s.saturating_sub(u64::from(segment.size)));
        plan.delete = i + 1;
        plan.start_offset = plan.start_offset.max(end);
    }
    plan
}

fn surplus(segments: &[SegmentMeta], limits: &Limits) -> Option<u64> {
    let keep = u64::try_from(limits.retention_bytes).ok().filter(|_| limits.delete)?;
    segments.iter().map(|s| u64::from(s.size)).sum::<u64>().checked_sub(keep)
}

/// The time of a segment's newest record; of its last write, where no record has one.
fn newest_ms(segment: &SegmentMeta) -> i64 {
    if segment.max_timestamp >= 0 { segment.max_timestamp } else { segment.written_ms }
}

fn expired(newest_ms: i64, limits: &Limits, now_ms: i64) -> bool {
    limits.retention_ms >= 0 && now_ms.saturating_sub(newest_ms) > limits.retention_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five of ten offsets each and 100 bytes, but for the last, of five offsets and 50 bytes.
    fn segments() -> Vec<SegmentMeta> {
        let segment = |i: i64| SegmentMeta {
            next_offset: (i + 1) * 10,
            size: 100,
            max_timestamp: i * 1000,
            ..SegmentMeta::new(i * 10, 0)
        };
        let last = SegmentMeta { next_offset: 45, size: 50, max_timestamp: 3500, ..segment(4) };
        (0..4).map(segment).chain([last]).collect()
    }

    fn unlimited() -> Limits {
        Limits { retention_ms: -1, retention_bytes: -1, ..Limits::default() }
    }

    fn run(limits: &Limits, start_offset: i64, now_ms: i64) -> (usize, i64) {
        run_to(limits, start_offset, i64::MAX, now_ms)
    }

    fn run_to(limits: &Limits, start_offset: i64, committed: i64, now_ms: i64) -> (usize, i64) {
        let view = View { segments: &segments(), open: true, start_offset, committed, now_ms };
        let plan = plan(view, limits);
        (plan.delete, plan.start_offset)
    }

    #[test]
    fn nothing_goes_without_a_reason() {
        assert_eq!(run(&unlimited(), 0, i64::MAX), (0, 0));
        assert_eq!(run(&unlimited(), 9, i64::MAX), (0, 9));
        let empty = View { segments: &[], open: false, start_offset: 3, committed: 3, now_ms: 0 };
        assert_eq!(plan(empty, &unlimited()).start_offset, 3);
    }

    #[test]
    fn segments_below_the_log_start_go_even_when_compacted() {
        let limits = Limits { delete: false, retention_ms: 0, retention_bytes: 0, ..Limits::default() };
        assert_eq!(run(&limits, 10, 0), (1, 10));
        assert_eq!(run(&limits, 29, i64::MAX), (2, 29));
        assert_eq!(run(&limits, 45, i64::MAX), (4, 45), "where the log goes on stays");
        let view = View { segments: &segments(), open: false, start_offset: 45, committed: 45, now_ms: 0 };
        assert_eq!(plan(view, &limits).delete, 5);
    }

    #[test]
    fn expired_segments_go_oldest_first_and_the_last_as_well() {
        let limits = Limits { retention_ms: 500, ..unlimited() };
        for (now, gone) in [
            (500, (0, 0)),
            (501, (1, 10)),
            (2501, (3, 30)),
            (3500, (3, 30)),
            (3501, (4, 40)),
            (4000, (4, 40)),
            (4001, (5, 45)),
        ] {
            assert_eq!(run(&limits, 0, now), gone, "{now}");
        }
        let at_once = Limits { retention_ms: 0, ..unlimited() };
        assert_eq!((run(&at_once, 0, 3500), run(&at_once, 0, 3501)), ((4, 40), (5, 45)));
    }

    #[test]
    fn size_keeps_at_least_what_was_asked_for_and_nothing_keeps_nothing() {
        for (bytes, gone) in
            [(451, 0), (450, 0), (351, 0), (350, 1), (250, 2), (150, 3), (51, 3), (50, 4), (1, 4), (0, 5)]
        {
            let limits = Limits { retention_bytes: bytes, ..unlimited() };
            assert_eq!(run(&limits, 0, 0).0, gone, "{bytes}");
        }
    }

    #[test]
    fn what_is_not_committed_stays() {
        let limits = Limits { retention_bytes: 0, retention_ms: 0, ..unlimited() };
        for (committed, gone) in [(0, (0, 0)), (9, (0, 0)), (10, (1, 10)), (44, (4, 40)), (45, (5, 45))] {
            assert_eq!(run_to(&limits, 0, committed, i64::MAX), gone, "{committed}");
        }
    }

    /// Timestamps of one segment's newest record, when it was written, `retention.ms`, now → gone?
    #[test]
    fn each_kind_of_timestamp_expires() {
        const NOW: i64 = 1_000_000;
        for (newest, written, retention, gone) in [
            (NOW - 11, NOW, 10, true),
            (NOW - 10, 0, 10, false),
            (0, NOW, 10, true),
            (NOW + 1, 0, 0, false),
            (i64::MAX, 0, 0, false),
            (-1, NOW - 11, 10, true),
            (-1, NOW - 10, 10, false),
            (NOW - 1, NOW, 0, true),
            (NOW, NOW, 0, false),
            (0, 0, -1, false),
        ] {
            let segment = SegmentMeta {
                next_offset: 5,
                size: 1,
                max_timestamp: newest,
                ..SegmentMeta::new(0, written)
            };
            let view = View { segments: &[segment], open: true, start_offset: 0, committed: 5, now_ms: NOW };
            let limits = Limits { retention_ms: retention, ..unlimited() };
            assert_eq!(plan(view, &limits).delete == 1, gone, "{newest} {written} {retention}");
        }
    }
}
