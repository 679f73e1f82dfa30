//! Produce (KIP-98 batches only): takes the frame apart into one buffer a partition, hands each to its owner's shard in
//! order, and answers when they are stored as it asks for.

use std::time::Duration;

use bytes::BytesMut;
use kafka_wire::produce_response::{
    BatchIndexAndErrorMessage, NodeEndpoint, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use kafka_wire_core::{StrBytes, Uuid};

use super::authorize::Rights;
use super::common::{NO_LEADER, build};
use super::frames::{close, respond};
use super::request::{Cx, Outcome, Pending};
use super::throttle::{millis, with_wait};
use super::{errors, transactions};
use crate::model::{Offset, TopicId, WallMs};
use crate::partition::{Acks, AppendError};
use crate::security::quota::Kind;
use crate::security::{Operation, Resource};
use crate::shard::message::{Produce, ProduceEntry, ProduceError, ProduceResult, Transactional, Wait};
use crate::shard::metrics::ProtocolError;
use crate::shard::timing::Appending;
use crate::wire::ProducedBatch;
use crate::wire::batch::Compression;
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::ProduceFrame;
use crate::wire::validate::{RecordError, Refusal};

const ACKS_NONE: i16 = 0;
const ACKS_LEADER: i16 = 1;
const ACKS_ALL: i16 = -1;

/// What a partition's place in the response says.
struct Answer {
    code: ErrorCode,
    message: Option<String>,
    /// Records that the topic does not take (KIP-467).
    records: Vec<RecordError>,
    base_offset: Option<Offset>,
    log_append_time: Option<WallMs>,
    log_start_offset: Option<Offset>,
}

impl Answer {
    fn error(code: ErrorCode, message: Option<String>) -> Self {
        let records = Vec::new();
        Self { code, message, records, base_offset: None, log_append_time: None, log_start_offset: None }
    }
}

/// A partition of the request: answered already, or the n-th entry that its owner was sent.
enum Place {
    Answered(Answer),
    Sent { owner: usize, nth: usize },
}

struct TopicAnswer {
    name: StrBytes,
    id: TopicId,
    partitions: Vec<(i32, Place)>,
}

const FIRST_WITH_ZSTD: i16 = 7;
/// From here on a client that asked the wrong broker is told the leader's address (KIP-951).
const FIRST_WITH_LEADERS: i16 = 10;
/// From here on the client knows of transactions that it can only abort (KIP-1050).
const FIRST_ABORTABLE: i16 = 11;
/// From here on it relies on the broker to add partitions to its transaction (KIP-890).
const FIRST_IMPLICIT: i16 = 12;

pub fn start(cx: Cx, body: BytesMut) -> Pending {
    let size = body.len();
    let frame = match ProduceFrame::parse(body, cx.version) {
        Ok(frame) => frame,
        Err(e) => return close(ProtocolError::Malformed, format!("malformed Produce request: {e}")),
    };
    let (acks, timeout_ms) = (frame.acks, frame.timeout_ms.max(0) as u64);
    let transaction = frame
        .transactional_id
        .as_ref()
        .map(|id| Transactional { id: id.as_str().into(), implicit: cx.version >= FIRST_IMPLICIT });
    let nameless = frame.transactional_id.as_ref().is_none_or(|id| id.is_empty());
    let id = transaction.as_ref().map(|transaction| Resource::TransactionalId(&transaction.id));
    let denied = id.and_then(|id| cx.authorize(Operation::Write, id).err());
    let Routed { topics, groups, transactional } = route(&cx, frame);
    let refused = match acks {
        _ if denied.is_some() => denied,
        // Who writes in a transaction has to name it.
        ACKS_NONE | ACKS_LEADER | ACKS_ALL if nameless && transactional => {
            Some(ErrorCode::TransactionalIdAuthorizationFailed)
        }
        ACKS_NONE | ACKS_LEADER | ACKS_ALL => None,
        _ => Some(ErrorCode::InvalidRequiredAcks),
    };
    if let Some(code) = refused {
        return Box::pin(async move { answer_all(&cx, acks, topics, code) });
    }
    let wait = Wait { acks: awaited(acks), longest: Duration::from_millis(timeout_ms) };
    match &groups[..] {
        [(owner, _)] => cx.connection.affinity.lead_to(*owner),
        _ => cx.connection.affinity.scatter(),
    }
    // Everything is handed over in this loop, before the next request of the connection is looked at.
    let mut local = None;
    let mut remote = Vec::new();
    for (owner, entries) in groups {
        if owner == cx.shard.index() {
            local = Some(cx.shard.produce_for(transaction.clone(), entries, wait));
        } else {
            let request = Produce { entries, wait, transaction: transaction.clone() };
            remote.push((owner, cx.shard.port.call(owner, request)));
        }
    }
    Box::pin(async move {
        let timing = &cx.shard.metrics.timing;
        let mut appending = Appending::default();
        let mut results: Vec<Vec<Option<ProduceResult>>> =
            (0..cx.shard.count()).map(|_| Vec::new()).collect();
        if let Some(local) = local {
            results[cx.shard.index()] = local.await.into_iter().map(Some).collect();
            appending = timing.take_appending();
        }
        for (owner, call) in remote {
            let (answers, there) = call.await;
            results[owner] = answers.into_iter().map(Some).collect();
            appending = appending.and(there);
        }
        timing.note_appending(appending);
        let wait = cx.charge(Kind::Produce, size);
        with_wait(finish(&cx, acks, topics, results, millis(wait)), wait)
    })
}

fn awaited(acks: i16) -> Acks {
    match acks {
        ACKS_NONE => Acks::None,
        ACKS_LEADER => Acks::Leader,
        _ => Acks::All,
    }
}

/// A request's partitions as they are answered, and its batches by the shard that they go to.
struct Routed {
    topics: Vec<TopicAnswer>,
    groups: Vec<(usize, Vec<ProduceEntry>)>,
    /// Whether any batch says that it is part of a transaction.
    transactional: bool,
}

/// Sorts the batches by owner; what cannot be sent is answered here.
fn route(cx: &Cx, frame: ProduceFrame) -> Routed {
    let image = cx.shard.image();
    let mut groups: Vec<(usize, Vec<ProduceEntry>)> = Vec::new();
    let mut topics = Vec::with_capacity(frame.topics.len());
    let mut transactional = false;
    for produced in frame.topics {
        let by_id = cx.version >= 13;
        let topic = if by_id { image.topic_by_id(produced.id) } else { image.topic(&produced.name) };
        let unknown = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        let name = topic.map_or(&*produced.name, |topic| &topic.name);
        let denied = match topic {
            // An id that means nothing stands for no topic that could be denied.
            None if by_id => None,
            _ => cx.authorize(Operation::Write, Resource::Topic(name)).err(),
        };
        let mut partitions = Vec::with_capacity(produced.partitions.len());
        for partition in produced.partitions {
            let at = topic.and_then(|topic| cx.shard.leader_of(topic, partition.index));
            let known = topic.filter(|_| at.is_some());
            let batch = partition.records.map(ProducedBatch::parse);
            transactional |= matches!(&batch, Some(Ok(batch)) if batch.header.is_transactional());
            let place = match (known, batch) {
                _ if denied.is_some() => {
                    Place::Answered(Answer::error(denied.unwrap_or(ErrorCode::None), None))
                }
                (Some(topic), _) if topic.is_internal() && !is_admin(cx) => {
                    let message = format!("Cannot append to internal topic {}", topic.name);
                    Place::Answered(Answer::error(ErrorCode::InvalidTopicException, Some(message)))
                }
                (None, _) => {
                    let code = if topic.is_some() { ErrorCode::UnknownTopicOrPartition } else { unknown };
                    Place::Answered(Answer::error(code, None))
                }
                (Some(_), None) => {
                    let message = "a partition without records".to_owned();
                    Place::Answered(Answer::error(ErrorCode::InvalidRecord, Some(message)))
                }
                (Some(_), Some(Err(e))) => {
                    Place::Answered(Answer::error(ErrorCode::from(&e), Some(e.to_string())))
                }
                // Consumers that negotiate older versions cannot read it.
                (Some(_), Some(Ok(batch)))
                    if cx.version < FIRST_WITH_ZSTD && batch.header.compression() == Compression::Zstd =>
                {
                    let message = format!("zstd needs Produce {FIRST_WITH_ZSTD} or newer");
                    Place::Answered(Answer::error(ErrorCode::UnsupportedCompressionType, Some(message)))
                }
                (Some(_), Some(Ok(batch))) => {
                    match at.and_then(|at| Some((at.id, cx.shard.shard_at(at.at)?))) {
                        Some((id, shard)) => send_to(&mut groups, shard, ProduceEntry::new(id, batch)),
                        None => Place::Answered(Answer::error(ErrorCode::NotLeaderOrFollower, None)),
                    }
                }
            };
            partitions.push((partition.index, place));
        }
        topics.push(TopicAnswer { name: produced.name, id: produced.id, partitions });
    }
    Routed { topics, groups, transactional }
}

/// Kafka's own tools may write to internal topics under this name.
fn is_admin(cx: &Cx) -> bool {
    cx.client_id.as_deref() == Some("__admin_client")
}

fn send_to(groups: &mut Vec<(usize, Vec<ProduceEntry>)>, owner: usize, entry: ProduceEntry) -> Place {
    let at = match groups.iter().position(|(o, _)| *o == owner) {
        Some(at) => at,
        None => {
            groups.push((owner, Vec::new()));
            groups.len() - 1
        }
    };
    groups[at].1.push(entry);
    Place::Sent { owner, nth: groups[at].1.len() - 1 }
}

fn finish(
    cx: &Cx,
    acks: i16,
    topics: Vec<TopicAnswer>,
    mut results: Vec<Vec<Option<ProduceResult>>>,
    throttle_ms: i32,
) -> Outcome {
    let mut failed = None;
    let mut response = ProduceResponse::default();
    response.throttle_time_ms = throttle_ms;
    for topic in topics {
        let mut out = TopicProduceResponse::default();
        out.name = topic.name;
        out.topic_id = Uuid::from_bytes(topic.id.0);
        for (index, place) in topic.partitions {
            let answer = match place {
                Place::Answered(answer) => answer,
                Place::Sent { owner, nth } => {
                    answer(results[owner][nth].take().expect("each result is taken once"), cx.version)
                }
            };
            cx.count(answer.code);
            if answer.code != ErrorCode::None {
                failed = Some(answer.code);
            }
            let elsewhere = answer.code == ErrorCode::NotLeaderOrFollower;
            let mut partition = partition_response(cx, index, answer);
            if elsewhere && cx.version >= FIRST_WITH_LEADERS {
                name_leader(cx, &out, &mut partition, &mut response.node_endpoints);
            }
            out.partition_responses.push(partition);
        }
        response.responses.push(out);
    }
    match (acks, failed) {
        (ACKS_NONE, None) => Outcome::Silent,
        // The only way to tell a producer that does not listen.
        (ACKS_NONE, Some(code)) => {
            let why = format!("a produce with acks=0 failed: {code:?}");
            Outcome::Close(ProtocolError::AcksZeroFailed, why)
        }
        _ => respond(cx, &response),
    }
}

/// Tells a producer that took this broker for the leader who leads, and where (KIP-951).
fn name_leader(
    cx: &Cx,
    topic: &TopicProduceResponse,
    out: &mut PartitionProduceResponse,
    brokers: &mut Vec<NodeEndpoint>,
) {
    let image = cx.shard.image();
    let known = match cx.version >= 13 {
        true => image.topic_by_id(TopicId(topic.topic_id.to_bytes())),
        false => image.topic(&topic.name),
    };
    let Some(partition) = known.and_then(|known| known.partition(out.index)) else { return };
    if partition.leader == Some(cx.shard.settings().broker_id) {
        // Whoever is to try again here need not look elsewhere.
        return;
    }
    out.current_leader.leader_id = partition.leader.unwrap_or(NO_LEADER);
    out.current_leader.leader_epoch = partition.leader_epoch.0;
    let leader = partition.leader.and_then(|leader| image.broker(leader));
    let endpoint = leader.and_then(|leader| Some((leader, leader.endpoint(&cx.connection.listener.name)?)));
    if let Some((leader, endpoint)) = endpoint
        && brokers.iter().all(|named| named.node_id != leader.id)
    {
        brokers.push(build(|node: &mut NodeEndpoint| {
            node.node_id = leader.id;
            node.host = endpoint.host.as_str().into();
            node.port = endpoint.port.into();
            node.rack = leader.rack.as_deref().map(Into::into);
        }));
    }
}

fn partition_response(cx: &Cx, index: i32, answer: Answer) -> PartitionProduceResponse {
    let mut out = PartitionProduceResponse::default();
    out.index = index;
    out.error_code = answer.code.code();
    out.base_offset = Offset::to_wire(answer.base_offset);
    out.log_append_time_ms = WallMs::to_wire(answer.log_append_time);
    if cx.version >= 5 {
        out.log_start_offset = Offset::to_wire(answer.log_start_offset);
    }
    if cx.version >= 8 {
        out.record_errors = answer.records.iter().map(record_error).collect();
        out.error_message = answer.message.map(Into::into);
    }
    out
}

fn record_error(error: &RecordError) -> BatchIndexAndErrorMessage {
    let mut out = BatchIndexAndErrorMessage::default();
    out.batch_index = error.index;
    out.batch_index_error_message = Some(error.why.to_string().into());
    out
}

fn answer(result: ProduceResult, version: i16) -> Answer {
    match result {
        Ok(appended) => Answer {
            code: ErrorCode::None,
            message: None,
            records: Vec::new(),
            base_offset: Some(appended.base_offset),
            log_append_time: appended.log_append_time,
            log_start_offset: Some(appended.log_start_offset),
        },
        Err(e) => {
            let code = match &e {
                ProduceError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
                ProduceError::NotLeader => ErrorCode::NotLeaderOrFollower,
                ProduceError::Append(e) => errors::append_error(e),
                ProduceError::TimedOut => ErrorCode::RequestTimedOut,
                ProduceError::TooFewReplicas => ErrorCode::NotEnoughReplicasAfterAppend,
                ProduceError::NotInTransaction(why) => {
                    transactions::not_in(*why, version >= FIRST_IMPLICIT, version >= FIRST_ABORTABLE)
                }
            };
            let mut answer = Answer::error(code, Some(e.to_string()));
            if let ProduceError::Append(AppendError::Refused(Refusal::Records(errors))) = e {
                answer.records = errors.named;
            }
            answer
        }
    }
}

/// The same error for every partition.
fn answer_all(cx: &Cx, acks: i16, mut topics: Vec<TopicAnswer>, code: ErrorCode) -> Outcome {
    for (_, place) in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        *place = Place::Answered(Answer::error(code, None));
    }
    finish(cx, acks, topics, Vec::new(), 0)
}
