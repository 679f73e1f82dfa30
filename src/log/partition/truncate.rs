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

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::log::compact::manifest::SWAP;
use crate::log::error::may_pass;
use crate::log::files::dead::parse_dead;
use crate::log::files::discard;
use crate::log::files::names::{EXTENTS, LOG, file_name};
use crate::log::formats::cut::Cut;
use crate::log::segment::extents::ExtentIndex;
use crate::log::segment::{Segment, SegmentMeta, with_files};
use crate::log::{LogError, Lsn, PartitionLog};
use crate::rt;
use crate::rt::fs::unlink;

use super::snapshots::snapshot_name;

/// Where a log is cut.
pub(in crate::log) struct Plan {
    /// Where it ends afterwards, and starts, if it begins anew.
    pub to: i64,
    pub resets: bool,
    /// How many of the oldest segments stay whole; all of them where only the tail is cut.
    whole: usize,
    /// What stays of the one after them.
    part: Option<(SegmentMeta, ExtentIndex)>,
    /// Whether segments are cut.
    in_segments: bool,
    /// What the journal says of it.
    pub cut: Cut,
}

/// What is to be done to files.
struct Halfway {
    lsn: Lsn,
    /// Base offsets of the segments that are gone.
    gone: Vec<i64>,
    part: Option<Rc<Segment>>,
    /// Groups whose replacement is void.
    swaps: Vec<i64>,
    snapshots: Vec<i64>,
    /// Marks of deleted segments from here on are void.
    resets_to: Option<i64>,
}

/// What a log knows of its truncations.
#[derive(Default)]
pub(in crate::log) struct State {
    /// The entry of the last one.
    last: Cell<Lsn>,
    halfway: RefCell<Option<Box<Halfway>>>,
    /// The entry of the one that is half-way is on disk.
    durable: Cell<bool>,
}

impl PartitionLog {
    /// The entry of the last truncation or reset since the start.
    pub(in crate::log) fn last_cut(&self) -> Lsn {
        self.cutting.last.get()
    }

    pub(in crate::log) fn is_cut_halfway(&self) -> bool {
        self.cutting.halfway.borrow().is_some()
    }

    /// The entry of a reset whose files are not done: the journal has to keep it until then.
    pub(in crate::log) fn reset_underway(&self) -> Option<Lsn> {
        let halfway = self.cutting.halfway.borrow();
        halfway.as_ref().filter(|cut| cut.resets_to.is_some()).map(|cut| cut.lsn)
    }

    /// Finds where to cut for the log to end at `to` or, if a batch has it within, before that; `None` if there is
    /// nothing past it. For who has the turn, of a log that is whole.
    pub(in crate::log) async fn plan_cut(&self, to: i64) -> Result<Option<Plan>, LogError> {
        self.check_usable()?;
        self.finish_replacement().await?;
        let written = self.state.borrow().segments.back().map_or(i64::MIN, |last| last.meta().next_offset);
        let all = self.state.borrow().segments.len();
        if to >= written {
            let to = self.tail.borrow().boundary(to).unwrap_or(to.min(self.end_offset()));
            let past = to < self.end_offset() || self.state.borrow().epochs.starts_past(to);
            let cut = Cut { from: i64::MAX, segments: Vec::new(), start_offset: self.start_offset() };
            let plan = Plan { to, resets: false, whole: all, part: None, in_segments: false, cut };
            return Ok(past.then_some(plan));
        }
        if self.state.borrow().unsynced.is_some() {
            self.sync().await?;
        }
        let whole = self.state.borrow().segments.partition_point(|s| s.meta().next_offset <= to);
        let segment = self.state.borrow().segments[whole].clone();
        let (to, part) = match to <= segment.base_offset() {
            true => (to, None),
            false => segment.part_below(to).await?,
        };
        if part.is_some() {
            // Who reads it goes on with what is open.
            segment.freeze().await?;
        }
        let cut = self.describe(whole, &part);
        Ok(Some(Plan { to, resets: false, whole, part, in_segments: true, cut }))
    }

    /// As [`plan_cut`](Self::plan_cut), for a log that has nothing and starts at `start`.
    pub(in crate::log) async fn plan_reset(&self, start: i64) -> Result<Plan, LogError> {
        self.check_usable()?;
        self.finish_replacement().await?;
        let cut = Cut { from: i64::MIN, segments: Vec::new(), start_offset: start };
        Ok(Plan { to: start, resets: true, whole: 0, part: None, in_segments: true, cut })
    }

    /// What of the list of segments changes, for a start that has an older one.
    fn describe(&self, whole: usize, part: &Option<(SegmentMeta, ExtentIndex)>) -> Cut {
        let state = self.state.borrow();
        let part = part.as_ref().map(|(meta, _)| *meta);
        // What was replaced may be listed as it was before.
        if !self.compaction.is_settled() {
            let segments = state.segments.iter().take(whole).map(|s| s.meta()).chain(part).collect();
            return Cut { from: i64::MIN, segments, start_offset: self.start_offset() };
        }
        let (from, segments) = (state.segments[whole].base_offset(), part.into_iter().collect());
        Cut { from, segments, start_offset: self.start_offset() }
    }

    /// What was compacted ends where the log will, for a start too. For who has the turn.
    pub(in crate::log) async fn lower_first_dirty(&self, to: i64) {
        if self.first_dirty().await > to {
            self.put_first_dirty(to).await;
        }
    }

    /// Cuts the log in memory; the entry at `lsn` says so. In the same turn as the plan was made, without an await since.
    pub(in crate::log) fn cut(&self, plan: Plan, lsn: Lsn) {
        let Plan { to, resets, whole, part, in_segments, .. } = plan;
        let (pinned, cached) = match resets {
            true => self.tail.borrow_mut().clear(),
            false => self.tail.borrow_mut().truncate(to),
        };
        self.cache.forget(pinned, cached);
        let mut halfway = Halfway {
            lsn,
            gone: Vec::new(),
            part: None,
            swaps: Vec::new(),
            snapshots: self.forget_snapshots(if resets { i64::MIN } else { to }),
            resets_to: resets.then_some(to),
        };
        {
            let mut state = self.state.borrow_mut();
            state.clean = false;
            state.epochs.cut_back(if resets { i64::MIN } else { to });
            if in_segments {
                for segment in state.segments.drain(whole..) {
                    segment.end_of_life(
                        part.as_ref().is_none_or(|(meta, _)| meta.base_offset != segment.base_offset()),
                    );
                    halfway.gone.push(segment.base_offset());
                }
                if let Some((meta, index)) = part {
                    halfway.gone.retain(|base| *base != meta.base_offset);
                    let segment = Segment::new(self.dir.clone(), self.cache.clone(), meta, true);
                    segment.put_index(index);
                    state.segments.push_back(segment.clone());
                    halfway.part = Some(segment);
                }
                state.active = None;
                state.unsynced = None;
                halfway.swaps = self.compaction.swaps_past(if resets { i64::MIN } else { to });
            }
        }
        if resets {
            self.start_offset.set(to);
            self.durable_offset.set(to);
        }
        self.durable_offset.set(self.durable_offset.get().min(to));
        self.set_end(to);
        self.bypass.borrow_mut().cut(to);
        self.cutting.last.set(lsn);
        if in_segments || !halfway.snapshots.is_empty() {
            self.cutting.durable.set(false);
            *self.cutting.halfway.borrow_mut() = Some(Box::new(halfway));
        }
    }

    /// The entry of the truncation that is half-way is on disk.
    pub(in crate::log) fn note_cut_durable(&self, lsn: Lsn) {
        if self.cutting.halfway.borrow().as_ref().is_some_and(|cut| cut.lsn <= lsn) {
            self.cutting.durable.set(true);
        }
    }

    /// Does to files what is left to do of a truncation. For who has the turn. Whether the log is whole: not while the
    /// entry is on its way to the disk.
    pub(in crate::log) async fn finish_cut(&self) -> Result<bool, LogError> {
        let Some(lsn) = self.cutting.halfway.borrow().as_ref().map(|cut| cut.lsn) else { return Ok(true) };
        if !self.cutting.durable.get() {
            return Ok(false);
        }
        self.check_usable()?;
        let (dir, job) = (self.dir.clone(), self.cutting.halfway.borrow().as_ref().map(|cut| cut.job()));
        let Some(job) = job else { return Ok(true) };
        for base in &job.gone {
            // What cannot be cut is unlinked as it is.
            let _ = discard::shrink(file_name(&dir, *base, LOG)).await;
        }
        let root = dir.to_path_buf();
        match with_files(&self.cache, move || job.carry_out(&root)).await {
            Ok(()) => {}
            Err(e) if may_pass(&e) => return Err(LogError::io(&*dir, e)),
            Err(e) => return Err(self.fail(dir.to_path_buf(), e)),
        }
        let done = self.cutting.halfway.take().filter(|cut| cut.lsn == lsn);
        let Some(done) = done else { return Ok(true) };
        self.compaction.forget(&done.swaps);
        if let Some(part) = done.part {
            part.save_sidecar().await;
            // It may be evicted from now on.
            let _ = part.index().await;
        }
        Ok(true)
    }
}

/// As [`Halfway`], for another thread.
#[derive(Clone)]
struct Job {
    gone: Vec<i64>,
    part: Option<(i64, u32)>,
    swaps: Vec<i64>,
    snapshots: Vec<i64>,
    resets_to: Option<i64>,
}

impl Halfway {
    fn job(&self) -> Job {
        let part = self.part.as_ref().map(|part| (part.base_offset(), part.meta().size));
        let (gone, swaps, snapshots) = (self.gone.clone(), self.swaps.clone(), self.snapshots.clone());
        Job { gone, part, swaps, snapshots, resets_to: self.resets_to }
    }
}

impl Job {
    /// Any number of times.
    fn carry_out(&self, dir: &Path) -> io::Result<()> {
        if !rt::fs::exists(dir) {
            return Ok(());
        }
        if !self.swaps.is_empty() {
            // A start that found one beside what comes would take that for what was replaced.
            self.swaps.iter().try_for_each(|base| unlink(file_name(dir, *base, SWAP)))?;
            rt::fs::sync_dir(dir)?;
        }
        for base in &self.gone {
            unlink(file_name(dir, *base, EXTENTS))?;
            unlink(file_name(dir, *base, LOG))?;
        }
        if let Some((base, size)) = self.part {
            unlink(file_name(dir, base, EXTENTS))?;
            rt::fs::cut(file_name(dir, base, LOG), size.into())?;
        }
        self.snapshots.iter().try_for_each(|offset| unlink(dir.join(snapshot_name(*offset))))?;
        if let Some(to) = self.resets_to {
            let names = rt::fs::read_dir_names(dir)?;
            let dead = |name: &&String| parse_dead(name).is_some_and(|base| base >= to);
            names.iter().filter(dead).try_for_each(|name| unlink(dir.join(name)))?;
        }
        rt::fs::sync_dir(dir)
    }
}
