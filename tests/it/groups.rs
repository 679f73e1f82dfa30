//! Consumer groups: the classic protocol by hand where a rule is at stake, librdkafka where an application is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_wire::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest,
    SyncGroupRequest,
};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::support::batch::encoded;
use crate::support::broker::needs_own_broker;
use crate::support::calls::{Topic, create, metadata_of, produce_at};
use crate::support::{Broker, Options, Wire, eventually, msg, shared, unique};

const SOON: Duration = Duration::from_secs(30);

mod error {
    pub const INVALID_TOPIC: i16 = 17;
    pub const ILLEGAL_GENERATION: i16 = 22;
    pub const INVALID_GROUP_ID: i16 = 24;
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    pub const REBALANCE_IN_PROGRESS: i16 = 27;
    pub const INVALID_REQUEST: i16 = 42;
    pub const NON_EMPTY_GROUP: i16 = 68;
    pub const GROUP_ID_NOT_FOUND: i16 = 69;
    pub const MEMBER_ID_REQUIRED: i16 = 79;
    pub const FENCED_INSTANCE_ID: i16 = 82;
}

/// A connection to a group's coordinator, once that is loaded.
pub fn coordinator(addr: SocketAddr, group: &str) -> Wire {
    let mut wire = Wire::connect(addr);
    eventually("the coordinator is found", SOON, || {
        let found = wire.call(4, &msg!(FindCoordinatorRequest { coordinator_keys: vec![group.into()] }));
        found.coordinators[0].error_code == 0
    });
    eventually("the coordinator is loaded", SOON, || {
        let described = wire.call(5, &msg!(DescribeGroupsRequest { groups: vec![group.into()] }));
        described.groups[0].error_code == 0
    });
    wire
}

fn join_request(version: i16, group: &str, member: &str, instance: Option<&str>) -> JoinGroupRequest {
    let protocol = msg!(JoinGroupRequestProtocol {
        name: "range".into(),
        metadata: Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0")
    });
    let mut request = msg!(JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        member_id: member.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
    });
    if version >= 1 {
        request.rebalance_timeout_ms = 20_000;
    }
    if version >= 5 {
        request.group_instance_id = instance.map(Into::into);
    }
    request
}

/// A lone member joins, with the id it is given where the version wants that.
fn join(wire: &mut Wire, version: i16, group: &str, instance: Option<&str>) -> JoinGroupResponse {
    let first = wire.call(version, &join_request(version, group, "", instance));
    if first.error_code != error::MEMBER_ID_REQUIRED {
        return first;
    }
    assert!(version >= 4 && instance.is_none() && !first.member_id.is_empty());
    wire.call(version, &join_request(version, group, &first.member_id, None))
}

fn sync(
    wire: &mut Wire,
    version: i16,
    group: &str,
    joined: &JoinGroupResponse,
    bytes: &'static [u8],
) -> (i16, Bytes) {
    let given = msg!(SyncGroupRequestAssignment {
        member_id: joined.member_id.clone(),
        assignment: Bytes::from_static(bytes),
    });
    let mut request = msg!(SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![given],
    });
    if version >= 5 {
        request.protocol_type = Some("consumer".into());
        request.protocol_name = Some("range".into());
    }
    let reply = wire.call(version, &request);
    (reply.error_code, reply.assignment)
}

fn heartbeat(wire: &mut Wire, group: &str, member: &str, generation: i32) -> i16 {
    let request = msg!(HeartbeatRequest {
        group_id: group.into(),
        generation_id: generation,
        member_id: member.into()
    });
    wire.call(4, &request).error_code
}

pub fn commit(
    wire: &mut Wire,
    version: i16,
    group: &str,
    topic: &Topic,
    who: (&str, i32),
    offset: i64,
) -> i16 {
    let mut partition = msg!(OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_metadata: Some("note".into()),
    });
    if version >= 6 {
        partition.committed_leader_epoch = 0;
    }
    let mut asked = msg!(OffsetCommitRequestTopic { partitions: vec![partition] });
    match version {
        10.. => asked.topic_id = topic.id,
        _ => asked.name = topic.name.as_str().into(),
    }
    let mut request = msg!(OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: who.1,
        member_id: who.0.into(),
        topics: vec![asked],
    });
    if version <= 4 {
        request.retention_time_ms = -1;
    }
    wire.call(version, &request).topics[0].partitions[0].error_code
}

/// The committed offset of partition 0, and its metadata; -1 if there is none.
fn committed(wire: &mut Wire, version: i16, group: &str, topic: &Topic) -> (i64, String) {
    let mut request = OffsetFetchRequest::default();
    if version >= 8 {
        let mut asked = msg!(OffsetFetchRequestTopics { partition_indexes: vec![0] });
        match version {
            10.. => asked.topic_id = topic.id,
            _ => asked.name = topic.name.as_str().into(),
        }
        let mut of = msg!(OffsetFetchRequestGroup { group_id: group.into(), topics: Some(vec![asked]) });
        if version >= 9 {
            of.member_epoch = -1;
        }
        request.groups = vec![of];
        let reply = wire.call(version, &request);
        assert_eq!(reply.groups[0].error_code, 0);
        let p = &reply.groups[0].topics[0].partitions[0];
        assert_eq!(p.error_code, 0);
        return (p.committed_offset, p.metadata.as_deref().unwrap_or_default().to_string());
    }
    let asked =
        msg!(OffsetFetchRequestTopic { name: topic.name.as_str().into(), partition_indexes: vec![0] });
    request.group_id = group.into();
    request.topics = Some(vec![asked]);
    let reply = wire.call(version, &request);
    let p = &reply.topics[0].partitions[0];
    assert_eq!((reply.error_code, p.error_code), (0, 0));
    (p.committed_offset, p.metadata.as_deref().unwrap_or_default().to_string())
}

#[test]
fn coordinators_are_found_at_every_version() {
    let mut wire = coordinator(shared(), "find");
    for version in 0..=6 {
        for key_type in if version == 0 { 0..=0 } else { 0..=1 } {
            let mut request = FindCoordinatorRequest::default();
            if version >= 1 {
                request.key_type = key_type;
            }
            match version {
                4.. => request.coordinator_keys = vec!["a".into(), "b".into()],
                _ => request.key = "a".into(),
            }
            // Kafka answers that it is not available while the topic is being made.
            eventually("a coordinator", SOON, || {
                let reply = wire.call(version, &request);
                match version {
                    4.. => {
                        reply.coordinators.iter().all(|c| c.error_code == 0 && c.port > 0 && c.node_id >= 0)
                    }
                    _ => reply.error_code == 0 && reply.port > 0 && reply.node_id >= 0,
                }
            });
        }
    }
    for topic in ["__consumer_offsets", "__transaction_state"] {
        let metadata = metadata_of(&mut wire, topic, false);
        assert!(metadata.is_internal && metadata.partitions.len() == 50, "{topic}");
        let topic = Topic { name: topic.into(), id: metadata.topic_id };
        let refused = produce_at(&mut wire, 9, &topic, 0, -1, encoded([b"x"]));
        assert_eq!(refused.error_code, error::INVALID_TOPIC);
    }
    let share = msg!(FindCoordinatorRequest { key_type: 2, coordinator_keys: vec!["g:x:0".into()] });
    assert_eq!(wire.call(5, &share).coordinators[0].error_code, error::INVALID_REQUEST);
}

#[test]
fn a_member_joins_at_every_version() {
    let addr = shared();
    for version in 0..=9 {
        let group = unique("join");
        let mut wire = coordinator(addr, &group);
        let joined = join(&mut wire, version, &group, None);
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "v{version}");
        assert_eq!((&joined.leader, joined.protocol_name.as_deref()), (&joined.member_id, Some("range")));
        assert_eq!(joined.members.len(), 1);
        let sync_version = version.min(5);
        assert_eq!(sync(&mut wire, sync_version, &group, &joined, b"mine"), (0, Bytes::from_static(b"mine")));
        assert_eq!(heartbeat(&mut wire, &group, &joined.member_id, 1), 0);
        let described = wire.call(5, &msg!(DescribeGroupsRequest { groups: vec![group.as_str().into()] }));
        let described = &described.groups[0];
        assert_eq!((&*described.group_state, &*described.protocol_data), ("Stable", "range"));
        assert_eq!(&described.members[0].member_assignment[..], b"mine");
        let leave =
            msg!(LeaveGroupRequest { group_id: group.as_str().into(), member_id: joined.member_id.clone() });
        assert_eq!(wire.call(2, &leave).error_code, 0);
        assert_eq!(wire.call(2, &leave).error_code, error::UNKNOWN_MEMBER_ID);
    }
}

#[test]
fn offsets_at_every_version() {
    let addr = shared();
    let group = unique("offsets");
    let mut wire = coordinator(addr, &group);
    let topic = create(&mut wire, "offsets", 1, &[]);
    for version in 1..=10 {
        assert_eq!(committed(&mut wire, version, &group, &topic).0, -1, "nothing yet, v{version}");
    }
    for version in 2..=10 {
        assert_eq!(commit(&mut wire, version, &group, &topic, ("", -1), 100 + i64::from(version)), 0);
        for fetch in 1..=10 {
            let found = committed(&mut wire, fetch, &group, &topic);
            assert_eq!(found, (100 + i64::from(version), "note".to_string()), "v{version} read by v{fetch}");
        }
    }
    let missing = Topic { name: unique("missing"), id: topic.id };
    assert_eq!(commit(&mut wire, 9, &group, &missing, ("", -1), 1), 3);
    let unknown = Topic { name: String::new(), id: kafka_wire_core::Uuid::from_bytes([9; 16]) };
    assert_eq!(commit(&mut wire, 10, &group, &unknown, ("", -1), 1), 100);
    let stranger = unique("stranger");
    assert_eq!(commit(&mut wire, 9, &stranger, &topic, ("m", 3), 1), error::GROUP_ID_NOT_FOUND);
    assert_eq!(commit(&mut wire, 8, &stranger, &topic, ("m", 3), 1), error::ILLEGAL_GENERATION);
    // All that the group has, of several groups at once.
    let of = |group: &str| msg!(OffsetFetchRequestGroup { group_id: group.into(), topics: None });
    let all = wire.call(8, &msg!(OffsetFetchRequest { groups: vec![of(&group), of(&stranger)] }));
    assert_eq!((all.groups[0].topics.len(), all.groups[1].topics.len()), (1, 0));
    assert_eq!(all.groups[0].topics[0].partitions[0].committed_offset, 110);
}

#[test]
fn refusals_have_kafkas_codes() {
    let group = unique("refuse");
    let mut wire = coordinator(shared(), &group);
    let topic = create(&mut wire, "refuse", 1, &[]);
    let empty = join_request(5, "", "", None);
    assert_eq!(wire.call(5, &empty).error_code, error::INVALID_GROUP_ID);
    assert_eq!(heartbeat(&mut wire, &group, "m", 1), error::UNKNOWN_MEMBER_ID);
    assert_eq!(wire.call(5, &join_request(5, &group, "forged", None)).error_code, error::UNKNOWN_MEMBER_ID);
    let joined = join(&mut wire, 5, &group, None);
    let member = joined.member_id.to_string();
    assert_eq!(commit(&mut wire, 8, &group, &topic, (&member, 1), 5), error::REBALANCE_IN_PROGRESS);
    assert_eq!(sync(&mut wire, 3, &group, &joined, b"x").0, 0);
    assert_eq!(commit(&mut wire, 8, &group, &topic, (&member, 1), 5), 0);
    assert_eq!(commit(&mut wire, 8, &group, &topic, (&member, 2), 6), error::ILLEGAL_GENERATION);
    assert_eq!(commit(&mut wire, 8, &group, &topic, ("forged", 1), 7), error::UNKNOWN_MEMBER_ID);
    assert_eq!(commit(&mut wire, 8, &group, &topic, ("", -1), 8), error::UNKNOWN_MEMBER_ID);
    assert_eq!(heartbeat(&mut wire, &group, &member, 2), error::ILLEGAL_GENERATION);
    assert_eq!(committed(&mut wire, 7, &group, &topic).0, 5, "the refused changed nothing");
    let delete = msg!(DeleteGroupsRequest { groups_names: vec![group.as_str().into(), "no such".into()] });
    let codes: Vec<i16> = wire.call(2, &delete).results.iter().map(|r| r.error_code).collect();
    assert_eq!(
        codes.iter().collect::<BTreeSet<_>>(),
        [error::NON_EMPTY_GROUP, error::GROUP_ID_NOT_FOUND].iter().collect()
    );
}

#[test]
fn a_static_member_keeps_its_place_and_fences_its_former_self() {
    let group = unique("static");
    let mut wire = coordinator(shared(), &group);
    let joined = join(&mut wire, 7, &group, Some("one"));
    assert_eq!(joined.error_code, 0);
    assert_eq!(sync(&mut wire, 5, &group, &joined, b"kept").0, 0);
    let again = wire.call(9, &join_request(9, &group, "", Some("one")));
    assert_eq!((again.error_code, again.generation_id), (0, 1), "no new generation");
    assert_ne!(again.member_id, joined.member_id);
    assert_eq!(sync(&mut wire, 5, &group, &again, b"ignored"), (0, Bytes::from_static(b"kept")));
    let fenced = join_request(9, &group, &joined.member_id, Some("one"));
    assert_eq!(wire.call(9, &fenced).error_code, error::FENCED_INSTANCE_ID);
    let list = msg!(ListGroupsRequest {
        states_filter: vec!["stable".into()],
        types_filter: vec!["Classic".into()]
    });
    let listed = wire.call(5, &list);
    let found = listed.groups.iter().find(|g| *g.group_id == *group).expect("listed");
    assert_eq!(
        (&*found.group_state, &*found.group_type, &*found.protocol_type),
        ("Stable", "classic", "consumer")
    );
}

fn config(addr: SocketAddr, group: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", addr.to_string()).set("broker.address.family", "v4");
    config.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "500");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

fn consumer(addr: SocketAddr, group: &str, topic: &str, settings: &[(&str, &str)]) -> BaseConsumer {
    let consumer: BaseConsumer = config(addr, group, settings).create().expect("a consumer");
    consumer.subscribe(&[topic]).expect("subscribe");
    consumer
}

fn assigned(consumer: &BaseConsumer) -> BTreeSet<i32> {
    let list = consumer.assignment().expect("an assignment");
    list.elements().iter().map(|e| e.partition()).collect()
}

fn fill(addr: SocketAddr, partitions: i32, each: usize) -> Topic {
    let mut wire = Wire::connect(addr);
    let topic = create(&mut wire, "group", partitions, &[]);
    add(addr, &topic, partitions, 0, each);
    topic
}

fn add(addr: SocketAddr, topic: &Topic, partitions: i32, from: usize, each: usize) {
    let mut wire = Wire::connect(addr);
    for partition in 0..partitions {
        for i in from..from + each {
            let value = format!("{partition}/{i}");
            let reply = produce_at(&mut wire, 9, topic, partition, -1, encoded([value.as_bytes()]));
            assert_eq!(reply.error_code, 0);
        }
    }
}

/// Polls all until their assignments are disjoint and cover everything; takes along what they read.
fn settle(consumers: &[&BaseConsumer], partitions: i32, seen: &mut BTreeMap<String, usize>) {
    let started = Instant::now();
    loop {
        for consumer in consumers {
            take(consumer, seen);
        }
        let sets: Vec<BTreeSet<i32>> = consumers.iter().map(|c| assigned(c)).collect();
        let all: BTreeSet<i32> = sets.iter().flatten().copied().collect();
        let sum: usize = sets.iter().map(BTreeSet::len).sum();
        if sum == partitions as usize && all.len() == sum && sets.iter().all(|s| !s.is_empty()) {
            return;
        }
        assert!(started.elapsed() < SOON, "the group does not settle: {sets:?}");
    }
}

fn take(consumer: &BaseConsumer, seen: &mut BTreeMap<String, usize>) {
    while let Some(message) = consumer.poll(Duration::from_millis(20)) {
        let Ok(message) = message else { continue };
        let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
        *seen.entry(value).or_default() += 1;
    }
}

fn three_members_share(strategy: &str) {
    let (addr, group) = (shared(), unique("three"));
    let topic = fill(addr, 6, 20);
    let settings = [("partition.assignment.strategy", strategy)];
    let mut seen = BTreeMap::new();
    let a = consumer(addr, &group, &topic.name, &settings);
    settle(&[&a], 6, &mut seen);
    let b = consumer(addr, &group, &topic.name, &settings);
    let c = consumer(addr, &group, &topic.name, &settings);
    settle(&[&a, &b, &c], 6, &mut seen);
    drop(c);
    settle(&[&a, &b], 6, &mut seen);
    add(addr, &topic, 6, 20, 5);
    let started = Instant::now();
    while seen.len() < 6 * 25 {
        take(&a, &mut seen);
        take(&b, &mut seen);
        assert!(started.elapsed() < SOON, "{} of {}", seen.len(), 6 * 25);
    }
}

#[test]
fn three_members_share_and_one_leaves_range() {
    three_members_share("range");
}

#[test]
fn three_members_share_and_one_leaves_cooperative() {
    three_members_share("cooperative-sticky");
}

/// kill -9 of the broker between commits: what was acknowledged is where a new member resumes.
#[test]
fn commits_survive_kill_9() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start_with(Options::default());
    let (addr, group) = (broker.kafka, unique("killed"));
    let topic = fill(addr, 3, 30);
    let mut next = BTreeMap::from([(0, 0_i64), (1, 0), (2, 0)]);
    for round in 0..3 {
        let member = consumer(addr, &group, &topic.name, &[]);
        let started = Instant::now();
        let mut got = 0;
        while got < 20 {
            assert!(started.elapsed() < SOON, "round {round}: {got} records");
            let Some(Ok(message)) = member.poll(Duration::from_millis(100)) else { continue };
            let expected = next.get_mut(&message.partition()).expect("a partition");
            assert_eq!(message.offset(), *expected, "partition {} resumes where it was", message.partition());
            *expected += 1;
            got += 1;
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &next {
            list.add_partition_offset(&topic.name, *partition, Offset::Offset(*offset)).expect("an offset");
        }
        member.commit(&list, CommitMode::Sync).expect("an acknowledged commit");
        broker.kill();
        drop(member);
        broker.restart();
        let mut wire = coordinator(addr, &group);
        assert_eq!(committed(&mut wire, 7, &group, &topic).0, next[&0]);
    }
    broker.assert_healthy();
}

/// A group that was stable when the broker was killed goes on in the same generation.
#[test]
fn a_generation_survives_kill_9() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let group = unique("generation");
    let mut wire = coordinator(broker.kafka, &group);
    let joined = join(&mut wire, 5, &group, None);
    assert_eq!(sync(&mut wire, 3, &group, &joined, b"mine").0, 0);
    broker.kill();
    broker.restart();
    let mut wire = coordinator(broker.kafka, &group);
    assert_eq!(heartbeat(&mut wire, &group, &joined.member_id, 1), 0);
    assert_eq!(sync(&mut wire, 3, &group, &joined, b""), (0, Bytes::from_static(b"mine")));
}

/// SIGTERM does not wait for members that wait for others.
#[test]
fn a_stop_ends_waiting_joins() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let group = unique("stop");
    let mut wire = coordinator(broker.kafka, &group);
    wire.send(0, &join_request(0, &group, "", None));
    std::thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    assert!(broker.stop().success());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
