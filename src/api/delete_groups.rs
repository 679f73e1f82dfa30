//! DeleteGroups: groups without members go, with their offsets.

use std::collections::BTreeSet;

use kafka_wire::delete_groups_response::DeletableGroupResult;
use kafka_wire::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::common::build;
use super::groups::{name, outcome, unavailable};
use super::request::Cx;
use crate::coordinator::group::ask;
use crate::security::{Operation, Resource};

pub async fn handle(cx: &Cx, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    // A name that is given twice is one group.
    let mut seen = BTreeSet::new();
    let names = request.groups_names.into_iter().filter(|group| seen.insert(group.clone()));
    let asked: Vec<_> = names
        .map(|group| {
            let admitted = cx.admit(Operation::Delete, Resource::Group(&group));
            let answer = admitted.map(|()| cx.shard.group(&group, ask::delete(name(&group))));
            (group, answer)
        })
        .collect();
    let mut response = DeleteGroupsResponse::default();
    for (group, answer) in asked {
        let error = match answer {
            Ok(answer) => match answer.await {
                Ok(result) => outcome(cx, result),
                Err(why) => unavailable(cx, why),
            },
            Err(error) => error,
        };
        response.results.push(build(|r: &mut DeletableGroupResult| {
            r.group_id = group;
            r.error_code = error.code();
        }));
    }
    response
}
