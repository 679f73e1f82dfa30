//! `weir-perf compare`: two brokers on one machine, the same work, in turns.
//!
//! Each round uses a fresh topic, warms up, and is measured alone; the rounds of A and B alternate, so
//! that a change in the machine hits both. Before each, the kernel is given time to write back what the
//! round before left dirty: neither side pays the other's debts. Medians over the rounds are compared.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::process::{cpu_seconds, resident_bytes, unwritten_bytes};
use crate::produce::Timing;
use crate::report::Report;
use crate::rows::{Figure, Row, Work, all};
use crate::topics::{Broker, fresh_name};
use crate::{Outcome, consume, probe, produce};

#[derive(Args, Debug)]
pub struct CompareArgs {
    /// The broker to compare against, host:port
    #[arg(long)]
    a: String,
    /// Its pid, for its CPU and memory
    #[arg(long)]
    a_pid: u32,
    /// The broker to judge, host:port
    #[arg(long)]
    b: String,
    #[arg(long)]
    b_pid: u32,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of the first warm-up of a row, on each side
    #[arg(long, default_value_t = 8.0)]
    first_warm_up: f64,
    #[command(flatten)]
    timing: Timing,
    /// Directory to measure a commit in
    #[arg(long, default_value = ".")]
    probe_dir: PathBuf,
    #[arg(long)]
    json: bool,
    /// Rows to run; all if none is named
    rows: Vec<String>,
}

/// One side's medians.
#[derive(Clone, Debug, Serialize)]
struct Side {
    figure: f64,
    /// Broker CPU, in the row's unit of work.
    cpu: f64,
    p50_us: f64,
    p99_us: f64,
    rounds: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Line {
    row: &'static str,
    what: &'static str,
    unit: &'static str,
    cpu_unit: &'static str,
    a: Side,
    b: Side,
    /// B's figure over A's.
    ratio: f64,
    cpu_ratio: f64,
}

pub fn run(args: &CompareArgs) -> Outcome<()> {
    let rows = chosen(&args.rows)?;
    let floor = probe::measure(&args.probe_dir, 2000)?;
    let mut lines = Vec::new();
    for row in &rows {
        eprintln!("{}: {}", row.name, row.what);
        lines.push(run_row(args, row)?);
    }
    if args.json {
        let value = serde_json::json!({
            "probe": {"same_core_us": floor.same_core[0], "two_cores_us": floor.two_cores[0], "commit_us": floor.commit[0]},
            "rows": lines,
        });
        println!("{value:#}");
        return Ok(());
    }
    let [same, two, commit] = [floor.same_core, floor.two_cores, floor.commit].map(|times| times[0]);
    println!("p50: loopback round trip {same} µs on one core, {two} µs on two; commit {commit} µs");
    println!(
        "{:<14} {:>12} {:>12} {:>7}  {:<9} {:>9} {:>9} {:>7}  {:<9} {:>8} {:>8}",
        "row", "A", "B", "B/A", "", "A cpu", "B cpu", "B/A", "", "A p50", "B p50"
    );
    for l in &lines {
        println!(
            "{:<14} {:>12.1} {:>12.1} {:>7.2}  {:<9} {:>9.3} {:>9.3} {:>7.2}  {:<9} {:>8.0} {:>8.0}",
            l.row,
            l.a.figure,
            l.b.figure,
            l.ratio,
            l.unit,
            l.a.cpu,
            l.b.cpu,
            l.cpu_ratio,
            l.cpu_unit,
            l.a.p50_us,
            l.b.p50_us
        );
    }
    Ok(())
}

fn chosen(names: &[String]) -> Outcome<Vec<Row>> {
    let rows = all();
    let known: Vec<&str> = rows.iter().map(|r| r.name).collect();
    if let Some(unknown) = names.iter().find(|n| !known.contains(&n.as_str())) {
        return Err(format!("{unknown} is not a row; there are {}", known.join(", ")));
    }
    Ok(rows.into_iter().filter(|r| names.is_empty() || names.iter().any(|n| n == r.name)).collect())
}

fn run_row(args: &CompareArgs, row: &Row) -> Outcome<Line> {
    let sides = [(&args.a, args.a_pid), (&args.b, args.b_pid)];
    let mut measured: [Vec<[f64; 4]>; 2] = [Vec::new(), Vec::new()];
    let (mut unit, mut cpu_unit) = ("", "");
    for round in 0..args.rounds.max(1) {
        for (side, (address, pid)) in sides.iter().enumerate() {
            let warm_up = if round == 0 { args.first_warm_up } else { args.timing.warm_up };
            let timing = Timing { warm_up, duration: args.timing.duration };
            settle();
            let report = one_round(address, *pid, row, &timing)
                .map_err(|e| format!("{} on {address}: {e}", row.name))?;
            let figures = figures(row.figure, &report);
            (unit, cpu_unit) = (figures.unit, figures.cpu_unit);
            let latency = &report.latency_us;
            measured[side].push([figures.figure, figures.cpu, latency.p50 as f64, latency.p99 as f64]);
            eprintln!(
                "  {} {:.1} {unit}, {:.3} {cpu_unit}, p50 {} µs, p99 {} µs",
                ["A", "B"][side],
                figures.figure,
                figures.cpu,
                latency.p50,
                latency.p99
            );
        }
    }
    let [a, b] = measured.map(|rounds| {
        let median_of = |i: usize| median(rounds.iter().map(|r| r[i]).collect());
        let rounds_figures = rounds.iter().map(|r| r[0]).collect();
        Side {
            figure: median_of(0),
            cpu: median_of(1),
            p50_us: median_of(2),
            p99_us: median_of(3),
            rounds: rounds_figures,
        }
    });
    let (ratio, cpu_ratio) = (b.figure / a.figure, b.cpu / a.cpu);
    Ok(Line { row: row.name, what: row.what, unit, cpu_unit, a, b, ratio, cpu_ratio })
}

fn one_round(address: &str, pid: u32, row: &Row, timing: &Timing) -> Outcome<Report> {
    let partitions = match &row.work {
        Work::Idle => return Ok(idle(pid, timing)),
        Work::Produce(spec) => spec.partitions,
        Work::Fetch(spec) => spec.partitions,
    };
    let mut broker = Broker::connect(address)?;
    let topic = fresh_name(row.name);
    broker.ensure(&topic, partitions)?;
    let report = match &row.work {
        Work::Produce(spec) => produce::measure(&broker, &topic, spec, timing, Some(pid)),
        Work::Fetch(spec) => consume::fill(&mut broker, &topic, spec)
            .and_then(|()| consume::measure(&mut broker, &topic, spec, timing, Some(pid))),
        Work::Idle => Ok(idle(pid, timing)),
    };
    broker.delete(&topic)?;
    let report = report?;
    report.check()?;
    Ok(report)
}

fn idle(pid: u32, timing: &Timing) -> Report {
    thread::sleep(Duration::from_secs_f64(timing.warm_up));
    let before = cpu_seconds(pid).unwrap_or(0.0);
    thread::sleep(Duration::from_secs_f64(timing.duration));
    let used = cpu_seconds(pid).unwrap_or(0.0) - before;
    Report::idle(timing.duration, used, resident_bytes(pid).unwrap_or(0))
}

struct Figures {
    figure: f64,
    unit: &'static str,
    cpu: f64,
    cpu_unit: &'static str,
}

fn figures(figure: Figure, report: &Report) -> Figures {
    let cpu = |pick: fn(&crate::report::BrokerCpu) -> f64| report.broker.as_ref().map_or(f64::NAN, pick);
    match figure {
        Figure::Records => Figures {
            figure: report.records_per_second,
            unit: "rec/s",
            cpu: cpu(|b| b.us_per_record),
            cpu_unit: "µs/rec",
        },
        Figure::Megabytes => Figures {
            figure: report.mb_per_second,
            unit: "MB/s",
            cpu: cpu(|b| b.ms_per_mb),
            cpu_unit: "ms/MB",
        },
        Figure::Requests => Figures {
            figure: report.requests_per_second,
            unit: "req/s",
            cpu: cpu(|b| b.us_per_request),
            cpu_unit: "µs/req",
        },
        Figure::Median => Figures {
            figure: report.latency_us.p50 as f64,
            unit: "µs p50",
            cpu: cpu(|b| b.us_per_request),
            cpu_unit: "µs/req",
        },
        Figure::Resident => Figures {
            figure: cpu(|b| b.resident_bytes as f64 / f64::from(1 << 20)),
            unit: "MiB",
            cpu: cpu(|b| b.cores * 100.0),
            cpu_unit: "% core",
        },
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 if middle > 0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values.get(middle).copied().unwrap_or(f64::NAN),
    }
}

/// Waits, within reason, until the kernel has little left to write back.
fn settle() {
    let deadline = Instant::now() + Duration::from_secs(20);
    while unwritten_bytes() > 64 << 20 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(200));
    }
}
