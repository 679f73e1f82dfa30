//! `weir-perf produce`, and the produce half of `compare`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use weir::client::{Codec, KafkaError};

use crate::Outcome;
use crate::driver::{Answer, Window, Work, drive};
use crate::frames;
use crate::report::{Observer, Report};
use crate::topics::{Broker, fresh_name};

/// What to produce.
#[derive(Args, Clone, Debug)]
pub struct ProduceSpec {
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 5)]
    pub in_flight: usize,
    /// Records in a batch; a request carries one batch
    #[arg(long, default_value_t = 1000)]
    pub batch_records: usize,
    /// Bytes of a record's value
    #[arg(long, default_value_t = 100)]
    pub record_bytes: usize,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
    /// all or 1
    #[arg(long, default_value = "all", value_parser = parse_acks)]
    pub acks: i16,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none")]
    pub codec: Codec,
}

#[derive(Args, Clone, Debug)]
pub struct Timing {
    /// Seconds before counting starts
    #[arg(long, default_value_t = 2.0)]
    pub warm_up: f64,
    /// Seconds counted
    #[arg(long, default_value_t = 10.0)]
    pub duration: f64,
}

#[derive(Args, Debug)]
pub struct ProduceArgs {
    /// Broker, host:port
    #[arg(short, long, env = "WEIR_BROKER", default_value = "127.0.0.1:9092")]
    broker: String,
    #[command(flatten)]
    spec: ProduceSpec,
    #[command(flatten)]
    timing: Timing,
    /// Topic; a fresh one, deleted afterwards, if not given
    #[arg(long)]
    topic: Option<String>,
    /// Pid of the broker, to report its CPU
    #[arg(long)]
    pid: Option<u32>,
    #[arg(long)]
    json: bool,
}

fn parse_acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        _ => Err("must be all or 1: a closed loop needs answers".to_owned()),
    }
}

pub fn run(args: &ProduceArgs) -> Outcome<()> {
    let mut broker = Broker::connect(&args.broker)?;
    let topic = args.topic.clone().unwrap_or_else(|| fresh_name("produce"));
    broker.ensure(&topic, args.spec.partitions)?;
    let report = measure(&broker, &topic, &args.spec, &args.timing, args.pid)?;
    if args.topic.is_none() {
        broker.delete(&topic)?;
    }
    report.print(args.json);
    report.check()
}

/// Produces to the topic, which must exist, and reports.
pub fn measure(
    broker: &Broker,
    topic: &str,
    spec: &ProduceSpec,
    timing: &Timing,
    pid: Option<u32>,
) -> Outcome<Report> {
    let batch = frames::batch(spec.batch_records, spec.record_bytes, spec.codec, 1)?;
    let mut requests = Vec::new();
    for partition in 0..spec.partitions {
        requests.push(frames::produce(topic, partition, batch.clone(), spec.acks)?);
    }
    let each = Answer { records: spec.batch_records as u64, bytes: batch.len() as u64, error: 0 };
    touch(broker, spec, &requests, each)?;
    let mut streams = Vec::new();
    for connection in 0..spec.connections {
        let requests = requests.iter().cycle().skip(connection % requests.len()).cloned();
        streams.push((broker.stream()?, Producer { requests, each }));
    }
    let start = Instant::now() + Duration::from_secs_f64(timing.warm_up);
    let observer = Observer::watch(pid, start, Duration::from_secs_f64(timing.duration));
    let tally = drive(streams, spec.in_flight, observer.window())?;
    Ok(observer.report(tally))
}

/// Produces once to every partition, so that no partition's first batch, which may create files, falls
/// into what is counted.
fn touch(broker: &Broker, spec: &ProduceSpec, requests: &[Bytes], each: Answer) -> Outcome<()> {
    let work = Producer { requests: requests.iter().cloned(), each };
    let start = Instant::now();
    let window = Window { start, end: start + Duration::from_secs(600) };
    let tally = drive(vec![(broker.stream()?, work)], spec.in_flight, window)?;
    match tally.errors.first_key_value() {
        None => Ok(()),
        Some((code, _)) => Err(format!("the broker answered {}", KafkaError { code: *code, message: None })),
    }
}

/// One connection's requests.
struct Producer<I> {
    requests: I,
    each: Answer,
}

impl<I: Iterator<Item = Bytes>> Work for Producer<I> {
    fn next(&mut self) -> Option<Bytes> {
        self.requests.next()
    }

    fn answer(&mut self, frame: &[u8]) -> Outcome<Answer> {
        Ok(Answer { error: frames::produce_error(frame)?, ..self.each })
    }
}
