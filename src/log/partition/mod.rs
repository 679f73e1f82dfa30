//! One partition's log: an in-memory tail in front of segment files.
//!
//! ```text
//! start_offset                    segment_durable_offset                end_offset
//!      | segments … active segment |   written, not yet synced   | tail: pinned |
//! ```
//! Owned by one shard; methods take `&self` and share an `Rc`. An append only touches memory: the journal makes it
//! durable, and [`flush`](PartitionLog::flush) moves it to a segment file some time later (`writer`). What
//! changes files (flush, roll, retention, close, remove) takes turns; reads run beside it.
//!
//! Invariants: `start ≤ end`, `durable ≤ written ≤ end`; appends are contiguous; offsets below `written` are in
//! segments, from there on in the tail; the checkpoint describes only what was synced. Nothing here knows the high
//! watermark: readers pass their limit.

mod active;
pub mod changed;
mod epochs;
pub mod recover;
mod reopen;
mod retention;
mod retire;
mod roll;
pub mod snapshots;
pub mod tail;
#[cfg(test)]
mod tests;
mod timestamps;
pub mod truncate;
mod trust;
mod turn;
mod writer;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use active::Active;
use bytes::Bytes;
use changed::Changed;
use recover::Recovered;
use tail::Tail;
use turn::Turns;

use crate::log::direct::promised;
use crate::log::formats::PartitionCheckpoint;
use crate::log::memory::{BatchCache, Evict};
use crate::log::segment::epochs::EpochList;
use crate::log::segment::reader::Wanted;
use crate::log::segment::{Limits, Segment};
use crate::log::{LogError, Lsn, compact};
use crate::model::PartitionId;
use crate::model::topic_config::TopicConfig;
use crate::rt;
use crate::wire::batch::BatchHeader;

/// One read returns at most so many bytes from disk, whatever was asked for (a single larger batch aside).
const MAX_READ_BYTES: usize = 16 << 20;
/// A reader that goes on where an earlier read ended is sequential; so many ends are remembered.
const REMEMBERED_READS: usize = 8;
const PREFETCH_BYTES: std::ops::RangeInclusive<usize> = (1 << 20)..=(8 << 20);

/// See the module's page.
pub struct PartitionLog {
    id: PartitionId,
    pub(in crate::log) dir: Rc<Path>,
    pub(in crate::log) cache: Rc<BatchCache>,
    pub(in crate::log) tail: Rc<RefCell<Tail>>,
    pub(in crate::log) state: RefCell<State>,
    pub(in crate::log) start_offset: Cell<i64>,
    pub(in crate::log) durable_offset: Cell<i64>,
    end_offset: Cell<i64>,
    pub(in crate::log) turns: Turns,
    recent_ends: Cell<[i64; REMEMBERED_READS]>,
    repair: RefCell<Option<Arc<str>>>,
    pub(in crate::log) compaction: compact::State,
    pub(in crate::log) bypass: RefCell<promised::State>,
    pub(in crate::log) cutting: truncate::State,
    pub(in crate::log) snapshots: snapshots::Listed,
    pub(in crate::log) changed: Changed,
}

pub(in crate::log) struct State {
    pub limits: Limits,
    /// Oldest first.
    pub segments: VecDeque<Rc<Segment>>,
    /// The end of the last segment, if it is still written to.
    pub active: Option<Rc<Active>>,
    pub epochs: EpochList,
    /// The oldest batch that was written to a segment but not synced.
    pub unsynced: Option<Lsn>,
    /// Names of files renamed away that are still to be unlinked.
    pub doomed: Vec<String>,
    pub directory_made: bool,
    pub clean: bool,
    pub removed: bool,
    /// Why nothing more is written: a sync failed, and what the file holds is not known.
    pub failed: Option<Arc<str>>,
}

impl PartitionLog {
    /// Opens the log in `dir`, which need not exist. With a checkpoint, what it does not cover is cut off: the journal
    /// brings it back. Without one (`None`: nothing is known), every segment found is read and checked.
    pub fn open(
        dir: PathBuf,
        id: PartitionId,
        config: &TopicConfig,
        checkpoint: Option<PartitionCheckpoint>,
        cache: &Rc<BatchCache>,
    ) -> Result<Rc<Self>, LogError> {
        let dir: Rc<Path> = dir.into();
        let found = recover::recover(&dir, cache, checkpoint)?;
        Ok(Self::found(dir, id, config, found, cache))
    }

    /// A log whose files were gone through.
    pub(in crate::log) fn found(
        dir: Rc<Path>,
        id: PartitionId,
        config: &TopicConfig,
        found: Recovered,
        cache: &Rc<BatchCache>,
    ) -> Rc<Self> {
        let active = found.active.as_ref().map(|active| active.segment.base_offset());
        let bypass = promised::State::known(active, found.end_offset);
        let state = State {
            limits: Limits::from(config),
            directory_made: !found.segments.is_empty(),
            segments: found.segments,
            active: found.active,
            epochs: found.epochs,
            unsynced: None,
            doomed: Vec::new(),
            clean: found.clean,
            removed: false,
            failed: None,
        };
        Rc::new(Self {
            id,
            dir,
            cache: cache.clone(),
            tail: Rc::default(),
            state: RefCell::new(state),
            start_offset: Cell::new(found.start_offset),
            durable_offset: Cell::new(found.end_offset),
            end_offset: Cell::new(found.end_offset),
            turns: Turns::new(),
            recent_ends: Cell::new([-1; REMEMBERED_READS]),
            repair: RefCell::new(None),
            compaction: compact::State::recovered(found.settled),
            bypass: RefCell::new(bypass),
            cutting: truncate::State::default(),
            snapshots: snapshots::Listed::default(),
            changed: Changed::default(),
        })
    }

    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Durable data of this partition is missing: it must not lead until somebody looked at it.
    pub fn mark_for_repair(&self, why: Arc<str>) {
        self.repair.borrow_mut().get_or_insert(why);
    }

    /// The log began anew: nothing of it is missing.
    pub(in crate::log) fn clear_repair(&self) {
        *self.repair.borrow_mut() = None;
    }

    /// Why the partition must not lead, if so.
    pub fn needs_repair(&self) -> Option<Arc<str>> {
        self.repair.borrow().clone()
    }

    /// The first offset that can be read.
    pub fn start_offset(&self) -> i64 {
        self.start_offset.get()
    }

    /// The offset that the next record gets.
    pub fn end_offset(&self) -> i64 {
        self.end_offset.get()
    }

    /// Everything below is in segment files and synced.
    pub fn segment_durable_offset(&self) -> i64 {
        self.durable_offset.get()
    }

    /// Bytes of batches, on disk and in the tail.
    pub fn size_bytes(&self) -> u64 {
        let segments: u64 = self.state.borrow().segments.iter().map(|s| u64::from(s.meta().size)).sum();
        segments + self.tail_bytes()
    }

    /// Bytes of batches that no segment file holds yet.
    pub fn tail_bytes(&self) -> u64 {
        self.tail.borrow().pinned_bytes()
    }

    pub fn segment_count(&self) -> usize {
        self.state.borrow().segments.len()
    }

    /// The oldest journal entry that the journal has to keep for this partition.
    pub fn oldest_tail_lsn(&self) -> Option<Lsn> {
        let oldest = self.state.borrow().unsynced.or_else(|| self.tail.borrow().oldest_pinned_lsn());
        self.reset_underway().into_iter().chain(oldest).min()
    }

    /// Takes a batch that is stamped and in the journal at `lsn`. Visible to reads at once.
    pub fn append(&self, header: &BatchHeader, batch: Bytes, lsn: Lsn) {
        assert_eq!(header.base_offset, self.end_offset(), "{}: appends are contiguous", self.id);
        self.touch();
        {
            let mut state = self.state.borrow_mut();
            state.clean = false;
            state.epochs.note(header.leader_epoch, header.base_offset);
        }
        let next = header.next_offset();
        let (base_offset, max_timestamp) = (header.base_offset, header.max_timestamp);
        let cost = self.tail.borrow_mut().push(base_offset, next, max_timestamp, lsn, batch, rt::unix_ms);
        self.end_offset.set(next);
        self.cache.pin(cost);
    }

    /// The hot path: whole batches from memory, from the one holding `offset` on, with base offsets below
    /// `limit_offset`, up to `max_bytes`; none if `offset` is not below the limit. `None` if they have to be read
    /// from disk. A slice may hold several batches.
    pub fn read_cached(
        &self,
        offset: i64,
        limit_offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Vec<Bytes>> {
        if offset >= limit_offset.min(self.end_offset()) {
            return Some(Vec::new());
        }
        if offset < self.start_offset() {
            return None;
        }
        self.tail.borrow().read(offset, limit_offset, max_bytes, at_least_one)
    }

    /// As [`read_cached`](Self::read_cached), from wherever the batches are. Returns less than `max_bytes` only where
    /// the limit, a bad stretch or an internal bound ends the read.
    pub async fn read(
        &self,
        offset: i64,
        limit_offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Vec<Bytes>, LogError> {
        self.check_range(offset)?;
        let mut out: Vec<Bytes> = Vec::new();
        let mut room = max_bytes.min(MAX_READ_BYTES);
        let (mut at, mut from_disk) = (offset, false);
        while at < limit_offset.min(self.end_offset()) {
            let one = at_least_one && out.is_empty();
            if let Some(batches) = self.tail.borrow().read(at, limit_offset, room, one) {
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
            let wanted = Wanted { offset: at, limit: limit_offset, max_bytes: room, at_least_one: one };
            match segment.read(wanted).await {
                Ok(found) => {
                    room = room.saturating_sub(found.bytes);
                    out.extend(found.batches);
                    at = found.next_offset.max(at);
                    if found.full || (room == 0 && !out.is_empty()) {
                        break;
                    }
                    if found.bytes == 0 && found.next_offset <= began {
                        at = segment.meta().next_offset.max(at + 1);
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
    pub async fn cold_bytes(&self, offset: i64) -> Result<usize, LogError> {
        self.check_range(offset)?;
        let Some(segment) = self.segment_at(offset) else { return Ok(1) };
        match segment.first_read(offset).await {
            Ok(bytes) => Ok(bytes.max(1)),
            Err(LogError::Removed) => Err(self.gone(offset)),
            Err(e) => Err(e),
        }
    }

    fn check_range(&self, offset: i64) -> Result<(), LogError> {
        if self.state.borrow().removed {
            return Err(LogError::Removed);
        }
        if offset < self.start_offset() || offset > self.end_offset() {
            return Err(self.out_of_range(offset));
        }
        Ok(())
    }

    fn out_of_range(&self, offset: i64) -> LogError {
        LogError::OffsetOutOfRange { offset, start: self.start_offset(), end: self.end_offset() }
    }

    /// A segment went away under a reader: with the topic, or because the log's start moved.
    fn gone(&self, offset: i64) -> LogError {
        if self.state.borrow().removed { LogError::Removed } else { self.out_of_range(offset) }
    }

    /// The segment to read for `offset`: the one that holds it, else the next one.
    pub(in crate::log) fn segment_at(&self, offset: i64) -> Option<Rc<Segment>> {
        let state = self.state.borrow();
        let at = state.segments.partition_point(|s| s.base_offset() <= offset).saturating_sub(1);
        state.segments.range(at.min(state.segments.len())..).find(|s| s.meta().next_offset > offset).cloned()
    }

    /// The segments that are never written again, oldest first.
    pub fn sealed_segments(&self) -> Vec<Rc<Segment>> {
        let state = self.state.borrow();
        let sealed = state.segments.len() - usize::from(state.active.is_some());
        state.segments.iter().take(sealed).cloned().collect()
    }

    fn read_ahead(&self, began: i64, ended: i64, max_bytes: usize) {
        let mut ends = self.recent_ends.get();
        let known = ends.iter().position(|end| *end == began);
        let slot = known.unwrap_or(REMEMBERED_READS - 1);
        ends[..=slot].rotate_right(1);
        ends[0] = ended;
        self.recent_ends.set(ends);
        if known.is_none() || self.tail.borrow().holds(ended) {
            return;
        }
        let bytes = max_bytes.clamp(*PREFETCH_BYTES.start(), *PREFETCH_BYTES.end());
        if let Some(segment) = self.segment_at(ended) {
            segment.prefetch(ended, bytes.min(self.cache.kept_limit() / 2));
        }
    }

    pub(in crate::log) fn set_end(&self, offset: i64) {
        self.end_offset.set(offset);
    }

    /// Moves the log's start up to `offset` (DeleteRecords); whole segments below it go at the next retention.
    pub fn set_start_offset(&self, offset: i64) {
        let offset = offset.min(self.end_offset());
        if offset > self.start_offset() {
            self.touch();
            self.start_offset.set(offset);
            let mut state = self.state.borrow_mut();
            state.epochs.cut_front(offset);
            // The files are as they were: an order that was clean stays so.
        }
    }

    pub fn set_config(&self, config: &TopicConfig) {
        self.state.borrow_mut().limits = Limits::from(config);
    }

    pub(in crate::log) fn evictable(&self) -> Weak<dyn Evict> {
        let tail: Rc<dyn Evict> = self.tail.clone();
        Rc::downgrade(&tail)
    }
}

impl Drop for PartitionLog {
    fn drop(&mut self) {
        let (pinned, cached) = self.tail.borrow_mut().clear();
        self.cache.forget(pinned, cached);
    }
}
