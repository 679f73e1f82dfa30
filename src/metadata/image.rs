//! The metadata as of one moment: immutable, shared by every shard as `Arc<Image>`. A copy is some pointers, and a change
//! copies the way to what it changes.
//!
//! It says what everybody agrees on. What one broker makes of it, with settings and overrides of its own, is
//! [`super::resolve`]'s.
//!
//! Invariants: a topic is found under its name and under its id or under neither; partition indexes are dense from 0; epochs
//! never fall; a deleted id never names a topic again.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire_core::StrBytes;

use super::deleted::Deleted;
use super::partition::{Partition, Partitions};
use super::records::{Endpoint, FeatureRange, Owner, Record};
use crate::model::internal;
use crate::model::map::Map;
use crate::model::{BrokerEpoch, BrokerId, PartitionId, TopicId};
use crate::security::quota::Table;

pub type Overrides = BTreeMap<String, String>;

/// A broker as it registered, and what became of it since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: BrokerId,
    /// Of its process.
    pub incarnation: [u8; 16],
    /// The offset of its registration: tells its lives apart, and rises.
    pub epoch: BrokerEpoch,
    /// Of the directory that holds its metadata.
    pub directory: [u8; 16],
    /// Never empty.
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    pub shards: u32,
    pub features: Vec<FeatureRange>,
    pub build: String,
    /// It leads nothing and is told to nobody as a place to go.
    pub fenced: bool,
    pub draining: bool,
    pub shutting_down: bool,
}

impl Broker {
    /// Where clients of this listener reach it, if it has one of that name: an address that is right for those of
    /// another means nothing to them.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }

    pub fn host(&self) -> &str {
        &self.endpoints[0].host
    }

    pub fn port(&self) -> u16 {
        self.endpoints[0].port
    }
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub name: Arc<str>,
    pub id: TopicId,
    pub partitions: Partitions,
    /// What was set on this topic.
    pub overrides: Arc<Overrides>,
    /// It gets more replicas when there are more brokers.
    pub factor_auto: bool,
    pub(super) wire_name: StrBytes,
}

impl Topic {
    /// The name as responses carry it, without a copy.
    pub fn wire_name(&self) -> StrBytes {
        self.wire_name.clone()
    }

    pub fn is_internal(&self) -> bool {
        internal::is_internal(&self.name)
    }

    /// In the order of their indexes.
    pub fn partition_ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        let topic = self.id;
        (0..self.partitions.len() as i32).map(move |index| PartitionId { topic, index })
    }

    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

#[derive(Clone, Debug)]
pub struct Image {
    /// The offset of the last commit applied: how many there were, or were taken for snapshots.
    pub version: u64,
    pub cluster_id: Arc<str>,
    /// Overrides of everything that is not a topic; an owner without any is not there.
    pub overrides: Map<Owner, Arc<Overrides>>,
    pub quotas: Arc<Table>,
    pub next_producer_id: i64,
    /// An operator chose who votes on the metadata.
    pub voters_by_hand: bool,
    /// The level of each feature.
    pub features: Map<String, i16>,
    pub(super) brokers: Map<BrokerId, Arc<Broker>>,
    pub(super) by_name: Map<Arc<str>, Arc<Topic>>,
    pub(super) by_id: Map<TopicId, Arc<Topic>>,
    pub(super) partitions: usize,
    pub(super) deleted: Deleted,
    /// The records so far of a large change that is not at its end.
    pub(super) bracketed: Option<Arc<Vec<Record>>>,
}

impl Image {
    /// Of a cluster that has nothing yet, not even an id.
    pub fn empty() -> Self {
        Self {
            version: 0,
            cluster_id: "".into(),
            overrides: Map::default(),
            quotas: Arc::default(),
            next_producer_id: 0,
            voters_by_hand: false,
            features: Map::default(),
            brokers: Map::default(),
            by_name: Map::default(),
            by_id: Map::default(),
            partitions: 0,
            deleted: Deleted::default(),
            bracketed: None,
        }
    }

    /// Whether a large change was begun that is not at its end.
    pub fn is_bracketed(&self) -> bool {
        self.bracketed.is_some()
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.topic_by_id(id.topic)?.partition(id.index)
    }

    /// Every topic, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// Topics whose names are not before `name`, by name.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.range_from(name).map(|(_, topic)| topic)
    }

    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    /// Every partition that a broker leads. Goes through all there are.
    pub fn led_by(&self, broker: BrokerId) -> impl Iterator<Item = PartitionId> {
        self.by_id.values().flat_map(move |topic| {
            let led = topic.partitions.iter().zip(topic.partition_ids());
            led.filter(move |(partition, _)| partition.leader == Some(broker)).map(|(_, id)| id)
        })
    }

    /// Whether a topic of this id existed and was deleted; old deletions are forgotten.
    pub fn was_deleted(&self, id: TopicId) -> bool {
        self.deleted.contains(id)
    }

    /// Whether deletions were forgotten.
    pub fn forgets(&self) -> bool {
        self.deleted.is_full()
    }

    /// Those that are registered, by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Broker> {
        self.brokers.values().map(|broker| &**broker)
    }

    pub fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&id).map(|broker| &**broker)
    }

    /// A dynamic broker config's value and whose it is: this broker's own first, then everybody's.
    pub fn broker_override(&self, broker: BrokerId, name: &str) -> Option<(Owner, &str)> {
        [Owner::Broker(broker), Owner::EveryBroker].into_iter().find_map(|owner| {
            let value = self.overrides.get(&owner)?.get(name)?;
            Some((owner, value.as_str()))
        })
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
