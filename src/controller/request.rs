//! What the shards may ask of the controller, and what it answers. Plain data that can cross threads.

use std::sync::Arc;

use super::brokers::{AlterPartitions, Heard, Heartbeat, IsrRefusal, PartitionState, Registration};
use crate::metadata::Topic;
use crate::model::report::{Drain, Drained};
use crate::model::{BrokerEpoch, BrokerId, TopicId};
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
    ProducerIds {
        broker: BrokerId,
        epoch: BrokerEpoch,
    },
    /// A broker comes in a new life, or says something else of itself in the same one.
    Register(Box<Registration>),
    Heartbeat(Heartbeat),
    /// Nothing listens any more where a broker was: its process has ended.
    Gone {
        id: BrokerId,
        epoch: BrokerEpoch,
    },
    AlterPartitions(AlterPartitions),
    /// Takes a broker that is gone for good out of the cluster.
    Unregister {
        id: BrokerId,
    },
    /// Moves leadership to the preferred replicas, or `unclean` to any that lives (KIP-460).
    ElectLeaders {
        /// By topic and index; `None` for all there are, of which those that need no election are not told.
        partitions: Option<Vec<(String, i32)>>,
        unclean: bool,
    },
    /// Moves partitions to other brokers, or stops that (KIP-455).
    Reassign {
        partitions: Vec<Reassignment>,
        /// Whether partitions may end with more or fewer replicas than they have (KIP-860).
        factor_may_change: bool,
    },
    /// Takes what a broker holds elsewhere, and gives it nothing any more; or ends that.
    Drain(Drain),
    /// Whether an operator chooses who votes on the metadata.
    VotersByHand {
        is: bool,
    },
    /// What is being moved.
    ListReassignments {
        /// By topic and index; `None` for all there are.
        partitions: Option<Vec<(String, i32)>>,
    },
}

/// Where one partition is to go.
#[derive(Clone, Debug)]
pub struct Reassignment {
    pub topic: String,
    pub index: i32,
    /// `None` goes back to what was before the move.
    pub replicas: Option<Vec<BrokerId>>,
}

/// A partition that is being moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    pub topic: Arc<str>,
    pub index: i32,
    /// All that hold it now, those that are to come and to go included.
    pub replicas: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
}

/// A partition by its topic's name, and whether it has a leader as it was wanted.
pub type Elected = (String, i32, Result<(), ControlError>);

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
    /// The broker's id and the epoch of this life.
    Registered {
        id: BrokerId,
        epoch: BrokerEpoch,
    },
    Heard(Heard),
    /// It is fenced, if that was its life.
    Gone,
    AlteredPartitions(Vec<Result<PartitionState, IsrRefusal>>),
    Unregistered,
    ElectLeaders(Vec<Elected>),
    Reassign(Vec<Result<(), ControlError>>),
    Reassignments(Vec<Moving>),
    Drained(Box<Drained>),
    VotersByHand,
    /// The whole request was refused; or nothing was decided: the metadata log cannot be written, or the broker is stopping.
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
    /// Another node is the controller, or this one knows less than who asks.
    NotController,
    /// The broker came in another life since.
    StaleBrokerEpoch,
    BrokerNotRegistered,
    /// Another process has this broker id and lives.
    DuplicateRegistration,
    InvalidRegistration,
    InconsistentClusterId,
    /// A broker cannot run at the levels that the cluster runs at.
    UnsupportedVersion,
    ElectionNotNeeded,
    PreferredLeaderNotAvailable,
    EligibleLeadersNotAvailable,
    NoReassignment,
    DuplicateVoter,
    VoterNotFound,
    /// The broker has another directory than was said.
    InvalidVoterKey,
    /// It did not come to it in time, or something else is under way.
    TimedOut,
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
