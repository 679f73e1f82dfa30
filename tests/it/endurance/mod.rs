//! kill -9 under mixed load: idempotent producers over several partitions, with segments that roll, a topic that is
//! compacted, and retention and DeleteRecords that take away what is old.
//!
//! ```text
//! WEIR_KILLS=1000 cargo test --release --test it mixed_load -- --nocapture      WEIR_SEED=N repeats the choices
//! ```

mod ledger;
mod producer;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kafka_wire::DeleteRecordsRequest;
use kafka_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

use crate::compaction::removed_records;
use crate::support::broker::{metric_total, needs_own_broker};
use crate::support::calls::{code, create, producer_id};
use crate::support::{Broker, Options, Rng, Wire, msg, retrying, wire};
use ledger::{Ledger, RETENTION_BYTES};
use producer::Producer;

/// Kills between two checks of everything.
const ALL_EVERY: u64 = 10;

/// Deletes records now and then; what is asked for is noted before, what was done after.
fn delete_records(addr: SocketAddr, ledger: &Ledger, seed: u64, stop: &AtomicBool) -> u64 {
    let (mut rng, mut done) = (Rng(seed), 0);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100 + rng.below(400)));
        let Ok(mut wire) = Wire::try_connect(addr) else { continue };
        // The others are left to retention.
        let partition = rng.below(ledger.partitions() as u64 / 2) as i32;
        let offset = ledger.ask_to_delete(partition, rng.below(80) as f64 / 100.0);
        let asked = msg!(DeleteRecordsPartition { partition_index: partition, offset: offset });
        let topic =
            msg!(DeleteRecordsTopic { name: ledger.topic.name.as_str().into(), partitions: vec![asked] });
        let request = msg!(DeleteRecordsRequest { topics: vec![topic], timeout_ms: 5_000 });
        if !wire.send_rude(&wire::frame(2, 1, &request)) {
            continue;
        }
        let Some(reply) = wire.receive_frame() else { continue };
        let reply = wire::decode_reply::<DeleteRecordsRequest>(2, 1, reply);
        if reply.topics[0].partitions[0].error_code == code::NONE {
            ledger.deleted(partition, offset);
            done += 1;
        }
    }
    done
}

fn check(addr: SocketAddr, ledgers: &[&Ledger], all: bool) -> u64 {
    let mut wire = Wire::connect(addr);
    let partitions = ledgers.iter().flat_map(|ledger| (0..ledger.partitions()).map(move |p| (ledger, p)));
    partitions.map(|(ledger, partition)| ledger.check(&mut wire, partition, all)).sum()
}

#[test]
fn mixed_load_outlives_every_kill_9() {
    if needs_own_broker() {
        return;
    }
    let kills: u64 = std::env::var("WEIR_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let mut rng = Rng::from_env();
    println!("seed {}", rng.0);
    let mut args = vec!["--journal-file-size", "1MiB", "--journal-max-files", "4", "--flush-chunk", "64KiB"];
    args.extend(["--compaction-interval", "100ms", "--retention-check-interval", "200ms"]);
    args.extend(["--journal-bypass", "8KiB"]);
    let mut broker = Broker::start_with(Options { args, ..Options::default() });
    let addr = broker.kafka;
    let mut wire = Wire::connect(addr);
    let retained = RETENTION_BYTES.to_string();
    let rolls = [("segment.bytes", "1048576"), ("file.delete.delay.ms", "50")];
    let expires = [&rolls[..], &[("retention.bytes", &retained)]].concat();
    let eager = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01")];
    let compact = [&rolls[..1], &eager, &[("delete.retention.ms", "0"), ("segment.ms", "300")]].concat();
    let events = Ledger::new(create(&mut wire, "events", 6, &expires), false, 6);
    let table = Ledger::new(create(&mut wire, "table", 3, &compact), true, 3);
    let ledgers = [&events, &table];
    let (stop, removed, began) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now());
    let mut bypassed = 0.0;
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for (number, ledger) in [&events, &events, &events, &table, &table].into_iter().enumerate() {
            let (number, identity, next) = (number as u32, producer_id(&mut wire), HashMap::new());
            let producer = Producer { number, identity, ledger, next };
            let (seed, stop) = (rng.next(), &stop);
            workers.push(scope.spawn(move || retrying::run(producer, addr, seed, stop)));
        }
        let (seed, stop_too, of) = (rng.next(), &stop, &events);
        let deleter = scope.spawn(move || delete_records(addr, of, seed, stop_too));
        // A failure here must not leave the workers going.
        let told = Stop(&stop);
        for kill in 1..=kills {
            std::thread::sleep(Duration::from_millis(100 + rng.below(2_900)));
            assert!(workers.iter().all(|worker| !worker.is_finished()), "a producer gave up");
            // A disk that stalls makes its broker late; that is no failure here.
            removed.fetch_add(removed_records(broker.admin).unwrap_or(0), Ordering::Relaxed);
            bypassed += metric_total(broker.admin, "weir_journal_bypass_bytes_total").unwrap_or(0.0);
            broker.kill();
            while rng.below(5) == 0 {
                broker.crash_while_starting(Duration::from_millis(rng.below(150)));
            }
            broker.restart();
            let all = kill % ALL_EVERY == 0;
            let read = check(addr, &ledgers, all);
            broker.assert_healthy();
            if all || kills < 20 {
                let acked = ledgers.map(Ledger::records);
                let (gone, for_s) = (removed.load(Ordering::Relaxed), began.elapsed().as_secs());
                println!(
                    "kill {kill}, {for_s} s: {acked:?} acknowledged, {gone} compacted away, {read} read"
                );
            }
        }
        drop(told);
        workers.into_iter().for_each(|worker| worker.join().expect("a producer"));
        let deleted = deleter.join().expect("the deleter");
        println!("{deleted} times records were deleted");
    });
    let acked = events.records() + table.records();
    println!("{kills} kills, {acked} records acknowledged, none lost, none twice");
    assert!(acked > 5_000 * kills, "the load was real: {acked} acknowledged");
    assert!(removed.into_inner() > 0, "compaction was going on");
    assert!(bypassed > 0.0, "some went straight to segments");
    check(addr, &ledgers, true);
    assert_eq!(broker.stop().code(), Some(0));
    broker.restart();
    check(addr, &ledgers, true);
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
