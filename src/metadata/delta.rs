//! What one commit, or several in a row, changed: names of things, to be looked up in the image after it. Whoever follows
//! the metadata does work for what is named here, and for nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::image::{Image, Topic};
use super::records::Owner;
use crate::model::{BrokerId, PartitionId, TopicId};

#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Partitions that are new or not what they were.
    pub partitions: BTreeSet<PartitionId>,
    /// Topics whose overrides changed.
    pub configs: BTreeSet<TopicId>,
    /// Topics that went, as they were.
    pub deleted: BTreeMap<TopicId, Arc<Topic>>,
    /// What else has overrides that changed.
    pub owners: BTreeSet<Owner>,
    /// Brokers that came, went or changed.
    pub brokers: BTreeSet<BrokerId>,
    pub quotas: bool,
}

/// The part of a delta that one broker has to do something for.
#[derive(Clone, Debug, Default)]
pub struct LocalDelta {
    /// Partitions that this broker leads, with their epochs as the image has them now.
    pub leaders: Vec<PartitionId>,
    /// Partitions that another broker leads, or nobody, and this one holds.
    pub followers: Vec<PartitionId>,
    /// Partitions of topics there are that this broker does not hold; whether it did only it knows.
    pub removed: Vec<PartitionId>,
    /// Topics whose overrides changed.
    pub configs: Vec<TopicId>,
    /// Overrides of this broker or of every broker changed: any topic's configuration may be another.
    pub broker_configs: bool,
    /// Topics that are gone, as they were.
    pub deleted: Vec<Arc<Topic>>,
}

impl Delta {
    /// From nothing to an image.
    pub fn whole(image: &Image) -> Self {
        let topics = || image.topics().map(|topic| topic.id);
        Self {
            partitions: image.topics().flat_map(|topic| topic.partition_ids()).collect(),
            configs: topics().collect(),
            deleted: BTreeMap::new(),
            owners: image.overrides.keys().cloned().collect(),
            brokers: image.brokers().map(|broker| broker.id).collect(),
            quotas: true,
        }
    }

    /// From one image to another that did not come of it by single commits: names more than what differs.
    pub fn replacing(old: &Image, new: &Image) -> Self {
        let mut delta = Self::whole(new);
        let gone = old.topics().filter(|topic| new.topic_by_id(topic.id).is_none());
        delta.deleted.extend(gone.map(|topic| (topic.id, topic.clone())));
        delta.owners.extend(old.overrides.keys().cloned());
        delta.brokers.extend(old.brokers().map(|broker| broker.id));
        delta
    }

    pub fn is_empty(&self) -> bool {
        let Self { partitions, configs, deleted, owners, brokers, quotas } = self;
        partitions.is_empty()
            && configs.is_empty()
            && deleted.is_empty()
            && owners.is_empty()
            && brokers.is_empty()
            && !quotas
    }

    /// Takes in what the commits right after changed.
    pub fn extend(&mut self, later: Delta) {
        self.partitions.extend(later.partitions);
        self.configs.extend(later.configs);
        self.deleted.extend(later.deleted);
        self.owners.extend(later.owners);
        self.brokers.extend(later.brokers);
        self.quotas |= later.quotas;
    }

    /// What `broker` has to do; `image` is the one after the delta.
    pub fn local(&self, broker: BrokerId, image: &Image) -> LocalDelta {
        let mut local = LocalDelta {
            configs: self.configs.iter().copied().filter(|id| image.topic_by_id(*id).is_some()).collect(),
            broker_configs: [Owner::Broker(broker), Owner::EveryBroker]
                .iter()
                .any(|o| self.owners.contains(o)),
            deleted: self.deleted.values().cloned().collect(),
            ..LocalDelta::default()
        };
        for id in &self.partitions {
            let Some(partition) = image.partition(*id) else { continue };
            match partition.leader {
                _ if !partition.has_replica(broker) => local.removed.push(*id),
                Some(leader) if leader == broker => local.leaders.push(*id),
                _ => local.followers.push(*id),
            }
        }
        local
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::Record;
    use super::*;

    const TOPIC: TopicId = TopicId([1; 16]);

    fn id(index: i32) -> PartitionId {
        PartitionId { topic: TOPIC, index }
    }

    fn topic(replicas: &[&[BrokerId]]) -> (Image, Delta) {
        let mut records = vec![Record::Topic { id: TOPIC, name: "t".into() }];
        records.extend((0..).zip(replicas).map(|(index, ids)| Record::new_partition(TOPIC, index, ids)));
        Image::empty().with(&records).unwrap()
    }

    #[test]
    fn a_broker_is_told_its_part() {
        let (image, delta) = topic(&[&[1, 2], &[2, 1], &[2, 3]]);
        let local = delta.local(1, &image);
        assert_eq!((local.leaders, local.followers, local.removed), (vec![id(0)], vec![id(1)], vec![id(2)]));
        let elected = Record::elected(TOPIC, 1, 1);
        let (next, delta) = image.with(&[elected]).unwrap();
        let local = delta.local(1, &next);
        assert_eq!((local.leaders, local.followers, local.removed), (vec![id(1)], vec![], vec![]));
        assert_eq!(next.partition(id(1)).unwrap().leader_epoch.0, 1);
        let other = delta.local(3, &next);
        assert_eq!(other.removed, [id(1)], "it holds none of it");
    }

    #[test]
    fn what_came_and_went_between_is_only_gone() {
        let (image, mut delta) = topic(&[&[1]]);
        let set = Record::Config { owner: Owner::Topic(TOPIC), name: "a".into(), value: Some("b".into()) };
        let (image, set) = image.with(&[set]).unwrap();
        delta.extend(set);
        assert_eq!(delta.local(1, &image).configs, [TOPIC]);
        let (image, gone) = image.with(&[Record::TopicDeleted { id: TOPIC }]).unwrap();
        delta.extend(gone);
        let local = delta.local(1, &image);
        let names: Vec<&str> = local.deleted.iter().map(|topic| &*topic.name).collect();
        assert_eq!(names, ["t"]);
        assert!(local.leaders.is_empty() && local.removed.is_empty() && local.configs.is_empty());
    }

    #[test]
    fn overrides_of_brokers_matter_to_those_they_are_of() {
        let set = |owner| Record::Config { owner, name: "log.retention.ms".into(), value: Some("5".into()) };
        for (owner, mine) in [(Owner::Broker(1), true), (Owner::Broker(2), false), (Owner::EveryBroker, true)]
        {
            let (image, delta) = Image::empty().with(&[set(owner)]).unwrap();
            assert_eq!(delta.local(1, &image).broker_configs, mine);
        }
    }
}
