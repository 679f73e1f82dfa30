//! The requests that most tests make, with the fields that a test rarely cares about filled in.

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::fetch_response::PartitionData;
use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_wire::metadata_request::MetadataRequestTopic;
use kafka_wire::metadata_response::MetadataResponseTopic;
use kafka_wire::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire::produce_response::PartitionProduceResponse;
use kafka_wire::{
    CreateTopicsRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest,
};
use kafka_wire_core::Uuid;

use super::{Wire, eventually, msg, unique};

/// Kafka's error codes, restated: a test that read them from the broker's own table would prove nothing.
pub mod code {
    pub const NONE: i16 = 0;
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const CORRUPT_MESSAGE: i16 = 2;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const LEADER_NOT_AVAILABLE: i16 = 5;
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    pub const REQUEST_TIMED_OUT: i16 = 7;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub const INVALID_TOPIC: i16 = 17;
    pub const INVALID_REQUIRED_ACKS: i16 = 21;
    pub const INVALID_TIMESTAMP: i16 = 32;
    pub const UNSUPPORTED_VERSION: i16 = 35;
    pub const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub const INVALID_PARTITIONS: i16 = 37;
    pub const INVALID_REPLICATION_FACTOR: i16 = 38;
    pub const INVALID_CONFIG: i16 = 40;
    pub const INVALID_REQUEST: i16 = 42;
    pub const POLICY_VIOLATION: i16 = 44;
    pub const OUT_OF_ORDER_SEQUENCE: i16 = 45;
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
    pub const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
    pub const UNKNOWN_LEADER_EPOCH: i16 = 75;
    pub const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
    pub const INVALID_RECORD: i16 = 87;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
}

/// A topic by both of its names.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
}

/// Creates a topic of a unique name and waits until every partition can be used.
pub fn create(wire: &mut Wire, prefix: &str, partitions: i32, configs: &[(&str, &str)]) -> Topic {
    let name = unique(prefix);
    let config = |&(name, value): &(&str, &str)| {
        msg!(CreatableTopicConfig { name: name.into(), value: Some(value.into()) })
    };
    let topic = msg!(CreatableTopic {
        name: name.as_str().into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.iter().map(config).collect(),
    });
    let reply = wire.call(7, &msg!(CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000 }));
    let created = &reply.topics[0];
    assert_eq!(created.error_code, 0, "create {name}: {:?}", created.error_message);
    let topic = Topic { name, id: created.topic_id };
    eventually("the new topic's partitions serve", Duration::from_secs(10), || {
        (0..partitions).all(|partition| list_offset(wire, 7, &topic.name, partition, -1).error_code == 0)
    });
    topic
}

pub fn metadata_of(wire: &mut Wire, name: &str, create: bool) -> MetadataResponseTopic {
    let topic = msg!(MetadataRequestTopic { name: Some(name.into()) });
    let request = msg!(MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: create });
    wire.call(12, &request).topics.remove(0)
}

pub fn produce_request(
    version: i16,
    topic: &Topic,
    partition: i32,
    acks: i16,
    records: Bytes,
) -> ProduceRequest {
    let partition = msg!(PartitionProduceData { index: partition, records: Some(records) });
    let mut data = msg!(TopicProduceData { partition_data: vec![partition] });
    match version {
        ..=12 => data.name = topic.name.as_str().into(),
        _ => data.topic_id = topic.id,
    }
    msg!(ProduceRequest { acks: acks, timeout_ms: 10_000, topic_data: vec![data] })
}

pub fn produce_at(
    wire: &mut Wire,
    version: i16,
    topic: &Topic,
    partition: i32,
    acks: i16,
    records: Bytes,
) -> PartitionProduceResponse {
    let request = produce_request(version, topic, partition, acks, records);
    wire.call(version, &request).responses.remove(0).partition_responses.remove(0)
}

/// acks=all to partition 0; must succeed. The base offset.
pub fn produce(wire: &mut Wire, topic: &Topic, records: Bytes) -> i64 {
    let reply = produce_at(wire, 9, topic, 0, -1, records);
    assert_eq!(reply.error_code, 0, "produce to {}: {:?}", topic.name, reply.error_message);
    reply.base_offset
}

/// One fetch of one partition outside any session.
#[derive(Clone, Copy, Debug)]
pub struct Fetch {
    pub version: i16,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
}

impl Default for Fetch {
    fn default() -> Fetch {
        Fetch {
            version: 12,
            partition: 0,
            offset: 0,
            leader_epoch: -1,
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: 50 << 20,
            partition_max_bytes: 50 << 20,
        }
    }
}

impl Fetch {
    pub fn partition_of(&self) -> FetchPartition {
        msg!(FetchPartition {
            partition: self.partition,
            current_leader_epoch: self.leader_epoch,
            fetch_offset: self.offset,
            partition_max_bytes: self.partition_max_bytes,
        })
    }

    pub fn request(&self, topic: &Topic) -> FetchRequest {
        let topic = fetch_topic(self.version, topic, vec![self.partition_of()]);
        let mut request = self.empty_request();
        request.topics = vec![topic];
        request
    }

    /// The same limits and no partition: session id 0 and epoch −1, which is "no session".
    pub fn empty_request(&self) -> FetchRequest {
        let mut request = msg!(FetchRequest {
            max_wait_ms: self.max_wait_ms,
            min_bytes: self.min_bytes,
            max_bytes: self.max_bytes,
        });
        if self.version >= 7 {
            request.session_epoch = -1;
        }
        request
    }

    pub fn run(&self, wire: &mut Wire, topic: &Topic) -> PartitionData {
        let mut reply = wire.call(self.version, &self.request(topic));
        assert_eq!(reply.error_code, 0, "fetch v{}: top-level error", self.version);
        reply.responses.remove(0).partitions.remove(0)
    }
}

pub fn fetch_topic(version: i16, topic: &Topic, partitions: Vec<FetchPartition>) -> FetchTopic {
    let mut data = msg!(FetchTopic { partitions: partitions });
    match version {
        ..=12 => data.topic = topic.name.as_str().into(),
        _ => data.topic_id = topic.id,
    }
    data
}

/// Everything in a partition from `offset` to its high watermark, batch by batch as a consumer would.
pub fn read_from(wire: &mut Wire, topic: &Topic, partition: i32, offset: i64) -> Vec<(i64, Bytes)> {
    let mut rows = Vec::new();
    let mut next = offset;
    loop {
        let data = Fetch { partition, offset: next, ..Fetch::default() }.run(wire, topic);
        assert_eq!(data.error_code, 0, "fetch {}/{partition} at {next}", topic.name);
        let got = super::batch::rows(data.records.unwrap_or_default());
        rows.extend(got.into_iter().filter(|(at, _)| *at >= next));
        next = rows.last().map_or(next, |(at, _): &(i64, Bytes)| at + 1);
        if next >= data.high_watermark {
            return rows;
        }
    }
}

pub fn list_offset(
    wire: &mut Wire,
    version: i16,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    let mut partition = msg!(ListOffsetsPartition { partition_index: partition, timestamp: timestamp });
    if version >= 4 {
        partition.current_leader_epoch = -1;
    }
    let topic = msg!(ListOffsetsTopic { name: topic.into(), partitions: vec![partition] });
    let request = msg!(ListOffsetsRequest { replica_id: -1, topics: vec![topic] });
    wire.call(version, &request).topics.remove(0).partitions.remove(0)
}

/// A producer id of its own for an idempotent producer.
pub fn producer_id(wire: &mut Wire) -> (i64, i16) {
    let request = msg!(InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
    });
    // A broker that has just started may still be fetching its first block of ids.
    for _ in 0..100 {
        let reply = wire.call(4, &request);
        if reply.error_code == 0 {
            return (reply.producer_id, reply.producer_epoch);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("no producer id");
}
