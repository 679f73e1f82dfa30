//! AlterPartitionReassignments (KIP-455): moves partitions to other brokers, or back while they are on their way.

use bytes::Bytes;
use kafka_wire::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_wire::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use super::common::{build, code, message, whole_error};
use super::request::Cx;
use crate::controller::{ControlError, ControlErrorKind, ControlReply, ControlRequest, Reassignment};
use crate::model::report::{DRAIN, Drain};
use crate::peer::keys;
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
    if let Some(data) = keys::tagged(&request.unknown_tagged_fields, DRAIN) {
        return drain(cx, &data).await;
    }
    let reply = cx.shard.control(asked(&request)).await;
    let response = answer(&request, reply, cx.version);
    let results = response.responses.iter().flat_map(|t| &t.partitions);
    results.for_each(|p| cx.count(ErrorCode::from_code(p.error_code)));
    response
}

/// Takes all that a broker holds elsewhere, for `weir cluster drain`.
async fn drain(cx: &Cx, data: &[u8]) -> AlterPartitionReassignmentsResponse {
    let reply = match serde_json::from_slice::<Drain>(data) {
        Ok(wanted) => cx.shard.control(ControlRequest::Drain(wanted)).await,
        Err(e) => ControlReply::Failed(ControlError::new(ControlErrorKind::InvalidRequest, e.to_string())),
    };
    let response = build(|r: &mut AlterPartitionReassignmentsResponse| match reply {
        ControlReply::Drained(drained) => {
            let data = serde_json::to_vec(&drained).map(Bytes::from).unwrap_or_default();
            r.unknown_tagged_fields = keys::tags([(DRAIN, data)]);
        }
        other => {
            let error = whole_error(other);
            r.error_code = code(&error).code();
            r.error_message = message(&error);
        }
    });
    cx.count(ErrorCode::from_code(response.error_code));
    response
}

fn asked(request: &AlterPartitionReassignmentsRequest) -> ControlRequest {
    let partitions = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| Reassignment {
            topic: topic.name.to_string(),
            index: partition.partition_index,
            replicas: partition.replicas.clone(),
        })
    });
    let factor_may_change = request.allow_replication_factor_change;
    ControlRequest::Reassign { partitions: partitions.collect(), factor_may_change }
}

fn answer(
    request: &AlterPartitionReassignmentsRequest,
    reply: ControlReply,
    version: i16,
) -> AlterPartitionReassignmentsResponse {
    let results = match reply {
        ControlReply::Reassign(results) => results,
        other => {
            let error = whole_error(other);
            return build(|r: &mut AlterPartitionReassignmentsResponse| {
                r.error_code = code(&error).code();
                r.error_message = message(&error);
            });
        }
    };
    let mut results = results.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            build(|p: &mut ReassignablePartitionResponse| {
                p.partition_index = partition.partition_index;
                p.error_message = None;
                if let Some(Err(error)) = results.next() {
                    p.error_code = code(&error).code();
                    p.error_message = message(&error);
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

#[cfg(test)]
mod tests {
    use kafka_wire::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};

    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn only_what_is_there_can_be_asked_for() {
        let mut controller = controller(&[("a", 1)]);
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
                let reply = controller.handle(&asked(&request));
                let reply = round_trip(&answer(&request, reply, version), version);
                assert_eq!(reply.responses[0].partitions[0].error_code, *code, "{replicas:?}");
            }
        }
    }
}
