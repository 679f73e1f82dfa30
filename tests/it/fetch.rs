//! Fetch: what one answer holds, when it comes, and how sessions work.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::fetch_request::ForgottenTopic;
use kafka_wire::{FetchRequest, FetchResponse};
use kafka_wire_core::Uuid;

use crate::support::batch::{decode_all, encoded, rows};
use crate::support::broker::needs_own_broker;
use crate::support::calls::{Fetch, Topic, code, create, fetch_topic, produce, produce_at, read_from};
use crate::support::{Broker, Options, Wire, msg, shared, unique};

/// Sessions exist from version 7 on; this one still names topics.
const BY_NAME: i16 = 12;
const BY_ID: i16 = 13;

fn values(records: Option<Bytes>) -> Vec<String> {
    let rows = rows(records.unwrap_or_default());
    rows.into_iter().map(|(_, value)| String::from_utf8_lossy(&value).into_owned()).collect()
}

#[test]
fn every_version_answers() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "fetch-versions", 1, &[]);
    produce(&mut wire, &topic, encoded(["a", "b"]));
    for version in 4..=18 {
        let data = Fetch { version, ..Fetch::default() }.run(&mut wire, &topic);
        assert_eq!((data.error_code, data.high_watermark, data.last_stable_offset), (0, 2, 2), "v{version}");
        assert_eq!(values(data.records), ["a", "b"], "v{version}");
    }
}

/// The answer to one fetch of a partition that holds offsets 3..13 (0..3 are deleted below).
#[test]
fn offsets_in_and_out_of_range() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "range", 1, &[]);
    for i in 0..10 {
        produce(&mut wire, &topic, encoded([format!("{i}")]));
    }
    let mut check = |what: &str, offset, error, first: Option<&str>| {
        // Errors and the end of the log are answered at once or at the timeout, which is short here.
        let fetch = Fetch { offset, max_wait_ms: 50, ..Fetch::default() };
        let data = fetch.run(&mut wire, &topic);
        assert_eq!(data.error_code, error, "{what}");
        assert_eq!(values(data.records).first().map(String::as_str), first, "{what}");
        assert_eq!(data.high_watermark, if error == 0 { 10 } else { -1 }, "{what}");
    };
    check("the start", 0, code::NONE, Some("0"));
    check("the middle", 5, code::NONE, Some("5"));
    check("the last", 9, code::NONE, Some("9"));
    check("the end", 10, code::NONE, None);
    check("past the end", 11, code::OFFSET_OUT_OF_RANGE, None);
    check("far past the end", i64::MAX, code::OFFSET_OUT_OF_RANGE, None);
    check("negative", -1, code::OFFSET_OUT_OF_RANGE, None);
}

#[test]
fn unknown_places_and_epochs() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "fetch-places", 1, &[]);
    let nowhere = Topic { name: unique("nowhere"), id: Uuid::from_bytes([9; 16]) };
    let mut check = |what: &str, topic: &Topic, fetch: Fetch, expected| {
        let started = Instant::now();
        let data = Fetch { max_wait_ms: 10_000, min_bytes: 1, ..fetch }.run(&mut wire, topic);
        assert_eq!(data.error_code, expected, "{what}");
        assert!(started.elapsed() < Duration::from_secs(5), "{what}: an error does not wait");
    };
    let (name, id) = (Fetch::default(), Fetch { version: BY_ID, ..Fetch::default() });
    check("unknown topic", &nowhere, name, code::UNKNOWN_TOPIC_OR_PARTITION);
    check("unknown topic id", &nowhere, id, code::UNKNOWN_TOPIC_ID);
    check("unknown partition", &topic, Fetch { partition: 1, ..name }, code::UNKNOWN_TOPIC_OR_PARTITION);
    check("negative partition", &topic, Fetch { partition: -1, ..name }, code::UNKNOWN_TOPIC_OR_PARTITION);
    check("an epoch not reached", &topic, Fetch { leader_epoch: 7, ..name }, code::UNKNOWN_LEADER_EPOCH);
}

#[test]
fn a_batch_may_start_before_the_fetch_offset() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "whole-batch", 1, &[]);
    produce(&mut wire, &topic, encoded(["a", "b", "c", "d"]));
    let data = Fetch { offset: 2, ..Fetch::default() }.run(&mut wire, &topic);
    assert_eq!(values(data.records), ["a", "b", "c", "d"]);
}

#[test]
fn the_first_batch_comes_whole_whatever_the_limits() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "at-least-one", 2, &[]);
    let big = "x".repeat(5_000);
    for _ in 0..3 {
        for partition in 0..2 {
            assert_eq!(produce_at(&mut wire, 9, &topic, partition, -1, encoded([&big])).error_code, 0);
        }
    }
    let whole = |records: &Option<Bytes>| decode_all(records.clone().unwrap_or_default()).len();
    let tiny = Fetch { partition_max_bytes: 1, ..Fetch::default() };
    assert_eq!(whole(&tiny.run(&mut wire, &topic).records), 1, "over the partition's limit");
    let tiny = Fetch { max_bytes: 1, ..Fetch::default() };
    assert_eq!(whole(&tiny.run(&mut wire, &topic).records), 1, "over the request's limit");
    let room_for_two = Fetch { partition_max_bytes: 11_000, ..Fetch::default() };
    let records = room_for_two.run(&mut wire, &topic).records;
    assert_eq!(whole(&records), 2);
    assert!(records.is_some_and(|r| r.len() <= 11_000), "the limit holds past the first batch");

    // Two partitions, room for neither: the first one gets its batch, once a request.
    let both = [0, 1].map(|partition| Fetch { partition, ..Fetch::default() }.partition_of());
    let mut request = Fetch { max_bytes: 1, ..Fetch::default() }.empty_request();
    request.topics = vec![fetch_topic(BY_NAME, &topic, both.to_vec())];
    let reply = wire.call(BY_NAME, &request);
    let sizes: Vec<usize> = reply.responses[0].partitions.iter().map(|p| whole(&p.records)).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 1, "{sizes:?}");
}

#[test]
fn a_long_poll_wakes_when_data_comes() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "poll", 1, &[]);
    let fetch = Fetch { max_wait_ms: 15_000, ..Fetch::default() };
    let id = wire.send(fetch.version, &fetch.request(&topic));
    std::thread::sleep(Duration::from_millis(300));
    let produced = Instant::now();
    produce(&mut Wire::connect(shared()), &topic, encoded(["news"]));
    let reply = wire.receive::<FetchRequest>(fetch.version, id);
    assert!(produced.elapsed() < Duration::from_secs(3), "woke after {:?}", produced.elapsed());
    assert_eq!(values(reply.responses[0].partitions[0].records.clone()), ["news"]);
}

#[test]
fn a_long_poll_over_many_partitions_wakes_for_any() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "poll-many", 24, &[]);
    for target in [0, 13, 23] {
        let fetch = Fetch { max_wait_ms: 15_000, ..Fetch::default() };
        let mut request = fetch.empty_request();
        let all = |partition| {
            let behind = [0, 13, 23].iter().filter(|&&done| done < target && done == partition).count();
            Fetch { partition, offset: behind as i64, ..fetch }.partition_of()
        };
        request.topics = vec![fetch_topic(BY_NAME, &topic, (0..24).map(all).collect())];
        let id = wire.send(BY_NAME, &request);
        std::thread::sleep(Duration::from_millis(100));
        let produced = Instant::now();
        let reply = produce_at(&mut Wire::connect(shared()), 9, &topic, target, -1, encoded(["x"]));
        assert_eq!(reply.error_code, 0);
        let reply = wire.receive::<FetchRequest>(BY_NAME, id);
        assert!(produced.elapsed() < Duration::from_secs(3), "partition {target}: {:?}", produced.elapsed());
        let filled = |p: &&kafka_wire::fetch_response::PartitionData| {
            p.records.as_ref().is_some_and(|r| !r.is_empty())
        };
        let with_data: Vec<i32> =
            reply.responses[0].partitions.iter().filter(filled).map(|p| p.partition_index).collect();
        assert_eq!(with_data, [target]);
    }
}

#[test]
fn min_bytes_waits_and_the_timeout_ends_it() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "min-bytes", 1, &[]);
    produce(&mut wire, &topic, encoded(["little"]));
    let started = Instant::now();
    let fetch = Fetch { min_bytes: 1 << 20, max_wait_ms: 400, ..Fetch::default() };
    let data = fetch.run(&mut wire, &topic);
    let waited = started.elapsed();
    assert!((Duration::from_millis(390)..Duration::from_secs(3)).contains(&waited), "waited {waited:?}");
    assert_eq!(values(data.records), ["little"], "what there is comes at the timeout");

    let started = Instant::now();
    Fetch { max_wait_ms: 10_000, ..Fetch::default() }.run(&mut wire, &topic);
    assert!(started.elapsed() < Duration::from_secs(3), "enough data does not wait");
}

#[test]
fn a_waiting_fetch_holds_back_only_its_own_connection() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "in-order", 1, &[]);
    let fetch = Fetch { max_wait_ms: 700, ..Fetch::default() };
    let started = Instant::now();
    let id = wire.send(fetch.version, &fetch.request(&topic));
    let second = wire.send(3, &kafka_wire::MetadataRequest::default());
    produce_at(
        &mut Wire::connect(shared()),
        9,
        &create(&mut Wire::connect(shared()), "other", 1, &[]),
        0,
        -1,
        encoded(["x"]),
    );
    wire.receive::<FetchRequest>(fetch.version, id);
    assert!(started.elapsed() >= Duration::from_millis(690));
    wire.receive::<kafka_wire::MetadataRequest>(3, second);
}

#[test]
fn a_client_that_leaves_during_a_long_poll_does_no_harm() {
    let topic = create(&mut Wire::connect(shared()), "leaver", 1, &[]);
    for _ in 0..20 {
        let mut wire = Wire::connect(shared());
        let fetch = Fetch { max_wait_ms: 3_000, ..Fetch::default() };
        wire.send(fetch.version, &fetch.request(&topic));
    }
    let mut wire = Wire::connect(shared());
    produce(&mut wire, &topic, encoded(["x"]));
    assert_eq!(read_from(&mut wire, &topic, 0, 0).len(), 1);
}

#[test]
fn one_fetch_gathers_from_every_partition() {
    let mut wire = Wire::connect(shared());
    let topics: Vec<Topic> = (0..3).map(|_| create(&mut wire, "gather", 8, &[])).collect();
    for topic in &topics {
        for partition in 0..8 {
            let value = format!("{}/{partition}", topic.name);
            assert_eq!(produce_at(&mut wire, 9, topic, partition, -1, encoded([value])).error_code, 0);
        }
    }
    for version in [BY_NAME, BY_ID] {
        let fetch = Fetch { version, ..Fetch::default() };
        let all = || (0..8).map(|partition| Fetch { partition, ..fetch }.partition_of()).collect();
        let mut request = fetch.empty_request();
        // Enough that the answer has to wait for all of the partitions, wherever they live.
        request.min_bytes = 24 * 70;
        request.max_wait_ms = 5_000;
        request.topics = topics.iter().map(|topic| fetch_topic(version, topic, all())).collect();
        let reply = wire.call(version, &request);
        let mut got = Vec::new();
        for (topic, asked) in reply.responses.iter().flat_map(|r| topics.iter().map(move |t| (r, t))) {
            if topic.topic.as_str() == asked.name || (version == BY_ID && topic.topic_id == asked.id) {
                for data in &topic.partitions {
                    assert_eq!(
                        values(data.records.clone()),
                        [format!("{}/{}", asked.name, data.partition_index)]
                    );
                    got.push((asked.name.clone(), data.partition_index));
                }
            }
        }
        assert_eq!(got.len(), 24, "v{version}: every partition once");
    }
}

#[test]
fn large_batches_come_back_unharmed() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "large", 1, &[("max.message.bytes", "9000000")]);
    let sizes = [1, 4_096, 65_536, 1_000_000, 8_000_000, 17];
    for (i, size) in sizes.iter().enumerate() {
        let value = vec![b'a' + i as u8; *size];
        assert_eq!(produce(&mut wire, &topic, encoded([value])), i as i64);
    }
    let got = read_from(&mut wire, &topic, 0, 0);
    for (i, ((_, value), size)) in got.iter().zip(sizes).enumerate() {
        assert!(
            value.len() == size && value.iter().all(|&b| b == b'a' + i as u8),
            "value {i} of {size} bytes"
        );
    }
    assert_eq!(got.len(), sizes.len());
}

/// A fetch session as a client keeps it.
struct Session {
    wire: Wire,
    id: i32,
    epoch: i32,
    version: i16,
}

impl Session {
    fn open(version: i16, topic: &Topic, partitions: i32) -> (Session, FetchResponse) {
        let mut session = Session { wire: Wire::connect(shared()), id: 0, epoch: 0, version };
        let reply = session.next(topic, 0..partitions);
        assert_eq!(reply.error_code, 0);
        assert_ne!(reply.session_id, 0, "a session was asked for and there is room for it");
        session.id = reply.session_id;
        (session, reply)
    }

    /// The next incremental request, which names the given partitions anew (at offset 0).
    fn next(&mut self, topic: &Topic, partitions: std::ops::Range<i32>) -> FetchResponse {
        let fetch = Fetch { version: self.version, max_wait_ms: 50, ..Fetch::default() };
        let mut request = fetch.empty_request();
        let named: Vec<_> = partitions.map(|partition| Fetch { partition, ..fetch }.partition_of()).collect();
        if !named.is_empty() {
            request.topics = vec![fetch_topic(self.version, topic, named)];
        }
        self.send(request)
    }

    fn send(&mut self, mut request: FetchRequest) -> FetchResponse {
        (request.session_id, request.session_epoch) = (self.id, self.epoch);
        self.epoch += 1;
        self.wire.call(self.version, &request)
    }
}

fn indexes(reply: &FetchResponse) -> Vec<i32> {
    let mut all: Vec<i32> =
        reply.responses.iter().flat_map(|t| t.partitions.iter().map(|p| p.partition_index)).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_session_sends_only_what_changed() {
    for version in [7, BY_NAME, BY_ID, 18] {
        let mut wire = Wire::connect(shared());
        let topic = create(&mut wire, "session", 4, &[]);
        let (mut session, first) = Session::open(version, &topic, 3);
        assert_eq!(indexes(&first), [0, 1, 2], "v{version}: a full fetch names every partition");
        assert_eq!(indexes(&session.next(&topic, 0..0)), [0i32; 0], "v{version}: nothing changed");
        assert_eq!(produce_at(&mut wire, 9, &topic, 1, -1, encoded(["x"])).error_code, 0);
        let reply = session.next(&topic, 0..0);
        assert_eq!((reply.session_id, indexes(&reply)), (session.id, vec![1]), "v{version}: one changed");

        assert_eq!(produce_at(&mut wire, 9, &topic, 3, -1, encoded(["y"])).error_code, 0);
        let reply = session.next(&topic, 3..4);
        assert_eq!(indexes(&reply).iter().filter(|&&p| p == 3).count(), 1, "v{version}: an added partition");
    }
}

#[test]
fn a_session_forgets_partitions() {
    for version in [BY_NAME, BY_ID] {
        let mut wire = Wire::connect(shared());
        let topic = create(&mut wire, "forget", 2, &[]);
        let (mut session, _) = Session::open(version, &topic, 2);
        let mut forgotten = msg!(ForgottenTopic { partitions: vec![1] });
        match version {
            BY_NAME => forgotten.topic = topic.name.as_str().into(),
            _ => forgotten.topic_id = topic.id,
        }
        let mut request = Fetch { version, max_wait_ms: 50, ..Fetch::default() }.empty_request();
        request.forgotten_topics_data = vec![forgotten];
        assert_eq!(session.send(request).error_code, 0);
        for partition in 0..2 {
            assert_eq!(produce_at(&mut wire, 9, &topic, partition, -1, encoded(["x"])).error_code, 0);
        }
        assert_eq!(indexes(&session.next(&topic, 0..0)), [0], "v{version}");
    }
}

#[test]
fn a_session_waits_for_data() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "session-poll", 2, &[]);
    let (mut session, _) = Session::open(BY_NAME, &topic, 2);
    let mut request = Fetch { max_wait_ms: 15_000, ..Fetch::default() }.empty_request();
    (request.session_id, request.session_epoch) = (session.id, 1);
    let id = session.wire.send(BY_NAME, &request);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(produce_at(&mut wire, 9, &topic, 1, -1, encoded(["x"])).error_code, 0);
    let produced = Instant::now();
    let reply = session.wire.receive::<FetchRequest>(BY_NAME, id);
    assert!(produced.elapsed() < Duration::from_secs(3));
    assert_eq!(indexes(&reply), [1]);
}

#[test]
fn session_errors_are_top_level() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "session-errors", 1, &[]);
    let (mut session, _) = Session::open(BY_NAME, &topic, 1);

    session.epoch = 9;
    let reply = session.next(&topic, 0..0);
    assert_eq!(reply.error_code, code::INVALID_FETCH_SESSION_EPOCH);
    assert!(reply.responses.is_empty());

    session.epoch = 1;
    assert_eq!(session.next(&topic, 0..0).error_code, code::NONE, "a wrong epoch does not end the session");

    let real = session.id;
    session.id = real ^ 0x55_5555;
    assert_eq!(session.next(&topic, 0..0).error_code, code::FETCH_SESSION_ID_NOT_FOUND);

    (session.id, session.epoch) = (real, -1);
    let reply = session.next(&topic, 0..1);
    assert_eq!((reply.error_code, reply.session_id), (code::NONE, 0), "epoch -1 closes");
    (session.id, session.epoch) = (real, 3);
    assert_eq!(session.next(&topic, 0..0).error_code, code::FETCH_SESSION_ID_NOT_FOUND, "and it is closed");
}

#[test]
fn a_session_does_not_mix_names_and_ids() {
    const FETCH_SESSION_TOPIC_ID_ERROR: i16 = 106;
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "session-mix", 1, &[]);
    for (open, then) in [(BY_NAME, BY_ID), (BY_ID, BY_NAME)] {
        let (mut session, _) = Session::open(open, &topic, 1);
        session.version = then;
        assert_eq!(
            session.next(&topic, 0..1).error_code,
            FETCH_SESSION_TOPIC_ID_ERROR,
            "v{open} then v{then}"
        );
    }
}

#[test]
fn sessions_are_bounded() {
    if needs_own_broker() {
        return;
    }
    let args = vec!["--fetch-sessions", "100"];
    let broker = Broker::start_with(Options { args, ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "session-many", 1, &[]);
    produce(&mut wire, &topic, encoded(["x"]));
    let mut open = |i: usize| {
        let mut request = Fetch { max_wait_ms: 0, ..Fetch::default() }.request(&topic);
        request.session_epoch = 0;
        let reply = wire.call(BY_NAME, &request);
        assert_eq!(reply.error_code, 0, "session {i}: answered, with or without a session");
        assert_eq!(reply.responses.len(), 1, "session {i}");
        reply.session_id
    };
    let first = open(0);
    let kept = (1..300).filter(|i| open(*i) != 0).count();
    assert!((10..100).contains(&kept), "{kept} sessions");
    let mut request = Fetch { max_wait_ms: 0, ..Fetch::default() }.empty_request();
    (request.session_id, request.session_epoch) = (first, 1);
    assert_eq!(wire.call(BY_NAME, &request).error_code, 0, "who is in use gives way to nobody");
}
