//! Random lives of a cluster: brokers that come, die, stop and fall behind, leaders that propose, controllers that change, and
//! a log of metadata that loses what it has not committed. After every commit what must always hold is checked, and once all
//! is calm what must come to hold.
//!
//! What partitions hold is one number each: how much was committed, and how much of it a replica has. A leader commits by the
//! metadata that it has applied, never by what is true: with all of the ISR that it knows and proposed, if those follow it in
//! the same epoch.

use std::collections::{BTreeMap, BTreeSet};

use super::request::{ConfigChange, ConfigOp, ConfigResource, NewTopic, Reassignment, TopicRef};
use super::*;
use crate::metadata::records::Endpoint;
use crate::metadata::{features, min_insync};
use crate::model::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionId};

type Answers = Vec<(u64, ControlReply)>;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }
}

/// An ISR that a leader has proposed and knows no answer to.
#[derive(Clone, Debug)]
struct Proposed {
    change: IsrChange,
}

/// A broker, and what it knows.
#[derive(Clone, Debug, Default)]
struct Node {
    id: BrokerId,
    directory: [u8; 16],
    incarnation: [u8; 16],
    up: bool,
    stopping: bool,
    epoch: Option<BrokerEpoch>,
    stopped_in: Option<BrokerEpoch>,
    applied: u64,
    proposed: BTreeMap<PartitionId, Proposed>,
    /// Answers that are ahead of the metadata that it has applied.
    taken: BTreeMap<PartitionId, PartitionState>,
    damaged: BTreeSet<PartitionId>,
}

/// What a request was for.
enum Asked {
    Register(BrokerId, [u8; 16]),
    Beat(BrokerId, BrokerEpoch),
    Isr(BrokerId, BrokerEpoch, Vec<IsrChange>),
    Other,
}

struct World {
    rng: Rng,
    now: MonoMs,
    controller: Controller<u64>,
    /// The controller's.
    epoch: i32,
    /// Proposed and not committed.
    open: VecDeque<Vec<Record>>,
    /// Every image there was, by version.
    truth: Vec<Arc<Image>>,
    nodes: Vec<Node>,
    asked: BTreeMap<u64, Asked>,
    next: u64,
    /// Held back, to arrive late or twice.
    late: Vec<(ControlRequest, u64)>,
    has: BTreeMap<(BrokerId, PartitionId), u64>,
    committed: BTreeMap<PartitionId, u64>,
    led: BTreeMap<(PartitionId, i32), (BrokerId, BrokerEpoch)>,
    /// Somebody has asked for elections that lose records.
    unclean: BTreeSet<PartitionId>,
    /// The epoch of the last election that may have lost some: what leaders before commit since, nobody keeps.
    lossy: BTreeMap<PartitionId, i32>,
    calm: bool,
}

const CLUSTER: &str = "c";
const UNCLEAN: &str = "unclean.leader.election.enable";
const RACKS: [&str; 3] = ["a", "b", "c"];

fn rules() -> Rules {
    Rules { session_ms: 6_000, settled_ms: 8_000, balance_ms: 2_000, ..Rules::default() }
}

impl World {
    fn new(seed: u64) -> Self {
        let records = [
            Record::Cluster { id: CLUSTER.into() },
            Record::FeatureLevel { name: features::VERSION.into(), level: features::MAX_LEVEL },
        ];
        let image = Arc::new(Image::empty().with(&records).unwrap().0);
        let mut controller = Controller::with_rules(image.clone(), BrokerSettings::default(), rules());
        controller.lead(1, MonoMs::ZERO);
        let mut rng = Rng(seed);
        let count = 1 + rng.below(5);
        let node = |n: usize| Node {
            id: if n.is_multiple_of(2) { 100 * (n as i32 + 1) } else { -1 },
            directory: [n as u8 + 1; 16],
            ..Node::default()
        };
        Self {
            nodes: (0..count).map(node).collect(),
            rng,
            now: MonoMs::ZERO,
            controller,
            epoch: 1,
            open: VecDeque::new(),
            truth: vec![Arc::new(Image::empty()), image],
            asked: BTreeMap::new(),
            next: 0,
            late: Vec::new(),
            has: BTreeMap::new(),
            committed: BTreeMap::new(),
            led: BTreeMap::new(),
            unclean: BTreeSet::new(),
            lossy: BTreeMap::new(),
            calm: false,
        }
    }

    fn image(&self) -> &Arc<Image> {
        self.truth.last().unwrap()
    }

    fn all(&self) -> Vec<PartitionId> {
        self.image().topics().flat_map(|topic| topic.partition_ids()).collect()
    }

    fn node(&self, id: BrokerId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    fn is_up(&self, id: BrokerId) -> bool {
        self.node(id).is_some_and(|node| node.up)
    }

    fn id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.rng.next().to_le_bytes());
        id[8] = 1;
        id
    }

    fn ask(&mut self, asked: Asked, request: &ControlRequest) {
        let to = self.next;
        self.next += 1;
        self.asked.insert(to, asked);
        let mut id = TopicId(self.id());
        let mut new_id = || {
            id.0[15] = id.0[15].wrapping_add(1);
            id
        };
        let step = self.controller.handle(to, request, self.now, &mut new_id, &BTreeSet::new());
        self.take(step);
    }

    fn take(&mut self, step: Step<u64>) {
        self.open.extend(step.propose.into_iter().map(|change| change.records));
        self.hear(step.answers);
    }

    fn hear(&mut self, answers: Answers) {
        for (to, reply) in answers {
            let asked = self.asked.remove(&to).expect("each is answered once");
            if !self.calm && self.rng.one_in(8) {
                continue;
            }
            match (asked, reply) {
                (Asked::Register(before, life), ControlReply::Registered { id, epoch }) => {
                    let node = self.nodes.iter_mut().find(|node| node.up && node.incarnation == life);
                    let Some(node) = node else { continue };
                    assert!(before < 0 || before == id, "it keeps its id");
                    (node.id, node.epoch) = (id, Some(epoch));
                }
                (Asked::Beat(id, epoch), ControlReply::Heard(heard)) => {
                    let node = self.nodes.iter_mut().find(|node| node.id == id && node.epoch == Some(epoch));
                    if let Some(node) = node.filter(|node| node.stopping && heard.may_stop) {
                        (node.up, node.stopping, node.stopped_in) = (false, false, Some(epoch));
                    }
                }
                (Asked::Isr(id, epoch, changes), ControlReply::AlteredPartitions(results)) => {
                    let node = self.nodes.iter_mut().find(|node| node.id == id && node.epoch == Some(epoch));
                    let Some(node) = node else { continue };
                    for (change, result) in changes.into_iter().zip(results) {
                        settle(node, &change, result);
                    }
                }
                _ => {}
            }
        }
    }

    /// The oldest of what is proposed is committed.
    fn commit(&mut self, count: usize) {
        let mut commits = Vec::new();
        for _ in 0..count.min(self.open.len()) {
            let records = self.open.pop_front().unwrap();
            self.append(&records);
            commits.push(Commit { offset: self.image().version, epoch: self.epoch, records });
        }
        let settled = self.controller.on_committed(&commits);
        assert_eq!(settled.image.version, self.image().version);
        self.hear(settled.answers);
    }

    fn append(&mut self, records: &[Record]) {
        let old = self.image().clone();
        let (new, delta) = old.with(records).unwrap_or_else(|e| panic!("{e}: {records:?}"));
        for was in delta.brokers.iter().filter_map(|id| old.broker(*id)).filter(|was| was.shutting_down) {
            let goes_on = new
                .broker(was.id)
                .is_none_or(|now| now.epoch > was.epoch || now.shutting_down && now.fenced >= was.fenced);
            assert!(goes_on, "who stops goes on stopping until it comes anew: {was:?} by {records:?}");
        }
        self.truth.push(Arc::new(new));
        for id in delta.deleted.values().flat_map(|topic| topic.partition_ids()) {
            self.committed.remove(&id);
        }
        let touched: BTreeSet<PartitionId> = match delta.brokers.is_empty() {
            true => delta.partitions,
            false => self.all().into_iter().collect(),
        };
        touched.into_iter().for_each(|id| self.check(&old, id, records));
    }

    /// What must hold of a partition after a commit.
    fn check(&mut self, old: &Image, id: PartitionId, records: &[Record]) {
        let image = self.image().clone();
        let Some(partition) = image.partition(id) else { return };
        let topic = image.topic_by_id(id.topic).unwrap();
        let why = || format!("{id}: {:?} -> {partition:?} by {records:?}", old.partition(id));
        let active = |id: BrokerId| image.broker(id).is_some_and(|b| !b.fenced && !b.shutting_down);
        let (isr, elr): (Vec<_>, Vec<_>) = (partition.isr().collect(), partition.elr().collect());
        assert!(isr.iter().all(|id| !elr.contains(id)), "ISR and ELR overlap: {}", why());
        assert!(
            isr.iter().all(|id| image.broker(*id).is_some_and(|broker| !broker.fenced)),
            "a fenced broker is in sync: {}",
            why()
        );
        let min = min_insync(&image, &topic.overrides, partition.replicas().len());
        assert!(elr.is_empty() || isr.len() < min, "ELR with a full ISR: {}", why());
        let able = |id: &BrokerId| active(*id) && (isr.contains(id) || isr.is_empty() && elr.contains(id));
        assert!(
            partition.leader.is_some() || !partition.replicas().iter().any(able),
            "nobody leads though somebody could: {}",
            why()
        );
        if let Some(was) = old.partition(id) {
            let rises = partition.leader_epoch >= was.leader_epoch
                && partition.partition_epoch >= was.partition_epoch
                && (partition == was || partition.partition_epoch > was.partition_epoch)
                && (partition.leader == was.leader || partition.leader_epoch > was.leader_epoch);
            assert!(rises, "epochs: {}", why());
        }
        self.committed.entry(id).or_default();
        if let Some(leader) = partition.leader {
            let life = (leader, image.broker(leader).expect("a leader is registered").epoch);
            let known = *self.led.entry((id, partition.leader_epoch.0)).or_insert(life);
            assert_eq!(known, life, "two leaders of an epoch, or two lives: {}", why());
            let elected = old.partition(id).is_some_and(|was| was.leader_epoch != partition.leader_epoch);
            if elected && partition.recovering && isr == [leader] {
                self.lose_uncleanly(old, id, leader, &why());
            }
        }
        self.check_complete(id, isr.iter().chain(&elr).copied().collect(), &why());
    }

    /// An election out of sync: it has to have been chosen, and nobody eligible can have been there.
    fn lose_uncleanly(&mut self, old: &Image, id: PartitionId, leader: BrokerId, why: &str) {
        let was = old.partition(id).expect("it was there");
        let has = self.has.get(&(leader, id)).copied().unwrap_or(0);
        let committed = self.committed.get_mut(&id).expect("it is known");
        if was.counts(leader) {
            return;
        }
        let epoch = self.truth.last().and_then(|image| image.partition(id)).map_or(0, |p| p.leader_epoch.0);
        self.lossy.insert(id, epoch);
        let topic = old.topic_by_id(id.topic).expect("it was there");
        let chosen = self.unclean.contains(&id) || topic.overrides.contains_key(UNCLEAN);
        assert!(chosen || was.last_known() == Some(leader), "nobody wanted to lose anything: {why}");
        *committed = has.min(*committed);
    }

    /// Who is in sync or eligible, and runs, has all that was ever committed.
    fn check_complete(&mut self, id: PartitionId, members: Vec<BrokerId>, why: &str) {
        let image = self.image().clone();
        for member in &members {
            let Some(node) = self.node(*member) else { continue };
            let runs = node.up && image.broker(*member).is_some_and(|b| b.incarnation == node.incarnation);
            let has = self.has.get(&(*member, id)).copied().unwrap_or(0);
            let committed = self.committed[&id];
            if !runs || has >= committed {
                continue;
            }
            // Who alone has it and has lost some says so, and nobody else could do better.
            assert!(
                node.damaged.contains(&id) && members == [*member],
                "{member} has {has} of {committed}: {why}"
            );
            self.committed.insert(id, has);
        }
    }

    /// Another controller, or the same one anew: some of what was proposed is committed, the rest never was.
    fn change_controller(&mut self) {
        let some = self.rng.below(self.open.len() + 1);
        for records in self.open.drain(..some).collect::<Vec<_>>() {
            self.append(&records);
        }
        self.open.clear();
        if self.rng.one_in(3) && some == 0 {
            let why = ControlError::new(ControlErrorKind::Unavailable, "lost");
            let answers = self.controller.on_lost(&why);
            self.hear(answers);
        } else {
            self.asked.clear();
            let image = self.image().clone();
            self.epoch += 1;
            self.controller = Controller::with_rules(image, BrokerSettings::default(), rules());
            self.controller.lead(self.epoch, self.now);
        }
    }

    // What brokers do.

    fn start(&mut self, at: usize) {
        let (life, disk) = (self.id(), self.id());
        let lost_disk = !self.calm && self.rng.one_in(25);
        let damaged = !self.calm && self.rng.one_in(10);
        let mine: Vec<PartitionId> =
            self.has.keys().filter(|(id, _)| *id == self.nodes[at].id).map(|(_, p)| *p).collect();
        let node = &mut self.nodes[at];
        *node = Node {
            id: node.id,
            directory: node.directory,
            stopped_in: node.stopped_in,
            damaged: std::mem::take(&mut node.damaged),
            ..Node::default()
        };
        (node.incarnation, node.up) = (life, true);
        if lost_disk && node.id > 0 {
            node.directory = disk;
            node.stopped_in = None;
            node.damaged.clear();
            mine.iter().for_each(|p| _ = self.has.remove(&(node.id, *p)));
        } else if damaged && let Some(one) = self.rng.pick(&mine) {
            node.damaged.insert(one);
            self.has.remove(&(node.id, one));
        }
    }

    fn register(&mut self, at: usize) {
        let node = &self.nodes[at];
        let registration = Registration {
            cluster: CLUSTER.into(),
            id: (node.id >= 0).then_some(node.id),
            incarnation: node.incarnation,
            directory: node.directory,
            endpoints: vec![Endpoint { listener: "L".into(), host: "h".into(), port: 1, security: 0 }],
            rack: Some(RACKS[at % RACKS.len()].into()),
            shards: 1,
            features: features::supported(),
            build: String::new(),
            stopped_in: node.stopped_in,
            needs_repair: node.damaged.iter().copied().collect(),
        };
        let asked = Asked::Register(node.id, node.incarnation);
        self.ask(asked, &ControlRequest::Register(Box::new(registration)));
    }

    fn beat(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(epoch) = node.epoch else { return self.register(at) };
        // Nobody finds itself in the metadata whose registration was lost.
        let known = self.image().broker(node.id).is_some_and(|broker| broker.epoch == epoch);
        if !known {
            self.nodes[at].epoch = None;
            return;
        }
        let old = !self.calm && self.rng.one_in(20);
        let beat = Heartbeat {
            id: node.id,
            epoch: BrokerEpoch(epoch.0 - i64::from(old)),
            applied: node.applied,
            wants_fence: !self.calm && self.rng.one_in(25),
            wants_shutdown: node.stopping,
            needs_repair: node.damaged.iter().copied().collect(),
            load: None,
        };
        let asked = Asked::Beat(beat.id, beat.epoch);
        self.send(asked, ControlRequest::Heartbeat(beat));
    }

    /// Now, later, or both.
    fn send(&mut self, asked: Asked, request: ControlRequest) {
        if !self.calm && self.rng.one_in(10) {
            self.late.push((request.clone(), self.rng.next()));
            if self.rng.one_in(2) {
                return;
            }
        }
        self.ask(asked, &request);
    }

    fn apply(&mut self, at: usize) {
        let version = self.image().version;
        let node = &mut self.nodes[at];
        node.applied = match self.calm || self.rng.one_in(2) {
            true => version,
            false => node.applied + self.rng.below((version - node.applied.min(version)) as usize + 1) as u64,
        };
        let image = &self.truth[node.applied as usize];
        let (id, epoch) = (node.id, node.epoch);
        let settled = |p: &PartitionId, partition_epoch: PartitionEpoch| match image.partition(*p) {
            Some(now) => now.partition_epoch > partition_epoch || now.leader != Some(id),
            None => epoch.is_some() && image.was_deleted(p.topic),
        };
        node.proposed.retain(|p, proposed| !settled(p, proposed.change.partition_epoch));
        node.taken.retain(|p, taken| !settled(p, PartitionEpoch(taken.partition_epoch.0 - 1)));
    }

    /// A partition as a node knows it: leader, epoch, epoch of the partition, ISR.
    fn known(&self, node: &Node, id: PartitionId) -> Option<PartitionState> {
        let now = PartitionState::of(self.truth[node.applied as usize].partition(id)?);
        let taken = node.taken.get(&id).filter(|taken| taken.partition_epoch > now.partition_epoch);
        Some(taken.cloned().unwrap_or(now))
    }

    /// Whether a replica follows a leader in this epoch.
    fn follows(&self, id: PartitionId, follower: BrokerId, epoch: LeaderEpoch) -> bool {
        self.node(follower).is_some_and(|node| {
            let known = self.truth[node.applied as usize].partition(id);
            node.up && node.epoch.is_some() && known.is_some_and(|p| p.leader_epoch == epoch)
        })
    }

    /// A leader's part: its followers fetch, it commits, and it says who is in sync.
    fn lead(&mut self, at: usize, id: PartitionId) {
        let node = &self.nodes[at];
        let (Some(life), Some(known)) = (node.epoch, self.known(node, id)) else { return };
        let image = self.truth[node.applied as usize].clone();
        let me = node.id;
        // A life that is not in the metadata that it has leads nothing of it.
        let mine = image.broker(me).is_some_and(|broker| broker.epoch == life);
        if known.leader != Some(me) || !mine {
            return;
        }
        let topic = image.topic_by_id(id.topic).unwrap();
        let replicas = image.partition(id).unwrap().replicas().to_vec();
        let proposed = node.proposed.get(&id).map(|p| p.change.clone());
        let mut maximal: BTreeSet<BrokerId> = known.isr.iter().copied().collect();
        maximal.extend(proposed.iter().flat_map(|change| change.isr.iter().map(|(id, _)| *id)));
        let mine = self.has.get(&(me, id)).copied().unwrap_or(0);
        let life_of = |f: &BrokerId| image.broker(*f).map(|broker| broker.epoch);
        let follows = |f: &BrokerId| {
            *f != me
                && self.follows(id, *f, known.leader_epoch)
                && self.node(*f).is_some_and(|node| node.epoch == life_of(f))
        };
        let following: Vec<BrokerId> = replicas.iter().copied().filter(follows).collect();
        let all_follow = maximal.iter().all(|m| *m == me || following.contains(m));
        let min = min_insync(&image, &topic.overrides, replicas.len());
        let deposed = self.lossy.get(&id).is_some_and(|epoch| known.leader_epoch.0 < *epoch);
        if all_follow
            && !deposed
            && known.isr.len() >= min
            && !known.recovering
            && (self.calm || !self.rng.one_in(3))
        {
            maximal.iter().for_each(|m| _ = self.has.insert((*m, id), mine + 1));
            if let Some(committed) = self.committed.get_mut(&id) {
                assert!(mine >= *committed, "{me} leads {id} without all that was committed");
                *committed = mine + 1;
            }
        }
        let mine = self.has.get(&(me, id)).copied().unwrap_or(0);
        if let Some(change) = proposed {
            if self.calm || self.rng.one_in(3) {
                self.propose(at, change);
            }
            return;
        }
        let epoch_of = |world: &Self, m: BrokerId| match m == me {
            true => Some(life),
            false => world.node(m).and_then(|node| node.epoch),
        };
        let mut isr: Vec<(BrokerId, BrokerEpoch)> = Vec::new();
        for m in replicas {
            let in_sync = known.isr.contains(&m);
            let follows = m == me || following.contains(&m);
            if follows && !in_sync && (self.calm || self.rng.one_in(2)) {
                // It copies what it lacks, and is whole again.
                self.has.insert((m, id), mine);
                let node = self.nodes.iter_mut().find(|node| node.id == m).unwrap();
                node.damaged.remove(&id);
            }
            let expand = follows && self.has.get(&(m, id)) == Some(&mine) || m == me;
            let stays = in_sync && (follows || !self.rng.one_in(3));
            if (stays || expand)
                && let Some(epoch) = epoch_of(self, m)
            {
                isr.push((m, epoch));
            }
        }
        let ids: Vec<BrokerId> = isr.iter().map(|(id, _)| *id).collect();
        if ids != known.isr || known.recovering {
            let (leader_epoch, partition_epoch) = (known.leader_epoch, known.partition_epoch);
            let recovering = known.recovering && isr.len() == 1 && self.rng.one_in(2) && !self.calm;
            self.propose(at, IsrChange { id, leader_epoch, partition_epoch, isr, recovering });
        }
    }

    fn propose(&mut self, at: usize, change: IsrChange) {
        let node = &mut self.nodes[at];
        node.proposed.insert(change.id, Proposed { change: change.clone() });
        let (broker, epoch, applied) = (node.id, node.epoch.unwrap(), node.applied);
        let changes = vec![change];
        let asked = Asked::Isr(broker, epoch, changes.clone());
        let request = ControlRequest::AlterPartitions(AlterPartitions { broker, epoch, applied, changes });
        self.send(asked, request);
    }

    // What administrators do.

    fn administer(&mut self) {
        let partition = {
            let all = self.all();
            self.rng.pick(&all)
        };
        let brokers: Vec<BrokerId> = self.image().brokers().map(|broker| broker.id).collect();
        let (what, replicas) = (self.rng.below(9), self.some_of(&brokers));
        let named = partition.map(|id| {
            let name = self.image().topic_by_id(id.topic).unwrap().name.to_string();
            (id, name)
        });
        let request = match (what, named) {
            (0 | 1, _) | (_, None) => self.creation(replicas),
            (2 | 3, Some((id, topic))) => ControlRequest::Reassign {
                partitions: vec![Reassignment { topic, index: id.index, replicas: Some(replicas) }],
                factor_may_change: self.rng.one_in(2),
            },
            (4, Some((id, topic))) => ControlRequest::Reassign {
                partitions: vec![Reassignment { topic, index: id.index, replicas: None }],
                factor_may_change: true,
            },
            (5, Some((id, topic))) => {
                let unclean = self.rng.one_in(4);
                if unclean {
                    self.unclean.insert(id);
                }
                ControlRequest::ElectLeaders { partitions: Some(vec![(topic, id.index)]), unclean }
            }
            (6, Some((_, topic))) => {
                let op = match self.rng.below(4) {
                    0 => ConfigOp::Delete,
                    n => ConfigOp::Set(n.to_string()),
                };
                let change = ConfigChange { name: "min.insync.replicas".into(), op };
                let whose = match self.rng.one_in(4) {
                    true => ConfigResource::Broker(None),
                    false => ConfigResource::Topic(topic),
                };
                let resources = vec![(whose, vec![change])];
                ControlRequest::IncrementalAlterConfigs { resources, validate_only: false }
            }
            (7, Some((id, _))) if self.rng.one_in(3) => {
                ControlRequest::DeleteTopics { topics: vec![TopicRef::Id(id.topic)] }
            }
            _ => match self.rng.pick(&brokers) {
                Some(id) if self.rng.one_in(3) => ControlRequest::Unregister { id },
                _ => ControlRequest::ListReassignments { partitions: None },
            },
        };
        self.ask(Asked::Other, &request);
    }

    fn some_of(&mut self, brokers: &[BrokerId]) -> Vec<BrokerId> {
        let mut some = brokers.to_vec();
        (1..some.len()).for_each(|i| some.swap(i, self.rng.below(i + 1)));
        some.truncate(1 + self.rng.below(3));
        some
    }

    fn creation(&mut self, replicas: Vec<BrokerId>) -> ControlRequest {
        let mut topic = NewTopic::named(format!("t{}", self.rng.below(4)));
        match self.rng.below(3) {
            0 => topic.assignments = vec![(0, replicas)],
            n => {
                topic.partitions = 1 + self.rng.below(2) as i32;
                topic.replication_factor = if n == 1 { -1 } else { 1 + self.rng.below(3) as i16 };
            }
        }
        if self.rng.one_in(6) {
            topic.configs = vec![(UNCLEAN.into(), Some("true".into()))];
        }
        ControlRequest::CreateTopics { topics: vec![topic], validate_only: self.rng.one_in(10) }
    }

    fn step(&mut self) {
        let at = self.rng.below(self.nodes.len());
        let up = self.nodes[at].up;
        match self.rng.below(100) {
            0..25 if up => self.beat(at),
            25..45 if up => self.apply(at),
            45..65 if up => {
                let all = self.all();
                if let Some(id) = self.rng.pick(&all) {
                    self.lead(at, id);
                }
            }
            65..67 if up => self.nodes[at].up = false,
            67 if up => self.nodes[at].stopping = true,
            68 if up => {
                // Its socket refuses: only of who is down, and also of a life that is over.
                let node = &self.nodes[at];
                let epoch = BrokerEpoch(node.epoch.map_or(0, |epoch| epoch.0 - 1));
                self.ask(Asked::Other, &ControlRequest::Gone { id: node.id, epoch });
            }
            0..6 => {
                let node = &self.nodes[at];
                if let Some(epoch) = node.epoch {
                    self.ask(Asked::Other, &ControlRequest::Gone { id: node.id, epoch });
                }
            }
            6..30 if !up => self.start(at),
            69..73 => self.administer(),
            73..85 => {
                let count = 1 + self.rng.below(4);
                self.commit(count);
            }
            85 => self.change_controller(),
            86..90 if !self.late.is_empty() => {
                let one = self.rng.below(self.late.len());
                let (request, _) = self.late.swap_remove(one);
                self.ask(Asked::Other, &request);
            }
            _ => self.tick(),
        }
    }

    fn tick(&mut self) {
        self.now.0 += 200 + self.rng.below(600) as i64;
        let step = self.controller.tick(self.now);
        self.take(step);
        if self.rng.one_in(16)
            && let Some(index) = &self.controller.index
        {
            let anew = Index::of(&self.controller.proposed, self.now);
            assert!(index.same(&anew), "{index:?} is not {anew:?}");
        }
    }

    /// Everything works again.
    fn settle_down(&mut self) {
        self.calm = true;
        (0..self.nodes.len())
            .filter(|at| !self.nodes[*at].up)
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|at| self.start(at));
        for node in &mut self.nodes {
            node.stopping = false;
        }
        // Who was about to stop before comes back in a new life.
        for at in 0..self.nodes.len() {
            let id = self.nodes[at].id;
            if self.image().broker(id).is_some_and(|broker| broker.shutting_down)
                || self.controller.proposed.broker(id).is_some_and(|broker| broker.shutting_down)
            {
                self.start(at);
            }
        }
        for _ in 0..250 {
            self.round();
            if self.settled().is_ok() {
                break;
            }
        }
        self.settled().unwrap_or_else(|why| panic!("{why}"));
        let epochs = |world: &Self| -> Vec<PartitionEpoch> {
            world.all().iter().map(|id| world.image().partition(*id).unwrap().partition_epoch).collect()
        };
        let before = epochs(self);
        (0..25).for_each(|_| self.round());
        assert_eq!(before, epochs(self), "no peace: {:?}", self.image().topics().collect::<Vec<_>>());
    }

    fn round(&mut self) {
        self.now.0 += 400;
        for at in 0..self.nodes.len() {
            self.beat(at);
            self.commit(usize::MAX);
            self.apply(at);
        }
        for id in self.all() {
            (0..self.nodes.len()).for_each(|at| self.lead(at, id));
            self.commit(usize::MAX);
        }
        self.tick();
        self.commit(usize::MAX);
    }

    /// What is not as it has to be once all is calm.
    fn settled(&self) -> Result<(), String> {
        let image = self.image().clone();
        let must = |holds: bool, why: &str, what: &dyn std::fmt::Debug| match holds {
            true => Ok(()),
            false => Err(format!("{why}: {what:?}")),
        };
        for node in &self.nodes {
            let there = node.epoch.is_some()
                && image.broker(node.id).is_some_and(|b| Some(b.epoch) == node.epoch && !b.shutting_down);
            must(there, "it lives and is not registered", node)?;
        }
        for broker in image.brokers() {
            must(!broker.fenced || !self.is_up(broker.id), "it lives and is fenced", broker)?;
        }
        for id in self.all() {
            let partition = image.partition(id).unwrap();
            let held: Vec<BrokerId> =
                partition.replicas().iter().copied().filter(|id| image.broker(*id).is_some()).collect();
            if partition.leader.is_none() {
                // Who could lead has lost what it had, or is gone: an administrator has to choose.
                let any = |id: &BrokerId| partition.counts(*id) || partition.last_known() == Some(*id);
                must(!held.iter().any(any), "nobody leads", partition)?;
                continue;
            }
            must(partition.isr().eq(held.iter().copied()), "not all are in sync", partition)?;
            let damaged = held.iter().any(|m| self.node(*m).is_some_and(|node| node.damaged.contains(&id)));
            must(!damaged || held.len() == 1, "it needs repair", partition)?;
            let waits = held.len() < partition.replicas().len();
            must(!partition.is_moving() || waits, "it moves on and on", partition)?;
            let preferred = partition.leader.is_some_and(|id| id == held[0]);
            must(
                held[0] != partition.replicas()[0] || preferred,
                "another leads than is preferred",
                partition,
            )?;
            let topic = image.topic_by_id(id.topic).unwrap();
            let enough = partition.replicas().len() >= image.brokers().len().min(3);
            must(!topic.factor_auto || enough || partition.is_moving(), "too few replicas", partition)?;
        }
        Ok(())
    }
}

fn settle(node: &mut Node, change: &IsrChange, result: Result<PartitionState, IsrRefusal>) {
    if node.proposed.get(&change.id).is_none_or(|proposed| proposed.change != *change) {
        return;
    }
    match result {
        Ok(state) => {
            node.proposed.remove(&change.id);
            node.taken.insert(change.id, state);
        }
        Err(IsrRefusal::IneligibleReplica | IsrRefusal::NotAttempted) => {
            node.proposed.remove(&change.id);
        }
        // The metadata will say; until then it counts.
        Err(_) => {}
    }
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_must_hold_holds_whatever_happens() {
    let (first, count) = match env("WEIR_SEED") {
        Some(seed) => (seed, 1),
        None => (0, env("WEIR_SEEDS").unwrap_or(1_500)),
    };
    let (mut commits, mut unclean) = (0, 0);
    for seed in first..first + count {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            let steps = 200 + world.rng.below(600);
            (0..steps).for_each(|_| world.step());
            world.settle_down();
            (world.truth.len(), world.unclean.len(), world.committed.values().sum::<u64>())
        });
        match run {
            Ok((versions, chosen, records)) => {
                commits += versions;
                unclean += chosen;
                assert!(records > 0 || versions < 2_000, "nothing was ever committed");
            }
            Err(_) => panic!("WEIR_SEED={seed}"),
        }
    }
    // A cluster of one broker comes to some 17 commits, one of three to five to 45: fewer than 30 would say that lives end in
    // nothing.
    assert!(count == 1 || commits > 30 * count as usize && unclean > 0, "{commits} {unclean}");
}
