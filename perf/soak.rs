//! `weir-perf soak`: end to end for hours, everything checked, watched for what creeps.

use clap::Args;

use crate::options::end_to_end;
use crate::report::Report;
use crate::report::record::deliver;
use crate::run::{self, Progress};
use crate::statistics::{median, slope};
use crate::units::Span;
use crate::{Outcome, RunArgs};

#[derive(Args, Debug)]
pub struct SoakArgs {
    #[command(flatten)]
    run: RunArgs,
    /// How long
    #[arg(long = "for", default_value = "1h")]
    length: Span,
    /// How often a line is printed
    #[arg(long, default_value = "60s")]
    every: Span,
    /// The broker may grow by this share of its memory over the second half of the run; more fails it
    #[arg(long, default_value_t = 0.25)]
    growth: f64,
}

pub fn run(args: &SoakArgs) -> Outcome<()> {
    let mut workload = end_to_end(args.run.workload.load()?)?;
    workload.duration = args.length;
    let every = args.every.0.as_secs().max(1);
    let progress = if args.run.output.quiet { Progress::None } else { Progress::Every(every) };
    let mut run = run::run(&crate::place(&args.run.target, progress), &workload)?;
    let (notes, problems) = drift(&run.report, args.growth);
    run.report.notes.extend(notes);
    run.report.problems.extend(problems);
    run.report.valid = run.report.problems.is_empty();
    deliver(&run, &args.run.output)
}

/// What the end of the run has that its beginning had not.
fn drift(report: &Report, allowed: f64) -> (Vec<String>, Vec<String>) {
    let (mut notes, mut problems) = (Vec::new(), Vec::new());
    let counted: Vec<_> = report.series.iter().filter(|s| s.at > 0).collect();
    // The first half is when caches fill.
    let later = &counted[counted.len() / 2..];
    let memory: Vec<(f64, f64)> =
        later.iter().filter_map(|s| Some((s.at as f64, s.resident_bytes? as f64))).collect();
    if memory.len() >= 4 {
        let seconds = memory[memory.len() - 1].0 - memory[0].0;
        let level = median(&memory.iter().map(|m| m.1).collect::<Vec<_>>());
        let grown = slope(&memory) * seconds;
        let mib = f64::from(1 << 20);
        notes.push(format!(
            "broker memory {:.1} MiB, {:+.1} MiB over the last {seconds:.0} s",
            level / mib,
            grown / mib
        ));
        if grown > level * allowed {
            problems.push(format!(
                "the broker's memory grew by {:.0} % over the second half",
                grown / level * 100.0
            ));
        }
    }
    let quarter = counted.len() / 4;
    if quarter >= 5 {
        for (nth, side) in report.sides.iter().enumerate() {
            let p99 = |seconds: &[&crate::report::Second]| {
                median(&seconds.iter().filter_map(|s| Some(s.sides.get(nth)?.p99_us)).collect::<Vec<_>>())
            };
            let (first, last) = (p99(&counted[..quarter]), p99(&counted[counted.len() - quarter..]));
            let name = &side.name;
            notes.push(format!(
                "{name}: p99 of a second {first:.0} µs in the first quarter, {last:.0} µs in the last"
            ));
        }
    }
    (notes, problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Generator, Second, machine};
    use crate::workload::Workload;

    fn report(resident: impl Fn(i64) -> u64) -> Report {
        let second = |at| Second { at, resident_bytes: Some(resident(at)), ..Second::default() };
        Report {
            command: String::new(),
            started: String::new(),
            broker: String::new(),
            topic: String::new(),
            workload: Workload::load("default", &[]).unwrap(),
            machine: machine::describe(),
            seconds: 100.0,
            valid: true,
            problems: Vec::new(),
            notes: Vec::new(),
            sides: Vec::new(),
            generator: Generator::default(),
            broker_use: None,
            stages: Vec::new(),
            series: (-5..100).map(second).collect(),
        }
    }

    #[test]
    fn memory_that_keeps_growing_fails_a_soak() {
        let (_, problems) = drift(&report(|at| (100 << 20) + (at.max(0) as u64) * (1 << 20)), 0.25);
        assert_eq!(problems.len(), 1);
        let (notes, problems) = drift(&report(|at| 100 << (20 + u32::from(at > 20))), 0.25);
        assert!(problems.is_empty() && notes[0].contains("+0.0 MiB"), "{notes:?}");
    }
}
