//! One connection to one broker: version negotiation, framing, a request and its answer.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use kafka_wire::{
    ApiVersionsRequest, ApiVersionsResponse, KafkaMessage, KafkaRequest, OutboundFrameLimits,
    RequestResponsePair, encode_request, response_header_version_for,
};
use kafka_wire_core::{ApiVersion, DecodeLimits, Decoder, KafkaDecode, StrBytes};

use super::{ClientError, message};
use crate::wire::error_code::ErrorCode;

/// Largest answer accepted. A fetch of `max_bytes` may exceed it by one batch.
const MAX_RESPONSE_BYTES: usize = 256 << 20;
/// An answer's buffer grows by at most this before the bytes have arrived.
const GROW_BYTES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub struct Options {
    pub client_id: String,
    pub connect_timeout: Duration,
    /// Longest wait for an answer, on top of any wait that the request itself asks for.
    pub request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            client_id: "weir".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
        }
    }
}

pub struct Connection {
    stream: TcpStream,
    address: String,
    client_id: StrBytes,
    options: Options,
    versions: HashMap<i16, (i16, i16)>,
    next_correlation_id: i32,
    /// Set once an exchange failed halfway: what arrives next could belong to anything.
    broken: bool,
}

impl Connection {
    /// Connects to `host:port` and learns which versions the broker serves.
    pub fn connect(address: &str, options: &Options) -> Result<Connection, ClientError> {
        let stream = open(address, options.connect_timeout)
            .map_err(|error| ClientError::Connect { address: address.to_owned(), error })?;
        let mut connection = Connection {
            stream,
            address: address.to_owned(),
            client_id: StrBytes::from(options.client_id.as_str()),
            options: options.clone(),
            versions: HashMap::new(),
            next_correlation_id: 1,
            broken: false,
        };
        connection.negotiate()?;
        Ok(connection)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// False once an exchange failed: the connection must be replaced.
    pub fn is_usable(&self) -> bool {
        !self.broken
    }

    /// The highest version of `R` that both sides speak.
    pub fn version_of<R: KafkaRequest>(&self) -> Result<i16, ClientError> {
        let ours = R::SUPPORTED_VERSIONS;
        let unsupported = || ClientError::Unsupported { address: self.address.clone(), what: name::<R>() };
        let (least, most) = self.versions.get(&R::API_KEY.value()).ok_or_else(unsupported)?;
        let version = ours.max().value().min(*most);
        match version >= ours.min().value().max(*least) {
            true => Ok(version),
            false => Err(unsupported()),
        }
    }

    /// Sends a request at the highest common version and waits for its answer.
    pub fn call<R: RequestResponsePair>(&mut self, request: &R) -> Result<R::Response, ClientError> {
        let version = self.version_of::<R>()?;
        self.call_at(request, version)
    }

    /// Sends a request at a version and waits for its answer.
    pub fn call_at<R: RequestResponsePair>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        let body = self.exchange(request, version, Duration::ZERO)?;
        self.decode::<R>(body, version)
    }

    /// As [`Connection::call`], for a request that asks the broker to wait up to `patience`.
    pub fn call_waiting<R: RequestResponsePair>(
        &mut self,
        request: &R,
        patience: Duration,
    ) -> Result<R::Response, ClientError> {
        let version = self.version_of::<R>()?;
        let body = self.exchange(request, version, patience)?;
        self.decode::<R>(body, version)
    }

    /// Sends a request that the broker does not answer (Produce with acks=0).
    pub fn send_only<R: KafkaRequest>(&mut self, request: &R) -> Result<(), ClientError> {
        let version = self.version_of::<R>()?;
        let correlation_id = self.take_correlation_id();
        let frame = self.frame(request, version, correlation_id)?;
        self.write(&frame, name::<R>())
    }

    /// The whole frame of a request, length prefix included.
    pub fn frame<R: KafkaRequest>(
        &self,
        request: &R,
        version: i16,
        correlation_id: i32,
    ) -> Result<Bytes, ClientError> {
        let mut frame = BytesMut::new();
        encode_request(
            &mut frame,
            correlation_id,
            Some(self.client_id.clone()),
            request,
            ApiVersion::new(version),
            OutboundFrameLimits::new(i32::MAX as usize),
        )
        .map_err(|e| ClientError::Encode { what: name::<R>(), detail: e.to_string() })?;
        Ok(frame.freeze())
    }

    /// Gives up the negotiated socket to a caller that drives it itself.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn negotiate(&mut self) -> Result<(), ClientError> {
        let request = message::<ApiVersionsRequest>(|r| {
            r.client_software_name = StrBytes::from("weir");
            r.client_software_version = StrBytes::from(env!("CARGO_PKG_VERSION"));
        });
        let mut answer = self.ask_versions(&request, 3)?;
        if answer.error_code == ErrorCode::UnsupportedVersion.code() {
            answer = self.ask_versions(&request, 0)?;
        }
        super::KafkaError::check(answer.error_code, None)
            .map_err(ClientError::kafka(format!("{}: ApiVersions", self.address)))?;
        self.versions = answer.api_keys.iter().map(|k| (k.api_key, (k.min_version, k.max_version))).collect();
        Ok(())
    }

    /// A broker that does not know the version answers in version 0, whose body starts with error 35.
    fn ask_versions(
        &mut self,
        request: &ApiVersionsRequest,
        version: i16,
    ) -> Result<ApiVersionsResponse, ClientError> {
        let body = self.exchange(request, version, Duration::ZERO)?;
        let unsupported = ErrorCode::UnsupportedVersion.code().to_be_bytes();
        let version = if body.starts_with(&unsupported) { 0 } else { version };
        self.decode::<ApiVersionsRequest>(body, version)
    }

    fn exchange<R: KafkaRequest>(
        &mut self,
        request: &R,
        version: i16,
        patience: Duration,
    ) -> Result<Bytes, ClientError> {
        let correlation_id = self.take_correlation_id();
        let frame = self.frame(request, version, correlation_id)?;
        self.broken = true;
        self.write(&frame, name::<R>())?;
        let mut answer = self.read_frame(name::<R>(), self.options.request_timeout + patience)?;
        let malformed = |detail: &str| ClientError::Malformed {
            address: self.address.clone(),
            what: name::<R>(),
            detail: detail.to_owned(),
        };
        let got = answer.try_get_i32().map_err(|_| malformed("the answer is empty"))?;
        if got != correlation_id {
            return Err(malformed(&format!("correlation id {got} instead of {correlation_id}")));
        }
        let flexible = response_header_version_for::<R>(ApiVersion::new(version))
            .map_err(|e| ClientError::Encode { what: name::<R>(), detail: e.to_string() })?;
        if flexible >= 1 {
            let mut header = Decoder::new(answer.clone(), limits()).map_err(|e| malformed(&e.to_string()))?;
            header.read_tagged_fields().map_err(|e| malformed(&e.to_string()))?;
            answer.advance(answer.len() - header.remaining());
        }
        self.broken = false;
        Ok(answer)
    }

    fn decode<R: RequestResponsePair>(&self, body: Bytes, version: i16) -> Result<R::Response, ClientError> {
        R::Response::decode_from_bytes(body, ApiVersion::new(version), limits()).map_err(|e| {
            ClientError::Malformed { address: self.address.clone(), what: name::<R>(), detail: e.to_string() }
        })
    }

    fn take_correlation_id(&mut self) -> i32 {
        let id = self.next_correlation_id;
        self.next_correlation_id = id.checked_add(1).unwrap_or(1);
        id
    }

    fn write(&mut self, frame: &[u8], what: &'static str) -> Result<(), ClientError> {
        let address = &self.address;
        let io = |error| ClientError::Io { address: address.clone(), what, error };
        self.stream.set_write_timeout(Some(self.options.request_timeout)).map_err(io)?;
        self.stream.write_all(frame).map_err(io)
    }

    /// One frame, without its length prefix; the buffer grows only as bytes arrive.
    fn read_frame(&mut self, what: &'static str, patience: Duration) -> Result<Bytes, ClientError> {
        let deadline = Instant::now() + patience;
        let mut prefix = [0u8; 4];
        self.read_exact(&mut prefix, what, deadline, patience)?;
        let length = i32::from_be_bytes(prefix);
        let length = usize::try_from(length).ok().filter(|n| *n <= MAX_RESPONSE_BYTES).ok_or_else(|| {
            let detail = format!("a length of {length}");
            ClientError::Malformed { address: self.address.clone(), what, detail }
        })?;
        let mut frame = BytesMut::new();
        while frame.len() < length {
            let start = frame.len();
            frame.resize(length.min(start + GROW_BYTES.max(start)), 0);
            self.read_exact(&mut frame[start..], what, deadline, patience)?;
        }
        Ok(frame.freeze())
    }

    fn read_exact(
        &mut self,
        mut into: &mut [u8],
        what: &'static str,
        deadline: Instant,
        patience: Duration,
    ) -> Result<(), ClientError> {
        let address = || self.address.clone();
        while !into.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = ClientError::Timeout { address: address(), what, seconds: patience.as_secs() };
            if left.is_zero() {
                return Err(timeout);
            }
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(into));
            match read {
                Ok(0) => return Err(ClientError::Closed { address: address(), what }),
                Ok(n) => into = &mut into[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(timeout);
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(ClientError::Closed { address: address(), what });
                }
                Err(error) => return Err(ClientError::Io { address: address(), what, error }),
            }
        }
        Ok(())
    }
}

fn open(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for resolved in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&resolved, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `MetadataRequest` is asked for as `Metadata`.
fn name<R: KafkaMessage>() -> &'static str {
    R::NAME.trim_end_matches("Request")
}

fn limits() -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_frame_bytes = MAX_RESPONSE_BYTES;
    limits.max_bytes_bytes = MAX_RESPONSE_BYTES;
    limits
}

#[cfg(test)]
mod tests;
