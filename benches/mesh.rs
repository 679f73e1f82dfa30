//! A message to another shard and back: while both are awake, and with the other asleep between calls. And what a lane itself costs,
//! beside a channel with a lock.

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weir::rt::mesh::{self, Bell, End, Port};
use weir::rt::{self, Doorbell, Notify};

const OVER: u64 = u64::MAX;

/// Runs `calls` round trips from one pinned shard to another, `at_once` under way together.
fn round_trips(calls: u64, at_once: u64) -> Duration {
    let doorbells: Vec<Arc<Doorbell>> =
        (0..2).map(|_| Arc::new(Doorbell::new().expect("an eventfd"))).collect();
    let bells: Vec<Bell> = doorbells.iter().map(|d| Bell::Shard(d.clone())).collect();
    let mut ends = mesh::build::<u64, u64>(&bells);
    let (server_end, client_end) = (ends.pop().expect("two ends"), ends.pop().expect("two ends"));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let server =
        rt::start(Some(0), "server", doorbells[1].clone(), move || serve(server_end)).expect("starts");
    let client = rt::start(Some(1.min(cores - 1)), "client", doorbells[0].clone(), move || async move {
        let port = Port::new(client_end);
        let mail = port.clone();
        rt::on_mail(Rc::new(move || mail.drain(|_, _| unreachable!("nobody calls the client"))));
        let _ = port.call(1, 0).await;
        let start = Instant::now();
        let mut left = calls;
        while left > 0 {
            let chunk = left.min(at_once);
            let replies: Vec<_> = (0..chunk).map(|n| port.call(1, n)).collect();
            for reply in replies {
                black_box(reply.await);
            }
            left -= chunk;
        }
        let spent = start.elapsed();
        port.call(1, OVER).await;
        spent
    })
    .expect("starts");
    let spent = client.join().expect("the client ends");
    server.join().expect("the server ends");
    spent
}

async fn serve(end: End<u64, u64>) {
    let port = Port::new(end);
    let (mail, over) = (port.clone(), Notify::new());
    let ended = over.listen();
    rt::on_mail(Rc::new(move || {
        mail.drain(|from, n| {
            mail.reply(from.of::<u64>(), n);
            if n == OVER {
                over.notify_all();
            }
        })
    }));
    ended.await;
}

fn mesh_round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("mesh");
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    group.bench_function("round_trip", |b| b.iter_custom(|calls| round_trips(calls, 1)));
    group.bench_function("round_trip_of_64", |b| b.iter_custom(|calls| round_trips(calls, 64)));
    group.finish();
}

const LANE: usize = 128;
const MESSAGE: [u64; 8] = [7; 8];

/// One message, or 64 at a time, in and out on one thread, and a look that finds nothing.
fn lane(c: &mut Criterion) {
    let mut group = c.benchmark_group("lane");
    let (mut to_ring, mut from_ring) = rtrb::RingBuffer::new(LANE);
    let (to_channel, from_channel) = flume::bounded(LANE);
    for count in [1, 64] {
        group.bench_function(BenchmarkId::new("ring", count), |b| {
            b.iter(|| {
                (0..count).for_each(|_| to_ring.push(MESSAGE).expect("there is room"));
                (0..count).for_each(|_| _ = black_box(from_ring.pop()));
            });
        });
        group.bench_function(BenchmarkId::new("channel", count), |b| {
            b.iter(|| {
                (0..count).for_each(|_| to_channel.try_send(MESSAGE).expect("there is room"));
                (0..count).for_each(|_| _ = black_box(from_channel.try_recv()));
            });
        });
    }
    group.bench_function("ring/empty", |b| b.iter(|| black_box(from_ring.pop().is_ok())));
    group.bench_function("channel/empty", |b| b.iter(|| black_box(from_channel.try_recv().is_ok())));
    group.finish();
}

criterion_group!(benches, mesh_round_trip, lane);
criterion_main!(benches);
