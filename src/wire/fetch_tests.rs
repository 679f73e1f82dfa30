use kafka_wire::FetchResponse;
use kafka_wire::fetch_response::{AbortedTransaction, FetchableTopicResponse, NodeEndpoint, PartitionData};
use kafka_wire_core::{ApiVersion, KafkaEncode, TaggedField, TaggedFields, Uuid};

use super::*;

/// A reply with every optional part present somewhere and absent somewhere.
fn reply(version: i16) -> FetchReply {
    let partition = |index: i32| FetchPartitionReply {
        index,
        error_code: (index % 3) as i16,
        high_watermark: 1 << 40,
        last_stable_offset: 99,
        log_start_offset: 7,
        diverging_epoch: ([2, 3].contains(&index) && version >= FLEXIBLE_FROM)
            .then_some((LeaderEpoch(4), Offset(1234))),
        current_leader: ([1, 3].contains(&index) && version >= FLEXIBLE_FROM).then_some((7, LeaderEpoch(5))),
        aborted: (index > 0)
            .then(|| (0..index).map(i64::from).map(|i| (ProducerId(i), Offset(i * 10))).collect()),
        preferred_read_replica: if version >= PREFERRED_REPLICA_FROM { index } else { -1 },
        records: (0..index).map(|i| Bytes::from(vec![i as u8; 150 * i as usize])).collect(),
        own: match version >= FLEXIBLE_FROM {
            true => (0..index as u32).map(|i| (10_000 + i, Bytes::from(vec![1; 200 * i as usize]))).collect(),
            false => Box::default(),
        },
    };
    let topic = |t: u8| FetchTopicReply {
        name: StrBytes::from(format!("topic-{t}")),
        id: TopicId([t + 1; 16]),
        partitions: (0..i32::from(t) * 2).map(partition).collect(),
    };
    // Long enough for its length to take two bytes.
    let broker = |id: i32| FetchBroker {
        id,
        host: StrBytes::from("broker".repeat(30)),
        port: 9092,
        rack: (id == 7).then(|| "rack".into()),
    };
    let brokers = if version >= LEADERS_FROM { (7..9).map(broker).collect() } else { Vec::new() };
    FetchReply {
        throttle_ms: 12,
        error_code: 0,
        session_id: 88,
        topics: (0..4).map(topic).collect(),
        brokers,
    }
}

fn reference(reply: &FetchReply, version: i16) -> Vec<u8> {
    let mut response = FetchResponse::default();
    response.throttle_time_ms = reply.throttle_ms;
    response.error_code = reply.error_code;
    response.session_id = if version >= SESSIONS_FROM { reply.session_id } else { 0 };
    for topic in &reply.topics {
        let mut out = FetchableTopicResponse::default();
        if version >= TOPIC_IDS_FROM {
            out.topic_id = Uuid::from_bytes(topic.id.0);
        } else {
            out.topic = topic.name.clone();
        }
        out.partitions = topic.partitions.iter().map(reference_partition).collect();
        response.responses.push(out);
    }
    for broker in &reply.brokers {
        let mut out = NodeEndpoint::default();
        (out.node_id, out.host, out.port) = (broker.id, broker.host.clone(), broker.port);
        out.rack = broker.rack.clone();
        response.node_endpoints.push(out);
    }
    let body = response.encode_to_bytes(ApiVersion::new(version)).unwrap();
    let mut frame = Vec::new();
    let header: &[u8] = if version >= FLEXIBLE_FROM { &[0, 0, 0, 42, 0] } else { &[0, 0, 0, 42] };
    frame.extend_from_slice(&((header.len() + body.len()) as i32).to_be_bytes());
    frame.extend_from_slice(header);
    frame.extend_from_slice(&body);
    frame
}

fn reference_partition(partition: &FetchPartitionReply) -> PartitionData {
    let mut out = PartitionData::default();
    out.partition_index = partition.index;
    out.error_code = partition.error_code;
    out.high_watermark = partition.high_watermark;
    out.last_stable_offset = partition.last_stable_offset;
    out.log_start_offset = partition.log_start_offset;
    if let Some((epoch, end)) = partition.diverging_epoch {
        out.diverging_epoch.epoch = epoch.0;
        out.diverging_epoch.end_offset = end.0;
    }
    if let Some((leader, epoch)) = partition.current_leader {
        out.current_leader.leader_id = leader;
        out.current_leader.leader_epoch = epoch.0;
    }
    out.aborted_transactions = partition.aborted.as_ref().map(|list| {
        let one = |&(id, first): &(ProducerId, Offset)| {
            let mut aborted = AbortedTransaction::default();
            aborted.producer_id = id.0;
            aborted.first_offset = first.0;
            aborted
        };
        list.iter().map(one).collect()
    });
    out.preferred_read_replica = partition.preferred_read_replica;
    out.records = Some(Bytes::from(partition.records.concat()));
    let own = partition.own.iter().map(|(tag, bytes)| TaggedField::new(*tag, bytes.clone())).collect();
    out.unknown_tagged_fields = TaggedFields::from_sorted(own).unwrap();
    out
}

#[test]
fn every_version_is_what_the_reference_encodes() {
    for version in MIN_VERSION..=MAX_VERSION {
        for reply in [reply(version), FetchReply::default()] {
            let want = reference(&reply, version);
            assert_eq!(encode(reply, version, 42).concat(), want, "v{version}");
        }
    }
}

#[test]
fn records_are_passed_on_not_copied() {
    let records = Bytes::from(vec![9; 100_000]);
    let partition =
        FetchPartitionReply { records: vec![records.clone(), records.clone()], ..Default::default() };
    let topic = FetchTopicReply { partitions: vec![partition], ..Default::default() };
    let segments = encode(FetchReply { topics: vec![topic], ..Default::default() }, 16, 1);
    assert_eq!(segments.len(), 4);
    assert_eq!(segments[1].as_ptr(), records.as_ptr());
    assert_eq!(segments[2].as_ptr(), records.as_ptr());
}
