//! A partition's batches that are on their way straight to the segment: no entry of the journal has them.

use std::collections::VecDeque;

use crate::log::Lsn;
use crate::log::formats::PartitionCheckpoint;
use crate::log::formats::placement::{Placement, head};
use crate::model::Offset;
use crate::wire::batch::BatchHeader;

/// One of them.
pub struct Promised {
    pub lsn: Lsn,
    pub header: BatchHeader,
    head: Vec<u8>,
}

/// The promised batches of one partition, and what placements have to say of its files.
#[derive(Default)]
pub struct DirectWrites {
    /// Oldest first, without gaps up to the log's end.
    given: VecDeque<Promised>,
    /// First segment whose metadata differs from the last checkpoint or placement.
    from: i64,
    /// A checkpoint on the disk lists the partition, so that a start keeps its directory.
    listed: bool,
}

impl DirectWrites {
    /// Files that are as the checkpoint and the placements have them.
    pub fn known(active: Option<i64>, end_offset: i64) -> Self {
        Self { from: active.unwrap_or(end_offset), ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    pub fn push(&mut self, lsn: Lsn, header: &BatchHeader, batch: &[u8]) {
        self.given.push_back(Promised { lsn, header: *header, head: head(header, batch) });
    }

    /// Takes those that end at or below `durable`, which is what is synced in segments.
    pub fn take_below(&mut self, durable: i64) -> Vec<Promised> {
        let count = self.given.partition_point(|promised| promised.header.next_offset() <= durable);
        self.given.drain(..count).collect()
    }

    pub fn take_all(&mut self) -> VecDeque<Promised> {
        std::mem::take(&mut self.given)
    }

    /// What the journal has to say of these, whose segments are as `log` has them. `replaced`: some of the segments take
    /// the place of others that a checkpoint may still list.
    pub fn place(
        &mut self,
        placed: &mut [Promised],
        mut log: PartitionCheckpoint,
        replaced: bool,
    ) -> Placement {
        let from = if replaced { i64::MIN } else { self.from };
        log.segments.retain(|segment| segment.base_offset >= from);
        log.clean = false;
        // What is still on its way is lost if the broker dies now, and so are the epochs that began with it.
        if let Some(next) = self.given.front() {
            log.epochs.cut_back(Offset(next.header.base_offset));
        }
        self.from = next_from(&log);
        let batches = placed.iter_mut().map(|promised| std::mem::take(&mut promised.head)).collect();
        Placement { from, log, batches }
    }

    /// The log was cut here: the segments from here on are others, if any come.
    pub fn cut(&mut self, to: i64) {
        assert!(self.given.is_empty(), "what is promised is in a segment before the log is cut");
        self.from = self.from.min(to);
    }

    /// Whether batches may go straight to segments: what only the journal knows of, a start takes for a leftover.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// The checkpoint on the disk lists the partition.
    pub fn note_listed(&mut self) {
        self.listed = true;
    }

    /// The checkpoint on the disk has the files as they are in `log`.
    pub fn note_checkpointed(&mut self, log: &PartitionCheckpoint) {
        self.from = self.from.max(next_from(log));
    }
}

/// From which segment on things change after this.
fn next_from(log: &PartitionCheckpoint) -> i64 {
    match log.segments.last().filter(|_| log.active) {
        Some(active) => active.base_offset,
        None => log.segment_durable_offset,
    }
}
