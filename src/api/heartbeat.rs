//! Heartbeat: a member of a group is alive.

use kafka_wire::{HeartbeatRequest, HeartbeatResponse};

use super::common::build;
use super::groups::{name, outcome, unavailable};
use super::request::Cx;
use crate::coordinator::group::{Member, ask};
use crate::security::{Operation, Resource};
use crate::shard::coordinator::Unavailable;
use crate::wire::ErrorCode;

pub async fn handle(cx: &Cx, request: HeartbeatRequest) -> HeartbeatResponse {
    if let Err(error) = cx.admit(Operation::Read, Resource::Group(&request.group_id)) {
        return build(|r: &mut HeartbeatResponse| r.error_code = error.code());
    }
    let from = Member {
        group: name(&request.group_id),
        member: name(&request.member_id),
        instance: request.group_instance_id.as_ref().map(name),
        generation: request.generation_id,
    };
    let error = match cx.shard.group(&request.group_id, ask::heartbeat(from)).await {
        Ok(result) => outcome(cx, result),
        // Sessions begin anew once the group is loaded: there is nothing to renew, and nothing wrong.
        Err(Unavailable::Loading) => ErrorCode::None,
        Err(why) => unavailable(cx, why),
    };
    build(|r: &mut HeartbeatResponse| r.error_code = error.code())
}
