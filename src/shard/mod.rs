//! What one core owns: its partitions, its journal, its connections' state. Everything here runs on the shard's thread;
//! other threads reach it through [`message::Request`].

pub mod affinity;
mod assign;
mod compact;
pub mod context;
pub mod coordinator;
mod deadline;
mod fetch;
mod inbox;
mod inspect;
mod lanes;
mod lookup;
mod maintain;
mod markers;
pub mod memory;
pub mod message;
pub mod metrics;
mod produce;
pub mod quotas;
pub mod route;
pub mod serve;
pub mod sessions;
pub mod strangers;
#[cfg(test)]
pub(crate) mod testing;
pub mod timing;
pub mod topics;
pub mod transactional;
mod wait;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use crate::controller::{ControlReply, ControlRequest};
use crate::coordinator::group::Groups;
use crate::coordinator::txn::Transactions;
use crate::log::ShardLog;
use crate::metadata::{Image, Resolver};
use crate::model::settings::BrokerSettings;
use crate::model::{Live, PartitionId, shard_of};
use crate::partition::{Host, ReadError, Replica};
use crate::rt::Notify;
use crate::security::Access;

use coordinator::Driver;
pub use fetch::FetchLimits;
use lanes::Lanes;
use message::{Control, Port};
use metrics::ShardMetrics;
use sessions::Sessions;

pub struct Shard {
    pub index: usize,
    /// Shards in this broker; the control thread is the mesh's node after the last of them.
    pub count: usize,
    pub port: Rc<Port>,
    pub metrics: ShardMetrics,
    pub sessions: RefCell<Sessions>,
    pub quotas: quotas::Quotas,
    pub memory: memory::Memory,
    pub access: Cell<Access>,
    /// Open connections of each shard: the only counters that threads share, read when a connection is handed out.
    pub connections: Arc<[AtomicUsize]>,
    settings: Arc<BrokerSettings>,
    image: RefCell<Arc<Image>>,
    resolver: Resolver,
    /// What the resolver makes of the image's settings that can be changed while the broker runs.
    live: RefCell<Arc<Live>>,
    /// Removals of deleted topics' files that are under way.
    removing: Cell<usize>,
    removed: Notify,
    store: Rc<ShardLog>,
    replicas: RefCell<HashMap<PartitionId, Rc<Replica>>>,
    /// Producers that wait for memory.
    intake: Lanes<()>,
    /// Partitions with batches that are looked into elsewhere, and with those behind.
    inspecting: Lanes<PartitionId>,
    /// Batches that wait for the codec thread.
    codec: Lanes<()>,
    /// Memory of what is looked into at once.
    scratch: RefCell<Vec<u8>>,
    /// Replicas with batches that no commit covers yet.
    undurable: RefCell<Vec<Rc<Replica>>>,
    appended: Notify,
    /// What its replicas share.
    host: Rc<Host>,
    deadlines: deadline::Deadlines,
    /// Settings were changed that hold from now on.
    live_changed: Notify,
    stopping: Cell<bool>,
    stop: Notify,
    /// Where the clock of deadlines begins.
    started: Instant,
    /// Directories that the start left alone because no topic has them; the first shard's.
    strays: usize,
    groups: Driver<Groups>,
    transactions: Driver<Transactions>,
    /// Requests of producers that wait for an earlier one, by producer.
    lanes: Lanes<i64>,
}

impl Shard {
    pub fn settings(&self) -> &BrokerSettings {
        &self.settings
    }

    pub fn image(&self) -> Arc<Image> {
        self.image.borrow().clone()
    }

    pub fn owner(&self, partition: PartitionId) -> usize {
        shard_of(partition, self.count)
    }

    pub fn owns(&self, partition: PartitionId) -> bool {
        self.owner(partition) == self.index
    }

    /// Whether the metadata that is applied here has the partition.
    fn knows(&self, partition: PartitionId) -> bool {
        let image = self.image.borrow();
        image.topic_by_id(partition.topic).is_some_and(|topic| topic.partition(partition.index).is_some())
    }

    /// The replica of a partition that is looked for here. Where the metadata has one and this shard does not, another
    /// broker may (K `getPartitionOrError`).
    fn held(&self, partition: PartitionId) -> Result<Rc<Replica>, ReadError> {
        self.replica(partition).ok_or_else(|| match self.knows(partition) {
            true => ReadError::NotLeader,
            false => ReadError::UnknownPartition,
        })
    }

    pub fn replica(&self, partition: PartitionId) -> Option<Rc<Replica>> {
        self.replicas.borrow().get(&partition).cloned()
    }

    /// Asks the control thread. A change is answered once every shard has applied it.
    pub async fn control(&self, request: ControlRequest) -> ControlReply {
        self.port.call(self.count, Control(request)).await
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Signals that connections are to finish what is under way and close.
    pub fn stop_signal(&self) -> &Notify {
        &self.stop
    }
}
