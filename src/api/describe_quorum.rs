//! DescribeQuorum (KIP-595): who agrees on the metadata. One broker agrees with itself: it is the leader, the only voter,
//! and its metadata is as far as it is.

use kafka_wire::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use kafka_wire::{DescribeQuorumRequest, DescribeQuorumResponse};

use super::Cx;
use super::common::build;
use crate::metadata::internal::CLUSTER_METADATA as METADATA_TOPIC;
use crate::metadata::{Broker, Image};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// From here on replicas say when they were last heard of.
const TIMES_FROM: i16 = 1;
/// From here on messages and nodes are told.
const NODES_FROM: i16 = 2;
/// There has been no other leader.
const EPOCH: i32 = 1;

pub async fn handle(cx: &Cx, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    if let Err(error) = cx.admit(Operation::Describe, Resource::Cluster) {
        return build(|r: &mut DescribeQuorumResponse| r.error_code = error.code());
    }
    let now = crate::rt::unix_ms();
    let response = answer(&cx.shard.image(), cx.shard.settings().broker_id, now, &request, cx.version);
    cx.count(ErrorCode::from_code(response.error_code));
    response
}

fn answer(
    image: &Image,
    leader: i32,
    now: i64,
    request: &DescribeQuorumRequest,
    version: i16,
) -> DescribeQuorumResponse {
    let asked = match &request.topics[..] {
        [topic] if &*topic.topic_name == METADATA_TOPIC => &topic.partitions[..],
        _ => &[],
    };
    if !matches!(asked, [partition] if partition.partition_index == 0) {
        return unknown(request, version);
    }
    let voter = build(|v: &mut ReplicaState| {
        v.replica_id = leader;
        v.log_end_offset = image.version as i64;
        if version >= TIMES_FROM {
            (v.last_fetch_timestamp, v.last_caught_up_timestamp) = (now, now);
        }
    });
    let partition = build(|p: &mut PartitionData| {
        p.leader_id = leader;
        p.leader_epoch = EPOCH;
        p.high_watermark = image.version as i64;
        p.current_voters = vec![voter];
        if version >= NODES_FROM {
            p.error_message = Some("".into());
        }
    });
    build(|r: &mut DescribeQuorumResponse| {
        r.topics = vec![topic(METADATA_TOPIC, vec![partition])];
        if version >= NODES_FROM {
            r.error_message = Some("".into());
            r.nodes = image.brokers().map(node).collect();
        }
    })
}

fn unknown(request: &DescribeQuorumRequest, version: i16) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|asked| {
        let partitions = asked.partitions.iter().map(|partition| {
            build(|p: &mut PartitionData| {
                p.partition_index = partition.partition_index;
                p.error_code = ErrorCode::UnknownTopicOrPartition.code();
                if version >= NODES_FROM {
                    p.error_message = Some("This server does not host this topic-partition.".into());
                }
            })
        });
        topic(&asked.topic_name, partitions.collect())
    });
    build(|r: &mut DescribeQuorumResponse| r.topics = topics.collect())
}

fn topic(name: &str, partitions: Vec<PartitionData>) -> TopicData {
    build(|t: &mut TopicData| {
        t.topic_name = name.into();
        t.partitions = partitions;
    })
}

fn node(broker: &Broker) -> Node {
    let listener = build(|l: &mut Listener| {
        l.name = "PLAINTEXT".into();
        l.host = broker.host().into();
        l.port = broker.port();
    });
    build(|n: &mut Node| {
        n.node_id = broker.id;
        n.listeners = vec![listener];
    })
}

#[cfg(test)]
mod tests {
    use kafka_wire::describe_quorum_request as asked;

    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn one_broker_leads_itself() {
        let controller = controller(&[("a", 1)]);
        let image = controller.image();
        for version in 0..=2 {
            let ask = |name: &str, index: i32| {
                let partition = build(|p: &mut asked::PartitionData| p.partition_index = index);
                let mut request = DescribeQuorumRequest::default();
                request.topics = vec![build(|t: &mut asked::TopicData| {
                    t.topic_name = name.into();
                    t.partitions = vec![partition];
                })];
                round_trip(&answer(&image, 1, 7, &request, version), version)
            };
            let reply = ask(METADATA_TOPIC, 0);
            let partition = &reply.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.leader_id), (0, 1));
            assert_eq!((partition.current_voters.len(), partition.observers.len()), (1, 0));
            assert_eq!(partition.high_watermark, image.version as i64);
            assert_eq!(reply.nodes.len(), usize::from(version >= NODES_FROM));
            for (name, index) in [("a", 0), (METADATA_TOPIC, 1)] {
                assert_eq!(ask(name, index).topics[0].partitions[0].error_code, 3);
            }
            let nothing =
                round_trip(&answer(&image, 1, 7, &DescribeQuorumRequest::default(), version), version);
            assert!(nothing.topics.is_empty());
        }
    }
}
