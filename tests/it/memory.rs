//! A broker in a memory cgroup of 128 MiB: whatever clients do, it is not killed, everybody is served, and memory goes back.
//! Needs root and a memory cgroup (v1 or v2) that may be written to.

use std::io::Read;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::{FindCoordinatorRequest, OffsetCommitRequest};
use kafka_wire_records::Compression;

use crate::support::batch::{batch, bytes_of, encoded};
use crate::support::broker::{metric_total, needs_own_broker};
use crate::support::calls::{Fetch, Topic, create, list_offset, produce, produce_at, read_from};
use crate::support::cgroup::MemoryGroup;
use crate::support::{Broker, Options, Rng, Wire, eventually, msg};

/// What a machine under load may need for work of tens of megabytes in little memory.
const LONG: Duration = Duration::from_secs(300);

/// A broker in a small group, and the group.
fn small() -> Option<(MemoryGroup, Broker)> {
    if needs_own_broker() {
        return None;
    }
    let group = MemoryGroup::new(128)?;
    let broker = Broker::start_with(Options { cgroup: Some(group.processes()), ..Options::default() });
    Some((group, broker))
}

fn patient(addr: SocketAddr) -> Wire {
    let wire = Wire::connect(addr);
    wire.stream.set_read_timeout(Some(LONG)).expect("a timeout");
    wire.stream.set_write_timeout(Some(LONG)).expect("a timeout");
    wire
}

fn noise(len: usize) -> Vec<u8> {
    Rng(len as u64).bytes(len)
}

/// A topic whose partition 0 holds `records` records of so many bytes, each in a batch of its own.
fn filled(broker: &Broker, records: usize, size: usize) -> Topic {
    let mut wire = patient(broker.kafka);
    let topic = create(&mut wire, "cold", 1, &[]);
    let record = encoded([noise(size)]);
    for _ in 0..records {
        produce(&mut wire, &topic, record.clone());
    }
    topic
}

/// Reads a partition to its end as a consumer with large fetches does; the records seen.
fn consume(addr: SocketAddr, topic: &Topic, max_wait_ms: i32) -> usize {
    let mut wire = patient(addr);
    let mut at = 0;
    loop {
        let fetch = Fetch { offset: at, max_wait_ms, ..Fetch::default() };
        let data = fetch.run(&mut wire, topic);
        assert_eq!(data.error_code, 0);
        let batches = crate::support::batch::decode_all(data.records.unwrap_or_default());
        at = batches.last().map_or(at, |b| b.base_offset + i64::from(b.last_offset_delta) + 1);
        if at >= data.high_watermark {
            return at as usize;
        }
        assert!(!batches.is_empty(), "a fetch below the end brings a batch at least");
    }
}

fn together<T: Send + 'static>(count: usize, f: impl Fn(usize) -> T + Send + Clone + 'static) -> Vec<T> {
    let start = |i| {
        let f = f.clone();
        std::thread::spawn(move || f(i))
    };
    let threads: Vec<JoinHandle<T>> = (0..count).map(start).collect();
    threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
}

fn idle_memory(broker: &Broker) {
    eventually("requests and answers hold no memory", LONG, || {
        metric_total(broker.admin, "weir_request_memory_bytes").is_ok_and(|bytes| bytes == 0.0)
    });
}

#[test]
fn a_fetch_that_wants_more_than_there_is_memory_for_waits_all_the_same() {
    let Some((_group, broker)) = small() else { return };
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "little", 1, &[]);
    produce(&mut wire, &topic, encoded(["little"]));
    let (began, wait) = (std::time::Instant::now(), Duration::from_millis(400));
    let fetch = Fetch { min_bytes: 1 << 20, max_wait_ms: wait.as_millis() as i32, ..Fetch::default() };
    assert!(fetch.run(&mut wire, &topic).records.is_some(), "what there is comes at the timeout");
    assert!(
        began.elapsed() >= wait - Duration::from_millis(10),
        "a client that is answered at once asks again at once"
    );
}

#[test]
fn many_readers_of_cold_data_with_large_fetches_all_get_it() {
    let Some((group, mut broker)) = small() else { return };
    let topic = filled(&broker, 600, 100_000);
    let addr = broker.kafka;
    let seen = together(24, move |_| consume(addr, &topic, 500));
    assert!(seen.iter().all(|records| *records == 600), "{seen:?}");
    idle_memory(&broker);
    broker.assert_healthy();
    assert!(
        metric_total(broker.admin, "weir_memory_waits_total").expect("metrics") > 0.0,
        "nobody had to wait"
    );
    assert_eq!(broker.stop().code(), Some(0), "{}", broker.log());
    eprintln!("highest: {} MiB", group.highest());
}

#[test]
fn answers_that_nobody_reads_stop_nobody_and_are_given_back() {
    let Some((group, mut broker)) = small() else { return };
    let topic = filled(&broker, 400, 100_000);
    let stuck: Vec<Wire> = (0..40)
        .map(|i| {
            let mut wire = patient(broker.kafka);
            wire.send(12, &Fetch { offset: i * 10, ..Fetch::default() }.request(&topic));
            wire
        })
        .collect();
    // Others read, cold and hot, and produce meanwhile.
    let (addr, theirs) = (broker.kafka, topic.clone());
    let seen = together(4, move |_| consume(addr, &theirs, 0));
    assert_eq!(seen, [400; 4]);
    let mut wire = patient(broker.kafka);
    let hot = create(&mut wire, "hot", 1, &[]);
    for _ in 0..50 {
        produce(&mut wire, &hot, encoded([noise(50_000)]));
    }
    assert_eq!(read_from(&mut wire, &hot, 0, 0).len(), 50);
    drop(stuck);
    idle_memory(&broker);
    broker.assert_healthy();
    assert_eq!(broker.stop().code(), Some(0), "{}", broker.log());
    eprintln!("highest: {} MiB", group.highest());
}

#[test]
fn a_client_that_takes_nothing_goes_only_when_others_wait_for_what_it_holds() {
    let Some((_group, mut broker)) = small() else { return };
    let topic = filled(&broker, 50, 900_000);
    let mut slow = patient(broker.kafka);
    let correlation = slow.send(12, &Fetch::default().request(&topic));
    std::thread::sleep(Duration::from_secs(7));
    let frame = slow.receive_frame().expect("nobody waited: the answer is still there");
    assert_eq!(frame[..4], correlation.to_be_bytes());
    let mut stuck: Vec<Wire> = (0..24).map(|_| patient(broker.kafka)).collect();
    for wire in &mut stuck {
        wire.send(12, &Fetch::default().request(&topic));
    }
    let (addr, theirs) = (broker.kafka, topic.clone());
    assert_eq!(together(2, move |_| consume(addr, &theirs, 0)), [50, 50]);
    // What was sent before is there; then the connection is at its end, for some at least.
    let is_whole = |mut wire: Wire| {
        let mut length = [0; 4];
        wire.stream.read_exact(&mut length)?;
        let mut rest = vec![0; u32::from_be_bytes(length) as usize];
        wire.stream.read_exact(&mut rest)
    };
    let cut = stuck.into_iter().map(is_whole).filter(std::io::Result::is_err);
    assert!(cut.count() > 0, "somebody had to go");
    idle_memory(&broker);
    assert_eq!(broker.stop().code(), Some(0), "{}", broker.log());
}

#[test]
fn large_batches_from_many_producers_are_all_acknowledged() {
    let Some((group, mut broker)) = small() else { return };
    let mut wire = patient(broker.kafka);
    let topic = create(&mut wire, "flood", 16, &[]);
    let record = encoded([noise(1_000_000)]);
    let (addr, theirs) = (broker.kafka, topic.clone());
    let acked = together(24, move |i| {
        let mut wire = patient(addr);
        let produce =
            |_: &i32| produce_at(&mut wire, 9, &theirs, i as i32 % 16, -1, record.clone()).error_code == 0;
        (0..20).filter(produce).count()
    });
    assert_eq!(acked, [20; 24]);
    let ends: i64 = (0..16).map(|p| list_offset(&mut wire, 7, &topic.name, p, -1).offset).sum();
    assert_eq!(ends, 24 * 20);
    idle_memory(&broker);
    broker.assert_healthy();
    assert_eq!(broker.stop().code(), Some(0), "{}", broker.log());
    eprintln!("highest: {} MiB", group.highest());
}

/// One batch of many equal records, which compresses to almost nothing.
fn dense(codec: Compression, records: usize, keyed: bool) -> Bytes {
    let mut batch = batch(std::iter::repeat_n(vec![b'x'; 10_000], records));
    batch.compression = codec;
    for (i, record) in batch.records.iter_mut().enumerate().filter(|_| keyed) {
        record.key = Some(format!("key {}", i % 10).into());
    }
    bytes_of(&batch)
}

#[test]
fn lookups_by_time_and_compaction_of_dense_batches_stay_within_it() {
    let Some((group, mut broker)) = small() else { return };
    let mut wire = patient(broker.kafka);
    let plain = create(&mut wire, "times", 1, &[]);
    let eager = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("segment.ms", "500"),
    ];
    let compacted = create(&mut wire, "compacted", 4, &eager);
    for codec in [Compression::Gzip, Compression::Zstd, Compression::Lz4, Compression::Snappy] {
        for _ in 0..10 {
            produce(&mut wire, &plain, dense(codec, 600, false));
            for partition in 0..4 {
                let batch = dense(codec, 600, true);
                assert_eq!(produce_at(&mut wire, 9, &compacted, partition, -1, batch).error_code, 0);
            }
        }
    }
    let (addr, name) = (broker.kafka, plain.name.clone());
    let found = together(24, move |_| {
        let mut wire = patient(addr);
        (list_offset(&mut wire, 7, &name, 0, 1).offset, list_offset(&mut wire, 7, &name, 0, -3).offset)
    });
    assert!(found.iter().all(|(first, newest)| *first == 0 && *newest >= 0), "{found:?}");
    eventually("something was compacted", LONG, || {
        metric_total(broker.admin, "weir_compaction_removed_records_total").is_ok_and(|n| n > 0.0)
    });
    idle_memory(&broker);
    broker.assert_healthy();
    assert_eq!(broker.stop().code(), Some(0), "{}", broker.log());
    eprintln!("highest: {} MiB", group.highest());
}

#[test]
fn coordinators_are_loaded_within_it() {
    let Some((group, mut broker)) = small() else { return };
    let mut wire = patient(broker.kafka);
    let topic = create(&mut wire, "committed", 1, &[]);
    let commit = |group: &str, offset: i64, text: &str| {
        let partition = msg!(OffsetCommitRequestPartition {
            committed_offset: offset,
            committed_metadata: Some(text.into()),
        });
        let topic =
            msg!(OffsetCommitRequestTopic { name: topic.name.as_str().into(), partitions: vec![partition] });
        msg!(OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
        })
    };
    let of = |wire: &mut Wire, group: &str| {
        let request = msg!(FindCoordinatorRequest { coordinator_keys: vec![group.into()] });
        wire.call(4, &request).coordinators[0].error_code
    };
    eventually("a coordinator", LONG, || of(&mut wire, "group 0") == 0);
    let text = "m".repeat(4000);
    for round in 0..60 {
        for number in 0..100 {
            let name = format!("group {number}");
            eventually("a commit", LONG, || {
                wire.call(8, &commit(&name, round, &text)).topics[0].partitions[0].error_code == 0
            });
        }
    }
    broker.kill();
    broker.restart();
    let mut wire = patient(broker.kafka);
    eventually("every coordinator serves", LONG, || {
        (0..100).all(|number| {
            let reply = wire.call(8, &commit(&format!("group {number}"), 1000, "after"));
            reply.topics[0].partitions[0].error_code == 0
        })
    });
    idle_memory(&broker);
    broker.assert_healthy();
    assert_eq!(broker.stop().code(), Some(0), "{}", broker.log());
    eprintln!("highest: {} MiB", group.highest());
}
