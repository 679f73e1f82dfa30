//! LeaveGroup: members leave a group, or are removed from it.

use kafka_wire::leave_group_request::MemberIdentity;
use kafka_wire::leave_group_response::MemberResponse;
use kafka_wire::{LeaveGroupRequest, LeaveGroupResponse};

use super::common::build;
use super::groups::{name, outcome, unavailable};
use super::request::Cx;
use crate::coordinator::group::{Leaving, ask};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// Before it, one member leaves, and its error is the response's.
const BATCHED_FROM: i16 = 3;

pub async fn handle(cx: &Cx, request: LeaveGroupRequest) -> LeaveGroupResponse {
    if let Err(error) = cx.admit(Operation::Read, Resource::Group(&request.group_id)) {
        return build(|r: &mut LeaveGroupResponse| r.error_code = error.code());
    }
    let members = if cx.version >= BATCHED_FROM {
        request.members
    } else {
        vec![build(|m: &mut MemberIdentity| m.member_id = request.member_id)]
    };
    if request.group_id.is_empty() {
        cx.count(ErrorCode::InvalidGroupId);
        return build(|r: &mut LeaveGroupResponse| r.error_code = ErrorCode::InvalidGroupId.code());
    }
    let leaving = members
        .iter()
        .map(|m| Leaving { member: name(&m.member_id), instance: m.group_instance_id.as_ref().map(name) })
        .collect();
    let asked = ask::leave(name(&request.group_id), leaving);
    let results = match cx.shard.group(&request.group_id, asked).await {
        Ok(results) => results,
        Err(why) => {
            let error = unavailable(cx, why);
            return build(|r: &mut LeaveGroupResponse| r.error_code = error.code());
        }
    };
    build(|r: &mut LeaveGroupResponse| {
        for (member, result) in members.into_iter().zip(results) {
            let error = outcome(cx, result).code();
            if cx.version < BATCHED_FROM {
                r.error_code = error;
                return;
            }
            r.members.push(build(|m: &mut MemberResponse| {
                m.member_id = member.member_id;
                m.group_instance_id = member.group_instance_id;
                m.error_code = error;
            }));
        }
    })
}
