//! Compaction on real files, against a model of what has to stay.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use kafka_wire_core::DecodeLimits;
use kafka_wire_records::{Compression, Record, RecordBatch, RecordDecodeLimits, RecordEncodeLimits};

use crate::log::{BatchCache, LogError, Lsn, PartitionCheckpoint, PartitionLog};
use crate::model::topic_config::{CleanupPolicy, TopicConfig};
use crate::model::{PartitionId, TopicId};
use crate::rt;
use crate::wire::batch::BatchHeader;

use super::{Bounds, LastBatch, Passed, Policy, Work};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const NOW: i64 = 1_000_000;

type Entry = (Option<Bytes>, Option<Bytes>, i64);

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn config() -> TopicConfig {
    TopicConfig {
        segment_bytes: 20_000,
        cleanup_policy: CleanupPolicy { delete: false, compact: true },
        min_cleanable_dirty_ratio: 0.0,
        delete_retention_ms: 3_600_000,
        file_delete_delay_ms: 10,
        ..TopicConfig::default()
    }
}

struct Fixture {
    root: tempfile::TempDir,
    cache: Rc<BatchCache>,
    config: TopicConfig,
    log: Rc<PartitionLog>,
    random: Random,
    /// What was appended, by offset.
    records: BTreeMap<i64, Entry>,
    sequences: HashMap<i64, i32>,
    bounds: Bounds,
}

fn open(
    dir: &Path,
    config: &TopicConfig,
    checkpoint: Option<PartitionCheckpoint>,
    cache: &Rc<BatchCache>,
) -> Result<Rc<PartitionLog>, LogError> {
    let id = PartitionId { topic: TopicId([9; 16]), index: 0 };
    PartitionLog::open(dir.to_path_buf(), id, config, checkpoint, cache)
}

impl Fixture {
    fn new(seed: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (cache, config) = (BatchCache::new(0), config());
        let log = open(&root.path().join("topics/keys-0"), &config, None, &cache).unwrap();
        let random = Random(seed | 1);
        let (records, sequences) = (BTreeMap::new(), HashMap::new());
        Self { root, cache, config, log, random, records, sequences, bounds: Bounds::default() }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("topics/keys-0")
    }

    fn append(&mut self, keys: u64) {
        let count = 1 + self.random.below(20) as i32;
        let (base_offset, time) = (self.log.end_offset(), 1000 + self.log.end_offset() * 7 % 500);
        let records: Vec<Record> = (0..count)
            .map(|i| Record {
                attributes: 0,
                timestamp_delta: self.random.below(50) as i64,
                offset_delta: i,
                key: Some(format!("key {}", self.random.below(keys)).into()),
                value: (self.random.below(5) > 0).then(|| vec![b'v'; self.random.below(120) as usize].into()),
                headers: Vec::new(),
            })
            .collect();
        let producer_id = self.random.below(4) as i64 - 1;
        let sequence = self.sequences.entry(producer_id).or_default();
        let batch = RecordBatch {
            base_offset,
            last_offset_delta: count - 1,
            partition_leader_epoch: 3,
            compression: CODECS[self.random.below(5) as usize],
            timestamp_type: kafka_wire_records::TimestampType::CreateTime,
            is_transactional: false,
            is_control: false,
            has_delete_horizon: false,
            base_timestamp: time,
            max_timestamp: time + records.iter().map(|r| r.timestamp_delta).max().unwrap_or(0),
            producer_id,
            producer_epoch: if producer_id < 0 { -1 } else { 2 },
            base_sequence: if producer_id < 0 { -1 } else { *sequence },
            records,
        };
        *sequence += count;
        if producer_id >= 0 {
            let last = LastBatch { data_offset: Some(base_offset + i64::from(count) - 1), epoch: 2 };
            self.bounds.last_batches.insert(producer_id, last);
        }
        self.records.extend(entries(&batch));
        let bytes = batch.encode_to_bytes(RecordEncodeLimits::default()).unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        self.log.append(&header, bytes, Lsn(base_offset as u64 + 1));
    }

    async fn fill(&mut self, batches: usize, keys: u64) {
        for i in 0..batches {
            self.append(keys);
            if i % 10 == 9 {
                self.log.flush(None).await.unwrap();
            }
        }
        self.log.flush(None).await.unwrap();
        self.bounds.limit = self.log.end_offset();
    }

    async fn compact(&self, map_bytes: usize) -> Option<(i64, Passed)> {
        let policy = Policy::from(&self.config);
        let candidate = self.log.compaction_candidate(self.bounds.limit, &policy, NOW).await?;
        let work = Work { map_bytes, activity: &|| 0, stop: &|| false };
        let passed = self.log.compact(candidate, self.bounds.clone(), &policy, &work).await.unwrap();
        Some((candidate.end, passed))
    }

    /// As a checkpoint does it.
    async fn settle(&self) {
        self.log.forget_swaps(self.log.compaction.swaps()).await;
    }

    /// Compacts until there is nothing to do; returns where the compacted part ends, and the passes it took.
    async fn compact_all(&self, map_bytes: usize) -> (i64, usize) {
        let (mut end, mut passes) = (0, 0);
        while let Some((at, passed)) = self.compact(map_bytes).await {
            (end, passes) = (at, passes + 1);
            self.settle().await;
            if !passed.more {
                break;
            }
        }
        (end, passes)
    }

    /// Every key below `end` is there with its last record and no other; the rest is there as it was.
    async fn check(&self, end: i64, without_tombstones: bool) {
        let batches = read(&self.log).await;
        let mut found = BTreeMap::new();
        for batch in &batches {
            assert_eq!(batch.partition_leader_epoch, 3);
            found.extend(entries(batch));
        }
        let last_of = |(offset, (key, ..)): (&i64, &Entry)| (key.clone(), *offset);
        let newest: HashMap<Option<Bytes>, i64> = self.records.range(..end).map(last_of).collect();
        let stays = |(offset, (key, value, _)): &(&i64, &Entry)| {
            **offset >= end || (newest[key] == **offset && (value.is_some() || !without_tombstones))
        };
        let expected: BTreeMap<i64, Entry> =
            self.records.iter().filter(stays).map(|(o, e)| (*o, e.clone())).collect();
        let missing: Vec<i64> = expected.keys().filter(|o| !found.contains_key(o)).copied().collect();
        let surplus: Vec<i64> = found.keys().filter(|o| !expected.contains_key(o)).copied().collect();
        assert!(found == expected, "below {end}: missing {missing:?}, too much {surplus:?}");
        for (producer, last) in &self.bounds.last_batches {
            let there = |b: &&RecordBatch| {
                b.producer_id == *producer
                    && Some(b.base_offset + i64::from(b.last_offset_delta)) == last.data_offset
            };
            let batch = batches.iter().find(there).expect("each producer's last batch stays");
            let next = batch.base_sequence + batch.last_offset_delta + 1;
            assert_eq!(next, self.sequences[producer], "its last sequence can be told");
        }
        for target in [0, 1000, 1100, 1250, 1400, 1549, 1550, 2000] {
            let expected = found.iter().find(|(_, (.., t))| *t >= target).map(|(o, (.., t))| (*o, *t));
            let looked_up = self.log.offset_for_timestamp(target).await.unwrap();
            assert_eq!(looked_up.map(|(o, t, _)| (o, t)), expected, "timestamp {target}");
        }
        let newest = found.values().map(|(.., t)| *t).max();
        let expected = found.iter().find(|(_, (.., t))| Some(*t) == newest).map(|(o, (.., t))| (*o, *t));
        let looked_up = self.log.max_timestamp().await.unwrap();
        assert_eq!(looked_up.map(|(o, t, _)| (o, t)), expected, "the largest timestamp");
    }
}

fn entries(batch: &RecordBatch) -> Vec<(i64, Entry)> {
    let entry = |r: &Record| {
        let time = batch.base_timestamp + r.timestamp_delta;
        (batch.base_offset + i64::from(r.offset_delta), (r.key.clone(), r.value.clone(), time))
    };
    batch.records.iter().map(entry).collect()
}

fn decode(bytes: &[u8]) -> Vec<RecordBatch> {
    let mut rest = Bytes::copy_from_slice(bytes);
    let limits = RecordDecodeLimits::new(1 << 24, 1 << 24, DecodeLimits::default());
    let mut batches = Vec::new();
    while !rest.is_empty() {
        batches.push(RecordBatch::decode(&mut rest, limits).expect("a sound batch"));
    }
    batches
}

/// All batches, as a consumer gets them; offsets only rise.
async fn read(log: &PartitionLog) -> Vec<RecordBatch> {
    let (mut at, mut batches) = (log.start_offset(), Vec::new());
    while at < log.end_offset() {
        let bytes = log.read(at, i64::MAX, 30_000, true).await.unwrap().concat();
        let read = decode(&bytes);
        let Some(last) = read.last() else { break };
        assert!(read[0].base_offset + i64::from(read[0].last_offset_delta) >= at);
        at = last.base_offset + i64::from(last.last_offset_delta) + 1;
        batches.extend(read);
    }
    assert!(batches.windows(2).all(|w| w[0].base_offset < w[1].base_offset));
    batches
}

#[test]
fn the_last_record_of_every_key_stays_whatever_the_input() {
    for seed in 1..12 {
        rt::block_on(async move {
            let mut f = Fixture::new(seed * 0x9e37_79b9);
            let keys = [3, 40, 5000][seed as usize % 3];
            for round in 0..3 {
                f.fill(120, keys).await;
                // The smallest map holds some 900 keys.
                let (end, passes) = f.compact_all([0, 1 << 20][round % 2]).await;
                assert!(end > 0 && end < f.log.end_offset(), "seed {seed}: {end}");
                assert!(passes == 1 || keys == 5000, "seed {seed}: {passes} passes");
                f.check(end, false).await;
                let checkpoint = f.log.checkpoint();
                f.log = open(&f.dir(), &f.config, Some(checkpoint), &f.cache).unwrap();
                f.check(end, false).await;
            }
        });
    }
}
