//! What a replica answers in each role, and whom it tells when the role changes.

use super::*;
use crate::model::{LeaderEpoch, Offset, PartitionEpoch};
use crate::partition::producer::ProducerError;
use crate::partition::read::special_timestamp;
use crate::partition::{Acks, Due, Failure, ReadError, Role, Wait};

const OTHER: BrokerId = 2;

fn assignment(
    leader: Option<BrokerId>,
    epochs: (i32, i32),
    replicas: &[BrokerId],
    isr: &[BrokerId],
) -> Assignment {
    Assignment {
        leader,
        leader_epoch: LeaderEpoch(epochs.0),
        partition_epoch: PartitionEpoch(epochs.1),
        replicas: replicas.into(),
        isr: isr.into(),
    }
}

/// A replica with three records, and its host's waits.
async fn three_records(dir: &Path) -> (Rc<ShardLog>, Replica) {
    let (store, replica) = open(dir).await;
    for _ in 0..3 {
        append(&store, &replica, record(-1, -1, -1)).unwrap();
    }
    settle(&store, &replica).await;
    (store, replica)
}

fn assign(store: &ShardLog, replica: &Replica, assignment: Assignment) -> bool {
    replica.assign(store, assignment, MonoMs::ZERO)
}

fn at(offset: i64, leader_epoch: Option<LeaderEpoch>) -> Position {
    let offset = Offset(offset);
    Position { offset, max_bytes: 1 << 20, leader_epoch, last_fetched_epoch: None, committed: false }
}

/// What Fetch, ListOffsets, OffsetForLeaderEpoch and DeleteRecords say to a client that believes in this epoch.
async fn ask(replica: &Replica, epoch: i32) -> [Result<(), ReadError>; 4] {
    let epoch = LeaderEpoch::from_wire(epoch);
    [
        replica.read(&at(0, epoch), true).await.map(drop),
        replica.find_offset(special_timestamp::EARLIEST, epoch, false).await.map(drop),
        replica.epoch_end(LeaderEpoch(0), epoch).map(drop),
        replica.delete_records(Some(Offset(0))).map(drop),
    ]
}

#[test]
fn who_does_not_lead_says_so_unless_the_epoch_says_more() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = three_records(dir.path()).await;
        let both = [ME, OTHER];
        let cases = [
            (assignment(Some(ME), (3, 1), &both, &both), Role::Leader),
            (assignment(Some(OTHER), (4, 2), &both, &both), Role::Follower),
            (assignment(None, (5, 3), &both, &[OTHER]), Role::Follower),
            (assignment(Some(OTHER), (6, 4), &[OTHER], &[OTHER]), Role::Offline),
            (assignment(Some(ME), (7, 5), &both, &[ME]), Role::Leader),
        ];
        for (assignment, role) in cases {
            let epoch = assignment.leader_epoch.0;
            assert!(assign(&store, &replica, assignment.clone()));
            assert!(!assign(&store, &replica, assignment), "the same again changes nothing");
            assert_eq!(replica.role(), role);
            let leads = role == Role::Leader;
            for claimed in [-1, epoch] {
                for answer in ask(&replica, claimed).await {
                    match answer {
                        Ok(()) => assert!(leads, "{role:?}"),
                        Err(e) => assert!(!leads && matches!(e, ReadError::NotLeader), "{role:?}: {e}"),
                    }
                }
            }
            for (claimed, fenced) in [(epoch - 1, true), (epoch + 1, false)] {
                for answer in ask(&replica, claimed).await.into_iter().take(3) {
                    let expected = match answer {
                        Err(ReadError::FencedEpoch) => fenced,
                        Err(ReadError::UnknownEpoch) => !fenced,
                        _ => false,
                    };
                    assert!(expected, "{role:?}, epoch {claimed}");
                }
            }
            let appended = append(&store, &replica, record(-1, -1, -1));
            let ended = replica.append_end(&store, end(9, 0, true), rt::wall());
            for result in [appended, ended] {
                match result {
                    Ok(_) => assert!(leads, "{role:?}"),
                    Err(e) => assert!(!leads && matches!(e, AppendError::NotLeader), "{role:?}: {e}"),
                }
            }
        }
        assert!(
            !assign(&store, &replica, assignment(Some(OTHER), (6, 9), &both, &both)),
            "that is long over"
        );
        assert_eq!(replica.role(), Role::Leader);
        assert_eq!(replica.leader(), (Some(ME), LeaderEpoch(7)));
    });
}

fn failures(wait: &Wait) -> Vec<(usize, Failure)> {
    let mut failures = Vec::new();
    wait.failures(|entry, failure| failures.push((entry, failure)));
    failures
}

/// Appends two records: the first waits for this disk, the second for all replicas.
fn append_two(store: &ShardLog, replica: &Replica) -> Wait {
    let wait = replica.waits().begin(Due::NEVER);
    for (nth, acks) in [Acks::Leader, Acks::All, Acks::None].into_iter().enumerate() {
        let appended = append(store, replica, record(-1, -1, -1)).unwrap();
        replica.acknowledge(&appended, acks, wait.ticket(nth));
    }
    wait
}

#[test]
fn acks_of_one_wait_for_this_disk_and_acks_of_all_for_the_isr() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = three_records(dir.path()).await;
        let both = [ME, OTHER];
        assign(&store, &replica, assignment(Some(ME), (1, 1), &both, &both));
        let wait = append_two(&store, &replica);
        use Failure::Unsettled;
        assert_eq!(failures(&wait), [(0, Unsettled), (1, Unsettled)]);
        settle(&store, &replica).await;
        assert_eq!(failures(&wait), [(1, Unsettled)], "the other replica has not said that it has it");
        assert_eq!((replica.high_watermark(), replica.offsets().durable_end()), (Offset(3), Offset(6)));
        let latest = || replica.find_offset(special_timestamp::LATEST, None, false);
        assert_eq!(latest().await.unwrap().unwrap().offset, Offset(3), "all that earlier leaders committed");
        // Long after it was last up to date: nobody waits for it to come back.
        let alone = assignment(Some(ME), (1, 2), &both, &[ME]);
        assert!(!replica.assign(&store, alone, MonoMs(60_000)), "the same term");
        assert!(failures(&wait).is_empty() && !wait.is_open());
        assert_eq!(
            (replica.high_watermark(), latest().await.unwrap().unwrap().offset),
            (Offset(6), Offset(6))
        );
        // What is there already is not waited for.
        let retry = replica.waits().begin(Due::NEVER);
        let appended = append(&store, &replica, record(-1, -1, -1)).unwrap();
        settle(&store, &replica).await;
        for acks in [Acks::None, Acks::Leader, Acks::All] {
            replica.acknowledge(&appended, acks, retry.ticket(0));
        }
        assert!(!retry.is_open());
    });
}

#[test]
fn another_term_fails_who_waits_and_the_end_of_what_is_committed_is_unknown_at_first() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = three_records(dir.path()).await;
        let both = [ME, OTHER];
        for (epoch, leader, why) in [(2, ME, Failure::Deposed), (3, OTHER, Failure::Deposed)] {
            assign(&store, &replica, assignment(Some(ME), (epoch - 1, epoch), &both, &both));
            let wait = append_two(&store, &replica);
            assert!(assign(&store, &replica, assignment(Some(leader), (epoch, epoch + 1), &both, &both)));
            assert_eq!(failures(&wait), [(0, why), (1, why)]);
            settle(&store, &replica).await;
            assert_eq!(failures(&wait), [(0, why), (1, why)], "it is not taken back");
            let latest = replica.find_offset(special_timestamp::LATEST, None, false).await;
            match leader {
                ME => assert!(matches!(latest, Err(ReadError::OffsetNotAvailable)), "{latest:?}"),
                _ => assert!(matches!(latest, Err(ReadError::NotLeader)), "{latest:?}"),
            }
        }
        assign(&store, &replica, assignment(Some(ME), (9, 9), &both, &both));
        let wait = append_two(&store, &replica);
        replica.retire();
        assert_eq!(failures(&wait), [(0, Failure::Gone), (1, Failure::Gone)]);
    });
}

#[test]
fn an_isr_below_min_insync_replicas_commits_nothing() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = three_records(dir.path()).await;
        let two = TopicConfig { min_insync_replicas: 2, ..TopicConfig::default() };
        replica.set_config(Arc::new(two));
        assert!(replica.check_acks(Acks::All).is_ok(), "of one replica no more can be asked for");
        let both = [ME, OTHER];
        assign(&store, &replica, assignment(Some(ME), (1, 1), &both, &[ME]));
        assert!(matches!(replica.check_acks(Acks::All), Err(AppendError::NotEnoughReplicas)));
        assert!(replica.check_acks(Acks::Leader).is_ok());
        let wait = append_two(&store, &replica);
        settle(&store, &replica).await;
        assert_eq!(failures(&wait), [(1, Failure::Unsettled)]);
        assert_eq!(replica.high_watermark(), Offset(3));
        replica.set_config(Arc::default());
        assert!(failures(&wait).is_empty() && replica.high_watermark() == Offset(6));
    });
}

#[test]
fn a_gap_after_what_was_refused_is_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = three_records(dir.path()).await;
        let offer = |sequence: i32, now: i64| {
            let mark = BatchMark {
                producer_id: 7,
                producer_epoch: 0,
                base_sequence: sequence,
                ..BatchMark::default()
            };
            let mut builder = BatchBuilder::new(rt::wall().0, mark);
            builder.push(None, Some(b"v"));
            let taken = replica.check_acks(Acks::All);
            let taken = taken.and_then(|()| {
                replica.append(&store, sound(&replica, builder.finish()), rt::wall(), None).map(drop)
            });
            taken.map_err(|error| replica.refuse(error, MonoMs(now)))
        };
        let is_gap = |offered| {
            matches!(offered, Err(AppendError::Producer(ProducerError::OutOfOrder { got: 3, last: 0 })))
        };
        let comes_again = |offered| matches!(offered, Err(AppendError::AfterRefused { got: 3, last: 0 }));
        assert!(offer(0, 0).is_ok() && is_gap(offer(3, 0)), "nobody refused anything before");
        let both = [ME, OTHER];
        // The last leader's clients may have batches under way.
        assign(&store, &replica, assignment(Some(ME), (1, 1), &both, &both));
        assert!(comes_again(offer(3, 29_999)) && is_gap(offer(3, 30_000)));
        // What came before had too few replicas.
        replica.set_config(Arc::new(TopicConfig { min_insync_replicas: 2, ..TopicConfig::default() }));
        assign(&store, &replica, assignment(Some(ME), (1, 2), &both, &[ME]));
        assert!(matches!(offer(1, 50_000), Err(AppendError::NotEnoughReplicas)));
        assign(&store, &replica, assignment(Some(ME), (1, 3), &both, &both));
        assert!(comes_again(offer(3, 50_001)) && offer(1, 50_002).is_ok());
        assert!(offer(0, 50_003).is_ok(), "a repetition is known");
    });
}

#[test]
fn a_topic_that_does_not_wait_for_the_disk_is_answered_at_once() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = three_records(dir.path()).await;
        replica.set_config(Arc::new(TopicConfig { write_caching: true, ..TopicConfig::default() }));
        let wait = append_two(&store, &replica);
        assert!(!wait.is_open() && replica.high_watermark() == Offset(6));
        replica.set_config(Arc::default());
        let wait = append_two(&store, &replica);
        assert_eq!(failures(&wait).len(), 2);
        assert_eq!(replica.offsets().durable_end(), Offset(6), "what was told stays so");
        settle(&store, &replica).await;
        assert!(!wait.is_open() && replica.high_watermark() == Offset(9));
    });
}

#[test]
fn a_reader_is_told_where_its_log_parts_from_this_one_or_that_nobody_knows() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = three_records(dir.path()).await;
        assign(&store, &replica, assignment(Some(ME), (4, 1), &[ME], &[ME]));
        append(&store, &replica, record(-1, -1, -1)).unwrap();
        settle(&store, &replica).await;
        let read = |offset: i64, last: i32| {
            let last_fetched_epoch = Some(LeaderEpoch(last));
            let outcome = replica.read_cached(&Position { last_fetched_epoch, ..at(offset, None) }, true);
            outcome.map(|outcome| outcome.expect("in memory").diverging)
        };
        for (offset, last, parts) in [(2, 0, None), (4, 4, None), (4, 0, Some((0, 3))), (3, 2, Some((0, 3)))]
        {
            let parts = parts.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end)));
            assert_eq!(read(offset, last).unwrap(), parts, "{offset} in epoch {last}");
        }
        // Where it parted is what helps, also who is past the end.
        assert_eq!(read(9, 0).unwrap(), Some((LeaderEpoch(0), Offset(3))));
        assert!(matches!(read(9, 4).unwrap(), Some((LeaderEpoch(4), Offset(4)))));
        assert!(matches!(read(3, 7), Err(ReadError::OffsetOutOfRange)), "an epoch that is not known here");
        replica.log.set_start_offset(Offset(3));
        assert!(matches!(read(2, 0), Err(ReadError::OffsetOutOfRange)), "nothing is left there");
    });
}
