//! Requests that are odd, and the answers that Apache Kafka 4.3.1 gives them: what is given twice, what a version does not
//! have, what is not there. Each test passes against it, too.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use kafka_wire::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_wire::alter_client_quotas_request as quotas;
use kafka_wire::alter_configs_request as replaced;
use kafka_wire::alter_partition_reassignments_request as moved;
use kafka_wire::create_acls_request::AclCreation;
use kafka_wire::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire::delete_acls_request::DeleteAclsFilter;
use kafka_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_wire::delete_topics_request::DeleteTopicState;
use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire::incremental_alter_configs_request as altered;
use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_wire::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_wire::*;
use kafka_wire_core::Uuid;

use crate::support::batch::encoded;
use crate::support::broker::{http_get, needs_own_broker};
use crate::support::calls::*;
use crate::support::wire::frame;
use crate::support::*;

const SECURITY_DISABLED: i16 = 54;
const SOON: Duration = Duration::from_secs(30);

#[test]
fn without_an_authorizer_acls_are_disabled() {
    let mut wire = Wire::connect(shared());
    for version in 1..=3 {
        let ask = |pattern| {
            msg!(DescribeAclsRequest {
                resource_type_filter: 1,
                pattern_type_filter: pattern,
                operation: 1,
                permission_type: 1,
            })
        };
        let told = wire.call(version, &ask(1));
        assert_eq!((told.error_code, told.resources.len()), (SECURITY_DISABLED, 0));
        assert_eq!(told.error_message.as_deref(), Some("No Authorizer is configured on the broker"));
        let acl = msg!(AclCreation {
            resource_type: 2,
            resource_name: "t".into(),
            resource_pattern_type: 3,
            principal: "User:a".into(),
            host: "*".into(),
            operation: 3,
            permission_type: 3,
        });
        let made = wire.call(version, &msg!(CreateAclsRequest { creations: vec![acl.clone(), acl] }));
        let filter = msg!(DeleteAclsFilter {
            resource_type_filter: 1,
            pattern_type_filter: 1,
            operation: 1,
            permission_type: 1,
        });
        let gone = wire.call(version, &msg!(DeleteAclsRequest { filters: vec![filter] }));
        let made = made.results.iter().map(|r| (r.error_code, r.error_message.as_deref()));
        let gone = gone.filter_results.iter().map(|r| (r.error_code, r.error_message.as_deref()));
        let refused = (SECURITY_DISABLED, Some("No Authorizer is configured."));
        assert_eq!(made.chain(gone).collect::<Vec<_>>(), [refused; 3]);
        let mut unknown = Wire::connect(shared());
        unknown.send(version, &ask(0));
        unknown.assert_closed("a pattern of an unknown type");
    }
}

fn plain(name: &str) -> CreatableTopic {
    msg!(CreatableTopic { name: name.into(), num_partitions: 1, replication_factor: 1 })
}

#[test]
fn topics_that_are_named_twice_are_refused_once() {
    let mut wire = Wire::connect(shared());
    let (twice, there) = (unique("twice"), create(&mut wire, "there", 1, &[]));
    for version in [2, 5, 7] {
        let topics = [twice.as_str(), &there.name, &twice, &twice].map(plain).to_vec();
        let reply = wire.call(version, &msg!(CreateTopicsRequest { topics: topics, timeout_ms: 10_000 }));
        let mut found: Vec<_> = reply.topics.iter().map(|t| (t.name.to_string(), t.error_code)).collect();
        found.sort();
        assert_eq!(
            found,
            [(there.name.clone(), code::TOPIC_ALREADY_EXISTS), (twice.clone(), code::INVALID_REQUEST)]
        );
        assert!(reply.topics.iter().all(|t| version < 5 || t.configs.as_deref() == Some(&[][..])));
    }
    let grown = |name: &str| msg!(CreatePartitionsTopic { name: name.into(), count: 3, assignments: None });
    let topics = vec![grown(&there.name), grown(&there.name)];
    let reply = wire.call(3, &msg!(CreatePartitionsRequest { topics: topics, timeout_ms: 10_000 }));
    assert_eq!(reply.results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [code::INVALID_REQUEST]);
    for version in [1, 5] {
        let names = [there.name.as_str(), &twice, &there.name, &twice, "nobody"].map(Into::into).to_vec();
        let reply = wire.call(version, &msg!(DeleteTopicsRequest { topic_names: names, timeout_ms: 10_000 }));
        let mut codes: Vec<_> = reply.responses.iter().map(|t| t.error_code).collect();
        codes.sort();
        assert_eq!(codes, [code::UNKNOWN_TOPIC_OR_PARTITION, code::INVALID_REQUEST, code::INVALID_REQUEST]);
    }
    let state = |name: Option<&str>, id| msg!(DeleteTopicState { name: name.map(Into::into), topic_id: id });
    let (other, none) = (Uuid::from_bytes([7; 16]), Uuid::ZERO);
    let topics = vec![
        state(None, other),
        state(None, other),
        state(Some(&there.name), none),
        state(None, there.id),
        state(Some("x"), other),
        state(None, none),
    ];
    let reply = wire.call(6, &msg!(DeleteTopicsRequest { topics: topics, timeout_ms: 10_000 }));
    let mut found: Vec<_> = reply.responses.iter().map(|t| (t.name.as_deref(), t.error_code)).collect();
    found.sort();
    let mut refused: Vec<_> =
        [None, None, Some(&*there.name), Some("x")].map(|name| (name, code::INVALID_REQUEST)).into();
    refused.sort();
    assert_eq!(found, refused);
    assert_eq!(metadata_of(&mut wire, &there.name, false).error_code, code::NONE, "nothing was deleted");
}

#[test]
fn other_things_that_are_given_twice() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "doubled", 2, &[]);
    let name = || topic.name.as_str().into();
    let configs = |key: &str| {
        msg!(DescribeConfigsResource {
            resource_type: 2,
            resource_name: name(),
            configuration_keys: Some(vec![key.into()]),
        })
    };
    let resources = vec![configs("retention.ms"), configs("segment.ms"), configs("retention.ms")];
    let reply = wire.call(4, &msg!(DescribeConfigsRequest { resources: resources }));
    let shown: Vec<_> = reply.results.iter().map(|r| (r.error_code, &*r.configs[0].name)).collect();
    assert_eq!(shown, [(0, "retention.ms"), (0, "segment.ms"), (0, "retention.ms")]);
    let at = |index, timestamp| msg!(ListOffsetsPartition { partition_index: index, timestamp: timestamp });
    let asked = msg!(ListOffsetsTopic { name: name(), partitions: vec![at(0, -1), at(1, -1), at(0, -2)] });
    let reply = wire.call(3, &msg!(ListOffsetsRequest { replica_id: -1, topics: vec![asked] }));
    let mut found: Vec<_> =
        reply.topics[0].partitions.iter().map(|p| (p.partition_index, p.error_code, p.offset)).collect();
    found.sort();
    assert_eq!(found, [(0, code::INVALID_REQUEST, -1), (1, 0, 0)]);
    let below = |index| msg!(DeleteRecordsPartition { partition_index: index, offset: 0 });
    let asked = msg!(DeleteRecordsTopic { name: name(), partitions: vec![below(0), below(0), below(9)] });
    let reply = wire.call(2, &msg!(DeleteRecordsRequest { topics: vec![asked], timeout_ms: 1000 }));
    let mut found: Vec<_> =
        reply.topics[0].partitions.iter().map(|p| (p.partition_index, p.error_code)).collect();
    found.sort();
    assert_eq!(found, [(0, 0), (9, code::UNKNOWN_TOPIC_OR_PARTITION)]);
    let marked = msg!(WritableTxnMarkerTopic { name: "nobody".into(), partition_indexes: vec![0, 0] });
    let marker = msg!(WritableTxnMarker { producer_id: 1, topics: vec![marked] });
    let reply = wire.call(1, &msg!(WriteTxnMarkersRequest { markers: vec![marker] }));
    assert_eq!(reply.markers[0].topics[0].partitions.len(), 1);
    let user = msg!(quotas::EntityData {
        entity_type: "user".into(),
        entity_name: Some(unique("u").as_str().into())
    });
    let limit = msg!(quotas::OpData { key: "producer_byte_rate".into(), value: 5e6 });
    let entry = msg!(quotas::EntryData { entity: vec![user.clone(), user], ops: vec![limit] });
    let request = msg!(AlterClientQuotasRequest { entries: vec![entry.clone()], validate_only: true });
    let reply = wire.call(1, &request);
    assert_eq!((reply.entries[0].error_code, reply.entries[0].entity.len()), (0, 1));
    let request = msg!(AlterClientQuotasRequest { entries: vec![entry.clone(), entry], validate_only: true });
    let reply = wire.call(1, &request);
    assert_eq!(reply.entries.iter().map(|e| e.error_code).collect::<Vec<_>>(), [code::INVALID_REQUEST]);
}

#[test]
fn success_has_no_message() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "silent", 1, &[]);
    let name = || topic.name.as_str().into();
    let mut messages = Vec::new();
    let request = msg!(CreateTopicsRequest {
        topics: vec![plain(&unique("x"))],
        timeout_ms: 9000,
        validate_only: true
    });
    messages.extend(wire.call(7, &request).topics.into_iter().map(|t| (t.error_code, t.error_message)));
    let more = msg!(CreatePartitionsTopic { name: name(), count: 2, assignments: None });
    let request = msg!(CreatePartitionsRequest { topics: vec![more], timeout_ms: 9000, validate_only: true });
    messages.extend(wire.call(3, &request).results.into_iter().map(|r| (r.error_code, r.error_message)));
    let config = msg!(altered::AlterableConfig { name: "retention.ms".into(), value: Some("5".into()) });
    let resource = msg!(altered::AlterConfigsResource {
        resource_type: 2,
        resource_name: name(),
        configs: vec![config]
    });
    let request = msg!(IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: true });
    messages.extend(wire.call(1, &request).responses.into_iter().map(|r| (r.error_code, r.error_message)));
    let resource = msg!(replaced::AlterConfigsResource { resource_type: 2, resource_name: name() });
    let request = msg!(AlterConfigsRequest { resources: vec![resource], validate_only: true });
    messages.extend(wire.call(2, &request).responses.into_iter().map(|r| (r.error_code, r.error_message)));
    let partition = msg!(moved::ReassignablePartition { partition_index: 0, replicas: Some(vec![1]) });
    let asked = msg!(moved::ReassignableTopic { name: name(), partitions: vec![partition] });
    let reply =
        wire.call(0, &msg!(AlterPartitionReassignmentsRequest { timeout_ms: 9000, topics: vec![asked] }));
    messages.push((reply.error_code, reply.error_message));
    let partitions = reply.responses.into_iter().flat_map(|t| t.partitions);
    messages.extend(partitions.map(|p| (p.error_code, p.error_message)));
    let reply = wire.call(0, &msg!(ListPartitionReassignmentsRequest { timeout_ms: 9000, topics: None }));
    messages.push((reply.error_code, reply.error_message));
    let user = msg!(quotas::EntityData { entity_type: "user".into(), entity_name: Some("u".into()) });
    let limit = msg!(quotas::OpData { key: "producer_byte_rate".into(), value: 5e6 });
    let entry = msg!(quotas::EntryData { entity: vec![user], ops: vec![limit] });
    let reply = wire.call(1, &msg!(AlterClientQuotasRequest { entries: vec![entry], validate_only: true }));
    messages.extend(reply.entries.into_iter().map(|e| (e.error_code, e.error_message)));
    let reply = wire.call(1, &UpdateFeaturesRequest::default());
    messages.push((reply.error_code, reply.error_message));
    assert_eq!(messages, vec![(0, None); 9]);
}

#[test]
fn special_times_are_asked_for_in_versions_that_have_them() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "times", 1, &[]);
    for (special, from) in [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11), (-7, 99), (i64::MIN, 99)] {
        for version in 1..=11 {
            let found = list_offset(&mut wire, version, &topic.name, 0, special);
            let expected = if version >= from { code::NONE } else { code::UNSUPPORTED_VERSION };
            assert_eq!(found.error_code, expected, "{special} in version {version}");
            let offset = if expected == 0 && matches!(special, -1 | -2 | -4) { 0 } else { -1 };
            assert_eq!((found.offset, found.timestamp), (offset, -1), "{special} in version {version}");
        }
    }
    let partition = msg!(ListOffsetsPartition { partition_index: 0, timestamp: -1 });
    let asked = msg!(ListOffsetsTopic { name: topic.name.as_str().into(), partitions: vec![partition] });
    let request = msg!(ListOffsetsRequest { replica_id: -1, isolation_level: 7, topics: vec![asked] });
    assert_eq!(wire.call(5, &request).topics[0].partitions[0].error_code, -1, "no such isolation level");
}

#[test]
fn aborted_transactions_are_told_to_who_asks_for_committed_records() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "levels", 1, &[]);
    produce(&mut wire, &topic, encoded(["a"]));
    for version in [4, 11, 12, 16] {
        let fetch = Fetch { version, ..Fetch::default() };
        for (level, offset, code, aborted) in
            [(0, 0, 0, None), (1, 0, 0, Some(0)), (0, 5, 1, None), (1, 5, 1, None), (1, 1, 0, Some(0))]
        {
            let mut request = Fetch { offset, ..fetch }.request(&topic);
            request.isolation_level = level;
            let mut reply = wire.call(version, &request);
            let partition = reply.responses.remove(0).partitions.remove(0);
            let told = partition.aborted_transactions.map(|aborted| aborted.len());
            assert_eq!((partition.error_code, told), (code, aborted), "v{version} level {level} at {offset}");
        }
        let mut request = fetch.request(&topic);
        request.isolation_level = 2;
        let reply = wire.call(version, &request);
        let partitions: Vec<_> =
            reply.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
        assert_eq!(partitions, if version < 13 { vec![-1] } else { vec![] }, "no such level, v{version}");
        assert_eq!(reply.error_code, if version < 7 { 0 } else { -1 });
    }
}

/// Until the coordinators of groups (0) or transactions (1) are there.
fn await_coordinator(wire: &mut Wire, kind: i8) {
    let request = msg!(FindCoordinatorRequest { key_type: kind, coordinator_keys: vec!["x".into()] });
    eventually("the coordinator is there", SOON, || wire.call(4, &request).coordinators[0].error_code == 0);
}

#[test]
fn transactions_are_listed_by_pattern() {
    let mut wire = Wire::connect(shared());
    await_coordinator(&mut wire, 1);
    let prefix = unique("pattern");
    let ids = ["a.1", "a.22", "B"].map(|end| format!("{prefix}-{end}"));
    for id in &ids {
        let request = msg!(InitProducerIdRequest {
            transactional_id: Some(id.as_str().into()),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
        });
        eventually("the coordinator is there", SOON, || wire.call(4, &request).error_code == 0);
    }
    let mut list = |pattern: Option<&str>| {
        let request = msg!(ListTransactionsRequest {
            duration_filter: -1,
            transactional_id_pattern: pattern.map(Into::into),
        });
        let reply = wire.call(2, &request);
        let mut found: Vec<_> =
            reply.transaction_states.iter().map(|t| t.transactional_id.to_string()).collect();
        found.retain(|id| id.starts_with(&prefix));
        found.sort();
        (reply.error_code, found)
    };
    let (one, all) = (vec![ids[0].clone()], vec![ids[2].clone(), ids[0].clone(), ids[1].clone()]);
    for (pattern, expected) in [
        (None, all.clone()),
        (Some(String::new()), all.clone()),
        (Some(format!("{prefix}.*")), all.clone()),
        (Some(prefix.clone()), vec![]),
        (Some(format!("{prefix}-a\\.\\d")), one.clone()),
        (Some(format!("\\Q{prefix}-a.1\\E")), one.clone()),
        (Some(format!("(?i){}-b", prefix.to_uppercase())), vec![ids[2].clone()]),
        (Some(format!("{prefix}-(?P<x>[[:upper:]]|a.1)")), vec![ids[2].clone(), ids[0].clone()]),
    ] {
        assert_eq!(list(pattern.as_deref()), (0, expected), "{pattern:?}");
    }
    for pattern in ["(", "[z", "*", "a**", "(?=x)", "\\1", "\\Z", "a{1001}", "(?x)a", "x{2}{3}", "[[:nope:]]"]
    {
        assert_eq!(list(Some(pattern)), (128, vec![]), "{pattern}");
    }
    for pattern in ["a{2", "[]a]", "[a&&b]", "\\pN", "\\x{41}", "(?<n>a)", "a{1000}"] {
        assert_eq!(list(Some(pattern)), (0, vec![]), "{pattern}");
    }
}

#[test]
fn the_metadata_topic_cannot_be_made() {
    let mut wire = Wire::connect(shared());
    let name = "__cluster_metadata";
    for dry in [true, false] {
        let request =
            msg!(CreateTopicsRequest { topics: vec![plain(name)], timeout_ms: 9000, validate_only: dry });
        assert_eq!(wire.call(7, &request).topics[0].error_code, code::INVALID_REQUEST);
    }
    for _ in 0..2 {
        let told = metadata_of(&mut wire, name, true);
        assert_eq!((told.error_code, told.is_internal), (code::UNKNOWN_TOPIC_OR_PARTITION, false));
    }
}

#[test]
fn groups_are_filtered_by_what_they_are() {
    let mut wire = Wire::connect(shared());
    let (group, topic) = (unique("listed"), create(&mut wire, "listed", 1, &[]));
    await_coordinator(&mut wire, 0);
    let partition =
        msg!(offset_commit_request::OffsetCommitRequestPartition { partition_index: 0, committed_offset: 0 });
    let committed = msg!(offset_commit_request::OffsetCommitRequestTopic {
        name: topic.name.as_str().into(),
        partitions: vec![partition]
    });
    let request = msg!(OffsetCommitRequest {
        group_id: group.as_str().into(),
        generation_id_or_member_epoch: -1,
        topics: vec![committed],
    });
    eventually("the coordinator is there", SOON, || {
        wire.call(8, &request).topics[0].partitions[0].error_code == 0
    });
    let mut found = |states: &[&str], types: &[&str]| {
        let texts = |of: &[&str]| of.iter().map(|text| (*text).into()).collect();
        let reply = wire
            .call(5, &msg!(ListGroupsRequest { states_filter: texts(states), types_filter: texts(types) }));
        assert_eq!(reply.error_code, 0);
        reply.groups.iter().any(|g| *g.group_id == *group)
    };
    for states in [&[][..], &["Empty"], &["empty"], &[" EMPTY "], &["nope", "Empty"]] {
        assert!(found(states, &[]), "{states:?}");
    }
    for states in [["nope"], ["Stable"], [""]] {
        assert!(!found(&states, &[]), "{states:?}");
    }
    assert!(found(&[], &["classic"]) && found(&[], &["CLASSIC", "nope"]) && found(&["Empty"], &["Classic"]));
    for types in [["nope"], ["consumer"], ["unknown"], [""], ["classic "]] {
        assert!(!found(&[], &types), "{types:?}");
    }
}

#[test]
fn what_is_missing_or_reserved_is_told_apart() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "empty", 1, &[]);
    await_coordinator(&mut wire, 0);
    let epoch = metadata_of(&mut wire, &topic.name, false).partitions[0].leader_epoch;
    let asked =
        msg!(OffsetForLeaderPartition { partition: 0, current_leader_epoch: -1, leader_epoch: epoch });
    let asked = msg!(OffsetForLeaderTopic { topic: topic.name.as_str().into(), partitions: vec![asked] });
    let reply = wire.call(4, &msg!(OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![asked] }));
    let end = &reply.topics[0].partitions[0];
    assert_eq!((end.error_code, end.leader_epoch, end.end_offset), (0, epoch, 0), "an epoch without records");
    let unnamed = msg!(SyncGroupRequest { member_id: "x".into(), generation_id: 1 });
    assert_eq!(wire.call(5, &unnamed).error_code, 23, "a protocol has to be named, whatever the group");
    let nowhere = msg!(JoinGroupRequest { session_timeout_ms: 10_000, protocol_type: "consumer".into() });
    let reply = wire.call(7, &nowhere);
    assert_eq!((reply.error_code, reply.protocol_name), (24, None));
    let both = [("__consumer_offsets", 29), (topic.name.as_str(), 55)];
    let topics =
        both.map(|(name, _)| msg!(AddPartitionsToTxnTopic { name: name.into(), partitions: vec![0] }));
    let request = msg!(AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "nobody".into(),
        v3_and_below_topics: topics.to_vec(),
    });
    let reply = wire.call(3, &request);
    let mut found: Vec<_> = reply
        .results_by_topic_v3_and_below
        .iter()
        .map(|t| (&*t.name, t.results_by_partition[0].partition_error_code))
        .collect();
    found.sort();
    let mut expected = both;
    expected.sort();
    assert_eq!(found, expected, "the broker's own topics are not for transactions");
    let request = msg!(DeleteGroupsRequest { groups_names: vec!["".into()] });
    eventually("a nameless group is looked for", SOON, || {
        matches!(wire.call(2, &request).results[0].error_code, 0 | 69)
    });
}

#[test]
fn what_ends_a_connection_is_counted_by_its_reason() {
    if needs_own_broker() {
        return;
    }
    let broker = Broker::start();
    let counted = |reason: &str| {
        let (_, page) = http_get(broker.admin, "/metrics").expect("the metrics page");
        let line = |line: &&str| {
            line.starts_with("weir_protocol_errors_total") && line.contains(&format!("\"{reason}\""))
        };
        page.lines().filter(line).filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    let header = |key: i16, version: i16| {
        let mut frame = BytesMut::new();
        frame.put_i32(12);
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(1);
        frame.put_i16(-1);
        frame.put_i16(0);
        frame.freeze()
    };
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "unheard", 1, &[]);
    let silent = frame(9, 1, &produce_request(9, &topic, 7, 0, encoded(["x"])));
    for (reason, bytes) in [
        ("unknown_api", header(999, 0)),
        ("unknown_api", header(-1, 0)),
        ("unsupported_version", header(3, 99)),
        ("unsupported_version", header(20, 0)),
        ("malformed", header(3, 4)),
        ("acks_zero_failed", silent),
    ] {
        let before: Vec<_> = ["unknown_api", "unsupported_version", "malformed", "acks_zero_failed"]
            .map(|other| (other, counted(other)))
            .into();
        let mut wire = Wire::connect(broker.kafka);
        wire.send_raw(&bytes);
        wire.assert_closed(reason);
        for (other, count) in before {
            assert_eq!(
                counted(other),
                count + f64::from(u8::from(other == reason)),
                "{other} after {reason}"
            );
        }
    }
}
