//! Few descriptors and full disks: the broker serves what it can, says why it cannot serve the rest, and comes back by
//! itself.

use std::time::{Duration, Instant};

use crate::support::batch::encoded;
use crate::support::broker::{metric_total, needs_own_broker, run, weir};
use crate::support::calls::{Topic, code, create, list_offset, produce_at, read_from};
use crate::support::disk::{SmallDisk, take_everything};
use crate::support::{Broker, Options, Wire, eventually};

pub const STORAGE_ERROR: i16 = 56;

fn open_files(broker: &Broker) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", broker.pid())).expect("a live process").count()
}

/// Bounds the descriptors of a running process.
fn limit_files(broker: &Broker, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: reads the struct, which outlives the call, and changes another process.
    let rc = unsafe { libc::prlimit(broker.pid() as i32, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
    assert_eq!(rc, 0, "prlimit: {}", std::io::Error::last_os_error());
}

#[test]
fn many_partitions_are_written_and_read_with_few_descriptors() {
    if needs_own_broker() {
        return;
    }
    let small = ["--flush-chunk", "64KiB", "--cache-memory", "16MiB", "--journal-file-size", "4MiB"];
    let mut broker = Broker::start_with(Options { args: small.to_vec(), ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "many", 200, &[]);
    // The journals have their files before descriptors become few, as a broker that is started with few makes sure.
    let first = create(&mut wire, "first", 8, &[]);
    for partition in 0..8 {
        assert_eq!(
            produce_at(&mut wire, 9, &first, partition, -1, encoded(["v".repeat(90_000)])).error_code,
            0
        );
    }
    limit_files(&broker, open_files(&broker) as u64 + 12);
    let value = |partition: i32, i: i32| format!("{partition} {i} {}", "v".repeat(40_000));
    for i in 0..4 {
        for partition in 0..200 {
            let batch = encoded([value(partition, i)]);
            assert_eq!(produce_at(&mut wire, 9, &topic, partition, -1, batch).error_code, 0);
        }
    }
    for partition in 0..200 {
        let rows = read_from(&mut wire, &topic, partition, 0);
        assert_eq!(rows.len(), 4, "partition {partition}");
        assert!(rows.iter().enumerate().all(|(i, (_, got))| got == value(partition, i as i32).as_bytes()));
    }
    broker.assert_healthy();
    assert_eq!(broker.stop().code(), Some(0), "{}", broker.log());
}

pub fn small_broker(disk: &SmallDisk) -> Broker {
    let args = [
        "--journal-file-size",
        "4MiB",
        "--flush-chunk",
        "64KiB",
        "--disk-reserve",
        "24MiB",
        "--retention-check-interval",
        "500ms",
        "--compaction-interval",
        "500ms",
    ];
    Broker::start_with(Options {
        shards: 1,
        args: args.to_vec(),
        data: Some(disk.path().join("data")),
        ..Options::default()
    })
}

/// Produces until the broker refuses; how many were acknowledged, all of them in order.
pub fn fill(broker: &Broker, topic: &Topic, from: usize) -> usize {
    let mut wire = Wire::connect(broker.kafka);
    for i in from.. {
        let reply = produce_at(&mut wire, 9, topic, 0, -1, encoded([value(i)]));
        match reply.error_code {
            0 => {}
            STORAGE_ERROR => {
                let message = reply.error_message.map(|m| m.to_string()).unwrap_or_default();
                assert!(message.contains("resumes by itself"), "{message}");
                return i;
            }
            code => panic!("error {code} after {i} batches"),
        }
        assert!(i < 10_000, "the disk never fills");
    }
    unreachable!()
}

/// As [`fill`]. What was taken in while there was no room at all, not even for the journal, may come too late: then
/// nobody knows what becomes of it.
fn fill_or_time_out(broker: &Broker, topic: &Topic, from: usize) -> (usize, bool) {
    let mut wire = Wire::connect(broker.kafka);
    for i in from.. {
        match produce_at(&mut wire, 9, topic, 0, -1, encoded([value(i)])).error_code {
            0 => {}
            STORAGE_ERROR => return (i, false),
            code::REQUEST_TIMED_OUT => return (i, true),
            code => panic!("error {code} after {i} batches"),
        }
    }
    unreachable!()
}

/// Up to where the log goes, of which so many batches were acknowledged, and perhaps one more that timed out.
fn settled(broker: &Broker, topic: &Topic, count: usize, timed_out: bool) -> usize {
    let end = list_offset(&mut Wire::connect(broker.kafka), 7, &topic.name, 0, -1).offset as usize;
    assert!((count..=count + usize::from(timed_out)).contains(&end), "{end} of {count}");
    end
}

/// Waits until everything that was appended is durable.
pub fn journals_are_idle(broker: &Broker) {
    eventually("the journal goes on", Duration::from_secs(30), || {
        let total = |family| metric_total(broker.admin, family).expect("metrics");
        total("weir_journal_waits") + total("weir_journal_backlog_bytes") == 0.0
    });
}

pub fn value(i: usize) -> String {
    format!("{i} {}", "d".repeat(100_000))
}

fn check_all(broker: &Broker, topic: &Topic, count: usize) {
    let mut wire = Wire::connect(broker.kafka);
    let start = list_offset(&mut wire, 7, &topic.name, 0, -2).offset;
    let rows = read_from(&mut wire, topic, 0, start);
    assert_eq!(rows.len(), count - start as usize);
    for (offset, got) in rows {
        assert!(got == value(offset as usize).as_bytes(), "offset {offset}");
    }
}

pub fn resumes(broker: &Broker, topic: &Topic, count: usize) {
    eventually("producing resumes", Duration::from_secs(20), || {
        let mut wire = Wire::connect(broker.kafka);
        let reply = produce_at(&mut wire, 9, topic, 0, -1, encoded([value(count)]));
        assert!([0, STORAGE_ERROR].contains(&reply.error_code), "{}", reply.error_code);
        reply.error_code == 0
    });
}

pub fn delete_topic(broker: &Broker, topic: &Topic) {
    let mut command = weir();
    command.args(["topic", "delete", &topic.name, "--broker", &broker.kafka.to_string()]);
    let out = run(&mut command);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_full_disk_refuses_producers_and_serves_everybody_else() {
    if needs_own_broker() {
        return;
    }
    let Some(disk) = SmallDisk::new(240) else { return };
    let mut broker = small_broker(&disk);
    let mut wire = Wire::connect(broker.kafka);
    let rolls = ("segment.bytes", "1048576");
    let soon = ("file.delete.delay.ms", "100");
    for cycle in 0..3 {
        let filler = create(&mut wire, "filler", 1, &[rolls, soon]);
        let compacted =
            create(&mut wire, "compacted", 1, &[rolls, soon, ("cleanup.policy", "compact,delete")]);
        let kept = create(&mut wire, "kept", 1, &[rolls, soon]);
        assert_eq!(produce_at(&mut wire, 9, &kept, 0, -1, encoded([value(0)])).error_code, 0);
        let began = Instant::now();
        let count = fill(&broker, &filler, 0);
        println!("cycle {cycle}: {count} batches in {:?}, {} MiB left", began.elapsed(), disk.free_mib());
        assert!(count > 500, "most of the disk is used: {count} batches of 100 kB");
        assert!(disk.free_mib() >= 8, "the reserve is there: {} MiB", disk.free_mib());
        check_all(&broker, &filler, count);
        // Metadata and everything that makes room still work.
        let made = create(&mut wire, "made-while-full", 3, &[]);
        delete_topic(&broker, &made);
        delete_topic(&broker, &compacted);
        if cycle == 1 {
            broker.kill();
            broker.restart();
            wire = Wire::connect(broker.kafka);
            check_all(&broker, &filler, count);
            // What is kept free and what the journal holds round differently then.
            let again = fill(&broker, &filler, count) - count;
            assert!(again <= 10, "it is as full after a restart, and took {again} more");
        }
        delete_topic(&broker, &filler);
        resumes(&broker, &kept, 1);
        check_all(&broker, &kept, 2);
        delete_topic(&broker, &kept);
    }
    broker.assert_healthy();
    assert_eq!(broker.stop().code(), Some(0));
}

/// Somebody else takes the last byte while segments roll and topics are compacted.
#[test]
fn a_disk_that_others_fill_loses_nothing() {
    if needs_own_broker() {
        return;
    }
    let Some(disk) = SmallDisk::new(240) else { return };
    let mut broker = small_broker(&disk);
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "rolling", 1, &[("segment.bytes", "1048576")]);
    let mut count = 0;
    for cycle in 0..3 {
        for _ in 0..30 {
            assert_eq!(produce_at(&mut wire, 9, &topic, 0, -1, encoded([value(count)])).error_code, 0);
            count += 1;
        }
        let filler = disk.path().join("filler");
        take_everything(&filler);
        let (refused, timed_out) = fill_or_time_out(&broker, &topic, count);
        let what = if timed_out { "one timed out" } else { "the next was refused" };
        println!("cycle {cycle}: {} batches fitted, {what}, {} MiB left", refused - count, disk.free_mib());
        count = refused;
        check_all(&broker, &topic, count);
        if cycle == 1 {
            broker.kill();
            broker.restart();
            wire = Wire::connect(broker.kafka);
            count = settled(&broker, &topic, count, timed_out);
            check_all(&broker, &topic, count);
        }
        std::fs::remove_file(&filler).expect("room again");
        if timed_out && cycle != 1 {
            journals_are_idle(&broker);
            count = settled(&broker, &topic, count, true);
        }
        resumes(&broker, &topic, count);
        count += 1;
        check_all(&broker, &topic, count);
    }
    assert_eq!(broker.stop().code(), Some(0), "{}", broker.log());
}
