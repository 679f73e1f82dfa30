//! DescribeGroups: groups with their members.

use kafka_wire::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_wire::{DescribeGroupsRequest, DescribeGroupsResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::{NOT_ASKED, build};
use super::groups::{name, unavailable, wire, wire_or_empty};
use super::request::Cx;
use crate::coordinator::group::{DescribedMember, Description, ask};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const OPERATIONS_FROM: i16 = 3;
const INSTANCES_FROM: i16 = 4;
/// From here on a group that is not there is an error, and errors have words.
const NOT_FOUND_FROM: i16 = 6;
const DEAD: &str = "Dead";

pub async fn handle(cx: &Cx, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let asked: Vec<_> = request
        .groups
        .iter()
        .map(|group| {
            let admitted = cx.admit(Operation::Describe, Resource::Group(group));
            (group, admitted.map(|()| cx.shard.group(group, ask::describe(name(group)))))
        })
        .collect();
    let mut response = DescribeGroupsResponse::default();
    for (group, answer) in asked {
        let answered = match answer {
            Ok(answer) => answer.await.map_err(|why| unavailable(cx, why)),
            Err(error) => Err(error),
        };
        let mut described = match answered {
            Ok(Some(description)) => known(group, description, cx.version),
            Ok(None) => missing(group, cx.version),
            Err(error) => failed(group, error),
        };
        described.authorized_operations = NOT_ASKED;
        if cx.version >= OPERATIONS_FROM && request.include_authorized_operations && described.error_code == 0
        {
            described.authorized_operations = cx.operations(Resource::Group(group));
        }
        response.groups.push(described);
    }
    response
}

fn failed(group: &StrBytes, error: ErrorCode) -> DescribedGroup {
    build(|g: &mut DescribedGroup| {
        g.group_id = group.clone();
        g.error_code = error.code();
    })
}

fn missing(group: &StrBytes, version: i16) -> DescribedGroup {
    build(|g: &mut DescribedGroup| {
        g.group_id = group.clone();
        g.group_state = DEAD.into();
        if version >= NOT_FOUND_FROM {
            g.error_code = ErrorCode::GroupIdNotFound.code();
            g.error_message = Some(format!("Group {} not found.", group.as_str()).into());
        }
    })
}

fn known(group: &StrBytes, description: Description, version: i16) -> DescribedGroup {
    build(|g: &mut DescribedGroup| {
        g.group_id = group.clone();
        g.group_state = description.state.into();
        g.protocol_type = wire_or_empty(description.protocol_type.as_ref());
        g.protocol_data = wire_or_empty(description.protocol.as_ref());
        g.members = description.members.into_iter().map(|member| described(member, version)).collect();
    })
}

fn described(member: DescribedMember, version: i16) -> DescribedGroupMember {
    build(|m: &mut DescribedGroupMember| {
        m.member_id = wire(&member.id);
        if version >= INSTANCES_FROM {
            m.group_instance_id = member.instance.as_ref().map(wire);
        }
        m.client_id = wire(&member.client_id);
        m.client_host = wire(&member.client_host);
        m.member_metadata = member.metadata;
        m.member_assignment = member.assignment;
    })
}
