//! DescribeQuorum (KIP-595): who agrees on the metadata, and how far each is. The controller answers, because only the leader of
//! the quorum knows of the others; a broker that is alone is all of it.

use kafka_wire::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use kafka_wire::{DescribeQuorumRequest, DescribeQuorumResponse};
use kafka_wire_core::Uuid;

use super::common::build;
use super::describe_cluster::json;
use super::request::Cx;
use crate::metadata::quorum::{MemberStatus, Status};
use crate::metadata::{Broker, Image};
use crate::model::internal::CLUSTER_METADATA as METADATA_TOPIC;
use crate::model::report::{VOTERS, VoterChoice};
use crate::peer::keys;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// From here on replicas say when they were last heard of.
const TIMES_FROM: i16 = 1;
/// From here on messages and nodes are told.
const NODES_FROM: i16 = 2;

pub async fn handle(cx: &Cx, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    if let Err(error) = cx.admit(Operation::Describe, Resource::Cluster) {
        return build(|r: &mut DescribeQuorumResponse| r.error_code = error.code());
    }
    let status = cx.shard.quorum().await;
    let now = crate::rt::unix_ms();
    let response = answer(&status, &cx.shard.image(), now, &request, cx.version);
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.for_each(|partition| cx.count(ErrorCode::from_code(partition.error_code)));
    response
}

fn answer(
    status: &Status,
    image: &Image,
    now: i64,
    request: &DescribeQuorumRequest,
    version: i16,
) -> DescribeQuorumResponse {
    let asked = match &request.topics[..] {
        [topic] if &*topic.topic_name == METADATA_TOPIC => &topic.partitions[..],
        _ => &[],
    };
    if !matches!(asked, [partition] if partition.partition_index == 0) {
        return refused(request, ErrorCode::UnknownTopicOrPartition, version);
    }
    if status.leader != Some(status.me) {
        return refused(request, ErrorCode::NotLeaderOrFollower, version);
    }
    let partition = build(|p: &mut PartitionData| {
        p.leader_id = status.me.node;
        p.leader_epoch = status.epoch;
        p.high_watermark = behind(status.committed);
        let of = |votes: bool| status.members.iter().filter(move |member| member.votes == votes);
        p.current_voters = of(true).map(|member| replica(status, member, now, version)).collect();
        p.observers = of(false).map(|member| replica(status, member, now, version)).collect();
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
        if keys::tagged(&request.unknown_tagged_fields, VOTERS).is_some() {
            let choice = VoterChoice { by_hand: image.voters_by_hand };
            r.unknown_tagged_fields = keys::tags([(VOTERS, json(&choice))]);
        }
    })
}

/// The offset behind a change's: what Kafka counts by.
fn behind(offset: u64) -> i64 {
    offset as i64 + 1
}

/// -1 for what is not known.
fn replica(status: &Status, member: &MemberStatus, now: i64, version: i16) -> ReplicaState {
    let leads = member.voter == status.me;
    build(|r: &mut ReplicaState| {
        r.replica_id = member.voter.node;
        r.log_end_offset = member.end.map_or(-1, behind);
        if version >= TIMES_FROM {
            let known = |at: Option<i64>| if leads { now } else { at.unwrap_or(-1) };
            r.last_fetch_timestamp = known(member.heard_ms);
            r.last_caught_up_timestamp = known(member.caught_up_ms);
        }
        if version >= NODES_FROM {
            r.replica_directory_id = Uuid::from_bytes(member.voter.directory);
        }
    })
}

/// An error for each partition that was asked for.
fn refused(request: &DescribeQuorumRequest, error: ErrorCode, version: i16) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|asked| {
        let partitions = asked.partitions.iter().map(|partition| {
            build(|p: &mut PartitionData| {
                p.partition_index = partition.partition_index;
                p.error_code = error.code();
                if version >= NODES_FROM {
                    let why = match error {
                        ErrorCode::NotLeaderOrFollower => "This broker does not lead the quorum.",
                        _ => "This server does not host this topic-partition.",
                    };
                    p.error_message = Some(why.into());
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
    let listener = broker.endpoint(keys::LISTENER).map(|endpoint| {
        build(|l: &mut Listener| {
            l.name = endpoint.listener.as_str().into();
            l.host = endpoint.host.as_str().into();
            l.port = endpoint.port;
        })
    });
    build(|n: &mut Node| {
        n.node_id = broker.id;
        n.listeners = listener.into_iter().collect();
    })
}

#[cfg(test)]
mod tests {
    use kafka_wire::describe_quorum_request as asked;

    use super::super::common::testing::{controller, round_trip};
    use super::*;
    use crate::metadata::quorum::{Membership, Voter};

    fn voter(node: i32) -> Voter {
        Voter { node, directory: [node as u8; 16] }
    }

    /// Brokers 1 to 3 vote, 4 does not; 1 leads, 3 was never heard of.
    fn status(me: i32) -> Status {
        let member = |node: i32| MemberStatus {
            voter: voter(node),
            votes: node < 4,
            end: (node != 3).then_some(8),
            heard_ms: (node != 3).then_some(70),
            caught_up_ms: (node == 2).then_some(60),
        };
        let (leader, membership) = (Some(voter(1)), Membership::of_one(voter(1)));
        let members = (1..=4).map(member).collect();
        Status { me: voter(me), leader, epoch: 5, committed: 8, membership, members }
    }

    fn ask(name: &str, index: i32) -> DescribeQuorumRequest {
        let partition = build(|p: &mut asked::PartitionData| p.partition_index = index);
        let mut request = DescribeQuorumRequest::default();
        request.topics = vec![build(|t: &mut asked::TopicData| {
            t.topic_name = name.into();
            t.partitions = vec![partition];
        })];
        request
    }

    #[test]
    fn the_leader_tells_how_far_each_member_is() {
        let controller = controller(&[("a", 1)]);
        let image = controller.image();
        for version in 0..=2 {
            let ask = |me: i32, request: &DescribeQuorumRequest| {
                round_trip(&answer(&status(me), &image, 77, request, version), version)
            };
            let reply = ask(1, &ask_for_metadata());
            let partition = &reply.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.leader_id, partition.leader_epoch), (0, 1, 5));
            assert_eq!(partition.high_watermark, 9);
            assert_eq!(reply.nodes.len(), usize::from(version >= NODES_FROM));
            let told = |replicas: &[ReplicaState]| -> Vec<(i32, i64, i64, i64)> {
                let of = |r: &ReplicaState| {
                    (r.replica_id, r.log_end_offset, r.last_fetch_timestamp, r.last_caught_up_timestamp)
                };
                replicas.iter().map(of).collect()
            };
            let times =
                |heard: i64, current: i64| if version < TIMES_FROM { (-1, -1) } else { (heard, current) };
            let row = |id: i32, end: i64, (heard, current): (i64, i64)| (id, end, heard, current);
            let voters = [row(1, 9, times(77, 77)), row(2, 9, times(70, 60)), row(3, -1, times(-1, -1))];
            assert_eq!(told(&partition.current_voters), voters);
            assert_eq!(told(&partition.observers), [row(4, 9, times(70, -1))]);
            let directory = partition.current_voters[1].replica_directory_id;
            let told = if version < NODES_FROM { Uuid::ZERO } else { Uuid::from_bytes([2; 16]) };
            assert_eq!(directory, told);
        }
    }

    #[test]
    fn others_and_other_partitions_are_refused() {
        let controller = controller(&[("a", 1)]);
        let image = controller.image();
        for version in 0..=2 {
            let error = |me: i32, request: &DescribeQuorumRequest| {
                let reply = round_trip(&answer(&status(me), &image, 7, request, version), version);
                reply.topics.first().map(|topic| topic.partitions[0].error_code)
            };
            for (name, index) in [("a", 0), (METADATA_TOPIC, 1)] {
                assert_eq!(error(1, &ask(name, index)), Some(3));
            }
            assert_eq!(error(2, &ask_for_metadata()), Some(6), "it does not lead");
            assert_eq!(error(1, &DescribeQuorumRequest::default()), None);
        }
    }

    fn ask_for_metadata() -> DescribeQuorumRequest {
        ask(METADATA_TOPIC, 0)
    }
}
