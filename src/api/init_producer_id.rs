//! InitProducerId: an id for an idempotent producer. Each shard takes ids from the controller a block at a
//! time; what is left of a block when the broker stops is never used.

use std::cell::Cell;

use kafka_wire::{InitProducerIdRequest, InitProducerIdResponse};

use super::Cx;
use super::common::{build, code, whole_error};
use crate::cluster::control::ProducerIdBlock;
use crate::cluster::{ControlReply, ControlRequest};
use crate::wire::ErrorCode;

const BLOCK: i32 = 1000;

thread_local! {
    /// What is left of this shard's block: a shard is a thread.
    static LEFT: Cell<ProducerIdBlock> = const { Cell::new(ProducerIdBlock { first: 0, len: 0 }) };
}

pub async fn handle(cx: &Cx, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let id = match refusal(&request) {
        Some(error) => Err(error),
        None => next_id(cx).await,
    };
    if let Err(error) = &id {
        cx.count(*error);
    }
    answer(id)
}

/// Why a request cannot be served.
fn refusal(request: &InitProducerIdRequest) -> Option<ErrorCode> {
    match &request.transactional_id {
        Some(id) if id.is_empty() => Some(ErrorCode::InvalidRequest),
        // There is no transaction coordinator.
        Some(_) => Some(ErrorCode::CoordinatorNotAvailable),
        None if (request.producer_id == -1) != (request.producer_epoch == -1) => {
            Some(ErrorCode::InvalidRequest)
        }
        None => None,
    }
}

async fn next_id(cx: &Cx) -> Result<i64, ErrorCode> {
    if let Some(id) = take() {
        return Ok(id);
    }
    match cx.shard.control(ControlRequest::AllocateProducerIds { count: BLOCK }).await {
        ControlReply::ProducerIds(Ok(block)) if block.len > 0 => {
            // Another request may have brought a block meanwhile; the longer one is kept.
            let rest = ProducerIdBlock { first: block.first + 1, len: block.len - 1 };
            if rest.len > LEFT.get().len {
                LEFT.set(rest);
            }
            Ok(block.first)
        }
        ControlReply::ProducerIds(Err(error)) => Err(code(&error)),
        other => Err(code(&whole_error(other))),
    }
}

fn take() -> Option<i64> {
    let left = LEFT.get();
    if left.len == 0 {
        return None;
    }
    LEFT.set(ProducerIdBlock { first: left.first + 1, len: left.len - 1 });
    Some(left.first)
}

fn answer(id: Result<i64, ErrorCode>) -> InitProducerIdResponse {
    build(|r: &mut InitProducerIdResponse| match id {
        Ok(id) => {
            r.producer_id = id;
            r.producer_epoch = 0;
        }
        Err(error) => {
            r.error_code = error.code();
            r.producer_id = -1;
            r.producer_epoch = -1;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::common::testing::round_trip;
    use super::*;

    #[test]
    fn only_idempotent_producers_are_served() {
        let request = |transactional: Option<&str>, id, epoch| {
            build(|r: &mut InitProducerIdRequest| {
                r.transactional_id = transactional.map(Into::into);
                r.producer_id = id;
                r.producer_epoch = epoch;
            })
        };
        assert_eq!(refusal(&request(None, -1, -1)), None);
        assert_eq!(refusal(&request(None, 7, 2)), None);
        assert_eq!(refusal(&request(None, 7, -1)), Some(ErrorCode::InvalidRequest));
        assert_eq!(refusal(&request(Some(""), -1, -1)), Some(ErrorCode::InvalidRequest));
        assert_eq!(refusal(&request(Some("tx"), -1, -1)), Some(ErrorCode::CoordinatorNotAvailable));
    }

    #[test]
    fn a_block_is_used_up_once() {
        LEFT.set(ProducerIdBlock { first: 5, len: 2 });
        assert_eq!((take(), take(), take()), (Some(5), Some(6), None));
    }

    #[test]
    fn every_version_answers() {
        for version in 0..=5 {
            assert_eq!(round_trip(&answer(Ok(9)), version).producer_id, 9);
            let refused = round_trip(&answer(Err(ErrorCode::InvalidRequest)), version);
            assert_eq!((refused.error_code, refused.producer_id, refused.producer_epoch), (42, -1, -1));
        }
    }
}
