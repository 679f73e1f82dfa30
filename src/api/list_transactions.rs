//! ListTransactions: the transactional ids that this broker coordinates (KIP-664), filtered by producer, state, how long
//! a transaction has been open, and a pattern (KIP-1152).

use kafka_wire::list_transactions_response::TransactionState;
use kafka_wire::{ListTransactionsRequest, ListTransactionsResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::build;
use super::groups::wire;
use super::request::Cx;
use super::transactions;
use crate::coordinator::txn::{ListFilter, State};
use crate::model::ProducerId;
use crate::model::pattern::Pattern;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const DURATION_FROM: i16 = 1;

pub async fn handle(cx: &Cx, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let (states, unknown): (Vec<StrBytes>, Vec<StrBytes>) = request
        .state_filters
        .into_iter()
        .partition(|name| State::ALL.iter().any(|s| s.name() == name.as_str()));
    // Unknown states exclude everything, they do not widen the filter.
    let nothing = states.is_empty() && !unknown.is_empty();
    let pattern = request.transactional_id_pattern.filter(|text| !text.is_empty());
    let pattern = match pattern.as_deref().map(|text| Pattern::parse(text).ok_or(())).transpose() {
        Ok(pattern) => pattern,
        Err(()) => {
            let error = ErrorCode::InvalidRegularExpression;
            cx.count(error);
            return build(|r: &mut ListTransactionsResponse| r.error_code = error.code());
        }
    };
    let filter = ListFilter {
        producer_ids: request.producer_id_filters.into_iter().map(ProducerId).collect(),
        states: states.iter().map(|name| name.as_str().to_owned()).collect(),
        longer_than_ms: if cx.version >= DURATION_FROM { request.duration_filter } else { -1 },
        pattern,
    };
    let listed = if nothing { Ok(Vec::new()) } else { cx.shard.list_transactions(&filter).await };
    build(|r: &mut ListTransactionsResponse| {
        r.unknown_state_filters = unknown;
        match listed {
            Ok(listed) => {
                let one = |listed: crate::coordinator::txn::Listed| {
                    build(|s: &mut TransactionState| {
                        s.transactional_id = wire(&listed.id);
                        s.producer_id = listed.producer_id.0;
                        s.transaction_state = StrBytes::from(listed.state);
                    })
                };
                let may = |id: &str| cx.may(Operation::Describe, Resource::TransactionalId(id));
                r.transaction_states = listed.into_iter().filter(|listed| may(&listed.id)).map(one).collect();
            }
            Err(why) => {
                let error = transactions::unavailable(why);
                cx.count(error);
                r.error_code = error.code();
            }
        }
    })
}
