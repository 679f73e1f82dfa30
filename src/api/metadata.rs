//! Metadata: brokers, topics and who leads their partitions. May create the topics that it is asked for.

use std::collections::BTreeSet;

use kafka_wire::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::{MetadataRequest, MetadataResponse};
use kafka_wire_core::{StrBytes, Uuid};

use super::authorize::Rights;
use super::common::{NO_LEADER, NOT_ASKED, build, cluster_operations, code, topic_id, uuid};
use super::request::Cx;
use crate::controller::internal_topic;
use crate::controller::{ControlReply, ControlRequest, NewTopic};
use crate::metadata::names::check_topic_name;
use crate::metadata::{Image, Partition, Topic};
use crate::model::internal::CLUSTER_METADATA;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// Before it, a client cannot forbid creation.
const CREATION_FLAG_FROM: i16 = 4;
const TOPIC_IDS_FROM: i16 = 10;
/// From here on topics may be asked for by id, and names may be null.
const BY_ID_FROM: i16 = 12;
const CLUSTER_OPERATIONS: std::ops::RangeInclusive<i16> = 8..=10;
const TOPIC_OPERATIONS_FROM: i16 = 8;
/// From here on clients are told which replicas are on brokers that are away.
const OFFLINE_FROM: i16 = 5;
/// From here on clients know of a leader that has not their listener.
const LISTENERS_FROM: i16 = 6;
/// Topics that one request may create; the rest are answered as unknown.
const MAX_CREATED: usize = 1000;

pub async fn handle(cx: &Cx, request: MetadataRequest) -> MetadataResponse {
    let image = cx.shard.image();
    let controller = cx.shard.settings().broker_id;
    let mut response = answer(&image, controller, (cx, &cx.connection.listener.name), &request, cx.version);
    let allowed = cx.version < CREATION_FLAG_FROM || request.allow_auto_topic_creation;
    if allowed && cx.shard.settings().auto_create_topics {
        let missing = admitted(cx, missing(&response), &mut response);
        if !missing.is_empty() {
            create(cx, missing, &mut response).await;
        }
    }
    for topic in &response.topics {
        cx.count(ErrorCode::from_code(topic.error_code));
    }
    response
}

/// Names that were asked for and could exist.
fn missing(response: &MetadataResponse) -> BTreeSet<StrBytes> {
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let topics = response.topics.iter().filter(|topic| topic.error_code == unknown);
    let names = topics.filter_map(|topic| topic.name.clone()).filter(|name| **name != *CLUSTER_METADATA);
    names.take(MAX_CREATED).collect()
}

/// Those of the names that the client may create; it is told that it may not of the others.
fn admitted(cx: &Cx, names: BTreeSet<StrBytes>, response: &mut MetadataResponse) -> BTreeSet<StrBytes> {
    if names.is_empty() || cx.may(Operation::Create, Resource::Cluster) {
        return names;
    }
    let denied = |name: &StrBytes| !cx.may(Operation::Create, Resource::Topic(name));
    for topic in &mut response.topics {
        if topic.name.as_ref().is_some_and(|name| names.contains(name) && denied(name)) {
            topic.error_code = ErrorCode::TopicAuthorizationFailed.code();
        }
    }
    names.into_iter().filter(|name| !denied(name)).collect()
}

/// Creates topics. They are still answered as unknown, as a Kafka broker does: the client asks again, and
/// finds them.
async fn create(cx: &Cx, names: BTreeSet<StrBytes>, response: &mut MetadataResponse) {
    let settings = cx.shard.settings();
    let new =
        |name: &StrBytes| internal_topic(name, settings).unwrap_or_else(|| NewTopic::named(name.as_str()));
    let topics = names.iter().map(new).collect();
    let reply = cx.shard.control(ControlRequest::CreateTopics { topics, validate_only: false }).await;
    match reply {
        ControlReply::CreateTopics(results) => {
            for (name, result) in names.iter().zip(results) {
                match result.map_err(|error| code(&error)) {
                    Ok(topic) => log::info!("created topic {} on first use", topic.name),
                    // Another connection was quicker.
                    Err(ErrorCode::TopicAlreadyExists) => {}
                    Err(error) => {
                        let asked = |topic: &&mut MetadataResponseTopic| topic.name.as_ref() == Some(name);
                        response.topics.iter_mut().filter(asked).for_each(|t| t.error_code = error.code());
                    }
                }
            }
        }
        other => log::warn!("topics were not created on first use: {}", super::common::whole_error(other)),
    }
}

pub fn answer(
    image: &Image,
    controller: i32,
    (rights, listener): (&impl Rights, &str),
    request: &MetadataRequest,
    version: i16,
) -> MetadataResponse {
    build(|r: &mut MetadataResponse| {
        r.brokers = image
            .brokers()
            .filter(|broker| !broker.fenced)
            .filter_map(|broker| Some((broker, broker.endpoint(listener)?)))
            .map(|(broker, endpoint)| {
                build(|b: &mut MetadataResponseBroker| {
                    b.node_id = broker.id;
                    b.host = StrBytes::from(endpoint.host.as_str());
                    b.port = i32::from(endpoint.port);
                    if version >= 1 {
                        b.rack = broker.rack.as_deref().map(StrBytes::from);
                    }
                })
            })
            .collect();
        if version >= 2 {
            r.cluster_id = Some(StrBytes::from(&*image.cluster_id));
        }
        if version >= 1 {
            r.controller_id = controller;
        }
        if CLUSTER_OPERATIONS.contains(&version) {
            let asked = request.include_cluster_authorized_operations;
            r.cluster_authorized_operations = match asked {
                true => cluster_operations(rights),
                false => NOT_ASKED,
            };
        }
        r.topics = topics(image, rights, request, version);
        let partitions = r.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        partitions.for_each(|partition| reach(image, listener, partition, version));
        if version >= TOPIC_OPERATIONS_FROM && request.include_topic_authorized_operations {
            for topic in r.topics.iter_mut().filter(|topic| topic.error_code == 0) {
                let name = topic.name.as_deref().unwrap_or_default();
                topic.topic_authorized_operations = rights.operations(Resource::Topic(name));
            }
        }
    })
}

/// A leader that is away, or has no listener of the name that the client came in by, is none for it.
fn reach(image: &Image, listener: &str, partition: &mut MetadataResponsePartition, version: i16) {
    let alive = |id: &i32| image.broker(*id).is_some_and(|broker| !broker.fenced);
    let leader = image.broker(partition.leader_id).filter(|leader| !leader.fenced);
    if leader.is_none_or(|leader| leader.endpoint(listener).is_none()) {
        partition.leader_id = NO_LEADER;
        partition.error_code = match leader.is_some() && version >= LISTENERS_FROM {
            true => ErrorCode::ListenerNotFound.code(),
            false => ErrorCode::LeaderNotAvailable.code(),
        };
    }
    if version >= OFFLINE_FROM {
        partition.offline_replicas =
            partition.replica_nodes.iter().filter(|id| !alive(id)).copied().collect();
    }
}

fn topics(
    image: &Image,
    rights: &impl Rights,
    request: &MetadataRequest,
    version: i16,
) -> Vec<MetadataResponseTopic> {
    let may = |name: &str| rights.may(Operation::Describe, Resource::Topic(name));
    let all = || image.topics().filter(|topic| may(&topic.name)).map(|topic| known(topic, version)).collect();
    let asked = match &request.topics {
        None => return all(),
        Some(asked) if asked.is_empty() && version == 0 => return all(),
        Some(asked) => asked,
    };
    let mut seen = BTreeSet::new();
    let mut topics = Vec::with_capacity(asked.len().min(1024));
    let by_id = version >= BY_ID_FROM && asked.iter().any(|asked| !asked.topic_id.is_zero());
    for asked in asked {
        // Where any is asked for by id, names do not count.
        let name = asked.name.as_ref().filter(|_| !by_id);
        if (by_id && asked.topic_id.is_zero()) || !seen.insert((name, asked.topic_id)) {
            continue;
        }
        topics.push(match &asked.name {
            _ if version < BY_ID_FROM && (asked.name.is_none() || !asked.topic_id.is_zero()) => {
                unknown(asked.name.as_deref().unwrap_or_default(), ErrorCode::InvalidRequest)
            }
            _ if !asked.topic_id.is_zero() => match image.topic_by_id(topic_id(asked.topic_id)) {
                Some(topic) if may(&topic.name) => known(topic, version),
                Some(_) => failed_id(asked.topic_id, ErrorCode::TopicAuthorizationFailed),
                None => failed_id(asked.topic_id, ErrorCode::UnknownTopicId),
            },
            None => failed_id(Uuid::ZERO, ErrorCode::UnknownTopicId),
            // Whether it exists is not for everybody to know.
            Some(name) if !may(name) => unknown(name, ErrorCode::TopicAuthorizationFailed),
            Some(name) => match image.topic(name) {
                Some(topic) => known(topic, version),
                None if check_topic_name(name).is_err() => unknown(name, ErrorCode::InvalidTopicException),
                None => unknown(name, ErrorCode::UnknownTopicOrPartition),
            },
        });
    }
    topics
}

fn unknown(name: &str, error: ErrorCode) -> MetadataResponseTopic {
    build(|t: &mut MetadataResponseTopic| {
        t.error_code = error.code();
        t.name = Some(StrBytes::from(name));
        t.topic_authorized_operations = NOT_ASKED;
    })
}

fn failed_id(id: Uuid, error: ErrorCode) -> MetadataResponseTopic {
    build(|t: &mut MetadataResponseTopic| {
        t.error_code = error.code();
        t.name = None;
        t.topic_id = id;
        t.topic_authorized_operations = NOT_ASKED;
    })
}

fn known(topic: &Topic, version: i16) -> MetadataResponseTopic {
    build(|t: &mut MetadataResponseTopic| {
        t.name = Some(topic.wire_name());
        if version >= TOPIC_IDS_FROM {
            t.topic_id = uuid(topic.id);
        }
        if version >= 1 {
            t.is_internal = topic.is_internal();
        }
        t.topic_authorized_operations = NOT_ASKED;
        t.partitions = (0..).zip(topic.partitions.iter()).map(|(i, p)| partition(i, p, version)).collect();
    })
}

fn partition(index: i32, partition: &Partition, version: i16) -> MetadataResponsePartition {
    build(|p: &mut MetadataResponsePartition| {
        p.partition_index = index;
        p.leader_id = partition.leader.unwrap_or(NO_LEADER);
        if version >= 7 {
            p.leader_epoch = partition.leader_epoch.0;
        }
        p.replica_nodes = partition.replicas().to_vec();
        p.isr_nodes = partition.isr().collect();
    })
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
