//! Where a Weir broker's time goes, from its own metrics: what was observed between two scrapes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde::Serialize;

const METRIC: &str = "weir_request_stage_duration_seconds";
const PATIENCE: Duration = Duration::from_secs(5);
const MOST_BYTES: u64 = 64 << 20;

/// By API and stage, over all shards.
pub type Snapshot = BTreeMap<(String, String), Counts>;

/// The order in which a request goes through them.
const ORDER: [&str; 8] = ["read", "queue", "route", "append", "journal_wait", "commit", "respond", "send"];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Upper bounds in nanoseconds with the number of observations up to each.
    buckets: BTreeMap<u64, u64>,
    sum: f64,
    count: u64,
}

pub fn scrape(admin: &str) -> Result<Snapshot, String> {
    let fail = |e: std::io::Error| format!("{admin}: {e}");
    let mut stream = TcpStream::connect(admin).map_err(fail)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(fail)?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {admin}\r\n\r\n").map_err(fail)?;
    let mut text = String::new();
    stream.take(MOST_BYTES).read_to_string(&mut text).map_err(fail)?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Snapshot {
    let mut found = Snapshot::new();
    for line in text.lines() {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let Some((metric, labels)) = name.trim_end_matches('}').split_once('{') else { continue };
        let Some(kind) = metric.strip_prefix(METRIC) else { continue };
        let label = |name: &str| {
            let at = labels.split(',').find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
            at.map(|v| v.trim_matches('"').to_owned())
        };
        let (Some(api), Some(stage), Ok(value)) = (label("api"), label("stage"), value.parse::<f64>()) else {
            continue;
        };
        let counts = found.entry((api, stage)).or_default();
        match kind {
            "_bucket" => {
                let bound = label("le").and_then(|le| le.parse::<f64>().ok()).unwrap_or(f64::INFINITY);
                *counts.buckets.entry((bound * 1e9) as u64).or_default() += value as u64;
            }
            "_sum" => counts.sum += value,
            "_count" => counts.count += value as u64,
            _ => {}
        }
    }
    found
}

/// A stage of an API's requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    pub api: String,
    pub stage: String,
    pub count: u64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
}

/// What was observed between two scrapes.
pub fn between(before: &Option<Snapshot>, after: &Option<Snapshot>) -> Vec<Stage> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    let stage = |((api, stage), now): (&(String, String), &Counts)| {
        let then = before.get(&(api.clone(), stage.clone())).cloned().unwrap_or_default();
        let count = now.count.saturating_sub(then.count);
        if count == 0 {
            return None;
        }
        let below =
            |bound: &u64| now.buckets[bound].saturating_sub(then.buckets.get(bound).copied().unwrap_or(0));
        let at = |quantile: f64| {
            let wanted = (count as f64 * quantile).ceil() as u64;
            let bound = now.buckets.keys().find(|bound| below(bound) >= wanted);
            bound.map_or(f64::INFINITY, |nanos| *nanos as f64 / 1e3)
        };
        Some(Stage {
            api: api.clone(),
            stage: stage.clone(),
            count,
            mean_us: (now.sum - then.sum) * 1e6 / count as f64,
            p50_us: at(0.5),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
        })
    };
    let mut stages: Vec<Stage> = after.iter().filter_map(stage).collect();
    stages.sort_by_key(|s| (s.api.clone(), ORDER.iter().position(|known| *known == s.stage)));
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_what_two_scrapes_differ_by() {
        let scrape = |n: u64| {
            let name = "weir_request_stage_duration_seconds";
            parse(&format!(
                "# HELP x\n{name}_bucket{{api=\"Produce\",stage=\"commit\",shard=\"0\",le=\"0.001\"}} {n}\n\
                 {name}_bucket{{api=\"Produce\",stage=\"commit\",shard=\"0\",le=\"+Inf\"}} {}\n\
                 {name}_sum{{api=\"Produce\",stage=\"commit\",shard=\"0\"}} {}\n\
                 {name}_count{{api=\"Produce\",stage=\"commit\",shard=\"0\"}} {}\nother 3\n",
                n + 1,
                n as f64 * 0.5,
                n + 1
            ))
        };
        let stages = between(&Some(scrape(10)), &Some(scrape(20)));
        assert_eq!(stages.len(), 1);
        let s = &stages[0];
        assert_eq!((s.count, s.p50_us, s.p99_us), (10, 1000.0, 1000.0));
        assert!((s.mean_us - 500_000.0).abs() < 1.0);
    }
}
