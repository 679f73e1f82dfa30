use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::controller::brokers::{IsrChange, IsrRefusal, PartitionState};
use crate::controller::{ControlReply, NewTopic, Rules};
use crate::metadata::quorum::{Commit, Decided};
use crate::metadata::records::Endpoint;
use crate::metadata::{Partition, features};
use crate::model::{BrokerSettings, PartitionId, TopicId};

/// A controller that commits each change at once, and brokers that have applied all there is.
struct Rig {
    controller: Controller<()>,
    now: MonoMs,
}

impl Rig {
    fn new(brokers: &[BrokerId]) -> Self {
        let image = Image::empty().with(&[Record::Cluster { id: "c".into() }]).unwrap().0;
        let mut controller =
            Controller::with_rules(Arc::new(image), BrokerSettings::default(), Rules::default());
        controller.lead(1, MonoMs::ZERO);
        let mut rig = Self { controller, now: MonoMs::ZERO };
        for id in brokers {
            let epoch = rig.register(*id, 1);
            assert!(!rig.beat(*id, epoch, false).fenced);
        }
        rig
    }

    fn ask(&mut self, request: &ControlRequest) -> ControlReply {
        let mut new_id = || TopicId([7; 16]);
        let mut step = self.controller.handle((), request, self.now, &mut new_id, &BTreeSet::new());
        let epoch = self.controller.epoch;
        let commit =
            |change: Decided| Commit { offset: change.image.version, epoch, records: change.records };
        let commits: Vec<Commit> = std::mem::take(&mut step.propose).into_iter().map(commit).collect();
        step.answers.extend(self.controller.on_committed(&commits).answers);
        step.answers.pop().expect("an answer").1
    }

    fn register(&mut self, id: BrokerId, life: u8) -> BrokerEpoch {
        let registration = Registration {
            cluster: "c".into(),
            id: Some(id),
            incarnation: [life; 16],
            directory: [id as u8; 16],
            endpoints: vec![Endpoint { listener: "L".into(), host: "h".into(), port: 1, security: 0 }],
            rack: None,
            shards: 1,
            features: features::supported(),
            build: String::new(),
            stopped_in: None,
            needs_repair: Vec::new(),
        };
        match self.ask(&ControlRequest::Register(Box::new(registration))) {
            ControlReply::Registered { epoch, .. } => epoch,
            other => panic!("{other:?}"),
        }
    }

    fn send(&mut self, beat: Heartbeat) -> Heard {
        match self.ask(&ControlRequest::Heartbeat(beat)) {
            ControlReply::Heard(heard) => heard,
            other => panic!("{other:?}"),
        }
    }

    fn beat(&mut self, id: BrokerId, epoch: BrokerEpoch, wants_shutdown: bool) -> Heard {
        let applied = self.controller.image().version;
        self.send(Heartbeat { id, epoch, applied, wants_shutdown, ..Heartbeat::default() })
    }

    fn epoch(&self, id: BrokerId) -> BrokerEpoch {
        self.controller.image().broker(id).unwrap().epoch
    }

    fn create(&mut self, replicas: &[BrokerId]) -> PartitionId {
        let mut topic = NewTopic::named("t");
        topic.assignments = vec![(0, replicas.to_vec())];
        let made = self.ask(&ControlRequest::CreateTopics { topics: vec![topic], validate_only: false });
        let ControlReply::CreateTopics(made) = made else { panic!("{made:?}") };
        PartitionId { topic: made[0].as_ref().unwrap().id, index: 0 }
    }

    fn partition(&self, id: PartitionId) -> Partition {
        self.controller.image().partition(id).unwrap().clone()
    }

    fn alter(&self, id: PartitionId, isr: &[BrokerId]) -> AlterPartitions {
        let partition = self.partition(id);
        let leader = partition.leader.unwrap();
        let change = IsrChange {
            id,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: isr.iter().map(|id| (*id, self.epoch(*id))).collect(),
            recovering: false,
        };
        let (epoch, applied) = (self.epoch(leader), self.controller.image().version);
        AlterPartitions { broker: leader, epoch, applied, changes: vec![change] }
    }

    fn propose(&mut self, asked: &AlterPartitions) -> Result<PartitionState, IsrRefusal> {
        match self.ask(&ControlRequest::AlterPartitions(asked.clone())) {
            ControlReply::AlteredPartitions(mut results) => results.remove(0),
            other => panic!("{other:?}"),
        }
    }
}

fn fence(id: BrokerId, epoch: BrokerEpoch, applied: u64) -> Heartbeat {
    Heartbeat { id, epoch, applied, wants_fence: true, ..Heartbeat::default() }
}

#[test]
fn a_copy_of_a_refused_proposal_is_refused_for_good() {
    let mut rig = Rig::new(&[1, 2]);
    let id = rig.create(&[1, 2]);
    let shrunk = rig.alter(id, &[1]);
    rig.propose(&shrunk).unwrap();
    let grown = rig.alter(id, &[1, 2]);
    let (epoch, applied) = (rig.epoch(2), rig.controller.image().version);
    assert!(rig.send(fence(2, epoch, applied)).fenced);
    assert_eq!(rig.propose(&grown), Err(IsrRefusal::IneligibleReplica));
    // From here on the leader commits without it, and its partition is as it was when it asked.
    assert!(!rig.beat(2, epoch, false).fenced);
    assert_eq!(rig.propose(&grown), Err(IsrRefusal::NotAttempted), "a copy that comes late");
    assert_eq!(rig.partition(id).isr().collect::<Vec<_>>(), [1]);
    let again = rig.alter(id, &[1, 2]);
    assert_eq!(rig.propose(&again).unwrap().isr, [1, 2], "by what it knows now");
}

#[test]
fn who_was_taken_at_its_word_is_not_told_that_it_was_not() {
    let mut rig = Rig::new(&[1, 2]);
    let id = rig.create(&[1, 2]);
    let shrunk = rig.alter(id, &[1]);
    rig.propose(&shrunk).unwrap();
    let grown = rig.alter(id, &[1, 2]);
    rig.propose(&grown).unwrap();
    // The answer is lost, and the next controller does not know what its leader knows.
    rig.controller.lead(2, rig.now);
    assert_eq!(rig.propose(&grown), Err(IsrRefusal::InvalidUpdateVersion));
    let other = rig.alter(id, &[1]);
    let behind = AlterPartitions { applied: other.applied - 1, ..other };
    assert_eq!(rig.propose(&behind), Err(IsrRefusal::NotAttempted), "nothing can have come of this");
}

#[test]
fn what_was_lost_is_not_waited_for() {
    let mut rig = Rig::new(&[1, 2]);
    let id = rig.create(&[1, 2]);
    let shrunk = rig.alter(id, &[1]);
    rig.propose(&shrunk).unwrap();
    let why = ControlError::new(Kind::Unavailable, "the disk");
    let (epoch, applied) = (rig.epoch(2), rig.controller.image().version);
    assert!(rig.send(fence(2, epoch, applied)).fenced);
    let change = crate::controller::ConfigChange {
        name: "min.insync.replicas".into(),
        op: crate::controller::ConfigOp::Set("1".into()),
    };
    let lost = [
        ControlRequest::IncrementalAlterConfigs {
            resources: vec![(crate::controller::ConfigResource::Broker(None), vec![change])],
            validate_only: false,
        },
        ControlRequest::ProducerIds { broker: 1, epoch: rig.epoch(1) },
    ];
    for request in lost {
        let mut new_id = || TopicId([8; 16]);
        let step = rig.controller.handle((), &request, rig.now, &mut new_id, &BTreeSet::new());
        assert_eq!((step.propose.len(), step.answers.len()), (1, 0));
    }
    assert_eq!(rig.controller.on_lost(&why).len(), 2);
    assert!(!rig.beat(2, epoch, false).fenced);
    let grown = rig.alter(id, &[1, 2]);
    assert_eq!(rig.propose(&grown).unwrap().isr, [1, 2]);
}

#[test]
fn who_has_asked_to_stop_stops_whatever_it_says_after() {
    let mut rig = Rig::new(&[1, 2]);
    let id = rig.create(&[2, 1]);
    let epoch = rig.epoch(2);
    assert!(!rig.beat(2, epoch, true).may_stop, "others do not know yet who leads");
    assert_eq!(rig.partition(id).leader, Some(1));
    assert!(!rig.beat(2, epoch, false).may_stop);
    rig.beat(1, rig.epoch(1), false);
    assert!(rig.beat(2, epoch, false).may_stop, "an older heartbeat, which knew nothing of it yet");
    let stopped = |rig: &Rig| {
        let broker = rig.controller.image().broker(2).unwrap();
        (broker.fenced, broker.shutting_down)
    };
    assert_eq!(stopped(&rig), (true, true));
    let version = rig.controller.image().version;
    assert!(rig.beat(2, epoch, false).may_stop && rig.beat(2, epoch, true).may_stop);
    assert_eq!((stopped(&rig), rig.controller.image().version), ((true, true), version), "it does not flap");
    rig.controller.sessions.end(2);
    let next = rig.register(2, 2);
    assert_eq!(rig.beat(2, next, false), Heard { caught_up: true, fenced: false, may_stop: false });
}

#[test]
fn who_leads_nothing_or_is_fenced_stops_at_once_and_for_good() {
    let mut rig = Rig::new(&[1, 2, 3]);
    let (two, three) = (rig.epoch(2), rig.epoch(3));
    assert!(rig.beat(2, two, true).may_stop);
    assert!(rig.beat(2, two, false).fenced);
    let applied = rig.controller.image().version;
    assert!(rig.send(fence(3, three, applied)).fenced);
    assert!(rig.beat(3, three, true).may_stop);
    assert!(rig.beat(3, three, false).fenced, "it is not unfenced any more");
    // To be fenced and to stop may be one wish.
    let mut rig = Rig::new(&[1, 2]);
    let (epoch, applied) = (rig.epoch(2), rig.controller.image().version);
    let both = Heartbeat { wants_shutdown: true, ..fence(2, epoch, applied) };
    assert!(rig.send(both).may_stop && rig.beat(2, epoch, false).fenced);
}
