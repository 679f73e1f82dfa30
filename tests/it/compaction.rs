//! Compaction under a running broker: what the coordinators keep in their own topics survives it and kill -9.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_wire::incremental_alter_configs_request as incremental;
use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_wire::{
    FindCoordinatorRequest, IncrementalAlterConfigsRequest, OffsetCommitRequest, OffsetFetchRequest,
};

use crate::support::broker::{metric_total, needs_own_broker};
use crate::support::wire::decode_reply;
use crate::support::{Broker, Options, Wire, eventually, msg};
use crate::transactions::Pipeline;

const SOON: Duration = Duration::from_secs(30);
const GROUPS: usize = 8;

/// Rolls segments and compacts them without waiting.
fn compact_eagerly(wire: &mut Wire, topic: &str) {
    let set = |name: &str, value: &str| {
        msg!(incremental::AlterableConfig { name: name.into(), value: Some(value.into()) })
    };
    let resource = msg!(incremental::AlterConfigsResource {
        resource_type: 2,
        resource_name: topic.into(),
        configs: vec![
            set("segment.ms", "150"),
            set("min.cleanable.dirty.ratio", "0.01"),
            set("delete.retention.ms", "0"),
        ],
    });
    let request = msg!(IncrementalAlterConfigsRequest { resources: vec![resource] });
    let response = wire.call(1, &request).responses.remove(0);
    assert_eq!(response.error_code, 0, "{topic}: {:?}", response.error_message);
}

fn commit(group: &str, topic: &str, offset: i64) -> OffsetCommitRequest {
    let partition = msg!(OffsetCommitRequestPartition { committed_offset: offset });
    let asked = msg!(OffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition] });
    msg!(OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![asked],
    })
}

/// The group's offset; `None` while its coordinator cannot say.
fn committed(wire: &mut Wire, group: &str, topic: &str) -> Option<i64> {
    let asked = msg!(OffsetFetchRequestTopics { name: topic.into(), partition_indexes: vec![0] });
    let of = msg!(OffsetFetchRequestGroup { group_id: group.into(), topics: Some(vec![asked]) });
    let answer = wire.call(8, &msg!(OffsetFetchRequest { groups: vec![of] })).groups.remove(0);
    (answer.error_code == 0).then(|| answer.topics[0].partitions[0].committed_offset)
}

/// What each group was told is committed.
type Acked = Mutex<[i64; GROUPS]>;

/// Commits for one group after the other until told to stop, whatever happens to the broker.
fn commit_on(addr: SocketAddr, id: &str, topic: &str, acked: &Acked, stop: &AtomicBool) {
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        // A broken connection is a panic of the helper; what it was about is done again.
        let _ = std::panic::catch_unwind(|| {
            let Ok(mut wire) = Wire::try_connect(addr) else {
                return std::thread::sleep(Duration::from_millis(20));
            };
            let mut at = next;
            while !stop.load(Ordering::Relaxed) {
                let group = at % GROUPS;
                let request = commit(&format!("{id}-{group}"), topic, at as i64);
                let correlation = wire.send(8, &request);
                let Some(frame) = wire.receive_frame() else { return };
                let answer = decode_reply::<OffsetCommitRequest>(8, correlation, frame);
                if answer.topics[0].partitions[0].error_code == 0 {
                    let mut acked = acked.lock().expect("a lock");
                    acked[group] = acked[group].max(at as i64);
                    at += 1;
                }
            }
        });
        next = acked.lock().expect("a lock").iter().max().copied().unwrap_or(0).max(-1) as usize + 1;
    }
}

#[test]
fn coordinators_load_from_logs_that_are_being_compacted_whenever_they_are_killed() {
    if needs_own_broker() {
        return;
    }
    let kills: u64 = std::env::var("WEIR_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let args = vec!["--journal-file-size", "1MiB", "--compaction-interval", "50ms"];
    let mut broker = Broker::start_with(Options { args, ..Options::default() });
    let addr = broker.kafka;
    let mut wire = Wire::connect(addr);
    let pipeline = Pipeline::filled(addr, "compacted", 2000);
    let (id, input) = (&pipeline.id, &pipeline.input);
    eventually("a first commit", SOON, || {
        wire.call(4, &msg!(FindCoordinatorRequest { coordinator_keys: vec![id.as_str().into()] }));
        wire.call(8, &commit(&format!("{id}-0"), input, 0)).topics[0].partitions[0].error_code == 0
    });
    for topic in ["__consumer_offsets", "__transaction_state"] {
        compact_eagerly(&mut wire, topic);
    }
    let acked: Acked = Mutex::new([-1; GROUPS]);
    let check = |exactly: bool| {
        let known = *acked.lock().expect("a lock");
        let mut wire = Wire::connect(addr);
        for (group, known) in known.into_iter().enumerate().filter(|(_, known)| *known >= 0) {
            let name = format!("{id}-{group}");
            let mut stored = None;
            eventually("the coordinator is loaded", SOON, || {
                stored = committed(&mut wire, &name, input);
                stored.is_some()
            });
            let stored = stored.expect("an answer");
            assert!(stored >= known, "{name}: {stored} is older than {known}, which was acknowledged");
            assert!(!exactly || stored <= known + GROUPS as i64, "{name}: {stored}, acknowledged {known}");
        }
    };
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| pipeline.run());
        scope.spawn(|| commit_on(addr, id, input, &acked, &pipeline.stop));
        let mut removed = 0;
        for kill in 0..kills {
            std::thread::sleep(Duration::from_millis(600 + kill * 370 % 900));
            removed += removed_records(broker.admin).expect("metrics");
            broker.kill();
            broker.restart();
            check(false);
        }
        pipeline.finish(&worker);
        removed += removed_records(broker.admin).expect("metrics");
        println!("{removed} records compacted away");
        assert!(removed > 100, "{removed} records were compacted away");
    });
    // Once more, from logs that nobody writes to.
    broker.kill();
    broker.restart();
    check(true);
    pipeline.assert_exactly_once();
    broker.assert_healthy();
}

pub fn removed_records(admin: SocketAddr) -> std::io::Result<u64> {
    Ok(metric_total(admin, "weir_compaction_removed_records_total")? as u64)
}
