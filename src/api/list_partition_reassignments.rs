//! ListPartitionReassignments (KIP-455): with one broker nothing is ever on its way elsewhere.

use kafka_wire::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::Cx;
use super::common::build;

pub async fn handle(_: &Cx, _: ListPartitionReassignmentsRequest) -> ListPartitionReassignmentsResponse {
    build(|r: &mut ListPartitionReassignmentsResponse| r.error_message = None)
}
