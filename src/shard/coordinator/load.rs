//! Bringing a machine up: its partition's log, record by record.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

use crate::coordinator::{Effects, Machine, Replayed};
use crate::log::{LogError, may_pass};
use crate::model::{LeaderEpoch, Offset, PartitionId, Producer};
use crate::partition::{Replica, Waiting};
use crate::rt::{self, Budget, Notify};
use crate::shard::Shard;
use crate::wire::batch::{BatchHeader, BatchIter};
use crate::wire::records;

use super::driver::{Driver, Slot};
use super::kinds::Kind;
use super::settling::Watch;
use super::step::REST;

/// How much of a log is read at a time: at least, and where there is the memory for it.
const LEAST_BYTES: usize = 256 << 10;
const MOST_BYTES: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the batch at offset {0} cannot be read: {1}")]
    Batch(Offset, String),
    #[error("the partition needs repair: {0}")]
    NeedsRepair(Rc<str>),
    #[error("this broker does not lead the partition any more")]
    Deposed,
}

impl Shard {
    /// Makes the machine of a partition that is led here since now; at once where its log is empty.
    pub(super) fn take_up<M: Kind>(self: &Rc<Self>, partition: PartitionId) {
        let driver = M::driver(self);
        let Some(replica) = self.replica(partition) else { return };
        let epoch = replica.leader().1;
        driver.slots.borrow_mut().insert(partition, Slot::Loading(epoch));
        let offsets = replica.offsets();
        if offsets.log_start() == offsets.end() && replica.needs_repair().is_none() {
            return self.begin::<M>(&replica, epoch, M::make(self));
        }
        let shard = self.clone();
        rt::spawn(async move {
            loop {
                let mut machine = M::make(&shard);
                match replay(&replica, epoch, &mut machine, &shard.memory.work).await {
                    Ok(records) => {
                        log::info!("loaded {} {}: {records} records", M::TOPIC, partition.index);
                        return shard.begin::<M>(&replica, epoch, machine);
                    }
                    // Whoever follows the metadata has taken the machine away, or made another.
                    Err(LoadError::Deposed) => return,
                    // Out of descriptors, not of data.
                    Err(LoadError::Log(LogError::Io { path, source })) if may_pass(&source) => {
                        log::warn!("loading {} {}: {}: {source}", M::TOPIC, partition.index, path.display());
                        rt::sleep(REST).await;
                    }
                    Err(e) => return M::driver(&shard).fail(partition, &e.to_string()),
                }
            }
        });
    }

    fn begin<M: Kind>(self: &Rc<Self>, replica: &Replica, epoch: LeaderEpoch, machine: M) {
        let driver: &Driver<M> = M::driver(self);
        match driver.slots.borrow_mut().get_mut(&replica.id) {
            Some(slot @ Slot::Loading(_)) if slot.epoch() == epoch => {
                let (written, settling) = (replica.offsets().end(), VecDeque::new());
                let watch = Watch::new(replica.id, &driver.ripe);
                *slot = Slot::Active { machine, epoch, written, settling, watch };
            }
            // The partition went away meanwhile.
            _ => return,
        }
        self.step::<M>(replica.id, |machine, fx: &mut Effects<M>| machine.loaded(fx));
    }
}

/// Wakes whoever loads once there is more that is committed.
struct Committed(Notify);

impl Waiting for Committed {
    fn fire(&self) {
        self.0.notify_all();
    }

    fn is_over(&self) -> bool {
        !self.0.is_watched()
    }
}

/// Takes in the log up to its end, each part of it once it is committed.
async fn replay<M: Machine>(
    replica: &Replica,
    epoch: LeaderEpoch,
    machine: &mut M,
    work: &Budget,
) -> Result<u64, LoadError> {
    if let Some(why) = replica.needs_repair() {
        return Err(LoadError::NeedsRepair((*why).into()));
    }
    let mut at = replica.offsets().log_start();
    let mut count = 0;
    // Ends of transactions may be appended meanwhile: the last look is at the log as it is then.
    while at < replica.offsets().end() {
        if !replica.leads_in(epoch) {
            return Err(LoadError::Deposed);
        }
        if at >= replica.high_watermark() {
            let notify = Notify::new();
            let more = notify.listen();
            replica.watch(at, Rc::new(Committed(notify)));
            more.await;
            continue;
        }
        // Held until what is read has become state: the machine keeps none of it.
        let memory = work.take(LEAST_BYTES, MOST_BYTES).await;
        let committed = replica.high_watermark();
        let slices = replica.read_committed(at, memory.bytes()).await?;
        let before = at;
        for slice in slices {
            for batch in BatchIter::new(&slice) {
                let (header, range) = batch.map_err(|e| LoadError::Batch(at, e.to_string()))?;
                count += replay_batch(&header, slice.slice(range), at, machine)?;
                at = at.max(Offset(header.next_offset()));
            }
        }
        drop(memory);
        if at == before {
            // Compaction has left nothing up to there: what cannot be read would have been an error.
            at = committed;
        }
        rt::yield_now().await;
    }
    Ok(count)
}

fn replay_batch<M: Machine>(
    header: &BatchHeader,
    batch: Bytes,
    from: Offset,
    machine: &mut M,
) -> Result<u64, LoadError> {
    // Compaction may leave a batch without records, to keep a producer's last sequence.
    if header.record_count == 0 {
        return Ok(0);
    }
    let stored = records::read_batch(batch)
        .map_err(|e| LoadError::Batch(Offset(header.base_offset), e.to_string()))?;
    let marked = header.is_transactional() || header.is_control();
    let producer = marked.then_some(Producer::new(header.producer_id, header.producer_epoch));
    let mut count = 0;
    for record in stored.into_iter().filter(|record| record.offset >= from.0) {
        let replayed = Replayed {
            offset: record.offset,
            producer,
            is_control: header.is_control(),
            key: record.key,
            value: record.value,
        };
        machine.replay(&replayed);
        count += 1;
    }
    Ok(count)
}
