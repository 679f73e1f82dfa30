//! A shard's log with real files: restarts, crashes at random points, damage, other shard counts, bounds.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::log::directory::Topics;
use crate::log::files::layout::{journal_dir, partition_dir};
use crate::log::formats::checkpoint::Checkpoint;
use crate::log::offline::relayout::relayout;
use crate::log::{Lsn, PartitionLog};
use crate::model::topic_config::TopicConfig;
use crate::model::{Offset, PartitionId, TopicId, shard_of};
use crate::rt;
use crate::rt::fault::{Fault, Op, inject};
use crate::wire::batch::BatchHeader;

use super::{LogSettings, RecoveredPartition, ShardLog};

const PARTITIONS: i32 = 4;

#[derive(Default, Clone)]
pub(super) struct Cluster {
    topics: BTreeMap<TopicId, String>,
    deleted: HashSet<TopicId>,
}

impl Cluster {
    pub(super) fn with(topics: &[(u8, &str)]) -> Self {
        let topics = topics.iter().map(|(n, name)| (TopicId([*n; 16]), (*name).to_owned())).collect();
        Self { topics, deleted: HashSet::new() }
    }

    pub(super) fn delete(&mut self, n: u8) {
        self.topics.remove(&TopicId([n; 16]));
        self.deleted.insert(TopicId([n; 16]));
    }
}

impl Topics for Cluster {
    fn partition(&self, id: PartitionId) -> Option<(Arc<str>, Arc<TopicConfig>)> {
        let name = self.topics.get(&id.topic).filter(|_| id.index < PARTITIONS)?;
        Some((name.as_str().into(), Arc::default()))
    }

    fn was_deleted(&self, topic: TopicId) -> bool {
        self.deleted.contains(&topic)
    }

    fn has_name(&self, topic: &str, partition: i32) -> bool {
        self.topics.values().any(|name| name == topic) && partition < PARTITIONS
    }
}

fn settings() -> LogSettings {
    LogSettings {
        journal_file_bytes: 256 << 10,
        journal_max_files: 4,
        max_commit_bytes: 64 << 10,
        zero_ahead_bytes: 64 << 10,
        flush_chunk_bytes: 64 << 10,
        tail_bytes: 1 << 20,
        cache_bytes: 1 << 20,
        // A checkpoint is made where a test makes one, however long it takes.
        checkpoint_interval: Duration::from_secs(36_000),
        ..LogSettings::default()
    }
}

pub(super) fn id(topic: u8, index: i32) -> PartitionId {
    PartitionId { topic: TopicId([topic; 16]), index }
}

/// A batch of three records as the wire has it, of bytes that its offset decides.
fn batch(base_offset: i64, size: usize) -> Bytes {
    let mut batch = vec![0; 61 + size];
    for (i, b) in batch[61..].iter_mut().enumerate() {
        *b = (((base_offset as usize + 3) * (i + 7)) >> 3) as u8;
    }
    let length = (batch.len() - 12) as i32;
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[23..27].copy_from_slice(&2i32.to_be_bytes());
    batch[27..35].copy_from_slice(&rt::unix_ms().to_be_bytes());
    batch[35..43].copy_from_slice(&rt::unix_ms().to_be_bytes());
    batch[43..57].fill(0xff);
    batch[57..61].copy_from_slice(&3i32.to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32;
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

pub(super) fn append(store: &ShardLog, log: &PartitionLog, size: usize) -> Lsn {
    let batch = batch(log.end_offset().0, size);
    store.append(log, &BatchHeader::parse(&batch).unwrap(), batch).unwrap()
}

pub(super) fn no_states(_: PartitionId) -> Option<(Offset, Vec<u8>)> {
    None
}

pub(super) async fn open(dir: &Path, cluster: &Cluster) -> (Rc<ShardLog>, Vec<RecoveredPartition>) {
    super::sweep(dir, cluster).unwrap();
    ShardLog::open(dir, 0, 1, cluster, settings()).await.unwrap()
}

/// Reads the whole log and checks that it is what `batch` made; returns its end.
pub(super) async fn verify(log: &PartitionLog) -> i64 {
    let (mut at, end) = (log.start_offset().0, log.end_offset().0);
    while at < end {
        let batches = log.read(Offset(at), Offset(end), 256 << 10, true).await.unwrap();
        assert!(!batches.is_empty(), "nothing at {at} of {end}");
        for mut slice in batches {
            while !slice.is_empty() {
                let header = BatchHeader::parse(&slice).unwrap();
                let one = slice.split_to(header.size());
                assert_eq!(header.base_offset, at);
                let expected = batch(at, one.len() - 61);
                assert!(one[61..] == expected[61..], "the batch at {at} changed");
                at = header.next_offset();
            }
        }
    }
    assert_eq!(at, end);
    end
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mut entries: Vec<_> = std::fs::read_dir(from).unwrap().map(|e| e.unwrap().path()).collect();
    // The checkpoint first: it may be older than the rest, as at a crash, but not newer.
    entries.sort_by_key(|path| !path.ends_with("checkpoint"));
    for path in entries {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else if let Err(e) = std::fs::copy(&path, &target) {
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

#[test]
fn everything_comes_back_after_a_kill_and_after_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(&[(1, "orders")]);
    rt::block_on(async move {
        let mut expected = 0;
        for round in 0..4 {
            let (store, recovered) = open(dir.path(), &cluster).await;
            let log = store.create(id(1, 0), "orders", Arc::default());
            assert_eq!(verify(&log).await, expected);
            let replayed: usize = recovered.iter().map(|p| p.replayed.len()).sum();
            assert_eq!(replayed > 0, round % 2 == 1, "only a kill leaves something to replay");
            let mut last = Lsn::ZERO;
            for n in 0..100 {
                last = append(&store, &log, n * 17);
            }
            expected += 300;
            store.journal().wait_durable(last).await.unwrap();
            if round % 2 == 1 {
                store.close(no_states).await.unwrap();
            }
        }
    });
}

#[test]
fn producer_states_come_back_with_the_batches_after_them() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(&[(1, "orders")]);
    rt::block_on(async move {
        let (store, _) = open(dir.path(), &cluster).await;
        let log = store.create(id(1, 0), "orders", Arc::default());
        append(&store, &log, 10);
        let end = log.end_offset();
        store.checkpoint(|_| Some((end, b"state".to_vec()))).await.unwrap();
        assert!(store.journal().durable() >= store.journal().last(), "what the state covers is durable");
        let last = append(&store, &log, 20);
        store.journal().wait_durable(last).await.unwrap();
        drop((store, log));
        let (_, recovered) = open(dir.path(), &cluster).await;
        assert_eq!(recovered[0].producer_state, Some((Offset(3), b"state".to_vec())));
        assert_eq!(recovered[0].replayed.iter().map(|(h, _)| h.base_offset).collect::<Vec<_>>(), [3]);
    });
}

#[test]
fn a_crash_image_at_any_moment_has_all_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(&[(1, "orders"), (2, "clicks")]);
    rt::block_on(async move {
        let (store, _) = open(dir.path(), &cluster).await;
        let running = store.clone();
        rt::spawn(async move { running.maintain(no_states, |_| Offset(i64::MAX)).await });
        let ids: Vec<_> = (0..PARTITIONS).flat_map(|i| [id(1, i), id(2, i)]).collect();
        let names = |id: PartitionId| if id.topic.0[0] == 1 { "orders" } else { "clicks" };
        let logs: Vec<_> = ids.iter().map(|id| store.create(*id, names(*id), Arc::default())).collect();
        let mut random = 88172645463325252u64;
        let mut ends: Vec<Vec<(Lsn, i64)>> = vec![Vec::new(); logs.len()];
        for step in 0..3000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (which, size) = ((random >> 33) as usize % logs.len(), (random >> 40) as usize % 4000);
            store.room(size + 61).await;
            let lsn = append(&store, &logs[which], size);
            ends[which].push((lsn, logs[which].end_offset().0));
            if (random >> 20).is_multiple_of(4) {
                rt::yield_now().await;
            }
            if step % 400 != 399 {
                continue;
            }
            let image = tempfile::tempdir().unwrap();
            let durable = store.journal().durable();
            copy_tree(dir.path(), image.path());
            let (copy, recovered) = open(image.path(), &cluster).await;
            for (id, ends) in ids.iter().zip(&ends) {
                let acked = ends.iter().rfind(|(lsn, _)| *lsn <= durable).map_or(0, |(_, end)| *end);
                let Some(log) = copy.get(*id) else {
                    assert_eq!(acked, 0);
                    continue;
                };
                assert!(
                    log.end_offset().0 >= acked,
                    "step {step}: {id} ends at {} of {acked}",
                    log.end_offset().0
                );
                verify(&log).await;
            }
            assert!(recovered.iter().all(|p| p.repair.is_none()), "step {step}");
        }
        assert!(store.journal().stats().commits > 50);
        store.close(no_states).await.unwrap();
        let ends: Vec<_> = logs.iter().map(|log| log.end_offset().0).collect();
        drop((store, logs));
        let (store, recovered) = open(dir.path(), &cluster).await;
        assert!(recovered.iter().all(|p| p.replayed.is_empty()));
        for (id, end) in ids.iter().zip(ends) {
            assert_eq!(verify(&store.get(*id).unwrap()).await, end);
        }
    });
}

#[test]
fn segments_made_after_a_close_without_any_are_the_partitions_own() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cluster = Cluster::with(&[(1, "orders")]);
    let unlisted = |dir: &Path| crate::log::directory::holdings::holdings(dir).unwrap().unlisted;
    rt::block_on(async move {
        let (store, _) = open(dir.path(), &cluster).await;
        let log = store.create(id(1, 0), "orders", Arc::default());
        append(&store, &log, 100);
        log.flush(None).await.unwrap();
        copy_tree(dir.path(), image.path());
        log.set_config(TopicConfig { retention_bytes: 0, ..TopicConfig::default() });
        assert_eq!(log.retention(rt::wall(), || Offset(i64::MAX)).await.unwrap().segments, 1);
        store.close(no_states).await.unwrap();
        assert_eq!(unlisted(dir.path()), [].into());
        let name = "00000000000000000003.log";
        let copied = partition_dir(dir.path(), "orders", 0).join(name);
        std::fs::write(&copied, "").unwrap();
        assert_eq!(unlisted(dir.path()), [id(1, 0)].into(), "no broker was there to make it");
        std::fs::remove_file(copied).unwrap();

        let (store, _) = open(dir.path(), &cluster).await;
        let log = store.get(id(1, 0)).unwrap();
        let last = append(&store, &log, 100);
        store.journal().wait_durable(last).await.unwrap();
        log.flush(None).await.unwrap();
        drop((store, log));
        assert_eq!(unlisted(dir.path()), [].into(), "a broker was there");

        let name = "00000000000000000000.log";
        let old = partition_dir(image.path(), "orders", 0).join(name);
        std::fs::copy(old, partition_dir(dir.path(), "orders", 0).join(name)).unwrap();
        assert_eq!(unlisted(dir.path()), [id(1, 0)].into(), "one from before the close is somebody's copy");
        std::fs::remove_file(partition_dir(dir.path(), "orders", 0).join(name)).unwrap();

        let (store, _) = open(dir.path(), &cluster).await;
        let log = store.get(id(1, 0)).unwrap();
        assert_eq!((log.start_offset().0, verify(&log).await), (3, 6));
    });
}

/// Flips a bit of the journal's copy of `needle`'s payload.
fn damage_journal(dir: &Path, needle: &[u8]) {
    let files = std::fs::read_dir(journal_dir(dir, 0)).unwrap().map(|e| e.unwrap().path());
    for path in files.filter(|p| p.extension().is_some_and(|e| e == "journal")) {
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(needle.len()).position(|w| w == needle) {
            bytes[at + needle.len() / 2] ^= 4;
            return std::fs::write(path, bytes).unwrap();
        }
    }
    panic!("the batch is not in the journal");
}

#[test]
fn damage_marks_one_partition_for_good_and_the_rest_serves() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(&[(1, "orders")]);
    rt::block_on(async move {
        let (store, _) = open(dir.path(), &cluster).await;
        let (a, b) = (
            store.create(id(1, 0), "orders", Arc::default()),
            store.create(id(1, 1), "orders", Arc::default()),
        );
        for _ in 0..5 {
            let last = append(&store, &a, 300).max(append(&store, &b, 500));
            store.journal().wait_durable(last).await.unwrap();
        }
        drop((store, a, b));
        damage_journal(dir.path(), &batch(6, 300)[61..]);
        for round in 0..3 {
            let (store, recovered) = open(dir.path(), &cluster).await;
            let why = recovered[0].repair.clone().expect("durable records are missing");
            assert!(why.contains("offset 6"), "{why}");
            assert!(store.needs_repair(id(1, 0)).is_some() && recovered[0].log.needs_repair().is_some());
            assert_eq!(recovered[1].repair, None);
            assert_eq!(verify(&recovered[0].log).await, 6);
            assert_eq!(verify(&recovered[1].log).await, 15 + 3 * i64::from(round > 1));
            let aside = dir.path().join("set-aside").join(id(1, 0).to_string());
            assert!(aside.join("00000000000000000009.log").exists());
            if round == 1 {
                let last = append(&store, &recovered[1].log, 100);
                store.journal().wait_durable(last).await.unwrap();
                store.close(no_states).await.unwrap();
            }
        }
    });
}

#[test]
fn marks_of_damage_go_with_the_file_that_they_were_of() {
    use crate::log::compact::{Bounds, Policy, Work};
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(&[(1, "orders")]);
    rt::block_on(async move {
        let (store, _) = open(dir.path(), &cluster).await;
        let log = store.create(id(1, 0), "orders", Arc::default());
        let config = TopicConfig { segment_bytes: 4000, ..TopicConfig::default() };
        log.set_config(config.clone());
        for _ in 0..20 {
            append(&store, &log, 500);
        }
        log.flush(None).await.unwrap();
        let path = log.sealed_segments()[1].path();
        let spoil = || {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[100] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        };
        spoil();
        store.scrub_all().await;
        assert_eq!(store.damaged().len(), 1);
        spoil();
        store.checkpoint(no_states).await.unwrap();
        let policy =
            Policy { compact: true, segment_bytes: 40_000, min_dirty_ratio: 0.0, ..Policy::from(&config) };
        let candidate = log.compaction_candidate(log.end_offset(), &policy, rt::wall()).await.unwrap();
        let work = Work { map_bytes: 0, activity: &|| 0, rate: &|| u64::MAX, stop: &|| false };
        log.compact(candidate, Bounds::default(), &policy, &work).await.unwrap();
        // A start that finds the replacement behind the checkpoint drops the mark, too.
        let copy = tempfile::tempdir().unwrap();
        copy_tree(dir.path(), copy.path());
        let (again, _) = open(copy.path(), &cluster).await;
        assert!(again.damaged().is_empty());
        store.checkpoint(no_states).await.unwrap();
        assert!(store.damaged().is_empty());
        let (again, _) = open(dir.path(), &cluster).await;
        assert!(again.damaged().is_empty());
        assert_eq!(verify(&log).await, log.end_offset().0);
    });
}

#[test]
fn deleted_topics_go_and_unknown_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::with(&[(1, "kept"), (2, "deleted"), (3, "forgotten")]);
    rt::block_on(async move {
        let (store, _) = open(dir.path(), &cluster).await;
        for (n, name) in [(1, "kept"), (2, "deleted"), (3, "forgotten")] {
            let log = store.create(id(n, 0), name, Arc::default());
            append(&store, &log, 1000);
            log.flush(None).await.unwrap();
        }
        store.checkpoint(no_states).await.unwrap();
        drop(store);
        let stranger = dir.path().join("topics/stranger-0");
        std::fs::create_dir(&stranger).unwrap();
        std::fs::write(stranger.join("00000000000000000000.log"), "records").unwrap();
        cluster.delete(2);
        cluster.topics.remove(&TopicId([3; 16]));
        assert_eq!(super::sweep(dir.path(), &cluster).unwrap(), ["forgotten-0", "stranger-0"]);
        let (store, recovered) = open(dir.path(), &cluster).await;
        assert_eq!(recovered.iter().map(|p| p.id).collect::<Vec<_>>(), [id(1, 0)]);
        assert_eq!(verify(&recovered[0].log).await, 3);
        let exists = |name| partition_dir(dir.path(), name, 0).exists();
        assert!(exists("kept") && !exists("deleted") && exists("forgotten") && exists("stranger"));
        assert!(!dir.path().join("set-aside").exists());
        // Topics of their names do not get what is theirs, and do not serve.
        for (n, name) in [(5, "forgotten"), (6, "stranger")] {
            let log = store.create(id(n, 0), name, Arc::default());
            let why = log.needs_repair().expect("it is in the way");
            assert!(why.contains(&format!("{name}-0 is in the way")), "{why}");
            assert_eq!(log.end_offset().0, 0);
        }
        // Neither after a crash, nor when they are deleted.
        store.checkpoint(no_states).await.unwrap();
        drop(store);
        for (n, name) in [(5, "forgotten"), (6, "stranger")] {
            cluster.topics.insert(TopicId([n; 16]), name.into());
        }
        let (store, _) = open(dir.path(), &cluster).await;
        for n in [5, 6] {
            assert!(store.needs_repair(id(n, 0)).is_some());
            store.remove(id(n, 0)).await;
        }
        store.close(no_states).await.unwrap();
        assert_eq!(std::fs::read(stranger.join("00000000000000000000.log")).unwrap(), b"records");
        let kept = std::fs::read_dir(partition_dir(dir.path(), "forgotten", 0)).unwrap().count();
        assert!(kept >= 2, "a segment and the mark");
    });
}

#[test]
fn a_journal_with_records_of_an_unknown_topic_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::with(&[(1, "orders")]);
    rt::block_on(async move {
        let (store, _) = open(dir.path(), &cluster).await;
        let log = store.create(id(1, 0), "orders", Arc::default());
        let last = append(&store, &log, 1000);
        store.journal().wait_durable(last).await.unwrap();
        drop((store, log));
        let name = cluster.topics.remove(&TopicId([1; 16])).unwrap();
        let error = ShardLog::open(dir.path(), 0, 1, &cluster, settings()).await.err().unwrap();
        assert!(error.to_string().contains("recover-metadata"), "{error}");
        cluster.topics.insert(TopicId([1; 16]), name);
        let (_, recovered) = open(dir.path(), &cluster).await;
        assert_eq!(verify(&recovered[0].log).await, 3);
    });
}

#[test]
fn a_topic_made_again_does_not_see_the_old_ones_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::with(&[(1, "orders")]);
    rt::block_on(async move {
        let (store, _) = open(dir.path(), &cluster).await;
        let old = store.create(id(1, 0), "orders", Arc::default());
        append(&store, &old, 1000);
        old.flush(None).await.unwrap();
        store.remove(id(1, 0)).await;
        cluster.delete(1);
        cluster.topics.insert(TopicId([2; 16]), "orders".into());
        let new = store.create(id(2, 0), "orders", Arc::default());
        assert_eq!(new.end_offset().0, 0);
        let last = append(&store, &new, 10);
        store.journal().wait_durable(last).await.unwrap();
        drop((store, old, new));
        let (_, recovered) = open(dir.path(), &cluster).await;
        assert_eq!(
            recovered.iter().map(|p| (p.id, p.log.end_offset().0)).collect::<Vec<_>>(),
            [(id(2, 0), 3)]
        );
    });
}

#[test]
fn another_number_of_shards_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(&[(1, "orders"), (2, "clicks")]);
    rt::block_on(async move {
        let ids: Vec<_> =
            (0..PARTITIONS).flat_map(|i| [(id(1, i), "orders"), (id(2, i), "clicks")]).collect();
        let mut ends: BTreeMap<PartitionId, i64> = BTreeMap::new();
        for (round, shards) in [2, 3, 1, 2].into_iter().enumerate() {
            let settings = settings();
            let changed = relayout(dir.path(), shards, &cluster, &settings, |p| {
                Some(format!("{} after {:?}", p.log.end_offset().0, p.replayed.len()).into_bytes())
            });
            assert_eq!(changed.await.unwrap(), round > 0);
            for shard in 0..shards {
                let (store, recovered) =
                    ShardLog::open(dir.path(), shard, shards, &cluster, settings.clone()).await.unwrap();
                for partition in &recovered {
                    assert_eq!(shard_of(partition.id, shards), shard);
                    assert!(partition.producer_state.is_some() && partition.repair.is_none());
                }
                assert_eq!(
                    recovered.len(),
                    ids.iter().filter(|i| round > 0 && shard_of(i.0, shards) == shard).count()
                );
                let mut last = Lsn::ZERO;
                for (id, name) in ids.iter().filter(|(id, _)| shard_of(*id, shards) == shard) {
                    let log = store.create(*id, *name, Arc::default());
                    assert_eq!(verify(&log).await, ends.get(id).copied().unwrap_or(0));
                    for _ in 0..5 {
                        last = append(&store, &log, 700);
                    }
                    ends.insert(*id, log.end_offset().0);
                }
                store.journal().wait_durable(last).await.unwrap();
            }
        }
    });
}

#[test]
fn producers_wait_in_line_and_memory_stays_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(&[(1, "orders")]);
    rt::block_on(async move {
        let (store, _) = open(dir.path(), &cluster).await;
        let running = store.clone();
        rt::spawn(async move { running.maintain(no_states, |_| Offset(i64::MAX)).await });
        let log = store.create(id(1, 0), "orders", Arc::default());
        let mut tasks = Vec::new();
        for size in [1000, 30_000, 2_000_000] {
            let (store, log) = (store.clone(), log.clone());
            tasks.push(rt::spawn(async move {
                let mut last = Lsn::ZERO;
                for _ in 0..(8_000_000 / size).min(200) {
                    store.room(size).await;
                    last = append(&store, &log, size);
                    assert!(store.tail_bytes() < settings().tail_bytes + size + 4096);
                }
                store.journal().wait_durable(last).await.unwrap();
            }));
        }
        for task in tasks {
            task.await;
        }
        let files = std::fs::read_dir(journal_dir(dir.path(), 0)).unwrap().count();
        assert!(files < 20, "{files} files");
        store.close(no_states).await.unwrap();
        verify(&log).await;
    });
}

#[test]
fn a_tail_that_never_runs_dry_does_not_keep_the_journal_from_being_reclaimed() {
    const BATCH: usize = 64 << 10;
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(&[(1, "orders")]);
    let settings =
        LogSettings { journal_file_bytes: 4 << 20, journal_max_files: 8, tail_bytes: 16 << 20, ..settings() };
    // A disk that appends outrun.
    let _slow = inject(dir.path(), ".log", Op::Write, Fault::Slow(Duration::from_millis(3)), usize::MAX);
    rt::block_on(async move {
        let (store, _) = ShardLog::open(dir.path(), 0, 1, &cluster, settings).await.unwrap();
        let running = store.clone();
        rt::spawn(async move { running.maintain(no_states, |_| Offset(i64::MAX)).await });
        let log = store.create(id(1, 0), "orders", Arc::default());
        let (mut before, mut last) = (Lsn::ZERO, Lsn::ZERO);
        for i in 0..2000 {
            // More than a chunk is always left to write, and never so much that memory is short.
            while log.tail_bytes() > 6 << 20 {
                rt::yield_now().await;
            }
            assert!(store.has_room(BATCH), "nobody made room for batch {i}");
            if i % 32 == 0 {
                store.journal().wait_durable(before).await.unwrap();
                before = last;
            }
            last = append(&store, &log, BATCH);
        }
        store.close(no_states).await.unwrap();
    });
}

/// Bytes written and states encoded go by how many partitions changed, of however many.
#[test]
fn a_checkpoint_costs_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..200).map(|n| format!("topic-{n}")).collect();
    let topics: Vec<(u8, &str)> = names.iter().enumerate().map(|(n, name)| (n as u8, &name[..])).collect();
    let cluster = Cluster::with(&topics);
    rt::block_on(async move {
        let (store, _) = open(dir.path(), &cluster).await;
        let create =
            |(n, name): (usize, &String)| store.create(id(n as u8, 0), name.as_str(), Arc::default());
        let logs: Vec<_> = names.iter().enumerate().map(create).collect();
        store.checkpoint(no_states).await.unwrap();
        let before = store.checkpoint_stats();
        assert_eq!(before.states, 200, "all were new");
        for log in &logs[..10] {
            append(&store, log, 100);
        }
        store.checkpoint(no_states).await.unwrap();
        let after = store.checkpoint_stats();
        assert_eq!((after.states - before.states, after.bases), (10, before.bases));
        assert!(after.bytes - before.bytes < 2 * 10 * 150, "{after:?} {before:?}");
        // Those that the journal still has entries of are not written again.
        store.checkpoint(no_states).await.unwrap();
        assert_eq!(store.checkpoint_stats().states, after.states);
        logs[3].set_start_offset(Offset(2));
        store.remove(id(150, 0)).await;
        store.checkpoint(no_states).await.unwrap();
        assert_eq!(store.checkpoint_stats().states, after.states + 1);
        store.close(no_states).await.unwrap();
        drop((store, logs));
        let loaded = || Checkpoint::load(&journal_dir(dir.path(), 0)).unwrap().unwrap().checkpoint;
        assert_eq!((loaded().partitions.len(), loaded().closed), (199, true));
        let (store, _) = open(dir.path(), &cluster).await;
        append(&store, &store.get(id(7, 0)).unwrap(), 100);
        store.checkpoint(no_states).await.unwrap();
        assert_eq!(store.checkpoint_stats().states, 1, "a start knows what is as it was");
        assert!(!loaded().closed && loaded().partitions.iter().all(|state| !state.log.clean));
    });
}

#[test]
fn an_unreadable_checkpoint_stops_the_start_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(&[(1, "orders")]);
    rt::block_on(async move {
        let (store, _) = open(dir.path(), &cluster).await;
        store.close(no_states).await.unwrap();
        let path = journal_dir(dir.path(), 0).join("checkpoint");
        let whole = std::fs::read(&path).unwrap();
        for bad in [&whole[..10], b"something else entirely, of some length"] {
            std::fs::write(&path, bad).unwrap();
            std::fs::write(path.with_file_name("checkpoint-copy"), bad).unwrap();
            let error = ShardLog::open(dir.path(), 0, 1, &cluster, settings()).await.err().unwrap();
            assert!(error.to_string().contains("checkpoint"), "{error}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(ShardLog::open(dir.path(), 0, 2, &cluster, settings()).await.is_err(), "another layout");
        assert!(Checkpoint::load(&journal_dir(dir.path(), 0)).unwrap().unwrap().checkpoint.closed);
    });
}

/// Random appends, flushes, checkpoints, kills and closes against a model: what was acknowledged is always there.
#[test]
fn random_histories_lose_nothing() {
    for seed in 1..=6u64 {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::with(&[(1, "orders")]);
        rt::block_on(async move {
            let mut random = seed.wrapping_mul(0x9e3779b97f4a7c15);
            let mut next = move |bound: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % bound
            };
            let mut acked = [0i64; PARTITIONS as usize];
            for life in 0..8 {
                let (store, _) = open(dir.path(), &cluster).await;
                let logs: Vec<_> =
                    (0..PARTITIONS).map(|i| store.create(id(1, i), "orders", Arc::default())).collect();
                for (log, acked) in logs.iter().zip(&mut acked) {
                    assert_eq!(log.needs_repair(), None, "seed {seed} life {life}");
                    assert!(log.end_offset().0 >= *acked, "seed {seed} life {life}");
                    *acked = verify(log).await;
                }
                for _ in 0..next(150) {
                    let which = next(PARTITIONS as u64) as usize;
                    match next(20) {
                        0 => logs[which].flush(None).await.unwrap(),
                        1 => logs[which].write(None).await.unwrap(),
                        2 => store.checkpoint(no_states).await.unwrap(),
                        3 => rt::sleep(Duration::from_millis(next(3))).await,
                        _ => {
                            let lsn = append(&store, &logs[which], next(9000) as usize);
                            if next(3) == 0 {
                                store.journal().wait_durable(lsn).await.unwrap();
                                acked[which] = logs[which].end_offset().0;
                            }
                        }
                    }
                }
                if next(3) == 0 {
                    store.close(no_states).await.unwrap();
                    logs.iter().zip(&mut acked).for_each(|(log, acked)| *acked = log.end_offset().0);
                }
            }
        });
    }
}

/// A store whose partition goes straight to its segment, from the first batch on.
pub(super) async fn bypassing_in(dir: &Path, cluster: &Cluster) -> (Rc<ShardLog>, Rc<PartitionLog>) {
    let (store, _, log) = bypassing_again(dir, cluster).await;
    (store, log)
}

async fn bypassing_again(
    dir: &Path,
    cluster: &Cluster,
) -> (Rc<ShardLog>, Vec<RecoveredPartition>, Rc<PartitionLog>) {
    let settings = LogSettings { bypass_bytes: 1, ..settings() };
    let (store, recovered) = ShardLog::open(dir, 0, 1, cluster, settings).await.unwrap();
    let running = store.clone();
    rt::spawn(async move { running.maintain(no_states, |_| Offset(i64::MAX)).await });
    rt::yield_now().await;
    let log = store.create(id(1, 0), "orders", Arc::default());
    store.checkpoint(no_states).await.unwrap();
    (store, recovered, log)
}

#[test]
fn what_went_straight_to_its_segment_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(&[(1, "orders")]);
    rt::block_on(async move {
        let mut end = 0;
        for round in 0..6 {
            let (store, recovered, log) = bypassing_again(dir.path(), &cluster).await;
            log.set_config(TopicConfig { segment_bytes: 40_000, ..TopicConfig::default() });
            assert_eq!((log.needs_repair(), verify(&log).await), (None, end), "round {round}");
            let replayed = recovered.iter().flat_map(|p| &p.replayed).map(|(header, _)| header.base_offset);
            let since_checkpoint: Vec<i64> = ((end - 60).max(0)..end).step_by(3).collect();
            assert_eq!(replayed.collect::<Vec<_>>(), since_checkpoint, "every batch's producer is known");
            let before = store.journal().stats().bytes;
            let mut last = Lsn::ZERO;
            for i in 0..20 {
                last = append(&store, &log, 3000 + i);
                if i % 7 == 0 {
                    store.journal().wait_durable(last).await.unwrap();
                }
            }
            store.journal().wait_durable(last).await.unwrap();
            end = log.end_offset().0;
            assert_eq!(log.segment_durable_offset().0, end);
            assert!(store.bypass_bytes() > 60_000 && store.journal().stats().bytes - before < 60_000);
            store.abandon().await;
        }
    });
}

#[test]
fn nothing_counts_as_durable_before_what_went_straight_in_front_of_it() {
    const SLOW: Duration = Duration::from_millis(300);
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(&[(1, "orders")]);
    let slow = inject(dir.path(), ".log", Op::Write, Fault::Slow(SLOW), 1);
    rt::block_on(async move {
        let (store, log) = bypassing_in(dir.path(), &cluster).await;
        let other = store.create(id(1, 1), "orders", Arc::default());
        let began = std::time::Instant::now();
        let large = append(&store, &log, 3000);
        let small = append(&store, &log, 10);
        let elsewhere = append(&store, &other, 10);
        assert!(large < small && small < elsewhere);
        rt::sleep(SLOW / 4).await;
        assert!(store.journal().durable() < large, "the segment is still being written");
        store.checkpoint(no_states).await.unwrap();
        assert!(began.elapsed() >= SLOW && slow.met() == 1, "a checkpoint says nothing that is not durable");
        assert!(store.journal().durable() >= elsewhere);
        store.remove(id(1, 0)).await;
        let never = append(&store, &log, 3000);
        store.journal().wait_durable(never).await.unwrap();
        store.close(no_states).await.unwrap();
    });
}

#[test]
fn a_damaged_placement_marks_its_partition() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(&[(1, "orders")]);
    rt::block_on(async move {
        let (store, log) = bypassing_in(dir.path(), &cluster).await;
        log.set_config(TopicConfig { segment_bytes: 4000, ..TopicConfig::default() });
        for _ in 0..4 {
            let lsn = append(&store, &log, 3000);
            store.journal().wait_durable(lsn).await.unwrap();
        }
        drop((store, log));
        // The second of four: what it said of the first segment is gone, and the later ones say nothing of it.
        damage_journal(dir.path(), &batch(3, 3000)[..17]);
        let (_, recovered) = open(dir.path(), &cluster).await;
        let why = recovered[0].repair.clone().expect("durable records cannot be found");
        assert!(why.contains("offset 3"), "{why}");
    });
}
