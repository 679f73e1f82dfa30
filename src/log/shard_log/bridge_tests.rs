//! A bridge between a log's model, which a list of batches is enough for, and the real one: random operations, crashes
//! among them, have to leave both alike.
//!
//! `WEIR_FIRST_SEED` and `WEIR_SEEDS` choose the seeds; a failure names its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::log::compact::{Bounds, Policy, Work};
use crate::log::directory::Topics;
use crate::log::{LogError, Lsn, PartitionLog, Producers};
use crate::model::topic_config::TopicConfig;
use crate::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use crate::rt;
use crate::wire::batch::{BatchHeader, BatchIter};

use super::{LogSettings, OwnerState, RecoveredPartition, ShardLog};

const PARTITIONS: i32 = 3;
const STEPS: usize = 120;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 1) as i64 % bound
    }
}

fn config() -> TopicConfig {
    TopicConfig {
        segment_bytes: 12_000,
        retention_bytes: 60_000,
        retention_ms: -1,
        file_delete_delay_ms: 0,
        ..TopicConfig::default()
    }
}

struct Orders;

impl Topics for Orders {
    fn partition(&self, id: PartitionId) -> Option<(Arc<str>, Arc<TopicConfig>)> {
        Some(("orders".into(), config().into())).filter(|_| id.index < PARTITIONS)
    }

    fn was_deleted(&self, _: TopicId) -> bool {
        false
    }

    fn has_name(&self, topic: &str, partition: i32) -> bool {
        topic == "orders" && partition < PARTITIONS
    }
}

fn settings() -> LogSettings {
    LogSettings {
        journal_file_bytes: 128 << 10,
        journal_max_files: 4,
        max_commit_bytes: 32 << 10,
        zero_ahead_bytes: 32 << 10,
        flush_chunk_bytes: 16 << 10,
        bypass_bytes: 12 << 10,
        tail_bytes: 1 << 20,
        cache_bytes: 1 << 20,
        checkpoint_interval: Duration::from_secs(36_000),
        retention_interval: Duration::from_secs(36_000),
        ..LogSettings::default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Batch {
    base: i64,
    next: i64,
    epoch: i32,
    producer: bool,
    content: u64,
    size: usize,
}

impl Batch {
    fn bytes(&self) -> Bytes {
        let mut bytes = vec![0; 61 + self.size];
        let mut fill = Random(self.content);
        bytes[61..].iter_mut().for_each(|b| *b = fill.below(256) as u8);
        // No record is this long: what happens to look like one without a key would be compacted away.
        bytes[61..].iter_mut().take(1).for_each(|length| *length = 1);
        let length = (bytes.len() - 12) as i32;
        let delta = (self.next - self.base - 1) as i32;
        bytes[..8].copy_from_slice(&self.base.to_be_bytes());
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[16] = 2;
        bytes[23..27].copy_from_slice(&delta.to_be_bytes());
        let time = 1_700_000_000_000 + (self.content % 1000) as i64;
        bytes[27..35].copy_from_slice(&time.to_be_bytes());
        bytes[35..43].copy_from_slice(&time.to_be_bytes());
        bytes[43..57].fill(0xff);
        if self.producer {
            bytes[43..51].copy_from_slice(&7i64.to_be_bytes());
        }
        bytes[57..61].copy_from_slice(&(delta + 1).to_be_bytes());
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.into()
    }
}

/// What a partition's log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    start: i64,
    end: i64,
    batches: Vec<Batch>,
    epochs: Vec<(i32, i64)>,
    /// Base offsets of producers' batches, of all since the log began.
    producers: Vec<i64>,
}

impl Model {
    fn append(&mut self, batch: Batch) {
        self.note_epoch(batch.epoch);
        self.end = batch.next;
        self.producers.extend(Some(batch.base).filter(|_| batch.producer));
        self.batches.push(batch);
    }

    fn latest(&self) -> i32 {
        self.epochs.last().map_or(-1, |(epoch, _)| *epoch)
    }

    fn note_epoch(&mut self, epoch: i32) {
        if epoch > self.latest() {
            self.epochs.retain(|(_, start)| *start < self.end);
            self.epochs.push((epoch, self.end));
        }
    }

    fn truncate(&mut self, to: i64) {
        let cut = self.batches.iter().find(|batch| batch.next > to).map_or(to, |batch| batch.base.min(to));
        if to < self.start {
            return self.reset(to);
        }
        if cut < self.start {
            return self.reset(cut);
        }
        self.end = self.end.min(cut);
        self.batches.retain(|batch| batch.next <= cut);
        self.epochs.retain(|(_, start)| *start < cut);
        self.producers.retain(|base| *base < cut);
    }

    fn reset(&mut self, start: i64) {
        *self = Self { start, end: start, ..Self::default() };
    }

    /// The epochs of a log that starts at `start`.
    fn epochs_from(&self, start: i64) -> Vec<(i32, i64)> {
        let gone = self.epochs.iter().filter(|(_, first)| *first <= start).count();
        let mut epochs = self.epochs[gone.saturating_sub(1)..].to_vec();
        epochs.first_mut().into_iter().for_each(|first| first.1 = first.1.max(start));
        epochs
    }

    fn state(&self) -> Option<(Offset, Vec<u8>)> {
        let bytes = self.producers.iter().flat_map(|base| base.to_le_bytes()).collect();
        (!self.producers.is_empty()).then_some((Offset(self.end), bytes))
    }
}

/// A partition: how it is, and how it was since a start, or since all of that was on disk.
#[derive(Default)]
struct Partition {
    now: Model,
    /// What it was after each operation, with the operation's lsn.
    past: Vec<(Lsn, Model)>,
    /// The smallest start that a restart may bring back.
    least_start: i64,
}

impl Partition {
    fn did(&mut self, lsn: Lsn) {
        self.past.push((lsn, self.now.clone()));
    }
}

struct Bridge {
    random: Random,
    dir: tempfile::TempDir,
    store: Rc<ShardLog>,
    partitions: Rc<std::cell::RefCell<Vec<Partition>>>,
    seed: u64,
    counts: BTreeMap<&'static str, usize>,
}

fn id(index: i32) -> PartitionId {
    PartitionId { topic: TopicId([1; 16]), index }
}

fn states(
    partitions: &Rc<std::cell::RefCell<Vec<Partition>>>,
) -> impl Fn(PartitionId) -> OwnerState + 'static {
    let partitions = partitions.clone();
    move |id| {
        let partition = &partitions.borrow()[id.index as usize].now;
        OwnerState { producers: partition.state(), high_watermark: Some(Offset(partition.start)) }
    }
}

/// The journal first, its checkpoint before its files: of what changes meanwhile, the image has no older state than it
/// has the effects of.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mut entries: Vec<_> = std::fs::read_dir(from).unwrap().map(|e| e.unwrap().path()).collect();
    let rank = |path: &Path| match path.file_name().and_then(|name| name.to_str()) {
        Some("checkpoint") => 0,
        Some("journal") => 1,
        _ => 2,
    };
    entries.sort_by_key(|path| rank(path));
    for path in entries {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if let Err(e) = std::fs::copy(&path, &target) {
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

async fn open(dir: &Path) -> (Rc<ShardLog>, Vec<RecoveredPartition>) {
    super::sweep(dir, &Orders).unwrap();
    ShardLog::open(dir, 0, 1, &Orders, settings()).await.unwrap()
}

async fn read(log: &PartitionLog) -> Vec<Bytes> {
    let (mut at, mut batches) = (log.start_offset().0, Vec::new());
    while at < log.end_offset().0 {
        let read = log.read(Offset(at), log.end_offset(), 64 << 10, true).await.unwrap();
        if read.is_empty() {
            break;
        }
        for slice in read {
            for (header, range) in BatchIter::new(&slice).map(Result::unwrap) {
                at = header.next_offset();
                batches.push(slice.slice(range));
            }
        }
    }
    batches
}

/// What of producers' batches a log has, by what is kept of them.
fn bases_of(producers: &Producers, start: i64) -> Vec<i64> {
    let state = producers.snapshot.as_ref().map_or(&[][..], |(_, state)| state);
    let kept = state.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()));
    let replayed = producers.replayed.iter().filter(|(header, _)| header.producer_id >= 0);
    kept.chain(replayed.map(|(header, _)| header.base_offset)).filter(|base| *base >= start).collect()
}

/// Why the log is not as the model, if so.
async fn differs(log: &PartitionLog, model: &Model, batches: &[Bytes]) -> Option<String> {
    if log.end_offset().0 != model.end {
        return Some(format!("it ends at {}, not {}", log.end_offset().0, model.end));
    }
    let start = log.start_offset().0;
    let expected = model.batches.iter().filter(|batch| batch.next > start);
    let expected: Vec<_> = expected.map(Batch::bytes).collect();
    if expected != batches {
        let bases = |batches: &[Bytes]| {
            let header = |batch: &Bytes| BatchHeader::parse(batch).unwrap();
            batches.iter().map(|b| (header(b).base_offset, header(b).leader_epoch)).collect::<Vec<_>>()
        };
        return Some(format!("it has {:?}, not {:?}", bases(batches), bases(&expected)));
    }
    let mut epochs = log.checkpoint().epochs;
    epochs.cut_front(Offset(start));
    let epochs: Vec<(i32, i64)> = epochs.entries().map(|(epoch, at)| (epoch.0, at.0)).collect();
    // Where nothing is left, the epoch of what was before the start may be known or not.
    let of_before = start == model.end && epochs.is_empty() && model.epochs_from(start).len() == 1;
    (epochs != model.epochs_from(start) && !of_before)
        .then(|| format!("its epochs are {:?}, not {:?}", epochs, model.epochs_from(start)))
}

impl Bridge {
    async fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path()).await;
        let partitions: Vec<_> = (0..PARTITIONS).map(|_| Partition::default()).collect();
        let partitions = Rc::new(std::cell::RefCell::new(partitions));
        let bridge = Self { random: Random(seed), dir, store, partitions, seed, counts: BTreeMap::new() };
        bridge.run_maintenance();
        bridge
    }

    fn run_maintenance(&self) {
        let (store, states) = (self.store.clone(), states(&self.partitions));
        for index in 0..PARTITIONS {
            store.create(id(index), "orders", config().into());
        }
        rt::spawn(async move { store.maintain(states, |_| Offset(i64::MAX)).await });
    }

    fn log(&self, index: usize) -> Rc<PartitionLog> {
        self.store.get(id(index as i32)).unwrap()
    }

    async fn append(&mut self, index: usize, replica: bool) {
        let log = self.log(index);
        for _ in 0..=self.random.below(6) {
            let large = self.random.below(8) == 0;
            let batch = {
                let partition = &self.partitions.borrow()[index].now;
                let epoch = partition.latest().max(0) + i32::from(self.random.below(12) == 0);
                Batch {
                    base: partition.end,
                    next: partition.end + 1 + self.random.below(9),
                    epoch,
                    producer: self.random.below(3) == 0,
                    content: self.random.below(i64::MAX) as u64,
                    size: self.random.below(if large { 9_000 } else { 900 }) as usize,
                }
            };
            let bytes = batch.bytes();
            self.store.room(bytes.len()).await;
            let header = BatchHeader::parse(&bytes).unwrap();
            let lsn = match replica {
                true => self.store.append_replica(&log, &header, bytes).unwrap(),
                false => self.store.append(&log, &header, bytes).unwrap(),
            };
            let partition = &mut self.partitions.borrow_mut()[index];
            partition.now.append(batch);
            partition.did(lsn);
        }
    }

    /// The truncation is on disk when it returns, and so is all before it.
    async fn cut(&mut self, index: usize, resets: bool) {
        let log = self.log(index);
        let (start, end) = (log.start_offset().0, log.end_offset().0);
        let to = match (resets, self.random.below(10)) {
            (true, 0..5) => end + self.random.below(300),
            (true, _) => self.random.below(end + 1),
            (_, 0) => self.random.below(end + 1),
            (_, 1) => end,
            (_, 2) => log.segment_durable_offset().0.max(start),
            _ => start.max(end - self.random.below(120)),
        };
        let epoch = log.latest_epoch().map_or(0, |epoch| epoch.0) + 1;
        let is_cut = {
            let now = &mut self.partitions.borrow_mut()[index].now;
            let before = now.clone();
            if resets {
                now.reset(to)
            } else {
                now.truncate(to)
            }
            resets || before != *now
        };
        let done = match resets {
            true => self.store.reset(&log, Offset(to), LeaderEpoch(epoch)).await.unwrap(),
            false => self.store.truncate(&log, Offset(to), LeaderEpoch(epoch)).await.unwrap(),
        };
        let expected = self.partitions.borrow()[index].now.clone();
        assert_eq!(done.end_offset.0, expected.end, "seed {}: cut at {to} of {start}..{end}", self.seed);
        let known: Vec<i64> =
            expected.producers.iter().copied().filter(|base| *base >= log.start_offset().0).collect();
        assert_eq!(bases_of(&done.producers, log.start_offset().0), known, "seed {}: cut at {to}", self.seed);
        if !is_cut {
            return;
        }
        let partition = &mut self.partitions.borrow_mut()[index];
        partition.past.clear();
        partition.least_start =
            if expected.batches.is_empty() { expected.start } else { partition.least_start };
        partition.least_start = partition.least_start.min(expected.start);
        partition.did(Lsn::ZERO);
    }

    async fn checkpoint(&mut self) {
        let starts: Vec<i64> = (0..PARTITIONS as usize).map(|i| self.log(i).start_offset().0).collect();
        self.store.checkpoint(states(&self.partitions)).await.unwrap();
        for (partition, start) in self.partitions.borrow_mut().iter_mut().zip(starts) {
            partition.least_start = start;
        }
    }

    /// The records are no records, so that segments are only joined.
    async fn compact(&mut self, index: usize) -> bool {
        let log = self.log(index);
        let policy =
            Policy { compact: true, segment_bytes: 40_000, min_dirty_ratio: 0.0, ..Policy::from(&config()) };
        let limit = log.end_offset().0;
        let Some(candidate) = log.compaction_candidate(Offset(limit), &policy, rt::wall()).await else {
            return false;
        };
        self.checkpoint().await;
        let work = Work { map_bytes: 0, activity: &|| 0, rate: &|| u64::MAX, stop: &|| false };
        log.compact(candidate, Bounds::default(), &policy, &work).await.unwrap().segments_replaced > 0
    }

    async fn crash(&mut self) {
        let image = tempfile::tempdir().unwrap();
        // What is on disk by now has to come back.
        let least: Vec<usize> = {
            let partitions = self.partitions.borrow();
            let durable = |(lsn, _): &&(Lsn, Model)| self.store.journal().is_durable(*lsn);
            partitions.iter().map(|p| p.past.iter().take_while(durable).count()).collect()
        };
        copy(self.dir.path(), image.path());
        self.store.abandon().await;
        let (store, recovered) = open(image.path()).await;
        (self.store, self.dir) = (store, image);
        for (index, least) in least.into_iter().enumerate() {
            self.settle(index, least, &recovered).await;
        }
        self.run_maintenance();
    }

    async fn restart(&mut self) {
        self.store.close(states(&self.partitions)).await.unwrap();
        let (store, recovered) = open(self.dir.path()).await;
        self.store = store;
        for index in 0..PARTITIONS as usize {
            assert!(recovered.iter().all(|p| p.replayed.is_empty()), "seed {}", self.seed);
            let all = self.partitions.borrow()[index].past.len();
            self.settle(index, all, &recovered).await;
        }
        self.run_maintenance();
    }

    /// After a start: the log is as it was after one of its last operations, and no less than `least` of them.
    async fn settle(&mut self, index: usize, least: usize, recovered: &[RecoveredPartition]) {
        let seed = self.seed;
        let found = recovered.iter().find(|partition| partition.id == id(index as i32));
        let (past, most, least_start) = {
            let partition = &self.partitions.borrow()[index];
            let before = partition.past.first().map_or(Model::default(), |_| Model::default());
            let past: Vec<Model> =
                std::iter::once(before).chain(partition.past.iter().map(|(_, m)| m.clone())).collect();
            (past, partition.now.start, partition.least_start)
        };
        let Some(found) = found else {
            assert!(
                past[least].batches.is_empty() && past[least].epochs.is_empty(),
                "seed {seed}: partition {index} is gone"
            );
            self.adopt(index, Model::default());
            return;
        };
        assert_eq!(found.repair, None, "seed {seed}: partition {index}");
        let (log, batches) = (&found.log, read(&found.log).await);
        let mut why = Vec::new();
        for model in past[least..].iter().rev() {
            match differs(log, model, &batches).await {
                Some(other) => why.push(other),
                None => {
                    let start = log.start_offset().0;
                    assert!(
                        (least_start.min(most)..=most.max(model.start)).contains(&start),
                        "seed {seed}: partition {index} starts at {start}, not {least_start}..={most}"
                    );
                    let producers = Producers {
                        snapshot: found.producer_state.clone(),
                        replayed: found.replayed.clone(),
                    };
                    let known: Vec<i64> =
                        model.producers.iter().copied().filter(|base| *base >= start).collect();
                    assert_eq!(bases_of(&producers, start), known, "seed {seed}: producers of {index}");
                    let mut model = model.clone();
                    model.start = start;
                    return self.adopt(index, model);
                }
            }
        }
        panic!("seed {seed}: partition {index} is nothing that it was since {least}: {why:#?}");
    }

    fn adopt(&mut self, index: usize, model: Model) {
        let least_start = self.partitions.borrow()[index].least_start.min(model.start);
        self.partitions.borrow_mut()[index] =
            Partition { past: vec![(Lsn::ZERO, model.clone())], now: model, least_start };
    }

    async fn check(&self, index: usize) {
        let log = self.log(index);
        let (batches, model) = (read(&log).await, self.partitions.borrow()[index].now.clone());
        if let Some(why) = differs(&log, &model, &batches).await {
            panic!("seed {}: partition {index}: {why}", self.seed);
        }
        assert_eq!(log.start_offset().0, model.start, "seed {}: partition {index}", self.seed);
    }

    async fn step(&mut self) {
        let index = self.random.below(i64::from(PARTITIONS)) as usize;
        let log = self.log(index);
        let what = match self.random.below(100) {
            0..35 => {
                self.append(index, false).await;
                "append"
            }
            35..50 => {
                self.append(index, true).await;
                "append as replica"
            }
            50..60 => {
                self.cut(index, false).await;
                "truncate"
            }
            60..62 => {
                self.cut(index, true).await;
                "reset"
            }
            62..66 => {
                let epoch = log.latest_epoch().map_or(0, |epoch| epoch.0) + 1;
                let lsn = self.store.epoch_start(&log, LeaderEpoch(epoch)).unwrap().unwrap();
                let partition = &mut self.partitions.borrow_mut()[index];
                partition.now.note_epoch(epoch);
                partition.did(lsn);
                "epoch"
            }
            66..72 => {
                log.flush(None).await.unwrap();
                "flush"
            }
            72..75 => {
                log.write(None).await.unwrap();
                "write"
            }
            75..80 => {
                self.checkpoint().await;
                "checkpoint"
            }
            80..82 => {
                log.retention(rt::wall(), || Offset(i64::MAX)).await.unwrap();
                self.partitions.borrow_mut()[index].now.start = log.start_offset().0;
                "retention"
            }
            82..84 => {
                let (start, end) = (log.start_offset().0, log.end_offset().0);
                log.set_start_offset(Offset(start + self.random.below(end - start + 1) / 2));
                self.partitions.borrow_mut()[index].now.start = log.start_offset().0;
                "start"
            }
            84..88 if self.compact(index).await => "compact",
            84..90 => {
                let last = self.store.journal().last();
                self.store.journal().wait_durable(last).await.unwrap();
                "wait"
            }
            90..96 => {
                self.crash().await;
                "crash"
            }
            96..98 => {
                self.restart().await;
                "restart"
            }
            _ => {
                self.check(index).await;
                "check"
            }
        };
        // Shown where the test fails.
        let (log, last) = (self.log(index), self.store.journal().last());
        let (start, end, epochs) = (log.start_offset().0, log.end_offset().0, log.checkpoint().epochs);
        println!(
            "{}: {index} {what}: {start}..{end} {:?} by lsn {}",
            self.seed,
            epochs.entries().collect::<Vec<_>>(),
            last.0
        );
        *self.counts.entry(what).or_default() += 1;
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn the_log_is_what_its_model_is_whatever_happens() {
    let first = number("WEIR_FIRST_SEED", 1);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in first..first + number("WEIR_SEEDS", 8) {
        let of_seed = rt::block_on(async move {
            let mut bridge = Bridge::new(seed).await;
            for _ in 0..STEPS {
                bridge.step().await;
            }
            bridge.crash().await;
            for index in 0..PARTITIONS as usize {
                bridge.check(index).await;
            }
            let bypassed = bridge.store.bypass_bytes();
            bridge.store.close(states(&bridge.partitions)).await.unwrap();
            bridge.counts.insert("bypassed bytes", bypassed as usize);
            bridge.counts
        });
        of_seed.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
    }
    println!("{counts:?}");
}

#[test]
fn what_does_not_follow_is_not_taken_from_a_leader() {
    use super::ReplicaAppendError;
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, _) = open(dir.path()).await;
        let log = store.create(id(0), "orders", config().into());
        let offer = |base: i64, epoch: i32| {
            let batch = Batch { base, next: base + 3, epoch, producer: false, content: 1, size: 10 };
            let bytes = batch.bytes();
            store.append_replica(&log, &BatchHeader::parse(&bytes).unwrap(), bytes)
        };
        offer(0, 4).unwrap();
        assert!(matches!(
            offer(0, 4),
            Err(ReplicaAppendError::NotNext { base_offset: Offset(0), end_offset: Offset(3) })
        ));
        assert!(matches!(offer(5, 4), Err(ReplicaAppendError::NotNext { .. })));
        assert!(matches!(
            offer(3, 3),
            Err(ReplicaAppendError::EpochFell { epoch: LeaderEpoch(3), latest: LeaderEpoch(4) })
        ));
        store.epoch_start(&log, LeaderEpoch(6)).unwrap().unwrap();
        assert_eq!(store.epoch_start(&log, LeaderEpoch(6)).unwrap(), None);
        assert!(matches!(
            offer(3, 5),
            Err(ReplicaAppendError::EpochFell { epoch: LeaderEpoch(5), latest: LeaderEpoch(6) })
        ));
        offer(3, 6).unwrap();
        assert_eq!(
            (log.end_offset().0, log.epoch_end_offset(LeaderEpoch(5))),
            (6, Some((LeaderEpoch(4), Offset(3))))
        );
        let gone = store.create(id(1), "orders", config().into());
        store.remove(id(1)).await;
        assert!(matches!(store.truncate(&gone, Offset(0), LeaderEpoch(7)).await, Err(LogError::Removed)));
    });
}
