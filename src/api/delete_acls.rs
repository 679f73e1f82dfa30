//! DeleteAcls: see [`super::describe_acls`].

use kafka_wire::delete_acls_response::DeleteAclsFilterResult;
use kafka_wire::{DeleteAclsRequest, DeleteAclsResponse};

use super::authorize::Rights;
use super::common::build;
use super::describe_acls::{DISABLED, check};
use super::request::Cx;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

pub async fn handle(cx: &Cx, request: DeleteAclsRequest) -> Result<DeleteAclsResponse, String> {
    for filter in &request.filters {
        let kinds = [filter.resource_type_filter, filter.pattern_type_filter];
        check([kinds[0], kinds[1], filter.operation, filter.permission_type])?;
    }
    let denied = cx.authorize(Operation::Alter, Resource::Cluster).err();
    let refused = |_| {
        let error = denied.unwrap_or(ErrorCode::SecurityDisabled);
        cx.count(error);
        build(|r: &mut DeleteAclsFilterResult| {
            r.error_code = error.code();
            r.error_message = denied.is_none().then(|| DISABLED.into());
        })
    };
    let results = request.filters.iter().map(refused).collect();
    Ok(build(|r: &mut DeleteAclsResponse| r.filter_results = results))
}
