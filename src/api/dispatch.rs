//! Requests to their handlers.

use std::rc::Rc;

use bytes::BytesMut;

use super::frames::close;
use super::request::{Cx, Pending};
use super::{api_versions, forward, table};
use crate::rt;
use crate::shard::Shard;
use crate::shard::context::ConnectionContext;
use crate::shard::metrics::ProtocolError;
use crate::shard::strangers::{self, Door};
use crate::wire::frame::RequestHeader;
use crate::wire::stranger::Speaks;

/// Starts a request. Its ordered part is done when this returns; the future is its answer.
pub fn start(
    shard: &Rc<Shard>,
    connection: &Rc<ConnectionContext>,
    header: RequestHeader,
    body: BytesMut,
) -> Pending {
    let Some(api) = table::find(header.api_key) else {
        if let Some(speaks) = stranger(&header, &body) {
            strangers::note(Door::Kafka, connection.peer, connection.local, speaks, rt::unix_ms());
        }
        return close(ProtocolError::UnknownApi, format!("API key {} is not served", header.api_key));
    };
    if api.for_brokers && connection.broker.is_none() {
        strangers::note(Door::Kafka, connection.peer, connection.local, Speaks::Broker, rt::unix_ms());
        let why = format!("{} is for brokers, on the cluster listener", api.name);
        return close(ProtocolError::UnknownApi, why);
    }
    let cx = Cx {
        shard: shard.clone(),
        api,
        version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        connection: connection.clone(),
    };
    if api.serves(cx.version) {
        rt::stall::running(api.name);
        return match api.forwarded && !shard.leads_metadata() {
            false => (api.start)(cx, body),
            true => forward::start(cx, body),
        };
    }
    // A client that asks in a version of tomorrow is told in the version that everybody reads (KIP-511).
    if api.key == api_versions::KEY {
        return api_versions::start_unsupported(cx);
    }
    let why = format!("{} version {} is not served", api.name, cx.version);
    close(ProtocolError::UnsupportedVersion, why)
}

/// What a request for an API that is not served says about its client, if it is not one of another version.
#[cold]
fn stranger(header: &RequestHeader, body: &[u8]) -> Option<Speaks> {
    const SASL: [i16; 2] = [17, 36];
    let known = || kafka_wire::API_DESCRIPTORS.iter().any(|api| api.api_key.value() == header.api_key);
    match header.api_key {
        key if SASL.contains(&key) => Some(Speaks::Sasl),
        _ if known() => None,
        // What was taken for a header is the beginning of what came.
        key => {
            let (version, id) = (header.api_version.to_be_bytes(), header.correlation_id.to_be_bytes());
            let header = [&key.to_be_bytes()[..], &version, &id];
            Some(Speaks::by_frame(&[&header.concat(), body].concat()))
        }
    }
}
