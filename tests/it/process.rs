//! The process: how it starts, what it refuses, how it stops, what it leaves behind.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use kafka_wire::DeleteTopicsRequest;

use crate::support::batch::{bytes_of, decode_all, encoded, from_producer};
use crate::support::broker::{external, free_port, http_get, needs_own_broker, refused, run, serve, weir};
use crate::support::calls::{
    Fetch, Topic, code, create, list_offset, metadata_of, produce, produce_at, producer_id, read_from,
};
use crate::support::{Broker, Options, Wire, eventually, msg};

/// Writes `count` records to each partition: value i of partition p is `p:i`, in batches of four.
fn fill(wire: &mut Wire, topic: &Topic, partitions: i32, count: i32) {
    for partition in 0..partitions {
        for first in (0..count).step_by(4) {
            let values = (first..(first + 4).min(count)).map(|i| format!("{partition}:{i}"));
            assert_eq!(produce_at(wire, 9, topic, partition, -1, encoded(values)).error_code, 0);
        }
    }
}

fn check_filled(wire: &mut Wire, topic: &Topic, partitions: i32, count: i32) {
    for partition in 0..partitions {
        let rows = read_from(wire, topic, partition, 0);
        let values: Vec<String> = rows.iter().map(|(_, v)| String::from_utf8_lossy(v).into_owned()).collect();
        let expected: Vec<String> = (0..count).map(|i| format!("{partition}:{i}")).collect();
        assert_eq!(values, expected, "partition {partition}");
    }
}

#[test]
fn a_signal_stops_it_cleanly_and_soon() {
    if needs_own_broker() {
        return;
    }
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut broker = Broker::start();
        let mut wire = Wire::connect(broker.kafka);
        let topic = create(&mut wire, "stopped", 4, &[]);
        fill(&mut wire, &topic, 4, 50);
        // A client in a long poll and idle ones do not hold it up.
        let fetch = Fetch { offset: 50, max_wait_ms: 60_000, ..Fetch::default() };
        wire.send(fetch.version, &fetch.request(&topic));
        let _idle: Vec<Wire> = (0..20).map(|_| Wire::connect(broker.kafka)).collect();
        std::thread::sleep(Duration::from_millis(100));
        let asked = Instant::now();
        broker.signal(signal);
        let status = broker.wait_exit(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "signal {signal}: {status}; its log:\n{}", broker.log());
        assert!(asked.elapsed() < Duration::from_secs(5), "took {:?}", asked.elapsed());
        broker.restart();
        check_filled(&mut Wire::connect(broker.kafka), &topic, 4, 50);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    broker.signal(libc::SIGTERM);
    broker.signal(libc::SIGTERM);
    broker.wait_exit(Duration::from_secs(2));
    broker.restart();
    broker.assert_healthy();
}

#[test]
fn a_hangup_reads_the_settings_again_and_ends_nothing() {
    if needs_own_broker() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("weir.toml");
    let set = |text: &str| std::fs::write(&file, text).expect("a config file");
    set("fetch_sessions = 900\n");
    // Tests name their arguments for good.
    let path: &'static str = file.display().to_string().leak();
    let mut broker = Broker::start_with(Options { args: vec!["--config", path], ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "hung-up", 1, &[]);
    let mut hang_up = |says: &str| {
        broker.signal(libc::SIGHUP);
        eventually(says, Duration::from_secs(10), || broker.log().contains(says));
        produce(&mut wire, &topic, encoded(["x"]));
    };
    hang_up("SIGHUP: log_level stays info; no other setting has changed");
    set("fetch_sessions = 901\nlog_level = \"debug\"\nmax_connections = 77\n");
    hang_up(
        "SIGHUP: log_level is debug now, and was info; for the next start wait max_connections, fetch_sessions",
    );
    set("log_level = \"chatty\"\n");
    hang_up("SIGHUP: nothing was changed, the settings make no sense: log_level in");
    set("log_level = \"warn\"\n");
    hang_up("SIGHUP: log_level is warn now, and was debug; for the next start wait fetch_sessions");
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn what_a_producer_sent_is_remembered_across_restarts() {
    if needs_own_broker() {
        return;
    }
    for clean in [true, false] {
        let mut broker = Broker::start();
        let mut wire = Wire::connect(broker.kafka);
        let topic = create(&mut wire, "remembered", 1, &[]);
        let (id, epoch) = producer_id(&mut wire);
        let send = |wire: &mut Wire, sequence| {
            let reply =
                produce_at(wire, 9, &topic, 0, -1, bytes_of(&from_producer(id, epoch, sequence, ["v"])));
            (reply.error_code, reply.base_offset)
        };
        for i in 0..8 {
            assert_eq!(send(&mut wire, i), (code::NONE, i64::from(i)));
        }
        assert_eq!(send(&mut wire, 12).0, code::OUT_OF_ORDER_SEQUENCE, "a gap");
        match clean {
            true => assert_eq!(broker.stop().code(), Some(0)),
            false => broker.kill(),
        }
        broker.restart();
        let mut wire = Wire::connect(broker.kafka);
        for i in 3..8 {
            assert_eq!(send(&mut wire, i), (code::NONE, i64::from(i)), "clean stop {clean}: batch {i} again");
        }
        // Of a leader whose term has just begun: what is between may be on its way.
        assert_eq!(send(&mut wire, 12).0, code::NOT_LEADER_OR_FOLLOWER, "clean stop {clean}: a gap");
        assert_eq!(send(&mut wire, 8), (code::NONE, 8), "clean stop {clean}: the next");
        assert!(producer_id(&mut wire).0 > id, "clean stop {clean}: ids are not handed out again");
    }
}

#[test]
fn the_shard_count_may_change() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "moved", 8, &[]);
    let (id, epoch) = producer_id(&mut wire);
    let mut count = 0;
    for (shards, clean) in [(1, false), (3, true), (2, false), (1, true), (2, true)] {
        let mut wire = Wire::connect(broker.kafka);
        for partition in 0..8 {
            for i in count..count + 10 {
                let records = bytes_of(&from_producer(id, epoch, i, [format!("{partition}:{i}")]));
                let reply = produce_at(&mut wire, 9, &topic, partition, -1, records);
                assert_eq!(
                    (reply.error_code, reply.base_offset),
                    (0, i64::from(i)),
                    "before {shards} shards"
                );
            }
        }
        count += 10;
        match clean {
            true => assert_eq!(broker.stop().code(), Some(0)),
            false => broker.kill(),
        }
        broker.restart_with(|options| options.shards = shards);
        let mut wire = Wire::connect(broker.kafka);
        check_filled(&mut wire, &topic, 8, count);
        for partition in 0..8 {
            let records =
                bytes_of(&from_producer(id, epoch, count - 1, [format!("{partition}:{}", count - 1)]));
            let again = produce_at(&mut wire, 9, &topic, partition, -1, records);
            let expected = (code::NONE, i64::from(count - 1));
            assert_eq!((again.error_code, again.base_offset), expected, "a repeat at {shards} shards");
        }
    }
}

#[test]
fn a_data_directory_has_one_owner() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let data = broker.data_dir();
    let mut second = serve(&data, free_port(), free_port(), 2);
    refused(&mut second, 1, &["in use", &data.display().to_string(), &broker.pid().to_string()]);
    broker.assert_healthy();
}

#[test]
fn a_taken_port_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    for take_admin in [false, true] {
        let (mut kafka, mut admin) = (free_port(), free_port());
        let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = taken.local_addr().expect("its address");
        *(if take_admin { &mut admin } else { &mut kafka }) = address;
        refused(&mut serve(&dir.path().join("data"), kafka, admin, 1), 1, &[&address.to_string()]);
    }
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = || serve(&dir.path().join("data"), free_port(), free_port(), 1);
    let file = |text: &str| {
        let path = dir.path().join("weir.toml");
        std::fs::File::create(&path).and_then(|mut f| f.write_all(text.as_bytes())).expect("a config file");
        let mut command = good();
        command.arg("--config").arg(path);
        command
    };
    refused(&mut file("no_such_setting = 1\n"), 2, &["no_such_setting"]);
    refused(&mut file("max_connections = \"many\"\n"), 2, &["max_connections"]);
    refused(&mut file("this is not toml\n"), 2, &["weir.toml"]);
    refused(good().arg("--no-such-flag"), 2, &["--no-such-flag"]);
    refused(good().args(["--journal-file-size", "tiny"]), 2, &["--journal-file-size"]);
    refused(good().args(["--max-connections", "0"]), 2, &["--max-connections"]);
    refused(good().env("WEIR_NO_SUCH_SETTING", "1"), 2, &["WEIR_NO_SUCH_SETTING"]);
    refused(good().env("WEIR_FETCH_SESSIONS", "some"), 2, &["WEIR_FETCH_SESSIONS"]);
    refused(good().arg("--config").arg(dir.path().join("missing.toml")), 2, &["missing.toml"]);
    refused(weir().arg("explode"), 2, &["explode"]);
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("thesis.txt"), "precious").expect("a file");
    refused(&mut serve(dir.path(), free_port(), free_port(), 1), 1, &["thesis.txt"]);
    assert_eq!(std::fs::read_dir(dir.path()).expect("a listing").count(), 1);
}

#[test]
fn a_newer_format_is_refused() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    assert_eq!(broker.stop().code(), Some(0));
    std::fs::write(broker.data_dir().join("format"), "weir 99\n").expect("a format");
    refused(&mut serve(&broker.data_dir(), free_port(), free_port(), 2), 1, &["newer", "99"]);
}

#[test]
fn the_version_is_told() {
    let output = run(weir().arg("--version"));
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("weir "));
}

#[test]
fn health_and_metrics_are_served() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let get = |path| http_get(broker.admin, path).expect("an answer");
    assert_eq!(get("/health/live").0, 200);
    assert_eq!(get("/health/ready").0, 200);
    assert_eq!(get("/no/such/page").0, 404);
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "measured", 1, &[]);
    for _ in 0..10 {
        produce(&mut wire, &topic, encoded(["x"]));
    }
    Fetch::default().run(&mut wire, &topic);
    let (code, text) = get("/metrics");
    assert_eq!(code, 200);
    for word in [
        "weir_requests_total",
        "weir_request_errors_total",
        "Produce",
        "Fetch",
        "weir_connections",
        "weir_journal",
    ] {
        assert!(text.contains(word), "{word} is missing from\n{text}");
    }
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap_or_default();
        assert!(value.parse::<f64>().is_ok(), "not a sample: {line}");
    }
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn every_stage_of_a_produce_is_timed_on_whichever_shard() {
    if needs_own_broker() {
        return;
    }
    const BATCHES: u64 = 40;
    let mut broker = Broker::start_with(Options { shards: 2, ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "timed", 8, &[]);
    for n in 0..BATCHES {
        assert_eq!(produce_at(&mut wire, 9, &topic, (n % 8) as i32, -1, encoded(["x"])).error_code, 0);
    }
    let (_, text) = http_get(broker.admin, "/metrics").expect("an answer");
    let value = |kind: &str, stage: &str| {
        let name =
            format!("weir_request_stage_duration_seconds_{kind}{{api=\"Produce\",stage=\"{stage}\"}} ");
        let line = text.lines().find_map(|l| l.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("{name} is missing from\n{text}")).parse::<f64>().unwrap()
    };
    for stage in ["read", "queue", "route", "append", "journal_wait", "commit", "respond", "send"] {
        assert_eq!(value("count", stage) as u64, BATCHES, "{stage}");
    }
    // The disk takes longer than parsing, and neither takes nothing.
    assert!(value("sum", "commit") > value("sum", "append") && value("sum", "append") > 0.0);
    let (code, slow) = http_get(broker.admin, "/debug/slow").expect("an answer");
    assert!(code == 200 && slow.contains("\"Produce\"") && slow.contains("\"journal_wait\""), "{slow}");
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn an_idle_broker_is_idle() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "idle", 8, &[]);
    fill(&mut wire, &topic, 8, 8);
    let fetch = Fetch { offset: 8, max_wait_ms: 15_000, ..Fetch::default() };
    wire.send(fetch.version, &fetch.request(&topic));
    std::thread::sleep(Duration::from_secs(1));
    let before = cpu_ticks(broker.pid());
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu_ticks(broker.pid()) - before;
    // Ticks are 10 ms: three of them in two seconds is 1.5 % of one core.
    assert!(used <= 3, "{used} ticks of CPU in two idle seconds");
    broker.assert_healthy();
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a live process");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
}

#[test]
fn deleting_a_topic_frees_its_disk() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "freed", 2, &[("file.delete.delay.ms", "0")]);
    for i in 0..40 {
        let reply = produce_at(&mut wire, 9, &topic, i % 2, -1, encoded([vec![b'x'; 500_000]]));
        assert_eq!(reply.error_code, 0);
    }
    let request =
        msg!(DeleteTopicsRequest { topic_names: vec![topic.name.as_str().into()], timeout_ms: 5_000 });
    assert_eq!(wire.call(5, &request).responses[0].error_code, code::NONE);
    let topics = broker.data_dir().join("topics");
    let left = || {
        let names = std::fs::read_dir(&topics).into_iter().flatten().flatten().map(|e| e.file_name());
        let is_left = |name: &str| name.starts_with(&topic.name) || name.ends_with(".deleted");
        names.filter(|name| is_left(&name.to_string_lossy())).count()
    };
    eventually("the topic's directories are gone", Duration::from_secs(20), || left() == 0);
    broker.kill();
    broker.restart();
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(metadata_of(&mut wire, &topic.name, false).error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(left(), 0);
    // What a kill has left of a removal goes after the next start.
    broker.kill();
    let dead = topics.join("0-0.deleted");
    std::fs::create_dir(&dead).expect("a directory");
    let large = std::fs::File::create(dead.join("00000000000000000000.log")).expect("a file");
    large.set_len(100 << 20).expect("it grows");
    broker.restart();
    eventually("the rest is gone", Duration::from_secs(20), || left() == 0);
}

#[test]
fn segments_are_plain_batches() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "plain", 1, &[("segment.bytes", "1048576")]);
    for i in 0..40 {
        produce(&mut wire, &topic, encoded([format!("{i} {}", "x".repeat(100_000))]));
    }
    assert_eq!(broker.stop().code(), Some(0));
    let dir = broker.data_dir().join("topics").join(format!("{}-0", topic.name));
    let mut logs: Vec<_> = std::fs::read_dir(&dir).expect("the partition's directory").flatten().collect();
    logs.retain(|entry| entry.path().extension().is_some_and(|ext| ext == "log"));
    logs.sort_by_key(|entry| entry.file_name());
    assert!(logs.len() > 2, "segments roll by size: {logs:?}");
    let mut next = 0;
    for log in logs {
        let name = log.file_name().to_string_lossy().into_owned();
        assert_eq!(name, format!("{next:020}.log"));
        let bytes = std::fs::read(log.path()).expect("a segment");
        assert!(bytes.len() <= 1_048_576, "{name}: {} bytes", bytes.len());
        let batches = decode_all(bytes.clone().into());
        let whole: usize = batches.iter().map(|b| bytes_of(b).len()).sum();
        assert_eq!(whole, bytes.len(), "{name} holds whole batches and nothing else");
        for batch in batches {
            assert_eq!(batch.base_offset, next);
            next += batch.records.len() as i64;
        }
    }
    assert_eq!(next, 40);
}

#[test]
fn a_log_start_offset_survives_a_crash() {
    if needs_own_broker() {
        return;
    }
    use kafka_wire::DeleteRecordsRequest;
    use kafka_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "start", 1, &[]);
    fill(&mut wire, &topic, 1, 20);
    let partition = msg!(DeleteRecordsPartition { partition_index: 0, offset: 7 });
    let named = msg!(DeleteRecordsTopic { name: topic.name.as_str().into(), partitions: vec![partition] });
    let reply = wire.call(2, &msg!(DeleteRecordsRequest { topics: vec![named], timeout_ms: 5_000 }));
    assert_eq!(reply.topics[0].partitions[0].low_watermark, 7);
    broker.kill();
    broker.restart();
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(list_offset(&mut wire, 7, &topic.name, 0, -2).offset, 7, "deleted records do not come back");
    assert_eq!(list_offset(&mut wire, 7, &topic.name, 0, -1).offset, 20);
}

#[test]
fn a_topic_may_opt_out_of_waiting_for_the_disk() {
    if external().is_some() {
        return;
    }
    let mut broker = Broker::start_with(Options { shards: 1, ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "cached", 1, &[("write.caching", "true")]);
    fill(&mut wire, &topic, 1, 100);
    check_filled(&mut wire, &topic, 1, 100);
    assert_eq!(broker.stop().code(), Some(0), "a clean stop keeps everything");
    broker.restart();
    check_filled(&mut Wire::connect(broker.kafka), &topic, 1, 100);
}
