//! ElectLeaders (KIP-460): with one broker every partition has the only leader it can have.

use kafka_wire::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_wire::{ElectLeadersRequest, ElectLeadersResponse};
use kafka_wire_core::StrBytes;

use super::Cx;
use super::authorize::Rights;
use super::common::build;
use crate::metadata::Image;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// Before, every election is of the preferred leader, and there is no error of the whole request.
const TYPES_FROM: i16 = 1;

pub async fn handle(cx: &Cx, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let response = match cx.authorize(Operation::Alter, Resource::Cluster) {
        Ok(()) => answer(&cx.shard.image(), &request, cx.version),
        Err(error) => build(|r: &mut ElectLeadersResponse| {
            r.error_code = if cx.version >= TYPES_FROM { error.code() } else { 0 };
            r.replica_election_results = each(&request, |_, _| (error, None));
        }),
    };
    let results = response.replica_election_results.iter().flat_map(|t| &t.partition_result);
    results.for_each(|p| cx.count(ErrorCode::from_code(p.error_code)));
    response
}

fn answer(image: &Image, request: &ElectLeadersRequest, version: i16) -> ElectLeadersResponse {
    if version >= TYPES_FROM && !matches!(request.election_type, PREFERRED | UNCLEAN) {
        let why = format!("Unknown election type {}", request.election_type);
        return build(|r: &mut ElectLeadersResponse| {
            r.error_code = ErrorCode::InvalidRequest.code();
            r.replica_election_results =
                each(request, |_, _| (ErrorCode::InvalidRequest, Some(why.as_str().into())));
        });
    }
    let results = match &request.topic_partitions {
        Some(_) => each(request, |topic, index| elect(image, topic, index)),
        // Asked for everything, those that need no election are not told.
        None => image.topics().map(|t| result(t.wire_name(), Vec::new())).collect(),
    };
    build(|r: &mut ElectLeadersResponse| r.replica_election_results = results)
}

fn elect(image: &Image, topic: &str, index: i32) -> (ErrorCode, Option<StrBytes>) {
    let why = match image.topic(topic) {
        None => format!("No such topic as {topic}"),
        Some(known) if known.partition(index).is_none() => format!("No such partition as {topic}-{index}"),
        Some(_) => {
            let why = "Leader election not needed for topic partition.";
            return (ErrorCode::ElectionNotNeeded, Some(why.into()));
        }
    };
    (ErrorCode::UnknownTopicOrPartition, Some(why.into()))
}

fn each(
    request: &ElectLeadersRequest,
    elect: impl Fn(&str, i32) -> (ErrorCode, Option<StrBytes>),
) -> Vec<ReplicaElectionResult> {
    let topics = request.topic_partitions.iter().flatten().map(|topic| {
        let partitions = topic.partitions.iter().map(|index| {
            let (code, why) = elect(&topic.topic, *index);
            build(|p: &mut PartitionResult| {
                p.partition_id = *index;
                p.error_code = code.code();
                p.error_message = why;
            })
        });
        result(topic.topic.clone(), partitions.collect())
    });
    topics.collect()
}

fn result(topic: StrBytes, partitions: Vec<PartitionResult>) -> ReplicaElectionResult {
    build(|r: &mut ReplicaElectionResult| {
        r.topic = topic;
        r.partition_result = partitions;
    })
}

#[cfg(test)]
mod tests {
    use kafka_wire::elect_leaders_request::TopicPartitions;

    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn no_election_is_needed() {
        let controller = controller(&[("a", 1)]);
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
            let codes = |request: &ElectLeadersRequest| -> Vec<i16> {
                let reply = round_trip(&answer(&image, request, version), version);
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
