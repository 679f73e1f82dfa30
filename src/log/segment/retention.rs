//! Which segments may go: a plan over segment metadata, no I/O.

use super::{Limits, SegmentMeta};

/// What the in-memory tail adds to the active segment.
#[derive(Clone, Copy, Debug, Default)]
pub struct TailView {
    pub bytes: u64,
    pub max_timestamp: i64,
    /// The log's end offset.
    pub end_offset: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionPlan {
    /// How many of the oldest segments go.
    pub delete: usize,
    /// The active segment is among them: it has to be flushed and sealed first.
    pub seal_active: bool,
    /// Where the log starts afterwards.
    pub start_offset: i64,
}

/// Segments from the oldest on go while one of the rules says so: they end at or before the log start offset; they
/// have expired; the log without them is still no smaller than `retention.bytes`. The active segment (the last, when
/// `has_active`) goes only when it expired. Compacted topics lose segments to the log start offset alone.
pub fn plan(
    segments: &[SegmentMeta],
    has_active: bool,
    tail: TailView,
    start_offset: i64,
    limits: &Limits,
    now_ms: i64,
) -> RetentionPlan {
    let mut plan = RetentionPlan { start_offset, ..RetentionPlan::default() };
    let mut surplus = surplus(segments, tail.bytes, limits);
    for (i, segment) in segments.iter().enumerate() {
        let is_active = has_active && i + 1 == segments.len();
        let end = if i + 1 == segments.len() { segment.next_offset } else { segments[i + 1].base_offset };
        if is_active {
            let newest = newest_ms(segment).max(if tail.bytes > 0 { tail.max_timestamp } else { i64::MIN });
            if limits.delete && expired(newest, limits, now_ms) {
                plan = RetentionPlan { delete: i + 1, seal_active: true, start_offset: tail.end_offset };
            }
            break;
        }
        let too_much = surplus.is_some_and(|s| s >= u64::from(segment.size));
        let old = limits.delete && expired(newest_ms(segment), limits, now_ms);
        if end > plan.start_offset && !old && !too_much {
            break;
        }
        surplus = surplus.map(|s| s.saturating_sub(u64::from(segment.size)));
        plan.delete = i + 1;
        plan.start_offset = plan.start_offset.max(end);
    }
    plan
}

fn surplus(segments: &[SegmentMeta], tail_bytes: u64, limits: &Limits) -> Option<u64> {
    let keep = u64::try_from(limits.retention_bytes).ok().filter(|_| limits.delete)?;
    let size: u64 = segments.iter().map(|s| u64::from(s.size)).sum();
    (size + tail_bytes).checked_sub(keep)
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

    fn segments() -> Vec<SegmentMeta> {
        (0..4)
            .map(|i| SegmentMeta {
                next_offset: (i + 1) * 10,
                size: 100,
                max_timestamp: i * 1000,
                ..SegmentMeta::new(i * 10, 0)
            })
            .collect()
    }

    fn run(limits: &Limits, start: i64, now: i64) -> RetentionPlan {
        let tail = TailView { bytes: 50, max_timestamp: 3500, end_offset: 45 };
        plan(&segments(), true, tail, start, limits, now)
    }

    fn deletes(plan: RetentionPlan) -> (usize, bool, i64) {
        (plan.delete, plan.seal_active, plan.start_offset)
    }

    fn unlimited() -> Limits {
        Limits { retention_ms: -1, retention_bytes: -1, ..Limits::default() }
    }

    #[test]
    fn nothing_goes_without_a_reason() {
        assert_eq!(deletes(run(&unlimited(), 0, i64::MAX)), (0, false, 0));
        assert_eq!(deletes(run(&unlimited(), 9, i64::MAX)), (0, false, 9));
        assert_eq!(plan(&[], false, TailView::default(), 3, &unlimited(), 0).start_offset, 3);
    }

    #[test]
    fn segments_below_the_log_start_go_even_when_compacted() {
        let limits = Limits { delete: false, retention_ms: 0, retention_bytes: 0, ..Limits::default() };
        assert_eq!(deletes(run(&limits, 10, 0)), (1, false, 10));
        assert_eq!(deletes(run(&limits, 29, i64::MAX)), (2, false, 29));
        assert_eq!(deletes(run(&limits, 45, i64::MAX)), (3, false, 45));
    }

    #[test]
    fn expired_segments_go_oldest_first_and_the_active_one_after_a_roll() {
        let limits = Limits { retention_ms: 500, ..unlimited() };
        assert_eq!(deletes(run(&limits, 0, 500)), (0, false, 0));
        assert_eq!(deletes(run(&limits, 0, 501)), (1, false, 10));
        assert_eq!(deletes(run(&limits, 0, 2501)), (3, false, 30));
        assert_eq!(deletes(run(&limits, 0, 4000)), (3, false, 30), "the tail is younger");
        assert_eq!(deletes(run(&limits, 0, 4001)), (4, true, 45));
    }

    #[test]
    fn size_keeps_at_least_what_was_asked_for() {
        for (bytes, gone) in [(450, 0), (351, 0), (350, 1), (250, 2), (150, 3), (0, 3)] {
            let limits = Limits { retention_bytes: bytes, ..unlimited() };
            assert_eq!(run(&limits, 0, 0).delete, gone, "{bytes}");
        }
    }

    #[test]
    fn records_without_time_expire_by_the_last_write() {
        let limits = Limits { retention_ms: 500, ..unlimited() };
        let mut segments = segments();
        segments[0].max_timestamp = -1;
        segments[0].written_ms = 5000;
        assert_eq!(plan(&segments, true, TailView::default(), 0, &limits, 5400).delete, 0);
    }
}
