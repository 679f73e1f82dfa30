//! Producers of one partition: the last batches of each, so that a retry is answered with the offset it got the
//! first time (KIP-98), and a gap or a stale epoch is refused; and the transaction that each has open. Pure:
//! `(batch, now) → verdict`.

use std::collections::{HashMap, VecDeque};

use thiserror::Error;

use super::transactions::{Aborted, Transactions};
use crate::log::compact::LastBatch;
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
    StaleEpoch { got: i16, current: i16 },
    #[error("sequence {got} does not follow {last}")]
    OutOfOrder { got: i32, last: i32 },
    #[error("producer {0} has a transaction open, and the batch is not of it")]
    NotOfTransaction(i64),
    #[error("coordinator epoch {got} is older than {current}")]
    StaleCoordinator { got: i32, current: i32 },
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
        base_offset: i64,
        timestamp: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Retained {
    first_sequence: i32,
    last_sequence: i32,
    last_offset: i64,
    timestamp: i64,
}

impl Retained {
    fn base_offset(&self) -> i64 {
        self.last_offset - i64::from(sequence_delta(self.first_sequence, self.last_sequence))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    epoch: i16,
    last_timestamp: i64,
    batches: VecDeque<Retained>,
    /// Of the last marker, -1 before there is one.
    coordinator_epoch: i32,
    /// Where the open transaction begins.
    open: Option<i64>,
}

impl Entry {
    fn new(epoch: i16, now_ms: i64) -> Self {
        Self {
            epoch,
            last_timestamp: now_ms,
            batches: VecDeque::with_capacity(RETAINED),
            coordinator_epoch: -1,
            open: None,
        }
    }

    fn set_epoch(&mut self, epoch: i16) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }
}

/// The producers that wrote to one partition, and their transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    entries: HashMap<i64, Entry>,
    transactions: Transactions,
}

/// What `DescribeProducers` and tests see of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerView {
    pub producer_id: i64,
    pub epoch: i16,
    pub last_sequence: i32,
    pub last_timestamp: i64,
    /// Of the last end of a transaction, -1 if there was none.
    pub coordinator_epoch: i32,
    /// Where the open transaction begins, -1 if none is open.
    pub open_from: i64,
}

impl Producers {
    /// The state after a crash: a snapshot, and the batches that came after it.
    pub fn rebuild(
        snapshot: Option<&[u8]>,
        replayed: &[(BatchHeader, Option<EndMarker>)],
        now_ms: i64,
    ) -> Self {
        let mut producers = snapshot.and_then(Self::restore).unwrap_or_default();
        for (header, marker) in replayed {
            match marker {
                Some(marker) => producers.record_end(header, *marker, now_ms),
                None => producers.record(header, now_ms),
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
    pub fn is_open(&self, producer_id: i64, epoch: i16) -> bool {
        self.entries.get(&producer_id).is_some_and(|entry| entry.open.is_some() && entry.epoch == epoch)
    }

    pub fn check_epoch(&self, producer_id: i64, got: i16) -> Result<(), ProducerError> {
        match self.entries.get(&producer_id).map(|entry| entry.epoch) {
            Some(current) if got < current => Err(ProducerError::StaleEpoch { got, current }),
            _ => Ok(()),
        }
    }

    /// Decides on a batch that has a producer id. Changes nothing.
    pub fn check(&self, batch: &BatchHeader, origin: Origin) -> Result<Verdict, ProducerError> {
        self.check_epoch(batch.producer_id, batch.producer_epoch)?;
        let Some(entry) = self.entries.get(&batch.producer_id) else { return Ok(Verdict::Append) };
        if origin == Origin::Client {
            let verdict = entry.check_sequence(batch)?;
            if verdict != Verdict::Append {
                return Ok(verdict);
            }
        }
        if entry.open.is_some() && !batch.is_transactional() {
            return Err(ProducerError::NotOfTransaction(batch.producer_id));
        }
        Ok(Verdict::Append)
    }

    /// Decides on the end of a transaction, which a coordinator of this transaction version asks for. Ending what is
    /// not open is fine: coordinators repeat themselves after a crash.
    pub fn check_end(
        &self,
        producer_id: i64,
        epoch: i16,
        marker: EndMarker,
        version: i8,
    ) -> Result<(), ProducerError> {
        let Some(entry) = self.entries.get(&producer_id) else { return Ok(()) };
        let repeated = epoch == entry.epoch && (entry.open.is_none() || epoch == i16::MAX);
        let stale = epoch < entry.epoch || (version >= EPOCH_FOR_EACH && epoch == entry.epoch && !repeated);
        if stale {
            return Err(ProducerError::StaleEpoch { got: epoch, current: entry.epoch });
        }
        if marker.coordinator_epoch < entry.coordinator_epoch {
            let (got, current) = (marker.coordinator_epoch, entry.coordinator_epoch);
            return Err(ProducerError::StaleCoordinator { got, current });
        }
        Ok(())
    }

    /// Takes note of a batch that was appended (its base offset is final).
    pub fn record(&mut self, batch: &BatchHeader, now_ms: i64) {
        if batch.producer_id < 0 || batch.is_control() {
            return;
        }
        let epoch = batch.producer_epoch;
        let entry = self.entries.entry(batch.producer_id).or_insert_with(|| Entry::new(epoch, now_ms));
        entry.set_epoch(epoch);
        entry.last_timestamp = now_ms;
        if batch.base_sequence >= 0 {
            entry.retain(batch);
        }
        if batch.is_transactional() && entry.open.is_none() {
            entry.open = Some(batch.base_offset);
            self.transactions.begin(batch.producer_id, batch.base_offset);
        }
    }

    /// Takes note of a transaction's end that was appended as `batch`.
    pub fn record_end(&mut self, batch: &BatchHeader, marker: EndMarker, now_ms: i64) {
        let (id, epoch) = (batch.producer_id, batch.producer_epoch);
        let entry = self.entries.entry(id).or_insert_with(|| Entry::new(epoch, now_ms));
        entry.set_epoch(epoch);
        entry.last_timestamp = now_ms;
        entry.coordinator_epoch = marker.coordinator_epoch;
        if let Some(first) = entry.open.take() {
            self.transactions.end(id, first, batch.base_offset, marker.commit);
        }
    }

    /// Forgets producers that were last heard of before `before_ms` and have no transaction open.
    pub fn expire(&mut self, before_ms: i64) {
        self.entries.retain(|_, entry| entry.last_timestamp >= before_ms || entry.open.is_some());
    }

    /// By their ids: what is told and kept of them is the same for the same producers.
    fn in_order(&self) -> Vec<(&i64, &Entry)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(id, _)| **id);
        entries
    }

    pub fn views(&self) -> impl Iterator<Item = ProducerView> + '_ {
        self.in_order().into_iter().map(|(id, entry)| ProducerView {
            producer_id: *id,
            epoch: entry.epoch,
            last_sequence: entry.batches.back().map_or(-1, |b| b.last_sequence),
            last_timestamp: entry.last_timestamp,
            coordinator_epoch: entry.coordinator_epoch,
            open_from: entry.open.unwrap_or(-1),
        })
    }

    /// What compaction keeps for each producer: its last batch, or the marker that says its epoch.
    pub fn last_batches(&self) -> impl Iterator<Item = (i64, LastBatch)> + '_ {
        self.entries.iter().map(|(id, entry)| {
            let data_offset = entry.batches.back().map(|batch| batch.last_offset);
            (*id, LastBatch { data_offset, epoch: entry.epoch })
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
            out.extend(id.to_be_bytes());
            out.extend(entry.epoch.to_be_bytes());
            out.extend(entry.last_timestamp.to_be_bytes());
            out.extend(entry.coordinator_epoch.to_be_bytes());
            out.extend(entry.open.unwrap_or(-1).to_be_bytes());
            out.push(entry.batches.len() as u8);
            for batch in &entry.batches {
                out.extend(batch.first_sequence.to_be_bytes());
                out.extend(batch.last_sequence.to_be_bytes());
                out.extend(batch.last_offset.to_be_bytes());
                out.extend(batch.timestamp.to_be_bytes());
            }
        }
        out.extend((aborted.len() as u32).to_be_bytes());
        for a in aborted {
            for field in [a.producer_id, a.first_offset, a.last_offset, a.stable_offset] {
                out.extend(field.to_be_bytes());
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
            let id = i64::from_be_bytes(take(input)?);
            let entry = Entry::restore(input, version)?;
            if let Some(first) = entry.open {
                producers.transactions.begin(id, first);
            }
            producers.entries.insert(id, entry);
        }
        if version >= 2 {
            for _ in 0..u32::from_be_bytes(take(input)?) {
                let mut field = || take(input).map(i64::from_be_bytes);
                let (producer_id, first_offset) = (field()?, field()?);
                let (last_offset, stable_offset) = (field()?, field()?);
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
        if batch.producer_epoch > self.epoch {
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
            last_offset: batch.last_offset(),
            timestamp: batch.max_timestamp,
        });
    }

    fn restore(input: &mut &[u8], version: u8) -> Option<Self> {
        let epoch = i16::from_be_bytes(take(input)?);
        let mut entry = Self::new(epoch, i64::from_be_bytes(take(input)?));
        if version >= 2 {
            entry.coordinator_epoch = i32::from_be_bytes(take(input)?);
            entry.open = Some(i64::from_be_bytes(take(input)?)).filter(|first| *first >= 0);
        }
        let [retained] = take(input)?;
        for _ in 0..retained {
            entry.batches.push_back(Retained {
                first_sequence: i32::from_be_bytes(take(input)?),
                last_sequence: i32::from_be_bytes(take(input)?),
                last_offset: i64::from_be_bytes(take(input)?),
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
