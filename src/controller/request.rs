//! What the shards may ask of the controller, and what it answers. Plain data that can cross threads.

use std::sync::Arc;

use crate::metadata::Topic;
use crate::model::{BrokerId, TopicId};
use crate::security::quota::Entity;

#[derive(Clone, Debug)]
pub enum ControlRequest {
    CreateTopics {
        topics: Vec<NewTopic>,
        validate_only: bool,
    },
    DeleteTopics {
        topics: Vec<TopicRef>,
    },
    CreatePartitions {
        topics: Vec<NewPartitions>,
        validate_only: bool,
    },
    /// Replaces all overrides of each resource.
    AlterConfigs {
        resources: Vec<(ConfigResource, Vec<(String, String)>)>,
        validate_only: bool,
    },
    IncrementalAlterConfigs {
        resources: Vec<(ConfigResource, Vec<ConfigChange>)>,
        validate_only: bool,
    },
    /// Sets and removes limits of each entity.
    AlterQuotas {
        changes: Vec<QuotaChange>,
        validate_only: bool,
    },
    /// A block of producer ids that nobody else will be given.
    AllocateProducerIds {
        count: i32,
    },
}

/// One result for each item of the request, in its order.
#[derive(Clone, Debug)]
pub enum ControlReply {
    /// The topics as they are, or would be.
    CreateTopics(Vec<Result<Arc<Topic>, ControlError>>),
    /// The topics as they were.
    DeleteTopics(Vec<Result<Arc<Topic>, ControlError>>),
    CreatePartitions(Vec<Result<(), ControlError>>),
    AlterConfigs(Vec<Result<(), ControlError>>),
    AlterQuotas(Vec<Result<(), ControlError>>),
    ProducerIds(Result<ProducerIdBlock, ControlError>),
    /// Nothing was decided: the metadata log cannot be written, or the broker is stopping.
    Failed(ControlError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    pub first: i64,
    pub len: i32,
}

#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    pub name: String,
    /// -1 for the broker's default, or where `assignments` are given.
    pub partitions: i32,
    /// -1 for the broker's default, or where `assignments` are given.
    pub replication_factor: i16,
    /// Partition index and replicas; empty to let the controller place them.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    pub configs: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// A topic with the broker's defaults throughout.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), partitions: -1, replication_factor: -1, ..Self::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRef {
    Name(String),
    Id(TopicId),
}

#[derive(Clone, Debug)]
pub struct NewPartitions {
    pub topic: String,
    /// How many partitions there are to be in all.
    pub total: i32,
    /// The new partitions' replicas, or `None` to let the controller place them.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResource {
    Topic(String),
    /// One broker, or all of them.
    Broker(Option<BrokerId>),
    Group(String),
    ClientMetrics(String),
}

/// What is to become of one entity's limits: `None` removes one.
#[derive(Clone, Debug)]
pub struct QuotaChange {
    pub entity: Entity,
    pub limits: Vec<(String, Option<f64>)>,
}

#[derive(Clone, Debug)]
pub struct ConfigChange {
    pub name: String,
    pub op: ConfigOp,
}

#[derive(Clone, Debug)]
pub enum ConfigOp {
    Set(String),
    Delete,
    /// Adds items to a list.
    Append(String),
    /// Takes items out of a list.
    Subtract(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlErrorKind {
    InvalidTopic,
    TopicExists,
    UnknownTopic,
    UnknownTopicId,
    DeletionDisabled,
    InvalidPartitions,
    InvalidReplicationFactor,
    InvalidReplicaAssignment,
    InvalidConfig,
    InvalidRequest,
    TooManyPartitions,
    /// There are as many things of a kind as there may be.
    TooMany,
    /// The place of a partition's files has files of something else.
    Occupied,
    /// The metadata log failed or the broker stops: nothing is known to have happened.
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    pub kind: ControlErrorKind,
    /// For the user.
    pub message: String,
}

impl ControlError {
    pub fn new(kind: ControlErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
