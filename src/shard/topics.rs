//! What recovery asks of the metadata.

use std::sync::Arc;

use crate::log::{Origin, Topics};
use crate::metadata::Image;
use crate::model::topic_config::TopicConfig;
use crate::model::{PartitionId, TopicId};

impl Topics for Image {
    fn partition(&self, id: PartitionId) -> Option<(String, Arc<TopicConfig>)> {
        let topic = self.topic_by_id(id.topic)?;
        topic.partition(id.index)?;
        Some((topic.name.to_string(), topic.config.clone()))
    }

    fn was_deleted(&self, topic: TopicId) -> bool {
        Image::was_deleted(self, topic)
    }

    fn origin(&self) -> Origin {
        Origin { directory: self.cluster_id.clone(), version: self.version }
    }

    fn forgets(&self) -> bool {
        Image::forgets(self)
    }

    fn partition_count(&self) -> usize {
        Image::partition_count(self)
    }

    fn has_name(&self, topic: &str, partition: i32) -> bool {
        self.topic(topic).is_some_and(|t| t.partition(partition).is_some())
    }
}
