//! `weir-perf sweep`: the same workload at rising rates, to the knee where the broker no longer keeps up.

use clap::Args;
use serde::Serialize;

use crate::report::record::{directory, print, write};
use crate::report::svg::{Chart, Line, Scale, chart, escape};
use crate::report::{Latency, Report, html};
use crate::run::{self, Progress};
use crate::units::{short, time};
use crate::workload::Mode;
use crate::{Outcome, RunArgs};

/// A rate is beyond the knee when less than this share of it was served.
const SERVED: f64 = 0.98;
const MOST_STEPS: usize = 40;

#[derive(Args, Debug)]
pub struct SweepArgs {
    #[command(flatten)]
    run: RunArgs,
    /// The first rate; a tenth of the workload's if not given
    #[arg(long)]
    from: Option<f64>,
    /// The last rate; to the knee and one step beyond if not given
    #[arg(long)]
    to: Option<f64>,
    /// Each rate is this many times the one before
    #[arg(long, default_value_t = 1.5)]
    factor: f64,
    /// Stop as well once p99 exceeds this many milliseconds
    #[arg(long)]
    ceiling_ms: Option<f64>,
}

#[derive(Serialize)]
struct Step {
    rate: f64,
    served: f64,
    mb_per_second: f64,
    latency_us: Latency,
    broker_cores: Option<f64>,
    generator_cores: f64,
    generator_lag_p99_us: f64,
    valid: bool,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Sweep {
    steps: Vec<Step>,
    /// The highest rate that was served in full by a valid run.
    knee: Option<f64>,
    last: Report,
}

pub fn run(args: &SweepArgs) -> Outcome<()> {
    let mut workload = args.run.workload.load()?;
    workload.mode = Mode::Open;
    if args.factor.is_nan() || args.factor <= 1.0 {
        return Err("--factor must be above 1".to_owned());
    }
    let place = crate::place(&args.run.target, Progress::None);
    let mut rate = args.from.unwrap_or(workload.rate / 10.0).max(1.0);
    let (mut steps, mut last) = (Vec::new(), None);
    while steps.len() < MOST_STEPS && args.to.is_none_or(|to| rate <= to * 1.0001) {
        workload.rate = rate;
        let report = run::run(&place, &workload)?.report;
        let violated = report.problems.iter().any(|p| p.contains("VIOLATION"));
        let step = Step::of(rate, &report);
        note!("{}", step.line());
        let served = step.served >= SERVED * rate;
        let slow = args.ceiling_ms.is_some_and(|ms| step.latency_us.p99 > ms * 1e3);
        // Beyond its own limit the generator says nothing about the broker.
        let limit = !step.valid;
        steps.push(step);
        last = Some(report);
        if violated {
            break;
        }
        if args.to.is_none() && (!served || slow || limit) {
            break;
        }
        rate *= args.factor;
    }
    let last = last.ok_or("no rate to run at")?;
    let kept = steps.iter().filter(|s| s.valid && s.served >= SERVED * s.rate);
    let knee = kept.map(|s| s.rate).max_by(f64::total_cmp);
    let sweep = Sweep { steps, knee, last };
    let json = serde_json::to_string_pretty(&sweep).map_err(|e| e.to_string())? + "\n";
    print(&if args.run.output.json { json.clone() } else { table(&sweep) })?;
    if let Some(path) = &args.run.output.html {
        write(path, page(&sweep).as_bytes())?;
    }
    if let Some(parent) = &args.run.output.record {
        let dir = directory(parent, &sweep.last.started, &format!("sweep-{}", workload.name))?;
        write(&dir.join("run.json"), json.as_bytes())?;
        write(&dir.join("report.html"), page(&sweep).as_bytes())?;
        note!("recorded in {}", dir.display());
    }
    match sweep.last.problems.iter().find(|p| p.contains("VIOLATION")) {
        Some(violation) => Err(violation.clone()),
        None => Ok(()),
    }
}

impl Step {
    fn of(rate: f64, report: &Report) -> Step {
        let side = report.main_side();
        Step {
            rate,
            served: side.map_or(0.0, |s| s.records_per_second),
            mb_per_second: side.map_or(0.0, |s| s.mb_per_second),
            latency_us: side.map_or_else(Latency::default, |s| s.latency_us.clone()),
            broker_cores: report.broker_use.as_ref().map(|b| b.cores),
            generator_cores: report.generator.cores,
            generator_lag_p99_us: report.generator.lag_us.p99,
            valid: report.valid,
            problems: report.problems.clone(),
        }
    }

    fn line(&self) -> String {
        let l = &self.latency_us;
        let [p50, p99, p999] = [l.p50, l.p99, l.p99_9].map(|us| time(us * 1e3));
        let broker = self.broker_cores.map_or("–".to_owned(), |c| format!("{c:.2}"));
        format!(
            "{:>10} {:>10} {:>8.1} {p50:>10} {p99:>10} {p999:>10} {broker:>7} {:>7.2} {:>10}  {}",
            short(self.rate),
            short(self.served),
            self.mb_per_second,
            self.generator_cores,
            time(self.generator_lag_p99_us * 1e3),
            self.problems.join("; ")
        )
    }
}

fn table(sweep: &Sweep) -> String {
    let mut out = format!(
        "{:>10} {:>10} {:>8} {:>10} {:>10} {:>10} {:>7} {:>7} {:>10}\n",
        "rate", "served", "MB/s", "p50", "p99", "p99.9", "broker", "own", "lag p99"
    );
    sweep.steps.iter().for_each(|s| out += &format!("{}\n", s.line()));
    match sweep.knee {
        Some(knee) => out + &format!("kept up to {} records/s\n", short(knee)),
        None => out + "no rate was kept\n",
    }
}

fn page(sweep: &Sweep) -> String {
    let line = |name: &str, pick: fn(&Latency) -> f64| {
        let valid = sweep.steps.iter().filter(|s| s.valid);
        Line { name: name.to_owned(), points: valid.map(|s| (s.served, pick(&s.latency_us) * 1e3)).collect() }
    };
    let lines = [line("p50", |l| l.p50), line("p99", |l| l.p99), line("p99.9", |l| l.p99_9)];
    let curve = chart(&Chart {
        title: "Latency against throughput",
        x_label: "records served a second",
        x_scale: Scale::Linear,
        y_scale: Scale::Log,
        x_text: &short,
        y_text: &time,
        lines: &lines,
    });
    let body = format!("{}<pre>{}</pre>{curve}", html::facts(&sweep.last), escape(&table(sweep)));
    html::page(&format!("weir-perf sweep: {}", sweep.last.workload.name), &body)
}
