//! `weir-perf compare`: two brokers on one machine, the same workloads, in turns.
//!
//! Each round uses a fresh topic, warms up, and is measured alone; the rounds of A and B alternate, so that a
//! change in the machine hits both. Before each, the kernel is given time to write back what the round before
//! left dirty: neither side pays the other's debts. Ratios are taken round by round, B's over A's.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::Outcome;
use crate::options::{OutputArgs, WorkloadArgs};
use crate::probe::{self, Probe};
use crate::process::unwritten_bytes;
use crate::report::record::{directory, print, write};
use crate::report::svg::{Bar, bars};
use crate::report::{Report, html, machine};
use crate::run::{self, Place, Progress};
use crate::statistics::{median, ratio};
use crate::units::Span;
use crate::workload::{Figure, Workload};

/// What is compared when nothing is named.
const ROWS: [&str; 10] = [
    "small-records",
    "kilobyte",
    "single",
    "one",
    "narrow",
    "wide",
    "fetch-1m",
    "fetch-8m",
    "metrics-ingestion",
    "idle",
];

#[derive(Args, Debug)]
pub struct CompareArgs {
    /// The broker to compare against, host:port
    #[arg(long)]
    a: String,
    /// Its pid, for its CPU and memory
    #[arg(long)]
    a_pid: Option<u32>,
    /// The broker to judge, host:port
    #[arg(long)]
    b: String,
    #[arg(long)]
    b_pid: Option<u32>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Warm-up of a workload's first round, on each side
    #[arg(long, default_value = "8s")]
    first_warm_up: Span,
    #[command(flatten)]
    workload: WorkloadArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Directory to measure the machine's disk in
    #[arg(long, default_value = ".")]
    probe_dir: PathBuf,
    /// Workloads to run, built in or files; a standard set if none is named
    rows: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Side {
    /// By round.
    figure: Vec<f64>,
    /// Broker CPU, in the row's unit of work.
    cpu: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    p99_9_us: Vec<f64>,
    resident_mib: Vec<f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Ratio {
    mean: f64,
    low: Option<f64>,
    high: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    about: String,
    unit: &'static str,
    cpu_unit: &'static str,
    a: Side,
    b: Side,
    figure_ratio: Ratio,
    cpu_ratio: Ratio,
    p99_ratio: Ratio,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Comparison {
    command: String,
    started: String,
    machine: machine::Machine,
    a: String,
    b: String,
    probe: Probe,
    rows: Vec<Row>,
}

pub fn run(args: &CompareArgs) -> Outcome<()> {
    let mut names: Vec<&str> = args.rows.iter().map(String::as_str).collect();
    if names.is_empty() {
        names = ROWS.to_vec();
    }
    let load = |name: &&str| match *name {
        "idle" => args.workload.load_named("default").map(idle),
        name => args.workload.load_named(name),
    };
    let workloads: Vec<Workload> = names.iter().map(load).collect::<Outcome<_>>()?;
    let started = machine::now();
    let probe = probe::measure(&args.probe_dir, 2000)?;
    let mut rows = Vec::new();
    for workload in &workloads {
        note!("{}: {}", workload.name, workload.about);
        rows.push(compare(args, workload)?);
    }
    let (a, b) = (args.a.clone(), args.b.clone());
    let machine = machine::describe();
    let all = Comparison { command: machine::command_line(), started, machine, a, b, probe, rows };
    let json = serde_json::to_string_pretty(&all).map_err(|e| e.to_string())? + "\n";
    print(&if args.output.json { json.clone() } else { table(&all) })?;
    if let Some(path) = &args.output.html {
        write(path, page(&all).as_bytes())?;
    }
    if let Some(parent) = &args.output.record {
        let dir = directory(parent, &all.started, "compare")?;
        write(&dir.join("run.json"), json.as_bytes())?;
        write(&dir.join("report.html"), page(&all).as_bytes())?;
        note!("recorded in {}", dir.display());
    }
    Ok(())
}

fn idle(workload: Workload) -> Workload {
    let (name, about) = ("idle".to_owned(), "No work".to_owned());
    let (mode, figure) = (crate::workload::Mode::Idle, Figure::Resident);
    Workload { name, about, mode, figure, consumer: Vec::new(), ..workload }
}

fn compare(args: &CompareArgs, workload: &Workload) -> Outcome<Row> {
    let mut sides = [Side::default(), Side::default()];
    let mut notes = Vec::new();
    let (unit, cpu_unit) = units(workload.figure);
    for round in 0..args.rounds.max(1) {
        // Who goes first changes with every round.
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let (broker, pid) = [(&args.a, args.a_pid), (&args.b, args.b_pid)][side];
            let mut workload = workload.clone();
            if round == 0 {
                workload.warm_up = args.first_warm_up;
            }
            settle();
            let place =
                Place { broker: broker.clone(), topic: None, pid, admin: None, progress: Progress::None };
            let run =
                run::run(&place, &workload).map_err(|e| format!("{} on {broker}: {e}", workload.name))?;
            let report = &run.report;
            let letter = ["A", "B"][side];
            if !report.generator.behind {
                report.verdict().map_err(|e| format!("{} on {letter}, {broker}: {e}", workload.name))?;
            }
            notes.extend(
                report.problems.iter().map(|p| format!("{letter}, round {} left out: {p}", round + 1)),
            );
            notes.extend(report.notes.iter().map(|n| format!("{letter}, round {}: {n}", round + 1)));
            sides[side].take(workload.figure, report);
            let s = &sides[side];
            let last = |v: &[f64]| v.last().copied().unwrap_or(f64::NAN);
            let figures = [&s.figure, &s.cpu, &s.p50_us, &s.p99_us].map(|v| last(v));
            let [figure, cpu, p50, p99] = figures;
            note!("  {letter} {figure:.1} {unit}, {cpu:.3} {cpu_unit}, p50 {p50:.0} µs, p99 {p99:.0} µs");
        }
    }
    notes.sort();
    notes.dedup();
    let [a, b] = sides;
    let of = |pick: fn(&Side) -> &Vec<f64>| {
        let (mean, interval) = ratio(pick(&a), pick(&b));
        Ratio { mean, low: interval.map(|i| i.0), high: interval.map(|i| i.1) }
    };
    Ok(Row {
        name: workload.name.clone(),
        about: workload.about.clone(),
        unit,
        cpu_unit,
        figure_ratio: of(|s| &s.figure),
        cpu_ratio: of(|s| &s.cpu),
        p99_ratio: of(|s| &s.p99_us),
        a,
        b,
        notes,
    })
}

fn units(figure: Figure) -> (&'static str, &'static str) {
    match figure {
        Figure::Records => ("rec/s", "µs/rec"),
        Figure::Megabytes => ("MB/s", "ms/MB"),
        Figure::Requests => ("req/s", "µs/req"),
        Figure::P50 => ("µs p50", "µs/req"),
        Figure::P99 => ("µs p99", "µs/rec"),
        Figure::P999 => ("µs p99.9", "µs/rec"),
        Figure::Resident => ("MiB", "% core"),
    }
}

impl Side {
    /// A round in which the generator was late counts for nothing, and its pair with it.
    fn take(&mut self, figure: Figure, report: &Report) {
        let main = report.main_side().filter(|_| report.valid);
        let of_side = |pick: fn(&crate::report::Side) -> f64| main.map_or(f64::NAN, pick);
        let of_broker = |pick: fn(&crate::report::BrokerUse) -> f64| {
            report.broker_use.as_ref().filter(|_| report.valid).map_or(f64::NAN, pick)
        };
        let resident = of_broker(|b| b.resident_bytes as f64 / f64::from(1 << 20));
        let (value, cpu) = match figure {
            Figure::Records => (of_side(|s| s.records_per_second), of_broker(|b| b.us_per_record)),
            Figure::Megabytes => (of_side(|s| s.mb_per_second), of_broker(|b| b.ms_per_mb)),
            Figure::Requests => (of_side(|s| s.requests_per_second), of_broker(|b| b.us_per_request)),
            Figure::P50 => (of_side(|s| s.latency_us.p50), of_broker(|b| b.us_per_request)),
            Figure::P99 => (of_side(|s| s.latency_us.p99), of_broker(|b| b.us_per_record)),
            Figure::P999 => (of_side(|s| s.latency_us.p99_9), of_broker(|b| b.us_per_record)),
            Figure::Resident => (resident, of_broker(|b| b.cores * 100.0)),
        };
        self.figure.push(value);
        self.cpu.push(cpu);
        self.p50_us.push(of_side(|s| s.latency_us.p50));
        self.p99_us.push(of_side(|s| s.latency_us.p99));
        self.p99_9_us.push(of_side(|s| s.latency_us.p99_9));
        self.resident_mib.push(resident);
    }
}

impl Ratio {
    fn text(&self) -> String {
        match (self.low, self.high) {
            _ if !self.mean.is_finite() => "–".to_owned(),
            (Some(low), Some(high)) => format!("{:.2} ({low:.2}–{high:.2})", self.mean),
            _ => format!("{:.2}", self.mean),
        }
    }
}

fn table(all: &Comparison) -> String {
    let mut out = format!("A {}, B {}; medians over rounds; ratios B/A with 95 % intervals\n", all.a, all.b);
    out += &all.probe.summary();
    out += &format!(
        "{:<18} {:>12} {:>12} {:<8} {:<20} {:>9} {:>9} {:<7} {:<20} {:>9} {:>9} {:<20}\n",
        "workload", "A", "B", "", "B/A", "A cpu", "B cpu", "", "B/A", "A p99 µs", "B p99 µs", "B/A"
    );
    for r in &all.rows {
        out += &format!(
            "{:<18} {:>12.1} {:>12.1} {:<8} {:<20} {:>9.3} {:>9.3} {:<7} {:<20} {:>9.0} {:>9.0} {:<20}\n",
            r.name,
            median(&r.a.figure),
            median(&r.b.figure),
            r.unit,
            r.figure_ratio.text(),
            median(&r.a.cpu),
            median(&r.b.cpu),
            r.cpu_unit,
            r.cpu_ratio.text(),
            median(&r.a.p99_us),
            median(&r.b.p99_us),
            r.p99_ratio.text()
        );
        r.notes.iter().for_each(|n| out += &format!("  note: {n}\n"));
    }
    out
}

fn page(all: &Comparison) -> String {
    let bar = |pick: fn(&Row) -> &Ratio| {
        let shown = all.rows.iter().filter(|r| pick(r).mean.is_finite());
        let bar = |r: &Row| {
            let q = pick(r);
            Bar { name: r.name.clone(), value: q.mean, interval: q.low.zip(q.high), text: q.text() }
        };
        shown.map(bar).collect::<Vec<_>>()
    };
    let escaped = crate::report::svg::escape;
    let m = &all.machine;
    let mut body = format!(
        "<p>A is {}, B is {}. {}, {} cores, Linux {}. {}</p><p><code>{}</code></p>",
        escaped(&all.a),
        escaped(&all.b),
        escaped(&m.cpu),
        m.cores,
        escaped(&m.kernel),
        all.started,
        escaped(&all.command)
    );
    body += &format!("<pre>{}</pre>", escaped(&table(all)));
    body += &bars("Figure of the workload, B over A", &bar(|r| &r.figure_ratio), Some(1.0));
    body += &bars("Broker CPU for the same work, B over A", &bar(|r| &r.cpu_ratio), Some(1.0));
    body += &bars("99th percentile of latency, B over A", &bar(|r| &r.p99_ratio), Some(1.0));
    html::page("weir-perf compare", &body)
}

/// Waits, within reason, until the kernel has little left to write back.
fn settle() {
    let deadline = Instant::now() + Duration::from_secs(20);
    while unwritten_bytes() > 64 << 20 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(200));
    }
}
