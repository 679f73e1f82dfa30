//! The real files of a real broker, damaged, outgrown and outlived.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::batch::{decode_all, encoded};
use crate::support::broker::{free_port, needs_own_broker, refused, serve};
use crate::support::calls::{Fetch, Topic, create, list_offset, produce, produce_at, read_from};
use crate::support::{Broker, Options, Rng, Wire, eventually};

/// Every file below `dir` of at least `least` bytes, largest first.
fn files_below(dir: &Path, least: u64) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files_below(&path, least)),
            false => found.push(path),
        }
    }
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    found.retain(|path| size(path) >= least);
    found.sort_by_key(|path| std::cmp::Reverse(size(path)));
    found
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("a file to damage");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("damage");
}

fn segments(broker: &Broker, topic: &Topic, partition: i32) -> Vec<PathBuf> {
    let dir = broker.data_dir().join("topics").join(format!("{}-{partition}", topic.name));
    let mut logs = files_below(&dir, 1);
    logs.retain(|path| path.extension().is_some_and(|ext| ext == "log"));
    logs.sort();
    logs
}

#[test]
fn damage_in_a_segment_is_never_served() {
    if needs_own_broker() {
        return;
    }
    let mut rng = Rng::from_env();
    println!("seed {}", rng.0);
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "damaged", 2, &[]);
    for partition in 0..2 {
        for i in 0..200 {
            let value = format!("{i} {}", "x".repeat(2_000));
            assert_eq!(produce_at(&mut wire, 9, &topic, partition, -1, encoded([value])).error_code, 0);
        }
    }
    assert_eq!(broker.stop().code(), Some(0));
    let log = segments(&broker, &topic, 0).remove(0);
    // Past each batch's base offset, length and epoch: bytes that the batch's own checksum covers.
    let at = 2_100 * (20 + rng.below(150) as usize) + 100;
    flip(&log, at);
    println!("flipped byte {at} of {}", log.display());
    broker.restart();

    let mut wire = Wire::connect(broker.kafka);
    let mut refused = 0;
    for offset in 0..200 {
        let fetch = Fetch { offset, max_bytes: 1, partition_max_bytes: 1, ..Fetch::default() };
        let data = fetch.run(&mut wire, &topic);
        refused += usize::from(data.error_code != 0);
        // Decoding checks each batch's checksum and panics when it does not hold.
        for batch in decode_all(data.records.unwrap_or_default()) {
            assert!(batch.base_offset <= offset);
        }
    }
    assert!(refused > 0, "the damaged batch is refused with an error");
    assert_eq!(read_from(&mut wire, &topic, 1, 0).len(), 200, "its neighbour is whole");
    broker.assert_healthy();
    let name = log.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(broker.log().contains(&name), "the log names the file:\n{}", broker.log());
}

#[test]
fn damaged_metadata_refuses_to_start_and_keeps_the_data() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "precious", 1, &[]);
    produce(&mut wire, &topic, encoded(["kept"]));
    for _ in 0..20 {
        create(&mut wire, "filler", 1, &[]);
    }
    assert_eq!(broker.stop().code(), Some(0));
    let meta = files_below(&broker.data_dir().join("meta"), 200).remove(0);
    let whole = fs::read(&meta).expect("metadata");
    // The first block is the header, mostly padding; changes follow.
    flip(&meta, 4096 + (whole.len() - 4096) / 3);
    let name = meta.file_name().expect("a name").to_string_lossy().into_owned();
    refused(&mut serve(&broker.data_dir(), free_port(), free_port(), 2), 1, &[&name]);
    // Put right, everything is there: nothing was thrown away for want of metadata.
    fs::write(&meta, whole).expect("repair");
    broker.restart();
    assert_eq!(read_from(&mut Wire::connect(broker.kafka), &topic, 0, 0).len(), 1);
}

#[test]
fn a_torn_end_of_the_journal_is_no_damage() {
    if needs_own_broker() {
        return;
    }
    for round in 0..4u64 {
        let mut rng = Rng(round);
        let mut broker = Broker::start_with(Options { shards: 1, ..Options::default() });
        let mut wire = Wire::connect(broker.kafka);
        let topic = create(&mut wire, "torn", 1, &[]);
        for i in 0..20 {
            produce(&mut wire, &topic, encoded([format!("{i}")]));
        }
        broker.kill();
        // A commit that was under way when the power went: blocks of garbage right behind the last whole one.
        let journal = files_below(&broker.data_dir().join("journal"), 4096);
        let (path, mut bytes, end) = journal
            .into_iter()
            .filter_map(|path| {
                let bytes = fs::read(&path).ok()?;
                let last = bytes.chunks(4096).rposition(|block| block.iter().any(|&b| b != 0))?;
                (last > 1).then_some((path, bytes, (last + 1) * 4096))
            })
            .max_by_key(|found| found.2)
            .expect("a journal file with entries");
        let sectors = 1 + rng.below(16) as usize;
        let garbage = rng.bytes(512 * sectors);
        bytes[end..end + garbage.len()].copy_from_slice(&garbage);
        fs::write(&path, bytes).expect("garbage");
        broker.restart();
        let mut wire = Wire::connect(broker.kafka);
        assert_eq!(read_from(&mut wire, &topic, 0, 0).len(), 20, "round {round}");
        assert_eq!(produce(&mut wire, &topic, encoded(["next"])), 20, "round {round}");
    }
}

#[test]
fn more_than_memory_holds_is_read_back_from_disk() {
    if needs_own_broker() {
        return;
    }
    let small = ["--cache-memory", "16MiB", "--tail-memory", "16MiB", "--journal-file-size", "4MiB"];
    let mut broker = Broker::start_with(Options { args: small.to_vec(), ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "big", 4, &[("segment.bytes", "8388608")]);
    let value =
        |partition: i32, i: i32| format!("{partition}:{i}:{}", "y".repeat(100_000 + (i as usize * 37) % 900));
    for i in 0..200 {
        for partition in 0..4 {
            let reply = produce_at(&mut wire, 9, &topic, partition, -1, encoded([value(partition, i)]));
            assert_eq!(reply.error_code, 0);
        }
    }
    for partition in 0..4 {
        let rows = read_from(&mut wire, &topic, partition, 0);
        assert_eq!(rows.len(), 200);
        for (i, (_, got)) in rows.iter().enumerate() {
            assert!(got == value(partition, i as i32).as_bytes(), "partition {partition}, offset {i}");
        }
        let from = read_from(&mut wire, &topic, partition, 150);
        assert_eq!(from[0].0, 150, "from the middle of the disk");
    }
    assert!(broker.memory_kib("VmHWM") < 256 * 1024, "peak of {} KiB", broker.memory_kib("VmHWM"));
    assert_eq!(broker.stop().code(), Some(0));
    broker.restart();
    for partition in 0..4 {
        assert_eq!(read_from(&mut Wire::connect(broker.kafka), &topic, partition, 0).len(), 200);
    }
}

#[test]
fn retention_lets_old_segments_go() {
    if needs_own_broker() {
        return;
    }
    let often = ["--retention-check-interval", "200ms"];
    let mut broker = Broker::start_with(Options { args: often.to_vec(), ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let rolls = ("segment.bytes", "1048576");
    let soon = ("file.delete.delay.ms", "100");
    let by_size = create(&mut wire, "by-size", 1, &[rolls, soon, ("retention.bytes", "2097152")]);
    let by_time = create(&mut wire, "by-age", 1, &[rolls, soon, ("retention.ms", "1500")]);
    for i in 0..80 {
        for topic in [&by_size, &by_time] {
            produce(&mut wire, topic, encoded([format!("{i} {}", "z".repeat(100_000))]));
        }
    }
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    let bytes = |topic: &Topic| segments(&broker, topic, 0).iter().map(size).sum::<u64>();
    let limit = Duration::from_secs(20);
    eventually("size-bound segments are gone", limit, || bytes(&by_size) <= 3 << 20);
    let start = list_offset(&mut wire, 7, &by_size.name, 0, -2).offset;
    assert!((50..=70).contains(&start), "about two megabytes are left: the log starts at {start}");
    assert_eq!(read_from(&mut wire, &by_size, 0, start).len() as i64, 80 - start);
    eventually("old segments are gone", limit, || {
        list_offset(&mut wire, 7, &by_time.name, 0, -2).offset > 60
    });
    assert_eq!(list_offset(&mut wire, 7, &by_time.name, 0, -1).offset, 80, "the end stays");
    broker.kill();
    broker.restart();
    let mut wire = Wire::connect(broker.kafka);
    // The journal may bring back what retention had taken since the last checkpoint; retention takes it again.
    eventually("retention goes on where it was", limit, || {
        list_offset(&mut wire, 7, &by_size.name, 0, -2).offset >= start
    });
}
