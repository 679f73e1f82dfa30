//! What was acknowledged, a few words a batch, and what a log must hold of it.
//!
//! A record says who made it: its value is `producer u32, number u64` and padding, numbers grow by one for each producer
//! and partition, and a keyed record's key and whether it is a tombstone follow from these two. So a log is checked
//! record by record while the ledger holds batches only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use kafka_wire_records::RecordBatch;

use crate::support::Wire;
use crate::support::batch::decode_all;
use crate::support::calls::{Fetch, Topic, code, list_offset};

/// Keys of one compacted partition: half of the records go to a few of them, the others are seldom written again.
const HOT_KEYS: u64 = 100;
const KEYS: u64 = 20_000;

/// A record by who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    pub producer: u32,
    pub number: u64,
}

impl Made {
    fn mixed(self) -> u64 {
        let x = ((u64::from(self.producer) << 48) ^ self.number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 8
    }

    pub fn key(self) -> u32 {
        let mixed = self.mixed();
        let keys = if mixed.is_multiple_of(2) { HOT_KEYS } else { KEYS };
        (mixed / 2 % keys) as u32
    }

    pub fn is_tombstone(self) -> bool {
        (self.mixed() >> 40) & 15 == 0
    }

    pub fn value(self) -> Vec<u8> {
        let mut value = Vec::with_capacity(48);
        value.extend_from_slice(&self.producer.to_be_bytes());
        value.extend_from_slice(&self.number.to_be_bytes());
        value.resize(12 + (self.mixed() % 36) as usize, self.number as u8);
        value
    }

    /// What made this value; `None` if nothing did.
    pub fn of(value: &[u8]) -> Option<Self> {
        let (producer, number) = (value.get(..4)?, value.get(4..12)?);
        let made = Self {
            producer: u32::from_be_bytes(producer.try_into().ok()?),
            number: u64::from_be_bytes(number.try_into().ok()?),
        };
        (made.value() == value).then_some(made)
    }
}

#[derive(Clone, Copy)]
struct Acked {
    first: Made,
    count: u32,
}

/// The ledger of one partition.
#[derive(Default)]
struct Partition {
    batches: BTreeMap<i64, Acked>,
    /// The last acknowledged record of each key, for a compacted topic.
    last: HashMap<u32, (i64, Made)>,
    /// The largest offsets that DeleteRecords was asked for, and has acknowledged.
    asked: i64,
    deleted: i64,
    /// Up to here a check has been.
    checked: i64,
}

impl Partition {
    fn end(&self) -> i64 {
        self.batches.last_key_value().map_or(0, |(base, acked)| base + i64::from(acked.count))
    }

    /// What was acknowledged at an offset, if anything was.
    fn at(&self, offset: i64) -> Option<Made> {
        let (base, acked) = self.batches.range(..=offset).next_back()?;
        let Made { producer, number } = acked.first;
        let delta = (offset - base) as u64;
        (delta < u64::from(acked.count)).then_some(Made { producer, number: number + delta })
    }
}

/// The ledger of one topic.
pub struct Ledger {
    pub topic: Topic,
    pub compacted: bool,
    partitions: Vec<Mutex<Partition>>,
}

impl Ledger {
    pub fn new(topic: Topic, compacted: bool, partitions: usize) -> Self {
        Self { topic, compacted, partitions: (0..partitions).map(|_| Mutex::default()).collect() }
    }

    pub fn partitions(&self) -> i32 {
        self.partitions.len() as i32
    }

    fn with<T>(&self, partition: i32, f: impl FnOnce(&mut Partition) -> T) -> T {
        f(&mut self.partitions[partition as usize].lock().expect("the ledger"))
    }

    pub fn ack(&self, partition: i32, base: i64, first: Made, count: u32) {
        self.with(partition, |p| {
            let end = base + i64::from(count);
            let before = p.at(base).or(p.batches.range(base..end).next().map(|(_, acked)| acked.first));
            assert!(before.is_none(), "{partition}/{base}: acknowledged are {first:?} and {before:?}");
            for offset in base..if self.compacted { end } else { base } {
                let made = Made { number: first.number + (offset - base) as u64, ..first };
                let last = p.last.entry(made.key()).or_insert((offset, made));
                if last.0 < offset {
                    *last = (offset, made);
                }
            }
            p.batches.insert(base, Acked { first, count });
        });
    }

    pub fn records(&self) -> u64 {
        let count = |p: &Mutex<Partition>| {
            p.lock().expect("the ledger").batches.values().map(|acked| u64::from(acked.count)).sum::<u64>()
        };
        self.partitions.iter().map(count).sum()
    }

    /// DeleteRecords is about to be asked for, up to somewhere in the log.
    pub fn ask_to_delete(&self, partition: i32, share: f64) -> i64 {
        self.with(partition, |p| {
            let to = p.asked + ((p.end() - p.asked) as f64 * share) as i64;
            p.asked = p.asked.max(to);
            p.asked
        })
    }

    pub fn deleted(&self, partition: i32, to: i64) {
        self.with(partition, |p| p.deleted = p.deleted.max(to));
    }

    /// Reads a partition and holds it against what had been acknowledged before; how many records it read. Unless all
    /// of it is wanted, what an earlier check has seen is passed over, but for its end.
    pub fn check(&self, wire: &mut Wire, partition: i32, all: bool) -> u64 {
        const AGAIN: i64 = 20_000;
        let (end, deleted, checked) = self.with(partition, |p| (p.end(), p.deleted, p.checked));
        let name = format!("{}/{partition}", self.topic.name);
        let last = self.with(partition, |p| p.last.clone());
        // Retention may overtake the reading: then once more from where the log begins now.
        let (start, at, seen) = loop {
            let start = list_offset(wire, 7, &self.topic.name, partition, -2).offset;
            assert!(start >= deleted, "{name}: begins at {start}, and {deleted} was acknowledged as deleted");
            let from = if all || self.compacted { start } else { start.max(checked - AGAIN) };
            let mut seen = Seen { from, ..Seen::default() };
            let at = read(wire, &self.topic, partition, from, &mut |batch, size| {
                seen.bytes += size;
                self.check_batch(&name, partition, batch, &mut seen);
            });
            if let Some(at) = at {
                break (start, at, seen);
            }
        };
        assert!(at >= end, "{name}: ends at {at}, and {end} was acknowledged");
        match self.compacted {
            true => self.check_keys(&name, partition, &last, &seen.keys),
            false => self.check_start(&name, partition, start, &seen),
        }
        self.with(partition, |p| p.checked = p.checked.max(end));
        seen.records
    }

    fn check_batch(&self, name: &str, partition: i32, batch: RecordBatch, seen: &mut Seen) {
        for record in &batch.records {
            let offset = batch.base_offset + i64::from(record.offset_delta);
            if offset < seen.from {
                continue;
            }
            assert!(
                seen.next == 0 || offset == seen.next || (self.compacted && offset > seen.next),
                "{name}: {offset} follows {}",
                seen.next - 1
            );
            (seen.next, seen.records) = (offset + 1, seen.records + 1);
            let acked = self.with(partition, |p| p.at(offset));
            let key =
                record.key.as_ref().map(|k| u32::from_be_bytes(k[..].try_into().expect("a key of ours")));
            let made = record.value.as_ref().map(|v| Made::of(v).expect("a value of ours"));
            if let Some(made) = made {
                assert!(acked.is_none_or(|acked| acked == made), "{name}/{offset}: {made:?}, not {acked:?}");
                let before = seen.numbers.insert(made.producer, made.number);
                let follows = |before: u64| match self.compacted {
                    true => before < made.number,
                    false => before + 1 == made.number,
                };
                assert!(before.is_none_or(follows), "{name}/{offset}: {made:?} after {before:?}");
            }
            if self.compacted {
                let key = key.expect("a key");
                let acked = made.or(acked);
                assert!(
                    acked.is_none_or(|made| made.key() == key),
                    "{name}/{offset}: key {key} of {acked:?}"
                );
                let gone = made.is_none();
                assert!(acked.is_none_or(|made| made.is_tombstone() == gone), "{name}/{offset}: {acked:?}");
                seen.keys.insert(key, offset);
            }
        }
    }

    /// Only DeleteRecords and retention may have taken what is before the log's start, and retention leaves enough.
    fn check_start(&self, name: &str, partition: i32, start: i64, seen: &Seen) {
        let asked = self.with(partition, |p| p.asked);
        let enough = seen.bytes + SLACK >= RETENTION_BYTES || seen.from > start;
        assert!(
            start <= asked || enough,
            "{name}: begins at {start}, asked for {asked}, {} bytes",
            seen.bytes
        );
    }

    /// Each key's last acknowledged record is there, or a newer one; a tombstone may be gone, with what was before it.
    fn check_keys(
        &self,
        name: &str,
        partition: i32,
        acked: &HashMap<u32, (i64, Made)>,
        found: &HashMap<u32, i64>,
    ) {
        for (key, (offset, made)) in acked {
            let found = found.get(key);
            let holds = match found {
                Some(found) => found >= offset,
                None => made.is_tombstone(),
            };
            // A tombstone that came and went while the log was read is acknowledged by now.
            let is_newer = || self.with(partition, |p| p.last[key].0 > *offset);
            let overtaken = holds || is_newer() || {
                std::thread::sleep(Duration::from_millis(500));
                is_newer()
            };
            assert!(
                overtaken,
                "{name}: key {key} is last at {found:?}, acknowledged was {offset} ({made:?})"
            );
        }
    }
}

pub const RETENTION_BYTES: u64 = 4 << 20;
/// What was counted when retention decided, and was lost unacknowledged.
const SLACK: u64 = 2 << 20;

#[derive(Default)]
struct Seen {
    from: i64,
    next: i64,
    records: u64,
    bytes: u64,
    /// Each producer's last number.
    numbers: HashMap<u32, u64>,
    /// Each key's last offset.
    keys: HashMap<u32, i64>,
}

/// Reads batch by batch up to the high watermark; where it ended, or `None` if the log began to begin behind that.
fn read(
    wire: &mut Wire,
    topic: &Topic,
    partition: i32,
    from: i64,
    each: &mut dyn FnMut(RecordBatch, u64),
) -> Option<i64> {
    let mut next = from;
    loop {
        let fetch = Fetch { partition, offset: next, partition_max_bytes: 4 << 20, ..Fetch::default() };
        let data = fetch.run(wire, topic);
        if data.error_code == code::OFFSET_OUT_OF_RANGE {
            let start = list_offset(wire, 7, &topic.name, partition, -2).offset;
            assert!(start > next, "{}/{partition}: {next} is out of range of {start}..", topic.name);
            return None;
        }
        assert_eq!(data.error_code, code::NONE, "fetch {}/{partition} at {next}", topic.name);
        let records = data.records.unwrap_or_default();
        let size = records.len() as u64;
        let batches = decode_all(records);
        let each_size = size / batches.len().max(1) as u64;
        let before = next;
        for batch in batches {
            next = next.max(batch.base_offset + i64::from(batch.last_offset_delta) + 1);
            each(batch, each_size);
        }
        if next >= data.high_watermark {
            return Some(next);
        }
        assert!(next > before, "{}/{partition}: nothing at {next} of {}", topic.name, data.high_watermark);
    }
}
