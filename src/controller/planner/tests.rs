use std::collections::{BTreeMap, BTreeSet};

use super::score::Score;
use super::*;
use crate::controller::loads::{BrokerLoad, Disk, Loads, PartitionLoad};
use crate::controller::{Registration, register};
use crate::metadata::Image;
use crate::metadata::records::Record;
use crate::model::{BrokerId, BrokerSettings, PartitionId, TopicId};

const GB: u64 = 1 << 30;

/// A cluster in which every move is done at once.
struct Rig {
    image: Image,
    loads: Loads,
    dead: BTreeSet<BrokerId>,
    paused: BTreeSet<TopicId>,
}

fn topic(n: usize) -> TopicId {
    TopicId([n as u8 + 1; 16])
}

impl Rig {
    fn new() -> Self {
        let (dead, paused) = (BTreeSet::new(), BTreeSet::new());
        Self { image: Image::empty(), loads: Loads::default(), dead, paused }
    }

    fn with(&mut self, records: &[Record]) {
        self.image = self.image.with(records).unwrap().0;
    }

    fn join(&mut self, id: BrokerId, rack: Option<&str>, disk: Disk) {
        let rack = rack.map(str::to_owned);
        let settings = BrokerSettings { broker_id: id, rack, ..BrokerSettings::default() };
        let registration = Registration::of(&settings, 1, [id as u8; 16], [1; 16]);
        self.with(&register(&self.image, self.image.version + 1, &registration));
        self.tell(id, disk, Vec::new());
    }

    fn tell(&mut self, id: BrokerId, disk: Disk, partitions: Vec<PartitionLoad>) {
        let epoch = self.image.broker(id).unwrap().epoch;
        self.loads.hear(id, epoch, &BrokerLoad { disk, partitions, whole: true });
    }

    fn change(&mut self, id: BrokerId, fenced: Option<bool>, draining: Option<bool>) {
        let epoch = self.image.broker(id).unwrap().epoch.0 as u64;
        self.with(&[Record::BrokerChanged { id, epoch, fenced, draining, shutting_down: None }]);
    }

    /// A topic whose partitions have these replicas and sizes.
    fn topic(&mut self, n: usize, partitions: &[(Vec<BrokerId>, u64, u64)]) {
        let mut records = vec![Record::Topic { id: topic(n), name: format!("t{n}") }];
        let (first, disk) = (self.image.brokers().next().unwrap().clone(), self.disk());
        let mut loads = Vec::new();
        for (index, (replicas, bytes, rate)) in (0..).zip(partitions) {
            records.push(Record::new_partition(topic(n), index, replicas));
            loads.push(PartitionLoad {
                id: PartitionId { topic: topic(n), index },
                bytes: *bytes,
                rate: *rate,
            });
        }
        self.with(&records);
        self.tell(first.id, disk, loads);
    }

    fn disk(&self) -> Disk {
        let first = self.image.brokers().next().unwrap();
        self.loads.disk(first.id, first.epoch).unwrap()
    }

    fn plan(&self, limits: &Limits, seed: u64) -> Vec<Move> {
        plan(&self.world(&|topic| self.paused.contains(&topic)), limits, seed)
    }

    fn world<'a>(&'a self, paused: &'a dyn Fn(TopicId) -> bool) -> World<'a> {
        World { image: &self.image, loads: &self.loads, dead: &self.dead, paused, under_way: false }
    }

    fn score(&self) -> Score {
        State::of(&self.world(&|_| false), &Limits::default(), 0).unwrap().score()
    }

    fn carry_out(&mut self, moves: &[Move]) {
        let done = |one: &Move| Record::PartitionChanged {
            topic: one.id.topic,
            index: one.id.index,
            leader: Some(Some(one.replicas[0])),
            replicas: Some(one.replicas.clone()),
            isr: Some(one.replicas.clone()),
            elr: None,
            adding: None,
            removing: None,
            last_known: None,
            recovering: None,
        };
        let records: Vec<Record> = moves.iter().map(done).collect();
        self.with(&records);
    }

    /// Plans and carries out until there is nothing to be done. Returns how many plans that took.
    fn settle(&mut self, limits: &Limits) -> usize {
        for plans in 0..2_000 {
            let moves = self.plan(limits, 7);
            if moves.is_empty() {
                return plans;
            }
            if plans == 0 {
                assert_eq!(moves, self.plan(limits, 7), "the same seed, the same plan");
            }
            self.check(&moves, limits);
            let before = self.score();
            self.carry_out(&moves);
            let after = self.score();
            assert!(after < before, "{before:?} → {after:?} by {moves:?}");
        }
        panic!("it never ends: {:?}", self.score());
    }

    fn check(&self, moves: &[Move], limits: &Limits) {
        let mut copies: BTreeMap<BrokerId, usize> = BTreeMap::new();
        let mut all = 0;
        for one in moves {
            let before = self.image.partition(one.id).unwrap().replicas();
            assert_eq!(one.replicas.len(), before.len(), "{one:?}");
            assert_eq!(one.replicas.iter().collect::<BTreeSet<_>>().len(), before.len(), "{one:?}");
            let (new, gone): (Vec<_>, Vec<_>) = (
                one.replicas.iter().filter(|id| !before.contains(id)).collect(),
                before.iter().filter(|id| !one.replicas.contains(id)).collect(),
            );
            assert!(new.len() <= 1 && !self.paused.contains(&one.id.topic));
            all += new.len();
            for id in new.iter().chain(gone.iter().filter(|id| !self.dead.contains(id))) {
                *copies.entry(**id).or_default() += 1;
            }
            for id in new {
                let broker = self.image.broker(*id).unwrap();
                assert!(!broker.fenced && !broker.draining, "{one:?}");
            }
        }
        assert!(all <= limits.in_all && moves.len() <= limits.in_all);
        assert!(copies.values().all(|count| *count <= limits.of_broker), "{copies:?}");
    }

    /// Replicas and preferred leaders by broker.
    fn held(&self) -> (Vec<usize>, Vec<usize>) {
        let count = |wanted: &dyn Fn(&[BrokerId], BrokerId) -> bool| -> Vec<usize> {
            let of = |id: BrokerId| {
                let partitions = self.image.topics().flat_map(|topic| topic.partitions.iter());
                partitions.filter(|partition| wanted(partition.replicas(), id)).count()
            };
            self.image.brokers().map(|broker| of(broker.id)).collect()
        };
        (count(&|replicas, id| replicas.contains(&id)), count(&|replicas, id| replicas[0] == id))
    }

    fn bytes(&self) -> Vec<u64> {
        let of = |id: BrokerId| {
            let all = self.image.topics().flat_map(|topic| topic.partition_ids());
            let held = all.filter(|at| self.image.partition(*at).unwrap().has_replica(id));
            held.map(|at| self.loads.of(at).unwrap().bytes).sum()
        };
        self.image.brokers().map(|broker| of(broker.id)).collect()
    }
}

const ROOMY: Disk = Disk { total: 1000 * GB, free: 900 * GB };

/// `count` partitions over the brokers from 1 to `brokers`, one after another.
fn striped(brokers: i32, factor: i32, count: i32, bytes: u64) -> Vec<(Vec<BrokerId>, u64, u64)> {
    let replicas = |index: i32| (0..factor).map(|at| (index + at) % brokers + 1).collect();
    (0..count).map(|index| (replicas(index), bytes, 0)).collect()
}

#[test]
fn a_broker_that_joined_gets_replicas_and_then_leaders() {
    let mut rig = Rig::new();
    (1..=3).for_each(|id| rig.join(id, None, ROOMY));
    rig.topic(0, &striped(3, 3, 24, GB));
    assert!(rig.plan(&Limits::default(), 1).is_empty(), "all is well");
    rig.join(4, None, ROOMY);
    let first = rig.plan(&Limits::default(), 1);
    assert_eq!(first.len(), 4, "as many as one broker may get at once");
    assert!(first.iter().all(|one| one.replicas[0] != 4), "who leads stays for now: {first:?}");
    rig.settle(&Limits::default());
    let (replicas, leaders) = rig.held();
    assert!(replicas.iter().all(|count| (17..=19).contains(count)), "{replicas:?}");
    assert_eq!(leaders, [6; 4]);
}

#[test]
fn nothing_is_planned_while_somebody_has_not_told_what_it_holds() {
    let mut rig = Rig::new();
    (1..=3).for_each(|id| rig.join(id, None, ROOMY));
    rig.topic(0, &striped(2, 1, 12, GB));
    assert!(!rig.plan(&Limits::default(), 1).is_empty());
    let epoch = rig.image.broker(2).unwrap().epoch;
    let mut loads = Loads::default();
    std::mem::swap(&mut loads, &mut rig.loads);
    assert!(rig.plan(&Limits::default(), 1).is_empty());
    rig.loads = loads;
    // Or while somebody is away who may be back soon.
    rig.change(2, Some(true), None);
    assert!(rig.plan(&Limits::default(), 1).is_empty());
    rig.change(2, Some(false), None);
    rig.loads.hear(2, epoch, &BrokerLoad::default());
    assert!(rig.plan(&Limits::default(), 1).is_empty(), "without a disk it has told nothing");
}

#[test]
fn what_somebody_moves_or_drains_is_left_alone() {
    let mut rig = Rig::new();
    (1..=4).for_each(|id| rig.join(id, None, ROOMY));
    rig.topic(0, &striped(2, 1, 12, GB));
    rig.topic(1, &striped(2, 1, 12, GB));
    rig.paused.insert(topic(0));
    rig.change(4, None, Some(true));
    let moves = rig.plan(&Limits::default(), 1);
    assert!(!moves.is_empty());
    assert!(moves.iter().all(|one| one.id.topic == topic(1) && !one.replicas.contains(&4)), "{moves:?}");
}

#[test]
fn what_a_dead_broker_held_is_held_by_others() {
    let mut rig = Rig::new();
    (1..=4).for_each(|id| rig.join(id, Some(["a", "b"][id as usize % 2]), ROOMY));
    rig.topic(0, &striped(4, 2, 40, GB));
    rig.change(3, Some(true), None);
    rig.dead.insert(3);
    rig.settle(&Limits::default());
    let (replicas, _) = rig.held();
    assert_eq!(replicas[2], 0, "{replicas:?}");
    assert_eq!(rig.score().racks, 0);
}

#[test]
fn a_full_disk_gets_nothing_and_a_small_one_less() {
    let mut rig = Rig::new();
    rig.join(1, None, ROOMY);
    rig.join(2, None, ROOMY);
    rig.topic(0, &striped(2, 1, 40, GB));
    rig.join(3, None, Disk { total: 1000 * GB, free: 100 * GB });
    assert!(rig.plan(&Limits::default(), 1).is_empty(), "it is fuller than 85 %");
    rig.tell(3, Disk { total: 500 * GB, free: 500 * GB }, Vec::new());
    rig.settle(&Limits::default());
    assert!((7..=9).contains(&rig.held().0[2]), "a fifth of it all: {:?}", rig.held());
}

#[test]
fn bytes_are_evened_out_by_exchanges() {
    let mut rig = Rig::new();
    (1..=2).for_each(|id| rig.join(id, None, ROOMY));
    let sizes = |index: i32| if index % 2 == 0 { 30 * GB } else { GB };
    let all: Vec<_> = (0..40).map(|index| (vec![index % 2 + 1], sizes(index), 0)).collect();
    rig.topic(0, &all);
    rig.settle(&Limits::default());
    let (bytes, (replicas, _)) = (rig.bytes(), rig.held());
    assert_eq!(replicas, [20, 20]);
    let mean = bytes.iter().sum::<u64>() / 2;
    assert!(bytes.iter().all(|of| of.abs_diff(mean) * 20 <= mean), "{bytes:?}");
}

#[test]
fn leaders_that_are_written_most_are_spread() {
    let mut rig = Rig::new();
    (1..=3).for_each(|id| rig.join(id, None, ROOMY));
    let mut all = striped(3, 3, 30, GB);
    // Nine of those that one broker leads.
    all.iter_mut().step_by(3).take(9).for_each(|(_, _, rate)| *rate = 8 << 20);
    rig.topic(0, &all);
    rig.settle(&Limits::default());
    let (_, leaders) = rig.held();
    assert_eq!(leaders, [10; 3]);
    assert_eq!(rig.score().rates, 0, "{:?}", rig.score());
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn random_cluster(seed: u64) -> Rig {
    let (mut random, mut rig) = (Random(seed), Rig::new());
    let brokers = 1 + random.below(8) as i32;
    let racks = random.below(4);
    let sizes = random.below(2) + 1;
    for id in 1..=brokers {
        let rack = (racks > 0).then(|| format!("r{}", random.below(racks)));
        let total = (200 * GB) << random.below(sizes);
        rig.join(id, rack.as_deref(), Disk { total, free: total / 2 + random.below(total / 2) });
    }
    let skew = 1 + random.below(brokers as u64);
    for n in 0..1 + random.below(4) as usize {
        let factor = 1 + random.below(brokers.min(3) as u64);
        let one = |random: &mut Random| {
            let mut replicas: Vec<BrokerId> = Vec::new();
            while replicas.len() < factor as usize {
                let most = skew.max(factor);
                let id = 1 + random.below(most) as i32;
                if !replicas.contains(&id) {
                    replicas.push(id);
                }
            }
            let large = random.below(20) == 0;
            (replicas, random.below(if large { 8 * GB } else { GB / 4 }), random.below(1 << 22))
        };
        let all: Vec<_> = (0..1 + random.below(30)).map(|_| one(&mut random)).collect();
        rig.topic(n, &all);
    }
    if random.below(4) == 0 && brokers > 1 {
        rig.change(brokers, Some(true), None);
        rig.dead.insert(brokers);
    }
    if random.below(6) == 0 && brokers > 2 {
        rig.change(1, None, Some(true));
    }
    rig
}

/// Each plan is for the better by the goals in their order, so that none undoes another's; each follows the limits; and
/// they come to an end.
#[test]
fn a_thousand_clusters_come_to_rest() {
    let mut moved = 0;
    for seed in 0..1_000 {
        let mut rig = random_cluster(seed);
        let limits = Limits { of_broker: 1 + seed as usize % 4, ..Limits::default() };
        moved += rig.settle(&limits);
        let score = rig.score();
        let others = rig.image.brokers().filter(|broker| !broker.fenced && !broker.draining).count();
        assert!(score.dead == 0 || others < 4, "{seed}: {score:?}");
    }
    assert!(moved > 1_000, "{moved}");
}
