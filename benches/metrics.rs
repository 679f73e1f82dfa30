//! What counting costs a request: the hot path allows it 200 ns.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use weir::shard::metrics::ShardMetrics;

fn counting(c: &mut Criterion) {
    let metrics = ShardMetrics::new(0);
    c.bench_function("metrics/request_and_response", |b| {
        b.iter(|| {
            metrics.request(black_box(0), black_box(1000));
            metrics.produced(black_box(10), black_box(1000));
            metrics.response(black_box(0), black_box(60), Duration::from_micros(black_box(150)));
        });
    });
    c.bench_function("metrics/snapshot", |b| b.iter(|| metrics.snapshot()));
}

criterion_group!(benches, counting);
criterion_main!(benches);
