//! One partition's log: an in-memory tail in front of segment files.
//!
//! ```text
//! start_offset                    segment_durable_offset                end_offset
//!      | segments … active segment |   written, not yet synced   | tail: pinned |
//! ```
//! [`Ends`] has these offsets, [`Segments`] the files' list, [`Tail`] the memory, [`Directory`] and [`Condition`] what the
//! log knows of its directory and of itself; each keeps its own state, [`PartitionLog`] is made of them.
//!
//! Owned by one shard; methods take `&self` and share an `Rc`. An append only touches memory: the journal makes it
//! durable, and [`flush`](PartitionLog::flush) moves it to a segment file some time later (`writer`). What
//! changes files (flush, roll, retention, close, remove) takes turns; reads run beside it.
//!
//! Invariants: `start ≤ end`, `durable ≤ written ≤ end`; appends are contiguous; offsets below `written` are in
//! segments, from there on in the tail; the checkpoint describes only what was synced. Nothing here knows the high
//! watermark: readers pass their limit.

mod active;
pub mod changed;
mod condition;
mod cutting;
mod direct;
mod directory;
mod ends;
mod epochs;
mod producers;
mod read;
pub mod recover;
mod reopen;
mod retention;
mod retire;
mod roll;
mod segments;
mod sequential;
mod snapshots;
pub mod tail;
#[cfg(test)]
mod tests;
mod timestamps;
mod truncate;
mod trust;
mod turn;
mod writer;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::Bytes;

use crate::log::compact::Compaction;
use crate::log::direct::promised::DirectWrites;
use crate::log::formats::PartitionCheckpoint;
use crate::log::resources::{Evict, Resources};
use crate::log::segment::epochs::EpochList;
use crate::log::segment::{Limits, Segment, SegmentMeta};
use crate::log::{LogError, Lsn};
use crate::model::topic_config::TopicConfig;
use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::rt;
use crate::wire::batch::BatchHeader;

use changed::{Changed, List};
use condition::Condition;
use cutting::Cutting;
use directory::Directory;
use ends::Ends;
use recover::Recovered;
use segments::Segments;
use sequential::Sequential;
use snapshots::Snapshots;
use tail::Tail;
use turn::{Turn, Turns};

pub use cutting::Plan;
pub use producers::Producers;

/// See the module's page.
pub struct PartitionLog {
    id: PartitionId,
    dir: Rc<Path>,
    resources: Rc<Resources>,
    /// Shared by every partition that runs with the same.
    config: RefCell<Arc<TopicConfig>>,
    ends: Ends,
    tail: Rc<RefCell<Tail>>,
    segments: Segments,
    epochs: RefCell<EpochList>,
    directory: Directory,
    condition: Condition,
    turns: Turns,
    reads: Sequential,
    compaction: Compaction,
    direct: RefCell<DirectWrites>,
    cutting: Cutting,
    snapshots: Snapshots,
    changed: Changed,
}

impl PartitionLog {
    /// Opens the log in `dir`, which need not exist. With a checkpoint, what it does not cover is cut off: the journal
    /// brings it back. Without one (`None`: nothing is known), every segment found is read and checked.
    pub fn open(
        dir: PathBuf,
        id: PartitionId,
        config: impl Into<Arc<TopicConfig>>,
        checkpoint: Option<PartitionCheckpoint>,
        resources: &Rc<Resources>,
    ) -> Result<Rc<Self>, LogError> {
        let dir: Rc<Path> = dir.into();
        let found = recover::recover(&dir, resources, checkpoint)?;
        Ok(Self::found(dir, id, config.into(), found, resources))
    }

    /// A log whose files were gone through.
    fn found(
        dir: Rc<Path>,
        id: PartitionId,
        config: Arc<TopicConfig>,
        found: Recovered,
        resources: &Rc<Resources>,
    ) -> Rc<Self> {
        let active = found.active.as_ref().map(|active| active.segment.base_offset());
        Rc::new(Self {
            id,
            dir,
            resources: resources.clone(),
            config: RefCell::new(config),
            ends: Ends::new(Offset(found.start_offset), Offset(found.end_offset)),
            tail: Rc::default(),
            directory: Directory::new(!found.segments.is_empty(), found.clean),
            segments: Segments::found(found.segments, found.active),
            epochs: found.epochs.into(),
            condition: Condition::default(),
            turns: Turns::new(),
            reads: Sequential::default(),
            compaction: Compaction::recovered(found.settled),
            direct: DirectWrites::known(active, found.end_offset).into(),
            cutting: Cutting::default(),
            snapshots: Snapshots::default(),
            changed: Changed::new(id),
        })
    }

    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(in crate::log) fn resources(&self) -> &Resources {
        &self.resources
    }

    pub(in crate::log) fn compaction(&self) -> &Compaction {
        &self.compaction
    }

    /// Durable data of this partition is missing: it must not lead until somebody looked at it.
    pub fn mark_for_repair(&self, why: Arc<str>) {
        self.condition.mark_for_repair(why);
    }

    /// The log began anew: nothing of it is missing.
    pub(in crate::log) fn clear_repair(&self) {
        self.condition.clear_repair();
    }

    /// Why the partition must not lead, if so.
    pub fn needs_repair(&self) -> Option<Arc<str>> {
        self.condition.needs_repair()
    }

    pub(in crate::log) fn is_removed(&self) -> bool {
        self.condition.is_removed()
    }

    /// The first offset that can be read.
    pub fn start_offset(&self) -> Offset {
        self.ends.start()
    }

    /// The offset that the next record gets.
    pub fn end_offset(&self) -> Offset {
        self.ends.end()
    }

    /// Everything below is in segment files and synced.
    pub fn segment_durable_offset(&self) -> Offset {
        self.ends.durable()
    }

    /// Bytes of batches, on disk and in the tail.
    pub fn size_bytes(&self) -> u64 {
        self.segments.bytes() + self.tail_bytes()
    }

    /// Bytes of batches that no segment file holds yet.
    pub fn tail_bytes(&self) -> u64 {
        self.tail.borrow().pinned_bytes()
    }

    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The oldest journal entry that the journal has to keep for this partition.
    pub fn oldest_tail_lsn(&self) -> Option<Lsn> {
        let oldest = self.segments.unsynced().or_else(|| self.tail.borrow().oldest_pinned_lsn());
        self.reset_underway().into_iter().chain(oldest).min()
    }

    /// Takes a batch that is stamped and in the journal at `lsn`. Visible to reads at once.
    pub fn append(&self, header: &BatchHeader, batch: Bytes, lsn: Lsn) {
        let base_offset = Offset(header.base_offset);
        assert_eq!(base_offset, self.end_offset(), "{}: appends are contiguous", self.id);
        self.touch();
        self.directory.set_in_order(false);
        if let Some(epoch) = LeaderEpoch::from_wire(header.leader_epoch) {
            self.epochs.borrow_mut().note(epoch, base_offset);
        }
        let next = header.next_offset();
        let (at, newest) = (header.base_offset, header.max_timestamp);
        let cost = self.tail.borrow_mut().push(at, next, newest, lsn, batch, rt::unix_ms);
        self.ends.append(Offset(next));
        self.resources.pin(cost);
    }

    /// The segments that are never written again, oldest first.
    pub(in crate::log) fn sealed_segments(&self) -> Vec<Rc<Segment>> {
        self.segments.sealed()
    }

    pub(in crate::log) fn every_segment(&self) -> Vec<Rc<Segment>> {
        self.segments.all()
    }

    pub(in crate::log) fn has_segments(&self, neighbours: &[Rc<Segment>]) -> bool {
        self.segments.has(neighbours)
    }

    /// A segment of this log whose file is written and is written to no more.
    pub(in crate::log) fn sealed_segment(&self, meta: SegmentMeta) -> Rc<Segment> {
        Segment::new(self.dir.clone(), self.resources.clone(), meta, true)
    }

    /// Puts `new` in the place of the `count` segments from the one at `base` on, all of which end at `end`. What readers
    /// would be given from memory of what went may have been aborted: it goes too.
    pub(in crate::log) fn exchange(&self, base: i64, count: usize, end: i64, new: Option<Rc<Segment>>) {
        self.segments.replace(base, count, new);
        let freed = self.tail.evict_below(end);
        self.resources.forget(0, freed);
    }

    /// Files are not, or soon will not be, what a start is told of them: it has to look.
    pub(in crate::log) fn note_disorder(&self) {
        self.directory.set_in_order(false);
    }

    /// Moves the log's start up to `offset` (DeleteRecords); whole segments below it go at the next retention.
    pub fn set_start_offset(&self, offset: Offset) {
        if self.ends.raise_start(offset) {
            self.touch();
            // The files are as they were: an order that was clean stays so.
            self.epochs.borrow_mut().cut_front(self.start_offset());
        }
    }

    pub fn set_config(&self, config: impl Into<Arc<TopicConfig>>) {
        self.config.replace(config.into());
    }

    fn limits(&self) -> Limits {
        Limits::from(&**self.config.borrow())
    }

    fn evictable(&self) -> Weak<dyn Evict> {
        let tail: Rc<dyn Evict> = self.tail.clone();
        Rc::downgrade(&tail)
    }

    /// Waits for the turn to change files.
    pub(in crate::log) async fn turn(&self) -> Turn<'_> {
        self.turns.wait(Some(&self.changed)).await
    }

    /// As [`turn`](Self::turn), for what no checkpoint says, or the one that is being made does.
    pub(in crate::log) async fn quiet_turn(&self) -> Turn<'_> {
        self.turns.wait(None).await
    }

    /// The log differs from what the last checkpoint says.
    pub(in crate::log) fn touch(&self) {
        self.changed.touch();
    }

    /// From now on the log is in this list while it differs.
    pub(in crate::log) fn follow_changes(&self, list: &Rc<List>) {
        self.changed.follow(list);
    }

    /// A checkpoint takes in what the log is now: whether it differs from the last.
    pub(in crate::log) fn take_changed(&self) -> bool {
        self.changed.take() || self.turns.is_taken()
    }

    /// What was taken in is written, or is as good as not taken in if it `differs`.
    pub(in crate::log) fn settle_changed(&self, differs: bool) {
        self.changed.settle(differs, self.oldest_tail_lsn().is_some());
    }

    pub(in crate::log) fn is_listed_changed(&self) -> bool {
        self.changed.is_listed()
    }
}

impl Drop for PartitionLog {
    fn drop(&mut self) {
        let (pinned, cached) = self.tail.borrow_mut().clear();
        self.resources.forget(pinned, cached);
    }
}
