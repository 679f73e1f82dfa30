//! Volumes that are small, full, or stuck: a broker on them serves or says why not, and answers every request in time.
//!
//! ```text
//! fill matrix: file system × size × who fills it (producers, then others, to the last byte) × kill -9 and start
//! ```
//! `WEIR_FILLS=2` runs every row of it, without it a sample runs.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::groups::{commit, coordinator};
use crate::limits::{STORAGE_ERROR, delete_topic, journals_are_idle};
use crate::support::batch::{bytes_of, encoded, from_producer};
use crate::support::broker::{free_port, http_get, needs_own_broker, refused, serve};
use crate::support::calls::{
    Topic, code, create, list_offset, produce_at, produce_request, producer_id, read_from,
};
use crate::support::disk::{SmallDisk, take_everything};
use crate::support::{Broker, Options, Wire, eventually};

const PARTITIONS: i32 = 4;
/// What `produce_request` gives, and a little for a busy machine.
const IN_TIME: Duration = Duration::from_secs(12);

fn broker_on(disk: &SmallDisk) -> Broker {
    Broker::start_with(Options { data: Some(disk.path().join("data")), ..Options::default() })
}

fn value(partition: i32, i: usize) -> String {
    format!("{partition} {i} {}", "s".repeat(300_000))
}

/// A topic of which so many batches of each partition were acknowledged.
struct Stored {
    topic: Topic,
    acked: Vec<usize>,
}

impl Stored {
    fn new(wire: &mut Wire) -> Self {
        let topic = create(wire, "stored", PARTITIONS, &[("file.delete.delay.ms", "100")]);
        Self { topic, acked: vec![0; PARTITIONS as usize] }
    }

    /// The answer must be one of those, and come in time.
    fn offer(&mut self, wire: &mut Wire, partition: i32) -> i16 {
        let acked = &mut self.acked[partition as usize];
        let began = Instant::now();
        let batch = encoded([value(partition, *acked)]);
        let reply = produce_at(wire, 9, &self.topic, partition, -1, batch);
        assert!(began.elapsed() < IN_TIME, "answered after {:?}", began.elapsed());
        let known = [code::NONE, STORAGE_ERROR, code::REQUEST_TIMED_OUT];
        assert!(known.contains(&reply.error_code), "{} {:?}", reply.error_code, reply.error_message);
        if reply.error_code == STORAGE_ERROR {
            assert!(reply.error_message.is_some_and(|why| why.contains("resumes by itself")));
        }
        *acked += usize::from(reply.error_code == code::NONE);
        reply.error_code
    }

    /// Until nothing more is taken: the answers that said so.
    fn fill(&mut self, wire: &mut Wire) -> Vec<i16> {
        let mut answers = Vec::new();
        for i in 0..2000 {
            match self.offer(wire, i % PARTITIONS) {
                code::NONE => answers.clear(),
                refusal => answers.push(refusal),
            }
            if answers.len() >= PARTITIONS as usize {
                return answers;
            }
        }
        panic!("the disk never fills");
    }

    /// What was acknowledged is there; what timed out may be.
    fn check(&mut self, broker: &Broker, timed_out: bool) {
        let mut wire = Wire::connect(broker.kafka);
        for (partition, acked) in (0..).zip(&mut self.acked) {
            let rows = read_from(&mut wire, &self.topic, partition, 0);
            let most = *acked + 2 * usize::from(timed_out);
            assert!((*acked..=most).contains(&rows.len()), "{partition}: {} of {acked}", rows.len());
            for (offset, got) in &rows {
                assert!(got == value(partition, *offset as usize).as_bytes(), "{partition}/{offset}");
            }
            *acked = rows.len();
        }
    }

    fn stored_mib(&self) -> usize {
        (self.acked.iter().sum::<usize>() * 300_000) >> 20
    }
}

/// Everything that is asked of a broker whose disk others have filled is answered.
fn work_on_the_full_disk(broker: &Broker, stored: &mut Stored) -> String {
    let mut wire = Wire::connect(broker.kafka);
    let answers: Vec<i16> = (0..PARTITIONS).map(|partition| stored.offer(&mut wire, partition)).collect();
    let began = Instant::now();
    let committed = commit(&mut wire, 9, "group", &stored.topic, ("", -1), 1);
    assert!(began.elapsed() < IN_TIME, "a commit of offsets is answered in time");
    let (ready, why) = http_get(broker.admin, "/health/ready").expect("an answer");
    assert!(ready == 200 || why.contains("waits"), "{why}");
    format!("produce {answers:?}, offset commit {committed}, ready {ready}")
}

fn row(kind: &str, mib: u64) -> Option<String> {
    let disk = SmallDisk::of(kind, mib)?;
    let filler = disk.path().join("filler");
    let mut broker = broker_on(&disk);
    let mut wire = Wire::connect(broker.kafka);
    let mut stored = Stored::new(&mut wire);
    for partition in 0..PARTITIONS {
        assert_eq!(stored.offer(&mut wire, partition), code::NONE, "{kind} {mib}: partition {partition}");
    }
    commit_until_taken(&broker, &stored.topic);
    let refusals = stored.fill(&mut wire);
    let by_producers = format!("{} MiB stored, then {refusals:?}", stored.stored_mib());
    stored.check(&broker, refusals.contains(&code::REQUEST_TIMED_OUT));
    take_everything(&filler);
    let full = work_on_the_full_disk(&broker, &mut stored);
    broker.kill();
    broker.start_again();
    // What a start itself journals may have to wait for room, and readiness then says so.
    eventually("it serves again", Duration::from_secs(30), || {
        http_get(broker.admin, "/health/ready").is_ok_and(|(code, why)| code == 200 || why.contains("waits"))
    });
    stored.check(&broker, true);
    let restarted = work_on_the_full_disk(&broker, &mut stored);
    std::fs::remove_file(&filler).expect("room again");
    journals_are_idle(&broker);
    stored.check(&broker, true);
    delete_topic(&broker, &stored.topic.clone());
    let mut wire = Wire::connect(broker.kafka);
    let mut after = Stored::new(&mut wire);
    for partition in 0..PARTITIONS {
        eventually("producing resumes", Duration::from_secs(30), || {
            after.offer(&mut wire, partition) == code::NONE
        });
    }
    broker.assert_healthy();
    assert_eq!(broker.stop().code(), Some(0), "{}", broker.log());
    broker.restart();
    after.check(&broker, true);
    Some(format!("{by_producers}; others fill: {full}; started full: {restarted}; resumed"))
}

fn commit_until_taken(broker: &Broker, topic: &Topic) {
    let mut wire = coordinator(broker.kafka, "group");
    eventually("the coordinator takes a commit", Duration::from_secs(20), || {
        commit(&mut wire, 9, "group", topic, ("", -1), 0) == code::NONE
    });
}

#[test]
fn every_small_volume_is_filled_and_served() {
    if needs_own_broker() {
        return;
    }
    let all = [("tmpfs", 50), ("tmpfs", 100), ("tmpfs", 200), ("tmpfs", 300), ("ext4", 100), ("ext4", 300)]
        .into_iter()
        .chain([("xfs", 320), ("xfs", 500), ("btrfs", 160), ("btrfs", 400)]);
    let long = std::env::var("WEIR_FILLS").is_ok();
    for (kind, mib) in all.filter(|row| long || [("tmpfs", 100), ("xfs", 320)].contains(row)) {
        if let Some(told) = row(kind, mib) {
            println!("{kind} {mib} MiB: {told}");
        }
    }
}

/// A start that must be refused, in words that name what it lacks.
fn refused_on(data: &Path, shards: usize, args: &[&str], says: &[&str]) {
    refused(serve(data, free_port(), free_port(), shards).args(args), 1, says);
}

#[test]
fn a_volume_that_is_too_small_or_too_full_is_refused() {
    if needs_own_broker() {
        return;
    }
    let Some(disk) = SmallDisk::of("tmpfs", 60) else { return };
    let data = disk.path().join("data");
    refused_on(&data, 64, &[], &["has 60 MiB, and 64 shards need 1024 MiB at least"]);
    let large = ["--journal-file-size", "64MiB"];
    refused_on(&data, 2, &large, &["journal_file_size", "512 MiB"]);
    refused_on(&data, 1, &["--journal-max-files", "100"], &["journal_max_files", "400 MiB"]);
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![0; 55 << 20]).expect("a filler");
    refused_on(&data, 2, &[], &["MiB free", "needs 12 MiB", "ake room"]);
    take_everything(&filler);
    refused_on(&disk.path().join("other"), 1, &[], &["ake room"]);
}

#[test]
fn a_read_only_volume_is_told_as_one() {
    if needs_own_broker() {
        return;
    }
    let Some(disk) = SmallDisk::of("ext4", 100) else { return };
    let mut broker = broker_on(&disk);
    assert_eq!(broker.stop().code(), Some(0));
    let remount = |how: &str| {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-o", how]).arg(disk.path()).status().is_ok_and(|status| status.success())
    };
    assert!(remount("remount,ro"));
    refused_on(&disk.path().join("data"), 2, &[], &["Read-only file system", "mount it for writing"]);
    assert!(remount("remount,rw"));
    broker.restart();
    assert_eq!(broker.stop().code(), Some(0));
}

/// No write ends: who waits is told so in time, and what was told to be unknown is there once afterwards.
#[test]
fn a_disk_that_hangs_times_requests_out_and_keeps_their_order() {
    if needs_own_broker() {
        return;
    }
    let Some(disk) = SmallDisk::of("ext4", 200) else { return };
    let mut broker = broker_on(&disk);
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "stuck", 2, &[]);
    let (id, epoch) = producer_id(&mut wire);
    let batch_of = |sequence: i32| bytes_of(&from_producer(id, epoch, sequence, [format!("{sequence}")]));
    for partition in 0..2 {
        assert_eq!(produce_at(&mut wire, 9, &topic, partition, -1, batch_of(0)).error_code, 0);
    }
    commit_until_taken(&broker, &topic);
    let Some(frozen) = disk.freeze() else { return };
    let mut wires: Vec<Wire> = (0..2).map(|_| Wire::connect(broker.kafka)).collect();
    let mut group = Wire::connect(broker.kafka);
    let asked = std::thread::spawn({
        let topic = topic.clone();
        move || commit(&mut group, 9, "group", &topic, ("", -1), 1)
    });
    let began = Instant::now();
    for (partition, wire) in (0..2).zip(&mut wires) {
        for sequence in 1..4 {
            let mut request = produce_request(9, &topic, partition, -1, batch_of(sequence));
            request.timeout_ms = 1000 * sequence;
            wire.send(9, &request);
        }
    }
    for wire in &mut wires {
        for correlation in 1..4 {
            let reply = wire.receive::<kafka_wire::ProduceRequest>(9, correlation);
            let got = &reply.responses[0].partition_responses[0];
            assert_eq!(got.error_code, code::REQUEST_TIMED_OUT, "{:?}", got.error_message);
        }
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(asked.join().expect("an answer"), code::COORDINATOR_NOT_AVAILABLE);
    eventually("readiness says so", Duration::from_secs(20), || {
        let (ready, why) = http_get(broker.admin, "/health/ready").expect("an answer");
        ready == 503 && why.contains("journal")
    });
    drop(frozen);
    for partition in 0..2 {
        // Tried again, as clients do: each has the offset that it had the first time.
        for sequence in 1..4 {
            let reply = produce_at(&mut wire, 9, &topic, partition, -1, batch_of(sequence));
            assert_eq!((reply.error_code, reply.base_offset), (0, i64::from(sequence)));
        }
        assert_eq!(list_offset(&mut wire, 7, &topic.name, partition, -1).offset, 4);
        let rows = read_from(&mut wire, &topic, partition, 0);
        assert!(rows.iter().enumerate().all(|(i, (_, got))| got == i.to_string().as_bytes()), "{rows:?}");
    }
    commit_until_taken(&broker, &topic);
    eventually("it is ready again", Duration::from_secs(10), || {
        http_get(broker.admin, "/health/ready").is_ok_and(|(code, _)| code == 200)
    });
    broker.assert_healthy();
    assert_eq!(broker.stop().code(), Some(0), "{}", broker.log());
}
