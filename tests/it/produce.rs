//! Produce: what is accepted, what is refused with which error, and what idempotent producers are promised.

use std::collections::HashSet;

use bytes::Bytes;
use kafka_wire::ProduceRequest;
use kafka_wire_core::Uuid;
use kafka_wire_records::{Compression, RecordBatch, TimestampType};

use crate::support::batch::{
    AT_ATTRIBUTES, AT_BASE_SEQUENCE, AT_COUNT, AT_LAST_OFFSET_DELTA, AT_LENGTH, AT_MAGIC, AT_PRODUCER_EPOCH,
    AT_PRODUCER_ID, at_times, batch, bytes_of, decode_all, encoded, from_producer, now_ms, patched, rows,
};
use crate::support::broker::{Broker, http_get, needs_own_broker};
use crate::support::calls::{
    Fetch, Topic, code, create, list_offset, produce, produce_at, produce_request, producer_id, read_from,
};
use crate::support::{Wire, shared, unique};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

#[test]
fn every_version_and_every_codec_round_trips() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "versions", 1, &[]);
    let mut expected = Vec::new();
    for version in 3..=13 {
        for codec in CODECS.into_iter().filter(|codec| version >= 7 || *codec != Compression::Zstd) {
            let values: Vec<String> = (0..20).map(|i| format!("{} v{version} #{i}", codec.name())).collect();
            let records = bytes_of(&RecordBatch { compression: codec, ..batch(&values) });
            let reply = produce_at(&mut wire, version, &topic, 0, -1, records);
            assert_eq!(reply.error_code, code::NONE, "v{version} {}", codec.name());
            assert_eq!(reply.base_offset, expected.len() as i64, "v{version} {}", codec.name());
            assert_eq!(reply.log_append_time_ms, -1, "CreateTime reports no append time");
            expected.extend(values);
        }
    }
    let got = read_from(&mut wire, &topic, 0, 0);
    assert_eq!(got.len(), expected.len());
    for (i, ((offset, value), expected)) in got.iter().zip(&expected).enumerate() {
        assert_eq!((*offset, value.as_ref()), (i as i64, expected.as_bytes()));
    }
}

#[test]
fn a_batch_keeps_its_bytes_but_for_offset_and_epoch() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "verbatim", 1, &[]);
    produce(&mut wire, &topic, encoded(["before"]));
    let sent = bytes_of(&RecordBatch { compression: Compression::Lz4, ..batch(["a", "b", "c"]) });
    assert_eq!(produce(&mut wire, &topic, sent.clone()), 1);
    let got = Fetch { offset: 1, ..Fetch::default() }.run(&mut wire, &topic).records.expect("records");
    assert_eq!(got[..8], 1i64.to_be_bytes(), "base offset");
    assert_eq!(got[8..12], sent[8..12], "batch length");
    assert_eq!(got[12..16], 0i32.to_be_bytes(), "leader epoch");
    assert_eq!(got[16..], sent[16..], "magic, checksum and everything it covers");
}

/// What produce answers to one batch, and that a refused batch takes no offset.
fn check(what: &str, version: i16, acks: i16, records: &Bytes, allowed: &[i16]) {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "refused", 1, &[]);
    let reply = produce_at(&mut wire, version, &topic, 0, acks, records.clone());
    assert!(allowed.contains(&reply.error_code), "{what}: error {}, expected {allowed:?}", reply.error_code);
    if reply.error_code != code::NONE {
        assert_eq!(reply.base_offset, -1, "{what}: a refused batch has no offset");
    }
    let expected = i64::from(reply.error_code == code::NONE);
    assert_eq!(produce(&mut wire, &topic, encoded(["after"])), expected, "{what}: the next offset");
}

#[test]
fn bad_batches_are_refused_with_the_right_error() {
    let good = encoded(["value"]);
    let with = |at, patch: &[u8]| patched(&good, at, patch);
    let mut wrong_crc = good.to_vec();
    *wrong_crc.last_mut().expect("bytes") ^= 1;
    let two = Bytes::from([good.as_ref(), good.as_ref()].concat());
    let cut = good.slice(..good.len() - 3);
    let trailing = Bytes::from([good.as_ref(), b"garbage".as_ref()].concat());
    let short_length = with(AT_LENGTH, &40i32.to_be_bytes());
    let long_length = with(AT_LENGTH, &1_000_000i32.to_be_bytes());
    let negative_length = with(AT_LENGTH, &(-1i32).to_be_bytes());
    let zstd = bytes_of(&RecordBatch { compression: Compression::Zstd, ..batch(["z"]) });
    let broken = [code::CORRUPT_MESSAGE, code::INVALID_RECORD];
    let invalid = [code::INVALID_RECORD];

    check("a good batch", 9, -1, &good, &[code::NONE]);
    check("acks=1", 9, 1, &good, &[code::NONE]);
    check("acks=5", 9, 5, &good, &[code::INVALID_REQUIRED_ACKS]);
    check("acks=-2", 9, -2, &good, &[code::INVALID_REQUIRED_ACKS]);
    check("wrong checksum", 9, -1, &wrong_crc.into(), &[code::CORRUPT_MESSAGE]);
    check("count above the records", 9, -1, &with(AT_COUNT, &7i32.to_be_bytes()), &invalid);
    check("count zero", 9, -1, &with(AT_COUNT, &0i32.to_be_bytes()), &invalid);
    check("count negative", 9, -1, &with(AT_COUNT, &(-5i32).to_be_bytes()), &invalid);
    check("offset delta without records", 9, -1, &with(AT_LAST_OFFSET_DELTA, &9i32.to_be_bytes()), &invalid);
    check("negative offset delta", 9, -1, &with(AT_LAST_OFFSET_DELTA, &(-1i32).to_be_bytes()), &invalid);
    check("two batches", 9, -1, &two, &invalid);
    check("no batch", 9, -1, &Bytes::new(), &invalid);
    check("a cut batch", 9, -1, &cut, &invalid);
    check("half a header", 9, -1, &good.slice(..30), &invalid);
    check("a few bytes", 9, -1, &good.slice(..5), &invalid);
    // Kafka drops a tail that is too short to be a batch; refusing it is as good.
    check(
        "bytes after the batch",
        9,
        -1,
        &trailing,
        &[code::NONE, code::CORRUPT_MESSAGE, code::INVALID_RECORD],
    );
    check("length too short", 9, -1, &short_length, &broken);
    check("length past the end", 9, -1, &long_length, &invalid);
    check("length negative", 9, -1, &negative_length, &[code::CORRUPT_MESSAGE]);
    check("magic 1", 9, -1, &with(AT_MAGIC, &[1]), &invalid);
    check("magic 0", 9, -1, &with(AT_MAGIC, &[0]), &invalid);
    check("magic 77", 9, -1, &with(AT_MAGIC, &[77]), &[code::CORRUPT_MESSAGE]);
    check("a control batch", 9, -1, &with(AT_ATTRIBUTES, &0x20i16.to_be_bytes()), &invalid);
    check("zstd before v7", 6, -1, &zstd, &[code::UNSUPPORTED_COMPRESSION_TYPE]);
    check("zstd at v7", 7, -1, &zstd, &[code::NONE]);
    let mut from = good.to_vec();
    from[AT_PRODUCER_ID..AT_PRODUCER_ID + 8].copy_from_slice(&77i64.to_be_bytes());
    let producer = patched(&from.into(), AT_PRODUCER_EPOCH, &0i16.to_be_bytes());
    let negative_sequence = patched(&producer, AT_BASE_SEQUENCE, &(-1i32).to_be_bytes());
    check("a producer id without a sequence", 9, -1, &negative_sequence, &invalid);
}

#[test]
fn an_unknown_codec_is_refused() {
    let unknown = patched(&encoded(["value"]), AT_ATTRIBUTES, &6i16.to_be_bytes());
    // Kafka answers UNKNOWN_SERVER_ERROR; a broker that looks first has better words for it.
    let allowed = [-1, code::CORRUPT_MESSAGE, code::INVALID_RECORD, code::UNSUPPORTED_COMPRESSION_TYPE];
    check("codec 6", 9, -1, &unknown, &allowed);
}

#[test]
fn unknown_places_are_refused() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "places", 2, &[]);
    let nowhere = Topic { name: unique("nowhere"), id: Uuid::from_bytes([7; 16]) };
    let mut check = |what: &str, version, topic: &Topic, partition, expected: i16| {
        let reply = produce_at(&mut wire, version, topic, partition, -1, encoded(["x"]));
        assert_eq!(reply.error_code, expected, "{what}");
    };
    check("partition past the last", 9, &topic, 2, code::UNKNOWN_TOPIC_OR_PARTITION);
    check("partition past the last, by id", 13, &topic, 2, code::UNKNOWN_TOPIC_OR_PARTITION);
    check("negative partition", 9, &topic, -1, code::UNKNOWN_TOPIC_OR_PARTITION);
    check("unknown topic", 9, &nowhere, 0, code::UNKNOWN_TOPIC_OR_PARTITION);
    check("unknown topic id", 13, &nowhere, 0, code::UNKNOWN_TOPIC_ID);
    check("the last partition", 9, &topic, 1, code::NONE);
}

#[test]
fn the_size_limit_is_on_the_compressed_batch() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "sizes", 1, &[("max.message.bytes", "10000")]);
    let big = "x".repeat(20_000);
    let reply = produce_at(&mut wire, 9, &topic, 0, -1, encoded([&big]));
    assert_eq!(reply.error_code, code::MESSAGE_TOO_LARGE);
    let squeezed = bytes_of(&RecordBatch { compression: Compression::Gzip, ..batch([&big]) });
    assert_eq!(produce(&mut wire, &topic, squeezed), 0);
    assert_eq!(read_from(&mut wire, &topic, 0, 0)[0].1.len(), big.len());
}

#[test]
fn one_bad_partition_does_not_spoil_the_others() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "mixed", 3, &[]);
    let mut bad = encoded(["bad"]).to_vec();
    *bad.last_mut().expect("bytes") ^= 1;
    let mut request = produce_request(9, &topic, 0, -1, encoded(["zero"]));
    request.topic_data[0]
        .partition_data
        .push(produce_request(9, &topic, 1, -1, bad.into()).topic_data.remove(0).partition_data.remove(0));
    request.topic_data[0].partition_data.push(
        produce_request(9, &topic, 2, -1, encoded(["two"])).topic_data.remove(0).partition_data.remove(0),
    );
    let mut replies = wire.call(9, &request).responses.remove(0).partition_responses;
    replies.sort_by_key(|reply| reply.index);
    let codes: Vec<i16> = replies.iter().map(|reply| reply.error_code).collect();
    assert_eq!(codes, [code::NONE, code::CORRUPT_MESSAGE, code::NONE]);
    assert_eq!(
        rows(Fetch { partition: 2, ..Fetch::default() }.run(&mut wire, &topic).records.expect("records"))
            .len(),
        1
    );
}

#[test]
fn timestamps_out_of_bounds_are_refused() {
    let mut wire = Wire::connect(shared());
    let bounds = [("message.timestamp.before.max.ms", "60000"), ("message.timestamp.after.max.ms", "60000")];
    let topic = create(&mut wire, "times", 1, &bounds);
    let now = now_ms();
    for (what, time, expected) in [
        ("too old", now - 120_000, code::INVALID_TIMESTAMP),
        ("too far ahead", now + 120_000, code::INVALID_TIMESTAMP),
        ("a little old", now - 20_000, code::NONE),
        ("a little ahead", now + 20_000, code::NONE),
    ] {
        let reply = produce_at(&mut wire, 9, &topic, 0, -1, bytes_of(&at_times(&[time])));
        assert_eq!(reply.error_code, expected, "{what}");
    }
}

#[test]
fn log_append_time_is_the_brokers() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "appended", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let before = now_ms();
    for codec in [Compression::None, Compression::Snappy] {
        let records = bytes_of(&RecordBatch { compression: codec, ..at_times(&[1_000, 2_000]) });
        let reply = produce_at(&mut wire, 9, &topic, 0, -1, records);
        assert_eq!(reply.error_code, code::NONE);
        assert!((before..=now_ms()).contains(&reply.log_append_time_ms), "{}", reply.log_append_time_ms);
        let at = reply.base_offset;
        let fetched =
            Fetch { offset: at, ..Fetch::default() }.run(&mut wire, &topic).records.expect("records");
        let batch = decode_all(fetched).remove(0);
        assert_eq!(batch.timestamp_type, TimestampType::LogAppendTime);
        assert_eq!(batch.max_timestamp, reply.log_append_time_ms);
        assert_eq!(
            list_offset(&mut wire, 7, &topic.name, 0, before).offset,
            0,
            "time lookups see the append time"
        );
    }
}

#[test]
fn a_compacted_topic_wants_keys() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "compacted", 1, &[("cleanup.policy", "compact")]);
    // Kafka looks into compressed batches too; here they are stored as they came.
    let mut keyed = batch(["a", "b"]);
    for record in &mut keyed.records {
        record.key = Some(Bytes::from_static(b"key"));
    }
    let reply = produce_at(&mut wire, 9, &topic, 0, -1, bytes_of(&keyed));
    assert_eq!(reply.error_code, code::NONE, "all with keys");
    keyed.records[1].key = None;
    let reply = produce_at(&mut wire, 9, &topic, 0, -1, bytes_of(&keyed));
    assert_eq!(reply.error_code, code::INVALID_RECORD, "one without");
}

#[test]
fn acks_0_is_silent_and_an_error_closes() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "silent", 1, &[]);
    wire.send(9, &produce_request(9, &topic, 0, 0, encoded(["one"])));
    wire.send(9, &produce_request(9, &topic, 0, 0, encoded(["two"])));
    // The next answer on the wire is to the next request that has one, and order on a connection holds.
    assert_eq!(produce(&mut wire, &topic, encoded(["three"])), 2);

    wire.send(9, &produce_request(9, &topic, 0, 0, patched(&encoded(["x"]), AT_COUNT, &[0, 0, 0, 9])));
    wire.assert_closed("acks=0 and an invalid batch");
    let mut again = Wire::connect(shared());
    assert_eq!(list_offset(&mut again, 7, &topic.name, 0, -1).offset, 3);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "pipeline", 4, &[]);
    let mut sent = Vec::new();
    for i in 0..200 {
        let id = wire.send(9, &produce_request(9, &topic, i % 4, -1, encoded([format!("{i}")])));
        sent.push((i, id));
    }
    for (i, id) in sent {
        let reply = wire.receive::<kafka_wire::ProduceRequest>(9, id);
        let partition = &reply.responses[0].partition_responses[0];
        assert_eq!(
            (partition.error_code, partition.base_offset),
            (code::NONE, i64::from(i / 4)),
            "request {i}"
        );
    }
    for partition in 0..4 {
        let values: Vec<Bytes> =
            read_from(&mut wire, &topic, partition, 0).into_iter().map(|row| row.1).collect();
        let expected: Vec<String> = (0..50).map(|i| (i * 4 + partition).to_string()).collect();
        assert_eq!(values, expected, "partition {partition} keeps the order of its connection");
    }
}

#[test]
fn a_repeated_batch_gets_its_original_offset() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "dedup", 1, &[]);
    let (id, epoch) = producer_id(&mut wire);
    let send = |wire: &mut Wire, epoch, sequence: i32, values: &[&str]| {
        let reply = produce_at(wire, 9, &topic, 0, -1, bytes_of(&from_producer(id, epoch, sequence, values)));
        (reply.error_code, reply.base_offset)
    };
    for i in 0..6 {
        assert_eq!(send(&mut wire, epoch, i * 2, &["a", "b"]), (code::NONE, i64::from(i) * 2));
    }
    for i in (1..6).rev() {
        let again = send(&mut wire, epoch, i * 2, &["a", "b"]);
        assert_eq!(again, (code::NONE, i64::from(i) * 2), "one of the last five: batch {i} again");
    }
    let (error, _) = send(&mut wire, epoch, 0, &["a", "b"]);
    assert!(error == code::OUT_OF_ORDER_SEQUENCE || error == 46, "older than the last five: error {error}");
    assert_eq!(send(&mut wire, epoch, 20, &["gap"]).0, code::OUT_OF_ORDER_SEQUENCE, "a gap");
    assert_eq!(send(&mut wire, epoch, 12, &["next"]), (code::NONE, 12), "the gap left no trace");
    assert_eq!(
        send(&mut wire, epoch + 1, 3, &["epoch"]).0,
        code::OUT_OF_ORDER_SEQUENCE,
        "a new epoch starts at 0"
    );
    assert_eq!(send(&mut wire, epoch + 1, 0, &["epoch"]), (code::NONE, 13), "a new epoch");
    assert_eq!(send(&mut wire, epoch, 13, &["stale"]).0, code::INVALID_PRODUCER_EPOCH, "the old epoch");
    assert_eq!(list_offset(&mut wire, 7, &topic.name, 0, -1).offset, 14, "no duplicate was stored");
}

#[test]
fn an_unknown_producer_may_start_anywhere_and_sequences_wrap() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "wrap", 1, &[]);
    let (id, epoch) = producer_id(&mut wire);
    let start = i32::MAX - 1;
    for (sequence, values, offset) in [(start, ["a", "b"], 0), (0, ["c", "d"], 2), (2, ["e", "f"], 4)] {
        let records = bytes_of(&from_producer(id, epoch, sequence, values));
        let reply = produce_at(&mut wire, 9, &topic, 0, -1, records);
        assert_eq!((reply.error_code, reply.base_offset), (code::NONE, offset), "sequence {sequence}");
    }
}

#[test]
fn producer_ids_are_never_handed_out_twice() {
    let mut ids = std::collections::HashSet::new();
    for _ in 0..4 {
        let mut wire = Wire::connect(shared());
        for _ in 0..25 {
            assert!(ids.insert(producer_id(&mut wire).0));
        }
    }
}

/// Requests that lead to one shard take their connection there; what is asked then, wherever it leads, is answered in
/// order by the same connection.
#[test]
fn a_connection_follows_its_partitions_between_shards() {
    if needs_own_broker() {
        return;
    }
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "followed", 16, &[]);
    let mut serving = HashSet::new();
    for partition in 0..16 {
        for i in 0..40 {
            let reply = produce_at(&mut wire, 9, &topic, partition, -1, encoded(["x"]));
            assert_eq!((reply.error_code, reply.base_offset), (code::NONE, i64::from(partition) + i));
        }
        let (_, metrics) = http_get(broker.admin, "/metrics").expect("metrics");
        let serves = |line: &str| line.starts_with("weir_connections{") && line.ends_with(" 1");
        serving.extend(metrics.lines().filter(|line| serves(line)).map(str::to_owned));
        // A burst across all of them, in flight together.
        let request = |to| produce_request(9, &topic, to, -1, encoded(["y"]));
        let sent: Vec<i32> = (0..16).map(|to| wire.send(9, &request(to))).collect();
        for (to, correlation) in sent.into_iter().enumerate() {
            let reply = wire.receive::<ProduceRequest>(9, correlation);
            assert_eq!(reply.responses[0].partition_responses[0].error_code, code::NONE, "partition {to}");
        }
    }
    assert_eq!(serving.len(), 2, "two shards served the connection: {serving:?}");
}
