//! Where the time of requests goes: stages merged over the shards, stalls, and the slowest requests.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::names::api_name;
use super::prometheus::{Families, Kind};
use crate::shard::metrics::MetricsSnapshot;
use crate::shard::timing::{STAGES, Slow, Stage};

/// Bucket bounds in nanoseconds.
const BOUNDS: &[u64] = &[
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    10_000_000_000,
];
const NANOSECOND: f64 = 1e-9;
/// Slow requests that are shown.
const SHOWN: usize = 50;

pub fn metrics(out: &mut Families, shards: &[MetricsSnapshot]) {
    let mut merged: BTreeMap<i16, Vec<Stage>> = BTreeMap::new();
    for (key, stages) in shards.iter().flat_map(|s| &s.timing.apis) {
        match merged.entry(*key) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(stages.clone())),
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                for (sum, stage) in entry.get_mut().iter_mut().zip(stages) {
                    // All have the same bounds, so this cannot fail.
                    let _ = sum.nanos.add(&stage.nanos);
                    sum.sum_ns += stage.sum_ns;
                }
            }
        }
    }
    let help =
        "Where the time of requests goes: read, queue, route, append, journal_wait, commit, respond, send.";
    out.family("weir_request_stage_duration_seconds", Kind::Histogram, help);
    for (key, stages) in &merged {
        for (name, stage) in STAGES.iter().zip(stages).filter(|(_, s)| !s.nanos.is_empty()) {
            let labels = [("api", &*api_name(*key)), ("stage", name)];
            out.histogram(&labels, &stage.nanos, stage.sum_ns, BOUNDS, NANOSECOND);
        }
    }
    stalls(out, shards);
}

type Figure = fn(&crate::rt::stall::Stalls) -> f64;

fn stalls(out: &mut Families, shards: &[MetricsSnapshot]) {
    let families: [(&str, Kind, &str, Figure); 3] = [
        (
            "weir_shard_stalls_total",
            Kind::Counter,
            "Times that one piece of work kept its shard from everything else for 10 ms or more.",
            |s| s.count as f64,
        ),
        ("weir_shard_stall_seconds_total", Kind::Counter, "Time in such stalls.", |s| s.total.as_secs_f64()),
        ("weir_shard_stall_longest_seconds", Kind::Gauge, "The longest of them.", |s| {
            s.longest.as_secs_f64()
        }),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        for shard in shards {
            for stall in &shard.timing.stalls {
                let labels = [("shard", &*shard.shard.to_string()), ("running", stall.what)];
                out.sample(&labels, value(stall));
            }
        }
    }
}

/// The slowest recent requests of all shards, the slowest first.
pub fn slow(shards: &[MetricsSnapshot]) -> Value {
    let mut all: Vec<(usize, &Slow)> =
        shards.iter().flat_map(|s| s.timing.slow.iter().map(|slow| (s.shard, slow))).collect();
    all.sort_by_key(|(_, slow)| std::cmp::Reverse(slow.total_ns));
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let one = |(shard, slow): &(usize, &Slow)| {
        let stages: serde_json::Map<String, Value> = STAGES
            .iter()
            .zip(slow.stages)
            .map(|(name, ns)| ((*name).to_owned(), json!(micros(ns))))
            .collect();
        json!({
            "api": api_name(slow.api_key),
            "shard": shard,
            "peer": slow.peer.to_string(),
            "bytes": slow.bytes,
            "at_ms": slow.at_ms,
            "total_us": micros(slow.total_ns),
            "stages_us": stages,
        })
    };
    all.iter().take(SHOWN).map(one).collect()
}
