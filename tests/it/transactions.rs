//! Transactions: the protocol by hand where a rule is at stake, librdkafka where an application is, and an exactly-once
//! pipeline under kill -9.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use kafka_wire::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::{
    AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest, EndTxnResponse,
    FindCoordinatorRequest, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest,
    ListTransactionsRequest,
};
use kafka_wire_records::RecordBatch;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::support::batch::{bytes_of, decode_all, from_producer};
use crate::support::broker::{needs_own_broker, weir};
use crate::support::calls::{Fetch, Topic, create, produce_request};
use crate::support::{Broker, Options, Wire, eventually, msg, shared, unique};

const SOON: Duration = Duration::from_secs(30);

mod error {
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub const INVALID_TXN_STATE: i16 = 48;
    pub const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
    pub const CONCURRENT_TRANSACTIONS: i16 = 51;
    pub const AUTHORIZATION: i16 = 53;
    pub const PRODUCER_FENCED: i16 = 90;
    pub const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
}

/// A producer of one transactional id, spoken by hand.
struct Txn {
    wire: Wire,
    id: String,
    producer: i64,
    epoch: i16,
}

fn init(wire: &mut Wire, id: &str, timeout_ms: i32) -> InitProducerIdResponse {
    let request = msg!(InitProducerIdRequest {
        transactional_id: Some(id.into()),
        transaction_timeout_ms: timeout_ms,
        producer_id: -1,
        producer_epoch: -1,
    });
    wire.call(5, &request)
}

impl Txn {
    fn open(addr: SocketAddr, id: &str, timeout_ms: i32) -> Txn {
        let mut wire = Wire::connect(addr);
        eventually("the coordinator is found", SOON, || {
            let request = msg!(FindCoordinatorRequest { key_type: 1, coordinator_keys: vec![id.into()] });
            wire.call(4, &request).coordinators[0].error_code == 0
        });
        let mut got = InitProducerIdResponse::default();
        eventually("the id is ours", SOON, || {
            got = init(&mut wire, id, timeout_ms);
            got.error_code == 0
        });
        Txn { wire, id: id.to_owned(), producer: got.producer_id, epoch: got.producer_epoch }
    }

    fn batch(&self, sequence: i32, value: &str) -> RecordBatch {
        let batch = from_producer(self.producer, self.epoch, sequence, [value]);
        RecordBatch { is_transactional: true, ..batch }
    }

    /// Version 12 adds the partition to the transaction.
    fn produce(
        &mut self,
        version: i16,
        topic: &Topic,
        partition: i32,
        sequence: i32,
        value: &str,
    ) -> (i16, i64) {
        let mut request =
            produce_request(version, topic, partition, -1, bytes_of(&self.batch(sequence, value)));
        request.transactional_id = Some(self.id.as_str().into());
        let reply = self.wire.call(version, &request).responses.remove(0).partition_responses.remove(0);
        (reply.error_code, reply.base_offset)
    }

    fn end(&mut self, version: i16, commit: bool) -> EndTxnResponse {
        let request = msg!(EndTxnRequest {
            transactional_id: self.id.as_str().into(),
            producer_id: self.producer,
            producer_epoch: self.epoch,
            committed: commit,
        });
        self.wire.call(version, &request)
    }

    /// Ends with version 5 and goes on with the epoch that it is told.
    fn finish(&mut self, commit: bool) {
        let mut ended = EndTxnResponse::default();
        eventually("the transaction ends", SOON, || {
            ended = self.end(5, commit);
            ended.error_code != error::CONCURRENT_TRANSACTIONS
        });
        assert_eq!(ended.error_code, 0);
        (self.producer, self.epoch) = (ended.producer_id, ended.producer_epoch);
    }
}

/// What a reader of committed data gets: the fetch's values, the aborted transactions, the last stable offset.
fn committed(wire: &mut Wire, topic: &Topic, partition: i32) -> (Vec<String>, Vec<(i64, i64)>, i64) {
    let fetch = Fetch { version: 12, partition, ..Fetch::default() };
    let mut request = fetch.request(topic);
    request.isolation_level = 1;
    let data = wire.call(12, &request).responses.remove(0).partitions.remove(0);
    assert_eq!(data.error_code, 0);
    let aborted: Vec<(i64, i64)> = data
        .aborted_transactions
        .unwrap_or_default()
        .iter()
        .map(|a| (a.producer_id, a.first_offset))
        .collect();
    let batches = decode_all(data.records.unwrap_or_default());
    let values = batches.iter().filter(|b| !b.is_control).flat_map(|b| &b.records);
    let text = |v: &bytes::Bytes| String::from_utf8_lossy(v).into_owned();
    (values.map(|r| r.value.as_ref().map_or(String::new(), text)).collect(), aborted, data.last_stable_offset)
}

fn stable_offset(wire: &mut Wire, topic: &Topic, partition: i32) -> i64 {
    let partition =
        msg!(ListOffsetsPartition { partition_index: partition, timestamp: -1, current_leader_epoch: -1 });
    let topic = msg!(ListOffsetsTopic { name: topic.name.as_str().into(), partitions: vec![partition] });
    let request = msg!(ListOffsetsRequest { replica_id: -1, isolation_level: 1, topics: vec![topic] });
    wire.call(7, &request).topics[0].partitions[0].offset
}

#[test]
fn version_two_of_the_protocol_by_hand() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "txn-v2", 2, &[]);
    let mut txn = Txn::open(shared(), &unique("v2"), 60_000);
    let (first, epoch) = (txn.producer, txn.epoch);
    assert_eq!(txn.produce(12, &topic, 0, 0, "a"), (0, 0));
    assert_eq!(txn.produce(12, &topic, 0, 1, "b"), (0, 1));
    assert_eq!(txn.produce(12, &topic, 1, 0, "c"), (0, 0));
    assert_eq!(committed(&mut wire, &topic, 0), (vec![], vec![], 0), "the transaction is open");
    assert_eq!(stable_offset(&mut wire, &topic, 0), 0);
    txn.finish(true);
    assert_eq!((txn.producer, txn.epoch), (first, epoch + 1), "every transaction has its own epoch");
    eventually("the markers are written", SOON, || stable_offset(&mut wire, &topic, 1) == 2);
    eventually("the markers are written", SOON, || stable_offset(&mut wire, &topic, 0) == 3);
    // A delayed batch of the transaction before.
    let late = Txn { wire: Wire::connect(shared()), id: txn.id.clone(), producer: first, epoch };
    let mut late = late;
    assert_eq!(late.produce(12, &topic, 0, 2, "late").0, error::INVALID_PRODUCER_EPOCH);
    // And its end, said again, is answered as before.
    let again = late.end(5, true);
    assert_eq!((again.error_code, again.producer_epoch), (0, epoch + 1));
    assert_eq!(txn.produce(12, &topic, 0, 0, "d"), (0, 3));
    txn.finish(false);
    eventually("the markers are written", SOON, || stable_offset(&mut wire, &topic, 0) == 5);
    let (values, aborted, stable) = committed(&mut wire, &topic, 0);
    assert_eq!((values.len(), stable), (3, 5));
    assert_eq!(aborted, [(first, 3)]);
    // An abort of nothing is allowed, and moves the epoch.
    let before = txn.epoch;
    txn.finish(false);
    assert_eq!(txn.epoch, before + 1);
}

/// A client is told that its transaction ended before the markers are written: what it sends at once comes to partitions
/// where the last transaction is still open, and asks its coordinator while markers are on the way.
#[test]
fn transactions_that_follow_at_once_do_not_mix() {
    const PARTITIONS: i32 = 6;
    let topic = create(&mut Wire::connect(shared()), "txn-at-once", PARTITIONS, &[]);
    let mut txn = Txn::open(shared(), &unique("at-once"), 60_000);
    let mut expected = Vec::new();
    for round in 0..300 {
        let commit = round % 3 != 1;
        for at in 0..PARTITIONS {
            let (partition, value) = ((round + at) % PARTITIONS, format!("{round} {at}"));
            let mut code = error::CONCURRENT_TRANSACTIONS;
            eventually("the transaction before is ended", SOON, || {
                code = txn.produce(12, &topic, partition, 0, &value).0;
                code != error::CONCURRENT_TRANSACTIONS
            });
            assert_eq!(code, 0, "round {round}");
            expected.extend(commit.then_some(value));
        }
        txn.finish(commit);
        if round % 10 == 0 {
            // An abort of nothing, in the epoch that the client was told a moment ago.
            txn.finish(false);
        }
    }
    // Once the next one may end, the markers of the last one are written.
    txn.finish(false);
    let mut got = read(shared(), &topic.name, PARTITIONS, "read_committed");
    got.sort();
    expected.sort();
    assert_eq!(got, expected);
}

/// Whose client adds its partitions itself may forget one where nobody asks; whose client relies on the broker may not.
#[test]
fn nobody_is_asked_where_that_is_turned_off() {
    if needs_own_broker() {
        return;
    }
    let args = vec!["--transaction-verification", "false"];
    let broker = Broker::start_with(Options { args, ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "txn-unasked", 1, &[]);
    let mut unasked = Txn::open(broker.kafka, "unasked", 60_000);
    assert_eq!(unasked.produce(9, &topic, 0, 0, "x").0, 0);
    let topic = create(&mut wire, "txn-added", 1, &[]);
    let mut added = Txn::open(broker.kafka, "added", 60_000);
    assert_eq!(added.produce(12, &topic, 0, 0, "y").0, 0);
    added.finish(true);
    eventually("the commit is seen", SOON, || committed(&mut wire, &topic, 0).0 == ["y"]);
    crate::configs::set(&mut wire, "", "transaction.partition.verification.enable", "true");
    let mut asked = Txn::open(broker.kafka, "asked", 60_000);
    assert_eq!(asked.produce(9, &topic, 0, 0, "z").0, error::INVALID_TXN_STATE);
}

#[test]
fn version_one_of_the_protocol_by_hand() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "txn-v1", 1, &[]);
    let mut txn = Txn::open(shared(), &unique("v1"), 60_000);
    // Nothing is written to a partition that was not added.
    assert_eq!(txn.produce(9, &topic, 0, 0, "x").0, error::INVALID_TXN_STATE);
    let add = |txn: &mut Txn| {
        let part = msg!(AddPartitionsToTxnTopic { name: topic.name.as_str().into(), partitions: vec![0] });
        let request = msg!(AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: txn.id.as_str().into(),
            v3_and_below_producer_id: txn.producer,
            v3_and_below_producer_epoch: txn.epoch,
            v3_and_below_topics: vec![part],
        });
        let reply = txn.wire.call(3, &request);
        reply.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    };
    for round in 0..3 {
        eventually("the partition is added", SOON, || add(&mut txn) == 0);
        assert_eq!(txn.produce(9, &topic, 0, round, "x").0, 0);
        assert_eq!(txn.end(3, round % 2 == 0).error_code, 0);
        eventually("the marker is written", SOON, || {
            stable_offset(&mut wire, &topic, 0) == i64::from(round + 1) * 2
        });
    }
    let (values, aborted, _) = committed(&mut wire, &topic, 0);
    assert_eq!((values.len(), aborted), (3, vec![(txn.producer, 2)]));
    // A newer producer takes the id over.
    let newer = Txn::open(shared(), &txn.id, 60_000);
    assert_eq!((newer.producer, newer.epoch), (txn.producer, txn.epoch + 1));
    assert_eq!(add(&mut txn), error::PRODUCER_FENCED);
    assert_eq!(txn.end(3, true).error_code, error::PRODUCER_FENCED);
    assert_eq!(txn.end(1, true).error_code, error::INVALID_PRODUCER_EPOCH, "in the words of old clients");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "txn-bad", 1, &[]);
    let id = unique("bad");
    let mut txn = Txn::open(shared(), &id, 60_000);
    for timeout in [0, -1, 900_001] {
        assert_eq!(init(&mut wire, &id, timeout).error_code, error::INVALID_TRANSACTION_TIMEOUT);
    }
    let mut nameless = produce_request(9, &topic, 0, -1, bytes_of(&txn.batch(0, "x")));
    nameless.transactional_id = None;
    let reply = wire.call(9, &nameless).responses.remove(0).partition_responses.remove(0);
    assert_eq!(reply.error_code, error::AUTHORIZATION);
    assert_eq!(txn.end(3, true).error_code, error::INVALID_TXN_STATE, "nothing is open");
    let describe =
        msg!(DescribeTransactionsRequest { transactional_ids: vec![id.as_str().into(), "nobody".into()] });
    assert_eq!(txn.produce(12, &topic, 0, 0, "x").0, 0);
    let described = wire.call(0, &describe).transaction_states;
    assert_eq!(
        (&*described[0].transaction_state, &*described[0].topics[0].topic),
        ("Ongoing", topic.name.as_str())
    );
    assert_eq!(described[1].error_code, error::TRANSACTIONAL_ID_NOT_FOUND);
    let mut listed = |state: &str, longer_than: i64| {
        let request = msg!(ListTransactionsRequest {
            state_filters: vec![state.into()],
            producer_id_filters: vec![txn.producer],
            duration_filter: longer_than,
        });
        let reply = wire.call(1, &request);
        (reply.transaction_states.len(), reply.unknown_state_filters.len())
    };
    assert_eq!(listed("Ongoing", -1), (1, 0));
    assert_eq!(listed("Ongoing", 3_600_000), (0, 0));
    assert_eq!(listed("CompleteCommit", -1), (0, 0));
    assert_eq!(listed("NoSuchState", -1), (0, 1));
    txn.finish(false);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "txn-slow", 1, &[]);
    let mut txn = Txn::open(shared(), &unique("slow"), 1000);
    assert_eq!(txn.produce(12, &topic, 0, 0, "x").0, 0);
    assert_eq!(stable_offset(&mut wire, &topic, 0), 0);
    eventually("the coordinator aborts it", Duration::from_secs(40), || {
        stable_offset(&mut wire, &topic, 0) == 2
    });
    assert_eq!(committed(&mut wire, &topic, 0).1, [(txn.producer, 0)]);
    assert_eq!(txn.produce(12, &topic, 0, 1, "y").0, error::INVALID_PRODUCER_EPOCH);
    assert_eq!(txn.end(5, true).error_code, error::INVALID_TXN_STATE, "it was aborted");
    assert_eq!(txn.end(3, true).error_code, error::PRODUCER_FENCED, "to who has no epochs of its own");
}

#[test]
fn an_open_transaction_survives_a_crash_and_so_does_its_end() {
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "txn-crash", 4, &[]);
    let id = unique("crash");
    let mut txn = Txn::open(broker.kafka, &id, 60_000);
    // By partition: where each round's record lies.
    let mut bases: Vec<Vec<i64>> = vec![Vec::new(); 4];
    for round in 0..4 {
        for partition in 0..4 {
            let (code, base) = txn.produce(12, &topic, partition, 0, "x");
            assert_eq!(code, 0);
            bases[partition as usize].push(base);
        }
        broker.kill();
        broker.restart();
        (wire, txn.wire) = (Wire::connect(broker.kafka), Wire::connect(broker.kafka));
        for partition in 0..4 {
            let base = bases[partition as usize][round];
            assert_eq!(stable_offset(&mut wire, &topic, partition), base, "the transaction is open");
        }
        // The decision is made, the process dies, and the markers are written by the next one.
        eventually("the coordinator is loaded", SOON, || {
            let ended = txn.end(5, round % 2 == 0);
            (txn.producer, txn.epoch) = match ended.error_code {
                0 => (ended.producer_id, ended.producer_epoch),
                _ => (txn.producer, txn.epoch),
            };
            ended.error_code == 0
        });
        broker.kill();
        broker.restart();
        (wire, txn.wire) = (Wire::connect(broker.kafka), Wire::connect(broker.kafka));
        for partition in 0..4 {
            // A marker may be there twice: the process died between writing it and noting so.
            eventually("the markers are written", SOON, || {
                stable_offset(&mut wire, &topic, partition) > bases[partition as usize][round] + 1
            });
        }
        // The next transaction begins once this one's end is noted.
        let describe = msg!(DescribeTransactionsRequest { transactional_ids: vec![id.as_str().into()] });
        eventually("the transaction is over", SOON, || {
            wire.call(0, &describe).transaction_states[0].transaction_state.starts_with("Complete")
        });
    }
    for partition in 0..4 {
        let (values, aborted, _) = committed(&mut wire, &topic, partition);
        let bases = &bases[partition as usize];
        assert_eq!(values.len(), 4);
        assert_eq!(aborted, [(txn.producer, bases[1]), (txn.producer, bases[3])]);
    }
    broker.assert_healthy();
}

/// What the command prints; it must succeed.
fn weir_txn(args: &[&str]) -> String {
    let broker = shared().to_string();
    let output = weir().arg("txn").args(args).args(["--broker", &broker]).output().expect("weir runs");
    assert!(output.status.success(), "weir txn {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_command_line_lists_describes_and_aborts() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "txn-cli", 1, &[]);
    let id = unique("cli");
    let mut txn = Txn::open(shared(), &id, 60_000);
    assert_eq!(txn.produce(12, &topic, 0, 0, "x").0, 0);
    let listed = weir_txn(&["list", "--state", "Ongoing"]);
    assert!(listed.lines().any(|line| line.starts_with(&id) && line.ends_with("Ongoing")), "{listed}");
    assert!(!weir_txn(&["list", "--longer-than", "1h"]).contains(&id));
    let described: serde_json::Value =
        serde_json::from_str(&weir_txn(&["describe", &id, "--json"])).expect("JSON");
    assert_eq!(described["producer_id"], txn.producer);
    assert_eq!(described["partitions"][0]["topic"], topic.name);
    assert!(described["open_ms"].as_i64().is_some());
    assert!(weir_txn(&["abort", &id]).contains("fenced"));
    eventually("the marker is written", SOON, || stable_offset(&mut wire, &topic, 0) == 2);
    assert_eq!(txn.produce(12, &topic, 0, 1, "y").0, error::INVALID_PRODUCER_EPOCH);
    assert!(weir_txn(&["abort", &id]).contains("no transaction open"));
}

/// Of a client that finds its broker here, or one of several.
pub fn config(at: impl Display, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", at.to_string()).set("broker.address.family", "v4");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

fn transactional(at: impl Display, id: &str) -> BaseProducer {
    let settings = [("transactional.id", id), ("transaction.timeout.ms", "10000"), ("linger.ms", "1")];
    let producer: BaseProducer = config(at, &settings).create().expect("a producer");
    producer.init_transactions(SOON).expect("init");
    producer
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, value: &str) {
    let record = BaseRecord::<(), _>::to(topic).partition(partition).payload(value);
    producer.send(record).map_err(|(e, _)| e).expect("queued");
}

/// Everything in a topic's partitions up to their ends, by offset.
fn read(at: impl Display, topic: &str, partitions: i32, isolation: &str) -> Vec<String> {
    let settings = [
        ("group.id", "reader"),
        ("isolation.level", isolation),
        ("enable.partition.eof", "true"),
        ("enable.auto.commit", "false"),
    ];
    let consumer: BaseConsumer = config(at, &settings).create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an assignment");
    }
    consumer.assign(&list).expect("assign");
    let (mut got, mut ends, started) = (Vec::new(), std::collections::BTreeSet::new(), Instant::now());
    while ends.len() < partitions as usize {
        assert!(started.elapsed() < SOON, "{topic}: {} values", got.len());
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(m)) => got.push(String::from_utf8_lossy(m.payload().unwrap_or_default()).into_owned()),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ends.insert(partition)),
            Some(Err(e)) => println!("consumer: {e}"),
            None => {}
        }
    }
    got
}

#[test]
fn librdkafka_commits_aborts_and_is_fenced() {
    let topic = create(&mut Wire::connect(shared()), "rd-txn", 3, &[]).name;
    let id = unique("rd");
    let producer = transactional(shared(), &id);
    let mut expected = Vec::new();
    for round in 0..10 {
        producer.begin_transaction().expect("begin");
        for i in 0..50 {
            let value = format!("{round}-{i}");
            send(&producer, &topic, i % 3, &value);
            if round % 3 != 1 {
                expected.push(value);
            }
        }
        if round % 3 == 1 {
            producer.flush(SOON).expect("flushed");
            producer.abort_transaction(SOON).expect("abort");
        } else {
            producer.commit_transaction(SOON).expect("commit");
        }
    }
    let sorted = |mut values: Vec<String>| {
        values.sort();
        values
    };
    eventually("what was committed is read, and nothing else", SOON, || {
        sorted(read(shared(), &topic, 3, "read_committed")) == sorted(expected.clone())
    });
    assert_eq!(read(shared(), &topic, 3, "read_uncommitted").len(), 500);
    producer.begin_transaction().expect("begin");
    send(&producer, &topic, 0, "zombie");
    let _ = producer.flush(SOON);
    let newer = transactional(shared(), &id);
    match producer.commit_transaction(SOON) {
        Err(KafkaError::Transaction(e)) => {
            assert!(e.is_fatal() || e.txn_requires_abort(), "{e}");
            assert!(
                matches!(e.code(), RDKafkaErrorCode::Fenced | RDKafkaErrorCode::InvalidProducerEpoch),
                "{e}"
            );
        }
        other => panic!("a zombie committed: {other:?}"),
    }
    newer.begin_transaction().expect("begin");
    send(&newer, &topic, 0, "newer");
    newer.commit_transaction(SOON).expect("commit");
    eventually("the zombie's record is not read", SOON, || {
        let read = read(shared(), &topic, 3, "read_committed");
        !read.contains(&"zombie".to_owned()) && read.contains(&"newer".to_owned())
    });
}

/// Reads input from where its committed offsets are and writes each value to the output, in transactions, until
/// something goes wrong or everything was moved.
fn pump(
    at: &str,
    id: &str,
    input: &str,
    output: &str,
    count: usize,
    until: Instant,
) -> Result<bool, KafkaError> {
    let producer: BaseProducer =
        config(at, &[("transactional.id", id), ("transaction.timeout.ms", "10000"), ("linger.ms", "1")])
            .create()?;
    producer.init_transactions(Duration::from_secs(10))?;
    let settings = [
        ("group.id", id),
        ("isolation.level", "read_committed"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
    ];
    let consumer: BaseConsumer = config(at, &settings).create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition(input, 0);
    let stored = consumer.committed_offsets(list, Duration::from_secs(10))?;
    let from = stored.elements()[0].offset();
    let mut next = match from {
        Offset::Offset(at) => at,
        _ => 0,
    };
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(input, 0, Offset::Offset(next))?;
    consumer.assign(&list)?;
    while Instant::now() < until {
        if next as usize >= count {
            return Ok(true);
        }
        let Some(first) = consumer.poll(Duration::from_millis(500)) else { continue };
        producer.begin_transaction()?;
        let mut message = Some(first?);
        for _ in 0..20 {
            let Some(m) = message else { break };
            let value = String::from_utf8_lossy(m.payload().unwrap_or_default()).into_owned();
            let record = BaseRecord::<(), _>::to(output).partition((m.offset() % 3) as i32).payload(&value);
            producer.send(record).map_err(|(e, _)| e)?;
            next = m.offset() + 1;
            message = consumer.poll(Duration::ZERO).transpose()?;
        }
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(input, 0, Offset::Offset(next))?;
        // A message that was polled and not sent is read again.
        if message.is_some() {
            consumer.seek(input, 0, Offset::Offset(next), Duration::from_secs(5))?;
        }
        let group = consumer.group_metadata().expect("a group");
        producer.send_offsets_to_transaction(&offsets, &group, Duration::from_secs(10))?;
        producer.commit_transaction(Duration::from_secs(10))?;
    }
    Ok(false)
}

/// An input topic that is full, and a worker that moves it to an output topic in transactions.
pub struct Pipeline {
    /// Where clients find the broker, or one of several.
    at: String,
    count: usize,
    pub id: String,
    pub input: String,
    pub output: String,
    pub stop: AtomicBool,
    errors: Mutex<Vec<String>>,
}

impl Pipeline {
    /// Makes the topics, and fills the input with `count` values.
    pub fn filled(addr: SocketAddr, prefix: &str, count: usize) -> Self {
        let mut wire = Wire::connect(addr);
        let input = create(&mut wire, &format!("{prefix}-in"), 1, &[]).name;
        let output = create(&mut wire, &format!("{prefix}-out"), 3, &[]).name;
        Self::fill(addr, unique(prefix), (input, output), count)
    }

    /// Fills the input, which has one partition, with `count` values; the output has three.
    pub fn fill(at: impl Display, id: String, (input, output): (String, String), count: usize) -> Self {
        let filler = transactional(&at, &format!("{id}-fill"));
        filler.begin_transaction().expect("begin");
        for i in 0..count {
            send(&filler, &input, 0, &format!("{i:05}"));
        }
        filler.commit_transaction(SOON).expect("commit");
        let at = at.to_string();
        Self { at, count, id, input, output, stop: AtomicBool::new(false), errors: Mutex::default() }
    }

    /// The worker: whatever happens to the broker, until everything was moved or it is told to stop.
    pub fn run(&self) -> bool {
        let Self { at, count, id, input, output, stop, errors } = self;
        while !stop.load(Ordering::Relaxed) {
            match pump(at, id, input, output, *count, Instant::now() + Duration::from_secs(60)) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(e) => errors.lock().expect("a lock").push(e.to_string()),
            }
        }
        false
    }

    /// Waits for the worker, which has to get to the end.
    pub fn finish(&self, worker: &ScopedJoinHandle<'_, bool>) {
        let began = Instant::now();
        while !worker.is_finished() && began.elapsed() < Duration::from_secs(120) {
            std::thread::sleep(Duration::from_millis(100));
        }
        self.stop.store(true, Ordering::Relaxed);
        let errors = self.errors.lock().expect("a lock").join("\n");
        assert!(worker.is_finished(), "the pipeline did not finish; it met:\n{errors}");
    }

    /// Every value is in the output once.
    pub fn assert_exactly_once(&self) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for value in read(&self.at, &self.output, 3, "read_committed") {
            *seen.entry(value).or_default() += 1;
        }
        let doubled: Vec<_> = seen.iter().filter(|(_, n)| **n > 1).take(5).collect();
        let lost: Vec<_> =
            (0..self.count).map(|i| format!("{i:05}")).filter(|v| !seen.contains_key(v)).take(5).collect();
        assert!(doubled.is_empty() && lost.is_empty(), "twice: {doubled:?}, never: {lost:?}");
    }
}

#[test]
fn consume_transform_produce_is_exactly_once_under_kill_9() {
    let kills: u32 = std::env::var("WEIR_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let args = vec!["--journal-file-size", "1MiB"];
    let mut broker = Broker::start_with(Options { args, ..Options::default() });
    let pipeline = Pipeline::filled(broker.kafka, "eos", 3000);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| pipeline.run());
        for kill in 0..kills {
            std::thread::sleep(Duration::from_millis(300 + u64::from(kill) * 170 % 900));
            broker.kill();
            broker.restart();
        }
        pipeline.finish(&worker);
    });
    pipeline.assert_exactly_once();
    broker.assert_healthy();
}
