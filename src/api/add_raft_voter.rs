//! AddRaftVoter (KIP-853): has a broker vote on the metadata, by its id and its directory. From then on an operator chooses the voters;
//! with a tag of our own the controller does again. Where a voter is reached its registration says, not this.

use std::time::Duration;

use kafka_wire::{AddRaftVoterRequest, AddRaftVoterResponse};
use kafka_wire_core::{StrBytes, Uuid};

use super::common::{build, code, message};
use super::request::Cx;
use crate::controller::{ControlError, ControlErrorKind};
use crate::metadata::quorum::{Voter, VoterWish};
use crate::model::report::VOTERS;
use crate::peer::keys;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// The longest that somebody may wait whose request was handed on.
pub const LONGEST: Duration = Duration::from_secs(25);

pub async fn handle(cx: &Cx, request: AddRaftVoterRequest) -> AddRaftVoterResponse {
    if let Err(error) = cx.admit(Operation::Alter, Resource::Cluster) {
        return build(|r: &mut AddRaftVoterResponse| r.error_code = error.code());
    }
    let auto = keys::tagged(&request.unknown_tagged_fields, VOTERS).is_some();
    let voter = voter(request.voter_id, request.voter_directory_id);
    let wish = if auto { VoterWish::Auto } else { VoterWish::Add(voter) };
    let limit = Duration::from_millis(request.timeout_ms.max(0) as u64);
    answer(change(cx, request.cluster_id.as_deref(), wish, limit.min(LONGEST)).await)
}

fn answer(done: Result<(), ControlError>) -> AddRaftVoterResponse {
    build(|r: &mut AddRaftVoterResponse| (r.error_code, r.error_message) = told(done))
}

pub fn voter(node: i32, directory: Uuid) -> Voter {
    Voter { node, directory: directory.to_bytes() }
}

/// The code of what came of it, and why.
pub fn told(done: Result<(), ControlError>) -> (i16, Option<StrBytes>) {
    match done {
        Ok(()) => (0, None),
        Err(error) => (code(&error).code(), message(&error)),
    }
}

/// Has the voters changed, if the cluster is the one that was meant.
pub async fn change(
    cx: &Cx,
    cluster: Option<&str>,
    wish: VoterWish,
    limit: Duration,
) -> Result<(), ControlError> {
    let ours = cx.shard.image().cluster_id.clone();
    let done = match cluster.filter(|cluster| **cluster != *ours) {
        Some(theirs) => {
            let why = format!("the cluster's id is {ours}, not {theirs}");
            Err(ControlError::new(ControlErrorKind::InconsistentClusterId, why))
        }
        None => cx.shard.change_voters(wish, limit).await,
    };
    cx.count(done.as_ref().err().map_or(ErrorCode::None, code));
    done
}

#[cfg(test)]
mod tests {
    use super::super::common::testing::round_trip;
    use super::*;

    #[test]
    fn what_came_of_it_has_kafkas_code() {
        for (kind, code) in [
            (ControlErrorKind::DuplicateVoter, 126),
            (ControlErrorKind::InvalidVoterKey, 125),
            (ControlErrorKind::VoterNotFound, 127),
            (ControlErrorKind::TimedOut, 7),
            (ControlErrorKind::InconsistentClusterId, 104),
            (ControlErrorKind::NotController, 41),
        ] {
            for version in 0..=1 {
                let told = round_trip(&answer(Err(ControlError::new(kind, "why"))), version);
                assert_eq!((told.error_code, told.error_message.as_deref()), (code, Some("why")));
            }
        }
        assert_eq!(round_trip(&answer(Ok(())), 1).error_code, 0);
    }
}
