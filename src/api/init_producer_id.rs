//! InitProducerId: an id for an idempotent producer, or a producer's claim to a transactional id.

use kafka_wire::{InitProducerIdRequest, InitProducerIdResponse};

use super::authorize::Rights;
use super::common::build;
use super::groups::name;
use super::producer_ids::next_id;
use super::request::Cx;
use super::transactions;
use crate::coordinator::txn::{Name, ask};
use crate::model::{Producer, ProducerEpoch};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// From here on a producer says what it was.
const EXPECTED_FROM: i16 = 3;
const FENCED_FROM: i16 = 4;

pub async fn handle(cx: &Cx, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refusal = refusal(&request).or_else(|| denial(cx, request.transactional_id.as_deref()));
    let producer = match (refusal, &request.transactional_id) {
        (Some(error), _) => Err(error),
        (None, Some(id)) => claim(cx, &name(id), &request).await,
        (None, None) => next_id(cx).await.map(|id| Producer { id, epoch: ProducerEpoch::ZERO }),
    };
    if let Err(error) = &producer {
        cx.count(*error);
    }
    answer(producer)
}

/// Takes a transactional id over; who had it before is fenced.
async fn claim(cx: &Cx, id: &Name, request: &InitProducerIdRequest) -> Result<Producer, ErrorCode> {
    let says = cx.version >= EXPECTED_FROM && request.producer_id != -1;
    let expected = says.then(|| Producer::new(request.producer_id, request.producer_epoch));
    let timeout_ms = request.transaction_timeout_ms;
    let granted = transactions::ask(cx, id, |fresh| ask::init(id.clone(), timeout_ms, expected, fresh));
    granted.await?.map_err(|error| transactions::code_before(error, cx.version, FENCED_FROM))
}

/// Who has no transactional id needs to be allowed to write something, whatever it is.
fn denial(cx: &Cx, transactional_id: Option<&str>) -> Option<ErrorCode> {
    if let Some(id) = transactional_id {
        return cx.authorize(Operation::Write, Resource::TransactionalId(id)).err();
    }
    let any = || {
        let image = cx.shard.image();
        image.topics().any(|topic| cx.may(Operation::Write, Resource::Topic(&topic.name)))
    };
    cx.authorize(Operation::IdempotentWrite, Resource::Cluster).err().filter(|_| !any())
}

/// Why a request cannot be served.
fn refusal(request: &InitProducerIdRequest) -> Option<ErrorCode> {
    match &request.transactional_id {
        Some(id) if id.is_empty() => Some(ErrorCode::InvalidRequest),
        _ if (request.producer_id == -1) != (request.producer_epoch == -1) => Some(ErrorCode::InvalidRequest),
        _ => None,
    }
}

fn answer(producer: Result<Producer, ErrorCode>) -> InitProducerIdResponse {
    build(|r: &mut InitProducerIdResponse| match producer {
        Ok(Producer { id, epoch }) => {
            r.producer_id = id.0;
            r.producer_epoch = epoch.0;
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
    fn ids_and_epochs_go_together() {
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
        assert_eq!(refusal(&request(Some("tx"), -1, -1)), None);
        assert_eq!(refusal(&request(Some("tx"), 7, -1)), Some(ErrorCode::InvalidRequest));
    }

    #[test]
    fn every_version_answers() {
        for version in 0..=5 {
            assert_eq!(round_trip(&answer(Ok(Producer::new(9, 2))), version).producer_epoch, 2);
            let refused = round_trip(&answer(Err(ErrorCode::InvalidRequest)), version);
            assert_eq!((refused.error_code, refused.producer_id, refused.producer_epoch), (42, -1, -1));
        }
    }
}
