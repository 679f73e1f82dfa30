//! What every produced and fetched batch pays before storage: checking a batch, parsing a Produce
//! request, encoding a Fetch response.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kafka_wire::ProduceRequest;
use kafka_wire::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire_core::{ApiVersion, KafkaEncode, StrBytes};
use weir::client::{BatchOptions, Codec, OwnedRecord, encode_batch, message};
use weir::model::TopicId;
use weir::model::topic_config::TopicConfig;
use weir::wire::ProducedBatch;
use weir::wire::batch::{BatchHeader, stamp};
use weir::wire::fetch::{FetchPartitionReply, FetchReply, FetchTopicReply, encode};
use weir::wire::parse_header;
use weir::wire::produce::ProduceFrame;
use weir::wire::validate::{Effort, Rules, Sound};

const SIZES: [(usize, usize); 3] = [(1, 100), (1000, 100), (900, 1024)];

fn batch(records: usize, bytes: usize) -> Bytes {
    compressed(records, bytes, Codec::None)
}

/// Values are random digits: they compress to about a half.
fn compressed(records: usize, bytes: usize, codec: Codec) -> Bytes {
    let mut seed = 1_u64;
    let mut digit = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b'0' + (seed >> 33) as u8 % 10
    };
    let mut record = || {
        let value = (0..bytes).map(|_| digit()).collect::<Vec<u8>>();
        OwnedRecord { value: Some(value.into()), ..OwnedRecord::default() }
    };
    let records: Vec<_> = (0..records).map(|_| record()).collect();
    encode_batch(&records, BatchOptions { codec, ..BatchOptions::default() }).expect("a batch encodes")
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    for (records, bytes) in SIZES {
        let batch = batch(records, bytes);
        let name = format!("{records}x{bytes}");
        group.bench_with_input(BenchmarkId::new("header", &name), &batch, |b, batch| {
            b.iter(|| BatchHeader::parse(black_box(batch)).expect("valid"));
        });
        let mut copy = batch.to_vec();
        group.bench_function(BenchmarkId::new("stamp", &name), |b| {
            b.iter(|| stamp(black_box(&mut copy), 42, 1));
        });
    }
    for (records, bytes) in SIZES {
        let batch = batch(records, bytes);
        let name = format!("{records}x{bytes}");
        // Only the check reads the whole batch.
        group.throughput(Throughput::Bytes(batch.len() as u64));
        let parsed = ProducedBatch::parse(BytesMut::from(&batch[..])).expect("valid");
        group.bench_with_input(BenchmarkId::new("check", &name), &parsed, |b, batch| {
            b.iter(|| black_box(batch).check(1 << 30).expect("valid"));
        });
    }
    group.finish();
}

/// Reading every record of a batch, which is what is paid beside its checksum.
fn validate(c: &mut Criterion) {
    let rules = Rules::new(&TopicConfig::default(), 0);
    let mut scratch = Vec::new();
    let mut group = c.benchmark_group("validate");
    for (records, bytes) in SIZES {
        for name in Codec::NAMES {
            let codec = name.parse().expect("a codec");
            let batch = compressed(records, bytes, codec);
            let parsed = || ProducedBatch::parse(BytesMut::from(&batch[..])).expect("valid");
            let mut check =
                |batch| Sound::check(batch, &rules, Effort::Full { memory: 8 << 20 }, &mut scratch).is_ok();
            assert!(check(parsed()));
            group.bench_function(BenchmarkId::new(name, format!("{records}x{bytes}")), |b| {
                b.iter_batched(parsed, &mut check, BatchSize::SmallInput);
            });
        }
    }
    group.finish();
}

fn produce(c: &mut Criterion) {
    let mut group = c.benchmark_group("produce_parse");
    for version in [7, 13] {
        for partitions in [1, 100] {
            let request = message::<ProduceRequest>(|r| {
                r.topic_data = vec![message::<TopicProduceData>(|t| {
                    t.name = StrBytes::from("topic");
                    let partition = |index| {
                        message::<PartitionProduceData>(|p| {
                            p.index = index;
                            p.records = Some(batch(1, 100));
                        })
                    };
                    t.partition_data = (0..partitions).map(partition).collect();
                })];
            });
            let body = request.encode_to_bytes(ApiVersion::new(version)).expect("a plain request encodes");
            group.bench_function(BenchmarkId::new(format!("v{version}"), partitions), |b| {
                b.iter_batched(
                    || BytesMut::from(&body[..]),
                    |body| ProduceFrame::parse(body, version).expect("valid"),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

/// What every frame pays before it is known what it asks for.
fn header(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame_header");
    // Produce 7 (header 1) and Metadata 12 (header 2, with tagged fields).
    for (key, version, tags) in [(0i16, 7i16, &b""[..]), (3, 12, &b"\0"[..])] {
        let mut frame = Vec::new();
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&77i32.to_be_bytes());
        frame.extend_from_slice(&7i16.to_be_bytes());
        frame.extend_from_slice(b"rdkafka");
        frame.extend_from_slice(tags);
        frame.extend_from_slice(&[7; 100]);
        group.bench_function(BenchmarkId::new("api", key), |b| {
            b.iter_batched(
                || BytesMut::from(&frame[..]),
                |mut frame| parse_header(&mut frame).expect("valid"),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn fetch(c: &mut Criterion) {
    let mut group = c.benchmark_group("fetch_encode");
    let records = vec![batch(1000, 100); 8];
    for version in [11, 18] {
        for partitions in [1, 100] {
            let partition = |index| FetchPartitionReply {
                index,
                high_watermark: 8000,
                records: records.clone(),
                ..FetchPartitionReply::default()
            };
            let topic = FetchTopicReply {
                name: StrBytes::from("topic"),
                id: TopicId([1; 16]),
                partitions: (0..partitions).map(partition).collect(),
            };
            let reply = FetchReply { topics: vec![topic], ..FetchReply::default() };
            group.bench_function(BenchmarkId::new(format!("v{version}"), partitions), |b| {
                b.iter_batched(|| reply.clone(), |reply| encode(reply, version, 7), BatchSize::SmallInput);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, header, batches, validate, produce, fetch);
criterion_main!(benches);
