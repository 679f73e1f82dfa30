//! The controller's errors by Kafka's codes, read back.

use bytes::Bytes;

use crate::controller::{ControlError, ControlErrorKind as Kind, IsrRefusal};
use crate::wire::ErrorCode;

/// Of a code that came; `why` is the message, if one came too.
pub fn error(code: i16, why: Option<Bytes>) -> ControlError {
    let message = match why {
        Some(why) => String::from_utf8_lossy(&why).into_owned(),
        None => format!("the controller answered {}", ErrorCode::from_code(code)),
    };
    ControlError::new(kind(code), message)
}

pub fn kind(code: i16) -> Kind {
    match ErrorCode::from_code(code) {
        ErrorCode::InvalidTopicException => Kind::InvalidTopic,
        ErrorCode::TopicAlreadyExists => Kind::TopicExists,
        ErrorCode::UnknownTopicOrPartition => Kind::UnknownTopic,
        ErrorCode::UnknownTopicId => Kind::UnknownTopicId,
        ErrorCode::InvalidPartitions => Kind::InvalidPartitions,
        ErrorCode::InvalidReplicationFactor => Kind::InvalidReplicationFactor,
        ErrorCode::InvalidReplicaAssignment => Kind::InvalidReplicaAssignment,
        ErrorCode::InvalidConfig => Kind::InvalidConfig,
        ErrorCode::InvalidRequest => Kind::InvalidRequest,
        ErrorCode::PolicyViolation => Kind::TooMany,
        ErrorCode::NotController => Kind::NotController,
        ErrorCode::StaleBrokerEpoch => Kind::StaleBrokerEpoch,
        ErrorCode::BrokerIdNotRegistered => Kind::BrokerNotRegistered,
        ErrorCode::DuplicateBrokerRegistration => Kind::DuplicateRegistration,
        ErrorCode::InvalidRegistration => Kind::InvalidRegistration,
        ErrorCode::InconsistentClusterId => Kind::InconsistentClusterId,
        ErrorCode::UnsupportedVersion => Kind::UnsupportedVersion,
        _ => Kind::Unavailable,
    }
}

const REFUSALS: [(IsrRefusal, ErrorCode); 9] = [
    (IsrRefusal::NotController, ErrorCode::NotController),
    (IsrRefusal::UnknownTopicId, ErrorCode::UnknownTopicId),
    (IsrRefusal::UnknownPartition, ErrorCode::UnknownTopicOrPartition),
    (IsrRefusal::FencedLeaderEpoch, ErrorCode::FencedLeaderEpoch),
    (IsrRefusal::InvalidUpdateVersion, ErrorCode::InvalidUpdateVersion),
    (IsrRefusal::InvalidRequest, ErrorCode::InvalidRequest),
    (IsrRefusal::IneligibleReplica, ErrorCode::IneligibleReplica),
    (IsrRefusal::NotAttempted, ErrorCode::OperationNotAttempted),
    (IsrRefusal::NewLeaderElected, ErrorCode::NewLeaderElected),
];

pub fn refusal_code(refusal: IsrRefusal) -> i16 {
    let (_, code) = REFUSALS.iter().find(|(one, _)| *one == refusal).expect("every refusal is listed");
    code.code()
}

/// A code that this build does not know is nothing that it could put right.
pub fn refusal(code: i16) -> IsrRefusal {
    let known = REFUSALS.iter().find(|(_, one)| one.code() == code);
    known.map_or(IsrRefusal::InvalidRequest, |(refusal, _)| *refusal)
}
