//! Producing, fetching, and asking for offsets.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire::{FetchRequest, ListOffsetsRequest, ProduceRequest};
use kafka_wire_core::StrBytes;

use super::router::TopicInfo;
use super::{Client, ClientError, KafkaError, message};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// −1 when acks=0 asked for no answer.
    pub base_offset: i64,
    pub log_append_time_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    #[default]
    ReadUncommitted,
    ReadCommitted,
}

impl Isolation {
    fn level(self) -> i8 {
        match self {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        }
    }
}

/// Which offset to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    Beginning,
    End,
    /// The first record at or after this time; the end if there is none.
    Timestamp(i64),
}

#[derive(Clone, Copy, Debug)]
pub struct FetchQuery {
    pub max_bytes: i32,
    pub min_bytes: i32,
    pub max_wait: Duration,
    pub isolation: Isolation,
}

#[derive(Clone, Debug)]
pub struct Fetched {
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// Batches back to back, the last perhaps cut.
    pub batches: Bytes,
}

/// Each partition's own outcome.
pub type Answers = Vec<(i32, Result<Fetched, ClientError>)>;

/// How long a broker may take to have a produce replicated, as it is told.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;

impl Client {
    /// Produces one batch to one partition.
    pub fn produce(
        &mut self,
        topic: &TopicInfo,
        partition: i32,
        batch: Bytes,
        acks: i16,
    ) -> Result<Produced, ClientError> {
        let request = produce_request(topic, partition, batch, acks);
        if acks == 0 {
            self.leader(topic, partition)?.send_only(&request)?;
            return Ok(Produced { base_offset: -1, log_append_time_ms: -1 });
        }
        let patience = Duration::from_millis(PRODUCE_TIMEOUT_MS as u64);
        let response = self.call_leader(topic, partition, &request, patience)?;
        let what = || format!("produce to partition {partition} of {}", topic.name);
        let answer = response.responses.first().and_then(|t| t.partition_responses.first());
        let answer = answer.ok_or_else(|| missing(what()))?;
        KafkaError::check(answer.error_code, answer.error_message.as_deref())
            .map_err(ClientError::kafka(what()))?;
        Ok(Produced { base_offset: answer.base_offset, log_append_time_ms: answer.log_append_time_ms })
    }

    /// Fetches from several partitions of a topic, each from its offset: one request a leader, of
    /// which only the last may wait for more to arrive.
    pub fn fetch_many(
        &mut self,
        topic: &TopicInfo,
        positions: &[(i32, i64)],
        query: FetchQuery,
    ) -> Result<Answers, ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<(i32, i64)>> = BTreeMap::new();
        for (partition, offset) in positions {
            by_leader.entry(topic.leader_of(*partition)?).or_default().push((*partition, *offset));
        }
        let mut answers = Vec::new();
        let leaders = by_leader.len();
        for (i, asked) in by_leader.into_values().enumerate() {
            let waits = i + 1 == leaders && answers.is_empty();
            let max_wait = if waits { query.max_wait } else { Duration::ZERO };
            let request = fetch_request(topic, &asked, FetchQuery { max_wait, ..query });
            let response = self.call_leader(topic, asked[0].0, &request, max_wait)?;
            let what = |p: i32| format!("fetch from partition {p} of {}", topic.name);
            KafkaError::check(response.error_code, None).map_err(ClientError::kafka(what(asked[0].0)))?;
            for answer in response.responses.into_iter().flat_map(|t| t.partitions) {
                let outcome = KafkaError::check(answer.error_code, None)
                    .map_err(ClientError::kafka(what(answer.partition_index)))
                    .map(|()| Fetched {
                        high_watermark: answer.high_watermark,
                        last_stable_offset: answer.last_stable_offset,
                        log_start_offset: answer.log_start_offset,
                        batches: answer.records.unwrap_or_default(),
                    });
                answers.push((answer.partition_index, outcome));
            }
        }
        Ok(answers)
    }

    /// Fetches from one partition.
    pub fn fetch(
        &mut self,
        topic: &TopicInfo,
        partition: i32,
        offset: i64,
        query: FetchQuery,
    ) -> Result<Fetched, ClientError> {
        let answer = self.fetch_many(topic, &[(partition, offset)], query)?.into_iter().next();
        answer.ok_or_else(|| missing(format!("fetch from partition {partition} of {}", topic.name)))?.1
    }

    /// One offset of one partition.
    pub fn offset(
        &mut self,
        topic: &TopicInfo,
        partition: i32,
        at: OffsetAt,
        isolation: Isolation,
    ) -> Result<i64, ClientError> {
        let timestamp = match at {
            OffsetAt::End => -1,
            OffsetAt::Beginning => -2,
            OffsetAt::Timestamp(ms) => ms.max(0),
        };
        let request = message::<ListOffsetsRequest>(|r| {
            r.replica_id = -1;
            r.isolation_level = isolation.level();
            r.timeout_ms = PRODUCE_TIMEOUT_MS;
            r.topics = vec![message::<ListOffsetsTopic>(|t| {
                t.name = StrBytes::from(topic.name.as_str());
                t.partitions = vec![message::<ListOffsetsPartition>(|p| {
                    p.partition_index = partition;
                    p.current_leader_epoch = -1;
                    p.timestamp = timestamp;
                })];
            })];
        });
        let response = self.call_leader(topic, partition, &request, Duration::ZERO)?;
        let what = || format!("offsets of partition {partition} of {}", topic.name);
        let answer = response.topics.first().and_then(|t| t.partitions.first());
        let answer = answer.ok_or_else(|| missing(what()))?;
        KafkaError::check(answer.error_code, None).map_err(ClientError::kafka(what()))?;
        match (at, answer.offset) {
            (OffsetAt::Timestamp(_), -1) => self.offset(topic, partition, OffsetAt::End, isolation),
            (_, offset) => Ok(offset),
        }
    }
}

/// The request that produces one batch to one partition.
pub(super) fn produce_request(topic: &TopicInfo, partition: i32, batch: Bytes, acks: i16) -> ProduceRequest {
    message::<ProduceRequest>(|r| {
        r.acks = acks;
        r.timeout_ms = PRODUCE_TIMEOUT_MS;
        r.topic_data = vec![message::<TopicProduceData>(|t| {
            t.name = StrBytes::from(topic.name.as_str());
            t.topic_id = topic.id;
            t.partition_data = vec![message::<PartitionProduceData>(|p| {
                p.index = partition;
                p.records = Some(batch);
            })];
        })];
    })
}

fn fetch_request(topic: &TopicInfo, positions: &[(i32, i64)], query: FetchQuery) -> FetchRequest {
    let partition = |(index, offset): &(i32, i64)| {
        message::<FetchPartition>(|p| {
            p.partition = *index;
            p.current_leader_epoch = -1;
            p.fetch_offset = *offset;
            p.last_fetched_epoch = -1;
            p.log_start_offset = -1;
            p.partition_max_bytes = query.max_bytes;
        })
    };
    message::<FetchRequest>(|r| {
        r.max_wait_ms = i32::try_from(query.max_wait.as_millis()).unwrap_or(i32::MAX);
        r.min_bytes = query.min_bytes;
        r.max_bytes = query.max_bytes;
        r.isolation_level = query.isolation.level();
        // No session: the broker keeps no state for this client.
        r.session_id = 0;
        r.session_epoch = -1;
        r.topics = vec![message::<FetchTopic>(|t| {
            t.topic = StrBytes::from(topic.name.as_str());
            t.topic_id = topic.id;
            t.partitions = positions.iter().map(partition).collect();
        })];
    })
}

fn missing(what: String) -> ClientError {
    let message = Some("the answer does not mention the partition".to_owned());
    ClientError::Kafka { what, error: KafkaError { code: -1, message } }
}
