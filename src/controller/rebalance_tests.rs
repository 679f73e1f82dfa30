use std::sync::Arc;

use super::super::loads::{BrokerLoad, Disk, PartitionLoad};
use super::super::{
    AlterPartitions, ControlReply, ControlRequest, Heartbeat, IsrChange, NewTopic, Reassignment,
    Registration, Rules,
};
use super::*;
use crate::metadata::Image;
use crate::metadata::quorum::{Commit, Decided};
use crate::model::{BrokerSettings, PartitionId};

/// A controller whose brokers do at once what they are to, and tell what they hold.
struct Rig {
    controller: Controller<()>,
    now: MonoMs,
    made: u64,
}

impl Rig {
    fn new(brokers: i32, rules: Rules) -> Self {
        let image = Image::empty().with(&[Record::Cluster { id: "c".into() }]).unwrap().0;
        let mut controller = Controller::with_rules(Arc::new(image), BrokerSettings::default(), rules);
        controller.lead(1, MonoMs::ZERO);
        let mut rig = Self { controller, now: MonoMs::ZERO, made: 0 };
        (1..=brokers).for_each(|id| rig.join(id));
        rig
    }

    fn ask(&mut self, request: &ControlRequest) -> ControlReply {
        self.made += 1;
        let mut id = TopicId([1; 16]);
        id.0[..8].copy_from_slice(&self.made.to_le_bytes());
        let step = self.controller.handle((), request, self.now, &mut || id, &BTreeSet::new());
        let answers = self.commit(step);
        answers.into_iter().next().expect("an answer")
    }

    fn commit(&mut self, step: super::super::Step<()>) -> Vec<ControlReply> {
        let epoch = self.controller.epoch;
        let commit =
            |change: Decided| Commit { offset: change.image.version, epoch, records: change.records };
        let commits: Vec<Commit> = step.propose.into_iter().map(commit).collect();
        let settled = self.controller.on_committed(&commits);
        step.answers.into_iter().chain(settled.answers).map(|(_, reply)| reply).collect()
    }

    fn join(&mut self, id: BrokerId) {
        let settings = BrokerSettings { broker_id: id, ..BrokerSettings::default() };
        let mut registration = Registration::of(&settings, 1, [id as u8; 16], [id as u8; 16]);
        registration.cluster = "c".into();
        self.ask(&ControlRequest::Register(Box::new(registration)));
        self.beat(id, true);
        self.beat(id, true);
    }

    fn image(&self) -> Arc<Image> {
        self.controller.image().clone()
    }

    fn beat(&mut self, id: BrokerId, tells: bool) {
        let image = self.image();
        let epoch = image.broker(id).unwrap().epoch;
        let led = image.led_by(id).map(|id| PartitionLoad { id, bytes: 1 << 20, rate: 0 });
        let disk = Disk { total: 1 << 40, free: 1 << 39 };
        let load = tells.then(|| BrokerLoad { disk, partitions: led.collect(), whole: true });
        self.ask(&ControlRequest::Heartbeat(Heartbeat {
            id,
            epoch,
            applied: image.version,
            load,
            ..Heartbeat::default()
        }));
    }

    fn create(&mut self, name: &str, partitions: i32, factor: i16) {
        let topic = NewTopic { partitions, replication_factor: factor, ..NewTopic::named(name) };
        self.ask(&ControlRequest::CreateTopics { topics: vec![topic], validate_only: false });
    }

    /// Half a second passes; `copies`: whoever is added is in sync at the end of it. Returns how many are being moved.
    fn pass(&mut self, copies: bool) -> usize {
        self.now.0 += 500;
        for id in self.image().brokers().map(|broker| broker.id).collect::<Vec<_>>() {
            self.beat(id, true);
        }
        let step = self.controller.tick(self.now);
        self.commit(step);
        let moving: Vec<PartitionId> = self.moving();
        if copies {
            moving.iter().for_each(|id| self.arrive(*id));
        }
        moving.len()
    }

    fn moving(&self) -> Vec<PartitionId> {
        let image = self.image();
        let all = image.topics().flat_map(|topic| topic.partition_ids());
        all.filter(|id| image.partition(*id).unwrap().is_moving()).collect()
    }

    fn arrive(&mut self, id: PartitionId) {
        let image = self.image();
        let partition = image.partition(id).unwrap();
        let leader = partition.leader.unwrap();
        let epoch = |id: BrokerId| image.broker(id).unwrap().epoch;
        let change = IsrChange {
            id,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: partition.replicas().iter().map(|id| (*id, epoch(*id))).collect(),
            recovering: false,
        };
        let (epoch, applied) = (epoch(leader), image.version);
        let alter = AlterPartitions { broker: leader, epoch, applied, changes: vec![change] };
        self.ask(&ControlRequest::AlterPartitions(alter));
    }

    fn held(&self, id: BrokerId) -> (usize, usize, usize) {
        let image = self.image();
        let held = self.controller.index.as_ref().unwrap().held(id);
        (held.replicas, held.preferred, image.led_by(id).count())
    }
}

#[test]
fn a_broker_that_joins_gets_its_share_without_anybody_asking() {
    let mut rig = Rig::new(3, Rules::default());
    rig.create("t", 24, 3);
    (0..60).for_each(|_| assert_eq!(rig.pass(true), 0, "all is well"));
    rig.join(4);
    let mut most = 0;
    let mut pass = |rig: &mut Rig, seconds| (0..2 * seconds).for_each(|_| most = most.max(rig.pass(true)));
    pass(&mut rig, 30);
    let (replicas, preferred, _) = rig.held(4);
    assert!((17..=19).contains(&replicas), "{replicas}");
    assert_eq!(preferred, 6);
    // It leads what it is preferred for once it has been in sync for half a minute.
    pass(&mut rig, 120);
    let all: Vec<_> = (1..=4).map(|id| rig.held(id)).collect();
    assert!(all.iter().all(|(_, preferred, leads)| (*preferred, *leads) == (6, 6)), "{all:?}");
    assert!((1..=4).contains(&most), "{most} at once");
    (0..100).for_each(|_| assert_eq!(rig.pass(true), 0, "it stays as it is"));
}

#[test]
fn balance_can_be_switched_off() {
    let mut rig = Rig::new(3, Rules { balance: false, ..Rules::default() });
    rig.create("t", 24, 3);
    rig.join(4);
    (0..100).for_each(|_| assert_eq!(rig.pass(true), 0));
    assert_eq!(rig.held(4).0, 0);
}

#[test]
fn what_somebody_moves_is_left_to_him_for_a_while() {
    let rules = Rules { by_hand_ms: 60_000, ..Rules::default() };
    let mut rig = Rig::new(3, rules);
    rig.create("t", 12, 1);
    // Everything to one broker.
    let to = |index| Reassignment { topic: "t".into(), index, replicas: Some(vec![1]) };
    rig.ask(&ControlRequest::Reassign { partitions: (0..12).map(to).collect(), factor_may_change: false });
    rig.moving().into_iter().for_each(|id| rig.arrive(id));
    assert_eq!(rig.held(1).0, 12);
    (0..118).for_each(|_| assert_eq!(rig.pass(true), 0));
    let moved: usize = (0..60).map(|_| rig.pass(true)).sum();
    assert!(moved >= 7, "afterwards it is evened out: {moved}");
}

#[test]
fn a_new_controller_waits_until_it_knows() {
    let mut rig = Rig::new(3, Rules::default());
    rig.create("t", 24, 3);
    rig.join(4);
    let now = rig.now;
    rig.controller.turn(Some(1), now);
    for _ in 0..60 {
        rig.now.0 += 500;
        // They live, and tell nothing of what they hold.
        (1..=4).for_each(|id| rig.beat(id, false));
        let step = rig.controller.tick(rig.now);
        rig.commit(step);
    }
    assert!(rig.moving().is_empty());
    (0..4).for_each(|_| _ = rig.pass(false));
    assert_eq!(rig.moving().len(), 4);
    // Nobody copies: no more is begun.
    (0..60).for_each(|_| assert_eq!(rig.pass(false), 4));
}
