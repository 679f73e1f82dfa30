//! librdkafka, a client that others wrote, through the paths that applications take.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::support::calls::{code, create, metadata_of};
use crate::support::{Wire, eventually, shared, unique};

type Sender = ThreadedProducer<DefaultProducerContext>;

const SOON: Duration = Duration::from_secs(20);

fn config(settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", shared().to_string()).set("broker.address.family", "v4");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

fn producer(settings: &[(&str, &str)]) -> Sender {
    config(settings).create().expect("a producer")
}

/// Waits until `count` messages of these partitions have come.
fn consume(topic: &str, partitions: i32, count: usize) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = config(&[
        ("group.id", "unused"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("fetch.message.max.bytes", "10000000"),
    ])
    .create()
    .expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("an assignment");
    }
    consumer.assign(&assignment).expect("assign");
    let started = Instant::now();
    let mut got = Vec::new();
    while got.len() < count {
        assert!(started.elapsed() < SOON, "{topic}: {} of {count} messages", got.len());
        if let Some(message) = consumer.poll(Duration::from_millis(200)) {
            got.push(message.expect("a message").detach());
        }
    }
    got
}

fn values(messages: &[OwnedMessage]) -> Vec<String> {
    messages.iter().map(|m| String::from_utf8_lossy(m.payload().unwrap_or_default()).into_owned()).collect()
}

#[test]
fn every_codec_and_every_ack() {
    for codec in ["none", "gzip", "snappy", "lz4"] {
        for acks in ["0", "1", "all"] {
            let topic = create(&mut Wire::connect(shared()), "rd-codec", 1, &[]).name;
            let sender = producer(&[("compression.type", codec), ("acks", acks), ("linger.ms", "5")]);
            let sent: Vec<String> =
                (0..500).map(|i| format!("{codec} {acks} {i}: {}", "pad ".repeat(10))).collect();
            for value in &sent {
                sender.send(BaseRecord::<(), _>::to(&topic).payload(value)).map_err(|e| e.0).expect("queued");
            }
            sender.flush(SOON).expect("flushed");
            assert_eq!(values(&consume(&topic, 1, sent.len())), sent, "{codec}, acks={acks}");
        }
    }
}

#[test]
fn keys_headers_and_timestamps_survive() {
    let topic = create(&mut Wire::connect(shared()), "rd-fields", 1, &[]).name;
    let sender = producer(&[]);
    let now = crate::support::batch::now_ms();
    let headers = || {
        OwnedHeaders::new()
            .insert(Header { key: "one", value: Some("1") })
            .insert(Header { key: "none", value: None::<&str> })
            .insert(Header { key: "one", value: Some("again") })
    };
    for i in 0..20i64 {
        let (key, value) = (format!("key-{i}"), format!("value-{i}"));
        let record = BaseRecord::to(&topic).key(&key).payload(&value).timestamp(now + i).headers(headers());
        sender.send(record).map_err(|e| e.0).expect("queued");
    }
    let tombstone = BaseRecord::<str, str>::to(&topic).key("gone").timestamp(now);
    sender.send(tombstone).map_err(|e| e.0).expect("queued");
    sender.flush(SOON).expect("flushed");
    let got = consume(&topic, 1, 21);
    for (i, message) in got[..20].iter().enumerate() {
        assert_eq!(message.key(), Some(format!("key-{i}").as_bytes()));
        assert_eq!(message.payload(), Some(format!("value-{i}").as_bytes()));
        assert_eq!(message.timestamp().to_millis(), Some(now + i as i64));
        assert_eq!(message.offset(), i as i64);
        let headers = message.headers().expect("headers");
        let seen: Vec<_> = headers.iter().map(|h| (h.key, h.value)).collect();
        assert_eq!(seen, [("one", Some(&b"1"[..])), ("none", None), ("one", Some(&b"again"[..]))]);
    }
    assert_eq!((got[20].key(), got[20].payload()), (Some(&b"gone"[..]), None), "a null value stays null");
}

#[test]
fn an_idempotent_producer_over_many_partitions() {
    const PARTITIONS: i32 = 16;
    let topic = create(&mut Wire::connect(shared()), "rd-idempotent", PARTITIONS, &[]).name;
    let sender = producer(&[
        ("enable.idempotence", "true"),
        ("linger.ms", "1"),
        ("batch.num.messages", "100"),
        ("max.in.flight.requests.per.connection", "5"),
    ]);
    for i in 0..20_000i32 {
        let value = i.to_string();
        let record = BaseRecord::<(), _>::to(&topic).partition(i % PARTITIONS).payload(&value);
        assert!(record.send_patiently(&sender), "message {i}");
    }
    sender.flush(SOON).expect("flushed");
    let mut by_partition: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for message in consume(&topic, PARTITIONS, 20_000) {
        let value = String::from_utf8_lossy(message.payload().expect("a value")).parse().expect("a number");
        by_partition.entry(message.partition()).or_default().push(value);
    }
    for partition in 0..PARTITIONS {
        let expected: Vec<i32> = (0..20_000).filter(|i| i % PARTITIONS == partition).collect();
        assert_eq!(by_partition[&partition], expected, "partition {partition}");
    }
}

/// `send` with a wait where librdkafka's own queue is full.
trait SendRetry {
    fn send_patiently(self, sender: &Sender) -> bool;
}

impl SendRetry for BaseRecord<'_, (), String> {
    fn send_patiently(self, sender: &Sender) -> bool {
        let mut record = self;
        for _ in 0..1_000 {
            match sender.send(record) {
                Ok(()) => return true,
                Err((_, back)) => record = back,
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

#[test]
fn large_messages() {
    let topic = create(&mut Wire::connect(shared()), "rd-large", 1, &[("max.message.bytes", "6000000")]).name;
    let sender = producer(&[("message.max.bytes", "6000000")]);
    let sent: Vec<Vec<u8>> = [5_000_000, 1, 2_000_000, 0, 999_999].map(|n| vec![(n % 251) as u8; n]).to_vec();
    for value in &sent {
        sender.send(BaseRecord::<(), _>::to(&topic).payload(value)).map_err(|e| e.0).expect("queued");
    }
    sender.flush(SOON).expect("flushed");
    let got = consume(&topic, 1, sent.len());
    for (message, sent) in got.iter().zip(&sent) {
        assert!(message.payload().unwrap_or_default() == sent, "{} bytes", sent.len());
    }
}

#[test]
fn a_topic_is_made_on_first_use() {
    let topic = unique("rd-auto");
    let sender = producer(&[("acks", "all")]);
    sender.send(BaseRecord::<(), _>::to(&topic).payload("first")).map_err(|e| e.0).expect("queued");
    sender.flush(SOON).expect("flushed");
    assert_eq!(values(&consume(&topic, 1, 1)), ["first"]);
}

#[test]
fn watermarks_and_offsets_for_times() {
    let topic = create(&mut Wire::connect(shared()), "rd-offsets", 1, &[]).name;
    let sender = producer(&[]);
    let base = crate::support::batch::now_ms() - 10_000;
    for i in 0..10 {
        let record = BaseRecord::<(), _>::to(&topic).payload("x").timestamp(base + i * 100);
        sender.send(record).map_err(|e| e.0).expect("queued");
    }
    sender.flush(SOON).expect("flushed");
    let consumer: BaseConsumer = config(&[("group.id", "unused")]).create().expect("a consumer");
    assert_eq!(consumer.fetch_watermarks(&topic, 0, SOON).expect("watermarks"), (0, 10));
    let mut times = TopicPartitionList::new();
    times.add_partition_offset(&topic, 0, Offset::Offset(base + 450)).expect("a time");
    let found = consumer.offsets_for_times(times, SOON).expect("offsets for times");
    assert_eq!(found.elements()[0].offset(), Offset::Offset(5));
}

fn admin() -> (AdminClient<DefaultClientContext>, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    (config(&[]).create().expect("an admin client"), runtime)
}

#[test]
fn topics_from_their_making_to_their_end() {
    let (admin, runtime) = admin();
    let options = AdminOptions::new().operation_timeout(Some(SOON)).request_timeout(Some(SOON));
    let name = unique("rd-admin");
    let mut wire = Wire::connect(shared());
    let partitions = |wire: &mut Wire| metadata_of(wire, &name, false).partitions.len();
    runtime.block_on(async {
        let topic = NewTopic::new(&name, 3, TopicReplication::Fixed(1)).set("retention.ms", "86400000");
        let made = admin.create_topics([&topic], &options).await.expect("create");
        assert_eq!(made, [Ok(name.clone())]);
        eventually("three partitions", SOON, || partitions(&mut wire) == 3);
        let again = admin.create_topics([&topic], &options).await.expect("create");
        assert!(again[0].is_err(), "a second time: {again:?}");

        let more = admin.create_partitions([&NewPartitions::new(&name, 5)], &options).await.expect("grow");
        assert_eq!(more, [Ok(name.clone())]);
        eventually("five partitions", SOON, || partitions(&mut wire) == 5);

        let resource = ResourceSpecifier::Topic(&name);
        let set = AlterConfig::new(resource).set("cleanup.policy", "compact");
        admin.alter_configs([&set], &options).await.expect("alter").remove(0).expect("altered");
        let started = Instant::now();
        loop {
            let described = admin.describe_configs([&resource], &options).await.expect("describe").remove(0);
            let entries = described.expect("described").entries;
            let policy = entries.iter().find(|entry| entry.name == "cleanup.policy").expect("cleanup.policy");
            if policy.value.as_deref() == Some("compact") {
                break;
            }
            assert!(started.elapsed() < SOON, "{:?}", policy.value);
        }

        let gone = admin.delete_topics(&[&name], &options).await.expect("delete");
        assert_eq!(gone, [Ok(name.clone())]);
        eventually("it is gone", SOON, || {
            metadata_of(&mut wire, &name, false).error_code == code::UNKNOWN_TOPIC_OR_PARTITION
        });
    });
}

#[test]
fn delivery_fails_when_it_must() {
    let topic = create(&mut Wire::connect(shared()), "rd-refused", 1, &[("max.message.bytes", "1000")]).name;
    let sender: rdkafka::producer::FutureProducer = config(&[]).create().expect("a producer");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let big = "x".repeat(5_000);
    let record = rdkafka::producer::FutureRecord::<(), _>::to(&topic).payload(&big);
    let (error, _) = runtime.block_on(sender.send(record, SOON)).expect_err("too large for this topic");
    assert_eq!(error.rdkafka_error_code(), Some(rdkafka::types::RDKafkaErrorCode::MessageSizeTooLarge));
}
