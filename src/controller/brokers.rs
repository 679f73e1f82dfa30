//! What brokers say to the controller: their registration, heartbeats, and who is in sync with them.

use std::sync::Arc;

use crate::metadata::features;
use crate::metadata::records::{Endpoint, FeatureRange, Record};
use crate::metadata::{Image, Partition, min_insync};
use crate::model::listener::{Listener, SecurityProtocol};
use crate::model::{BrokerEpoch, BrokerId, BrokerSettings, LeaderEpoch, PartitionEpoch, PartitionId};

/// What a broker says of itself when it comes.
#[derive(Clone, Debug)]
pub struct Registration {
    pub cluster: String,
    /// `None` for one that never was in the cluster: the controller gives it an id.
    pub id: Option<BrokerId>,
    /// Drawn by its process.
    pub incarnation: [u8; 16],
    /// Of its metadata's directory.
    pub directory: [u8; 16],
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    pub shards: u32,
    pub features: Vec<FeatureRange>,
    pub build: String,
    /// The epoch of its last life if that ended with all it had appended on disk: Kafka's `previousBrokerEpoch`.
    pub stopped_in: Option<BrokerEpoch>,
    /// Partitions of which it has lost something.
    pub needs_repair: Vec<PartitionId>,
}

/// Says that a broker lives.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    pub id: BrokerId,
    pub epoch: BrokerEpoch,
    /// The newest metadata that all its shards have applied.
    pub applied: u64,
    /// It cannot serve for now.
    pub wants_fence: bool,
    /// It would stop once others lead what it leads.
    pub wants_shutdown: bool,
    /// Partitions of which it has lost something, all of them each time.
    pub needs_repair: Vec<PartitionId>,
}

/// What a broker that lives is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// It has applied its own registration.
    pub caught_up: bool,
    pub fenced: bool,
    /// Of a broker that would stop: it may.
    pub may_stop: bool,
}

/// A leader's view of who is in sync with it.
#[derive(Clone, Debug)]
pub struct AlterPartitions {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
    /// The newest metadata that the leader has applied.
    pub applied: u64,
    pub changes: Vec<IsrChange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrChange {
    pub id: PartitionId,
    pub leader_epoch: LeaderEpoch,
    /// Of the partition that it is a change of.
    pub partition_epoch: PartitionEpoch,
    /// Who is in sync, the leader too, each in the life in which it was seen to be.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// Whether the leader, elected out of sync, still has to look what became of the log.
    pub recovering: bool,
}

/// A partition as it is after a change of its ISR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<BrokerId>,
    pub recovering: bool,
}

/// Why an ISR stays as it is, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsrRefusal {
    /// The leader knows epochs that this controller does not.
    NotController,
    UnknownTopicId,
    UnknownPartition,
    /// Another election was since.
    FencedLeaderEpoch,
    /// The partition changed since; what it is now comes with the metadata.
    InvalidUpdateVersion,
    /// Not by the leader, or not a set of replicas with the leader in it.
    InvalidRequest,
    /// Of the brokers one is fenced, about to stop, or in another life.
    IneligibleReplica,
    /// The leader has not heard yet by what rules it commits: it asks again.
    NotAttempted,
    /// Accepted, and it ended a move after which another leads.
    NewLeaderElected,
}

impl Registration {
    /// Of this process.
    pub fn of(settings: &BrokerSettings, shards: usize, directory: [u8; 16], incarnation: [u8; 16]) -> Self {
        let endpoint = |listener: &Arc<Listener>| Endpoint {
            listener: listener.name.to_string(),
            host: listener.host.clone(),
            port: listener.port,
            security: match listener.protocol {
                SecurityProtocol::Plaintext => 0,
            },
        };
        Self {
            cluster: String::new(),
            id: Some(settings.broker_id),
            incarnation,
            directory,
            endpoints: settings.listeners.iter().chain(&settings.cluster_listener).map(endpoint).collect(),
            rack: settings.rack.clone(),
            shards: shards as u32,
            features: features::supported(),
            build: env!("CARGO_PKG_VERSION").into(),
            stopped_in: None,
            needs_repair: Vec::new(),
        }
    }
}

/// The records of the broker of this process, which comes in a new life and is the controller of its cluster, to be committed
/// at `offset`, all at once.
///
/// What its last life appended and had not on disk is lost: it leaves every ISR that has others to lead, and where it is the
/// only one in sync it is elected again, so that no epoch has batches of two lives.
pub fn register(image: &Image, offset: u64, registration: Registration) -> Vec<Record> {
    let id = registration.id.unwrap_or(1);
    let mut records = vec![
        Record::BrokerRegistered {
            id,
            incarnation: registration.incarnation,
            epoch: offset,
            directory: registration.directory,
            endpoints: registration.endpoints,
            rack: registration.rack,
            shards: registration.shards,
            features: registration.features,
            build: registration.build,
        },
        Record::BrokerChanged { id, epoch: offset, fenced: Some(false), draining: None, shutting_down: None },
    ];
    for topic in image.topics() {
        let parts = topic.partitions.iter().zip(topic.partition_ids());
        records.extend(parts.filter_map(|(partition, at)| returned(image, partition, at, id)));
    }
    records
}

fn returned(image: &Image, partition: &Partition, at: PartitionId, broker: BrokerId) -> Option<Record> {
    let topic = image.topic_by_id(at.topic)?;
    let min_isr = min_insync(image, &topic.overrides, partition.replicas().len());
    let in_sync: Vec<BrokerId> = partition.isr().collect();
    let others: Vec<BrokerId> = in_sync.iter().copied().filter(|id| *id != broker).collect();
    let mut elr: Vec<BrokerId> = partition.elr().filter(|id| *id != broker).collect();
    let is_there = |id: &&BrokerId| image.broker(**id).is_some_and(|broker| !broker.fenced);
    let (leader, isr) = match partition.leader {
        _ if !partition.counts(broker) => return None,
        None if in_sync.is_empty() => (Some(Some(broker)), vec![broker]),
        _ if !in_sync.contains(&broker) => return None,
        _ if others.is_empty() => (Some(Some(broker)), vec![broker]),
        Some(leader) if leader != broker => (None, others),
        // With nobody there it is led again when one of the others comes.
        _ => (Some(others.iter().find(is_there).copied()), others),
    };
    if !isr.contains(&broker) {
        elr.push(broker);
    }
    elr.retain(|_| isr.len() < min_isr);
    Some(Record::PartitionChanged {
        topic: at.topic,
        index: at.index,
        leader,
        replicas: None,
        isr: Some(isr),
        elr: Some(elr),
        adding: None,
        removing: None,
        last_known: leader.flatten().map(|_| None),
        recovering: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;

    const TOPIC: TopicId = TopicId([1; 16]);

    fn come(image: &Image, id: BrokerId, incarnation: u8) -> Image {
        let settings = BrokerSettings { broker_id: id, ..BrokerSettings::default() };
        let registration = Registration::of(&settings, 2, [9; 16], [incarnation; 16]);
        image.with(&register(image, image.version + 1, registration)).unwrap().0
    }

    fn partition(image: &Image, index: i32) -> (Option<BrokerId>, i32, Vec<BrokerId>) {
        let partition = image.partition(PartitionId { topic: TOPIC, index }).unwrap();
        (partition.leader, partition.leader_epoch, partition.isr().collect())
    }

    #[test]
    fn a_life_has_an_epoch_of_its_own() {
        let image = come(&Image::empty(), 1, 1);
        let first = image.broker(1).unwrap().clone();
        assert_eq!((first.epoch, first.fenced, first.shards), (BrokerEpoch(image.version as i64), false, 2));
        let again = come(&image, 1, 2);
        let second = again.broker(1).unwrap();
        assert!(second.epoch > first.epoch && second.incarnation != first.incarnation);
    }

    #[test]
    fn who_alone_is_in_sync_is_elected_again_and_others_lead_on() {
        let image = come(&come(&Image::empty(), 1, 1), 2, 1);
        let replicas: [&[BrokerId]; 4] = [&[1], &[2], &[1, 2], &[2, 1]];
        let mut records = vec![Record::Topic { id: TOPIC, name: "t".into() }];
        records.extend((0..).zip(replicas).map(|(index, ids)| Record::new_partition(TOPIC, index, ids)));
        let image = come(&image.with(&records).unwrap().0, 1, 2);
        let all = [0, 1, 2, 3].map(|index| partition(&image, index));
        assert_eq!(all[0], (Some(1), 1, vec![1]), "elected again");
        assert_eq!(all[1], (Some(2), 0, vec![2]), "it has no part in it");
        assert_eq!(all[2], (Some(2), 1, vec![2]), "the other one leads");
        assert_eq!(all[3], (Some(2), 0, vec![2]), "no election for a mere shrink");
        // Fenced while it alone was in sync, it is eligible, and leads again when it comes.
        let fenced = |leader, isr, elr| Record::PartitionChanged {
            topic: TOPIC,
            index: 0,
            leader,
            replicas: None,
            isr,
            elr,
            adding: None,
            removing: None,
            last_known: None,
            recovering: None,
        };
        let (image, _) = image.with(&[fenced(Some(None), Some(vec![]), Some(vec![1]))]).unwrap();
        assert_eq!(partition(&come(&image, 1, 3), 0), (Some(1), 3, vec![1]));
    }
}
