//! Requests out of frames, answers into frames.

use bytes::{BufMut, BytesMut};
use kafka_wire_core::{ApiVersion, DecodeError, Decoder, KafkaDecode, KafkaEncode};

use super::request::{Cx, Outcome, Pending};
use crate::shard::metrics::ProtocolError;
use crate::wire::frame;

pub fn close(error: ProtocolError, reason: String) -> Pending {
    Box::pin(std::future::ready(Outcome::Close(error, reason)))
}

pub fn malformed(name: &str, e: &dyn std::fmt::Display) -> Outcome {
    Outcome::Close(ProtocolError::Malformed, format!("malformed {name} request: {e}"))
}

/// Decodes a request whose handler takes the message. Bytes after it are ignored: librdkafka leaves some behind
/// when it asks for all topics, and Kafka does not look.
pub fn decode<Q: KafkaDecode>(cx: &Cx, body: BytesMut) -> Result<Q, DecodeError> {
    let limits = frame::decode_limits(cx.shard.settings().max_frame_bytes);
    let mut decoder = Decoder::new(body.freeze(), limits)?;
    Q::decode(&mut decoder, ApiVersion::new(cx.version))
}

/// Encodes a response with its header and length.
pub fn respond<R: KafkaEncode>(cx: &Cx, response: &R) -> Outcome {
    respond_in(cx, response, cx.version)
}

pub fn respond_in<R: KafkaEncode>(cx: &Cx, response: &R, version: i16) -> Outcome {
    let mut out = BytesMut::with_capacity(256);
    out.put_i32(0);
    out.put_i32(cx.correlation_id);
    if frame::response_header_version(cx.api.key, version) == 1 {
        out.put_u8(0);
    }
    if let Err(e) = response.encode_into(&mut out, ApiVersion::new(version)) {
        log::error!("a response to API {} version {version} does not encode: {e}", cx.api.key);
        let why = "internal error: the response does not encode".into();
        return Outcome::Close(ProtocolError::Malformed, why);
    }
    let length = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Outcome::Respond(vec![out.freeze()])
}
