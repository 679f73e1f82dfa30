//! A partition's batches that are on their way straight to the segment: no entry of the journal has them.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::log::formats::placement::{Placement, head};
use crate::log::{Lsn, PartitionCheckpoint, PartitionLog};
use crate::wire::batch::BatchHeader;

/// One of them.
pub struct Promised {
    pub lsn: Lsn,
    pub header: BatchHeader,
    head: Vec<u8>,
}

#[derive(Default)]
pub(in crate::log) struct State {
    /// Oldest first, without gaps up to the log's end.
    promised: VecDeque<Promised>,
    /// Segments from this base offset on are not as the checkpoint and the placements so far have them.
    from: i64,
    /// A checkpoint on the disk knows of the partition, so that a start keeps its directory.
    listed: bool,
}

impl State {
    /// The log was cut here: the segments from here on are others, if any come.
    pub(in crate::log) fn cut(&mut self, to: i64) {
        assert!(self.promised.is_empty(), "what is promised is in a segment before the log is cut");
        self.from = self.from.min(to);
    }

    /// Files that are as the checkpoint and the placements have them.
    pub(in crate::log) fn known(active: Option<i64>, end_offset: i64) -> Self {
        Self { from: active.unwrap_or(end_offset), ..Self::default() }
    }
}

impl PartitionLog {
    pub(in crate::log) fn is_promised(&self) -> bool {
        !self.bypass.borrow().promised.is_empty()
    }

    /// As [`append`](Self::append), of a batch that is not in the journal: `lsn` is before every entry to come.
    pub(in crate::log) fn append_promised(
        &self,
        header: &BatchHeader,
        batch: Bytes,
        lsn: Lsn,
        promised: Lsn,
    ) {
        self.bypass.borrow_mut().promised.push_back(Promised {
            lsn: promised,
            header: *header,
            head: head(header, &batch),
        });
        self.append(header, batch, lsn);
    }

    /// What of the tail is past `durable`, as far as that is less than `enough`.
    pub(in crate::log) fn waiting_bytes(&self, durable: Lsn, enough: usize) -> usize {
        let tail = self.tail.borrow();
        let mut bytes = 0;
        for batch in tail.pinned().rev().take_while(|batch| batch.lsn > durable) {
            bytes += batch.bytes.len();
            if bytes >= enough {
                break;
            }
        }
        bytes
    }

    /// The promised batches that are in segments by now, and what the journal has to say of them; all of them and
    /// nothing, if the log was removed.
    pub(in crate::log) fn take_placed(&self) -> Option<(Vec<Promised>, Option<Placement>)> {
        let removed = self.state.borrow().removed;
        let durable = if removed { i64::MAX } else { self.segment_durable_offset() };
        let mut state = self.bypass.borrow_mut();
        let count = state.promised.partition_point(|promised| promised.header.next_offset() <= durable);
        if count == 0 {
            return None;
        }
        let mut placed: Vec<Promised> = state.promised.drain(..count).collect();
        if removed {
            return Some((placed, None));
        }
        let mut log = self.checkpoint();
        // What is being replaced may have had segments on either side.
        let from = if self.compaction.swaps().is_empty() { state.from } else { i64::MIN };
        log.segments.retain(|segment| segment.base_offset >= from);
        log.clean = false;
        // What is still on its way is lost if the broker dies now, and so are the epochs that began with it.
        if let Some(next) = state.promised.front() {
            log.epochs.cut_back(next.header.base_offset);
        }
        state.from = next_from(&log);
        let batches = placed.iter_mut().map(|promised| std::mem::take(&mut promised.head)).collect();
        Some((placed, Some(Placement { from, log, batches })))
    }

    /// The promised batches that are in no segment.
    pub(in crate::log) fn take_unplaced(&self) -> Vec<(Promised, Bytes)> {
        let promised = std::mem::take(&mut self.bypass.borrow_mut().promised);
        let tail = self.tail.borrow();
        let first = promised.front().map_or(i64::MAX, |first| first.header.base_offset);
        let batches = tail.pinned().filter(|batch| batch.base_offset >= first);
        let unplaced = promised.into_iter().zip(batches).map(|(promised, batch)| {
            assert_eq!(batch.base_offset, promised.header.base_offset, "what is not placed is in the tail");
            (promised, Bytes::copy_from_slice(batch.bytes))
        });
        unplaced.collect()
    }

    /// Whether batches may go straight to segments: what only the journal knows of, a start takes for a leftover.
    pub(in crate::log) fn is_listed(&self) -> bool {
        self.bypass.borrow().listed
    }

    /// The checkpoint on the disk knows of the partition.
    pub(in crate::log) fn note_listed(&self) {
        self.bypass.borrow_mut().listed = true;
    }

    /// The checkpoint on the disk has the files as they were in `log` after the entry at `lsn`.
    pub(in crate::log) fn note_checkpointed(&self, log: &PartitionCheckpoint, lsn: Lsn) {
        let cut_since = self.last_cut() > lsn;
        let mut state = self.bypass.borrow_mut();
        state.listed = true;
        if !cut_since {
            state.from = state.from.max(next_from(log));
        }
    }
}

/// From which segment on things change after this.
fn next_from(log: &PartitionCheckpoint) -> i64 {
    match log.segments.last().filter(|_| log.active) {
        Some(active) => active.base_offset,
        None => log.segment_durable_offset,
    }
}
