use super::*;

fn topic(n: u8, name: &str, partitions: usize) -> Record {
    Record::Topic { id: TopicId([n; 16]), name: name.into(), replicas: vec![vec![1]; partitions] }
}

fn config(owner: Owner, name: &str, value: Option<&str>) -> Record {
    Record::Config { owner, name: name.into(), value: value.map(Into::into) }
}

fn start() -> Image {
    Image::empty(&BrokerSettings::default()).with(&[Record::Cluster { id: "c".into() }]).unwrap()
}

#[test]
fn topics_come_and_go() {
    let image = start().with(&[topic(1, "b", 2), topic(2, "a", 1)]).unwrap();
    let names: Vec<_> = image.topics().map(|t| t.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(image.topics_from("aa").count(), 1);
    assert_eq!(image.topic("b").unwrap().partitions.len(), 2);
    assert_eq!(&*image.topic_by_id(TopicId([2; 16])).unwrap().name, "a");
    assert_eq!((image.version, image.partition_count()), (2, 3));

    let next = image.with(&[Record::TopicDeleted { id: TopicId([1; 16]) }]).unwrap();
    assert!(next.topic("b").is_none() && next.topic_by_id(TopicId([1; 16])).is_none());
    assert!(next.was_deleted(TopicId([1; 16])) && !next.was_deleted(TopicId([2; 16])));
    assert!(image.topic("b").is_some(), "the old image is untouched");

    let again = next.with(&[topic(3, "b", 1)]).unwrap();
    assert_eq!(again.topic("b").unwrap().id, TopicId([3; 16]));
    assert_eq!(next.with(&[topic(1, "b", 1)]).unwrap_err(), ApplyError::TopicTwice(TopicId([1; 16])));
}

#[test]
fn records_that_do_not_fit_are_errors() {
    let image = start().with(&[topic(1, "a", 1)]).unwrap();
    let none = TopicId([9; 16]);
    let bad = [
        topic(1, "other", 1),
        topic(2, "a", 1),
        Record::Topic { id: TopicId::ZERO, name: "z".into(), replicas: vec![] },
        Record::Topic { id: none, name: "z".into(), replicas: vec![vec![]] },
        Record::TopicDeleted { id: none },
        Record::Partitions { topic: none, replicas: vec![] },
        config(Owner::Topic(none), "retention.ms", None),
    ];
    for record in bad {
        assert!(image.with(std::slice::from_ref(&record)).is_err(), "{record:?}");
    }
}

#[test]
fn configs_resolve_from_the_nearest_owner() {
    let mut settings = BrokerSettings::default();
    settings.topic_defaults.insert("retention.ms".into(), "10".into());
    let id = TopicId([1; 16]);
    let retention = |image: &Image| image.topic("a").unwrap().config.retention_ms;
    let image = Image::empty(&settings).with(&[topic(1, "a", 1)]).unwrap();
    assert_eq!(retention(&image), 10);
    let image = image.with(&[config(Owner::EveryBroker, "log.retention.ms", Some("20"))]).unwrap();
    assert_eq!(retention(&image), 20);
    let image = image.with(&[config(Owner::Broker(1), "log.retention.ms", Some("30"))]).unwrap();
    assert_eq!(retention(&image), 30);
    let image = image.with(&[config(Owner::Topic(id), "retention.ms", Some("40"))]).unwrap();
    assert_eq!(retention(&image), 40);
    let image = image.with(&[config(Owner::Broker(1), "log.retention.ms", None)]).unwrap();
    assert_eq!(retention(&image), 40);
    let image = image.with(&[config(Owner::Topic(id), "retention.ms", None)]).unwrap();
    assert_eq!(retention(&image), 20);
}

#[test]
fn a_start_raises_the_epochs_of_what_the_broker_leads() {
    let image = start().with(&[topic(1, "a", 2)]).unwrap();
    let image = image.with(&[Record::BrokerStarted { broker: 1 }]).unwrap();
    let image = image
        .with(&[
            Record::Partitions { topic: TopicId([1; 16]), replicas: vec![vec![1]] },
            Record::BrokerStarted { broker: 2 },
        ])
        .unwrap();
    let epochs: Vec<_> = image.topic("a").unwrap().partitions.iter().map(|p| p.leader_epoch).collect();
    assert_eq!(epochs, [1, 1, 0]);
}

#[test]
fn a_snapshot_makes_the_same_image() {
    let id = TopicId([1; 16]);
    let image = start()
        .with(&[topic(1, "a", 2), topic(2, "b", 1), topic(3, "c", 1)])
        .unwrap()
        .with(&[
            Record::BrokerStarted { broker: 1 },
            config(Owner::Topic(id), "retention.ms", Some("40")),
            config(Owner::EveryBroker, "log.segment.bytes", Some("2000000")),
            Record::ProducerIds { next: 3000 },
            Record::TopicDeleted { id: TopicId([3; 16]) },
        ])
        .unwrap();
    let copy = Image::empty(&BrokerSettings::default()).with(&image.snapshot()).unwrap();
    assert_eq!(copy.snapshot(), image.snapshot());
    assert_eq!(copy.cluster_id, "c");
    assert_eq!(copy.topic("a").unwrap().config.retention_ms, 40);
    assert_eq!(copy.topic("b").unwrap().config.segment_bytes, 2_000_000);
    assert_eq!(copy.topic("a").unwrap().partitions[1].leader_epoch, 1);
    assert!(copy.was_deleted(TopicId([3; 16])));
}

#[test]
fn memory_of_deleted_topics_is_bounded() {
    let mut image = start();
    for n in 0..(MAX_DELETED + 10) {
        let mut id = [1; 16];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        image.remember_deleted(TopicId(id));
    }
    assert_eq!(image.deleted.set.len(), MAX_DELETED);
    assert_eq!(image.deleted.order.len(), MAX_DELETED);
}
