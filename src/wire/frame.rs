//! The request header, its versions, and the limits of decoding.
//!
//! ```text
//! request   api key i16 · api version i16 · correlation id i32 · client id nullable string · [tags: v2] · body
//! response  length i32 · correlation id i32 · [tags: v1] · body
//! ```
//! A request header is v2, a response header v1, where the API's version is flexible; the response to
//! ApiVersions is always v0, so that a client can read it before it knows the broker.

use bytes::{BufMut, BytesMut};
use kafka_wire_core::{DecodeLimits, StrBytes};

use super::read::{Reader, WireError};

pub const API_VERSIONS: i16 = 18;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<StrBytes>,
}

/// Splits the header off the front of a frame (without its length) and leaves the body.
///
/// For an API or version that is not known, what is left is not meaningful and must not be parsed: only
/// the header's fixed part is read then.
pub fn parse_header(frame: &mut BytesMut) -> Result<RequestHeader, WireError> {
    let mut reader = Reader::new(std::mem::take(frame));
    let api_key = reader.i16("the API key")?;
    let api_version = reader.i16("the API version")?;
    let correlation_id = reader.i32("the correlation id")?;
    let mut client_id = None;
    if let Some(flexible) = flexible(api_key, api_version) {
        client_id = reader.nullable_string(false, "the client id")?;
        if flexible {
            reader.skip_tags("the header's tagged fields")?;
        }
    }
    *frame = reader.into_rest();
    Ok(RequestHeader { api_key, api_version, correlation_id, client_id })
}

/// Writes the header of a request of Kafka's, as [`parse_header`] reads it.
pub fn put_header(header: &RequestHeader, out: &mut BytesMut) {
    out.put_i16(header.api_key);
    out.put_i16(header.api_version);
    out.put_i32(header.correlation_id);
    let Some(flexible) = flexible(header.api_key, header.api_version) else { return };
    match &header.client_id {
        None => out.put_i16(-1),
        Some(id) => {
            out.put_i16(id.len() as i16);
            out.put_slice(id.as_bytes());
        }
    }
    if flexible {
        out.put_u8(0);
    }
}

/// Whether this version of an API has tagged fields; `None` where it is not known at all.
pub fn flexible(api_key: i16, api_version: i16) -> Option<bool> {
    let range = VERSIONS.get(usize::try_from(api_key).ok()?)?;
    if api_version < range.min || api_version > range.max {
        return None;
    }
    Some(api_version >= range.flexible_from)
}

/// 1 where the response header has tagged fields.
pub fn response_header_version(api_key: i16, api_version: i16) -> i16 {
    i16::from(api_key != API_VERSIONS && flexible(api_key, api_version) == Some(true))
}

#[derive(Clone, Copy)]
struct Versions {
    min: i16,
    max: i16,
    flexible_from: i16,
}

const UNKNOWN: Versions = Versions { min: 1, max: 0, flexible_from: i16::MAX };

/// By API key, from the generated descriptors.
static VERSIONS: [Versions; 128] = {
    let mut table = [UNKNOWN; 128];
    let mut i = 0;
    while i < kafka_wire::API_DESCRIPTORS.len() {
        let api = &kafka_wire::API_DESCRIPTORS[i];
        let key = api.api_key.value();
        assert!(key >= 0 && (key as usize) < table.len());
        table[key as usize] = Versions {
            min: api.request.supported_versions.min().value(),
            max: api.request.supported_versions.max().value(),
            flexible_from: match api.request.flexible_versions {
                Some(range) => range.min().value(),
                None => i16::MAX,
            },
        };
        i += 1;
    }
    table
};

/// What one request may make the decoder hold. Arrays are bounded well below what a frame could claim:
/// an element in memory is many times its size on the wire.
pub fn decode_limits(max_frame_bytes: usize) -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_frame_bytes = max_frame_bytes;
    limits.max_string_bytes = super::read::MAX_STRING;
    limits.max_bytes_bytes = max_frame_bytes;
    limits.max_array_elements = 100_000;
    limits.max_tagged_fields = 256;
    limits.max_tag_bytes = 64 * 1024;
    limits.max_total_tag_bytes = 256 * 1024;
    limits
}

#[cfg(test)]
mod tests {
    use kafka_wire_core::{ApiVersion, BytesMut as Buffer, KafkaEncode};

    use super::*;

    fn header(key: i16, version: i16, header_version: i16, client: Option<&str>) -> BytesMut {
        let mut header = kafka_wire::RequestHeader::default();
        header.request_api_key = key;
        header.request_api_version = version;
        header.correlation_id = 77;
        header.client_id = client.map(StrBytes::from);
        let mut buffer = Buffer::new();
        header.encode_into(&mut buffer, ApiVersion::new(header_version)).unwrap();
        buffer.extend_from_slice(b"body");
        buffer
    }

    #[test]
    fn headers_match_the_generated_encoder() {
        for api in kafka_wire::API_DESCRIPTORS {
            let range = api.request.supported_versions;
            for version in range.min().value()..=range.max().value() {
                let flexible =
                    api.request.flexible_versions.is_some_and(|f| f.contains(ApiVersion::new(version)));
                for client in [None, Some(""), Some("rdkafka")] {
                    let key = api.api_key.value();
                    let mut frame = header(key, version, 1 + i16::from(flexible), client);
                    let whole = frame.clone();
                    let parsed = parse_header(&mut frame).unwrap();
                    assert_eq!((parsed.api_key, parsed.api_version), (key, version));
                    assert_eq!(parsed.correlation_id, 77);
                    assert_eq!(parsed.client_id.as_deref(), client);
                    assert_eq!(&frame[..], b"body");
                    let mut again = BytesMut::new();
                    put_header(&parsed, &mut again);
                    again.extend_from_slice(b"body");
                    assert_eq!(again, whole);
                    assert_eq!(response_header_version(key, version), i16::from(flexible && key != 18));
                }
            }
        }
    }

    #[test]
    fn an_unknown_api_or_version_still_has_its_correlation_id() {
        for (key, version) in [(18, 99), (999, 0), (-5, 3), (0, 2)] {
            let mut frame = header(key, version, 1, Some("x"));
            let parsed = parse_header(&mut frame).unwrap();
            assert_eq!((parsed.correlation_id, parsed.client_id), (77, None));
            assert_eq!(response_header_version(key, version), 0);
        }
    }

    #[test]
    fn cut_and_hostile_headers_are_errors() {
        let whole = header(3, 12, 2, Some("client"));
        for len in 0..whole.len() - 4 {
            assert!(parse_header(&mut BytesMut::from(&whole[..len])).is_err(), "{len}");
        }
        let hostile: &[&[u8]] = &[
            &[0, 3, 0, 1, 0, 0, 0, 0, 0x80, 0],
            &[0, 3, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, b'a'],
            &[0, 3, 0, 1, 0, 0, 0, 0, 0, 2, 0xff, 0xfe],
            &[0, 3, 0, 12, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0, 3, 0, 12, 0, 0, 0, 0, 0xff, 0xff, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ];
        for bytes in hostile {
            assert!(parse_header(&mut BytesMut::from(*bytes)).is_err(), "{bytes:?}");
        }
    }
}
