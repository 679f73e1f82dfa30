//! Replicas over real logs that follow each other: what leaders' and followers' machines decide is carried out on disk, with
//! crashes that take what is not durable, elections, truncations, and batches that compaction has taken out of the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::assignment::{Assignment, Role};
use super::leader::{Proposal, Verdict};
use super::peer::{PeerState, Report};
use super::producer::{ProducerView, Producers};
use super::replica::tests::{ID, image, open_log, record, sound};
use super::{Cut, Given, Host, Next, ReadError, Replica, Said};
use crate::log::{OwnerState, ShardLog};
use crate::model::{BrokerEpoch, BrokerId, LeaderEpoch, MonoMs, Offset, PartitionEpoch, Producer, WallMs};
use crate::partition::{AppendError, EndOfTxn};
use crate::rt;
use crate::wire::batch::{BatchHeader, BatchIter};
use crate::wire::control::EndMarker;

const NODES: usize = 3;
const MOST_BYTES: usize = 4 << 10;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % limit.max(1)
    }
}

#[derive(Clone)]
struct Metadata {
    assignment: Assignment,
    lives: [BrokerEpoch; NODES],
}

struct Node {
    id: BrokerId,
    dir: tempfile::TempDir,
    store: Rc<ShardLog>,
    host: Rc<Host>,
    replica: Rc<Replica>,
    life: BrokerEpoch,
    applied: usize,
}

/// A replica and the log it is of, as a start leaves them; it has no role yet.
async fn start(dir: &Path, id: BrokerId) -> (Rc<ShardLog>, Rc<Host>, Rc<Replica>) {
    let (store, recovered) = open_log(dir).await;
    let host = Host::new(id, 30_000);
    let Some(found) = recovered.into_iter().next() else {
        let log = store.create(ID, "orders", Arc::default());
        let replica = Replica::new((ID, "orders".into()), &host, log, Arc::default(), Offset(0));
        return (store, host, Rc::new(replica));
    };
    assert_eq!(found.repair, None);
    let names = (ID, "orders".into());
    let replica = Replica::new(names, &host, found.log, Arc::default(), found.high_watermark);
    let snapshot = found.producer_state.as_ref().map(|(_, state)| state.as_slice());
    replica.set_producers(Producers::rebuild(snapshot, &found.replayed, rt::wall()));
    (store, host, Rc::new(replica))
}

async fn settle(store: &ShardLog, replica: &Replica) {
    let last = store.journal().last();
    store.journal().wait_durable(last).await.unwrap();
    replica.on_durable(|lsn| lsn <= last);
}

fn owner_state(replica: &Replica) -> OwnerState {
    OwnerState { producers: replica.producer_snapshot(), high_watermark: Some(replica.high_watermark()) }
}

/// What is known of producers that copies have in common.
fn views(replica: &Replica) -> Vec<ProducerView> {
    let mut views = replica.producers();
    views.iter_mut().for_each(|view| view.last_heard = WallMs(0));
    views.sort_by_key(|view| view.producer.id);
    views
}

/// Every batch with records, by its base offset.
async fn batches(replica: &Replica) -> BTreeMap<i64, (BatchHeader, Bytes)> {
    let (mut at, mut found) = (replica.offsets().log_start(), BTreeMap::new());
    while at < replica.offsets().end() {
        for slice in replica.read_ordered(at, 1 << 20, true).await.unwrap() {
            for batch in BatchIter::new(&slice) {
                let (header, range) = batch.unwrap();
                if header.record_count > 0 {
                    found.insert(header.base_offset, (header, slice.slice(range)));
                }
                at = Offset(header.next_offset());
            }
        }
    }
    found
}

struct World {
    seed: u64,
    random: Random,
    now: MonoMs,
    nodes: Vec<Node>,
    metadata: Vec<Metadata>,
    lives: i64,
    /// Producer → epoch and next sequence, in whose transaction nothing is open, or something is.
    producers: BTreeMap<i64, (i16, i32, bool)>,
    /// Checksums of the batches that were below a high watermark, by base offset.
    committed: BTreeMap<i64, u32>,
    counts: BTreeMap<&'static str, usize>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let ids: Vec<BrokerId> = (1..=NODES as BrokerId).collect();
        let assignment = Assignment {
            leader: Some(1),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            replicas: ids.clone(),
            isr: ids.clone(),
        };
        let mut nodes = Vec::new();
        for id in ids {
            let dir = tempfile::tempdir().unwrap();
            let (store, host, replica) = start(dir.path(), id).await;
            nodes.push(Node { id, dir, store, host, replica, life: BrokerEpoch(0), applied: 0 });
        }
        Self {
            seed,
            random: Random(seed * 2 + 1),
            now: MonoMs(0),
            nodes,
            metadata: vec![Metadata { assignment, lives: [BrokerEpoch(0); NODES] }],
            lives: 0,
            producers: BTreeMap::new(),
            committed: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    fn newest(&self) -> &Metadata {
        self.metadata.last().expect("there is a first")
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A broker takes the next change of the metadata.
    fn learn(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(Metadata { assignment, lives }) = self.metadata.get(node.applied) else { return };
        node.applied += 1;
        for (id, epoch) in (1..).zip(lives) {
            let state = PeerState { id, epoch: *epoch, eligible: true };
            node.host.set_peer(id, Some(state));
            node.replica.on_peer(state, self.now);
        }
        node.replica.assign(&node.store, assignment.clone(), self.now);
    }

    fn elect(&mut self, leader: BrokerId) {
        let mut next = self.newest().clone();
        next.assignment.leader = Some(leader);
        next.assignment.leader_epoch.0 += 1;
        next.assignment.partition_epoch.0 += 1;
        self.metadata.push(next);
        self.count("election");
    }

    /// The controller takes what rests on the newest metadata.
    fn is_outdated(&self, proposal: &Proposal) -> bool {
        proposal.partition_epoch != self.newest().assignment.partition_epoch
    }

    fn decide(&mut self, at: usize, proposal: &Proposal) {
        let Metadata { assignment, lives } = self.newest();
        let current = proposal.leader_epoch == assignment.leader_epoch
            && proposal.partition_epoch == assignment.partition_epoch;
        let able = proposal.isr.iter().all(|(id, epoch)| lives[*id as usize - 1] == *epoch);
        let verdict = match current && able {
            false => Verdict::Refused,
            true => {
                let mut next = self.newest().clone();
                next.assignment.isr = proposal.isr.iter().map(|(id, _)| *id).collect();
                next.assignment.partition_epoch.0 += 1;
                self.metadata.push(next);
                let Assignment { partition_epoch, isr, .. } = &self.newest().assignment;
                Verdict::Committed(*partition_epoch, isr.clone())
            }
        };
        let again =
            self.nodes[at].replica.on_verdict(proposal.number, proposal.leader_epoch, verdict, self.now);
        assert_eq!(again, None);
    }

    /// One fetch of a follower, answered at once.
    async fn fetch(&mut self, at: usize) {
        let Ok(Some(asked)) = self.nodes[at].replica.next_fetch(self.now) else { return };
        let (leader, most) = (asked.leader as usize - 1, 1 + self.random.below(MOST_BYTES));
        let report = Report {
            from: self.nodes[at].id,
            broker_epoch: self.nodes[at].life,
            leader_epoch: asked.epoch,
            offset: asked.offset,
            last_epoch: asked.last_epoch,
            durable: asked.durable,
        };
        let source = self.nodes[leader].replica.clone();
        let said = match source.on_fetch(&report, self.now) {
            Ok(served) => {
                if let Some(proposal) = &served.propose {
                    self.decide(leader, proposal);
                }
                match served.diverging {
                    Some((epoch, end)) => Said::Diverging(epoch, end),
                    None => {
                        let mut records = BytesMut::new();
                        for slice in source.read_ordered(asked.offset, most, true).await.unwrap() {
                            records.extend_from_slice(&slice);
                        }
                        Said::Batches(Given {
                            records: self.without_some(records.freeze(), served.high_watermark),
                            high_watermark: served.high_watermark,
                            log_start: served.log_start,
                            starts: served.starts,
                        })
                    }
                }
            }
            Err(ReadError::OffsetOutOfRange) => {
                let offsets = source.offsets();
                Said::OutOfRange { log_start: offsets.log_start(), end: offsets.end() }
            }
            Err(ReadError::FencedEpoch) => Said::Fenced,
            Err(_) => Said::NotNow,
        };
        let node = &self.nodes[at];
        match node.replica.on_answer(&node.store, &asked, &said, self.now).unwrap() {
            Next::Nothing | Next::Appended => {}
            Next::Cut(cut) => {
                let before = node.replica.offsets();
                assert!(!node.replica.cut(&node.store, cut, || MonoMs(0)).await.unwrap());
                let after = node.replica.offsets();
                assert_eq!(after.high_watermark(), before.high_watermark(), "seed {}", self.seed);
                let what = if after.end() < before.end() { "truncation" } else { "cut of epochs" };
                self.count(what);
            }
        }
    }

    /// Sometimes, what compaction would have left: of what is committed, batches of no producer are missing.
    fn without_some(&mut self, records: Bytes, high_watermark: Offset) -> Bytes {
        if self.random.below(3) > 0 {
            return records;
        }
        let mut left = BytesMut::new();
        for (header, range) in BatchIter::new(&records).flatten() {
            let may_go = header.next_offset() <= high_watermark.0 && header.producer_id < 0;
            if !may_go || self.random.below(2) == 0 {
                left.extend_from_slice(&records[range]);
            } else {
                self.count("gap");
            }
        }
        left.freeze()
    }

    fn produce(&mut self, at: usize) {
        let id = self.random.below(4) as i64 - 1;
        let (store, replica) = (self.nodes[at].store.clone(), self.nodes[at].replica.clone());
        if replica.role() != Role::Leader {
            return;
        }
        let now = rt::wall();
        if id < 0 {
            replica.append(&store, sound(&replica, record(-1, -1, -1)), now, None).unwrap();
            return;
        }
        // What the leader knows of the producer, which may be less than what was sent to the one before.
        let known = replica.producers().into_iter().find(|view| view.producer.id.0 == id);
        let (epoch, sequence, open) = match known {
            Some(view) => {
                let sequence = view.last_sequence.map_or(0, |last| last + 1);
                (view.producer.epoch.0, sequence, view.open_from.is_some())
            }
            None => (0, 0, false),
        };
        if open && self.random.below(3) == 0 {
            let marker = EndMarker { commit: self.random.below(2) == 0, coordinator_epoch: 0 };
            let end = EndOfTxn { producer: Producer::new(id, epoch + 1), marker, version: 2 };
            replica.append_end(&store, end, now).unwrap();
            return;
        }
        let batch = record(id, epoch, sequence);
        let header = BatchHeader::parse(&batch).unwrap();
        let guard = replica
            .needs_verification(&header)
            .then(|| replica.begin_verification(Producer::new(id, epoch), header.base_sequence).unwrap());
        let appended = replica.append(&store, sound(&replica, batch.clone()), now, guard).unwrap();
        // A retry is known, wherever what was appended came from.
        let again = replica.append(&store, sound(&replica, batch), now, None).unwrap();
        assert_eq!(again.base_offset, appended.base_offset, "seed {}", self.seed);
        self.producers.insert(id, (epoch, sequence + 1, true));
    }

    /// Dies and comes back: what was not on its disk is gone.
    async fn crash(&mut self, at: usize) {
        self.lives += 1;
        let id = self.nodes[at].id;
        let mut next = self.newest().clone();
        next.lives[at] = BrokerEpoch(self.lives);
        if next.assignment.isr.len() > 1 {
            next.assignment.isr.retain(|member| *member != id);
        }
        if next.assignment.leader == Some(id) {
            let isr = &next.assignment.isr;
            next.assignment.leader = Some(isr[self.random.below(isr.len())]);
            next.assignment.leader_epoch.0 += 1;
        }
        next.assignment.partition_epoch.0 += 1;
        self.metadata.push(next);
        let left = image(&self.nodes[at].dir);
        let (store, host, replica) = start(left.path(), id).await;
        let applied = self.metadata.len() - 1;
        let life = BrokerEpoch(self.lives);
        // The old log's tasks may still be busy in their own directory.
        let old = std::mem::replace(
            &mut self.nodes[at],
            Node { id, dir: left, store, host, replica, life, applied },
        );
        drop(old);
        self.learn(at);
        self.count("crash");
    }

    async fn step(&mut self) {
        self.now.0 += 5;
        let at = self.random.below(NODES);
        match self.random.below(40) {
            0..12 => self.produce(at),
            12..24 => self.fetch(at).await,
            24..30 => {
                let node = &self.nodes[at];
                settle(&node.store, &node.replica).await;
            }
            30..36 => self.learn(at),
            36 => {
                let isr = self.newest().assignment.isr.clone();
                let elected = isr[self.random.below(isr.len())];
                self.elect(elected);
            }
            37 => {
                let node = &self.nodes[at];
                node.store.checkpoint(|_| owner_state(&node.replica)).await.unwrap();
            }
            38 => self.crash(at).await,
            _ => {
                if let Some(proposal) = self.nodes[at].replica.on_tick(self.now) {
                    let isr = self.newest().assignment.isr.len();
                    assert!(
                        proposal.isr.len() > isr || self.is_outdated(&proposal),
                        "nobody lags for so long"
                    );
                    self.decide(at, &proposal);
                }
            }
        }
        self.check().await;
    }

    /// Nothing that was below a high watermark ever is another.
    async fn check(&mut self) {
        for at in 0..NODES {
            let replica = self.nodes[at].replica.clone();
            let high_watermark = replica.high_watermark().0;
            let known = self.committed.last_key_value().map_or(-1, |(base, _)| *base);
            if high_watermark <= known + 1 {
                continue;
            }
            for (base, (header, _)) in batches(&replica).await {
                if header.next_offset() <= high_watermark {
                    let crc = *self.committed.entry(base).or_insert(header.crc);
                    assert_eq!(crc, header.crc, "seed {}: broker {} at {base}", self.seed, at + 1);
                }
            }
        }
    }

    /// Without faults everybody gets to the same.
    async fn converge(&mut self) {
        for round in 0.. {
            assert!(round < 1000, "seed {}: no end in sight", self.seed);
            self.now.0 += 60;
            for at in 0..NODES {
                while self.nodes[at].applied < self.metadata.len() {
                    self.learn(at);
                }
                self.fetch(at).await;
                let node = &self.nodes[at];
                settle(&node.store, &node.replica).await;
            }
            let offsets: Vec<_> = self.nodes.iter().map(|node| node.replica.offsets()).collect();
            let same = offsets.iter().all(|o| o.end() == offsets[0].end() && o.high_watermark() == o.end());
            if same && self.newest().assignment.isr.len() == NODES {
                break;
            }
        }
        self.check().await;
        let mut all = Vec::new();
        for node in &self.nodes {
            all.push(batches(&node.replica).await);
        }
        for other in &all[1..] {
            let both = all[0].iter().filter_map(|(base, batch)| Some((batch, other.get(base)?)));
            both.for_each(|(one, other)| assert_eq!(one, other, "seed {}", self.seed));
        }
        let known: Vec<_> = self.nodes.iter().map(|node| views(&node.replica)).collect();
        assert!(known.iter().all(|views| *views == known[0]), "seed {}: {known:?}", self.seed);
        let stable: BTreeSet<_> = self.nodes.iter().map(|node| node.replica.last_stable_offset()).collect();
        assert_eq!(stable.len(), 1, "seed {}", self.seed);
        let end = self.nodes[0].replica.offsets().end();
        let aborted: Vec<_> = self.nodes.iter().map(|node| node.replica.aborted_in(Offset(0), end)).collect();
        assert!(aborted.iter().all(|index| *index == aborted[0]), "seed {}: {aborted:?}", self.seed);
        // Whichever has it, a batch is of the same epoch.
        for base in all[0].keys() {
            let epochs: BTreeSet<_> =
                self.nodes.iter().map(|node| node.replica.log.epoch_at(Offset(*base))).collect();
            assert_eq!(epochs.len(), 1, "seed {}: {base}", self.seed);
        }
    }
}

#[test]
fn copies_become_the_same_whatever_happens() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let (first, seeds) = (number("WEIR_FIRST_SEED", 1), number("WEIR_SEEDS", 6));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in first..first + seeds {
        let of_seed = rt::block_on(async move {
            let mut world = World::new(seed).await;
            (0..NODES).for_each(|at| world.learn(at));
            for _ in 0..400 {
                world.step().await;
            }
            world.converge().await;
            world.counts.insert("committed", world.committed.len());
            world.counts
        });
        of_seed.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
    }
    println!("{counts:?}");
    for what in ["crash", "election", "truncation", "gap", "committed"] {
        assert!(counts.get(what).is_some_and(|count| *count > 3), "{counts:?}");
    }
}

/// Broker 1 with a log of another history than broker 2's from offset 2 on.
async fn follower_with_five(dir: &Path) -> (Rc<ShardLog>, Rc<Replica>) {
    let (store, _, replica) = start(dir, 1).await;
    replica.assign(&store, assignment(1, 3, &[1]), MonoMs(0));
    for sequence in 0..5 {
        let batch = record(7, 0, sequence);
        let header = BatchHeader::parse(&batch).unwrap();
        let guard = replica
            .needs_verification(&header)
            .then(|| replica.begin_verification(Producer::new(7, 0), sequence).unwrap());
        replica.append(&store, sound(&replica, batch), rt::wall(), guard).unwrap();
    }
    (store, replica)
}

fn assignment(leader: BrokerId, epoch: i32, isr: &[BrokerId]) -> Assignment {
    Assignment {
        leader: Some(leader),
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: PartitionEpoch(epoch),
        replicas: vec![1, 2],
        isr: isr.into(),
    }
}

/// Has the follower decide on a truncation to offset 2.
fn diverge(store: &ShardLog, replica: &Replica) -> Cut {
    let asked = replica.next_fetch(MonoMs(0)).unwrap().expect("there is a leader");
    let said = Said::Diverging(LeaderEpoch(3), Offset(2));
    match replica.on_answer(store, &asked, &said, MonoMs(0)).unwrap() {
        Next::Cut(cut) => cut,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_elected_while_its_log_is_cut_leads_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = follower_with_five(dir.path()).await;
        replica.assign(&store, assignment(2, 4, &[2]), MonoMs(0));
        let cut = diverge(&store, &replica);
        assert_eq!(cut, Cut::Truncate(Offset(2)));
        let (log, cut_one) = (store.clone(), replica.clone());
        let cutting = rt::spawn(async move { cut_one.cut(&log, cut, || MonoMs(9)).await.unwrap() });
        rt::yield_now().await;
        assert!(replica.assign(&store, assignment(1, 5, &[1, 2]), MonoMs(1)));
        assert_eq!((replica.role(), replica.leads_in(LeaderEpoch(5))), (Role::Follower, false));
        let refused = replica.append(&store, sound(&replica, record(-1, -1, -1)), rt::wall(), None);
        assert!(matches!(refused, Err(AppendError::NotLeader)), "{refused:?}");
        assert_eq!(replica.next_fetch(MonoMs(1)), Ok(None), "nobody fetches from itself");
        assert!(cutting.await, "its term began");
        assert!(replica.leads_in(LeaderEpoch(5)));
        assert_eq!((replica.offsets().end(), ends_of(&replica, &[3], 5)), (Offset(2), vec![(3, 2)]));
        assert_eq!(replica.producers()[0].last_sequence, Some(1), "a retry of what was cut off is new");
        let next = replica.append(&store, sound(&replica, record(7, 0, 2)), rt::wall(), None).unwrap();
        assert_eq!((next.base_offset, replica.is_undurable()), (Offset(2), true));
        settle(&store, &replica).await;
        assert_eq!(replica.offsets().durable_end(), Offset(3));
    });
}

#[test]
fn a_checkpoint_in_the_middle_of_a_cut_has_no_producers_of_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = follower_with_five(dir.path()).await;
        settle(&store, &replica).await;
        replica.assign(&store, assignment(2, 4, &[2]), MonoMs(0));
        let cut = diverge(&store, &replica);
        let (log, cut_one) = (store.clone(), replica.clone());
        let cutting = rt::spawn(async move { cut_one.cut(&log, cut, || MonoMs(9)).await.unwrap() });
        while replica.log.end_offset().0 > 2 {
            rt::yield_now().await;
        }
        let state = owner_state(&replica);
        assert_eq!(state.producers.as_ref().map(|(offset, _)| offset.0), Some(5), "it is not cut yet");
        store.checkpoint(|_| state.clone()).await.unwrap();
        cutting.await;
        let left = image(&dir);
        let (_store, _, again) = start(left.path(), 1).await;
        assert_eq!((again.offsets().end(), again.producers()[0].last_sequence), (Offset(2), Some(1)));
        assert_eq!(views(&again), views(&replica));
    });
}

#[test]
fn gaps_are_of_the_epochs_that_the_leader_had_there() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, _, replica) = start(dir.path(), 1).await;
        replica.assign(&store, assignment(2, 9, &[2]), MonoMs(0));
        let give = |base: i64, epoch: i32, starts: &[(i32, i64)]| {
            let asked = replica.next_fetch(MonoMs(0)).unwrap().expect("there is a leader");
            let mut batch = record(-1, -1, -1);
            crate::wire::batch::stamp(&mut batch, base, epoch);
            let starts = starts.iter().map(|(epoch, at)| (LeaderEpoch(*epoch), Offset(*at))).collect();
            let given = Given { records: batch.freeze(), starts, ..Given::default() };
            replica.on_answer(&store, &asked, &Said::Batches(given), MonoMs(0)).unwrap()
        };
        assert_eq!(give(3, 1, &[(0, 0), (1, 2)]), Next::Appended);
        assert_eq!(give(10, 6, &[(3, 4), (5, 7), (6, 9), (8, 30)]), Next::Appended);
        assert_eq!(give(20, 6, &[]), Next::Appended, "an older build says nothing of epochs");
        let epochs = || (0..7).map(|epoch| replica.epoch_ends(epoch)).collect::<Vec<_>>();
        let expected = [(0, 2), (1, 4), (1, 4), (3, 7), (3, 7), (5, 9), (6, 21)].map(Some);
        assert_eq!(epochs(), expected);
        assert_eq!(batches(&replica).await.into_keys().collect::<Vec<_>>(), [3, 10, 20]);
        settle(&store, &replica).await;
        let left = image(&dir);
        let (_store, _, again) = start(left.path(), 1).await;
        assert_eq!((0..7).map(|epoch| again.epoch_ends(epoch)).collect::<Vec<_>>(), expected);
        assert_eq!(batches(&again).await.into_keys().collect::<Vec<_>>(), [3, 10, 20]);
        let far = give_far(&replica, &store);
        assert!(far.is_err(), "a gap that nothing could fill");
    });
}

fn give_far(replica: &Replica, store: &ShardLog) -> Result<Next, crate::log::ReplicaAppendError> {
    let asked = replica.next_fetch(MonoMs(0)).unwrap().expect("there is a leader");
    let mut batch = record(-1, -1, -1);
    crate::wire::batch::stamp(&mut batch, i64::MAX - 5, 6);
    let given = Given { records: batch.freeze(), ..Given::default() };
    replica.on_answer(store, &asked, &Said::Batches(given), MonoMs(0))
}

/// Where these epochs end, for a client that knows the leader by the epoch `current`.
fn ends_of(replica: &Replica, epochs: &[i32], current: i32) -> Vec<(i32, i64)> {
    let end = |epoch| replica.epoch_end(epoch, Some(LeaderEpoch(current))).unwrap().expect("known");
    epochs.iter().map(|epoch| end(LeaderEpoch(*epoch))).map(|(epoch, end)| (epoch.0, end.0)).collect()
}

impl Replica {
    fn epoch_ends(&self, epoch: i32) -> Option<(i32, i64)> {
        let ended = self.log.epoch_end_offset(LeaderEpoch(epoch));
        ended.map(|(epoch, end)| (epoch.0, end.0))
    }
}

#[test]
fn an_epoch_without_records_is_there_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (store, replica) = follower_with_five(dir.path()).await;
        for epoch in [4, 6, 9] {
            replica.assign(&store, assignment(1, epoch, &[1]), MonoMs(0));
        }
        settle(&store, &replica).await;
        let left = image(&dir);
        let (_store, _, again) = start(left.path(), 1).await;
        let ends = |replica: &Replica| (2..=9).map(|epoch| replica.epoch_ends(epoch)).collect::<Vec<_>>();
        assert_eq!(ends(&again), ends(&replica));
        assert_eq!((again.epoch_ends(8), again.epoch_ends(9)), (Some((3, 5)), Some((9, 5))));
        // The first epoch of an empty partition takes no entry, and is found all the same.
        let other = tempfile::tempdir().unwrap();
        let (store, _, replica) = start(other.path(), 1).await;
        let before = store.journal().last_entry();
        replica.assign(&store, assignment(1, 0, &[1]), MonoMs(0));
        assert_eq!(store.journal().last_entry(), before);
        assert_eq!(ends_of(&replica, &[0], 0), [(0, 0)]);
        replica.assign(&store, assignment(1, 2, &[1]), MonoMs(0));
        assert!(store.journal().last_entry() > before);
        assert_eq!(ends_of(&replica, &[0, 1, 2], 2), [(0, 0), (1, 0), (2, 0)]);
    });
}
