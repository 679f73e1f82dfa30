//! What has to be known of the cluster's metadata to tell what a data directory holds.

use std::sync::Arc;

use crate::log::formats::checkpoint::Origin;
use crate::model::topic_config::TopicConfig;
use crate::model::{PartitionId, TopicId};

/// The cluster's metadata, as recovery asks it.
pub trait Topics {
    /// The topic's name and configuration, if the partition exists.
    fn partition(&self, id: PartitionId) -> Option<(Arc<str>, Arc<TopicConfig>)>;
    /// Whether the topic existed once and was deleted on purpose.
    fn was_deleted(&self, topic: TopicId) -> bool;
    /// Whether a topic of this name exists now and has a partition of this number.
    fn has_name(&self, topic: &str, partition: i32) -> bool;
    /// Whose metadata it is, and how many changes it has seen.
    fn origin(&self) -> Origin {
        Origin::default()
    }
    /// Whether deletions were forgotten, so that an id that is not known may be a deleted topic's.
    fn forgets(&self) -> bool {
        false
    }
    /// How many partitions the broker has whose directory it is.
    fn partition_count(&self) -> usize {
        0
    }
}
