//! The load generator against a broker: what it sends it reads back, and finds nothing wrong. How fast is not asked here.

use std::process::Command;

use serde_json::Value;

use crate::support::shared;

/// Runs `weir-perf`, which must succeed: its standard output. A slow machine is no reason to fail.
fn perf(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_weir-perf")).args(args).output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

fn on_broker(command: &str, args: &[&str]) -> Value {
    let broker = shared().to_string();
    let shape = ["--warm-up=200ms", "--duration=1s", "--set=max_lag=10m", "--quiet", "--json"];
    let text = perf(&[&[command, "--broker", &broker][..], &shape, args].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error} in {text}"))
}

/// Whether a side of the run got anywhere.
fn moved(report: &Value, side: usize) -> bool {
    report["sides"][side]["records_per_second"].as_f64().is_some_and(|rate| rate > 0.0)
}

#[test]
fn workloads_run_end_to_end_and_are_checked() {
    for (workload, changes) in [
        // Keys, and values of which some are too short for a mark.
        ("metrics-ingestion", &["--set=topic.partitions=50"][..]),
        ("metrics-ingestion", &["--codec=zstd", "--set=producer.idempotent=true", "--partitions=7"]),
        ("logs", &[]),
        ("groups", &["--codec=gzip"]),
        ("fan-out", &["--codec=snappy", "--acks=1"]),
        ("default", &["--schedule=poisson", "--batch-records=1", "--acks=0"]),
    ] {
        let report = on_broker("e2e", &[&["-w", workload, "--rate=2000"], changes].concat());
        assert!(moved(&report, 0) && moved(&report, 1), "{workload} {changes:?}: {report}");
    }
}

#[test]
fn saturation_and_reading_get_somewhere() {
    let saturated = on_broker("produce", &["-w", "small-records", "--saturate"]);
    assert!(moved(&saturated, 0), "{saturated}");
    let fresh = on_broker("produce", &["-w", "single", "--saturate", "--set=producer.prebuilt=false"]);
    assert!(moved(&fresh, 0), "{fresh}");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("reread.toml");
    let workload =
        "mode = \"saturation\"\nproducer.count = 0\n[[consumer]]\nfrom = \"beginning\"\nfill = \"4MiB\"\n";
    std::fs::write(&path, workload).expect("a workload");
    let read = on_broker("consume", &["-w", &path.to_string_lossy()]);
    assert!(moved(&read, 0), "{read}");
}
