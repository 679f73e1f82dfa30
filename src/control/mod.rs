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

mod answer;
mod by_hand;
mod courier;
mod door;
mod history;
mod house;
pub(crate) mod join;
mod left;
mod lifecycle;
mod links;
mod loads;
mod local;
mod node;
mod peers;
mod probe;
pub mod quorum;
pub mod raft;
mod reporting;
mod socket;
mod standing;
mod tell;
mod voters;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flume::Receiver;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};

use crate::controller::{ControlError, ControlErrorKind, ControlReply, ControlRequest, Controller, Step};
use crate::metadata::quorum::Recovery;
use crate::metadata::{Image, new_id};
use crate::model::settings::ClusterSettings;
use crate::model::{BrokerId, BrokerSettings, Listener, MonoMs};
use crate::peer::hello::NOBODY;
use crate::peer::{Hello, Lane, Whom};
use crate::rt::mesh::{Call, To};
use crate::shard::connections::Connections;
use crate::shard::leadership::Leadership;
use crate::shard::message::{self, Asked, End, Port, Reply, Request};

use answer::Answer;
use history::History;
use left::Left;
use quorum::{Event, Quorum};
use reporting::Reporting;
use standing::Standing;

pub(crate) use courier::Courier;
pub(crate) use links::Links;
pub(crate) use node::Node;

/// Who this process is among the brokers.
#[derive(Clone)]
pub(crate) struct Me {
    pub id: BrokerId,
    pub cluster: String,
    /// Drawn by this process.
    pub incarnation: [u8; 16],
    /// Of its metadata.
    pub directory: [u8; 16],
    /// Which recovery of the cluster it follows.
    pub recovery: Recovery,
    /// The cluster listener.
    pub listener: Arc<Listener>,
}

impl Me {
    /// As it introduces itself before it knows of a life of its own.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            cluster: self.cluster.clone(),
            to: NOBODY,
            broker: self.id,
            epoch: -1,
            incarnation: self.incarnation,
            directory: self.directory,
            recovery: self.recovery,
            lane: Lane::Control,
            shard: 0,
        }
    }
}

pub(crate) struct Control {
    me: Me,
    port: Rc<Port>,
    shards: usize,
    connections: Connections,
    /// Its shards are told of changes.
    telling: Cell<bool>,
    leads: Cell<Option<Leadership>>,
    /// Its shards serve.
    serving: Cell<bool>,
    links: Rc<Links>,
    standing: Standing,
    reporting: Reporting,
    /// Of partitions.
    home: PathBuf,
    /// How often this broker says that it lives, and after how long a silence it is fenced.
    heartbeat: Duration,
    session: Duration,
    cluster: ClusterSettings,
    started: Instant,
    left: Left,
    history: RefCell<History<To<message::WatchCluster>>>,
    /// Where brokers are, for as long as the metadata does not say.
    told: Vec<(BrokerId, Whom)>,
    /// An operator has the voters changed.
    choosing: Rc<Cell<bool>>,
    /// Why this broker is no member of the quorum any more.
    ended: RefCell<Option<String>>,
    has_ended: Notify,
    quorum: Node<Courier>,
    controller: RefCell<Controller<Answer>>,
    queue: RefCell<VecDeque<(Answer, ControlRequest)>>,
    queued: Notify,
    /// Names of deleted topics whose files may be there, with the version of their deletion.
    leaving: RefCell<BTreeMap<String, u64>>,
    /// The newest metadata that every shard has applied, and who waits for newer.
    applied: Cell<u64>,
    appliers: RefCell<Vec<(u64, To<message::Applied>)>>,
    applied_more: Notify,
    /// What waits for a name to become free.
    parked: RefCell<Vec<(Answer, ControlRequest)>>,
}

impl Control {
    /// The image is that of the quorum's last commit.
    pub(crate) fn new(
        end: End,
        me: Me,
        connections: Connections,
        links: Rc<Links>,
        quorum: Node<Courier>,
        image: Arc<Image>,
        settings: &BrokerSettings,
    ) -> Self {
        let mut controller = Controller::new(image.clone(), settings.clone());
        quorum.leads().into_iter().for_each(|epoch| controller.lead(epoch, MonoMs::ZERO));
        let incarnation = me.incarnation;
        let (version, shards) = (image.version, connections.open().count());
        Self {
            me,
            port: Port::new(end),
            shards,
            connections,
            telling: Cell::new(false),
            leads: Cell::new(None),
            serving: Cell::new(false),
            links,
            standing: Standing::new(shards),
            reporting: Reporting::default(),
            home: PathBuf::from(&settings.log_dir),
            heartbeat: Duration::from_millis(settings.cluster.heartbeat_ms as u64),
            session: Duration::from_millis(settings.cluster.session_ms as u64),
            cluster: settings.cluster.clone(),
            started: Instant::now(),
            history: RefCell::new(History::new(incarnation)),
            left: Left::new(PathBuf::from(&settings.log_dir)),
            told: Vec::new(),
            choosing: Rc::default(),
            ended: RefCell::default(),
            has_ended: Notify::new(),
            quorum,
            controller: RefCell::new(controller),
            queue: RefCell::default(),
            queued: Notify::new(),
            leaving: RefCell::default(),
            applied: Cell::new(version),
            appliers: RefCell::default(),
            applied_more: Notify::new(),
            parked: RefCell::default(),
        }
    }

    /// Brokers that are asked who the controller is, before there is metadata here.
    pub(crate) fn knowing(self, told: Vec<(BrokerId, Whom)>) -> Self {
        Self { told, ..self }
    }

    pub(crate) fn start(self: Rc<Self>, bell: Receiver<()>) {
        let control = self.clone();
        tokio::task::spawn_local(async move {
            while bell.recv_async().await.is_ok() {
                control.take_mail();
            }
        });
        tokio::task::spawn_local(self.clone().decide());
        tokio::task::spawn_local(self.clone().tick());
        tokio::task::spawn_local(self.clone().keep_members());
        tokio::task::spawn_local(self.follow());
    }

    fn take_mail(self: &Rc<Self>) {
        self.port.drain(|from, request| match Asked::new(from, request) {
            Asked::Control(message::Control(request), to) => {
                let answer = Answer::Shard(to);
                match self.leadership().mine {
                    true => self.enqueue(answer, request),
                    false => self.hand_on(answer, request),
                }
            }
            Asked::Applied(message::Applied(offset), to) => {
                self.appliers.borrow_mut().push((offset, to));
                self.applied_to(0);
            }
            Asked::WatchCluster(message::WatchCluster(watch), to) => self.watch(watch, to),
            Asked::QuorumStatus(_, to) => self.port.reply(to, Box::new(self.quorum.status())),
            Asked::ChangeVoters(asked, to) => self.change_voters(asked, to),
            _ => unreachable!("not for the control thread"),
        });
    }

    fn enqueue(&self, answer: Answer, request: ControlRequest) {
        self.queue.borrow_mut().push_back((answer, request));
        self.queued.notify_one();
    }

    /// Asks this broker as the controller.
    async fn ask_here(&self, request: ControlRequest) -> ControlReply {
        let (answer, answered) = oneshot::channel();
        self.enqueue(Answer::Here(answer), request);
        let lost = |_| ControlReply::Failed(self.not_controller());
        answered.await.unwrap_or_else(lost)
    }

    /// Its shards serve from now on.
    pub(crate) fn serve(&self) {
        self.standing.turned.borrow_mut().fill(Instant::now());
        self.serving.set(true);
    }

    /// Takes connections of other brokers, for as long as the process lives.
    pub(crate) async fn accept(self: Rc<Self>, listener: TcpListener) {
        door::accept(self, listener).await;
    }

    pub(super) fn leadership(&self) -> Leadership {
        let status = self.quorum.status();
        Leadership {
            epoch: status.epoch,
            controller: status.leader.map(|leader| leader.node),
            mine: self.quorum.leads().is_some(),
        }
    }

    pub(crate) fn image(&self) -> Arc<Image> {
        self.controller.borrow().image().clone()
    }

    /// This broker is not the controller.
    fn elsewhere(self: &Rc<Self>, answer: Answer, request: ControlRequest) {
        match answer {
            Answer::Shard(_) => self.hand_on(answer, request),
            // Whoever asks on this thread looks for the controller himself.
            Answer::Here(_) => answer.give(&self.port, ControlReply::Failed(self.not_controller())),
        }
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
            let occupied = self.left.occupied(places).await;
            self.quorum.ready().await;
            let Some(epoch) = self.quorum.leads() else {
                self.elsewhere(to, request);
                continue;
            };
            let now = self.now();
            let step = self.controller.borrow_mut().handle(to, &request, now, &mut new_id, &occupied);
            self.look_for_the_last_life(&request, &step);
            self.take(epoch, step);
        }
    }

    fn take(&self, epoch: i32, step: Step<Answer>) {
        self.answer(step.answers);
        for change in step.propose {
            if self.quorum.propose(epoch, change).is_err() {
                let why = "the metadata cannot be changed any more by this broker";
                self.lose(&ControlError::new(ControlErrorKind::Unavailable, why));
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

    /// Takes what the quorum says of proposals.
    async fn follow(self: Rc<Self>) {
        loop {
            let event = self.quorum.next().await;
            match event {
                Event::Committed(commits) => {
                    let before = self.image();
                    let settled = self.controller.borrow_mut().on_committed(&commits);
                    self.show(&before, &settled);
                    self.publish(settled);
                }
                Event::Snapshot { image } => {
                    self.left.forget();
                    let before = self.image();
                    let settled = self.controller.borrow_mut().on_snapshot(image);
                    self.show(&before, &settled);
                    self.publish(settled);
                }
                Event::Leader { epoch, mine, .. } => {
                    self.lose(&self.not_controller());
                    self.controller.borrow_mut().turn(mine.then_some(epoch), self.now());
                    if mine {
                        self.look_for_all(self.image().brokers().map(|broker| broker.id));
                    }
                }
                Event::Lost { why } => {
                    log::error!("metadata changes refused: {why}");
                    self.lose(&ControlError::new(ControlErrorKind::Unavailable, why));
                }
                Event::Ended { why } => {
                    self.lose(&ControlError::new(ControlErrorKind::Unavailable, why.clone()));
                    self.ended.replace(Some(why));
                    self.has_ended.notify_waiters();
                }
            }
            self.show_quorum();
            self.tell_leadership();
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
        answers.into_iter().for_each(|(to, reply)| to.give(&self.port, reply));
    }

    pub(crate) async fn broadcast<C: Call<Request, Reply>>(&self, request: impl Fn() -> C) -> Vec<C::Reply> {
        let calls: Vec<_> = (0..self.shards).map(|shard| self.port.call(shard, request())).collect();
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            replies.push(call.await);
        }
        replies
    }
}
