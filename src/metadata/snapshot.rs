//! The records that an image is made of.

use super::image::{Broker, Image, Overrides};
use super::partition::Partition;
use super::records::{Bracket, Owner, Record};
use crate::model::TopicId;

impl Image {
    /// The fewest records that make this image out of an empty one.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![
            Record::Cluster { id: self.cluster_id.to_string() },
            Record::ProducerIds { next: self.next_producer_id },
        ];
        let level =
            |(name, level): (&String, &i16)| Record::FeatureLevel { name: name.clone(), level: *level };
        records.extend(self.features.iter().map(level));
        self.brokers().for_each(|broker| records.extend(registration(broker)));
        for (owner, overrides) in self.overrides.iter() {
            records.extend(configs(owner, overrides));
        }
        for (entity, limits) in self.quotas.iter() {
            records.extend(limits.iter().map(|(key, value)| Record::Quota {
                entity: entity.clone(),
                key: key.clone(),
                value: Some(value.to_bits()),
            }));
        }
        for topic in self.by_name.values() {
            records.push(Record::Topic { id: topic.id, name: topic.name.to_string() });
            records.extend((0..).zip(topic.partitions.iter()).map(|(index, p)| whole(topic.id, index, p)));
            records.extend(configs(&Owner::Topic(topic.id), &topic.overrides));
            records.extend(topic.factor_auto.then_some(Record::TopicRf { topic: topic.id, auto: true }));
        }
        if self.voters_by_hand {
            records.push(Record::VotersByHand { is: true });
        }
        records.push(Record::DeletedTopics { ids: self.deleted.oldest_first() });
        if let Some(open) = &self.bracketed {
            records.push(Record::Large { part: Bracket::Begin });
            records.extend(open.iter().cloned());
        }
        records
    }
}

fn registration(broker: &Broker) -> [Record; 2] {
    let registered = Record::BrokerRegistered {
        id: broker.id,
        incarnation: broker.incarnation,
        epoch: broker.epoch.0 as u64,
        directory: broker.directory,
        endpoints: broker.endpoints.clone(),
        rack: broker.rack.clone(),
        shards: broker.shards,
        features: broker.features.clone(),
        build: broker.build.clone(),
    };
    let changed = Record::BrokerChanged {
        id: broker.id,
        epoch: broker.epoch.0 as u64,
        fenced: Some(broker.fenced),
        draining: Some(broker.draining),
        shutting_down: Some(broker.shutting_down),
    };
    [registered, changed]
}

fn configs(owner: &Owner, overrides: &Overrides) -> impl Iterator<Item = Record> {
    overrides.iter().map(|(name, value)| Record::Config {
        owner: owner.clone(),
        name: name.clone(),
        value: Some(value.clone()),
    })
}

fn whole(topic: TopicId, index: i32, partition: &Partition) -> Record {
    Record::Partition {
        topic,
        index,
        leader: partition.leader,
        leader_epoch: partition.leader_epoch.0,
        partition_epoch: partition.partition_epoch.0,
        replicas: partition.replicas().to_vec(),
        isr: partition.isr().collect(),
        elr: partition.elr().collect(),
        adding: partition.adding().collect(),
        removing: partition.removing().collect(),
        last_known: partition.last_known(),
        recovering: partition.recovering,
    }
}
