//! A partition log on real files, against a list of batches.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use kafka_wire_records::Compression;

use crate::log::segment::reader::Wanted;
use crate::log::segment::testing::{batch, records_at};
use crate::log::{LogError, Lsn, PartitionCheckpoint, PartitionLog, Resources};
use crate::model::{LeaderEpoch, Offset, PartitionId, TopicConfig, TopicId, WallMs};
use crate::rt;
use crate::wire::batch::BatchHeader;

const FOREVER: Offset = Offset(i64::MAX);

#[derive(Clone)]
struct Stored {
    base_offset: i64,
    next_offset: i64,
    timestamps: Vec<i64>,
    bytes: Bytes,
}

/// A log, and the batches that it has to hold.
struct Fixture {
    root: tempfile::TempDir,
    resources: Rc<Resources>,
    config: TopicConfig,
    log: Rc<PartitionLog>,
    batches: Vec<Stored>,
    epoch: i32,
}

impl Fixture {
    fn new(config: TopicConfig, budget: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let resources = Resources::new(budget);
        let log = open(root.path(), &config, None, &resources).unwrap();
        Self { root, resources, config, log, batches: Vec::new(), epoch: 0 }
    }

    fn dir(&self) -> PathBuf {
        directory(self.root.path())
    }

    fn append(&mut self, timestamps: &[i64], filler: usize, codec: Compression) {
        let mut records = records_at(timestamps);
        records.iter_mut().for_each(|r| r.1.resize(r.1.len() + filler, b'.'));
        let base_offset = self.log.end_offset().0;
        let bytes = batch(base_offset, self.epoch, codec, &records);
        let stored = Stored {
            base_offset,
            next_offset: base_offset + timestamps.len() as i64,
            timestamps: timestamps.to_vec(),
            bytes,
        };
        self.give(&stored);
        self.batches.push(stored);
    }

    fn give(&self, batch: &Stored) {
        let header = BatchHeader::parse(&batch.bytes).unwrap();
        self.log.append(&header, batch.bytes.clone(), Lsn(batch.base_offset as u64 + 1));
    }

    /// Starts again from `checkpoint`, with what the journal would bring back.
    fn reopen(&mut self, checkpoint: Option<PartitionCheckpoint>) {
        self.log = open(self.root.path(), &self.config, checkpoint, &self.resources).unwrap();
        let end = self.log.end_offset().0;
        let replay: Vec<Stored> = self.batches.iter().filter(|b| b.base_offset >= end).cloned().collect();
        replay.iter().for_each(|b| self.give(b));
    }

    fn expected(&self, offset: i64, limit: i64, max_bytes: usize, one: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for b in self.batches.iter().filter(|b| b.next_offset > offset) {
            let fits = out.len() + b.bytes.len() <= max_bytes || (one && out.is_empty());
            if offset >= limit || b.base_offset >= limit || !fits {
                break;
            }
            out.extend_from_slice(&b.bytes);
        }
        out
    }

    async fn check_read(&self, offset: i64, limit: i64, max_bytes: usize, one: bool) {
        let expected = self.expected(offset, limit, max_bytes, one);
        let read = self.log.read(Offset(offset), Offset(limit), max_bytes, one).await.unwrap();
        assert!(read.concat() == expected, "read({offset}, {limit}, {max_bytes}, {one})");
        if let Some(cached) = self.log.read_cached(Offset(offset), Offset(limit), max_bytes, one) {
            assert!(cached.concat() == expected, "read_cached({offset}, {limit}, {max_bytes}, {one})");
        }
    }

    async fn check_everything(&self) {
        let mut at = self.log.start_offset().0;
        while at < self.log.end_offset().0 {
            self.check_read(at, i64::MAX, 100_000, true).await;
            let read = self.log.read(Offset(at), FOREVER, 100_000, true).await.unwrap().concat();
            at = last_batch(&read).next_offset();
        }
    }

    async fn check_timestamp(&self, target: i64) {
        let start = self.log.start_offset().0;
        let expected = self.batches.iter().find_map(|b| {
            let mut records = b.timestamps.iter().enumerate().map(|(i, t)| (b.base_offset + i as i64, *t));
            records.find(|(offset, t)| *t >= target && *offset >= start)
        });
        let found = self.log.offset_for_timestamp(target).await.unwrap();
        assert_eq!(found.map(|found| (found.offset.0, found.timestamp)), expected, "timestamp {target}");
    }
}

fn directory(root: &Path) -> PathBuf {
    root.join("topics/numbers-0")
}

fn open(
    root: &Path,
    config: &TopicConfig,
    checkpoint: Option<PartitionCheckpoint>,
    resources: &Rc<Resources>,
) -> Result<Rc<PartitionLog>, LogError> {
    let id = PartitionId { topic: TopicId([9; 16]), index: 0 };
    PartitionLog::open(directory(root), id, config.clone(), checkpoint, resources)
}

fn last_batch(bytes: &[u8]) -> BatchHeader {
    let mut at = 0;
    loop {
        let header = BatchHeader::parse(&bytes[at..]).unwrap();
        at += header.size();
        if at == bytes.len() {
            return header;
        }
    }
}

fn small_segments() -> TopicConfig {
    TopicConfig { segment_bytes: 300_000, file_delete_delay_ms: 20, ..TopicConfig::default() }
}

/// xorshift: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn seed() -> u64 {
    let given = std::env::var("WEIR_TEST_SEED").ok().and_then(|s| s.parse().ok());
    given.unwrap_or_else(|| std::process::id() as u64 * 7919 + rt::unix_ms() as u64)
}

#[test]
fn random_life_of_a_log() {
    let seed = seed();
    println!("WEIR_TEST_SEED={seed}");
    for round in 0..6 {
        rt::block_on(random_life(seed.wrapping_mul(6).wrapping_add(round) | 1, round % 2 == 0));
    }
}

async fn random_life(seed: u64, small: bool) {
    let mut random = Random(seed);
    let budget = if small { 200_000 } else { 50 << 20 };
    let mut f = Fixture::new(small_segments(), budget);
    let mut clock = 1_000_000;
    let mut checkpoint: Option<PartitionCheckpoint> = None;
    for _ in 0..150 {
        match random.below(12) {
            0..=5 => {
                for _ in 0..=random.below(12) {
                    clock += random.below(50) as i64 - 15;
                    let count = 1 + random.below(20) as i64;
                    let times: Vec<i64> = (0..count).map(|i| clock + (i * 7) % 11).collect();
                    let most = if random.below(10) == 0 { 20_000 } else { 300 };
                    let filler = random.below(most) as usize;
                    f.epoch += i32::from(random.below(40) == 0);
                    let codec = if random.below(4) == 0 { Compression::Lz4 } else { Compression::None };
                    f.append(&times, filler, codec);
                }
            }
            6 => f.log.flush(None).await.unwrap(),
            7 => {
                let upto = f.log.oldest_tail_lsn().map(|lsn| Lsn(lsn.0 + random.below(100)));
                f.log.flush(upto).await.unwrap();
                assert!(upto.is_none_or(|upto| f.log.oldest_tail_lsn().is_none_or(|oldest| oldest > upto)));
            }
            8 => f.log.write(None).await.unwrap(),
            9 => checkpoint = Some(f.log.checkpoint()),
            10 if random.below(3) == 0 => {
                // A crash: what came after the checkpoint is replayed.
                f.reopen(checkpoint.clone());
            }
            10 if random.below(3) == 0 => {
                f.log.close().await.unwrap();
                let clean = f.log.checkpoint();
                assert!(clean.clean);
                f.reopen(Some(clean.clone()));
                checkpoint = Some(clean);
            }
            _ => random_reads(&f, &mut random, clock).await,
        }
        assert_eq!(f.log.end_offset().0, f.batches.last().map_or(0, |b| b.next_offset));
    }
    f.check_everything().await;
    f.log.flush(None).await.unwrap();
    assert_eq!(f.resources.pinned_bytes(), 0);
    assert!(f.resources.cached_bytes() <= budget);
    f.resources.set_budget(0);
    f.check_everything().await;
}

async fn random_reads(f: &Fixture, random: &mut Random, clock: i64) {
    let end = f.log.end_offset().0;
    for _ in 0..8 {
        let offset = random.below(end as u64 + 1) as i64;
        let limit = offset + random.below(end as u64 / 2 + 2) as i64;
        let max = random.below(400_000) as usize;
        f.check_read(offset, limit, max, random.below(2) == 0).await;
    }
    f.check_timestamp(1_000_000 + random.below((clock - 999_000).max(1) as u64) as i64).await;
    let newest = f.batches.iter().flat_map(|b| b.timestamps.iter().copied()).max();
    assert_eq!(f.log.max_timestamp().await.unwrap().map(|found| found.timestamp), newest);
}

#[test]
fn an_empty_log_costs_no_file() {
    rt::block_on(async {
        let f = Fixture::new(TopicConfig::default(), 1 << 20);
        assert_eq!((f.log.start_offset().0, f.log.end_offset().0, f.log.size_bytes()), (0, 0, 0));
        assert_eq!(f.log.read_cached(Offset(0), FOREVER, 100, true), Some(vec![]));
        assert!(f.log.read(Offset(0), FOREVER, 100, true).await.unwrap().is_empty());
        assert!(matches!(
            f.log.read(Offset(1), FOREVER, 100, true).await,
            Err(LogError::OffsetOutOfRange { .. })
        ));
        assert_eq!(f.log.offset_for_timestamp(0).await.unwrap(), None);
        assert_eq!(f.log.max_timestamp().await.unwrap(), None);
        f.log.flush(None).await.unwrap();
        f.log.close().await.unwrap();
        assert!(f.log.checkpoint().clean);
        assert!(!f.dir().exists());
    });
}

#[test]
fn files_hold_plain_batches_and_only_the_active_one_is_padded() {
    rt::block_on(async {
        let mut f = Fixture::new(small_segments(), 50 << 20);
        for i in 0..200 {
            f.append(&[i], 3_000, Compression::None);
        }
        f.log.flush(None).await.unwrap();
        assert_eq!(f.log.segment_durable_offset().0, 200);
        assert_eq!(f.log.segment_count(), 3);
        let all: Vec<u8> = f.batches.iter().flat_map(|b| b.bytes.to_vec()).collect();
        let mut files = Vec::new();
        for base in f.log.checkpoint().segments.iter().map(|s| s.base_offset) {
            files.push(std::fs::read(f.dir().join(format!("{base:020}.log"))).unwrap());
        }
        let sealed = files[0].len() + files[1].len();
        assert!(files[0].len() <= 300_000);
        assert_eq!(files.concat()[..all.len()], all);
        assert_eq!(files[2].len(), (all.len() - sealed).next_multiple_of(4096));
        // What Kafka's reader sees behind the last batch: a batch cut short.
        assert_eq!(files[2][all.len() - sealed..][8..12], i32::MAX.to_be_bytes());
        f.log.close().await.unwrap();
        let last = std::fs::metadata(
            f.dir().join(format!("{:020}.log", f.log.checkpoint().segments[2].base_offset)),
        );
        assert_eq!(last.unwrap().len() as usize, all.len() - sealed);
        f.append(&[7], 10, Compression::None);
        f.log.flush(None).await.unwrap();
        f.resources.set_budget(0);
        f.check_everything().await;
    });
}

#[test]
fn small_batches_are_read_from_the_chunk_in_one_slice() {
    rt::block_on(async {
        let mut f = Fixture::new(TopicConfig::default(), 50 << 20);
        for i in 0..3000 {
            f.append(&[i], 300, Compression::None);
        }
        f.log.flush(None).await.unwrap();
        let read = f.log.read_cached(Offset(0), FOREVER, 600_000, false).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read.concat(), f.expected(0, i64::MAX, 600_000, false));
    });
}

#[test]
fn a_lost_or_stale_sidecar_is_made_again() {
    rt::block_on(async {
        let config = TopicConfig { segment_bytes: 4 << 20, ..TopicConfig::default() };
        let mut f = Fixture::new(config, 0);
        let mut early = None;
        for i in 0..400 {
            f.append(&[i, i + 1], 10_000, Compression::None);
            if i % 50 == 10 {
                f.log.flush(None).await.unwrap();
            }
            if i == 100 {
                early = Some(f.log.checkpoint());
            }
        }
        f.log.flush(None).await.unwrap();
        let late = f.log.checkpoint();
        let sidecars = || -> Vec<PathBuf> {
            let paths = std::fs::read_dir(f.dir()).unwrap().map(|e| e.unwrap().path());
            paths.filter(|p| p.extension().is_some_and(|e| e == "extents")).collect()
        };
        let first_sidecars = sidecars();
        assert_eq!(first_sidecars.len(), 2);
        std::fs::remove_file(&first_sidecars[0]).unwrap();
        flip(&first_sidecars[1], 2000);
        f.reopen(Some(late));
        f.check_everything().await;
        // Back to an early checkpoint: the active segment is cut, and its sidecar says too much.
        f.reopen(early);
        f.check_everything().await;
        f.log.flush(None).await.unwrap();
        f.check_everything().await;
    });
}

fn flip(path: &Path, at: u64) {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 0x40]).unwrap();
}

#[test]
fn a_bad_stretch_is_reported_and_its_neighbours_stay_readable() {
    rt::block_on(async {
        let config = TopicConfig { segment_bytes: 2 << 20, ..TopicConfig::default() };
        let mut f = Fixture::new(config, 0);
        for i in 0..400 {
            f.append(&[i], 10_000, Compression::None);
        }
        f.log.close().await.unwrap();
        let checkpoint = f.log.checkpoint();
        let file = f.dir().join(format!("{:020}.log", 0));
        flip(&file, 1_000_000 + 5);
        for lose_sidecar in [false, true] {
            if lose_sidecar {
                std::fs::remove_file(file.with_extension("extents")).unwrap();
            }
            f.reopen(Some(checkpoint.clone()));
            let mut bad = Vec::new();
            for offset in 0..400 {
                match f.log.read(Offset(offset), FOREVER, 1, true).await {
                    Ok(read) => assert!(read.concat() == f.batches[offset as usize].bytes),
                    Err(LogError::Corrupt { path, offset: position, what }) => {
                        assert_eq!(path, file);
                        assert!((900_000..=1_000_005).contains(&position), "{position}");
                        assert!(what.contains("offset"), "{what}");
                        bad.push(offset);
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            assert!((1..=7).contains(&bad.len()), "{bad:?}");
            // A long read stops before the bad stretch; the next one meets it.
            let read = f.log.read(Offset(0), FOREVER, 3 << 20, true).await.unwrap().concat();
            assert_eq!(last_batch(&read).next_offset(), bad[0]);
        }
        assert!(file.exists());
    });
}

#[test]
fn an_active_segment_that_lost_bytes_is_left_alone() {
    rt::block_on(async {
        let mut f = Fixture::new(TopicConfig::default(), 0);
        for i in 0..20 {
            f.append(&[i], 20_000, Compression::None);
        }
        f.log.flush(None).await.unwrap();
        let checkpoint = f.log.checkpoint();
        let file =
            std::fs::OpenOptions::new().write(true).open(f.dir().join(format!("{:020}.log", 0))).unwrap();
        file.set_len(200_000).unwrap();
        f.reopen(Some(checkpoint));
        f.append(&[5], 10, Compression::None);
        f.log.flush(None).await.unwrap();
        assert!(f.log.read(Offset(2), FOREVER, 1, true).await.unwrap().concat() == f.batches[2].bytes);
        assert!(matches!(f.log.read(Offset(15), FOREVER, 1, true).await, Err(LogError::Corrupt { .. })));
        assert!(f.log.read(Offset(20), FOREVER, 1, true).await.unwrap().concat() == f.batches[20].bytes);
        assert_eq!(f.log.checkpoint().segments.len(), 2);
    });
}

#[test]
fn without_a_checkpoint_everything_valid_is_found() {
    rt::block_on(async {
        let mut f = Fixture::new(small_segments(), 0);
        for i in 0..300 {
            f.epoch = i / 100;
            f.append(&[i64::from(i)], 3_000, Compression::Gzip);
            if i % 30 == 0 {
                f.log.flush(None).await.unwrap();
            }
        }
        f.log.flush(None).await.unwrap();
        let known = f.log.checkpoint();
        f.reopen(None);
        let found = f.log.checkpoint();
        assert_eq!((found.segment_durable_offset, &found.epochs), (300, &known.epochs));
        assert_eq!(found.segments.len(), known.segments.len());
        f.check_everything().await;
        // A torn end: garbage where the next chunk would be.
        let last = f.dir().join(format!("{:020}.log", known.segments.last().unwrap().base_offset));
        let mut file = std::fs::OpenOptions::new().append(true).open(&last).unwrap();
        file.write_all(&[0xab; 5000]).unwrap();
        f.reopen(None);
        assert_eq!(f.log.end_offset().0, 300);
        assert_eq!(std::fs::metadata(last.with_extension("log.aside")).unwrap().len(), 5000);
        f.append(&[1], 5, Compression::None);
        f.log.flush(None).await.unwrap();
        f.check_everything().await;
    });
}

#[test]
fn timestamps_out_of_order() {
    rt::block_on(async {
        let mut f = Fixture::new(small_segments(), 0);
        let times = |i: i64| [1000 + (i * 37) % 200, 1000 + (i * 91) % 300 - 50, 1000 + i];
        for i in 0..250 {
            let codec = [Compression::None, Compression::Zstd, Compression::Snappy][i as usize % 3];
            f.append(&times(i), 2_000, codec);
            if i == 200 {
                f.log.flush(None).await.unwrap();
            }
        }
        assert!(f.log.segment_count() > 1);
        for target in (900..1400).step_by(7) {
            f.check_timestamp(target).await;
        }
        let newest = (0..250).flat_map(times).max().unwrap();
        let first = f.batches.iter().position(|b| b.timestamps.contains(&newest)).unwrap();
        let at = f.batches[first].timestamps.iter().position(|t| *t == newest).unwrap() as i64;
        let found = f.log.max_timestamp().await.unwrap().unwrap();
        assert_eq!((found.offset.0, found.timestamp), (f.batches[first].base_offset + at, newest));
        f.log.set_start_offset(Offset(400));
        f.check_timestamp(1000).await;
        f.check_timestamp(1180).await;
    });
}

#[test]
fn retention_while_reading() {
    rt::block_on(async {
        let mut f = Fixture::new(small_segments(), 0);
        for i in 0..400 {
            f.append(&[i], 3_000, Compression::None);
        }
        f.log.flush(None).await.unwrap();
        let log = f.log.clone();
        let before = f.log.checkpoint();
        let reader = rt::spawn(async move { log.read(Offset(0), FOREVER, 500_000, true).await });
        rt::yield_now().await;
        f.config.retention_bytes = 400_000;
        f.log.set_config(f.config.clone());
        let retired = f.log.retention(WallMs(0), || FOREVER).await.unwrap();
        assert_eq!((retired.segments, f.log.segment_count()), (2, 3));
        assert_eq!(f.log.start_offset().0, before.segments[2].base_offset);
        match reader.await {
            Ok(read) => {
                assert_eq!(f.expected(0, i64::MAX, 500_000, true)[..read.concat().len()], read.concat())
            }
            Err(e) => assert!(matches!(e, LogError::OffsetOutOfRange { .. }), "{e}"),
        }
        assert!(matches!(
            f.log.read(Offset(0), FOREVER, 1, true).await,
            Err(LogError::OffsetOutOfRange { .. })
        ));
        f.check_everything().await;
        rt::sleep(std::time::Duration::from_millis(200)).await;
        let names: Vec<String> = rt::fs::read_dir_names(f.dir()).unwrap();
        assert_eq!(names.iter().filter(|n| n.ends_with(".log")).count(), 3, "{names:?}");
        let dead: Vec<_> = names.iter().filter(|n| n.ends_with("deleted")).collect();
        assert_eq!(
            dead,
            [&format!("{:020}.log.deleted", before.segments[1].base_offset)],
            "only the mark is left"
        );
        assert_eq!(rt::fs::len(f.dir().join(dead[0])).unwrap(), 0);
        // A start from before the deletion: what is gone stays gone, also the next time.
        for _ in 0..2 {
            f.reopen(Some(before.clone()));
            assert_eq!((f.log.start_offset().0, f.log.segment_count()), (before.segments[2].base_offset, 3));
            f.check_everything().await;
        }
        f.config.retention_ms = 1;
        f.log.set_config(f.config.clone());
        f.log.retention(WallMs(1 << 40), || FOREVER).await.unwrap();
        rt::sleep(std::time::Duration::from_millis(200)).await;
        let mut names: Vec<String> = rt::fs::read_dir_names(f.dir()).unwrap();
        names.retain(|name| !name.ends_with(".topic"));
        assert_eq!(names, [format!("{:020}.log.deleted", before.segments[4].base_offset)]);
        // Deleted while the checkpoint still has it as the active segment.
        f.reopen(Some(before));
        assert_eq!((f.log.start_offset().0, f.log.end_offset().0, f.log.segment_count()), (400, 400, 0));
    });
}

#[test]
fn a_torn_chunk_past_the_checkpoint_is_replayed() {
    rt::block_on(async {
        let mut f = Fixture::new(small_segments(), 0);
        for i in 0..60 {
            f.append(&[i], 3_000, Compression::None);
        }
        f.log.flush(None).await.unwrap();
        let checkpoint = f.log.checkpoint();
        for i in 60..130 {
            f.append(&[i], 3_000, Compression::None);
        }
        f.log.write(Some(Lsn(90))).await.unwrap();
        assert_eq!(f.log.checkpoint(), checkpoint, "only what was synced counts");
        let path = f.dir().join(format!("{:020}.log", 0));
        let valid = u64::from(checkpoint.segments[0].size);
        for at in [valid, valid + 700, valid.next_multiple_of(4096) + 512] {
            flip(&path, at);
        }
        f.reopen(Some(checkpoint));
        assert_eq!((f.log.segment_durable_offset().0, f.log.end_offset().0), (60, 130));
        assert_eq!(rt::fs::len(&path).unwrap(), valid);
        assert_eq!(f.log.segment_count(), 1);
        f.log.flush(None).await.unwrap();
        f.check_everything().await;
    });
}

#[test]
fn expired_logs_end_empty_and_go_on() {
    rt::block_on(async {
        let config = TopicConfig { retention_ms: 1000, ..small_segments() };
        let mut f = Fixture::new(config, 50 << 20);
        for i in 0..10 {
            f.append(&[i], 10, Compression::None);
        }
        assert_eq!(f.log.retention(WallMs(1000), || FOREVER).await.unwrap().segments, 0);
        f.log.flush(None).await.unwrap();
        f.append(&[500], 10, Compression::None);
        assert_eq!(f.log.retention(WallMs(1500), || FOREVER).await.unwrap().segments, 0);
        assert_eq!(f.log.retention(WallMs(1501), || FOREVER).await.unwrap().segments, 1);
        assert_eq!((f.log.start_offset().0, f.log.end_offset().0, f.log.size_bytes()), (11, 11, 0));
        let checkpoint = f.log.checkpoint();
        f.append(&[9], 10, Compression::None);
        f.check_everything().await;
        f.reopen(Some(checkpoint));
        assert_eq!((f.log.start_offset().0, f.log.end_offset().0), (11, 12));
        f.log.flush(None).await.unwrap();
        f.check_everything().await;
    });
}

#[test]
fn start_offset_and_epochs() {
    rt::block_on(async {
        let mut f = Fixture::new(small_segments(), 50 << 20);
        for i in 0..300 {
            f.epoch = [0, 3, 4][i as usize / 100];
            f.append(&[i], 3_000, Compression::None);
        }
        let ended = |epoch| {
            let ended = f.log.epoch_end_offset(LeaderEpoch(epoch));
            ended.map(|(epoch, end)| (epoch.0, end.0))
        };
        assert_eq!(ended(2), Some((0, 100)));
        assert_eq!(ended(4), Some((4, 300)));
        assert_eq!(ended(5), None);
        f.log.flush(None).await.unwrap();
        f.log.set_start_offset(Offset(150));
        assert_eq!(f.log.read_cached(Offset(149), FOREVER, 1, true), None);
        f.log.retention(WallMs(0), || FOREVER).await.unwrap();
        assert_eq!((f.log.start_offset().0, f.log.segment_count()), (150, 3));
        assert_eq!(ended(0), Some((0, 150)));
        f.reopen(Some(f.log.checkpoint()));
        assert_eq!((f.log.start_offset().0, f.log.latest_epoch()), (150, Some(LeaderEpoch(4))));
        f.check_everything().await;
    });
}

#[test]
fn removal_ends_everything() {
    rt::block_on(async {
        let mut f = Fixture::new(small_segments(), 50 << 20);
        for i in 0..300 {
            f.append(&[i], 3_000, Compression::None);
        }
        f.log.write(None).await.unwrap();
        f.append(&[1], 10, Compression::None);
        let topics = f.root.path().join("topics");
        let dead = f.log.remove().await.unwrap().expect("it had a directory");
        assert!(matches!(f.log.read(Offset(0), FOREVER, 1, true).await, Err(LogError::Removed)));
        f.log.flush(None).await.unwrap();
        assert_eq!(f.log.remove().await.unwrap(), None);
        assert_eq!((f.resources.pinned_bytes(), f.resources.cached_bytes()), (0, 0));
        let names = rt::fs::read_dir_names(&topics).unwrap();
        assert!(names.len() == 1 && crate::log::files::dead::is_removed_directory(&names[0]), "{names:?}");
        assert_eq!(topics.join(&names[0]), dead);
        // A topic of the same name starts afresh.
        f.batches.clear();
        f.reopen(None);
        f.append(&[1], 10, Compression::None);
        f.log.flush(None).await.unwrap();
        f.check_everything().await;
    });
}

#[test]
fn a_deleted_segment_that_is_cut_is_no_damage() {
    rt::block_on(async {
        let mut f = Fixture::new(small_segments(), 0);
        for i in 0..200 {
            f.append(&[i], 3_000, Compression::None);
        }
        f.log.flush(None).await.unwrap();
        let segment = f.log.every_segment()[0].clone();
        segment.freeze().await.unwrap();
        let wanted = || Wanted { offset: 0, limit: i64::MAX, max_bytes: 1 << 20, at_least_one: true };
        for deleted in [true, false] {
            segment.set_deleted(deleted);
            let file = std::fs::File::options().write(true).open(segment.path()).unwrap();
            file.set_len(4096).unwrap();
            let error = segment.read(wanted()).await.unwrap_err();
            assert_eq!(matches!(error, LogError::Removed), deleted, "{error}");
            assert_eq!(f.resources.damage().take().is_empty(), deleted);
        }
    });
}

#[test]
fn flushes_appends_and_reads_at_once() {
    rt::block_on(async {
        let mut f = Fixture::new(small_segments(), 300_000);
        let mut tasks = Vec::new();
        for i in 0..2000 {
            f.append(&[i], 500, Compression::None);
            if i % 50 == 0 {
                let log = f.log.clone();
                tasks.push(rt::spawn(async move { log.flush(None).await.map(drop) }));
                let (log, at) = (f.log.clone(), i / 2);
                tasks.push(rt::spawn(async move {
                    let read = log.read(Offset(at), FOREVER, 200_000, true).await?.concat();
                    assert_eq!(BatchHeader::parse(&read).unwrap().base_offset, at);
                    Ok(())
                }));
                rt::yield_now().await;
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
        f.log.flush(None).await.unwrap();
        assert_eq!(f.log.segment_durable_offset().0, 2000);
        f.check_everything().await;
    });
}

#[test]
fn of_what_the_journal_brings_back_the_oldest_segment_goes_last() {
    rt::block_on(async {
        let mut f = Fixture::new(small_segments(), 0);
        let checkpoint = f.log.checkpoint();
        for i in 0..400 {
            f.append(&[i], 3_000, Compression::None);
        }
        f.log.flush(None).await.unwrap();
        let bases: Vec<i64> = f.log.checkpoint().segments.iter().map(|s| s.base_offset).collect();
        assert!(bases.len() > 3, "{bases:?}");
        let path = |base: i64| f.dir().join(format!("{base:020}.log"));
        std::fs::rename(path(0), path(0).with_extension("log.deleted")).unwrap();
        let (oldest, later) = (format!("{:020}.log", bases[1]), format!("{:020}.log", bases[2]));
        let recording = rt::record::Recording::start(&f.dir()).unwrap();
        f.reopen(Some(checkpoint));
        assert_eq!(f.log.start_offset().0, bases[1]);
        let events = recording.finish();
        let removed = |name: &str| {
            let is = |e: &rt::record::Event| matches!(e, rt::record::Event::Remove { path } if path.ends_with(name));
            events.iter().position(is).expect("it was removed")
        };
        let between = &events[removed(&later)..removed(&oldest)];
        assert!(between.iter().any(|e| matches!(e, rt::record::Event::SyncDir { .. })), "{between:?}");
    });
}
