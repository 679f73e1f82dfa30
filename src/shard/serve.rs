//! A shard's life: open the log, start what goes on by itself, stop.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Shard;
use super::context::Handoff;
use super::coordinator::Driver;
use super::lanes::Lanes;
use super::memory::Memory;
use super::message::{End, Port};
use super::metrics::{Gauges, JournalSnapshot, ShardMetrics};
use super::quotas::Quotas;
use super::sessions::Sessions;
use super::topics::View;
use crate::coordinator::group::Groups;
use crate::coordinator::txn::Transactions;
use crate::log::{LogError, LogSettings, OwnerState, RecoveredPartition, ShardLog};
use crate::metadata::{Delta, Image, Resolver};
use crate::model::settings::BrokerSettings;
use crate::model::{MonoMs, PartitionId};
use crate::partition::Host;
use crate::partition::producer::Producers;
use crate::rt::{self, AlignedBuf, BudgetFigures, Notify};
use crate::security::Access;

/// What a shard starts from, carried to its thread.
pub struct Start {
    pub index: usize,
    pub count: usize,
    pub end: End,
    pub data_dir: PathBuf,
    pub settings: Arc<BrokerSettings>,
    pub image: Arc<Image>,
    pub connections: Arc<[AtomicUsize]>,
    pub session_seed: u32,
    /// Directories below `topics/` that belong to no topic.
    pub strays: usize,
}

/// How a shard serves a connection: the server's business, given to the shard so that it need not know it.
pub type ServeConnection = fn(&Rc<Shard>, Handoff);

impl Shard {
    /// Recovers the shard's log and takes up its partitions.
    pub async fn open(start: Start) -> Result<Rc<Self>, LogError> {
        let settings = &start.settings;
        let log_settings = LogSettings::of(settings, start.count);
        let resolver = Resolver::new(settings);
        let topics = View { image: &start.image, resolver: &resolver };
        let (store, recovered) =
            ShardLog::open(&start.data_dir, start.index, start.count, &topics, log_settings).await?;
        store.cache().set_open_files(settings.open_segments);
        let shard = Rc::new(Self {
            index: start.index,
            count: start.count,
            port: Port::new(start.end),
            metrics: ShardMetrics::new(start.index),
            sessions: RefCell::new(Sessions::new(
                settings.per_shard(settings.fetch_session_slots, start.count),
                start.index,
                start.count,
                start.session_seed,
            )),
            connections: start.connections,
            settings: start.settings.clone(),
            memory: Memory::new(
                settings.per_shard(settings.request_memory_bytes, start.count),
                store.cache().work(),
            ),
            access: Cell::new(Access::OPEN),
            quotas: Quotas::new(start.image.quotas.clone(), start.count == 1),
            live: RefCell::new(Arc::new(resolver.live(&start.image))),
            resolver,
            image: RefCell::new(start.image),
            removing: Cell::new(0),
            removed: Notify::new(),
            host: Host::new(settings.broker_id),
            deadlines: super::deadline::Deadlines::default(),
            store,
            replicas: RefCell::new(HashMap::new()),
            intake: Lanes::default(),
            inspecting: Lanes::default(),
            codec: Lanes::default(),
            scratch: RefCell::default(),
            undurable: RefCell::default(),
            appended: Notify::new(),
            live_changed: Notify::new(),
            stopping: Cell::new(false),
            stop: Notify::new(),
            started: rt::now(),
            strays: start.strays,
            groups: Driver::new(
                |shard| Groups::new(shard.settings.groups.clone()),
                |_, _, none| match none {},
            ),
            transactions: Driver::new(
                |shard| Transactions::new(shard.settings.transactions.clone()),
                super::markers::perform,
            ),
            lanes: Lanes::default(),
        });
        // Buffers that are kept count in no budget.
        AlignedBuf::keep_at_most(shard.store.cache().budget() / 8);
        for partition in recovered {
            shard.adopt(partition);
        }
        shard.apply(&shard.image(), &Delta::whole(&shard.image()));
        Ok(shard)
    }

    /// Starts everything that the shard does by itself.
    pub fn start(self: &Rc<Self>, serve_connection: ServeConnection) {
        let shard = self.clone();
        rt::on_mail(Rc::new(move || {
            let port = shard.port.clone();
            port.drain(|from, request| shard.take(from, request, serve_connection))
        }));
        rt::spawn(self.clone().follow_commits());
        rt::spawn(self.clone().sweep_deadlines());
        rt::spawn(self.clone().maintain());
        self.start_driver(Shard::groups);
        rt::spawn(self.clone().compact());
        self.start_driver(Shard::transactions);
        if self.count > 1 {
            rt::spawn(self.clone().share_quota_use());
        }
    }

    fn memory_figures(&self) -> Vec<(&'static str, BudgetFigures)> {
        let cache = self.store.cache();
        let held = |used: usize, limit: usize| BudgetFigures {
            used: used as u64,
            limit: limit as u64,
            ..BudgetFigures::default()
        };
        let tail = self.settings.per_shard(self.settings.tail_bytes, self.count);
        vec![
            ("tail", held(cache.pinned_bytes(), tail)),
            ("cache", held(cache.cached_bytes() + cache.read_bytes(), cache.budget() - tail)),
            ("requests", self.memory.requests.figures()),
            ("answers", self.memory.answers.figures()),
            ("work", self.memory.work.figures()),
            ("reads", cache.reading().figures()),
        ]
    }

    pub(super) fn measure(&self) -> super::metrics::MetricsSnapshot {
        let mut snapshot = self.metrics.snapshot();
        let journal = self.store.journal();
        let stats = journal.stats();
        snapshot.journal = JournalSnapshot {
            commits: stats.commits,
            bytes: stats.bytes,
            commit_us_sum: (stats.commit_us.mean() * stats.commit_us.len() as f64) as u64,
            commit_us: Some(stats.commit_us),
            commit_bytes: Some(stats.commit_bytes),
            files: (stats.files_used + stats.files_free) as u64,
            backlog_bytes: journal.backlog_bytes() as u64,
            failed: journal.failed().map(|reason| reason.to_string()),
            waits: journal.held_up(),
        };
        snapshot.read_from_disk_bytes = self.store.disk_reads();
        snapshot.bypass_bytes = self.store.bypass_bytes();
        let (disk_full_refusals, disk_free_bytes) = self.store.space().figures();
        snapshot.gauges = Gauges {
            partitions: self.replicas.borrow().len() as u64,
            tail_bytes: self.store.tail_bytes() as u64,
            cache_bytes: self.store.cache_bytes() as u64,
            memory: self.memory_figures(),
            open_segments: self.store.cache().open_files() as u64,
            out_of_files: self.store.cache().out_of_files(),
            disk_free_bytes,
            disk_full_refusals,
            scrub: self.store.scrub_stats(),
            damaged: self.store.damaged().len() as u64,
            unrepaired: self.store.unrepaired() as u64,
            strays: self.strays as u64,
            coordinators: [self.groups().counts(), self.transactions().counts()],
        };
        snapshot
    }

    pub(super) fn now_ms(&self) -> MonoMs {
        MonoMs(self.clock_ms())
    }

    /// Lets connections finish for as long as `grace`, then makes everything durable in its final place.
    pub async fn close(self: &Rc<Self>, grace: Duration) -> Result<(), LogError> {
        let deadline = rt::now() + grace;
        // Others' as well: their requests may wait for this shard's answer, or be on their way here.
        while self.connections.iter().any(|open| open.load(Ordering::Relaxed) > 0) && rt::now() < deadline {
            rt::sleep(Duration::from_millis(2)).await;
        }
        self.store.close(|id| self.owner_state(id)).await
    }

    /// What a checkpoint has to know of a partition beside its log.
    pub(super) fn owner_state(&self, id: PartitionId) -> OwnerState {
        let Some(replica) = self.replica(id) else { return OwnerState::default() };
        let (producers, high_watermark) = (replica.producer_snapshot(), replica.high_watermark());
        OwnerState { producers, high_watermark: Some(high_watermark) }
    }
}

/// The producers of a recovered partition: the checkpoint's, and those of the batches after it.
pub fn recovered_producers(recovered: &RecoveredPartition) -> Producers {
    let snapshot = recovered.producer_state.as_ref().map(|(_, state)| state.as_slice());
    Producers::rebuild(snapshot, &recovered.replayed, rt::unix_ms())
}

/// The same as a checkpoint keeps them; `None` if there are none.
pub fn recovered_snapshot(recovered: &RecoveredPartition) -> Option<Vec<u8>> {
    let producers = recovered_producers(recovered);
    (!producers.is_empty()).then(|| producers.snapshot())
}
