//! What load a run puts on a broker: the TOML files in `perf/workloads/`, read strictly and checked once.
//!
//! Every field has a default, an unknown field is an error, and any field can be changed from the command
//! line (`--set producer.linger=5ms`), so a file says only what is particular about it.

mod catalog;
mod defaults;

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};
use toml::Value;
use weir::client::Codec;

use crate::Outcome;
use crate::units::{Size, Span};
use catalog::{BUILT_IN, apply};

/// Queues that producers and partitions may make together.
const MAX_QUEUES: usize = 16 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Every record has an intended time, whatever the broker does.
    #[default]
    Open,
    /// A fixed number of requests is always in flight.
    Saturation,
    /// Nothing is sent: what a broker costs when nobody asks for anything.
    Idle,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    #[default]
    Fixed,
    Poisson,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    pub name: String,
    pub about: String,
    pub mode: Mode,
    /// Records a second of all producers together, for the open mode.
    pub rate: f64,
    pub schedule: Arrivals,
    pub warm_up: Span,
    pub duration: Span,
    /// The run is invalid if the generator was later than this at its own 99th percentile.
    pub max_lag: Span,
    /// What `compare` judges this workload by.
    pub figure: Figure,
    pub topic: Topic,
    pub record: Record,
    pub producer: Producer,
    pub consumer: Vec<Consumer>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    #[default]
    Records,
    Megabytes,
    Requests,
    /// Median latency: less is better.
    P50,
    P99,
    P999,
    Resident,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topic {
    pub partitions: i32,
    pub replication: i16,
    pub configs: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Record {
    /// Bytes of a value.
    pub size: Sizes,
    /// Share of a value that compresses away, 0 to 1.
    pub compressibility: f64,
    pub key: Option<Key>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sizes {
    /// Evenly between two sizes.
    Uniform([Size; 2]),
    /// Many small and a few large ones.
    Lognormal { median: Size, sigma: f64, max: Size },
    /// Pairs of a size and its weight.
    Weighted(Vec<(Size, f64)>),
    #[serde(untagged)]
    Fixed(Size),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Different keys.
    pub count: u32,
    /// Bytes of each.
    #[serde(default = "sixteen")]
    pub bytes: usize,
    /// 0 draws keys evenly; larger exponents draw the first ones more often.
    #[serde(default)]
    pub zipf: f64,
}

fn sixteen() -> usize {
    16
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Producer {
    pub count: usize,
    /// Threads that drive them.
    pub threads: usize,
    /// Requests in flight on each connection.
    pub in_flight: usize,
    pub acks: Acks,
    pub codec: Codec,
    /// How long a batch may wait for more records.
    pub linger: Span,
    /// A batch that holds this much is sent.
    pub batch_size: Size,
    /// A batch of so many records is sent; 0 is no limit.
    pub batch_records: usize,
    pub max_request_size: Size,
    /// Give batches producer ids and sequences, as Kafka's producer does by default. Open mode only.
    pub idempotent: bool,
    /// Saturation only: send the same batches again and again instead of building each.
    pub prebuilt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acks {
    All,
    #[serde(rename = "1")]
    Leader,
    #[serde(rename = "0")]
    None,
}

impl Acks {
    pub fn code(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    #[default]
    Tail,
    /// From the first record, and from there again at the end: a reader of cold data.
    Beginning,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Count only.
    None,
    /// Batches are whole and follow each other.
    Batches,
    /// And every record's payload and place in its producer's order.
    #[default]
    Records,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consumer {
    pub name: String,
    /// Times that the whole topic is read, each by consumers of its own.
    pub fan_out: usize,
    /// Consumers that share one reading of the topic.
    pub count: usize,
    pub threads: usize,
    /// Share the topic through a consumer group: join, keep alive, commit every second.
    pub group: bool,
    pub from: From,
    pub max_bytes: Size,
    pub min_bytes: Size,
    pub max_wait: Span,
    pub verify: Verify,
    /// Bytes produced to each partition before the run.
    pub fill: Size,
}

impl Workload {
    /// Reads a workload, a file or the name of one that is built in, with changes on top (`path=value`).
    pub fn load(name: &str, changes: &[String]) -> Outcome<Workload> {
        let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
        let text = match built_in {
            Some((_, text)) => (*text).to_owned(),
            None => fs::read_to_string(name).map_err(|e| {
                let names: Vec<&str> = BUILT_IN.iter().map(|(known, _)| *known).collect();
                format!("workload {name}: {e}; a file, or one of {}", names.join(", "))
            })?,
        };
        let mut value: Value =
            text.parse::<toml::Table>().map(Value::Table).map_err(|e| format!("{name}: {e}"))?;
        for change in changes {
            apply(&mut value, change)?;
        }
        let workload: Workload = value.try_into().map_err(|e| format!("workload {name}: {e}"))?;
        workload.check().map_err(|e| format!("workload {name}: {e}"))?;
        Ok(workload)
    }

    pub fn built_in() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    fn check(&self) -> Outcome<()> {
        let p = &self.producer;
        let partitions = usize::try_from(self.topic.partitions).unwrap_or(0);
        require((1..=1_000_000).contains(&partitions), "topic.partitions must be 1 to 1,000,000")?;
        require(
            p.count <= 100_000 && (1..=256).contains(&p.threads),
            "producer.count or threads is out of range",
        )?;
        require((1..=10_000).contains(&p.in_flight), "producer.in_flight must be 1 to 10,000")?;
        require(p.count.saturating_mul(partitions) <= MAX_QUEUES, "too many producers times partitions")?;
        require(self.rate > 0.0 && self.rate <= 1e9, "rate must be above 0")?;
        require(self.duration.as_secs() >= 0.1, "duration must be at least 100 ms")?;
        require((1..=256 << 20).contains(&p.batch_size.0), "producer.batch_size must be 1 to 256 MiB")?;
        require((0.0..=1.0).contains(&self.record.compressibility), "record.compressibility must be 0 to 1")?;
        self.record.size.check()?;
        if let Some(key) = &self.record.key {
            require((1..=10_000_000).contains(&key.count), "record.key.count must be 1 to 10,000,000")?;
            require(key.bytes <= 4096, "record.key.bytes must be at most 4096")?;
            let digits = key.count.to_string().len();
            require(key.bytes >= digits, "record.key.bytes is too few for so many different keys")?;
            require((0.0..=10.0).contains(&key.zipf), "record.key.zipf must be 0 to 10")?;
        }
        for c in &self.consumer {
            require(
                c.count >= 1 && c.fan_out >= 1 && c.threads >= 1,
                "a consumer's numbers must be at least 1",
            )?;
            let fits = !c.group || (c.from == From::Tail && c.count <= 1000);
            require(fits, "a group reads the tail, with at most 1,000 members")?;
            require(c.count * c.fan_out <= 100_000, "too many consumers")?;
        }
        Ok(())
    }
}

fn require(holds: bool, what: &str) -> Outcome<()> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

impl Sizes {
    fn check(&self) -> Outcome<()> {
        const MOST: u64 = 128 << 20;
        let fits = |s: &Size| s.0 <= MOST;
        let fine = match self {
            Sizes::Fixed(size) => fits(size),
            Sizes::Uniform([low, high]) => low.0 <= high.0 && fits(high),
            Sizes::Lognormal { median, sigma, max } => {
                median.0 >= 1 && median.0 <= max.0 && (0.0..10.0).contains(sigma) && fits(max)
            }
            Sizes::Weighted(pairs) => {
                !pairs.is_empty() && pairs.iter().all(|(s, w)| fits(s) && *w > 0.0 && w.is_finite())
            }
        };
        require(fine, "record.size makes no sense")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_workload_is_valid_and_named_as_its_file() {
        for name in Workload::built_in() {
            assert_eq!(Workload::load(name, &[]).unwrap().name, name);
        }
    }

    #[test]
    fn changes_reach_any_field_and_mistakes_are_refused() {
        let load = |change: &str| Workload::load("default", &[change.to_owned()]);
        assert_eq!(load("producer.linger=7ms").unwrap().producer.linger.to_string(), "7ms");
        assert_eq!(load("consumer.count=3").unwrap().consumer[0].count, 3);
        assert_eq!(
            load("record.size={uniform=[1,20]}").unwrap().record.size,
            Sizes::Uniform([Size(1), Size(20)])
        );
        for wrong in [
            "producer.lingre=7ms",
            "rate=0",
            "rate",
            "name.x=1",
            "record.size={uniform=[9,2]}",
            "topic.partitions=0",
        ] {
            assert!(load(wrong).is_err(), "{wrong}");
        }
    }
}
