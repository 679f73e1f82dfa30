//! Partitions that this broker only copies: their batches come with offsets and leader epochs, and now and then their leader
//! is another one with another history, so that they are cut. Straight to the shard's log, beside all else that goes on.

use weir::controller::{ControlRequest, NewTopic};
use weir::log::ReplicaAppendError;
use weir::model::{LeaderEpoch, Offset, PartitionId};
use weir::rt;
use weir::wire::batch::BatchHeader;

use super::{Drive, batch};
use crate::world::{Entry, NEVER};

pub const COPIES: &str = "copies";

impl Drive<'_> {
    pub(super) fn make_copies(&mut self) {
        let bytes = (4 + self.random.below(12)) * 1024 * self.unit();
        let configs = vec![("internal.segment.bytes".to_owned(), Some(bytes.to_string()))];
        let topic = NewTopic { partitions: 3, configs, ..NewTopic::named(COPIES) };
        self.commit(ControlRequest::CreateTopics { topics: vec![topic], validate_only: false });
        self.take_up();
    }

    pub(super) async fn copy(&mut self) -> Result<(), String> {
        let ids: Vec<PartitionId> = self.copies.keys().copied().collect();
        if ids.is_empty() {
            self.make_copies();
            return Ok(());
        }
        let id = ids[self.random.below(ids.len())];
        match self.random.below(20) {
            0..=2 => self.truncate(id, false).await,
            3 => self.truncate(id, true).await,
            4..=5 => self.begin_epoch(id),
            6..=7 => {
                let log = self.copies[&id].clone();
                log.flush(None).await.map_err(|e| format!("{id}: flush: {e}"))
            }
            _ => self.take_batches(id).await,
        }
    }

    async fn take_batches(&mut self, id: PartitionId) -> Result<(), String> {
        let (log, store) = (self.copies[&id].clone(), self.opened.stores[self.shard(id)].clone());
        for _ in 0..=self.random.below(3) {
            let count = 1 + self.random.below(4) as i32;
            let size = self.scale.payload(self.random);
            let mut bytes = batch(-1, -1, count, size, self.random);
            store.room(bytes.len()).await;
            let epoch = log.latest_epoch().map_or(0, |epoch| epoch.0) + i32::from(self.random.chance(10));
            weir::wire::batch::stamp(&mut bytes, log.end_offset().0, epoch);
            let (header, bytes) = (BatchHeader::parse(&bytes).expect("a batch"), bytes.freeze());
            let submitted = self.now();
            let lsn = store
                .append_replica(&log, &header, bytes.clone())
                .map_err(|e: ReplicaAppendError| format!("{id}: a leader's batch was refused: {e}"))?;
            let partition = self.world.partitions.entry(id).or_default();
            partition.entries.push(Entry {
                header,
                bytes,
                submitted,
                acked: NEVER,
                cut: NEVER,
                dropped: NEVER,
            });
            self.waiting.push((self.shard(id), lsn, id, self.world.partitions[&id].entries.len() - 1));
        }
        Ok(())
    }

    fn begin_epoch(&mut self, id: PartitionId) -> Result<(), String> {
        let (log, store) = (&self.copies[&id], &self.opened.stores[self.shard(id)]);
        let epoch = log.latest_epoch().map_or(0, |epoch| epoch.0) + 1;
        store.epoch_start(log, LeaderEpoch(epoch)).map(drop).map_err(|e| e.to_string())
    }

    /// From when it begins, what is past the cut need not be there; from when it is over, it must not.
    async fn truncate(&mut self, id: PartitionId, resets: bool) -> Result<(), String> {
        let (log, store) = (self.copies[&id].clone(), self.opened.stores[self.shard(id)].clone());
        let (start, end) = (log.start_offset().0, log.end_offset().0);
        let most = if self.random.chance(20) { end - start } else { (end - start).min(40) };
        let to = match resets {
            true => end + self.random.below(50) as i64,
            false => end - self.random.below(most as usize + 1) as i64,
        };
        let goes = |header: &BatchHeader| resets || header.next_offset() > to;
        let begun = self.now();
        for entry in &mut self.world.partitions.entry(id).or_default().entries {
            if goes(&entry.header) {
                entry.cut = entry.cut.min(begun);
            }
        }
        let epoch = log.latest_epoch().map_or(0, |epoch| epoch.0) + 1;
        let cut = match resets {
            true => store.reset(&log, Offset(to), LeaderEpoch(epoch)).await,
            false => store.truncate(&log, Offset(to), LeaderEpoch(epoch)).await,
        };
        cut.map_err(|e| format!("{id}: cut to {to}: {e}"))?;
        super::TRUNCATED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let now = self.now();
        let partition = self.world.partitions.entry(id).or_default();
        for entry in partition.entries.iter_mut().filter(|entry| goes(&entry.header)) {
            entry.dropped = entry.dropped.min(now);
        }
        if resets {
            partition.deleted.push((now, to));
        }
        // Another leader, another epoch.
        store.epoch_start(&log, LeaderEpoch(epoch)).map_err(|e| e.to_string())?;
        rt::yield_now().await;
        Ok(())
    }
}
