//! FindCoordinator: which broker coordinates a group or a transactional id. Creates the coordinators' topic when it is
//! first needed.

use kafka_wire::find_coordinator_response::Coordinator;
use kafka_wire::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_wire_core::StrBytes;

use super::Cx;
use super::common::{build, code};
use crate::controller::internal_topic;
use crate::controller::{ControlReply, ControlRequest};
use crate::metadata::Broker;
use crate::metadata::internal::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::wire::ErrorCode;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// From here on a request names several keys.
const BATCHED_FROM: i16 = 4;
const MESSAGES_FROM: i16 = 1;

pub async fn handle(cx: &Cx, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let found = find(cx, request.key_type).await;
    if let Err(error) = &found {
        cx.count(*error);
    }
    answer(&request, found, cx.version)
}

/// There is one broker: it coordinates everything once the topic is there.
async fn find(cx: &Cx, key_type: i8) -> Result<Broker, ErrorCode> {
    let topic = match key_type {
        GROUP => CONSUMER_OFFSETS,
        TRANSACTION => TRANSACTION_STATE,
        _ => return Err(ErrorCode::InvalidRequest),
    };
    ensure_topic(cx, topic).await?;
    let image = cx.shard.image();
    image.broker(cx.shard.settings().broker_id).cloned().ok_or(ErrorCode::CoordinatorNotAvailable)
}

pub(super) async fn ensure_topic(cx: &Cx, name: &str) -> Result<(), ErrorCode> {
    if cx.shard.image().topic(name).is_some() {
        return Ok(());
    }
    let topics = internal_topic(name, cx.shard.settings()).into_iter().collect();
    let reply = cx.shard.control(ControlRequest::CreateTopics { topics, validate_only: false }).await;
    let created = match reply {
        ControlReply::CreateTopics(mut results) => results.pop(),
        other => Some(Err(super::common::whole_error(other))),
    };
    match created {
        Some(Ok(_)) => log::info!("created {name} on first need"),
        Some(Err(error)) if code(&error) != ErrorCode::TopicAlreadyExists => {
            log::warn!("{name} cannot be created: {error}");
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        _ => {}
    }
    Ok(())
}

fn answer(
    request: &FindCoordinatorRequest,
    found: Result<Broker, ErrorCode>,
    version: i16,
) -> FindCoordinatorResponse {
    let (broker, error) = match found {
        Ok(broker) => (Some(broker), ErrorCode::None),
        Err(error) => (None, error),
    };
    let node = broker.as_ref().map_or(-1, |broker| broker.id);
    let host = broker.as_ref().map_or(StrBytes::default(), |broker| StrBytes::from(broker.host()));
    let port = broker.as_ref().map_or(-1, |broker| i32::from(broker.port()));
    build(|r: &mut FindCoordinatorResponse| {
        if version >= BATCHED_FROM {
            let one = |key: &StrBytes| {
                build(|c: &mut Coordinator| {
                    c.key = key.clone();
                    c.node_id = node;
                    c.host = host.clone();
                    c.port = port;
                    c.error_code = error.code();
                    if error.is_error() {
                        c.error_message = Some(message(error).into());
                    }
                })
            };
            r.coordinators = request.coordinator_keys.iter().map(one).collect();
            return;
        }
        r.error_code = error.code();
        if version >= MESSAGES_FROM {
            r.error_message = Some(message(error).into());
        }
        r.node_id = node;
        r.host = host.clone();
        r.port = port;
    })
}

/// Old versions name success, too.
fn message(error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::InvalidRequest => "There is no coordinator of this kind.",
        ErrorCode::CoordinatorNotAvailable => "The coordinator is not available.",
        other => other.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::common::testing::round_trip;
    use super::*;
    use crate::controller::Desk;
    use crate::model::BrokerSettings;

    #[test]
    fn every_version_names_the_broker_or_the_error() {
        let settings = BrokerSettings { broker_id: 7, ..BrokerSettings::default() };
        let mut broker = Desk::in_memory(&settings).image().broker(7).unwrap().clone();
        broker.endpoints[0].host = "h".into();
        for version in 0..=6 {
            let request = build(|r: &mut FindCoordinatorRequest| {
                r.key = "g".into();
                r.coordinator_keys = vec!["g".into(), "h".into()];
            });
            let response = round_trip(&answer(&request, Ok(broker.clone()), version), version);
            if version < BATCHED_FROM {
                assert_eq!((response.error_code, response.node_id, &*response.host), (0, 7, "h"));
            } else {
                let keys: Vec<_> =
                    response.coordinators.iter().map(|c| (&*c.key, c.node_id, c.port)).collect();
                assert_eq!(keys, [("g", 7, 9092), ("h", 7, 9092)]);
            }
            let refused = answer(&request, Err(ErrorCode::InvalidRequest), version);
            let refused = round_trip(&refused, version);
            let code = refused.coordinators.first().map_or(refused.error_code, |c| c.error_code);
            assert_eq!(code, 42);
        }
    }
}
