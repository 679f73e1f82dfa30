//! Producers of one partition: the last batches of each, so that a retry is answered with the offset it got the
//! first time (KIP-98), and a gap or a stale epoch is refused; and the transaction that each has open. Pure:
//! `(batch, now) → verdict`.

use std::collections::{HashMap, VecDeque};

use thiserror::Error;

use super::transactions::Transactions;
use crate::log::compact::LastBatch;
use crate::model::{LeaderEpoch, Offset, Producer, ProducerEpoch, ProducerId, WallMs};
use crate::wire::batch::BatchHeader;
use crate::wire::control::EndMarker;

/// Batches remembered for each producer, Kafka's `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`: what an idempotent
/// producer may have in flight.
const RETAINED: usize = 5;
/// The transaction version from which on every transaction has an epoch of its own (KIP-890).
const EPOCH_FOR_EACH: i8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProducerError {
    #[error("producer epoch {got} is older than {current}")]
    StaleEpoch { got: ProducerEpoch, current: ProducerEpoch },
    #[error("sequence {got} does not follow {last}")]
    OutOfOrder { got: i32, last: i32 },
    #[error("producer {0} has a transaction open, and the batch is not of it")]
    NotOfTransaction(ProducerId),
    #[error("coordinator epoch {got} is older than {current}")]
    StaleCoordinator { got: i32, current: LeaderEpoch },
}

/// Who writes a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Client,
    /// A coordinator of this broker: its batches carry a transaction's producer, but no sequences.
    Coordinator,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// It is in the log already, from this offset on.
    Duplicate {
        base_offset: Offset,
        timestamp: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retained {
    pub(super) first_sequence: i32,
    pub(super) last_sequence: i32,
    pub(super) last_offset: Offset,
    pub(super) timestamp: i64,
}

impl Retained {
    fn base_offset(&self) -> Offset {
        Offset(self.last_offset.0 - i64::from(sequence_delta(self.first_sequence, self.last_sequence)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) epoch: ProducerEpoch,
    pub(super) last_heard: WallMs,
    pub(super) batches: VecDeque<Retained>,
    /// Of the last marker: the leader epoch of the coordinator's partition.
    pub(super) coordinator_epoch: Option<LeaderEpoch>,
    /// Where the open transaction begins.
    pub(super) open: Option<Offset>,
}

impl Entry {
    pub(super) fn new(epoch: ProducerEpoch, now: WallMs) -> Self {
        Self {
            epoch,
            last_heard: now,
            batches: VecDeque::with_capacity(RETAINED),
            coordinator_epoch: None,
            open: None,
        }
    }

    fn set_epoch(&mut self, epoch: ProducerEpoch) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }
}

/// The producers that wrote to one partition, and their transactions. To most partitions none with an id has.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    pub(super) known: Option<Box<Known>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) entries: HashMap<ProducerId, Entry>,
    pub(super) transactions: Transactions,
}

impl PartialEq for Producers {
    fn eq(&self, other: &Self) -> bool {
        match (&self.known, &other.known) {
            (Some(one), Some(other)) => one == other,
            _ => self.is_empty() && other.is_empty(),
        }
    }
}

impl Eq for Producers {}

/// What `DescribeProducers` and tests see of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerView {
    pub producer: Producer,
    /// `None` if nothing with a sequence was written in this epoch.
    pub last_sequence: Option<i32>,
    pub last_heard: WallMs,
    /// Of the last end of a transaction, if there was one.
    pub coordinator_epoch: Option<LeaderEpoch>,
    /// Where the open transaction begins, if one is open.
    pub open_from: Option<Offset>,
}

impl Producers {
    pub fn is_empty(&self) -> bool {
        self.known.as_ref().is_none_or(|known| known.entries.is_empty() && known.transactions.is_empty())
    }

    fn get(&self, id: ProducerId) -> Option<&Entry> {
        self.known.as_ref()?.entries.get(&id)
    }

    fn known(&mut self) -> &mut Known {
        self.known.get_or_insert_default()
    }

    pub fn transactions(&self) -> &Transactions {
        static NONE: Transactions = Transactions::NONE;
        self.known.as_ref().map_or(&NONE, |known| &known.transactions)
    }

    /// [`Transactions::settle`].
    pub fn settle(&mut self, high_watermark: Offset) {
        self.each_transaction(|all| all.settle(high_watermark));
    }

    /// [`Transactions::cut`].
    pub fn cut(&mut self, log_start: Offset) {
        self.each_transaction(|all| all.cut(log_start));
    }

    /// [`Transactions::forget`].
    pub fn forget(&mut self, markers: &[Offset]) {
        self.each_transaction(|all| all.forget(markers));
    }

    fn each_transaction(&mut self, change: impl FnOnce(&mut Transactions)) {
        if let Some(known) = &mut self.known {
            change(&mut known.transactions);
        }
    }

    /// Whether the producer's transaction of this epoch is open. One that is open in an older epoch is being ended:
    /// its marker is on the way, and what the producer sends by now belongs to the next.
    pub fn is_open(&self, Producer { id, epoch }: Producer) -> bool {
        self.get(id).is_some_and(|entry| entry.open.is_some() && entry.epoch == epoch)
    }

    pub fn check_epoch(&self, Producer { id, epoch: got }: Producer) -> Result<(), ProducerError> {
        match self.get(id).map(|entry| entry.epoch) {
            Some(current) if got < current => Err(ProducerError::StaleEpoch { got, current }),
            _ => Ok(()),
        }
    }

    /// Decides on a batch; one without a producer may always be appended. Changes nothing.
    pub fn check(&self, batch: &BatchHeader, origin: Origin) -> Result<Verdict, ProducerError> {
        let Some(producer) = batch.producer() else { return Ok(Verdict::Append) };
        self.check_epoch(producer)?;
        let Some(entry) = self.get(producer.id) else { return Ok(Verdict::Append) };
        if origin == Origin::Client {
            let verdict = entry.check_sequence(batch)?;
            if verdict != Verdict::Append {
                return Ok(verdict);
            }
        }
        if entry.open.is_some() && !batch.is_transactional() {
            return Err(ProducerError::NotOfTransaction(producer.id));
        }
        Ok(Verdict::Append)
    }

    /// Decides on the end of a transaction, which a coordinator of this transaction version asks for. Ending what is
    /// not open is fine: coordinators repeat themselves after a crash.
    pub fn check_end(
        &self,
        Producer { id, epoch }: Producer,
        marker: EndMarker,
        version: i8,
    ) -> Result<(), ProducerError> {
        let Some(entry) = self.get(id) else { return Ok(()) };
        let repeated = epoch == entry.epoch && (entry.open.is_none() || epoch.0 == i16::MAX);
        let stale = epoch < entry.epoch || (version >= EPOCH_FOR_EACH && epoch == entry.epoch && !repeated);
        if stale {
            return Err(ProducerError::StaleEpoch { got: epoch, current: entry.epoch });
        }
        match entry.coordinator_epoch {
            Some(current) if marker.coordinator_epoch < current.0 => {
                Err(ProducerError::StaleCoordinator { got: marker.coordinator_epoch, current })
            }
            _ => Ok(()),
        }
    }

    /// Takes note of a batch that was appended (its base offset is final).
    pub fn record(&mut self, batch: &BatchHeader, now: WallMs) {
        let Some(Producer { id, epoch }) = batch.producer().filter(|_| !batch.is_control()) else { return };
        let known = self.known();
        let entry = known.entries.entry(id).or_insert_with(|| Entry::new(epoch, now));
        entry.set_epoch(epoch);
        entry.last_heard = now;
        if batch.base_sequence >= 0 {
            entry.retain(batch);
        }
        if batch.is_transactional() && entry.open.is_none() {
            let first = Offset(batch.base_offset);
            entry.open = Some(first);
            known.transactions.begin(id, first);
        }
    }

    /// Takes note of a transaction's end that was appended as `batch`.
    pub fn record_end(&mut self, batch: &BatchHeader, marker: EndMarker, now: WallMs) {
        let Producer { id, epoch } = Producer::new(batch.producer_id, batch.producer_epoch);
        let known = self.known();
        let entry = known.entries.entry(id).or_insert_with(|| Entry::new(epoch, now));
        entry.set_epoch(epoch);
        entry.last_heard = now;
        entry.coordinator_epoch = LeaderEpoch::from_wire(marker.coordinator_epoch);
        if let Some(first) = entry.open.take() {
            known.transactions.end(id, first, Offset(batch.base_offset), marker.commit);
        }
    }

    /// Forgets producers that were last heard of before then and have no transaction open.
    pub fn expire(&mut self, before: WallMs) {
        if let Some(known) = &mut self.known {
            known.entries.retain(|_, entry| entry.last_heard >= before || entry.open.is_some());
        }
    }

    /// By their ids: what is told and kept of them is the same for the same producers.
    pub(super) fn in_order(&self) -> Vec<(&ProducerId, &Entry)> {
        let mut entries: Vec<_> = self.known.iter().flat_map(|known| &known.entries).collect();
        entries.sort_unstable_by_key(|(id, _)| **id);
        entries
    }

    pub fn views(&self) -> impl Iterator<Item = ProducerView> + '_ {
        self.in_order().into_iter().map(|(id, entry)| ProducerView {
            producer: Producer { id: *id, epoch: entry.epoch },
            last_sequence: entry.batches.back().map(|b| b.last_sequence),
            last_heard: entry.last_heard,
            coordinator_epoch: entry.coordinator_epoch,
            open_from: entry.open,
        })
    }

    /// What compaction keeps for each producer: its last batch, or the marker that says its epoch.
    pub fn last_batches(&self) -> impl Iterator<Item = (ProducerId, LastBatch)> + '_ {
        self.known.iter().flat_map(|known| &known.entries).map(|(id, entry)| {
            let data_offset = entry.batches.back().map(|batch| batch.last_offset);
            (*id, LastBatch { data_offset, epoch: entry.epoch })
        })
    }
}

impl Entry {
    fn check_sequence(&self, batch: &BatchHeader) -> Result<Verdict, ProducerError> {
        let first = batch.base_sequence;
        if batch.producer_epoch > self.epoch.0 {
            return match first {
                0 => Ok(Verdict::Append),
                _ => Err(ProducerError::OutOfOrder { got: first, last: -1 }),
            };
        }
        let last = sequence_add(first, batch.last_offset_delta);
        if let Some(found) =
            self.batches.iter().find(|b| (b.first_sequence, b.last_sequence) == (first, last))
        {
            return Ok(Verdict::Duplicate { base_offset: found.base_offset(), timestamp: found.timestamp });
        }
        match self.batches.back() {
            Some(previous) if first != sequence_add(previous.last_sequence, 1) => {
                Err(ProducerError::OutOfOrder { got: first, last: previous.last_sequence })
            }
            // The end of a transaction brought the epoch: nothing was written in it yet.
            None if first != 0 => Err(ProducerError::OutOfOrder { got: first, last: -1 }),
            _ => Ok(Verdict::Append),
        }
    }

    fn retain(&mut self, batch: &BatchHeader) {
        if self.batches.len() == RETAINED {
            self.batches.pop_front();
        }
        self.batches.push_back(Retained {
            first_sequence: batch.base_sequence,
            last_sequence: sequence_add(batch.base_sequence, batch.last_offset_delta),
            last_offset: Offset(batch.last_offset()),
            timestamp: batch.max_timestamp,
        });
    }
}

/// Sequences wrap from `i32::MAX` to 0.
fn sequence_add(sequence: i32, delta: i32) -> i32 {
    ((i64::from(sequence) + i64::from(delta)) & i64::from(i32::MAX)) as i32
}

fn sequence_delta(first: i32, last: i32) -> i32 {
    ((i64::from(last) - i64::from(first)) & i64::from(i32::MAX)) as i32
}

#[cfg(test)]
#[path = "producer_tests.rs"]
mod tests;
