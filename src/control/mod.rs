//! The control thread's part in metadata: takes what shards ask, has it decided, proposes it, tells the shards what is
//! committed, and answers.
//!
//! ```text
//! asked ─ queue ─ controller ─ quorum: propose        committed ─ controller ─▶ every shard: (image, delta) ─ applied ─▶ answers
//! ```
//! - Nothing here waits for a disk: changes are decided while earlier ones are being written.
//! - An answer waits until every shard has applied its change, because whoever gets it may ask any of them next; applying waits
//!   for no file. One that changes nothing that a shard shows waits for the commit alone.
//! - The files of a deleted topic go afterwards. Meanwhile a new topic of its name waits here, and nobody else does.

mod local;
mod quorum;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use flume::Receiver;
use tokio::sync::Notify;

use crate::controller::{
    ControlError, ControlErrorKind, ControlReply, ControlRequest, Controller, Place, Settled, occupied,
};
use crate::metadata::new_id;
use crate::model::{BrokerSettings, MonoMs};
use crate::rt::mesh::{Call, To};
use crate::shard::message::{self, Asked, End, Measure, Metadata, Port, Removals, Reply, Request};
use crate::shard::metrics::MetricsSnapshot;

pub(crate) use local::Local;
pub(crate) use quorum::{Event, Quorum};

type Answer = To<message::Control>;

pub(crate) struct Control<Q> {
    port: Rc<Port>,
    shards: usize,
    started: Instant,
    /// The directory of partitions.
    home: PathBuf,
    quorum: Q,
    controller: RefCell<Controller<Answer>>,
    queue: RefCell<VecDeque<(Answer, ControlRequest)>>,
    queued: Notify,
    /// Names of deleted topics whose files may be there, with the version of their deletion.
    leaving: RefCell<BTreeMap<String, u64>>,
    /// The newest metadata that every shard has applied, and who waits for newer.
    applied: Cell<u64>,
    appliers: RefCell<Vec<(u64, To<message::Applied>)>>,
    /// What waits for a name to become free.
    parked: RefCell<Vec<(Answer, ControlRequest)>>,
}

impl<Q: Quorum + 'static> Control<Q> {
    /// The image is that of the quorum's last commit.
    pub(crate) fn new(
        end: End,
        shards: usize,
        quorum: Q,
        image: Arc<crate::metadata::Image>,
        settings: &BrokerSettings,
    ) -> Self {
        let mut controller = Controller::new(image, settings.clone());
        quorum.leads().into_iter().for_each(|epoch| controller.lead(epoch));
        let version = image.version;
        Self {
            port: Port::new(end),
            shards,
            started: Instant::now(),
            home: PathBuf::from(&settings.log_dir),
            quorum,
            controller: RefCell::new(controller),
            queue: RefCell::default(),
            queued: Notify::new(),
            leaving: RefCell::default(),
            applied: Cell::new(version),
            appliers: RefCell::default(),
            parked: RefCell::default(),
        }
    }

    pub(crate) fn start(self: Rc<Self>, bell: Receiver<()>) {
        let control = self.clone();
        tokio::task::spawn_local(async move {
            while bell.recv_async().await.is_ok() {
                control.take_mail();
            }
        });
        tokio::task::spawn_local(self.clone().decide());
        tokio::task::spawn_local(self.follow());
    }

    fn take_mail(&self) {
        self.port.drain(|from, request| match Asked::new(from, request) {
            Asked::Control(message::Control(request), to) => {
                self.queue.borrow_mut().push_back((to, request));
                self.queued.notify_one();
            }
            Asked::Applied(message::Applied(offset), to) => {
                self.appliers.borrow_mut().push((offset, to));
                self.applied_to(0);
            }
            _ => unreachable!("not for the control thread"),
        });
    }

    /// Decides one request after another, and proposes what comes of it.
    async fn decide(self: Rc<Self>) {
        loop {
            let next = self.queue.borrow_mut().pop_front();
            let Some((to, request)) = next else {
                self.queued.notified().await;
                continue;
            };
            let places = self.controller.borrow().places(&request);
            if places.iter().any(|(name, _)| self.is_leaving(name)) {
                self.parked.borrow_mut().push((to, request));
                continue;
            }
            let occupied = self.occupied(places).await;
            self.quorum.ready().await;
            let Some(epoch) = self.quorum.leads() else {
                self.answer(vec![(to, ControlReply::Failed(self.not_controller()))]);
                continue;
            };
            let now = self.now();
            let step = self.controller.borrow_mut().handle(to, &request, now, &mut new_id, &occupied);
            self.answer(step.answers);
            for records in step.propose {
                if self.quorum.propose(epoch, records).is_err() {
                    let why = "the metadata cannot be changed any more by this broker";
                    self.lose(&ControlError::new(ControlErrorKind::Unavailable, why));
                }
            }
        }
    }

    fn now(&self) -> MonoMs {
        MonoMs(self.started.elapsed().as_millis() as i64)
    }

    fn is_leaving(&self, name: &str) -> bool {
        self.leaving.borrow().contains_key(name)
            || self.controller.borrow().deleting().any(|deleting| deleting == name)
    }

    /// Looks on a thread that may wait for the disk.
    async fn occupied(&self, places: Vec<Place>) -> BTreeSet<Place> {
        if places.is_empty() {
            return BTreeSet::new();
        }
        let home = self.home.clone();
        tokio::task::spawn_blocking(move || occupied(&home, places)).await.unwrap_or_default()
    }

    /// Takes what the quorum says of proposals.
    async fn follow(self: Rc<Self>) {
        loop {
            match self.quorum.next().await {
                Event::Committed(commits) => {
                    let settled = self.controller.borrow_mut().on_committed(&commits);
                    self.publish(settled);
                }
                Event::Snapshot { image } => {
                    let settled = self.controller.borrow_mut().on_snapshot(image);
                    self.publish(settled);
                }
                Event::Leader { epoch, mine, .. } => {
                    self.lose(&self.not_controller());
                    if mine {
                        self.controller.borrow_mut().lead(epoch);
                    }
                }
                Event::Lost { why } => {
                    log::error!("metadata changes refused: {why}");
                    self.lose(&ControlError::new(ControlErrorKind::Unavailable, why));
                }
            }
        }
    }

    fn not_controller(&self) -> ControlError {
        let message = match self.quorum.status().leader {
            Some(leader) => format!("the controller is broker {}", leader.node),
            None => "no broker is known to be the controller".to_owned(),
        };
        ControlError::new(ControlErrorKind::NotController, message)
    }

    /// What is proposed is taken for lost.
    fn lose(&self, error: &ControlError) {
        let answers = self.controller.borrow_mut().on_lost(error);
        self.answer(answers);
        self.unpark();
    }

    /// Tells every shard of a commit, and answers once they have applied it.
    fn publish(self: &Rc<Self>, settled: Settled<Answer>) {
        let Settled { image, delta, answers } = settled;
        let version = image.version;
        let deletes = !delta.deleted.is_empty();
        self.leaving
            .borrow_mut()
            .extend(delta.deleted.values().map(|topic| (topic.name.to_string(), version)));
        let shown = !delta.is_empty();
        let delta = Arc::new(delta);
        let calls: Vec<_> = (0..self.shards)
            .map(|shard| self.port.call(shard, Metadata(image.clone(), delta.clone())))
            .collect();
        let (now, later) = if shown { (Vec::new(), answers) } else { (answers, Vec::new()) };
        self.answer(now);
        let control = self.clone();
        tokio::task::spawn_local(async move {
            for call in calls {
                call.await;
            }
            control.applied_to(version);
            control.answer(later);
            if deletes {
                control.broadcast(|| Removals).await;
                control.leaving.borrow_mut().retain(|_, of| *of > version);
                control.unpark();
            }
        });
    }

    /// Every shard has applied the metadata up to an offset.
    fn applied_to(&self, offset: u64) {
        let applied = self.applied.get().max(offset);
        self.applied.set(applied);
        let mut waiting = self.appliers.borrow_mut();
        for (_, to) in waiting.extract_if(.., |(offset, _)| *offset <= applied) {
            self.port.reply(to, ());
        }
    }

    /// Looks again at what waited for a name.
    fn unpark(&self) {
        let parked = self.parked.take();
        if !parked.is_empty() {
            let mut queue = self.queue.borrow_mut();
            parked.into_iter().rev().for_each(|one| queue.push_front(one));
            self.queued.notify_one();
        }
    }

    fn answer(&self, answers: Vec<(Answer, ControlReply)>) {
        answers.into_iter().for_each(|(to, reply)| self.port.reply(to, reply));
    }

    pub(crate) async fn broadcast<C: Call<Request, Reply>>(&self, request: impl Fn() -> C) -> Vec<C::Reply> {
        let calls: Vec<_> = (0..self.shards).map(|shard| self.port.call(shard, request())).collect();
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            replies.push(call.await);
        }
        replies
    }

    pub(crate) async fn measure(&self) -> Vec<MetricsSnapshot> {
        self.broadcast(|| Measure).await.into_iter().map(|snapshot| *snapshot).collect()
    }
}
