//! ListOffsets: the offset of a time, or of an end of the log.

use kafka_wire::list_offsets_request::ListOffsetsRequest;
use kafka_wire::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};

use super::{Cx, READ_COMMITTED, read_error};
use crate::model::PartitionId;
use crate::shard::message::OffsetQuery;
use crate::wire::error_code::ErrorCode;

pub async fn handle(cx: &Cx, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let image = cx.shard.image();
    let committed = cx.version >= 2 && request.isolation_level == READ_COMMITTED;
    let mut queries = Vec::new();
    let mut response = ListOffsetsResponse::default();
    for topic in request.topics {
        let known = image.topic(&topic.name);
        let mut out = ListOffsetsTopicResponse::default();
        out.name = topic.name.clone();
        for partition in topic.partitions {
            let index = partition.partition_index;
            let mut answer = ListOffsetsPartitionResponse::default();
            answer.partition_index = index;
            (answer.offset, answer.timestamp, answer.leader_epoch) = (-1, -1, -1);
            match known.filter(|t| t.partition(index).is_some()) {
                None => answer.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                Some(topic) => queries.push(OffsetQuery {
                    partition: PartitionId { topic: topic.id, index },
                    timestamp: partition.timestamp,
                    leader_epoch: if cx.version >= 4 { partition.current_leader_epoch } else { -1 },
                    committed,
                }),
            }
            out.partitions.push(answer);
        }
        response.topics.push(out);
    }
    let mut found = cx.shard.find_offsets(&queries).await.into_iter();
    let answers = response.topics.iter_mut().flat_map(|t| &mut t.partitions);
    for answer in answers.filter(|a| a.error_code == 0) {
        match found.next() {
            Some(Ok(found)) => {
                answer.offset = found.offset;
                answer.timestamp = found.timestamp;
                if cx.version >= 4 {
                    answer.leader_epoch = found.leader_epoch;
                }
            }
            Some(Err(e)) => answer.error_code = read_error(&e).code(),
            None => answer.error_code = ErrorCode::UnknownServerError.code(),
        }
    }
    response
}
