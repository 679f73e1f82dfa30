//! ListPartitionReassignments (KIP-455): with one broker nothing is ever on its way elsewhere.

use kafka_wire::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::Cx;
use super::common::build;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

pub async fn handle(cx: &Cx, _: ListPartitionReassignmentsRequest) -> ListPartitionReassignmentsResponse {
    let denied = cx.admit(Operation::Describe, Resource::Cluster).err();
    build(|r: &mut ListPartitionReassignmentsResponse| {
        r.error_code = denied.unwrap_or(ErrorCode::None).code();
        r.error_message = None;
    })
}
