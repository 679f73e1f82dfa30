//! What brokers ask of the controller, as Kafka's messages between brokers have it, with what Kafka has no place for in
//! private tags. Both ends: what is asked here is understood here.
//!
//! | request | message |
//! |---|---|
//! | `Register` | BrokerRegistration, with shards, build and partitions that need repair |
//! | `Heartbeat` | BrokerHeartbeat, with partitions that need repair, and with loads |
//! | `AlterPartitions` | AlterPartition, with the metadata that the leader knows |
//! | `ProducerIds` | AllocateProducerIds |
//! | `CreateTopics` | CreateTopics, for topics that brokers make by themselves |
//!
//! Every answer carries the metadata's offset that has to be applied before it is passed on.

mod answers;
mod errors;
mod loads;
mod requests;
mod versions;

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::RequestResponsePair;
use kafka_wire_core::{ApiVersion, Decoder, KafkaDecode};

use crate::controller::ControlRequest;
use crate::peer::{Link, LinkError, keys};
use crate::wire::frame::{RequestHeader, decode_limits};

pub use answers::{Told, encode};
use versions::{ALTER_PARTITION, CREATE_TOPICS, HEARTBEAT, PRODUCER_IDS, REGISTRATION};

/// Asks whoever is at the other end of a link; `None` for what brokers do not ask of each other.
pub async fn ask(link: &Link, request: &ControlRequest, limit: Duration) -> Option<Result<Told, LinkError>> {
    Some(match request {
        ControlRequest::Register(registration) => {
            let message = requests::registration(registration);
            call(link, &message, REGISTRATION, limit).await.map(answers::registered)
        }
        ControlRequest::Heartbeat(heartbeat) => {
            let message = requests::heartbeat(heartbeat);
            call(link, &message, HEARTBEAT, limit).await.map(answers::heard)
        }
        ControlRequest::AlterPartitions(alter) => {
            let message = requests::alter(alter);
            call(link, &message, ALTER_PARTITION, limit).await.map(|told| answers::altered(alter, told))
        }
        ControlRequest::ProducerIds { broker, epoch } => {
            let message = requests::producer_ids(*broker, *epoch);
            call(link, &message, PRODUCER_IDS, limit).await.map(answers::producer_ids)
        }
        ControlRequest::CreateTopics { topics, validate_only: false } => {
            let message = requests::create_topics(topics);
            call(link, &message, CREATE_TOPICS, limit).await.map(|told| answers::created(topics, told))
        }
        _ => return None,
    })
}

async fn call<R: RequestResponsePair>(
    link: &Link,
    message: &R,
    version: i16,
    limit: Duration,
) -> Result<R::Response, LinkError> {
    link.call(message, version, limit).await
}

/// What another broker asks; `None` where it is nothing that brokers ask, or makes no sense.
pub fn decode(header: &RequestHeader, body: Bytes) -> Option<ControlRequest> {
    match (header.api_key, header.api_version) {
        (62, REGISTRATION) => requests::to_registration(&message(header, body)?),
        (63, HEARTBEAT) => requests::to_heartbeat(&message(header, body)?),
        (56, ALTER_PARTITION) => requests::to_alter(&message(header, body)?),
        (67, PRODUCER_IDS) => Some(requests::to_producer_ids(&message(header, body)?)),
        (19, CREATE_TOPICS) => Some(requests::to_create_topics(&message(header, body)?)),
        _ => None,
    }
}

fn message<R: KafkaDecode>(header: &RequestHeader, body: Bytes) -> Option<R> {
    let mut decoder = Decoder::new(body, decode_limits(keys::CONTROL_FRAME)).ok()?;
    R::decode(&mut decoder, ApiVersion::new(header.api_version)).ok()
}

#[cfg(test)]
mod tests;
