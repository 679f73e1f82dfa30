//! What the journal says of one partition's log beside its batches, in order: where batches went straight to segments, where
//! the log was cut, where it began anew. Of this a start makes out which entries still count, and what files there are.
//!
//! - A truncation voids what earlier entries have past its offset, a reset all of what earlier entries have. What is void is
//!   not replayed, whatever its offsets are: those may have been given out again.
//! - A checkpoint says how the log was after the last entry before it (its `durable` lsn). What came later is applied to it
//!   in order; what came earlier is in it, and only voids entries.

use std::collections::HashMap;

use crate::log::formats::cut::Cut;
use crate::log::formats::placement::Placement;
use crate::log::journal::{Entry, EntryKind};
use crate::log::{Lsn, PartitionCheckpoint};
use crate::model::{Offset, PartitionId};

#[derive(Clone, Debug)]
enum Event {
    Placed(Placement),
    /// `None`: what it says of segments cannot be read.
    Cut(i64, Option<Cut>),
    Reset(i64),
}

/// What a cut left of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// It began anew.
    Nothing,
    /// What is below.
    Below(Offset),
}

/// See the module's page.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Oldest first.
    events: Vec<(Lsn, Event)>,
    /// For each truncation and reset, oldest first, the least that it or a later one left of the log.
    cuts: Vec<(Lsn, Left)>,
}

impl History {
    fn push(&mut self, entry: &Entry, bytes: &[u8]) {
        let offset = entry.base_offset;
        let event = match entry.kind {
            // One that cannot be decoded is left out: its replay tells.
            EntryKind::Placement => Placement::decode(bytes).ok().map(Event::Placed),
            EntryKind::Truncate => Some(Event::Cut(offset, Cut::decode(bytes).ok())),
            EntryKind::Reset => Some(Event::Reset(offset)),
            EntryKind::Batch | EntryKind::EpochStart => None,
        };
        let left = match entry.kind {
            EntryKind::Truncate => Some(Left::Below(Offset(offset))),
            EntryKind::Reset => Some(Left::Nothing),
            _ => None,
        };
        if let Some(left) = left {
            self.cuts.iter_mut().for_each(|(_, least)| *least = left.min(*least));
            self.cuts.push((entry.lsn, left));
        }
        self.events.extend(event.map(|event| (entry.lsn, event)));
    }

    /// Whether what the entry at `lsn` says of offsets up to `end` counts no more.
    pub fn is_void(&self, lsn: Lsn, end: i64) -> bool {
        self.cut_after(lsn).is_some_and(|left| left < Left::Below(Offset(end)))
    }

    /// Whether it says what files there are.
    pub fn says_files(&self) -> bool {
        self.events.iter().any(|(_, event)| !matches!(event, Event::Cut(..)))
    }

    /// Whether a reset is in it.
    pub fn has_reset(&self) -> bool {
        self.events.iter().any(|(_, event)| matches!(event, Event::Reset(_)))
    }

    /// The least that was left of the log after `lsn`, if it was cut then.
    pub fn cut_after(&self, lsn: Lsn) -> Option<Left> {
        let later = self.cuts.partition_point(|(cut, _)| *cut <= lsn);
        self.cuts.get(later).map(|(_, left)| *left)
    }

    /// Up to where a log that was promised to reach `end` when the entry at `lsn` was the last is still promised to.
    pub fn promised(&self, end: i64, lsn: Lsn) -> i64 {
        let later = self.events.iter().filter(|(its, _)| *its > lsn);
        later.fold(end, |end, (_, event)| match event {
            Event::Placed(_) => end,
            Event::Cut(to, _) => end.min(*to),
            Event::Reset(to) => *to,
        })
    }

    /// Brings what was known of the partition's files after the entry at `lsn` up to date. Why that cannot be done, if so;
    /// the files are not to be touched then.
    pub fn apply(&self, known: &mut PartitionCheckpoint, lsn: Lsn) -> Result<(), String> {
        for (_, event) in self.events.iter().filter(|(its, _)| *its > lsn) {
            match event {
                Event::Placed(placement) => placement.clone().apply(known),
                Event::Cut(to, Some(cut)) => cut.clone().apply(*to, known),
                Event::Cut(to, None) => {
                    return Err(format!(
                        "what the journal says of the truncation to offset {to} cannot be read"
                    ));
                }
                Event::Reset(start) => {
                    *known = PartitionCheckpoint {
                        segment_durable_offset: *start,
                        start_offset: *start,
                        ..PartitionCheckpoint::nothing()
                    };
                }
            }
        }
        known.was_reset = self.has_reset();
        Ok(())
    }
}

/// By partition.
pub type Histories = HashMap<PartitionId, History>;

/// Sorts what [`Recovery::marks`](super::journal::Recovery::marks) found.
pub fn by_partition(entries: Vec<(Entry, Vec<u8>)>) -> Histories {
    let mut histories = Histories::new();
    for (entry, bytes) in entries {
        histories.entry(entry.partition).or_default().push(&entry, &bytes);
    }
    histories
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::segment::SegmentMeta;
    use crate::model::{LeaderEpoch, TopicId};

    fn entry(kind: EntryKind, lsn: u64, base_offset: i64) -> Entry {
        let partition = PartitionId { topic: TopicId([1; 16]), index: 0 };
        Entry { kind, lsn: Lsn(lsn), partition, base_offset, leader_epoch: 7 }
    }

    fn entries(known: &PartitionCheckpoint) -> Vec<(i32, i64)> {
        known.epochs.entries().map(|(epoch, start)| (epoch.0, start.0)).collect()
    }

    fn meta(base: i64, next: i64) -> SegmentMeta {
        SegmentMeta { next_offset: next, size: (next - base) as u32, ..SegmentMeta::new(base, 0) }
    }

    fn files(durable: i64, segments: &[(i64, i64)]) -> PartitionCheckpoint {
        let segments = segments.iter().map(|(base, next)| meta(*base, *next)).collect();
        PartitionCheckpoint {
            segment_durable_offset: durable,
            segments,
            active: true,
            ..PartitionCheckpoint::nothing()
        }
    }

    fn listed(known: &PartitionCheckpoint) -> Vec<(i64, i64)> {
        known.segments.iter().map(|segment| (segment.base_offset, segment.next_offset)).collect()
    }

    fn history(entries: &[(EntryKind, u64, i64, Vec<u8>)]) -> History {
        let mut history = History::default();
        for (kind, lsn, offset, bytes) in entries {
            history.push(&entry(*kind, *lsn, *offset), bytes);
        }
        history
    }

    fn cut(from: i64, segments: &[(i64, i64)]) -> Vec<u8> {
        let segments = segments.iter().map(|(base, next)| meta(*base, *next)).collect();
        Cut { from, segments, start_offset: 0 }.encode()
    }

    #[test]
    fn what_a_later_truncation_cut_off_is_void_and_nothing_else() {
        let history = history(&[
            (EntryKind::Truncate, 100, 50, cut(50, &[])),
            (EntryKind::Truncate, 200, 80, cut(80, &[])),
            (EntryKind::EpochStart, 250, 80, vec![]),
            (EntryKind::Reset, 300, 500, vec![]),
            (EntryKind::Truncate, 400, 520, cut(500, &[])),
        ]);
        for (lsn, end, void) in [
            (90, 10, true),
            (290, 10, true),
            (310, 520, false),
            (310, 521, true),
            (390, 700, true),
            (410, 700, false),
        ] {
            assert_eq!(history.is_void(Lsn(lsn), end), void, "offsets up to {end} at {lsn}");
        }
        assert_eq!(history.cut_after(Lsn(300)), Some(Left::Below(Offset(520))));
        assert_eq!((history.cut_after(Lsn(0)), history.cut_after(Lsn(400))), (Some(Left::Nothing), None));
        assert_eq!(history.promised(1000, Lsn(0)), 500);
        assert_eq!(history.promised(1000, Lsn(300)), 520);
        assert_eq!(history.promised(1000, Lsn(400)), 1000);
        assert_eq!(history.promised(510, Lsn(300)), 510);
    }

    #[test]
    fn a_checkpoint_is_brought_up_to_date_by_what_came_after_it() {
        let placed = |from, durable, segments: &[(i64, i64)]| {
            Placement { from, log: files(durable, segments), batches: Vec::new() }.encode()
        };
        let entries = [
            (EntryKind::Placement, 10, 0, placed(0, 30, &[(0, 20), (20, 30)])),
            (EntryKind::Truncate, 20, 15, cut(0, &[(0, 15)])),
            (EntryKind::Placement, 30, 15, placed(15, 25, &[(15, 25)])),
        ];
        let history = history(&entries);
        let known = |after, durable, segments: &[(i64, i64)]| {
            let mut known = files(durable, segments);
            history.apply(&mut known, Lsn(after)).unwrap();
            (known.segment_durable_offset, listed(&known))
        };
        assert_eq!(known(0, 10, &[(0, 10)]), (25, vec![(0, 15), (15, 25)]));
        assert_eq!(known(10, 30, &[(0, 20), (20, 30)]), (25, vec![(0, 15), (15, 25)]));
        assert_eq!(known(20, 15, &[(0, 15)]), (25, vec![(0, 15), (15, 25)]));
        assert_eq!(
            known(30, 40, &[(0, 15), (15, 40)]),
            (40, vec![(0, 15), (15, 40)]),
            "it is in the checkpoint"
        );
        let mut untouched = files(15, &[(0, 15)]);
        history_of_cut(15).apply(&mut untouched, Lsn(0)).unwrap();
        assert!(untouched.active && listed(&untouched) == [(0, 15)], "nothing in segments was cut");
    }

    fn history_of_cut(to: i64) -> History {
        history(&[(EntryKind::Truncate, 20, to, cut(0, &[(0, 7)]))])
    }

    #[test]
    fn epochs_follow_and_what_cannot_be_read_is_said() {
        let mut known = files(30, &[(0, 30)]);
        [(1, 0), (2, 10), (5, 20)]
            .iter()
            .for_each(|(epoch, offset)| known.epochs.note(LeaderEpoch(*epoch), Offset(*offset)));
        history_of_cut(20).apply(&mut known, Lsn(0)).unwrap();
        assert_eq!(entries(&known), [(1, 0), (2, 10)], "also what starts where the log now ends");
        let unread = history(&[(EntryKind::Truncate, 20, 7, vec![9, 9])]);
        assert!(unread.apply(&mut known, Lsn(0)).is_err());
        assert!(unread.apply(&mut known, Lsn(20)).is_ok() && unread.is_void(Lsn(10), 8));
        let reset = history(&[(EntryKind::Reset, 20, 400, vec![])]);
        reset.apply(&mut known, Lsn(0)).unwrap();
        assert_eq!((known.start_offset, known.segment_durable_offset, known.was_reset), (400, 400, true));
        assert!(known.segments.is_empty() && entries(&known).is_empty());
    }

    #[test]
    fn what_was_deleted_before_a_truncation_stays_so() {
        let cut = Cut { from: i64::MIN, segments: vec![meta(20, 25)], start_offset: 20 };
        let mut known = files(30, &[(0, 10), (10, 20), (20, 30)]);
        [(1, 0), (2, 15)]
            .iter()
            .for_each(|(epoch, offset)| known.epochs.note(LeaderEpoch(*epoch), Offset(*offset)));
        history(&[(EntryKind::Truncate, 20, 25, cut.encode())]).apply(&mut known, Lsn(0)).unwrap();
        assert_eq!((known.start_offset, listed(&known)), (20, vec![(20, 25)]));
        assert_eq!(entries(&known), [(2, 20)]);
    }

    #[test]
    fn what_is_said_of_a_truncation_round_trips_and_is_what_it_was() {
        let bytes = cut(40, &[(40, 45)]);
        let expected = Cut { from: 40, segments: vec![meta(40, 45)], start_offset: 0 };
        assert_eq!(Cut::decode(&bytes).unwrap(), expected);
        for at in 0..bytes.len() {
            assert!(Cut::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, VERSION_1, "if this fails, old journals became unreadable");
    }

    const VERSION_1: &str = "015001505a05010150000000";
}
