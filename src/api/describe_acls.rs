//! DescribeAcls, CreateAcls and DeleteAcls without an authorizer: there are no rules, and none can be made. Kafka serves
//! them all the same, with an error that tools know, and so do we.

use kafka_wire::{DescribeAclsRequest, DescribeAclsResponse};

use super::common::build;
use super::request::Cx;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// Why the others refuse; DescribeAcls says it in a few words more.
pub const DISABLED: &str = "No Authorizer is configured.";
const UNKNOWN: i8 = 0;

pub async fn handle(cx: &Cx, request: DescribeAclsRequest) -> Result<DescribeAclsResponse, String> {
    let DescribeAclsRequest { resource_type_filter, pattern_type_filter, operation, permission_type, .. } =
        request;
    check([resource_type_filter, pattern_type_filter, operation, permission_type])?;
    if let Err(error) = cx.admit(Operation::Describe, Resource::Cluster) {
        return Ok(build(|r: &mut DescribeAclsResponse| r.error_code = error.code()));
    }
    cx.count(ErrorCode::SecurityDisabled);
    Ok(build(|r: &mut DescribeAclsResponse| {
        r.error_code = ErrorCode::SecurityDisabled.code();
        r.error_message = Some("No Authorizer is configured on the broker".into());
    }))
}

/// Clients write this value for what they do not know themselves: such a request cannot be meant, and ends the connection.
pub fn check(kinds: [i8; 4]) -> Result<(), String> {
    if kinds.contains(&UNKNOWN) {
        Err("an unknown resource, pattern, operation or permission".into())
    } else {
        Ok(())
    }
}
