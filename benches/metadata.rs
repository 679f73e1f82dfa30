//! Metadata of a cluster with 10,000 partitions: the answer, and its bytes.

use criterion::{Criterion, criterion_group, criterion_main};
use kafka_wire::MetadataRequest;
use kafka_wire_core::{ApiVersion, BytesMut, KafkaEncode};
use weir::api::authorize::Everything;
use weir::api::metadata::answer;
use weir::controller::{ControlReply, ControlRequest, Desk, NewTopic};
use weir::model::BrokerSettings;
use weir::model::listener::DEFAULT_LISTENER;

const VERSION: i16 = 12;

fn metadata(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory for metadata");
    let mut controller = Desk::open(dir.path(), &BrokerSettings::default()).expect("opens");
    let topic = |n: usize| NewTopic { partitions: 100, ..NewTopic::named(format!("topic-{n}")) };
    let request =
        ControlRequest::CreateTopics { topics: (0..100).map(topic).collect(), validate_only: false };
    let ControlReply::CreateTopics(created) = controller.handle(&request) else { panic!("another reply") };
    assert!(created.iter().all(Result::is_ok));
    let image = controller.image();
    let mut all = MetadataRequest::default();
    all.topics = None;
    let mut group = c.benchmark_group("metadata_10000");
    group.sample_size(20);
    group.bench_function("answer", |b| {
        b.iter(|| answer(&image, 1, (&Everything, DEFAULT_LISTENER), &all, VERSION))
    });
    let response = answer(&image, 1, (&Everything, DEFAULT_LISTENER), &all, VERSION);
    assert_eq!(response.topics.iter().map(|t| t.partitions.len()).sum::<usize>(), 10_000);
    group.bench_function("encode", |b| {
        b.iter(|| {
            let mut out = BytesMut::new();
            response.encode_into(&mut out, ApiVersion::new(VERSION)).expect("encodes");
            out.len()
        });
    });
    group.finish();
}

criterion_group!(benches, metadata);
criterion_main!(benches);
