//! What recovery asks of the metadata.

use std::sync::Arc;

use crate::log::{Origin, Topics};
use crate::metadata::{Image, Resolver};
use crate::model::topic_config::TopicConfig;
use crate::model::{BrokerId, PartitionId, TopicId};

/// An image as one broker sees it.
pub struct View<'a> {
    pub image: &'a Image,
    pub resolver: &'a Resolver,
    /// The broker, where it is known: a directory need not have what others keep.
    pub of: Option<BrokerId>,
    /// It followed a recovery of its cluster: what the metadata does not know was made by those that are lost.
    pub follows: bool,
}

impl Topics for View<'_> {
    fn partition(&self, id: PartitionId) -> Option<(Arc<str>, Arc<TopicConfig>)> {
        let topic = self.image.topic_by_id(id.topic)?;
        topic.partition(id.index)?;
        Some((topic.name.clone(), self.resolver.topic(self.image, &topic.overrides)))
    }

    fn was_deleted(&self, topic: TopicId) -> bool {
        self.image.was_deleted(topic)
    }

    fn origin(&self) -> Origin {
        Origin { directory: self.image.cluster_id.to_string(), version: self.image.version }
    }

    fn forgets(&self) -> bool {
        self.follows || self.image.forgets()
    }

    fn partition_count(&self) -> usize {
        let Some(me) = self.of else { return self.image.partition_count() };
        let partitions = self.image.topics().flat_map(|topic| topic.partitions.iter());
        partitions.filter(|partition| partition.has_replica(me)).count()
    }

    fn has_name(&self, topic: &str, partition: i32) -> bool {
        self.image.topic(topic).is_some_and(|t| t.partition(partition).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::records::Record;
    use crate::model::BrokerSettings;

    /// Who joins a cluster that has topics has kept none of them.
    #[test]
    fn what_other_brokers_keep_is_not_missing_here() {
        let id = TopicId([1; 16]);
        let records = [
            Record::Topic { id, name: "t".into() },
            Record::new_partition(id, 0, &[1, 2]),
            Record::new_partition(id, 1, &[1]),
        ];
        let (image, _) = Image::empty().with(&records).unwrap();
        let resolver = Resolver::new(&BrokerSettings::default());
        let count = |of| View { image: &image, resolver: &resolver, of, follows: false }.partition_count();
        assert_eq!([count(None), count(Some(1)), count(Some(2)), count(Some(3))], [2, 2, 1, 0]);
    }
}
