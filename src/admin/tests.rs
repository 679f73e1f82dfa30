use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::*;
use crate::rt::Ticks;
use crate::shard::metrics::ShardMetrics;
use crate::shard::timing::{Appending, Timed};

/// Starts a server over these snapshots and returns its address; it lives as long as the test.
fn start(shards: usize, health: Health, snapshots: Vec<MetricsSnapshot>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let source = move || std::future::ready(snapshots.clone());
        let served =
            async { serve(Door::new(listener)?, shards, health, source, std::future::pending()).await };
        runtime.block_on(served).unwrap();
    });
    address
}

fn get(address: SocketAddr, path: &str) -> String {
    String::from_utf8(get_as(address, path, "*/*")).unwrap()
}

fn get_as(address: SocketAddr, path: &str, accept: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

fn busy_shard(shard: usize) -> MetricsSnapshot {
    let metrics = ShardMetrics::new(shard);
    metrics.connection_opened();
    metrics.request(0, 1000);
    metrics.response(0, 50, Duration::from_micros(120));
    metrics.error(0, 3);
    metrics.timing.appended(Appending { append_ns: 9_000, commit_ns: 900_000, journal_wait_ns: 0 }, true);
    let now = Ticks::now();
    metrics.timing.finished(&Timed::new(0, ([127, 0, 0, 1], 77).into(), 1000, [now; 3]), Ticks::now());
    metrics.snapshot()
}

#[test]
fn readiness_follows_phase_shards_and_journal() {
    let health = Health::new();
    let address = start(1, health.clone(), vec![busy_shard(0)]);
    assert!(get(address, "/health/live").starts_with("HTTP/1.1 200"));
    let answer = get(address, "/health/ready");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("recovering"), "{answer}");
    health.set(Phase::Serving);
    assert!(get(address, "/health/ready").starts_with("HTTP/1.1 200"));
    health.set(Phase::Stopping);
    assert!(get(address, "/health/ready").contains("\"reason\":\"stopping\""));

    let serving = || {
        let health = Health::new();
        health.set(Phase::Serving);
        health
    };
    let answer = get(start(2, serving(), vec![busy_shard(0)]), "/health/ready");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("shard 1 does not answer"), "{answer}");
    let mut failed = busy_shard(0);
    failed.journal.failed = Some("journal/0/3: No space left on device".to_owned());
    let answer = get(start(1, serving(), vec![failed]), "/health/ready");
    assert!(answer.contains("the journal of shard 0 failed: journal/0/3"), "{answer}");
    let mut waits = busy_shard(0);
    waits.gauges.metadata_waits = Some("cannot write meta: No space left on device".to_owned());
    let answer = get(start(1, serving(), vec![waits]), "/health/ready");
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("no part in the metadata: cannot"),
        "{answer}"
    );
    let mut unheard = busy_shard(0);
    unheard.gauges.coordinators_silent = Some(Duration::from_millis(1234));
    let answer = get(start(1, serving(), vec![unheard]), "/health/ready");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("for 1234 ms its groups"), "{answer}");
}

#[test]
fn metrics_are_well_formed() {
    let address = start(2, Health::new(), vec![busy_shard(1), busy_shard(0)]);
    let answer = get(address, "/metrics");
    for line in [
        "weir_requests_total{shard=\"1\",api=\"Produce\"} 1",
        "weir_request_errors_total{shard=\"0\",api=\"Produce\",error=\"UNKNOWN_TOPIC_OR_PARTITION\"} 1",
        "weir_request_duration_seconds_bucket{shard=\"0\",api=\"Produce\",le=\"0.00025\"} 1",
        "weir_request_duration_seconds_bucket{shard=\"0\",api=\"Produce\",le=\"0.0001\"} 0",
        "weir_connections{shard=\"0\"} 1",
        // Stages are summed over the shards.
        "weir_request_stage_duration_seconds_bucket{api=\"Produce\",stage=\"append\",le=\"0.000005\"} 0",
        "weir_request_stage_duration_seconds_bucket{api=\"Produce\",stage=\"append\",le=\"0.00001\"} 2",
        "weir_request_stage_duration_seconds_sum{api=\"Produce\",stage=\"commit\"} 0.0018",
        "weir_request_stage_duration_seconds_count{api=\"Produce\",stage=\"send\"} 2",
        "weir_journal_failed{shard=\"0\"} 0",
        "weir_disk_errors_total{operation=\"sync\",error=\"no_space\"} 0",
    ] {
        assert!(answer.contains(line), "{line} is missing from\n{answer}");
    }
    // Each family is announced once, and every sample belongs to the family announced last.
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let mut seen = HashSet::new();
    let mut family = "";
    for line in body.lines().filter(|l| !l.starts_with("# HELP") && l.contains(' ')) {
        match line.strip_prefix("# TYPE ") {
            Some(rest) => {
                family = rest.split(' ').next().unwrap();
                assert!(seen.insert(family), "{family} is announced twice");
            }
            None => assert!(line.starts_with(family), "{line} is not of {family}"),
        }
    }
    assert!(seen.len() > 25);
}

#[test]
fn a_scraper_that_reads_protobuf_gets_it() {
    let address = start(1, Health::new(), vec![busy_shard(0)]);
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let answer = get_as(address, "/metrics", accept);
    let head_end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..head_end]).to_lowercase();
    assert!(head.contains("content-type: application/vnd.google.protobuf; proto=io.prometheus"), "{head}");
    let body = &answer[head_end + 4..];
    assert!(body.windows(29).any(|w| w == b"weir_request_duration_seconds") && !body.starts_with(b"#"));
}

#[test]
fn other_paths_are_not_found() {
    let address = start(0, Health::new(), vec![]);
    assert!(get(address, "/nothing").starts_with("HTTP/1.1 404"));
    assert!(get(address, "/").contains("/metrics"));
}

#[test]
fn the_slowest_requests_are_listed_with_their_stages() {
    let address = start(2, Health::new(), vec![busy_shard(0), busy_shard(1)]);
    let answer = get(address, "/debug/slow");
    let list: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!((&list[0]["api"], &list[0]["peer"]), (&json!("Produce"), &json!("127.0.0.1:77")));
    assert!(
        list[0]["stages_us"]["send"].is_number()
            && list[0]["total_us"].as_f64() >= list[1]["total_us"].as_f64()
    );
}
