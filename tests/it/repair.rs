//! `weir log verify`, `repair` and `dump`, on the data directories of real brokers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::support::batch::{encoded, rows};
use crate::support::broker::{free_port, needs_own_broker, refused, run, serve, weir};
use crate::support::calls::{Fetch, Topic, create, list_offset, produce, produce_at, read_from};
use crate::support::files::{content, last_file, weir_log};
use crate::support::{Broker, Options, Wire, eventually};

fn findings(data: &Path) -> Vec<Value> {
    let output = run(weir().args(["log", "verify", "--json"]).arg(data));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings").clone();
    assert_eq!(output.status.code(), Some(i32::from(!findings.is_empty())), "{findings:?}");
    findings
}

fn harm(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a file to damage");
    change(&mut bytes);
    fs::write(path, bytes).expect("damage");
}

fn position_of(bytes: &[u8], text: &str) -> usize {
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes());
    at.unwrap_or_else(|| panic!("{text} is not there"))
}

/// Repairs after a look at the plan, which changes nothing; verify has nothing to say then.
fn repaired(data: &Path) -> String {
    let before = content(data);
    let (code, plan) = weir_log(&["repair"], data);
    assert_eq!(code, Some(0), "{plan}");
    assert!(plan.contains("would: "), "{plan}");
    assert!(content(data) == before, "the plan changed something");
    let (code, done) = weir_log(&["repair", "--apply"], data);
    assert_eq!(code, Some(0), "{done}");
    let (code, clean) = weir_log(&["verify"], data);
    assert_eq!((code, clean.contains("everything reads back")), (Some(0), true), "{clean}");
    done
}

/// What librdkafka gets of a partition from its start until it is at its end.
fn consumed(broker: &Broker, topic: &Topic) -> Vec<i64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.kafka.to_string())
        .set("group.id", "nobody")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic.name, 0, Offset::Beginning).expect("a partition");
    consumer.assign(&list).expect("an assignment");
    let mut offsets = Vec::new();
    eventually("the consumer is at the end", Duration::from_secs(30), || {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => offsets.push(message.offset()),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return true,
            other => assert!(other.is_none(), "{other:?}"),
        }
        false
    });
    offsets
}

/// Whether the checkpoint lists a segment of the topic's partition 0 that has this offset.
fn lists(checkpoint: &Path, topic: &Topic, offset: i64) -> bool {
    let output = run(weir().args(["log", "dump", "--json"]).arg(checkpoint));
    let rows: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    rows.as_array().expect("rows").iter().any(|row| {
        let of = row["partition"] == format!("{}-0", topic.name) && row["segment"].is_i64();
        of && row["next_offset"].as_i64() > Some(offset)
    })
}

#[test]
fn damaged_records_are_reported_and_taken_out() {
    if needs_own_broker() {
        return;
    }
    for in_order in [true, false] {
        let mut broker = Broker::start();
        let mut wire = Wire::connect(broker.kafka);
        let topic = create(&mut wire, "damaged", 2, &[("segment.bytes", "1048576")]);
        for partition in 0..2 {
            for i in 0..250 {
                let value = format!("mark-{i}-{}", "x".repeat(10_000));
                assert_eq!(produce_at(&mut wire, 9, &topic, partition, -1, encoded([value])).error_code, 0);
            }
        }
        let data = broker.data_dir();
        let (code, text) = weir_log(&["verify"], &data);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&format!("in use by process {}", broker.pid())), "{text}");
        let dir = data.join("topics").join(format!("{}-0", topic.name));
        match in_order {
            true => assert_eq!(broker.stop().code(), Some(0)),
            false => {
                // Before that, the journal has all of it and a start would not look at the segment.
                eventually("a checkpoint lists a full segment", Duration::from_secs(30), || {
                    (0..2).any(|shard| lists(&data.join(format!("journal/{shard}/checkpoint")), &topic, 41))
                });
                broker.kill();
            }
        }
        assert!(findings(&data).is_empty(), "{:?}", findings(&data));
        let path = dir.join("00000000000000000000.log");
        let at = position_of(&fs::read(&path).expect("a segment"), "mark-40-");
        harm(&path, |bytes| bytes[at + 5_000] ^= 1);
        let found = findings(&data);
        let [finding] = &found[..] else { panic!("one finding: {found:?}") };
        assert_eq!(finding["file"], path.display().to_string());
        assert_eq!(finding["partition"], format!("{}-0", topic.name));
        let (from, length) = (finding["offset"].as_u64(), finding["length"].as_u64());
        let from = from.expect("a place");
        assert!((from..from + length.expect("a length")).contains(&(at as u64 + 5_000)), "{finding}");
        let (first, next) = (finding["first_offset"].as_i64(), finding["next_offset"].as_i64());
        let (first, next) = (first.expect("an offset"), next.expect("an offset"));
        assert!((first..next).contains(&40) && next - first < 10, "{finding}");
        let done = repaired(&data);
        assert!(done.contains(&format!("offsets {first}..{next} taken out")), "{done}");
        let kept = fs::read_dir(data.join("set-aside")).expect("set-aside").count();
        assert_eq!(kept, 1, "the old file");
        broker.restart();
        let mut wire = Wire::connect(broker.kafka);
        let rest: Vec<i64> = (0..250).filter(|at| !(first..next).contains(at)).collect();
        assert_eq!(consumed(&broker, &topic), rest);
        let values = read_from(&mut wire, &topic, 0, 0);
        assert!(values.iter().all(|(at, v)| v.starts_with(format!("mark-{at}-").as_bytes())));
        assert_eq!(read_from(&mut wire, &topic, 1, 0).len(), 250, "its neighbour");
        assert_eq!(produce(&mut wire, &topic, encoded(["next"])), 250);
        broker.assert_healthy();
    }
}

/// Kafka's longest name leaves no room in a file name for anything else.
#[test]
fn the_longest_topic_name_can_be_repaired_and_deleted() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start_with(Options { shards: 1, ..Options::default() });
    let name = format!("{:M<249}", crate::support::unique("long"));
    let address = broker.kafka.to_string();
    let output = run(weir().args([
        "topic",
        "create",
        &name,
        "-c",
        "internal.segment.bytes=100000",
        "--broker",
        &address,
    ]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut wire = Wire::connect(broker.kafka);
    let topic = crate::support::calls::metadata_of(&mut wire, &name, false);
    let topic = Topic { name: name.clone(), id: topic.topic_id };
    for i in 0..40 {
        produce(&mut wire, &topic, encoded([format!("mark-{i}-{}", "x".repeat(10_000))]));
    }
    assert_eq!(broker.stop().code(), Some(0));
    let data = broker.data_dir();
    let path = data.join("topics").join(format!("{name}-0/00000000000000000000.log"));
    harm(&path, |bytes| bytes[50_000] ^= 1);
    let done = repaired(&data);
    assert!(done.contains("taken out of segment"), "{done}");
    let kept = fs::read_dir(data.join("set-aside")).expect("set-aside").flatten();
    let kept: Vec<String> = kept.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(kept.len() == 1 && kept[0].len() < 100, "{kept:?}");
    broker.restart();
    let mut wire = Wire::connect(broker.kafka);
    assert!(consumed(&broker, &topic).len() > 30);
    assert_eq!(produce(&mut wire, &topic, encoded(["next"])), 40);
    // What a removal and a compaction make of the name fits, too.
    let output = run(weir().args(["topic", "delete", &name, "--broker", &broker.kafka.to_string()]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    eventually("its directory is gone", Duration::from_secs(20), || {
        let names = fs::read_dir(data.join("topics")).expect("topics").flatten();
        names.filter(|entry| entry.file_name() != "checkpoints").count() == 0
    });
    broker.assert_healthy();
}

#[test]
fn what_the_journal_lost_is_given_up_and_the_rest_comes_back() {
    if needs_own_broker() {
        return;
    }
    // In the middle of the log, and at its very end.
    for (lost, cut) in [(20, false), (20, true)] {
        let mut broker = Broker::start_with(Options { shards: 1, ..Options::default() });
        let mut wire = Wire::connect(broker.kafka);
        let topic = create(&mut wire, "journaled", 1, &[]);
        let other = create(&mut wire, "neighbour", 1, &[]);
        for i in 0..40 {
            produce(&mut wire, &topic, encoded([format!("mark-{i}-{}", "x".repeat(3_000))]));
            produce(&mut wire, &other, encoded([format!("{i}")]));
        }
        broker.kill();
        let data = broker.data_dir();
        let journal = content(&data.join("journal"))
            .into_iter()
            .find(|(_, bytes)| bytes.windows(8).any(|window| window == b"mark-20-"));
        let (path, bytes) = journal.expect("the journal has the records");
        let at = position_of(&bytes, &format!("mark-{lost}-"));
        match cut {
            false => harm(&path, |bytes| bytes[at + 1_000] ^= 1),
            true => harm(&path, |bytes| bytes.truncate(at + 1_000)),
        }
        let found = findings(&data);
        assert!(!found.is_empty() && found.iter().all(|f| f["loses_records"] == true), "{found:?}");
        assert!(found.iter().any(|f| f["file"] == path.display().to_string()), "{found:?}");
        if !cut {
            assert_eq!(found[0]["partition"], format!("{}-0", topic.name));
            assert_eq!((&found[0]["first_offset"], &found[0]["next_offset"]), (&20.into(), &21.into()));
        }
        // A broker serves everything else and nothing wrong, also after another start.
        for _ in 0..2 {
            broker.restart();
            let mut wire = Wire::connect(broker.kafka);
            assert_ne!(Fetch::default().run(&mut wire, &topic).error_code, 0, "the partition is marked");
            assert_ne!(produce_at(&mut wire, 9, &topic, 0, -1, encoded(["no"])).error_code, 0);
            if !cut {
                assert_eq!(read_from(&mut wire, &other, 0, 0).len(), 40);
            }
            assert_eq!(broker.stop().code(), Some(0));
        }
        let done = repaired(&data);
        broker.restart();
        let mut wire = Wire::connect(broker.kafka);
        if cut {
            // Nobody knows how much there was, but for what a checkpoint in between may have promised.
            let end = list_offset(&mut wire, 7, &topic.name, 0, -1).offset;
            assert!((20..=40).contains(&end), "{end}: {done}");
            assert_eq!(consumed(&broker, &topic).len(), 20);
            assert!(consumed(&broker, &other).len() >= 20);
        } else {
            assert!(done.contains("19 records that were set aside, without offsets 20..21"), "{done}");
            let rest: Vec<i64> = (0..40).filter(|at| *at != 20).collect();
            assert_eq!(consumed(&broker, &topic), rest);
            assert_eq!(read_from(&mut wire, &other, 0, 0).len(), 40);
        }
        let end = list_offset(&mut wire, 7, &topic.name, 0, -1).offset;
        assert_eq!(produce(&mut wire, &topic, encoded(["next"])), end);
        broker.assert_healthy();
    }
}

#[test]
fn a_gap_at_the_end_of_the_log_is_stepped_over() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "last", 1, &[]);
    for i in 0..30 {
        produce(&mut wire, &topic, encoded([format!("mark-{i}-{}", "x".repeat(30_000))]));
    }
    assert_eq!(broker.stop().code(), Some(0));
    let data = broker.data_dir();
    let path = last_file(&data.join("topics").join(format!("{}-0", topic.name)), ".log");
    // The base offset of a batch: its own checksum does not cover it.
    let bytes = fs::read(&path).expect("a segment");
    let last = position_of(&bytes, "mark-28-");
    let batch =
        bytes[..last].windows(8).rposition(|window| window == 28i64.to_be_bytes()).expect("a base offset");
    harm(&path, |bytes| bytes[batch + 7] ^= 1);
    let found = findings(&data);
    let first = found[0]["first_offset"].as_i64().expect("an offset");
    assert_eq!((found.len(), found[0]["next_offset"].as_i64()), (1, Some(30)), "{found:?}");
    repaired(&data);
    broker.restart();
    assert_eq!(consumed(&broker, &topic), (0..first).collect::<Vec<_>>());
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(produce(&mut wire, &topic, encoded(["next"])), 30);
    let data = Fetch { offset: 30, ..Fetch::default() }.run(&mut wire, &topic);
    assert_eq!(rows(data.records.unwrap_or_default()).len(), 1);
}

#[test]
fn copies_are_made_again_and_directories_that_cannot_be_read_are_left_alone() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start_with(Options { shards: 1, ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "copies", 1, &[]);
    produce(&mut wire, &topic, encoded(["kept"]));
    assert_eq!(broker.stop().code(), Some(0));
    let data = broker.data_dir();
    for name in ["checkpoint", "checkpoint-copy"] {
        harm(&data.join("journal/0").join(name), |bytes| bytes[30] ^= 1);
        let found = findings(&data);
        assert_eq!((found.len(), &found[0]["loses_records"]), (1, &Value::Bool(false)), "{found:?}");
        assert!(found[0]["file"].as_str().expect("a file").ends_with(name), "{found:?}");
        repaired(&data);
    }
    let meta = last_file(&data.join("meta"), ".log");
    let whole = fs::read(&meta).expect("metadata");
    harm(&meta, |bytes| bytes[4_150] ^= 1);
    let (code, text) = weir_log(&["verify"], &data);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&meta.display().to_string()) && text.contains("is damaged at byte 4"), "{text}");
    fs::write(&meta, whole).expect("metadata");

    fs::write(data.join("format"), "weir 9\n").expect("a format");
    for args in [&["verify"][..], &["repair"], &["repair", "--apply"]] {
        let (code, text) = weir_log(args, &data);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("written by a newer Weir (format 9"), "{text}");
    }
    refused(&mut serve(&data, free_port(), free_port(), 1), 1, &["newer Weir"]);
    fs::write(data.join("format"), "weir 1\n").expect("a format");
    let (code, text) = weir_log(&["verify"], &data.join("topics"));
    assert_eq!((code, text.contains("is not a data directory")), (Some(1), true), "{text}");
    assert!(!data.join("topics/lock").exists(), "a mistyped path is left as it is");
    broker.restart();
    assert_eq!(read_from(&mut Wire::connect(broker.kafka), &topic, 0, 0).len(), 1);
}

#[test]
fn dump_has_a_line_for_each_batch() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start_with(Options { shards: 1, ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "dumped", 1, &[]);
    for i in 0..12 {
        produce(&mut wire, &topic, encoded([format!("{i}"), "two".into()]));
    }
    broker.kill();
    let data = broker.data_dir();
    let journal = content(&data.join("journal")).into_keys().find(|path| {
        path.extension().is_some_and(|e| e == "journal") && weir_log(&["dump"], path).1.lines().count() > 12
    });
    assert!(journal.is_some(), "the batches are in a journal file");
    broker.restart();
    assert_eq!(broker.stop().code(), Some(0));
    let segment = last_file(&data.join("topics"), ".log");
    let (code, text) = weir_log(&["dump"], &segment);
    assert_eq!((code, text.lines().count()), (Some(0), 13), "{text}");
    assert!(text.starts_with("POSITION  BASE OFFSET  LAST OFFSET  RECORDS"), "{text}");
    let row: Vec<&str> = text.lines().nth(12).expect("the last batch").split_whitespace().collect();
    assert_eq!((row[1], row[2], row[3], row.last()), ("22", "23", "2", Some(&"ok")), "{text}");
    harm(&segment, |bytes| bytes[65] ^= 1);
    let (_, text) = weir_log(&["dump"], &segment);
    assert_eq!(text.lines().filter(|line| line.ends_with("wrong")).count(), 1, "{text}");
    let (code, text) = weir_log(&["dump"], &data.join("journal/0/checkpoint"));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("{}-0", topic.name)), "{text}");
    assert_eq!(weir_log(&["dump"], &data.join("format")).0, Some(2));
}

/// Writes what a fixture holds: for each file the length of its name, its own length and how many sectors follow, all
/// little-endian, then the name, then each sector that is not zero behind its number.
fn unpack(fixture: &Path, to: &Path) {
    let bytes = fs::read(fixture).expect("a fixture");
    let mut rest = &bytes[..];
    let mut take = |count: usize| {
        let (head, tail) = rest.split_at(count);
        rest = tail;
        head
    };
    let mut left = bytes.len();
    while left > 0 {
        let name = u16::from_le_bytes(take(2).try_into().expect("2 bytes")) as usize;
        let length = u64::from_le_bytes(take(8).try_into().expect("8 bytes")) as usize;
        let sectors = u32::from_le_bytes(take(4).try_into().expect("4 bytes")) as usize;
        let path = to.join(String::from_utf8_lossy(take(name)).as_ref());
        let mut content = vec![0; length.next_multiple_of(512)];
        for _ in 0..sectors {
            let number = u32::from_le_bytes(take(4).try_into().expect("4 bytes")) as usize;
            content[number * 512..][..512].copy_from_slice(take(512));
        }
        content.truncate(length);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
        left -= 14 + name + sectors * 516;
    }
}

#[test]
fn what_earlier_versions_left_behind_is_served() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    assert_eq!(broker.stop().code(), Some(0));
    let data = broker.data_dir();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let all = fs::read_dir(fixtures).expect("fixtures").flatten().map(|entry| entry.path());
    let all: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|e| e == "data")).collect();
    assert!(all.len() >= 3, "{all:?}");
    for fixture in all {
        println!("{}", fixture.display());
        fs::remove_dir_all(&data).expect("the last one goes");
        unpack(&fixture, &data);
        // The first had no copy of the checkpoint.
        let found = findings(&data);
        assert!(found.iter().all(|finding| finding["loses_records"] == false), "{found:?}");
        broker.restart();
        let mut wire = Wire::connect(broker.kafka);
        let topic = crate::support::calls::metadata_of(&mut wire, "kept", false);
        let topic = Topic { name: "kept".into(), id: topic.topic_id };
        let read = |wire: &mut Wire| {
            let of = |wire: &mut Wire, partition| read_from(wire, &topic, partition, 0);
            let mut all: Vec<String> = [of(wire, 0), of(wire, 1)]
                .concat()
                .into_iter()
                .map(|(_, value)| String::from_utf8_lossy(&value[..8]).into_owned())
                .collect();
            all.sort();
            all
        };
        let expected: Vec<String> =
            (1..=6).flat_map(|round| (0..10).map(move |i| format!("kept {round} {i}")[..8].into())).collect();
        assert_eq!(read(&mut wire), expected);
        produce(&mut wire, &topic, encoded(["later and more"]));
        assert_eq!(broker.stop().code(), Some(0));
        broker.restart();
        assert_eq!(read(&mut Wire::connect(broker.kafka)).len(), 61);
        assert_eq!(broker.stop().code(), Some(0));
        assert!(findings(&data).is_empty(), "{:?}", findings(&data));
    }
}

#[test]
fn a_shard_without_checkpoints_is_made_again() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "unlisted", 4, &[]);
    for round in 0..2 {
        for i in 0..40 {
            let records = encoded([format!("{round} {i}")]);
            assert_eq!(produce_at(&mut wire, 9, &topic, i % 4, -1, records).error_code, 0);
        }
        broker.kill();
        if round == 0 {
            broker.restart();
            assert_eq!(broker.stop().code(), Some(0));
            broker.restart();
            wire = Wire::connect(broker.kafka);
        }
    }
    let data = broker.data_dir();
    for name in ["checkpoint", "checkpoint-copy"] {
        fs::remove_file(data.join("journal/0").join(name)).expect("a checkpoint");
        harm(&data.join("journal/1").join(name), |bytes| bytes.truncate(40));
    }
    refused(&mut serve(&data, free_port(), free_port(), 2), 1, &["checkpoint"]);
    assert!(findings(&data).len() >= 4, "{:?}", findings(&data));
    let done = repaired(&data);
    assert_eq!(done.matches("the checkpoint was made again").count(), 2, "{done}");
    broker.restart();
    let mut wire = Wire::connect(broker.kafka);
    for partition in 0..4 {
        assert_eq!(read_from(&mut wire, &topic, partition, 0).len(), 20);
    }
}
