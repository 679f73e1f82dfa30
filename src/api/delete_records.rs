//! DeleteRecords: moves a partition's log start up (KIP-107).

use std::collections::BTreeMap;

use kafka_wire::delete_records_request::DeleteRecordsRequest;
use kafka_wire::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};

use super::authorize::Rights;
use super::errors::read_error;
use super::request::Cx;
use crate::metadata::Topic;
use crate::model::Offset;
use crate::security::{Operation, Resource};
use crate::shard::located::Located;
use crate::wire::error_code::ErrorCode;

/// What the wire calls the high watermark.
const ALL_COMMITTED: i64 = -1;

pub async fn handle(cx: &Cx, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let image = cx.shard.image();
    let mut queries = Vec::new();
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let known = image.topic(&topic.name);
        let denied = cx.authorize(Operation::Delete, Resource::Topic(&topic.name)).err();
        let mut out = DeleteRecordsTopicResult::default();
        out.name = topic.name.clone();
        // Of an offset that is given twice, the last counts.
        let offsets: BTreeMap<i32, i64> =
            topic.partitions.iter().map(|p| (p.partition_index, p.offset)).collect();
        for (index, offset) in offsets {
            let mut answer = DeleteRecordsPartitionResult::default();
            answer.partition_index = index;
            answer.low_watermark = -1;
            match denied.map_or_else(|| target(cx, known.map(|t| &**t), index, offset), Err) {
                Ok(query) => queries.push(query),
                Err(code) => {
                    cx.count(code);
                    answer.error_code = code.code();
                }
            }
            out.partitions.push(answer);
        }
        response.topics.push(out);
    }
    let mut results = cx.shard.delete_records(&queries).await.into_iter();
    let answers = response.topics.iter_mut().flat_map(|t| &mut t.partitions);
    for answer in answers.filter(|a| a.error_code == 0) {
        match results.next() {
            Some(Ok(low_watermark)) => answer.low_watermark = low_watermark.0,
            Some(Err(e)) => answer.error_code = read_error(&e).code(),
            None => answer.error_code = ErrorCode::UnknownServerError.code(),
        }
    }
    response
}

/// A partition, and up to where its records go: `None` for all that is committed.
type Query = (Located, Option<Offset>);

fn target(cx: &Cx, topic: Option<&Topic>, index: i32, offset: i64) -> Result<Query, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = cx.shard.leader_of(topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.is_internal() {
        return Err(ErrorCode::InvalidTopicException);
    }
    // What compaction keeps is for compaction to drop.
    let policy = cx.shard.topic_config(topic).cleanup_policy;
    if policy.compact && !policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    match offset {
        ALL_COMMITTED => Ok((partition, None)),
        offset => Ok((partition, Some(Offset::from_wire(offset).ok_or(ErrorCode::OffsetOutOfRange)?))),
    }
}
