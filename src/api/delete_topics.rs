//! DeleteTopics, by name or by id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_wire::delete_topics_request::DeleteTopicState;
use kafka_wire::delete_topics_response::DeletableTopicResult;
use kafka_wire::{DeleteTopicsRequest, DeleteTopicsResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::{build, code, message, topic_id, uuid, whole_error};
use super::request::Cx;
use crate::controller::{ControlError, ControlErrorKind, ControlReply, ControlRequest, TopicRef};
use crate::metadata::Topic;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const DELETION_DISABLED_FROM: i16 = 3;
const MESSAGES_FROM: i16 = 5;
const STATES_FROM: i16 = 6;

pub async fn handle(cx: &Cx, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let image = cx.shard.image();
    let any = cx.may(Operation::Delete, Resource::Cluster);
    let (allowed, denied) = cx.sort(asked(request, cx.version), |cx, asked| {
        let known = image.topic_by_id(topic_id(asked.topic_id));
        let name = asked.name.as_deref().or(known.map(|topic| &*topic.name));
        // Of an id that means nothing nothing is told but that.
        any || name.is_none_or(|name| cx.may(Operation::Delete, Resource::Topic(name)))
    });
    let checked = check(allowed);
    let topics = wanted(&checked);
    let reply = cx.shard.control(ControlRequest::DeleteTopics { topics }).await;
    let mut response = answer(&checked, reply, cx.version);
    response.responses.extend(denied.iter().map(refused));
    for topic in &response.responses {
        cx.count(ErrorCode::from_code(topic.error_code));
    }
    response
}

/// A topic that the client may not delete: named only where the client has named it.
fn refused(asked: &DeleteTopicState) -> DeletableTopicResult {
    build(|t: &mut DeletableTopicResult| {
        t.name = asked.name.clone();
        t.topic_id = asked.topic_id;
        t.error_code = ErrorCode::TopicAuthorizationFailed.code();
    })
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

type Checked = Vec<(DeleteTopicState, Result<TopicRef, ControlError>)>;

/// What may be deleted, or why not. A name or id that is given more than once is refused, and answered once.
fn check(asked: Vec<DeleteTopicState>) -> Checked {
    let mut times: BTreeMap<(Option<StrBytes>, [u8; 16]), usize> = BTreeMap::new();
    let key = |asked: &DeleteTopicState| (asked.name.clone(), asked.topic_id.to_bytes());
    asked.iter().for_each(|asked| *times.entry(key(asked)).or_default() += 1);
    let mut answered = BTreeSet::new();
    let mut checked = Vec::with_capacity(asked.len());
    for asked in asked {
        let mut found = reference(&asked);
        if let Ok(reference) = &found
            && times[&key(&asked)] > 1
        {
            if !answered.insert(key(&asked)) {
                continue;
            }
            let what = if matches!(reference, TopicRef::Name(_)) { "name" } else { "id" };
            let why = format!("Duplicate topic {what}.");
            found = Err(ControlError::new(ControlErrorKind::InvalidRequest, why));
        }
        checked.push((asked, found));
    }
    checked
}

fn wanted(checked: &Checked) -> Vec<TopicRef> {
    checked.iter().filter_map(|(_, found)| found.as_ref().ok().cloned()).collect()
}

fn answer(checked: &Checked, reply: ControlReply, version: i16) -> DeleteTopicsResponse {
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
    let one = |(asked, found): &(DeleteTopicState, Result<TopicRef, ControlError>)| {
        let deleted = found.clone().and_then(|_| next());
        // A topic that was asked for by name as well as by id is answered by name.
        let by_id = found.is_ok() && asked.name.is_none();
        let twice = matches!(&deleted, Err(e) if e.kind == ControlErrorKind::InvalidRequest);
        (!by_id || !twice).then(|| result(asked, deleted, version))
    };
    build(|r: &mut DeleteTopicsResponse| r.responses = checked.iter().filter_map(one).collect())
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
            let mut controller = controller(&[("a", 1), ("b", 1)]);
            let mut request = DeleteTopicsRequest::default();
            if version >= STATES_FROM {
                for name in ["a", "nope"] {
                    request.topics.push(build(|s: &mut DeleteTopicState| s.name = Some(name.into())));
                }
            } else {
                request.topic_names = vec!["a".into(), "nope".into()];
            }
            let checked = check(asked(request, version));
            let topics = wanted(&checked);
            let reply = controller.handle(&ControlRequest::DeleteTopics { topics });
            let response = round_trip(&answer(&checked, reply, version), version);
            let codes: Vec<_> = response.responses.iter().map(|t| t.error_code).collect();
            assert_eq!(codes, [0, 3]);
            assert_eq!(response.responses[1].name.as_deref(), Some("nope"));
            assert_eq!(response.responses[1].error_message.is_some(), version >= MESSAGES_FROM);
            assert!(controller.image().topic("a").is_none());
        }
    }

    fn state(name: Option<&str>, id: kafka_wire_core::Uuid) -> DeleteTopicState {
        build(|s: &mut DeleteTopicState| {
            s.name = name.map(Into::into);
            s.topic_id = id;
        })
    }

    #[test]
    fn ids_are_taken_and_contradictions_refused() {
        let mut controller = controller(&[("a", 1)]);
        let id = uuid(controller.image().topic("a").unwrap().id);
        let other = kafka_wire_core::Uuid::from_bytes([3; 16]);
        let asked = vec![
            state(Some("a"), id),
            state(None, other),
            state(None, id),
            state(None, kafka_wire_core::Uuid::ZERO),
        ];
        let checked = check(asked);
        let reply = controller.handle(&ControlRequest::DeleteTopics { topics: wanted(&checked) });
        let response = round_trip(&answer(&checked, reply, 6), 6);
        let codes: Vec<_> = response.responses.iter().map(|t| t.error_code).collect();
        assert_eq!(codes, [42, 100, 0, 42]);
        assert_eq!(response.responses[2].name.as_deref(), Some("a"));
        assert_eq!(response.responses[1].name, None);
    }

    #[test]
    fn what_is_given_twice_is_answered_once() {
        const NO_ID: kafka_wire_core::Uuid = kafka_wire_core::Uuid::ZERO;
        let mut controller = controller(&[("a", 1), ("b", 1), ("c", 1)]);
        let id = |name: &str| uuid(controller.image().topic(name).unwrap().id);
        let (b, c) = (id("b"), id("c"));
        let names = [Some("a"), Some("nope"), Some("a"), Some("nope"), Some("a"), Some("b")];
        let mut asked: Vec<_> = names.into_iter().map(|name| state(name, NO_ID)).collect();
        asked.extend([b, c, c].map(|id| state(None, id)));
        asked.extend([state(None, NO_ID), state(None, NO_ID)]);
        let checked = check(asked);
        let reply = controller.handle(&ControlRequest::DeleteTopics { topics: wanted(&checked) });
        let response = round_trip(&answer(&checked, reply, 6), 6);
        let found: Vec<_> = response.responses.iter().map(|t| (t.name.as_deref(), t.error_code)).collect();
        let names =
            [(Some("a"), 42), (Some("nope"), 42), (Some("b"), 42), (None, 42), (None, 42), (None, 42)];
        assert_eq!(found, names);
        assert_eq!(controller.image().topics().count(), 3, "nothing was deleted");
    }

    #[test]
    fn a_failed_controller_fails_every_topic() {
        let checked = check(["a", "b"].map(|name| state(Some(name), kafka_wire_core::Uuid::ZERO)).to_vec());
        let error = ControlError::new(ControlErrorKind::Unavailable, "disk");
        let response = answer(&checked, ControlReply::Failed(error), 6);
        assert!(response.responses.iter().all(|t| t.error_code == ErrorCode::KafkaStorageError.code()));
    }
}
