//! Coordinators of groups and transactions in a cluster of three processes: they follow the leaders of their partitions, and what
//! they have answered outlives the broker that answered it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_wire::{FindCoordinatorRequest, OffsetCommitRequest, OffsetFetchRequest};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::batch::encoded;
use crate::support::broker::{http_get, needs_own_broker};
use crate::support::calls::{Fetch, code, metadata_of, produce_at};
use crate::support::cluster::{bootstrap, create, three, whole};
use crate::support::{Broker, Wire, eventually, msg, unique};
use crate::transactions::{Pipeline, config};

/// Far beyond what anything here takes on a starved machine.
const LONG: Duration = Duration::from_secs(60);
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const NOT_COORDINATOR: i16 = 16;
/// Of a broker that does not answer.
const GONE: i16 = i16::MIN;
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

fn kills() -> usize {
    std::env::var("WEIR_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(3)
}

fn addresses(all: &[Broker]) -> Vec<SocketAddr> {
    all.iter().map(|broker| broker.kafka).collect()
}

/// The id of the broker that leads a partition.
fn leader(at: SocketAddr, topic: &str, index: usize) -> i32 {
    let partitions = metadata_of(&mut Wire::connect(at), topic, true).partitions;
    partitions.iter().find(|p| p.partition_index == index as i32).map_or(-1, |p| p.leader_id)
}

/// Who coordinates a key, or the error that says why nobody does.
fn find(at: SocketAddr, key_type: i8, key: &str) -> Result<(i32, SocketAddr), i16> {
    let request = msg!(FindCoordinatorRequest { key_type: key_type, coordinator_keys: vec![key.into()] });
    let mut wire = Wire::try_connect(at).map_err(|_| GONE)?;
    let found = wire.try_call(4, &request).ok_or(GONE)?.coordinators.remove(0);
    match found.error_code {
        0 => Ok((found.node_id, SocketAddr::from(([127, 0, 0, 1], found.port as u16)))),
        error => Err(error),
    }
}

/// Who coordinates a key, once somebody says so.
fn coordinator(all: &[SocketAddr], key_type: i8, key: &str) -> (i32, SocketAddr) {
    let mut found = None;
    eventually("somebody coordinates", LONG, || {
        found = all.iter().find_map(|at| find(*at, key_type, key).ok());
        found.is_some()
    });
    found.expect("it was found")
}

/// A group's committed offset of partition 0, as one broker says; -1 where there is none.
fn committed(at: SocketAddr, group: &str, topic: &str) -> Result<i64, i16> {
    let topic = msg!(OffsetFetchRequestTopic { name: topic.into(), partition_indexes: vec![0] });
    let request = msg!(OffsetFetchRequest { group_id: group.into(), topics: Some(vec![topic]) });
    let mut wire = Wire::try_connect(at).map_err(|_| GONE)?;
    let reply = wire.try_call(7, &request).ok_or(GONE)?;
    match reply.error_code {
        0 => Ok(reply.topics[0].partitions[0].committed_offset),
        error => Err(error),
    }
}

fn commit(at: SocketAddr, group: &str, topic: &str, offset: i64) -> i16 {
    let partition = msg!(OffsetCommitRequestPartition { partition_index: 0, committed_offset: offset });
    let topic = msg!(OffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition] });
    let request = msg!(OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
    });
    Wire::connect(at).call(7, &request).topics[0].partitions[0].error_code
}

/// Looks at a group's committed offset all the time, wherever it is coordinated: it never falls. The last that was seen.
fn watch_offset(all: &[SocketAddr], group: &str, topic: &str, stop: &AtomicBool) -> i64 {
    let mut highest = -1;
    while !stop.load(Ordering::Relaxed) {
        for at in all {
            let Ok((_, coordinator)) = find(*at, GROUP, group) else { continue };
            let Ok(offset) = committed(coordinator, group, topic) else { continue };
            assert!(offset >= highest, "{group}: offset {highest} was committed, and then {offset} was");
            highest = offset;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    highest
}

/// Tells threads to end, also where the test has failed.
struct Ends<'a>(&'a [&'a AtomicBool]);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|flag| flag.store(true, Ordering::Relaxed));
    }
}

/// Kills a broker, brings it back after a while, and waits until it has everything again.
fn lose(all: &mut [Broker], nth: usize, away: Duration, topics: &[&str]) {
    all[nth].kill();
    std::thread::sleep(away);
    all[nth].restart();
    eventually("what it had is in sync again", LONG, || whole(all, topics, 3));
}

#[test]
fn consume_transform_produce_is_exactly_once_through_the_loss_of_every_coordinator() {
    if needs_own_broker() {
        return;
    }
    let mut all = three();
    let (at, bootstrap) = (addresses(&all), bootstrap(&all));
    let input = create(&all, "in", 1, -1).name;
    let output = create(&all, "out", 3, -1).name;
    let pipeline = Pipeline::fill(&bootstrap, unique("eos"), (input, output), 3000);
    let names = ["in", "out", INTERNAL[0], INTERNAL[1]];
    let watched = AtomicBool::new(false);
    coordinator(&at, GROUP, &pipeline.id);
    eventually("the coordinators' topics are whole", LONG, || whole(&all, &names, 3));
    std::thread::scope(|scope| {
        let ends = Ends(&[&watched, &pipeline.stop]);
        let watcher = scope.spawn(|| watch_offset(&at, &pipeline.id, "in", &watched));
        let worker = scope.spawn(|| pipeline.run());
        for kill in 0..kills() {
            std::thread::sleep(Duration::from_millis(300 + kill as u64 * 170 % 900));
            let victim = match kill % 3 {
                0 => coordinator(&at, TRANSACTION, &pipeline.id).0,
                1 => coordinator(&at, GROUP, &pipeline.id).0,
                _ => leader(at[0], "out", kill % 2),
            };
            lose(&mut all, victim as usize - 1, Duration::from_millis(kill as u64 % 2 * 2000), &names);
        }
        pipeline.finish(&worker);
        drop(ends);
        watcher.join().expect("offsets never fell");
    });
    pipeline.assert_exactly_once();
    let group = coordinator(&at, GROUP, &pipeline.id).1;
    eventually("all of it is committed", LONG, || committed(group, &pipeline.id, "in") == Ok(3000));
    all.iter_mut().for_each(Broker::assert_healthy);
}

/// Members join, commit and rejoin: what one has committed, the group goes on from, whoever coordinates it.
#[test]
fn a_group_goes_on_when_its_coordinator_is_killed() {
    if needs_own_broker() {
        return;
    }
    let mut all = three();
    let (at, bootstrap) = (addresses(&all), bootstrap(&all));
    create(&all, "read", 1, -1);
    let producer: BaseProducer =
        config(&bootstrap, &[("acks", "all"), ("enable.idempotence", "true")]).create().expect("a producer");
    let send = |range: std::ops::Range<usize>| {
        for nth in range {
            let value = format!("{nth:04}");
            producer.send(BaseRecord::<(), _>::to("read").partition(0).payload(&value)).expect("queued");
        }
        producer.flush(LONG).expect("acknowledged");
    };
    send(0..300);
    let (watched, enough) = (AtomicBool::new(false), AtomicBool::new(false));
    let names = ["read", INTERNAL[0]];
    coordinator(&at, GROUP, "readers");
    eventually("the coordinator's topic is whole", LONG, || whole(&all, &names, 3));
    let seen = std::thread::scope(|scope| {
        let ends = Ends(&[&watched, &enough]);
        let watcher = scope.spawn(|| watch_offset(&at, "readers", "read", &watched));
        let reader = scope.spawn(|| read_on(&bootstrap, 600, &enough));
        for kill in 0..2 {
            eventually("the group reads", LONG, || {
                committed(coordinator(&at, GROUP, "readers").1, "readers", "read").is_ok_and(|at| at > 0)
            });
            let (victim, _) = coordinator(&at, GROUP, "readers");
            lose(&mut all, victim as usize - 1, Duration::from_millis(kill * 3000), &names);
        }
        send(300..600);
        eventually("everything is committed", LONG, || {
            let now = committed(coordinator(&at, GROUP, "readers").1, "readers", "read");
            println!("committed: {now:?}");
            now == Ok(600)
        });
        drop(ends);
        watcher.join().expect("offsets never fell");
        reader.join().expect("the reader read on")
    });
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), 600);
    all.iter_mut().for_each(Broker::assert_healthy);
}

/// A member that commits what it has read, a few records at a time.
fn read_on(bootstrap: &str, count: usize, enough: &AtomicBool) -> Vec<String> {
    let settings = [
        ("group.id", "readers"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("session.timeout.ms", "6000"),
    ];
    let consumer: BaseConsumer = config(bootstrap, &settings).create().expect("a consumer");
    consumer.subscribe(&["read"]).expect("subscribed");
    let (mut seen, mut next) = (Vec::with_capacity(count), None);
    while !enough.load(Ordering::Relaxed) {
        let polled = consumer.poll(Duration::from_millis(100));
        let polled_nothing = polled.is_none();
        match polled {
            Some(Ok(message)) => {
                seen.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
                next = Some(message.offset() + 1);
            }
            Some(Err(e)) => println!("consumer: {e}"),
            None => {}
        }
        if (polled_nothing || seen.len().is_multiple_of(20))
            && let Some(at) = next.take()
        {
            let mut offsets = TopicPartitionList::new();
            offsets.add_partition_offset("read", 0, rdkafka::Offset::Offset(at)).expect("an offset");
            // What is not committed is read again.
            if let Err(e) = consumer.commit(&offsets, CommitMode::Sync) {
                println!("commit of {at}: {e}");
            }
        }
    }
    seen
}

/// Topics that a broker made alone get more replicas as brokers join, and their coordinators are there all the time.
#[test]
fn coordinators_topics_grow_with_the_cluster() {
    if needs_own_broker() {
        return;
    }
    let mut first = Broker::start_with(crate::support::Options { shards: 1, ..Default::default() });
    create(std::slice::from_ref(&first), "alone", 1, 1);
    let at = coordinator(&[first.kafka], GROUP, "early").1;
    eventually("the group's coordinator serves", LONG, || commit(at, "early", "alone", 17) == 0);
    coordinator(&[first.kafka], TRANSACTION, "early");
    let second = Broker::start_with(crate::support::cluster::joining(&first));
    let third = Broker::start_with(crate::support::cluster::joining(&second));
    let mut all = [second, third];
    eventually("the coordinators' topics have three replicas", LONG, || whole(&all, &INTERNAL, 3));
    eventually("three vote", LONG, || crate::support::cluster::voters(first.kafka).len() == 3);
    first.kill();
    let addresses = addresses(&all);
    eventually("another broker goes on", LONG, || {
        let (_, at) = coordinator(&addresses, GROUP, "early");
        committed(at, "early", "alone") == Ok(17)
    });
    all.iter_mut().for_each(Broker::assert_healthy);
}

/// A broker that no controller answers does not know any more whether it coordinates (C7). What it leads it goes on serving.
#[test]
fn a_broker_that_no_controller_answers_coordinates_nothing_and_serves_on() {
    if needs_own_broker() {
        return;
    }
    let mut all = three();
    let at = addresses(&all);
    let topic = create(&all, "served", 3, 1);
    let group = (0..).map(|n| format!("group-{n}")).find(|key| coordinator(&at, GROUP, key).0 == 1);
    let group = group.expect("a group that the first broker coordinates");
    eventually("the coordinators' topic is whole", LONG, || whole(&all, &INTERNAL[..1], 3));
    eventually("its coordinator serves", LONG, || commit(at[0], &group, "served", 17) == 0);
    let mine = (0..3).find(|index| leader(at[0], "served", *index) == 1).expect("one of three") as i32;
    all[1].kill();
    all[2].kill();
    eventually("it coordinates nothing", LONG, || {
        committed(at[0], &group, "served") == Err(NOT_COORDINATOR)
            && find(at[0], GROUP, &group) == Err(code::COORDINATOR_NOT_AVAILABLE)
    });
    let (status, body) = http_get(all[0].admin, "/health/ready").expect("an answer");
    assert!(status == 503 && body.contains("no controller answers this broker"), "{status}: {body}");
    let mut wire = Wire::connect(at[0]);
    let produced = produce_at(&mut wire, 9, &topic, mine, -1, encoded(["on"]));
    assert_eq!(produced.error_code, 0, "{:?}", produced.error_message);
    let fetched = Fetch { partition: mine, ..Fetch::default() }.run(&mut wire, &topic);
    assert_eq!((fetched.error_code, fetched.high_watermark), (0, 1));
    all[1].restart();
    all[2].restart();
    eventually("what was committed is there", LONG, || {
        committed(coordinator(&at, GROUP, &group).1, &group, "served") == Ok(17)
    });
    eventually("it is ready again", LONG, || {
        http_get(all[0].admin, "/health/ready").is_ok_and(|(status, _)| status == 200)
    });
    all.iter_mut().for_each(Broker::assert_healthy);
}
