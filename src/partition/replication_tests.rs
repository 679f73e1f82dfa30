//! Leaders and followers of one partition against each other: two or three brokers and a controller, over connections
//! that break and whose leftovers arrive late, with crashes that take what is not durable. By seed.

use std::collections::{BTreeMap, VecDeque};

use super::assignment::{Assignment, Role};
use super::follower::{Answer, Asked, BatchSeen, Follower, State, Take};
use super::leader::{Effects, Leader, Proposal, Terms, Verdict};
use super::offsets::Offsets;
use super::peer::{Epochs, Heard, PeerState, Report};
use crate::model::{BrokerEpoch, BrokerId, LeaderEpoch, MonoMs, Offset, PartitionEpoch};

const LAG_MAX_MS: i64 = 200;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % limit.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    epoch: LeaderEpoch,
    value: u32,
}

/// What a journal says, in order.
#[derive(Clone, Copy)]
enum Entry {
    Append(Record),
    Epoch(LeaderEpoch),
    Truncate(Offset),
    Reset(Offset),
}

/// What the entries so far make.
#[derive(Clone, Default)]
struct Log {
    base: i64,
    records: Vec<Record>,
    epochs: Vec<(LeaderEpoch, Offset)>,
}

impl Log {
    fn end(&self) -> Offset {
        Offset(self.base + self.records.len() as i64)
    }

    fn at(&self, offset: i64) -> Option<Record> {
        self.records.get(usize::try_from(offset - self.base).ok()?).copied()
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Append(record) => {
                self.note(record.epoch);
                self.records.push(record);
            }
            Entry::Epoch(epoch) => self.note(epoch),
            Entry::Truncate(to) => {
                self.records.truncate((to.0 - self.base).max(0) as usize);
                self.epochs.retain(|(_, start)| *start < to);
            }
            Entry::Reset(at) => {
                (self.base, self.records, self.epochs) = (at.0, Vec::new(), Vec::new());
            }
        }
    }

    fn note(&mut self, epoch: LeaderEpoch) {
        let end = self.end();
        if self.latest().is_none_or(|latest| latest < epoch) {
            self.epochs.retain(|(_, start)| *start < end);
            self.epochs.push((epoch, end));
        }
    }
}

/// A log in memory, and how much of it is on disk.
#[derive(Default)]
struct Store {
    log: Log,
    disk: Log,
    unsynced: VecDeque<Entry>,
}

impl Store {
    fn write(&mut self, entry: Entry) {
        self.unsynced.push_back(entry);
        self.log.apply(entry);
    }

    fn sync(&mut self, entries: usize) {
        self.unsynced.drain(..entries).for_each(|entry| self.disk.apply(entry));
    }

    /// What a crash leaves, with so many entries that nobody was promised.
    fn crash(&mut self, entries: usize) {
        self.sync(entries);
        self.unsynced.clear();
        self.log = self.disk.clone();
    }

    /// Up to where the log is on disk and not cut since.
    fn durable_end(&self) -> Offset {
        let cuts = self.unsynced.iter().filter_map(|entry| match entry {
            Entry::Truncate(at) | Entry::Reset(at) => Some(*at),
            _ => None,
        });
        cuts.min().unwrap_or(Offset(i64::MAX)).min(self.disk.end())
    }
}

impl Epochs for Log {
    fn latest(&self) -> Option<LeaderEpoch> {
        Some(self.epochs.last()?.0)
    }

    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        if self.latest()? < epoch {
            return None;
        }
        let after = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let end = self.epochs.get(after).map_or(self.end(), |(_, start)| *start);
        Some(after.checked_sub(1).map_or((epoch, end), |at| (self.epochs[at].0, end)))
    }
}

enum Part {
    None,
    Leader(Leader),
    Follower(Follower),
}

struct Node {
    id: BrokerId,
    up: bool,
    life: BrokerEpoch,
    store: Store,
    offsets: Offsets,
    part: Part,
    /// Changes of the metadata that it has taken.
    applied: usize,
    /// High watermark and log start, as its checkpoint has them.
    stored: (Offset, Offset),
    /// What producers wait for with acks=all.
    pending: Vec<(i64, Record)>,
}

#[derive(Clone)]
struct Metadata {
    assignment: Assignment,
    brokers: Vec<PeerState>,
}

enum Message {
    Fetch { asked: Asked, from: usize, life: BrokerEpoch },
    Batches { asked: Asked, base: Offset, records: Vec<Record>, high_watermark: Offset, log_start: Offset },
    Other(Asked, Answer<'static>),
}

struct Sent {
    connection: u64,
    to: usize,
    message: Message,
}

struct World {
    seed: u64,
    random: Random,
    now: MonoMs,
    min_insync: usize,
    nodes: Vec<Node>,
    metadata: Vec<Metadata>,
    lives: i64,
    /// By sender and receiver.
    connections: BTreeMap<(usize, usize), u64>,
    connected: u64,
    wire: Vec<Sent>,
    proposals: Vec<(usize, BrokerEpoch, Proposal)>,
    values: u32,
    /// What was below any replica's high watermark, ever, by offset.
    committed: Vec<Option<Record>>,
    acked: BTreeMap<i64, Record>,
    /// Whether brokers die and connections break.
    faulty: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed * 2 + 1);
        let count = 2 + random.below(2);
        let ids: Vec<BrokerId> = (1..=count as i32).collect();
        let brokers = ids.iter().map(|id| PeerState { id: *id, epoch: BrokerEpoch(0), eligible: true });
        let assignment = Assignment {
            leader: Some(1),
            leader_epoch: LeaderEpoch(1),
            partition_epoch: PartitionEpoch(1),
            replicas: ids.clone(),
            isr: ids.clone(),
        };
        let node = |id: &BrokerId| Node {
            id: *id,
            up: true,
            life: BrokerEpoch(0),
            store: Store::default(),
            offsets: Offsets::recovered(Offset(0), Offset(0), Offset(0)),
            part: Part::None,
            applied: 0,
            stored: (Offset(0), Offset(0)),
            pending: Vec::new(),
        };
        Self {
            seed,
            now: MonoMs(0),
            min_insync: 1 + random.below(count),
            nodes: ids.iter().map(node).collect(),
            metadata: vec![Metadata { assignment, brokers: brokers.collect() }],
            lives: 0,
            connections: BTreeMap::new(),
            connected: 0,
            wire: Vec::new(),
            proposals: Vec::new(),
            values: 0,
            committed: Vec::new(),
            acked: BTreeMap::new(),
            faulty: true,
            random,
        }
    }

    fn newest(&self) -> &Metadata {
        self.metadata.last().expect("there is a first")
    }

    /// The controller's: who has no leader that is there gets one of the ISR.
    fn publish(&mut self, mut next: Metadata) {
        let eligible = |id: &BrokerId| next.brokers.iter().any(|broker| broker.id == *id && broker.eligible);
        let assignment = &mut next.assignment;
        let leads =
            assignment.leader.is_some_and(|leader| assignment.isr.contains(&leader) && eligible(&leader));
        if !leads {
            let able: Vec<BrokerId> = assignment.isr.iter().copied().filter(eligible).collect();
            let leader = (!able.is_empty()).then(|| able[self.random.below(able.len())]);
            if leader.is_some() || self.newest().assignment.leader.is_some() {
                assignment.leader_epoch.0 += 1;
            }
            assignment.leader = leader;
        }
        assignment.partition_epoch.0 += 1;
        self.metadata.push(next);
    }

    /// Takes a broker out of the ISR, unless it is the last that has everything.
    fn without(&self, id: BrokerId) -> Metadata {
        let mut next = self.newest().clone();
        if next.assignment.isr.len() > 1 {
            next.assignment.isr.retain(|member| *member != id);
        }
        next
    }

    fn fence(&mut self, at: usize, eligible: bool) {
        let mut next = if eligible { self.newest().clone() } else { self.without(self.nodes[at].id) };
        if next.brokers[at].eligible != eligible {
            next.brokers[at].eligible = eligible;
            self.publish(next);
        }
    }

    fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        (node.up, node.part) = (false, Part::None);
        node.pending.clear();
        let kept = self.random.below(node.store.unsynced.len() + 1);
        node.store.crash(kept);
        // What it sent may outlive it.
        self.wire.retain(|sent| sent.to != at);
        self.connections.retain(|(from, to), _| *from != at && *to != at);
    }

    /// A new life: it is out of the ISR, and leads in no epoch that began before.
    fn start(&mut self, at: usize) {
        self.lives += 1;
        let id = self.nodes[at].id;
        let mut next = self.without(id);
        next.brokers[at] = PeerState { id, epoch: BrokerEpoch(self.lives), eligible: true };
        if next.assignment.leader == Some(id) {
            next.assignment.leader = None;
        }
        let last = next.assignment.isr.contains(&id);
        self.publish(next);
        let node = &mut self.nodes[at];
        if self.faulty && !last && self.random.one_in(4) {
            // With another disk.
            (node.store, node.stored) = Default::default();
        }
        let (high_watermark, start) = node.stored;
        let start = Offset(start.0.max(node.store.log.base));
        node.offsets = Offsets::recovered(start, high_watermark, node.store.log.end());
        (node.up, node.life) = (true, BrokerEpoch(self.lives));
        node.applied = self.metadata.len() - 1;
        self.learn(at);
    }

    /// A broker takes the next change of the metadata.
    fn learn(&mut self, at: usize) {
        let (now, terms) = (self.now, Terms { min_insync: self.min_insync, lag_max_ms: LAG_MAX_MS });
        let node = &mut self.nodes[at];
        let Some(Metadata { assignment, brokers }) = self.metadata.get(node.applied) else { return };
        node.applied += 1;
        let mine = brokers[at];
        assert_eq!(mine.epoch, node.life, "seed {}", self.seed);
        match (assignment.role_of(node.id), &mut node.part) {
            (Role::Leader, Part::Leader(leader)) if leader.epoch() == assignment.leader_epoch => {
                let isr = (assignment.partition_epoch, &assignment.isr[..]);
                leader.on_isr(isr, &mut node.offsets, now);
                brokers.iter().for_each(|peer| drop(leader.on_peer(*peer, &mut node.offsets, now)));
            }
            (Role::Leader, _) => {
                node.store.write(Entry::Epoch(assignment.leader_epoch));
                let epochs = (assignment.leader_epoch, assignment.partition_epoch);
                let begins = (node.store.log.end(), now);
                let leader =
                    Leader::begin(mine, epochs, brokers.iter().copied(), &assignment.isr, terms, begins);
                node.part = Part::Leader(leader);
                node.pending.clear();
            }
            (_, Part::Follower(follower)) => {
                follower.on_metadata(assignment.leader, assignment.leader_epoch);
            }
            _ => {
                node.pending.clear();
                node.part = Part::Follower(Follower::begin(assignment.leader, assignment.leader_epoch));
            }
        }
        self.follow_local(at);
    }
}

#[path = "replication_steps.rs"]
mod steps;
