//! What a change of the metadata asks of a shard: replicas taken up and let go, configurations and epochs handed out. It
//! touches what the delta names, and waits for nothing: files go afterwards.

use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use crate::coordinator::Machine;
use crate::coordinator::group::Groups;
use crate::coordinator::txn::Transactions;
use crate::log::RecoveredPartition;
use crate::metadata::{Broker, Delta, Image, LocalDelta, Partition, Topic, min_insync};
use crate::model::{PartitionId, TopicId};
use crate::partition::peer::PeerState;
use crate::partition::{Assignment, Replica};

impl Shard {
    /// Takes up what recovery found of a partition that is this broker's.
    pub(super) fn adopt(&self, recovered: RecoveredPartition) {
        let image = self.image();
        let Some(topic) = image.topic_by_id(recovered.id.topic) else { return };
        let Some(partition) = topic.partition(recovered.id.index) else { return };
        if !partition.has_replica(self.me.broker) {
            return log::warn!("{}-{} is another broker's; its files stay", topic.name, recovered.id.index);
        }
        let replica = self.partitions.adopt(recovered, &topic.name, self.topic_config(topic));
        agree(&replica, &image, topic);
        replica.assign(self.store(), assignment(partition), self.now());
    }

    /// Follows the metadata to `image`, which is `delta` after what was applied last.
    pub(super) fn apply(self: &Rc<Self>, image: &Arc<Image>, delta: &Delta) {
        let local = delta.local(self.me.broker, image);
        self.applied.replace(image.clone());
        self.store().follow_metadata(image.version);
        if delta.quotas {
            self.quotas.set_table(image.quotas.clone());
        }
        self.follow_brokers(image, delta);
        self.let_go(&local);
        for id in local.leaders.iter().chain(&local.followers).filter(|id| self.me.owns(**id)) {
            self.take_up_replica(image, *id);
        }
        let moved: Vec<_> = delta.brokers.iter().copied().collect();
        self.follow_leaders(&local, &moved);
        self.reconfigure(image, &local);
        self.follow_coordinators(image, &local);
    }

    /// Leaders hear of the brokers that came, went or changed.
    fn follow_brokers(&self, image: &Image, delta: &Delta) {
        for id in &delta.brokers {
            let proposals = self.partitions.follow_broker(*id, image.broker(*id).map(peer), self.now());
            proposals.into_iter().for_each(|(id, proposal)| self.replication.proposals.push(id, proposal));
        }
    }

    fn let_go(&self, local: &LocalDelta) {
        let mut deleted = Vec::new();
        for topic in &local.deleted {
            for id in topic.partition_ids().filter(|id| self.me.owns(*id)) {
                if self.partitions.let_go(id) {
                    deleted.push(id);
                }
            }
        }
        for id in local.removed.iter().filter(|id| self.me.owns(**id)) {
            if self.partitions.let_go(*id) {
                log::warn!("{id} is another broker's from now on; its files stay");
            }
        }
        if !deleted.is_empty() {
            self.partitions.remove_files(deleted);
        }
    }

    fn take_up_replica(&self, image: &Image, id: PartitionId) {
        let Some(topic) = image.topic_by_id(id.topic) else { return };
        let Some(partition) = topic.partition(id.index) else { return };
        let replica = self.replica(id).unwrap_or_else(|| {
            let config = self.topic_config(topic);
            self.partitions.create(id, &topic.name, config)
        });
        agree(&replica, image, topic);
        replica.assign(self.store(), assignment(partition), self.now());
        if let Some(proposal) = replica.invite(self.now()) {
            self.replication.proposals.push(id, proposal);
        }
    }

    fn reconfigure(&self, image: &Image, local: &LocalDelta) {
        if local.broker_configs {
            self.applied.resolve_live();
            for replica in self.partitions.all() {
                let topic = image.topic_by_id(replica.id.topic);
                topic.into_iter().for_each(|topic| self.configure(&replica, topic));
            }
            return;
        }
        for topic in local.configs.iter().filter_map(|id| image.topic_by_id(*id)) {
            for replica in topic.partition_ids().filter_map(|id| self.replica(id)) {
                self.configure(&replica, topic);
            }
        }
    }

    fn configure(&self, replica: &Replica, topic: &Topic) {
        let config = self.topic_config(topic);
        let now = replica.config();
        if !Arc::ptr_eq(&now, &config) && *now != *config {
            replica.set_config(config);
        }
        agree(replica, &self.image(), topic);
    }

    fn follow_coordinators(self: &Rc<Self>, image: &Arc<Image>, local: &LocalDelta) {
        let touched = |name: &str| {
            let id: Option<TopicId> = image.topic(name).map(|topic| topic.id);
            let all = [&local.leaders, &local.followers, &local.removed];
            local.deleted.iter().any(|topic| *topic.name == *name)
                || all.into_iter().flatten().any(|partition| Some(partition.topic) == id)
        };
        if touched(Groups::TOPIC) {
            self.follow_topic::<Groups>(image);
        }
        if touched(Transactions::TOPIC) {
            self.follow_topic::<Transactions>(image);
        }
        if !local.deleted.is_empty() {
            let names: Vec<String> = local.deleted.iter().map(|topic| topic.name.to_string()).collect();
            self.forget_topics::<Groups>(&names);
        }
    }
}

/// What the image says of a broker, in the replica's words.
fn peer(broker: &Broker) -> PeerState {
    PeerState { id: broker.id, epoch: broker.epoch, eligible: !broker.fenced && !broker.shutting_down }
}

/// Gives a replica what all of a partition's replicas have to agree on.
fn agree(replica: &Replica, image: &Image, topic: &Topic) {
    if let Some(partition) = topic.partition(replica.id.index) {
        replica.set_min_insync(min_insync(image, &topic.overrides, partition.replicas().len()));
    }
}

/// What the image says of a partition, in the replica's words.
fn assignment(partition: &Partition) -> Assignment {
    Assignment {
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas().to_vec(),
        isr: partition.isr().collect(),
    }
}
