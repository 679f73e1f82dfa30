use std::time::Duration;

use super::*;
use crate::controller::{Registration, register};
use crate::coordinator::{Machine, group, partition_for, txn};
use crate::model::internal::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::model::settings::BrokerSettings;
use crate::model::{LeaderEpoch, Offset, TopicId, shard_of};
use crate::partition::{EndOfTxn, Position};
use crate::rt;
use crate::shard::coordinator::Unavailable;
use crate::shard::located::Me;
use crate::shard::message::{CommitInTxn, FetchLimits, Transactional};
use crate::shard::testing::alone;
use crate::wire::control::EndMarker;

#[test]
fn a_partition_is_served_by_its_leader_on_one_shard() {
    let ids = (0..64).map(|index| PartitionId { topic: TopicId([7; 16]), index });
    for id in ids {
        let shards: Vec<Me> = (0..3).map(|shard| Me { broker: 1, shard, count: 3 }).collect();
        let here: Vec<usize> =
            shards.iter().filter(|me| me.leader(id, Some(1)) == Where::Here).map(|me| me.shard).collect();
        assert_eq!(here, [shard_of(id, 3)], "one shard serves it");
        for me in shards {
            let served = me.leader(id, Some(1));
            assert_eq!(me.number(served), Some(here[0]), "and each knows which");
            assert_eq!(me.shard(id), served);
            assert_eq!(me.leader(id, Some(2)), Where::Broker(2));
            assert_eq!(me.leader(id, None), Where::Nobody);
            assert_eq!((me.number(Where::Broker(1)), me.number(Where::Nobody)), (None, None));
        }
    }
}

#[test]
fn what_another_broker_leads_is_not_served() {
    rt::block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let me = BrokerSettings::default().broker_id;
        let other = me + 1;
        let shard = alone(dir.path(), &[("t", vec![vec![me], vec![other, me], vec![other]])]).await.0;
        let image = shard.image();
        let topic = image.topic("t").unwrap();
        let at: Vec<Located> = (0..3).map(|index| shard.leader_of(topic, index).unwrap()).collect();
        assert_eq!(at.iter().map(|l| l.at).collect::<Vec<_>>()[..2], [Where::Here, Where::Broker(other)]);
        assert_eq!((shard.leader_of(topic, 3), shard.leader_of(topic, -1)), (None, None));

        let position = Position {
            offset: Offset(0),
            max_bytes: 1 << 20,
            leader_epoch: None,
            last_fetched_epoch: None,
            committed: false,
        };
        let entries: Vec<_> = at.iter().map(|at| FetchEntry { partition: *at, position }).collect();
        let limits = FetchLimits { max_wait: Duration::from_secs(60), min_bytes: 1, max_bytes: 1 << 20 };
        // An error is not waited upon.
        let (fetched, _) = shard.fetch(&entries, limits).await;
        let not_leader = |result: Result<(), ReadError>| matches!(result, Err(ReadError::NotLeader));
        let elsewhere: Vec<bool> = fetched.into_iter().map(|r| not_leader(r.map(drop))).collect();
        assert_eq!(elsewhere, [false, true, true]);

        let query = |at: &Located| OffsetQuery {
            partition: *at,
            timestamp: -1,
            leader_epoch: None,
            committed: false,
        };
        let found = shard.find_offsets(&at.iter().map(query).collect::<Vec<_>>()).await;
        assert_eq!(found[0].as_ref().unwrap().unwrap().offset, Offset(0));
        assert!(found.into_iter().skip(1).all(|r| not_leader(r.map(drop))));
        let query = |at: &Located| EpochQuery { partition: *at, epoch: LeaderEpoch(0), current: None };
        let ends = shard.epoch_ends(&at.iter().map(query).collect::<Vec<_>>()).await;
        assert_eq!(
            ends.into_iter().map(|r| not_leader(r.map(drop))).collect::<Vec<_>>(),
            [false, true, true]
        );
        // The other way round, so that answers come in the order of the questions.
        let queries: Vec<_> = at.iter().rev().map(|at| (*at, Some(Offset(0)))).collect();
        let deleted = shard.delete_records(&queries).await;
        assert_eq!(
            deleted.into_iter().map(|r| not_leader(r.map(drop))).collect::<Vec<_>>(),
            [true, true, false]
        );

        let end = EndOfTxn {
            producer: crate::model::Producer::new(1, 0),
            marker: EndMarker { commit: true, coordinator_epoch: 0 },
            version: 2,
        };
        let ends = shard.end_transactions(&[EndEntry { partition: at[1], end }], None).await;
        assert!(matches!(ends[..], [Err(ProduceError::NotLeader)]));

        // What a replica holds does not depend on who leads.
        let held: Vec<Located> = (0..3).map(|index| shard.replica_of(topic, index).unwrap()).collect();
        assert_eq!(held.iter().map(|l| l.at).collect::<Vec<_>>(), [Where::Here, Where::Here, Where::Nobody]);
        let sizes = shard.sizes(&held).await;
        assert!(sizes[0].is_ok() && sizes[1].is_ok() && matches!(sizes[2], Err(ReadError::NotLeader)));
    });
}

#[test]
fn a_coordinator_is_where_its_partition_is_led() {
    rt::block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let me = BrokerSettings::default().broker_id;
        let halves = vec![vec![me], vec![me + 1]];
        let shard =
            alone(dir.path(), &[(CONSUMER_OFFSETS, halves.clone()), (TRANSACTION_STATE, halves)]).await.0;
        let of = |partition| {
            (0..)
                .map(|n| format!("key-{n}"))
                .find(|key| partition_for(key, 2) == partition)
                .expect("some key")
        };
        let (here, elsewhere) = (of(0), of(1));
        let describe = |key: &str| shard.group(key, group::ask::describe(key.into()));
        assert_eq!(describe(&here).await, Ok(None));
        assert_eq!(describe(&elsewhere).await, Err(Unavailable::NotHere));
        let described = |key: String| {
            let shard = shard.clone();
            async move { shard.transaction(&key, txn::ask::describe(key.as_str().into())).await }
        };
        assert_eq!(described(here.clone()).await, Ok(Err(txn::TxnError::NotFound)));
        assert_eq!(described(elsewhere.clone()).await, Err(Unavailable::NotHere));
        // The only broker coordinates, however long its controller takes (C7).
        let now = rt::now();
        shard.coordinators.extend(now);
        assert_eq!(describe(&here).await, Ok(None));
        assert_eq!(shard.coordinators_silent(), None);
        // One of several does not know, also where it was told while it was the only one.
        let join = |image: &crate::metadata::Image, id: i32| {
            let settings = BrokerSettings { broker_id: id, ..BrokerSettings::default() };
            let registration = Registration::of(&settings, 1, [id as u8; 16], [id as u8; 16]);
            image.with(&register(image, image.version + 1, &registration)).unwrap()
        };
        for id in [me, me + 1] {
            let (image, delta) = join(&shard.image(), id);
            shard.apply(&std::sync::Arc::new(image), &delta);
        }
        assert_eq!(describe(&here).await, Err(Unavailable::NotHere));
        assert_eq!(described(here.clone()).await, Err(Unavailable::NotHere));
        assert!(matches!(shard.list_groups_here(&Default::default()), Err(Unavailable::NotHere)));
        assert!(shard.coordinators_silent().is_some());
        shard.coordinators.extend(now + std::time::Duration::from_secs(60));
        assert_eq!(describe(&here).await, Ok(None));
        assert_eq!(shard.coordinators_silent(), None);

        let commit = CommitInTxn {
            partition: shard.coordinator_of(group::Groups::TOPIC, &elsewhere).unwrap(),
            transaction: Transactional { id: "tx".into(), implicit: true },
            producer: crate::model::Producer::new(1, 0),
            commit: group::Commit {
                from: group::Member {
                    group: elsewhere.as_str().into(),
                    member: "".into(),
                    instance: None,
                    generation: -1,
                },
                retention_ms: -1,
                says_not_found: false,
                topics: Vec::new(),
            },
        };
        assert!(matches!(shard.commit_in(commit).await, Ok(Err(Unavailable::NotHere))));
    });
}
