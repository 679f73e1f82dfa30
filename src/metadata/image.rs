//! The metadata as of one moment: immutable, shared by every shard as `Arc<Image>`.
//!
//! Invariants: a topic is found under its name and under its id or under neither; partition indexes are
//! dense from 0; leader epochs never fall; a deleted id never names a topic again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use kafka_wire_core::StrBytes;

use super::internal;
use super::records::{Owner, Record};
use crate::model::topic_config::TOPIC_CONFIGS;
use crate::model::{BrokerId, BrokerSettings, Live, PartitionId, TopicConfig, TopicId};
use crate::security::quota::Table;

/// Deleted topics that are remembered. With so many, what a journal still holds of a topic that is not known may be of
/// one deleted before them: recovery then sets it aside, and does not take the metadata for another's.
const MAX_DELETED: usize = 10_000;

pub type Overrides = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: BrokerId,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub leader: BrokerId,
    pub leader_epoch: i32,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub name: Arc<str>,
    pub id: TopicId,
    pub partitions: Vec<Partition>,
    /// What applies: defaults, the broker's values, the topic's own.
    pub config: Arc<TopicConfig>,
    /// What was set on this topic.
    pub overrides: Overrides,
    wire_name: StrBytes,
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
    /// Commits applied; rises with every change.
    pub version: u64,
    pub cluster_id: String,
    pub brokers: Vec<Broker>,
    /// Overrides of everything that is not a topic; an owner without any is not there.
    pub overrides: BTreeMap<Owner, Overrides>,
    pub quotas: Arc<Table>,
    pub next_producer_id: i64,
    /// The settings that can be changed while the broker runs, as they are now.
    pub live: Arc<Live>,
    started_with: Arc<StartedWith>,
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    by_id: BTreeMap<TopicId, Arc<Topic>>,
    deleted: Arc<Deleted>,
}

/// What the broker's settings say of things that the metadata may say otherwise.
#[derive(Debug)]
struct StartedWith {
    topic_defaults: Overrides,
    live: Live,
}

#[derive(Clone, Debug, Default)]
struct Deleted {
    order: VecDeque<TopicId>,
    set: BTreeSet<TopicId>,
}

/// A stored record that does not fit what precedes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("topic {0} is created twice")]
    TopicTwice(TopicId),
    #[error("the topic name '{0}' is given twice")]
    NameTwice(String),
    #[error("topic {0} does not exist")]
    NoTopic(TopicId),
    #[error("a partition of topic {0} has no replica")]
    NoReplica(TopicId),
}

impl Image {
    /// No topics: what the broker's settings alone say.
    pub fn empty(settings: &BrokerSettings) -> Self {
        let broker = Broker {
            id: settings.broker_id,
            host: settings.advertised_host.clone(),
            port: settings.advertised_port,
            rack: settings.rack.clone(),
        };
        Self {
            version: 0,
            cluster_id: String::new(),
            brokers: vec![broker],
            overrides: BTreeMap::new(),
            quotas: Arc::default(),
            next_producer_id: 0,
            live: Arc::new(settings.live.clone()),
            started_with: Arc::new(StartedWith {
                topic_defaults: settings.topic_defaults.clone(),
                live: settings.live.clone(),
            }),
            by_name: BTreeMap::new(),
            by_id: BTreeMap::new(),
            deleted: Arc::default(),
        }
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// Every topic, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// Topics whose names are not before `name`, by name.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.range::<str, _>((Bound::Included(name), Bound::Unbounded)).map(|(_, topic)| topic)
    }

    pub fn partition_count(&self) -> usize {
        self.by_name.values().map(|topic| topic.partitions.len()).sum()
    }

    /// Whether a topic of this id existed and was deleted; old deletions are forgotten.
    pub fn was_deleted(&self, id: TopicId) -> bool {
        self.deleted.set.contains(&id)
    }

    /// Whether deletions were forgotten.
    pub fn forgets(&self) -> bool {
        self.deleted.order.len() >= MAX_DELETED
    }

    pub fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.iter().find(|broker| broker.id == id)
    }

    /// A dynamic broker config's value and whose it is: this broker's own first, then everybody's.
    pub fn broker_override(&self, broker: BrokerId, name: &str) -> Option<(&Owner, &str)> {
        [Owner::Broker(broker), Owner::EveryBroker].iter().find_map(|owner| {
            let (owner, overrides) = self.overrides.get_key_value(owner)?;
            overrides.get(name).map(|value| (owner, value.as_str()))
        })
    }

    /// What a topic with these overrides runs with.
    pub fn resolve(&self, overrides: &Overrides) -> TopicConfig {
        let broker = self.brokers.first().map_or(0, |broker| broker.id);
        let pair = |(name, value): (&'_ String, &'_ String)| (name.clone(), value.clone());
        let fixed = self.started_with.topic_defaults.iter().map(pair);
        let dynamic = TOPIC_CONFIGS.iter().filter_map(|def| {
            let (_, value) = self.broker_override(broker, def.broker_name?)?;
            Some((def.name.to_string(), value.to_string()))
        });
        let all: Vec<_> = fixed.chain(dynamic).chain(overrides.iter().map(pair)).collect();
        TopicConfig::resolve(all.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// The image after one more commit.
    pub fn with(&self, records: &[Record]) -> Result<Self, ApplyError> {
        let mut next = self.clone();
        next.apply(records)?;
        Ok(next)
    }

    /// Applies one commit in place.
    pub(crate) fn apply(&mut self, records: &[Record]) -> Result<(), ApplyError> {
        for record in records {
            self.apply_one(record)?;
        }
        self.version += 1;
        Ok(())
    }

    fn apply_one(&mut self, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::Cluster { id } => self.cluster_id = id.clone(),
            Record::BrokerStarted { broker } => self.raise_epochs(*broker),
            Record::Topic { id, name, replicas } => self.add_topic(*id, name, replicas)?,
            Record::Partitions { topic, replicas } => {
                let partitions = new_partitions(*topic, replicas)?;
                self.change(*topic, |topic| topic.partitions.extend(partitions))?;
            }
            Record::TopicDeleted { id } => self.remove_topic(*id)?,
            Record::Config { owner, name, value } => self.set_config(owner, name, value.as_deref())?,
            Record::ProducerIds { next } => self.next_producer_id = self.next_producer_id.max(*next),
            Record::LeaderEpochs { topic, epochs } => self.change(*topic, |topic| {
                for (partition, epoch) in topic.partitions.iter_mut().zip(epochs) {
                    partition.leader_epoch = *epoch;
                }
            })?,
            Record::Quota { entity, key, value } => {
                Arc::make_mut(&mut self.quotas).set(entity, key, value.map(f64::from_bits));
            }
            Record::DeletedTopics { ids } => ids.iter().for_each(|id| self.remember_deleted(*id)),
        }
        Ok(())
    }

    fn add_topic(&mut self, id: TopicId, name: &str, replicas: &[Vec<BrokerId>]) -> Result<(), ApplyError> {
        if self.by_id.contains_key(&id) || self.was_deleted(id) || id.is_zero() {
            return Err(ApplyError::TopicTwice(id));
        }
        if self.by_name.contains_key(name) {
            return Err(ApplyError::NameTwice(name.to_string()));
        }
        let topic = Topic {
            name: name.into(),
            id,
            partitions: new_partitions(id, replicas)?,
            config: Arc::new(self.resolve(&Overrides::new())),
            overrides: Overrides::new(),
            wire_name: StrBytes::from(name),
        };
        self.put(topic);
        Ok(())
    }

    fn remove_topic(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = self.by_id.remove(&id).ok_or(ApplyError::NoTopic(id))?;
        self.by_name.remove(&topic.name);
        self.remember_deleted(id);
        Ok(())
    }

    fn remember_deleted(&mut self, id: TopicId) {
        let deleted = Arc::make_mut(&mut self.deleted);
        if deleted.set.insert(id) {
            deleted.order.push_back(id);
        }
        if deleted.order.len() > MAX_DELETED
            && let Some(oldest) = deleted.order.pop_front()
        {
            deleted.set.remove(&oldest);
        }
    }

    fn set_config(&mut self, owner: &Owner, name: &str, value: Option<&str>) -> Result<(), ApplyError> {
        let put = |overrides: &mut Overrides| match value {
            Some(value) => overrides.insert(name.to_string(), value.to_string()),
            None => overrides.remove(name),
        };
        if let Owner::Topic(id) = owner {
            let mut topic = Topic::clone(self.by_id.get(id).ok_or(ApplyError::NoTopic(*id))?);
            put(&mut topic.overrides);
            topic.config = Arc::new(self.resolve(&topic.overrides));
            self.put(topic);
            return Ok(());
        }
        let overrides = self.overrides.entry(owner.clone()).or_default();
        put(overrides);
        if overrides.is_empty() {
            self.overrides.remove(owner);
        }
        if !matches!(owner, Owner::Broker(_) | Owner::EveryBroker) {
            return Ok(());
        }
        if TOPIC_CONFIGS.iter().any(|def| def.broker_name == Some(name)) {
            self.resolve_all();
        }
        if Live::has(name) {
            let broker = self.brokers.first().map_or(0, |broker| broker.id);
            let now = |name| self.broker_override(broker, name).map(|(_, value)| value);
            self.live = Arc::new(self.started_with.live.with(now));
        }
        Ok(())
    }

    fn resolve_all(&mut self) {
        let topics: Vec<_> = self.by_name.values().cloned().collect();
        for topic in topics {
            let config = self.resolve(&topic.overrides);
            if config != *topic.config {
                self.put(Topic { config: Arc::new(config), ..Topic::clone(&topic) });
            }
        }
    }

    fn raise_epochs(&mut self, broker: BrokerId) {
        let topics: Vec<_> = self.by_name.values().cloned().collect();
        for topic in topics {
            let mut topic = Topic::clone(&topic);
            for partition in topic.partitions.iter_mut().filter(|p| p.leader == broker) {
                partition.leader_epoch = partition.leader_epoch.saturating_add(1);
            }
            self.put(topic);
        }
    }

    fn change(&mut self, id: TopicId, edit: impl FnOnce(&mut Topic)) -> Result<(), ApplyError> {
        let mut topic = Topic::clone(self.by_id.get(&id).ok_or(ApplyError::NoTopic(id))?);
        edit(&mut topic);
        self.put(topic);
        Ok(())
    }

    fn put(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        self.by_name.insert(topic.name.clone(), topic.clone());
        self.by_id.insert(topic.id, topic);
    }

    /// The fewest records that make this image out of an empty one.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![
            Record::Cluster { id: self.cluster_id.clone() },
            Record::ProducerIds { next: self.next_producer_id },
        ];
        let config = |owner: &Owner, overrides: &Overrides| {
            let one = |(name, value): (&String, &String)| Record::Config {
                owner: owner.clone(),
                name: name.clone(),
                value: Some(value.clone()),
            };
            overrides.iter().map(one).collect::<Vec<_>>()
        };
        for (owner, overrides) in &self.overrides {
            records.extend(config(owner, overrides));
        }
        for (entity, limits) in self.quotas.iter() {
            records.extend(limits.iter().map(|(key, value)| Record::Quota {
                entity: entity.clone(),
                key: key.clone(),
                value: Some(value.to_bits()),
            }));
        }
        for topic in self.by_name.values() {
            let id = topic.id;
            let replicas = topic.partitions.iter().map(|p| p.replicas.clone()).collect();
            records.push(Record::Topic { id, name: topic.name.to_string(), replicas });
            let epochs = topic.partitions.iter().map(|p| p.leader_epoch).collect();
            records.push(Record::LeaderEpochs { topic: id, epochs });
            records.extend(config(&Owner::Topic(id), &topic.overrides));
        }
        records.push(Record::DeletedTopics { ids: self.deleted.order.iter().copied().collect() });
        records
    }
}

fn new_partitions(topic: TopicId, replicas: &[Vec<BrokerId>]) -> Result<Vec<Partition>, ApplyError> {
    let one = |replicas: &Vec<BrokerId>| {
        let leader = *replicas.first().ok_or(ApplyError::NoReplica(topic))?;
        Ok(Partition { leader, leader_epoch: 0, replicas: replicas.clone(), isr: replicas.clone() })
    };
    replicas.iter().map(one).collect()
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
