//! Writing for a long time past retention, and what it costs: nothing may grow, latency during roll, compaction and
//! deletion is held against a quiet phase, and bytes written to disk against bytes produced.
//!
//! ```text
//! WEIR_STEADY=120 cargo test --release --test it steady -- --nocapture          seconds of each phase
//! WEIR_STEADY=120 cargo test --release --test it written_to_disk -- --nocapture
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::support::batch::{batch, bytes_of};
use crate::support::broker::{metric_total, needs_own_broker};
use crate::support::calls::{Topic, create, produce_at};
use crate::support::{Broker, Options, Wire};

fn seconds() -> Option<u64> {
    std::env::var("WEIR_STEADY").ok().and_then(|n| n.parse().ok())
}

/// A batch of one keyed record.
fn record(key: usize, size: usize) -> Bytes {
    let mut batch = batch([vec![b's'; size]]);
    batch.records[0].key = Some(format!("key {key}").into());
    bytes_of(&batch)
}

/// Produces at a steady pace until the time is over: how long each batch took, in microseconds, sorted.
fn pace(addr: SocketAddr, topics: &[Topic], partitions: i32, size: usize, time: Duration) -> Vec<u64> {
    const EVERY: Duration = Duration::from_micros(2500);
    let (mut wire, began, mut took) = (Wire::connect(addr), Instant::now(), Vec::new());
    let mut due = began;
    for i in 0_usize.. {
        if began.elapsed() >= time {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due = Instant::now().max(due) + EVERY;
        let topic = &topics[i % topics.len()];
        let partition = (i / topics.len()) as i32 % partitions;
        let sent = Instant::now();
        let reply = produce_at(&mut wire, 9, topic, partition, -1, record(i % 50, size));
        assert_eq!(reply.error_code, 0, "{:?}", reply.error_message);
        took.push(sent.elapsed().as_micros() as u64);
    }
    took.sort_unstable();
    took
}

fn quantile(sorted: &[u64], q: f64) -> u64 {
    sorted[((sorted.len() - 1) as f64 * q) as usize]
}

fn open_files(broker: &Broker) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", broker.pid())).expect("a live process").count() as u64
}

/// What the process had written to disk.
fn written_bytes(broker: &Broker) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", broker.pid())).expect("a live process");
    let line = io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).expect("the field");
    line.parse().expect("a number")
}

/// Parts of a phase.
const SAMPLES: usize = 6;

#[test]
fn steady_writing_past_retention_grows_nothing() {
    if needs_own_broker() {
        return;
    }
    let phase = Duration::from_secs(seconds().unwrap_or(6));
    let mut args = vec!["--journal-file-size", "2MiB", "--journal-max-files", "4", "--flush-chunk", "128KiB"];
    args.extend(["--cache-memory", "16MiB", "--tail-memory", "16MiB"]);
    args.extend(["--retention-check-interval", "500ms", "--compaction-interval", "500ms"]);
    let mut broker = Broker::start_with(Options { args, ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let quiet = [create(&mut wire, "quiet", 2, &[]), create(&mut wire, "quiet", 2, &[])];
    let rolls = [("segment.bytes", "1048576"), ("file.delete.delay.ms", "100")];
    let expires = [&rolls[..], &[("retention.bytes", "2097152")]].concat();
    let table = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.1")];
    let table = [&rolls[..], &table].concat();
    let busy = [create(&mut wire, "events", 2, &expires), create(&mut wire, "table", 2, &table)];
    let mut samples = Vec::new();
    for (what, topics) in [("quiet", &quiet), ("busy", &busy)] {
        for part in 0..SAMPLES {
            let took = pace(broker.kafka, topics, 2, 8000, phase / SAMPLES as u32);
            let (p50, p999) = (quantile(&took, 0.5), quantile(&took, 0.999));
            let (rss, files) = (broker.memory_kib("VmRSS"), open_files(&broker));
            println!(
                "{what} {part}: {} batches, p50 {p50} µs, p99 {} µs, p99.9 {p999} µs, {rss} KiB, {files} files",
                took.len(),
                quantile(&took, 0.99),
            );
            samples.push((what, rss, files, p50, took));
        }
    }
    let deleted = crate::support::calls::list_offset(&mut wire, 7, &busy[0].name, 0, -2).offset;
    let compacted = metric_total(broker.admin, "weir_compaction_removed_records_total").expect("metrics");
    println!("{deleted} records of a partition deleted, {compacted} compacted away");
    let of = |phase: &str| {
        let all = samples.iter().filter(|s| s.0 == phase).flat_map(|s| s.4.iter().copied());
        let mut all: Vec<u64> = all.collect();
        all.sort_unstable();
        quantile(&all, 0.999) as f64
    };
    println!("p99.9 of the busy phase is {:.2} times the quiet one's", of("busy") / of("quiet"));
    let busy: Vec<_> = samples.iter().filter(|s| s.0 == "busy").collect();
    let (first, last) = (busy[1], busy[SAMPLES - 1]);
    assert!(last.1 < first.1 + first.1 / 4 + 8192, "memory grew from {} to {} KiB", first.1, last.1);
    assert!(last.2 <= first.2 + 8, "descriptors grew from {} to {}", first.2, last.2);
    if seconds().is_some() {
        assert!(deleted > 0 && compacted > 0.0, "retention and compaction were going on");
    }
    broker.assert_healthy();
}

/// Produces so many megabytes with several requests under way.
fn produce_all(broker: &Broker, topic: &Topic, partitions: i32, size: usize, megabytes: usize) -> u64 {
    const LANES: usize = 8;
    let each = (megabytes << 20) / size / LANES;
    let addr = broker.kafka;
    std::thread::scope(|scope| {
        let lane = |lane: usize| {
            scope.spawn(move || {
                let (mut wire, mut bytes) = (Wire::connect(addr), 0);
                for i in 0..each {
                    let records = record(i % 1000, size);
                    bytes += records.len() as u64;
                    let partition = ((i * LANES + lane) % partitions as usize) as i32;
                    assert_eq!(produce_at(&mut wire, 9, topic, partition, -1, records).error_code, 0);
                }
                bytes
            })
        };
        let lanes: Vec<_> = (0..LANES).map(lane).collect();
        lanes.into_iter().map(|lane| lane.join().expect("a lane")).sum()
    })
}

#[test]
fn bytes_written_to_disk_for_a_byte_produced() {
    if needs_own_broker() {
        return;
    }
    let megabytes = if seconds().is_some() { 256 } else { 8 };
    let cold = if seconds().is_some() { 3000 } else { 100 };
    for (what, partitions, size) in
        [("hot", 4, 60_000), ("hot, small batches", 4, 1000), ("cold", cold, 1000)]
    {
        let args = vec!["--journal-file-size", "8MiB", "--journal-max-files", "4"];
        let broker = Broker::start_with(Options { args, ..Options::default() });
        let topic = create(&mut Wire::connect(broker.kafka), "amplified", partitions, &[]);
        let before = written_bytes(&broker);
        let produced = produce_all(&broker, &topic, partitions, size, megabytes);
        std::thread::sleep(Duration::from_secs(2));
        let written = written_bytes(&broker) - before;
        let journal = metric_total(broker.admin, "weir_journal_bytes_total").expect("metrics");
        println!(
            "{what}: {partitions} partitions, batches of {size} bytes, {} MB produced: {:.2} written, {:.2} of it the journal",
            produced / 1_000_000,
            written as f64 / produced as f64,
            journal / produced as f64,
        );
        assert!(written >= produced, "what is acknowledged is on disk");
    }
}
