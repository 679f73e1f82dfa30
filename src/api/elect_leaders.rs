//! ElectLeaders (KIP-460): leadership goes to the preferred replicas, or, where nobody leads, to any that lives.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire::elect_leaders_request::TopicPartitions;
use kafka_wire::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_wire::{ElectLeadersRequest, ElectLeadersResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::{build, code, message, whole_error};
use super::request::Cx;
use crate::controller::{ControlError, ControlReply, ControlRequest};
use crate::metadata::{Image, Topic};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// Before, every election is of the preferred leader, and there is no error of the whole request.
const TYPES_FROM: i16 = 1;

pub async fn handle(cx: &Cx, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let response = match cx.authorize(Operation::Alter, Resource::Cluster) {
        Ok(()) => match unknown_type(&request, cx.version) {
            Some(refused) => refused,
            None => {
                let reply = cx.shard.control(asked(&request, cx.version)).await;
                answer(&cx.shard.image(), &request, reply, cx.version)
            }
        },
        Err(error) => refused(&request, error, None, cx.version),
    };
    let results = response.replica_election_results.iter().flat_map(|t| &t.partition_result);
    results.for_each(|p| cx.count(ErrorCode::from_code(p.error_code)));
    response
}

fn unknown_type(request: &ElectLeadersRequest, version: i16) -> Option<ElectLeadersResponse> {
    if version < TYPES_FROM || matches!(request.election_type, PREFERRED | UNCLEAN) {
        return None;
    }
    let why = format!("Unknown election type {}", request.election_type);
    Some(refused(request, ErrorCode::InvalidRequest, Some(why.into()), version))
}

/// One error for the whole request.
fn refused(
    request: &ElectLeadersRequest,
    error: ErrorCode,
    why: Option<StrBytes>,
    version: i16,
) -> ElectLeadersResponse {
    let one = |index: &i32| partition(*index, error, why.clone());
    let topics = request.topic_partitions.iter().flatten();
    build(|r: &mut ElectLeadersResponse| {
        r.error_code = if version >= TYPES_FROM { error.code() } else { 0 };
        let each = topics.map(|t| result(t.topic.clone(), t.partitions.iter().map(one).collect()));
        r.replica_election_results = each.collect();
    })
}

fn asked(request: &ElectLeadersRequest, version: i16) -> ControlRequest {
    let partitions = request.topic_partitions.as_ref().map(|topics| {
        let all = topics.iter().flat_map(|t| t.partitions.iter().map(|index| (t.topic.to_string(), *index)));
        all.collect()
    });
    let unclean = version >= TYPES_FROM && request.election_type == UNCLEAN;
    ControlRequest::ElectLeaders { partitions, unclean }
}

fn answer(
    image: &Image,
    request: &ElectLeadersRequest,
    reply: ControlReply,
    version: i16,
) -> ElectLeadersResponse {
    let results = match reply {
        ControlReply::ElectLeaders(results) => results,
        other => {
            let error = whole_error(other);
            return refused(request, code(&error), message(&error), version);
        }
    };
    let each = match &request.topic_partitions {
        Some(topics) => {
            let mut results = results.into_iter();
            let of = |t: &TopicPartitions| {
                let some = results.by_ref().take(t.partitions.len());
                result(t.topic.clone(), some.map(|(_, index, elected)| told(index, elected)).collect())
            };
            topics.iter().map(of).collect()
        }
        // Asked for everything, those that need no election are not told; their topics are.
        None => {
            let mut by_topic: BTreeMap<String, Vec<PartitionResult>> = BTreeMap::new();
            for (topic, index, elected) in results {
                by_topic.entry(topic).or_default().push(told(index, elected));
            }
            let of = |t: &Arc<Topic>| result(t.wire_name(), by_topic.remove(&*t.name).unwrap_or_default());
            image.topics().map(of).collect()
        }
    };
    build(|r: &mut ElectLeadersResponse| r.replica_election_results = each)
}

fn told(index: i32, elected: Result<(), ControlError>) -> PartitionResult {
    match elected {
        Ok(()) => partition(index, ErrorCode::None, None),
        Err(error) => partition(index, code(&error), message(&error)),
    }
}

fn partition(index: i32, code: ErrorCode, why: Option<StrBytes>) -> PartitionResult {
    build(|p: &mut PartitionResult| {
        p.partition_id = index;
        p.error_code = code.code();
        p.error_message = why;
    })
}

fn result(topic: StrBytes, partitions: Vec<PartitionResult>) -> ReplicaElectionResult {
    build(|r: &mut ReplicaElectionResult| {
        r.topic = topic;
        r.partition_result = partitions;
    })
}

#[cfg(test)]
mod tests {
    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn no_election_is_needed() {
        let mut controller = controller(&[("a", 1)]);
        let image = controller.image();
        for version in 0..=2 {
            let mut request = ElectLeadersRequest::default();
            let ask = |topic: &str, partitions: &[i32]| {
                build(|t: &mut TopicPartitions| {
                    t.topic = topic.into();
                    t.partitions = partitions.to_vec();
                })
            };
            request.topic_partitions = Some(vec![ask("a", &[0, 1]), ask("b", &[0])]);
            let mut codes = |request: &ElectLeadersRequest| -> Vec<i16> {
                let response = unknown_type(request, version).unwrap_or_else(|| {
                    let reply = controller.handle(&asked(request, version));
                    answer(&image, request, reply, version)
                });
                let reply = round_trip(&response, version);
                let results = reply.replica_election_results.iter().flat_map(|t| &t.partition_result);
                results.map(|p| p.error_code).collect()
            };
            assert_eq!(codes(&request), [84, 3, 3]);
            if version >= TYPES_FROM {
                request.election_type = 9;
                assert_eq!(codes(&request), [42, 42, 42]);
                request.election_type = UNCLEAN;
            }
            request.topic_partitions = None;
            assert!(codes(&request).is_empty());
        }
    }
}
