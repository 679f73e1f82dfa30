use bytes::{Bytes, BytesMut};
use kafka_wire_core::StrBytes;
use kafka_wire_records::{
    Compression as Codec, Record, RecordBatch, RecordDecodeLimits, RecordEncodeLimits, RecordHeader,
    TimestampType,
};

use super::*;
use crate::model::topic_config::TimestampType as TopicTime;
use crate::wire::batch::{self, HEADER_SIZE};
use crate::wire::{record, testing};

const NOW: i64 = 1_700_000_000_000;
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const FULL: Effort = Effort::Full { memory: 8 << 20 };

fn batch_of(codec: Codec, values: &[&str]) -> RecordBatch {
    let record = |(i, value): (usize, &&str)| Record {
        headers: vec![RecordHeader { key: StrBytes::from("h"), value: (i % 2 == 0).then(|| "v".into()) }],
        ..testing::record(
            i as i32,
            [5, 0, -3][i % 3],
            Some(Bytes::from(format!("key{i}"))),
            Some(Bytes::copy_from_slice(value.as_bytes())),
        )
    };
    RecordBatch {
        compression: codec,
        max_timestamp: NOW + 5,
        producer_id: 7,
        producer_epoch: 1,
        base_sequence: 40,
        ..testing::batch_of(NOW, values.iter().enumerate().map(record).collect())
    }
}

fn parsed(batch: &RecordBatch) -> ProducedBatch {
    let bytes = batch.encode_to_bytes(RecordEncodeLimits::default()).unwrap();
    ProducedBatch::parse(BytesMut::from(&bytes[..])).unwrap()
}

/// The batch with other records, sealed.
fn with_payload(batch: &ProducedBatch, payload: &[u8]) -> ProducedBatch {
    let mut bytes = BytesMut::from(&batch.bytes[..HEADER_SIZE]);
    bytes.extend_from_slice(payload);
    let length = (bytes.len() - batch::PREFIX_SIZE) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    batch::seal(&mut bytes);
    ProducedBatch::parse(bytes).unwrap()
}

fn rules(change: impl FnOnce(&mut TopicConfig)) -> Rules {
    let mut config = TopicConfig::default();
    change(&mut config);
    Rules::new(&config, NOW)
}

fn check(batch: ProducedBatch, rules: &Rules) -> Result<ProducedBatch, Refusal> {
    match Sound::check(batch, rules, FULL, &mut Vec::new()) {
        Ok(sound) => Ok(sound.into_inner()),
        Err(Unsound::Refused(why)) => Err(why),
        Err(Unsound::Heavy(_)) => panic!("nothing is too heavy for full effort"),
    }
}

fn decoded(batch: &ProducedBatch) -> RecordBatch {
    assert_eq!(batch::check_stored(&batch.bytes).unwrap(), batch.header, "its header is its bytes'");
    RecordBatch::decode(&mut Bytes::copy_from_slice(&batch.bytes), RecordDecodeLimits::default()).unwrap()
}

fn payload_of(batch: &ProducedBatch) -> Vec<u8> {
    let mut out = Vec::new();
    codec::decompress(batch.header.compression(), batch.records(), 1 << 20, &mut out).unwrap();
    out
}

fn packed(codec: Compression, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec::compress(codec, plain, &mut out).unwrap();
    out
}

#[test]
fn a_sound_batch_stays_as_it_came() {
    for codec in CODECS {
        for effort in [Effort::Light, FULL] {
            let batch = parsed(&batch_of(codec, &["a", "b", "c"]));
            let bytes = batch.bytes.clone();
            let sound = Sound::check(batch, &rules(|_| {}), effort, &mut Vec::new()).unwrap();
            assert_eq!(sound.into_inner().bytes, bytes, "{codec:?}");
        }
    }
}

/// Whatever is in a batch behind its header: it is taken if and only if all of it opens and reads plainly.
#[test]
fn a_damaged_batch_is_taken_only_if_it_still_reads() {
    let rules = rules(|c| c.message_timestamp_after_max_ms = i64::MAX);
    let mut seed = 11_u64;
    let mut below = |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) as usize) % n
    };
    for codec in CODECS {
        let (mut taken, mut refused) = (0, 0);
        let batch = parsed(&batch_of(codec, &["one", "two", "three", &"long".repeat(50)]));
        for round in 0..1500 {
            // Half of the damage is below the compression.
            let inside = round % 2 == 0;
            let mut payload = if inside { payload_of(&batch) } else { batch.records().to_vec() };
            for _ in 0..1 + below(2) {
                let at = below(payload.len());
                match below(3) {
                    0 => payload[at] = below(256) as u8,
                    1 => payload.truncate(at.max(1)),
                    _ => payload.insert(at, below(256) as u8),
                }
            }
            if inside {
                payload = packed(batch.header.compression(), &payload);
            }
            let mut plain = Vec::new();
            let opens = codec::decompress(batch.header.compression(), &payload, MAX_DECODED, &mut plain);
            let reads = opens.is_ok() && {
                let next = |rest: &[u8]| scan::take(rest).ok().map(|(_, rest)| rest.to_vec());
                let all = (0..4).try_fold(plain, |rest, _| next(&rest));
                all.is_some_and(|rest| rest.is_empty())
            };
            let outcome = check(with_payload(&batch, &payload), &rules);
            let timely = !matches!(outcome, Err(Refusal::Records(_)));
            assert_eq!(outcome.is_ok(), reads && timely, "{codec:?} {round}: {outcome:?}");
            match outcome {
                Ok(sound) => {
                    taken += 1;
                    let stored = payload_of(&sound);
                    let deltas: Vec<i32> =
                        record::records(&stored).map(|r| r.unwrap().offset_delta).collect();
                    assert_eq!(deltas, [0, 1, 2, 3]);
                    batch::check_stored(&sound.bytes).unwrap();
                }
                Err(_) => refused += 1,
            }
        }
        assert!(taken > 50 && refused > 300, "{codec:?}: {taken} taken, {refused} refused");
    }
}

#[test]
fn records_that_a_topic_does_not_take_are_named_each() {
    let strict = rules(|c| {
        c.cleanup_policy.compact = true;
        c.message_timestamp_before_max_ms = 1000;
        c.message_timestamp_after_max_ms = 1000;
    });
    for codec in CODECS {
        let mut bad = batch_of(codec, &["a"; 6]);
        bad.records[1].key = None;
        bad.records[2].timestamp_delta = -1001;
        bad.records[4].timestamp_delta = 1001;
        // No timestamp at all is within any bounds.
        bad.records[5].timestamp_delta = -1 - NOW;
        bad.max_timestamp = NOW + 1001;
        let Err(Refusal::Records(errors)) = check(parsed(&bad), &strict) else { panic!("{codec:?}") };
        let named: Vec<i32> = errors.named.iter().map(|e| e.index).collect();
        assert_eq!((named, errors.total, errors.untimely), (vec![1, 2, 4], 3, true));
        assert_eq!(errors.named[0].why, NotTaken::NoKey);
        bad.records[2].timestamp_delta = -1000;
        bad.records[4].timestamp_delta = 1000;
        let Err(Refusal::Records(errors)) = check(parsed(&bad), &strict) else { panic!("{codec:?}") };
        assert_eq!((errors.total, errors.untimely), (1, false));
        bad.records[1].key = Some(Bytes::new());
        assert!(check(parsed(&bad), &strict).is_ok());
    }
}

#[test]
fn what_cannot_be_read_outweighs_what_is_not_taken_and_only_so_many_are_named() {
    let strict = rules(|c| c.cleanup_policy.compact = true);
    let values = vec![""; MAX_NAMED + 5];
    let mut bad = batch_of(Codec::None, &values);
    bad.records.iter_mut().for_each(|record| record.key = None);
    let batch = parsed(&bad);
    let Err(Refusal::Records(errors)) = check(with_payload(&batch, batch.records()), &strict) else {
        panic!()
    };
    assert_eq!((errors.named.len(), errors.total), (MAX_NAMED, MAX_NAMED + 5));
    let mut payload = batch.records().to_vec();
    payload.pop();
    let unreadable = check(with_payload(&batch, &payload), &strict);
    let last = MAX_NAMED as i32 + 4;
    assert!(matches!(unreadable, Err(Refusal::Unreadable { index, .. }) if index == last), "{unreadable:?}");
    let more = [batch.records(), b"x"].concat();
    assert!(matches!(check(with_payload(&batch, &more), &strict), Err(Refusal::Rest(_))));
}

#[test]
fn the_largest_timestamp_is_the_records() {
    for codec in CODECS {
        let mut wrong = batch_of(codec, &["a", "b", "c"]);
        wrong.max_timestamp = NOW + 999_999_999;
        let sound = check(parsed(&wrong), &rules(|_| {})).unwrap();
        assert_eq!(decoded(&sound).max_timestamp, NOW + 5, "{codec:?}");
        wrong.timestamp_type = TimestampType::LogAppendTime;
        let sound = decoded(&check(parsed(&wrong), &rules(|_| {})).unwrap());
        assert_eq!((sound.max_timestamp, sound.timestamp_type), (NOW + 5, TimestampType::CreateTime));
        // Where the broker's time counts, a producer cannot have said it already.
        let brokers = rules(|c| c.message_timestamp_type = TopicTime::LogAppendTime);
        let Err(Refusal::Records(errors)) = check(parsed(&wrong), &brokers) else { panic!("{codec:?}") };
        assert_eq!((errors.total, errors.untimely), (3, true));
        wrong.timestamp_type = TimestampType::CreateTime;
        assert!(check(parsed(&wrong), &brokers).is_ok());
    }
}

const TARGETS: [(CompressionType, Compression); 5] = [
    (CompressionType::Uncompressed, Compression::None),
    (CompressionType::Gzip, Compression::Gzip),
    (CompressionType::Snappy, Compression::Snappy),
    (CompressionType::Lz4, Compression::Lz4),
    (CompressionType::Zstd, Compression::Zstd),
];

#[test]
fn batches_are_compressed_as_the_topic_asks_and_stay_the_same_otherwise() {
    for codec in CODECS {
        let values = ["same ".repeat(300), "again ".repeat(20_000), String::new()];
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        for (target, stored_as) in TARGETS {
            let sent = batch_of(codec, &values);
            let topic = rules(|c| c.compression_type = target);
            let light = Sound::check(parsed(&sent), &topic, Effort::Light, &mut Vec::new());
            let stays = parsed(&sent).header.compression() == stored_as;
            assert!(stays || matches!(light, Err(Unsound::Heavy(_))), "compressing is not light");
            let stored = check(parsed(&sent), &topic).unwrap();
            assert_eq!(stored.header.compression(), stored_as);
            assert_eq!(stays, stored.bytes == parsed(&sent).bytes);
            let mut read = decoded(&stored);
            read.compression = codec;
            assert_eq!(read, sent, "{codec:?} to {target:?}");
        }
    }
}

#[test]
fn the_size_that_counts_is_also_the_stored_one() {
    let value = "x".repeat(50_000);
    let topic = rules(|c| {
        c.compression_type = CompressionType::Uncompressed;
        c.max_message_bytes = 10_000;
    });
    let sent = parsed(&batch_of(Codec::Gzip, &[&value]));
    assert!(sent.bytes.len() < 10_000);
    assert!(matches!(check(sent, &topic), Err(Refusal::Codec(CodecError::NoRoom(10_000)))));
    let plain = parsed(&batch_of(Codec::None, &[&value]));
    let topic = rules(|c| {
        c.compression_type = CompressionType::Gzip;
        c.max_message_bytes = 10_000;
    });
    assert!(matches!(check(plain, &topic), Err(Refusal::Batch(BatchError::TooLarge { .. }))), "and as sent");
}

#[test]
fn offset_deltas_that_are_not_consecutive_are_written_anew() {
    for codec in CODECS {
        for deltas in [[0, 0, 0], [2, 1, 0], [1, 2, 3], [i32::MAX, -5, 1]] {
            let sent = batch_of(codec, &["a", "b", "c"]);
            let plain = parsed(&RecordBatch { compression: Codec::None, ..sent.clone() });
            let mut payload = Vec::new();
            for (record, delta) in record::records(plain.records()).flatten().zip(deltas) {
                record.write_with_offset(delta, &mut payload);
            }
            let batch = parsed(&sent);
            let payload = packed(batch.header.compression(), &payload);
            let batch = with_payload(&batch, &payload);
            let light =
                Sound::check(with_payload(&batch, &payload), &rules(|_| {}), Effort::Light, &mut vec![]);
            assert!(matches!(light, Err(Unsound::Heavy(_))));
            let stored = check(batch, &rules(|_| {})).unwrap();
            assert_eq!(decoded(&stored), sent, "{codec:?} {deltas:?}");
        }
    }
}

#[test]
fn headers_are_all_that_is_looked_at_where_the_topic_says_so() {
    let lax = rules(|c| {
        c.record_validation = RecordValidation::Header;
        c.message_timestamp_before_max_ms = 1000;
    });
    for codec in CODECS {
        let batch = parsed(&batch_of(codec, &["a", "b"]));
        assert!(check(with_payload(&batch, &[0x55; 40]), &lax).is_ok(), "{codec:?}");
        let mut old = batch_of(codec, &["a"]);
        old.base_timestamp -= 1001;
        assert!(matches!(check(parsed(&old), &lax), Err(Refusal::Timestamp(_))));
    }
    // Compaction would drop it without a word.
    let compacted = rules(|c| {
        c.record_validation = RecordValidation::Header;
        c.cleanup_policy.compact = true;
    });
    let mut keyless = batch_of(Codec::None, &["a"]);
    keyless.records[0].key = None;
    assert!(matches!(check(parsed(&keyless), &compacted), Err(Refusal::Records(_))));
}

#[test]
fn what_expands_is_bounded_in_passing_and_in_all() {
    let large = "0".repeat(20 << 20);
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let topic = rules(|c| c.max_message_bytes = 2 << 20);
        let batch = parsed(&batch_of(codec, &["a", &large]));
        let mut scratch = Vec::new();
        let light = Sound::check(batch, &topic, Effort::Light, &mut scratch);
        let Err(Unsound::Heavy(batch)) = light else { panic!("{codec:?}: {light:?}") };
        assert!(scratch.len() <= scan::WINDOW, "{codec:?}");
        assert!(Sound::memory(&batch, &topic, 8 << 20) <= (8 << 20) + scan::WINDOW);
        let memory = 64 << 20;
        let sound = Sound::check(batch, &topic, Effort::Full { memory }, &mut scratch).unwrap();
        assert!(scratch.len() <= scan::WINDOW, "{codec:?}");
        assert_eq!(sound.header().record_count, 2);
    }
    // A window that is larger than there is memory for: as much is decompressed as fits into that.
    let mut stream = ::zstd::stream::write::Encoder::new(Vec::new(), 22).unwrap();
    let batch = parsed(&batch_of(Codec::None, &["a", &large]));
    std::io::Write::write_all(&mut stream, batch.records()).unwrap();
    let payload = stream.finish().unwrap();
    let batch = || with_payload(&parsed(&batch_of(Codec::Zstd, &["a", "b"])), &payload);
    let topic = rules(|_| {});
    let small = Sound::check(batch(), &topic, Effort::Full { memory: 8 << 20 }, &mut Vec::new());
    assert!(
        matches!(small, Err(Unsound::Refused(Refusal::Codec(CodecError::TooLarge(n)))) if n == 8 << 20),
        "{small:?}"
    );
    assert!(Sound::check(batch(), &topic, Effort::Full { memory: 128 << 20 }, &mut Vec::new()).is_ok());
    // Nor does a small first frame bring a large second one with it.
    let first = ::zstd::bulk::compress(&[], 1).unwrap();
    let two = with_payload(&batch(), &[&first[..], &payload].concat());
    assert!(Sound::memory(&two, &topic, 8 << 20) < 1 << 20);
    let second = Sound::check(two, &topic, Effort::Full { memory: 8 << 20 }, &mut Vec::new());
    assert!(matches!(second, Err(Unsound::Refused(Refusal::Codec(CodecError::Malformed(_))))), "{second:?}");
}
