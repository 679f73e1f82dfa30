//! AddOffsetsToTxn: a producer is about to commit a group's offsets in its transaction.

use kafka_wire::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::authorize::Rights;
use super::common::build;
use super::groups::name;
use super::internal::ensure_topic;
use super::request::Cx;
use super::transactions;
use crate::coordinator::txn::{Version, ask};
use crate::model::Producer;
use crate::model::internal::CONSUMER_OFFSETS;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const FENCED_FROM: i16 = 2;

pub async fn handle(cx: &Cx, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let added = add(cx, &request).await;
    build(|r: &mut AddOffsetsToTxnResponse| {
        if let Err(error) = added {
            cx.count(error);
            r.error_code = error.code();
        }
    })
}

async fn add(cx: &Cx, request: &AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    if request.transactional_id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    cx.authorize(Operation::Write, Resource::TransactionalId(&request.transactional_id))?;
    cx.authorize(Operation::Read, Resource::Group(&request.group_id))?;
    ensure_topic(cx, CONSUMER_OFFSETS).await?;
    let coordinator = cx.shard.coordinator_of(CONSUMER_OFFSETS, &request.group_id);
    let partition = coordinator.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let id = name(&request.transactional_id);
    let producer = Producer::new(request.producer_id, request.producer_epoch);
    let partitions = vec![(CONSUMER_OFFSETS.into(), partition.id.index)];
    let asked = ask::add(id.clone(), producer, partitions, Version::V0, false);
    let added = cx.shard.transaction(&id, asked).await.map_err(transactions::unavailable)?;
    let each = added.and_then(|each| each.into_iter().collect());
    each.map_err(|error| transactions::code_before(error, cx.version, FENCED_FROM))
}
