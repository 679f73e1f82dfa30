use std::fs;

use super::*;
use crate::controller::request::{ConfigChange, ConfigOp, ConfigResource, NewPartitions, NewTopic, TopicRef};
use crate::controller::request::{ControlErrorKind as Kind, ProducerIdBlock};
use crate::metadata::{Resolver, Topic};
use crate::model::BrokerEpoch;

struct Rig {
    dir: tempfile::TempDir,
    settings: BrokerSettings,
    controller: Desk,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = BrokerSettings::default();
        let controller = Desk::open(dir.path(), &settings).unwrap();
        Self { dir, settings, controller }
    }

    fn reopen(&mut self) {
        self.controller = Desk::open(self.dir.path(), &self.settings).unwrap();
    }

    fn ask(&mut self, request: ControlRequest) -> ControlReply {
        self.controller.handle(&request)
    }

    fn create(&mut self, topics: Vec<NewTopic>) -> Vec<Result<Arc<Topic>, ControlError>> {
        match self.ask(ControlRequest::CreateTopics { topics, validate_only: false }) {
            ControlReply::CreateTopics(results) => results,
            other => panic!("{other:?}"),
        }
    }

    fn create_error(&mut self, topic: NewTopic) -> (Kind, String) {
        let error = self.create(vec![topic]).remove(0).unwrap_err();
        (error.kind, error.message)
    }

    fn configs(&mut self, request: ControlRequest) -> Vec<Result<(), ControlError>> {
        match self.ask(request) {
            ControlReply::AlterConfigs(results) => results,
            other => panic!("{other:?}"),
        }
    }

    fn change(&mut self, resource: ConfigResource, name: &str, op: ConfigOp) -> Result<(), ControlError> {
        let resources = vec![(resource, vec![ConfigChange { name: name.into(), op }])];
        self.configs(ControlRequest::IncrementalAlterConfigs { resources, validate_only: false }).remove(0)
    }
}

fn topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic { partitions, ..NewTopic::named(name) }
}

#[test]
fn topics_survive_a_restart() {
    let mut rig = Rig::new();
    let cluster = rig.controller.image().cluster_id.clone();
    assert_eq!(cluster.len(), 22);
    let mut new = topic("orders", 3);
    new.configs = vec![("retention.ms".into(), Some("60000".into()))];
    let made = rig.create(vec![new, NewTopic::named("events")]);
    let orders = made[0].as_ref().unwrap();
    assert_eq!((orders.partitions.len(), orders.overrides["retention.ms"].as_str()), (3, "60000"));
    assert_eq!(made[1].as_ref().unwrap().partitions.len(), 1);
    let id = orders.id;
    rig.reopen();
    let image = rig.controller.image();
    let orders = image.topic("orders").unwrap();
    assert_eq!((orders.id, orders.overrides["retention.ms"].as_str()), (id, "60000"));
    assert_eq!(orders.partitions[0].leader_epoch.0, 1, "a new life leads in a new epoch");
    assert_eq!(image.cluster_id, cluster);
}

#[test]
fn what_cannot_be_created_says_why() {
    let mut rig = Rig::new();
    rig.create(vec![topic("a.b", 1)]).remove(0).unwrap();
    let with = |edit: fn(&mut NewTopic)| {
        let mut topic = NewTopic::named("t");
        edit(&mut topic);
        topic
    };
    let cases = [
        (topic("a.b", 1), Kind::TopicExists),
        (topic("a_b", 1), Kind::InvalidTopic),
        (topic("", 1), Kind::InvalidTopic),
        (topic("a/b", 1), Kind::InvalidTopic),
        (topic("t", 0), Kind::InvalidPartitions),
        (topic("t", -2), Kind::InvalidPartitions),
        (topic("t", i32::MAX), Kind::TooManyPartitions),
        (with(|t| t.replication_factor = 3), Kind::InvalidReplicationFactor),
        (with(|t| t.replication_factor = 0), Kind::InvalidReplicationFactor),
        (with(|t| t.configs = vec![("nope".into(), Some("1".into()))]), Kind::InvalidConfig),
        (with(|t| t.configs = vec![("retention.ms".into(), Some("x".into()))]), Kind::InvalidConfig),
        (with(|t| t.configs = vec![("retention.ms".into(), None)]), Kind::InvalidConfig),
        (with(|t| t.assignments = vec![(0, vec![2])]), Kind::InvalidReplicaAssignment),
        (with(|t| t.assignments = vec![(0, vec![])]), Kind::InvalidReplicaAssignment),
        (with(|t| t.assignments = vec![(0, vec![1, 1])]), Kind::InvalidReplicaAssignment),
        (with(|t| t.assignments = vec![(1, vec![1])]), Kind::InvalidReplicaAssignment),
        (with(|t| t.assignments = vec![(0, vec![1]), (0, vec![1])]), Kind::InvalidReplicaAssignment),
        (
            with(|t| {
                t.assignments = vec![(0, vec![1])];
                t.partitions = 1;
            }),
            Kind::InvalidRequest,
        ),
    ];
    for (topic, kind) in cases {
        let shown = format!("{topic:?}");
        assert_eq!(rig.create_error(topic).0, kind, "{shown}");
    }
    let twice = rig.create(vec![topic("x", 1), topic("x", 1), topic("y.z", 1), topic("y_z", 1)]);
    let kinds: Vec<_> = twice.iter().map(|r| r.as_ref().err().map(|e| e.kind)).collect();
    let repeated = Some(Kind::InvalidRequest);
    assert_eq!(kinds, [repeated, repeated, None, Some(Kind::InvalidTopic)]);
}

#[test]
fn assignments_are_taken_in_any_order() {
    let mut rig = Rig::new();
    let mut new = NewTopic::named("t");
    new.assignments = vec![(1, vec![1]), (0, vec![1])];
    assert_eq!(rig.create(vec![new]).remove(0).unwrap().partitions.len(), 2);
}

#[test]
fn validation_changes_nothing() {
    let mut rig = Rig::new();
    let request = ControlRequest::CreateTopics { topics: vec![topic("t", 4)], validate_only: true };
    let ControlReply::CreateTopics(results) = rig.ask(request) else { panic!() };
    assert_eq!(results[0].as_ref().unwrap().partitions.len(), 4);
    assert_eq!(rig.controller.image().topics().len(), 0);
    rig.reopen();
    assert_eq!(rig.controller.image().topics().len(), 0);
}

#[test]
fn topics_are_deleted_by_name_or_id_once() {
    let mut rig = Rig::new();
    let ids: Vec<_> = rig
        .create(vec![topic("a", 1), topic("b", 1), topic("c", 1)])
        .into_iter()
        .map(|t| t.unwrap().id)
        .collect();
    let topics = vec![
        TopicRef::Name("a".into()),
        TopicRef::Id(ids[1]),
        TopicRef::Name("c".into()),
        TopicRef::Id(ids[2]),
        TopicRef::Name("nope".into()),
        TopicRef::Id(TopicId([1; 16])),
    ];
    let ControlReply::DeleteTopics(results) = rig.ask(ControlRequest::DeleteTopics { topics }) else {
        panic!()
    };
    let kinds: Vec<_> = results.iter().map(|r| r.as_ref().err().map(|e| e.kind)).collect();
    let twice = Some(Kind::InvalidRequest);
    assert_eq!(kinds, [None, None, twice, twice, Some(Kind::UnknownTopic), Some(Kind::UnknownTopicId)]);
    rig.reopen();
    let image = rig.controller.image();
    assert_eq!(image.topics().map(|t| t.name.to_string()).collect::<Vec<_>>(), ["c"]);
    assert!(image.was_deleted(ids[0]) && image.was_deleted(ids[1]) && !image.was_deleted(ids[2]));
}

#[test]
fn partitions_only_grow() {
    let mut rig = Rig::new();
    rig.create(vec![topic("t", 2)]).remove(0).unwrap();
    let mut grow = |name: &str, total, assignments| {
        let topics = vec![NewPartitions { topic: name.into(), total, assignments }];
        match rig.ask(ControlRequest::CreatePartitions { topics, validate_only: false }) {
            ControlReply::CreatePartitions(mut results) => results.remove(0).map_err(|e| e.kind),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(grow("t", 2, None), Err(Kind::InvalidPartitions));
    assert_eq!(grow("t", 1, None), Err(Kind::InvalidPartitions));
    assert_eq!(grow("t", -1, None), Err(Kind::InvalidPartitions));
    assert_eq!(grow("t", i32::MAX, None), Err(Kind::TooManyPartitions));
    assert_eq!(grow("u", 3, None), Err(Kind::UnknownTopic));
    assert_eq!(grow("t", 4, Some(vec![vec![1]])), Err(Kind::InvalidReplicaAssignment));
    assert_eq!(grow("t", 3, Some(vec![vec![2]])), Err(Kind::InvalidReplicaAssignment));
    assert_eq!(grow("t", 3, Some(vec![vec![1]])), Ok(()));
    assert_eq!(grow("t", 5, None), Ok(()));
    rig.reopen();
    assert_eq!(rig.controller.image().topic("t").unwrap().partitions.len(), 5);
}

#[test]
fn configs_change_one_by_one() {
    let mut rig = Rig::new();
    rig.create(vec![topic("t", 1)]).remove(0).unwrap();
    let t = || ConfigResource::Topic("t".into());
    let set = |value: &str| ConfigOp::Set(value.into());
    rig.change(t(), "retention.ms", set("5")).unwrap();
    rig.change(t(), "cleanup.policy", ConfigOp::Append("compact".into())).unwrap();
    let overrides = |rig: &Rig| rig.controller.image().topic("t").unwrap().overrides.clone();
    assert_eq!(overrides(&rig)["cleanup.policy"], "delete,compact", "appends to the default");
    rig.change(t(), "cleanup.policy", ConfigOp::Subtract("delete".into())).unwrap();
    assert_eq!(overrides(&rig)["cleanup.policy"], "compact");
    rig.change(t(), "retention.ms", ConfigOp::Delete).unwrap();
    assert!(!overrides(&rig).contains_key("retention.ms"));

    let kind = |result: Result<(), ControlError>| result.unwrap_err().kind;
    assert_eq!(kind(rig.change(t(), "retention.ms", ConfigOp::Append("5".into()))), Kind::InvalidConfig);
    assert_eq!(kind(rig.change(t(), "nope", set("5"))), Kind::InvalidConfig);
    assert_eq!(kind(rig.change(t(), "min.compaction.lag.ms", set("-5"))), Kind::InvalidConfig);
    rig.change(t(), "max.compaction.lag.ms", set("10")).unwrap();
    assert_eq!(kind(rig.change(t(), "min.compaction.lag.ms", set("50"))), Kind::InvalidConfig);
    let none = ConfigResource::Topic("none".into());
    assert_eq!(kind(rig.change(none, "retention.ms", set("5"))), Kind::UnknownTopic);
    let other = ConfigResource::Broker(Some(7));
    assert_eq!(kind(rig.change(other, "log.retention.ms", set("5"))), Kind::InvalidRequest);
    let own = || ConfigResource::Broker(Some(1));
    assert_eq!(kind(rig.change(own(), "num.partitions", set("5"))), Kind::InvalidRequest);
    assert_eq!(kind(rig.change(own(), "rubbish", set("5"))), Kind::InvalidRequest);
    rig.change(own(), "log.retention.ms", set("77")).unwrap();
    rig.change(ConfigResource::Broker(None), "log.segment.bytes", set("1048576")).unwrap();
    rig.reopen();
    let image = rig.controller.image();
    let config = Resolver::new(&rig.settings).topic(&image, &image.topic("t").unwrap().overrides);
    assert_eq!((config.retention_ms, config.segment_bytes), (77, 1_048_576));
}

#[test]
fn configs_are_replaced_as_a_whole() {
    let mut rig = Rig::new();
    rig.create(vec![topic("t", 1)]).remove(0).unwrap();
    let replace = |values: &[(&str, &str)], validate_only| ControlRequest::AlterConfigs {
        resources: vec![(
            ConfigResource::Topic("t".into()),
            values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        )],
        validate_only,
    };
    let overrides = |rig: &Rig| -> Vec<String> {
        rig.controller.image().topic("t").unwrap().overrides.keys().cloned().collect()
    };
    rig.configs(replace(&[("retention.ms", "1"), ("segment.ms", "2")], false)).remove(0).unwrap();
    assert_eq!(overrides(&rig), ["retention.ms", "segment.ms"]);
    rig.configs(replace(&[], true)).remove(0).unwrap();
    assert_eq!(overrides(&rig).len(), 2);
    rig.configs(replace(&[("flush.ms", "9")], false)).remove(0).unwrap();
    assert_eq!(overrides(&rig), ["flush.ms"]);
    let twice = rig.configs(replace(&[("flush.ms", "9"), ("flush.ms", "8")], false)).remove(0);
    assert_eq!(twice.unwrap_err().kind, Kind::InvalidRequest);
}

#[test]
fn producer_ids_are_given_once() {
    let mut rig = Rig::new();
    let mut block = |broker, ago| {
        let epoch = BrokerEpoch(rig.controller.image().broker(1).unwrap().epoch.0 - ago);
        match rig.ask(ControlRequest::ProducerIds { broker, epoch }) {
            ControlReply::ProducerIds(result) => result.map_err(|error| error.kind),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(block(1, 0), Ok(ProducerIdBlock { first: 0, len: 1000 }));
    assert_eq!(block(1, 0), Ok(ProducerIdBlock { first: 1000, len: 1000 }));
    assert_eq!(block(1, 1), Err(Kind::StaleBrokerEpoch));
    assert_eq!(block(2, 0), Err(Kind::BrokerNotRegistered));
    rig.reopen();
    let epoch = rig.controller.image().broker(1).unwrap().epoch;
    let ControlReply::ProducerIds(Ok(block)) = rig.ask(ControlRequest::ProducerIds { broker: 1, epoch })
    else {
        panic!()
    };
    assert_eq!(block.first, 2000);
}

#[test]
fn another_brokers_directory_is_refused() {
    let mut rig = Rig::new();
    rig.create(vec![topic("t", 1)]).remove(0).unwrap();
    rig.settings.broker_id = 2;
    let error = Desk::open(rig.dir.path(), &rig.settings).err().unwrap().to_string();
    assert!(error.contains("belongs to broker 1"), "{error}");
}

#[test]
fn many_changes_keep_the_log_small() {
    let mut rig = Rig::new();
    rig.create(vec![topic("t", 1)]).remove(0).unwrap();
    let value = |i: usize| format!("{}:1", "9".repeat(1 + i % 9)) + &",1:1".repeat(8000);
    for i in 0..120 {
        let op = ConfigOp::Set(value(i));
        rig.change(ConfigResource::Topic("t".into()), "leader.replication.throttled.replicas", op).unwrap();
    }
    let size: u64 = fs::read_dir(rig.dir.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(size < 3 << 20, "{size}");
    rig.reopen();
    let image = rig.controller.image();
    assert_eq!(image.topic("t").unwrap().overrides["leader.replication.throttled.replicas"], value(119));
}

#[test]
fn nothing_is_created_where_other_files_are() {
    let mut rig = Rig::new();
    let home = rig.dir.path().join("topics");
    rig.settings.log_dir = home.display().to_string();
    rig.reopen();
    rig.create(vec![topic("grown", 1)]).remove(0).unwrap();
    for name in ["taken-2", "empty-0", "grown-1", "other-5"] {
        fs::create_dir_all(home.join(name)).unwrap();
    }
    for name in ["taken-2", "grown-1", "other-5"] {
        fs::write(home.join(name).join("file"), "x").unwrap();
    }
    let (kind, why) = rig.create_error(topic("taken", 3));
    assert!(kind == Kind::Occupied && why.contains("taken-2 has files"), "{why}");
    for free in [topic("taken", 2), topic("empty", 1), topic("other", 5)] {
        rig.create(vec![free]).remove(0).unwrap();
    }
    let topics = vec![NewPartitions { topic: "grown".into(), total: 2, assignments: None }];
    let reply = rig.ask(ControlRequest::CreatePartitions { topics, validate_only: false });
    let ControlReply::CreatePartitions(results) = reply else { panic!("{reply:?}") };
    assert_eq!(results[0].as_ref().unwrap_err().kind, Kind::Occupied);
}

const EPOCH: i32 = 4;

/// A controller whose answers go to numbers.
fn pure() -> Controller<u32> {
    let image = Desk::in_memory(&BrokerSettings::default()).image();
    let mut controller = Controller::new(image, BrokerSettings::default());
    controller.lead(EPOCH, MonoMs::ZERO);
    controller
}

fn handle(controller: &mut Controller<u32>, to: u32, request: ControlRequest) -> Step<u32> {
    controller.handle(to, &request, MonoMs::ZERO, &mut crate::metadata::new_id, &BTreeSet::new())
}

fn creation(name: &str) -> ControlRequest {
    ControlRequest::CreateTopics { topics: vec![topic(name, 2)], validate_only: false }
}

/// Commits of what this controller proposed.
fn own(controller: &Controller<u32>, offsets: std::ops::RangeInclusive<u64>) -> Vec<Commit> {
    let pending = controller.pending.iter().filter(|pending| offsets.contains(&pending.image.version));
    let commit = |pending: &Pending<u32>| Commit {
        offset: pending.image.version,
        epoch: pending.epoch,
        records: pending.records.clone(),
    };
    pending.map(commit).collect()
}

fn told(answers: &[(u32, ControlReply)]) -> Vec<u32> {
    answers.iter().map(|(to, _)| *to).collect()
}

#[test]
fn nothing_is_answered_or_seen_before_it_is_committed() {
    let mut controller = pure();
    let before = controller.image().version;
    let step = handle(&mut controller, 1, creation("a"));
    assert!(step.propose.len() == 1 && step.answers.is_empty());
    assert!(controller.image().topic("a").is_none());
    // Decided on what is proposed, and so not to be told before that is committed.
    let again = handle(&mut controller, 2, creation("a"));
    assert!(again.propose.is_empty() && again.answers.is_empty(), "that it exists may be undone");
    let other = handle(&mut controller, 3, creation("b"));
    assert!(other.propose.len() == 1);
    let commits = own(&controller, before + 1..=before + 1);
    let settled = controller.on_committed(&commits);
    assert_eq!(told(&settled.answers), [1, 2]);
    assert!(
        matches!(&settled.answers[1].1, ControlReply::CreateTopics(r) if r[0].as_ref().unwrap_err().kind == Kind::TopicExists)
    );
    assert!(settled.image.topic("a").is_some() && settled.image.topic("b").is_none());
    assert_eq!((settled.image.version, settled.delta.partitions.len()), (before + 1, 2));
    let commits = own(&controller, before + 2..=before + 2);
    assert_eq!(told(&controller.on_committed(&commits).answers), [3]);
    let now = handle(&mut controller, 4, creation("a"));
    assert_eq!(told(&now.answers), [4], "nothing is open: it is told at once");
}

#[test]
fn a_group_is_one_image_and_one_delta() {
    let mut controller = pure();
    let before = controller.image().version;
    for (to, name) in (1..).zip(["a", "b", "c"]) {
        handle(&mut controller, to, creation(name));
    }
    let gone = ControlRequest::DeleteTopics { topics: vec![TopicRef::Name("b".into())] };
    handle(&mut controller, 4, gone);
    assert_eq!(controller.deleting().collect::<Vec<_>>(), ["b"]);
    let commits = own(&controller, before + 1..=before + 4);
    let settled = controller.on_committed(&commits);
    assert_eq!(told(&settled.answers), [1, 2, 3, 4]);
    let local = settled.delta.local(1, &settled.image);
    assert_eq!((local.leaders.len(), local.deleted.len()), (4, 1));
    assert_eq!(controller.deleting().count(), 0);
    assert!(controller.on_committed(&[]).answers.is_empty());
}

#[test]
fn what_is_lost_was_never_decided() {
    let mut controller = pure();
    handle(&mut controller, 1, creation("a"));
    handle(&mut controller, 2, creation("a"));
    let why = ControlError::new(Kind::Unavailable, "the disk");
    let answers = controller.on_lost(&why);
    assert_eq!(told(&answers), [1, 2]);
    assert!(answers.iter().all(|(_, reply)| matches!(reply, ControlReply::Failed(e) if *e == why)));
    let step = handle(&mut controller, 3, creation("a"));
    assert!(step.propose.len() == 1, "its name is free again");
}

#[test]
fn what_others_commit_is_followed_and_never_taken_for_ones_own() {
    let mut controller = pure();
    let before = controller.image().version;
    let records = handle(&mut controller, 1, creation("a")).propose.remove(0).records;
    // Deposed: what was proposed may yet be committed, and whoever waits is told that nobody knows.
    let why = ControlError::new(Kind::NotController, "another leads");
    assert_eq!(told(&controller.on_lost(&why)), [1]);
    let others = [
        Commit { offset: before + 1, epoch: EPOCH + 1, records: Vec::new() },
        Commit { offset: before + 2, epoch: EPOCH + 1, records },
    ];
    let settled = controller.on_committed(&others);
    assert!(settled.answers.is_empty());
    assert_eq!((settled.image.version, settled.delta.partitions.len()), (before + 2, 2));
    // Leading again, it decides on what the other did.
    controller.lead(EPOCH + 2, MonoMs::ZERO);
    let again = handle(&mut controller, 2, creation("a"));
    assert!(again.propose.is_empty(), "its name is taken");
    assert_eq!(handle(&mut controller, 3, creation("b")).propose.len(), 1);
    let commits = own(&controller, before + 3..=before + 3);
    let settled = controller.on_committed(&commits);
    assert_eq!(told(&settled.answers), [3]);
    assert!(settled.image.topic("b").is_some() && settled.image.version == before + 3);
}

#[test]
fn a_snapshot_names_what_is_gone() {
    let mut controller = pure();
    let without = controller.image().clone();
    let before = without.version;
    handle(&mut controller, 1, creation("a"));
    let commits = own(&controller, before + 1..=before + 1);
    controller.on_committed(&commits);
    let settled = controller.on_snapshot(without);
    assert!(settled.delta.deleted.values().any(|topic| &*topic.name == "a"));
    assert!(controller.image().topic("a").is_none());
    assert_eq!(handle(&mut controller, 2, creation("a")).propose.len(), 1, "its name is free");
}

#[test]
fn places_are_those_of_new_partitions() {
    let mut controller = pure();
    handle(&mut controller, 1, creation("a"));
    let grow = ControlRequest::CreatePartitions {
        topics: vec![NewPartitions { topic: "a".into(), total: 4, assignments: None }],
        validate_only: false,
    };
    let place = |name: &str, index| (name.to_owned(), index);
    assert_eq!(controller.places(&grow), [place("a", 2), place("a", 3)]);
    assert_eq!(controller.places(&creation("b")), [place("b", 0), place("b", 1)]);
    assert!(controller.places(&creation("a")).is_empty(), "it is refused");
    let all = BTreeSet::from([place("b", 1)]);
    let step = controller.handle(2, &creation("b"), MonoMs::ZERO, &mut crate::metadata::new_id, &all);
    assert!(step.propose.is_empty());
}

#[test]
fn what_was_proposed_in_an_earlier_turn_of_the_same_epoch_is_not_taken_for_what_is_proposed_now() {
    let mut controller = pure();
    let (epoch, offset) = (controller.epoch, controller.image().version + 1);
    let earlier = handle(&mut controller, 1, creation("a")).propose.remove(0).records;
    controller.on_lost(&ControlError::new(Kind::NotController, "no majority hears this node"));
    let now = handle(&mut controller, 2, creation("b"));
    assert_eq!(now.propose.len(), 1);
    // The earlier one had reached the others all the same.
    let settled = controller.on_committed(&[Commit { offset, epoch, records: earlier }]);
    assert!(controller.image().topic("a").is_some() && controller.image().topic("b").is_none());
    assert_eq!(told(&settled.answers), [2]);
    assert!(matches!(settled.answers[0].1, ControlReply::Failed(_)));
    let again = handle(&mut controller, 3, creation("b")).propose.remove(0).records;
    let settled = controller.on_committed(&[Commit { offset: offset + 1, epoch, records: again }]);
    assert!(controller.image().topic("a").is_some() && controller.image().topic("b").is_some());
    assert_eq!(told(&settled.answers), [3]);
}
