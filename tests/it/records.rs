//! What is made sure of each record before a batch is acknowledged, who is told of which records, and how a topic's
//! codec changes what is stored.

use bytes::Bytes;
use kafka_wire::ProduceRequest;
use kafka_wire::produce_response::PartitionProduceResponse;
use kafka_wire_records::{Compression, RecordBatch, TimestampType};

use crate::support::batch::{
    AT_COUNT, AT_LAST_OFFSET_DELTA, at_times, batch, bytes_of, decode_all, encoded, from_producer, now_ms,
    packed, patched, with_records,
};
use crate::support::broker::needs_own_broker;
use crate::support::calls::{
    Fetch, Topic, code, create, list_offset, produce, produce_at, produce_request, producer_id, read_from,
};
use crate::support::{Wire, shared};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const PACKED: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
/// Kafka has no better words for what it does not expect: an exception that nobody named.
const UNKNOWN_SERVER_ERROR: i16 = -1;

/// A record of the format, byte for byte: a length and what follows, all numbers below 64.
fn record(offset_delta: u8, fields: &[u8]) -> Vec<u8> {
    [&[2 * (3 + fields.len() as u8), 0, 0, 2 * offset_delta], fields].concat()
}

/// No key, the value "v", no headers.
const GOOD: &[u8] = &[1, 2, b'v', 0];

/// A batch that counts so many records, over these bytes, compressed.
fn raw(codec: Compression, count: i32, records: &[u8]) -> Bytes {
    let counted = patched(&encoded(["value"]), AT_COUNT, &count.to_be_bytes());
    let counted = patched(&counted, AT_LAST_OFFSET_DELTA, &(count - 1).to_be_bytes());
    with_records(&counted, codec, &packed(codec, records))
}

fn errors_of(reply: &PartitionProduceResponse) -> Vec<i32> {
    reply.record_errors.iter().map(|error| error.batch_index).collect()
}

/// What produce answers to one batch, which records it names, and that a refused batch takes no offset.
fn check(what: &str, wire: &mut Wire, topic: &Topic, records: Bytes, codes: &[i16], named: &[i32]) {
    let before = list_offset(wire, 7, &topic.name, 0, -1).offset;
    let reply = produce_at(wire, 9, topic, 0, -1, records);
    assert!(codes.contains(&reply.error_code), "{what}: error {}, not {codes:?}", reply.error_code);
    assert_eq!(errors_of(&reply), named, "{what}");
    if reply.error_code != code::NONE {
        assert_eq!(reply.base_offset, -1, "{what}: a refused batch has no offset");
        assert_eq!(produce(wire, topic, encoded(["after"])), before, "{what}: the next offset");
    }
}

#[test]
fn records_that_nobody_can_read_are_refused() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "unreadable", 1, &[]);
    let invalid = [code::INVALID_RECORD];
    let odd = [code::INVALID_RECORD, UNKNOWN_SERVER_ERROR];
    let two = [record(0, GOOD), record(1, GOOD)].concat();
    let one = record(0, GOOD);
    let cases: &[(&str, i32, Vec<u8>, &[i16])] = &[
        ("a good record", 1, one.clone(), &[code::NONE]),
        ("two", 2, two.clone(), &[code::NONE]),
        ("a header without a key", 1, record(0, &[1, 2, b'v', 2, 1, 2, b'x']), &invalid),
        ("a negative header count", 1, record(0, &[1, 2, b'v', 5]), &invalid),
        ("more headers than bytes", 1, record(0, &[1, 2, b'v', 100]), &odd),
        ("a length that is no number", 1, vec![0xff; 12], &odd),
        ("a key longer than its record", 1, record(0, &[80, 2, b'v', 0]), &odd),
        ("bytes behind the records", 1, [&one[..], b"junk"].concat(), &odd),
        ("more records than are counted", 1, two.clone(), &odd),
        ("fewer records than are counted", 2, one.clone(), &odd),
        ("a cut record", 1, one[..one.len() - 1].to_vec(), &odd),
    ];
    for codec in CODECS {
        for (what, count, records, codes) in cases {
            let what = format!("{what}, {}", codec.name());
            check(&what, &mut wire, &topic, raw(codec, *count, records), codes, &[]);
        }
    }
    // Kafka looks at a compressed record's length only where it writes the batch anew.
    let longer = record(0, &[1, 2, b'v', 0, 9, 9]);
    check(
        "a record longer than its fields",
        &mut wire,
        &topic,
        raw(Compression::None, 1, &longer),
        &invalid,
        &[],
    );
    if !needs_own_broker() {
        for codec in PACKED {
            check("longer, compressed", &mut wire, &topic, raw(codec, 1, &longer), &invalid, &[]);
        }
    }
}

#[test]
fn payloads_that_do_not_open_are_refused() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "unopened", 1, &[]);
    let odd = [code::INVALID_RECORD, UNKNOWN_SERVER_ERROR];
    let good: Vec<u8> = (0..40).flat_map(|i| record(i, GOOD)).collect();
    for codec in PACKED {
        let name = codec.name();
        let whole = packed(codec, &good);
        let batch = |payload: &[u8]| with_records(&raw(codec, 40, &good), codec, payload);
        check(name, &mut wire, &topic, batch(&whole), &[code::NONE], &[]);
        let rubbish = b"nothing sensible, twenty bytes and more";
        check(&format!("{name}: rubbish"), &mut wire, &topic, batch(rubbish), &odd, &[]);
        let mut magic = whole.clone();
        magic[4..].fill(0xff);
        check(&format!("{name}: only the magic"), &mut wire, &topic, batch(&magic), &odd, &[]);
        let cut = &whole[..whole.len() / 2];
        check(&format!("{name}: cut"), &mut wire, &topic, batch(cut), &odd, &[]);
    }
}

#[test]
fn records_that_the_topic_does_not_take_are_named_each() {
    let mut wire = Wire::connect(shared());
    let bounds = [
        ("message.timestamp.before.max.ms", "60000"),
        ("message.timestamp.after.max.ms", "60000"),
        ("cleanup.policy", "compact"),
    ];
    let topic = create(&mut wire, "named", 1, &bounds);
    let now = now_ms();
    let keyed = |codec, times: &[i64], keyless: &[usize]| {
        let mut batch = RecordBatch { compression: codec, ..at_times(times) };
        for (i, record) in batch.records.iter_mut().enumerate() {
            record.key = (!keyless.contains(&i)).then(|| Bytes::from(format!("k{i}")));
        }
        bytes_of(&batch)
    };
    for codec in CODECS {
        let name = codec.name();
        let mut refused = |what: &str, times: &[i64], keyless: &[usize], codes: &[i16], named: &[i32]| {
            let records = keyed(codec, times, keyless);
            let reply = produce_at(&mut wire, 9, &topic, 0, -1, records);
            assert!(codes.contains(&reply.error_code), "{name}, {what}: error {}", reply.error_code);
            assert_eq!(errors_of(&reply), named, "{name}, {what}");
            let told = reply.record_errors.iter().all(|e| e.batch_index_error_message.is_some());
            assert!(told && reply.error_message.is_some(), "{name}, {what}: {reply:?}");
        };
        let (old, late) = (now - 120_000, now + 120_000);
        let untimely = [code::INVALID_TIMESTAMP];
        refused("in the middle", &[now, old, now], &[], &untimely, &[1]);
        refused("several", &[late, now, old, now + 1, late], &[], &untimely, &[0, 2, 4]);
        refused("keys", &[now; 5], &[0, 3], &[code::INVALID_RECORD], &[0, 3]);
        refused("both", &[now, old, now], &[2], &untimely, &[1, 2]);
        refused("both of one", &[now, old], &[1], &[code::INVALID_RECORD], &[1]);
        let good = keyed(codec, &[now, now - 50_000, now + 50_000], &[]);
        check(name, &mut wire, &topic, good, &[code::NONE], &[]);
        // Before version 8 there is no place for it.
        let reply = produce_at(&mut wire, 7, &topic, 0, -1, keyed(codec, &[now, old], &[]));
        assert_eq!((reply.error_code, errors_of(&reply)), (code::INVALID_TIMESTAMP, vec![]));
    }
}

#[test]
fn a_producer_cannot_say_that_its_times_are_the_brokers() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "claimed", 1, &[("message.timestamp.type", "LogAppendTime")]);
    for codec in CODECS {
        let times = [now_ms(); 3];
        let mut claimed = RecordBatch { compression: codec, ..at_times(&times) };
        claimed.timestamp_type = TimestampType::LogAppendTime;
        let codes = [code::INVALID_TIMESTAMP];
        check(codec.name(), &mut wire, &topic, bytes_of(&claimed), &codes, &[0, 1, 2]);
    }
    // Where the producers' times count, the claim is dropped.
    let topic = create(&mut wire, "unclaimed", 1, &[]);
    let mut claimed = at_times(&[now_ms(); 3]);
    claimed.timestamp_type = TimestampType::LogAppendTime;
    produce(&mut wire, &topic, bytes_of(&claimed));
    assert_eq!(stored(&mut wire, &topic, 0)[0].timestamp_type, TimestampType::CreateTime);
}

/// The batches of partition 0 from an offset on.
fn stored(wire: &mut Wire, topic: &Topic, offset: i64) -> Vec<RecordBatch> {
    decode_all(Fetch { offset, ..Fetch::default() }.run(wire, topic).records.expect("records"))
}

#[test]
fn the_largest_timestamp_is_the_records() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "largest", 1, &[]);
    let now = now_ms();
    for (i, codec) in CODECS.into_iter().enumerate() {
        let times = [now, now + 40, now + 7].map(|t| t + i as i64 * 100);
        let mut wrong = RecordBatch { compression: codec, ..at_times(&times) };
        wrong.max_timestamp = now + 1_000_000;
        let at = produce(&mut wire, &topic, bytes_of(&wrong));
        assert_eq!(stored(&mut wire, &topic, at)[0].max_timestamp, times[1], "{}", codec.name());
        let found = list_offset(&mut wire, 7, &topic.name, 0, -3);
        assert_eq!((found.offset, found.timestamp), (at + 1, times[1]), "{}", codec.name());
    }
}

#[test]
fn offset_deltas_are_made_right() {
    let mut wire = Wire::connect(shared());
    let rewriting = create(&mut wire, "deltas", 1, &[("compression.type", "gzip")]);
    let keeping = create(&mut wire, "deltas", 1, &[]);
    for codec in CODECS {
        for deltas in [[0, 0, 0], [2, 1, 0], [1, 2, 3]] {
            let records: Vec<u8> = deltas.iter().flat_map(|delta| record(*delta, GOOD)).collect();
            let mut check = |topic: &Topic| {
                let at = produce(&mut wire, topic, raw(codec, 3, &records));
                let offsets: Vec<i64> =
                    read_from(&mut wire, topic, 0, at).into_iter().map(|(offset, _)| offset).collect();
                assert_eq!(offsets, [at, at + 1, at + 2], "{} {deltas:?}", codec.name());
            };
            if codec != Compression::Gzip {
                check(&rewriting);
            }
            // Where its codec stays, Kafka fails without a reason, or stores offsets by which consumers miss records.
            if !needs_own_broker() {
                check(&keeping);
            }
        }
    }
}

#[test]
fn a_topics_codec_is_what_is_stored() {
    let mut wire = Wire::connect(shared());
    for (setting, wanted) in [
        ("uncompressed", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ] {
        let topic = create(&mut wire, "codec", 1, &[("compression.type", setting)]);
        let (id, epoch) = producer_id(&mut wire);
        let mut sequence = 0;
        for codec in CODECS {
            let values: Vec<String> = (0..200).map(|i| format!("{setting} {} {i}", codec.name())).collect();
            let mut sent = RecordBatch { compression: codec, ..from_producer(id, epoch, sequence, &values) };
            for (i, record) in sent.records.iter_mut().enumerate() {
                record.key = (i % 3 > 0).then(|| Bytes::from(format!("key {i}")));
                record.timestamp_delta = (i % 7) as i64;
            }
            sent.max_timestamp = sent.base_timestamp + 6;
            let at = produce(&mut wire, &topic, bytes_of(&sent));
            assert_eq!(at, i64::from(sequence));
            // Sent again, it is known again, though it is stored as another.
            assert_eq!(produce(&mut wire, &topic, bytes_of(&sent)), at, "{setting} {}", codec.name());
            let got = stored(&mut wire, &topic, at);
            assert_eq!(got.len(), 1, "{setting} {}: stored once", codec.name());
            assert_eq!(got[0].compression, wanted, "{setting} {}", codec.name());
            assert_eq!((got[0].producer_id, got[0].base_sequence), (id, sequence));
            assert_eq!(
                (got[0].base_timestamp, got[0].max_timestamp),
                (sent.base_timestamp, sent.max_timestamp)
            );
            assert_eq!(got[0].records, sent.records, "{setting} {}", codec.name());
            sequence += 200;
        }
    }
}

#[test]
fn levels_have_their_effect() {
    let mut wire = Wire::connect(shared());
    let values: Vec<String> =
        (0..4000_u32).map(|i| (i.wrapping_mul(2_654_435_761) % 9973).to_string()).collect();
    for (codec, low, high) in [("gzip", "1", "9"), ("lz4", "1", "17"), ("zstd", "-50", "19")] {
        let level = format!("compression.{codec}.level");
        let mut sizes = Vec::new();
        for level_value in [low, high] {
            let configs = [("compression.type", codec), (level.as_str(), level_value)];
            let topic = create(&mut wire, "level", 1, &configs);
            produce(&mut wire, &topic, encoded(&values));
            let bytes = Fetch::default().run(&mut wire, &topic).records.expect("records");
            sizes.push(bytes.len());
            assert_eq!(read_from(&mut wire, &topic, 0, 0).len(), values.len());
        }
        assert!(sizes[1] < sizes[0], "{codec}: {sizes:?}");
    }
}

#[test]
fn the_size_limit_is_also_on_what_is_stored() {
    let mut wire = Wire::connect(shared());
    let configs = [("compression.type", "uncompressed"), ("max.message.bytes", "10000")];
    let topic = create(&mut wire, "expanded", 1, &configs);
    let squeezed =
        |size: usize| bytes_of(&RecordBatch { compression: Compression::Gzip, ..batch(["x".repeat(size)]) });
    check("too large", &mut wire, &topic, squeezed(20_000), &[code::MESSAGE_TOO_LARGE], &[]);
    check("small enough", &mut wire, &topic, squeezed(9_000), &[code::NONE], &[]);
}

/// Large compressed batches are looked into beside the shard, small ones at once: what is sent later must not overtake.
#[test]
fn order_is_kept_between_what_is_much_work_and_what_is_little() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "overtake", 2, &[]);
    let (id, epoch) = producer_id(&mut wire);
    let filler: String =
        (0..120_000_u32).map(|i| char::from(b'a' + (i.wrapping_mul(40_503) >> 9) as u8 % 26)).collect();
    let mut sent = Vec::new();
    for i in 0..40 {
        let value = if i % 3 == 1 { "small".to_owned() } else { format!("{i} {filler}") };
        let codec = CODECS[i as usize % 5];
        let records = bytes_of(&RecordBatch { compression: codec, ..from_producer(id, epoch, i, [value]) });
        // Nobody answers some of them.
        let acks = if i % 4 == 3 { 0 } else { -1 };
        let correlation = wire.send(9, &produce_request(9, &topic, 0, acks, records));
        if acks != 0 {
            sent.push((i, correlation));
        }
    }
    for (i, correlation) in sent {
        let reply = wire.receive::<ProduceRequest>(9, correlation);
        let partition = &reply.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (code::NONE, i64::from(i)), "request {i}");
    }
}

/// Who leaves while its batch is looked into leaves no place in the line behind.
#[test]
fn a_client_that_leaves_holds_nobody_up() {
    let topic = create(&mut Wire::connect(shared()), "left", 1, &[]);
    let large = bytes_of(&RecordBatch { compression: Compression::Gzip, ..batch(["y".repeat(20 << 20)]) });
    for _ in 0..10 {
        let mut leaving = Wire::connect(shared());
        for _ in 0..3 {
            leaving.send(9, &produce_request(9, &topic, 0, -1, large.clone()));
        }
    }
    let mut wire = Wire::connect(shared());
    let at = produce(&mut wire, &topic, encoded(["z"]));
    // What was under way may come behind it.
    assert_eq!(read_from(&mut wire, &topic, 0, at)[0], (at, Bytes::from("z")));
}

#[test]
fn a_topic_may_ask_for_less() {
    if needs_own_broker() {
        return;
    }
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "lax", 1, &[("record.validation", "header")]);
    let unreadable = raw(Compression::None, 1, &record(0, &[1, 2, b'v', 5]));
    check("not looked at", &mut wire, &topic, unreadable, &[code::NONE], &[]);
    let rubbish = with_records(&encoded(["x"]), Compression::Gzip, b"rubbish");
    check("not opened", &mut wire, &topic, rubbish, &[code::NONE], &[]);
}
