//! What one core owns: its partitions, its journal, its connections' state. Everything here runs on the shard's thread;
//! other threads reach it through [`message::Request`].

pub mod affinity;
mod applied;
mod assign;
mod calls;
mod compact;
mod compaction;
pub mod connections;
pub mod context;
pub mod coordinator;
mod deadline;
mod ends;
mod fetch;
mod inbox;
mod inspect;
mod intake;
pub mod leadership;
mod life;
pub mod links;
mod loads;
pub mod located;
mod lookup;
mod maintain;
pub mod markers;
mod marking;
mod measure;
pub mod memory;
pub mod message;
pub mod metrics;
mod partitions;
mod produce;
pub mod producer_ids;
mod quota_use;
pub mod quotas;
pub mod replication;
mod route;
pub mod serve;
pub mod sessions;
pub mod strangers;
#[cfg(test)]
pub(crate) mod testing;
pub mod timing;
pub mod topics;
pub mod transactional;
mod txn_codec;
mod wait;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::controller::{ControlError, ControlReply, ControlRequest};
use crate::log::ShardLog;
use crate::metadata::quorum::VoterWish;
use crate::metadata::{Image, Topic};
use crate::model::report;
use crate::model::settings::BrokerSettings;
use crate::model::{Live, MonoMs, PartitionId, TopicConfig};
use crate::partition::{ReadError, Replica};
use crate::security::Access;

use applied::Applied;
use connections::Connections;
use coordinator::Coordinators;
use deadline::Deadlines;
use ends::Ends;
use intake::Intake;
use life::Life;
use links::Links;
use located::Me;
use memory::Memory;
use message::{ChangeVoters, Control, Port, QuorumStatus, WatchCluster};
use metrics::ShardMetrics;
use partitions::Partitions;
use producer_ids::ProducerIds;
use quotas::Quotas;
use replication::Replication;
use sessions::Sessions;

/// The parts of a shard. Each keeps its state to itself; what takes several of them is the shard's own.
pub struct Shard {
    me: Me,
    settings: Arc<BrokerSettings>,
    /// To the other shards and the control thread, which is the mesh's node after the last of them.
    pub port: Rc<Port>,
    applied: Applied,
    partitions: Partitions,
    intake: Intake,
    deadlines: Deadlines,
    coordinators: Coordinators,
    ends: Ends,
    replication: Replication,
    pub connections: Connections,
    pub sessions: Sessions,
    pub producer_ids: ProducerIds,
    pub quotas: Quotas,
    pub memory: Memory,
    access: Cell<Access>,
    pub metrics: ShardMetrics,
    life: Life,
    /// To other brokers.
    links: Links,
    told: loads::Told,
    /// Directories that the start left alone because no topic has them; the first shard's.
    strays: usize,
}

impl Shard {
    pub fn index(&self) -> usize {
        self.me.shard
    }

    /// Shards of this broker.
    pub fn count(&self) -> usize {
        self.me.count
    }

    pub fn settings(&self) -> &BrokerSettings {
        &self.settings
    }

    /// This shard's part of a broker-wide budget.
    fn share(&self, budget: usize) -> usize {
        self.settings.per_shard(budget, self.me.count)
    }

    pub fn image(&self) -> Arc<Image> {
        self.applied.image()
    }

    /// The settings that can be changed while the broker runs, as they are now.
    pub fn live(&self) -> Arc<Live> {
        self.applied.live()
    }

    /// What a topic runs with on this broker.
    pub fn topic_config(&self, topic: &Topic) -> Arc<TopicConfig> {
        self.applied.topic_config(topic)
    }

    pub fn access(&self) -> Access {
        self.access.get()
    }

    #[cfg(test)]
    pub fn set_access(&self, access: Access) {
        self.access.set(access);
    }

    fn store(&self) -> &Rc<ShardLog> {
        self.partitions.store()
    }

    /// The replica of a partition that is looked for here. Where the metadata has one and this shard does not, another
    /// broker may (K `getPartitionOrError`).
    fn held(&self, partition: PartitionId) -> Result<Rc<Replica>, ReadError> {
        self.replica(partition).ok_or_else(|| match self.applied.knows(partition) {
            true => ReadError::NotLeader,
            false => ReadError::UnknownPartition,
        })
    }

    pub fn replica(&self, partition: PartitionId) -> Option<Rc<Replica>> {
        self.partitions.get(partition)
    }

    /// Asks the control thread. A change is answered once every shard has applied it.
    pub async fn control(&self, request: ControlRequest) -> ControlReply {
        self.port.call(self.me.count, Control(request)).await
    }

    /// How the quorum of the metadata stands, as this broker sees it.
    pub async fn quorum(&self) -> Box<crate::metadata::quorum::Status> {
        self.port.call(self.me.count, QuorumStatus).await
    }

    /// Has others vote on the metadata, where this broker is the controller.
    pub async fn change_voters(&self, wish: VoterWish, limit: Duration) -> Result<(), ControlError> {
        self.port.call(self.me.count, ChangeVoters(wish, limit)).await
    }

    /// What changes in the cluster, once something does.
    pub async fn watch_cluster(&self, watch: report::Watch) -> Box<report::Changes> {
        self.port.call(self.me.count, WatchCluster(watch)).await
    }

    /// The shard's clock.
    pub fn now(&self) -> MonoMs {
        self.life.now()
    }

    pub fn is_stopping(&self) -> bool {
        self.life.is_stopping()
    }

    /// Resolves once connections are to finish what is under way and close, also if they are by now.
    pub fn stopped(&self) -> impl Future<Output = ()> + use<> {
        self.life.stopped()
    }
}
