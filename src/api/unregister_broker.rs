//! UnregisterBroker (KIP-631): takes a broker that is gone out of the cluster. The one broker that there is serves the
//! very request, so it stays.

use kafka_wire::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::Cx;
use super::common::build;
use crate::metadata::Image;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

pub async fn handle(cx: &Cx, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    if let Err(error) = cx.admit(Operation::Alter, Resource::Cluster) {
        return build(|r: &mut UnregisterBrokerResponse| r.error_code = error.code());
    }
    let response = answer(&cx.shard.image(), request.broker_id);
    cx.count(ErrorCode::from_code(response.error_code));
    response
}

fn answer(image: &Image, id: i32) -> UnregisterBrokerResponse {
    let (code, why) = match image.broker(id) {
        None => (ErrorCode::BrokerIdNotRegistered, format!("Broker ID {id} is not currently registered")),
        Some(_) => {
            (ErrorCode::InvalidRequest, format!("Broker {id} is the only broker and serves this request"))
        }
    };
    build(|r: &mut UnregisterBrokerResponse| {
        r.error_code = code.code();
        r.error_message = Some(why.into());
    })
}

#[cfg(test)]
mod tests {
    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn the_only_broker_stays() {
        let controller = controller(&[]);
        for (id, code) in [(1, 42), (2, 102)] {
            assert_eq!(round_trip(&answer(&controller.image(), id), 0).error_code, code);
        }
    }
}
