//! Compaction on real files, against a model of what has to stay.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use kafka_wire_core::DecodeLimits;
use kafka_wire_records::{Compression, Record, RecordBatch, RecordDecodeLimits, RecordEncodeLimits};

use crate::log::{LogError, Lsn, PartitionCheckpoint, PartitionLog, Resources};
use crate::model::topic_config::{CleanupPolicy, TopicConfig};
use crate::model::{Offset, PartitionId, Producer, ProducerEpoch, ProducerId, TopicId, WallMs};
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
    resources: Rc<Resources>,
    config: TopicConfig,
    log: Rc<PartitionLog>,
    random: Random,
    /// What was appended, by offset.
    records: BTreeMap<i64, Entry>,
    sequences: HashMap<i64, i32>,
    bounds: Bounds,
    /// The largest segment that a pass may write.
    most_bytes: u32,
}

fn open(
    dir: &Path,
    config: &TopicConfig,
    checkpoint: Option<PartitionCheckpoint>,
    resources: &Rc<Resources>,
) -> Result<Rc<PartitionLog>, LogError> {
    let id = PartitionId { topic: TopicId([9; 16]), index: 0 };
    PartitionLog::open(dir.to_path_buf(), id, config.clone(), checkpoint, resources)
}

impl Fixture {
    fn new(seed: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (resources, config) = (Resources::new(0), config());
        let log = open(&root.path().join("topics/keys-0"), &config, None, &resources).unwrap();
        let random = Random(seed | 1);
        let (records, sequences) = (BTreeMap::new(), HashMap::new());
        Self {
            root,
            resources,
            config,
            log,
            random,
            records,
            sequences,
            bounds: Bounds::default(),
            most_bytes: 1 << 30,
        }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("topics/keys-0")
    }

    fn append(&mut self, keys: u64) {
        let count = 1 + self.random.below(20) as i32;
        let (base_offset, time) = (self.log.end_offset().0, 1000 + self.log.end_offset().0 * 7 % 500);
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
            let last = LastBatch {
                data_offset: Some(Offset(base_offset + i64::from(count) - 1)),
                epoch: ProducerEpoch(2),
            };
            self.bounds.last_batches.insert(ProducerId(producer_id), last);
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
        let (end, passed) = self.try_compact(map_bytes).await?;
        Some((end, passed.unwrap()))
    }

    async fn try_compact(&self, map_bytes: usize) -> Option<(i64, Result<Passed, LogError>)> {
        let policy = Policy { most_bytes: self.most_bytes, ..Policy::from(&self.config) };
        let candidate = self.log.compaction_candidate(self.bounds.limit, &policy, WallMs(NOW)).await?;
        let work = Work { map_bytes, activity: &|| 0, rate: &|| u64::MAX, stop: &|| false };
        let passed = self.log.compact(candidate, self.bounds.clone(), &policy, &work).await;
        Some((candidate.end.0, passed))
    }

    /// Many small segments that a pass makes few larger ones of.
    async fn small_segments(seed: u64, keys: u64) -> Self {
        let mut f = Self::new(seed);
        f.config.segment_bytes = 6000;
        f.log.set_config(f.config.clone());
        f.fill(60, keys).await;
        f.config.segment_bytes = 60_000;
        f
    }

    /// As a checkpoint does it.
    async fn settle(&self) {
        self.log.forget_swaps(self.log.compaction().swaps()).await;
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
                b.producer_id == producer.0
                    && Some(b.base_offset + i64::from(b.last_offset_delta))
                        == last.data_offset.map(|offset| offset.0)
            };
            let batch = batches.iter().find(there).expect("each producer's last batch stays");
            let next = batch.base_sequence + batch.last_offset_delta + 1;
            assert_eq!(next, self.sequences[&producer.0], "its last sequence can be told");
        }
        for target in [0, 1000, 1100, 1250, 1400, 1549, 1550, 2000] {
            let expected = found.iter().find(|(_, (.., t))| *t >= target).map(|(o, (.., t))| (*o, *t));
            let looked_up = self.log.offset_for_timestamp(target).await.unwrap();
            assert_eq!(
                looked_up.map(|found| (found.offset.0, found.timestamp)),
                expected,
                "timestamp {target}"
            );
        }
        let newest = found.values().map(|(.., t)| *t).max();
        let expected = found.iter().find(|(_, (.., t))| Some(*t) == newest).map(|(o, (.., t))| (*o, *t));
        let looked_up = self.log.max_timestamp().await.unwrap();
        assert_eq!(
            looked_up.map(|found| (found.offset.0, found.timestamp)),
            expected,
            "the largest timestamp"
        );
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
    let (mut at, mut batches) = (log.start_offset().0, Vec::new());
    while at < log.end_offset().0 {
        let bytes = log.read(Offset(at), Offset(i64::MAX), 30_000, true).await.unwrap().concat();
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
                assert!(end > 0 && end < f.log.end_offset().0, "seed {seed}: {end}");
                assert!(passes == 1 || keys == 5000, "seed {seed}: {passes} passes");
                f.check(end, false).await;
                let checkpoint = f.log.checkpoint();
                f.log = open(&f.dir(), &f.config, Some(checkpoint), &f.resources).unwrap();
                f.check(end, false).await;
            }
        });
    }
}

#[test]
fn tombstones_go_once_their_horizon_has_passed() {
    rt::block_on(async {
        let mut f = Fixture::new(77);
        f.config.delete_retention_ms = 0;
        f.fill(100, 30).await;
        let (end, _) = f.compact_all(1 << 20).await;
        // The first pass only writes the horizon.
        f.check(end, false).await;
        rt::sleep(std::time::Duration::from_millis(2)).await;
        f.log.compaction().state().first_dirty.set(Some(0));
        let (end, _) = f.compact_all(1 << 20).await;
        f.check(end, true).await;
    });
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn names(dir: &Path) -> Vec<String> {
    rt::fs::read_dir_names(dir).unwrap()
}

/// A log in a directory of its own, opened as after a crash, twice: the second start finds what the first left.
async fn reopened(dir: &Path, f: &Fixture, checkpoint: &PartitionCheckpoint) -> Vec<RecordBatch> {
    let log = open(dir, &f.config, Some(checkpoint.clone()), &f.resources).unwrap();
    let first = read(&log).await;
    drop(log);
    let log = open(dir, &f.config, Some(checkpoint.clone()), &f.resources).unwrap();
    assert!(read(&log).await == first, "the second start finds the same");
    // The next checkpoint ends the replacement for good.
    let after = log.checkpoint();
    log.forget_swaps(log.compaction().swaps()).await;
    drop(log);
    let log = open(dir, &f.config, Some(after), &f.resources).unwrap();
    assert!(read(&log).await == first, "so does the start after the next checkpoint");
    assert!(!names(dir).iter().any(|n| n.ends_with(".swap") || n.ends_with(".cleaned")), "{:?}", names(dir));
    first
}

/// Every state that a crash can leave of a replacement: before the manifest is there, nothing has happened; once it
/// is, everything has.
#[test]
fn a_crash_at_any_point_leaves_the_old_segments_or_the_new() {
    for seed in [3, 4, 5] {
        rt::block_on(async move {
            let mut f = Fixture::new(seed);
            f.config.segment_bytes = 6000;
            f.log.set_config(f.config.clone());
            f.fill(60, 12).await;
            f.config.segment_bytes = 60_000;
            let scratch = tempfile::tempdir().unwrap();
            let before = scratch.path().join("before");
            copy_dir(&f.dir(), &before);
            let old_checkpoint = f.log.checkpoint();
            let old = read(&f.log).await;
            f.compact(1 << 20).await.unwrap();
            let new = read(&f.log).await;
            assert!(new != old && f.log.compaction().swaps().len() == 1);
            let after = scratch.path().join("after");
            copy_dir(&f.dir(), &after);
            let new_checkpoint = f.log.checkpoint();
            let gone: Vec<String> =
                names(&before).into_iter().filter(|n| !names(&after).contains(n)).collect();
            assert!(gone.len() >= 2, "several segments became one: {gone:?}");
            let swap = "00000000000000000000.swap";
            let (log_name, cleaned) = ("00000000000000000000.log", "00000000000000000000.cleaned");
            let mut number = 0;
            let mut image = |base: &Path| {
                number += 1;
                let dir = scratch.path().join(format!("image {number}"));
                copy_dir(base, &dir);
                dir
            };
            // Before the manifest, whole or half of the new file is there.
            for size in [0, 100, std::fs::metadata(after.join(log_name)).unwrap().len()] {
                let dir = image(&before);
                let bytes = std::fs::read(after.join(log_name)).unwrap();
                std::fs::write(dir.join(cleaned), &bytes[..size as usize]).unwrap();
                std::fs::write(dir.join("00000000000000000000.partial"), b"WEIRSW").unwrap();
                assert!(reopened(&dir, &f, &old_checkpoint).await == old);
            }
            // With the manifest: renamed or not, any of the others unlinked or not.
            for renamed in [false, true] {
                for unlinked in 0..1 << gone.len().min(5) {
                    let dir = image(&before);
                    std::fs::copy(after.join(swap), dir.join(swap)).unwrap();
                    let target = dir.join(if renamed { log_name } else { cleaned });
                    std::fs::copy(after.join(log_name), target).unwrap();
                    for (i, name) in gone.iter().enumerate() {
                        if unlinked >> i & 1 == 1 {
                            std::fs::remove_file(dir.join(name)).unwrap();
                        }
                    }
                    assert!(reopened(&dir, &f, &old_checkpoint).await == new, "{renamed} {unlinked:b}");
                }
            }
            // Done, with the next checkpoint or without it, the manifest there or not.
            assert!(reopened(&image(&after), &f, &old_checkpoint).await == new);
            assert!(reopened(&image(&after), &f, &new_checkpoint).await == new);
            let dir = image(&after);
            std::fs::remove_file(dir.join(swap)).unwrap();
            assert!(reopened(&dir, &f, &new_checkpoint).await == new);
        });
    }
}

#[test]
fn readers_go_on_while_segments_are_replaced_under_them() {
    rt::block_on(async {
        let mut f = Fixture::new(99);
        f.config.segment_bytes = 4000;
        f.log.set_config(f.config.clone());
        f.fill(200, 25).await;
        f.config.segment_bytes = 100_000;
        let (log, records) = (f.log.clone(), f.records.clone());
        let over = Rc::new(std::cell::Cell::new(false));
        let readers: Vec<_> = (0..6)
            .map(|i| {
                let (log, records, over) = (log.clone(), records.clone(), over.clone());
                rt::spawn(async move {
                    let mut rounds = 0;
                    while !over.get() || rounds == 0 {
                        log.resources().set_budget(if i == 0 { 0 } else { 1 << 20 });
                        for batch in read(&log).await {
                            for (offset, entry) in entries(&batch) {
                                assert!(records[&offset] == entry, "offset {offset}");
                            }
                        }
                        rounds += 1;
                        rt::yield_now().await;
                    }
                    rounds
                })
            })
            .collect();
        let (end, _) = f.compact_all(1 << 20).await;
        over.set(true);
        for reader in readers {
            assert!(reader.await > 0);
        }
        f.check(end, false).await;
    });
}

#[test]
fn a_damaged_batch_ends_the_pass_and_nothing_is_replaced() {
    rt::block_on(async {
        let mut f = Fixture::new(5);
        f.fill(80, 10).await;
        f.settle().await;
        let path = f.dir().join("00000000000000000000.log");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[500] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let before = names(&f.dir());
        let policy = Policy::from(&f.config);
        let candidate = f.log.compaction_candidate(f.bounds.limit, &policy, WallMs(NOW)).await.unwrap();
        let work = Work { map_bytes: 0, activity: &|| 0, rate: &|| u64::MAX, stop: &|| false };
        let done = f.log.compact(candidate, f.bounds.clone(), &policy, &work).await;
        assert!(matches!(done, Err(LogError::Corrupt { .. })), "{done:?}");
        assert_eq!(names(&f.dir()), before);
        assert!(f.log.compaction_failed().is_some());
        assert!(f.compact(0).await.is_none(), "not tried again");
    });
}

#[test]
fn nothing_is_replaced_once_the_log_is_closed_or_the_work_is_stopped() {
    rt::block_on(async {
        let mut f = Fixture::new(6);
        f.fill(80, 10).await;
        let policy = Policy::from(&f.config);
        let candidate = f.log.compaction_candidate(f.bounds.limit, &policy, WallMs(NOW)).await.unwrap();
        let stopped = Work { map_bytes: 0, activity: &|| 0, rate: &|| u64::MAX, stop: &|| true };
        let passed = f.log.compact(candidate, f.bounds.clone(), &policy, &stopped).await.unwrap();
        assert_eq!(passed, Passed::default());
        f.log.close().await.unwrap();
        let work = Work { map_bytes: 0, activity: &|| 0, rate: &|| u64::MAX, stop: &|| false };
        let before = names(&f.dir());
        let passed = f.log.compact(candidate, f.bounds.clone(), &policy, &work).await.unwrap();
        assert_eq!((passed, names(&f.dir())), (Passed::default(), before));
    });
}

#[test]
fn retention_after_a_replacement_leaves_a_manifest_that_a_start_accepts() {
    rt::block_on(async {
        let f = Fixture::small_segments(21, 12).await;
        let (end, _) = f.compact(1 << 20).await.unwrap();
        f.log.set_start_offset(Offset(end));
        assert!(f.log.retention(WallMs(NOW), || Offset(i64::MAX)).await.unwrap().segments > 0);
        let left = read(&f.log).await;
        let checkpoint = f.log.checkpoint();
        assert_eq!(checkpoint.start_offset, end);
        assert!(names(&f.dir()).iter().any(|n| n.ends_with(".swap")));
        let image = f.root.path().join("image");
        copy_dir(&f.dir(), &image);
        assert!(reopened(&image, &f, &checkpoint).await == left);
    });
}

/// A start that moved it would tell consumers in between that their offset is out of range.
#[test]
fn the_log_begins_where_it_did_when_nothing_is_left_of_its_first_segment() {
    rt::block_on(async {
        let mut f = Fixture::new(23);
        f.fill(500, 3).await;
        let bases = |dir: &Path| -> Vec<i64> {
            names(dir).iter().filter_map(|n| n.strip_suffix(".log")?.parse().ok()).collect()
        };
        let second = bases(&f.dir())[1];
        f.log.set_start_offset(Offset(second + 1));
        assert_eq!(f.log.retention(WallMs(NOW), || Offset(i64::MAX)).await.unwrap().segments, 1);
        let before = f.log.checkpoint();
        f.compact(1 << 20).await.unwrap();
        assert!(bases(&f.dir())[0] > second, "nothing is left of it");
        let after = f.log.checkpoint();
        let check = |name: &str, checkpoint: &PartitionCheckpoint| {
            let image = f.root.path().join(name);
            copy_dir(&f.dir(), &image);
            let log = open(&image, &f.config, Some(checkpoint.clone()), &f.resources).unwrap();
            assert_eq!(log.start_offset().0, second + 1, "{name}");
        };
        check("before the checkpoint", &before);
        check("after the checkpoint", &after);
        f.settle().await;
        check("without the manifests", &after);
    });
}

#[test]
fn a_log_with_a_manifest_is_not_closed_clean() {
    rt::block_on(async {
        let mut f = Fixture::small_segments(22, 12).await;
        f.compact(1 << 20).await.unwrap();
        let left = read(&f.log).await;
        f.log.close().await.unwrap();
        assert!(!f.log.checkpoint().clean, "a start has to look");
        f.log = open(&f.dir(), &f.config, Some(f.log.checkpoint()), &f.resources).unwrap();
        assert!(read(&f.log).await == left);
        f.settle().await;
        f.log.close().await.unwrap();
        assert!(f.log.checkpoint().clean);
        assert!(!names(&f.dir()).iter().any(|n| n.ends_with(".swap")));
        // The old segments, had they been listed with `clean`, would be gone without anybody noticing.
        let log = open(&f.dir(), &f.config, Some(f.log.checkpoint()), &f.resources).unwrap();
        assert!(read(&log).await == left);
    });
}

#[test]
fn a_replacement_that_the_disk_holds_up_is_finished_later() {
    rt::block_on(async {
        let mut f = Fixture::small_segments(23, 12).await;
        let old = read(&f.log).await;
        let start = f.log.checkpoint().segments[1].base_offset;
        f.log.compaction().state().hinder.set(3);
        let (end, passed) = f.try_compact(1 << 20).await.unwrap();
        assert!(matches!(passed, Err(LogError::Io { .. })), "{passed:?}");
        f.log.resources().set_budget(0);
        assert!(read(&f.log).await == old, "readers do not notice");
        assert!(!f.log.has_failed() && f.log.compaction_failed().is_none());
        let image = f.root.path().join("image");
        copy_dir(&f.dir(), &image);
        let new = reopened(&image, &f, &f.log.checkpoint()).await;
        assert!(new != old, "a start finishes it");
        // Retention would take one old segment and, by its name, the file with the records of all.
        f.log.set_start_offset(Offset(start));
        assert!(f.log.retention(WallMs(NOW), || Offset(i64::MAX)).await.is_err());
        assert!(
            f.compact(1 << 20).await.is_none(),
            "as long as it cannot be finished, nothing else is begun"
        );
        f.append(3);
        f.log.flush(None).await.unwrap();
        assert_eq!(
            f.log.retention(WallMs(NOW), || Offset(i64::MAX)).await.unwrap().segments,
            0,
            "what the start lies in stays"
        );
        assert_eq!(f.log.compaction().swaps(), [0]);
        f.settle().await;
        f.records = f.records.split_off(&start);
        let left: Vec<RecordBatch> = read(&f.log).await;
        let of_old: Vec<RecordBatch> =
            new.into_iter().filter(|b| b.base_offset + i64::from(b.last_offset_delta) >= start).collect();
        assert!(left[..of_old.len()] == of_old, "all that was compacted is there");
        assert!(end > start);
    });
}

#[test]
fn a_failed_replacement_keeps_retention_away() {
    rt::block_on(async {
        let mut f = Fixture::small_segments(24, 12).await;
        let checkpoint = f.log.checkpoint();
        let second = checkpoint.segments[1].base_offset;
        // The sidecar's name leads to something that cannot be unlinked.
        let obstacle = f.dir().join(format!("{second:020}.extents"));
        std::fs::remove_file(&obstacle).unwrap();
        std::fs::create_dir(&obstacle).unwrap();
        let (_, passed) = f.try_compact(1 << 20).await.unwrap();
        assert!(passed.is_err() && f.log.has_failed());
        f.log.set_start_offset(Offset(second));
        let before = names(&f.dir());
        assert!(f.log.retention(WallMs(NOW), || Offset(i64::MAX)).await.is_err());
        assert_eq!(names(&f.dir()), before);
        let checkpoint = f.log.checkpoint();
        std::fs::remove_dir(&obstacle).unwrap();
        f.log = open(&f.dir(), &f.config, Some(checkpoint), &f.resources).unwrap();
        let keys = |batches: Vec<RecordBatch>| -> std::collections::BTreeSet<Option<Bytes>> {
            batches.iter().flat_map(|b| b.records.iter().map(|r| r.key.clone())).collect()
        };
        assert_eq!(keys(read(&f.log).await).len(), 12, "every key has its record");
    });
}

#[test]
fn a_removed_log_leaves_its_successors_files_alone() {
    rt::block_on(async {
        let f = Fixture::small_segments(25, 12).await;
        f.compact(1 << 20).await.unwrap();
        let swaps = f.log.compaction().swaps();
        assert_eq!(swaps, [0]);
        f.log.remove().await.unwrap();
        std::fs::create_dir(f.dir()).unwrap();
        let swap = f.dir().join("00000000000000000000.swap");
        std::fs::write(&swap, b"another's").unwrap();
        f.log.forget_swaps(swaps).await;
        f.log.set_first_dirty(70, Lsn::ZERO).await;
        assert_eq!(names(&f.dir()), ["00000000000000000000.swap"]);
    });
}

#[test]
fn damage_is_of_the_file_that_was_replaced() {
    rt::block_on(async {
        let f = Fixture::small_segments(26, 12).await;
        let segment = f.log.sealed_segments()[0].clone();
        let spoil = || {
            let mut bytes = std::fs::read(segment.path()).unwrap();
            bytes[100] ^= 1;
            std::fs::write(segment.path(), bytes).unwrap();
        };
        spoil();
        assert_eq!(segment.scrub(0).await.unwrap().damaged, 1);
        // As when a cable was loose: it reads back well again.
        spoil();
        f.compact(1 << 20).await.unwrap();
        assert!(f.resources.damage().take().is_empty());
        assert!(f.log.compaction().take_replaced().contains(&segment.base_offset()));
        let checkpoint = f.log.checkpoint();
        let log = open(&f.dir(), &f.config, Some(checkpoint), &f.resources).unwrap();
        assert!(log.compaction().take_replaced().is_empty(), "the checkpoint is of the new file");
    });
}

#[test]
fn what_would_grow_too_large_is_compacted_in_parts_or_left() {
    rt::block_on(async {
        let mut f = Fixture::small_segments(27, 400).await;
        f.most_bytes = 9000;
        let (end, passes) = f.compact_all(1 << 20).await;
        assert_eq!(passes, 1);
        f.check(end, false).await;
        assert!(f.log.sealed_segments().iter().all(|s| s.meta().size <= 9000));

        let mut f = Fixture::small_segments(28, 400).await;
        f.most_bytes = 500;
        let (before, count) = (read(&f.log).await, f.log.sealed_segments().len());
        let (_, passed) = f.compact(1 << 20).await.unwrap();
        assert_eq!((passed.segments_replaced, passed.records_read), (0, passed.records_kept));
        assert!(read(&f.log).await == before && f.log.sealed_segments().len() == count);
        assert!(f.compact(1 << 20).await.is_none(), "it is not tried again and again");
        assert!(!names(&f.dir()).iter().any(|n| n.ends_with(".cleaned")));
    });
}

#[test]
fn what_was_compacted_is_not_served_from_memory_as_it_was() {
    rt::block_on(async {
        let mut f = Fixture::new(30);
        f.resources.set_budget(64 << 20);
        f.fill(120, 40).await;
        assert!(f.resources.cached_bytes() > 20_000);
        let (end, _) = f.compact_all(1 << 20).await;
        f.check(end, false).await;
        assert!(f.resources.cached_bytes() > 0, "what is behind stays");
        drop(f.log);
        assert_eq!(f.resources.cached_bytes(), 0);
    });
}

/// A pass over many segments has only those of one group open that it has replaced.
#[test]
fn replaced_files_are_let_go_of() {
    rt::block_on(async {
        let mut f = Fixture::new(29);
        f.config.segment_bytes = 1500;
        f.log.set_config(f.config.clone());
        f.fill(120, 40).await;
        f.config.segment_bytes = 3500;
        let segments = f.log.sealed_segments().len();
        assert!(segments > 20, "{segments}");
        let (dir, most) = (f.dir(), std::cell::Cell::new(0));
        let count = || {
            let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let gone = links
                .filter_map(|l| std::fs::read_link(l.path()).ok())
                .filter(|to| to.starts_with(&dir) && to.to_string_lossy().ends_with(" (deleted)"));
            most.set(most.get().max(gone.count()));
            0
        };
        let policy = Policy::from(&f.config);
        let candidate = f.log.compaction_candidate(f.bounds.limit, &policy, WallMs(NOW)).await.unwrap();
        let work = Work { map_bytes: 1 << 20, activity: &count, rate: &|| u64::MAX, stop: &|| false };
        let passed = f.log.compact(candidate, f.bounds.clone(), &policy, &work).await.unwrap();
        assert!(passed.segments_replaced > 15, "{passed:?}");
        assert!(most.get() <= 4, "{} files are gone and open", most.get());
        f.check(candidate.end.0, false).await;
    });
}

mod transactional {
    use super::super::filter::{Kept, Outcome, Rules, Scratch, filter, index};
    use super::super::offsets::OffsetMap;
    use super::super::transactions::{AbortedTransaction, Transactions};
    use super::*;
    use crate::wire::control::{EndMarker, encode};

    /// One record of key `key` at `offset`, in a transaction of `producer`.
    fn data(offset: i64, producer: i64, key: &'static str) -> Bytes {
        let record = Record {
            attributes: 0,
            timestamp_delta: 0,
            offset_delta: 0,
            key: Some(key.into()),
            value: Some("value".into()),
            headers: Vec::new(),
        };
        let batch = RecordBatch {
            base_offset: offset,
            last_offset_delta: 0,
            partition_leader_epoch: 0,
            compression: Compression::None,
            timestamp_type: kafka_wire_records::TimestampType::CreateTime,
            is_transactional: true,
            is_control: false,
            has_delete_horizon: false,
            base_timestamp: 10,
            max_timestamp: 10,
            producer_id: producer,
            producer_epoch: 0,
            base_sequence: offset as i32,
            records: vec![record],
        };
        batch.encode_to_bytes(RecordEncodeLimits::default()).unwrap()
    }

    fn marker(offset: i64, producer: i64, commit: bool) -> Bytes {
        let mut bytes =
            encode(EndMarker { commit, coordinator_epoch: 0 }, Producer::new(producer, 0), WallMs(10));
        crate::wire::batch::stamp(&mut bytes, offset, 0);
        bytes.freeze()
    }

    /// One pass over a log: what is left of it, and the markers that outlived their transactions.
    fn pass(log: &[Bytes], aborted: &[AbortedTransaction], now_ms: i64) -> (Vec<Bytes>, Vec<i64>) {
        let (mut map, mut scratch) = (OffsetMap::new(0), Scratch::new(1 << 20));
        let mut transactions = Transactions::new(aborted);
        for batch in log {
            let header = BatchHeader::parse(batch).unwrap();
            assert!(index(batch, &header, 0, &mut map, &mut transactions, &mut scratch));
        }
        let (now, last_batches) = (WallMs(now_ms), HashMap::new());
        let rules = Rules { now, delete_retention_ms: 100, last_batches, round_end: Offset(-1) };
        let mut transactions = Transactions::new(aborted);
        let mut left = Vec::new();
        for batch in log {
            let header = BatchHeader::parse(batch).unwrap();
            let mut out = Vec::new();
            let Outcome { kept, .. } =
                filter(batch, &header, &map, &mut transactions, &rules, &mut scratch, &mut out);
            assert_eq!(out.is_empty(), kept == Kept::Nothing);
            assert_eq!(out == **batch, kept == Kept::AsItWas);
            left.extend((!out.is_empty()).then(|| Bytes::from(out)));
        }
        (left, transactions.take_outlived().into_iter().map(|marker| marker.0).collect())
    }

    /// A transaction of producer 1.
    fn aborted(first: i64, last: i64) -> AbortedTransaction {
        let producer_id = ProducerId(1);
        AbortedTransaction { producer_id, first_offset: Offset(first), last_offset: Offset(last) }
    }

    fn offsets(log: &[Bytes]) -> Vec<i64> {
        log.iter().map(|b| BatchHeader::parse(b).unwrap().base_offset).collect()
    }

    #[test]
    fn only_what_lies_between_first_offset_and_marker_is_aborted() {
        // The log starts behind the marker, or compaction has taken it.
        let log = [data(5, 1, "c"), marker(6, 1, true)];
        let (left, _) = pass(&log, &[aborted(0, 3)], 1000);
        assert_eq!(offsets(&left), [5, 6]);
        // The same within the log, and the newer one counts as the key's newest.
        let log = [data(0, 2, "c"), marker(1, 2, true), data(5, 1, "c"), marker(6, 1, true)];
        let (left, _) = pass(&log, &[aborted(2, 4)], 1000);
        assert_eq!(offsets(&left), [1, 5, 6]);
        // A pass that ends before the marker.
        let log = [data(2, 1, "a"), data(3, 1, "b"), data(4, 2, "d")];
        let (left, _) = pass(&log, &[aborted(2, 7)], 1000);
        assert_eq!(offsets(&left), [4]);
        // Several of one producer, listed in any order.
        let log = [
            data(0, 1, "a"),
            marker(1, 1, false),
            data(2, 1, "b"),
            marker(3, 1, true),
            data(4, 1, "c"),
            marker(5, 1, false),
            data(6, 1, "d"),
        ];
        let (left, outlived) = pass(&log, &[aborted(4, 5), aborted(0, 1)], 1000);
        assert_eq!((offsets(&left), outlived), (vec![1, 2, 3, 5, 6], vec![]));
    }

    #[test]
    fn a_marker_stays_while_its_transaction_is_listed() {
        let aborted = [aborted(0, 3)];
        let log = [marker(3, 1, false), data(5, 1, "c"), marker(6, 1, true)];
        let (left, outlived) = pass(&log, &aborted, 1000);
        assert_eq!((offsets(&left), outlived), (vec![3, 5, 6], vec![3]));
        assert_eq!(BatchHeader::parse(&left[0]).unwrap().delete_horizon(), Some(1100));
        // Its time is over, but the pass before did not get as far as unlisting it.
        let (left, outlived) = pass(&left, &aborted, 2000);
        assert_eq!((offsets(&left), outlived), (vec![3, 5, 6], vec![3]));
        let (left, outlived) = pass(&left, &[], 2000);
        assert_eq!((offsets(&left), outlived), (vec![5, 6], vec![]));
    }

    #[test]
    fn a_marker_stays_with_records_that_no_list_names() {
        let log = [data(0, 1, "a"), marker(1, 1, false)];
        let (left, _) = pass(&log, &[], 1000);
        let (left, outlived) = pass(&left, &[], 9000);
        assert_eq!((offsets(&left), outlived), (vec![0, 1], vec![]));
        assert_eq!(BatchHeader::parse(&left[1]).unwrap().delete_horizon(), None);
    }

    #[test]
    fn aborted_records_go_and_markers_follow_when_their_time_is_over() {
        let log = [
            data(0, 1, "a"),
            data(1, 2, "a"),
            data(2, 1, "b"),
            marker(3, 1, false),
            marker(4, 2, true),
            data(5, 1, "c"),
            marker(6, 1, true),
        ];
        let aborted = [aborted(0, 3)];
        let (left, outlived) = pass(&log, &aborted, 1000);
        assert_eq!(offsets(&left), [1, 3, 4, 5, 6], "aborted records are gone, and do not count as newest");
        assert!(outlived.is_empty(), "its batches were still met");
        let (left, outlived) = pass(&left, &aborted, 1001);
        assert_eq!((offsets(&left), outlived), (vec![1, 3, 4, 5, 6], vec![3]));
        assert_eq!(BatchHeader::parse(&left[1]).unwrap().delete_horizon(), Some(1101));
        let (left, _) = pass(&left, &[], 1100);
        assert_eq!(offsets(&left), [1, 3, 4, 5, 6], "its horizon is not reached");
        let (left, _) = pass(&left, &[], 1101);
        assert_eq!(offsets(&left), [1, 4, 5, 6]);
        let newer = [left.clone(), vec![data(7, 3, "a"), data(8, 3, "c"), marker(9, 3, true)]].concat();
        let (left, _) = pass(&newer, &[], 2000);
        assert_eq!(offsets(&left), [4, 6, 7, 8, 9], "the commits' records were replaced by newer ones");
        let (left, _) = pass(&left, &[], 2001);
        let (left, _) = pass(&left, &[], 2101);
        assert_eq!(offsets(&left), [7, 8, 9]);
    }
}
