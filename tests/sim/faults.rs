//! What goes wrong, and how often: each seed draws its own weather.

use std::collections::BTreeSet;

use weir::controller::{
    ConfigChange, ConfigOp, ConfigResource, ControlRequest, NewPartitions, NewTopic, Reassignment, TopicRef,
};
use weir::model::{BrokerId, BrokerSettings, PartitionId};

use super::net::{Asker, Message};
use super::random::Random;
use super::world::{Event, World};

pub struct Swarm {
    pub brokers: usize,
    pub voters: usize,
    pub clients: usize,
    pub factor: usize,
    pub min_insync: usize,
    pub sync_ms: i64,
    pub think_ms: i64,
    /// The quorum elects another leader for nothing once in so many of its beats.
    pub depose: usize,
    fault_ms: i64,
    operate_ms: i64,
    kinds: Vec<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Crash,
    LoseDisk,
    Pause,
    Stop,
    Cut,
    CutOneWay,
    Break,
    SlowLink,
    SlowDisk,
    Heal,
}

const KINDS: [Kind; 9] = [
    Kind::Crash,
    Kind::LoseDisk,
    Kind::Pause,
    Kind::Stop,
    Kind::Cut,
    Kind::CutOneWay,
    Kind::Break,
    Kind::SlowLink,
    Kind::SlowDisk,
];

impl Swarm {
    pub fn draw(random: &mut Random) -> Self {
        let brokers = 1 + random.below(7);
        let voters = match brokers {
            1 | 2 => 1,
            7 if random.one_in(2) => 5,
            _ => 3,
        };
        let factor = 1 + random.below(brokers.min(3));
        let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| random.one_in(2)).collect();
        kinds.push(Kind::Heal);
        Self {
            brokers,
            voters,
            clients: 1 + random.below(4),
            factor,
            min_insync: 1 + random.below(factor),
            sync_ms: [2, 5, 20][random.below(3)],
            think_ms: [20, 60, 200][random.below(3)],
            depose: [20, 200, 2_000][random.below(3)],
            fault_ms: [200, 800, 3_000][random.below(3)],
            operate_ms: [300, 1_500, 5_000][random.below(3)],
            kinds,
        }
    }

    /// Everybody's, but for the id.
    pub fn settings(&self) -> BrokerSettings {
        BrokerSettings::default()
    }
}

impl World {
    pub fn fault(&mut self) {
        if self.calm {
            return;
        }
        let (next, kinds) = (self.random.within(1..=self.swarm.fault_ms), self.swarm.kinds.clone());
        self.after(next, Event::Fault);
        let at = self.random.below(self.nodes.len());
        let other = self.random.below(self.nodes.len());
        let Some(kind) = self.random.pick(&kinds) else { return };
        match kind {
            Kind::Crash | Kind::LoseDisk if self.nodes[at].up => {
                self.nodes[at].loses_disk = kind == Kind::LoseDisk;
                self.restart(at);
            }
            Kind::Pause if self.nodes[at].up && self.nodes[at].paused_until.is_none() => {
                let ms = self.random.within(50..=12_000);
                let life = self.nodes[at].life;
                self.nodes[at].paused_until = Some(self.now + ms);
                self.after(ms, Event::Resume { node: at, life });
            }
            Kind::Stop if self.nodes[at].up => self.nodes[at].wants_shutdown = true,
            Kind::Cut => {
                self.net.cut(at, other);
                self.net.cut(other, at);
            }
            Kind::CutOneWay => self.net.cut(at, other),
            Kind::Break => self.net.break_connection(at, other),
            Kind::SlowLink => {
                let ms = self.random.within(5..=400);
                self.net.slow_down(at, other, ms);
            }
            Kind::SlowDisk => self.nodes[at].sync_ms = self.random.within(1..=600),
            Kind::Heal => self.net.heal(),
            _ => {}
        }
    }

    /// A broker's disk is another one from now on, if others are sure to have what is committed and know that it is gone.
    pub fn lose_disk(&mut self, at: usize) {
        if self.may_lose_disk(at) {
            let node = &mut self.nodes[at];
            node.disks.clear();
            node.directory[8..].copy_from_slice(&node.life.to_le_bytes());
            self.history.disks_lost += 1;
        }
    }

    fn may_lose_disk(&self, at: usize) -> bool {
        let id = self.nodes[at].id;
        if !self.image.broker(id).is_some_and(|broker| broker.fenced) {
            return false;
        }
        let has_another = |partition: &weir::metadata::Partition| {
            let sure = |other: &BrokerId| *other != id && self.has_its_disk(*other);
            !partition.has_replica(id) || partition.isr().chain(partition.elr()).any(|other| sure(&other))
        };
        let all = self.image.topics().all(|topic| topic.partitions.iter().all(has_another));
        all && !self.history.is_proposing(&self.nodes)
    }

    /// Whether the broker's disk is the one that the metadata knows.
    pub fn has_its_disk(&self, id: BrokerId) -> bool {
        let node = &self.nodes[(id - 1) as usize];
        self.image.broker(id).is_some_and(|broker| broker.directory == node.directory)
    }

    /// Somebody administers the cluster.
    pub fn operate(&mut self) {
        if self.calm {
            return;
        }
        let next = self.random.within(1..=self.swarm.operate_ms);
        self.after(next, Event::Operator);
        let topics: Vec<(String, usize)> =
            self.image.topics().map(|topic| (topic.name.to_string(), topic.partitions.len())).collect();
        let name = format!("t{}", self.random.below(4));
        let some = (!topics.is_empty()).then(|| topics[self.random.below(topics.len())].clone());
        let request = match (self.random.below(12), some) {
            (0..=2, _) | (_, None) => self.new_topic(name),
            (3, Some((topic, partitions))) if partitions < 4 => {
                let more = NewPartitions { topic, total: partitions as i32 + 1, assignments: None };
                ControlRequest::CreatePartitions { topics: vec![more], validate_only: false }
            }
            (4, Some((topic, _))) if self.random.one_in(4) => {
                ControlRequest::DeleteTopics { topics: vec![TopicRef::Name(topic)] }
            }
            (5..=6, _) => ControlRequest::ElectLeaders { partitions: None, unclean: false },
            (7..=9, Some((topic, partitions))) => {
                let index = self.random.below(partitions) as i32;
                let replicas = (!self.random.one_in(4)).then(|| self.some_brokers());
                let partitions = vec![Reassignment { topic, index, replicas }];
                ControlRequest::Reassign { partitions, factor_may_change: true }
            }
            (_, Some((topic, _))) => {
                let value = self.random.within(1_000..=9_000).to_string();
                let change = ConfigChange { name: "retention.ms".into(), op: ConfigOp::Set(value) };
                let resources = vec![(ConfigResource::Topic(topic), vec![change])];
                ControlRequest::IncrementalAlterConfigs { resources, validate_only: false }
            }
        };
        // Whoever leads is asked; that he may not know that he does not any more is part of it.
        let leads: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes[*at].leads.is_some()).collect();
        if let Some(to) = self.random.pick(&leads) {
            let asker = Asker { node: to, life: 0, number: 0 };
            self.send(to, to, Message::Ask(asker, request));
        }
    }

    fn new_topic(&mut self, name: String) -> ControlRequest {
        let (partitions, replication_factor) = (1 + self.random.below(3) as i32, self.swarm.factor as i16);
        let configs = vec![("min.insync.replicas".into(), Some(self.swarm.min_insync.to_string()))];
        let topic = NewTopic { name, partitions, replication_factor, assignments: Vec::new(), configs };
        ControlRequest::CreateTopics { topics: vec![topic], validate_only: false }
    }

    fn some_brokers(&mut self) -> Vec<BrokerId> {
        let mut ids: Vec<BrokerId> = self.nodes.iter().map(|node| node.id).collect();
        while ids.len() > self.swarm.factor {
            let gone = self.random.below(ids.len());
            ids.remove(gone);
        }
        let turn = self.random.below(ids.len());
        ids.rotate_left(turn);
        ids
    }

    /// Everything is mended, and everybody comes back.
    pub fn heal(&mut self) {
        self.calm = true;
        self.net.heal();
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            node.sync_ms = 5;
            if let Some(until) = node.paused_until {
                node.paused_until = Some(until.min(self.now));
                let life = node.life;
                self.after(1, Event::Resume { node: at, life });
            }
            if !self.nodes[at].up {
                self.after(1, Event::Start(at));
            }
        }
    }

    pub fn partitions(&self) -> BTreeSet<PartitionId> {
        self.image.topics().flat_map(|topic| topic.partition_ids()).collect()
    }
}
