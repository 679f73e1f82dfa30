//! The replicas of one broker: the leader and the follower machines over the model of a log.

use std::collections::{BTreeMap, BTreeSet};

use weir::metadata::{Image, Partition};
use weir::model::{BrokerEpoch, BrokerId, LeaderEpoch, MonoMs, Offset, PartitionId};
use weir::partition::follower::{Answer, Asked, BatchSeen, Follower, Take};
use weir::partition::leader::{Effects, Leader, Terms, Verdict};
use weir::partition::peer::{Heard, PeerState, Report};
use weir::partition::{Assignment, Offsets, Role};

use super::disk::{Entry, Record};
use super::net::Message;
use super::world::{Event, LAG_MAX_MS, World};

/// A follower whose fetch was not answered asks again after this.
const FETCH_MS: i64 = 600;
/// A fetch that finds nothing waits so long once.
const PARK_MS: i64 = 25;

pub enum Machine {
    Leader(Leader),
    Follower(Follower),
}

pub struct Part {
    pub assignment: Assignment,
    pub machine: Machine,
    pub offsets: Offsets,
    /// The fetch that is under way, and when it was sent.
    fetching: Option<(Asked, i64)>,
    /// Producers that wait for their record to be committed.
    pub waiting: Vec<(i64, Record, (usize, u64))>,
    /// Up to where its log was held against what is committed.
    pub checked: i64,
    last_look: i64,
}

fn assignment(partition: &Partition) -> Assignment {
    Assignment {
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas().to_vec(),
        isr: partition.isr().collect(),
    }
}

/// What the metadata says of a broker; of one that it does not have, that it is in no life.
pub fn peer(image: &Image, id: BrokerId) -> PeerState {
    match image.broker(id) {
        Some(broker) => {
            PeerState { id, epoch: broker.epoch, eligible: !broker.fenced && !broker.shutting_down }
        }
        None => PeerState { id, epoch: BrokerEpoch::ZERO, eligible: false },
    }
}

impl World {
    /// The metadata says something of a partition that this broker holds.
    pub fn take_up(&mut self, at: usize, id: PartitionId) {
        let image = self.nodes[at].image.clone();
        let Some(partition) = image.partition(id) else { return };
        let (now, me) = (MonoMs(self.now), self.nodes[at].id);
        let next = assignment(partition);
        let terms = Terms { min_insync: self.swarm.min_insync, lag_max_ms: LAG_MAX_MS };
        let node = &mut self.nodes[at];
        let disk = node.disks.entry(id).or_default();
        let known = node.parts.get(&id).is_some_and(|part| !part.assignment.is_before(&next));
        if known {
            return;
        }
        let part = node.parts.entry(id).or_insert_with(|| {
            let start = Offset(disk.stored.1.0.max(disk.log.base));
            Part {
                assignment: Assignment::default(),
                machine: Machine::Follower(Follower::begin(None, LeaderEpoch::ZERO)),
                offsets: Offsets::recovered(start, disk.stored.0, disk.log.end()),
                fetching: None,
                waiting: Vec::new(),
                checked: 0,
                last_look: self.now,
            }
        });
        let mut deposed = Vec::new();
        match (next.role_of(me) == Role::Leader, &mut part.machine) {
            (true, Machine::Leader(leader)) if leader.epoch() == next.leader_epoch => {
                leader.on_replicas(next.replicas.iter().map(|broker| peer(&image, *broker)));
                let isr = (next.partition_epoch, &next.isr[..]);
                leader.on_isr(isr, &mut part.offsets, now);
            }
            (true, machine) => {
                deposed.append(&mut part.waiting);
                disk.write(Entry::Epoch(next.leader_epoch));
                let epochs = (next.leader_epoch, next.partition_epoch);
                let peers = next.replicas.iter().map(|broker| peer(&image, *broker));
                let begins = (disk.log.end(), now);
                let leader = Leader::begin(peer(&image, me), epochs, peers, &next.isr, terms, begins);
                *machine = Machine::Leader(leader);
                self.history.note_leader(self.seed, id, next.leader_epoch, (me, node.life));
            }
            (false, Machine::Follower(follower)) => follower.on_metadata(next.leader, next.leader_epoch),
            (false, machine) => {
                deposed.append(&mut part.waiting);
                *machine = Machine::Follower(Follower::begin(next.leader, next.leader_epoch));
            }
        }
        part.assignment = next;
        part.fetching = None;
        for (_, _, who) in deposed {
            self.answer_producer(at, who, None);
        }
        self.local(at, id);
        self.begin_sync(at);
        let life = self.nodes[at].life;
        self.after(0, Event::Fetch { node: at, life, id });
    }

    /// The metadata says something else of brokers.
    pub fn note_peers(&mut self, at: usize, brokers: &BTreeSet<BrokerId>) {
        let image = self.nodes[at].image.clone();
        let ids: Vec<PartitionId> = self.nodes[at].parts.keys().copied().collect();
        for id in ids {
            let mut all = Vec::new();
            let Some(part) = self.nodes[at].parts.get_mut(&id) else { continue };
            if let Machine::Leader(leader) = &mut part.machine {
                for broker in brokers.iter().filter(|broker| part.assignment.replicas.contains(broker)) {
                    all.push(leader.on_peer(peer(&image, *broker), &mut part.offsets, MonoMs(self.now)));
                }
            }
            all.into_iter().for_each(|fx| self.effects(at, id, fx));
        }
    }

    pub fn fetch(&mut self, at: usize, id: PartitionId) {
        let (now, node) = (self.now, &mut self.nodes[at]);
        let (Some(part), Some(disk), Some(broker)) =
            (node.parts.get_mut(&id), node.disks.get(&id), node.epoch)
        else {
            return;
        };
        let Machine::Follower(follower) = &part.machine else { return };
        if part.fetching.is_some_and(|(_, sent)| now - sent < FETCH_MS) {
            return;
        }
        if let Some(asked) = follower.next_fetch(&disk.log, &part.offsets, MonoMs(now)) {
            part.fetching = Some((asked, now));
            let to = (asked.leader - 1) as usize;
            self.send(at, to, Message::Fetch { id, asked, from: at, broker, waited: false });
        }
    }

    pub fn serve(
        &mut self,
        at: usize,
        id: PartitionId,
        asked: Asked,
        (from, broker): (usize, BrokerEpoch),
        waited: bool,
    ) {
        let follower = self.nodes[from].id;
        let (now, node) = (MonoMs(self.now), &mut self.nodes[at]);
        let refuse = |answer| Message::Other { id, asked, answer };
        let (Some(part), Some(disk)) = (node.parts.get_mut(&id), node.disks.get(&id)) else {
            return self.send(at, from, refuse(Answer::NotNow));
        };
        let Machine::Leader(leader) = &mut part.machine else {
            return self.send(at, from, refuse(Answer::NotNow));
        };
        if asked.epoch != leader.epoch() {
            let fenced = asked.epoch < leader.epoch();
            return self.send(at, from, refuse(if fenced { Answer::Fenced } else { Answer::NotNow }));
        }
        let report = Report {
            from: follower,
            broker_epoch: broker,
            leader_epoch: asked.epoch,
            offset: asked.offset,
            last_epoch: asked.last_epoch,
            durable: asked.durable,
        };
        let (heard, fx) = leader.on_fetch(&report, &disk.log, &mut part.offsets, now);
        let offsets = part.offsets;
        let answer = match heard {
            Heard::Ignored => Some(refuse(Answer::NotNow)),
            Heard::Diverging(epoch, end) => Some(refuse(Answer::Diverging(epoch, end))),
            Heard::OutOfRange => {
                let (log_start, end) = (offsets.log_start(), offsets.end());
                Some(refuse(Answer::OutOfRange { log_start, end }))
            }
            Heard::Counted => {
                let most = 1 + self.random.below(8);
                let records: Vec<Record> =
                    (asked.offset.0..).map_while(|offset| disk.log.at(offset)).take(most).collect();
                let (high_watermark, log_start) = (offsets.high_watermark(), offsets.log_start());
                let empty = records.is_empty();
                let message = Message::Batches { id, asked, records, high_watermark, log_start };
                (!empty || waited).then_some(message)
            }
        };
        match answer {
            Some(message) => self.send(at, from, message),
            None => self.park(at, from, Message::Fetch { id, asked, from, broker, waited: true }),
        }
        self.effects(at, id, fx);
    }

    /// A fetch that found nothing is looked at once more.
    fn park(&mut self, at: usize, from: usize, fetch: Message) {
        let (sent, _) = self.net.send(from, at, self.now, &mut self.random);
        self.after(PARK_MS, Event::Arrive(sent, fetch));
    }

    pub fn take_batches(
        &mut self,
        at: usize,
        id: PartitionId,
        asked: &Asked,
        records: &[Record],
        (high_watermark, log_start): (Offset, Offset),
    ) {
        let seen = records.iter().zip(asked.offset.0..).map(|(record, offset)| BatchSeen {
            base: Offset(offset),
            next: Offset(offset + 1),
            epoch: record.epoch,
            sound: true,
        });
        let seen: Vec<BatchSeen> = seen.collect();
        let answer = Answer::Batches { batches: &seen, high_watermark, log_start };
        self.take(at, id, asked, &answer, records);
    }

    pub fn take(
        &mut self,
        at: usize,
        id: PartitionId,
        asked: &Asked,
        answer: &Answer<'_>,
        records: &[Record],
    ) {
        let seed = self.seed;
        let node = &mut self.nodes[at];
        let (Some(part), Some(disk)) = (node.parts.get_mut(&id), node.disks.get_mut(&id)) else { return };
        let Machine::Follower(follower) = &mut part.machine else { return };
        if part.fetching.is_some_and(|(sent, _)| sent == *asked) {
            part.fetching = None;
        }
        match follower.on_answer(asked, answer, &disk.log, &mut part.offsets, MonoMs(self.now)) {
            Take::Nothing => {}
            Take::Append(count) => {
                records[..count].iter().for_each(|record| disk.write(Entry::Append(*record)));
                part.offsets.append(disk.log.end());
            }
            Take::Truncate { to, below_high_watermark } => {
                assert!(!below_high_watermark, "seed {seed}: {id} is cut below what is committed");
                disk.write(Entry::Truncate(to));
                part.offsets.truncate(to);
                part.checked = part.checked.min(to.0);
            }
            Take::Reset { at } => {
                disk.write(Entry::Reset(at));
                part.offsets.restart(at);
                part.checked = at.0;
            }
        }
        self.local(at, id);
        self.begin_sync(at);
        // In lockstep: what was taken is on disk before more is asked for.
        if self.nodes[at].disks.get(&id).is_some_and(|disk| disk.unsynced.is_empty()) {
            self.fetch(at, id);
        }
    }

    /// One sync at a time takes all that waits.
    pub fn begin_sync(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let waits = node.disks.iter().filter(|(_, disk)| !disk.unsynced.is_empty());
        let entries: BTreeMap<PartitionId, usize> =
            waits.map(|(id, disk)| (*id, disk.unsynced.len())).collect();
        if node.syncing || entries.is_empty() {
            return;
        }
        (node.syncing, node.sync_ms) = (true, node.sync_ms.max(1));
        let (life, most) = (node.life, node.sync_ms);
        let takes = self.random.within(1..=most);
        self.after(takes, Event::Sync { node: at, life, entries });
    }

    pub fn synced(&mut self, at: usize, entries: &BTreeMap<PartitionId, usize>) {
        self.nodes[at].syncing = false;
        for (id, count) in entries {
            let node = &mut self.nodes[at];
            let Some(disk) = node.disks.get_mut(id) else { continue };
            disk.sync(*count);
            let Some(part) = node.parts.get_mut(id) else { continue };
            part.offsets.make_durable(disk.durable_end().min(part.offsets.end()));
            if let Machine::Follower(follower) = &mut part.machine
                && disk.unsynced.is_empty()
            {
                follower.on_cut();
            }
            self.local(at, *id);
            self.fetch(at, *id);
        }
        self.begin_sync(at);
    }

    /// Offsets moved here.
    pub fn local(&mut self, at: usize, id: PartitionId) {
        let Some(part) = self.nodes[at].parts.get_mut(&id) else { return };
        let advanced = match &mut part.machine {
            Machine::Leader(leader) => leader.on_local(&mut part.offsets, MonoMs(self.now)),
            Machine::Follower(follower) => follower.on_local(&mut part.offsets),
        };
        self.effects(at, id, Effects { advanced, ..Effects::default() });
    }

    fn effects(&mut self, at: usize, id: PartitionId, fx: Effects) {
        if let Some(part) = self.nodes[at].parts.get_mut(&id)
            && let Machine::Leader(leader) = &part.machine
        {
            let (committed, enough) = (part.offsets.high_watermark().0, leader.has_enough());
            let done: Vec<_> = part.waiting.extract_if(.., |(offset, ..)| *offset < committed).collect();
            for (offset, record, who) in done {
                let outcome = enough.then_some((Offset(offset), record));
                if outcome.is_some() {
                    self.history.acked(id, offset, record);
                }
                self.answer_producer(at, who, outcome);
            }
        }
        if let Some(proposal) = fx.propose {
            self.propose_isr(at, id, proposal);
        }
    }

    pub fn isr_decided(
        &mut self,
        at: usize,
        id: PartitionId,
        epoch: LeaderEpoch,
        number: u64,
        verdict: Verdict,
    ) {
        let Some(part) = self.nodes[at].parts.get_mut(&id) else { return };
        let Machine::Leader(leader) = &mut part.machine else { return };
        if leader.epoch() == epoch {
            let fx = leader.on_answer(number, verdict, &mut part.offsets, MonoMs(self.now));
            self.effects(at, id, fx);
        }
    }

    /// Leaders look who lags, followers whether they should ask; checkpoints and retention.
    pub fn tick_parts(&mut self, at: usize) {
        let ids: Vec<PartitionId> = self.nodes[at].parts.keys().copied().collect();
        for id in ids {
            let (now, retains) = (self.now, self.random.one_in(12) && !self.calm);
            let node = &mut self.nodes[at];
            let (Some(part), Some(disk)) = (node.parts.get_mut(&id), node.disks.get_mut(&id)) else {
                continue;
            };
            let committed = part.offsets.high_watermark();
            let mut propose = None;
            if let Machine::Leader(leader) = &mut part.machine {
                if now - part.last_look >= LAG_MAX_MS / 2 {
                    part.last_look = now;
                    propose = leader.on_tick(&part.offsets, MonoMs(now));
                }
                if retains {
                    let start = part.offsets.log_start().0;
                    let to = start + self.random.below((committed.0 - start + 1) as usize) as i64;
                    part.offsets.start_at(Offset(to));
                }
            }
            // A checkpoint says nothing that is not on disk.
            if disk.unsynced.is_empty() {
                disk.stored = (committed, part.offsets.log_start());
            }
            self.effects(at, id, Effects { propose, ..Effects::default() });
            self.fetch(at, id);
        }
    }
}
