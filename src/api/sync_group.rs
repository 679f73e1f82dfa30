//! SyncGroup: a member asks for its assignment; the leader brings everybody's.

use bytes::Bytes;
use kafka_wire::{SyncGroupRequest, SyncGroupResponse};

use super::common::build;
use super::groups::{code, name, unavailable, wire};
use super::request::Cx;
use crate::coordinator::group::{Member, Sync, ask};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const PROTOCOL_TYPE_FROM: i16 = 5;

pub async fn handle(cx: &Cx, request: SyncGroupRequest) -> SyncGroupResponse {
    if let Err(error) = cx.admit(Operation::Read, Resource::Group(&request.group_id)) {
        return build(|r: &mut SyncGroupResponse| r.error_code = error.code());
    }
    let unnamed = request.protocol_type.is_none() || request.protocol_name.is_none();
    if cx.version >= PROTOCOL_TYPE_FROM && unnamed {
        let error = ErrorCode::InconsistentGroupProtocol;
        cx.count(error);
        return build(|r: &mut SyncGroupResponse| r.error_code = error.code());
    }
    let group = request.group_id.clone();
    let answer = cx.shard.group(&group, ask::sync(asked(&request)));
    drop(request);
    let synced = match answer.await {
        Ok(synced) => synced.map_err(code),
        Err(why) => Err(unavailable(cx, why)),
    };
    build(|r: &mut SyncGroupResponse| match synced {
        Ok(synced) => {
            if cx.version >= PROTOCOL_TYPE_FROM {
                r.protocol_type = synced.protocol_type.as_ref().map(wire);
                r.protocol_name = synced.protocol.as_ref().map(wire);
            }
            r.assignment = synced.assignment;
        }
        Err(error) => {
            if error != ErrorCode::NotCoordinator && error != ErrorCode::CoordinatorLoadInProgress {
                cx.count(error);
            }
            r.error_code = error.code();
        }
    })
}

fn asked(request: &SyncGroupRequest) -> Sync {
    Sync {
        member: Member {
            group: name(&request.group_id),
            member: name(&request.member_id),
            instance: request.group_instance_id.as_ref().map(name),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.as_ref().map(name),
        protocol: request.protocol_name.as_ref().map(name),
        assignments: request
            .assignments
            .iter()
            .map(|given| (name(&given.member_id), Bytes::copy_from_slice(&given.assignment)))
            .collect(),
    }
}
