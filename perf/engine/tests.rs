//! Producers against the sink, and the checks of what is read against everything that can go wrong with it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::order::Partition;
use crate::load::batch::{Builder, Origin, Position};
use crate::load::draw::{Draft, NO_KEY};
use crate::load::payload::Filler;
use crate::run::{Place, Progress, run};
use crate::sink;
use crate::workload::{Verify, Workload};
use weir::client::Codec;

fn sink_address(partitions: i32) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || sink::serve(&listener, partitions));
    address
}

fn on_sink(changes: &[&str]) -> crate::report::Report {
    let mut changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
    changes.extend(["warm_up=200ms", "duration=1s", "max_lag=1s"].map(str::to_owned));
    let workload = Workload::load("default", &changes).unwrap();
    let broker = sink_address(workload.topic.partitions);
    let place = Place { broker, topic: None, pid: None, admin: None, progress: Progress::None };
    run(&place, &workload).unwrap().report
}

#[test]
fn the_open_loop_sends_what_was_planned_and_counts_every_record() {
    for changes in [
        &["rate=5000", "producer.threads=2"][..],
        &["rate=5000", "schedule=poisson", "record.key={count=50,bytes=8,zipf=1.0}", "topic.partitions=30"],
        &["rate=2000", "producer.acks=\"0\"", "producer.linger=0"],
        &["rate=5000", "producer.codec=lz4", "producer.batch_size=1000", "producer.in_flight=1"],
    ] {
        let report = on_sink(changes);
        assert!(report.valid, "{changes:?}: {:?}", report.problems);
        let (side, planned) = (&report.sides[0], report.generator.planned as f64);
        assert!(
            planned > 1_800.0 && (side.records_per_second / planned - 1.0).abs() < 0.1,
            "{changes:?} {side:?}"
        );
        assert_eq!(side.latency_us.count, report.generator.planned, "{changes:?}");
    }
}

#[test]
fn the_closed_loop_keeps_requests_in_flight() {
    for changes in
        [&["mode=saturation"][..], &["mode=saturation", "producer.prebuilt=false", "producer.acks=\"0\""]]
    {
        let report = on_sink(changes);
        assert!(
            report.valid && report.sides[0].records_per_second > 1_000.0,
            "{changes:?} {:?}",
            report.problems
        );
    }
}

#[test]
fn a_slow_broker_is_charged_for_what_waits() {
    // Every answer takes 100 ms, and one request may be under way: what is meant for that time waits.
    const DELAY: Duration = Duration::from_millis(100);
    let inner = sink_address(1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let upstream = TcpStream::connect(&inner).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut from, mut to) = (upstream, client);
            thread::spawn(move || {
                let mut answer = [0; 4096];
                while let Ok(n @ 1..) = from.read(&mut answer) {
                    thread::sleep(DELAY);
                    to.write_all(&answer[..n]).unwrap();
                }
            });
        }
    });
    let plan = |workload: Workload| {
        let leaders = vec![address.to_string()];
        let target = super::plan::Target { topic: "slow".into(), leaders, leader_of: vec![0] };
        super::plan::Plan::new(workload, target, Vec::new())
    };
    let changes = [
        "rate=1000",
        "topic.partitions=1",
        "producer.count=1",
        "producer.in_flight=1",
        "warm_up=0",
        "duration=500ms",
    ];
    let plan = plan(Workload::load("default", &changes.map(str::to_owned)).unwrap());
    let meter = super::meter::Meter::new(super::meter::Role::Produce, mpsc::channel().0, plan.window);
    let produced = super::open::run(&plan, 0, meter).unwrap();
    assert_eq!(produced.planned, produced.total.latency.len());
    let at = |q| Duration::from_nanos(produced.total.latency.value_at_quantile(q));
    assert!(at(0.02) > DELAY * 9 / 10 && at(0.5) > DELAY * 5 / 4, "{:?} {:?}", at(0.02), at(0.5));
}

fn batch(first: u64, count: u64, base: i64) -> Vec<u8> {
    let position = Position { records: first, marks: first };
    batch_of(&vec![64; count as usize], position, base).0
}

/// A batch of values of these sizes, and where the next one begins.
fn batch_of(sizes: &[u32], position: Position, base: i64) -> (Vec<u8>, Position) {
    let draft = |size: &u32| Draft { intended: 0, key: NO_KEY, size: *size };
    let origin = Origin { run: 5, producer: 2, position, producer_id: -1, epoch: -1 };
    let mut out = Vec::new();
    let mut builder = Builder::new(Filler::new(0.0, 64, 1), 0, Codec::None);
    let next = builder.append(&mut out, None, origin, sizes.iter().map(draft)).unwrap();
    out[..8].copy_from_slice(&base.to_be_bytes());
    (out, next)
}

fn read(batches: &[Vec<u8>]) -> Result<(u64, i64, usize), String> {
    let mut partition = Partition::new(0, 100);
    let (mut records, mut marks) = (0, 0);
    for batch in batches {
        records += partition.read(batch, Verify::Records, 5, &mut |_| marks += 1)?.records;
    }
    Ok((records, partition.offset, marks))
}

#[test]
fn a_gap_a_repetition_and_damage_are_violations() {
    assert_eq!(read(&[batch(0, 10, 100), batch(10, 5, 110)]), Ok((15, 115, 15)));
    // Batches that arrive again after a cut, and one that begins before what was asked for.
    let cut = [batch(0, 3, 100), batch(3, 3, 103)[..50].to_vec()].concat();
    assert_eq!(read(&[cut, batch(3, 3, 103)]), Ok((6, 106, 6)));
    let fails = |batches: &[Vec<u8>], word: &str| {
        let error = read(batches).unwrap_err();
        assert!(error.contains("VIOLATION") && error.contains(word), "{error}");
    };
    fails(&[batch(0, 3, 100), batch(3, 3, 104)], "offset 104 where 103");
    fails(&[batch(0, 3, 100), batch(4, 3, 103)], "a gap");
    fails(&[batch(0, 3, 100), batch(0, 3, 103)], "a repetition");
    fails(&[batch(3, 3, 100)], "a gap");
    let mut damaged = batch(0, 3, 100);
    *damaged.last_mut().unwrap() ^= 1;
    fails(&[damaged], "checksum");
}

#[test]
fn values_too_short_for_a_mark_leave_no_gap_between_those_that_have_one() {
    let (mut at, mut batches) = (Position::default(), Vec::new());
    for i in 0..10 {
        let sizes = [20, 64, 64, 20, 64, 64, 20, 64, 64];
        let (batch, next) = batch_of(&sizes[i % 3..i % 3 + 7], at, 100 + 7 * i as i64);
        batches.push(batch);
        at = next;
    }
    assert_eq!(at.records, 70);
    assert_eq!(read(&batches), Ok((70, 170, at.marks as usize)));
    batches.remove(4);
    batches[4..].iter_mut().for_each(|b| {
        let base = i64::from_be_bytes(b[..8].try_into().unwrap()) - 7;
        b[..8].copy_from_slice(&base.to_be_bytes());
    });
    assert!(read(&batches).unwrap_err().contains("a gap"));
}

#[test]
fn offsets_that_are_read_twice_count_once() {
    let mut partition = Partition::new(0, 102);
    let read = partition.read(&batch(0, 10, 100), Verify::Batches, 5, &mut |_| {}).unwrap();
    assert_eq!((read.records, partition.offset), (8, 110));
}
