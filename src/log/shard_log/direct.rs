//! Batches that come faster than the disk could take them twice go straight to their segment.
//!
//! ```text
//! append ──► promise of an lsn ──► lane: write and sync the partition's tail ──► placement in the journal ──► durable
//! ```
//! A partition goes over to this when much of it waits for the journal and a checkpoint lists it, and back when nothing
//! waits any more. Meanwhile all of its batches go this way, so that none is durable before the one in front of it. If the
//! segment cannot be written for want of room or descriptors, the batches go into the journal after all.

use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;

use crate::log::journal::EntryKind;
use crate::log::{JournalFailed, LogError, Lsn, PartitionLog};
use crate::model::Offset;
use crate::rt;
use crate::wire::batch::BatchHeader;

use super::{ShardLog, place};

/// Partitions written at a time.
const LANES: usize = 4;
/// A batch smaller than this part of what has to wait does not make a partition go over.
const SMALL: usize = 32;
/// The rest after a failure that may pass.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

impl ShardLog {
    /// Whether the batch goes straight to its segment.
    pub(super) fn writes_directly(&self, log: &PartitionLog, bytes: usize) -> bool {
        if log.is_promised() {
            return true;
        }
        // The sync of a segment is worth it for much at once: a large batch tells that more of the kind come.
        let (most, large) = (self.settings.bypass_bytes, self.settings.bypass_bytes / 2);
        let enough = if bytes >= large { most } else { 2 * most };
        most > 0
            && bytes >= most / SMALL
            && self.upkeep.is_running()
            && !self.upkeep.is_closing()
            && log.is_listed()
            && self.partitions.contains(log.id())
            && log.waiting_bytes(self.journal.durable_entries(), enough) + bytes >= enough
    }

    /// As [`ShardLog::append`], for a batch that goes straight to its segment.
    pub(super) fn append_directly(
        &self,
        log: &PartitionLog,
        header: &BatchHeader,
        batch: Bytes,
    ) -> Result<Lsn, JournalFailed> {
        let promised = self.journal.promise()?;
        let first = !log.is_promised();
        self.space.spend(batch.len());
        self.written_directly.set(self.written_directly.get() + batch.len() as u64);
        // Nothing in front of it is in entries to come.
        log.append_promised(header, batch, self.journal.last_entry().next(), promised);
        if first && let Some(log) = self.get(log.id()) {
            self.lanes.enter(log);
        }
        Ok(promised)
    }

    /// Bytes of batches that went straight to their segment.
    pub fn bypass_bytes(&self) -> u64 {
        self.written_directly.get()
    }

    pub(super) fn start_lanes(self: &Rc<Self>) {
        for _ in 0..LANES {
            rt::spawn(lane(Rc::downgrade(self)));
        }
    }

    /// Returns when nothing is promised any more.
    pub(super) async fn await_placed(&self) {
        loop {
            let listen = self.lanes.done().listen();
            if self.lanes.is_idle() || self.journal.failed().is_some() {
                return;
            }
            listen.await;
        }
    }

    async fn place_next(&self, log: Rc<PartitionLog>) {
        let done = match log.flush(None).await {
            Ok(()) => self.note_placed(&log),
            Err(e) if e.is_lasting() => Err(e),
            Err(e) => {
                log::warn!("shard {}: {e}; the journal takes what the segment does not", self.shard);
                self.place_instead(&log).await
            }
        };
        match done {
            Ok(()) | Err(LogError::Journal(_)) => {}
            Err(e) if self.distrusts(&e) => {}
            Err(_) => rt::sleep(AFTER_FAILURE).await,
        }
        let again = log.is_promised() && self.journal.failed().is_none();
        self.lanes.leave(again.then_some(log));
    }

    /// The journal says where the batches are that are in their segment.
    fn note_placed(&self, log: &PartitionLog) -> Result<(), LogError> {
        let Some((placed, placement)) = log.take_placed() else { return Ok(()) };
        let entry = match (placed.first(), placement) {
            (Some(first), Some(placement)) => self.journal.append_as(
                EntryKind::Placement,
                log.id(),
                Offset(first.header.base_offset),
                log.latest_epoch(),
                &placement.encode(),
            )?,
            _ => Lsn::ZERO,
        };
        self.journal.keep(placed.iter().map(|promised| promised.lsn), entry);
        Ok(())
    }

    /// The segment takes no more for now: what it has is placed, what it has not goes into the journal.
    async fn place_instead(&self, log: &PartitionLog) -> Result<(), LogError> {
        log.sync_written().await?;
        self.note_placed(log)?;
        for (promised, batch) in log.take_unplaced() {
            let (offset, epoch) = place(&promised.header);
            let entry = self.journal.append(log.id(), offset, epoch, &batch)?;
            self.journal.keep([promised.lsn], entry);
        }
        Ok(())
    }
}

async fn lane(store: Weak<ShardLog>) {
    let Some(lanes) = store.upgrade().map(|store| store.lanes.clone()) else { return };
    loop {
        let listen = lanes.come().listen();
        let Some(store) = store.upgrade() else { return };
        match store.lanes.take() {
            Some(log) => store.place_next(log).await,
            None => {
                drop(store);
                listen.await;
            }
        }
    }
}
