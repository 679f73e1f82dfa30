//! DeleteTopics, by name or by id.

use std::sync::Arc;

use kafka_wire::delete_topics_request::DeleteTopicState;
use kafka_wire::delete_topics_response::DeletableTopicResult;
use kafka_wire::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::Cx;
use super::common::{build, code, message, topic_id, uuid, whole_error};
use crate::cluster::{ControlError, ControlErrorKind, ControlReply, ControlRequest, Topic, TopicRef};
use crate::wire::ErrorCode;

const DELETION_DISABLED_FROM: i16 = 3;
const MESSAGES_FROM: i16 = 5;
const STATES_FROM: i16 = 6;

pub async fn handle(cx: &Cx, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let asked = asked(request, cx.version);
    let topics = asked.iter().filter_map(|asked| reference(asked).ok()).collect();
    let reply = cx.shard.control(ControlRequest::DeleteTopics { topics }).await;
    let response = answer(&asked, reply, cx.version);
    for topic in &response.responses {
        cx.count(ErrorCode::from_code(topic.error_code));
    }
    response
}

/// The topics in the form of the newest version.
fn asked(request: DeleteTopicsRequest, version: i16) -> Vec<DeleteTopicState> {
    if version >= STATES_FROM {
        return request.topics;
    }
    let state = |name| build(|state: &mut DeleteTopicState| state.name = Some(name));
    request.topic_names.into_iter().map(state).collect()
}

fn reference(asked: &DeleteTopicState) -> Result<TopicRef, ControlError> {
    let refuse = |why| Err(ControlError::new(ControlErrorKind::InvalidRequest, why));
    match (&asked.name, asked.topic_id.is_zero()) {
        (Some(name), true) => Ok(TopicRef::Name(name.to_string())),
        (None, false) => Ok(TopicRef::Id(topic_id(asked.topic_id))),
        (Some(_), false) => refuse("You may not specify both topic name and topic id."),
        (None, true) => refuse("Neither topic name nor id were specified."),
    }
}

fn answer(asked: &[DeleteTopicState], reply: ControlReply, version: i16) -> DeleteTopicsResponse {
    let (mut results, whole) = match reply {
        ControlReply::DeleteTopics(results) => (results.into_iter(), None),
        other => (Vec::new().into_iter(), Some(whole_error(other))),
    };
    let mut next = || match &whole {
        Some(error) => Err(error.clone()),
        None => results.next().unwrap_or_else(|| {
            Err(ControlError::new(
                ControlErrorKind::Unavailable,
                "the controller did not answer for this topic",
            ))
        }),
    };
    let one = |asked| result(asked, reference(asked).and_then(|_| next()), version);
    build(|r: &mut DeleteTopicsResponse| r.responses = asked.iter().map(one).collect())
}

fn result(
    asked: &DeleteTopicState,
    result: Result<Arc<Topic>, ControlError>,
    version: i16,
) -> DeletableTopicResult {
    build(|t: &mut DeletableTopicResult| match result {
        Ok(topic) => {
            t.name = Some(topic.wire_name());
            if version >= STATES_FROM {
                t.topic_id = uuid(topic.id);
            }
        }
        Err(error) => {
            t.name = asked.name.clone();
            t.topic_id = asked.topic_id;
            let mut code = code(&error);
            if code == ErrorCode::TopicDeletionDisabled && version < DELETION_DISABLED_FROM {
                code = ErrorCode::InvalidRequest;
            }
            t.error_code = code.code();
            if version >= MESSAGES_FROM {
                t.error_message = message(&error);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn topics_are_deleted_by_name_at_every_version() {
        for version in 1..=6 {
            let (_dir, mut controller) = controller(&[("a", 1), ("b", 1)]);
            let mut request = DeleteTopicsRequest::default();
            if version >= STATES_FROM {
                for name in ["a", "nope"] {
                    request.topics.push(build(|s: &mut DeleteTopicState| s.name = Some(name.into())));
                }
            } else {
                request.topic_names = vec!["a".into(), "nope".into()];
            }
            let asked = asked(request, version);
            let topics = asked.iter().map(|a| reference(a).unwrap()).collect();
            let reply = controller.handle(ControlRequest::DeleteTopics { topics }, 0);
            let response = round_trip(&answer(&asked, reply, version), version);
            let codes: Vec<_> = response.responses.iter().map(|t| t.error_code).collect();
            assert_eq!(codes, [0, 3]);
            assert_eq!(response.responses[1].name.as_deref(), Some("nope"));
            assert_eq!(response.responses[1].error_message.is_some(), version >= MESSAGES_FROM);
            assert!(controller.image().topic("a").is_none());
        }
    }

    #[test]
    fn ids_are_taken_and_contradictions_refused() {
        let (_dir, mut controller) = controller(&[("a", 1)]);
        let id = uuid(controller.image().topic("a").unwrap().id);
        let state = |name: Option<&str>, id| {
            build(|s: &mut DeleteTopicState| {
                s.name = name.map(Into::into);
                s.topic_id = id;
            })
        };
        let other = kafka_wire_core::Uuid::from_bytes([3; 16]);
        let asked = vec![
            state(Some("a"), id),
            state(None, other),
            state(None, id),
            state(None, kafka_wire_core::Uuid::ZERO),
        ];
        let topics = asked.iter().filter_map(|a| reference(a).ok()).collect();
        let reply = controller.handle(ControlRequest::DeleteTopics { topics }, 0);
        let response = round_trip(&answer(&asked, reply, 6), 6);
        let codes: Vec<_> = response.responses.iter().map(|t| t.error_code).collect();
        assert_eq!(codes, [42, 100, 0, 42]);
        assert_eq!(response.responses[2].name.as_deref(), Some("a"));
        assert_eq!(response.responses[1].name, None);
    }

    #[test]
    fn a_failed_controller_fails_every_topic() {
        let asked = vec![build(|s: &mut DeleteTopicState| s.name = Some("a".into())); 2];
        let error = ControlError::new(ControlErrorKind::Unavailable, "disk");
        let response = answer(&asked, ControlReply::Failed(error), 6);
        assert!(response.responses.iter().all(|t| t.error_code == ErrorCode::KafkaStorageError.code()));
    }
}
