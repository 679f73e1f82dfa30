//! What the handlers of the group APIs share: the coordinator's refusals in Kafka's codes, names out of frames.

use std::sync::Arc;

use kafka_wire_core::StrBytes;

use super::request::Cx;
use crate::coordinator::group::{GroupError, Name};
use crate::shard::coordinator::Unavailable;
use crate::wire::ErrorCode;

pub fn code(error: GroupError) -> ErrorCode {
    match error {
        GroupError::UnknownMember => ErrorCode::UnknownMemberId,
        GroupError::FencedInstance => ErrorCode::FencedInstanceId,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
        GroupError::MaxSizeReached => ErrorCode::GroupMaxSizeReached,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::NotFound => ErrorCode::GroupIdNotFound,
        GroupError::NonEmpty => ErrorCode::NonEmptyGroup,
        GroupError::SubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::MetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::UnstableOffset => ErrorCode::UnstableOffsetCommit,
        GroupError::TooLarge => ErrorCode::UnknownServerError,
    }
}

/// A result in the form of a response's error code, counted.
pub fn outcome(cx: &Cx, result: Result<(), GroupError>) -> ErrorCode {
    let code = result.map_or_else(code, |()| ErrorCode::None);
    cx.count(code);
    code
}

pub fn unavailable(cx: &Cx, why: Unavailable) -> ErrorCode {
    let code = match why {
        Unavailable::Loading => ErrorCode::CoordinatorLoadInProgress,
        // A client looks for the coordinator again, and finds it once the broker was started again.
        Unavailable::NotHere | Unavailable::Failed => ErrorCode::NotCoordinator,
        Unavailable::Slow | Unavailable::TooFewReplicas => ErrorCode::CoordinatorNotAvailable,
    };
    cx.count(code);
    code
}

/// A copy: what a coordinator keeps must not hold on to the frame that it came in.
pub fn name(text: &StrBytes) -> Name {
    Arc::from(text.as_str())
}

pub fn wire(name: &Name) -> StrBytes {
    StrBytes::from(&**name)
}

pub fn wire_or_empty(name: Option<&Name>) -> StrBytes {
    name.map(wire).unwrap_or_default()
}
