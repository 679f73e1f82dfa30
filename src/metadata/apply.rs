//! Records applied to an image. Pure: every node that applies the same records has the same image.

use std::sync::{Arc, LazyLock};

use kafka_wire_core::StrBytes;

use super::delta::Delta;
use super::errors::ApplyError;
use super::image::{Broker, Image, Overrides, Topic};
use super::partition::{Change, Partition, Parts};
use super::records::{Bracket, Owner, Record};
use crate::model::{BrokerEpoch, LeaderEpoch, PartitionEpoch, PartitionId, TopicId};

/// Stands where a topic is while that is edited.
static NONE: LazyLock<Arc<Topic>> = LazyLock::new(|| Arc::new(new_topic(TopicId::ZERO, "")));

impl Image {
    /// The image after one more commit, and what the commit changed.
    pub fn with(&self, records: &[Record]) -> Result<(Self, Delta), ApplyError> {
        let mut next = self.clone();
        let delta = next.apply(records)?;
        Ok((next, delta))
    }

    /// Applies one commit in place.
    pub(crate) fn apply(&mut self, records: &[Record]) -> Result<Delta, ApplyError> {
        let mut delta = Delta::default();
        records.iter().try_for_each(|record| self.take(record, &mut delta))?;
        self.version += 1;
        Ok(delta)
    }

    /// Applies records that are part of a commit.
    pub(super) fn apply_all(&mut self, records: impl IntoIterator<Item = Record>) -> Result<(), ApplyError> {
        let mut unheard = Delta::default();
        records.into_iter().try_for_each(|record| self.take(&record, &mut unheard))
    }

    /// Applies a record, or keeps it for the end of the large change that it is part of.
    fn take(&mut self, record: &Record, delta: &mut Delta) -> Result<(), ApplyError> {
        let Record::Large { part } = record else {
            return match &mut self.bracketed {
                Some(open) => {
                    Arc::make_mut(open).push(record.clone());
                    Ok(())
                }
                None => self.apply_one(record, delta),
            };
        };
        match (part, self.bracketed.take()) {
            (Bracket::Begin, None) => self.bracketed = Some(Arc::default()),
            (Bracket::End, Some(all)) => {
                all.iter().try_for_each(|record| self.apply_one(record, delta))?;
            }
            (Bracket::Abort, Some(_)) => {}
            _ => return Err(ApplyError::Bracket),
        }
        Ok(())
    }

    fn apply_one(&mut self, record: &Record, delta: &mut Delta) -> Result<(), ApplyError> {
        match record {
            Record::Cluster { id } => self.cluster_id = id.as_str().into(),
            Record::FeatureLevel { name, level } => drop(self.features.insert(name.clone(), *level)),
            Record::BrokerRegistered { .. }
            | Record::BrokerChanged { .. }
            | Record::BrokerUnregistered { .. } => {
                self.apply_broker(record, delta)?;
            }
            Record::Topic { id, name } => self.add_topic(*id, name)?,
            Record::Partition { .. } => self.add_partition(record, delta)?,
            Record::PartitionChanged { .. } => self.change_partition(record, delta)?,
            Record::TopicDeleted { id } => {
                let topic = self.by_id.remove(id).ok_or(ApplyError::NoTopic(*id))?;
                self.by_name.remove(&topic.name);
                self.partitions -= topic.partitions.len();
                self.deleted.remember(*id);
                delta.deleted.insert(*id, topic);
            }
            Record::DeletedTopics { ids } => ids.iter().for_each(|id| self.deleted.remember(*id)),
            Record::Config { owner, name, value } => self.set_config(owner, name, value.as_deref(), delta)?,
            Record::Quota { entity, key, value } => {
                Arc::make_mut(&mut self.quotas).set(entity, key, value.map(f64::from_bits));
                delta.quotas = true;
            }
            Record::ProducerIds { next } => self.next_producer_id = self.next_producer_id.max(*next),
            Record::TopicRf { topic, auto } => self.change(*topic, |topic| {
                topic.factor_auto = *auto;
                Ok(())
            })?,
            Record::ClearElr { topic: Some(id), led } => self.clear_elr(*id, *led, delta)?,
            Record::ClearElr { topic: None, led } => {
                let all: Vec<TopicId> = self.by_id.keys().copied().collect();
                all.into_iter().try_for_each(|id| self.clear_elr(id, *led, delta))?;
            }
            Record::VotersByHand { is } => self.voters_by_hand = *is,
            Record::Large { .. } => return Err(ApplyError::Bracket),
        }
        Ok(())
    }

    fn apply_broker(&mut self, record: &Record, delta: &mut Delta) -> Result<(), ApplyError> {
        match record {
            Record::BrokerRegistered {
                id,
                incarnation,
                epoch,
                directory,
                endpoints,
                rack,
                shards,
                features,
                build,
            } => {
                if endpoints.is_empty() {
                    return Err(ApplyError::NoEndpoint(*id));
                }
                let broker = Broker {
                    id: *id,
                    incarnation: *incarnation,
                    epoch: BrokerEpoch(*epoch as i64),
                    directory: *directory,
                    endpoints: endpoints.clone(),
                    rack: rack.clone(),
                    shards: *shards,
                    features: features.clone(),
                    build: build.clone(),
                    fenced: true,
                    draining: false,
                    shutting_down: false,
                };
                self.brokers.insert(*id, Arc::new(broker));
                delta.brokers.insert(*id);
            }
            Record::BrokerChanged { id, epoch, fenced, draining, shutting_down } => {
                let broker = self.brokers.get_mut(id).filter(|broker| broker.epoch.0 as u64 == *epoch);
                let broker = Arc::make_mut(broker.ok_or(ApplyError::NoBroker(*id))?);
                broker.fenced = fenced.unwrap_or(broker.fenced);
                broker.draining = draining.unwrap_or(broker.draining);
                broker.shutting_down = shutting_down.unwrap_or(broker.shutting_down);
                delta.brokers.insert(*id);
            }
            Record::BrokerUnregistered { id, epoch } => {
                let known = self.broker(*id).is_some_and(|broker| broker.epoch.0 as u64 == *epoch);
                if !known || self.brokers.remove(id).is_none() {
                    return Err(ApplyError::NoBroker(*id));
                }
                delta.brokers.insert(*id);
            }
            _ => unreachable!("only records of brokers are given here"),
        }
        Ok(())
    }

    fn add_topic(&mut self, id: TopicId, name: &str) -> Result<(), ApplyError> {
        if self.by_id.contains_key(&id) || self.was_deleted(id) || id.is_zero() {
            return Err(ApplyError::TopicTwice(id));
        }
        if self.by_name.contains_key(name) {
            return Err(ApplyError::NameTwice(name.to_string()));
        }
        let topic = Arc::new(new_topic(id, name));
        self.by_name.insert(topic.name.clone(), topic.clone());
        self.by_id.insert(id, topic);
        Ok(())
    }

    fn add_partition(&mut self, record: &Record, delta: &mut Delta) -> Result<(), ApplyError> {
        let Record::Partition {
            topic,
            index,
            leader,
            leader_epoch,
            partition_epoch,
            replicas,
            isr,
            elr,
            adding,
            removing,
            last_known,
            recovering,
        } = record
        else {
            unreachable!("only new partitions are given here");
        };
        let parts = Parts {
            leader: *leader,
            leader_epoch: LeaderEpoch(*leader_epoch),
            partition_epoch: PartitionEpoch(*partition_epoch),
            replicas,
            isr,
            elr,
            adding,
            removing,
            last_known: *last_known,
            recovering: *recovering,
        };
        let partition = Partition::new(*topic, &parts)?;
        let id = PartitionId { topic: *topic, index: *index };
        self.change(*topic, |topic| {
            if topic.partitions.len() as i64 != i64::from(*index) {
                return Err(ApplyError::OutOfOrder(id));
            }
            topic.partitions.push(partition);
            Ok(())
        })?;
        self.partitions += 1;
        delta.partitions.insert(id);
        Ok(())
    }

    fn change_partition(&mut self, record: &Record, delta: &mut Delta) -> Result<(), ApplyError> {
        let Some((id, change)) = Change::of(record) else {
            unreachable!("only changes of partitions are given here");
        };
        self.set_partition(id, &change, delta)
    }

    fn set_partition(
        &mut self,
        id: PartitionId,
        change: &Change<'_>,
        delta: &mut Delta,
    ) -> Result<(), ApplyError> {
        let partition = self.partition(id).ok_or(ApplyError::NoPartition(id))?.changed(id.topic, change)?;
        self.change(id.topic, |topic| {
            topic.partitions.set(id.index as usize, partition);
            Ok(())
        })?;
        delta.partitions.insert(id);
        Ok(())
    }

    fn clear_elr(&mut self, topic: TopicId, led: bool, delta: &mut Delta) -> Result<(), ApplyError> {
        let all = self.topic_by_id(topic).ok_or(ApplyError::NoTopic(topic))?;
        let concerned = |(partition, _): &(&Partition, PartitionId)| {
            partition.elr().next().is_some() && (!led || partition.leader.is_some())
        };
        let some = all.partitions.iter().zip(all.partition_ids()).filter(concerned);
        let some: Vec<PartitionId> = some.map(|(_, id)| id).collect();
        let none = Change { elr: Some(&[]), ..Change::default() };
        some.into_iter().try_for_each(|id| self.set_partition(id, &none, delta))
    }

    fn set_config(
        &mut self,
        owner: &Owner,
        name: &str,
        value: Option<&str>,
        delta: &mut Delta,
    ) -> Result<(), ApplyError> {
        let put = |overrides: &mut Overrides| match value {
            Some(value) => drop(overrides.insert(name.to_string(), value.to_string())),
            None => drop(overrides.remove(name)),
        };
        if let Owner::Topic(id) = owner {
            delta.configs.insert(*id);
            return self.change(*id, |topic| {
                put(Arc::make_mut(&mut topic.overrides));
                Ok(())
            });
        }
        let mut overrides = self.overrides.get(owner).cloned().unwrap_or_default();
        put(Arc::make_mut(&mut overrides));
        match overrides.is_empty() {
            true => drop(self.overrides.remove(owner)),
            false => drop(self.overrides.insert(owner.clone(), overrides)),
        }
        delta.owners.insert(owner.clone());
        Ok(())
    }

    /// Raises the leader epochs of a topic's partitions to those given, in the order of their indexes, where they are lower.
    /// Not a commit: for images that become a snapshot.
    pub(crate) fn raise_leader_epochs(
        &mut self,
        topic: TopicId,
        epochs: &[LeaderEpoch],
    ) -> Result<(), ApplyError> {
        self.change(topic, |topic| {
            for (index, epoch) in epochs.iter().enumerate().take(topic.partitions.len()) {
                let mut partition = topic.partitions[index].clone();
                partition.leader_epoch = partition.leader_epoch.max(*epoch);
                topic.partitions.set(index, partition);
            }
            Ok(())
        })
    }

    /// Edits a topic, which is in both maps one and the same before and after. One that no other image has is edited in place.
    fn change(
        &mut self,
        id: TopicId,
        edit: impl FnOnce(&mut Topic) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        let by_id = self.by_id.get_mut(&id).ok_or(ApplyError::NoTopic(id))?;
        let mut topic = std::mem::replace(by_id, NONE.clone());
        let by_name = self.by_name.get_mut(&topic.name).ok_or(ApplyError::NoTopic(id))?;
        *by_name = NONE.clone();
        let edited = edit(Arc::make_mut(&mut topic));
        *by_name = topic.clone();
        *by_id = topic;
        edited
    }
}

fn new_topic(id: TopicId, name: &str) -> Topic {
    Topic {
        name: name.into(),
        id,
        partitions: Default::default(),
        overrides: Arc::default(),
        factor_auto: false,
        wire_name: StrBytes::from(name),
    }
}
