//! ListPartitionReassignments (KIP-455): which partitions are on their way to other brokers.

use kafka_wire::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_wire::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};
use kafka_wire_core::StrBytes;

use super::common::{build, code, message, whole_error};
use super::request::Cx;
use crate::controller::{ControlReply, ControlRequest, Moving};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

pub async fn handle(
    cx: &Cx,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    if let Err(error) = cx.admit(Operation::Describe, Resource::Cluster) {
        return build(|r: &mut ListPartitionReassignmentsResponse| {
            r.error_code = error.code();
            r.error_message = None;
        });
    }
    let response = answer(cx.shard.control(asked(&request)).await);
    cx.count(ErrorCode::from_code(response.error_code));
    response
}

fn asked(request: &ListPartitionReassignmentsRequest) -> ControlRequest {
    let partitions = request.topics.as_ref().map(|topics| {
        let all =
            topics.iter().flat_map(|t| t.partition_indexes.iter().map(|index| (t.name.to_string(), *index)));
        all.collect()
    });
    ControlRequest::ListReassignments { partitions }
}

fn answer(reply: ControlReply) -> ListPartitionReassignmentsResponse {
    let moving = match reply {
        ControlReply::Reassignments(moving) => moving,
        other => {
            let error = whole_error(other);
            return build(|r: &mut ListPartitionReassignmentsResponse| {
                r.error_code = code(&error).code();
                r.error_message = message(&error);
            });
        }
    };
    let topics = moving.chunk_by(|a, b| a.topic == b.topic).map(|of| {
        build(|t: &mut OngoingTopicReassignment| {
            t.name = StrBytes::from(&*of[0].topic);
            t.partitions = of.iter().map(partition).collect();
        })
    });
    build(|r: &mut ListPartitionReassignmentsResponse| {
        r.error_message = None;
        r.topics = topics.collect();
    })
}

fn partition(moving: &Moving) -> OngoingPartitionReassignment {
    build(|p: &mut OngoingPartitionReassignment| {
        p.partition_index = moving.index;
        p.replicas = moving.replicas.clone();
        p.adding_replicas = moving.adding.clone();
        p.removing_replicas = moving.removing.clone();
    })
}

#[cfg(test)]
mod tests {
    use kafka_wire::list_partition_reassignments_request::ListPartitionReassignmentsTopics;

    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn what_moves_is_listed_by_topic() {
        let moving = |topic: &str, index| Moving {
            topic: topic.into(),
            index,
            replicas: vec![2, 1],
            adding: vec![2],
            removing: vec![1],
        };
        let all = vec![moving("a", 0), moving("a", 2), moving("b", 0)];
        let response = round_trip(&answer(ControlReply::Reassignments(all)), 0);
        let told: Vec<_> = response.topics.iter().map(|t| (&*t.name, t.partitions.len())).collect();
        assert_eq!(told, [("a", 2), ("b", 1)]);
        let first = &response.topics[0].partitions[1];
        assert_eq!((first.partition_index, &first.replicas[..]), (2, &[2, 1][..]));
        assert_eq!((&first.adding_replicas[..], &first.removing_replicas[..]), (&[2][..], &[1][..]));
    }

    #[test]
    fn of_one_broker_nothing_moves() {
        let mut controller = controller(&[("a", 1)]);
        let some = build(|t: &mut ListPartitionReassignmentsTopics| {
            t.name = "a".into();
            t.partition_indexes = vec![0, 7];
        });
        for topics in [None, Some(vec![some])] {
            let mut request = ListPartitionReassignmentsRequest::default();
            request.topics = topics;
            let response = round_trip(&answer(controller.handle(&asked(&request))), 0);
            assert_eq!((response.error_code, response.topics.len()), (0, 0));
        }
    }
}
