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
use crate::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use crate::partition::peer::PeerState;
use crate::partition::{Assignment, Replica};
use crate::rt;

impl Shard {
    /// Takes up what recovery found of a partition that is this broker's.
    pub(super) fn adopt(&self, recovered: RecoveredPartition) {
        let image = self.image();
        let Some(topic) = image.topic_by_id(recovered.id.topic) else { return };
        let Some(partition) = topic.partition(recovered.id.index) else { return };
        if !partition.has_replica(self.me.broker) {
            if recovered.log.size_bytes() > 0 {
                log::warn!("{}-{} is another broker's; its files stay", topic.name, recovered.id.index);
            }
            return;
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

    fn let_go(self: &Rc<Self>, local: &LocalDelta) {
        let mut deleted = Vec::new();
        for topic in &local.deleted {
            for id in topic.partition_ids().filter(|id| self.me.owns(*id)) {
                // Of what others held, an empty log may be left.
                if self.partitions.let_go(id, false) || self.store().get(id).is_some() {
                    deleted.push(id);
                }
            }
        }
        for id in local.removed.iter().filter(|id| self.me.owns(**id)) {
            if self.partitions.let_go(*id, true) {
                log::info!("{id} is held by other brokers from now on: its records go");
                self.empty(*id);
            }
        }
        if !deleted.is_empty() {
            self.partitions.remove_files(deleted);
        }
    }

    /// The records of a partition go that was moved to other brokers; the log stays, empty. The journal has that, so that what
    /// it has of before is never taken for what comes after, should the partition come back. Then it is taken up again once
    /// this is done.
    fn empty(self: &Rc<Self>, id: PartitionId) {
        let Some(log) = self.store().get(id) else { return };
        let epoch = self.image().partition(id).map_or(LeaderEpoch::ZERO, |partition| partition.leader_epoch);
        self.partitions.begin_to_empty(id);
        let shard = self.clone();
        rt::spawn(async move {
            // A log that is being closed is whole; what is left of it is found at the next start.
            if !shard.is_stopping()
                && let Err(e) = shard.store().reset(&log, Offset::ZERO, epoch).await
            {
                log::warn!("{id}: its records stay: {e}");
            }
            shard.partitions.end_emptying(id);
            let image = shard.image();
            if image.partition(id).is_some_and(|partition| partition.has_replica(shard.me.broker)) {
                shard.take_up_replica(&image, id);
                shard.follow_leader(id);
            }
        });
    }

    fn take_up_replica(self: &Rc<Self>, image: &Image, id: PartitionId) {
        let Some(topic) = image.topic_by_id(id.topic) else { return };
        let Some(partition) = topic.partition(id.index) else { return };
        if self.partitions.is_emptying(id) {
            return;
        }
        // What a start found of a partition that was another broker's.
        let has_records = |id| self.store().get(id).is_some_and(|log| log.end_offset() > Offset::ZERO);
        if self.replica(id).is_none() && has_records(id) {
            return self.empty(id);
        }
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
            self.set_paces();
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
