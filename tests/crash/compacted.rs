//! What a compacted log must still hold: of each key the last record that was decided, and everything from the first
//! open transaction on; of what is there, every record at its offset, as it was written.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_wire_records::{RecordBatch, RecordDecodeLimits};
use weir::partition::transactions::Aborted;
use weir::wire::batch::BatchHeader;
use weir::wire::control;

use crate::world::Entry;

/// A record as a reader gets it: timestamp, key, value.
type Stored = (i64, Option<Bytes>, Option<Bytes>);

fn records(mut bytes: Bytes) -> Result<BTreeMap<i64, Stored>, String> {
    let batch = RecordBatch::decode(&mut bytes, RecordDecodeLimits::default()).map_err(|e| e.to_string())?;
    let (base, time) = (batch.base_offset, batch.base_timestamp);
    let stored = batch
        .records
        .into_iter()
        .map(|r| (base + i64::from(r.offset_delta), (time + r.timestamp_delta, r.key, r.value)));
    Ok(stored.collect())
}

/// The batches of a compacted log, as they are read.
#[derive(Default)]
pub struct Found {
    /// By base offset: the header, and whether the batch is as it was written.
    batches: BTreeMap<i64, (BatchHeader, bool)>,
    /// Records of producers that are there, with their keys.
    records: BTreeMap<i64, Option<Bytes>>,
}

impl Found {
    /// One more batch, which must be one that was written, perhaps with fewer records; the offset after it.
    pub fn take(&mut self, allowed: &BTreeMap<i64, &Entry>, at: i64, bytes: Bytes) -> Result<i64, String> {
        let header = BatchHeader::parse(&bytes).map_err(|e| format!("after {at}: {e}"))?;
        let base = header.base_offset;
        let entry = allowed.get(&base).filter(|_| base >= at);
        let entry = entry.ok_or(format!("after {at} comes a batch at {base} that was not written there"))?;
        let identity = |h: &BatchHeader| {
            let kind = (h.is_transactional(), h.is_control(), h.leader_epoch);
            (h.last_offset(), h.producer_id, h.producer_epoch, h.base_sequence, kind)
        };
        if identity(&header) != identity(&entry.header) {
            return Err(format!("the batch at {base} is {header:?}, written was {:?}", entry.header));
        }
        let whole = entry.bytes == bytes;
        let (written, left) = (records(entry.bytes.clone())?, records(bytes)?);
        for (offset, record) in left {
            if written.get(&offset) != Some(&record) {
                return Err(format!("the record at {offset} of the batch at {base} was not written there"));
            }
            if !header.is_control() {
                self.records.insert(offset, record.1);
            }
        }
        self.batches.insert(base, (header, whole));
        Ok(header.next_offset())
    }

    /// Holds what was found in `start..end` against what was written.
    pub fn judge(&self, allowed: &BTreeMap<i64, &Entry>, start: i64, end: i64) -> Result<(), String> {
        let decided = Decided::of(allowed, end);
        for (base, entry) in allowed.range(..end) {
            let is_open = entry.header.next_offset() > start && *base >= decided.stable;
            if is_open && !self.batches.get(base).is_some_and(|(_, whole)| *whole) {
                return Err(format!(
                    "the batch at {base} is not whole, and {} is still open",
                    decided.stable
                ));
            }
        }
        let mut last: BTreeMap<Bytes, (i64, bool)> = BTreeMap::new();
        for (base, entry) in allowed.range(..decided.stable) {
            if entry.header.is_control() || decided.aborted.contains(base) {
                continue;
            }
            for (offset, (_, key, value)) in records(entry.bytes.clone())? {
                if offset >= start && offset < decided.stable {
                    last.insert(key.expect("keyed records only"), (offset, value.is_none()));
                }
            }
        }
        for (key, (offset, is_tombstone)) in last {
            if self.records.contains_key(&offset) {
                continue;
            }
            if !is_tombstone {
                return Err(format!("the last record of {key:?}, at {offset}, is lost"));
            }
            let older = |(at, of): (&i64, &Option<Bytes>)| {
                let batch = allowed.range(..=*at).next_back().map(|(base, _)| *base);
                *at >= start
                    && of.as_ref() == Some(&key)
                    && batch.is_none_or(|b| !decided.aborted.contains(&b))
            };
            if let Some((at, _)) = self.records.range(..offset).find(|found| older((found.0, found.1))) {
                return Err(format!("{key:?} is back at {at}: its tombstone was at {offset}"));
            }
        }
        Ok(())
    }

    /// Readers are told of every aborted transaction that has a record left, and of none whose marker is gone.
    pub fn judge_aborted(&self, expected: &[Aborted], found: &[Aborted], start: i64) -> Result<(), String> {
        if let Some(unknown) = found.iter().find(|t| !expected.contains(t)) {
            return Err(format!("{unknown:?} is listed as aborted; aborted are {expected:?}"));
        }
        for t in expected.iter().filter(|t| !found.contains(t)) {
            let left =
                self.batches.range(t.first_offset.0.max(start)..t.last_offset.0).find(|(_, (header, _))| {
                    header.producer_id == t.producer_id.0
                        && header.is_transactional()
                        && header.record_count > 0
                });
            if let Some((base, _)) = left {
                return Err(format!("{t:?} is not listed as aborted, and has a batch at {base}"));
            }
        }
        for t in found {
            if self.batches.get(&t.last_offset.0).is_none_or(|(header, _)| header.record_count <= 0) {
                return Err(format!("{t:?} is listed as aborted, and its marker is gone"));
            }
        }
        Ok(())
    }
}

/// How the transactions of a log stand at its end.
struct Decided {
    /// Base offsets of batches of aborted transactions.
    aborted: BTreeSet<i64>,
    /// Where the first open transaction begins, or the end.
    stable: i64,
}

impl Decided {
    fn of(allowed: &BTreeMap<i64, &Entry>, end: i64) -> Self {
        let mut open: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let mut aborted = BTreeSet::new();
        for (base, entry) in allowed.range(..end) {
            let producer = entry.header.producer_id;
            if let Some(marker) = control::decode(&entry.bytes, &entry.header) {
                let batches = open.remove(&producer).unwrap_or_default();
                if !marker.commit {
                    aborted.extend(batches);
                }
            } else if entry.header.is_transactional() {
                open.entry(producer).or_default().push(*base);
            }
        }
        let stable = open.values().flatten().copied().min().unwrap_or(end);
        Self { aborted, stable }
    }
}
