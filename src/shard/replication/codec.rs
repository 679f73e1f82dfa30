//! A follower's Fetch and its answer as they cross the wire: Kafka's messages, with fields of our own.
//!
//! ```text
//! FetchPartition  10,000  the follower's durable end, i64: what counts of it
//! PartitionData   10,000  the leader's end, i64, with OFFSET_OUT_OF_RANGE
//!                 10,001  leader epochs past the one that was asked with: { epoch i32, where it begins i64 }
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_wire::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_wire::fetch_response::PartitionData;
use kafka_wire::{FetchRequest, FetchResponse};
use kafka_wire_core::{TaggedField, TaggedFields, Uuid};

use crate::model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionId, TopicId};
use crate::partition::follower::Asked;
use crate::partition::peer::Report;
use crate::partition::{Given, ReadError, Said};
use crate::wire::error_code::ErrorCode;
use crate::wire::fetch::FetchPartitionReply;

/// The version of Fetch that brokers speak.
pub const VERSION: i16 = 17;
const END: u32 = 10_000;
const STARTS: u32 = 10_001;

/// What a follower asks for in one request.
pub struct Ask {
    pub from: (BrokerId, BrokerEpoch),
    /// 0 begins a session anew.
    pub session_epoch: i32,
    pub max_wait_ms: i32,
    pub max_bytes: usize,
    pub partition_bytes: usize,
    /// Partitions of which there is something new to say; the session knows the others.
    pub mentioned: Vec<(PartitionId, Asked)>,
    pub forgotten: Vec<PartitionId>,
}

/// One partition of a request, as its leader takes it.
#[derive(Clone, Copy, Debug)]
pub struct Mention {
    pub id: PartitionId,
    pub report: Report,
    pub max_bytes: usize,
}

fn by_topic<T>(
    items: impl IntoIterator<Item = (PartitionId, T)>,
) -> impl Iterator<Item = (Uuid, Vec<(i32, T)>)> {
    let mut topics: Vec<(TopicId, Vec<(i32, T)>)> = Vec::new();
    for (id, item) in items {
        match topics.last_mut() {
            Some((topic, partitions)) if *topic == id.topic => partitions.push((id.index, item)),
            _ => topics.push((id.topic, vec![(id.index, item)])),
        }
    }
    topics.into_iter().map(|(topic, partitions)| (Uuid::from_bytes(topic.0), partitions))
}

fn field(tag: u32, bytes: BytesMut) -> TaggedField {
    TaggedField::new(tag, bytes.freeze())
}

impl Ask {
    pub fn encode(self) -> FetchRequest {
        let mut request = FetchRequest::default();
        request.replica_id = -1;
        request.replica_state = ReplicaState::default();
        (request.replica_state.replica_id, request.replica_state.replica_epoch) =
            (self.from.0, self.from.1.0);
        (request.max_wait_ms, request.min_bytes) = (self.max_wait_ms, 1);
        request.max_bytes = i32::try_from(self.max_bytes).unwrap_or(i32::MAX);
        request.session_epoch = self.session_epoch;
        let partition = |index, asked: Asked| {
            let mut partition = FetchPartition::default();
            partition.partition = index;
            partition.current_leader_epoch = asked.epoch.0;
            partition.fetch_offset = asked.offset.0;
            partition.last_fetched_epoch = asked.last_epoch.map_or(-1, |epoch| epoch.0);
            partition.partition_max_bytes = i32::try_from(self.partition_bytes).unwrap_or(i32::MAX);
            let mut durable = BytesMut::with_capacity(8);
            durable.put_i64(asked.durable.0);
            partition.unknown_tagged_fields =
                TaggedFields::from_sorted(vec![field(END, durable)]).expect("one field is in order");
            partition
        };
        request.topics = by_topic(self.mentioned)
            .map(|(id, partitions)| {
                let mut topic = FetchTopic::default();
                topic.topic_id = id;
                topic.partitions =
                    partitions.into_iter().map(|(index, asked)| partition(index, asked)).collect();
                topic
            })
            .collect();
        request.forgotten_topics_data = by_topic(self.forgotten.into_iter().map(|id| (id, ())))
            .map(|(id, partitions)| {
                let mut topic = ForgottenTopic::default();
                topic.topic_id = id;
                topic.partitions = partitions.into_iter().map(|(index, ())| index).collect();
                topic
            })
            .collect();
        request
    }
}

/// Who fetches, and in which life.
pub fn from(request: &FetchRequest) -> (BrokerId, BrokerEpoch) {
    (request.replica_state.replica_id, BrokerEpoch(request.replica_state.replica_epoch))
}

fn id(topic: &Uuid, index: i32) -> PartitionId {
    PartitionId { topic: TopicId(topic.to_bytes()), index }
}

/// What is mentioned of a request. A follower that does not say what it has durably has nothing.
pub fn mentioned(request: &FetchRequest) -> impl Iterator<Item = Mention> {
    let (from, broker_epoch) = from(request);
    request.topics.iter().flat_map(move |topic| {
        topic.partitions.iter().map(move |partition| Mention {
            id: id(&topic.topic_id, partition.partition),
            report: Report {
                from,
                broker_epoch,
                leader_epoch: LeaderEpoch(partition.current_leader_epoch),
                offset: Offset(partition.fetch_offset.max(0)),
                last_epoch: (partition.last_fetched_epoch >= 0)
                    .then_some(LeaderEpoch(partition.last_fetched_epoch)),
                durable: Offset(tagged_i64(&partition.unknown_tagged_fields, END).unwrap_or(0).max(0)),
            },
            max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
        })
    })
}

pub fn forgotten(request: &FetchRequest) -> impl Iterator<Item = PartitionId> {
    request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| id(&topic.topic_id, *index)))
}

fn tagged(fields: &TaggedFields, tag: u32) -> Option<Bytes> {
    fields.iter().find(|field| field.tag() == tag).map(|field| field.data().clone())
}

fn tagged_i64(fields: &TaggedFields, tag: u32) -> Option<i64> {
    Some(i64::from_be_bytes(*tagged(fields, tag)?.first_chunk()?))
}

/// The code of a request that is of no session, or not its next.
pub const BAD_SESSION: i16 = ErrorCode::InvalidFetchSessionEpoch as i16;
/// Of one that is not by who it should be.
pub const NOT_ALLOWED: i16 = ErrorCode::ClusterAuthorizationFailed as i16;

/// What is told of a partition that cannot be read, or not from there.
pub fn failed(index: i32, error: &ReadError, end: Offset) -> FetchPartitionReply {
    let code = match error {
        ReadError::UnknownPartition => ErrorCode::UnknownTopicId,
        ReadError::NotLeader => ErrorCode::NotLeaderOrFollower,
        ReadError::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        ReadError::OffsetNotAvailable => ErrorCode::OffsetNotAvailable,
        ReadError::FencedEpoch => ErrorCode::FencedLeaderEpoch,
        ReadError::UnknownEpoch => ErrorCode::UnknownLeaderEpoch,
        ReadError::Corrupt(_) | ReadError::Storage(_) => ErrorCode::KafkaStorageError,
    };
    let mut own = Vec::new();
    if matches!(error, ReadError::OffsetOutOfRange) {
        own.push((END, Bytes::copy_from_slice(&end.0.to_be_bytes())));
    }
    FetchPartitionReply {
        index,
        error_code: code.code(),
        own: own.into(),
        preferred_read_replica: -1,
        ..FetchPartitionReply::default()
    }
}

/// What goes with batches: epochs, if there are any to be told.
pub fn starts(starts: &[(LeaderEpoch, Offset)]) -> Box<[(u32, Bytes)]> {
    if starts.is_empty() {
        return Box::default();
    }
    let mut bytes = BytesMut::with_capacity(starts.len() * 12);
    for (epoch, at) in starts {
        bytes.put_i32(epoch.0);
        bytes.put_i64(at.0);
    }
    [(STARTS, bytes.freeze())].into()
}

/// What a leader said of each partition, and whether that is the end of it until the partition is mentioned again.
pub fn said(response: FetchResponse) -> impl Iterator<Item = (PartitionId, Said)> {
    response.responses.into_iter().flat_map(|topic| {
        let topic_id = topic.topic_id;
        topic.partitions.into_iter().map(move |data| (id(&topic_id, data.partition_index), said_of(data)))
    })
}

fn said_of(data: PartitionData) -> Said {
    let log_start = Offset(data.log_start_offset.max(0));
    if data.error_code == ErrorCode::OffsetOutOfRange.code() {
        // Who does not say where its log ends has it elsewhere by its start, or not.
        let end = tagged_i64(&data.unknown_tagged_fields, END).unwrap_or(i64::MAX);
        return Said::OutOfRange { log_start, end: Offset(end.max(0)) };
    }
    if data.error_code == ErrorCode::FencedLeaderEpoch.code() {
        return Said::Fenced;
    }
    if data.error_code != ErrorCode::None.code() {
        return Said::NotNow;
    }
    if data.diverging_epoch.epoch >= 0 && data.diverging_epoch.end_offset >= 0 {
        let at = data.diverging_epoch;
        return Said::Diverging(LeaderEpoch(at.epoch), Offset(at.end_offset));
    }
    let mut starts = Vec::new();
    if let Some(mut bytes) = tagged(&data.unknown_tagged_fields, STARTS) {
        while bytes.len() >= 12 {
            starts.push((LeaderEpoch(bytes.get_i32()), Offset(bytes.get_i64().max(0))));
        }
    }
    Said::Batches(Given {
        records: data.records.unwrap_or_default(),
        high_watermark: Offset(data.high_watermark.max(0)),
        log_start,
        starts,
    })
}
