//! Cutting a log: its end falls, or it begins anew at another offset.
//!
//! ```text
//! plan      where the cut is in the segments: between two batches (no file has changed)
//! journal   an entry that says so (`history`)
//! cut       in memory, at once: tail, segments, epochs, producers' snapshots; the log goes on behind the cut
//! files     once the entry is on disk: what was cut off is unlinked, the last segment cut to its new length
//! ```
//! - Plan and cut are one turn: nothing else changes files between them. Between cut and files the log is *half-way*: what
//!   would change files waits, or does the files first. A start does them by the checkpoint and the journal.
//! - A segment that was cut is never written to again; the log goes on in a new one. So the bytes that a checkpoint or the
//!   journal lists of a file are the same before and after.
//! - A batch goes as a whole. What cannot be read of a segment where the cut is goes with it: it can be had from the leader.
//! - Readers below the cut go on; others find the log's end there.

use crate::log::error::may_pass;
use crate::log::files::discard;
use crate::log::files::names::{LOG, file_name};
use crate::log::formats::cut::Cut;
use crate::log::segment::extents::ExtentIndex;
use crate::log::segment::{SegmentMeta, with_files};
use crate::log::{LogError, Lsn};
use crate::model::Offset;

use super::PartitionLog;
use super::cutting::{Halfway, OnItsWay, Plan};

impl PartitionLog {
    /// The entry of the last truncation or reset since the start.
    pub(in crate::log) fn last_cut(&self) -> Lsn {
        self.cutting.last()
    }

    pub(in crate::log) fn is_cut_halfway(&self) -> bool {
        self.cutting.is_halfway()
    }

    /// The entry of a reset whose files are not done: the journal has to keep it until then.
    pub(in crate::log) fn reset_underway(&self) -> Option<Lsn> {
        self.cutting.reset_underway()
    }

    /// Finds where to cut for the log to end at `to` or, if a batch has it within, before that; `None` if there is
    /// nothing past it. For who has the turn, of a log that is whole.
    pub(in crate::log) async fn plan_cut(&self, to: Offset) -> Result<Option<Plan>, LogError> {
        self.check_usable()?;
        self.finish_replacement().await?;
        let (whole, segment) = self.segments.split_at(to.0);
        let Some(segment) = segment else {
            let to = self.tail.borrow().boundary(to.0).map_or(to.min(self.end_offset()), Offset);
            let past = to < self.end_offset() || self.epochs.borrow().starts_past(to);
            let cut = Cut { from: i64::MAX, segments: Vec::new(), start_offset: self.start_offset().0 };
            let plan = Plan { to, resets: false, whole, part: None, in_segments: false, cut };
            return Ok(past.then_some(plan));
        };
        if self.segments.unsynced().is_some() {
            self.sync().await?;
        }
        let (to, part) = match to.0 <= segment.base_offset() {
            true => (to.0, None),
            false => segment.part_below(to.0).await?,
        };
        if part.is_some() {
            // Who reads it goes on with what is open.
            segment.freeze().await?;
        }
        let cut = self.describe(whole, &part);
        Ok(Some(Plan { to: Offset(to), resets: false, whole, part, in_segments: true, cut }))
    }

    /// As [`plan_cut`](Self::plan_cut), for a log that has nothing and starts at `start`.
    pub(in crate::log) async fn plan_reset(&self, start: Offset) -> Result<Plan, LogError> {
        self.check_usable()?;
        self.finish_replacement().await?;
        let cut = Cut { from: i64::MIN, segments: Vec::new(), start_offset: start.0 };
        Ok(Plan { to: start, resets: true, whole: 0, part: None, in_segments: true, cut })
    }

    /// What of the list of segments changes, for a start that has an older one.
    fn describe(&self, whole: usize, part: &Option<(SegmentMeta, ExtentIndex)>) -> Cut {
        let segments = self.segments.metas();
        let part = part.as_ref().map(|(meta, _)| *meta);
        // What was replaced may be listed as it was before.
        if !self.compaction.is_settled() {
            let segments = segments.into_iter().take(whole).chain(part).collect();
            return Cut { from: i64::MIN, segments, start_offset: self.start_offset().0 };
        }
        let (from, segments) = (segments[whole].base_offset, part.into_iter().collect());
        Cut { from, segments, start_offset: self.start_offset().0 }
    }

    /// What was compacted ends where the log will, for a start too. For who has the turn.
    pub(in crate::log) async fn lower_first_dirty(&self, to: Offset) {
        if self.first_dirty().await > to.0 {
            self.put_first_dirty(to.0).await;
        }
    }

    /// Cuts the log in memory; the entry at `lsn` says so. In the same turn as the plan was made, without an await since.
    pub(in crate::log) fn cut(&self, plan: Plan, lsn: Lsn) {
        let Plan { to, resets, whole, part, in_segments, .. } = plan;
        let (pinned, cached) = match resets {
            true => self.tail.borrow_mut().clear(),
            false => self.tail.borrow_mut().truncate(to.0),
        };
        self.resources.forget(pinned, cached);
        let from = if resets { i64::MIN } else { to.0 };
        let mut halfway = Halfway {
            lsn,
            gone: Vec::new(),
            part: None,
            swaps: Vec::new(),
            snapshots: self.snapshots.forget_past(from),
            resets_to: resets.then_some(to.0),
        };
        self.note_disorder();
        match resets {
            true => self.epochs.borrow_mut().clear(),
            false => self.epochs.borrow_mut().cut_back(to),
        }
        if in_segments {
            let part = part.map(|(meta, index)| {
                let segment = self.sealed_segment(meta);
                segment.put_index(index);
                segment
            });
            for segment in self.segments.cut(whole, part.clone()) {
                let gone = part.as_ref().is_none_or(|part| part.base_offset() != segment.base_offset());
                segment.end_of_life(gone);
                halfway.gone.extend(gone.then(|| segment.base_offset()));
            }
            halfway.part = part;
            halfway.swaps = self.compaction.swaps_past(from);
        }
        match resets {
            true => self.ends.reset(to),
            false => self.ends.cut(to),
        }
        self.direct.borrow_mut().cut(to.0);
        let left = in_segments || !halfway.snapshots.is_empty();
        self.cutting.begin(lsn, left.then_some(halfway));
    }

    /// The entry of the truncation that is half-way is on disk.
    pub(in crate::log) fn note_cut_durable(&self, lsn: Lsn) {
        self.cutting.note_durable(lsn);
    }

    /// Does to files what is left to do of a truncation. For who has the turn. Whether the log is whole: not while the
    /// entry is on its way to the disk.
    pub(in crate::log) async fn finish_cut(&self) -> Result<bool, LogError> {
        let (lsn, job) = match self.cutting.job() {
            Ok(None) => return Ok(true),
            Ok(Some(left)) => left,
            Err(OnItsWay) => return Ok(false),
        };
        self.check_usable()?;
        let dir = self.dir.clone();
        for base in &job.gone {
            // What cannot be cut is unlinked as it is.
            let _ = discard::shrink(file_name(&dir, *base, LOG)).await;
        }
        let root = dir.to_path_buf();
        match with_files(&self.resources, move || job.carry_out(&root)).await {
            Ok(()) => {}
            Err(e) if may_pass(&e) => return Err(LogError::io(&*dir, e)),
            Err(e) => return Err(self.fail(dir.to_path_buf(), e)),
        }
        let Some(done) = self.cutting.finish(lsn) else { return Ok(true) };
        self.compaction.forget(&done.swaps);
        if let Some(part) = done.part {
            part.save_sidecar().await;
            // It may be evicted from now on.
            let _ = part.index().await;
        }
        Ok(true)
    }
}
