use super::super::errors::ApplyError;
use super::super::records::{Bracket, Record};
use super::*;

const A: TopicId = TopicId([1; 16]);

fn id(n: u8) -> TopicId {
    TopicId([n; 16])
}

fn topic(n: u8, name: &str, partitions: i32) -> Vec<Record> {
    let mut records = vec![Record::Topic { id: id(n), name: name.into() }];
    records.extend((0..partitions).map(|index| Record::new_partition(id(n), index, &[1])));
    records
}

fn config(owner: Owner, name: &str, value: Option<&str>) -> Record {
    Record::Config { owner, name: name.into(), value: value.map(Into::into) }
}

fn with(image: &Image, records: &[Record]) -> Image {
    image.with(records).unwrap().0
}

fn start() -> Image {
    with(&Image::empty(), &[Record::Cluster { id: "c".into() }])
}

#[test]
fn topics_come_and_go() {
    let image = with(&start(), &[topic(1, "b", 2), topic(2, "a", 1)].concat());
    let names: Vec<_> = image.topics().map(|t| t.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(image.topics_from("aa").count(), 1);
    assert_eq!(image.topic("b").unwrap().partitions.len(), 2);
    assert_eq!(&*image.topic_by_id(id(2)).unwrap().name, "a");
    assert_eq!((image.version, image.partition_count()), (2, 3));

    let next = with(&image, &[Record::TopicDeleted { id: A }]);
    assert!(next.topic("b").is_none() && next.topic_by_id(A).is_none());
    assert!(next.was_deleted(A) && !next.was_deleted(id(2)));
    assert_eq!(next.partition_count(), 1);
    assert!(image.topic("b").is_some(), "the old image is untouched");

    let again = with(&next, &topic(3, "b", 1));
    assert_eq!(again.topic("b").unwrap().id, id(3));
    assert_eq!(next.with(&topic(1, "b", 1)).unwrap_err(), ApplyError::TopicTwice(A));
}

#[test]
fn records_that_do_not_fit_are_errors() {
    let image = with(&start(), &topic(1, "a", 1));
    let none = id(9);
    let mut in_sync = Record::new_partition(A, 1, &[1]);
    if let Record::Partition { isr, .. } = &mut in_sync {
        *isr = vec![2];
    }
    let bad = [
        Record::Topic { id: A, name: "other".into() },
        Record::Topic { id: id(2), name: "a".into() },
        Record::Topic { id: TopicId::ZERO, name: "z".into() },
        Record::TopicDeleted { id: none },
        Record::new_partition(none, 0, &[1]),
        Record::new_partition(A, 1, &[]),
        Record::new_partition(A, 1, &[1, 1]),
        Record::new_partition(A, 0, &[1]),
        Record::new_partition(A, 2, &[1]),
        Record::new_partition(A, -1, &[1]),
        in_sync,
        Record::elected(A, 1, 1),
        Record::elected(A, -1, 1),
        Record::elected(A, 0, 2),
        config(Owner::Topic(none), "retention.ms", None),
        Record::BrokerChanged { id: 1, epoch: 1, fenced: None, draining: None, shutting_down: None },
        Record::BrokerUnregistered { id: 1, epoch: 1 },
    ];
    for record in bad {
        assert!(image.with(std::slice::from_ref(&record)).is_err(), "{record:?}");
        assert_eq!(image.topic("a").unwrap().partitions.len(), 1);
    }
    let mut broken = image.clone();
    assert!(broken.apply(&[Record::elected(A, 0, 2)]).is_err());
    assert!(broken.topic("a").is_some() && broken.topic_by_id(A).is_some(), "an error leaves no hole");
}

#[test]
fn a_snapshot_makes_the_same_image() {
    let changed = Record::PartitionChanged {
        topic: A,
        index: 1,
        leader: Some(Some(2)),
        replicas: Some(vec![1, 2, 3]),
        isr: Some(vec![2, 3]),
        elr: Some(vec![1]),
        adding: Some(vec![3]),
        removing: None,
        last_known: Some(Some(1)),
        recovering: Some(true),
    };
    let image = with(&start(), &[topic(1, "a", 2), topic(2, "b", 1), topic(3, "c", 1)].concat());
    let registered = super::super::records::tests::samples().into_iter();
    let registered = registered.filter(|record| matches!(record, Record::BrokerRegistered { .. }));
    let image = with(&image, &registered.collect::<Vec<_>>());
    let image = with(
        &image,
        &[
            changed,
            Record::FeatureLevel { name: "weir.version".into(), level: 1 },
            config(Owner::Topic(A), "retention.ms", Some("40")),
            config(Owner::EveryBroker, "log.segment.bytes", Some("2000000")),
            config(Owner::Group("g".into()), "x", None),
            Record::ProducerIds { next: 3000 },
            Record::TopicDeleted { id: id(3) },
            Record::TopicRf { topic: A, auto: true },
            Record::Large { part: Bracket::Begin },
            Record::elected(A, 0, 1),
        ],
    );
    let copy = with(&Image::empty(), &image.snapshot());
    assert_eq!(copy.snapshot(), image.snapshot());
    assert_eq!(&*copy.cluster_id, "c");
    let partition = copy.partition(PartitionId { topic: A, index: 1 }).unwrap();
    assert_eq!(Some(partition), image.partition(PartitionId { topic: A, index: 1 }));
    assert_eq!((partition.leader, partition.leader_epoch.0, partition.partition_epoch.0), (Some(2), 1, 1));
    assert_eq!((partition.last_known(), partition.recovering), (Some(1), true));
    assert!(copy.topic_by_id(A).unwrap().factor_auto && copy.is_bracketed());
    assert_eq!(copy.brokers().next(), image.brokers().next());
    assert!(copy.was_deleted(id(3)) && copy.overrides.len() == 1);
    assert_eq!(copy.partition_count(), image.partition_count());
}

#[test]
fn memory_of_deleted_topics_is_bounded() {
    const MANY: u64 = 10_010;
    let of = |n: u64| {
        let mut id = [1; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        TopicId(id)
    };
    let image = with(&start(), &[Record::DeletedTopics { ids: (0..MANY).map(of).collect() }]);
    let Some(Record::DeletedTopics { ids }) = image.snapshot().pop() else { panic!("the last record") };
    assert_eq!((ids.len(), ids[0]), (10_000, of(10)), "the oldest are forgotten");
    assert!(image.forgets() && !image.was_deleted(of(9)) && image.was_deleted(of(10)));
}

#[test]
fn an_override_that_is_the_last_takes_its_owner_along() {
    let image = with(&start(), &[config(Owner::Broker(1), "a", Some("b"))]);
    assert_eq!(image.broker_override(1, "a"), Some((Owner::Broker(1), "b")));
    assert!(with(&image, &[config(Owner::Broker(1), "a", None)]).overrides.is_empty());
}

#[test]
fn a_large_change_is_there_at_its_end_or_never() {
    let large = |part| Record::Large { part };
    let image = with(&start(), &topic(1, "a", 1));
    let epoch = |image: &Image| image.topic_by_id(A).unwrap().partitions[0].leader_epoch.0;
    let (open, delta) = image.with(&[large(Bracket::Begin), Record::elected(A, 0, 1)]).unwrap();
    assert!(delta.is_empty() && open.is_bracketed() && epoch(&open) == 0);
    let more = with(&open, &[Record::elected(A, 0, 1)]);
    assert_eq!((epoch(&more), more.version), (0, image.version + 2));
    let (done, delta) = more.with(&[Record::elected(A, 0, 1), large(Bracket::End)]).unwrap();
    assert_eq!((epoch(&done), delta.partitions.len(), done.is_bracketed()), (3, 1, false));
    let after = [large(Bracket::Abort), Record::elected(A, 0, 1)];
    assert_eq!(epoch(&with(&more, &after)), 1, "only what came after it");
    for wrong in [Bracket::End, Bracket::Abort] {
        assert!(image.with(&[large(wrong)]).is_err());
    }
    assert!(open.with(&[large(Bracket::Begin)]).is_err());
}

#[test]
fn eligible_leaders_are_forgotten_where_something_may_have_been_committed_since() {
    let shrunk = |index, leader: Option<BrokerId>| Record::PartitionChanged {
        topic: A,
        index,
        leader: Some(leader),
        replicas: Some(vec![1, 2]),
        isr: Some(leader.into_iter().collect()),
        elr: Some(vec![2]),
        adding: None,
        removing: None,
        last_known: None,
        recovering: None,
    };
    let image = with(&start(), &[topic(1, "a", 2), vec![shrunk(0, Some(1)), shrunk(1, None)]].concat());
    let elr = |image: &Image| [0, 1].map(|at| image.topic_by_id(A).unwrap().partitions[at].elr().count());
    for (topic, led, left) in [(Some(A), true, [0, 1]), (None, true, [0, 1]), (None, false, [0, 0])] {
        let (cleared, delta) = image.with(&[Record::ClearElr { topic, led }]).unwrap();
        assert_eq!((elr(&cleared), delta.partitions.len()), (left, 2 - left[1]));
    }
}
