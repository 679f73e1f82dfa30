//! What the metadata handlers share: errors of the controller as Kafka names them, and small conversions.

use kafka_wire_core::{StrBytes, Uuid};

use super::authorize::Rights;
use crate::controller::{ControlError, ControlErrorKind as Kind, ControlReply};
use crate::model::TopicId;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// The id of a leader that is not there.
pub const NO_LEADER: i32 = -1;
/// `authorized operations` where they were not asked for.
pub const NOT_ASKED: i32 = i32::MIN;

/// What may be done to the cluster, for whom it may be described to.
pub fn cluster_operations(rights: &impl Rights) -> i32 {
    match rights.may(Operation::Describe, Resource::Cluster) {
        true => rights.operations(Resource::Cluster),
        false => 0,
    }
}

pub fn code(error: &ControlError) -> ErrorCode {
    match error.kind {
        Kind::InvalidTopic => ErrorCode::InvalidTopicException,
        Kind::TopicExists => ErrorCode::TopicAlreadyExists,
        Kind::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
        Kind::UnknownTopicId => ErrorCode::UnknownTopicId,
        Kind::DeletionDisabled => ErrorCode::TopicDeletionDisabled,
        Kind::InvalidPartitions => ErrorCode::InvalidPartitions,
        Kind::InvalidReplicationFactor => ErrorCode::InvalidReplicationFactor,
        Kind::InvalidReplicaAssignment => ErrorCode::InvalidReplicaAssignment,
        Kind::InvalidConfig => ErrorCode::InvalidConfig,
        Kind::InvalidRequest => ErrorCode::InvalidRequest,
        Kind::TooManyPartitions | Kind::TooMany | Kind::Occupied => ErrorCode::PolicyViolation,
        Kind::NotController => ErrorCode::NotController,
        Kind::StaleBrokerEpoch => ErrorCode::StaleBrokerEpoch,
        Kind::BrokerNotRegistered => ErrorCode::BrokerIdNotRegistered,
        Kind::DuplicateRegistration => ErrorCode::DuplicateBrokerRegistration,
        Kind::InvalidRegistration => ErrorCode::InvalidRegistration,
        Kind::InconsistentClusterId => ErrorCode::InconsistentClusterId,
        Kind::UnsupportedVersion => ErrorCode::UnsupportedVersion,
        Kind::ElectionNotNeeded => ErrorCode::ElectionNotNeeded,
        Kind::PreferredLeaderNotAvailable => ErrorCode::PreferredLeaderNotAvailable,
        Kind::EligibleLeadersNotAvailable => ErrorCode::EligibleLeadersNotAvailable,
        Kind::NoReassignment => ErrorCode::NoReassignmentInProgress,
        Kind::DuplicateVoter => ErrorCode::DuplicateVoter,
        Kind::VoterNotFound => ErrorCode::VoterNotFound,
        Kind::InvalidVoterKey => ErrorCode::InvalidVoterKey,
        Kind::TimedOut => ErrorCode::RequestTimedOut,
        Kind::Unavailable => ErrorCode::KafkaStorageError,
    }
}

pub fn message(error: &ControlError) -> Option<StrBytes> {
    Some(StrBytes::from(error.message.as_str()))
}

/// The error of a reply that holds no results: the same for every item of the request.
pub fn whole_error(reply: ControlReply) -> ControlError {
    match reply {
        ControlReply::Failed(error) => error,
        other => {
            ControlError::new(Kind::Unavailable, format!("the controller answered something else: {other:?}"))
        }
    }
}

pub fn uuid(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}

pub fn topic_id(id: Uuid) -> TopicId {
    TopicId(id.to_bytes())
}

/// Builds one of `kafka_wire`'s messages, which can only be made from their defaults.
pub fn build<T: Default>(fill: impl FnOnce(&mut T)) -> T {
    let mut value = T::default();
    fill(&mut value);
    value
}

#[cfg(test)]
pub mod testing {
    use kafka_wire_core::{ApiVersion, DecodeLimits};

    use crate::controller::{ControlReply, ControlRequest, Desk, NewTopic};
    use crate::model::BrokerSettings;

    /// Encodes a response at a version and reads it back: a field that the version cannot carry fails here.
    pub fn round_trip<R: kafka_wire::KafkaMessage>(response: &R, version: i16) -> R {
        let version = ApiVersion::new(version);
        let bytes =
            response.encode_to_bytes(version).unwrap_or_else(|e| panic!("{} v{version}: {e}", R::NAME));
        R::decode_from_bytes(bytes, version, DecodeLimits::default()).unwrap()
    }

    /// A controller with topics of these names and partition counts.
    pub fn controller(topics: &[(&str, i32)]) -> Desk {
        let mut controller = Desk::in_memory(&BrokerSettings::default());
        let topics = topics
            .iter()
            .map(|(name, partitions)| NewTopic { partitions: *partitions, ..NewTopic::named(*name) });
        let request = ControlRequest::CreateTopics { topics: topics.collect(), validate_only: false };
        match controller.handle(&request) {
            ControlReply::CreateTopics(results) => results.into_iter().for_each(|r| drop(r.unwrap())),
            other => panic!("{other:?}"),
        }
        controller
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn operations_are_kafkas() {
        use super::super::authorize::Everything;
        use super::*;

        let all = [Resource::Topic("t"), Resource::Group("g"), Resource::Cluster];
        assert_eq!(all.map(|resource| Everything.operations(resource)), [3576, 3400, 8096]);
        assert_eq!(cluster_operations(&Everything), 8096);
    }
}
