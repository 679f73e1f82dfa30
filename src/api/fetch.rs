//! Fetch: sessions, long polls, and a response whose payload is the batches themselves, uncopied.

use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use kafka_wire::fetch_request::FetchRequest;
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::errors::{READ_COMMITTED, is_elsewhere, read_error};
use super::frames::{decode, malformed};
use super::request::{Cx, Outcome, Pending};
use super::throttle::millis;
use crate::metadata::Image;
use crate::model::{BrokerId, LeaderEpoch, Offset, TopicId};
use crate::partition::{Position, ReadError, ReadOutcome};
use crate::security::quota::Kind;
use crate::security::{Operation, Resource};
use crate::shard::message::{FetchEntry, FetchLimits};
use crate::shard::replication::{self, Session};
use crate::shard::sessions::{Plan, SessionError, SessionPartition, SessionRequest, Told};
use crate::wire::error_code::ErrorCode;
use crate::wire::fetch::{FetchBroker, FetchPartitionReply, FetchReply, FetchTopicReply, LEADERS_FROM};

/// The first version that names topics by id (KIP-516).
const TOPIC_IDS: i16 = 13;
/// From here on a broker says so in a structure of its own (KIP-903).
const REPLICA_STATE: i16 = 15;

pub fn start(cx: Cx, body: BytesMut) -> Pending {
    // Fetch sessions live on the connection's shard.
    cx.connection.affinity.stay();
    Box::pin(async move {
        match decode::<FetchRequest>(&cx, body) {
            Ok(request) => handle(&cx, request).await,
            Err(e) => malformed("Fetch", &e),
        }
    })
}

/// A broker follows what this shard leads.
async fn follow(cx: &Cx, session: &Rc<Session>, request: &FetchRequest) -> Outcome {
    if cx.version != replication::VERSION {
        return refuse_all(cx, request, ErrorCode::UnsupportedVersion);
    }
    if !cx.may(Operation::ClusterAction, Resource::Cluster) {
        return refuse_all(cx, request, ErrorCode::ClusterAuthorizationFailed);
    }
    let (reply, memory) = session.serve(request).await;
    let slices = crate::wire::fetch::encode(reply, cx.version, cx.correlation_id);
    match memory {
        Some(memory) => Outcome::Fetched(slices, memory),
        None => Outcome::Respond(slices),
    }
}

async fn handle(cx: &Cx, request: FetchRequest) -> Outcome {
    if let Some(session) = cx.connection.followed(|| cx.shard.ground()) {
        return follow(cx, session, &request).await;
    }
    if !(0..=READ_COMMITTED).contains(&request.isolation_level) {
        return refuse_all(cx, &request, ErrorCode::UnknownServerError);
    }
    let plan = match cx.shard.sessions.begin(cx.shard.now(), session_request(cx, &request)) {
        Ok(plan) => plan,
        Err(e) => return refuse(cx, &e),
    };
    let image = cx.shard.image();
    let replica =
        if cx.version >= REPLICA_STATE { request.replica_state.replica_id } else { request.replica_id };
    let wanted = Wanted {
        committed: request.isolation_level == READ_COMMITTED,
        by_broker: (replica >= 0).then_some(replica),
    };
    let entries: Vec<Result<FetchEntry, ErrorCode>> =
        plan.partitions.iter().map(|p| entry(cx, &image, p, wanted)).collect();
    let known: Vec<FetchEntry> = entries.iter().flatten().copied().collect();
    let (results, memory) = cx.shard.fetch(&known, limits(cx, &request, known.len() < entries.len())).await;
    let mut results = results.into_iter();
    let results = entries.into_iter().map(|entry| match entry {
        Ok(_) => results.next().unwrap_or(Err(ReadError::UnknownPartition)).map_err(|e| read_error(&e)),
        Err(code) => Err(code),
    });
    let results: Vec<_> = results.collect();
    let bytes: usize = results.iter().flatten().map(ReadOutcome::bytes).sum();
    let wait = cx.charge(Kind::Fetch, bytes);
    if wait.is_zero() {
        let reply = assemble(cx, &plan, results);
        return Outcome::Fetched(crate::wire::fetch::encode(reply, cx.version, cx.correlation_id), memory);
    }
    cx.refund(Kind::Fetch, bytes);
    let too_large = cx.burst(Kind::Fetch).is_some_and(|burst| bytes > burst);
    if too_large && cx.charge(Kind::Fetch, 0).is_zero() {
        // A batch that no quiet time would make room for: given whole, and waited for afterwards.
        let wait = cx.charge(Kind::Fetch, bytes);
        let reply = FetchReply { throttle_ms: millis(wait), ..assemble(cx, &plan, results) };
        let slices = crate::wire::fetch::encode(reply, cx.version, cx.correlation_id);
        return Outcome::Throttled(slices, Some(memory), wait);
    }
    throttled(cx, &plan, wait)
}

/// Nothing is given to a client that is over its quota, nor counted: it asks again after the wait.
fn throttled(cx: &Cx, plan: &Plan, wait: Duration) -> Outcome {
    cx.shard.sessions.abandon(plan);
    let session_id = if plan.incremental { plan.session_id } else { 0 };
    let reply = FetchReply { throttle_ms: millis(wait), session_id, ..FetchReply::default() };
    let slices = crate::wire::fetch::encode(reply, cx.version, cx.correlation_id);
    Outcome::Throttled(slices, None, wait)
}

fn session_request(cx: &Cx, request: &FetchRequest) -> SessionRequest {
    let uses_ids = cx.version >= TOPIC_IDS;
    // What a session keeps must not hold the frame that it came in.
    let is_kept = cx.version >= 7 && request.session_epoch != -1;
    let epoch = |from, epoch| LeaderEpoch::from_wire(epoch).filter(|_| cx.version >= from);
    let mut partitions = Vec::new();
    for topic in &request.topics {
        let name = if is_kept { StrBytes::from(topic.topic.as_str()) } else { topic.topic.clone() };
        for partition in &topic.partitions {
            partitions.push(SessionPartition {
                name: name.clone(),
                topic_id: TopicId(topic.topic_id.to_bytes()),
                index: partition.partition,
                offset: Offset(partition.fetch_offset),
                max_bytes: partition.partition_max_bytes,
                leader_epoch: epoch(9, partition.current_leader_epoch),
                last_fetched_epoch: epoch(12, partition.last_fetched_epoch),
                ..SessionPartition::default()
            });
        }
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        for index in &topic.partitions {
            forgotten.push(SessionPartition {
                name: topic.topic.clone(),
                topic_id: TopicId(topic.topic_id.to_bytes()),
                index: *index,
                ..SessionPartition::default()
            });
        }
    }
    // Before version 7 there are no sessions: as a full fetch outside of any.
    let (id, epoch) = if cx.version >= 7 { (request.session_id, request.session_epoch) } else { (0, -1) };
    SessionRequest { id, epoch, uses_ids, partitions, forgotten }
}

/// What is the same for all partitions of a request.
#[derive(Clone, Copy)]
struct Wanted {
    committed: bool,
    by_broker: Option<BrokerId>,
}

fn entry(
    cx: &Cx,
    image: &Image,
    wanted: &SessionPartition,
    Wanted { committed, by_broker }: Wanted,
) -> Result<FetchEntry, ErrorCode> {
    let topic = if cx.version >= TOPIC_IDS {
        let topic = image.topic_by_id(wanted.topic_id).ok_or(ErrorCode::UnknownTopicId)?;
        authorize(cx, by_broker, &topic.name)?;
        topic
    } else {
        authorize(cx, by_broker, &wanted.name)?;
        image.topic(&wanted.name).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    let partition = cx.shard.leader_of(topic, wanted.index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok(FetchEntry {
        partition,
        position: Position {
            offset: wanted.offset,
            max_bytes: wanted.max_bytes.max(0) as usize,
            leader_epoch: wanted.leader_epoch,
            last_fetched_epoch: wanted.last_fetched_epoch,
            committed,
        },
    })
}

/// A broker that follows reads whatever it likes; who says that he is one has to be one (CVE-2018-1288).
fn authorize(cx: &Cx, by_broker: Option<BrokerId>, topic: &str) -> Result<(), ErrorCode> {
    match by_broker {
        Some(id) if cx.connection.is_of(id) && cx.may(Operation::ClusterAction, Resource::Cluster) => Ok(()),
        Some(_) => Err(ErrorCode::TopicAuthorizationFailed),
        None => cx.authorize(Operation::Read, Resource::Topic(topic)),
    }
}

fn limits(cx: &Cx, request: &FetchRequest, failed_already: bool) -> FetchLimits {
    let most = cx.shard.settings().fetch_max_bytes;
    // What is more than a quota allows at once could never be given.
    let most = cx.burst(Kind::Fetch).map_or(most, |burst| most.min(burst));
    let max_bytes = (request.max_bytes.max(0) as usize).min(most);
    let wait = if failed_already || cx.shard.is_stopping() { 0 } else { request.max_wait_ms.max(0) };
    FetchLimits {
        max_wait: Duration::from_millis(wait as u64),
        min_bytes: (request.min_bytes.max(0) as usize).min(max_bytes),
        max_bytes,
    }
}

fn assemble(cx: &Cx, plan: &Plan, results: Vec<Result<ReadOutcome, ErrorCode>>) -> FetchReply {
    let told: Vec<Told> = results
        .iter()
        .map(|result| match result {
            Ok(outcome) => Told {
                ends: Some((outcome.high_watermark, outcome.log_start_offset)),
                has_data: !outcome.batches.is_empty() || outcome.diverging.is_some(),
            },
            Err(_) => Told { ends: None, has_data: false },
        })
        .collect();
    let include = cx.shard.sessions.finish(plan, &told);
    let mut reply = FetchReply { session_id: plan.session_id, ..FetchReply::default() };
    for ((wanted, result), include) in plan.partitions.iter().zip(results).zip(include) {
        if !include {
            continue;
        }
        let mut partition = partition_reply(cx, wanted.index, result);
        if cx.version >= LEADERS_FROM && is_elsewhere(partition.error_code) {
            let image = cx.shard.image();
            name_leader(cx, &image, wanted, &mut partition, &mut reply.brokers);
        }
        match reply.topics.last_mut() {
            Some(topic) if topic.name == wanted.name && topic.id == wanted.topic_id => {
                topic.partitions.push(partition);
            }
            _ => reply.topics.push(FetchTopicReply {
                name: wanted.name.clone(),
                id: wanted.topic_id,
                partitions: vec![partition],
            }),
        }
    }
    reply
}

/// Tells a client that took this broker for the leader, or knows an old one, who leads and where (KIP-951).
fn name_leader(
    cx: &Cx,
    image: &Image,
    wanted: &SessionPartition,
    reply: &mut FetchPartitionReply,
    brokers: &mut Vec<FetchBroker>,
) {
    let topic = image.topic_by_id(wanted.topic_id);
    let Some(partition) = topic.and_then(|topic| topic.partition(wanted.index)) else { return };
    // What is nobody's has nothing to tell: the client asks for metadata.
    let Some(leader) = partition.leader else { return };
    reply.current_leader = Some((leader, partition.leader_epoch));
    let leader = image.broker(leader);
    if let Some((leader, endpoint)) =
        leader.and_then(|l| Some((l, l.endpoint(&cx.connection.listener.name)?)))
        && brokers.iter().all(|named| named.id != leader.id)
    {
        brokers.push(FetchBroker {
            id: leader.id,
            host: endpoint.host.as_str().into(),
            port: endpoint.port.into(),
            rack: leader.rack.as_deref().map(Into::into),
        });
    }
}

fn partition_reply(cx: &Cx, index: i32, result: Result<ReadOutcome, ErrorCode>) -> FetchPartitionReply {
    let mut reply =
        FetchPartitionReply { index, preferred_read_replica: -1, ..FetchPartitionReply::default() };
    match result {
        Ok(outcome) => {
            cx.shard.metrics.fetched(outcome.bytes());
            reply.high_watermark = outcome.high_watermark.0;
            reply.last_stable_offset = outcome.last_stable_offset.0;
            reply.aborted = outcome.aborted;
            reply.log_start_offset = outcome.log_start_offset.0;
            reply.diverging_epoch = outcome.diverging;
            reply.records = outcome.batches;
        }
        Err(code) => {
            cx.count(code);
            reply.error_code = code.code();
            (reply.high_watermark, reply.last_stable_offset, reply.log_start_offset) = (-1, -1, -1);
        }
    }
    reply
}

/// The same error for the request and, where old clients look for it, for each partition.
fn refuse_all(cx: &Cx, request: &FetchRequest, code: ErrorCode) -> Outcome {
    cx.count(code);
    let partition = |index| FetchPartitionReply {
        index,
        error_code: code.code(),
        aborted: Some(Vec::new()),
        ..FetchPartitionReply::default()
    };
    let topics = request.topics.iter().filter(|_| cx.version < TOPIC_IDS);
    let topics = topics.map(|topic| FetchTopicReply {
        name: topic.topic.clone(),
        id: TopicId::default(),
        partitions: topic.partitions.iter().map(|p| partition(p.partition)).collect(),
    });
    let reply = FetchReply {
        error_code: code.code(),
        session_id: request.session_id,
        topics: topics.collect(),
        ..FetchReply::default()
    };
    Outcome::Respond(crate::wire::fetch::encode(reply, cx.version, cx.correlation_id))
}

fn refuse(cx: &Cx, e: &SessionError) -> Outcome {
    let code = match e {
        SessionError::UnknownId => ErrorCode::FetchSessionIdNotFound,
        SessionError::InvalidEpoch => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::TopicIdMismatch => ErrorCode::FetchSessionTopicIdError,
    };
    cx.count(code);
    let reply = FetchReply { error_code: code.code(), ..FetchReply::default() };
    Outcome::Respond(crate::wire::fetch::encode(reply, cx.version, cx.correlation_id))
}
