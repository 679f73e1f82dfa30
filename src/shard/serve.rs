//! What a shard opens, what it starts, what it closes.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::applied::Applied;
use super::connections::Connections;
use super::coordinator::Coordinators;
use super::deadline::Deadlines;
use super::ends::Ends;
use super::inbox::ServeConnection;
use super::intake::Intake;
use super::life::Life;
use super::links::Links;
use super::located::Me;
use super::memory::Memory;
use super::message::{End, Port};
use super::metrics::ShardMetrics;
use super::partitions::Partitions;
use super::producer_ids::ProducerIds;
use super::quotas::Quotas;
use super::sessions::Sessions;
use super::topics::View;
use crate::coordinator::group::Groups;
use crate::coordinator::txn::Transactions;
use crate::log::{LogError, LogSettings, ShardLog};
use crate::metadata::{Delta, Image, Resolver};
use crate::model::settings::BrokerSettings;
use crate::rt::{self, AlignedBuf};
use crate::security::Access;

/// What a shard starts from, carried to its thread.
pub struct Start {
    pub index: usize,
    pub count: usize,
    pub end: End,
    pub data_dir: PathBuf,
    pub settings: Arc<BrokerSettings>,
    pub image: Arc<Image>,
    pub connections: Connections,
    pub session_seed: u32,
    /// Directories below `topics/` that belong to no topic.
    pub strays: usize,
}

impl Shard {
    /// Recovers the shard's log and takes up its partitions.
    pub async fn open(start: Start) -> Result<Rc<Self>, LogError> {
        let settings = &start.settings;
        let log_settings = LogSettings::of(settings, start.count);
        let resolver = Resolver::new(settings);
        let topics = View {
            image: &start.image,
            resolver: &resolver,
            of: Some(settings.broker_id),
            follows: settings.follows,
        };
        let (store, recovered) =
            ShardLog::open(&start.data_dir, start.index, start.count, &topics, log_settings).await?;
        store.resources().files().set_limit(settings.open_segments);
        let me = Me { broker: settings.broker_id, shard: start.index, count: start.count };
        let quotas = Quotas::new(start.image.quotas.clone(), start.count == 1);
        let memory = settings.per_shard(settings.request_memory_bytes, start.count);
        let sessions = settings.per_shard(settings.fetch_session_slots, start.count);
        let shard = Rc::new(Self {
            me,
            settings: settings.clone(),
            port: Port::new(start.end),
            memory: Memory::new(memory, store.resources().work()),
            applied: Applied::new(start.image, resolver),
            partitions: Partitions::new(store, me.broker, settings.cluster.lag_max_ms),
            intake: Intake::default(),
            deadlines: Deadlines::default(),
            coordinators: Coordinators::default(),
            ends: Ends::new(me.broker),
            replication: Default::default(),
            connections: start.connections,
            sessions: Sessions::new(sessions, start.index, start.count, start.session_seed),
            producer_ids: ProducerIds::default(),
            quotas,
            access: Cell::new(Access::OPEN),
            metrics: ShardMetrics::new(start.index),
            life: Life::begin(),
            links: Links::default(),
            told: Default::default(),
            strays: start.strays,
        });
        // Buffers that are kept count in no budget.
        AlignedBuf::keep_at_most(shard.store().resources().budget() / 8);
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
        self.start_replication();
        self.start_driver::<Groups>();
        rt::spawn(self.clone().compact());
        self.start_driver::<Transactions>();
        rt::spawn(self.clone().run_marking());
        if self.me.count > 1 {
            rt::spawn(self.clone().share_quota_use());
        }
    }

    /// Lets connections finish for as long as `grace`, then makes everything durable in its final place.
    pub async fn close(self: &Rc<Self>, grace: Duration) -> Result<(), LogError> {
        let deadline = rt::now() + grace;
        // Others' as well: their requests may wait for this shard's answer, or be on their way here.
        while self.connections.open().any(|open| open > 0) && rt::now() < deadline {
            rt::sleep(Duration::from_millis(2)).await;
        }
        self.partitions.close().await
    }
}
