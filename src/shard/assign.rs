//! What a change of the metadata asks of a shard: replicas taken up and let go, configurations and epochs handed out. It
//! touches what the delta names, and waits for nothing: files go afterwards.

use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use crate::coordinator::Machine;
use crate::coordinator::group::Groups;
use crate::coordinator::txn::Transactions;
use crate::log::RecoveredPartition;
use crate::metadata::{Delta, Image, LocalDelta, Partition, Topic};
use crate::model::{LeaderEpoch, Live, Offset, PartitionEpoch, PartitionId, TopicConfig, TopicId};
use crate::partition::{Assignment, Replica};
use crate::rt;

impl Shard {
    /// What a topic runs with on this broker.
    pub fn topic_config(&self, topic: &Topic) -> Arc<TopicConfig> {
        self.resolver.topic(&self.image.borrow(), &topic.overrides)
    }

    /// The settings that can be changed while the broker runs, as they are now.
    pub fn live(&self) -> Arc<Live> {
        self.live.borrow().clone()
    }

    /// Takes up what recovery found of a partition that is this broker's.
    pub(super) fn adopt(&self, recovered: RecoveredPartition) {
        let image = self.image();
        let Some(topic) = image.topic_by_id(recovered.id.topic) else { return };
        let Some(partition) = topic.partition(recovered.id.index) else { return };
        if !partition.has_replica(self.settings.broker_id) {
            return log::warn!("{}-{} is another broker's; its files stay", topic.name, recovered.id.index);
        }
        let producers = super::serve::recovered_producers(&recovered);
        let high_watermark = Offset(recovered.high_watermark);
        let names = (recovered.id, topic.name.clone());
        let config = self.topic_config(topic);
        let replica = Replica::new(names, &self.host, recovered.log, config, high_watermark);
        replica.set_producers(producers);
        replica.assign(assignment(partition), self.now_ms());
        self.replicas.borrow_mut().insert(recovered.id, Rc::new(replica));
    }

    /// Follows the metadata to `image`, which is `delta` after what was applied last.
    pub(super) fn apply(self: &Rc<Self>, image: &Arc<Image>, delta: &Delta) {
        let local = delta.local(self.settings.broker_id, image);
        self.image.replace(image.clone());
        self.store.follow_metadata(image.version);
        if delta.quotas {
            self.quotas.set_table(image.quotas.clone());
        }
        self.let_go(&local);
        for id in local.leaders.iter().chain(&local.followers).filter(|id| self.owns(**id)) {
            self.take_up_replica(image, *id);
        }
        self.reconfigure(image, &local);
        self.follow_coordinators(image, &local);
    }

    fn let_go(self: &Rc<Self>, local: &LocalDelta) {
        let mut deleted = Vec::new();
        for topic in &local.deleted {
            for id in topic.partition_ids().filter(|id| self.owns(*id)) {
                if self.drop_replica(id) {
                    deleted.push(id);
                }
            }
        }
        for id in local.removed.iter().filter(|id| self.owns(**id)) {
            if self.drop_replica(*id) {
                log::warn!("{id} is another broker's from now on; its files stay");
            }
        }
        if deleted.is_empty() {
            return;
        }
        let shard = self.clone();
        self.removing.set(self.removing.get() + 1);
        rt::spawn(async move {
            for id in deleted {
                shard.store.remove(id).await;
            }
            shard.store.removals_durable().await;
            shard.removing.set(shard.removing.get() - 1);
            shard.removed.notify_all();
        });
    }

    /// Whether there was one.
    fn drop_replica(&self, id: PartitionId) -> bool {
        let Some(replica) = self.replicas.borrow_mut().remove(&id) else { return false };
        replica.retire();
        self.undurable.borrow_mut().retain(|undurable| undurable.id != id);
        true
    }

    /// The files of what was removed until now are gone for good when this returns.
    pub(super) async fn removals(self: Rc<Self>) {
        loop {
            let removed = self.removed.listen();
            if self.removing.get() == 0 {
                return;
            }
            removed.await;
        }
    }

    fn take_up_replica(&self, image: &Image, id: PartitionId) {
        let Some(topic) = image.topic_by_id(id.topic) else { return };
        let Some(partition) = topic.partition(id.index) else { return };
        let replica = self.replica(id).unwrap_or_else(|| {
            let config = self.topic_config(topic);
            let log = self.store.create(id, &topic.name, config.clone());
            let names = (id, topic.name.clone());
            let replica = Rc::new(Replica::new(names, &self.host, log, config, Offset::ZERO));
            self.replicas.borrow_mut().insert(id, replica.clone());
            replica
        });
        replica.assign(assignment(partition), self.now_ms());
    }

    fn reconfigure(&self, image: &Image, local: &LocalDelta) {
        if local.broker_configs {
            let live = self.resolver.live(image);
            if **self.live.borrow() != live {
                self.live.replace(Arc::new(live));
                self.live_changed.notify_all();
            }
            let replicas: Vec<_> = self.replicas.borrow().values().cloned().collect();
            for replica in replicas {
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
    }

    fn follow_coordinators(self: &Rc<Self>, image: &Arc<Image>, local: &LocalDelta) {
        let touched = |name: &str| {
            let id: Option<TopicId> = image.topic(name).map(|topic| topic.id);
            let all = [&local.leaders, &local.followers, &local.removed];
            local.deleted.iter().any(|topic| *topic.name == *name)
                || all.into_iter().flatten().any(|partition| Some(partition.topic) == id)
        };
        if touched(Groups::TOPIC) {
            self.follow_topic(Shard::groups, image);
        }
        if touched(Transactions::TOPIC) {
            self.follow_topic(Shard::transactions, image);
        }
        if !local.deleted.is_empty() {
            let names: Vec<String> = local.deleted.iter().map(|topic| topic.name.to_string()).collect();
            self.forget_topics(Shard::groups, &names);
        }
    }
}

/// What the image says of a partition, in the replica's words.
fn assignment(partition: &Partition) -> Assignment {
    Assignment {
        leader: partition.leader,
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        partition_epoch: PartitionEpoch(partition.partition_epoch),
        replicas: partition.replicas().to_vec(),
        isr: partition.isr().collect(),
    }
}
