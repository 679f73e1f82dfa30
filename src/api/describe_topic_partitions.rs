//! DescribeTopicPartitions: topics and partitions, a page at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_wire::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_wire::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::{NO_LEADER, build, uuid};
use super::request::Cx;
use crate::metadata::names::check_topic_name;
use crate::metadata::{Image, Partition, Topic};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// Partitions in one page, whatever the client asks for.
const MAX_PAGE: usize = 2000;

pub async fn handle(cx: &Cx, request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let response = answer(&cx.shard.image(), cx, &request);
    for topic in &response.topics {
        cx.count(ErrorCode::from_code(topic.error_code));
    }
    response
}

fn answer(
    image: &Image,
    rights: &impl Rights,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let may = |name: &str| rights.may(Operation::Describe, Resource::Topic(name));
    let (start, first) = match &request.cursor {
        Some(cursor) => (&*cursor.topic_name, cursor.partition_index),
        None => ("", 0),
    };
    // A page goes on at a topic that is asked for.
    let elsewhere = request.cursor.is_some()
        && !request.topics.is_empty()
        && !request.topics.iter().any(|topic| *topic.name == *start);
    if first < 0 || elsewhere {
        let refused = request.topics.iter().map(|topic| unknown(&topic.name, ErrorCode::InvalidRequest));
        return build(|r: &mut DescribeTopicPartitionsResponse| r.topics = refused.collect());
    }
    let mut room = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, MAX_PAGE);
    build(|r: &mut DescribeTopicPartitionsResponse| {
        for (name, topic) in wanted(image, request, start) {
            let allowed = may(&name);
            // Asked for everything, it is not told of what it may not know.
            if !allowed && request.topics.is_empty() {
                continue;
            }
            if room == 0 {
                r.next_cursor = Some(cursor(&name, 0));
                return;
            }
            let Some(topic) = topic.filter(|_| allowed) else {
                let error = match check_topic_name(&name) {
                    _ if !allowed => ErrorCode::TopicAuthorizationFailed,
                    Ok(()) => ErrorCode::UnknownTopicOrPartition,
                    Err(_) => ErrorCode::InvalidTopicException,
                };
                let mut topic = unknown(&name, error);
                topic.topic_authorized_operations = rights.operations(Resource::Topic(&name));
                r.topics.push(topic);
                continue;
            };
            let from = if *name == *start { first as usize } else { 0 };
            let page = topic.partitions.iter().enumerate().skip(from).take(room);
            let page: Vec<_> = page.map(|(index, partition)| described(index as i32, partition)).collect();
            room -= page.len();
            let next = from + page.len();
            let operations = rights.operations(Resource::Topic(&name));
            r.topics.push(known(&topic, operations, page));
            if next < topic.partitions.len() {
                r.next_cursor = Some(cursor(&name, next as i32));
                return;
            }
        }
    })
}

type Wanted = (StrBytes, Option<Arc<Topic>>);

/// The topics from `start` on, by name: those asked for, or all.
fn wanted<'a>(
    image: &'a Image,
    request: &'a DescribeTopicPartitionsRequest,
    start: &'a str,
) -> Box<dyn Iterator<Item = Wanted> + 'a> {
    if request.topics.is_empty() {
        return Box::new(image.topics_from(start).map(|topic| (topic.wire_name(), Some(topic.clone()))));
    }
    let names: BTreeSet<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let names = names.into_iter().filter(move |name| **name >= *start);
    Box::new(names.map(|name| {
        let topic = image.topic(&name).cloned();
        (name, topic)
    }))
}

fn cursor(name: &StrBytes, partition: i32) -> Cursor {
    build(|c: &mut Cursor| {
        c.topic_name = name.clone();
        c.partition_index = partition;
    })
}

fn unknown(name: &StrBytes, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    build(|t: &mut DescribeTopicPartitionsResponseTopic| {
        t.name = Some(name.clone());
        t.error_code = error.code();
    })
}

fn known(
    topic: &Topic,
    operations: i32,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
) -> DescribeTopicPartitionsResponseTopic {
    build(|t: &mut DescribeTopicPartitionsResponseTopic| {
        t.name = Some(topic.wire_name());
        t.topic_id = uuid(topic.id);
        t.is_internal = topic.is_internal();
        t.topic_authorized_operations = operations;
        t.partitions = partitions;
    })
}

fn described(index: i32, partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    build(|p: &mut DescribeTopicPartitionsResponsePartition| {
        p.partition_index = index;
        p.leader_id = partition.leader.unwrap_or(NO_LEADER);
        p.leader_epoch = partition.leader_epoch.0;
        p.replica_nodes = partition.replicas().to_vec();
        p.isr_nodes = partition.isr().collect();
        p.eligible_leader_replicas = Some(partition.elr().collect());
        p.last_known_elr = Some(Vec::new());
    })
}

#[cfg(test)]
mod tests {
    use kafka_wire::describe_topic_partitions_request::{Cursor as Start, TopicRequest};

    use super::super::authorize::Everything;
    use super::super::common::testing::{controller, round_trip};
    use super::*;

    fn request(topics: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> DescribeTopicPartitionsRequest {
        build(|r: &mut DescribeTopicPartitionsRequest| {
            r.topics =
                topics.iter().map(|name| build(|t: &mut TopicRequest| t.name = (*name).into())).collect();
            r.response_partition_limit = limit;
            r.cursor = cursor.map(|(name, index)| {
                build(|c: &mut Start| {
                    c.topic_name = name.into();
                    c.partition_index = index;
                })
            });
        })
    }

    /// Every `topic-partition` or `topic!error`, page by page.
    fn pages(image: &Image, topics: &[&str], limit: i32) -> Vec<String> {
        let mut pages = Vec::new();
        let mut cursor: Option<(String, i32)> = None;
        loop {
            let at = cursor.as_ref().map(|(name, index)| (name.as_str(), *index));
            let response = round_trip(&answer(image, &Everything, &request(topics, limit, at)), 0);
            let mut page = Vec::new();
            for topic in &response.topics {
                let name = topic.name.as_deref().unwrap();
                match topic.error_code {
                    0 => page.extend(topic.partitions.iter().map(|p| format!("{name}{}", p.partition_index))),
                    code => page.push(format!("{name}!{code}")),
                }
            }
            pages.push(page.join(" "));
            match response.next_cursor {
                Some(next) => cursor = Some((next.topic_name.to_string(), next.partition_index)),
                None => return pages,
            }
        }
    }

    #[test]
    fn pages_follow_on_each_other() {
        let controller = controller(&[("a", 3), ("b", 1), ("c", 2)]);
        let image = controller.image();
        assert_eq!(pages(&image, &[], 100), ["a0 a1 a2 b0 c0 c1"]);
        assert_eq!(pages(&image, &[], 2), ["a0 a1", "a2 b0", "c0 c1"]);
        assert_eq!(pages(&image, &[], 3), ["a0 a1 a2", "b0 c0 c1"]);
        assert_eq!(pages(&image, &[], 0).len(), 6);
        assert_eq!(pages(&image, &["c", "b", "nope", "b/d"], 100), ["b0 b/d!17 c0 c1 nope!3"]);
    }

    #[test]
    fn a_cursor_may_name_a_topic_that_is_gone() {
        let controller = controller(&[("a", 1), ("c", 2)]);
        let response = answer(&controller.image(), &Everything, &request(&[], 10, Some(("b", 7))));
        assert_eq!(response.topics.len(), 1);
        assert_eq!(response.topics[0].partitions.len(), 2);
        let response = answer(&controller.image(), &Everything, &request(&["a"], 10, Some(("a", -1))));
        assert_eq!(response.topics[0].error_code, 42);
    }
}
