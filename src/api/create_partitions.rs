//! CreatePartitions: raises a topic's partition count to a total.

use std::collections::BTreeSet;

use kafka_wire::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::create_partitions_response::CreatePartitionsTopicResult;
use kafka_wire::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::authorize::Rights;
use super::common::{build, code, message, whole_error};
use super::request::Cx;
use crate::controller::{ControlReply, ControlRequest, NewPartitions};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

pub async fn handle(cx: &Cx, mut request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let may = |cx: &Cx, topic: &CreatePartitionsTopic| cx.may(Operation::Alter, Resource::Topic(&topic.name));
    let (allowed, denied) = cx.sort(std::mem::take(&mut request.topics), may);
    request.topics = allowed;
    let reply = cx.shard.control(control(&request)).await;
    let mut response = answer(&request, reply);
    response.results.extend(denied.into_iter().map(|topic| {
        build(|r: &mut CreatePartitionsTopicResult| {
            r.name = topic.name;
            r.error_code = ErrorCode::TopicAuthorizationFailed.code();
        })
    }));
    for result in &response.results {
        cx.count(ErrorCode::from_code(result.error_code));
    }
    response
}

fn control(request: &CreatePartitionsRequest) -> ControlRequest {
    let topics = request.topics.iter().map(|topic| NewPartitions {
        topic: topic.name.to_string(),
        total: topic.count,
        assignments: topic
            .assignments
            .as_ref()
            .map(|assignments| assignments.iter().map(|a| a.broker_ids.clone()).collect()),
    });
    ControlRequest::CreatePartitions { topics: topics.collect(), validate_only: request.validate_only }
}

fn answer(request: &CreatePartitionsRequest, reply: ControlReply) -> CreatePartitionsResponse {
    let results: Vec<_> = match reply {
        ControlReply::CreatePartitions(results) => results,
        other => {
            let error = whole_error(other);
            request.topics.iter().map(|_| Err(error.clone())).collect()
        }
    };
    let mut seen = BTreeSet::new();
    let once = request.topics.iter().zip(results).filter(|(topic, _)| seen.insert(&topic.name));
    let results = once.map(|(topic, result)| {
        build(|r: &mut CreatePartitionsTopicResult| {
            r.name = topic.name.clone();
            if let Err(error) = result {
                r.error_code = code(&error).code();
                r.error_message = message(&error);
            }
        })
    });
    build(|r: &mut CreatePartitionsResponse| r.results = results.collect())
}

#[cfg(test)]
mod tests {
    use kafka_wire::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};

    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn totals_grow_at_every_version() {
        for version in 0..=3 {
            let mut controller = controller(&[("a", 2), ("b", 2), ("c", 2)]);
            let topic = |name: &str, count, assigned: Option<&[i32]>| {
                build(|t: &mut CreatePartitionsTopic| {
                    t.name = name.into();
                    t.count = count;
                    t.assignments = assigned.map(|brokers| {
                        vec![build(|a: &mut CreatePartitionsAssignment| a.broker_ids = brokers.to_vec())]
                    });
                })
            };
            let mut request = CreatePartitionsRequest::default();
            request.topics = vec![
                topic("a", 5, None),
                topic("b", 2, None),
                topic("nope", 3, None),
                topic("c", 3, Some(&[1])),
            ];
            let reply = controller.handle(&control(&request));
            let response = round_trip(&answer(&request, reply), version);
            let codes: Vec<_> = response.results.iter().map(|t| t.error_code).collect();
            assert_eq!(codes, [0, 37, 3, 0]);
            assert!(response.results[1].error_message.is_some());
            let image = controller.image();
            assert_eq!(image.topic("a").unwrap().partitions.len(), 5);
            assert_eq!(image.topic("c").unwrap().partitions.len(), 3);
        }
    }
}
