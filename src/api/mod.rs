//! The Kafka APIs, one file each; [`table`] is the only registry. Kafka's error codes appear here and nowhere below.
//!
//! A handler gets its request decoded and answers with a response message. Produce and Fetch are different: they take
//! the frame apart and put it together themselves, so that no payload is copied.

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod add_raft_voter;
pub mod alter_client_quotas;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod api_versions;
pub mod authorize;
pub mod brokers;
mod common;
pub mod create_acls;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_acls;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod describe_user_scram_credentials;
pub mod elect_leaders;
pub mod end_txn;
pub mod envelope;
pub mod features;
pub mod fetch;
pub mod find_coordinator;
mod forward;
mod groups;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod remove_raft_voter;
pub mod sync_group;
pub mod table;
mod throttle;
mod transactions;
pub mod txn_offset_commit;
pub mod unregister_broker;
pub mod update_features;
pub mod write_txn_markers;

use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire_core::{ApiVersion, DecodeError, Decoder, KafkaDecode, KafkaEncode, StrBytes};

use crate::partition::ReadError;
use crate::rt::{self, Charge};
use crate::shard::Shard;
use crate::shard::context::ConnectionContext;
use crate::shard::metrics::ProtocolError;
use crate::shard::strangers::{self, Door};
use crate::wire::error_code::ErrorCode;
use crate::wire::frame::{self, RequestHeader};
use crate::wire::stranger::Speaks;

/// The isolation level of who reads committed data only (KIP-98); 0 is of who reads all, and others there are none.
const READ_COMMITTED: i8 = 1;

/// What a handler knows of its request.
#[derive(Clone)]
pub struct Cx {
    pub shard: Rc<Shard>,
    pub version: i16,
    pub correlation_id: i32,
    pub api_key: i16,
    pub client_id: Option<StrBytes>,
    pub connection: Rc<ConnectionContext>,
}

impl Cx {
    /// Counts an error that a response carries.
    pub fn count(&self, code: ErrorCode) {
        if code != ErrorCode::None {
            self.shard.metrics.error(self.api_key, code.code());
        }
    }
}

/// What becomes of a request.
pub enum Outcome {
    /// A whole frame, length prefix included, in slices that leave in one send.
    Respond(Vec<Bytes>),
    /// Likewise, in memory that was taken for it.
    Fetched(Vec<Bytes>, Charge),
    /// Likewise, or nothing; and then the client is not listened to for this long.
    Throttled(Vec<Bytes>, Option<Charge>, Duration),
    /// A request that is never answered (Produce with acks=0).
    Silent,
    /// The connection ends: the stream, or the client's state, can no longer be trusted.
    Close(ProtocolError, String),
}

pub type Pending = Pin<Box<dyn Future<Output = Outcome>>>;

/// Starts a request. Its ordered part is done when this returns; the future is its answer.
pub fn start(
    shard: &Rc<Shard>,
    connection: &Rc<ConnectionContext>,
    header: RequestHeader,
    body: BytesMut,
) -> Pending {
    let cx = Cx {
        shard: shard.clone(),
        version: header.api_version,
        correlation_id: header.correlation_id,
        api_key: header.api_key,
        client_id: header.client_id,
        connection: connection.clone(),
    };
    match table::find(cx.api_key) {
        Some(api) if api.for_brokers && connection.broker.is_none() => {
            strangers::note(Door::Kafka, connection.peer, connection.local, Speaks::Broker, rt::unix_ms());
            close(ProtocolError::UnknownApi, format!("{} is for brokers, on the cluster listener", api.name))
        }
        Some(api) if api.serves(cx.version) => {
            rt::stall::running(api.name);
            match api.forwarded && !shard.leads_metadata() {
                false => (api.start)(cx, body),
                true => forward::start(api, cx, body),
            }
        }
        // A client that asks in a version of tomorrow is told in the version that everybody reads (KIP-511).
        Some(api) if api.key == table::API_VERSIONS => api_versions::start_unsupported(cx),
        Some(api) => {
            let why = format!("{} version {} is not served", api.name, cx.version);
            close(ProtocolError::UnsupportedVersion, why)
        }
        None => {
            if let Some(speaks) = stranger(&cx, &body) {
                strangers::note(Door::Kafka, connection.peer, connection.local, speaks, rt::unix_ms());
            }
            close(ProtocolError::UnknownApi, format!("API key {} is not served", cx.api_key))
        }
    }
}

/// What a request for an API that is not served says about its client, if it is not one of another version.
#[cold]
fn stranger(cx: &Cx, body: &[u8]) -> Option<Speaks> {
    const SASL: [i16; 2] = [17, 36];
    let known = || kafka_wire::API_DESCRIPTORS.iter().any(|api| api.api_key.value() == cx.api_key);
    match cx.api_key {
        key if SASL.contains(&key) => Some(Speaks::Sasl),
        _ if known() => None,
        // What was taken for a header is the beginning of what came.
        key => {
            let header =
                [&key.to_be_bytes()[..], &cx.version.to_be_bytes(), &cx.correlation_id.to_be_bytes()];
            Some(Speaks::by_frame(&[&header.concat(), body].concat()))
        }
    }
}

fn close(error: ProtocolError, reason: String) -> Pending {
    Box::pin(std::future::ready(Outcome::Close(error, reason)))
}

fn malformed(name: &str, e: &dyn std::fmt::Display) -> Outcome {
    Outcome::Close(ProtocolError::Malformed, format!("malformed {name} request: {e}"))
}

/// Decodes a request whose handler takes the message. Bytes after it are ignored: librdkafka leaves some behind
/// when it asks for all topics, and Kafka does not look.
fn decode<Q: KafkaDecode>(cx: &Cx, body: BytesMut) -> Result<Q, DecodeError> {
    let limits = frame::decode_limits(cx.shard.settings().max_frame_bytes);
    let mut decoder = Decoder::new(body.freeze(), limits)?;
    Q::decode(&mut decoder, ApiVersion::new(cx.version))
}

/// Encodes a response with its header and length.
fn respond<R: KafkaEncode>(cx: &Cx, response: &R) -> Outcome {
    respond_in(cx, response, cx.version)
}

fn respond_in<R: KafkaEncode>(cx: &Cx, response: &R, version: i16) -> Outcome {
    let mut out = BytesMut::with_capacity(256);
    out.put_i32(0);
    out.put_i32(cx.correlation_id);
    if frame::response_header_version(cx.api_key, version) == 1 {
        out.put_u8(0);
    }
    if let Err(e) = response.encode_into(&mut out, ApiVersion::new(version)) {
        log::error!("a response to API {} version {version} does not encode: {e}", cx.api_key);
        let why = "internal error: the response does not encode".into();
        return Outcome::Close(ProtocolError::Malformed, why);
    }
    let length = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Outcome::Respond(vec![out.freeze()])
}

/// The Kafka error of a failed read or lookup.
fn read_error(e: &ReadError) -> ErrorCode {
    match e {
        ReadError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        ReadError::NotLeader => ErrorCode::NotLeaderOrFollower,
        ReadError::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        ReadError::OffsetNotAvailable => ErrorCode::OffsetNotAvailable,
        ReadError::FencedEpoch => ErrorCode::FencedLeaderEpoch,
        ReadError::UnknownEpoch => ErrorCode::UnknownLeaderEpoch,
        ReadError::Corrupt(_) => ErrorCode::CorruptMessage,
        ReadError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}
