//! Idempotent producers of one partition: the last batches of each, so that a retry is answered with the offset
//! it got the first time (KIP-98), and a gap or a stale epoch is refused. Pure: `(batch, now) → verdict`.

use std::collections::{HashMap, VecDeque};

use thiserror::Error;

use crate::wire::batch::BatchHeader;

/// Batches remembered for each producer, Kafka's `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`: what an idempotent
/// producer may have in flight.
const RETAINED: usize = 5;
const SNAPSHOT_VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProducerError {
    #[error("producer epoch {got} is older than {current}")]
    StaleEpoch { got: i16, current: i16 },
    #[error("sequence {got} does not follow {last}")]
    OutOfOrder { got: i32, last: i32 },
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
}

/// The producers that wrote to one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    entries: HashMap<i64, Entry>,
}

/// What `DescribeProducers` and tests see of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerView {
    pub producer_id: i64,
    pub epoch: i16,
    pub last_sequence: i32,
    pub last_timestamp: i64,
}

impl Producers {
    /// The state after a crash: a snapshot, and the batches that came after it.
    pub fn rebuild(snapshot: Option<&[u8]>, replayed: &[BatchHeader], now_ms: i64) -> Self {
        let mut producers = snapshot.and_then(Self::restore).unwrap_or_default();
        for header in replayed {
            producers.record(header, now_ms);
        }
        producers
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Decides on a batch that has a producer id. Changes nothing.
    pub fn check(&self, batch: &BatchHeader) -> Result<Verdict, ProducerError> {
        let Some(entry) = self.entries.get(&batch.producer_id) else { return Ok(Verdict::Append) };
        if batch.producer_epoch < entry.epoch {
            return Err(ProducerError::StaleEpoch { got: batch.producer_epoch, current: entry.epoch });
        }
        let first = batch.base_sequence;
        if batch.producer_epoch > entry.epoch {
            return match first {
                0 => Ok(Verdict::Append),
                _ => Err(ProducerError::OutOfOrder { got: first, last: -1 }),
            };
        }
        let last = sequence_add(first, batch.last_offset_delta);
        if let Some(found) =
            entry.batches.iter().find(|b| (b.first_sequence, b.last_sequence) == (first, last))
        {
            return Ok(Verdict::Duplicate { base_offset: found.base_offset(), timestamp: found.timestamp });
        }
        match entry.batches.back() {
            Some(previous) if first != sequence_add(previous.last_sequence, 1) => {
                Err(ProducerError::OutOfOrder { got: first, last: previous.last_sequence })
            }
            _ => Ok(Verdict::Append),
        }
    }

    /// Takes note of a batch that was appended (its base offset is final).
    pub fn record(&mut self, batch: &BatchHeader, now_ms: i64) {
        if batch.producer_id < 0 || batch.is_control() {
            return;
        }
        let entry = self.entries.entry(batch.producer_id).or_insert_with(|| Entry {
            epoch: batch.producer_epoch,
            last_timestamp: now_ms,
            batches: VecDeque::with_capacity(RETAINED),
        });
        if batch.producer_epoch != entry.epoch {
            entry.epoch = batch.producer_epoch;
            entry.batches.clear();
        }
        entry.last_timestamp = now_ms;
        if entry.batches.len() == RETAINED {
            entry.batches.pop_front();
        }
        entry.batches.push_back(Retained {
            first_sequence: batch.base_sequence,
            last_sequence: sequence_add(batch.base_sequence, batch.last_offset_delta),
            last_offset: batch.last_offset(),
            timestamp: batch.max_timestamp,
        });
    }

    /// Forgets producers that were last heard of before `before_ms`.
    pub fn expire(&mut self, before_ms: i64) {
        self.entries.retain(|_, entry| entry.last_timestamp >= before_ms);
    }

    pub fn views(&self) -> impl Iterator<Item = ProducerView> + '_ {
        self.entries.iter().map(|(id, entry)| ProducerView {
            producer_id: *id,
            epoch: entry.epoch,
            last_sequence: entry.batches.back().map_or(-1, |b| b.last_sequence),
            last_timestamp: entry.last_timestamp,
        })
    }

    /// The state as opaque bytes for the shard's checkpoint (big-endian):
    ///
    /// ```text
    /// version u8 | producers u32 | { id i64, epoch i16, last timestamp i64, batches u8,
    ///                                { first seq i32, last seq i32, last offset i64, timestamp i64 } }
    /// ```
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(5 + self.entries.len() * 80);
        out.push(SNAPSHOT_VERSION);
        out.extend((self.entries.len() as u32).to_be_bytes());
        for (id, entry) in &self.entries {
            out.extend(id.to_be_bytes());
            out.extend(entry.epoch.to_be_bytes());
            out.extend(entry.last_timestamp.to_be_bytes());
            out.push(entry.batches.len() as u8);
            for batch in &entry.batches {
                out.extend(batch.first_sequence.to_be_bytes());
                out.extend(batch.last_sequence.to_be_bytes());
                out.extend(batch.last_offset.to_be_bytes());
                out.extend(batch.timestamp.to_be_bytes());
            }
        }
        out
    }

    /// `None` if the bytes are not a snapshot that this version reads.
    pub fn restore(mut bytes: &[u8]) -> Option<Self> {
        let input = &mut bytes;
        if take::<1>(input)? != [SNAPSHOT_VERSION] {
            return None;
        }
        let count = u32::from_be_bytes(take(input)?);
        let mut entries = HashMap::new();
        for _ in 0..count {
            let id = i64::from_be_bytes(take(input)?);
            let epoch = i16::from_be_bytes(take(input)?);
            let last_timestamp = i64::from_be_bytes(take(input)?);
            let [retained] = take(input)?;
            let mut batches = VecDeque::with_capacity(RETAINED);
            for _ in 0..retained {
                batches.push_back(Retained {
                    first_sequence: i32::from_be_bytes(take(input)?),
                    last_sequence: i32::from_be_bytes(take(input)?),
                    last_offset: i64::from_be_bytes(take(input)?),
                    timestamp: i64::from_be_bytes(take(input)?),
                });
            }
            entries.insert(id, Entry { epoch, last_timestamp, batches });
        }
        input.is_empty().then_some(Self { entries })
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
mod tests {
    use super::*;

    fn batch(producer: i64, epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset: offset,
            producer_id: producer,
            producer_epoch: epoch,
            base_sequence: sequence,
            last_offset_delta: count - 1,
            record_count: count,
            max_timestamp: 1000 + offset,
            base_timestamp: 1000 + offset,
            batch_length: 100,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
        }
    }

    fn append(state: &mut Producers, b: BatchHeader) -> Result<Verdict, ProducerError> {
        let verdict = state.check(&b)?;
        if verdict == Verdict::Append {
            state.record(&b, 5);
        }
        Ok(verdict)
    }

    #[test]
    fn the_last_five_batches_are_recognised_with_their_offsets() {
        let mut state = Producers::default();
        for i in 0..8 {
            assert_eq!(append(&mut state, batch(1, 0, i * 3, 3, i64::from(i) * 10)), Ok(Verdict::Append));
        }
        for i in 3..8 {
            let (base_offset, timestamp) = (i64::from(i) * 10, 1000 + i64::from(i) * 10);
            let retry = batch(1, 0, i * 3, 3, 999);
            assert_eq!(state.check(&retry), Ok(Verdict::Duplicate { base_offset, timestamp }));
        }
        assert_eq!(state.check(&batch(1, 0, 6, 3, 0)), Err(ProducerError::OutOfOrder { got: 6, last: 23 }));
        assert_eq!(state.check(&batch(1, 0, 27, 1, 0)), Err(ProducerError::OutOfOrder { got: 27, last: 23 }));
        assert_eq!(state.check(&batch(1, 0, 24, 1, 0)), Ok(Verdict::Append));
    }

    #[test]
    fn epochs_fence_and_restart_at_zero() {
        let mut state = Producers::default();
        append(&mut state, batch(1, 3, 17, 1, 0)).unwrap();
        assert_eq!(
            state.check(&batch(1, 2, 18, 1, 0)),
            Err(ProducerError::StaleEpoch { got: 2, current: 3 })
        );
        assert_eq!(state.check(&batch(1, 4, 18, 1, 0)), Err(ProducerError::OutOfOrder { got: 18, last: -1 }));
        assert_eq!(append(&mut state, batch(1, 4, 0, 1, 1)), Ok(Verdict::Append));
        assert_eq!(state.check(&batch(1, 4, 1, 1, 0)), Ok(Verdict::Append));
        assert_eq!(state.check(&batch(2, 0, 77, 1, 0)), Ok(Verdict::Append));
    }

    #[test]
    fn sequences_wrap() {
        let mut state = Producers::default();
        append(&mut state, batch(1, 0, i32::MAX - 1, 4, 100)).unwrap();
        assert_eq!(state.check(&batch(1, 0, 2, 1, 0)), Ok(Verdict::Append));
        let duplicate = state.check(&batch(1, 0, i32::MAX - 1, 4, 0));
        assert_eq!(duplicate, Ok(Verdict::Duplicate { base_offset: 100, timestamp: 1100 }));
    }

    #[test]
    fn snapshots_return_and_truncated_ones_are_refused() {
        let mut state = Producers::default();
        for i in 0..20 {
            append(&mut state, batch(i % 4, 0, (i / 4) as i32, 1, i)).unwrap();
        }
        let bytes = state.snapshot();
        assert_eq!(Producers::restore(&bytes), Some(state.clone()));
        for cut in 0..bytes.len() {
            assert_eq!(Producers::restore(&bytes[..cut]), None, "cut at {cut}");
        }
        state.expire(6);
        assert!(state.is_empty());
    }
}
