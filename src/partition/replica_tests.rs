//! Transactions of a partition on a real log: what readers of committed data see, while it runs and after crashes.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use bytes::BytesMut;

use super::*;
use crate::log::{LogSettings, RecoveredPartition, ShardLog, Topics};
use crate::model::{LeaderEpoch, Offset, Producer, ProducerId, TopicId};
use crate::partition::{AppendError, Appended, EndOfTxn, Position};
use crate::rt;
use crate::wire::ProducedBatch;
use crate::wire::batch::{BatchHeader, BatchIter};
use crate::wire::control::{self, EndMarker};
use crate::wire::records::{BatchBuilder, BatchMark};
use crate::wire::validate::{Effort, Sound};

const ME: BrokerId = 1;
pub(in crate::partition) const ID: PartitionId = PartitionId { topic: TopicId([1; 16]), index: 0 };

struct OneTopic;

impl Topics for OneTopic {
    fn partition(&self, id: PartitionId) -> Option<(Arc<str>, Arc<TopicConfig>)> {
        (id == ID).then(|| ("orders".into(), Arc::default()))
    }

    fn was_deleted(&self, _: TopicId) -> bool {
        false
    }

    fn has_name(&self, topic: &str, partition: i32) -> bool {
        topic == "orders" && partition == 0
    }
}

/// A store of one topic, as a start leaves it.
pub(in crate::partition) async fn open_log(dir: &Path) -> (Rc<ShardLog>, Vec<RecoveredPartition>) {
    let settings = LogSettings {
        journal_file_bytes: 256 << 10,
        journal_max_files: 4,
        max_commit_bytes: 64 << 10,
        zero_ahead_bytes: 64 << 10,
        ..LogSettings::default()
    };
    ShardLog::open(dir, 0, 1, &OneTopic, settings).await.unwrap()
}

/// A store and its one replica, as a start leaves them.
async fn open(dir: &Path) -> (Rc<ShardLog>, Replica) {
    let (store, recovered) = open_log(dir).await;
    let replica = |log, high_watermark| {
        let replica =
            Replica::new((ID, "orders".into()), &Host::new(ME, 30_000), log, Arc::default(), high_watermark);
        replica.assign(&store, Assignment::alone(ME, LeaderEpoch(0)), MonoMs::ZERO);
        replica
    };
    let Some(recovered) = recovered.into_iter().next() else {
        let log = store.create(ID, "orders", Arc::default());
        let replica = replica(log, Offset::ZERO);
        return (store, replica);
    };
    let replica = replica(recovered.log, recovered.high_watermark);
    let snapshot = recovered.producer_state.as_ref().map(|(_, state)| state.as_slice());
    replica.set_producers(Producers::rebuild(snapshot, &recovered.replayed, rt::wall()));
    (store, replica)
}

/// One record; without a transaction where `sequence` is negative.
pub(in crate::partition) fn record(producer_id: i64, producer_epoch: i16, base_sequence: i32) -> BytesMut {
    let transactional = base_sequence >= 0;
    let mark = BatchMark { producer_id, producer_epoch, base_sequence, transactional, control: false };
    let mut builder = BatchBuilder::new(rt::wall().0, mark);
    builder.push(None, Some(b"v"));
    builder.finish()
}

fn end(producer_id: i64, producer_epoch: i16, commit: bool) -> EndOfTxn {
    let marker = EndMarker { commit, coordinator_epoch: 0 };
    EndOfTxn { producer: Producer::new(producer_id, producer_epoch), marker, version: 2 }
}

/// Checked as on the produce path.
pub(in crate::partition) fn sound(replica: &Replica, records: BytesMut) -> Sound {
    let batch = ProducedBatch::parse(records).unwrap();
    Sound::check(batch, &replica.rules(rt::wall()), Effort::Light, &mut Vec::new()).unwrap()
}

/// Appends as the produce path does, with the coordinator's consent where it is needed.
fn append(store: &ShardLog, replica: &Replica, records: BytesMut) -> Result<Appended, AppendError> {
    let header = BatchHeader::parse(&records).unwrap();
    let asks = header.producer().filter(|_| replica.needs_verification(&header));
    let guard = asks.map(|producer| replica.begin_verification(producer, header.base_sequence).unwrap());
    let done = replica.append(store, sound(replica, records), rt::wall(), guard);
    if let (Some(producer), Some(guard)) = (asks, guard) {
        replica.end_verification(producer.id, guard);
    }
    done
}

async fn settle(store: &ShardLog, replica: &Replica) {
    let last = store.journal().last();
    store.journal().wait_durable(last).await.unwrap();
    replica.on_durable(|lsn| lsn <= last);
}

/// What a consumer delivers from `offset` on, the aborted transactions left out as Kafka's consumers do it.
async fn consume(replica: &Replica, mut offset: i64, max_bytes: usize) -> Vec<i64> {
    let mut delivered = Vec::new();
    loop {
        let position = Position {
            offset: Offset(offset),
            max_bytes,
            leader_epoch: None,
            last_fetched_epoch: None,
            committed: true,
        };
        let outcome = replica.read(&position, true).await.unwrap();
        assert!(outcome.last_stable_offset <= outcome.high_watermark);
        let list = outcome.aborted.unwrap();
        assert!(list.is_sorted_by_key(|(_, first)| *first));
        let (mut list, mut skip) = (list.into_iter().peekable(), HashSet::new());
        let before = offset;
        for bytes in &outcome.batches {
            for batch in BatchIter::new(bytes) {
                let (header, range) = batch.unwrap();
                assert!(Offset(header.last_offset()) < outcome.last_stable_offset);
                while let Some((producer, _)) = list.next_if(|(_, first)| first.0 <= header.last_offset()) {
                    skip.insert(producer);
                }
                if header.is_control() {
                    let marker = control::decode(&bytes[range], &header).unwrap();
                    if !marker.commit {
                        skip.remove(&ProducerId(header.producer_id));
                    }
                } else if !(header.is_transactional() && skip.contains(&ProducerId(header.producer_id)))
                    && header.base_offset >= offset
                {
                    delivered.push(header.base_offset);
                }
                offset = header.next_offset();
            }
        }
        if offset == before {
            return delivered;
        }
    }
}

#[test]
fn a_first_batch_needs_the_coordinators_word_from_after_the_last_end() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = open(dir.path()).await;
        let now = rt::wall();
        let refused = replica.append(&store, sound(&replica, record(1, 0, 0)), now, None);
        assert!(matches!(refused, Err(AppendError::NotVerified)));
        let header = BatchHeader::parse(&record(1, 0, 0)).unwrap();
        let guard = replica.begin_verification(Producer::new(1, 0), header.base_sequence).unwrap();
        replica.append_end(&store, end(1, 0, false), now).unwrap();
        let late = replica.append(&store, sound(&replica, record(1, 0, 0)), now, Some(guard));
        assert!(matches!(late, Err(AppendError::NotVerified)), "it was said of a transaction that ended");
        append(&store, &replica, record(1, 0, 0)).unwrap();
        replica.append(&store, sound(&replica, record(1, 0, 1)), now, None).unwrap();
        let stray = replica.append(&store, sound(&replica, record(-1, -1, -1)), now, None);
        assert!(stray.is_ok(), "who has no producer id is in nobody's transaction");
    });
}

/// A client is told that its transaction ends, and sends more in its next epoch, before the marker has come here.
#[test]
fn a_batch_of_the_next_epoch_does_not_slip_into_a_transaction_that_is_being_ended() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = open(dir.path()).await;
        let now = rt::wall();
        append(&store, &replica, record(1, 0, 0)).unwrap();
        assert!(replica.is_open(Producer::new(1, 0)) && !replica.is_open(Producer::new(1, 1)));
        let early = replica.append(&store, sound(&replica, record(1, 1, 0)), now, None);
        assert!(matches!(early, Err(AppendError::NotVerified)));
        replica.append_end(&store, end(1, 1, true), now).unwrap();
        let next = append(&store, &replica, record(1, 1, 0)).unwrap().base_offset;
        replica.append_end(&store, end(1, 2, false), now).unwrap();
        settle(&store, &replica).await;
        assert_eq!(
            consume(&replica, 0, 1 << 20).await,
            [0],
            "{next} is of the second transaction, which aborted"
        );
    });
}

#[test]
fn compaction_is_told_of_no_transaction_that_ended_before_the_log_starts() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = open(dir.path()).await;
        for epoch in 0..2 {
            append(&store, &replica, record(1, epoch, 0)).unwrap();
            replica.append_end(&store, end(1, epoch + 1, false), rt::wall()).unwrap();
        }
        settle(&store, &replica).await;
        let listed =
            || replica.compaction_bounds().aborted.iter().map(|a| a.last_offset.0).collect::<Vec<_>>();
        assert_eq!(listed(), [1, 3]);
        replica.log.set_start_offset(Offset(1));
        assert_eq!(listed(), [1, 3]);
        replica.log.set_start_offset(Offset(2));
        assert_eq!(listed(), [3]);
    });
}

#[test]
fn nothing_open_or_aborted_is_seen_whatever_happens() {
    let mut crashes = 0;
    for seed in 1..=12_u64 {
        crashes += rt::block_on(drive(seed));
    }
    assert!(crashes > 20, "{crashes} crashes");
}

/// A copy of a directory, as a kill leaves it.
pub(in crate::partition) fn image(dir: &tempfile::TempDir) -> tempfile::TempDir {
    for _ in 0..100 {
        let copy = tempfile::tempdir().unwrap();
        let mut copying = std::process::Command::new("cp");
        let copied = copying.arg("-a").arg(dir.path().join(".")).arg(copy.path()).output().unwrap();
        // The journal may have given a file that it makes ahead its name meanwhile.
        if copied.status.success() {
            return copy;
        }
    }
    panic!("{} does not come to rest", dir.path().display());
}

/// One random life of a partition; returns how often it crashed.
async fn drive(seed: u64) -> usize {
    let mut dir = tempfile::tempdir().unwrap();
    let mut random = seed;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % below
    };
    let (mut store, mut replica) = open(dir.path()).await;
    // Producer → epoch, next sequence, offsets of the open transaction.
    let mut producers: BTreeMap<i64, (i16, i32, Vec<i64>)> = BTreeMap::new();
    let (mut committed, mut crashes) = (Vec::new(), 0);
    for _ in 0..400 {
        let id = next(5) as i64;
        let (epoch, sequence, open_offsets) = producers.entry(id).or_default();
        match next(20) {
            0..10 => {
                let appended = append(&store, &replica, record(id, *epoch, *sequence)).unwrap();
                *sequence += 1;
                open_offsets.push(appended.base_offset.0);
            }
            10 => committed.push(append(&store, &replica, record(-1, -1, -1)).unwrap().base_offset.0),
            11..15 if !open_offsets.is_empty() => {
                let commit = next(2) == 0;
                (*epoch, *sequence) = (*epoch + 1, 0);
                replica.append_end(&store, end(id, *epoch, commit), rt::wall()).unwrap();
                let offsets = std::mem::take(open_offsets);
                committed.extend(offsets.into_iter().filter(|_| commit));
            }
            15 => store.checkpoint(|_| replica.producer_snapshot()).await.unwrap(),
            16 => {
                // Everything is on disk, or a model could not say what a crash leaves.
                settle(&store, &replica).await;
                let left = image(&dir);
                // The old store's journal may still be busy with files ahead, in its own directory.
                drop((store, replica, std::mem::replace(&mut dir, left)));
                (store, replica) = open(dir.path()).await;
                crashes += 1;
            }
            17..19 => settle(&store, &replica).await,
            _ => {
                let open_from = producers.values().filter_map(|(_, _, offsets)| offsets.first()).min();
                let limit = replica.last_stable_offset().0;
                assert!(open_from.is_none_or(|first| limit <= *first), "seed {seed}");
                let from = next(limit as u64 + 1) as i64;
                let mut expected: Vec<i64> =
                    committed.iter().copied().filter(|offset| (from..limit).contains(offset)).collect();
                expected.sort_unstable();
                let bytes = 1 + next(2000) as usize;
                assert_eq!(consume(&replica, from, bytes).await, expected, "seed {seed} from {from}");
            }
        }
    }
    settle(&store, &replica).await;
    let open_from = producers.values().filter_map(|(_, _, offsets)| offsets.first()).min();
    assert_eq!(replica.last_stable_offset().0, open_from.copied().unwrap_or(replica.log.end_offset().0));
    crashes
}

#[path = "role_tests.rs"]
mod roles;
