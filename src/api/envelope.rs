//! Envelope: a client's request that another broker hands on, to be carried out by the controller as if the client had come
//! to it (KIP-590). Brokers only.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_wire::{EnvelopeRequest, EnvelopeResponse};

use super::authorize::Rights;
use super::common::build;
use super::request::{Api, Cx, Outcome};
use crate::peer::keys;
use crate::security::{Operation, Principal, Resource};
use crate::shard::context::ConnectionContext;
use crate::wire::ErrorCode;
use crate::wire::frame::{self, RequestHeader};

/// Tag of the name of the listener that the client came in by.
const LISTENER: u32 = keys::TAG;
/// Tag of the newest metadata that the answer may rest on.
const APPLIED: u32 = keys::TAG;

/// A request as its client's broker hands it on.
pub fn wrap(cx: &Cx, body: &[u8]) -> EnvelopeRequest {
    build(|r: &mut EnvelopeRequest| {
        let header = RequestHeader {
            api_key: cx.api.key,
            api_version: cx.version,
            correlation_id: cx.correlation_id,
            client_id: cx.client_id.clone(),
        };
        let mut data = BytesMut::with_capacity(64 + body.len());
        frame::put_header(&header, &mut data);
        data.put_slice(body);
        r.request_data = data.freeze();
        r.request_principal = Some(match cx.connection.principal() {
            Principal::Anonymous => Bytes::new(),
            Principal::User(name) => Bytes::copy_from_slice(name.as_bytes()),
        });
        r.client_host_address = match cx.connection.peer.ip().to_canonical() {
            IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
            IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
        };
        let listener = Bytes::copy_from_slice(cx.connection.listener.name.as_bytes());
        r.unknown_tagged_fields = keys::tags([(LISTENER, listener)]);
    })
}

/// What came back: the response's frame, and the metadata that has to be applied before it is given to the client.
pub fn unwrap(response: &EnvelopeResponse) -> Result<(Bytes, u64), ErrorCode> {
    match ErrorCode::from_code(response.error_code) {
        ErrorCode::None => {}
        error => return Err(error),
    }
    let data = response.response_data.clone().ok_or(ErrorCode::InvalidRequest)?;
    let applied = keys::tagged(&response.unknown_tagged_fields, APPLIED);
    let applied = applied.and_then(|data| keys::offset_of(&data)).unwrap_or(0);
    let mut frame = BytesMut::with_capacity(4 + data.len());
    frame.put_i32(data.len() as i32);
    frame.put_slice(&data);
    Ok((frame.freeze(), applied))
}

/// An API by its key.
pub type Find = fn(i16) -> Option<&'static Api>;

pub async fn handle(cx: &Cx, request: EnvelopeRequest, find: Find) -> EnvelopeResponse {
    let answered = match cx.authorize(Operation::ClusterAction, Resource::Cluster) {
        Err(error) => Err(error),
        Ok(()) if !cx.shard.leads_metadata() => Err(ErrorCode::NotController),
        Ok(()) => carry_out(cx, request, find).await,
    };
    build(|r: &mut EnvelopeResponse| match answered {
        Ok(data) => {
            r.response_data = Some(data);
            let applied = keys::offset_tag(cx.shard.image().version);
            r.unknown_tagged_fields = keys::tags([(APPLIED, applied)]);
        }
        Err(error) => {
            cx.count(error);
            r.error_code = error.code();
        }
    })
}

async fn carry_out(cx: &Cx, request: EnvelopeRequest, find: Find) -> Result<Bytes, ErrorCode> {
    let client = client(cx, &request).ok_or(ErrorCode::PrincipalDeserializationFailure)?;
    let mut body = BytesMut::from(request.request_data);
    let header = frame::parse_header(&mut body).map_err(|_| ErrorCode::InvalidRequest)?;
    let api = find(header.api_key).filter(|api| api.forwarded && api.serves(header.api_version));
    let api = api.ok_or(ErrorCode::UnsupportedVersion)?;
    let inner = Cx {
        shard: cx.shard.clone(),
        api,
        version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        connection: Rc::new(client),
    };
    match (api.start)(inner, body).await {
        Outcome::Respond(slices) | Outcome::Fetched(slices, _) | Outcome::Throttled(slices, ..) => {
            let mut frame = Bytes::from(slices.concat());
            // The envelope has a length of its own.
            frame.advance(4.min(frame.len()));
            Ok(frame)
        }
        Outcome::Silent | Outcome::Close(..) => Err(ErrorCode::InvalidRequest),
    }
}

/// The client's connection, as its broker tells of it.
fn client(cx: &Cx, request: &EnvelopeRequest) -> Option<ConnectionContext> {
    let principal = match request.request_principal.as_deref() {
        None | Some([]) => Principal::Anonymous,
        Some(name) => Principal::User(std::str::from_utf8(name).ok()?.into()),
    };
    let address = &request.client_host_address[..];
    let address = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        (Ok(v4), _) => IpAddr::V4(Ipv4Addr::from(v4)),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return None,
    };
    let name = keys::tagged(&request.unknown_tagged_fields, LISTENER)?;
    let name = std::str::from_utf8(&name).ok()?;
    Some(cx.connection.on_behalf(address, name, principal, &cx.shard.settings().listeners))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_response_is_an_error() {
        let response = |code: i16, data: Option<&'static [u8]>| {
            build(|r: &mut EnvelopeResponse| {
                r.error_code = code;
                r.response_data = data.map(Bytes::from_static);
            })
        };
        assert_eq!(unwrap(&response(41, None)), Err(ErrorCode::NotController));
        assert_eq!(unwrap(&response(0, None)), Err(ErrorCode::InvalidRequest));
        assert_eq!(unwrap(&response(0, Some(b"abc"))), Ok((Bytes::from_static(b"\0\0\0\x03abc"), 0)));
        let mut told = response(0, Some(b""));
        told.unknown_tagged_fields = keys::tags([(APPLIED, keys::offset_tag(7))]);
        assert_eq!(unwrap(&told), Ok((Bytes::from_static(&[0; 4]), 7)));
    }
}
