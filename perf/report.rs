//! What a run found: rates, latencies, CPU; printed for people or as JSON.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;
use weir::client::KafkaError;

use crate::Outcome;
use crate::driver::{Tally, Window};
use crate::process::{cpu_seconds, resident_bytes};

/// Samples the CPU of the broker and of this process at both ends of the window, from a thread of its
/// own that sleeps in between.
pub struct Observer {
    window: Window,
    samples: JoinHandle<[Option<f64>; 2]>,
    pid: Option<u32>,
}

impl Observer {
    pub fn watch(pid: Option<u32>, start: Instant, duration: Duration) -> Observer {
        let window = Window { start, end: start + duration };
        let sample = move || {
            let cpu = |pid: u32, before: Option<f64>| cpu_seconds(pid).map(|now| now - before.unwrap_or(0.0));
            let own = std::process::id();
            thread::sleep(window.start.saturating_duration_since(Instant::now()));
            let before = [pid.and_then(cpu_seconds), cpu_seconds(own)];
            thread::sleep(window.end.saturating_duration_since(Instant::now()));
            [pid.and_then(|p| cpu(p, before[0])), cpu(own, before[1])]
        };
        Observer { window, samples: thread::spawn(sample), pid }
    }

    pub fn window(&self) -> Window {
        self.window
    }

    pub fn report(self, tally: Tally) -> Report {
        let [broker_cpu, client_cpu] = self.samples.join().unwrap_or_default();
        let seconds = (self.window.end - self.window.start).as_secs_f64();
        let at = |quantile| tally.latency_us.value_at_quantile(quantile);
        let broker = broker_cpu.map(|cpu| BrokerCpu {
            cores: cpu / seconds,
            us_per_record: cpu * 1e6 / tally.records.max(1) as f64,
            us_per_request: cpu * 1e6 / tally.requests.max(1) as f64,
            ms_per_mb: cpu * 1e3 / (tally.bytes.max(1) as f64 / 1e6),
            resident_bytes: self.pid.and_then(resident_bytes).unwrap_or(0),
        });
        Report {
            seconds,
            requests_per_second: tally.requests as f64 / seconds,
            records_per_second: tally.records as f64 / seconds,
            mb_per_second: tally.bytes as f64 / 1e6 / seconds,
            latency_us: Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: tally.latency_us.max() },
            broker,
            client_cores: client_cpu.unwrap_or(0.0) / seconds,
            errors: tally
                .errors
                .iter()
                .map(|(code, count)| (KafkaError { code: *code, message: None }.to_string(), *count))
                .collect(),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct BrokerCpu {
    pub cores: f64,
    pub us_per_record: f64,
    pub us_per_request: f64,
    pub ms_per_mb: f64,
    pub resident_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub seconds: f64,
    pub requests_per_second: f64,
    pub records_per_second: f64,
    pub mb_per_second: f64,
    pub latency_us: Latency,
    pub broker: Option<BrokerCpu>,
    pub client_cores: f64,
    pub errors: Vec<(String, u64)>,
}

impl Report {
    /// A broker that nobody talked to.
    pub fn idle(seconds: f64, cpu: f64, resident_bytes: u64) -> Report {
        let broker = BrokerCpu {
            cores: cpu / seconds,
            us_per_record: 0.0,
            us_per_request: 0.0,
            ms_per_mb: 0.0,
            resident_bytes,
        };
        Report {
            seconds,
            requests_per_second: 0.0,
            records_per_second: 0.0,
            mb_per_second: 0.0,
            latency_us: Latency { p50: 0, p99: 0, p999: 0, max: 0 },
            broker: Some(broker),
            client_cores: 0.0,
            errors: Vec::new(),
        }
    }

    pub fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string_pretty(self).expect("a report is plain data"));
            return;
        }
        let l = &self.latency_us;
        println!(
            "throughput  {:.0} requests/s, {:.0} records/s, {:.1} MB/s",
            self.requests_per_second, self.records_per_second, self.mb_per_second
        );
        println!("latency µs  p50 {}  p99 {}  p99.9 {}  max {}", l.p50, l.p99, l.p999, l.max);
        if let Some(b) = &self.broker {
            println!(
                "broker CPU  {:.2} cores, {:.2} µs a record, {:.1} µs a request, {:.2} ms a MB; {} MiB resident",
                b.cores,
                b.us_per_record,
                b.us_per_request,
                b.ms_per_mb,
                b.resident_bytes >> 20
            );
        }
        println!("client CPU  {:.2} cores", self.client_cores);
    }

    /// An error code in any answer makes the figures worthless.
    pub fn check(&self) -> Outcome<()> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = self.errors.iter().map(|(name, n)| format!("{name} {n} times")).collect();
        Err(format!("the broker answered with errors: {}", list.join(", ")))
    }
}
