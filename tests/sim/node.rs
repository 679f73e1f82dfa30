//! One broker's process: the controller that may lead in it, and its part in the cluster.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use weir::controller::loads::{self, BrokerLoad, PartitionLoad};
use weir::controller::{
    AlterPartitions, ControlError, ControlErrorKind, ControlReply, ControlRequest, Controller, Heartbeat,
    IsrChange, IsrRefusal, Registration, Settled, Step,
};
use weir::metadata::{Delta, Image};
use weir::model::{BrokerEpoch, BrokerId, BrokerSettings, LeaderEpoch, MonoMs, PartitionId};
use weir::partition::leader::{Proposal, Verdict};

use super::disk::Disk;
use super::faults::Swarm;
use super::net::{Asker, Message};
use super::replica::{Machine, Part};
use super::world::{Event, World};

/// How long a request to the controller may take.
const ASK_MS: i64 = 2_000;
const TICK_MS: i64 = 500;

pub struct Node {
    pub id: BrokerId,
    pub up: bool,
    /// SIGSTOP.
    pub paused_until: Option<i64>,
    /// Counts its processes.
    pub life: u64,
    pub incarnation: [u8; 16],
    /// It is to come back with another disk.
    pub loses_disk: bool,
    pub directory: [u8; 16],
    pub settings: BrokerSettings,
    pub controller: Controller<Asker>,
    /// The epoch in which it thinks that it leads the quorum.
    pub leads: Option<i32>,
    /// What it proposed since it leads and has not heard of.
    pub proposed: usize,
    /// Whom it takes for the controller.
    pub hint: Option<usize>,
    /// How many commits it has applied.
    pub heard: usize,
    /// What its shards are to apply.
    pub behind: VecDeque<(Arc<Image>, Delta)>,
    /// What its shards have applied.
    pub image: Arc<Image>,
    /// Of this life, once its registration is applied: it has no part in anything before.
    pub epoch: Option<BrokerEpoch>,
    pub wants_shutdown: bool,
    pub parts: BTreeMap<PartitionId, Part>,
    pub disks: BTreeMap<PartitionId, Disk>,
    pub syncing: bool,
    /// A sync takes up to this.
    pub sync_ms: i64,
    asked: BTreeMap<u64, Asked>,
    asks: u64,
    last_beat: i64,
}

/// What waits for the controller's answer.
struct Asked {
    until: i64,
    what: What,
}

enum What {
    Register,
    Heartbeat,
    Isr(PartitionId, LeaderEpoch, u64),
}

impl Node {
    pub fn new(at: usize, image: &Arc<Image>, swarm: &Swarm) -> Self {
        let id = at as BrokerId + 1;
        let settings = BrokerSettings { broker_id: id, ..swarm.settings() };
        Self {
            id,
            up: false,
            paused_until: None,
            life: 0,
            incarnation: [0; 16],
            loses_disk: false,
            directory: [id as u8; 16],
            controller: Controller::new(image.clone(), settings.clone()),
            settings,
            leads: None,
            proposed: 0,
            hint: None,
            heard: 0,
            behind: VecDeque::new(),
            image: image.clone(),
            epoch: None,
            wants_shutdown: false,
            parts: BTreeMap::new(),
            disks: BTreeMap::new(),
            syncing: false,
            sync_ms: swarm.sync_ms,
            asked: BTreeMap::new(),
            asks: 0,
            last_beat: i64::MIN / 2,
        }
    }

    /// As if partitions were large, each of a size of its own.
    fn load(&self) -> BrokerLoad {
        let led = self.parts.iter().filter(|(_, part)| matches!(part.machine, Machine::Leader(_)));
        let bytes =
            |id: &PartitionId| (u64::from(id.topic.0[0]) * 37 + id.index as u64 * 91) % 10 * (100 << 20);
        let partitions = led.map(|(id, _)| PartitionLoad { id: *id, bytes: bytes(id), rate: 0 }).collect();
        BrokerLoad { disk: loads::Disk { total: 1 << 40, free: 1 << 39 }, partitions, whole: true }
    }

    pub fn asker(&mut self, at: usize) -> Asker {
        self.asks += 1;
        Asker { node: at, life: self.life, number: self.asks }
    }
}

impl World {
    /// A new process on what the last one left on disk.
    pub fn start(&mut self, at: usize) {
        if self.nodes[at].up {
            return;
        }
        if std::mem::take(&mut self.nodes[at].loses_disk) {
            self.lose_disk(at);
        }
        let node = &mut self.nodes[at];
        node.life += 1;
        let image = node.controller.image().clone();
        node.controller = Controller::new(image.clone(), node.settings.clone());
        (node.image, node.up, node.paused_until) = (image, true, None);
        (node.leads, node.hint, node.epoch, node.wants_shutdown) = (None, None, None, false);
        node.behind.clear();
        node.asked.clear();
        node.parts.clear();
        (node.syncing, node.last_beat) = (false, i64::MIN / 2);
        let life = node.life;
        node.incarnation[0] = node.id as u8;
        node.incarnation[8..].copy_from_slice(&life.to_le_bytes());
        let first = self.random.within(1..=50);
        self.after(first, Event::Tick { node: at, life });
    }

    pub fn crash(&mut self, at: usize) {
        self.quorum_node_died(at);
        let node = &mut self.nodes[at];
        (node.up, node.leads, node.paused_until) = (false, None, None);
        node.parts.clear();
        for disk in node.disks.values_mut() {
            let kept = self.random.below(disk.unsynced.len() + 1);
            disk.crash(kept);
        }
        self.net.forget(at);
    }

    /// The controller of this node's process was asked.
    pub fn asked(&mut self, at: usize, asker: Asker, request: ControlRequest) {
        if self.nodes[at].leads.is_none() {
            let why = ControlError::new(ControlErrorKind::NotController, "another broker is the controller");
            return self.answer(at, vec![(asker, ControlReply::Failed(why))]);
        }
        let now = MonoMs(self.now);
        let ids: Vec<_> = (0..8).map(|_| self.random_id()).collect();
        let mut ids = ids.into_iter();
        let mut new_id = || ids.next().expect("a request makes no more topics than that");
        let node = &mut self.nodes[at];
        let step = node.controller.handle(asker, &request, now, &mut new_id, &Default::default());
        self.carry_out(at, step);
    }

    fn carry_out(&mut self, at: usize, step: Step<Asker>) {
        if let Some(epoch) = self.nodes[at].leads {
            for change in step.propose {
                self.quorum_propose(at, epoch, change.records);
            }
        }
        self.answer(at, step.answers);
    }

    pub fn answer(&mut self, at: usize, answers: Vec<(Asker, ControlReply)>) {
        for (asker, reply) in answers.into_iter().filter(|(asker, _)| asker.number > 0) {
            self.send(at, asker.node, Message::Told(asker, reply));
        }
    }

    /// A node's metadata went on.
    pub fn settle(&mut self, at: usize, settled: Settled<Asker>) {
        let life = self.nodes[at].life;
        self.nodes[at].behind.push_back((settled.image, settled.delta));
        self.answer(at, settled.answers);
        let lag =
            if self.random.one_in(50) { self.random.within(10..=500) } else { self.random.within(0..=4) };
        self.after(lag, Event::Follow { node: at, life });
    }

    /// Its shards apply what there is.
    pub fn follow(&mut self, at: usize) {
        while let Some((image, mut delta)) = self.nodes[at].behind.pop_front() {
            let node = &mut self.nodes[at];
            node.image = image.clone();
            if node.epoch.is_none() {
                // It opens what is its own when it is somebody.
                let own = image.broker(node.id).filter(|broker| broker.incarnation == node.incarnation);
                node.epoch = own.map(|broker| broker.epoch);
                let Some(_) = node.epoch else { continue };
                delta = Delta::whole(&image);
                let here = |id: &PartitionId| image.partition(*id).is_some_and(|p| p.has_replica(node.id));
                node.disks.retain(|id, _| here(id));
            }
            let local = delta.local(node.id, &image);
            for topic in &local.deleted {
                for id in topic.partition_ids() {
                    self.nodes[at].parts.remove(&id);
                    self.nodes[at].disks.remove(&id);
                }
            }
            for id in &local.removed {
                self.nodes[at].parts.remove(id);
                self.nodes[at].disks.remove(id);
            }
            for id in local.leaders.iter().chain(&local.followers) {
                self.take_up(at, *id);
            }
            if !delta.brokers.is_empty() {
                self.note_peers(at, &delta.brokers);
            }
        }
    }

    pub fn tick(&mut self, at: usize) {
        let (now, life) = (self.now, self.nodes[at].life);
        self.after(TICK_MS, Event::Tick { node: at, life });
        let node = &mut self.nodes[at];
        let late: Vec<u64> = node.asked.iter().filter(|(_, a)| a.until <= now).map(|(n, _)| *n).collect();
        for number in late {
            if let Some(asked) = self.nodes[at].asked.remove(&number) {
                self.nodes[at].hint = None;
                self.heard_nothing(at, asked.what);
            }
        }
        if self.nodes[at].leads.is_some() {
            let step = self.nodes[at].controller.tick(MonoMs(now));
            self.carry_out(at, step);
        }
        self.live(at);
        self.tick_parts(at);
    }

    /// Registration, then heartbeats.
    fn live(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let waits = |node: &Node, of: fn(&What) -> bool| node.asked.values().any(|asked| of(&asked.what));
        let Some(epoch) = node.epoch else {
            if !waits(node, |what| matches!(what, What::Register)) {
                let mut registration = Registration::of(&node.settings, 1, node.directory, node.incarnation);
                registration.cluster = node.image.cluster_id.to_string();
                self.ask(at, ControlRequest::Register(Box::new(registration)), What::Register);
            }
            return;
        };
        let due = self.now - node.last_beat >= 1_000;
        if due && !waits(node, |what| matches!(what, What::Heartbeat)) {
            node.last_beat = self.now;
            // Not by default: how long a cluster has to rest afterwards is not known with it.
            let load = std::env::var_os("WEIR_BALANCE").map(|_| node.load());
            let beat = Heartbeat {
                id: node.id,
                epoch,
                applied: node.image.version,
                wants_shutdown: node.wants_shutdown,
                load,
                ..Heartbeat::default()
            };
            self.ask(at, ControlRequest::Heartbeat(beat), What::Heartbeat);
        }
    }

    fn ask(&mut self, at: usize, request: ControlRequest, what: What) {
        let hint = self.nodes[at].hint;
        let to = hint.unwrap_or_else(|| self.random.below(self.nodes.len()));
        let until = self.now + ASK_MS;
        let asker = self.nodes[at].asker(at);
        self.nodes[at].asked.insert(asker.number, Asked { until, what });
        self.send(at, to, Message::Ask(asker, request));
    }

    /// A leader of a partition proposes an ISR.
    pub fn propose_isr(&mut self, at: usize, id: PartitionId, proposal: Proposal) {
        let node = &self.nodes[at];
        let Some(epoch) = node.epoch else { return };
        let change = IsrChange {
            id,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            isr: proposal.isr,
            recovering: false,
        };
        let request =
            AlterPartitions { broker: node.id, epoch, applied: node.image.version, changes: vec![change] };
        let what = What::Isr(id, proposal.leader_epoch, proposal.number);
        self.ask(at, ControlRequest::AlterPartitions(request), what);
    }

    pub fn told(&mut self, at: usize, asker: Asker, reply: ControlReply) {
        if asker.life != self.nodes[at].life {
            return;
        }
        let Some(Asked { what, .. }) = self.nodes[at].asked.remove(&asker.number) else { return };
        match (what, reply) {
            // That it is registered the metadata says too.
            (What::Register, ControlReply::Registered { .. }) => {}
            (What::Heartbeat, ControlReply::Heard(heard)) => {
                if heard.may_stop && self.nodes[at].wants_shutdown {
                    self.stopped(at);
                }
            }
            (What::Isr(id, epoch, number), ControlReply::AlteredPartitions(results)) => {
                let verdict = match results.into_iter().next() {
                    Some(Ok(state)) => Verdict::Committed(state.partition_epoch, state.isr),
                    Some(Err(IsrRefusal::IneligibleReplica | IsrRefusal::NotAttempted)) => Verdict::Refused,
                    Some(Err(IsrRefusal::NotController)) | None => Verdict::Unknown,
                    Some(Err(_)) => Verdict::Outdated,
                };
                self.isr_decided(at, id, epoch, number, verdict);
            }
            (what, ControlReply::Failed(why)) => match why.kind {
                ControlErrorKind::StaleBrokerEpoch | ControlErrorKind::BrokerNotRegistered
                    if matches!(what, What::Heartbeat) =>
                {
                    // Another process has its place; this one has nothing left to do.
                    self.restart(at);
                }
                kind => {
                    if kind == ControlErrorKind::NotController {
                        self.nodes[at].hint = None;
                    }
                    self.heard_nothing(at, what);
                }
            },
            (_, reply) => panic!("seed {}: {reply:?} is no answer to that", self.seed),
        }
    }

    fn heard_nothing(&mut self, at: usize, what: What) {
        if let What::Isr(id, epoch, number) = what {
            self.isr_decided(at, id, epoch, number, Verdict::Unknown);
        }
    }

    /// It ends by itself, with everything on disk, and comes again.
    fn stopped(&mut self, at: usize) {
        for disk in self.nodes[at].disks.values_mut() {
            disk.sync(usize::MAX);
        }
        self.history.stops += 1;
        self.restart(at);
    }

    pub fn restart(&mut self, at: usize) {
        self.crash(at);
        let wait = self.random.within(100..=12_000);
        self.after(wait, Event::Start(at));
    }
}
