//! Producers' state as bytes: for checkpoints, and made again after a crash.

use super::producer::{Entry, Known, Producers, Retained};
use super::transactions::Aborted;
use crate::model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, WallMs};
use crate::wire::batch::BatchHeader;
use crate::wire::control::EndMarker;

/// Version 1 had no transactions.
const SNAPSHOT_VERSION: u8 = 2;

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
        let (entries, aborted) = (self.in_order(), self.transactions().aborted());
        let mut out = Vec::with_capacity(9 + entries.len() * 92 + aborted.len() * 32);
        out.push(SNAPSHOT_VERSION);
        out.extend((entries.len() as u32).to_be_bytes());
        for (id, entry) in entries {
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
        let mut known = Known::default();
        for _ in 0..u32::from_be_bytes(take(input)?) {
            let id = ProducerId(i64::from_be_bytes(take(input)?));
            let entry = Entry::restore(input, version)?;
            if let Some(first) = entry.open {
                known.transactions.begin(id, first);
            }
            known.entries.insert(id, entry);
        }
        if version >= 2 {
            for _ in 0..u32::from_be_bytes(take(input)?) {
                let mut field = || take(input).map(i64::from_be_bytes);
                let (producer_id, first_offset) = (ProducerId(field()?), Offset(field()?));
                let (last_offset, stable_offset) = (Offset(field()?), Offset(field()?));
                let aborted = Aborted { producer_id, first_offset, last_offset, stable_offset };
                known.transactions.restore(aborted);
            }
        }
        input.is_empty().then(|| Self { known: Some(Box::new(known)) })
    }
}

impl Entry {
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
