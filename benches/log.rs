//! The storage path with real files: Produce up to the journal's buffer, a journal's append and commit, a fetch from
//! memory and from disk.
//!
//! Each runs on the shard runtime; what is timed is inside it. The directory is `WEIR_BENCH_DIR`, or a temporary one:
//! put it on the disk that matters.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weir::client::{BatchOptions, OwnedRecord, encode_batch};
use weir::log::journal::{JournalSettings, Known};
use weir::log::{Journal, LogSettings, ShardLog, Topics};
use weir::model::topic_config::TopicConfig;
use weir::model::{LeaderEpoch, MonoMs, Offset, PartitionId, TopicId};
use weir::partition::read::Position;
use weir::partition::{Assignment, Host, Replica};
use weir::rt;
use weir::wire::ProducedBatch;
use weir::wire::batch::BatchHeader;
use weir::wire::validate::{Effort, Sound};

const ID: PartitionId = PartitionId { topic: TopicId([7; 16]), index: 0 };
/// Appends between waits for the disk, so that buffers stay within their bounds.
const CHUNK: u64 = 64;

struct OneTopic;

impl Topics for OneTopic {
    fn partition(&self, _: PartitionId) -> Option<(Arc<str>, Arc<TopicConfig>)> {
        Some(("bench".into(), Arc::default()))
    }

    fn was_deleted(&self, _: TopicId) -> bool {
        false
    }

    fn has_name(&self, topic: &str, _: i32) -> bool {
        topic == "bench"
    }
}

fn directory() -> tempfile::TempDir {
    let parent = std::env::var_os("WEIR_BENCH_DIR").map(PathBuf::from);
    match parent {
        Some(parent) => tempfile::tempdir_in(parent),
        None => tempfile::tempdir(),
    }
    .expect("a directory for the log")
}

fn batch(records: usize, bytes: usize) -> Bytes {
    let timestamp_ms = rt::unix_ms();
    let record =
        OwnedRecord { value: Some(Bytes::from(vec![7; bytes])), timestamp_ms, ..OwnedRecord::default() };
    encode_batch(&vec![record; records], BatchOptions::default()).expect("a plain batch encodes")
}

async fn open(dir: &std::path::Path) -> (Rc<ShardLog>, Rc<Replica>) {
    let (store, _) =
        ShardLog::open(dir, 0, 1, &OneTopic, LogSettings::default()).await.expect("a fresh log opens");
    let log = store.create(ID, "bench", Arc::default());
    let replica =
        Replica::new((ID, "bench".into()), &Host::new(1, 30_000), log, Arc::default(), Offset::ZERO);
    replica.assign(&store, Assignment::alone(1, LeaderEpoch(0)), MonoMs::ZERO);
    let maintained = store.clone();
    rt::spawn(async move { maintained.maintain(|_| None, |_| Offset(i64::MAX)).await });
    (store, Rc::new(replica))
}

/// Appends this many batches, waiting for the disk in between, and returns the time that the appends took.
async fn produce(store: &ShardLog, replica: &Replica, batch: &Bytes, count: u64) -> Duration {
    let mut spent = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let chunk = left.min(CHUNK).min((4 << 20) / batch.len() as u64 + 1);
        let copies: Vec<BytesMut> = (0..chunk).map(|_| BytesMut::from(&batch[..])).collect();
        let now = rt::wall();
        let start = Instant::now();
        for copy in copies {
            let batch = ProducedBatch::parse(copy).expect("a batch");
            let sound =
                Sound::check(batch, &replica.rules(now), Effort::Light, &mut Vec::new()).expect("sound");
            replica.append(store, sound, now, None).expect("an append");
        }
        spent += start.elapsed();
        store.journal().wait_durable(store.journal().last()).await.expect("the journal works");
        replica.on_durable(|lsn| store.journal().is_durable(lsn));
        store.room(batch.len() * CHUNK as usize).await;
        left -= chunk;
    }
    spent
}

fn produce_path(c: &mut Criterion) {
    let mut group = c.benchmark_group("produce_path");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for (records, bytes) in [(1, 100), (1000, 100), (900, 1024)] {
        let batch = batch(records, bytes);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(BenchmarkId::new("append", format!("{records}x{bytes}")), |b| {
            b.iter_custom(|count| {
                let (dir, batch) = (directory(), batch.clone());
                let path = dir.path().to_owned();
                rt::block_on(async move {
                    let (store, replica) = open(&path).await;
                    let spent = produce(&store, &replica, &batch, count).await;
                    store.close(|_| None).await.expect("the log closes");
                    spent
                })
            });
        });
    }
    group.finish();
}

fn journal(c: &mut Criterion) {
    let mut group = c.benchmark_group("journal");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for size in [200usize, 4 << 10, 64 << 10, 512 << 10] {
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("append_and_commit", size), |b| {
            b.iter_custom(|count| {
                let dir = directory();
                let path = dir.path().to_owned();
                rt::block_on(async move {
                    let settings = JournalSettings::default();
                    let (journal, _) = Journal::open(&path, settings, Known::default()).await.expect("opens");
                    let batch = vec![7; size];
                    let start = Instant::now();
                    for offset in 0..count {
                        let lsn = journal.append(ID, Offset(offset as i64), None, &batch).expect("an append");
                        journal.wait_durable(lsn).await.expect("the journal works");
                        if let Some(target) = journal.reclaim_target() {
                            journal.release(target);
                        }
                    }
                    let spent = start.elapsed();
                    journal.close().await.expect("closes");
                    spent
                })
            });
        });
    }
    group.finish();
}

fn fetch_path(c: &mut Criterion) {
    let mut group = c.benchmark_group("fetch_path");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    let batch = batch(100, 100);
    for max_bytes in [64usize << 10, 1 << 20] {
        group.throughput(Throughput::Bytes(max_bytes as u64));
        group.bench_function(BenchmarkId::new("cached", max_bytes), |b| {
            b.iter_custom(|count| {
                let (dir, batch) = (directory(), batch.clone());
                let path = dir.path().to_owned();
                rt::block_on(async move {
                    let (store, replica) = open(&path).await;
                    let wanted = (max_bytes / batch.len() + 2) as u64;
                    produce(&store, &replica, &batch, wanted).await;
                    let position = Position {
                        offset: Offset::ZERO,
                        max_bytes,
                        leader_epoch: None,
                        last_fetched_epoch: None,
                        committed: false,
                    };
                    let start = Instant::now();
                    for _ in 0..count {
                        let read =
                            replica.read_cached(&position, true).expect("readable").expect("in memory");
                        assert!(read.bytes() > max_bytes / 2);
                    }
                    let spent = start.elapsed();
                    store.close(|_| None).await.expect("the log closes");
                    spent
                })
            });
        });
    }
    let header = BatchHeader::parse(&batch).expect("valid");
    assert_eq!(header.record_count, 100);
    group.finish();
}

/// How long anything else on the shard waited at most, until `done`.
async fn longest_wait(done: Rc<std::cell::Cell<bool>>) -> Duration {
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    while !done.get() {
        rt::yield_now().await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    longest
}

/// A checkpoint of 10,000 partitions, of which these many have changed since the last.
fn checkpoint(c: &mut Criterion) {
    let mut group = c.benchmark_group("checkpoint_10000");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    let batch = batch(1, 100);
    let header = BatchHeader::parse(&batch).expect("a batch");
    for changed in [10usize, 10_000] {
        group.bench_function(BenchmarkId::new("changed", changed), |b| {
            b.iter_custom(|count| {
                let (dir, batch) = (directory(), batch.clone());
                let path = dir.path().to_owned();
                rt::block_on(async move {
                    let (store, _) = ShardLog::open(&path, 0, 1, &OneTopic, LogSettings::default())
                        .await
                        .expect("a fresh log opens");
                    let id = |index| PartitionId { index, ..ID };
                    let logs: Vec<_> =
                        (0..10_000).map(|n| store.create(id(n), "bench", Arc::default())).collect();
                    store.checkpoint(|_| None).await.expect("a checkpoint");
                    let (mut spent, mut held) = (Duration::ZERO, Duration::ZERO);
                    let before = store.checkpoint_stats();
                    for _ in 0..count {
                        for log in &logs[..changed] {
                            let base_offset = log.end_offset().0;
                            let header = BatchHeader { base_offset, ..header };
                            store.append(log, &header, batch.clone()).expect("an append");
                        }
                        let last = store.journal().last();
                        store.journal().wait_durable(last).await.expect("the journal works");
                        let done = Rc::new(std::cell::Cell::new(false));
                        let waiting = rt::spawn(longest_wait(done.clone()));
                        let start = Instant::now();
                        store.checkpoint(|_| None).await.expect("a checkpoint");
                        spent += start.elapsed();
                        done.set(true);
                        held = held.max(waiting.await);
                    }
                    let (states, bytes) = {
                        let after = store.checkpoint_stats();
                        ((after.states - before.states) / count, (after.bytes - before.bytes) / count)
                    };
                    println!(
                        "{states} states, {bytes} bytes a checkpoint; the shard was held {held:?} at most"
                    );
                    spent
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, produce_path, journal, fetch_path, checkpoint);
criterion_main!(benches);
