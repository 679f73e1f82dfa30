//! Direct writes, as the log takes part in them: batches appended on a promise, and what of them its segments have.

use bytes::Bytes;

use crate::log::Lsn;
use crate::log::direct::promised::Promised;
use crate::log::formats::PartitionCheckpoint;
use crate::log::formats::placement::Placement;
use crate::wire::batch::BatchHeader;

use super::PartitionLog;

impl PartitionLog {
    pub(in crate::log) fn is_promised(&self) -> bool {
        !self.direct.borrow().is_empty()
    }

    /// As [`append`](Self::append), of a batch that is not in the journal: `lsn` is before every entry to come.
    pub(in crate::log) fn append_promised(
        &self,
        header: &BatchHeader,
        batch: Bytes,
        lsn: Lsn,
        promised: Lsn,
    ) {
        self.direct.borrow_mut().push(promised, header, &batch);
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
        let removed = self.is_removed();
        let durable = if removed { i64::MAX } else { self.segment_durable_offset().0 };
        let mut direct = self.direct.borrow_mut();
        let mut placed = direct.take_below(durable);
        if placed.is_empty() {
            return None;
        }
        if removed {
            return Some((placed, None));
        }
        let replaced = !self.compaction.swaps().is_empty();
        let placement = direct.place(&mut placed, self.checkpoint(), replaced);
        Some((placed, Some(placement)))
    }

    /// The promised batches that are in no segment.
    pub(in crate::log) fn take_unplaced(&self) -> Vec<(Promised, Bytes)> {
        let promised = self.direct.borrow_mut().take_all();
        let tail = self.tail.borrow();
        let first = promised.front().map_or(i64::MAX, |first| first.header.base_offset);
        let batches = tail.pinned().filter(|batch| batch.base_offset >= first);
        let unplaced = promised.into_iter().zip(batches).map(|(promised, batch)| {
            assert_eq!(batch.base_offset, promised.header.base_offset, "what is not placed is in the tail");
            (promised, Bytes::copy_from_slice(batch.bytes))
        });
        unplaced.collect()
    }

    /// Whether the checkpoint on the disk lists the partition, so that batches may go straight to segments.
    pub(in crate::log) fn is_listed(&self) -> bool {
        self.direct.borrow().is_listed()
    }

    pub(in crate::log) fn note_listed(&self) {
        self.direct.borrow_mut().note_listed();
    }

    /// The checkpoint on the disk has the files as they were in `log` after the entry at `lsn`.
    pub(in crate::log) fn note_checkpointed(&self, log: &PartitionCheckpoint, lsn: Lsn) {
        let cut_since = self.last_cut() > lsn;
        let mut direct = self.direct.borrow_mut();
        direct.note_listed();
        if !cut_since {
            direct.note_checkpointed(log);
        }
    }
}
