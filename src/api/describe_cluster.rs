//! DescribeCluster: the cluster's id, its brokers and its controller.

use bytes::Bytes;
use kafka_wire::describe_cluster_response::DescribeClusterBroker;
use kafka_wire::{DescribeClusterRequest, DescribeClusterResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::{NOT_ASKED, build, cluster_operations};
use super::request::Cx;
use crate::metadata::quorum::{NEVER, Recovery};
use crate::metadata::{Broker, Image};
use crate::model::BrokerId;
use crate::model::report::{BrokerDetails, DETAILS, WATCH, Watch};
use crate::peer::keys;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const BROKERS: i8 = 1;
pub const CONTROLLERS: i8 = 2;
const ENDPOINT_TYPES_FROM: i16 = 1;
const FENCED_FROM: i16 = 2;
/// Tag of who asks for controllers and is a broker that would join: clients of Kafka's are told that there are none here,
/// because they could not talk to them.
pub const JOINING: u32 = keys::TAG;
/// Tag of the recovery that the answering broker follows, if there was one.
const RECOVERY: u32 = keys::TAG;

pub async fn handle(cx: &Cx, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let me = cx.shard.settings().broker_id;
    if request.endpoint_type == CONTROLLERS && keys::tagged(&request.unknown_tagged_fields, JOINING).is_some()
    {
        let controller = if cx.shard.leads_metadata() { Some(me) } else { cx.shard.controller() };
        return for_brokers(&cx.shard.image(), controller, cx.shard.settings().recovery);
    }
    let image = cx.shard.image();
    let mut response = answer(&image, me, (cx, &cx.connection.listener.name), &request, cx.version);
    if response.error_code == 0 && cx.authorize(Operation::Describe, Resource::Cluster).is_ok() {
        report(cx, &image, &request, &mut response).await;
    }
    cx.count(ErrorCode::from_code(response.error_code));
    response
}

fn answer(
    image: &Image,
    controller: i32,
    (rights, listener): (&impl Rights, &str),
    request: &DescribeClusterRequest,
    version: i16,
) -> DescribeClusterResponse {
    build(|r: &mut DescribeClusterResponse| {
        r.cluster_authorized_operations = NOT_ASKED;
        if version >= ENDPOINT_TYPES_FROM {
            r.endpoint_type = BROKERS;
            if let Some((code, why)) = wrong_endpoint(request.endpoint_type) {
                r.error_code = code.code();
                r.error_message = Some(why.into());
                return;
            }
        }
        r.cluster_id = StrBytes::from(&*image.cluster_id);
        r.controller_id = controller;
        let told = image.brokers().filter(|broker| !broker.fenced || request.include_fenced_brokers);
        r.brokers = told.filter_map(|broker| described(broker, listener, version)).collect();
        if request.include_cluster_authorized_operations {
            r.cluster_authorized_operations = cluster_operations(rights);
        }
    })
}

/// What `weir cluster` asks for besides.
async fn report(
    cx: &Cx,
    image: &Image,
    request: &DescribeClusterRequest,
    response: &mut DescribeClusterResponse,
) {
    let asked = |tag| keys::tagged(&request.unknown_tagged_fields, tag);
    if asked(DETAILS).is_some() {
        for told in &mut response.brokers {
            let details = image.broker(told.broker_id).map(details);
            told.unknown_tagged_fields = keys::tags(details.map(|data| (DETAILS, data)));
        }
    }
    let watch = asked(WATCH).and_then(|data| serde_json::from_slice::<Watch>(&data).ok());
    if let Some(watch) = watch {
        let changes = cx.shard.watch_cluster(watch).await;
        response.unknown_tagged_fields = keys::tags([(WATCH, json(&*changes))]);
    }
}

fn details(broker: &Broker) -> Bytes {
    let endpoint = broker.endpoint(keys::LISTENER);
    json(&BrokerDetails {
        epoch: broker.epoch.0,
        shards: broker.shards,
        build: broker.build.clone(),
        draining: broker.draining,
        stopping: broker.shutting_down,
        cluster: endpoint.map_or_else(String::new, |at| format!("{}:{}", at.host, at.port)),
    })
}

pub(super) fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}

/// Who the controller is and where brokers reach each other, for one that would join; no controller is -1.
fn for_brokers(image: &Image, controller: Option<BrokerId>, recovery: Recovery) -> DescribeClusterResponse {
    build(|r: &mut DescribeClusterResponse| {
        r.cluster_authorized_operations = NOT_ASKED;
        r.endpoint_type = CONTROLLERS;
        r.cluster_id = StrBytes::from(&*image.cluster_id);
        r.controller_id = controller.unwrap_or(-1);
        r.brokers = image.brokers().filter_map(|broker| described(broker, keys::LISTENER, 0)).collect();
        if recovery != NEVER {
            r.unknown_tagged_fields = keys::tags([(RECOVERY, Bytes::copy_from_slice(&recovery))]);
        }
    })
}

/// Which recovery of the cluster the broker follows that answered one that would join.
pub fn recovery(response: &DescribeClusterResponse) -> Recovery {
    let told = keys::tagged(&response.unknown_tagged_fields, RECOVERY);
    told.and_then(|data| data.first_chunk().copied()).unwrap_or(NEVER)
}

fn wrong_endpoint(endpoint_type: i8) -> Option<(ErrorCode, String)> {
    match endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER".into(),
        )),
        other => Some((ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}"))),
    }
}

fn described(broker: &Broker, listener: &str, version: i16) -> Option<DescribeClusterBroker> {
    let endpoint = broker.endpoint(listener)?;
    Some(build(|b: &mut DescribeClusterBroker| {
        b.broker_id = broker.id;
        b.host = StrBytes::from(endpoint.host.as_str());
        b.port = i32::from(endpoint.port);
        b.rack = broker.rack.as_deref().map(StrBytes::from);
        b.is_fenced = version >= FENCED_FROM && broker.fenced;
    }))
}

#[cfg(test)]
mod tests {
    use super::super::authorize::Everything;
    use super::super::common::testing::{controller, round_trip};
    use super::*;
    use crate::model::listener::DEFAULT_LISTENER;

    #[test]
    fn every_version_describes_the_cluster() {
        let controller = controller(&[]);
        let image = controller.image();
        for version in 0..=2 {
            let mut request = DescribeClusterRequest::default();
            request.include_cluster_authorized_operations = version == 1;
            let response =
                round_trip(&answer(&image, 1, (&Everything, DEFAULT_LISTENER), &request, version), version);
            assert_eq!(&*response.cluster_id, &*image.cluster_id);
            assert_eq!((response.error_code, response.controller_id, response.brokers.len()), (0, 1, 1));
            let operations = if version == 1 { cluster_operations(&Everything) } else { NOT_ASKED };
            assert_eq!(response.cluster_authorized_operations, operations);
        }
    }

    #[test]
    fn details_of_a_broker_are_what_the_metadata_has() {
        let controller = controller(&[]);
        let image = controller.image();
        let broker = image.broker(1).unwrap();
        let told: BrokerDetails = serde_json::from_slice(&details(broker)).unwrap();
        assert_eq!((told.epoch, told.shards, told.draining), (broker.epoch.0, broker.shards, false));
        assert_eq!(told.build, env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn controllers_are_found_elsewhere() {
        let controller = controller(&[]);
        for (endpoint, code) in [(2, 114), (3, 115), (0, 115)] {
            let mut request = DescribeClusterRequest::default();
            request.endpoint_type = endpoint;
            assert_eq!(
                round_trip(&answer(&controller.image(), 1, (&Everything, DEFAULT_LISTENER), &request, 2), 2)
                    .error_code,
                code
            );
        }
    }
}
