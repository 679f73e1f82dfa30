//! JoinGroup: a member asks to be part of a group's next generation.

use bytes::Bytes;
use kafka_wire::join_group_response::JoinGroupResponseMember;
use kafka_wire::{JoinGroupRequest, JoinGroupResponse};

use super::common::build;
use super::groups::{code, name, unavailable, wire, wire_or_empty};
use super::request::Cx;
use crate::coordinator::group::{Join, Joined, ask};
use crate::rt;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const REBALANCE_TIMEOUT_FROM: i16 = 1;
/// From here on a new member is given an id, and joins again with it (KIP-394).
const KNOWN_ID_FROM: i16 = 4;
const INSTANCES_FROM: i16 = 5;
const PROTOCOL_TYPE_FROM: i16 = 7;
/// From here on a leader may be told not to assign (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

pub async fn handle(cx: &Cx, request: JoinGroupRequest) -> JoinGroupResponse {
    let member = request.member_id.clone();
    let group = request.group_id.clone();
    if let Err(error) = cx.admit(Operation::Read, Resource::Group(&group)) {
        return refused(error, member, cx.version);
    }
    let answer = cx.shard.group(&group, ask::join(asked(cx, &request)));
    drop(request);
    match answer.await {
        Ok(joined) => answered(&joined, cx),
        Err(why) => refused(unavailable(cx, why), member, cx.version),
    }
}

fn asked(cx: &Cx, request: &JoinGroupRequest) -> Join {
    let v = cx.version;
    let rebalance = if v >= REBALANCE_TIMEOUT_FROM { request.rebalance_timeout_ms } else { -1 };
    Join {
        group: name(&request.group_id),
        member: name(&request.member_id),
        instance: request.group_instance_id.as_ref().filter(|_| v >= INSTANCES_FROM).map(name),
        client_id: cx.client_id.as_ref().map_or_else(|| "".into(), name),
        // As Java prints an address.
        client_host: format!("/{}", cx.connection.peer.ip()).into(),
        session_timeout: request.session_timeout_ms,
        rebalance_timeout: if rebalance < 0 { request.session_timeout_ms } else { rebalance },
        protocol_type: name(&request.protocol_type),
        protocols: request
            .protocols
            .iter()
            .map(|protocol| (name(&protocol.name), Bytes::copy_from_slice(&protocol.metadata)))
            .collect(),
        random: rt::random(),
        requires_known_id: v >= KNOWN_ID_FROM,
        can_skip_assignment: v >= SKIP_ASSIGNMENT_FROM,
    }
}

fn refused(error: ErrorCode, member: kafka_wire_core::StrBytes, version: i16) -> JoinGroupResponse {
    build(|r: &mut JoinGroupResponse| {
        r.error_code = error.code();
        r.generation_id = -1;
        r.member_id = member;
        r.protocol_name = (version < PROTOCOL_TYPE_FROM).then(|| "".into());
    })
}

fn answered(joined: &Joined, cx: &Cx) -> JoinGroupResponse {
    let error = joined.error.map_or(ErrorCode::None, code);
    cx.count(error);
    if error.is_error() {
        return refused(error, wire(&joined.member), cx.version);
    }
    build(|r: &mut JoinGroupResponse| {
        r.generation_id = joined.generation;
        if cx.version >= PROTOCOL_TYPE_FROM {
            r.protocol_type = joined.protocol_type.as_ref().map(wire);
            r.protocol_name = joined.protocol.as_ref().map(wire);
        } else {
            r.protocol_name = Some(wire_or_empty(joined.protocol.as_ref()));
        }
        r.leader = wire_or_empty(joined.leader.as_ref());
        if cx.version >= SKIP_ASSIGNMENT_FROM {
            r.skip_assignment = joined.skip_assignment;
        }
        r.member_id = wire(&joined.member);
        r.members = joined
            .members
            .iter()
            .map(|(id, instance, metadata)| {
                build(|m: &mut JoinGroupResponseMember| {
                    m.member_id = wire(id);
                    if cx.version >= INSTANCES_FROM {
                        m.group_instance_id = instance.as_ref().map(wire);
                    }
                    m.metadata = metadata.clone();
                })
            })
            .collect();
    })
}
