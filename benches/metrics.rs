//! What counting and timing cost a request: the hot path allows them 200 ns, 1 % of what the smallest request takes.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use weir::rt::Ticks;
use weir::rt::stall::running;
use weir::shard::metrics::ShardMetrics;
use weir::shard::timing::{Appending, Timed};

fn counting(c: &mut Criterion) {
    let metrics = ShardMetrics::new(0);
    let peer = ([127, 0, 0, 1], 9).into();
    c.bench_function("metrics/request_and_response", |b| {
        b.iter(|| {
            metrics.request(black_box(0), black_box(1000));
            metrics.produced(black_box(10), black_box(1000));
            metrics.response(black_box(0), black_box(60), Duration::from_micros(black_box(150)));
        });
    });
    c.bench_function("metrics/stages_of_a_request", |b| {
        b.iter(|| {
            // As of a Produce to a partition of the connection's own shard that came with one receive.
            let begun = Ticks::now();
            let (whole, started) = (begun, begun);
            running("Produce");
            let (appending_from, routed) = (Ticks::now(), Ticks::now());
            let append_ns = routed.since(appending_from) + 900;
            metrics.timing.note_append(append_ns, routed);
            let (appended_here_ns, _) = metrics.timing.take_append();
            let appending = Appending { append_ns, journal_wait_ns: 50_000, commit_ns: 200_000 };
            metrics.timing.appended(appending, true);
            metrics.timing.note_appending(appending);
            let (appending, ready) = (metrics.timing.take_appending(), Ticks::now());
            let (api_key, bytes) = (black_box(0), black_box(100));
            let request = Timed {
                api_key,
                peer,
                bytes,
                begun,
                whole,
                started,
                routed,
                appended_here_ns,
                appending,
                ready,
            };
            metrics.timing.finished(&request, Ticks::now());
        });
    });
    c.bench_function("metrics/clock", |b| b.iter(Ticks::now));
    c.bench_function("metrics/snapshot", |b| b.iter(|| metrics.snapshot()));
}

criterion_group!(benches, counting);
criterion_main!(benches);
