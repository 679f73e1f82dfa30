//! What brokers say to the controller: their registration, heartbeats, and who is in sync with them.

use std::sync::Arc;

use super::loads::BrokerLoad;
use crate::metadata::Partition;
use crate::metadata::features;
use crate::metadata::records::{Endpoint, FeatureRange};
use crate::model::listener::{Listener, SecurityProtocol};
use crate::model::{BrokerEpoch, BrokerId, BrokerSettings, LeaderEpoch, PartitionEpoch, PartitionId};

/// What a broker says of itself when it comes.
#[derive(Clone, Debug)]
pub struct Registration {
    pub cluster: String,
    /// `None` for one that never was in the cluster: the controller gives it an id.
    pub id: Option<BrokerId>,
    /// Drawn by its process.
    pub incarnation: [u8; 16],
    /// Of its metadata's directory.
    pub directory: [u8; 16],
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    pub shards: u32,
    pub features: Vec<FeatureRange>,
    pub build: String,
    /// The epoch of its last life if that ended with all it had appended on disk: Kafka's `previousBrokerEpoch`.
    pub stopped_in: Option<BrokerEpoch>,
    /// Partitions of which it has lost something.
    pub needs_repair: Vec<PartitionId>,
}

/// Says that a broker lives.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    pub id: BrokerId,
    pub epoch: BrokerEpoch,
    /// The newest metadata that all its shards have applied.
    pub applied: u64,
    /// It cannot serve for now.
    pub wants_fence: bool,
    /// It would stop once others lead what it leads.
    pub wants_shutdown: bool,
    /// Partitions of which it has lost something, all of them each time.
    pub needs_repair: Vec<PartitionId>,
    /// What it holds and takes, where there is something new to tell of that.
    pub load: Option<BrokerLoad>,
}

/// What a broker that lives is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// It has applied its own registration.
    pub caught_up: bool,
    pub fenced: bool,
    /// Of a broker that would stop: it may.
    pub may_stop: bool,
}

/// A leader's view of who is in sync with it.
#[derive(Clone, Debug)]
pub struct AlterPartitions {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
    /// The newest metadata that the leader has applied.
    pub applied: u64,
    pub changes: Vec<IsrChange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrChange {
    pub id: PartitionId,
    pub leader_epoch: LeaderEpoch,
    /// Of the partition that it is a change of.
    pub partition_epoch: PartitionEpoch,
    /// Who is in sync, the leader too, each in the life in which it was seen to be.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// Whether the leader, elected out of sync, still has to look what became of the log.
    pub recovering: bool,
}

/// A partition as it is after a change of its ISR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<BrokerId>,
    pub recovering: bool,
}

impl PartitionState {
    pub fn of(partition: &Partition) -> Self {
        Self {
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: partition.isr().collect(),
            recovering: partition.recovering,
        }
    }
}

/// Why an ISR stays as it is, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsrRefusal {
    /// The leader knows epochs that this controller does not.
    NotController,
    UnknownTopicId,
    UnknownPartition,
    /// Another election was since.
    FencedLeaderEpoch,
    /// The partition changed since; what it is now comes with the metadata.
    InvalidUpdateVersion,
    /// Not by the leader, or not a set of replicas with the leader in it.
    InvalidRequest,
    /// Of the brokers one is fenced, about to stop, or in another life.
    IneligibleReplica,
    /// The leader has not heard yet by what rules it commits: it asks again.
    NotAttempted,
    /// Accepted, and it ended a move after which another leads.
    NewLeaderElected,
}

impl Registration {
    /// Of this process.
    pub fn of(settings: &BrokerSettings, shards: usize, directory: [u8; 16], incarnation: [u8; 16]) -> Self {
        let endpoint = |listener: &Arc<Listener>| Endpoint {
            listener: listener.name.to_string(),
            host: listener.host.clone(),
            port: listener.port,
            security: match listener.protocol {
                SecurityProtocol::Plaintext => 0,
            },
        };
        Self {
            cluster: String::new(),
            id: Some(settings.broker_id),
            incarnation,
            directory,
            endpoints: settings.listeners.iter().chain(&settings.cluster_listener).map(endpoint).collect(),
            rack: settings.rack.clone(),
            shards: shards as u32,
            features: features::supported(),
            build: env!("CARGO_PKG_VERSION").into(),
            stopped_in: None,
            needs_repair: Vec::new(),
        }
    }
}
