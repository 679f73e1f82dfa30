//! OffsetFetch: what groups have committed. One group before version 8, any number from there on.

use kafka_wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_wire::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_wire::{OffsetFetchRequest, OffsetFetchResponse};

use super::authorize::Rights;
use super::common::{build, topic_id, uuid};
use super::groups::{code, name, unavailable, wire};
use super::request::Cx;
use crate::coordinator::group::{Fetch, FetchedTopic, ask};
use crate::metadata::Image;
use crate::model::TopicId;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const GROUPS_FROM: i16 = 8;
/// From here on topics are named by their ids.
const TOPIC_IDS_FROM: i16 = 10;
const EPOCHS_FROM: i16 = 5;
const TOP_LEVEL_ERROR_FROM: i16 = 2;
const STABLE_FROM: i16 = 7;
/// No list of topics asks for all of them.
const ALL_TOPICS_FROM: i16 = 2;

pub async fn handle(cx: &Cx, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let image = cx.shard.image();
    let require_stable = cx.version >= STABLE_FROM && request.require_stable;
    let groups = groups(request, cx.version);
    // Every group's coordinator is asked before the first is waited for.
    let asked: Vec<_> = groups
        .into_iter()
        .map(|group| {
            let (fetch, unknown) = to_fetch(&image, cx, &group, require_stable, cx.version);
            let admitted = cx.admit(Operation::Describe, Resource::Group(&group.group_id));
            let answer = admitted.map(|()| cx.shard.group(&group.group_id, ask::fetch(fetch)));
            (group, unknown, answer)
        })
        .collect();
    let mut answers = Vec::with_capacity(asked.len());
    for (group, unknown, answer) in asked {
        let fetched = match answer {
            Ok(answer) => answer.await.map_err(|why| unavailable(cx, why)),
            Err(error) => Err(error),
        };
        // Asked for everything, a client is not told of topics that it may not know.
        let fetched = fetched.map(|mut topics| {
            topics.retain(|topic| cx.may(Operation::Describe, Resource::Topic(&topic.name)));
            topics
        });
        answers.push(group_answer(&image, group, fetched, unknown, cx.version));
    }
    if cx.version >= GROUPS_FROM {
        return build(|r: &mut OffsetFetchResponse| r.groups = answers);
    }
    one_group(answers.pop().unwrap_or_default(), cx.version)
}

/// The request in the form of the newest version.
fn groups(request: OffsetFetchRequest, version: i16) -> Vec<OffsetFetchRequestGroup> {
    if version >= GROUPS_FROM {
        return request.groups;
    }
    let topics = request.topics.map(|topics| {
        let newest = topics.into_iter().map(|topic| {
            build(|t: &mut OffsetFetchRequestTopics| {
                t.name = topic.name;
                t.partition_indexes = topic.partition_indexes;
            })
        });
        newest.collect()
    });
    let none = if version < ALL_TOPICS_FROM { Some(Vec::new()) } else { None };
    vec![build(|g: &mut OffsetFetchRequestGroup| {
        g.group_id = request.group_id;
        g.topics = topics.or(none);
    })]
}

/// What the coordinator is asked, and the topics whose ids mean nothing here.
fn to_fetch(
    image: &Image,
    rights: &impl Rights,
    group: &OffsetFetchRequestGroup,
    require_stable: bool,
    version: i16,
) -> (Fetch, Vec<(OffsetFetchRequestTopics, ErrorCode)>) {
    let mut unknown = Vec::new();
    let denied = |name: &str| rights.authorize(Operation::Describe, Resource::Topic(name)).err();
    let topics = group.topics.as_ref().map(|topics| {
        let mut known = Vec::with_capacity(topics.len());
        for topic in topics {
            if version < TOPIC_IDS_FROM {
                if let Some(error) = denied(&topic.name) {
                    unknown.push((topic.clone(), error));
                    continue;
                }
                known.push((name(&topic.name), TopicId::ZERO, topic.partition_indexes.clone()));
                continue;
            }
            match image.topic_by_id(topic_id(topic.topic_id)) {
                Some(found) => match denied(&found.name) {
                    Some(error) => unknown.push((topic.clone(), error)),
                    None => known.push((found.name.clone(), found.id, topic.partition_indexes.clone())),
                },
                None => unknown.push((topic.clone(), ErrorCode::UnknownTopicId)),
            }
        }
        known
    });
    (Fetch { group: name(&group.group_id), topics, require_stable }, unknown)
}

fn group_answer(
    image: &Image,
    group: OffsetFetchRequestGroup,
    fetched: Result<Vec<FetchedTopic>, ErrorCode>,
    unknown: Vec<(OffsetFetchRequestTopics, ErrorCode)>,
    version: i16,
) -> OffsetFetchResponseGroup {
    build(|g: &mut OffsetFetchResponseGroup| {
        g.group_id = group.group_id;
        match fetched {
            Ok(topics) => {
                g.topics = topics.iter().filter_map(|topic| topic_answer(image, topic, version)).collect();
                g.topics.extend(unknown.iter().map(|(topic, error)| failed_topic(topic, *error)));
            }
            Err(error) => {
                g.error_code = error.code();
                // Version 1 has no place for it but the partitions.
                if version < TOP_LEVEL_ERROR_FROM {
                    let topics = group.topics.unwrap_or_default();
                    g.topics = topics.iter().map(|topic| failed_topic(topic, error)).collect();
                }
            }
        }
    })
}

fn topic_answer(image: &Image, topic: &FetchedTopic, version: i16) -> Option<OffsetFetchResponseTopics> {
    let mut id = topic.id;
    if version >= TOPIC_IDS_FROM && id.is_zero() {
        // An offset without an id can be told of only while its topic is there.
        id = image.topic(&topic.name)?.id;
    }
    Some(build(|t: &mut OffsetFetchResponseTopics| {
        if version >= TOPIC_IDS_FROM {
            t.topic_id = uuid(id);
        } else {
            t.name = wire(&topic.name);
        }
        t.partitions = topic
            .partitions
            .iter()
            .map(|(index, fetched)| {
                build(|p: &mut OffsetFetchResponsePartitions| {
                    p.partition_index = *index;
                    p.committed_offset = -1;
                    p.committed_leader_epoch = -1;
                    p.metadata = Some("".into());
                    match fetched {
                        Ok(Some(offset)) => {
                            p.committed_offset = offset.offset;
                            p.committed_leader_epoch = offset.leader_epoch;
                            p.metadata = Some((&*offset.metadata).into());
                        }
                        Ok(None) => {}
                        Err(error) => p.error_code = code(*error).code(),
                    }
                })
            })
            .collect();
    }))
}

fn failed_topic(topic: &OffsetFetchRequestTopics, error: ErrorCode) -> OffsetFetchResponseTopics {
    build(|t: &mut OffsetFetchResponseTopics| {
        t.name = topic.name.clone();
        t.topic_id = topic.topic_id;
        t.partitions = topic
            .partition_indexes
            .iter()
            .map(|index| {
                build(|p: &mut OffsetFetchResponsePartitions| {
                    p.partition_index = *index;
                    p.committed_offset = -1;
                    p.committed_leader_epoch = -1;
                    p.metadata = Some("".into());
                    p.error_code = error.code();
                })
            })
            .collect();
    })
}

/// The answer for one group as it was before there could be several.
fn one_group(group: OffsetFetchResponseGroup, version: i16) -> OffsetFetchResponse {
    let partition = |p: OffsetFetchResponsePartitions| {
        build(|out: &mut OffsetFetchResponsePartition| {
            out.partition_index = p.partition_index;
            out.committed_offset = p.committed_offset;
            if version >= EPOCHS_FROM {
                out.committed_leader_epoch = p.committed_leader_epoch;
            }
            out.metadata = p.metadata;
            out.error_code = p.error_code;
        })
    };
    build(|r: &mut OffsetFetchResponse| {
        if version >= TOP_LEVEL_ERROR_FROM {
            r.error_code = group.error_code;
        }
        for topic in group.topics {
            r.topics.push(build(|t: &mut OffsetFetchResponseTopic| {
                t.name = topic.name;
                t.partitions = topic.partitions.into_iter().map(partition).collect();
            }));
        }
    })
}
