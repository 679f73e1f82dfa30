//! AddPartitionsToTxn: the partitions that a transaction is about to write to. From version 4 on it is a broker that asks,
//! for several transactions, or only verifies.

use kafka_wire::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_wire::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_wire::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::build;
use super::groups::name;
use super::request::Cx;
use super::transactions;
use crate::coordinator::txn::{Partition, Version, ask};
use crate::model::Producer;
use crate::model::internal::is_internal;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const BATCHED_FROM: i16 = 4;
const FENCED_FROM: i16 = 2;

pub async fn handle(cx: &Cx, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    let mut response = AddPartitionsToTxnResponse::default();
    if cx.version < BATCHED_FROM {
        let transaction = build(|t: &mut AddPartitionsToTxnTransaction| {
            t.transactional_id = request.v3_and_below_transactional_id;
            t.producer_id = request.v3_and_below_producer_id;
            t.producer_epoch = request.v3_and_below_producer_epoch;
            t.topics = request.v3_and_below_topics;
        });
        response.results_by_topic_v3_and_below = add(cx, transaction, Version::V0).await;
        return response;
    }
    for transaction in request.transactions {
        let transactional_id = transaction.transactional_id.clone();
        let topic_results = add(cx, transaction, Version::V2).await;
        response.results_by_transaction.push(build(|r: &mut AddPartitionsToTxnResult| {
            r.transactional_id = transactional_id;
            r.topic_results = topic_results;
        }));
    }
    response
}

async fn add(
    cx: &Cx,
    transaction: AddPartitionsToTxnTransaction,
    version: Version,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let image = cx.shard.image();
    let topics = &transaction.topics;
    let unknown = |topic: &AddPartitionsToTxnTopic, index: i32| {
        image.topic(&topic.name).is_none_or(|known| known.partition(index).is_none())
    };
    if transaction.transactional_id.is_empty() {
        return results(cx, topics, |_, _, _| ErrorCode::InvalidRequest);
    }
    if let Err(error) = admit(cx, &transaction.transactional_id) {
        return results(cx, topics, |_, _, _| error);
    }
    let by_broker = cx.version >= BATCHED_FROM;
    // A broker asks for groups' offsets, too; what its clients may do it has looked at.
    let denied =
        |topic: &str| !by_broker && (is_internal(topic) || !cx.may(Operation::Write, Resource::Topic(topic)));
    // All or nothing: what is the broker's own, or is not there, keeps the rest out.
    if topics.iter().any(|topic| denied(&topic.name)) {
        return results(cx, topics, |topic, index, _| match denied(&topic.name) {
            true => ErrorCode::TopicAuthorizationFailed,
            false if unknown(topic, index) => ErrorCode::UnknownTopicOrPartition,
            false => ErrorCode::OperationNotAttempted,
        });
    }
    if topics.iter().any(|topic| topic.partitions.iter().any(|index| unknown(topic, *index))) {
        return results(cx, topics, |topic, index, _| match unknown(topic, index) {
            true => ErrorCode::UnknownTopicOrPartition,
            false => ErrorCode::OperationNotAttempted,
        });
    }
    match ask(cx, &transaction, version).await {
        Ok(each) => {
            results(cx, topics, |_, _, nth| each.get(nth).copied().unwrap_or(ErrorCode::UnknownServerError))
        }
        Err(error) => results(cx, topics, |_, _, _| error),
    }
}

/// A client asks for its own transaction, a broker for its clients'.
fn admit(cx: &Cx, id: &str) -> Result<(), ErrorCode> {
    match cx.version >= BATCHED_FROM {
        true => cx.authorize(Operation::ClusterAction, Resource::Cluster),
        false => cx.authorize(Operation::Write, Resource::TransactionalId(id)),
    }
}

async fn ask(
    cx: &Cx,
    transaction: &AddPartitionsToTxnTransaction,
    version: Version,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    let id = name(&transaction.transactional_id);
    let of = |topic: &AddPartitionsToTxnTopic| -> Vec<Partition> {
        let name = name(&topic.name);
        topic.partitions.iter().map(|index| (name.clone(), *index)).collect()
    };
    let producer = Producer::new(transaction.producer_id, transaction.producer_epoch);
    let partitions = transaction.topics.iter().flat_map(of).collect();
    let asked = ask::add(id.clone(), producer, partitions, version, transaction.verify_only);
    let added = cx.shard.transaction(&id, asked).await.map_err(transactions::unavailable)?;
    let code = |error| transactions::code_before(error, cx.version, FENCED_FROM);
    Ok(added.map_err(code)?.into_iter().map(|one| one.map_or_else(code, |()| ErrorCode::None)).collect())
}

/// A result for each partition, the n-th of the request.
fn results(
    cx: &Cx,
    topics: &[AddPartitionsToTxnTopic],
    result: impl Fn(&AddPartitionsToTxnTopic, i32, usize) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut nth = 0;
    let of = |topic: &AddPartitionsToTxnTopic| {
        let partitions = topic.partitions.iter().map(|index| {
            let error = result(topic, *index, nth);
            cx.count(error);
            nth += 1;
            build(|p: &mut AddPartitionsToTxnPartitionResult| {
                p.partition_index = *index;
                p.partition_error_code = error.code();
            })
        });
        build(|t: &mut AddPartitionsToTxnTopicResult| {
            t.name = StrBytes::from(topic.name.as_str());
            t.results_by_partition = partitions.collect();
        })
    };
    topics.iter().map(of).collect()
}
