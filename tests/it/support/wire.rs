//! One blocking connection that speaks Kafka frames, well-formed or not.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::{
    ApiVersionsRequest, ApiVersionsResponse, KafkaRequest, OutboundFrameLimits, RequestResponsePair,
    encode_request, response_header_version_for,
};
use kafka_wire_core::{ApiVersion, DecodeLimits, Decoder, KafkaDecode, KafkaEncode};

/// Long enough for a loaded machine, short enough that a hang fails the test and not the run.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Wire {
    pub stream: TcpStream,
    /// The client id of what is sent.
    pub client: String,
    next: i32,
}

const CLIENT: &str = "weir-tests";

impl Wire {
    pub fn connect(addr: SocketAddr) -> Wire {
        Wire::try_connect(addr).expect("connect")
    }

    /// For tests in which the broker comes and goes.
    pub fn try_connect(addr: SocketAddr) -> std::io::Result<Wire> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream, client: CLIENT.into(), next: 1 })
    }

    /// One request and its answer.
    pub fn call<R: RequestResponsePair + KafkaEncode>(&mut self, version: i16, request: &R) -> R::Response {
        let correlation = self.send(version, request);
        self.receive::<R>(version, correlation)
    }

    /// Likewise, of a broker that may go; `None` where the connection ends before the answer.
    pub fn try_call<R: RequestResponsePair + KafkaEncode>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Option<R::Response> {
        let correlation = self.next;
        self.next += 1;
        if !self.send_rude(&frame_of(&self.client, version, correlation, request)) {
            return None;
        }
        Some(decode_reply::<R>(version, correlation, self.receive_frame()?))
    }

    /// Sends without waiting: the correlation id that the answer will carry.
    pub fn send<R: KafkaRequest + KafkaEncode>(&mut self, version: i16, request: &R) -> i32 {
        let correlation = self.next;
        self.next += 1;
        self.send_raw(&frame_of(&self.client, version, correlation, request));
        correlation
    }

    /// The next answer, which must be the one to `correlation`.
    pub fn receive<R: RequestResponsePair>(&mut self, version: i16, correlation: i32) -> R::Response {
        let name = R::API_DESCRIPTOR.request.name;
        let reply = self.receive_frame().unwrap_or_else(|| panic!("{name} v{version}: connection closed"));
        decode_reply::<R>(version, correlation, reply)
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send");
    }

    /// Sends what it can: a broker that has seen enough, or that was killed, closes before the last byte.
    pub fn send_rude(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame's body; `None` when the broker closed the connection.
    pub fn receive_frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        if !read_all(&mut self.stream, &mut length) {
            return None;
        }
        let length =
            usize::try_from(i32::from_be_bytes(length)).expect("a reply length that is not negative");
        assert!(length < 256 << 20, "a reply of {length} bytes");
        let mut body = vec![0; length];
        read_all(&mut self.stream, &mut body).then(|| Bytes::from(body))
    }

    /// Asserts that the broker closes this connection without another answer.
    pub fn assert_closed(&mut self, what: &str) {
        if let Some(reply) = self.receive_frame() {
            panic!("{what}: expected a closed connection, got a reply of {} bytes", reply.len());
        }
    }

    pub fn api_versions(&mut self) -> ApiVersionsResponse {
        let mut request = ApiVersionsRequest::default();
        request.client_software_name = "weir-tests".into();
        request.client_software_version = "1".into();
        self.call(3, &request)
    }
}

/// A whole request frame, length prefix included.
pub fn frame<R: KafkaRequest + KafkaEncode>(version: i16, correlation: i32, request: &R) -> Bytes {
    frame_of(CLIENT, version, correlation, request)
}

fn frame_of<R: KafkaRequest + KafkaEncode>(
    client: &str,
    version: i16,
    correlation: i32,
    request: &R,
) -> Bytes {
    let mut buffer = BytesMut::new();
    let limits = OutboundFrameLimits::new(1 << 30);
    encode_request(&mut buffer, correlation, Some(client.into()), request, ApiVersion::new(version), limits)
        .unwrap_or_else(|error| panic!("{} v{version}: {error}", R::API_DESCRIPTOR.request.name));
    buffer.freeze()
}

/// Decodes a reply and insists that every byte of it was meant.
pub fn decode_reply<R: RequestResponsePair>(version: i16, correlation: i32, reply: Bytes) -> R::Response {
    let name = R::API_DESCRIPTOR.request.name;
    let header = response_header_version_for::<R>(ApiVersion::new(version)).expect("a known version");
    let mut decoder = Decoder::new(reply, DecodeLimits::default()).expect("a reply within limits");
    let seen = decoder.read_i32().expect("a correlation id");
    assert_eq!(seen, correlation, "{name} v{version}: answers leave in request order");
    if header >= 1 {
        decoder.read_tagged_fields().expect("header tags");
    }
    let response = R::Response::decode(&mut decoder, ApiVersion::new(version))
        .unwrap_or_else(|error| panic!("{name} v{version}: {error}"));
    decoder.finish().unwrap_or_else(|error| panic!("{name} v{version}: {error}"));
    response
}

/// Fills `buffer`; false when the peer closed or reset first. Waiting in vain is a failure.
fn read_all(stream: &mut TcpStream, buffer: &mut [u8]) -> bool {
    match stream.read_exact(buffer) {
        Ok(()) => true,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("no answer within {PATIENCE:?}")
        }
        Err(_) => false,
    }
}
