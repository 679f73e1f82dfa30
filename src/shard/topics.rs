//! What recovery asks of the metadata.

use std::sync::Arc;

use crate::log::{Origin, Topics};
use crate::metadata::{Image, Resolver};
use crate::model::topic_config::TopicConfig;
use crate::model::{PartitionId, TopicId};

/// An image as one broker sees it.
pub struct View<'a> {
    pub image: &'a Image,
    pub resolver: &'a Resolver,
}

impl Topics for View<'_> {
    fn partition(&self, id: PartitionId) -> Option<(String, Arc<TopicConfig>)> {
        let topic = self.image.topic_by_id(id.topic)?;
        topic.partition(id.index)?;
        Some((topic.name.to_string(), self.resolver.topic(self.image, &topic.overrides)))
    }

    fn was_deleted(&self, topic: TopicId) -> bool {
        self.image.was_deleted(topic)
    }

    fn origin(&self) -> Origin {
        Origin { directory: self.image.cluster_id.to_string(), version: self.image.version }
    }

    fn forgets(&self) -> bool {
        self.image.forgets()
    }

    fn partition_count(&self) -> usize {
        self.image.partition_count()
    }

    fn has_name(&self, topic: &str, partition: i32) -> bool {
        self.image.topic(topic).is_some_and(|t| t.partition(partition).is_some())
    }
}
