//! Data directories of earlier formats: today's broker opens each and has everything that was acknowledged in it.
//!
//! `tests/fixtures/data-<format>-<how it ended>.tar.gz`, made by `cargo test --test it make_fixtures -- --ignored` with the
//! broker whose format they are of. They are never made again: a format that changes gets files of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::batch::{bytes_of, encoded, from_producer};
use crate::support::broker::{needs_own_broker, run, weir};
use crate::support::calls::{Topic, list_offset, metadata_of, produce_at, read_from};
use crate::support::{Broker, Options, Wire};

/// Of the fixtures that `make_fixtures` writes.
const FORMAT: &str = "1";
const PRODUCER: i64 = 4711;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn tar(args: &[&str], dir: &Path, file: &Path) {
    let out = Command::new("tar").args(args).arg(file).arg("-C").arg(dir).arg("data").output().expect("tar");
    assert!(out.status.success(), "tar: {}", String::from_utf8_lossy(&out.stderr));
}

fn value(partition: i32, i: usize) -> String {
    format!("{partition} {i} {}", "fixture".repeat(i % 50))
}

fn topic(wire: &mut Wire, name: &str) -> Topic {
    Topic { name: name.into(), id: metadata_of(wire, name, false).topic_id }
}

fn create_named(broker: &Broker, name: &str, partitions: &str, configs: &[&str]) {
    let mut command = weir();
    let address = broker.kafka.to_string();
    command.args(["topic", "create", name, "--partitions", partitions]);
    configs.iter().for_each(|config| drop(command.args(["--config", config])));
    let out = run(command.args(["--broker", &address]));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn small() -> Vec<&'static str> {
    vec!["--journal-file-size", "1MiB", "--flush-chunk", "64KiB"]
}

/// Writes `count` batches to each partition of both topics.
fn write(wire: &mut Wire, from: usize, count: usize) {
    let (plain, once) = (topic(wire, "plain"), topic(wire, "idempotent"));
    for i in from..from + count {
        for partition in 0..3 {
            let batch = encoded([value(partition, i)]);
            assert_eq!(produce_at(wire, 9, &plain, partition, -1, batch).error_code, 0);
        }
        let batch = bytes_of(&from_producer(PRODUCER, 3, i as i32, [value(9, i)]));
        assert_eq!(produce_at(wire, 9, &once, 0, -1, batch).error_code, 0);
    }
}

#[test]
#[ignore = "writes the fixtures of a new format"]
fn make_fixtures() {
    std::fs::create_dir_all(fixtures()).expect("a directory");
    for ended in ["stopped", "killed"] {
        let home = tempfile::tempdir().expect("a temporary directory");
        let data = Some(home.path().join("data"));
        let mut broker = Broker::start_with(Options { args: small(), data, ..Options::default() });
        create_named(&broker, "plain", "3", &["segment.bytes=1048576", "retention.ms=-1"]);
        create_named(&broker, "idempotent", "1", &["retention.ms=-1"]);
        write(&mut Wire::connect(broker.kafka), 0, 400);
        if ended == "stopped" {
            assert_eq!(broker.stop().code(), Some(0));
        } else {
            broker.kill();
        }
        tar(&["-czSf"], home.path(), &fixtures().join(format!("data-{FORMAT}-{ended}.tar.gz")));
    }
}

#[test]
fn every_earlier_format_is_opened_with_all_that_is_in_it() {
    if needs_own_broker() {
        return;
    }
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(fixtures()).expect("tests/fixtures").flatten().map(|e| e.path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".tar.gz"));
    assert!(files.len() >= 2, "{files:?}");
    for (file, shards) in files.iter().flat_map(|file| [(file, 2), (file, 3)]) {
        println!("{} with {shards} shards", file.display());
        let home = tempfile::tempdir().expect("a temporary directory");
        tar(&["-xzf"], home.path(), file);
        let data = Some(home.path().join("data"));
        let mut broker = Broker::start_with(Options { shards, args: small(), data });
        let mut wire = Wire::connect(broker.kafka);
        let (plain, once) = (topic(&mut wire, "plain"), topic(&mut wire, "idempotent"));
        for partition in 0..3 {
            let rows = read_from(&mut wire, &plain, partition, 0);
            assert_eq!(rows.len(), 400, "partition {partition}");
            assert!(rows.iter().enumerate().all(|(i, (_, got))| got == value(partition, i).as_bytes()));
        }
        // A retry of the last batch is known as one.
        let retry = bytes_of(&from_producer(PRODUCER, 3, 399, [value(9, 399)]));
        let reply = produce_at(&mut wire, 9, &once, 0, -1, retry);
        assert_eq!((reply.error_code, reply.base_offset), (0, 399));
        write(&mut wire, 400, 20);
        assert_eq!(list_offset(&mut wire, 7, "plain", 2, -1).offset, 420);
        assert_eq!(read_from(&mut wire, &once, 0, 0).len(), 420);
        assert_eq!(broker.stop().code(), Some(0));
    }
}
