//! One batch under compaction: kept as it is, rewritten with fewer records, emptied, or dropped. Pure.
//!
//! A rewritten batch keeps its offsets, its producer fields, its epoch and its codec; records that stay keep their
//! bytes. With a *delete horizon* (attribute bit 6) the base timestamp is the time from which its tombstones or markers
//! may go, and the records' deltas count from there.

use std::collections::HashMap;

use crate::model::{Offset, ProducerId, WallMs};
use crate::wire::batch::{self, BatchHeader, HEADER_SIZE};
use crate::wire::codec;
use crate::wire::record::{self, RecordView};

use super::LastBatch;
use super::offsets::OffsetMap;
use super::transactions::{Left, Marker, Transactions};

/// What a pass decides by, beside the map.
#[derive(Clone, Debug)]
pub struct Rules {
    pub now: WallMs,
    pub delete_retention_ms: i64,
    pub last_batches: HashMap<ProducerId, LastBatch>,
    /// Where the round ends: the last batch below stays, for its offset.
    pub round_end: Offset,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    AsItWas,
    /// Other bytes were written.
    Rewritten,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub kept: Kept,
    pub records_read: u32,
    pub records_kept: u32,
}

/// Memory that is used again for the next batch.
pub struct Scratch {
    records: Vec<u8>,
    kept: Vec<u8>,
    /// The records of one batch, decompressed, take at most so much; a batch that has more is kept as it is.
    limit: usize,
}

/// What a scratch keeps from one slice to the next.
const KEPT_SCRATCH: usize = 1 << 20;

impl Scratch {
    pub fn new(limit: usize) -> Self {
        Self { records: Vec::new(), kept: Vec::new(), limit }
    }

    /// What work on this batch probably takes beside it: its records, and those that stay.
    pub fn expected(&self, bytes: &[u8], header: &BatchHeader) -> usize {
        match header.compression() {
            batch::Compression::None => bytes.len(),
            codec => {
                let payload = bytes.get(HEADER_SIZE..).unwrap_or_default();
                2 * codec::expected_size(codec, payload, self.limit)
                    + codec::window(codec, payload).min(self.limit)
            }
        }
    }

    /// Lets go of what an unusual batch took.
    pub fn shrink(&mut self) {
        for memory in [&mut self.records, &mut self.kept] {
            if memory.capacity() > KEPT_SCRATCH {
                *memory = Vec::new();
            }
        }
    }
}

enum Retention {
    /// Goes with its last record.
    DropEmpty,
    /// Its header stays without a record.
    KeepEmpty,
    Drop,
}

/// A batch's records as they lie in it, if it can be decoded.
fn open<'a>(
    bytes: &'a [u8],
    header: &BatchHeader,
    scratch: &'a mut Vec<u8>,
    limit: usize,
) -> Option<&'a [u8]> {
    let payload = &bytes[HEADER_SIZE..];
    let records = match header.compression() {
        batch::Compression::None => payload,
        codec => {
            codec::decompress(codec, payload, limit, scratch).ok()?;
            &scratch[..]
        }
    };
    let count = record::records(records).try_fold(0_i64, |n, r| r.map(|_| n + 1))?;
    (count == i64::from(header.record_count)).then_some(records)
}

/// Notes the keys of a batch in the map, those at or past `from`; false if it is full, after as many as fitted.
pub fn index(
    bytes: &[u8],
    header: &BatchHeader,
    from: i64,
    map: &mut OffsetMap,
    transactions: &mut Transactions,
    scratch: &mut Scratch,
) -> bool {
    let skip = header.is_control() || transactions.on_batch(header);
    if !skip && header.last_offset() >= from {
        for record in open(bytes, header, &mut scratch.records, scratch.limit)
            .map(record::records)
            .into_iter()
            .flatten()
        {
            let Some(RecordView { key: Some(key), offset_delta, .. }) = record else { continue };
            let offset = header.base_offset + i64::from(offset_delta);
            if offset < from {
                continue;
            }
            if !map.put(key, offset) {
                return false;
            }
            map.advance(offset);
        }
    }
    map.advance(header.last_offset());
    true
}

fn marker(bytes: &[u8], header: &BatchHeader, scratch: &mut Scratch) -> Option<Marker> {
    if header.record_count == 0 {
        return None;
    }
    let first = open(bytes, header, &mut scratch.records, scratch.limit)
        .and_then(|r| record::records(r).next().flatten());
    Some(first.and_then(|r| r.key).map_or(Marker::Other, Marker::from_key))
}

/// Appends what stays of a batch to `out`.
pub fn filter(
    bytes: &[u8],
    header: &BatchHeader,
    map: &OffsetMap,
    transactions: &mut Transactions,
    rules: &Rules,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Outcome {
    let horizon = header.delete_horizon();
    let (decided, marker_outlived) = if header.is_control() {
        let marker = marker(bytes, header, scratch);
        let left = transactions.on_control(header, marker);
        let gone = left == Left::Nothing && horizon.is_some_and(|at| at <= rules.now.0);
        (gone, left != Left::Something)
    } else {
        (transactions.on_batch(header), false)
    };
    let retention = retention(header, rules, decided);
    let read = header.record_count.max(0) as u32;
    let outcome = |kept, records_kept| Outcome { kept, records_read: read, records_kept };
    if let Retention::Drop = retention {
        return outcome(Kept::Nothing, 0);
    }
    let Scratch { records, kept, limit } = scratch;
    let Some(records) = open(bytes, header, records, *limit) else {
        out.extend_from_slice(bytes);
        return outcome(Kept::AsItWas, read);
    };
    let stays = |r: &RecordView<'_>| {
        let offset = header.base_offset + i64::from(r.offset_delta);
        !decided && (header.is_control() || survives(r, offset, map, horizon, rules.now.0))
    };
    let staying = || record::records(records).flatten().filter(stays);
    let (mut count, mut tombstones) = (0_u32, false);
    for record in staying() {
        count += 1;
        tombstones |= record.value.is_none();
    }
    if count == 0 {
        return match retention {
            Retention::KeepEmpty if read == 0 => {
                out.extend_from_slice(bytes);
                outcome(Kept::AsItWas, 0)
            }
            Retention::KeepEmpty => {
                write_empty(bytes, header, out);
                outcome(Kept::Rewritten, 0)
            }
            _ => outcome(Kept::Nothing, 0),
        };
    }
    let new_horizon = (horizon.is_none() && (tombstones || marker_outlived))
        .then(|| rules.now.0.saturating_add(rules.delete_retention_ms));
    if count == read && new_horizon.is_none() {
        out.extend_from_slice(bytes);
        return outcome(Kept::AsItWas, count);
    }
    rewrite(bytes, header, staying(), new_horizon, kept, out);
    outcome(Kept::Rewritten, count)
}

/// Whether a record of a batch that is not control's stays.
fn survives(
    record: &RecordView<'_>,
    offset: i64,
    map: &OffsetMap,
    horizon: Option<i64>,
    now_ms: i64,
) -> bool {
    if offset > map.latest() {
        return true;
    }
    let Some(key) = record.key else { return false };
    let newest = map.get(key).is_none_or(|newest| offset >= newest);
    newest && (record.value.is_some() || horizon.is_none_or(|at| now_ms < at))
}

fn retention(header: &BatchHeader, rules: &Rules, decided: bool) -> Retention {
    let last_of_producer = header.has_producer_id()
        && rules.last_batches.get(&ProducerId(header.producer_id)).is_some_and(|last| {
            match last.data_offset {
                Some(offset) => header.last_offset() == offset.0,
                None => header.is_control() && header.producer_epoch == last.epoch.0,
            }
        });
    if last_of_producer || header.next_offset() == rules.round_end.0 {
        Retention::KeepEmpty
    } else if decided {
        Retention::Drop
    } else {
        Retention::DropEmpty
    }
}

fn write_empty(bytes: &[u8], header: &BatchHeader, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&bytes[..HEADER_SIZE]);
    let fields = batch::Rewrite {
        attributes: header.attributes & !(batch::CODEC_MASK | batch::DELETE_HORIZON),
        base_timestamp: header.max_timestamp,
        max_timestamp: header.max_timestamp,
        record_count: 0,
    };
    batch::finish_rewritten(&mut out[start..], &fields);
}

/// Writes the batch anew with the records that stay. A codec that fails leaves them uncompressed.
fn rewrite<'a>(
    bytes: &[u8],
    header: &BatchHeader,
    staying: impl Iterator<Item = RecordView<'a>>,
    new_horizon: Option<i64>,
    kept: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    kept.clear();
    let (mut count, mut newest) = (0, batch::NO_TIMESTAMP);
    for record in staying {
        count += 1;
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        newest = newest.max(timestamp);
        match new_horizon {
            None => kept.extend_from_slice(record.bytes),
            Some(horizon) => record.write_with_timestamp(timestamp.wrapping_sub(horizon), kept),
        }
    }
    let start = out.len();
    out.extend_from_slice(&bytes[..HEADER_SIZE]);
    let mut attributes = header.attributes;
    if codec::compress(header.compression(), kept, out).is_err() {
        attributes &= !batch::CODEC_MASK;
        out.truncate(start + HEADER_SIZE);
        out.extend_from_slice(kept);
    }
    if new_horizon.is_some() {
        attributes |= batch::DELETE_HORIZON;
    }
    let fields = batch::Rewrite {
        attributes,
        base_timestamp: new_horizon.unwrap_or(header.base_timestamp),
        max_timestamp: if header.is_log_append_time() { header.max_timestamp } else { newest },
        record_count: count,
    };
    batch::finish_rewritten(&mut out[start..], &fields);
}
