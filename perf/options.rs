//! The options that commands share: which broker, which workload, what to change in it, what to leave behind.

use std::path::PathBuf;

use clap::Args;

use crate::Outcome;
use crate::workload::{Mode, Workload};

#[derive(Args, Clone, Debug)]
pub struct WorkloadArgs {
    /// Workload: a TOML file, or the name of one that is built in (see `weir-perf workloads`)
    #[arg(short, long, default_value = "default")]
    pub workload: String,
    /// Change any field of the workload, for example producer.linger=1ms (repeatable)
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// Records a second, open loop
    #[arg(long)]
    pub rate: Option<f64>,
    /// Closed loop: keep requests in flight instead of a rate
    #[arg(long, conflicts_with = "rate")]
    pub saturate: bool,
    /// Intended times: fixed or poisson
    #[arg(long)]
    pub schedule: Option<String>,
    /// Producers, each with a connection
    #[arg(long, visible_alias = "connections")]
    pub producers: Option<usize>,
    /// Requests in flight on each connection
    #[arg(long)]
    pub in_flight: Option<usize>,
    #[arg(long)]
    pub partitions: Option<i32>,
    /// Bytes of a record's value
    #[arg(long, visible_alias = "size")]
    pub record_bytes: Option<String>,
    /// Records in a batch, at most
    #[arg(long)]
    pub batch_records: Option<usize>,
    /// Bytes of a batch, at most
    #[arg(long)]
    pub batch_size: Option<String>,
    /// How long a batch waits for more records
    #[arg(long)]
    pub linger: Option<String>,
    /// all, 1 or 0
    #[arg(long)]
    pub acks: Option<String>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long)]
    pub codec: Option<String>,
    /// Time before counting starts
    #[arg(long)]
    pub warm_up: Option<String>,
    /// Time counted
    #[arg(long)]
    pub duration: Option<String>,
}

impl WorkloadArgs {
    pub fn load(&self) -> Outcome<Workload> {
        self.load_named(&self.workload)
    }

    pub fn load_named(&self, name: &str) -> Outcome<Workload> {
        Workload::load(name, &self.changes())
    }

    fn changes(&self) -> Vec<String> {
        let mut changes = Vec::new();
        let mut text = |field: &str, value: &Option<String>| {
            if let Some(value) = value {
                changes.push(format!("{field}={value:?}"));
            }
        };
        text("schedule", &self.schedule);
        text("record.size", &self.record_bytes);
        text("producer.batch_size", &self.batch_size);
        text("producer.linger", &self.linger);
        text("producer.acks", &self.acks);
        text("producer.codec", &self.codec);
        text("warm_up", &self.warm_up);
        text("duration", &self.duration);
        let mut number = |field: &str, value: Option<usize>| {
            if let Some(value) = value {
                changes.push(format!("{field}={value}"));
            }
        };
        number("producer.count", self.producers);
        number("producer.in_flight", self.in_flight);
        number("topic.partitions", self.partitions.map(|p| p.max(0) as usize));
        number("producer.batch_records", self.batch_records);
        if let Some(rate) = self.rate {
            changes.push(format!("rate={rate:?}"));
            changes.push("mode=\"open\"".to_owned());
        }
        if self.saturate {
            changes.push("mode=\"saturation\"".to_owned());
        }
        changes.extend(self.set.iter().cloned());
        changes
    }
}

#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// Broker, host:port
    #[arg(short, long, env = "WEIR_BROKER", default_value = "127.0.0.1:9092")]
    pub broker: String,
    /// Topic; a fresh one, deleted afterwards, if not given
    #[arg(long)]
    pub topic: Option<String>,
    /// Pid of the broker, to report its CPU and memory
    #[arg(long)]
    pub pid: Option<u32>,
    /// HTTP address of a Weir broker, to report where its time went
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub struct OutputArgs {
    /// JSON on standard output instead of a table
    #[arg(long)]
    pub json: bool,
    /// Write a report with curves, one file that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Record the run: a directory below this one with result, histograms (.hgrm, .hlog), and report
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "perf/runs")]
    pub record: Option<PathBuf>,
    /// No progress on standard error
    #[arg(short, long)]
    pub quiet: bool,
}

/// What a workload must have for a command.
pub fn produce_only(mut workload: Workload) -> Workload {
    workload.consumer.clear();
    workload
}

pub fn consume_only(mut workload: Workload) -> Workload {
    workload.producer.count = 0;
    if workload.consumer.is_empty() {
        let from = crate::workload::From::Beginning;
        workload.consumer.push(crate::workload::Consumer { from, ..Default::default() });
    }
    workload
}

pub fn end_to_end(mut workload: Workload) -> Outcome<Workload> {
    if workload.consumer.is_empty() {
        workload.consumer.push(Default::default());
    }
    if workload.producer.count == 0 {
        return Err("this workload has no producers; `consume` runs it".to_owned());
    }
    if workload.mode == Mode::Idle {
        return Err("an idle workload has nothing to measure end to end".to_owned());
    }
    Ok(workload)
}
