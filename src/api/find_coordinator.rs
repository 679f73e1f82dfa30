//! FindCoordinator: which broker coordinates a group or a transactional id. Creates the coordinators' topic when it is
//! first needed.

use kafka_wire::find_coordinator_response::Coordinator;
use kafka_wire::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::build;
use super::internal::ensure_topic;
use super::request::Cx;
use crate::metadata::records::Endpoint;
use crate::model::BrokerId;
use crate::model::internal::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::security::{Operation, Resource};
use crate::shard::located::Where;
use crate::wire::ErrorCode;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// From here on a request names several keys.
const BATCHED_FROM: i16 = 4;
const MESSAGES_FROM: i16 = 1;

pub async fn handle(cx: &Cx, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let one = [request.key.clone()];
    let keys = if cx.version >= BATCHED_FROM { &request.coordinator_keys[..] } else { &one };
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let broker = find(cx, request.key_type, key).await;
        if let Err(error) = &broker {
            cx.count(*error);
        }
        found.push((key, broker));
    }
    answer(found, cx.version)
}

/// A broker, as the clients of one listener reach it.
type Place = (BrokerId, Endpoint);

/// The broker that leads the key's partition, once its topic is there.
async fn find(cx: &Cx, key_type: i8, key: &StrBytes) -> Result<Place, ErrorCode> {
    let (topic, resource) = match key_type {
        GROUP => (CONSUMER_OFFSETS, Resource::Group(key)),
        TRANSACTION => (TRANSACTION_STATE, Resource::TransactionalId(key)),
        _ => return Err(ErrorCode::InvalidRequest),
    };
    cx.authorize(Operation::Describe, resource)?;
    ensure_topic(cx, topic).await?;
    let coordinator = cx.shard.coordinator_of(topic, key).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let leader = match coordinator.at {
        // By now another broker may have been told to.
        Where::Here | Where::Shard(_) if !cx.shard.may_coordinate() => {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        Where::Here | Where::Shard(_) => cx.shard.settings().broker_id,
        Where::Broker(leader) => leader,
        Where::Nobody => return Err(ErrorCode::CoordinatorNotAvailable),
    };
    let image = cx.shard.image();
    let endpoint = image.broker(leader).and_then(|broker| broker.endpoint(&cx.connection.listener.name));
    endpoint.map(|endpoint| (leader, endpoint.clone())).ok_or(ErrorCode::CoordinatorNotAvailable)
}

fn answer(found: Vec<(&StrBytes, Result<Place, ErrorCode>)>, version: i16) -> FindCoordinatorResponse {
    let coordinators = found.into_iter().map(|(key, found)| {
        let error = found.as_ref().err().copied().unwrap_or(ErrorCode::None);
        let broker = found.as_ref().ok();
        build(|c: &mut Coordinator| {
            c.key = key.clone();
            c.node_id = broker.map_or(-1, |(id, _)| *id);
            c.host =
                broker.map_or(StrBytes::default(), |(_, endpoint)| StrBytes::from(endpoint.host.as_str()));
            c.port = broker.map_or(-1, |(_, endpoint)| i32::from(endpoint.port));
            c.error_code = error.code();
            // Versions of one key name success, too.
            if (MESSAGES_FROM..BATCHED_FROM).contains(&version) || error.is_error() && version >= BATCHED_FROM
            {
                c.error_message = Some(message(error).into());
            }
        })
    });
    let mut coordinators: Vec<Coordinator> = coordinators.collect();
    build(|r: &mut FindCoordinatorResponse| {
        if version >= BATCHED_FROM {
            r.coordinators = coordinators;
        } else if let Some(one) = coordinators.pop() {
            (r.node_id, r.host, r.port) = (one.node_id, one.host, one.port);
            (r.error_code, r.error_message) = (one.error_code, one.error_message);
        }
    })
}

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
        let mut endpoint = Desk::in_memory(&settings).image().broker(7).unwrap().endpoints[0].clone();
        endpoint.host = "h".into();
        for version in 0..=6 {
            let keys: Vec<StrBytes> = vec!["g".into(), "h".into()];
            let asked = if version < BATCHED_FROM { &keys[..1] } else { &keys };
            let of = |found: Result<Place, ErrorCode>| {
                let found = asked.iter().map(|key| (key, found.clone())).collect();
                round_trip(&answer(found, version), version)
            };
            let response = of(Ok((7, endpoint.clone())));
            if version < BATCHED_FROM {
                assert_eq!((response.error_code, response.node_id, &*response.host), (0, 7, "h"));
            } else {
                let keys: Vec<_> =
                    response.coordinators.iter().map(|c| (&*c.key, c.node_id, c.port)).collect();
                assert_eq!(keys, [("g", 7, 9092), ("h", 7, 9092)]);
            }
            let refused = of(Err(ErrorCode::InvalidRequest));
            let code = refused.coordinators.first().map_or(refused.error_code, |c| c.error_code);
            assert_eq!(code, 42);
        }
    }
}
