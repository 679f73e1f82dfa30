//! EndTxn: a producer commits or aborts its transaction. From version 5 on it goes on with the epoch that it is told.

use kafka_wire::{EndTxnRequest, EndTxnResponse};

use super::authorize::Rights;
use super::common::build;
use super::groups::name;
use super::request::Cx;
use super::transactions;
use crate::coordinator::txn::{Version, ask};
use crate::model::Producer;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// From here on each transaction has an epoch of its own (KIP-890).
const V2_FROM: i16 = 5;
const FENCED_FROM: i16 = 2;

pub async fn handle(cx: &Cx, request: EndTxnRequest) -> EndTxnResponse {
    let ended = end(cx, &request).await;
    build(|r: &mut EndTxnResponse| {
        (r.producer_id, r.producer_epoch) = (-1, -1);
        match ended {
            Ok(producer) if cx.version >= V2_FROM => {
                (r.producer_id, r.producer_epoch) = (producer.id.0, producer.epoch.0);
            }
            Ok(_) => {}
            Err(error) => {
                cx.count(error);
                r.error_code = error.code();
            }
        }
    })
}

async fn end(cx: &Cx, request: &EndTxnRequest) -> Result<Producer, ErrorCode> {
    if request.transactional_id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    cx.authorize(Operation::Write, Resource::TransactionalId(&request.transactional_id))?;
    let id = name(&request.transactional_id);
    let version = if cx.version >= V2_FROM { Version::V2 } else { Version::V0 };
    let producer = Producer::new(request.producer_id, request.producer_epoch);
    let commit = request.committed;
    let granted = transactions::ask(cx, &id, |fresh| ask::end(id.clone(), producer, commit, version, fresh));
    granted.await?.map_err(|error| transactions::code_before(error, cx.version, FENCED_FROM))
}
