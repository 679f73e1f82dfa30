//! TxnOffsetCommit: a group's offsets as part of a transaction: they count once it commits.

use kafka_wire::txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
use kafka_wire::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_wire::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::build;
use super::errors::append_error;
use super::groups::{code, name};
use super::request::Cx;
use super::transactions;
use crate::coordinator::group::{Commit, CommitPartition, CommitTopic, GroupError, Member};
use crate::metadata::{Image, Topic};
use crate::model::Producer;
use crate::model::internal::CONSUMER_OFFSETS;
use crate::security::{Operation, Resource};
use crate::shard::message::{CommitInTxn, ProduceError, Transactional};
use crate::wire::ErrorCode;

/// From here on the broker adds the group's partition to the transaction (KIP-890).
const IMPLICIT_FROM: i16 = 5;
const ABORTABLE_FROM: i16 = 4;
const MEMBERS_FROM: i16 = 3;
const LEADER_EPOCH_FROM: i16 = 2;

type Results = Vec<Vec<Result<(), GroupError>>>;

pub async fn handle(cx: &Cx, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let image = cx.shard.image();
    let denied = |topic: &str| cx.authorize(Operation::Read, Resource::Topic(topic)).err();
    let allowed = request.topics.iter().filter(|topic| denied(&topic.name).is_none());
    let sent: Vec<CommitTopic> = allowed.filter_map(|topic| known(&image, topic, cx.version)).collect();
    let results = match admit(cx, &request) {
        Err(error) => Err(error),
        Ok(()) if sent.is_empty() => Ok(Vec::new()),
        Ok(()) => commit(cx, &request, sent).await,
    };
    let nothing = Results::new();
    let mut of_topics = results.as_ref().unwrap_or(&nothing).iter();
    let topics = request.topics.iter().map(|topic| {
        let denied = denied(&topic.name);
        let any = denied.is_none() && topic.partitions.iter().any(|p| exists(&image, topic, p));
        let mut of_topic = if any { of_topics.next().map_or(&[][..], Vec::as_slice) } else { &[] }.iter();
        let partitions = topic.partitions.iter().map(|partition| {
            let error = if let Some(error) = denied {
                error
            } else if !exists(&image, topic, partition) {
                ErrorCode::UnknownTopicOrPartition
            } else if let Err(error) = &results {
                *error
            } else {
                let result = of_topic.next();
                result.map_or(ErrorCode::UnknownServerError, |r| r.map_or_else(code, |()| ErrorCode::None))
            };
            cx.count(error);
            build(|p: &mut TxnOffsetCommitResponsePartition| {
                p.partition_index = partition.partition_index;
                p.error_code = error.code();
            })
        });
        build(|t: &mut TxnOffsetCommitResponseTopic| {
            t.name = topic.name.clone();
            t.partitions = partitions.collect();
        })
    });
    build(|r: &mut TxnOffsetCommitResponse| r.topics = topics.collect())
}

fn admit(cx: &Cx, request: &TxnOffsetCommitRequest) -> Result<(), ErrorCode> {
    cx.authorize(Operation::Write, Resource::TransactionalId(&request.transactional_id))?;
    cx.authorize(Operation::Read, Resource::Group(&request.group_id))
}

async fn commit(
    cx: &Cx,
    request: &TxnOffsetCommitRequest,
    topics: Vec<CommitTopic>,
) -> Result<Results, ErrorCode> {
    if request.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let coordinator = cx.shard.coordinator_of(CONSUMER_OFFSETS, &request.group_id);
    let partition = coordinator.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let with_member = cx.version >= MEMBERS_FROM;
    let from = Member {
        group: name(&request.group_id),
        member: if with_member { name(&request.member_id) } else { "".into() },
        instance: request.group_instance_id.as_ref().filter(|_| with_member).map(name),
        generation: if with_member { request.generation_id_or_member_epoch } else { -1 },
    };
    let implicit = cx.version >= IMPLICIT_FROM;
    let commit = CommitInTxn {
        partition,
        transaction: Transactional { id: name(&request.transactional_id), implicit },
        producer: Producer::new(request.producer_id, request.producer_epoch),
        commit: Commit { from, retention_ms: -1, says_not_found: false, topics },
    };
    match cx.shard.commit_in(commit).await {
        Ok(Ok(results)) => results.map_err(code),
        Ok(Err(why)) => Err(transactions::unavailable(why)),
        Err(ProduceError::UnknownPartition | ProduceError::NotLeader) => Err(ErrorCode::NotCoordinator),
        Err(ProduceError::TooFewReplicas) => Err(ErrorCode::CoordinatorNotAvailable),
        Err(ProduceError::Append(e)) => Err(match append_error(&e) {
            ErrorCode::NotLeaderOrFollower => ErrorCode::NotCoordinator,
            ErrorCode::NotEnoughReplicas => ErrorCode::CoordinatorNotAvailable,
            other => other,
        }),
        Err(ProduceError::TimedOut) => Err(ErrorCode::RequestTimedOut),
        // Here, unlike in Produce, a client looks for the coordinator again.
        Err(ProduceError::NotInTransaction(why)) => {
            Err(match transactions::not_in(why, implicit, cx.version >= ABORTABLE_FROM) {
                ErrorCode::NotEnoughReplicas => ErrorCode::CoordinatorLoadInProgress,
                other => other,
            })
        }
    }
}

fn exists(
    image: &Image,
    topic: &TxnOffsetCommitRequestTopic,
    partition: &TxnOffsetCommitRequestPartition,
) -> bool {
    image.topic(&topic.name).is_some_and(|known| known.partition(partition.partition_index).is_some())
}

/// What of a topic goes to the coordinator.
fn known(image: &Image, topic: &TxnOffsetCommitRequestTopic, version: i16) -> Option<CommitTopic> {
    let found: &Topic = image.topic(&topic.name)?;
    let partitions: Vec<CommitPartition> = topic
        .partitions
        .iter()
        .filter(|p| found.partition(p.partition_index).is_some())
        .map(|p| CommitPartition {
            index: p.partition_index,
            offset: p.committed_offset,
            leader_epoch: if version >= LEADER_EPOCH_FROM { p.committed_leader_epoch } else { -1 },
            metadata: p.committed_metadata.as_ref().map(StrBytes::as_str).unwrap_or_default().into(),
        })
        .collect();
    (!partitions.is_empty()).then(|| CommitTopic { name: found.name.clone(), id: found.id, partitions })
}
