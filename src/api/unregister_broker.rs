//! UnregisterBroker (KIP-631): takes a broker that is gone out of the cluster. One that lives stays.

use kafka_wire::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::common::{build, code, message, whole_error};
use super::request::Cx;
use crate::controller::{ControlReply, ControlRequest};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

pub async fn handle(cx: &Cx, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    if let Err(error) = cx.admit(Operation::Alter, Resource::Cluster) {
        return build(|r: &mut UnregisterBrokerResponse| r.error_code = error.code());
    }
    let response = answer(cx.shard.control(ControlRequest::Unregister { id: request.broker_id }).await);
    cx.count(ErrorCode::from_code(response.error_code));
    response
}

fn answer(reply: ControlReply) -> UnregisterBrokerResponse {
    build(|r: &mut UnregisterBrokerResponse| {
        r.error_message = None;
        if !matches!(reply, ControlReply::Unregistered) {
            let error = whole_error(reply);
            r.error_code = code(&error).code();
            r.error_message = message(&error);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn the_only_broker_stays() {
        let mut controller = controller(&[]);
        for (id, code) in [(1, 42), (2, 102)] {
            assert_eq!(
                round_trip(&answer(controller.handle(&ControlRequest::Unregister { id })), 0).error_code,
                code
            );
        }
    }
}
