//! ListOffsets: the offset of a time, or of an end of the log.

use std::collections::BTreeSet;

use kafka_wire::list_offsets_request::{ListOffsetsRequest, ListOffsetsTopic};
use kafka_wire::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};

use super::authorize::Rights;
use super::errors::{READ_COMMITTED, read_error};
use super::request::Cx;
use crate::model::LeaderEpoch;
use crate::partition::ReadError;
use crate::partition::read::special_timestamp;
use crate::security::{Operation, Resource};
use crate::shard::message::OffsetQuery;
use crate::wire::error_code::ErrorCode;

/// Times that are none, and the version from which on each may be asked for.
const SPECIAL: [(i64, i16); 6] = [
    (special_timestamp::LATEST, 1),
    (special_timestamp::EARLIEST, 1),
    (special_timestamp::MAX_TIMESTAMP, 7),
    (special_timestamp::EARLIEST_LOCAL, 8),
    (special_timestamp::LATEST_TIERED, 9),
    (special_timestamp::EARLIEST_PENDING_UPLOAD, 11),
];

fn may_ask(timestamp: i64, version: i16) -> bool {
    timestamp >= 0 || SPECIAL.iter().any(|(special, from)| *special == timestamp && version >= *from)
}

/// The partitions of a topic that are asked for more than once.
fn repeated(topic: &ListOffsetsTopic) -> BTreeSet<i32> {
    let mut seen = BTreeSet::new();
    let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
    indexes.filter(|index| !seen.insert(*index)).collect()
}

pub async fn handle(cx: &Cx, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let image = cx.shard.image();
    let known_level = cx.version < 2 || (0..=READ_COMMITTED).contains(&request.isolation_level);
    let committed = cx.version >= 2 && request.isolation_level == READ_COMMITTED;
    let mut queries = Vec::new();
    let mut response = ListOffsetsResponse::default();
    for topic in request.topics {
        let known = image.topic(&topic.name);
        let denied = cx.authorize(Operation::Describe, Resource::Topic(&topic.name)).err();
        let mut out = ListOffsetsTopicResponse::default();
        out.name = topic.name.clone();
        let mut repeated = repeated(&topic);
        let refused = repeated.clone();
        for partition in topic.partitions {
            let index = partition.partition_index;
            // Answered once.
            if refused.contains(&index) && !repeated.remove(&index) {
                continue;
            }
            let mut answer = ListOffsetsPartitionResponse::default();
            answer.partition_index = index;
            (answer.offset, answer.timestamp, answer.leader_epoch) = (-1, -1, -1);
            let refusal = match known.and_then(|topic| cx.shard.leader_of(topic, index)) {
                _ if denied.is_some() => denied,
                _ if !known_level => Some(ErrorCode::UnknownServerError),
                _ if refused.contains(&index) => Some(ErrorCode::InvalidRequest),
                _ if !may_ask(partition.timestamp, cx.version) => Some(ErrorCode::UnsupportedVersion),
                None => Some(ErrorCode::UnknownTopicOrPartition),
                Some(at) => {
                    queries.push(OffsetQuery {
                        partition: at,
                        timestamp: partition.timestamp,
                        leader_epoch: LeaderEpoch::from_wire(partition.current_leader_epoch)
                            .filter(|_| cx.version >= 4),
                        committed,
                    });
                    None
                }
            };
            answer.error_code = refusal.unwrap_or(ErrorCode::None).code();
            cx.count(refusal.unwrap_or(ErrorCode::None));
            out.partitions.push(answer);
        }
        response.topics.push(out);
    }
    let mut found = cx.shard.find_offsets(&queries).await.into_iter();
    let answers = response.topics.iter_mut().flat_map(|t| &mut t.partitions);
    for answer in answers.filter(|a| a.error_code == 0) {
        match found.next() {
            Some(Ok(None)) => {}
            Some(Ok(Some(found))) => {
                answer.offset = found.offset.0;
                answer.timestamp = found.timestamp.unwrap_or(-1);
                if cx.version >= 4 {
                    answer.leader_epoch = found.leader_epoch.0;
                }
            }
            // Who knows no such error knows this one, which passes as well (KIP-207).
            Some(Err(ReadError::OffsetNotAvailable)) if cx.version < 5 => {
                answer.error_code = ErrorCode::LeaderNotAvailable.code();
            }
            Some(Err(e)) => answer.error_code = read_error(&e).code(),
            None => answer.error_code = ErrorCode::UnknownServerError.code(),
        }
    }
    response
}
