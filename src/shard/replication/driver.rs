//! A shard as what replication stands on, and what it does by itself: proposals on their way, and looking who lags.

use std::rc::Rc;
use std::time::Duration;

use super::{Dial, Followed, Ground, Later, Paces, Propose, dial};
use crate::controller::{ControlReply, ControlRequest};
use crate::coordinator::Machine;
use crate::coordinator::group::Groups;
use crate::coordinator::txn::Transactions;
use crate::log::ShardLog;
use crate::metadata::LocalDelta;
use crate::model::{BrokerId, MonoMs, PartitionId};
use crate::partition::leader::Proposal;
use crate::partition::peer::PeerState;
use crate::partition::{ReadError, Replica};
use crate::rt::{self, Charge};
use crate::shard::Shard;

struct OfShard(Rc<Shard>);

impl Ground for OfShard {
    fn me(&self) -> PeerState {
        self.0.partitions.peer(self.0.me.broker)
    }

    fn replica(&self, id: PartitionId) -> Option<Rc<Replica>> {
        self.0.replica(id)
    }

    fn absent(&self, id: PartitionId) -> ReadError {
        self.0.held(id).map_or_else(|e| e, |_| ReadError::NotLeader)
    }

    fn store(&self) -> Rc<ShardLog> {
        self.0.store().clone()
    }

    fn now(&self) -> MonoMs {
        self.0.now()
    }

    fn is_stopping(&self) -> bool {
        self.0.is_stopping()
    }

    fn answer(&self, least: usize, most: usize) -> Later<Charge> {
        let shard = self.0.clone();
        Box::pin(async move { shard.memory.answer(least, most).await })
    }

    fn propose(&self, id: PartitionId, proposal: Proposal) {
        self.0.replication.proposals.push(id, proposal);
    }

    fn appended(&self, replicas: &[Rc<Replica>]) {
        self.0.partitions.follow_commits_of(replicas);
    }

    fn paces(&self) -> &Paces {
        &self.0.replication.paces
    }

    fn begins(&self, id: PartitionId) {
        let image = self.0.image();
        let Some(topic) = image.topic_by_id(id.topic) else { return };
        match &*topic.name {
            Groups::TOPIC => self.0.follow_topic::<Groups>(&image),
            Transactions::TOPIC => self.0.follow_topic::<Transactions>(&image),
            _ => {}
        }
    }
}

/// At first, where nobody says how fast to catch up: about what one disk gives without clients noticing.
const CATCH_UP: u64 = 64 << 20;

impl Shard {
    /// The live settings say how fast replicas that are throttled may be copied; each shard has an even part of that.
    pub(in crate::shard) fn set_paces(&self) {
        let (paces, live, shards) = (&self.replication.paces, self.live(), self.count() as u64);
        let part = |rate: u64| if rate == u64::MAX { rate } else { rate / shards };
        paces.follower.set(part(live.follower_rate));
        paces.leader.set(part(live.leader_rate));
        match self.settings.cluster.catch_up_rate {
            Some(rate) => paces.catch_up.set(part(rate)),
            None => paces.catch_up.begin_at(part(CATCH_UP)),
        }
    }

    /// What sessions of other brokers' shards stand on.
    pub fn ground(self: &Rc<Self>) -> Rc<dyn Ground> {
        Rc::new(OfShard(self.clone()))
    }

    /// From now on what other brokers lead is fetched from them. Once.
    fn follow_others(self: &Rc<Self>, dial: Rc<dyn Dial>) {
        let followed = self.replication.followed.get_or_init(|| Followed::new(self.ground(), dial));
        let image = self.image();
        let shards = |broker: BrokerId| Some(image.broker(broker)?.shards as usize);
        self.partitions.all().iter().for_each(|replica| followed.follow(replica.id, shards));
    }

    /// The replicas have taken what is in the delta.
    pub(in crate::shard) fn follow_leaders(&self, local: &LocalDelta, moved: &[BrokerId]) {
        let Some(followed) = self.replication.followed.get() else { return };
        let image = self.image();
        let shards = |broker: BrokerId| Some(image.broker(broker)?.shards as usize);
        let gone = local.deleted.iter().flat_map(|topic| topic.partition_ids());
        let named = local.leaders.iter().chain(&local.followers).chain(&local.removed).copied();
        named.chain(gone).filter(|id| self.me.owns(*id)).for_each(|id| followed.follow(id, shards));
        // With another number of shards, others of them have what is followed.
        if !moved.is_empty() {
            let led_by = |replica: &Replica| replica.leader().0.is_some_and(|leader| moved.contains(&leader));
            self.partitions.select(led_by).iter().for_each(|replica| followed.follow(replica.id, shards));
        }
    }

    /// As [`Self::follow_leaders`], for one replica that was taken up late.
    pub(in crate::shard) fn follow_leader(&self, id: PartitionId) {
        if let Some(followed) = self.replication.followed.get() {
            let image = self.image();
            followed.follow(id, |broker: BrokerId| Some(image.broker(broker)?.shards as usize));
        }
    }

    pub(in crate::shard) fn start_replication(self: &Rc<Self>) {
        self.set_paces();
        let (shard, ground) = (self.clone(), self.ground());
        let propose: Propose = Rc::new(move |alter| {
            let shard = shard.clone();
            Box::pin(async move {
                match shard.control(ControlRequest::AlterPartitions(alter)).await {
                    ControlReply::AlteredPartitions(answers) => Some(answers),
                    _ => None,
                }
            })
        });
        let shard = self.clone();
        rt::spawn(self.replication.proposals.clone().run(ground, move || shard.image().version, propose));
        rt::spawn(self.clone().look_who_lags());
        self.follow_others(Rc::new(dial::OfShard(self.clone())));
    }

    /// R5, every half of `replica.lag.time.max.ms`.
    async fn look_who_lags(self: Rc<Self>) {
        let every = Duration::from_millis(self.partitions.lag_max_ms().max(2) as u64 / 2);
        while !self.is_stopping() {
            rt::sleep(every).await;
            for replica in self.partitions.select(Replica::has_followers) {
                if let Some(proposal) = replica.on_tick(self.now()) {
                    self.replication.proposals.push(replica.id, proposal);
                }
            }
        }
    }
}
