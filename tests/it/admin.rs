//! What administers a broker: versions, metadata, topics, partitions, configs.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_wire::alter_configs_request as alter;
use kafka_wire::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::create_topics_response::CreatableTopicResult;
use kafka_wire::delete_topics_request::DeleteTopicState;
use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire::describe_configs_response::DescribeConfigsResult;
use kafka_wire::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_wire::incremental_alter_configs_request as incremental;
use kafka_wire::metadata_request::MetadataRequestTopic;
use kafka_wire::{
    AlterConfigsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeTopicPartitionsRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, MetadataRequest,
};
use kafka_wire_core::{ApiVersion, DecodeLimits, Decoder, KafkaDecode, Uuid};

use crate::support::batch::encoded;
use crate::support::broker::external;
use crate::support::calls::{Topic, code, create, list_offset, metadata_of, produce, produce_at, read_from};
use crate::support::{Wire, eventually, msg, shared, unique, wire};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// What Kafka 4.3 speaks, for the APIs this broker is here to serve.
const SERVED: &[(i16, &str, i16, i16)] = &[
    (0, "Produce", 0, 13),
    (1, "Fetch", 4, 18),
    (2, "ListOffsets", 1, 11),
    (3, "Metadata", 0, 13),
    (18, "ApiVersions", 0, 4),
    (19, "CreateTopics", 2, 7),
    (20, "DeleteTopics", 1, 6),
    (21, "DeleteRecords", 0, 2),
    (22, "InitProducerId", 0, 5),
    (23, "OffsetForLeaderEpoch", 2, 4),
    (32, "DescribeConfigs", 1, 4),
    (33, "AlterConfigs", 0, 2),
    (34, "AlterReplicaLogDirs", 1, 2),
    (35, "DescribeLogDirs", 1, 5),
    (37, "CreatePartitions", 0, 3),
    (43, "ElectLeaders", 0, 2),
    (44, "IncrementalAlterConfigs", 0, 1),
    (45, "AlterPartitionReassignments", 0, 1),
    (46, "ListPartitionReassignments", 0, 0),
    (48, "DescribeClientQuotas", 0, 1),
    (49, "AlterClientQuotas", 0, 1),
    (55, "DescribeQuorum", 0, 2),
    (57, "UpdateFeatures", 0, 2),
    (60, "DescribeCluster", 0, 2),
    (61, "DescribeProducers", 0, 0),
    (64, "UnregisterBroker", 0, 0),
    (74, "ListConfigResources", 0, 1),
    (75, "DescribeTopicPartitions", 0, 0),
    (80, "AddRaftVoter", 0, 1),
    (81, "RemoveRaftVoter", 0, 0),
];

#[test]
fn api_versions_names_what_is_served() {
    for version in 0..=4 {
        let mut wire = Wire::connect(shared());
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request = named("weir-tests", "1.0");
        }
        let reply = wire.call(version, &request);
        assert_eq!(reply.error_code, code::NONE, "v{version}");
        let served: BTreeMap<i16, (i16, i16)> =
            reply.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        for &(key, name, min, max) in SERVED {
            let (low, high) =
                *served.get(&key).unwrap_or_else(|| panic!("v{version}: {name} is not advertised"));
            assert!((low, high) == (min, max), "v{version}: {name} {low}-{high}, Kafka has {min}-{max}");
        }
        let old = version <= 3 && reply.supported_features.iter().any(|feature| feature.min_version == 0);
        assert!(!old, "v{version}: a feature whose minimum is 0 breaks old clients");
    }
}

fn named(name: &str, version: &str) -> ApiVersionsRequest {
    msg!(ApiVersionsRequest { client_software_name: name.into(), client_software_version: version.into() })
}

#[test]
fn api_versions_from_the_future_gets_the_range() {
    let mut wire = Wire::connect(shared());
    // A flexible header, then a body that this broker cannot know.
    let mut frame = vec![0, 0, 0, 0, 0, 18, 0, 99, 0, 0, 0, 5, 0, 1, b'x', 0];
    frame.extend([0xAB; 20]);
    let length = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    wire.send_raw(&frame);
    let reply = wire.receive_frame().expect("an answer");
    let mut decoder = Decoder::new(reply, DecodeLimits::default()).expect("within limits");
    assert_eq!(decoder.read_i32().expect("correlation"), 5);
    let body = kafka_wire::ApiVersionsResponse::decode(&mut decoder, ApiVersion::new(0)).expect("a v0 body");
    decoder.finish().expect("nothing after it");
    assert_eq!(body.error_code, code::UNSUPPORTED_VERSION);
    let own = body.api_keys.iter().find(|api| api.api_key == 18).expect("its own range");
    assert_eq!((own.min_version, own.max_version), (0, 4));
    wire.api_versions();
}

#[test]
fn a_malformed_client_name_is_an_invalid_request() {
    for (name, version) in [("bad name!", "1"), ("", "1"), ("ok", "über 1"), ("-leading", "1")] {
        let reply = Wire::connect(shared()).call(3, &named(name, version));
        assert_eq!(reply.error_code, code::INVALID_REQUEST, "{name:?} {version:?}");
    }
}

fn by_name(name: &str) -> MetadataRequestTopic {
    msg!(MetadataRequestTopic { name: Some(name.into()) })
}

#[test]
fn metadata_at_every_version() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "metadata", 3, &[]);
    for version in 0..=13 {
        let mut request = msg!(MetadataRequest { topics: Some(vec![by_name(&topic.name)]) });
        request.allow_auto_topic_creation = true;
        let reply = wire.call(version, &request);
        assert_eq!(reply.brokers.len(), 1, "v{version}");
        let broker = &reply.brokers[0];
        assert_eq!(
            (broker.host.as_str(), broker.port),
            ("127.0.0.1", i32::from(shared().port())),
            "v{version}"
        );
        let found = &reply.topics[0];
        assert_eq!((found.error_code, found.partitions.len()), (0, 3), "v{version}");
        if version >= 10 {
            assert_eq!(found.topic_id, topic.id, "v{version}");
        }
        for partition in &found.partitions {
            assert_eq!((partition.error_code, partition.leader_id), (0, broker.node_id), "v{version}");
            assert_eq!(
                (&partition.replica_nodes, &partition.isr_nodes),
                (&vec![broker.node_id], &vec![broker.node_id])
            );
        }
    }
}

#[test]
fn all_topics_none_or_some() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "all-or-none", 1, &[]);
    let mut has = |what: &str, version, topics, expected| {
        let reply =
            wire.call(version, &msg!(MetadataRequest { topics: topics, allow_auto_topic_creation: true }));
        let found = reply.topics.iter().any(|t| t.name.as_deref() == Some(topic.name.as_str()));
        assert_eq!(found, expected, "{what}");
    };
    has("v0: an empty list is all", 0, Some(vec![]), true);
    has("v1: an empty list is none", 1, Some(vec![]), false);
    has("v1: null is all", 1, None, true);
    has("v12: null is all", 12, None, true);
    has("v12: an empty list is none", 12, Some(vec![]), false);
}

#[test]
fn metadata_by_id() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "meta-id", 1, &[]);
    let by_id = |id| msg!(MetadataRequestTopic { topic_id: id, name: None });
    let unknown = Uuid::from_bytes([3; 16]);
    let request = msg!(MetadataRequest { topics: Some(vec![by_id(topic.id), by_id(unknown)]) });
    let reply = wire.call(12, &request);
    let found = reply.topics.iter().find(|t| t.topic_id == topic.id).expect("the topic");
    assert_eq!((found.error_code, found.name.as_deref()), (0, Some(topic.name.as_str())));
    let missing = reply.topics.iter().find(|t| t.topic_id == unknown).expect("an answer for the unknown id");
    assert_eq!(missing.error_code, code::UNKNOWN_TOPIC_ID);
}

#[test]
fn topics_are_created_on_first_use_when_asked() {
    let mut wire = Wire::connect(shared());
    let name = unique("auto");
    assert_eq!(metadata_of(&mut wire, &name, false).error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(
        metadata_of(&mut wire, &name, false).error_code,
        code::UNKNOWN_TOPIC_OR_PARTITION,
        "still not"
    );
    let first = metadata_of(&mut wire, &name, true).error_code;
    let known = [code::NONE, code::UNKNOWN_TOPIC_OR_PARTITION, code::LEADER_NOT_AVAILABLE];
    assert!(known.contains(&first), "first answer: {first}");
    eventually("the topic exists", Duration::from_secs(5), || {
        metadata_of(&mut wire, &name, true).error_code == 0
    });
    for bad in ["a/b", "..", "", &"x".repeat(250)] {
        assert_eq!(metadata_of(&mut wire, bad, true).error_code, code::INVALID_TOPIC, "{bad:?}");
    }
}

fn plain(name: &str, partitions: i32, replicas: i16, configs: &[(&str, &str)]) -> CreatableTopic {
    let config = |&(name, value): &(&str, &str)| {
        msg!(CreatableTopicConfig { name: name.into(), value: Some(value.into()) })
    };
    msg!(CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        configs: configs.iter().map(config).collect(),
    })
}

fn create_topics(
    wire: &mut Wire,
    version: i16,
    topics: Vec<CreatableTopic>,
    dry: bool,
) -> Vec<CreatableTopicResult> {
    let request = msg!(CreateTopicsRequest { topics: topics, timeout_ms: 10_000, validate_only: dry });
    wire.call(version, &request).topics
}

#[test]
fn create_topics_at_every_version() {
    let mut wire = Wire::connect(shared());
    for version in 2..=7 {
        let name = unique("create");
        let created =
            create_topics(&mut wire, version, vec![plain(&name, 2, 1, &[("retention.ms", "1000")])], false);
        assert_eq!(created[0].error_code, 0, "v{version}: {:?}", created[0].error_message);
        if version >= 5 {
            assert_eq!((created[0].num_partitions, created[0].replication_factor), (2, 1), "v{version}");
            let configs = created[0].configs.as_ref().expect("configs");
            let retention = configs.iter().find(|c| c.name.as_str() == "retention.ms").expect("retention.ms");
            assert_eq!(retention.value.as_deref(), Some("1000"), "v{version}");
        }
        eventually("it has two partitions", Duration::from_secs(5), || {
            metadata_of(&mut wire, &name, false).partitions.len() == 2
        });
    }
}

#[test]
fn create_topics_refuses_nonsense() {
    let mut wire = Wire::connect(shared());
    let taken = create(&mut wire, "taken.name", 1, &[]).name;
    let twin = taken.replace('.', "_");
    let fresh = || unique("never");
    for (what, topic, expected) in [
        ("exists", plain(&taken, 1, 1, &[]), code::TOPIC_ALREADY_EXISTS),
        ("same name to a metric", plain(&twin, 1, 1, &[]), code::INVALID_TOPIC),
        ("no partitions", plain(&fresh(), 0, 1, &[]), code::INVALID_PARTITIONS),
        ("negative partitions", plain(&fresh(), -4, 1, &[]), code::INVALID_PARTITIONS),
        ("more replicas than brokers", plain(&fresh(), 1, 3, &[]), code::INVALID_REPLICATION_FACTOR),
        ("no replicas", plain(&fresh(), 1, 0, &[]), code::INVALID_REPLICATION_FACTOR),
        ("unknown config", plain(&fresh(), 1, 1, &[("no.such.config", "1")]), code::INVALID_CONFIG),
        ("not a number", plain(&fresh(), 1, 1, &[("retention.ms", "soon")]), code::INVALID_CONFIG),
        ("out of range", plain(&fresh(), 1, 1, &[("segment.bytes", "1")]), code::INVALID_CONFIG),
        ("not in the list", plain(&fresh(), 1, 1, &[("cleanup.policy", "burn")]), code::INVALID_CONFIG),
        ("a slash", plain("a/b", 1, 1, &[]), code::INVALID_TOPIC),
        ("empty", plain("", 1, 1, &[]), code::INVALID_TOPIC),
        ("dots", plain("..", 1, 1, &[]), code::INVALID_TOPIC),
        ("too long", plain(&"x".repeat(250), 1, 1, &[]), code::INVALID_TOPIC),
        ("the longest", plain(&format!("{:x<249}", unique("long")), 1, 1, &[]), code::NONE),
        ("defaults", plain(&fresh(), -1, -1, &[]), code::NONE),
    ] {
        let result = &create_topics(&mut wire, 7, vec![topic], true)[0];
        assert_eq!(result.error_code, expected, "{what} (validate only): {:?}", result.error_message);
    }
    let name = fresh();
    let twice = create_topics(&mut wire, 7, vec![plain(&name, 1, 1, &[]), plain(&name, 1, 1, &[])], false);
    assert!(
        twice.iter().all(|result| result.error_code == code::INVALID_REQUEST),
        "named twice in one request"
    );
    assert_eq!(create_topics(&mut wire, 7, vec![plain(&name, 1, 1, &[])], true)[0].error_code, code::NONE);
    assert_eq!(
        metadata_of(&mut wire, &name, false).error_code,
        code::UNKNOWN_TOPIC_OR_PARTITION,
        "only validated"
    );
}

fn delete(wire: &mut Wire, version: i16, name: Option<&str>, id: Uuid) -> i16 {
    let mut request = msg!(DeleteTopicsRequest { timeout_ms: 10_000 });
    if version >= 6 {
        request.topics = vec![msg!(DeleteTopicState { name: name.map(Into::into), topic_id: id })];
    } else {
        request.topic_names = name.map(Into::into).into_iter().collect();
    }
    wire.call(version, &request).responses[0].error_code
}

#[test]
fn deleted_topics_are_gone_and_recreated_ones_are_new() {
    let mut wire = Wire::connect(shared());
    for version in 1..=6 {
        let old = create(&mut wire, "doomed", 2, &[]);
        produce(&mut wire, &old, encoded(["old"]));
        assert_eq!(delete(&mut wire, version, Some(&old.name), Uuid::ZERO), code::NONE, "v{version}");
        eventually("it is gone", Duration::from_secs(5), || {
            metadata_of(&mut wire, &old.name, false).error_code == code::UNKNOWN_TOPIC_OR_PARTITION
        });
        let created = create_topics(&mut wire, 7, vec![plain(&old.name, 1, 1, &[])], false);
        let new = Topic { name: old.name.clone(), id: created[0].topic_id };
        assert_ne!(new.id, old.id);
        eventually("the new one serves", Duration::from_secs(5), || {
            list_offset(&mut wire, 7, &new.name, 0, -1).error_code == 0
        });
        assert_eq!(list_offset(&mut wire, 7, &new.name, 0, -1).offset, 0, "and starts empty");
        assert_eq!(produce_at(&mut wire, 13, &old, 0, -1, encoded(["x"])).error_code, code::UNKNOWN_TOPIC_ID);
        assert_eq!(produce(&mut wire, &new, encoded(["new"])), 0);
        assert_eq!(read_from(&mut wire, &new, 0, 0)[0].1, "new");
    }
}

#[test]
fn topics_can_be_deleted_by_id() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "by-id", 1, &[]);
    assert_eq!(delete(&mut wire, 6, None, Uuid::from_bytes([5; 16])), code::UNKNOWN_TOPIC_ID);
    assert_eq!(delete(&mut wire, 6, Some(&unique("nowhere")), Uuid::ZERO), code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(delete(&mut wire, 6, None, topic.id), code::NONE);
    eventually("it is gone", Duration::from_secs(5), || {
        metadata_of(&mut wire, &topic.name, false).error_code == code::UNKNOWN_TOPIC_OR_PARTITION
    });
}

#[test]
fn partitions_grow_and_never_shrink() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "grow", 2, &[]);
    produce(&mut wire, &topic, encoded(["kept"]));
    let grow = |version, name: &str, count, dry| {
        let data = msg!(CreatePartitionsTopic { name: name.into(), count: count, assignments: None });
        let request =
            msg!(CreatePartitionsRequest { topics: vec![data], timeout_ms: 10_000, validate_only: dry });
        Wire::connect(shared()).call(version, &request).results[0].error_code
    };
    assert_eq!(grow(3, &topic.name, 2, false), code::INVALID_PARTITIONS, "as many as there are");
    assert_eq!(grow(3, &topic.name, 1, false), code::INVALID_PARTITIONS, "fewer");
    assert_eq!(grow(3, &topic.name, -1, false), code::INVALID_PARTITIONS, "negative");
    assert_eq!(grow(3, &unique("nowhere"), 4, false), code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(grow(3, &topic.name, 9, true), code::NONE, "only validated");
    assert_eq!(metadata_of(&mut wire, &topic.name, false).partitions.len(), 2);
    for version in 0..=3 {
        let count = 3 + i32::from(version);
        assert_eq!(grow(version, &topic.name, count, false), code::NONE, "v{version}");
        eventually("the new partition serves", Duration::from_secs(5), || {
            produce_at(&mut wire, 9, &topic, count - 1, -1, encoded(["x"])).error_code == 0
        });
    }
    assert_eq!(read_from(&mut wire, &topic, 0, 0)[0].1, "kept");
}

fn describe(
    wire: &mut Wire,
    version: i16,
    kind: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let keys = keys.map(|keys| keys.iter().map(|key| (*key).into()).collect());
    let resource = msg!(DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: keys,
    });
    let mut request = msg!(DescribeConfigsRequest { resources: vec![resource], include_synonyms: true });
    request.include_documentation = version >= 3;
    wire.call(version, &request).results.remove(0)
}

fn value_of(wire: &mut Wire, topic: &str, key: &str) -> Option<String> {
    let result = describe(wire, 4, TOPIC, topic, Some(&[key]));
    assert_eq!(result.error_code, 0);
    result.configs.first().and_then(|config| config.value.as_deref().map(str::to_string))
}

#[test]
fn topic_configs_have_kafkas_names_and_defaults() {
    const DYNAMIC_TOPIC: i8 = 1;
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "configs", 1, &[("retention.ms", "123456")]);
    for version in 1..=4 {
        let result = describe(&mut wire, version, TOPIC, &topic.name, None);
        assert_eq!(result.error_code, 0, "v{version}");
        let all: BTreeMap<&str, _> = result.configs.iter().map(|c| (c.name.as_str(), c)).collect();
        for (name, value) in [
            ("cleanup.policy", "delete"),
            ("compression.type", "producer"),
            ("delete.retention.ms", "86400000"),
            ("file.delete.delay.ms", "60000"),
            ("flush.messages", "9223372036854775807"),
            ("index.interval.bytes", "4096"),
            ("max.message.bytes", "1048588"),
            ("message.timestamp.after.max.ms", "3600000"),
            ("message.timestamp.before.max.ms", "9223372036854775807"),
            ("message.timestamp.type", "CreateTime"),
            ("min.cleanable.dirty.ratio", "0.5"),
            ("min.insync.replicas", "1"),
            ("retention.bytes", "-1"),
            ("retention.ms", "123456"),
            ("segment.bytes", "1073741824"),
            ("segment.index.bytes", "10485760"),
            ("segment.jitter.ms", "0"),
            ("segment.ms", "604800000"),
            ("unclean.leader.election.enable", "false"),
        ] {
            let config = all.get(name).unwrap_or_else(|| panic!("v{version}: {name} is missing"));
            assert_eq!(config.value.as_deref(), Some(value), "v{version}: {name}");
            assert_eq!(
                config.config_source == DYNAMIC_TOPIC,
                name == "retention.ms",
                "v{version}: source of {name}"
            );
        }
        let documented =
            result.configs.iter().all(|c| c.documentation.as_ref().is_some_and(|d| !d.is_empty()));
        assert_eq!(documented, version >= 3, "v{version}: documentation when asked for");
    }
    let some = describe(&mut wire, 4, TOPIC, &topic.name, Some(&["retention.ms", "no.such.config"]));
    let names: Vec<&str> = some.configs.iter().map(|config| config.name.as_str()).collect();
    assert_eq!(names, ["retention.ms"], "only what was asked for and exists");
    let nowhere = describe(&mut wire, 4, TOPIC, &unique("nowhere"), None);
    assert_eq!(nowhere.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    let broker = describe(&mut wire, 4, BROKER, "1", None);
    assert_eq!(broker.error_code, 0);
    assert!(broker.configs.iter().any(|config| config.name.as_str() == "num.partitions"));
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn alter_one(
    wire: &mut Wire,
    version: i16,
    topic: &str,
    op: i8,
    key: &str,
    value: Option<&str>,
    dry: bool,
) -> i16 {
    let config = msg!(incremental::AlterableConfig {
        name: key.into(),
        config_operation: op,
        value: value.map(Into::into),
    });
    let resource = msg!(incremental::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.into(),
        configs: vec![config],
    });
    let request = msg!(IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: dry });
    wire.call(version, &request).responses[0].error_code
}

#[test]
fn configs_change_one_at_a_time() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "alter", 1, &[("retention.bytes", "5000")]).name;
    for version in 0..=1 {
        let mut check = |op, key: &str, value: Option<&str>, error, after: &str| {
            assert_eq!(
                alter_one(&mut wire, version, &topic, op, key, value, false),
                error,
                "{key} {value:?}"
            );
            eventually(&format!("v{version}: {key} is {after}"), Duration::from_secs(5), || {
                value_of(&mut wire, &topic, key).as_deref() == Some(after)
            });
        };
        check(SET, "retention.ms", Some("77000"), code::NONE, "77000");
        check(SET, "retention.ms", Some("never"), code::INVALID_CONFIG, "77000");
        check(APPEND, "cleanup.policy", Some("compact"), code::NONE, "delete,compact");
        check(SUBTRACT, "cleanup.policy", Some("delete"), code::NONE, "compact");
        check(DELETE, "cleanup.policy", None, code::NONE, "delete");
        check(APPEND, "retention.ms", Some("1"), code::INVALID_CONFIG, "77000");
        check(DELETE, "retention.ms", None, code::NONE, "604800000");
        assert_eq!(
            value_of(&mut wire, &topic, "retention.bytes").as_deref(),
            Some("5000"),
            "the others stay"
        );
    }
    assert_eq!(
        alter_one(&mut wire, 1, &topic, SET, "no.such.config", Some("1"), false),
        code::INVALID_CONFIG
    );
    assert_eq!(
        alter_one(&mut wire, 1, &topic, SET, "retention.ms", Some("5"), true),
        code::NONE,
        "validated"
    );
    assert_eq!(value_of(&mut wire, &topic, "retention.ms").as_deref(), Some("604800000"), "and not set");
    let nowhere = unique("nowhere");
    let error = alter_one(&mut wire, 1, &nowhere, SET, "retention.ms", Some("5"), false);
    assert_eq!(error, code::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn changed_configs_take_effect() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "effect", 1, &[]);
    produce(&mut wire, &topic, encoded(["x".repeat(5_000)]));
    assert_eq!(
        alter_one(&mut wire, 1, &topic.name, SET, "max.message.bytes", Some("1000"), false),
        code::NONE
    );
    eventually("the new limit holds", Duration::from_secs(5), || {
        let reply = produce_at(&mut wire, 9, &topic, 0, -1, encoded(["x".repeat(5_000)]));
        reply.error_code == code::MESSAGE_TOO_LARGE
    });
}

#[test]
fn alter_configs_replaces_them_all() {
    let mut wire = Wire::connect(shared());
    for version in 0..=2 {
        let topic = create(&mut wire, "replace", 1, &[("retention.bytes", "5000")]).name;
        let config =
            msg!(alter::AlterableConfig { name: "retention.ms".into(), value: Some("99000".into()) });
        let resource = msg!(alter::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.as_str().into(),
            configs: vec![config],
        });
        let request = msg!(AlterConfigsRequest { resources: vec![resource] });
        assert_eq!(wire.call(version, &request).responses[0].error_code, code::NONE, "v{version}");
        eventually("replaced", Duration::from_secs(5), || {
            value_of(&mut wire, &topic, "retention.ms").as_deref() == Some("99000")
                && value_of(&mut wire, &topic, "retention.bytes").as_deref() == Some("-1")
        });
    }
}

#[test]
fn the_cluster_describes_itself() {
    let mut wire = Wire::connect(shared());
    let metadata = wire.call(12, &msg!(MetadataRequest { topics: Some(vec![]) }));
    for version in 0..=2 {
        let reply = wire.call(version, &msg!(DescribeClusterRequest {}));
        assert_eq!(reply.error_code, code::NONE, "v{version}");
        assert_eq!(Some(reply.cluster_id.as_str()), metadata.cluster_id.as_deref(), "v{version}");
        assert!(!reply.cluster_id.is_empty());
        let broker = &reply.brokers[0];
        assert_eq!(
            (broker.host.as_str(), broker.port),
            ("127.0.0.1", i32::from(shared().port())),
            "v{version}"
        );
    }
}

#[test]
fn topic_partitions_come_in_pages() {
    let mut wire = Wire::connect(shared());
    let mut names: Vec<String> = (0..2).map(|_| create(&mut wire, "pages", 5, &[]).name).collect();
    names.sort();
    let topics = || names.iter().map(|name| msg!(TopicRequest { name: name.as_str().into() })).collect();
    let (mut cursor, mut seen, mut pages) = (None, Vec::new(), 0);
    loop {
        let request = msg!(DescribeTopicPartitionsRequest {
            topics: topics(),
            response_partition_limit: 4,
            cursor: cursor,
        });
        let reply = wire.call(0, &request);
        for topic in &reply.topics {
            assert_eq!(topic.error_code, 0);
            let name = topic.name.as_deref().unwrap_or_default();
            seen.extend(topic.partitions.iter().map(|p| (name.to_string(), p.partition_index)));
        }
        pages += 1;
        assert!(pages < 10, "pages end");
        let Some(next) = reply.next_cursor else { break };
        cursor = Some(msg!(Cursor { topic_name: next.topic_name, partition_index: next.partition_index }));
    }
    let expected: Vec<_> = names.iter().flat_map(|name| (0..5).map(move |p| (name.clone(), p))).collect();
    assert_eq!(seen, expected);
    assert_eq!(pages, 3);
    let unknown = msg!(TopicRequest { name: unique("nowhere").as_str().into() });
    let request =
        msg!(DescribeTopicPartitionsRequest { topics: vec![unknown], response_partition_limit: 10 });
    assert_eq!(wire.call(0, &request).topics[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn producer_ids_at_every_version() {
    let mut wire = Wire::connect(shared());
    for version in 0..=5 {
        let mut request =
            msg!(InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: 1_000 });
        (request.producer_id, request.producer_epoch) = (-1, -1);
        let reply = wire.call(version, &request);
        assert_eq!((reply.error_code, reply.producer_epoch), (0, 0), "v{version}");
        assert!(reply.producer_id >= 0, "v{version}");
    }
    if external().is_none() {
        let request = msg!(InitProducerIdRequest {
            transactional_id: Some("not-yet".into()),
            transaction_timeout_ms: 1_000,
            producer_id: -1,
            producer_epoch: -1,
        });
        assert_ne!(
            wire.call(4, &request).error_code,
            0,
            "transactions are not served and must not seem to be"
        );
    }
}

/// Every API in the table answers a default request at every version, in a form that decodes to its last byte.
#[test]
fn every_api_answers_at_every_version() {
    macro_rules! all {
        ($($request:ident),*) => {$({
            let range = <kafka_wire::$request as kafka_wire::KafkaMessage>::SUPPORTED_VERSIONS;
            let key = <kafka_wire::$request as kafka_wire::KafkaRequest>::API_KEY.value();
            let &(_, _, min, max) = SERVED.iter().find(|api| api.0 == key).expect("a served API");
            for version in min.max(range.min().value())..=max {
                // Nothing in it to validate: an empty question, which has an empty answer.
                let mut wire = Wire::connect(shared());
                let id = wire.send(version, &kafka_wire::$request::default());
                let reply = wire.receive_frame().unwrap_or_else(|| panic!("{} v{version}: closed", stringify!($request)));
                wire::decode_reply::<kafka_wire::$request>(version, id, reply);
            }
        })*};
    }
    all!(
        ListOffsetsRequest,
        MetadataRequest,
        CreateTopicsRequest,
        DeleteTopicsRequest,
        DeleteRecordsRequest,
        OffsetForLeaderEpochRequest,
        DescribeConfigsRequest,
        AlterConfigsRequest,
        CreatePartitionsRequest,
        IncrementalAlterConfigsRequest,
        DescribeClusterRequest,
        FetchRequest
    );
}
