//! OffsetCommit: a group's offsets, acknowledged once they are durable.

use std::collections::VecDeque;

use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_wire::{OffsetCommitRequest, OffsetCommitResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::{build, topic_id};
use super::groups::{code, name, unavailable};
use super::request::Cx;
use crate::coordinator::group::{Commit, CommitPartition, CommitTopic, GroupError, Member, ask};
use crate::metadata::{Image, Topic};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// From here on topics are named by their ids.
const TOPIC_IDS_FROM: i16 = 10;
/// From here on a client understands that a group is not there.
const NOT_FOUND_FROM: i16 = 9;
const LEADER_EPOCH_FROM: i16 = 6;
/// Before it, a client may say how long its offsets are to be kept.
const RETENTION_UNTIL: i16 = 4;

type Results = Vec<Vec<Result<(), GroupError>>>;

/// A topic of the request: what is known of it.
struct Asked {
    topic: OffsetCommitRequestTopic,
    /// One for each partition that is not sent to the coordinator.
    errors: Vec<Option<ErrorCode>>,
}

pub async fn handle(cx: &Cx, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let group = request.group_id.clone();
    let (asked, commit) = take_apart(&cx.shard.image(), cx, request, cx.version);
    if let Err(error) = cx.authorize(Operation::Read, Resource::Group(&group)) {
        return answer(cx, asked, Err(error));
    }
    if commit.topics.is_empty() {
        return answer(cx, asked, Ok(Vec::new()));
    }
    let results = match cx.shard.group(&group, ask::commit(commit)).await {
        Ok(results) => results.map_err(code),
        Err(why) => Err(unavailable(cx, why)),
    };
    answer(cx, asked, results)
}

/// Sorts out what does not exist; the rest goes to the coordinator.
fn take_apart(
    image: &Image,
    rights: &impl Rights,
    request: OffsetCommitRequest,
    version: i16,
) -> (Vec<Asked>, Commit) {
    let mut commit = Commit {
        from: Member {
            group: name(&request.group_id),
            member: name(&request.member_id),
            instance: request.group_instance_id.as_ref().map(name),
            generation: request.generation_id_or_member_epoch,
        },
        retention_ms: if version <= RETENTION_UNTIL { request.retention_time_ms } else { -1 },
        says_not_found: version >= NOT_FOUND_FROM,
        topics: Vec::with_capacity(request.topics.len()),
    };
    let mut asked = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let by_id = version >= TOPIC_IDS_FROM;
        let found =
            if by_id { image.topic_by_id(topic_id(topic.topic_id)) } else { image.topic(&topic.name) };
        let unknown = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        let name = found.map_or(&*topic.name, |found| &found.name);
        let denied = rights.authorize(Operation::Read, Resource::Topic(name)).err();
        let error = |p: &OffsetCommitRequestPartition| match found {
            None if by_id => Some(unknown),
            _ if denied.is_some() => denied,
            None => Some(unknown),
            Some(topic) if topic.partition(p.partition_index).is_none() => {
                Some(ErrorCode::UnknownTopicOrPartition)
            }
            Some(_) => None,
        };
        let errors: Vec<_> = topic.partitions.iter().map(error).collect();
        if let Some(found) = found
            && errors.iter().any(Option::is_none)
        {
            commit.topics.push(to_commit(found, &topic, &errors, version));
        }
        asked.push(Asked { topic, errors });
    }
    (asked, commit)
}

fn to_commit(
    found: &Topic,
    topic: &OffsetCommitRequestTopic,
    errors: &[Option<ErrorCode>],
    version: i16,
) -> CommitTopic {
    let good = topic.partitions.iter().zip(errors).filter(|(_, error)| error.is_none());
    let partitions = good.map(|(p, _)| CommitPartition {
        index: p.partition_index,
        offset: p.committed_offset,
        leader_epoch: if version >= LEADER_EPOCH_FROM { p.committed_leader_epoch } else { -1 },
        metadata: p.committed_metadata.as_ref().map(StrBytes::as_str).unwrap_or_default().into(),
    });
    CommitTopic { name: found.name.clone(), id: found.id, partitions: partitions.collect() }
}

fn answer(cx: &Cx, asked: Vec<Asked>, results: Result<Results, ErrorCode>) -> OffsetCommitResponse {
    let (mut results, whole): (VecDeque<_>, _) = match results {
        Ok(results) => (results.into(), None),
        Err(error) => (VecDeque::new(), Some(error)),
    };
    let topics = asked.into_iter().map(|asked| {
        let sent = asked.errors.iter().any(Option::is_none);
        let mut of_topic =
            if sent { results.pop_front().unwrap_or_default() } else { Vec::new() }.into_iter();
        let mut outcome = |error: &Option<ErrorCode>| {
            let coordinated = || match of_topic.next() {
                Some(result) => result.map_or_else(code, |()| ErrorCode::None),
                None => ErrorCode::UnknownServerError,
            };
            error.or(whole).unwrap_or_else(coordinated)
        };
        build(|t: &mut OffsetCommitResponseTopic| {
            if cx.version >= TOPIC_IDS_FROM {
                t.topic_id = asked.topic.topic_id;
            } else {
                t.name = asked.topic.name.clone();
            }
            for (partition, error) in asked.topic.partitions.iter().zip(&asked.errors) {
                let error = outcome(error);
                cx.count(error);
                t.partitions.push(build(|p: &mut OffsetCommitResponsePartition| {
                    p.partition_index = partition.partition_index;
                    p.error_code = error.code();
                }));
            }
        })
    });
    build(|r: &mut OffsetCommitResponse| r.topics = topics.collect())
}
