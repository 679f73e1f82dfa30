//! RemoveRaftVoter (KIP-853): a voter, by its id and its directory, votes on the metadata no more. Its broker goes on, and follows the
//! metadata. From then on an operator chooses the voters.

use kafka_wire::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};

use super::add_raft_voter::{LONGEST, change, told, voter};
use super::common::build;
use super::request::Cx;
use crate::metadata::quorum::VoterWish;
use crate::security::{Operation, Resource};

pub async fn handle(cx: &Cx, request: RemoveRaftVoterRequest) -> RemoveRaftVoterResponse {
    if let Err(error) = cx.admit(Operation::Alter, Resource::Cluster) {
        return build(|r: &mut RemoveRaftVoterResponse| r.error_code = error.code());
    }
    let wish = VoterWish::Remove(voter(request.voter_id, request.voter_directory_id));
    let done = change(cx, request.cluster_id.as_deref(), wish, LONGEST).await;
    build(|r: &mut RemoveRaftVoterResponse| (r.error_code, r.error_message) = told(done))
}
