//! OffsetForLeaderEpoch (KIP-101): where a leader epoch ends in this log.

use kafka_wire::offset_for_leader_epoch_request::OffsetForLeaderEpochRequest;
use kafka_wire::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

use super::authorize::Rights;
use super::errors::read_error;
use super::request::Cx;
use crate::model::LeaderEpoch;
use crate::security::{Operation, Resource};
use crate::shard::message::EpochQuery;
use crate::wire::error_code::ErrorCode;

pub async fn handle(cx: &Cx, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let image = cx.shard.image();
    let mut queries = Vec::new();
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let known = image.topic(&topic.topic);
        let denied = match cx.may(Operation::ClusterAction, Resource::Cluster) {
            true => None,
            false => cx.authorize(Operation::Describe, Resource::Topic(&topic.topic)).err(),
        };
        let mut out = OffsetForLeaderTopicResult::default();
        out.topic = topic.topic.clone();
        for partition in topic.partitions {
            let index = partition.partition;
            let mut answer = EpochEndOffset::default();
            answer.partition = index;
            (answer.leader_epoch, answer.end_offset) = (-1, -1);
            if let Some(code) = denied {
                cx.count(code);
                answer.error_code = code.code();
                out.partitions.push(answer);
                continue;
            }
            match known.and_then(|topic| cx.shard.leader_of(topic, index)) {
                None => answer.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                Some(at) => queries.push(EpochQuery {
                    partition: at,
                    epoch: LeaderEpoch(partition.leader_epoch),
                    current: LeaderEpoch::from_wire(partition.current_leader_epoch),
                }),
            }
            out.partitions.push(answer);
        }
        response.topics.push(out);
    }
    let mut ends = cx.shard.epoch_ends(&queries).await.into_iter();
    let answers = response.topics.iter_mut().flat_map(|t| &mut t.partitions);
    for answer in answers.filter(|a| a.error_code == 0) {
        match ends.next() {
            Some(Ok(None)) => {}
            Some(Ok(Some((epoch, end)))) => (answer.leader_epoch, answer.end_offset) = (epoch.0, end.0),
            Some(Err(e)) => answer.error_code = read_error(&e).code(),
            None => answer.error_code = ErrorCode::UnknownServerError.code(),
        }
    }
    response
}
