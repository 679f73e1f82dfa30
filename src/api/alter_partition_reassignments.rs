//! AlterPartitionReassignments (KIP-455): with one broker the only possible assignment is the one there is, so that
//! asking for it changes nothing, any other is refused, and there is never a reassignment to cancel.

use kafka_wire::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_wire::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use super::Cx;
use super::common::build;
use crate::metadata::Image;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const REPLICATION_FACTOR_FLAG_FROM: i16 = 1;

pub async fn handle(
    cx: &Cx,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    if let Err(error) = cx.admit(Operation::Alter, Resource::Cluster) {
        return build(|r: &mut AlterPartitionReassignmentsResponse| r.error_code = error.code());
    }
    let response = answer(&cx.shard.image(), &request, cx.version);
    let results = response.responses.iter().flat_map(|t| &t.partitions);
    results.for_each(|p| cx.count(ErrorCode::from_code(p.error_code)));
    response
}

fn answer(
    image: &Image,
    request: &AlterPartitionReassignmentsRequest,
    version: i16,
) -> AlterPartitionReassignmentsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            build(|p: &mut ReassignablePartitionResponse| {
                p.partition_index = partition.partition_index;
                let wanted = partition.replicas.as_deref();
                p.error_message = None;
                if let Err((code, why)) = check(image, &topic.name, partition.partition_index, wanted) {
                    p.error_code = code.code();
                    p.error_message = Some(why.into());
                }
            })
        });
        build(|t: &mut ReassignableTopicResponse| {
            t.name = topic.name.clone();
            t.partitions = partitions.collect();
        })
    });
    build(|r: &mut AlterPartitionReassignmentsResponse| {
        r.error_message = None;
        r.responses = topics.collect();
        if version >= REPLICATION_FACTOR_FLAG_FROM {
            r.allow_replication_factor_change = request.allow_replication_factor_change;
        }
    })
}

fn check(image: &Image, topic: &str, index: i32, wanted: Option<&[i32]>) -> Result<(), (ErrorCode, String)> {
    let refuse = |code, why: String| Err((code, why));
    let Some(known) = image.topic(topic) else {
        let why = format!("Unable to find a topic named {topic}.");
        return refuse(ErrorCode::UnknownTopicOrPartition, why);
    };
    if known.partition(index).is_none() {
        let why = format!("Unable to find partition {topic}:{index}.");
        return refuse(ErrorCode::UnknownTopicOrPartition, why);
    }
    let Some(wanted) = wanted else {
        let why = "No partition reassignment is in progress.".to_owned();
        return refuse(ErrorCode::NoReassignmentInProgress, why);
    };
    let invalid = |what: String| {
        refuse(
            ErrorCode::InvalidReplicaAssignment,
            format!("The manual partition assignment includes {what}"),
        )
    };
    if wanted.is_empty() {
        return invalid("an empty replica list.".into());
    }
    let mut sorted = wanted.to_vec();
    sorted.sort_unstable();
    for (place, id) in sorted.iter().enumerate() {
        if image.broker(*id).is_none() {
            return invalid(format!("broker {id}, but no such broker is registered."));
        }
        if place > 0 && sorted[place - 1] == *id {
            return invalid(format!("the broker {id} more than once."));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kafka_wire::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};

    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn only_what_is_there_can_be_asked_for() {
        let controller = controller(&[("a", 1)]);
        let cases: [(&str, i32, Option<Vec<i32>>, i16); 7] = [
            ("a", 0, Some(vec![1]), 0),
            ("a", 0, None, 85),
            ("a", 0, Some(vec![]), 39),
            ("a", 0, Some(vec![1, 1]), 39),
            ("a", 0, Some(vec![1, 2]), 39),
            ("a", 1, Some(vec![1]), 3),
            ("b", 0, None, 3),
        ];
        for version in 0..=1 {
            for (topic, index, replicas, code) in &cases {
                let partition = build(|p: &mut ReassignablePartition| {
                    p.partition_index = *index;
                    p.replicas = replicas.clone();
                });
                let topic = build(|t: &mut ReassignableTopic| {
                    t.name = (*topic).into();
                    t.partitions = vec![partition];
                });
                let mut request = AlterPartitionReassignmentsRequest::default();
                request.topics = vec![topic];
                let reply = round_trip(&answer(&controller.image(), &request, version), version);
                assert_eq!(reply.responses[0].partitions[0].error_code, *code, "{replicas:?}");
            }
        }
    }
}
