//! CreateTopics.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_wire::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::{build, code, message, uuid, whole_error};
use super::describe_configs::{Entry, topic_entries};
use super::request::Cx;
use crate::controller::{ControlError, ControlReply, ControlRequest, NewTopic};
use crate::metadata::{Image, Topic};
use crate::model::BrokerSettings;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// From here on the answer describes the topic.
const DESCRIBED_FROM: i16 = 5;
const TOPIC_IDS_FROM: i16 = 7;

pub async fn handle(cx: &Cx, mut request: CreateTopicsRequest) -> CreateTopicsResponse {
    let any = cx.may(Operation::Create, Resource::Cluster);
    let may =
        |cx: &Cx, topic: &CreatableTopic| any || cx.may(Operation::Create, Resource::Topic(&topic.name));
    let (allowed, denied) = cx.sort(std::mem::take(&mut request.topics), may);
    request.topics = allowed;
    let control = ControlRequest::CreateTopics {
        topics: request.topics.iter().map(new_topic).collect(),
        validate_only: request.validate_only,
    };
    let reply = cx.shard.control(control).await;
    let mut response = answer(&request, reply, &cx.shard.image(), cx.shard.settings(), cx.version);
    response.topics.iter_mut().for_each(|topic| hide_configs(cx, topic));
    response
        .topics
        .extend(denied.iter().map(|topic| failed(topic, ErrorCode::TopicAuthorizationFailed, None)));
    for topic in &response.topics {
        cx.count(ErrorCode::from_code(topic.error_code));
    }
    response
}

pub(super) fn new_topic(topic: &CreatableTopic) -> NewTopic {
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(|a| (a.partition_index, a.broker_ids.clone())).collect(),
        configs: topic
            .configs
            .iter()
            .map(|config| (config.name.to_string(), config.value.as_ref().map(|value| value.to_string())))
            .collect(),
    }
}

fn answer(
    request: &CreateTopicsRequest,
    reply: ControlReply,
    image: &Image,
    settings: &BrokerSettings,
    version: i16,
) -> CreateTopicsResponse {
    let results: Vec<_> = match reply {
        ControlReply::CreateTopics(results) => results,
        other => {
            let error = whole_error(other);
            request.topics.iter().map(|_| Err(error.clone())).collect()
        }
    };
    let one = |(asked, result): (&CreatableTopic, Result<Arc<Topic>, ControlError>)| match result {
        Ok(topic) => created(&topic, image, settings, version),
        Err(error) => failed(asked, code(&error), message(&error)),
    };
    // A name that is given more than once is answered once.
    let mut seen = BTreeSet::new();
    let results = request.topics.iter().zip(results).filter(|(asked, _)| seen.insert(&asked.name));
    build(|r: &mut CreateTopicsResponse| r.topics = results.map(one).collect())
}

fn failed(asked: &CreatableTopic, error: ErrorCode, why: Option<StrBytes>) -> CreatableTopicResult {
    build(|t: &mut CreatableTopicResult| {
        t.name = asked.name.clone();
        t.error_code = error.code();
        t.error_message = why;
        t.num_partitions = -1;
        t.replication_factor = -1;
        t.configs = Some(Vec::new());
    })
}

/// Who may create a topic need not be allowed to see what it runs with (KIP-525).
fn hide_configs(cx: &Cx, topic: &mut CreatableTopicResult) {
    let described = cx.version >= DESCRIBED_FROM && topic.error_code == 0;
    if described && let Err(error) = cx.authorize(Operation::DescribeConfigs, Resource::Topic(&topic.name)) {
        topic.topic_config_error_code = error.code();
        (topic.num_partitions, topic.replication_factor) = (-1, -1);
        topic.configs = Some(Vec::new());
    }
}

fn created(topic: &Topic, image: &Image, settings: &BrokerSettings, version: i16) -> CreatableTopicResult {
    build(|t: &mut CreatableTopicResult| {
        t.name = topic.wire_name();
        t.error_message = None;
        if version >= TOPIC_IDS_FROM {
            t.topic_id = uuid(topic.id);
        }
        if version >= DESCRIBED_FROM {
            t.num_partitions = topic.partitions.len() as i32;
            t.replication_factor = topic.partitions.first().map_or(-1, |p| p.replicas().len() as i16);
            t.configs = Some(topic_entries(image, settings, topic).into_iter().map(config).collect());
        }
    })
}

fn config(entry: Entry) -> CreatableTopicConfigs {
    build(|c: &mut CreatableTopicConfigs| {
        c.name = entry.def.name.into();
        c.value = entry.value().map(Into::into);
        c.config_source = entry.source();
    })
}

#[cfg(test)]
mod tests {
    use kafka_wire::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};

    use super::super::common::testing::{controller, round_trip};
    use super::*;

    fn run(request: &CreateTopicsRequest, version: i16) -> CreateTopicsResponse {
        let mut controller = controller(&[("there", 1)]);
        let topics = request.topics.iter().map(new_topic).collect();
        let reply =
            controller.handle(&ControlRequest::CreateTopics { topics, validate_only: request.validate_only });
        let response = answer(request, reply, &controller.image(), &BrokerSettings::default(), version);
        round_trip(&response, version)
    }

    fn topic(name: &str, partitions: i32, factor: i16) -> CreatableTopic {
        build(|t: &mut CreatableTopic| {
            t.name = name.into();
            t.num_partitions = partitions;
            t.replication_factor = factor;
        })
    }

    #[test]
    fn every_version_tells_what_it_can() {
        for version in 2..=7 {
            let mut request = CreateTopicsRequest::default();
            let mut configured = topic("new", 3, 1);
            configured.configs.push(build(|c: &mut CreatableTopicConfig| {
                c.name = "retention.ms".into();
                c.value = Some("5000".into());
            }));
            request.topics = vec![configured, topic("there", 1, 1), topic("far", 1, 3)];
            let response = run(&request, version);
            let codes: Vec<_> = response.topics.iter().map(|t| t.error_code).collect();
            assert_eq!(codes, [0, 36, 38]);
            assert!(response.topics[1].error_message.as_deref().unwrap().contains("already exists"));
            let new = &response.topics[0];
            assert_eq!(new.topic_id.is_zero(), version < 7);
            if version >= DESCRIBED_FROM {
                assert_eq!((new.num_partitions, new.replication_factor), (3, 1));
                let configs = new.configs.as_ref().unwrap();
                let retention = configs.iter().find(|c| &*c.name == "retention.ms").unwrap();
                assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5000"), 1));
                assert_eq!(response.topics[1].configs.as_deref(), Some(&[][..]));
                assert!(new.error_message.is_none());
            }
        }
    }

    #[test]
    fn a_trial_is_answered_as_if_it_were_none() {
        let mut request = CreateTopicsRequest::default();
        request.topics = vec![topic("new", -1, -1)];
        request.validate_only = true;
        let response = run(&request, 7);
        assert_eq!((response.topics[0].error_code, response.topics[0].num_partitions), (0, 1));
        assert!(!response.topics[0].topic_id.is_zero());
    }

    #[test]
    fn a_name_that_is_given_twice_is_answered_once() {
        let mut request = CreateTopicsRequest::default();
        request.topics =
            ["twice", "new", "twice", "__cluster_metadata"].map(|name| topic(name, 1, 1)).to_vec();
        let response = run(&request, 7);
        let found: Vec<_> = response.topics.iter().map(|t| (&*t.name, t.error_code)).collect();
        assert_eq!(found, [("twice", 42), ("new", 0), ("__cluster_metadata", 42)]);
    }

    #[test]
    fn assignments_are_passed_on() {
        let mut assigned = topic("new", -1, -1);
        for index in 0..2 {
            assigned.assignments.push(build(|a: &mut CreatableReplicaAssignment| {
                a.partition_index = index;
                a.broker_ids = vec![1];
            }));
        }
        let mut request = CreateTopicsRequest::default();
        request.topics = vec![assigned];
        assert_eq!(run(&request, 5).topics[0].num_partitions, 2);
        request.topics[0].assignments[1].broker_ids = vec![2];
        assert_eq!(run(&request, 5).topics[0].error_code, ErrorCode::InvalidReplicaAssignment.code());
    }
}
