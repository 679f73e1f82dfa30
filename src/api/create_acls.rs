//! CreateAcls: see [`super::describe_acls`].

use kafka_wire::create_acls_response::AclCreationResult;
use kafka_wire::{CreateAclsRequest, CreateAclsResponse};

use super::authorize::Rights;
use super::common::build;
use super::describe_acls::{DISABLED, check};
use super::request::Cx;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

pub async fn handle(cx: &Cx, request: CreateAclsRequest) -> Result<CreateAclsResponse, String> {
    for acl in &request.creations {
        check([acl.resource_type, acl.resource_pattern_type, acl.operation, acl.permission_type])?;
    }
    let denied = cx.authorize(Operation::Alter, Resource::Cluster).err();
    let refused = |_| {
        let error = denied.unwrap_or(ErrorCode::SecurityDisabled);
        cx.count(error);
        build(|r: &mut AclCreationResult| {
            r.error_code = error.code();
            r.error_message = denied.is_none().then(|| DISABLED.into());
        })
    };
    let results = request.creations.iter().map(refused).collect();
    Ok(build(|r: &mut CreateAclsResponse| r.results = results))
}
