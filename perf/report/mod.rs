//! What a run found, as data: tables, JSON, histograms and pictures are made from it.

pub mod hdr;
pub mod html;
pub mod machine;
pub mod record;
pub mod svg;
pub mod table;

use hdrhistogram::Histogram;
use serde::Serialize;
use weir::client::KafkaError;
pub use weir::client::stages::Stage;

use crate::engine::meter::Tally;
use crate::workload::Workload;

pub fn error_name(code: i16) -> String {
    KafkaError { code, message: None }.to_string()
}

/// In microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latency {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
}

impl Latency {
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        if histogram.is_empty() {
            return Latency::default();
        }
        let at = |q| histogram.value_at_quantile(q) as f64 / 1e3;
        Latency {
            count: histogram.len(),
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

/// The producers, or one entry of consumers.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    pub name: String,
    /// What the latency is from and to.
    pub latency_of: &'static str,
    pub requests_per_second: f64,
    pub records_per_second: f64,
    pub mb_per_second: f64,
    pub latency_us: Latency,
}

impl Side {
    pub fn of(name: &str, latency_of: &'static str, tally: &Tally, seconds: f64) -> Side {
        Side {
            name: name.to_owned(),
            latency_of,
            requests_per_second: tally.requests as f64 / seconds,
            records_per_second: tally.records as f64 / seconds,
            mb_per_second: tally.bytes as f64 / 1e6 / seconds,
            latency_us: Latency::of(&tally.latency),
        }
    }
}

/// What the generator itself did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Generator {
    pub cores: f64,
    /// It did not keep its own schedule, so latencies are not the broker's.
    pub behind: bool,
    /// Records meant to be sent within the window; 0 in a closed loop.
    pub planned: u64,
    /// Records acknowledged for each CPU second of the producers' threads.
    pub records_per_cpu_second: f64,
    /// How late it drew them, in microseconds.
    pub lag_us: Latency,
}

#[derive(Clone, Debug, Serialize)]
pub struct BrokerUse {
    pub cores: f64,
    pub us_per_record: f64,
    pub us_per_request: f64,
    pub ms_per_mb: f64,
    pub resident_bytes: u64,
}

/// One second of a run. The first is the one that begins with the window; warm-up has negative times.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Second {
    pub at: i64,
    pub sides: Vec<SideSecond>,
    pub broker_cores: Option<f64>,
    pub own_cores: f64,
    pub resident_bytes: Option<u64>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct SideSecond {
    pub records: u64,
    pub mb: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub command: String,
    pub started: String,
    pub broker: String,
    pub topic: String,
    pub workload: Workload,
    pub machine: machine::Machine,
    pub seconds: f64,
    /// Nothing was lost, doubled, refused, and the generator kept its schedule.
    pub valid: bool,
    pub problems: Vec<String>,
    /// What does not spoil the run and should be known.
    pub notes: Vec<String>,
    pub sides: Vec<Side>,
    pub generator: Generator,
    pub broker_use: Option<BrokerUse>,
    pub stages: Vec<Stage>,
    pub series: Vec<Second>,
}

impl Report {
    /// The side that `compare` and `sweep` look at: producers, or the first consumers without any.
    pub fn main_side(&self) -> Option<&Side> {
        self.sides.first()
    }

    pub fn verdict(&self) -> crate::Outcome<()> {
        match self.valid {
            true => Ok(()),
            false => Err(format!("this run is not valid: {}", self.problems.join("; "))),
        }
    }
}

/// A report with the histograms it was made from.
pub struct Run {
    pub report: Report,
    /// By side.
    pub totals: Vec<Histogram<u64>>,
    /// By side, each second's end in nanoseconds since the window's start, with its histogram.
    pub intervals: Vec<Vec<(i64, Histogram<u64>)>>,
}
