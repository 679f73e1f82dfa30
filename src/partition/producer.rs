//! Producers of one partition: the last batches of each, so that a retry is answered with the offset it got the
//! first time (KIP-98), and a gap or a stale epoch is refused; and the transaction that each has open. Pure:
//! `(batch, now) → verdict`.

use std::collections::{HashMap, VecDeque};

use thiserror::Error;

use super::transactions::{Aborted, Transactions};
use crate::log::compact::LastBatch;
use crate::model::{LeaderEpoch, Offset, Producer, ProducerEpoch, ProducerId, WallMs};
use crate::wire::batch::BatchHeader;
use crate::wire::control::EndMarker;

/// Batches remembered for each producer, Kafka's `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`: what an idempotent
/// producer may have in flight.
const RETAINED: usize = 5;
/// Version 1 had no transactions.
const SNAPSHOT_VERSION: u8 = 2;
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
struct Retained {
    first_sequence: i32,
    last_sequence: i32,
    last_offset: Offset,
    timestamp: i64,
}

impl Retained {
    fn base_offset(&self) -> Offset {
        Offset(self.last_offset.0 - i64::from(sequence_delta(self.first_sequence, self.last_sequence)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    epoch: ProducerEpoch,
    last_heard: WallMs,
    batches: VecDeque<Retained>,
    /// Of the last marker: the leader epoch of the coordinator's partition.
    coordinator_epoch: Option<LeaderEpoch>,
    /// Where the open transaction begins.
    open: Option<Offset>,
}

impl Entry {
    fn new(epoch: ProducerEpoch, now: WallMs) -> Self {
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

/// The producers that wrote to one partition, and their transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    entries: HashMap<ProducerId, Entry>,
    transactions: Transactions,
}

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
    /// The state after a crash: a snapshot, and the batches that came after it.
    pub fn rebuild(
        snapshot: Option<&[u8]>,
        replayed: &[(BatchHeader, Option<EndMarker>)],
        now: WallMs,
    ) -> Self {
        let mut producers = snapshot.and_then(Self::restore).unwrap_or_default();
        for (header, marker) in replayed {
            match marker {
                Some(marker) => producers.record_end(header, *marker, now),
                None => producers.record(header, now),
            }
        }
        producers
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.transactions.is_empty()
    }

    pub fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    pub fn transactions_mut(&mut self) -> &mut Transactions {
        &mut self.transactions
    }

    /// Whether the producer's transaction of this epoch is open. One that is open in an older epoch is being ended:
    /// its marker is on the way, and what the producer sends by now belongs to the next.
    pub fn is_open(&self, Producer { id, epoch }: Producer) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.open.is_some() && entry.epoch == epoch)
    }

    pub fn check_epoch(&self, Producer { id, epoch: got }: Producer) -> Result<(), ProducerError> {
        match self.entries.get(&id).map(|entry| entry.epoch) {
            Some(current) if got < current => Err(ProducerError::StaleEpoch { got, current }),
            _ => Ok(()),
        }
    }

    /// Decides on a batch; one without a producer may always be appended. Changes nothing.
    pub fn check(&self, batch: &BatchHeader, origin: Origin) -> Result<Verdict, ProducerError> {
        let Some(producer) = batch.producer() else { return Ok(Verdict::Append) };
        self.check_epoch(producer)?;
        let Some(entry) = self.entries.get(&producer.id) else { return Ok(Verdict::Append) };
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
        let Some(entry) = self.entries.get(&id) else { return Ok(()) };
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
        let entry = self.entries.entry(id).or_insert_with(|| Entry::new(epoch, now));
        entry.set_epoch(epoch);
        entry.last_heard = now;
        if batch.base_sequence >= 0 {
            entry.retain(batch);
        }
        if batch.is_transactional() && entry.open.is_none() {
            let first = Offset(batch.base_offset);
            entry.open = Some(first);
            self.transactions.begin(id, first);
        }
    }

    /// Takes note of a transaction's end that was appended as `batch`.
    pub fn record_end(&mut self, batch: &BatchHeader, marker: EndMarker, now: WallMs) {
        let Producer { id, epoch } = Producer::new(batch.producer_id, batch.producer_epoch);
        let entry = self.entries.entry(id).or_insert_with(|| Entry::new(epoch, now));
        entry.set_epoch(epoch);
        entry.last_heard = now;
        entry.coordinator_epoch = LeaderEpoch::from_wire(marker.coordinator_epoch);
        if let Some(first) = entry.open.take() {
            self.transactions.end(id, first, Offset(batch.base_offset), marker.commit);
        }
    }

    /// Forgets producers that were last heard of before then and have no transaction open.
    pub fn expire(&mut self, before: WallMs) {
        self.entries.retain(|_, entry| entry.last_heard >= before || entry.open.is_some());
    }

    /// By their ids: what is told and kept of them is the same for the same producers.
    fn in_order(&self) -> Vec<(&ProducerId, &Entry)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
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
    pub fn last_batches(&self) -> impl Iterator<Item = (i64, LastBatch)> + '_ {
        self.entries.iter().map(|(id, entry)| {
            let data_offset = entry.batches.back().map(|batch| batch.last_offset.0);
            (id.0, LastBatch { data_offset, epoch: entry.epoch.0 })
        })
    }

    /// The state as opaque bytes for the shard's checkpoint (big-endian):
    ///
    /// ```text
    /// version u8 | producers u32 | { id i64, epoch i16, last timestamp i64, coordinator epoch i32, open from i64 or -1,
    ///                                batches u8, { first seq i32, last seq i32, last offset i64, timestamp i64 } }
    ///            | aborted u32   | { producer i64, first offset i64, marker i64, stable offset i64 }
    /// ```
    ///
    /// A checkpoint is stored once what it covers is durable: ends of transactions need not be waited for again.
    pub fn snapshot(&self) -> Vec<u8> {
        let aborted = self.transactions.aborted();
        let mut out = Vec::with_capacity(9 + self.entries.len() * 92 + aborted.len() * 32);
        out.push(SNAPSHOT_VERSION);
        out.extend((self.entries.len() as u32).to_be_bytes());
        for (id, entry) in self.in_order() {
            out.extend(id.0.to_be_bytes());
            out.extend(entry.epoch.0.to_be_bytes());
            out.extend(entry.last_heard.0.to_be_bytes());
            out.extend(LeaderEpoch::to_wire(entry.coordinator_epoch).to_be_bytes());
            out.extend(Offset::to_wire(entry.open).to_be_bytes());
            out.push(entry.batches.len() as u8);
            for batch in &entry.batches {
                out.extend(batch.first_sequence.to_be_bytes());
                out.extend(batch.last_sequence.to_be_bytes());
                out.extend(batch.last_offset.0.to_be_bytes());
                out.extend(batch.timestamp.to_be_bytes());
            }
        }
        out.extend((aborted.len() as u32).to_be_bytes());
        for a in aborted {
            out.extend(a.producer_id.0.to_be_bytes());
            for offset in [a.first_offset, a.last_offset, a.stable_offset] {
                out.extend(offset.0.to_be_bytes());
            }
        }
        out
    }

    /// `None` if the bytes are not a snapshot that this version reads.
    pub fn restore(mut bytes: &[u8]) -> Option<Self> {
        let input = &mut bytes;
        let [version] = take(input)?;
        if !(1..=SNAPSHOT_VERSION).contains(&version) {
            return None;
        }
        let mut producers = Self::default();
        for _ in 0..u32::from_be_bytes(take(input)?) {
            let id = ProducerId(i64::from_be_bytes(take(input)?));
            let entry = Entry::restore(input, version)?;
            if let Some(first) = entry.open {
                producers.transactions.begin(id, first);
            }
            producers.entries.insert(id, entry);
        }
        if version >= 2 {
            for _ in 0..u32::from_be_bytes(take(input)?) {
                let mut field = || take(input).map(i64::from_be_bytes);
                let (producer_id, first_offset) = (ProducerId(field()?), Offset(field()?));
                let (last_offset, stable_offset) = (Offset(field()?), Offset(field()?));
                let aborted = Aborted { producer_id, first_offset, last_offset, stable_offset };
                producers.transactions.restore(aborted);
            }
        }
        input.is_empty().then_some(producers)
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

    fn restore(input: &mut &[u8], version: u8) -> Option<Self> {
        let epoch = ProducerEpoch(i16::from_be_bytes(take(input)?));
        let mut entry = Self::new(epoch, WallMs(i64::from_be_bytes(take(input)?)));
        if version >= 2 {
            entry.coordinator_epoch = LeaderEpoch::from_wire(i32::from_be_bytes(take(input)?));
            entry.open = Offset::from_wire(i64::from_be_bytes(take(input)?));
        }
        let [retained] = take(input)?;
        for _ in 0..retained {
            entry.batches.push_back(Retained {
                first_sequence: i32::from_be_bytes(take(input)?),
                last_sequence: i32::from_be_bytes(take(input)?),
                last_offset: Offset(i64::from_be_bytes(take(input)?)),
                timestamp: i64::from_be_bytes(take(input)?),
            });
        }
        Some(entry)
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*head)
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
