//! The partitions of one shard: their replicas, and the log that holds all of them.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use crate::log::{LogError, OwnerState, RecoveredPartition, ShardLog};
use crate::model::{BrokerId, MonoMs, Offset, PartitionId, TopicConfig};
use crate::partition::leader::Proposal;
use crate::partition::peer::PeerState;
use crate::partition::{AppendError, Appended, Host, Replica, Waits, recovered_producers};
use crate::rt::{self, Listen, Notify};

pub(super) struct Partitions {
    store: Rc<ShardLog>,
    /// What the replicas share.
    host: Rc<Host>,
    /// Looked up in only; what goes over all of them does so in order ([`Self::select`]).
    replicas: RefCell<HashMap<PartitionId, Rc<Replica>>>,
    /// Replicas with batches that no commit covers yet.
    undurable: RefCell<Vec<Rc<Replica>>>,
    appended: Notify,
    removals: Rc<Removals>,
    /// Partitions that others hold, whose records are on their way out.
    emptying: RefCell<HashSet<PartitionId>>,
}

/// Removals of files that are under way.
#[derive(Default)]
struct Removals {
    count: Cell<usize>,
    over: Notify,
}

impl Partitions {
    pub(super) fn new(store: Rc<ShardLog>, broker: BrokerId, lag_max_ms: i64) -> Self {
        Self {
            store,
            host: Host::new(broker, lag_max_ms),
            replicas: RefCell::default(),
            undurable: RefCell::default(),
            appended: Notify::new(),
            removals: Rc::default(),
            emptying: RefCell::default(),
        }
    }

    pub(super) fn store(&self) -> &Rc<ShardLog> {
        &self.store
    }

    /// Requests that wait for what they appended.
    pub(super) fn waits(&self) -> &Rc<Waits> {
        &self.host.waits
    }

    pub(super) fn len(&self) -> usize {
        self.replicas.borrow().len()
    }

    pub(super) fn get(&self, id: PartitionId) -> Option<Rc<Replica>> {
        self.replicas.borrow().get(&id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Rc<Replica>> {
        self.select(|_| true)
    }

    /// Those that are `wanted`, by their ids.
    pub(super) fn select(&self, wanted: impl Fn(&Replica) -> bool) -> Vec<Rc<Replica>> {
        let replicas = self.replicas.borrow();
        let mut selected: Vec<_> = replicas.values().filter(|replica| wanted(replica)).cloned().collect();
        selected.sort_unstable_by_key(|replica| replica.id);
        selected
    }

    /// Takes up what recovery found.
    pub(super) fn adopt(
        &self,
        recovered: RecoveredPartition,
        topic: &Arc<str>,
        config: Arc<TopicConfig>,
    ) -> Rc<Replica> {
        let producers = recovered_producers(&recovered);
        let names = (recovered.id, topic.clone());
        let high_watermark = recovered.high_watermark;
        let replica = Replica::new(names, &self.host, recovered.log, config, high_watermark);
        replica.set_producers(producers);
        self.insert(replica)
    }

    /// Begins a partition that is new here.
    pub(super) fn create(&self, id: PartitionId, topic: &Arc<str>, config: Arc<TopicConfig>) -> Rc<Replica> {
        let log = self.store.create(id, topic.clone(), config.clone());
        self.insert(Replica::new((id, topic.clone()), &self.host, log, config, Offset::ZERO))
    }

    fn insert(&self, replica: Replica) -> Rc<Replica> {
        let replica = Rc::new(replica);
        self.replicas.borrow_mut().insert(replica.id, replica.clone());
        replica
    }

    /// Lets a replica go, of a partition that is deleted or `moved` to others; its files stay. Whether there was one.
    pub(super) fn let_go(&self, id: PartitionId, moved: bool) -> bool {
        let Some(replica) = self.replicas.borrow_mut().remove(&id) else { return false };
        if moved {
            replica.give_up()
        } else {
            replica.retire()
        }
        self.undurable.borrow_mut().retain(|undurable| undurable.id != id);
        true
    }

    pub(super) fn begin_to_empty(&self, id: PartitionId) {
        self.emptying.borrow_mut().insert(id);
    }

    pub(super) fn end_emptying(&self, id: PartitionId) {
        self.emptying.borrow_mut().remove(&id);
    }

    /// Whether it cannot be taken up yet.
    pub(super) fn is_emptying(&self, id: PartitionId) -> bool {
        self.emptying.borrow().contains(&id)
    }

    /// Deletes the files of partitions whose replicas are gone; [`Self::removals`] says when that is done.
    pub(super) fn remove_files(&self, partitions: Vec<PartitionId>) {
        let (store, removals) = (self.store.clone(), self.removals.clone());
        removals.count.set(removals.count.get() + 1);
        rt::spawn(async move {
            for id in partitions {
                store.remove(id).await;
            }
            store.removals_durable().await;
            removals.count.set(removals.count.get() - 1);
            removals.over.notify_all();
        });
    }

    /// The files of what was removed until now are gone for good when this returns.
    pub(super) async fn removals(&self) {
        loop {
            let over = self.removals.over.listen();
            if self.removals.count.get() == 0 {
                return;
            }
            over.await;
        }
    }

    /// Appends to a replica, and sees to it that it is told of the commit.
    pub(super) fn append(
        &self,
        replica: Rc<Replica>,
        append: impl FnOnce(&Replica, &ShardLog) -> Result<Appended, AppendError>,
    ) -> Result<Appended, AppendError> {
        let was_durable = !replica.is_undurable();
        let appended = append(&replica, &self.store)?;
        if was_durable && replica.is_undurable() {
            self.undurable.borrow_mut().push(replica);
        }
        self.appended.notify_all();
        Ok(appended)
    }

    /// The metadata has this of a broker: leaders hear of it.
    /// Returns ISRs for the controller.
    pub(super) fn follow_broker(
        &self,
        id: BrokerId,
        state: Option<PeerState>,
        now: MonoMs,
    ) -> Vec<(PartitionId, Proposal)> {
        self.host.set_peer(id, state);
        let state = self.host.peer(id);
        let replicas = self.replicas.borrow();
        replicas.iter().filter_map(|(id, replica)| Some((*id, replica.on_peer(state, now)?))).collect()
    }

    pub(super) fn peer(&self, id: BrokerId) -> PeerState {
        self.host.peer(id)
    }

    pub(super) fn lag_max_ms(&self) -> i64 {
        self.host.lag_max_ms
    }

    /// Replicas appended what their leaders gave: they are told of the commit.
    pub(super) fn follow_commits_of(&self, replicas: &[Rc<Replica>]) {
        let mut undurable = self.undurable.borrow_mut();
        let known: HashSet<PartitionId> = undurable.iter().map(|replica| replica.id).collect();
        undurable.extend(replicas.iter().filter(|replica| !known.contains(&replica.id)).cloned());
        drop(undurable);
        self.appended.notify_all();
    }

    /// The next append.
    pub(super) fn appended(&self) -> Listen {
        self.appended.listen()
    }

    /// Tells the replicas that wait for a commit what is durable now. Whether any waits for more.
    pub(super) fn on_durable(&self, now: MonoMs) -> bool {
        self.host.set_now(now);
        let journal = self.store.journal();
        let mut undurable = self.undurable.borrow_mut();
        undurable.retain(|replica| {
            replica.on_durable(|lsn| journal.is_durable(lsn));
            replica.is_undurable()
        });
        !undurable.is_empty()
    }

    /// What a checkpoint has to know of a partition beside its log.
    pub(super) fn owner_state(&self, id: PartitionId) -> OwnerState {
        let Some(replica) = self.get(id) else { return OwnerState::default() };
        let (producers, high_watermark) = (replica.producer_snapshot(), replica.high_watermark());
        OwnerState { producers, high_watermark: Some(high_watermark) }
    }

    pub(super) async fn checkpoint(&self) -> Result<(), LogError> {
        self.store.checkpoint(|id| self.owner_state(id)).await
    }

    /// Makes everything durable in its final place.
    pub(super) async fn close(&self) -> Result<(), LogError> {
        self.store.close(|id| self.owner_state(id)).await
    }
}
