//! DeleteAcls: see [`super::describe_acls`].

use kafka_wire::delete_acls_response::DeleteAclsFilterResult;
use kafka_wire::{DeleteAclsRequest, DeleteAclsResponse};

use super::Cx;
use super::common::build;
use super::describe_acls::{DISABLED, check};
use crate::wire::ErrorCode;

pub async fn handle(cx: &Cx, request: DeleteAclsRequest) -> Result<DeleteAclsResponse, String> {
    for filter in &request.filters {
        let kinds = [filter.resource_type_filter, filter.pattern_type_filter];
        check([kinds[0], kinds[1], filter.operation, filter.permission_type])?;
    }
    let refused = |_| {
        cx.count(ErrorCode::SecurityDisabled);
        build(|r: &mut DeleteAclsFilterResult| {
            r.error_code = ErrorCode::SecurityDisabled.code();
            r.error_message = Some(DISABLED.into());
        })
    };
    let results = request.filters.iter().map(refused).collect();
    Ok(build(|r: &mut DeleteAclsResponse| r.filter_results = results))
}
