//! DescribeTransactions: the state of transactional ids, and the partitions of their open transactions (KIP-664).

use kafka_wire::describe_transactions_response::{TopicData, TransactionState};
use kafka_wire::{DescribeTransactionsRequest, DescribeTransactionsResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::build;
use super::groups::{name, wire};
use super::request::Cx;
use super::transactions;
use crate::coordinator::txn::{Description, ask};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

pub async fn handle(cx: &Cx, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let mut response = DescribeTransactionsResponse::default();
    for id in request.transactional_ids {
        let described = describe(cx, &id).await;
        response.transaction_states.push(build(|s: &mut TransactionState| {
            s.transactional_id = id;
            match described {
                Ok(mut description) => {
                    let may = |topic: &str| cx.may(Operation::Describe, Resource::Topic(topic));
                    description.partitions.retain(|(topic, _)| may(topic));
                    fill(s, description);
                }
                Err(error) => {
                    cx.count(error);
                    s.error_code = error.code();
                }
            }
        }));
    }
    response
}

async fn describe(cx: &Cx, id: &StrBytes) -> Result<Description, ErrorCode> {
    if id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    cx.authorize(Operation::Describe, Resource::TransactionalId(id))?;
    let described = cx.shard.transaction(id, ask::describe(name(id))).await;
    described.map_err(transactions::unavailable)?.map_err(transactions::code)
}

fn fill(state: &mut TransactionState, description: Description) {
    state.transaction_state = StrBytes::from(description.state);
    state.transaction_timeout_ms = description.timeout_ms;
    state.transaction_start_time_ms = description.started_ms;
    state.producer_id = description.producer.id.0;
    state.producer_epoch = description.producer.epoch.0;
    // They come sorted by topic.
    for (topic, index) in description.partitions {
        match state.topics.last_mut() {
            Some(last) if *last.topic == *topic => last.partitions.push(index),
            _ => state.topics.push(build(|t: &mut TopicData| {
                t.topic = wire(&topic);
                t.partitions.push(index);
            })),
        }
    }
}
