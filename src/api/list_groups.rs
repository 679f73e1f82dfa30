//! ListGroups: the groups of the broker, by state and by type.

use kafka_wire::list_groups_response::ListedGroup;
use kafka_wire::{ListGroupsRequest, ListGroupsResponse};

use super::authorize::Rights;
use super::common::build;
use super::groups::{unavailable, wire, wire_or_empty};
use super::request::Cx;
use crate::coordinator::group::{ListFilter, Listed};
use crate::security::{Operation, Resource};

const STATES_FROM: i16 = 4;
const TYPES_FROM: i16 = 5;
/// The only type there is.
const CLASSIC: &str = "classic";

pub async fn handle(cx: &Cx, request: ListGroupsRequest) -> ListGroupsResponse {
    let types = &request.types_filter;
    if !types.is_empty() && !types.iter().any(|kind| kind.eq_ignore_ascii_case(CLASSIC)) {
        return ListGroupsResponse::default();
    }
    let states = request.states_filter.iter().map(|state| state.trim().to_ascii_lowercase());
    let filter = ListFilter { states: states.collect() };
    match cx.shard.list_groups(filter).await {
        Ok(listed) => {
            let all = cx.may(Operation::Describe, Resource::Cluster);
            let shown = |g: &&Listed| all || cx.may(Operation::Describe, Resource::Group(&g.group));
            let groups = listed.iter().filter(shown).map(|g| one(g, cx.version)).collect();
            build(|r: &mut ListGroupsResponse| r.groups = groups)
        }
        Err(why) => {
            let error = unavailable(cx, why);
            build(|r: &mut ListGroupsResponse| r.error_code = error.code())
        }
    }
}

fn one(group: &Listed, version: i16) -> ListedGroup {
    build(|g: &mut ListedGroup| {
        g.group_id = wire(&group.group);
        g.protocol_type = wire_or_empty(group.protocol_type.as_ref());
        if version >= STATES_FROM {
            g.group_state = group.state.into();
        }
        if version >= TYPES_FROM {
            g.group_type = CLASSIC.into();
        }
    })
}
