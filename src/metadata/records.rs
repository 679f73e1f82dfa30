//! The records that metadata is made of. They are stored: a variant or field is never changed, reordered
//! or removed; new variants go at the end, and what an old reader cannot know raises
//! [`super::log::FORMAT`].

use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, TopicId};
use crate::security::quota::Entity;

/// Which thing a config override belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Owner {
    Topic(TopicId),
    Broker(BrokerId),
    /// All brokers that do not set it themselves.
    EveryBroker,
    Group(String),
    /// A subscription to clients' metrics.
    ClientMetrics(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The cluster's identity; the first record of all.
    Cluster {
        id: String,
    },
    /// A broker began to serve. The epochs of the partitions that it leads rise by one, so that what an
    /// earlier run may have lost can be told from what this one writes.
    BrokerStarted {
        broker: BrokerId,
    },
    /// A topic with the replicas of each of its partitions, the leader first.
    Topic {
        id: TopicId,
        name: String,
        replicas: Vec<Vec<BrokerId>>,
    },
    /// Further partitions of a topic.
    Partitions {
        topic: TopicId,
        replicas: Vec<Vec<BrokerId>>,
    },
    TopicDeleted {
        id: TopicId,
    },
    /// Sets a config override, or removes it.
    Config {
        owner: Owner,
        name: String,
        value: Option<String>,
    },
    /// Producer ids below this one are given out.
    ProducerIds {
        next: i64,
    },
    /// Snapshots only: the leader epochs of a topic's partitions.
    LeaderEpochs {
        topic: TopicId,
        epochs: Vec<i32>,
    },
    /// Snapshots only: topics that were deleted and not yet forgotten, oldest first.
    DeletedTopics {
        ids: Vec<TopicId>,
    },
    /// Sets a quota's limit, or removes it.
    Quota {
        entity: Entity,
        key: String,
        /// The bits of a double.
        value: Option<u64>,
    },
}
