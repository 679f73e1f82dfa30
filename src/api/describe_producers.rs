//! DescribeProducers (KIP-664): which producers a partition remembers, and what they wrote last.

use kafka_wire::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_wire::{DescribeProducersRequest, DescribeProducersResponse};

use super::authorize::Rights;
use super::common::build;
use super::errors::read_error;
use super::request::Cx;
use crate::metadata::names::check_topic_name;
use crate::model::{LeaderEpoch, Offset};
use crate::partition::producer::ProducerView;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const NOT_HOSTED: &str = "This server does not host this topic-partition.";

pub async fn handle(cx: &Cx, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let image = cx.shard.image();
    let mut partitions = Vec::new();
    let mut response = DescribeProducersResponse::default();
    for topic in request.topics {
        let known = image.topic(&topic.name);
        let refused = match check_topic_name(&topic.name) {
            Err(why) => Some((ErrorCode::InvalidTopicException, why)),
            Ok(()) if !cx.may(Operation::Read, Resource::Topic(&topic.name)) => {
                Some((ErrorCode::TopicAuthorizationFailed, ErrorCode::TopicAuthorizationFailed.name().into()))
            }
            Ok(()) if known.is_none() => Some((ErrorCode::UnknownTopicOrPartition, NOT_HOSTED.into())),
            Ok(()) => None,
        };
        let partition = |index: i32| {
            let mut answer = PartitionResponse::default();
            answer.partition_index = index;
            match (known.and_then(|topic| cx.shard.replica_of(topic, index)), &refused) {
                (_, Some((code, why))) => {
                    cx.count(*code);
                    answer.error_code = code.code();
                    answer.error_message = Some(why.as_str().into());
                }
                (None, None) => answer.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                (Some(partition), None) => partitions.push(partition),
            }
            answer
        };
        response.topics.push(build(|t: &mut TopicResponse| {
            t.partitions = topic.partition_indexes.into_iter().map(partition).collect();
            t.name = topic.name;
        }));
    }
    let mut producers = cx.shard.producers(&partitions).await.into_iter();
    for answer in response.topics.iter_mut().flat_map(|t| &mut t.partitions).filter(|a| a.error_code == 0) {
        match producers.next() {
            Some(Ok(views)) => answer.active_producers = views.iter().map(described).collect(),
            Some(Err(e)) => answer.error_code = read_error(&e).code(),
            None => answer.error_code = ErrorCode::UnknownServerError.code(),
        }
        cx.count(ErrorCode::from_code(answer.error_code));
    }
    response
}

fn described(view: &ProducerView) -> ProducerState {
    build(|p: &mut ProducerState| {
        p.producer_id = view.producer.id.0;
        p.producer_epoch = i32::from(view.producer.epoch.0);
        p.last_sequence = view.last_sequence.unwrap_or(-1);
        p.last_timestamp = view.last_heard.0;
        p.coordinator_epoch = LeaderEpoch::to_wire(view.coordinator_epoch);
        p.current_txn_start_offset = Offset::to_wire(view.open_from);
    })
}
